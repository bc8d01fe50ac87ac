"""What to do about a Python library that cannot be imported."""

from __future__ import annotations

import traceback
from importlib import metadata
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
    "scipy": "cpu",
    "sensor_msgs": "ros",
    "torch": "export",
    "transformers": "export",
}
"""Module to the pip extra that brings it."""

_PACKAGE = Path(__file__).parent


def explain(error: ImportError) -> tuple[str, str] | None:
    """Say what is wrong with a library, and what to do.

    Args:
        error: as it was caught, with its traceback.

    Returns:
        What was seen and the cure, each one line; None where the fault is this package's own.
    """
    name = (error.name or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError):
        return _absent(error.name or "", EXTRAS[name]) if name in EXTRAS else None
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
    """The command that installs one of this package's extras, without leaving NumPy 1 for 2.

    A distribution's OpenCV and cv_bridge that are built for NumPy 1 do not load with NumPy 2.
    """
    keep = " 'numpy<2'" if _numpy_version().startswith("1.") else ""
    return f"pip install 'depth_node[{extra}]'{keep}"


def _absent(module: str, extra: str) -> tuple[str, str]:
    cure = pip_install(extra)
    if extra == "ros":
        cure += ", or source the setup.bash of a ROS 2 installation"
    return f"the Python module {module} is not installed", cure


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
