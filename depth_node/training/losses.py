"""What the student is trained on: affine-invariant disparity, its edges, and its logarithm.

All functions take B x H x W float32 tensors. `target` is inverse depth in any unit, 0 in the sky;
`valid` is boolean and excludes pixels without ground truth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-6
LOG_OFFSET = 0.05
"""Offset of the logarithm, in units of the image's mean disparity; sky stays finite with it."""

TERMS = ("total", "affine", "gradient", "logarithm", "relative")
"""What `student_loss` gives."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms.

    Attributes:
        gradient: multi-scale gradient matching; the affine-invariant term has weight 1.
        logarithm: scale-invariant error in log disparity.
        relative: relative depth error after the least-squares gauge that depth is judged in.
        scales: resolutions of the gradient matching, each half of the one before.
        trim: share of each image's worst pixels that the pixel-wise terms ignore.
        teacher: all that a teacher's labels add, beside ground truth.
        ranking: order of points at a teacher's edges, where there is measured depth too.
    """

    gradient: float = 2.0
    logarithm: float = 0.5
    relative: float = 0.0
    scales: int = 4
    trim: float = 0.1
    teacher: float = 1.0
    ranking: float = 1.0


def normalise(values: Tensor, valid: Tensor) -> Tensor:
    """Remove each image's median and divide by its mean absolute deviation.

    The gauge of MiDaS (Ranftl et al., TPAMI 2022, eq. 5 and 6) and Depth Anything: two images that
    differ by a positive scale and a shift become equal.

    Args:
        values: B x H x W float32.
        valid: B x H x W bool; images without a valid pixel come out as zero.

    Returns:
        B x H x W float32, zero where not valid.
    """
    flat = values.flatten(1)
    known = valid.flatten(1)
    median = flat.masked_fill(~known, float("nan")).nanmedian(dim=1, keepdim=True).values
    centred = torch.where(known, flat - median.nan_to_num(), 0.0)
    count = known.sum(dim=1, keepdim=True).clamp(min=1)
    deviation = centred.abs().sum(dim=1, keepdim=True) / count
    return (centred / deviation.clamp(min=EPSILON)).view_as(values)


def trimmed_mean(error: Tensor, valid: Tensor, trim: float, weight: Tensor | None = None) -> Tensor:
    """Average each image's errors without its worst share, then average the images.

    Args:
        error: B x H x W float32, non-negative.
        valid: B x H x W bool.
        trim: share in [0, 1) of the valid pixels to leave out.
        weight: B float32, what each image counts; None counts all alike.
    """
    known = valid.flatten(1)
    flat = torch.where(known, error.flatten(1), 0.0)
    if trim > 0:
        # A sort of every pixel would cost as much as the network: a sample gives the quantile.
        sample = torch.where(known, flat.detach(), float("nan"))[:, :: _stride(flat.shape[1])]
        limit = sample.nanquantile(1.0 - trim, dim=1, keepdim=True)
        known = known & (flat <= limit)
        flat = torch.where(known, flat, 0.0)
    means = flat.sum(dim=1) / known.sum(dim=1).clamp(min=1)
    if weight is None:
        return means.mean()
    return (means * weight).sum() / weight.sum().clamp(min=EPSILON)


