"""Engines that compile for each size of image: each is tested before its first frame."""

from __future__ import annotations

import json
import types
from pathlib import Path

import numpy as np
import pytest

from depth_node.cli import main
from depth_node.engines import by_shape, openvino
from depth_node.engines.base import EngineError
from depth_node.engines.by_shape import ByShape
from depth_node.engines.cache import EngineCache
from depth_node.engines.select import load_engine
from depth_node.parameters import ModelSettings

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
from onnx_stubs import save_stub

pytestmark = pytest.mark.usefixtures("own_cache")

LARGE_BYTES = 1 << 30
"""Of a graph so large that two shapes are kept."""


class Shapes:
    """An engine's shapes, and what was done for them.

    Attributes:
        failures: raised instead of opening, by shape.
        stuck: raised when these are given back.
        now_s: the clock; opening takes `taking_s` of it.
    """

    def __init__(self, graph_bytes: int = LARGE_BYTES) -> None:
        self.opened: list[int] = []
        self.freed: list[str] = []
        self.tested: list[int] = []
        self.failures: dict[int, Exception] = {}
        self.stuck: dict[str, Exception] = {}
        self.now_s, self.taking_s = 1000.0, 0.0
        self.kept: ByShape[int, str] = ByShape("the engine", graph_bytes, self.open, self.free)

    def open(self, shape: int) -> str:
        self.opened.append(shape)
        self.now_s += self.taking_s
        if shape in self.failures:
            raise self.failures[shape]
        return f"for {shape}"

    def free(self, session: str) -> None:
        self.freed.append(session)
        if session in self.stuck:
            raise self.stuck[session]

    def get(self, shape: int, refusal: Exception | None = None) -> str:
        def test() -> None:
            self.tested.append(shape)
            assert self.get(shape) == f"for {shape}"  # as the frames of the test do
            if refusal is not None:
                raise refusal

        return self.kept.get(shape, test)


def test_a_shape_is_opened_and_tested_once_while_it_is_kept():
    shapes = Shapes()
    assert [shapes.get(shape) for shape in (1, 2, 1, 2)] == ["for 1", "for 2"] * 2
    assert shapes.opened == shapes.tested == [1, 2]
    shapes.get(3)
    assert shapes.freed == ["for 1"]
    shapes.get(1)
    assert shapes.tested == [1, 2, 3, 1]
    shapes.kept.clear()
    assert len(shapes.freed) == len(shapes.opened)


def test_the_shape_that_was_used_longest_ago_is_dropped():
    shapes = Shapes()
    for shape in (1, 2, 1, 3):  # as a camera of shape 1, and frames of others now and then
        shapes.get(shape)
    assert shapes.freed == ["for 2"]
    shapes.get(1)
    assert shapes.opened == [1, 2, 3]


@pytest.mark.parametrize(
    ("graph_bytes", "kept"),
    [(0, 8), (100_000_000, 8), (195_000_000, 4), (390_000_000, 2), (1_300_000_000, 2)],
)
def test_as_many_shapes_are_kept_as_fit_into_memory(graph_bytes, kept):
    shapes = Shapes(graph_bytes)
    for _ in range(2):
        for shape in range(kept):
            shapes.get(shape)
    assert shapes.opened == list(range(kept))
    shapes.get(kept)
    assert shapes.freed == ["for 0"]


def test_the_log_says_once_that_a_shape_is_opened_again(caplog):
    shapes = Shapes()
    for shape in (1, 2, 3):
        shapes.get(shape)
    assert not caplog.records
    for shape in (1, 2, 3):  # each drops the one that comes next
        shapes.get(shape)
    (record,) = caplog.records
    assert "the engine opens its network again" in record.message
    assert "it keeps 2 shapes" in record.message
    assert "set model.size" in record.message


