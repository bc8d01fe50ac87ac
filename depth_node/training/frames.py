"""Frames on disk, and mixtures of them: which frame is the how-manieth of a run.

A shard is a folder of arrays over the same frames, all at one size:

- `image.npy`: N x H x W x 3 uint8, RGB;
- `disparity.npy`, where there is ground truth: N x H x W float16, 1/m, 0 in the sky, NaN where
  nothing was measured;
- `teacher.npy`, where a teacher has seen the frames: N x H x W float16, relative disparity, larger
  is nearer, 0 is saturated.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from depth_node.files import ABANDONED_S
from depth_node.types import ImageU8

Floats = NDArray[np.floating[Any]]

_PARTIAL = ".partial-"
_SHARE_STEPS = 2**40
"""Shares are whole multiples of the inverse of this."""


class Sample(NamedTuple):
    """One frame with what is known about it, read-only.

    Attributes:
        image: HxWx3 uint8, RGB.
        disparity: HxW floats, ground truth in 1/m, 0 in the sky, NaN unknown; or None.
        teacher: HxW floats, a teacher's relative disparity; or None.
    """

    image: ImageU8
    disparity: Floats | None
    teacher: Floats | None


@dataclass(frozen=True)
class Step:
    """One update's place in a run.

    Attributes:
        number: updates before it.
        first: images that the updates before it were shown.
        count: images in its batch.
        size: their (width, height), pixels.
    """

    number: int
    first: int
    count: int
    size: tuple[int, int]


def write_shard(target: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write the arrays `NAME.npy` of a shard; it appears whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=target.parent))
    try:
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array)
        try:
            partial.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            # another process was faster, with the same content
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def drop_left_overs(folder: Path) -> None:
    """Delete what processes that were killed in `write_shard` left, not what others write now."""
    for path in folder.glob(f"{_PARTIAL}*"):
        with contextlib.suppress(FileNotFoundError):  # renamed or dropped by another process
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(path, ignore_errors=True)


class Frames:
    """All frames of some shards, read from disk on demand (memory-mapped).

    Attributes:
        count: number of frames.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        """Open the shards.

        Raises:
            FileNotFoundError: a shard is missing or incomplete.
            ValueError: there is no shard.
        """
        if not shards:
            raise ValueError("no shards to train on: render some first")
        self._shards = [
            (
                np.load(path / "image.npy", mmap_mode="r"),
                _optional(path / "disparity.npy"),
                _optional(path / "teacher.npy"),
            )
            for path in shards
        ]
        self._ends = np.cumsum([len(images) for images, _, _ in self._shards])
        self.count = int(self._ends[-1])

    def __getitem__(self, index: int) -> Sample:
        """One frame."""
        shard = int(np.searchsorted(self._ends, index, side="right"))
        within = index - (int(self._ends[shard - 1]) if shard else 0)
        image, disparity, teacher = self._shards[shard]
        return Sample(
            image[within],
            None if disparity is None else disparity[within],
            None if teacher is None else teacher[within],
        )


def _optional(path: Path) -> Any:
    return np.load(path, mmap_mode="r") if path.is_file() else None


class Mixture:
    """Sources of frames, each with its share of the run.

    Every source shows each of its frames once in an epoch of its own, in an order of its own, and
    after any number of images it has given its share of them to within two (of up to eleven
    sources). What a step shows follows from the seed and the step alone.
    """

    def __init__(self, parts: Sequence[tuple[Frames, float]]) -> None:
        """Take (source, share) pairs.

        Raises:
            ValueError: the shares are not positive or do not add up to 1.
        """
        shares = [share for _, share in parts]
        if not parts or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"the shares of the data must be positive and add up to 1: {shares}")
        self._sources = [source for source, _ in parts]
        # Whole numbers: rounding that is not exact could show a frame twice or not at all.
        self._weights = [max(round(share * _SHARE_STEPS), 1) for share in shares]
        self._largest_first = sorted(range(len(shares)), key=lambda i: -self._weights[i])

    def draw(self, seed: int, step: Step) -> list[Sample]:
        """The frames of one step, the sources mixed."""
        drawn = []
        begun, ended = (self._shown(images) for images in (step.first, step.first + step.count))
        for number, source in enumerate(self._sources):
            for index in range(begun[number], ended[number]):
                epoch, place = divmod(index, source.count)
                drawn.append(source[_shuffled(place, source.count, [seed, 2, epoch, number])])
        order = np.random.default_rng([seed, 3, step.number]).permutation(len(drawn))
        return [drawn[i] for i in order]

    def _shown(self, images: int) -> list[int]:
        """How many of a run's first images come from each source.

        Each source in turn takes its part of what those before it left, rounded. One image more
        adds 0 or 1 to what the first one takes, so 1 or 0 to what it leaves, and so on down: the
        counts never fall and always add up, which those of shares rounded side by side do not.
        Small shares come last, where the roundings before them are scaled down to nothing.
        """
        counts = [0] * len(self._weights)
        weight = sum(self._weights)
        for number in self._largest_first:
            own = self._weights[number]
            counts[number] = (2 * images * own + weight) // (2 * weight)
            images -= counts[number]
            weight -= own
        return counts


def _shuffled(place: int, count: int, seed: list[int]) -> int:
    """Permute 0..count-1 without storing the permutation: an affine map modulo count."""
    rng = np.random.default_rng(seed)
    offset = int(rng.integers(count))
    stride = int(rng.integers(1, max(count, 2)))
    while np.gcd(stride, count) != 1:
        stride += 1
    return (place * stride + offset) % count