def _stride(pixels: int) -> int:
    """Odd, so that it visits every column and row parity; 1 for images of up to 2048 pixels."""
    return max(pixels // 2048, 1) | 1


def gradient_matching(difference: Tensor, valid: Tensor, scales: int) -> Tensor:
    """Penalise the gradient of the normalised difference at several resolutions.

    Li and Snavely, MegaDepth (CVPR 2018), eq. 4, as MiDaS uses it: it makes edges sharp and puts
    them where the ground truth has them.

    Args:
        difference: B x H x W float32, normalised prediction minus normalised target.
        valid: B x H x W bool.
        scales: number of resolutions; each takes every second pixel of the one before.
    """
    total = difference.new_zeros(())
    for scale in range(scales):
        step = 2**scale
        d, v = difference[:, ::step, ::step], valid[:, ::step, ::step]
        across = (d[:, :, 1:] - d[:, :, :-1]).abs() * (v[:, :, 1:] & v[:, :, :-1])
        down = (d[:, 1:] - d[:, :-1]).abs() * (v[:, 1:] & v[:, :-1])
        total = total + (across.sum() + down.sum()) / v.sum().clamp(min=1)
    return total


def log_error(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Absolute error of log disparity after dividing both by their means over what is not sky.

    Relative depth error counts at every distance alike, while the affine-invariant term hardly
    sees what is far. It also ties the shift, so that 0 means far away in every image, sky included.

    Args:
        prediction: B x H x W float32, disparity before the ReLU.
        target: B x H x W float32, inverse depth, 0 in the sky.
        valid: B x H x W bool.

    Returns:
        B x H x W float32, zero where not valid.
    """
    surface = valid & (target > 0)
    count = surface.sum(dim=(1, 2), keepdim=True).clamp(min=1)

    def logarithm(values: Tensor) -> Tensor:
        mean = (functional.relu(values) * surface).sum(dim=(1, 2), keepdim=True) / count
        return (functional.relu(values) / mean.clamp(min=EPSILON) + LOG_OFFSET).log()

    return (logarithm(prediction) - logarithm(target)).abs() * valid


def relative_error(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Error of log depth after the scale and shift that fit best by least squares in disparity.

    The gauge of the evaluation protocol: what is near and missed bends the whole image. Below half
    of the true disparity the logarithm goes on as its tangent, so that depth beyond all bounds has
    a bounded gradient.

    Args:
        prediction: B x H x W float32, disparity before the ReLU.
        target: B x H x W float32, inverse depth, 0 in the sky.
        valid: B x H x W bool.

    Returns:
        B x H x W float32, zero where not valid and in the sky.
    """
    surface = valid & (target > 0)
    count = surface.sum(dim=(1, 2), keepdim=True).clamp(min=1)

    def centred(values: Tensor) -> tuple[Tensor, Tensor]:
        mean = (values * surface).sum(dim=(1, 2), keepdim=True) / count
        return mean, (values - mean) * surface

    _, p = centred(functional.relu(prediction))
    mean, q = centred(target)
    variance = p.square().sum(dim=(1, 2), keepdim=True) + EPSILON * count
    aligned = mean + p * ((p * q).sum(dim=(1, 2), keepdim=True) / variance)
    ratio = aligned / target.clamp(min=EPSILON)
    log = torch.where(ratio > 0.5, ratio.clamp(min=0.5).log(), 2 * ratio - 1 - math.log(2))
    return log.abs() * surface


def student_loss(
    prediction: Tensor, target: Tensor, valid: Tensor, config: LossConfig
) -> dict[str, Tensor]:
    """Compute every term and their weighted sum.

    Args:
        prediction: B x 1 x H x W float32, disparity before the ReLU.
        target: B x H x W float32, inverse depth, 0 in the sky.
        valid: B x H x W bool.
        config: the weights.

    Returns:
        Scalars, those of `TERMS`; `relative` is 0 where it has no weight.
    """
    raw = prediction.squeeze(1).float()
    # Sky saturates at zero: there the network may go as far below as it likes.
    shown = torch.where(target > 0, raw, functional.relu(raw))
    difference = normalise(shown, valid) - normalise(target, valid)
    affine = trimmed_mean(difference.abs(), valid, config.trim)
    gradient = gradient_matching(difference, valid, config.scales)
    logarithm = trimmed_mean(log_error(raw, target, valid), valid, config.trim)
    relative = raw.new_zeros(())
    if config.relative > 0:
        relative = trimmed_mean(relative_error(raw, target, valid), valid, config.trim)
    total = affine + config.gradient * gradient
    total = total + config.logarithm * logarithm + config.relative * relative
    return dict(zip(TERMS, (total, affine, gradient, logarithm, relative), strict=True))
