"""`depth-node demo`: camera and node as separate processes, watched for some seconds."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from depth_node.demo.inputs import camera_parameters
from depth_node.demo.processes import Program, ProgramEndedError, running
from depth_node.domain import private_domain
from depth_node.engines.base import EngineError
from depth_node.engines.options import add_model_arguments, model_settings
from depth_node.resources import config_path

if TYPE_CHECKING:
    from depth_node.demo.watch import Tally, Watcher

FIRST_FRAME_TIMEOUT_S = 40.0
REFRESH_S = 0.5
TRUTH_TOPIC = "/camera/depth_gt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options of `depth-node demo`."""
    parser.add_argument(
        "--input",
        default="world",
        metavar="PATH",
        help="video file, folder of images, webcam (an index or /dev/video*), or URL of a stream "
        "(rtsp://...); default: the synthetic world, which has ground truth",
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to watch")
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="where files go")
    parser.add_argument(
        "--lidar",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="take metres from the world's 16-beam LiDAR; without it depth is relative",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the world")
    add_model_arguments(parser, "model", "engine")
    parser.add_argument("--json", action="store_true", help="print the report and nothing else")


def run(args: argparse.Namespace) -> int:
    """Run the demo; 0 when depth arrived, 1 when it did not."""
    console = Console(stderr=args.json)
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        return _run(args, console)
    except KeyboardInterrupt:
        console.print("ended by Ctrl-C; nothing is written")
        return 130
    except (EngineError, ProgramEndedError) as error:
        console.print(f"[red]the demo cannot go on:[/red] {escape(str(error))}", soft_wrap=True)
        return 1


def _as_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _run(args: argparse.Namespace, console: Console) -> int:
    programs = {"node": _node_command(args)}
    truth = None
    if args.input == "world":
        console.print("rendering the world's drive (once; later runs take it from the cache)")
        _render_world(args.seed)
        programs = {"world": ["-m", "depth_node.cli", *_world(args.seed, "--publish")], **programs}
        truth = TRUTH_TOPIC
    _load_network(args, console)
    from depth_node.demo.report import figures, write
    from depth_node.demo.watch import Watcher

    logs = Path(tempfile.mkdtemp(prefix="depth_node_demo_"))
    with private_domain() as domain, running(programs, logs) as started:
        console.print(
            f"{' and '.join(programs)} run on ROS domain {domain}; logs in {logs}", soft_wrap=True
        )
        watcher = Watcher(truth)
        try:
            if not _wait_for_depth(watcher, started, console):
                return 1
            _watch(watcher, started, args.seconds, console)
        finally:
            watcher.close()
    result = figures(watcher.tally)
    files = write(watcher.tally, result, args.output)
    if args.json:
        print(json.dumps(result))
    else:
        console.print(_table(watcher.tally))
        console.print("written:", *files, sep="\n  ", soft_wrap=True)
    return 0


def _world(seed: int, *options: str) -> list[str]:
    return ["world", "--seed", str(seed), *options]


def _render_world(seed: int) -> None:
    """Render in this terminal, where the progress bar can be seen.

    Raises:
        ProgramEndedError: the world cannot be rendered.
    """
    from depth_node.cli import main

    with contextlib.redirect_stdout(sys.stderr):  # --json promises one object on standard output
        code = main(_world(seed, "--render"))
    if code:
        raise ProgramEndedError(f"the world cannot be rendered (exit code {code})")


def _load_network(args: argparse.Namespace, console: Console) -> None:
    """Load the network once in this terminal, where the progress can be seen.

    TensorRT compiles for minutes; the node then takes the engine from the cache, in time.

    Raises:
        EngineError: the network is not to be had, or no engine runs it.
    """
    from depth_node.engines.select import load_engine

    def log(line: str) -> None:
        console.print(escape(line), soft_wrap=True)

    console.print(
        "loading the network (compiled engines once; later runs take them from the cache)"
    )
    # Tested, and so compiled, for 640x480, which is the size of the world's images.
    load_engine(model_settings(args), log).close()


def _node_command(args: argparse.Namespace) -> list[str]:
    parameters = {"model.name": args.model, "model.engine": args.engine}
    options = ["-r", "image:=/camera/image_raw", "-r", "camera_info:=/camera/camera_info"]
    if args.input != "world":
        parameters |= camera_parameters(args.input)
        options = []
    elif args.lidar:
        options += ["--params-file", str(config_path("demo.yaml"))]
    options += [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    return ["-m", "depth_node.ros.main", "--ros-args", *options]


def _wait_for_depth(watcher: Watcher, programs: Sequence[Program], console: Console) -> bool:
    deadline = time.monotonic() + FIRST_FRAME_TIMEOUT_S
    with console.status("waiting for the first depth image"):
        while watcher.tally.sight is None:
            watcher.watch(0.1)
            for program in programs:
                program.check()
            cause = watcher.tally.problem
            if time.monotonic() > deadline or cause.startswith("cannot configure"):
                said = escape(cause or "the node is silent")
                console.print(f"[red]no depth:[/red] {said}", soft_wrap=True)
                return False
    return True


def _watch(watcher: Watcher, programs: Sequence[Program], seconds: float, console: Console) -> None:
    watcher.restart_tally()  # the first frames wait for caches and are not what is measured
    end = time.monotonic() + seconds
    with Live(_table(watcher.tally), console=console, refresh_per_second=4, transient=True) as live:
        while time.monotonic() < end:
            watcher.watch(REFRESH_S)
            for program in programs:
                program.check()
            live.update(_table(watcher.tally, left_s=end - time.monotonic()))


def _table(tally: Tally, left_s: float | None = None) -> Table:
    from depth_node.demo.report import figures

    values = figures(tally)
    latency, status = values["latency_ms"], values["scale_status"]
    title = "depth_node demo" + (f", {max(left_s, 0.0):.0f} s left" if left_s is not None else "")
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_row("depth images", f"{values['frames']} at {values['rate_hz']:.1f} Hz")
    table.add_row("latency, stamp to here", f"p50 {latency['p50']} ms, p99 {latency['p99']} ms")
    if values["absrel"] is not None:
        how = "aligned to the truth per frame" if values["aligned_per_frame"] else "as published"
        table.add_row(
            "error against ground truth",
            f"AbsRel {values['absrel']:.3f}, delta1 {values['delta1']:.3f} "
            f"over {values['scored_share']:.0%} of the pixels ({how})",
        )
    table.add_row("scale", f"{status['state']} (source {status['source']})")
    table.add_row("network", f"{values['model']} on {values['engine']}")
    if tally.problem:
        table.add_row("the node says", escape(tally.problem))
    return table
