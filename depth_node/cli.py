"""The command line `depth-node`.

Every command lives in a module of its own that offers `add_arguments(parser)` and
`run(arguments) -> int`. Only the module of the command that is called gets imported, so that help
is quick and one command's dependencies are no other's.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from depth_node import __version__
from depth_node.imports import explain

COMMANDS: dict[str, tuple[str, str]] = {
    "bench": ("depth_node.bench", "run a measurement script of the source checkout"),
    "demo": ("depth_node.demo.command", "watch the node work on the synthetic world or your video"),
    "doctor": ("depth_node.doctor.command", "say why no depth arrives, and what to do"),
    "engines": ("depth_node.engines.command", "build, test and measure what runs the network"),
    "eval": ("depth_node.evaluation.command", "measure depth and scale against ground truth"),
    "label": ("depth_node.training.label", "label a folder of images with a network's disparity"),
    "models": ("depth_node.network.command", "list, fetch, export and add networks"),
    "parameters": ("depth_node.reference_page", "print the node's parameters"),
    "train": ("depth_node.training.command", "train the shipped student"),
    "world": ("depth_node.world.command", "render the synthetic world, or publish its drive"),
}
"""Command to its module and its line of help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    called = next((word for word in words if not word.startswith("-")), None)
    try:
        arguments = _parser(called).parse_args(words)
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return 130
    except ImportError as error:
        explained = explain(error)
        if explained is None:
            raise
        print(f"depth-node {called}: {'; '.join(explained)}", file=sys.stderr)
        return 1
    except Exception as error:
        # The package's own errors are written for the user; any other is a bug and keeps its trace.
        if not type(error).__module__.startswith("depth_node."):
            raise
        print(f"depth-node {called}: {error}", file=sys.stderr)
        return 1


def _parser(called: str | None) -> argparse.ArgumentParser:
    """The parser of all commands, with the arguments of the one that is called."""
    parser = argparse.ArgumentParser(
        prog="depth-node", description="Tools around depth_node: one camera as a depth sensor."
    )
    parser.add_argument("--version", action="version", version=f"depth-node {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (module_name, summary) in sorted(COMMANDS.items()):
        command = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
        )
        if name == called:
            module = importlib.import_module(module_name)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
