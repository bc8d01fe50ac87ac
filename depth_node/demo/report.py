"""What the demo leaves behind: figures, a picture and a cloud."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.demo.score import mean_score, mean_share
from depth_node.demo.watch import Sight, Tally
from depth_node.geometry.preview import render_preview, render_relative_preview
from depth_node.parameters import PreviewSettings
from depth_node.types import ArrayF32, CameraModel, ImageU8

FARTHEST_POINT_M = 30.0
CAPTION_ROWS = 28
_VERTEX = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])


def figures(tally: Tally) -> dict[str, Any]:
    """The demo's figures as one JSON object; what was not measured is null."""
    mean = mean_score(tally.scores)
    state = tally.status.get("state", "unknown")
    return {
        "frames": tally.frames,
        "rate_hz": round(tally.rate_hz, 2),
        "latency_ms": {f"p{q}": _round(tally.latency_ms(q), 2) for q in (50, 99)},
        "absrel": _round(mean.absrel, 4) if mean else None,
        "delta1": _round(mean.delta1, 4) if mean else None,
        "scored_share": _round(mean_share(tally.scores), 3),
        "aligned_per_frame": tally.scores[-1].aligned if tally.scores else None,
        "frames_scored": len(tally.scores),
        "scale_status": {"state": state, "source": tally.status.get("source", "unknown")},
        "model": tally.facts.get("network", "unknown"),
        "engine": tally.facts.get("engine", "unknown"),
        "camera": tally.facts.get("camera", "unknown"),
    }


def write(tally: Tally, result: dict[str, Any], folder: Path) -> list[Path]:
    """Write `report.json`, `side_by_side.png` and, where there is a camera, `cloud.ply`.

    Returns:
        The files that were written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "report.json"
    report.write_text(json.dumps(result, indent=2) + "\n")
    written = [report]
    sight = tally.sight
    if sight is None:
        return written
    picture = folder / "side_by_side.png"
    cv2.imwrite(str(picture), cv2.cvtColor(side_by_side(sight), cv2.COLOR_RGB2BGR))
    written.append(picture)
    if tally.camera is not None:
        cloud = folder / "cloud.ply"
        write_cloud(sight, tally.camera, cloud)
        written.append(cloud)
    return written


def side_by_side(sight: Sight) -> ImageU8:
    """Camera, depth and, where there is one, ground truth; HxWx3 uint8 RGB."""
    settings = PreviewSettings()
    height = sight.image.shape[0]
    panels = [("camera", sight.image)]
    if sight.score is not None and sight.truth is not None:
        how = "aligned to the truth per frame" if sight.score.aligned else "metres as published"
        panels += [
            (f"depth_node ({how})", render_preview(sight.score.depth, settings)),
            ("ground truth", render_preview(sight.truth, settings)),
        ]
    elif sight.metric:
        panels.append(("depth_node (metres)", render_preview(sight.values, settings)))
    else:
        panels.append(("depth_node (relative)", render_relative_preview(sight.values, settings)))
    return np.hstack([_captioned(text, panel, height) for text, panel in panels])


def _captioned(text: str, panel: ImageU8, height: int) -> ImageU8:
    size = (round(panel.shape[1] * height / panel.shape[0]), height)
    body = panel if panel.shape[0] == height else cv2.resize(panel, size)
    head = np.full((CAPTION_ROWS, body.shape[1], 3), 24, np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(head, text, (8, 20), font, 0.55, (235, 235, 235), 1, cv2.LINE_AA)
    return np.vstack([head, np.asarray(body, np.uint8)])


def write_cloud(sight: Sight, camera: CameraModel, path: Path) -> None:
    """Write the frame as a coloured point cloud in binary PLY, in the camera's optical frame.

    In metres where the depth is; relative disparity without ground truth gives a cloud of the right
    kind and an arbitrary size (its median distance is 1), and the file's header says so.
    """
    if sight.score is not None:
        depth = sight.score.depth
        unit = "metres, aligned to the ground truth" if sight.score.aligned else "metres"
    elif sight.metric:
        depth, unit = sight.values, "metres"
    else:
        depth, unit = _unscaled(sight.values), "no unit: relative depth, median distance 1"
    valid = np.isfinite(depth) & (depth < FARTHEST_POINT_M)
    vertices = np.empty(np.count_nonzero(valid), _VERTEX)
    vertices["xyz"] = _points(depth, camera)[valid]
    vertices["rgb"] = _colors(sight, depth)[valid]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment unit: {unit}",
        f"element vertex {vertices.size}",
        *(f"property float {name}" for name in ("x", "y", "z")),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
        "end_header\n",
    ]
    path.write_bytes("\n".join(header).encode() + vertices.tobytes())


def _points(depth: ArrayF32, camera: CameraModel) -> NDArray[np.float32]:
    height, width = depth.shape
    fx, fy, cx, cy = camera.resized(width, height).intrinsics
    x = (np.arange(width, dtype=np.float32) - cx) / fx * depth
    y = (np.arange(height, dtype=np.float32)[:, None] - cy) / fy * depth
    return np.dstack([x, y, depth]).astype(np.float32)


def _colors(sight: Sight, depth: ArrayF32) -> ImageU8:
    size = (depth.shape[1], depth.shape[0])
    return np.asarray(cv2.resize(sight.image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _unscaled(disparity: ArrayF32) -> ArrayF32:
    with np.errstate(divide="ignore"):
        depth = np.where(disparity > 0.0, 1.0 / disparity, np.inf).astype(np.float32)
    return np.asarray(depth / np.median(depth[np.isfinite(depth)]), np.float32)


def _round(value: float, digits: int) -> float | None:
    return round(value, digits) if np.isfinite(value) else None
