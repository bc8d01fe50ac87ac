"""Batches: which frames, how they are cut, and how their colours are disturbed.

A batch depends on the seed and the step alone, so a run that is resumed sees exactly the batches
that it would have seen, whatever was prefetched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.training.frames import Floats, Mixture, Sample, Step
from depth_node.types import ArrayF32, ImageU8


@dataclass(frozen=True)
class AugmentConfig:
    """How strongly frames are disturbed; shares are probabilities.

    Attributes:
        zoom: smallest share of width and of height that a crop keeps.
        stretch: largest log ratio between the two shares.
        colour: strength of gain, contrast, gamma and colour mixing; 0 leaves colours alone.
        noise: largest standard deviation of the noise, grey levels.
        blur: share of blurred images.
        jpeg: share of images compressed once more.
        grey: share of images without colour.
        erase: share of images with a rectangle painted over.
        cutmix: share of the images that only a teacher has seen that get a rectangle of another.
    """

    zoom: float = 0.7
    stretch: float = 0.25
    colour: float = 0.8
    noise: float = 8.0
    blur: float = 0.3
    jpeg: float = 0.25
    grey: float = 0.1
    erase: float = 0.1
    cutmix: float = 0.5


class Batch(NamedTuple):
    """What one step trains on.

    Attributes:
        image: B x H x W x 3 uint8, RGB, disturbed.
        disparity: B x H x W float32, ground truth in 1/m, 0 in the sky, NaN unknown.
        teacher: B x H x W float32, a teacher's relative disparity, NaN where there is none.
        pasted: B x H x W bool, where an image shows a rectangle of another.
        plain: B x H x W x 3 uint8, the images as they were before they were disturbed.
    """

    image: ImageU8
    disparity: ArrayF32
    teacher: ArrayF32
    pasted: NDArray[np.bool_]
    plain: ImageU8


def make_batch(data: Mixture, config: AugmentConfig, seed: int, step: Step) -> Batch:
    """Assemble the batch of one step.

    Args:
        data: what to draw from.
        config: how to disturb.
        seed: the run's seed.
        step: which images, and their size.
    """
    shape = (step.count, step.size[1], step.size[0])
    batch = Batch(
        image=np.empty((*shape, 3), np.uint8),
        disparity=np.full(shape, np.nan, np.float32),
        teacher=np.full(shape, np.nan, np.float32),
        pasted=np.zeros(shape, bool),
        plain=np.empty((*shape, 3), np.uint8),
    )
    rng = np.random.default_rng([seed, 1, step.number])
    mixable = []
    for i, sample in enumerate(data.draw(seed, step)):
        cut = _cut(sample, rng, config, step.size)
        batch.plain[i] = cut.image
        batch.image[i] = disturb(cut.image, rng, config)
        if cut.disparity is not None:
            batch.disparity[i] = cut.disparity
        if cut.teacher is not None:
            batch.teacher[i] = cut.teacher
            if cut.disparity is None:
                mixable.append(i)
    if len(mixable) > 1:
        _cut_mix(batch, mixable, rng, config.cutmix)
    return batch


def _cut_mix(batch: Batch, images: list[int], rng: np.random.Generator, share: float) -> None:
    """Paste a rectangle of another image, with its label, into a share of the images.

    CutMix (Yun et al., ICCV 2019: the rectangle's area is uniform, its centre too) as Depth
    Anything (Yang et al., CVPR 2024, 3.2) applies it to what only a teacher has labelled.
    """
    _, height, width = batch.pasted.shape
    arrays: tuple[NDArray[Any], ...] = (batch.image, batch.plain, batch.teacher)
    sources = [array[images] for array in arrays]
    shift = int(rng.integers(1, len(images)))
    for place, i in enumerate(images):
        side = np.sqrt(rng.random())
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        if rng.random() >= share:
            continue
        inside = (
            i,
            slice(max(round(y - side * height / 2), 0), max(round(y + side * height / 2), 0)),
            slice(max(round(x - side * width / 2), 0), max(round(x + side * width / 2), 0)),
        )
        other = ((place + shift) % len(images), *inside[1:])
        for array, source in zip(arrays, sources, strict=True):
            array[inside] = source[other]
        batch.pasted[inside] = True


def batches(
    data: Mixture,
    config: AugmentConfig,
    seed: int,
    plan: Iterator[Step],
    ahead: int = 6,
    workers: int = 1,
) -> Iterator[Batch]:
    """Prepare batches in other threads, `ahead` of their use, in the order of the plan.

    Args:
        data: what to draw from.
        config: how to disturb.
        seed: the run's seed.
        plan: the steps.
        ahead: batches in preparation at any time.
        workers: threads that prepare them.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="batches") as pool:
        pending: deque[Future[Batch]] = deque()
        try:
            for step in plan:
                pending.append(pool.submit(make_batch, data, config, seed, step))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _cut(
    sample: Sample, rng: np.random.Generator, config: AugmentConfig, size: tuple[int, int]
) -> Sample:
    """Crop, resize to (width, height) and perhaps mirror an image with its disparities.

    A crop is another camera with another principal point and field of view; what it does to
    disparity is an affine change, which the losses do not see.
    """
    height, width = sample.image.shape[:2]
    share = rng.uniform(config.zoom, 1.0)
    ratio = np.exp(0.5 * rng.uniform(-config.stretch, config.stretch))
    w = min(round(width * share * ratio), width)
    h = min(round(height * share / ratio), height)
    x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    inside = (slice(y, y + h), slice(x, x + w))
    shrinks = w >= size[0] and h >= size[1]
    mode = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    flip = -1 if rng.random() < 0.5 else 1

    def reduced(disparity: Floats | None) -> Floats | None:
        if disparity is None:
            return None
        crop = np.asarray(disparity[inside], np.float32)
        near = cv2.resize(crop, size, interpolation=cv2.INTER_NEAREST_EXACT)
        return np.asarray(near, np.float32)[:, ::flip]

    image = np.asarray(cv2.resize(sample.image[inside], size, interpolation=mode))[:, ::flip]
    return Sample(np.ascontiguousarray(image), reduced(sample.disparity), reduced(sample.teacher))


