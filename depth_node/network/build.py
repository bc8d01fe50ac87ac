"""From a registry entry to the graphs that the engines run, and what each precision costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from depth_node.network.compose import Size, compose
from depth_node.network.errors import ModelError
from depth_node.network.export import export_core, load_module
from depth_node.network.graph import read_graph
from depth_node.network.large import storable
from depth_node.network.precision import to_fp16, to_int8, variant_of
from depth_node.network.registry import Entry
from depth_node.network.store import (
    graph_path,
    replace_graph,
    variant_path,
    write_atomically,
)
from depth_node.types import ArrayF32, ImageU8

Log = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """One graph that was written.

    Attributes:
        precision: `fp32`, `fp16` or `int8`.
        path: the file.
        error: mean relative L2 difference of its disparity from fp32 over the images, computed by
            ONNX Runtime on the CPU; 0 for fp32.
        images: how many images that is over.
    """

    precision: str
    path: Path
    error: float
    images: int


def export_graphs(
    entry: Entry,
    weights: Path,
    size: Size,
    precisions: Sequence[str],
    frames: Sequence[ImageU8],
    log: Log,
) -> list[Exported]:
    """Export a network in several precisions.

    Args:
        entry: the network.
        weights: its checkpoint, checked.
        size: the size that it is to run at.
        precisions: of `fp32`, `fp16` and `int8`; fp32 is always written, the others are held to it.
        frames: images to judge on; int8 is calibrated on every other one of them.
        log: takes a line a step.

    Raises:
        ModelError: a step failed; the message says which and why.
    """
    log(f"loading {weights.name}")
    module = load_module(entry, weights)
    log(f"exporting {entry.name} at {size}")
    core = storable(export_core(entry, module, size))
    del module
    calibration, judged = (frames[::2], frames[1::2] or frames) if frames else ([], [])
    written: list[Exported] = []
    for precision in ("fp32", *(p for p in ("fp16", "int8") if p in precisions)):
        if precision == "fp16":
            log("converting to fp16")
            variant = to_fp16(core)
        elif precision == "int8":
            log(f"calibrating int8 on {len(calibration)} frames")
            variant = to_int8(core, [normalised(entry, size, frame) for frame in calibration])
        else:
            variant = core
        path = graph_path(entry.name, str(size), precision)
        content = compose(variant, entry, size, precision).SerializeToString()
        if precision == "fp32":
            for stale in replace_graph(path, content):
                log(f"deleted {stale}: it was made of other weights, or by another export")
        else:
            write_atomically(path, content)
        error = _difference(path, written[0].path, judged) if written else 0.0
        written.append(Exported(precision, path, error, len(judged)))
        log(f"wrote {path}")
    return written


def export_variants(
    fp32: Path, precisions: Sequence[str], frames: Sequence[ImageU8], log: Log
) -> list[Exported]:
    """Make further precisions of a network that is only here as a graph, as the student is.

    Args:
        fp32: its fp32 graph.
        precisions: of `fp16` and `int8`.
        frames: images to judge on; int8 is calibrated on every other one of them.
        log: takes a line a step.

    Raises:
        ModelError: a step failed; the message says which and why.
    """
    graph = read_graph(fp32)
    written = [Exported("fp32", fp32, 0.0, 0)]
    for precision in (p for p in ("fp16", "int8") if p in precisions):
        log(f"converting {graph.name} to {precision}")
        model = variant_of(graph, precision, frames[::2])
        path = variant_path(graph.sha256, precision)
        write_atomically(path, model.SerializeToString())
        judged = frames[1::2] or frames
        written.append(Exported(precision, path, _difference(path, fp32, judged), len(judged)))
        log(f"wrote {path}")
    return written


def normalised(entry: Entry, size: Size, image: ImageU8) -> ArrayF32:
    """The reference preprocessing: padding, resize of the float image, normalisation, planes.

    Args:
        entry: the network, for its padding, interpolation and normalisation.
        size: the network's size.
        image: HxWx3 uint8 RGB.

    Returns:
        1x3xhxw float32.
    """
    h, w = size.of(image.shape[0], image.shape[1], entry.multiple)
    pixels = image.astype(np.float32) / 255.0
    resized = _resized(entry, pixels, h, w)
    centred = (resized - np.array(entry.mean)) / np.array(entry.std)
    return np.ascontiguousarray(centred.transpose(2, 0, 1)[None], dtype=np.float32)


def _resized(entry: Entry, pixels: ArrayF32, height: int, width: int) -> ArrayF32:
    """Pad, where the network is a padded one, and resize float32 HxWx3 to (height, width)."""
    if not entry.padded:
        interpolation = cv2.INTER_CUBIC if entry.interpolation == "cubic" else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(pixels, (width, height), interpolation=interpolation))
    borders = [(n, n) for n in (int(3.0 * np.sqrt(side / 2.0)) for side in pixels.shape[:2])]
    padded = np.pad(pixels, [*borders, (0, 0)], mode="reflect")
    # OpenCV has no resize that lays the corner pixels on each other
    rows = np.linspace(0.0, padded.shape[0] - 1.0, height)
    columns = np.linspace(0.0, padded.shape[1] - 1.0, width)
    top = np.minimum(rows.astype(np.intp), padded.shape[0] - 2)
    left = np.minimum(columns.astype(np.intp), padded.shape[1] - 2)
    down = (rows - top).astype(np.float32)[:, None, None]
    right = (columns - left).astype(np.float32)[:, None]
    tall = padded[top] * (1.0 - down) + padded[top + 1] * down
    return np.asarray(tall[:, left] * (1.0 - right) + tall[:, left + 1] * right, dtype=np.float32)


def _difference(path: Path, fp32: Path, images: Sequence[ImageU8]) -> float:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(f"judging a precision needs onnxruntime ({error})") from error
    sessions = [
        onnxruntime.InferenceSession(str(p), providers=["CPUExecutionProvider"])
        for p in (fp32, path)
    ]
    errors = []
    for image in images:
        wanted, seen = (s.run(None, {"image": image})[0] for s in sessions)
        norm = float(np.linalg.norm(wanted)) or 1.0
        errors.append(float(np.linalg.norm(seen - wanted)) / norm)
    return float(np.mean(errors)) if errors else float("nan")
