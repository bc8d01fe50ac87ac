"""As much of `launch` and `launch_ros` as depth.launch.py uses: they have no wheels.

Substitutions are performed where they are given, so that what is started holds plain values.
"""

# ruff: noqa: N802 - the names are launch's
from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class LaunchConfiguration:
    """An argument by its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def perform(self, context: Context) -> str:
        return context.arguments[self.name]


class Action(types.SimpleNamespace):
    """Any action: the keywords that it was made with."""


class IfCondition:
    def __init__(self, value: LaunchConfiguration) -> None:
        self.value = value

    def evaluate(self, context: Context) -> bool:
        return self.value.perform(context) == "true"


class Context:
    """One start of a launch file.

    Attributes:
        arguments: every declared argument, as given or by its default.
    """

    def __init__(self, description: list[Action], given: dict[str, str]) -> None:
        declared = {a.name: a.default_value for a in description if a.kind == "argument"}
        assert given.keys() <= declared.keys(), "arguments that are not declared"
        self.arguments = {**declared, **given}
        self._description = description

    def started(self) -> Iterator[Action]:
        """What the file's functions start, with every substitution performed."""
        for action in self._description:
            if action.kind == "function":
                for made in action.function(self):
                    yield Action(**{k: self._performed(v) for k, v in vars(made).items()})

    def _performed(self, value: Any) -> Any:
        if isinstance(value, LaunchConfiguration):
            return value.perform(self)
        if isinstance(value, dict):
            return {key: self._performed(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._performed(item) for item in value]
        return value


class PackageNotFoundError(KeyError):
    """As in ament_index_python."""


def ParameterValue(value: LaunchConfiguration, *, value_type: type) -> LaunchConfiguration:
    assert value_type is str
    return value


def install(monkeypatch: pytest.MonkeyPatch, packages: set[str], share: Path) -> None:
    """Have the modules found for the rest of a test.

    Args:
        monkeypatch: undoes it.
        packages: the ROS packages that are installed.
        share: the share directory of each.
    """

    def found(package: str) -> str:
        if package not in packages:
            raise PackageNotFoundError(package)
        return str(share)

    modules: dict[str, dict[str, Any]] = {
        "ament_index_python": {},
        "ament_index_python.packages": {
            "PackageNotFoundError": PackageNotFoundError,
            "get_package_prefix": found,
            "get_package_share_directory": found,
        },
        "launch": {"LaunchDescription": list},
        "launch.actions": {
            "DeclareLaunchArgument": lambda name, **more: Action(
                kind="argument", name=name, **more
            ),
            "LogInfo": lambda *, msg: Action(kind="log", msg=msg),
            "OpaqueFunction": lambda *, function: Action(kind="function", function=function),
            "SetEnvironmentVariable": lambda name, value: Action(
                kind="environment", name=name, value=value
            ),
        },
        "launch.conditions": {"IfCondition": IfCondition},
        "launch.substitutions": {"LaunchConfiguration": LaunchConfiguration},
        "launch_ros": {},
        "launch_ros.actions": {"Node": lambda **more: Action(kind="node", **more)},
        "launch_ros.parameter_descriptions": {"ParameterValue": ParameterValue},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
