"""Data files of the ament package; name, version and dependencies are in setup.cfg."""

import sys
from pathlib import Path

from setuptools import setup

SHARE = "share/depth_node"


def files(folder, pattern="*.*"):
    """The paths in `folder`, relative to this file's folder as setuptools wants them."""
    return sorted(str(path) for path in Path(folder).glob(pattern))


data_files = [
    ("share/ament_index/resource_index/packages", ["resource/depth_node"]),
    (SHARE, ["package.xml"]),
    (f"{SHARE}/launch", files("launch", "*.launch.py")),
    (f"{SHARE}/config", files("config")),
    (f"{SHARE}/models", files("models")),
]
# pip puts console scripts into bin/ only, ROS looks for them in lib/depth_node/. colcon, which
# builds no wheel, installs them there only (setup.cfg); a bin/ with something in it is on its PATH.
if {"bdist_wheel", "editable_wheel"} & set(sys.argv):
    data_files.append(("lib/depth_node", files("resource/executables", "*")))
else:
    data_files.append(("bin", files("resource/bin", "*")))

# Here, not in setup.cfg: from there setuptools makes an object of it that colcon cannot read.
setup(data_files=data_files, python_requires=">=3.10")
