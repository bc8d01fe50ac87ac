"""Frames with ground truth, one at a time: recorded files, or views of the synthetic world."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from depth_node.evaluation.depth import EvaluationError
from depth_node.geometry.transforms import rigid
from depth_node.types import ArrayF32, ArrayF64, ImageU8

SATURATED = 65535
"""What several depth cameras store where they measured nothing."""
WORLD_SEED = 10_000_000
"""Training draws its scenes from seeds far below."""
WORLD_SIZE = (320, 240)

_ASPECT_TOLERANCE = 0.02
_RIGID_TOLERANCE = 1e-2


@dataclass(frozen=True, eq=False)
class TrueFrame:
    """An image with its ground truth.

    Attributes:
        name: of the file or the seed.
        image: HxWx3 uint8 RGB.
        truth: hxw float32 metres of the same view; 0, NaN and Inf are unknown.
    """

    name: str
    image: ImageU8
    truth: ArrayF32


@dataclass(frozen=True)
class Recording:
    """Image files paired with depth files; a frame is read when it is asked for.

    Attributes:
        images: paths of the images.
        depths: paths of their single-channel depth images, in a format that OpenCV reads.
        units_per_metre: what the depth images store.
    """

    images: tuple[Path, ...]
    depths: tuple[Path, ...]
    units_per_metre: float

    @classmethod
    def find(cls, images: str, depths: str, units_per_metre: float) -> Recording:
        """Pair the files that two globs find, in sorted order.

        Raises:
            EvaluationError: nothing is found, or the files are no pairs.
        """
        if not 0.0 < units_per_metre < np.inf:
            raise EvaluationError(
                f"--depth-scale is {units_per_metre:g}; it must be the positive number of stored "
                "units in a metre, 1000 for millimetres"
            )
        found = find_files(images), find_files(depths)
        if not found[0] or len(found[0]) != len(found[1]):
            raise EvaluationError(
                f"--rgb finds {len(found[0])} files and --depth {len(found[1])}; both must find "
                f"the same number, in the same sorted order{_alone(*found)}"
            )
        _check_numbers(*found)
        return cls(*found, units_per_metre)

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[TrueFrame]:
        """Read every frame.

        Raises:
            EvaluationError: a file is no image of the kind it must be, or a pair is not one view.
        """
        for image_file, depth_file in zip(self.images, self.depths, strict=True):
            image = read_image(image_file)
            truth = read_depth(depth_file, self.units_per_metre)
            height, width = image.shape[:2]
            if abs(truth.shape[1] * height / (truth.shape[0] * width) - 1.0) > _ASPECT_TOLERANCE:
                raise EvaluationError(
                    f"{image_file.name} has {width}x{height} pixels and {depth_file.name} "
                    f"{truth.shape[1]}x{truth.shape[0]}: with these shapes they cannot be one view"
                )
            yield TrueFrame(image_file.name, image, truth)


@dataclass(frozen=True)
class WorldViews:
    """Random views of scenes of the synthetic world that training never saw; 320x240."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise EvaluationError(f"--world asks for {self.count} views; 1 is the fewest")

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[TrueFrame]:
        """Render every view; its sky is Inf."""
        from depth_node.world import sample

        for seed in range(WORLD_SEED, WORLD_SEED + self.count):
            yield TrueFrame(f"seed {seed}", *sample(seed, *WORLD_SIZE))


def find_files(pattern: str) -> tuple[Path, ...]:
    """The files that a glob finds, absolute or not; sorted, and 10 comes after 9."""
    names = glob.glob(pattern)  # noqa: PTH207 - pathlib takes no absolute globs
    return tuple(Path(name) for name in sorted(names, key=_natural))


def _natural(name: str) -> list[tuple[str, int]]:
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", name)]


