"""The page of `depth-node eval depth --report`."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_node.evaluation.depth import DepthProtocol
from depth_node.evaluation.depth_frame import ScoredFrame, score_frame
from depth_node.evaluation.depth_report import WorstFrames, write_report
from depth_node.evaluation.depth_summary import DepthSummary
from depth_node.evaluation.recording import TrueFrame
from depth_node.types import Disparity

PROTOCOL = DepthProtocol(0.1, 10.0)


def scored(name: str, noise: float, steps: bool = True) -> ScoredFrame:
    """A frame whose prediction is the truth, spoiled."""
    truth = np.linspace(2.0, 3.0, 96, dtype=np.float32)[None].repeat(64, axis=0)
    if steps:
        truth[20:40, 30:60] = 1.0
    truth[:8] = 0.0
    spoiled = 1 / np.maximum(truth, 1) + np.random.default_rng(0).normal(0, noise, truth.shape)
    image = np.full((64, 96, 3), 128, np.uint8)
    frame = TrueFrame(name, image, truth)
    return score_frame(frame, Disparity(spoiled.astype(np.float32)), PROTOCOL)


@pytest.mark.parametrize("align", ["depth", "none"])
def test_an_image_row_that_is_aligned_otherwise_is_said_so(align):
    protocol = DepthProtocol(0.1, 10.0, align=align)
    summary = DepthSummary("net", "onnxruntime", "fp32", protocol, ())
    assert "(image row: in disparity)" in summary.sentence()


class Page(HTMLParser):
    """The text, the pictures and every other reference of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self.references: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if tag == "img" and name == "src" and value is not None:
                self.pictures.append(value)
            elif name in {"src", "href"}:
                self.references.append(f"{tag} {value}")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture
def page(tmp_path: Path) -> Page:
    frames = [scored("good.png", 0.005), scored("<bad> & worse.png", 0.1), scored("middle", 0.03)]
    worst = WorstFrames(2)
    for frame in frames:
        worst.offer(frame)
    scores = tuple(frame.score for frame in frames)
    summary = DepthSummary("net", "onnxruntime", "fp32", PROTOCOL, scores)
    path = write_report(tmp_path, summary, worst.frames)
    assert path == tmp_path / "index.html"
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_needs_no_other_file(page: Page):
    assert page.references == []
    assert len(page.pictures) == 2 * 5
    for picture in page.pictures:
        head, _, data = picture.partition(",")
        assert head == "data:image/jpeg;base64"
        decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert decoded.shape == (64, 96, 3)


def test_the_worst_frame_comes_first_in_pictures_and_table(page: Page):
    titles = [word for word in page.words if ": AbsRel" in word]
    assert [title.split(":")[0] for title in titles] == ["<bad> & worse.png", "middle"]
    rows = [word for word in page.words if word in {"good.png", "<bad> & worse.png", "middle"}]
    assert rows == ["<bad> & worse.png", "middle", "good.png"]


def test_the_page_says_how_it_was_measured(page: Page):
    text = " ".join(page.words)
    assert "net (onnxruntime fp32), 3 frames" in text
    assert "one scale and shift for each image, least squares in disparity" in text
    assert "depth from 0.1 to 10 m; no crop" in text


def test_only_the_worst_frames_are_kept():
    worst = WorstFrames(1)
    for noise in (0.03, 0.1, 0.005):
        worst.offer(scored(str(noise), noise))
    assert [frame.frame.name for frame in worst.frames] == ["0.1"]


def test_frames_without_contours_do_not_enter_the_mean_of_edges():
    frames = [scored("steps", 0.02), scored("slope", 0.02, steps=False)]
    assert frames[1].score.structure.boundary_f1 is None
    scores = tuple(frame.score for frame in frames)
    summary = DepthSummary("net", "onnxruntime", "fp32", PROTOCOL, scores)
    figures = summary.figures()
    assert figures["frames_with_edges"] == 1
    assert figures["boundary_f1"] == scores[0].structure.boundary_f1
    assert figures["soft_edge_error"] == scores[0].structure.soft_edge_error
    only_slope = DepthSummary("net", "onnxruntime", "fp32", PROTOCOL, scores[1:])
    assert only_slope.figures()["boundary_f1"] is None
    assert only_slope.table().splitlines()[2].endswith("| - | - |")
