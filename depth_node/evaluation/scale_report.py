"""A picture of one scale evaluation: where it errs, what it knows of that, which points it used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from depth_node.evaluation.scale import Given, Result, Scene

_ERROR_RANGE = 0.2
_SIGMA_RANGE = 0.2


def write_report(path: Path, scene: Scene, given: Given, result: Result) -> None:
    """Draw depth, error, sigma and the points into one image file.

    Args:
        path: PNG, PDF or SVG to write.
        scene: the frame.
        given: the points it was given.
        result: what came out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = scene.truth.shape
    figure = Figure(figsize=(9.0, 4 * (8.4 * height / width + 0.3)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(4, 1)
    ours = result.figures["methods"].get("ours")
    figures = f"AbsRel {ours['absrel']:.4f}, delta1 {ours['delta1']:.3f}" if ours else "no metres"
    coverage = result.figures.get("coverage_90")
    far = float(np.percentile(scene.truth[scene.truth > 0.0], 98))
    truth = np.where(result.tested, scene.truth, np.float32(np.nan))
    error = np.abs(result.depth - truth) / truth
    finite = np.where(np.isfinite(result.depth), result.depth, np.nan)
    panels = (
        (f"depth, metres ({figures})", finite, far, "turbo_r"),
        ("relative error on pixels not given", _thick(error), _ERROR_RANGE, "inferno"),
        (
            "relative sigma" + (f" (90% interval covers {coverage:.1%})" if coverage else ""),
            result.sigma / finite,
            _SIGMA_RANGE,
            "viridis",
        ),
    )
    for axis, (title, values, top, colours) in zip(axes, panels, strict=False):
        picture = axis.imshow(values, vmin=0.0, vmax=top, cmap=colours, interpolation="nearest")
        figure.colorbar(picture, ax=axis, fraction=0.02, pad=0.01, aspect=40 * height / width)
        axis.set_title(title, fontsize=9)
    axis = axes[3]
    axis.imshow(scene.disparity, cmap="gray", vmax=float(np.percentile(scene.disparity, 99)))
    used = result.used
    size = float(np.clip(4000 / max(len(given.u), 1), 0.4, 12))
    for chosen, colour, name in ((used, "tab:green", "agree"), (~used, "tab:red", "contradict")):
        label = f"{name}: {int(chosen.sum())}"
        axis.scatter(given.u[chosen], given.v[chosen], s=size, c=colour, label=label, linewidths=0)
    axis.set_title("points given, on the disparity", fontsize=9)
    axis.legend(loc="upper right", fontsize=8, markerscale=3)
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(path, dpi=110)


def _thick(sparse: NDArray[np.floating]) -> NDArray[np.floating]:
    """Spread every value over the empty pixel above and left of it, so that it can be seen."""
    out = sparse.copy()
    for shifted in (out[1:, :], out[:, 1:]):
        target = out[: shifted.shape[0], : shifted.shape[1]]
        np.copyto(target, shifted.copy(), where=np.isnan(target) & ~np.isnan(shifted))
    return out
