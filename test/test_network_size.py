"""The size that a network runs an image at: the reference's, the graph's, and its bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_node.network.compose import Size, compose
from depth_node.network.errors import ModelError
from depth_node.network.front import LARGEST_SIDE, size_policy, split_front

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import parser
from onnx_stubs import stub_model
from test_network import RELATIVE, core

_SPLIT = split_front(compose(core(), RELATIVE, Size(short=252), "fp32"))


def reference_size(short: int, height: int, width: int, multiple: int = 14) -> tuple[int, int]:
    """The official preprocessing's size (`Resize` with `lower_bound`), in float64 as there."""
    scale = max(short / height, short / width)

    def constrain(side: float) -> int:
        near = int(np.round(side / multiple) * multiple)
        return near if near >= short else int(np.ceil(side / multiple) * multiple)

    return constrain(scale * height), constrain(scale * width)


@settings(max_examples=200, deadline=None)
@given(
    short=st.sampled_from([126, 252, 392, 518]),
    height=st.integers(16, 4000),
    width=st.integers(16, 4000),
)
def test_the_size_is_that_of_the_official_preprocessing(short, height, width):
    exact = short * max(height, width) / (14 * min(height, width))
    if abs(exact % 1 - 0.5) < 1e-6:
        return  # a tie: float64 rounds it either way in the original
    wanted = reference_size(short, height, width)
    assert size_or_none(Size(short=short).of, height, width, 14) == within_bounds(wanted)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(16, 2200), width=st.integers(16, 2200))
def test_the_graph_computes_the_same_size_as_the_code(height, width):
    in_code = size_or_none(Size(short=252).of, height, width, 14)
    assert size_or_none(_SPLIT.size_of, height, width) == in_code


def size_or_none(size_of, *arguments: int) -> tuple[int, int] | None:
    try:
        return size_of(*arguments)
    except ModelError:
        return None


def within_bounds(size: tuple[int, int]) -> tuple[int, int] | None:
    return size if max(size) <= LARGEST_SIDE else None


def test_an_image_that_the_network_would_be_too_large_for_is_named_with_the_cure():
    reason = (
        r"an image of 64000x10 would be resized to 1612800x252 for the network \(width x height\), "
        r"which takes sides of 1 to 2048; .*set model.size to a fixed height x width, as 252x336"
    )
    for refuse in (
        lambda: Size(short=252).of(10, 64000, 14),
        lambda: _SPLIT.size_of(10, 64000),
        lambda: _SPLIT.resize(np.zeros((10, 64000, 3), np.uint8)),
    ):
        with pytest.raises(ModelError, match=reason):
            refuse()
    assert Size(short=252).of(252, 2048, 14) == (252, 2044)  # what fits is as it was


def test_a_network_of_a_fixed_size_takes_an_image_of_any():
    policy = size_policy(stub_model(size=(42, 4200)))
    assert not policy.follows_image
    assert policy.size_of(10, 64000) == (42, 4200)  # which somebody has asked for
    assert Size(height=252, width=2800).of(10, 64000, 14) == (252, 2800)


def test_the_size_of_a_network_is_known_where_opencv_cannot_resize_for_it():
    text = onnx.printer.to_text(stub_model(size=None))
    model = parser.parse_model(text.replace("cubic_coeff_a: float = -0.75", "antialias: int = 1"))
    assert split_front(model) is None
    policy = size_policy(model)
    assert policy.follows_image
    assert policy.size_of(480, 640) == (240, 320)
    with pytest.raises(ModelError, match="32000x5"):
        policy.size_of(10, 64000)


@pytest.mark.parametrize(
    "attribute", ["axes: ints = [2, 3]", 'keep_aspect_ratio_policy = "not_larger"']
)
def test_sizes_that_are_not_those_of_the_result_say_nothing(attribute):
    text = onnx.printer.to_text(stub_model(size=None))
    model = parser.parse_model(text.replace("cubic_coeff_a: float = -0.75", attribute))
    assert size_policy(model) is None


def test_a_front_that_cannot_be_evaluated_says_nothing(monkeypatch):
    def refuse(*_):
        raise NotImplementedError("no such operator")

    monkeypatch.setattr("onnx.reference.ReferenceEvaluator.__init__", refuse)
    assert size_policy(stub_model(size=None)) is None
