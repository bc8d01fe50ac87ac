"""The self-test: a compiled engine must reproduce the fp32 network before it is first used.

Compiled engines are known to be silently wrong (scale that jumps from frame to frame, overflow of
fp16 in LayerNorm and attention). Wrong depth is worse than slow depth.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable

import cv2
import numpy as np

from depth_node.engines.base import BatchEngine, Engine, EngineError
from depth_node.engines.cache import Verdict
from depth_node.network.errors import ModelError
from depth_node.network.graph import Graph
from depth_node.network.store import cache_directory, write_atomically
from depth_node.types import ArrayF32, ImageU8

TOLERANCES = {"fp32": 0.002, "fp16": 0.01, "bf16": 0.03, "int8": 0.03}
"""Largest relative L2 difference from fp32, by precision. bf16 has three bits of mantissa less
than fp16, and is held to what int8 is."""
REPEAT_TOLERANCE = 1e-3
"""Largest relative L2 difference between two runs on the same frame."""
GOLDEN_SIZE = (480, 640)
"""Height and width of the golden frames, pixels."""


@functools.lru_cache(maxsize=1)
def golden_frames() -> tuple[ImageU8, ...]:
    """Two 480x640x3 uint8 RGB images that any machine makes alike: a corridor, and a bright room.

    They hold what drives a network's activations: strong edges, fine texture, flat and saturated
    areas.
    """
    height, width = GOLDEN_SIZE
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = columns / width - 0.5, rows / height - 0.5
    depth = 1.0 / np.maximum(np.maximum(np.abs(x), np.abs(y)), 0.02)
    tiles = ((np.floor(depth * 2) + np.floor(np.arctan2(y, x) * 6)) % 2)[..., None]
    corridor = np.clip(255 * (0.2 + 0.6 * tiles) * np.exp(-depth / 18)[..., None], 0, 255)
    corridor = corridor * np.array([1.0, 0.85, 0.7], np.float32)
    room = np.full((height, width, 3), 190.0, np.float32) + 60 * y[..., None]
    cv2.rectangle(room, (60, 200), (250, 440), (30.0, 60.0, 140.0), -1)
    cv2.rectangle(room, (400, 60), (600, 300), (255.0, 255.0, 255.0), -1)
    cv2.circle(room, (330, 330), 90, (200.0, 40.0, 20.0), -1)
    noise = np.random.Generator(np.random.PCG64(7)).integers(-25, 26, room.shape)
    return corridor.astype(np.uint8), np.clip(room + noise, 0, 255).astype(np.uint8)


def reference(fp32: Graph, open_cpu: Callable[[Graph], Engine]) -> list[ArrayF32]:
    """The fp32 network's disparity on the golden frames, kept between runs.

    Args:
        fp32: the fp32 graph.
        open_cpu: opens a graph in an fp32 engine on the CPU; called only when nothing is kept.

    Raises:
        EngineError: no CPU engine can run the graph.
    """
    kept = cache_directory() / "references" / f"{fp32.sha256[:40]}.npz"
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            return [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
    except (OSError, ValueError):
        pass  # not there, or truncated: computed below
    engine = open_cpu(fp32)
    try:
        results = [engine.infer(frame).values for frame in golden_frames()]
    finally:
        engine.close()
    buffer = io.BytesIO()
    np.savez(buffer, *results)
    try:
        write_atomically(kept, buffer.getvalue())
    except ModelError:
        return results  # a full disk costs only the time to compute it again
    return results


def check(engine: Engine, expected: list[ArrayF32]) -> Verdict:
    """Run an engine on the golden frames and compare.

    Args:
        engine: the engine, as it would be used.
        expected: the fp32 disparity of each golden frame.
    """
    tolerance = TOLERANCES[engine.precision]
    worst = 0.0
    for number, (frame, wanted) in enumerate(zip(golden_frames(), expected, strict=True)):
        try:
            first, second = (engine.infer(frame).values for _ in range(2))
        except EngineError as error:
            return Verdict(False, float("inf"), tolerance, str(error))
        if first.shape != wanted.shape:
            reason = f"golden frame {number} gave {first.shape}, fp32 gives {wanted.shape}"
            return Verdict(False, float("inf"), tolerance, reason)
        repeat = relative_error(second, first)
        if repeat > REPEAT_TOLERANCE:
            reason = f"golden frame {number} differs by {repeat:.2g} when it is run twice"
            return Verdict(False, repeat, tolerance, reason)
        worst = max(worst, relative_error(first, wanted))
    if isinstance(engine, BatchEngine) and engine.batch_limit >= len(expected):
        try:
            together = engine.infer_batch(golden_frames())
        except EngineError as error:
            return Verdict(False, float("inf"), tolerance, f"the golden frames together: {error}")
        for result, wanted in zip(together, expected, strict=True):
            worst = max(worst, relative_error(result.values, wanted))
    if worst > tolerance:
        reason = f"differs from fp32 by {worst:.2%}; {engine.precision} may by {tolerance:.1%}"
        return Verdict(False, worst, tolerance, reason)
    return Verdict(True, worst, tolerance)


def relative_error(values: ArrayF32, wanted: ArrayF32) -> float:
    """Relative L2 difference, ||values - wanted|| / ||wanted||."""
    norm = float(np.linalg.norm(wanted))
    difference = float(np.linalg.norm(values - wanted))
    return difference / norm if norm else difference
