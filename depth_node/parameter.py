"""What a parameter is: its definition, its check, and how a settings class declares it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, TypeAlias

Value: TypeAlias = bool | int | float | str
KEY = "parameter"
"""Where a field's metadata keeps its definition."""


class ParameterError(ValueError):
    """A parameter has a name, type or value that the node cannot accept."""


@dataclass(frozen=True)
class Parameter:
    """One parameter's definition.

    Attributes:
        name: full ROS name, such as `depth.max_m`.
        default: its default, which also fixes its type.
        description: one sentence for the yaml and the reference page.
        unit: SI unit, or empty.
        minimum: smallest value accepted, or None.
        maximum: largest value accepted, or None.
        choices: the accepted strings, or empty for any.
        dynamic: whether a change takes effect while the node runs.
    """

    name: str
    default: Value
    description: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    dynamic: bool = False

    def check(self, value: object) -> Value:
        """Return `value` in the parameter's type.

        Yaml and the command line turn a text like 252 into a number and `off` into a truth value;
        where a text is wanted, it is given back.

        Raises:
            ParameterError: another type, not finite, or outside the range or choices.
        """
        wanted = type(self.default)
        if wanted is float and type(value) is int:
            value = float(value)
        elif wanted is str and type(value) is int:
            value = str(value)
        elif type(value) is bool and {"on", "off"} <= set(self.choices):
            value = "on" if value else "off"
        if type(value) is not wanted:
            raise ParameterError(
                f"{self.name} is {value!r} ({type(value).__name__}); it must be a "
                f"{wanted.__name__}, such as {self.default!r}"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ParameterError(f"{self.name} is {value}; it must be a finite number")
        if self.choices and value not in self.choices:
            raise ParameterError(f"{self.name} is {value!r}; choose one of {list(self.choices)}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            low = -math.inf if self.minimum is None else self.minimum
            high = math.inf if self.maximum is None else self.maximum
            if not low <= value <= high:
                unit = f" {self.unit}" if self.unit else ""
                raise ParameterError(
                    f"{self.name} is {value}{unit}; it must lie in [{low:g}, {high:g}]{unit}"
                )
        assert isinstance(value, bool | int | float | str)
        return value


def param(default: Value, description: str, **constraints: Any) -> Any:
    """A field of a settings class that is a parameter; `constraints` are `Parameter`'s fields."""
    meta = {"description": description, **constraints}
    return dataclasses.field(default=default, metadata={KEY: meta})
