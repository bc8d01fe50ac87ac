"""Measure the shipped student: accuracy on recorded frames and on the world, and speed.

    python bench/student.py --data ../shared/data --json

Accuracy follows depth_node.evaluation.depth: scale and shift of every image by least squares in
disparity. The row baseline is the best affine function of the image row under the same protocol.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from machine import describe_machine, print_result

import depth_node.world
from depth_node.evaluation import depth as protocol
from depth_node.types import ArrayF32, ImageU8

ROOT = Path(__file__).resolve().parent.parent
WORLD_SEED = 10_000_000
"""Training draws its scenes from seeds far below."""

WORLD_RANGE = 80.0
"""Metres; what is farther in the world does not count."""

Predict = Callable[[ImageU8], ArrayF32]


@dataclass(frozen=True)
class RecordedSet:
    """A folder of images with depth.

    Attributes:
        colour: glob of the images, sorted together with `depth`.
        depth: glob of the depth images.
        per_metre: stored units in a metre.
        high: farthest depth that counts, metres.
    """

    colour: str
    depth: str
    per_metre: float
    high: float


SETS = {
    "sevenscenes": RecordedSet("*.color.jpg", "*.depth.png", 1000, 10),
    "go1_realsense": RecordedSet("color_*.jpg", "depth_*.png", 1000, 8),
    "tum": RecordedSet("color/*.png", "depth/*.pgm", 1000, 10),
    "kitti_depth": RecordedSet("rgb_*.png", "depth_*.png", 256, 80),
}


def recorded(folder: Path, source: RecordedSet) -> Iterator[tuple[str, ImageU8, ArrayF32]]:
    """Yield name, HxWx3 uint8 RGB and HxW float32 metres (0 is unknown) of every frame."""
    images, depths = sorted(folder.glob(source.colour)), sorted(folder.glob(source.depth))
    if not images or len(images) != len(depths):
        raise SystemExit(f"{folder}: {len(images)} images and {len(depths)} depth images")
    for image_path, depth_path in zip(images, depths, strict=True):
        image = cv2.cvtColor(cv2.imread(str(image_path)), cv2.COLOR_BGR2RGB)
        raw = cv2.imread(str(depth_path), cv2.IMREAD_UNCHANGED)
        raw = np.where(raw == 65535, 0, raw)
        yield image_path.name, np.asarray(image), (raw / source.per_metre).astype(np.float32)


def world(count: int) -> Iterator[tuple[str, ImageU8, ArrayF32]]:
    """Yield unseen frames of the world, as `recorded` does; sky is Inf."""
    for seed in range(WORLD_SEED, WORLD_SEED + count):
        image, metres = depth_node.world.sample(seed, 320, 240)
        yield f"seed {seed}", image, metres


def evaluate(
    predict: Predict, frames: Iterator[tuple[str, ImageU8, ArrayF32]], high: float
) -> dict[str, Any]:
    """Run the protocol over frames: means of the network and of the row baseline."""
    ours, rows = [], []
    for _, image, metres in frames:
        mask = protocol.valid_mask(metres, 1e-3, high)
        ours.append(protocol.evaluate_disparity(predict(image), metres, mask, 1e-3, high))
        baseline = protocol.row_baseline(*metres.shape)
        rows.append(protocol.evaluate_disparity(baseline, metres, mask, 1e-3, high))
    return {
        "frames": len(ours),
        **asdict(protocol.mean_metrics(ours)),
        "row_baseline": asdict(protocol.mean_metrics(rows)),
    }


def engines(model: Path, threads: int) -> dict[str, Predict]:
    """Load the model in every runtime that is here."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    found: dict[str, Predict] = {
        f"onnxruntime {onnxruntime.__version__}": lambda image: session.run(None, {"image": image})[
            0
        ]
    }
    try:
        import openvino
    except ImportError:
        return found
    for precision in ("f32", "bf16"):
        compiled = openvino.Core().compile_model(
            str(model),
            "CPU",
            {
                "INFERENCE_NUM_THREADS": threads,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": precision,
            },
        )
        request = compiled.create_infer_request()
        found[f"openvino {openvino.__version__[:8]} {precision}"] = lambda image, request=request: (
            request.infer({"image": image})[0].copy()
        )
    return found


def speed(predict: Predict, runs: int) -> dict[str, float]:
    """Time one 640x480 uint8 frame in, disparity out."""
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    for _ in range(5):
        predict(image)
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        predict(image)
        taken.append(1e3 * (time.perf_counter() - start))
    return {
        "p50_ms": float(np.percentile(taken, 50)),
        "p99_ms": float(np.percentile(taken, 99)),
        "minimum_ms": min(taken),
        "rate_hz": 1e3 / float(np.percentile(taken, 50)),
    }


def worst_first(
    predict: Predict, frames: Iterator[tuple[str, ImageU8, ArrayF32]], count: int = 12
) -> ImageU8:
    """Draw image, prediction and truth (bright is near) of the frames with the largest AbsRel.

    Returns:
        BGR uint8, three frames in a row.
    """
    rows = []
    for _, image, metres in frames:
        mask = protocol.valid_mask(metres, 1e-3, WORLD_RANGE)
        disparity = cv2.resize(predict(image), (image.shape[1], image.shape[0]))
        scale, shift = protocol.align_disparity(disparity, metres, mask)
        depth = protocol.aligned_depth(disparity, scale, shift, 1e-3, WORLD_RANGE)
        error = protocol.depth_metrics(depth, metres, mask).absrel
        with np.errstate(divide="ignore"):
            truth = 1 / metres
        high = float(np.percentile(truth, 99))
        maps = [
            cv2.applyColorMap(np.uint8(255 * np.clip(d / high, 0, 1)), cv2.COLORMAP_INFERNO)
            for d in (1 / depth, truth)
        ]
        picture = np.hstack([image[..., ::-1], *maps])
        label = f"AbsRel {error:.2f}"
        cv2.putText(picture, label, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
        rows.append((error, picture))
    worst = [picture for _, picture in sorted(rows, key=lambda row: -row[0])[:count]]
    worst += [np.zeros_like(worst[0])] * (-len(worst) % 3)
    return np.vstack([np.hstack(worst[i : i + 3]) for i in range(0, len(worst), 3)])


def main() -> int:
    """Measure, print, exit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "student.onnx")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--world-frames", type=int, default=100)
    parser.add_argument("--runs", type=int, default=100, help="frames timed in each runtime")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--pictures", type=Path, help="PNG to write: the world's frames with the largest errors"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()

    loaded = engines(args.model, args.threads)
    predict = next(iter(loaded.values()))
    report: dict[str, Any] = {
        "benchmark": "student",
        "model": args.model.name,
        "bytes": args.model.stat().st_size,
        "threads": args.threads,
    }
    for name, engine in loaded.items():
        report[f"speed, {name}"] = speed(engine, args.runs)
    for name, source in SETS.items():
        folder = args.data / name
        if folder.is_dir():
            report[name] = evaluate(predict, recorded(folder, source), source.high)
    if args.world_frames:
        report["world"] = evaluate(predict, world(args.world_frames), WORLD_RANGE)
    if args.pictures:
        cv2.imwrite(str(args.pictures), worst_first(predict, world(args.world_frames)))
    print_result({**report, **describe_machine()}, as_json=args.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
