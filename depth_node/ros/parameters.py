"""The node's parameters on the ROS side: declared, overridden, changed while it runs."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node

from depth_node.parameters import Parameter, ParameterError, Settings, Value, describe

_LARGEST_FLOAT = 1.7976931348623157e308
_LARGEST_INT = 2**63 - 1
_log = logging.getLogger(__name__)


class NodeParameters:
    """Holds the settings of a node and keeps them equal to its ROS parameters.

    A start-up value (yaml, command line, launch) that is refused does not end the process: the
    parameter shows its default, and `refused` says why until somebody sets it to a good value; so
    long the node does not configure.

    Attributes:
        settings: the values in force; they agree with one another once the node is configured.
        refused: start-up values that were refused: parameter name to reason.
    """

    def __init__(
        self,
        node: Node,
        *,
        statics_are_open: Callable[[], bool],
        changed: Callable[[Settings], None],
    ) -> None:
        """Declare every parameter on `node`.

        Args:
            node: the node that owns the parameters.
            statics_are_open: whether static parameters may change now (nothing is configured).
            changed: called with the new settings after a change was accepted.
        """
        self.settings = Settings()
        self.refused: dict[str, str] = {}
        self._statics_are_open = statics_are_open
        self._changed = changed
        self._definitions = {parameter.name: parameter for parameter in describe()}
        overrides = node._parameter_overrides  # rclpy offers no other way to see them undeclared
        wanted = {name: overrides[name].value for name in self._definitions if name in overrides}
        _warn_of_unknown(set(overrides) - set(self._definitions), set(self._definitions))
        self.settings = self._accept(wanted)
        for name, value in self.settings.values().items():
            descriptor = _descriptor(self._definitions[name])
            node.declare_parameter(name, value, descriptor, ignore_override=True)
        node.add_on_set_parameters_callback(self._on_set)

    def _accept(self, wanted: dict[str, object]) -> Settings:
        """The start-up values that can be accepted; what cannot be goes to `refused`."""
        good: dict[str, Value] = {}
        for name, value in wanted.items():
            try:
                good[name] = self._definitions[name].check(value)
            except ParameterError as error:
                self.refused[name] = str(error)
        return self.settings.with_values(good)

    def _on_set(self, parameters: list[Any]) -> SetParametersResult:
        values = {p.name: p.value for p in parameters if p.name in self._definitions}
        if not values:
            return SetParametersResult(successful=True)
        try:
            self._refuse_statics(values)
            settings = self.settings.with_values(values)
            if not self._statics_are_open():  # else configure checks, once all values are in
                settings.check_together()
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.settings = settings
        for name in values:
            self.refused.pop(name, None)
        self._changed(self.settings)
        return SetParametersResult(successful=True)

    def _refuse_statics(self, values: dict[str, object]) -> None:
        current = self.settings.values()
        for name, value in values.items():
            if self._definitions[name].dynamic or self._statics_are_open():
                continue
            if value != current[name]:
                raise ParameterError(
                    f"{name} is static: it takes effect when the node is configured. Deactivate "
                    "and clean up the node, set it, then configure and activate it again"
                )


def _warn_of_unknown(given: set[str], known: set[str]) -> None:
    """Name what was meant for this node and means nothing to it; other names are other nodes'."""
    groups = {name.partition(".")[0] for name in known}
    for name in sorted(given):
        if name.partition(".")[0] not in groups:
            continue
        similar = difflib.get_close_matches(name, known, n=1)
        cure = f"did you mean {similar[0]}?" if similar else "see docs/parameters.md"
        _log.warning("there is no parameter %s, and its value is ignored; %s", name, cure)


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    unit = f" [{parameter.unit}]" if parameter.unit else ""
    dynamic = " [dynamic]" if parameter.dynamic else " [static]"
    descriptor = ParameterDescriptor(
        name=parameter.name, description=parameter.description + unit + dynamic
    )
    if parameter.choices:
        descriptor.additional_constraints = "one of " + ", ".join(parameter.choices)
    if parameter.minimum is None and parameter.maximum is None:
        return descriptor
    if isinstance(parameter.default, float):
        low = -_LARGEST_FLOAT if parameter.minimum is None else float(parameter.minimum)
        high = _LARGEST_FLOAT if parameter.maximum is None else float(parameter.maximum)
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    else:
        low_int = -_LARGEST_INT if parameter.minimum is None else int(parameter.minimum)
        high_int = _LARGEST_INT if parameter.maximum is None else int(parameter.maximum)
        descriptor.integer_range = [IntegerRange(from_value=low_int, to_value=high_int)]
    return descriptor
