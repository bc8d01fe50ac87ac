"""The command `depth-node engines`: what can run a network here, and how well."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from depth_node.engines.base import EngineError, TestedEngine
from depth_node.engines.cache import EngineCache
from depth_node.engines.options import add_model_arguments, model_settings
from depth_node.engines.select import Candidate, Loader, candidates
from depth_node.engines.selftest import golden_frames
from depth_node.network.errors import ModelError
from depth_node.network.resolve import resolve_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments on `parser`."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list the engines that are kept, and their tests")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(action=_list)
    for name, run, summary in (
        ("build", _build, "compile a network for this machine, so that the node starts at once"),
        ("selftest", _selftest, "hold engines to the fp32 network on golden frames"),
        ("bench", _bench, "measure engines from image to disparity"),
    ):
        action = actions.add_parser(
            name,
            help=summary,
            description=f"{summary.capitalize()}.",
            epilog="Like the node, auto ends with the first engine and precision that pass; name "
            "others with --engine and --precision."
            if name == "build"
            else "Unlike the node, this takes every engine and precision for auto.",
        )
        add_model_arguments(action, "model", "engine", "precision", "size", "threads")
        action.add_argument("--json", action="store_true", help="print JSON")
        action.set_defaults(action=run)
        if name == "build":
            action.add_argument(
                "--image",
                type=_size,
                metavar="WIDTHxHEIGHT",
                help="size of the camera's images, as 1280x720: engines that are compiled for one "
                "size each are compiled and tested for it as well",
            )
        if name == "bench":
            action.add_argument("--frames", type=int, default=50, help="frames to time")


def run(arguments: argparse.Namespace) -> int:
    """Do what the action says and return the exit code: 1 when no engine works.

    Raises:
        EngineError: an engine fails while it is measured.
        ModelError: the network is not to be had.
    """
    return int(arguments.action(arguments))


def _size(text: str) -> tuple[int, int]:
    """Height and width of `WIDTHxHEIGHT`."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; give WIDTHxHEIGHT, as 1280x720")
    return int(match[2]), int(match[1])


def _list(arguments: argparse.Namespace) -> int:
    rows: list[dict[str, Any]] = []
    for kept in EngineCache().entries():
        verdict = kept.verdict
        rows.append(
            {
                **kept.signature,
                "bytes": kept.size_bytes,
                "self_test": "not run"
                if verdict is None
                else "passed"
                if verdict.passed
                else verdict.reason,
            }
        )
    if arguments.json:
        print(json.dumps(rows))
        return 0
    if not rows:
        print("no engine is kept yet; depth-node engines build makes one")
    for row in rows:
        shape = f", shape {row['shape']}" if "shape" in row else ""
        print(
            f"{row['engine']} {row['precision']}, runtime {row['runtime']}, {row['device']}, "
            f"{int(row['bytes']) / 1e6:.1f} MB, graph {str(row['graph'])[:12]}{shape}: "
            f"{row['self_test']}"
        )
    return 0


def _opened(arguments: argparse.Namespace) -> Iterator[tuple[Candidate, Loader, Any]]:
    """Each candidate with its engine, or with the error that says why there is none."""

    def log(line: str) -> None:
        print(line, file=sys.stderr)

    settings = model_settings(arguments)
    files = resolve_model(settings, log)
    loader = Loader(files, settings, EngineCache(log=log))
    for candidate in candidates(settings, files, small=loader.small):
        engine: TestedEngine | None = None
        try:
            engine = loader.open(candidate)
            yield candidate, loader, engine
        except (EngineError, ModelError) as error:
            yield candidate, loader, error
        finally:
            if engine is not None:
                engine.close()


def _report(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> int:
    if arguments.json:
        print(json.dumps(rows))
    else:
        for row in rows:
            details = ", ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in row.items()
                if key not in ("engine", "precision")
            )
            print(f"{row['engine']} {row['precision']}: {details}")
    return 0 if any("error" not in row for row in rows) else 1


def _refusal(candidate: Candidate, error: object) -> dict[str, Any]:
    return {
        "engine": candidate.engine,
        "precision": candidate.precision,
        "error": str(error),
    }


def _build(arguments: argparse.Namespace) -> int:
    """Compile and test the candidates in their order, and stop at the first that passes."""
    rows = []
    for candidate, loader, engine in _opened(arguments):
        if isinstance(engine, Exception):
            rows.append(_refusal(candidate, engine))
            continue
        rows.append(_tested(candidate, loader, engine))
        if arguments.image and "error" not in rows[-1]:
            rows[-1]["image"] = f"{arguments.image[1]}x{arguments.image[0]}"
            try:
                engine.infer(golden_frames(arguments.image)[0])
            except EngineError as error:
                rows[-1]["error"] = str(error)
        if "error" not in rows[-1]:
            break
    return _report(arguments, rows)


def _selftest(arguments: argparse.Namespace) -> int:
    rows = [
        _refusal(candidate, engine)
        if isinstance(engine, Exception)
        else _tested(candidate, loader, engine, again=True)
        for candidate, loader, engine in _opened(arguments)
    ]
    return _report(arguments, rows)


def _tested(
    candidate: Candidate, loader: Loader, engine: TestedEngine, *, again: bool = False
) -> dict[str, Any]:
    verdict = loader.self_test.verdict(engine, again=again)
    row: dict[str, Any] = {
        "engine": candidate.engine,
        "precision": candidate.precision,
        "passed": verdict.passed,
        "device": engine.device,
        "relative_l2": verdict.error,
        "tolerance": verdict.tolerance,
    }
    return row if verdict.passed else {**row, "error": verdict.reason}


def _bench(arguments: argparse.Namespace) -> int:
    rows = []
    frame = golden_frames()[1]
    for candidate, _, engine in _opened(arguments):
        if isinstance(engine, Exception):
            rows.append(_refusal(candidate, engine))
            continue
        start = time.perf_counter()
        engine.infer(frame)
        first_ms = 1e3 * (time.perf_counter() - start)
        times = []
        for _ in range(arguments.frames):
            start = time.perf_counter()
            engine.infer(frame)
            times.append(1e3 * (time.perf_counter() - start))
        rows.append(
            {
                "engine": candidate.engine,
                "precision": candidate.precision,
                "device": engine.device,
                "first_ms": first_ms,
                "p50_ms": float(np.percentile(times, 50)),
                "p99_ms": float(np.percentile(times, 99)),
                "image": "640x480",
            }
        )
    return _report(arguments, rows)
