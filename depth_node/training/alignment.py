"""Feature alignment: the student's encoder keeps to what a large frozen encoder knows.

Depth Anything (Yang et al., CVPR 2024, 3.3) holds each feature of the depth network close to that
of a frozen DINOv2 at the same place, but no closer than a margin: parts of one object look alike to
DINOv2 and differ in depth. There both encoders have one width; here a 1x1 convolution, trained
along and not shipped, brings the student's features to the encoder's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from depth_node.imports import pip_install
from depth_node.training.network import Student, normalised

LEVEL = 3
"""The student's features that are aligned: those at 1/16 of the image."""
_STRIDE = 16


class AlignmentError(RuntimeError):
    """The frozen encoder is not to be had; the message says what to do."""


@dataclass(frozen=True)
class AlignmentConfig:
    """Alignment with a frozen encoder.

    Attributes:
        weight: of the loss beside all others; 0 needs no encoder.
        encoder: a DINOv2 of the hub or a folder with one, as `transformers` loads it.
        margin: cosine similarity above which a place adds nothing.
    """

    weight: float = 0.0
    encoder: str = "facebook/dinov2-small"
    margin: float = 0.85


class FrozenEncoder:
    """A DINOv2 that is never trained.

    Args:
        config: which one.
        device: where it runs.

    Raises:
        AlignmentError: `transformers` is missing, or the encoder is neither here nor reachable.
    """

    def __init__(self, config: AlignmentConfig, device: torch.device) -> None:
        try:
            from transformers import AutoModel
        except ImportError as error:
            raise AlignmentError(
                f"feature alignment needs transformers: {pip_install('export')}, or set "
                "alignment.weight to 0"
            ) from error
        try:
            encoder: Any = AutoModel.from_pretrained(config.encoder)
        except (OSError, ValueError) as error:
            raise AlignmentError(
                f"the encoder {config.encoder} is neither a folder nor in the hub's cache, and "
                "cannot be fetched; give alignment.encoder a folder, or set alignment.weight to 0"
            ) from error
        self._encoder = encoder.to(device).eval().requires_grad_(False)
        self._patch = int(encoder.config.patch_size)
        self.channels = int(encoder.config.hidden_size)

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        """Features at 1/16 of an image, B x channels x H/16 x W/16 float32.

        The image is resized so that each of the encoder's patches covers just one place.

        Args:
            image: B x H x W x 3 uint8, RGB.
        """
        batch, rows, columns = image.shape[0], image.shape[1] // _STRIDE, image.shape[2] // _STRIDE
        size = (rows * self._patch, columns * self._patch)
        pixels = functional.interpolate(normalised(image), size, mode="bilinear", antialias=True)
        tokens: Tensor = self._encoder(pixel_values=pixels).last_hidden_state[:, 1:]
        return tokens.transpose(1, 2).reshape(batch, self.channels, rows, columns).float()


class AlignedStudent(nn.Module):
    """A student together with the projection of its features; what is trained with alignment."""

    def __init__(self, student: Student, channels: int) -> None:
        super().__init__()
        self.student = student
        self.projection = nn.Conv2d(student.config.channels[LEVEL], channels, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """B x 1 x H x W disparity before the ReLU, and B x channels x H/16 x W/16 features."""
        features = self.student.encode(image)
        return self.student.decode(features), self.projection(features[LEVEL])


def alignment_loss(features: Tensor, reference: Tensor, margin: float) -> Tensor:
    """Mean of 1 - cosine over the places not yet within the margin (Depth Anything, eq. 9).

    Args:
        features: B x C x h x w, of the student.
        reference: B x C x h x w, of the frozen encoder.
        margin: cosine from which on a place is left out.
    """
    cosine = functional.cosine_similarity(features.float(), reference, dim=1)
    apart = cosine < margin
    return ((1 - cosine) * apart).sum() / apart.sum().clamp(min=1)
