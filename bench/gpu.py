"""Measure the GPU engines on Depth Anything V2 Small, on any NVIDIA GPU.

    python bench/gpu.py --json > bench/gpu.json

Random weights: speed does not depend on them. Host to host is from a 640x480 uint8 frame in host
memory to float32 disparity in host memory, by the clock; network time is that of the CUDA graph
alone, by device events (PyTorch). Engines that are not installed are named with the reason.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from engines import NETWORK, random_weights
from machine import describe_machine, print_result

from depth_node.engines.base import EngineError
from depth_node.engines.cache import EngineCache
from depth_node.engines.select import Candidate, Loader
from depth_node.engines.torch_engine import Torch
from depth_node.network.adopt import add_checkpoint
from depth_node.network.build import export_graphs
from depth_node.network.compose import Size
from depth_node.network.registry import Entry, find_entry
from depth_node.network.resolve import ModelFiles
from depth_node.parameters import ModelSettings

SIZES = ("518x518", "392x518", "252x336")
BATCHES = (1, 4)
CANDIDATES = tuple(
    Candidate(engine, precision)
    for engine in ("tensorrt", "onnxruntime-tensorrt", "onnxruntime-cuda", "torch")
    for precision in ("fp16", "fp32")
)
FRAME = (480, 640, 3)


def host_to_host(engine: Any, frames: int) -> dict[str, float]:
    """First frame and steady state of one engine, milliseconds."""
    frame = np.random.default_rng(1).integers(0, 256, FRAME, dtype=np.uint8)
    taken = []
    for _ in range(frames + 1):
        start = time.perf_counter()
        engine.infer(frame)
        taken.append(1e3 * (time.perf_counter() - start))
    steady = taken[1:]
    return {
        "first_ms": taken[0],
        "host_to_host_p50_ms": float(np.percentile(steady, 50)),
        "host_to_host_p99_ms": float(np.percentile(steady, 99)),
    }


def network_time(engine: Torch, batch: int, runs: int) -> dict[str, float]:
    """The CUDA graph alone, for a batch of frames: milliseconds by device events, and memory."""
    import torch

    torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode():
        graph, _, _ = engine.record((batch, *FRAME))
        for _ in range(10):
            graph.replay()
        taken = []
        for _ in range(runs):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            taken.append(start.elapsed_time(end))
    return {
        "network_p50_ms": float(np.percentile(taken, 50)),
        "network_min_ms": min(taken),
        "peak_memory_mib": torch.cuda.max_memory_allocated() / 2**20,
    }


def measure(entry: Entry, weights: Path, size: str, frames: int) -> dict[str, Any]:
    """Every engine at one size."""
    written = export_graphs(entry, weights, Size.parse(size, entry.multiple), ["fp16"], [], _say)
    files = ModelFiles(entry.name, {g.precision: g.path for g in written})
    loader = Loader(files, ModelSettings(name=entry.name), EngineCache(log=_say))
    rows: dict[str, Any] = {}
    for candidate in CANDIDATES:
        try:
            start = time.perf_counter()
            engine = loader.open(candidate)
            row: dict[str, Any] = {"load_s": time.perf_counter() - start}
            row.update(host_to_host(engine, frames), device=engine.device)
            if isinstance(engine, Torch):
                for batch in BATCHES:
                    row[f"batch_{batch}"] = network_time(engine, batch, frames)
            engine.close()
        except EngineError as error:
            row = {"not_measured": str(error)}
        rows[str(candidate)] = row
        _say(f"{size} {candidate}: {row}")
    return rows


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def main() -> int:
    """Measure, print; exit with 1 where nothing could be measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--frames", type=int, default=200, help="frames timed for each engine")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        _say("PyTorch sees no CUDA device: there is nothing to measure here")
        return 1
    report: dict[str, Any] = {
        "benchmark": "gpu",
        "network": f"{NETWORK}, random weights",
        "frame": "640x480 uint8",
        "gpu": torch.cuda.get_device_name(0),
        "cuda": torch.version.cuda,
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DEPTH_NODE_CACHE"] = folder
        path = Path(folder) / "random.pth"
        # The registry's hash is that of the real weights.
        entry = dataclasses.replace(find_entry(NETWORK), sha256="")
        random_weights(entry, path)
        own = add_checkpoint(entry, path)
        for size in SIZES:
            report[size] = measure(own, path, size, arguments.frames)
    print_result({**report, **describe_machine()}, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
