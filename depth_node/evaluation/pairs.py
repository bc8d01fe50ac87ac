"""Ordinal accuracy: of two marked points, does the network see the nearer one as nearer?

The measure of DA-2K (Yang et al., Depth Anything V2, arXiv 2406.09414, section 6): no scale, no
shift and no dense ground truth enter it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depth_node.evaluation.depth import EvaluationError
from depth_node.types import ArrayF32

Pixel = tuple[int, int]


@dataclass(frozen=True)
class MarkedImage:
    """An image with pairs of points.

    Attributes:
        path: of the image.
        scene: the folder it is in, which names the kind of scene in DA-2K.
        pairs: (nearer, farther), each (row, column) in pixels of the image.
    """

    path: Path
    scene: str
    pairs: tuple[tuple[Pixel, Pixel], ...]


def load_annotations(path: Path) -> list[MarkedImage]:
    """Read annotations in the form of DA-2K.

    Args:
        path: JSON, `{"image": [{"point1": [row, column], "point2": [row, column], "closer_point":
            "point1"}, ...], ...}`; images are relative to the file's folder.

    Raises:
        EvaluationError: the file cannot be read, or is not of this form.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} holds no annotations: {error}") from error
    if not isinstance(table, dict) or not table:
        raise EvaluationError(f"{path} must hold an object of image names, each with its pairs")
    try:
        return [
            MarkedImage(path.parent / name, Path(name).parent.name, _pairs(marks))
            for name, marks in table.items()
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise EvaluationError(
            f"{path} is not in the form of DA-2K ({error!r}): every image has pairs, and a pair is "
            "point1 and point2, each [row, column], and closer_point, which names one of them"
        ) from error


def _pairs(marks: list[dict[str, Any]]) -> tuple[tuple[Pixel, Pixel], ...]:
    if not marks:
        raise ValueError("an image without pairs")
    return tuple(_pair(mark) for mark in marks)


def _pair(mark: dict[str, Any]) -> tuple[Pixel, Pixel]:
    farther = {"point1": "point2", "point2": "point1"}[mark["closer_point"]]
    return _pixel(mark[mark["closer_point"]]), _pixel(mark[farther])


def _pixel(numbers: list[float]) -> Pixel:
    row, column = numbers
    return int(row), int(column)


def count_right(disparity: ArrayF32, marked: MarkedImage) -> int:
    """How many pairs have the larger disparity at the nearer point; equal ones do not.

    Args:
        disparity: HxW float32 at the image's size, larger is nearer.
        marked: the pairs.

    Raises:
        EvaluationError: a point lies outside the image.
    """
    height, width = disparity.shape
    for row, column in (pixel for pair in marked.pairs for pixel in pair):
        if not (0 <= row < height and 0 <= column < width):
            raise EvaluationError(
                f"{marked.path.name} has {width}x{height} pixels, and a point at row {row}, column "
                f"{column} lies outside; points are [row, column]"
            )
    return sum(bool(disparity[nearer] > disparity[farther]) for nearer, farther in marked.pairs)
