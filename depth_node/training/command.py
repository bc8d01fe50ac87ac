"""`depth-node train`: from a committed yaml to a student in ONNX."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depth_node.imports import pip_install

if TYPE_CHECKING:
    from depth_node.training.folders import FolderConfig
    from depth_node.training.frames import Mixture
    from depth_node.training.loop import RunConfig
    from depth_node.training.shards import ShardConfig


_NEGLIGIBLE = 1e-6
"""Shares that are summed are no more exact than this."""


class TrainError(RuntimeError):
    """The training cannot be started; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """A whole training, as its yaml describes it.

    Attributes:
        name: of the network, kept in the ONNX file.
        version: likewise.
        data: the frames to render, and the size at which all frames are stored.
        run: the training on them.
        folders: labelled folders that give their shares of the images, and the world the rest.
    """

    name: str
    version: str
    data: ShardConfig
    run: RunConfig
    folders: tuple[FolderConfig, ...] = ()

    def __post_init__(self) -> None:
        if self.of_world < -_NEGLIGIBLE:
            raise ValueError("the shares of the folders add up to more than 1")

    @property
    def of_world(self) -> float:
        """Share of the images that the world gives."""
        return 1 - sum(folder.share for folder in self.folders)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `depth-node train`."""
    parser.add_argument(
        "--config",
        type=Path,
        required=True,
        help="yaml of the run, such as config/student_base.yaml",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("training_output"),
        help="folder for frames, checkpoint, log and student.onnx; a run there is continued "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=int, help="processes that render frames (default: one for each core)"
    )
    parser.add_argument("--threads", type=int, help="threads that train on a CPU")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--steps", type=int, help="stop after this many steps of the run")
    parser.add_argument("--render-only", action="store_true", help="make the frames, then stop")


def run(args: argparse.Namespace) -> int:
    """Render, pack, train and export; returns the process's exit code."""
    # Threads that spin while they wait halve the speed when anything else runs on the machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        student = _train(args)
    except (TrainError, OSError, ValueError) as error:
        print(f"depth-node train: {error}", file=sys.stderr)
        return 1
    if student is not None:
        print(f"student written to {student}")
    return 0


def _check_libraries() -> None:
    """Refuse to begin without what training and export need.

    Raises:
        TrainError: a library is missing or too old.
    """
    try:
        import onnx  # noqa: F401 - the export at the very end must not be what finds it missing
        import onnxscript  # noqa: F401
        import torch
    except ImportError as error:
        raise TrainError(
            f"training needs {error.name}, which is not installed: {pip_install('train')}"
        ) from error
    if not hasattr(torch.optim, "Muon"):
        raise TrainError(f"training needs PyTorch 2.9 or later, and here is {torch.__version__}")


def _train(args: argparse.Namespace) -> Path | None:
    _check_libraries()
    import cv2
    import torch

    from depth_node.training.alignment import AlignmentError
    from depth_node.training.export import export_student
    from depth_node.training.label import LabelError
    from depth_node.training.loop import CheckpointError, check_checkpoint, train
    from depth_node.training.start import blended, read_weights

    settings = load_settings(args.config)
    output: Path = args.output
    checkpoint, start = output / "checkpoint.pt", settings.run.start
    frames = output / "frames"
    # What stops the run is said now, not after hours of rendering and training.
    if start.weights and (start.keep or not checkpoint.exists()):
        read_weights(start)
    try:
        sources = name_sources(settings, frames)
        if checkpoint.exists() and not args.render_only:
            check_checkpoint(checkpoint, settings.run, sources)
        data = prepare(settings, frames, args.workers)
    except (CheckpointError, LabelError) as error:
        raise TrainError(str(error)) from error
    if args.render_only:
        return None
    if args.threads:
        torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)  # batches are prepared beside the training, on the same cores
    device = args.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise TrainError("--device cuda: PyTorch sees no CUDA device here; use --device cpu")
    log_file = output / "log.jsonl"

    def log(step: int, losses: dict[str, float]) -> None:
        with log_file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **losses}) + "\n")

    # Denormal numbers, which small weights decay into, cost a hundred times the cycles.
    torch.set_flush_denormal(True)
    try:
        trainer = train(
            settings.run,
            data,
            checkpoint,
            sources=sources,
            device=device,
            stop_at=args.steps,
            log=log,
        )
    except (AlignmentError, CheckpointError, FloatingPointError) as error:
        raise TrainError(str(error)) from error
    finally:
        torch.set_flush_denormal(False)  # it holds for the whole process
    path = output / "student.onnx"
    student = trainer.averaged
    if start.keep:
        student = blended(student, start)
    export_student(student, path, name=settings.name, version=settings.version)
    return path


