"""Rendered frames on disk: written once by all cores, read by every epoch.

Which frame a shard holds depends on its seed alone, so a rendering that was interrupted continues
where it stopped and two machines render the same.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

import depth_node.world
from depth_node.training.frames import drop_left_overs, write_shard
from depth_node.types import ArrayF32, ImageU8
from depth_node.world.lessons import Shares, lessons


@dataclass(frozen=True)
class ShardConfig:
    """What is rendered.

    Attributes:
        frames: how many.
        width: stored width, pixels.
        height: stored height, pixels.
        first_seed: the world's seed of the first scene; scene i has `first_seed + i`.
        views: frames of each scene; building a scene costs as much as several views of it.
        aspects: width over height of the virtual camera; a scene takes one by its seed, is rendered
            with as many rays as the stored size has pixels, and is squeezed into the stored size,
            as the student's input is.
        shares: how many of the scenes are of each kind.
        per_shard: frames in one shard, a multiple of `views`.
    """

    frames: int = 20_000
    width: int = 256
    height: int = 192
    first_seed: int = 0
    views: int = 4
    aspects: tuple[float, ...] = (4 / 3, 4 / 3, 4 / 3, 16 / 9, 3.3)
    shares: Shares = field(default_factory=Shares)
    per_shard: int = 200

    @property
    def size(self) -> tuple[int, int]:
        """Stored (width, height), pixels."""
        return self.width, self.height

    def __post_init__(self) -> None:
        for name in ("frames", "width", "height", "views", "per_shard"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name} is {getattr(self, name)}; it must be positive")
        if self.per_shard % self.views:
            raise ValueError(f"data.per_shard must be a multiple of data.views ({self.views})")


def render_scene(config: ShardConfig, seed: int) -> Iterator[tuple[ImageU8, ArrayF32]]:
    """Render the views of one scene.

    Yields:
        HxWx3 uint8 RGB and HxW float32 disparity in 1/m, 0 in the sky, at the stored size.
    """
    rng = np.random.default_rng([seed, 0x5AD])
    aspect = config.aspects[int(rng.integers(len(config.aspects)))]
    width = round((config.width * config.height * aspect) ** 0.5)
    size = config.size
    views = lessons(seed, config.views, width, round(width / aspect), shares=config.shares)
    for view, metres in views:
        image = cv2.resize(view, size, interpolation=cv2.INTER_LINEAR)
        # Averaged disparities would place surfaces in mid-air at every edge: take the nearest.
        depth = np.asarray(cv2.resize(metres, size, interpolation=cv2.INTER_NEAREST_EXACT))
        with np.errstate(divide="ignore"):
            disparity = np.where(np.isfinite(depth), 1.0 / depth, 0.0)
        yield np.asarray(image, np.uint8), disparity.astype(np.float32)


def render_shard(config: ShardConfig, number: int, folder: Path) -> Path:
    """Render shard `number` into `folder` and return its path; it appears whole or not at all."""
    first = number * config.per_shard
    count = min(config.per_shard, config.frames - first)
    images = np.empty((count, config.height, config.width, 3), np.uint8)
    disparities = np.empty((count, config.height, config.width), np.float16)
    for i in range(0, count, config.views):
        scene = render_scene(config, config.first_seed + (first + i) // config.views)
        for j, (image, disparity) in zip(range(i, count), scene, strict=False):
            images[j], disparities[j] = image, disparity
    target = folder / f"{number:05d}"
    write_shard(target, {"image": images, "disparity": disparities})
    return target


def shard_folder(config: ShardConfig, root: Path) -> Path:
    """Name the folder of a configuration; another world or another setting gives another name."""
    digest = hashlib.sha256(repr(config).encode())
    for source in sorted(Path(depth_node.world.__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return root / f"world-{digest.hexdigest()[:12]}"


def render_shards(config: ShardConfig, root: Path, workers: int | None = None) -> list[Path]:
    """Render whatever is missing, with a progress bar, and return all shards in order.

    Args:
        config: what to render.
        root: folder under which the configuration's own folder is made.
        workers: processes; None takes one for each core.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = shard_folder(config, root)
    folder.mkdir(parents=True, exist_ok=True)
    drop_left_overs(folder)
    numbers = range(-(-config.frames // config.per_shard))
    paths = [folder / f"{number:05d}" for number in numbers]
    missing = [number for number in numbers if not paths[number].is_dir()]
    if not missing:
        return paths
    workers = min(workers or os.cpu_count() or 1, len(missing))
    with tqdm(total=config.frames, unit="frame", desc="rendering the world") as bar:
        bar.update((len(paths) - len(missing)) * config.per_shard)
        for _ in _in_processes(config, missing, folder, workers):
            bar.update(config.per_shard)
    return paths


def _in_processes(
    config: ShardConfig, numbers: Sequence[int], folder: Path, workers: int
) -> Iterator[Path]:
    """Render shards and yield each when it is there; one worker needs no process of its own."""
    if workers == 1:
        yield from (render_shard(config, number, folder) for number in numbers)
        return
    # A fork would copy the locks of the ray caster's and of PyTorch's threads, held or not.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for future in as_completed(
            [pool.submit(render_shard, config, number, folder) for number in numbers]
        ):
            yield future.result()
