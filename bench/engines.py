"""Measure the CPU engines on Depth Anything V2 Small, and precisions on the shipped student.

    python bench/engines.py --data ../shared/data --json

Speed is from a 640x480 uint8 frame in host memory to disparity, Depth Anything V2 Small with
random weights (speed does not depend on them; accuracy would, and is not measured on it). The
baseline `official pytorch` is the official pipeline as the peers' nodes call it: preprocessing in
OpenCV and NumPy, network in PyTorch, disparity resized to the frame. ONNX Runtime is there twice:
as the engine of this package, whose resize OpenCV does, and as a plain session of the whole graph,
front included. Engines take turns, so that whatever else the machine does falls on all of them.

Accuracy is AbsRel after per-image alignment on recorded images, of the student in each precision.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from machine import describe_machine, print_result
from student import SETS, evaluate, recorded

from depth_node.engines.base import EngineError
from depth_node.engines.cache import EngineCache
from depth_node.engines.openvino import OpenVino
from depth_node.engines.ort import OnnxRuntimeCpu
from depth_node.engines.select import Candidate, Loader, load_engine
from depth_node.network.build import export_graphs, export_variants, normalised
from depth_node.network.compose import Size
from depth_node.network.export import load_module
from depth_node.network.frames import WORLD, read_frames
from depth_node.network.graph import read_graph
from depth_node.network.registry import Entry, find_entry
from depth_node.network.resolve import ModelFiles, precisions_of
from depth_node.parameters import ModelSettings
from depth_node.resources import model_path
from depth_node.types import ArrayF32, ImageU8

ROOT = Path(__file__).resolve().parent.parent
NETWORK = "depth-anything-v2-small"
SIZES = ("252x336", "392x518")
OFFICIAL_SIZE = 518
"""Short side that the official pipeline runs at unless it is told otherwise."""
FRAMES = 64
"""Frames for accuracy, as `depth-node models export` takes: half calibrate, half are judged."""
NOISE_FRAMES = 16
"""Frames for speed, which does not depend on what int8 was calibrated on."""
WHOLE_GRAPH = "onnxruntime fp32, whole graph"

Run = Callable[[ImageU8], ArrayF32]


def random_weights(entry: Entry, path: Path) -> None:
    """Write a checkpoint whose random weights keep the signal alive through all layers."""
    import torch

    from depth_node.network.architecture import build_module

    torch.manual_seed(0)
    module = build_module(entry)
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    torch.save(module.state_dict(), path)


def official(entry: Entry, weights: Path, size: Size) -> Run:
    """The official pipeline: OpenCV and NumPy in front, PyTorch fp32, resized to the frame."""
    import torch

    module = load_module(entry, weights)

    def run(image: ImageU8) -> ArrayF32:
        pixels = torch.from_numpy(normalised(entry, size, image))
        with torch.no_grad():
            raw = module(pixels).predicted_depth
            whole = torch.nn.functional.interpolate(
                raw[:, None], image.shape[:2], mode="bilinear", align_corners=True
            )
        return np.asarray(whole[0, 0].numpy())

    return run


def whole_graph(path: Path, threads: int) -> Run:
    """ONNX Runtime as anybody would open the graph, with the threads of the others."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda image: np.asarray(session.run(None, {"image": image})[0])


def contenders(entry: Entry, weights: Path, size: str, threads: int) -> dict[str, Run]:
    """Everything that is measured at one size, by name."""
    from depth_node.engines.torch_engine import Torch

    parsed = Size.parse(size, entry.multiple)
    rng = np.random.default_rng(0)
    frames = list(rng.integers(0, 256, (NOISE_FRAMES, 480, 640, 3), dtype=np.uint8))
    written = export_graphs(entry, weights, parsed, ["int8"], frames, _say)
    graphs = {g.precision: read_graph(g.path) for g in written}
    cache = EngineCache(log=_say)
    runs: dict[str, Run] = {
        "official pytorch": official(entry, weights, parsed),
        "pytorch fp32": _infer(
            Torch(graphs["fp32"], entry, weights, "fp32", threads, allow_cpu=True)
        ),
        "onnxruntime fp32": _infer(OnnxRuntimeCpu(graphs["fp32"], threads)),
        WHOLE_GRAPH: whole_graph(written[0].path, threads),
        "openvino fp32": _infer(OpenVino(graphs["fp32"], "fp32", threads, cache)),
    }
    for precision in ("bf16", "int8"):
        graph = graphs["int8" if precision == "int8" else "fp32"]
        try:
            runs[f"openvino {precision}"] = _infer(OpenVino(graph, precision, threads, cache))
        except EngineError as error:
            _say(f"openvino {precision}: {error}")
    return runs


