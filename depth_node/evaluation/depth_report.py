"""The page of a depth evaluation: figures, every frame, and pictures of the worst ones."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

import cv2
import numpy as np

from depth_node.evaluation.depth import EvaluationError, Mask
from depth_node.evaluation.depth_frame import ScoredFrame
from depth_node.evaluation.depth_summary import COLUMNS, DepthSummary, frame_cells, row_cells
from depth_node.geometry.preview import INVALID_RGB, render_preview
from depth_node.parameters import PreviewSettings
from depth_node.types import ArrayF32, ImageU8

LARGEST_ERROR = 0.5
"""Relative error that gets the brightest colour."""

_WIDTH = 480
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 88)

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Depth of $model</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 100rem;
  padding: 0 1rem; color: #1c2430; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #dde2e8; }
th:first-child, td:first-child { text-align: left; }
thead th { position: sticky; top: 0; background: #f1f4f7; }
.frame { display: grid; grid-template-columns: repeat(5, 1fr); gap: .5rem; }
figure { margin: 0; } figure img { width: 100%; display: block; }
figcaption { font-size: .8rem; color: #55606e; }
</style>
<h1>Depth of $model</h1>
<p>$sentence.</p>
<table><thead><tr><th></th>$heads</tr></thead><tbody>$means</tbody></table>
<p>AbsRel, SqRel, RMSE, log RMSE and SEE (soft edge error, at contours of the truth): less is
better. delta1 to delta3 (share of pixels within 1.25, 1.25&sup2;, 1.25&sup3;), SSIM and boundary
F1: more is better. <em>image row</em> is the best affine function of the row in disparity, the
blindest prediction. <b>-</b> was not measured: the truth shows no contours.</p>
<h2>Worst frames</h2>
$frames
<h2>All frames, worst first</h2>
<table><thead><tr><th>frame</th>$heads</tr></thead><tbody>$scores</tbody></table>
</html>
""")


class WorstFrames:
    """Keeps the frames with the largest AbsRel that were offered, worst first.

    Attributes:
        frames: at most `count` of them.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.frames: list[ScoredFrame] = []

    def offer(self, scored: ScoredFrame) -> None:
        """Keep a frame if it belongs to the worst."""
        self.frames.append(scored)
        self.frames.sort(key=lambda kept: -kept.score.errors.absrel)
        del self.frames[self._count :]


def make_folder(folder: Path) -> None:
    """Make the report's folder, before hours of evaluation rather than after them.

    Raises:
        EvaluationError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"--report {folder} is no folder for a report: {error}") from error


def write_report(folder: Path, summary: DepthSummary, worst: Sequence[ScoredFrame]) -> Path:
    """Write one page that needs no other file: pictures are inside.

    Args:
        folder: from `make_folder`.
        summary: the figures.
        worst: the frames to show.

    Returns:
        The page, `index.html` in the folder.
    """
    page = _PAGE.substitute(
        model=escape(summary.model),
        sentence=escape(summary.sentence()),
        heads="".join(f"<th>{escape(title)}</th>" for title, _ in COLUMNS.values()),
        means=_row(summary.model, row_cells(summary.means()))
        + _row("image row", row_cells(summary.baseline())),
        frames="\n".join(_frame(scored) for scored in worst),
        scores="\n".join(_row(s.name, frame_cells(s)) for s in summary.worst_first()),
    )
    path = folder / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def _row(name: str, cells: list[str]) -> str:
    return f"<tr><td>{escape(name)}</td>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>"


def _frame(scored: ScoredFrame) -> str:
    score = scored.score
    title = f"{score.name}: AbsRel {score.errors.absrel:.3f}, delta1 {score.errors.delta1:.3f}"
    figures = "".join(
        f'<figure><img alt="{escape(caption)}" src="{_data_uri(picture)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, picture in _pictures(scored)
    )
    return f'<h3>{escape(title)}</h3><div class="frame">{figures}</div>'


def _pictures(scored: ScoredFrame) -> list[tuple[str, ImageU8]]:
    """Caption and RGB picture of everything there is to see of a frame."""
    truth, predicted, mask = scored.frame.truth, scored.predicted, scored.mask
    near, far = (float(x) for x in np.percentile(truth[mask], (1.0, 99.0)))
    far = max(far, 1.01 * near)
    known = np.where(mask, truth, np.float32(np.nan))
    error = np.asarray(np.abs(predicted - known) / known, np.float32)
    structure = scored.score.structure
    return [
        ("input", scored.frame.image),
        (f"prediction, {near:.2f} m red, {far:.2f} m violet", _coloured(predicted, near, far)),
        ("truth that counts, in the same colours", _coloured(known, near, far)),
        (f"relative error, white is {LARGEST_ERROR:.0%}", _heat(error, LARGEST_ERROR, mask)),
        (
            f"1 - SSIM (mean SSIM {structure.ssim:.3f})",
            _heat(np.float32(1.0) - scored.similarity, 1.0, mask),
        ),
    ]


def _coloured(depth: ArrayF32, near: float, far: float) -> ImageU8:
    picture = render_preview(depth, PreviewSettings(min_m=near, max_m=far))
    return picture[:, : depth.shape[1]]  # the caption says what the legend on the right would


def _heat(values: ArrayF32, top: float, mask: Mask) -> ImageU8:
    """Colours from black at 0 to white at `top`; RGB."""
    level = np.clip(np.where(mask, values, 0.0) * (255.0 / top), 0.0, 255.0).astype(np.uint8)
    bgr = cv2.applyColorMap(level, cv2.COLORMAP_HOT)
    picture = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    picture[~mask] = INVALID_RGB
    return picture


def _data_uri(picture: ImageU8) -> str:
    height, width = picture.shape[:2]
    if width > _WIDTH:
        size = (_WIDTH, round(height * _WIDTH / width))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), _JPEG)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
