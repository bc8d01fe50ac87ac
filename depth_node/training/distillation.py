"""Learning from a teacher's pseudo-labels, alone or beside measured depth.

An image that only a teacher has seen is learnt as Depth Anything does (Yang et al., CVPR 2024):
the affine-invariant loss, each part of a CutMix on its own. Where depth was measured too,
PatchRefiner's division of labour holds (Li et al., ECCV 2024, "detail and scale disentangling"):
the scale comes from the measurement alone; the teacher gives detail through scale-and-shift-
invariant gradients and the order of points beside its edges.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from depth_node.training.losses import (
    TERMS,
    LossConfig,
    gradient_matching,
    normalise,
    student_loss,
    trimmed_mean,
)

EDGE = 0.1
"""Share of an image's largest gradient that makes an edge (Xian et al., CVPR 2020, 3.2)."""
EQUAL = 0.03
"""Difference of normalised disparity below which two points count as equally far."""
ANCHORS = 256
"""Edge points sampled in each image; each gives three pairs."""


def batch_loss(
    prediction: Tensor,
    disparity: Tensor,
    teacher: Tensor,
    pasted: Tensor,
    config: LossConfig,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Compute every term of a mixed batch and their sum; each image counts alike.

    Args:
        prediction: B x 1 x H x W float32, disparity before the ReLU.
        disparity: B x H x W float32, ground truth in 1/m, 0 in the sky, NaN unknown.
        teacher: B x H x W float32, a teacher's relative disparity, NaN where there is none.
        pasted: B x H x W bool, where CutMix put another image.
        config: the weights.
        generator: of the tensors' device; draws the points that are ranked.

    Returns:
        Scalars: `total`, those of `student_loss`, and `teacher`, zero where no teacher was.
    """
    known = torch.isfinite(disparity) & (disparity >= 0)
    taught = torch.isfinite(teacher)
    measured, labelled = known.any(dim=(1, 2)), taught.any(dim=(1, 2))
    alone, both = labelled & ~measured, labelled & measured
    supervised = ~alone  # images that nobody knows anything about add zero here
    count, losses = len(prediction), {}
    if supervised.any():
        truth = disparity[supervised].nan_to_num()
        terms = student_loss(prediction[supervised], truth, known[supervised], config)
        losses = {name: term * (int(supervised.sum()) / count) for name, term in terms.items()}
    lesson = prediction.new_zeros(())
    raw = prediction.squeeze(1).float()
    if alone.any():
        term = pseudo_loss(raw[alone], teacher[alone], taught[alone], pasted[alone], config)
        lesson = lesson + term * (int(alone.sum()) / count)
    if both.any():
        term = detail_loss(raw[both], teacher[both], taught[both], config, generator)
        lesson = lesson + term * (int(both.sum()) / count)
    nothing = prediction.new_zeros(())
    terms = {name: losses.get(name, nothing) for name in TERMS}
    return {**terms, "total": terms["total"] + config.teacher * lesson, "teacher": lesson}


def pseudo_loss(
    raw: Tensor, teacher: Tensor, taught: Tensor, pasted: Tensor, config: LossConfig
) -> Tensor:
    """Affine-invariant loss and gradient matching against a teacher, in each part of a CutMix.

    The two parts of a mixed image come from two images with two gauges, so each is normalised on
    its own and weighs as much as its share of the area (Depth Anything, eq. 5 to 8).

    Args:
        raw: B x H x W float32, disparity before the ReLU.
        teacher: B x H x W float32, the teacher's disparity, 0 is saturated.
        taught: B x H x W bool, where there is a label.
        pasted: B x H x W bool, where CutMix put another image.
        config: the weights.
    """
    mixed = pasted.flatten(1).any(dim=1)
    raw, target = torch.cat([raw, raw[mixed]]), torch.cat([teacher, teacher[mixed]])
    valid = torch.cat([taught & ~pasted, (taught & pasted)[mixed]])
    target = target.nan_to_num()
    difference = normalise(_shown(raw, target), valid) - normalise(target, valid)
    area = valid.flatten(1).float().mean(dim=1)
    affine = trimmed_mean(difference.abs(), valid, config.trim, weight=area)
    return affine + config.gradient * gradient_matching(difference, valid, config.scales)


def _shown(raw: Tensor, target: Tensor) -> Tensor:
    """Let the network go as far below 0 as it likes where the target is saturated (0)."""
    return torch.where(target > 0, raw, functional.relu(raw))


def detail_loss(
    raw: Tensor, teacher: Tensor, taught: Tensor, config: LossConfig, generator: torch.Generator
) -> Tensor:
    """What a teacher adds to measured depth: gradients in its own gauge, and order at its edges.

    Args:
        raw: B x H x W float32, disparity before the ReLU.
        teacher: B x H x W float32, the teacher's disparity, 0 is saturated.
        taught: B x H x W bool, where there is a label.
        config: the weights.
        generator: draws the points that are ranked.
    """
    teacher = teacher.nan_to_num()
    predicted = normalise(_shown(raw, teacher), taught)
    target = normalise(teacher, taught)
    edges = gradient_matching(predicted - target, taught, config.scales)
    return config.gradient * edges + config.ranking * edge_ranking(
        predicted, target, taught, generator
    )


def edge_ranking(
    predicted: Tensor, target: Tensor, valid: Tensor, generator: torch.Generator
) -> Tensor:
    """Ranking loss on pairs of points across the edges of the target.

    Structure-guided ranking (Xian et al., CVPR 2020, 3.1 and 3.2): from each sampled edge point two
    points on either side along the gradient; neighbours among the four are compared. Whether two
    points differ is decided by the difference of normalised disparities, not by their ratio, which
    a shift of the gauge would change.

    Args:
        predicted: B x H x W float32, normalised.
        target: B x H x W float32, normalised.
        valid: B x H x W bool.
        generator: draws the points.
    """
    images, height, width = target.shape
    slope_y, slope_x = torch.gradient(target, dim=(1, 2))
    steep = torch.hypot(slope_x, slope_y) * valid
    edge = steep >= EDGE * steep.amax(dim=(1, 2), keepdim=True).clamp(min=1e-6)
    # Where an image has no edge, any point will do: its pairs are all alike.
    chance = edge.flatten(1) + 1e-9
    anchor = torch.multinomial(chance, ANCHORS, replacement=True, generator=generator)
    reach = max(width // 15, 3)
    draw = torch.rand((4, images, ANCHORS), generator=generator, device=target.device)
    side = draw.new_tensor([-1.0, -1.0, 1.0, 1.0])[:, None, None]
    step = torch.sort((1 + draw * (reach - 1)) * side, dim=0).values
    norm = steep.flatten(1).gather(1, anchor).clamp(min=1e-6)
    x = anchor % width + step * slope_x.flatten(1).gather(1, anchor) / norm
    y = anchor // width + step * slope_y.flatten(1).gather(1, anchor) / norm
    x, y = x.round().long(), y.round().long()
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    place = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)

    def at(values: Tensor) -> Tensor:
        return values.flatten(1).expand(4, -1, -1).gather(2, place)

    usable = inside & at(valid)
    pairs = usable[:-1] & usable[1:]
    wanted, seen = at(target).diff(dim=0), at(predicted).diff(dim=0)
    order = torch.sign(wanted) * (wanted.abs() > EQUAL)
    loss = torch.where(order == 0, seen.square(), functional.softplus(-order * seen))
    return (loss * pairs).sum() / pairs.sum().clamp(min=1)