def measure(runs: dict[str, Run], frames: int) -> dict[str, dict[str, float]]:
    """Time each contender on the same frame, one frame each in turn."""
    frame = np.random.default_rng(1).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    frame = cv2.GaussianBlur(frame, (0, 0), 3)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(frames + 2):
        for name, run in runs.items():
            start = time.perf_counter()
            run(frame)
            if turn >= 2:
                taken[name].append(1e3 * (time.perf_counter() - start))
    return {
        name: {"p50_ms": float(np.percentile(t, 50)), "min_ms": min(t)} for name, t in taken.items()
    }


def speed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Speed at every size, and what the best engine gains."""
    entry = find_entry(NETWORK)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DEPTH_NODE_CACHE"] = folder
        weights = Path(folder) / "random.pth"
        random_weights(entry, weights)
        for size in SIZES:
            _say(f"measuring {size}")
            rows = measure(contenders(entry, weights, size, arguments.threads), arguments.frames)
            ours = [v["p50_ms"] for name, v in rows.items() if name.startswith("openvino")]
            best = min(ours)
            results[size] = {
                **rows,
                "best_over_onnxruntime": rows["onnxruntime fp32"]["p50_ms"] / best,
                "best_over_whole_graph": rows[WHOLE_GRAPH]["p50_ms"] / best,
                "best_over_official": rows["official pytorch"]["p50_ms"] / best,
            }
        default = {"official": official(entry, weights, Size(short=OFFICIAL_SIZE))}
        results["official_at_518"] = measure(default, 3)["official"]
    return results


def accuracy(arguments: argparse.Namespace) -> dict[str, Any]:
    """AbsRel of the student in every precision, and the share by which each is worse than fp32."""
    fp32 = model_path("student.onnx")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DEPTH_NODE_CACHE"] = folder
        frames = read_frames(WORLD, FRAMES)
        export_variants(fp32, ["fp16", "int8"], frames, _say)
        settings = ModelSettings(name="student", threads=arguments.threads)
        files = ModelFiles("student", precisions_of(fp32))
        loader = Loader(files, settings, EngineCache(log=_say))
        results: dict[str, Any] = {}
        for label, candidate in (
            ("fp32", Candidate("onnxruntime", "fp32")),
            ("bf16", Candidate("openvino", "bf16")),
            ("int8", Candidate("openvino", "int8")),
        ):
            try:
                run = _infer(loader.open(candidate))
            except EngineError as error:
                _say(f"{label}: {error}")
                continue
            results[label] = _absrel(run, arguments.data)
        half = OnnxRuntimeCpu(read_graph(files.graphs["fp16"]), arguments.threads)
        results["fp16"] = _absrel(_infer(half), arguments.data)
    wanted = results["fp32"]
    return {
        precision: {
            name: {"absrel": value, "worse_by": value / wanted[name] - 1.0}
            for name, value in sets.items()
        }
        for precision, sets in results.items()
    }


def loading(arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds from settings to a tested engine, for the student: first start, and later ones."""
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DEPTH_NODE_CACHE"] = folder
        for start_number in ("first_s", "cached_s"):
            start = time.perf_counter()
            settings = ModelSettings(name="student", threads=arguments.threads)
            load_engine(settings, _say).close()
            times[start_number] = time.perf_counter() - start
    return times


def _absrel(run: Run, data: Path) -> dict[str, float]:
    return {
        name: evaluate(run, recorded(data / name, source), source.high)["absrel"]
        for name, source in SETS.items()
    }


def _infer(engine: Any) -> Run:
    return lambda image: engine.infer(image).values


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def main() -> int:
    """Measure, print, exit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--frames", type=int, default=20, help="frames timed for each engine")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", choices=("speed", "accuracy", "loading"), help="only this part")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    report: dict[str, Any] = {
        "benchmark": "engines",
        "network": f"{NETWORK}, random weights",
        "frame": "640x480 uint8, host to host",
        "threads": arguments.threads,
    }
    for name, part in (("speed", speed), ("accuracy", accuracy), ("loading", loading)):
        if arguments.only in (None, name):
            report[name] = part(arguments)
    print_result({**report, **describe_machine()}, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
