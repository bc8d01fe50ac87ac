"""Accuracy on pairs of points, in the annotation format of DA-2K."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_node.cli import main
from depth_node.evaluation.depth import EvaluationError
from depth_node.evaluation.pairs import count_right, load_annotations

BOTTOM, TOP = [230, 160], [10, 40]


def annotate(folder: Path, table: object) -> Path:
    path = folder / "annotations.json"
    path.write_text(json.dumps(table))
    return path


def mark(first: list[int], second: list[int], closer: str = "point1") -> dict[str, object]:
    return {"point1": first, "point2": second, "closer_point": closer}


def test_a_pair_is_right_when_the_nearer_point_has_more_disparity(tmp_path: Path):
    disparity = np.arange(12, dtype=np.float32).reshape(3, 4)  # grows by row, then by column
    disparity[1, 1] = disparity[1, 2]
    marks = [
        mark([2, 3], [0, 0]),  # right
        mark([0, 0], [2, 3], "point2"),  # the same in other words: right
        mark([0, 1], [0, 2]),  # wrong
        mark([1, 1], [1, 2]),  # equal: not right
        mark([1, 0], [0, 3]),  # right only when the row comes first
    ]
    (marked,) = load_annotations(annotate(tmp_path, {"images/indoor/a.jpg": marks}))
    assert marked.path == tmp_path / "images/indoor/a.jpg"
    assert marked.scene == "indoor"
    assert count_right(disparity, marked) == 3


def test_a_point_outside_the_image_is_refused(tmp_path: Path):
    (marked,) = load_annotations(annotate(tmp_path, {"a.jpg": [mark([3, 0], [0, 0])]}))
    with pytest.raises(EvaluationError, match="row 3, column 0 lies outside"):
        count_right(np.zeros((3, 4), np.float32), marked)


@pytest.mark.parametrize(
    "table",
    [
        [],
        {},
        {"a.jpg": []},
        {"a.jpg": [{"point1": [1, 2], "point2": [3, 4]}]},
        {"a.jpg": [mark([1, 2], [3, 4], "point3")]},
        {"a.jpg": [mark([1, 2, 3], [3, 4])]},
        {"a.jpg": "point1"},
    ],
)
def test_what_is_no_annotation_is_refused(tmp_path: Path, table: object):
    with pytest.raises(EvaluationError, match=r"annotations\.json"):
        load_annotations(annotate(tmp_path, table))


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(EvaluationError, match=r"nothing\.json"):
        load_annotations(tmp_path / "nothing.json")


def test_the_command_counts_by_scene(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Contradicting marks: whatever the network sees, one of each two is right."""
    image = np.full((240, 320, 3), 120, np.uint8)
    image[120:] = (60, 120, 160)
    for scene in ("indoor", "outdoor"):
        (tmp_path / scene).mkdir()
        cv2.imwrite(str(tmp_path / scene / "a.jpg"), image)
    both = [mark(BOTTOM, TOP), mark(BOTTOM, TOP, "point2")]
    path = annotate(tmp_path, {"indoor/a.jpg": both, "outdoor/a.jpg": both})
    command = ["eval", "pairs", "--annotations", str(path), "--model", "student"]
    assert main([*command, "--engine", "onnxruntime", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["images"], result["pairs"], result["accuracy"]) == (2, 4, 0.5)
    assert result["accuracy_by_scene"] == {"indoor": 0.5, "outdoor": 0.5}
