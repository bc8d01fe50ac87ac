"""The self-test: a compiled engine must reproduce the fp32 network before it is first used.

Compiled engines are known to be silently wrong (scale that jumps from frame to frame, overflow of
fp16 in LayerNorm and attention). Wrong depth is worse than slow depth.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
from collections.abc import Callable

import cv2
import numpy as np

from depth_node.engines.base import BatchEngine, Engine, EngineError, TestedEngine
from depth_node.engines.cache import EngineCache, Signature, Verdict
from depth_node.files import cache_directory
from depth_node.network.errors import ModelError
from depth_node.network.graph import Graph
from depth_node.network.store import write_atomically
from depth_node.types import ArrayF32, Disparity, ImageU8

Infer = Callable[[ImageU8], Disparity]

TOLERANCES = {"fp32": 0.002, "fp16": 0.01, "bf16": 0.05, "int8": 0.03}
"""Largest relative L2 difference from fp32, by precision. bf16 has three bits of mantissa less
than fp16, so it rounds eight times as coarsely; a student that differs by 4% here, on a drawing
full of noise, differs by less than 0.5% in AbsRel on photographs (bench/engines.json)."""
REPEAT_TOLERANCE = 1e-3
"""Largest relative L2 difference between two runs on the same frame."""
GOLDEN_SIZE = (480, 640)
"""Height and width of the golden frames, pixels."""


class SelfTest:
    """Holds what was compiled of one network to its fp32 graph, and remembers what passed."""

    def __init__(
        self,
        cache: EngineCache,
        read_fp32: Callable[[], Graph],
        open_cpu: Callable[[Graph], Engine],
    ) -> None:
        """Prepare.

        Args:
            cache: where verdicts are kept.
            read_fp32: the network's fp32 graph; it is not held here, for it may be large.
            open_cpu: opens it in an fp32 engine on the CPU.
        """
        self._cache = cache
        self._read_fp32 = read_fp32
        self._open_cpu = open_cpu
        self._sha256 = ""
        self._under_test: Signature | None = None

    def verdict(self, engine: TestedEngine, *, again: bool = False) -> Verdict:
        """What the self-test says of an engine; it runs unless it has passed before.

        Args:
            engine: the engine.
            again: run it in any case.

        Raises:
            EngineError: there is no CPU engine to compute the reference with.
            ModelError: the fp32 graph cannot be read.
        """
        return self._verdict(engine, engine.signature, GOLDEN_SIZE, engine.infer, again=again)

    def require(
        self, engine: TestedEngine, signature: Signature, size: tuple[int, int], infer: Infer
    ) -> None:
        """Refuse what an engine has compiled for one size of image, unless it passes as well.

        Args:
            engine: the engine.
            signature: of what it has compiled.
            size: height and width of the images that are to come, pixels.
            infer: runs the engine, inside its guard.

        Raises:
            EngineError: it has not passed, or cannot be tested.
        """
        if signature == self._under_test:
            return  # it was compiled for the frames of its own test
        try:
            verdict = self._verdict(engine, signature, size, infer)
        except ModelError as error:
            raise EngineError(str(error)) from error
        if not verdict.passed:
            raise EngineError(
                f"{engine.name} {engine.precision} is not used for images of {size[1]}x{size[0]}: "
                f"its self-test at that size failed: {verdict.reason}. Set model.precision to "
                "fp32, or model.engine to another"
            )

    def _verdict(
        self,
        engine: TestedEngine,
        signature: Signature,
        size: tuple[int, int],
        infer: Infer,
        *,
        again: bool = False,
    ) -> Verdict:
        sha256 = self._sha256 or self._fp32().sha256
        kept = self._cache.verdict(signature)
        if kept is not None and kept.passed and kept.reference == sha256 and not again:
            return kept
        expected = reference(self._fp32(), self._open_cpu, size)
        self._under_test = signature
        try:
            verdict = check(engine, expected, size, infer)
        finally:
            self._under_test = None
        verdict = dataclasses.replace(verdict, reference=sha256)
        self._cache.keep_verdict(signature, verdict)
        if verdict.passed and size != GOLDEN_SIZE:
            self._cache.log(
                f"engine {engine.name} {engine.precision}: tested for images of "
                f"{size[1]}x{size[0]}, differs from fp32 by {verdict.error:.2%}"
            )
        return verdict

    def _fp32(self) -> Graph:
        graph = self._read_fp32()
        if self._sha256 not in ("", graph.sha256):
            raise EngineError(
                f"{graph.path} is another network than the one that was loaded; configure again"
            )
        self._sha256 = graph.sha256
        return graph


def golden_frames(size: tuple[int, int] = GOLDEN_SIZE) -> tuple[ImageU8, ...]:
    """Two HxWx3 uint8 RGB images that any machine makes alike: a corridor, and a bright room.

    They hold what drives a network's activations: strong edges, fine texture, flat and saturated
    areas.

    Args:
        size: their height and width, pixels.
    """
    if size == GOLDEN_SIZE:
        return _golden_frames()
    return tuple(
        np.asarray(cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
        for frame in _golden_frames()
    )


@functools.lru_cache(maxsize=1)
def _golden_frames() -> tuple[ImageU8, ...]:
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


def reference(
    fp32: Graph, open_cpu: Callable[[Graph], Engine], size: tuple[int, int] = GOLDEN_SIZE
) -> list[ArrayF32]:
    """The fp32 network's disparity on the golden frames, kept between runs.

    Args:
        fp32: the fp32 graph.
        open_cpu: opens a graph in an fp32 engine on the CPU; called only when nothing is kept.
        size: height and width of the frames, pixels.

    Raises:
        EngineError: no CPU engine can run the graph.
    """
    at = "" if size == GOLDEN_SIZE else f".{size[0]}x{size[1]}"
    kept = cache_directory() / "references" / f"{fp32.sha256[:40]}{at}.npz"
    frames = golden_frames(size)
    # Not there, or damaged: zipfile, zlib and numpy each raise their own.
    with contextlib.suppress(Exception), np.load(kept, allow_pickle=False) as arrays:
        return [arrays[f"arr_{number}"] for number in range(len(frames))]
    engine = open_cpu(fp32)
    try:
        results = [engine.infer(frame).values for frame in frames]
    finally:
        engine.close()
    buffer = io.BytesIO()
    np.savez(buffer, *results)
    try:
        write_atomically(kept, buffer.getvalue())
    except ModelError:
        return results  # a full disk costs only the time to compute it again
    return results


def check(
    engine: Engine,
    expected: list[ArrayF32],
    size: tuple[int, int] = GOLDEN_SIZE,
    infer: Infer | None = None,
) -> Verdict:
    """Run an engine on the golden frames and compare.

    Args:
        engine: the engine, as it would be used.
        expected: the fp32 disparity of each golden frame.
        size: height and width of the frames, pixels.
        infer: runs the engine; by default its own `infer`.
    """
    infer = infer or engine.infer
    tolerance = TOLERANCES[engine.precision]
    worst = 0.0
    for number, (frame, wanted) in enumerate(zip(golden_frames(size), expected, strict=True)):
        try:
            first, second = (infer(frame).values for _ in range(2))
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