def test_a_shape_that_is_refused_stays_refused_without_a_further_try():
    shapes = Shapes()
    for _ in range(3):
        with pytest.raises(EngineError, match="wrong"):
            shapes.get(1, EngineError("wrong"))
    assert shapes.opened == shapes.tested == [1]
    assert shapes.freed == ["for 1"]


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Shapes:
    """Shapes whose clock the test holds."""
    shapes = Shapes()
    clock = types.SimpleNamespace(monotonic=lambda: shapes.now_s)
    monkeypatch.setattr(by_shape, "time", clock)
    return shapes


@pytest.mark.parametrize(("taking_s", "rest_s"), [(300.0, 3000.0), (0.01, 10.0)])
def test_a_shape_that_cannot_be_compiled_is_not_compiled_for_every_frame(clocked, taking_s, rest_s):
    clocked.taking_s = taking_s
    clocked.failures[1] = EngineError("no memory")
    for _ in range(3):
        with pytest.raises(EngineError, match=r"^no memory$"):
            clocked.get(1)
    assert clocked.opened == [1]
    assert clocked.get(2) == "for 2"  # the others are not held up
    clocked.now_s += rest_s - taking_s - 0.001
    with pytest.raises(EngineError, match="no memory"):
        clocked.get(1)
    assert clocked.opened == [1, 2]
    clocked.now_s += 0.002
    clocked.failures.clear()
    assert [clocked.get(1) for _ in range(2)] == ["for 1"] * 2
    assert clocked.opened == [1, 2, 1]


def test_a_runtime_that_fails_in_its_own_way_is_not_asked_for_every_frame_either(clocked):
    clocked.failures[1] = TypeError("not a plan")
    with pytest.raises(TypeError):
        clocked.get(1)
    with pytest.raises(EngineError, match="TypeError: not a plan"):
        clocked.get(1)
    assert clocked.opened == [1]


def test_a_shape_whose_test_failed_is_not_tried_again_later(clocked):
    with pytest.raises(EngineError, match="wrong"):
        clocked.get(1, EngineError("wrong"))
    clocked.now_s += 1e6
    with pytest.raises(EngineError, match="wrong"):
        clocked.get(1)
    assert clocked.opened == [1]


def test_the_refusals_that_are_remembered_are_bounded(clocked):
    for shape in range(10 * by_shape._MOST_REFUSED):
        clocked.failures[shape] = EngineError("no memory")
        with pytest.raises(EngineError):
            clocked.get(shape)
    assert len(clocked.kept._refused) == by_shape._MOST_REFUSED
    with pytest.raises(EngineError):
        clocked.get(shape)
    assert clocked.opened[-2:] == [shape - 1, shape]


def test_what_cannot_be_given_back_keeps_nothing_else_from_it():
    shapes = Shapes()
    shapes.get(1)
    shapes.get(2)
    shapes.stuck = {"for 1": EngineError("stuck"), "for 2": EngineError("also stuck")}
    with pytest.raises(EngineError, match=r"^stuck$"):
        shapes.kept.clear()
    assert shapes.freed == ["for 1", "for 2"]
    shapes.kept.clear()
    assert len(shapes.freed) == 2  # nothing is given back twice


def test_a_shape_is_not_refused_for_what_could_not_be_given_back_for_it():
    shapes = Shapes()
    for shape in (1, 2):
        shapes.get(shape)
    shapes.stuck = {"for 1": EngineError("stuck")}
    with pytest.raises(EngineError, match="stuck"):
        shapes.get(3)
    assert shapes.get(3) == "for 3"


def test_nothing_is_said_of_shapes_that_come_back_where_they_share_a_session(caplog):
    shapes = Shapes(0)
    for shape in [*range(by_shape._MOST + 1)] * 2:
        shapes.get(shape)
    assert shapes.opened == [*range(by_shape._MOST + 1)] * 2
    assert not caplog.records


def test_a_test_that_could_not_be_run_is_run_again():
    shapes = Shapes()
    with pytest.raises(MemoryError):
        shapes.get(1, MemoryError())
    assert shapes.get(1) == "for 1"
    assert shapes.tested == [1, 1]


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A network whose size follows the image's."""
    return save_stub(tmp_path / "net.onnx", size=None)


