"""The node for a long time at 30 Hz: does memory grow, does it slow down, is any frame uncounted?

A camera process publishes 640x480 images and a LiDAR process clouds of 20,000 points at 10 Hz, from
which the node takes its scale; it makes depth images and full xyz+rgb clouds, and this process
subscribes to both. The full form takes an hour (`--seconds 3600`). `uncounted` are frames that
neither came out nor were counted as dropped when the node has come to rest; the frames lost before
and after the node include the first few, while DDS connects the processes. `met` says whether the
run keeps within the `bars`.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from live import INSTANT, Observer, Running, Scene, running
from machine import describe_machine, print_result

from depth_node.domain import private_domain

BARS = {"memory_growth_percent": 1.0, "latency_p99_ratio": 1.1, "uncounted": 0}
"""The most that a run of an hour may show."""


def measure(scene: Scene, seconds: float) -> dict[str, Any]:
    """Run for so long after a warm-up of a fifth of it, at most a minute."""
    warm_up_s = min(60.0, 0.2 * seconds)
    window_s = min(60.0, 0.25 * seconds)
    with running(scene, cloud=True) as (observer, node, camera):
        assert camera is not None
        observer.spin(warm_up_s)
        first = len(observer.depth_ms)
        memory_mb = [_watch(observer, node) for _ in range(max(int(seconds), 8))]
        measured = np.array(observer.depth_ms[first:])
        sent = int(camera.end())
        observer.spin(2.5)  # the last frames leave the node, and a report says so
        counts = dict(observer.values)
        depth_images, clouds = len(observer.depth_ms), observer.clouds
    at_s, latency_ms = measured.T
    early = latency_ms[at_s < at_s[0] + window_s]
    late = latency_ms[at_s > at_s[-1] - window_s]
    p99 = [round(float(np.percentile(window, 99)), 2) for window in (early, late)]
    few = max(len(memory_mb) // 10, 3)
    begin_mb, end_mb = np.median(memory_mb[:few], axis=0), np.median(memory_mb[-few:], axis=0)
    growth_percent, private_growth_percent = 100.0 * (end_mb / begin_mb - 1.0)
    received, published = int(counts["received"]), int(counts["published"])
    figures = {
        "seconds": seconds,
        "memory_mb": {"after_warm_up": round(begin_mb[0], 1), "end": round(end_mb[0], 1)},
        "memory_growth_percent": round(growth_percent, 2),
        "private_memory_mb": {"after_warm_up": round(begin_mb[1], 1), "end": round(end_mb[1], 1)},
        "private_memory_growth_percent": round(private_growth_percent, 2),
        "latency_p99_ms": {"first": p99[0], "last": p99[1], "window_s": window_s},
        "latency_p99_ratio": round(p99[1] / p99[0], 3),
        "latency_p50_ms": round(float(np.median(latency_ms)), 2),
        "rate_hz": round((len(at_s) - 1) / (at_s[-1] - at_s[0]), 2),
        "frames": {"sent": sent, "received": received, "published": published},
        "seen": {"depth_images": depth_images, "clouds": clouds},
        "dropped": {key[9:]: int(n) for key, n in counts.items() if key.startswith("dropped: ")},
        "uncounted": abs(received - published - int(counts["dropped"])),
        "lost_before_the_node": sent - received,
        "lost_after_the_node": published - depth_images,
        "scale": counts["scale"],
        "lidar": counts.get("lidar", "none"),
    }
    met = all(figures[name] <= bar for name, bar in BARS.items())
    return {**figures, "bars": BARS, "met": met}


def _watch(observer: Observer, node: Running) -> tuple[float, float]:
    """A second of listening, and the node's memory at its end, resident and private, megabytes."""
    observer.spin(1.0)
    return node.memory_mb()


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=300.0, help="length after the warm-up")
    parser.add_argument("--rate", type=float, default=30.0, help="camera rate, Hz")
    parser.add_argument(
        "--network", default=INSTANT, help="model.name of the node, or one that answers at once"
    )
    args = parser.parse_args()
    scene = Scene(640, 480, args.rate, args.network, lidar=True)
    with private_domain():
        figures = measure(scene, args.seconds)
    about = {"benchmark": "soak", "image": "640x480", "network": args.network}
    print_result({**about, **figures, **describe_machine()}, as_json=args.json)


if __name__ == "__main__":
    main()
