"""Age of the depth image when a subscriber in another process has it, and where the time goes.

For each image size, with a camera that publishes a topic, the same with a LiDAR of 20,000 points as
the source of scale (else it is a constant), and with a camera that the node opens itself (a
motion-JPEG file, stamped when an image is due): percentiles of the time from stamp to
subscriber, and the median time of every stage on the way. What the stages leave over is the way
from the node to the subscriber, with its deserialisation. `--plot FILE` draws it.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from live import INSTANT, Scene, running, write_video
from machine import describe_machine, print_result

from depth_node.domain import private_domain

SIZES = {"640x480": (640, 480), "1280x720": (1280, 720)}
STAGES = (
    "transport",
    "waiting",
    "conversion",
    "rectification",
    "network",
    "scale",
    "depth",
    "packing",
    "publishing",
)
ONWARD = "to the subscriber"
SETTLE_S = 3.0


def measure(scene: Scene, seconds: float) -> dict[str, Any]:
    """Percentiles and stages of one scene, milliseconds."""
    with running(scene, cloud=False) as (observer, _, _):
        observer.spin(SETTLE_S)
        begun = len(observer.depth_ms)
        observer.spin(seconds)
        ages = np.array(observer.depth_ms[begun:])[:, 1]
        values = dict(observer.values)
    stages = {
        name: float(values[f"{name}_ms.p50"]) for name in STAGES if f"{name}_ms.p50" in values
    }
    p50, p99 = (round(float(value), 2) for value in np.percentile(ages, (50, 99)))
    stages[ONWARD] = round(max(p50 - sum(stages.values()), 0.0), 2)
    network_p50, network_p99 = (float(values[f"network_ms.{q}"]) for q in ("p50", "p99"))
    return {
        "image": f"{scene.width}x{scene.height}",
        "camera": "built in" if scene.video else "topic",
        "scale": "LiDAR" if scene.lidar else "constant",
        "p50_ms": p50,
        "p99_ms": p99,
        "p99_beyond_network_ms": round(p99 - network_p99, 2),
        "p99_beyond_median_network_ms": round(p99 - network_p50, 2),
        "rate_hz": float(values["rate_out_hz"]),
        "frames": len(ages),
        "stages_p50_ms": stages,
        "share_percent": {name: round(100.0 * ms / p50, 1) for name, ms in stages.items()},
        "engine": values["engine"],
        "network": values["network"],
    }


def plot(runs: list[dict[str, Any]], path: Path) -> None:
    """Draw a bar a run, divided by stage, with a mark at the 99th percentile."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.7 * len(runs)), layout="constrained")
    labels = [f"{run['image']}\n{run['camera']}, {run['scale']} scale" for run in runs]
    colours = plt.get_cmap("tab20")
    left = np.zeros(len(runs))
    for index, stage in enumerate((*STAGES, ONWARD)):
        widths = np.array([run["stages_p50_ms"].get(stage, 0.0) for run in runs])
        axes.barh(labels, widths, left=left, label=stage, color=colours(index), height=0.6)
        left += widths
    p99 = [run["p99_ms"] for run in runs]
    axes.plot(p99, labels, "k|", markersize=22, markeredgewidth=2, label="99th percentile")
    axes.invert_yaxis()
    axes.set_xlim(0.0, 1.05 * max(p99))
    axes.set_xlabel("from the image's stamp to the depth image in another process, ms (medians)")
    axes.set_title(f"{runs[0]['network']}, {runs[0]['engine']}", fontsize=10)
    axes.legend(fontsize=8, markerscale=0.4, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=120)


def main() -> None:
    """Parse the command line, run every combination, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of each run")
    parser.add_argument("--rate", type=float, default=30.0, help="camera rate, Hz")
    parser.add_argument(
        "--network", default="auto", help=f"model.name of the node, or `{INSTANT}` for a constant"
    )
    parser.add_argument(
        "--image", choices=tuple(SIZES), action="append", help="one size; may be repeated"
    )
    parser.add_argument("--plot", type=Path, help="draw the figures into this file")
    args = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for width, height in (SIZES[name] for name in args.image or SIZES):
            video = Path(folder) / f"{width}.avi"
            write_video(video, width, height, args.rate)
            topic = Scene(width, height, args.rate, args.network)
            for scene in (topic, replace(topic, lidar=True), replace(topic, video=str(video))):
                with private_domain():
                    runs.append(measure(scene, args.seconds))
    if args.plot:
        plot(runs, args.plot)
    result = {"benchmark": "latency", "camera_hz": args.rate, "runs": runs}
    print_result({**result, **describe_machine()}, as_json=args.json)


if __name__ == "__main__":
    main()
