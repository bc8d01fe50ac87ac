"""The command `depth-node bench`: runs the measurement scripts of a source checkout."""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
from pathlib import Path

from depth_node.resources import source_checkout


class BenchError(RuntimeError):
    """There is no such measurement here; the message says which there are."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments on `parser`."""
    parser.usage = "%(prog)s [-h] [--json] [SCRIPT [ARGUMENT ...]]"
    parser.add_argument("--json", action="store_true", help="list the scripts as JSON")
    parser.add_argument("script", nargs="?", metavar="SCRIPT", help="the script; none lists them")
    parser.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        metavar="ARGUMENT",
        help="passed to the script; each takes --help and --json",
    )


def run(arguments: argparse.Namespace) -> int:
    """List the scripts, or run one and return its exit code.

    Raises:
        BenchError: this is no source checkout, or it has no such script.
    """
    scripts = _scripts()
    if arguments.script is None:
        summaries = {name: _summary(path) for name, path in scripts.items()}
        if arguments.json:
            print(json.dumps(summaries))
        else:
            width = max(map(len, summaries), default=0)
            for name, summary in summaries.items():
                print(f"{name:{width}}  {summary}")
        return 0
    name = arguments.script.removesuffix(".py")
    if name not in scripts:
        raise BenchError(f"there is no bench/{name}.py; there are {', '.join(scripts)}")
    passed = (["--json"] if arguments.json else []) + arguments.arguments
    return subprocess.run([sys.executable, str(scripts[name]), *passed], check=False).returncode


def _scripts() -> dict[str, Path]:
    """The scripts by name; a module that only serves them is none."""
    checkout = source_checkout()
    if checkout is None:
        raise BenchError(
            "the measurement scripts are not installed with the package; run this command from a "
            "source checkout (pip install -e)"
        )
    files = sorted((checkout / "bench").glob("*.py"))
    return {path.stem: path for path in files if "__main__" in path.read_text()}


def _summary(path: Path) -> str:
    """The first line of a script's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
