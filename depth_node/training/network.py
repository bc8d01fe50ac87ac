"""The student: a small residual encoder with a light decoder, at most two million parameters.

What counts on a CPU, for the training as for the robot, is how often memory is touched, not how
many products are formed. So the large feature maps, down to 1/16, get plain 3x3 convolutions in
residual blocks with an identity path (He et al., "Identity Mappings in Deep Residual Networks",
ECCV 2016), which keep the cores busy with every byte that they load, while the smallest map, where
memory does not matter, gets the universal inverted bottleneck of MobileNetV4 (Qin et al., ECCV
2024) in its ConvNeXt-like form: at 1/32 its 5x5 depthwise kernels see the whole image. The decoder
adds the encoder's features back in on the way up (U-Net, Ronneberger et al. 2015), as thin as
FastDepth's (Wofk et al., ICRA 2019), and stops at 1/4, from where sub-pixel convolution (Shi et
al., CVPR 2016) leads to the full size. Every operator is a convolution, a ReLU, an addition, a
nearest upsampling or a depth-to-space: ONNX, TensorRT and OpenVINO run all of them without a
plug-in, and batch normalisation disappears into the convolutions at export.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Mean and deviation of RGB in 0..1 that the field normalises with (those of ImageNet)."""

UPSAMPLING = 4
"""From the decoder's finest features to the input's size."""


@dataclass(frozen=True)
class NetworkConfig:
    """The size of a student.

    Attributes:
        width: input width in pixels, a multiple of 32.
        height: input height in pixels, a multiple of 32.
        channels: feature channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input.
        blocks: residual blocks at 1/4, 1/8, 1/16 and 1/32, after the convolution that reduces.
        decoder: channels of the decoder at 1/4, 1/8, 1/16 and 1/32.
    """

    width: int = 256
    height: int = 192
    channels: tuple[int, ...] = (16, 32, 80, 128, 176)
    blocks: tuple[int, ...] = (1, 2, 2, 3)
    decoder: tuple[int, ...] = (24, 40, 56, 80)

    def __post_init__(self) -> None:
        for name, pixels in (("width", self.width), ("height", self.height)):
            if pixels < 32 or pixels % 32:
                raise ValueError(f"network.{name} is {pixels}; it must be a multiple of 32 pixels")
        for name, numbers, count in (
            ("channels", self.channels, 5),
            ("blocks", self.blocks, 4),
            ("decoder", self.decoder, 4),
        ):
            if len(numbers) != count:
                raise ValueError(f"network.{name} has {len(numbers)} numbers; it needs {count}")


class ConvNorm(nn.Sequential):
    """Convolution, batch normalisation and, where `activate`, a ReLU; keeps or divides the size."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activate: bool = True,
    ) -> None:
        padding = kernel // 2
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(outputs, momentum=0.03),
        ]
        if activate:
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside an identity path that nothing interrupts."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ConvNorm(channels, channels, 3), ConvNorm(channels, channels, 3, activate=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map B x channels x H x W to the same shape."""
        y: Tensor = self.layers(x)
        return x + y


class InvertedBottleneck(nn.Module):
    """MobileNetV4's ConvNeXt-like block: 5x5 depthwise, 1x1 expansion, 1x1 projection."""

    def __init__(self, channels: int, expansion: int = 3) -> None:
        super().__init__()
        hidden = channels * expansion
        self.layers = nn.Sequential(
            ConvNorm(channels, channels, 5, groups=channels, activate=False),
            ConvNorm(channels, hidden),
            ConvNorm(hidden, channels, activate=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map B x channels x H x W to the same shape."""
        y: Tensor = self.layers(x)
        return x + y


class DecoderStage(nn.Module):
    """Upsample the coarser features twice, add the encoder's, mix with one residual block."""

    def __init__(self, coarse: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.reduce = ConvNorm(coarse, outputs, activate=False)
        self.lateral = ConvNorm(skip, outputs, activate=False)
        self.mix = ResidualBlock(outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map B x coarse x h x w and B x skip x 2h x 2w to B x outputs x 2h x 2w."""
        up = functional.interpolate(self.reduce(x), scale_factor=2.0, mode="nearest")
        y: Tensor = self.mix(functional.relu(up + self.lateral(skip)))
        return y


class Student(nn.Module):
    """Relative disparity from one normalised image.

    Takes B x 3 x H x W float32, RGB, normalised by `normalised`; gives
    B x 1 x H x W float32. The values are disparity *before* the final ReLU, so that the losses see
    a gradient where the output is about to saturate; the exported graph applies the ReLU.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        c, n, d = config.channels, config.blocks, config.decoder
        self.encoder = nn.ModuleList([ConvNorm(3, c[0], 3, 2)])
        for i, count in enumerate(n):
            last = i == len(n) - 1
            block = InvertedBottleneck if last else ResidualBlock
            reduction = ConvNorm(c[i], c[i + 1], 3, 2, activate=i == 0)
            self.encoder.append(nn.Sequential(reduction, *[block(c[i + 1]) for _ in range(count)]))
        self.neck = ConvNorm(c[4], d[3], activate=False)
        self.decoder = nn.ModuleList(
            DecoderStage(d[i + 1], c[i + 1], d[i]) for i in reversed(range(3))
        )
        self.head = nn.Conv2d(d[0], UPSAMPLING**2, 3, padding=1)
        # Start above zero, or the ReLU would hide half of the pixels from the first updates.
        nn.init.constant_(self.head.bias, 1.0)

    def forward(self, image: Tensor) -> Tensor:
        """Predict B x 1 x H x W disparity (before the ReLU) from B x 3 x H x W."""
        return self.decode(self.encode(image))

    def encode(self, image: Tensor) -> list[Tensor]:
        """Features of B x 3 x H x W images at 1/2, 1/4, 1/8, 1/16 and 1/32 of their size."""
        features = [image]
        for stage in self.encoder:
            features.append(stage(features[-1]))
        return features[1:]

    def decode(self, features: list[Tensor]) -> Tensor:
        """Predict B x 1 x H x W disparity (before the ReLU) from the encoder's features."""
        _, *skips, x = features
        x = self.neck(x)
        for stage, skip in zip(self.decoder, reversed(skips), strict=True):
            x = stage(x, skip)
        return functional.pixel_shuffle(self.head(x), UPSAMPLING)


def normalised(image: Tensor) -> Tensor:
    """Turn B x H x W x 3 uint8 RGB into the student's input, B x 3 x H x W float32."""
    mean = torch.tensor(MEAN, device=image.device)
    deviation = torch.tensor(STD, device=image.device)
    # The permutation of an interleaved image is what PyTorch calls channels-last: no copy.
    return ((image.float() / 255 - mean) / deviation).permute(0, 3, 1, 2)
