"""`depth-node label`: a teacher's disparity for every image of a folder.

A label is an `.npz` of two arrays: `disparity`, h x w float16 at the teacher's resolution, 0 to 1,
larger is nearer, 0 is saturated; and `scale`, float32, which times `disparity` is what the teacher
gave. Beside the labels, `labels.json` says which network made them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from depth_node.cameras.base import CameraError
from depth_node.cameras.folder import ImageFolder, decode_image
from depth_node.engines.base import Engine
from depth_node.engines.options import add_model_arguments, model_settings
from depth_node.engines.select import load_files
from depth_node.files import sha256_of
from depth_node.network.resolve import AUTO, ModelFiles, resolve_model
from depth_node.types import ArrayF32, Disparity

FOLDER = "disparity"
"""Where labels lie unless another place is named: in this folder beside the images."""
MANIFEST = "labels.json"
_NAMED_AT_MOST = 3


class LabelError(RuntimeError):
    """A folder cannot be labelled, or its labels cannot be used; the message says what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `depth-node label`."""
    parser.add_argument("folder", type=Path, help="folder of images")
    # A teacher is asked once: exact rather than fast.
    options = ("model", "engine", "precision", "size", "threads")
    add_model_arguments(parser, *options, model=AUTO, precision="fp32")
    parser.add_argument(
        "--output", type=Path, help=f"folder for the labels (default: FOLDER/{FOLDER})"
    )


def run(args: argparse.Namespace) -> int:
    """Label what has no label yet; returns the process's exit code.

    Raises:
        LabelError: there is nothing to label, or the labels there are another teacher's.
        EngineError: no engine runs the teacher, or one failed.
        ModelError: the teacher is not to be had.
    """

    def log(line: str) -> None:
        print(line, file=sys.stderr)

    folder: Path = args.folder.expanduser()
    output: Path = args.output or folder / FOLDER
    missing = [path for path in images_of(folder) if not label_path(output, path).is_file()]
    settings = model_settings(args)
    files = resolve_model(settings, log)
    _claim(output, files)
    if not missing:
        print(f"every image of {folder} has its label in {output}")
        return 0
    engine = load_files(files, settings, log)
    try:
        skipped = list(_label(missing, output, engine))
    except OSError as error:
        raise LabelError(f"a label cannot be written: {error}") from error
    finally:
        engine.close()
    if len(skipped) == len(missing):
        raise LabelError(f"none of the {len(missing)} images in {folder} can be decoded")
    if skipped:
        names = ", ".join(path.name for path in skipped[:_NAMED_AT_MOST])
        log(f"{len(skipped)} images cannot be decoded and have no label, such as {names}")
    print(f"{len(missing) - len(skipped)} labels written to {output}")
    return 0


def images_of(folder: Path) -> list[Path]:
    """The images of a folder in natural order, without depth maps that lie among them.

    Raises:
        LabelError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise LabelError(f"{folder} is not a folder; name a folder of images")
    try:
        return list(ImageFolder(folder).files)
    except CameraError as error:
        raise LabelError(str(error)) from error


def label_path(labels: Path, image: Path) -> Path:
    """Where an image's label lies in a folder of labels."""
    return labels / f"{image.name}.npz"


def write_label(path: Path, disparity: Disparity) -> None:
    """Write a teacher's disparity; the file appears whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    scale = np.float32(max(float(disparity.values.max()), np.finfo(np.float32).tiny))
    partial = path.with_suffix(".partial")
    with partial.open("wb") as stream:
        np.savez_compressed(
            stream, disparity=(disparity.values / scale).astype(np.float16), scale=scale
        )
    partial.replace(path)


def read_label(path: Path) -> ArrayF32:
    """What the teacher gave for an image, h x w float32.

    Raises:
        LabelError: the file is not a label.
    """
    try:
        with np.load(path) as label:
            return np.asarray(label["disparity"], np.float32) * label["scale"]
    except (OSError, ValueError, KeyError) as error:
        raise LabelError(f"{path} is not a label: {error}; remove it and label again") from error


def _claim(output: Path, files: ModelFiles) -> None:
    """Note the teacher beside its labels, and refuse to mix it with another."""
    manifest = output / MANIFEST
    teacher = {"teacher": files.name, "sha256": sha256_of(files.graphs["fp32"])}
    if not manifest.is_file():
        output.mkdir(parents=True, exist_ok=True)
        manifest.write_text(json.dumps(teacher), encoding="utf-8")
        return
    try:
        before = json.loads(manifest.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LabelError(f"{manifest} cannot be read ({error}); remove {output}") from error
    if before != teacher:
        raise LabelError(
            f"the labels in {output} were made by {before.get('teacher')}, another network than "
            f"{files.name} as it is now; remove them or give --output"
        )


def _label(images: list[Path], output: Path, engine: Engine) -> Iterator[Path]:
    """Label images, with a progress bar, and yield those that cannot be decoded."""
    for path in tqdm(images, unit="image", desc=f"labelling with {engine.model}"):
        image = decode_image(path)
        if image is None:
            yield path
        else:
            write_label(label_path(output, path), engine.infer(image))
