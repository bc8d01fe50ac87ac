"""What to do about a Python library that cannot be imported."""

from __future__ import annotations

import re
import traceback
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

EXTRAS: dict[str, str] = {
    "cuda": "gpu",
    "cv2": "cpu",
    "embreex": "world",
    "huggingface_hub": "hub",
    "matplotlib": "demo",
    "nncf": "export",
    "onnx": "cpu",
    "onnxruntime": "cpu",
    "onnxscript": "export",
    "openvino": "cpu",
    "rclpy": "ros",
    "rich": "demo",
    "rosbags": "bag",
    "safetensors": "hub",
    "sensor_msgs": "ros",
    "torch": "export",
    "transformers": "export",
}
"""Module to the pip extra that brings it."""
REQUIRED: dict[str, str] = {
    "numpy": "numpy",
    "scipy": "scipy",
    "tqdm": "tqdm",
    "yaml": "PyYAML",
}
"""Module to the library that brings it, of those that are required without any extra."""

_PACKAGE = Path(__file__).parent
_FEW = 6


def explain(error: ImportError) -> tuple[str, str] | None:
    """Say what is wrong with a library, and what to do.

    Args:
        error: as it was caught, with its traceback.

    Returns:
        What was seen and the cure, each one line; None where the fault is this package's own.
    """
    name = (error.name or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError):
        return _absent(error.name or "") if name in EXTRAS or name in REQUIRED else None
    if name == "depth_node":
        return None
    said = next(iter(str(error).strip().splitlines()), "no reason is given")
    seen = f"`{_statement(error)}` fails: {said}"
    if "numpy.core.multiarray" in said and _numpy_version().startswith("2."):
        # vision_opencv#535: the OpenCV, SciPy and cv_bridge of Ubuntu 22.04 and 24.04.
        return (
            f"{seen} (it is built for NumPy 1, and NumPy {_numpy_version()} is found)",
            "pip install 'numpy<2' (Ubuntu 24.04: and --break-system-packages)",
        )
    return seen, "install that library again, or what it says is missing"


def pip_install(extra: str) -> str:
    """The command that installs what is missing of one of this package's extras.

    It names the libraries, not the extra: an index does not know this package. A distribution's
    OpenCV and cv_bridge that are built for NumPy 1 do not load with NumPy 2, so 1 is kept.
    """
    wanted = _missing(extra)
    command = _command(wanted or [f".[{extra}]"])
    if any("torch" in library for library in wanted):
        command += " (without a GPU, PyTorch's CPU wheels first)"
    return command if wanted else f"{command} in the source checkout"


def _command(wanted: list[str]) -> str:
    keep = ["numpy<2"] if _numpy_version().startswith("1.") else []
    return " ".join(["pip install", *map(_quoted, [*wanted, *keep])])


def _missing(extra: str = "") -> list[str]:
    """The requirements of an extra, or of the package without any, that are not installed.

    Such as `onnx>=1.16`; none of an extra that is a long list, or where pip has no record.
    """
    try:
        required = metadata.requires("depth_node") or []
    except metadata.PackageNotFoundError:
        return []
    split = (line.partition(";") for line in required)
    found = [
        name.strip()
        for name, _, marker in split
        if (f'extra == "{extra}"' in marker if extra else "extra" not in marker)
    ]
    return [library for library in found if not _installed(library)] if len(found) <= _FEW else []


def _installed(library: str) -> bool:
    name = re.split(r"[^\w.-]", library)[0]
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:  # a distribution's own OpenCV is not known to pip
        return name == "opencv-python-headless" and find_spec("cv2") is not None
    return True


def _quoted(library: str) -> str:
    return f"'{library}'" if re.search(r"[<>\[]", library) else library


def _absent(module: str) -> tuple[str, str]:
    seen = f"the Python module {module} is not installed"
    name = module.partition(".")[0]
    if name in REQUIRED:
        return seen, _command(_missing() or [REQUIRED[name]])
    extra = EXTRAS[name]
    if extra == "ros":
        return seen, f"source the setup.bash of a ROS 2 installation, or {pip_install(extra)}"
    return seen, pip_install(extra)


def _numpy_version() -> str:
    """The installed version, without importing it; empty when it is not known."""
    try:
        return metadata.version("numpy")
    except metadata.PackageNotFoundError:
        return ""


def _statement(error: ImportError) -> str:
    """The last line of this package on the way to the failure, such as `import cv2`."""
    ours = [
        frame.line
        for frame in traceback.extract_tb(error.__traceback__)
        if _PACKAGE in Path(frame.filename).parents and frame.line
    ]
    return ours[-1].strip() if ours else "import"