def name_sources(settings: Settings, root: Path) -> list[str]:
    """Say what a run's images are drawn from, one line each, without making any of it.

    Another share, folder, label, setting or world gives another line.

    Raises:
        LabelError: a folder cannot be used.
        OSError: a folder cannot be read.
    """
    from depth_node.training.folders import packed_folder
    from depth_node.training.shards import shard_folder

    lines = [
        f"{f.share:.12g} from {Path(f.path).expanduser()} "
        f"({packed_folder(f, settings.data.size, root).name})"
        for f in settings.folders
    ]
    if settings.of_world > _NEGLIGIBLE:
        lines.append(f"{settings.of_world:.12g} from {shard_folder(settings.data, root).name}")
    return lines


def prepare(settings: Settings, root: Path, workers: int | None = None) -> Mixture:
    """Render and pack what is missing, and open the mixture.

    Raises:
        LabelError: a folder cannot be used.
        OSError: the frames cannot be written.
    """
    from depth_node.training.folders import pack_folder
    from depth_node.training.frames import Frames, Mixture
    from depth_node.training.shards import render_shards

    size = settings.data.size
    parts = [(Frames(pack_folder(f, size, root)), f.share) for f in settings.folders]
    if settings.of_world > _NEGLIGIBLE:
        parts.append((Frames(render_shards(settings.data, root, workers)), settings.of_world))
    return Mixture(parts)


def load_settings(path: Path) -> Settings:
    """Read a run's yaml.

    Raises:
        TrainError: the file is missing, is no yaml, has an unknown key or a value of a wrong type.
    """
    import yaml

    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TrainError(
            f"{path} does not exist; config/student_base.yaml is an example"
        ) from error
    except yaml.YAMLError as error:
        raise TrainError(f"{path} is not valid yaml: {error}") from error
    from depth_node.training.folders import FolderConfig
    from depth_node.training.loop import RunConfig
    from depth_node.training.shards import ShardConfig

    scope = {"FolderConfig": FolderConfig, "ShardConfig": ShardConfig, "RunConfig": RunConfig}
    return typing.cast("Settings", _build(Settings, tree, str(path), scope))


def _build(kind: Any, value: Any, where: str, scope: dict[str, Any] | None = None) -> Any:
    """Turn yaml's dictionaries and lists into the dataclasses and tuples that `kind` declares."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise TrainError(f"{where}: expected a mapping, got {value!r}")
        hints = typing.get_type_hints(kind, localns=scope)
        unknown = set(value) - set(hints)
        if unknown:
            raise TrainError(
                f"{where}: unknown key {sorted(map(str, unknown))[0]!r}; known: {sorted(hints)}"
            )
        parts = {k: _build(hints[k], v, f"{where}: {k}") for k, v in value.items()}
        try:
            return typing.cast("type", kind)(**parts)
        except (TypeError, ValueError) as error:
            raise TrainError(f"{where}: {error}") from error
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if not isinstance(value, list):
            raise TrainError(f"{where}: expected a list, got {value!r}")
        return tuple(_build(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is typing.Literal:
        if value not in arguments:
            raise TrainError(f"{where}: expected one of {list(arguments)}, got {value!r}")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TrainError(f"{where}: expected {kind.__name__}, got {value!r}")
    return value