def disturb(image: ImageU8, rng: np.random.Generator, config: AugmentConfig) -> ImageU8:
    """Change colours, sharpness and noise of an HxWx3 uint8 image; what it shows stays."""
    strength = config.colour
    work: NDArray[Any] = image
    if rng.random() < config.grey:
        work = cv2.cvtColor(cv2.cvtColor(work, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    elif strength > 0 and rng.random() < 0.6:
        work = cv2.transform(work, _colour_mix(rng, strength))
    if strength > 0:
        work = cv2.LUT(work, _tone_curves(rng, strength))
    if rng.random() < config.blur:
        work = _blur(work, rng)
    if rng.random() < config.erase:
        work = _erase(work, rng)
    if config.noise > 0 and rng.random() < 0.5:
        deviation = rng.uniform(0, config.noise)
        noise = rng.standard_normal(work.shape, np.float32) * np.float32(deviation)
        work = cv2.add(work, noise, dtype=cv2.CV_8U)
    if rng.random() < config.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
        decoded = cv2.imdecode(cv2.imencode(".jpg", work, quality)[1], cv2.IMREAD_COLOR)
        assert decoded is not None  # it was encoded a line above
        work = decoded
    return np.asarray(work, np.uint8)


def _colour_mix(rng: np.random.Generator, strength: float) -> ArrayF32:
    """Draw a 3x3 matrix that changes saturation and hue, or swaps the channels altogether."""
    if rng.random() < 0.15 * strength:
        return np.eye(3, dtype=np.float32)[rng.permutation(3)]
    saturation = np.exp(rng.normal(0, 0.35 * strength))
    mix = saturation * np.eye(3) + (1 - saturation) / 3
    mix += rng.normal(0, 0.06 * strength, (3, 3))
    return np.asarray(mix / mix.sum(axis=1, keepdims=True), np.float32)


def _tone_curves(rng: np.random.Generator, strength: float) -> ImageU8:
    """Draw a 256x1x3 look-up table: gamma, contrast, exposure and white balance."""
    x = np.linspace(0, 1, 256)[:, None]
    gain = np.exp(rng.normal(0, 0.25 * strength) + rng.normal(0, 0.08 * strength, 3))
    gamma = np.exp(rng.normal(0, 0.25 * strength))
    contrast = np.exp(rng.normal(0, 0.2 * strength))
    y = (gain * x**gamma - 0.5) * contrast + 0.5 + rng.normal(0, 0.04 * strength)
    return np.asarray(np.clip(255 * y, 0, 255), np.uint8).reshape(256, 1, 3)


def _blur(image: ImageU8, rng: np.random.Generator) -> ImageU8:
    """Defocus, or move the camera during the exposure."""
    if rng.random() < 0.6:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6)), np.uint8)
    length = int(rng.integers(3, 8))
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1.0 / length
    middle = ((length - 1) / 2, (length - 1) / 2)
    turn = cv2.getRotationMatrix2D(middle, rng.uniform(0, 180), 1.0)
    kernel = np.asarray(cv2.warpAffine(line, turn, (length, length)))
    return np.asarray(cv2.filter2D(image, -1, kernel / max(kernel.sum(), 1e-6)), np.uint8)


def _erase(image: ImageU8, rng: np.random.Generator) -> ImageU8:
    """Paint a rectangle over: what is behind must follow from the surroundings."""
    height, width = image.shape[:2]
    h, w = int(rng.uniform(0.08, 0.3) * height), int(rng.uniform(0.08, 0.3) * width)
    y, x = int(rng.integers(height - h)), int(rng.integers(width - w))
    painted = image.copy()
    painted[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return painted
