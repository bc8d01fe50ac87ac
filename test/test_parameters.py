"""One definition of each parameter: its checks, the yaml and the reference page agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from depth_node.parameters import Parameter, ParameterError, Settings, describe
from depth_node.reference_page import parameters_page, parameters_yaml

PARAMETERS = {parameter.name: parameter for parameter in describe()}
NUMBERS = [p for p in PARAMETERS.values() if type(p.default) in (int, float)]


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping with dots in its names instead."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def test_committed_yaml_and_page_are_what_the_definitions_make(repo_root: Path) -> None:
    cure = "run `depth-node parameters --write`"
    assert (repo_root / "config/depth_node.yaml").read_text() == parameters_yaml(), cure
    assert (repo_root / "docs/parameters.md").read_text() == parameters_page(), cure


def test_yaml_holds_every_default_in_its_type() -> None:
    values = flatten(yaml.safe_load(parameters_yaml())["/**"]["ros__parameters"])
    expected = Settings().values()
    assert values == expected
    assert {n: type(v) for n, v in values.items()} == {n: type(v) for n, v in expected.items()}


def test_yaml_marks_exactly_the_dynamic_parameters() -> None:
    marks = re.findall(r"^ +# \[dynamic\] ", parameters_yaml(), re.MULTILINE)
    assert len(marks) == sum(p.dynamic for p in PARAMETERS.values())


@pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=lambda p: p.name)
def test_page_and_yaml_name_description_range_and_unit(parameter: Parameter) -> None:
    [row] = [r for r in parameters_page().splitlines() if r.startswith(f"| `{parameter.name}` |")]
    cells = [cell.strip() for cell in row.strip("|").split(" | ")]
    assert cells[-1] == parameter.description
    assert cells[-2] == ("dynamic" if parameter.dynamic else "static")
    assert cells[-3] == parameter.unit
    for choice in parameter.choices:
        assert choice in cells[-4]
    for bound in (parameter.minimum, parameter.maximum):
        assert bound is None or f"{bound:g}" in cells[-4]


def test_defaults_are_accepted_together() -> None:
    assert Settings().with_values(Settings().values()) == Settings()


@pytest.mark.parametrize("parameter", NUMBERS, ids=lambda p: p.name)
def test_numbers_outside_the_range_are_refused_with_the_range(parameter: Parameter) -> None:
    kind = type(parameter.default)
    for bound, step in ((parameter.minimum, -1), (parameter.maximum, 1)):
        if bound is None:
            continue
        assert parameter.check(kind(bound)) == bound
        with pytest.raises(ParameterError, match=f"{parameter.name} is .*must lie in"):
            parameter.check(kind(bound + step))


@given(st.sampled_from(NUMBERS), st.sampled_from([float("nan"), float("inf"), -float("inf")]))
def test_numbers_that_are_not_finite_are_refused(parameter: Parameter, value: float) -> None:
    with pytest.raises(ParameterError, match=parameter.name):
        parameter.check(value)


@given(st.sampled_from(sorted(PARAMETERS)), st.booleans() | st.integers() | st.text() | st.none())
def test_a_value_is_accepted_in_the_parameters_type_or_refused(name: str, value: object) -> None:
    parameter = PARAMETERS[name]
    try:
        accepted = parameter.check(value)
    except ParameterError as error:
        message = str(error)
    else:
        message = name
        assert type(accepted) is type(parameter.default)
        assert accepted == value or accepted in (str(value), {True: "on", False: "off"}.get(value))
        assert not parameter.choices or accepted in parameter.choices
    assert name in message


def test_a_whole_number_is_fine_for_a_float_but_a_truth_value_is_no_number() -> None:
    assert PARAMETERS["depth.max_m"].check(20) == 20.0
    assert isinstance(PARAMETERS["depth.max_m"].check(20), float)
    with pytest.raises(ParameterError, match="must be a int"):
        PARAMETERS["points.stride"].check(True)


@pytest.mark.parametrize(
    ("name", "read", "meant"),
    [
        ("model.size", 252, "252"),
        ("camera.device", 0, "0"),
        ("camera.rectify", False, "off"),
        ("camera.rectify", True, "on"),
    ],
)
def test_a_text_that_yaml_took_for_something_else_is_given_back(
    name: str, read: object, meant: str
) -> None:
    assert PARAMETERS[name].check(read) == meant


def test_a_truth_value_is_no_text_where_on_and_off_are_no_choices() -> None:
    with pytest.raises(ParameterError, match="must be a str"):
        PARAMETERS["camera.path"].check(True)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"depth.min_m": 5.0, "depth.max_m": 5.0}, "the minimum must be smaller"),
        ({"preview.min_m": 20.0}, "the minimum must be smaller"),
        ({"scale.source": "fixed"}, "scale.fixed_scale is not set"),
        ({"camera.source": "video"}, "camera.path is empty"),
        ({"camera.fourcc": "MJPEG"}, "four characters"),
        ({"depth.maximum": 5.0}, "there is no parameter"),
        ({"depth.encoding": "mono8"}, "choose one of"),
        ({"lidar.extrinsics": "0 1e39 0 0 0 0"}, "at most 1e\\+06"),
        ({"ground.imu_extrinsics": "0 0 -1000001 0 0 0"}, "at most 1e\\+06"),
    ],
)
def test_values_that_contradict_are_refused_with_the_reason(
    values: dict[str, object], reason: str
) -> None:
    with pytest.raises(ParameterError, match=reason):
        Settings().with_values(values).check_together()