def read_image(path: Path) -> ImageU8:
    """Read HxWx3 uint8 RGB.

    Raises:
        EvaluationError: it is no image.
    """
    image = cv2.imread(str(path))
    if image is None:
        raise EvaluationError(f"{path} cannot be read as an image")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def read_depth(path: Path, units_per_metre: float) -> ArrayF32:
    """Read a depth image.

    Args:
        path: one channel of 16 bits or of floats, in a format that OpenCV reads.
        units_per_metre: what it stores.

    Returns:
        HxW float32 metres. 0 is unknown, where 16 bits hold 65535 too; NaN and Inf in a file of
        floats stay.

    Raises:
        EvaluationError: it is no such image.
    """
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise EvaluationError(
            f"{path} cannot be read as a depth image; convert it to PNG of 16 bits or to TIFF of "
            "32-bit floats, with 0 where nothing was measured"
        )
    if stored.ndim != 2 or stored.dtype == np.uint8:
        raise EvaluationError(
            f"{path} holds {stored.shape} {stored.dtype}; a depth image has one channel of 16 bits "
            "or of floats (8 bits are a picture of depth)"
        )
    known = stored if stored.dtype != np.uint16 else np.where(stored == SATURATED, 0, stored)
    return np.asarray(known, np.float32) / np.float32(units_per_metre)


def read_poses(pattern: str, count: int) -> list[ArrayF64]:
    """Read the camera's poses.

    Args:
        pattern: glob of one file for each frame with a 4x4 (or 3x4) matrix, or one file with a
            line for each frame: `tx ty tz qx qy qz qw`, the same after a stamp (TUM), or 12
            numbers of a 3x4 matrix (KITTI).
        count: frames.

    Returns:
        T_world_cam of every frame, 4x4 float64, metres, optical frame.

    Raises:
        EvaluationError: files or lines do not match the frames, or hold no poses.
    """
    files = find_files(pattern)
    try:
        tables = [np.loadtxt(path, ndmin=2) for path in files]
    except ValueError as error:
        raise EvaluationError(f"--poses {pattern} holds what is no number: {error}") from error
    rows = list(tables[0]) if len(tables) == 1 and count > 1 else [t.ravel() for t in tables]
    if len(rows) != count:
        raise EvaluationError(
            f"--poses finds {len(files)} files with {len(rows)} poses for {count} frames; give one "
            "file for each frame, or one file with a line for each"
        )
    return [_pose(row, f"pose {i + 1} of {pattern}") for i, row in enumerate(rows)]


def _pose(numbers: ArrayF64, name: str) -> ArrayF64:
    if numbers.size in {12, 16}:
        T = np.vstack([numbers[:12].reshape(3, 4), (0.0, 0.0, 0.0, 1.0)])
    elif numbers.size in {7, 8} and np.linalg.norm(numbers[-4:]) > 0.0:
        T = rigid(numbers[-7:-4], Rotation.from_quat(numbers[-4:]))
    else:
        raise EvaluationError(f"{name} has {numbers.size} numbers; 7, 8, 12 or 16 are a pose")
    R = T[:3, :3]
    if not np.allclose(R @ R.T, np.eye(3), atol=_RIGID_TOLERANCE) or not np.isfinite(T).all():
        raise EvaluationError(f"{name} is no rigid pose: its rotation is not orthonormal")
    return T


def _numbers(path: Path) -> tuple[str, ...]:
    return tuple(re.findall(r"\d+", path.stem))


def _alone(images: tuple[Path, ...], depths: tuple[Path, ...]) -> str:
    """Name a file without partner, where the numbers in the names say which; else nothing."""
    sides = [{_numbers(path): path.name for path in side} for side in (images, depths)]
    shared = sides[0].keys() & sides[1].keys()
    alone = [name for side in sides for key, name in side.items() if key not in shared]
    return f" ({alone[0]} has no partner)" if shared and alone else ""


def _check_numbers(images: tuple[Path, ...], depths: tuple[Path, ...]) -> None:
    """Refuse a pairing that is shifted: the numbers in the names say who belongs together.

    Both sides may carry different numbers, such as stamps, and several folders the same ones; then
    the order alone decides.
    """
    partner = {_numbers(path): path for path in depths}
    if len(partner) < len(depths):
        return
    for image, depth in zip(images, depths, strict=True):
        own = partner.get(_numbers(image), depth)
        if own != depth:
            raise EvaluationError(
                f"in sorted order {image.name} meets {depth.name}, though there is {own.name}; "
                "make both globs find the same frames"
            )
