"""Labelled folders as training data: decoded once, brought to the stored size, read as shards."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from depth_node.cameras.folder import decode_image
from depth_node.evaluation.depth import EvaluationError
from depth_node.evaluation.recording import read_depth
from depth_node.training.frames import Floats, drop_left_overs, write_shard
from depth_node.training.label import FOLDER, LabelError, images_of, label_path, read_label

_PER_SHARD = 256


@dataclass(frozen=True)
class FolderConfig:
    """A folder of images with what is known about them.

    Attributes:
        path: folder of images, labelled by `depth-node label`.
        share: share of the run's images that come from here; the world gives the rest.
        labels: folder of the labels; empty for where `depth-node label` puts them by itself.
        depth: folder of 16-bit PNGs with the images' stems, measured depth; empty for none. With
            it the scale comes from the measurement and the detail from the teacher.
        per_metre: units of `depth` in a metre; 0 and 65535 are unknown.
    """

    path: str
    share: float
    labels: str = ""
    depth: str = ""
    per_metre: float = 1000.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}; it must lie in (0, 1]")
        if self.per_metre <= 0:
            raise ValueError(f"per_metre is {self.per_metre}; it must be positive")


def packed_folder(config: FolderConfig, size: tuple[int, int], root: Path) -> Path:
    """Name the folder of a labelled folder's shards; another file or setting gives another name.

    Args:
        config: the folder; its share makes no difference.
        size: as `pack_folder` takes it.
        root: likewise.

    Raises:
        LabelError: the folder has no labelled image, or one lacks its measured depth.
    """
    return root / _name(config, size, *_labelled(config))


def pack_folder(config: FolderConfig, size: tuple[int, int], root: Path) -> list[Path]:
    """Bring a labelled folder to shards, with a progress bar; what is there is kept.

    Args:
        config: the folder.
        size: (width, height) that everything is squeezed to, pixels, as the student's input is.
        root: folder under which the folder's shards are made.

    Returns:
        The shards, in order; images without a label are left out.

    Raises:
        LabelError: the folder has no labelled image, or a file in it cannot be read.
        OSError: the shards cannot be written.
    """
    images, labels = _labelled(config)
    target = root / _name(config, size, images, labels)
    target.mkdir(parents=True, exist_ok=True)
    drop_left_overs(target)
    shards = []
    with tqdm(total=len(images), unit="image", desc=f"packing {images[0].parent.name}") as bar:
        for first in range(0, len(images), _PER_SHARD):
            part = images[first : first + _PER_SHARD]
            shards.append(target / f"{first // _PER_SHARD:05d}")
            if not shards[-1].is_dir():
                write_shard(shards[-1], _arrays(config, part, labels, size))
            bar.update(len(part))
    return shards


def _labelled(config: FolderConfig) -> tuple[list[Path], Path]:
    """The images that have a label, and the folder of the labels.

    Raises:
        LabelError: there is none.
    """
    folder = Path(config.path).expanduser()
    labels = Path(config.labels).expanduser() if config.labels else folder / FOLDER
    images = [path for path in images_of(folder) if label_path(labels, path).is_file()]
    if not images:
        raise LabelError(f"no image in {folder} has a label; run: depth-node label {folder}")
    return images, labels


def _name(config: FolderConfig, size: tuple[int, int], images: list[Path], labels: Path) -> str:
    """Another folder, size, image, label or depth gives another name; another share does not."""
    digest = hashlib.sha256(repr((config.depth, config.per_metre, size)).encode())
    for image in images:
        files = [image, label_path(labels, image)]
        if config.depth:
            files.append(_depth_path(config, image))
        for path in files:
            stat = path.stat()
            digest.update(f"{path}|{stat.st_size}|{stat.st_mtime_ns}".encode())
    return f"folder-{digest.hexdigest()[:12]}"


def _arrays(
    config: FolderConfig, images: list[Path], labels: Path, size: tuple[int, int]
) -> dict[str, NDArray[Any]]:
    colours, teachers, depths = [], [], []
    for path in images:
        image = decode_image(path)
        if image is None:
            raise LabelError(f"{path} has a label but cannot be decoded; remove it")
        colours.append(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        teachers.append(_relative(read_label(label_path(labels, path)), size))
        if config.depth:
            depths.append(_measured(_depth_path(config, path), config))
    arrays: dict[str, NDArray[Any]] = {
        "image": np.stack(colours),
        "teacher": np.stack(teachers),
    }
    if depths:
        arrays["disparity"] = np.stack(
            [cv2.resize(d, size, interpolation=cv2.INTER_NEAREST_EXACT) for d in depths]
        ).astype(np.float16)
    return arrays


def _relative(disparity: Floats, size: tuple[int, int]) -> Floats:
    """A label at the stored size, with 1 as its largest value: half precision is enough for it."""
    resized = np.asarray(cv2.resize(disparity, size, interpolation=cv2.INTER_LINEAR))
    largest = max(float(resized.max()), np.finfo(np.float32).tiny)
    return (resized / largest).astype(np.float16)


def _depth_path(config: FolderConfig, image: Path) -> Path:
    """The measured depth of an image.

    Raises:
        LabelError: it is not there.
    """
    path = Path(config.depth).expanduser() / f"{image.stem}.png"
    if not path.is_file():
        raise LabelError(f"{path} is missing; each labelled image needs its measured depth there")
    return path


def _measured(path: Path, config: FolderConfig) -> Floats:
    """Measured depth as HxW float32 in 1/m, NaN where nothing was measured.

    Raises:
        LabelError: it is no depth image.
    """
    try:
        depth = read_depth(path, config.per_metre)
    except EvaluationError as error:
        raise LabelError(str(error)) from error
    with np.errstate(divide="ignore"):
        return np.where(depth > 0.0, np.float32(1.0) / depth, np.float32(np.nan))
