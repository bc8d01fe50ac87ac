"""The figures of a depth evaluation: as numbers, as a table, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from depth_node.evaluation.depth import DepthProtocol, mean_metrics
from depth_node.evaluation.depth_frame import FrameScore

COLUMNS: dict[str, tuple[str, int]] = {
    "absrel": ("AbsRel", 3),
    "sqrel": ("SqRel (m)", 3),
    "rmse": ("RMSE (m)", 3),
    "log_rmse": ("log RMSE", 3),
    "delta1": ("delta1", 3),
    "delta2": ("delta2", 3),
    "delta3": ("delta3", 3),
    "ssim": ("SSIM", 3),
    "soft_edge_error": ("SEE (m)", 3),
    "boundary_f1": ("boundary F1", 3),
}
"""Figure to the head of its column and its decimals."""

_WHAT_IS_ALIGNED = {
    "disparity": "one scale and shift for each image, least squares in disparity",
    "depth": "one scale and shift for each image, least squares in depth (image row: in disparity)",
    "none": "nothing is aligned: metres as the network gives them (image row: in disparity)",
}
_CROPS = {"none": "no crop", "garg": "Garg's crop", "eigen": "Eigen's crop"}


@dataclass(frozen=True)
class DepthSummary:
    """All scores of one network on one set.

    Attributes:
        model: the network.
        engine: what ran it.
        precision: of the engine.
        protocol: how it was measured.
        scores: of every frame.
    """

    model: str
    engine: str
    precision: str
    protocol: DepthProtocol
    scores: tuple[FrameScore, ...]

    def means(self) -> dict[str, float | None]:
        """Mean over frames of every figure; None for what no frame has."""
        structures = [asdict(score.structure) for score in self.scores]
        return {
            **asdict(mean_metrics([score.errors for score in self.scores])),
            **{name: _mean([row[name] for row in structures]) for name in structures[0]},
        }

    def baseline(self) -> dict[str, float]:
        """The same of the image row, errors only; always aligned in disparity."""
        return asdict(mean_metrics([score.baseline for score in self.scores]))

    def figures(self) -> dict[str, Any]:
        """Everything as one JSON object."""
        protocol = self.protocol
        return {
            "model": self.model,
            "engine": self.engine,
            "precision": self.precision,
            "frames": len(self.scores),
            "frames_with_edges": len(self.scores)
            - [score.structure.boundary_f1 for score in self.scores].count(None),
            "align": protocol.align,
            "crop": protocol.crop,
            "benchmark_crop": protocol.benchmark,
            "range_m": [protocol.low, protocol.high],
            **self.means(),
            "row_baseline": self.baseline(),
        }

    def sentence(self) -> str:
        """What was measured and how, in words."""
        protocol = self.protocol
        crop = "KITTI's benchmark crop, then " if protocol.benchmark else ""
        return (
            f"{self.model} ({self.engine} {self.precision}), {len(self.scores)} frames; "
            f"{_WHAT_IS_ALIGNED[protocol.align]}; depth from {protocol.low:g} to "
            f"{protocol.high:g} m; {crop}{_CROPS[protocol.crop]}"
        )

    def table(self) -> str:
        """Means beside the baseline's, as Markdown."""
        lines = [
            "| | " + " | ".join(title for title, _ in COLUMNS.values()) + " |",
            "|---" * (1 + len(COLUMNS)) + "|",
        ]
        rows = (self.model, row_cells(self.means())), ("image row", row_cells(self.baseline()))
        lines += [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows]
        return "\n".join(lines)

    def worst_first(self) -> list[FrameScore]:
        """The frames by falling AbsRel."""
        return sorted(self.scores, key=lambda score: -score.errors.absrel)


def row_cells(figures: Mapping[str, float | None]) -> list[str]:
    """One table row: a text for every column, `-` for what was not measured."""
    values = ((figures.get(name), digits) for name, (_, digits) in COLUMNS.items())
    return ["-" if value is None else f"{value:.{digits}f}" for value, digits in values]


def frame_cells(score: FrameScore) -> list[str]:
    """The same of one frame."""
    return row_cells({**asdict(score.errors), **asdict(score.structure)})


def _mean(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return sum(measured) / len(measured) if measured else None