def load(network: Path, lines: list[str], engine: str = "openvino"):
    settings = ModelSettings(name=str(network), engine=engine, precision="fp32", threads=1)
    return load_engine(settings, lines.append)


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_cameras_of_three_shapes_take_turns_without_opening_again(
    network, lines, monkeypatch, engine
):
    loaded = load(network, lines, engine)
    opened: list[tuple[ByShape, tuple[int, ...]]] = []  # the engine's own, and its reference's
    load_shape = ByShape.load
    monkeypatch.setattr(
        ByShape,
        "load",
        lambda self, shape: opened.append((self, shape[:2])) or load_shape(self, shape),
    )
    for _ in range(3):
        for size in [(480, 640), (360, 640), (512, 640)]:
            loaded.infer(picture(*size))
    assert {shape for _, shape in opened} == {(180, 320), (256, 320)}  # the first is open already
    assert len(opened) == len(set(opened))
    loaded.close()


def test_a_further_size_of_image_is_tested_once_for_all_starts(network, lines, monkeypatch):
    for _ in range(2):
        engine = load(network, lines)
        engine.infer(picture(240, 320))
        engine.infer(picture(480, 640))
        engine.close()
    assert [line for line in lines if "tested for images of 320x240" in line] == [
        "engine openvino fp32: tested for images of 320x240, differs from fp32 by 0.00%"
    ]
    tested = {
        entry.signature["shape"] for entry in EngineCache().entries() if entry.verdict is not None
    }
    assert tested == {"120x160x3", "240x320x3"}


def test_a_size_of_image_at_which_the_engine_is_wrong_gets_no_depth(network, lines, monkeypatch):
    right = openvino.as_disparity

    def wrong_at_one_size(raw: np.ndarray, *rest: str):
        return right(raw * (2.0 if raw.shape == (120, 160) else 1.0), *rest)

    monkeypatch.setattr(openvino, "as_disparity", wrong_at_one_size)
    engine = load(network, lines)
    for _ in range(2):
        with pytest.raises(EngineError, match=r"not used for images of 320x240: .* by 100.00%"):
            engine.infer(picture(240, 320))
    assert engine.infer(picture(480, 640)).values.shape == (240, 320)


def test_a_graph_that_was_replaced_meanwhile_is_not_what_the_engine_is_held_to(network, lines):
    engine = load(network, lines)
    save_stub(network, size=None, name="another")
    with pytest.raises(EngineError, match="another network than the one that was loaded"):
        engine.infer(picture(240, 320))


def call(capsys: pytest.CaptureFixture[str], *words: object):
    code = main([str(word) for word in words])
    return code, json.loads(capsys.readouterr().out)


BUILD = ("engines", "build", "--engine", "openvino", "--precision", "fp32", "--json", "--model")


def test_engines_are_built_ahead_for_the_cameras_size(capsys, network, lines):
    code, rows = call(capsys, *BUILD, network, "--image", "320x240")
    assert (code, rows[0]["passed"], rows[0]["image"]) == (0, True, "320x240")
    _, listed = call(capsys, "engines", "list", "--json")
    assert {row["shape"]: row["self_test"] for row in listed} == {
        "240x320x3": "passed",
        "120x160x3": "passed",
    }
    load(network, lines).infer(picture(240, 320))
    assert not [line for line in lines if "tested for images" in line]


def test_an_engine_that_is_wrong_at_the_cameras_size_is_not_built(capsys, network, monkeypatch):
    right = openvino.as_disparity
    monkeypatch.setattr(
        openvino,
        "as_disparity",
        lambda raw, *rest: right(raw * (1.0 + (raw.shape == (120, 160))), *rest),
    )
    code, rows = call(capsys, *BUILD, network, "--image", "320x240")
    assert code == 1
    assert "not used for images of 320x240" in rows[0]["error"]


@pytest.mark.parametrize("size", ["720", "0x480", "1280 x 720", "1280x720x3"])
def test_what_is_no_size_is_refused(capsys, size):
    with pytest.raises(SystemExit):
        main([*BUILD[:2], "--image", size])
    assert "give WIDTHxHEIGHT, as 1280x720" in capsys.readouterr().err
