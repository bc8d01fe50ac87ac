"""`depth-node world`: look at the synthetic world, render a drive ahead, publish it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import cv2

from depth_node.world.cache import CachedDrive, CacheError, load_drive, render_drive
from depth_node.world.drive import DriveSettings, Mounts, SensorNoise
from depth_node.world.lessons import lessons
from depth_node.world.sampling import GENERATORS, sample
from depth_node.world.sheet import contact_sheet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `depth-node world`."""
    defaults = DriveSettings()
    what = parser.add_argument_group("what to do (several may be given)")
    what.add_argument("--render", action="store_true", help="render the drive into the cache")
    what.add_argument(
        "--publish", action="store_true", help="publish the drive as ROS topics until Ctrl-C"
    )
    what.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="write a contact sheet of many seeds"
    )
    drive = parser.add_argument_group("the drive")
    drive.add_argument("--kind", choices=list(GENERATORS), default=defaults.kind)
    drive.add_argument("--seed", type=int, default=defaults.seed)
    drive.add_argument("--width", type=int, default=defaults.width, help="pixels (%(default)s)")
    drive.add_argument("--height", type=int, default=defaults.height, help="pixels (%(default)s)")
    drive.add_argument("--fps", type=float, default=defaults.fps, help="Hz (%(default)s)")
    drive.add_argument(
        "--seconds", type=float, default=defaults.seconds, help="length of the loop (%(default)s)"
    )
    sensors = parser.add_argument_group("the robot's sensors")
    for place in ("camera", "lidar"):
        sensors.add_argument(
            f"--{place}-at",
            type=float,
            nargs=3,
            metavar=("X", "Y", "Z"),
            default=getattr(defaults.mounts, place),
            help="metres in base_link (%(default)s)",
        )
    for error in fields(SensorNoise):
        sensors.add_argument(
            f"--{error.name.replace('_', '-')}",
            type=float,
            default=error.default,
            metavar="NUMBER",
            help=f"{error.metadata['description']} (%(default)s)",
        )
    parser.add_argument(
        "--duration", type=float, help="stop publishing after so many seconds", metavar="SECONDS"
    )
    parser.add_argument("--namespace", default="", help="ROS namespace of the topics")
    parser.add_argument("--count", type=int, default=32, help="views on the sheet (%(default)s)")
    parser.add_argument(
        "--lessons", action="store_true", help="show on the sheet what the student is trained on"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")


def render_with_progress(settings: DriveSettings, *, quiet: bool = False) -> CachedDrive:
    """The cached drive, rendered first where needed, with a progress bar on standard error.

    Raises:
        CacheError: it cannot be rendered or stored.
    """
    from tqdm import tqdm

    with tqdm(
        total=settings.frames,
        desc="Rendering the drive",
        unit="frame",
        disable=True if quiet else None,  # None: only where a person watches
        file=sys.stderr,
        delay=0.5,
    ) as bar:
        return render_drive(settings, lambda done, _total: bar.update(done - bar.n))


def run(args: argparse.Namespace) -> int:
    """Do what the options ask for; return the exit status."""
    if not (args.render or args.publish or args.sheet):
        print("nothing to do: give --render, --publish or --sheet FILE.png", file=sys.stderr)
        return 2
    report: dict[str, Any] = {"kind": args.kind, "seed": args.seed}
    try:
        if args.sheet:
            report["sheet"] = _write_sheet(args)
        if args.render or args.publish:
            drive = _render(_settings(args), report, quiet=args.json)
            if args.publish:
                _publish(drive, args, report)
    except (CacheError, ValueError, OSError) as error:
        print(f"depth-node world: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    if args.json:
        print(json.dumps(report))
    return 0


def _settings(args: argparse.Namespace) -> DriveSettings:
    mounts = Mounts(camera=tuple(args.camera_at), lidar=tuple(args.lidar_at))
    noise = SensorNoise(**{error.name: getattr(args, error.name) for error in fields(SensorNoise)})
    return DriveSettings(
        args.kind,
        args.seed,
        args.width,
        args.height,
        args.fps,
        args.seconds,
        mounts=mounts,
        noise=noise,
    )


def _write_sheet(args: argparse.Namespace) -> str:
    seeds = range(args.seed, args.seed + max(args.count, 1))
    sheet = contact_sheet(
        next(lessons(seed, 1, 240, 180)) if args.lessons else sample(seed, 240, 180, args.kind)
        for seed in seeds
    )
    args.sheet.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(args.sheet), sheet[..., ::-1]):
        raise ValueError(f"{args.sheet} cannot be written; give a name that ends in .png")
    if not args.json:
        print(f"wrote {args.sheet}")
    return str(args.sheet)


def _render(settings: DriveSettings, report: dict[str, Any], *, quiet: bool) -> CachedDrive:
    start = time.monotonic()
    try:
        drive = load_drive(settings)
    except CacheError as error:
        print(f"depth-node world: {error}; rendering it again", file=sys.stderr)
        drive = None
    found = drive is not None
    if drive is None:
        drive = render_with_progress(settings, quiet=quiet)
    seconds = time.monotonic() - start
    report.update(frames=settings.frames, from_cache=found, render_s=round(seconds, 2))
    if not quiet:
        where = "found in the cache" if found else f"rendered in {seconds:.0f} s"
        print(f"{settings.frames} frames of {settings.width}x{settings.height} {where}", flush=True)
    return drive


def _publish(drive: CachedDrive, args: argparse.Namespace, report: dict[str, Any]) -> None:
    try:
        from depth_node.world.publish import publish_drive
    except ImportError as error:
        raise ValueError(
            f"publishing needs ROS 2 ({error}); source a ROS installation or install the "
            "extra [ros]"
        ) from error
    cpu = time.process_time()
    done = publish_drive(drive, seconds=args.duration, namespace=args.namespace)
    report["published"] = done.frames
    report["rate_hz"] = round(done.frames / max(done.seconds, 1e-9), 2)
    report["cpu_share"] = round((time.process_time() - cpu) / max(done.seconds, 1e-9), 3)
