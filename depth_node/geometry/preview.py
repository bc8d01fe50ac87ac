"""Pictures of depth for people: a colour map over inverse depth, with a legend."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_node.parameters import PreviewSettings
from depth_node.types import ArrayF32, ImageU8

INVALID_RGB = (70, 70, 70)
"""Colour of pixels without depth (NaN)."""
FAR_RGB = (200, 214, 229)
"""Colour of sky and of what lies beyond the range (+Inf), which no colour map contains."""

_COLORMAPS = {
    "turbo": cv2.COLORMAP_TURBO,
    "inferno": cv2.COLORMAP_INFERNO,
    "magma": cv2.COLORMAP_MAGMA,
    "viridis": cv2.COLORMAP_VIRIDIS,
}
# Palette indices: the first two are no depth, the others run from far to near.
_INVALID, _FAR, _FIRST, _LAST = 0, 1, 2, 255
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TICKS_M = (
    0.1,
    0.2,
    0.3,
    0.5,
    0.7,
    1,
    1.5,
    2,
    3,
    5,
    7,
    10,
    15,
    20,
    30,
    50,
    70,
    100,
    200,
    500,
    1000,
)


def render_preview(
    depth: ArrayF32, settings: PreviewSettings, image: ImageU8 | None = None
) -> ImageU8:
    """Colour metric depth over the fixed range `min_m`..`max_m`, with metre ticks beside it.

    The colours are linear in inverse depth, so that near things, which matter, differ most. Depth
    outside the range has the colour of the nearer end of it.

    Args:
        depth: HxW float32 metres, NaN invalid, +Inf far.
        settings: range and colour map.
        image: HxWx3 uint8 RGB of any size, to be put to the left, or None.

    Returns:
        A picture, uint8 RGB, as high as the depth and wider by the legend and the image.
    """
    with np.errstate(divide="ignore"):
        inverse = np.reciprocal(depth)
    far, near = 1.0 / settings.max_m, 1.0 / settings.min_m
    picture = _colour(inverse, far, near, np.isposinf(depth), settings.colormap)
    legend = _metre_legend(depth.shape[0], settings.min_m, settings.max_m, settings.colormap)
    return _compose(picture, legend, image)


def render_relative_preview(
    disparity: ArrayF32, settings: PreviewSettings, image: ImageU8 | None = None
) -> ImageU8:
    """Colour relative disparity between its own extremes; the picture says that it is relative.

    The colours run from the 1st to the 99th percentile of this frame, so that they cannot be
    compared with those of another frame, and there are no metres in the legend.

    Args:
        disparity: hxw float32, larger is nearer, 0 is far.
        settings: the colour map.
        image: HxWx3 uint8 RGB of any size, to be put to the left, or None. The picture then has
            the image's height.

    Returns:
        A picture, uint8 RGB.
    """
    saturated = disparity == 0.0
    measured = disparity[np.isfinite(disparity) & ~saturated]
    far, near = np.percentile(measured, (1.0, 99.0)) if measured.size else (0.0, 1.0)
    picture = _colour(disparity, float(far), float(near), saturated, settings.colormap)
    if image is not None and image.shape[:2] != disparity.shape:
        size = image.shape[1::-1]
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    legend = _relative_legend(picture.shape[0], settings.colormap)
    picture = _compose(picture, legend, image)
    scale = _text_scale(picture.shape[0])
    left = 0 if image is None else image.shape[1]
    at = (left + round(12 * scale), round(40 * scale))
    for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        cv2.putText(picture, "relative", at, _FONT, scale, colour, thickness, cv2.LINE_AA)
    return picture


def _colour(
    inverse: ArrayF32, far: float, near: float, beyond: NDArray[np.bool_], colormap: str
) -> ImageU8:
    """HxWx3 uint8 RGB of HxW inverse depth between the values `far` and `near`."""
    gain = (_LAST - _FIRST) / max(near - far, 1e-12)
    position = inverse * np.float32(gain)
    position += np.float32(_FIRST - gain * far + 0.5)
    invalid = np.isnan(position)
    position[invalid] = 0.0
    index = np.clip(position, _FIRST, _LAST, out=position).astype(np.uint8)
    index[beyond] = _FAR
    index[invalid] = _INVALID
    return np.asarray(cv2.applyColorMap(index, _palette(colormap)), np.uint8)


@lru_cache(maxsize=8)
def _palette(colormap: str) -> ImageU8:
    """256x1x3 uint8 RGB by palette index."""
    ramp = np.linspace(0, 255, _LAST - _FIRST + 1).round().astype(np.uint8)[:, None]
    palette = np.empty((256, 1, 3), np.uint8)
    palette[_INVALID], palette[_FAR] = INVALID_RGB, FAR_RGB
    if colormap == "gray":
        palette[_FIRST:] = ramp[..., None]
    else:
        bgr = cv2.applyColorMap(ramp, _COLORMAPS[colormap])
        palette[_FIRST:] = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return palette


def _text_scale(height: int) -> float:
    return float(np.clip(height / 960.0 + 0.1, 0.25, 1.2))


def _bar(height: int, colormap: str, text: str) -> tuple[ImageU8, int, int, int]:
    """A legend without labels: near on top; its array, the bar's top and bottom, the text's left.

    Args:
        height: pixels.
        colormap: name.
        text: the widest label that will be written on it.
    """
    scale = _text_scale(height)
    label = cv2.getTextSize(text, _FONT, scale, 1)[0]
    thick, margin = round(24 * scale), round(12 * scale)
    canvas = np.full((height, 3 * margin + thick + label[0], 3), 24, np.uint8)
    top, bottom = min(label[1] + margin, height - 1), max(height - label[1] - margin, 1)
    ramp = np.linspace(_LAST, _FIRST, max(bottom - top, 1)).round().astype(np.uint8)
    colours = cv2.applyColorMap(ramp[:, None], _palette(colormap))
    canvas[top : top + len(ramp), margin : margin + thick] = colours
    return canvas, top, top + len(ramp) - 1, 2 * margin + thick


def _label(canvas: ImageU8, text: str, left: int, y: int) -> None:
    scale = _text_scale(canvas.shape[0])
    half = cv2.getTextSize(text, _FONT, scale, 1)[0][1] // 2
    cv2.putText(canvas, text, (left, y + half), _FONT, scale, (235, 235, 235), 1, cv2.LINE_AA)


@lru_cache(maxsize=8)
def _metre_legend(height: int, min_m: float, max_m: float, colormap: str) -> ImageU8:
    """HxNx3 uint8: the colour bar with ticks in metres."""
    labels = {tick: f"{tick:g} m" for tick in (min_m, *_TICKS_M, max_m) if min_m <= tick <= max_m}
    canvas, top, bottom, left = _bar(height, colormap, max(labels.values(), key=len))
    spacing = 30 * _text_scale(height)
    near, far = 1.0 / min_m, 1.0 / max_m
    placed: list[float] = []
    for tick in (max_m, min_m, *sorted(labels)):
        y = bottom - (bottom - top) * (1.0 / tick - far) / (near - far)
        if all(abs(y - other) >= spacing for other in placed):
            placed.append(y)
            cv2.line(canvas, (left - 4, round(y)), (left - 1, round(y)), (235, 235, 235), 1)
            _label(canvas, labels[tick], left + 2, round(y))
    return canvas


@lru_cache(maxsize=8)
def _relative_legend(height: int, colormap: str) -> ImageU8:
    """HxNx3 uint8: the colour bar without units."""
    canvas, top, bottom, left = _bar(height, colormap, "near")
    _label(canvas, "near", left, top)
    _label(canvas, "far", left, bottom)
    return canvas


def _compose(picture: ImageU8, legend: ImageU8, image: ImageU8 | None) -> ImageU8:
    parts = [picture, legend]
    if image is not None:
        size = picture.shape[1::-1]
        if image.shape[:2] != picture.shape[:2]:
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        parts.insert(0, image)
    return np.asarray(cv2.hconcat(parts), np.uint8)
