"""Builds the real tf2_msgs where ROS comes from wheels, which have the generators but not it.

The Python generators of rosidl make the same sources as colcon would; they are compiled into one
extension module without CMake, because the wheels' exported targets name paths that do not exist.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

PACKAGE, MESSAGE = "tf2_msgs", "TFMessage"
DEFINITION = "geometry_msgs/TransformStamped[] transforms\n"
"""tf2_msgs/msg/TFMessage.msg, the same in every distribution."""
INCLUDED = ("geometry_msgs", "std_msgs", "builtin_interfaces")
TYPESUPPORTS = ("rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c")
"""What rmw_fastrtps asks for: how to write a message, and what is in it."""
GENERATE = """
import sys
from pathlib import Path
from rosidl_adapter.msg import convert_msg_to_idl
from rosidl_generator_c.cli import GenerateC
from rosidl_generator_py.cli import GeneratePython
from rosidl_typesupport_c.cli import GenerateCTypesupport
from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport
from rosidl_typesupport_introspection_c.cli import GenerateIntrospectionCTypesupport

package, out, typesupports, *included = sys.argv[1:]
out, typesupports = Path(out), typesupports.split()
convert_msg_to_idl(out, package, Path("msg/TFMessage.msg"), out / "msg")
where = package, [f"{out}:msg/TFMessage.idl"], included, out
GenerateC("c").generate(*where)
GeneratePython("py", typesupport_implementations=["rosidl_typesupport_c"]).generate(*where)
GenerateCTypesupport("c", typesupport_implementations=typesupports).generate(*where)
GenerateFastRTPSCTypesupport("fastrtps_c").generate(*where)
GenerateIntrospectionCTypesupport("introspection_c").generate(*where)
"""


def tf2_messages(folder: Path, env: Mapping[str, str]) -> dict[str, str]:
    """The environment for a program that imports `tf2_msgs`: `env`, with what is built in `folder`.

    Nothing is built where it is installed. Skips the test, with the reason, where it can be neither
    found nor built.
    """
    if importlib.util.find_spec(PACKAGE) is not None:
        return dict(env)
    missing = [tool for tool in ("gcc", "g++") if shutil.which(tool) is None]
    if importlib.util.find_spec("rosidl_generator_py") is None:
        missing.append("rosidl_generator_py")
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        missing.append("Python.h")
    if missing:
        pytest.skip(f"tf2_msgs is not installed and cannot be built without {', '.join(missing)}")
    _generate(folder / PACKAGE)
    _compile(folder / PACKAGE)
    paths = {"PYTHONPATH": folder, "LD_LIBRARY_PATH": folder / PACKAGE}
    return {
        **env,
        **{name: f"{path}{os.pathsep}{env.get(name, '')}" for name, path in paths.items()},
    }


def _generate(out: Path) -> None:
    share = Path(sys.prefix) / "share"
    (out / "msg").mkdir(parents=True)
    (out / "msg" / f"{MESSAGE}.msg").write_text(DEFINITION)
    (out / "__init__.py").touch()
    included = [str(share / name) for name in INCLUDED]
    env = {**os.environ, "AMENT_PREFIX_PATH": sys.prefix}
    command = [sys.executable, "-c", GENERATE, PACKAGE, str(out), " ".join(TYPESUPPORTS), *included]
    subprocess.run(command, env=env, check=True, capture_output=True, timeout=60)


def _compile(out: Path) -> None:
    prefix = Path(sys.prefix)
    headers = [out.parent, sysconfig.get_paths()["include"], np.get_include(), prefix / "include"]
    headers += sorted(path for path in (prefix / "include").iterdir() if path.is_dir())
    flags = ["-O0", "-fPIC", "-w", *(f"-I{path}" for path in headers)]
    objects = []
    for source in sorted([*out.rglob("*.c"), *out.rglob("*.cpp")]):
        compiler = ["g++", "-std=c++17"] if source.suffix == ".cpp" else ["gcc"]
        objects.append(f"{source}.o")
        subprocess.run([*compiler, *flags, "-c", source, "-o", objects[-1]], check=True, timeout=60)
    kinds = ("rosidl_generator_c", "rosidl_typesupport_c", "rosidl_generator_py", *TYPESUPPORTS)
    names = [f"{package}__{kind}" for package in INCLUDED for kind in kinds]
    names += [
        "rosidl_runtime_c",
        "rosidl_typesupport_c",
        *TYPESUPPORTS,
        "fastcdr",
        "rmw",
        "rcutils",
    ]
    library = prefix / "lib"
    module = f"{PACKAGE}_s__rosidl_typesupport_c{sysconfig.get_config_var('EXT_SUFFIX')}"
    links = [f"-l{name}" for name in names if (library / f"lib{name}.so").exists()]
    command = ["g++", "-shared", *objects, "-o", out / module, f"-L{library}", *links]
    subprocess.run(command, check=True, timeout=60)
    for typesupport in TYPESUPPORTS:  # looked up by these names; all is in the one module
        (out / f"lib{PACKAGE}__{typesupport}.so").symlink_to(module)
