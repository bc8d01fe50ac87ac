"""The command `depth-node parameters`: the yaml and the reference page, made from the definitions.

`config/depth_node.yaml` and `docs/parameters.md` are its output and are never edited by hand.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import textwrap
from itertools import groupby
from pathlib import Path

from depth_node.parameters import Parameter, Settings, describe
from depth_node.resources import source_checkout

WIDTH = 100
_YAML_HEAD = """\
# Every parameter of depth_node with its default. Made by `depth-node parameters --write`; copy it
# and change the copy.
#
#   ros2 run depth_node depth_node --ros-args --params-file my.yaml
#   ros2 launch depth_node depth.launch.py params_file:=/path/to/my.yaml
#
# [dynamic]: a change takes effect while the node runs (`ros2 param set`). Every other parameter
# takes effect when the node is configured: deactivate and clean it up first.
"""
_PAGE_HEAD = """\
# Parameters

Made by `depth-node parameters --write` from `depth_node/parameters.py`, as is the yaml with the
same content, [config/depth_node.yaml](../config/depth_node.yaml).

A **dynamic** parameter takes effect while the node runs, as in
`ros2 param set /depth_node depth.max_m 20.0`. A **static** one takes effect when the node is
configured and refuses to change while it is: deactivate and clean up the node, set it, configure
and activate it again. Values outside the range are refused with the reason. A start-up value that
is refused keeps the node from being configured until it is set to a good one; the log and the
diagnostics say which and why. A name that the node does not know, as `lidar.enable`, is a warning
in the log.
"""

_ANY = {bool: "true, false", int: "any", float: "any", str: "any text"}


class ReferencePageError(RuntimeError):
    """The files cannot be written here; the message says where they can."""


def parameters_yaml() -> str:
    """The text of `config/depth_node.yaml`."""
    lines = [_YAML_HEAD + "/**:", "  ros__parameters:"]
    for group, parameters in _groups():
        indent = "    "
        lines.append("")
        if group:
            lines += [*_comment(_group_summary(group), indent), f"{indent}{group}:"]
            indent += "  "
        for parameter in parameters:
            lines += _comment(_sentence(parameter), indent)
            lines.append(f"{indent}{parameter.name.rpartition('.')[2]}: {_literal(parameter)}")
    return "\n".join(lines) + "\n"


def parameters_page() -> str:
    """The text of `docs/parameters.md`."""
    lines = [_PAGE_HEAD]
    for group, parameters in _groups():
        title = f"`{group}`: {_group_summary(group)}" if group else "The node"
        lines += [
            f"## {title.rstrip('.')}",
            "",
            "| parameter | default | accepted | unit | changes | meaning |",
            "|---|---|---|---|---|---|",
        ]
        for parameter in parameters:
            cells = (
                f"`{parameter.name}`",
                f"`{_literal(parameter)}`",
                _accepted(parameter) or _ANY[type(parameter.default)],
                parameter.unit,
                "dynamic" if parameter.dynamic else "static",
                parameter.description.replace("|", "\\|"),
            )
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _groups() -> list[tuple[str, list[Parameter]]]:
    """Every group's name (empty for the node itself) and parameters, in their defined order."""
    return [
        (group, list(parameters))
        for group, parameters in groupby(describe(), key=lambda p: p.name.rpartition(".")[0])
    ]


def _group_summary(group: str) -> str:
    """The first line of the docstring of the group's settings class."""
    return (type(getattr(Settings(), group)).__doc__ or "").partition("\n")[0]


def _comment(text: str, indent: str) -> list[str]:
    prefix = f"{indent}# "
    return textwrap.wrap(text, WIDTH, initial_indent=prefix, subsequent_indent=prefix)


def _sentence(parameter: Parameter) -> str:
    """Mark, description, and in brackets the unit and what is accepted."""
    accepted = _accepted(parameter)
    if parameter.choices:
        accepted = f"one of {accepted}"
    notes = "; ".join(note for note in (parameter.unit, accepted) if note)
    mark = "[dynamic] " if parameter.dynamic else ""
    return mark + parameter.description + (f" ({notes})" if notes else "")


def _accepted(parameter: Parameter) -> str:
    """The choices or the range in words, or nothing."""
    if parameter.choices:
        return ", ".join(parameter.choices)
    low, high = parameter.minimum, parameter.maximum
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    if low is not None:
        return f"at least {low:g}"
    return "" if high is None else f"at most {high:g}"


def _literal(parameter: Parameter) -> str:
    """The default as yaml: JSON's literals are yaml's, and its quotes keep "0" a string."""
    return json.dumps(parameter.default)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments on `parser`."""
    parser.add_argument(
        "--write",
        action="store_true",
        help="write config/depth_node.yaml and docs/parameters.md of the source checkout",
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--markdown", action="store_true", help="print the reference page, not yaml")
    shape.add_argument("--json", action="store_true", help="print the definitions as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print or write the parameters.

    Raises:
        ReferencePageError: `--write` outside a source checkout.
    """
    if arguments.write:
        for path, text in _generated_files().items():
            path.write_text(text)
            print(f"wrote {path}")
    elif arguments.json:
        print(json.dumps([dataclasses.asdict(parameter) for parameter in describe()]))
    else:
        print(parameters_page() if arguments.markdown else parameters_yaml(), end="")
    return 0


def _generated_files() -> dict[Path, str]:
    checkout = source_checkout()
    if checkout is None:
        raise ReferencePageError("--write needs a source checkout; this is an installed package")
    return {
        checkout / "config" / "depth_node.yaml": parameters_yaml(),
        checkout / "docs" / "parameters.md": parameters_page(),
    }
