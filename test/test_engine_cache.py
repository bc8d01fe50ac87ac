"""The engine cache and the self-test: what is poisoned is never used."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from depth_node.engines import cache as cache_module
from depth_node.engines import retention, select, selftest
from depth_node.engines.base import EngineError
from depth_node.engines.cache import EngineCache, Verdict
from depth_node.engines.select import load_engine
from depth_node.engines.selftest import check, golden_frames
from depth_node.network import store
from depth_node.network.errors import ModelError
from depth_node.parameters import ModelSettings
from depth_node.types import Disparity

pytestmark = pytest.mark.usefixtures("own_cache")

SIGNATURE = {"graph": "abc", "runtime": "1.0", "precision": "fp32"}


@pytest.fixture
def cache(lines: list[str]) -> EngineCache:
    return EngineCache(log=lines.append)


def engine_file(cache: EngineCache) -> Path:
    (path,) = cache.folder.glob("*.engine")
    return path


def test_what_is_stored_is_loaded(cache):
    cache.store(SIGNATURE, b"compiled")
    assert cache.load(SIGNATURE) == b"compiled"
    assert engine_file(cache).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("key", sorted(SIGNATURE))
def test_any_change_of_the_signature_misses(cache, key):
    cache.store(SIGNATURE, b"compiled")
    assert cache.load({**SIGNATURE, key: "other"}) is None


@pytest.mark.parametrize("damage", ["altered", "truncated", "foreign", "empty"])
def test_a_poisoned_file_is_built_again(cache, lines, damage):
    cache.store(SIGNATURE, b"compiled")
    path = engine_file(cache)
    data = path.read_bytes()
    path.write_bytes(
        {
            "altered": data[:-1] + b"X",
            "truncated": data[:-3],
            "foreign": b"an engine of somebody else",
            "empty": b"",
        }[damage]
    )
    assert cache.get_or_build(SIGNATURE, lambda: b"again") == b"again"
    assert "refused" in lines[0]
    assert cache.load(SIGNATURE) == b"again"


def test_an_engine_under_another_ones_name_is_refused(cache, lines):
    """A file of another version, renamed to look current, does not pass."""
    cache.store({**SIGNATURE, "runtime": "0.9"}, b"old")
    engine_file(cache).rename(cache.folder / f"{cache_module.key_of(SIGNATURE)}.engine")
    assert cache.load(SIGNATURE) is None
    assert "another signature" in lines[0]


def test_a_file_that_others_could_write_is_refused(cache, lines):
    cache.store(SIGNATURE, b"compiled")
    engine_file(cache).chmod(0o666)
    assert cache.load(SIGNATURE) is None
    assert "mode" in lines[0]


def test_an_engine_in_a_home_that_may_only_be_read_is_loaded(cache, monkeypatch):
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    cache.store(SIGNATURE, b"compiled")
    monkeypatch.setattr(cache_module.os, "utime", read_only)
    assert cache.load(SIGNATURE) == b"compiled"


def test_what_a_read_only_home_keeps_is_not_loaded_again_after_it_was_refused(
    cache, lines, monkeypatch
):
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    cache.store(SIGNATURE, b"compiled")
    monkeypatch.setattr(Path, "unlink", read_only)
    cache.forget(SIGNATURE)
    assert cache.get_or_build(SIGNATURE, lambda: b"compiled again") == b"compiled again"
    assert "cannot be deleted: Read-only file system" in lines[0]


def test_engines_without_a_verdict_are_listed_and_foreign_files_are_not(cache):
    cache.store(SIGNATURE, b"compiled")
    tested = {**SIGNATURE, "shape": "720x1280x3"}
    cache.store(tested, b"compiled")
    cache.keep_verdict(tested, Verdict(True, 0.001, 0.01))
    engine_of_another = cache.folder / "other.engine"
    engine_of_another.write_bytes((cache.folder / engine_name(SIGNATURE)).read_bytes())
    (cache.folder / "damaged.engine").write_bytes(b"nothing of ours")
    entries = {entry.path.name: entry for entry in cache.entries()}
    assert entries.keys() == {engine_name(SIGNATURE), engine_name(tested)}
    assert entries[engine_name(SIGNATURE)].verdict is None
    assert entries[engine_name(tested)].verdict == Verdict(True, 0.001, 0.01)
    assert all(entry.size_bytes > len(b"compiled") for entry in entries.values())


def test_a_verdict_counts_only_for_the_engine_that_it_judged(cache):
    cache.store(SIGNATURE, b"compiled")
    cache.keep_verdict(SIGNATURE, Verdict(True, 0.001, 0.01))
    assert cache.verdict(SIGNATURE) == Verdict(True, 0.001, 0.01)
    cache.store(SIGNATURE, b"compiled by another")
    assert cache.verdict(SIGNATURE) is None


def test_of_two_builders_one_builds_and_the_other_waits(own_cache):
    built: list[str] = []
    waiting, release = threading.Event(), threading.Event()
    building = threading.Event()

    def build() -> bytes:
        built.append("once")
        building.set()
        assert release.wait(10)
        return b"compiled"

    def note(line: str) -> None:
        if "waiting" in line:
            waiting.set()

    results: list[bytes] = []
    first = threading.Thread(
        target=lambda: results.append(EngineCache().get_or_build(SIGNATURE, build))
    )
    second = threading.Thread(
        target=lambda: results.append(EngineCache(log=note).get_or_build(SIGNATURE, build))
    )
    first.start()
    assert building.wait(10)
    second.start()
    assert waiting.wait(10)
    release.set()
    first.join(10)
    second.join(10)
    assert results == [b"compiled", b"compiled"]
    assert built == ["once"]


def test_a_full_disk_costs_only_the_cache(cache, lines, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store.os, "fsync", full)
    assert cache.get_or_build(SIGNATURE, lambda: b"compiled") == b"compiled"
    assert "No space left" in lines[-1]
    assert not list(cache.folder.glob("*.engine"))
    assert not list(cache.folder.glob(".*"))


def test_a_verdict_on_an_engine_that_could_not_be_kept_does_not_pass_the_next_one(
    cache, monkeypatch
):
    real = cache_module.write_atomically

    def full_for_engines(path: Path, data: bytes) -> None:
        if path.suffix == ".engine":
            raise ModelError("No space left")
        real(path, data)

    monkeypatch.setattr(cache_module, "write_atomically", full_for_engines)
    cache.get_or_build(SIGNATURE, lambda: b"compiled")
    cache.keep_verdict(SIGNATURE, Verdict(True, 0.001, 0.01))
    assert EngineCache().verdict(SIGNATURE) is None
    monkeypatch.setattr(cache_module, "write_atomically", real)
    cache.store(SIGNATURE, b"compiled")
    cache.keep_verdict(SIGNATURE, Verdict(True, 0.001, 0.01))
    assert cache.verdict(SIGNATURE) is not None


class Recorded:
    """An engine that answers the golden frames with what it was given."""

    name, model, device, precision = "recorded", "net", "none", "fp16"

    def __init__(self, *answers: np.ndarray) -> None:
        self._answers = iter(answers)

    def infer(self, image: np.ndarray) -> Disparity:
        return Disparity(next(self._answers))

    def close(self) -> None:
        """Nothing to free."""


WANTED = [np.full((4, 5), value, np.float32) for value in (1.0, 2.0)]


def test_the_self_test_passes_what_is_within_tolerance():
    close = [w * 1.009 for w in WANTED]
    verdict = check(Recorded(close[0], close[0], close[1], close[1]), WANTED)
    assert verdict.passed
    assert verdict.error == pytest.approx(0.009, rel=1e-3)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([WANTED[0], WANTED[0], WANTED[1] * 1.02, WANTED[1] * 1.02], "differs from fp32 by 2.00%"),
        ([WANTED[0], WANTED[0] * 1.005, WANTED[1], WANTED[1]], "when it is run twice"),
        ([WANTED[0][:2], WANTED[0][:2], WANTED[1], WANTED[1]], r"gave \(2, 5\)"),
    ],
)
def test_the_self_test_refuses_wrong_scale_flicker_and_shape(answers, reason):
    verdict = check(Recorded(*answers), WANTED)
    assert not verdict.passed
    assert verdict.reason
    import re

    assert re.search(reason, verdict.reason)


def test_golden_frames_are_the_same_in_every_run():
    corridor, room = golden_frames()
    assert corridor.shape == room.shape == (480, 640, 3)
    assert corridor.dtype == np.uint8
    assert np.ptp(corridor) > 100
    assert np.ptp(room) > 200


@pytest.fixture
def stub(tmp_path: Path) -> ModelSettings:
    pytest.importorskip("openvino")
    pytest.importorskip("onnxruntime")
    from onnx_stubs import save_stub

    path = save_stub(tmp_path / "net.onnx")
    return ModelSettings(name=str(path), engine="auto", precision="fp32", threads=1)


def test_an_engine_out_of_tolerance_is_refused_and_the_next_taken(stub, lines, monkeypatch):
    monkeypatch.setitem(selftest.TOLERANCES, "fp32", 1e-12)
    monkeypatch.setattr(select, "SMALL_BYTES", 0)  # so that openvino comes first
    from depth_node.engines import openvino

    true_result = openvino.as_disparity

    def jumped(raw, engine, kind):
        return true_result(raw * 1.01, engine, kind)

    monkeypatch.setattr(openvino, "as_disparity", jumped)
    assert load_engine(stub, lines.append).name == "onnxruntime"
    assert any("openvino" in line and "self-test failed" in line for line in lines)


def test_when_every_engine_fails_its_self_test_nothing_is_loaded(stub, lines, monkeypatch):
    monkeypatch.setitem(selftest.TOLERANCES, "fp32", -1.0)
    with pytest.raises(EngineError, match="self-test failed"):
        load_engine(stub, lines.append)


def test_a_self_test_that_was_passed_is_not_repeated(stub, lines, monkeypatch):
    load_engine(stub, lines.append)
    monkeypatch.setattr(selftest, "check", None)  # calling it would fail
    load_engine(stub, lines.append)


@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_a_reference_that_is_damaged_is_computed_again(stub, own_cache, lines, left):
    load_engine(stub, lines.append)
    (kept,) = (own_cache / "references").glob("*.npz")
    whole = kept.read_bytes()
    kept.write_bytes(whole[: int(left * len(whole))])
    for verdict in (own_cache / "engines").glob("*.verdict"):
        verdict.unlink()
    load_engine(stub, lines.append)
    with np.load(kept) as arrays:
        assert len(arrays.files) == len(golden_frames())


def test_a_variant_is_tested_again_when_its_fp32_graph_is_another(tmp_path, stub, lines):
    """As after an export of new weights in fp32 alone, with the old fp16 graph still beside it."""
    from onnx_stubs import save_stub

    save_stub(tmp_path / "net.fp16.onnx", precision="fp16")
    half = dataclasses.replace(stub, engine="onnxruntime", precision="fp16")
    load_engine(half, lines.append).close()
    body = "summed = Conv <pads = [1, 1, 1, 1]> (pixels, kernel)  raw = Add (summed, summed)"
    save_stub(tmp_path / "net.onnx", body=body)
    with pytest.raises(EngineError, match=r"differs from fp32 by 50.00%"):
        load_engine(half, lines.append)


def test_a_poisoned_engine_is_compiled_and_tested_again(stub, own_cache, lines):
    stub = dataclasses.replace(stub, engine="openvino")
    load_engine(stub, lines.append)
    (path,) = (own_cache / "engines").glob("*.engine")
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    lines.clear()
    load_engine(stub, lines.append)
    assert any("refused and built again" in line for line in lines)


def kept_keys(cache: EngineCache) -> set[str]:
    return {path.name for path in cache.folder.glob("*.engine")}


def engine_name(signature: dict[str, str]) -> str:
    return f"{cache_module.key_of(signature)}.engine"


def test_an_update_of_the_runtime_deletes_what_it_replaces(cache, lines):
    older = {**SIGNATURE, "runtime": "0.9"}
    other_graph = {**older, "graph": "def"}
    other_precision = {**older, "precision": "int8"}
    for signature in (older, other_graph, other_precision):
        cache.store(signature, b"compiled")
        cache.keep_verdict(signature, Verdict(True, 0.001, 0.01))
    cache.store(SIGNATURE, b"compiled")
    assert kept_keys(cache) == {engine_name(s) for s in (SIGNATURE, other_graph, other_precision)}
    assert cache.verdict(older) is None
    assert len(cache.entries()) == 3
    assert any("another version of its runtime" in line for line in lines)


def test_the_longest_unused_engines_leave_when_the_cache_is_full(cache, lines):
    signatures = [{**SIGNATURE, "shape": str(number)} for number in range(4)]
    for number, signature in enumerate(signatures):
        cache.store(signature, bytes(1000))
        os.utime(cache.folder / engine_name(signature), (number, number))
    assert cache.load(signatures[0]) is not None  # used again: no longer the oldest
    retention.prune(
        cache.folder, signatures[3], cache_module.key_of(signatures[3]), lines.append, 3000
    )
    assert kept_keys(cache) == {engine_name(signatures[number]) for number in (0, 3)}
    assert all("kept under" in line for line in lines)
    assert len(lines) == 2


def test_the_engine_that_was_just_built_stays_even_if_it_is_larger_than_the_limit(cache, lines):
    cache.store(SIGNATURE, bytes(1000))
    retention.prune(cache.folder, SIGNATURE, cache_module.key_of(SIGNATURE), lines.append, 10)
    assert kept_keys(cache) == {engine_name(SIGNATURE)}


def test_an_engine_that_another_process_is_building_is_left_alone(cache, lines):
    older = {**SIGNATURE, "runtime": "0.9"}
    with cache.building(older):
        cache.store(older, b"compiled")
        cache.store(SIGNATURE, b"compiled")
        assert kept_keys(cache) == {engine_name(older), engine_name(SIGNATURE)}
