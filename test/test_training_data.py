"""Rendered frames, batches and disturbances; none of it needs PyTorch."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from depth_node.training import command
from depth_node.training.data import AugmentConfig, disturb, make_batch
from depth_node.training.frames import Frames, Mixture, Sample, Step, write_shard
from depth_node.training.shards import ShardConfig, render_shards


@pytest.fixture(scope="session")
def frames(tmp_path_factory) -> Frames:
    config = ShardConfig(frames=12, width=64, height=48, views=6, per_shard=6)
    return Frames(render_shards(config, tmp_path_factory.mktemp("shards"), workers=1))


def test_frames_are_rendered_once_and_are_the_same_every_time(tmp_path):
    config = ShardConfig(frames=3, width=48, height=32, views=1, per_shard=2)
    first = render_shards(config, tmp_path / "a", workers=1)
    (first[0] / "image.npy").touch()
    stamp = (first[0] / "image.npy").stat().st_mtime_ns
    assert render_shards(config, tmp_path / "a", workers=1) == first
    assert (first[0] / "image.npy").stat().st_mtime_ns == stamp
    again = render_shards(config, tmp_path / "b", workers=2)
    one, other = Frames(first), Frames(again)
    assert one.count == other.count == 3
    for index in range(3):
        np.testing.assert_array_equal(one[index][0], other[index][0])
        np.testing.assert_array_equal(one[index][1], other[index][1])


def test_only_what_nobody_writes_any_more_is_dropped(tmp_path):
    """A second process on the same frames must not delete what the first is writing."""
    config = ShardConfig(frames=1, width=48, height=32, views=1, per_shard=1)
    folder = render_shards(config, tmp_path, workers=1)[0].parent
    for name, age_s in (("live", 60), ("dead", 7200)):
        (folder / f".partial-{name}").mkdir()
        os.utime(folder / f".partial-{name}", (time.time() - age_s,) * 2)
    render_shards(config, tmp_path, workers=1)
    assert [path.name for path in folder.glob(".*")] == [".partial-live"]


def test_a_shard_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(path, array):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        write_shard(tmp_path / "00000", {"image": np.zeros((1, 2, 2, 3), np.uint8)})
    assert not list(tmp_path.iterdir())


def test_disparity_is_inverse_depth_and_zero_in_the_sky(frames):
    for index in range(frames.count):
        disparity = np.asarray(frames[index][1], np.float32)
        assert np.isfinite(disparity).all()
        assert (disparity >= 0).all()
        assert disparity.max() > 0


def test_a_batch_depends_on_seed_and_step_alone(frames):
    data = Mixture([(frames, 1.0)])
    one = make_batch(data, AugmentConfig(), 5, Step(17, 51, 3, (64, 32)))
    same = make_batch(data, AugmentConfig(), 5, Step(17, 51, 3, (64, 32)))
    other = make_batch(data, AugmentConfig(), 5, Step(18, 54, 3, (64, 32)))
    np.testing.assert_array_equal(one.image, same.image)
    np.testing.assert_array_equal(one.disparity, same.disparity)
    assert (one.image != other.image).any()
    assert one.image.shape == (3, 32, 64, 3)
    assert one.disparity.shape == (3, 32, 64)


class Numbered:
    """Frames whose disparity is their number; the numbers start at `first`."""

    def __init__(self, count: int, *, teacher: bool = False, side: int = 8, first: int = 0) -> None:
        self.count, self._teacher, self._side, self._first = count, teacher, side, first

    def __getitem__(self, index: int) -> Sample:
        numbers = np.full((self._side, self._side), self._first + index, np.float16)
        image = np.full((self._side, self._side, 3), self._first + index, np.uint8)
        return Sample(image, *((None, numbers) if self._teacher else (numbers, None)))


def steps_of(batches: list[int]) -> list[Step]:
    """The steps of a run with these batches, of 8x8 images."""
    return [Step(n, sum(batches[:n]), count, (8, 8)) for n, count in enumerate(batches)]


def numbers(samples: list[Sample]) -> list[int]:
    return [int(sample.image[0, 0, 0]) for sample in samples]


def test_an_epoch_shows_every_frame_once():
    data = Mixture([(Numbered(10), 1.0)])
    seen = [
        float(value)
        for step in steps_of([2] * 5)
        for value in make_batch(data, AugmentConfig(), 0, step).disparity[:, 0, 0]
    ]
    assert sorted(seen) == list(range(10))


def test_the_order_of_a_single_source_stays_what_the_committed_runs_had():
    data = Mixture([(Numbered(250), 1.0)])
    drawn = [numbers(data.draw(5, step)) for step in steps_of([4] * 100)]
    assert drawn[0] == [131, 198, 70, 9]
    assert drawn[1] == [64, 3, 192, 125]
    assert drawn[99] == [220, 169, 118, 67]


def shares(most: int) -> st.SearchStrategy[list[float]]:
    """Shares of up to so many sources, some of them tiny."""
    parts = st.lists(st.sampled_from([1, 7, 60]) | st.integers(1, 100), min_size=1, max_size=most)
    return parts.map(lambda weights: [weight / sum(weights) for weight in weights])


@given(shares=shares(8), batches=st.lists(st.integers(1, 64), max_size=60), seed=st.integers(0, 9))
@example(shares=[0.6, 0.01, 0.39], batches=[32] * 12, seed=0)
@example(shares=[0.02] * 7 + [0.86], batches=[30], seed=0)
@settings(deadline=None, max_examples=100)
def test_a_mixture_keeps_its_shares_and_every_source_its_epochs(shares, batches, seed):
    sources = [Numbered(20, first=20 * i) for i in range(len(shares))]
    data = Mixture(list(zip(sources, shares, strict=True)))
    steps = steps_of(batches)
    drawn = [numbers(data.draw(seed, step)) for step in steps]
    shown = np.zeros((len(shares), 20), int)
    for step, samples in zip(steps, drawn, strict=True):
        assert len(samples) == step.count
        np.add.at(shown.reshape(-1), samples, 1)
        wanted = np.array(shares) * (step.first + step.count)
        assert np.abs(shown.sum(axis=1) - wanted).max() <= 2
        assert np.ptp(shown, axis=1).max() <= 1, "each frame once in an epoch"
    resumed = Mixture(list(zip(sources, shares, strict=True)))
    assert [numbers(resumed.draw(seed, step)) for step in steps[-3:]] == drawn[-3:]


def test_a_tiny_share_in_a_small_batch_is_one_batch_all_the_same():
    """Shares that were rounded side by side gave 33 images in step 4."""
    sources = [(Numbered(9), 0.6), (Numbered(9, teacher=True), 0.01), (Numbered(9), 0.39)]
    data = Mixture(sources)
    for step in steps_of([32] * 6):
        assert len(make_batch(data, AugmentConfig(), 0, step).image) == 32


@pytest.mark.parametrize("shares", [(), (0.5,), (0.5, 0.6), (1.5, -0.5)])
def test_shares_that_do_not_add_up_are_refused(shares):
    with pytest.raises(ValueError, match="add up to 1"):
        Mixture([(Numbered(3), share) for share in shares])


def test_cutmix_pastes_images_with_their_labels_and_says_where():
    data = Mixture([(Numbered(9, teacher=True, side=32), 1.0)])
    calm = AugmentConfig(
        zoom=1, stretch=0, colour=0, noise=0, blur=0, jpeg=0, grey=0, erase=0, cutmix=1.0
    )
    step = Step(0, 0, 8, (32, 32))
    batch = make_batch(data, calm, 1, step)
    np.testing.assert_array_equal(batch.image[..., 0], batch.teacher.astype(np.uint8))
    np.testing.assert_array_equal(batch.image, batch.plain)
    assert np.isnan(batch.disparity).all()
    assert batch.pasted.any()
    for teacher, pasted in zip(batch.teacher, batch.pasted, strict=True):
        assert len(np.unique(teacher[~pasted])) <= 1
        assert len(np.unique(teacher[pasted])) <= 1
        if pasted.any() and not pasted.all():
            assert teacher[pasted][0] != teacher[~pasted][0]
    still = make_batch(data, dataclasses.replace(calm, cutmix=0.0), 1, step)
    assert not still.pasted.any()


def test_images_with_ground_truth_are_never_mixed():
    data = Mixture([(Numbered(9, side=32), 1.0)])
    batch = make_batch(data, AugmentConfig(cutmix=1.0), 1, Step(0, 0, 8, (32, 32)))
    assert not batch.pasted.any()


def test_disturbing_keeps_what_the_image_shows_and_its_source(frames):
    image = np.array(frames[0][0])
    before = image.copy()
    rng = np.random.default_rng(0)
    for _ in range(20):
        out = disturb(image, rng, AugmentConfig(erase=0))
        assert out.shape == image.shape
        assert out.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    calm = AugmentConfig(colour=0, noise=0, blur=0, jpeg=0, grey=0, erase=0)
    np.testing.assert_array_equal(disturb(image, rng, calm), image)


def test_settings_that_cannot_be_rendered_are_refused():
    with pytest.raises(ValueError, match="frames is 0"):
        ShardConfig(frames=0)
    with pytest.raises(ValueError, match="must be a multiple"):
        ShardConfig(views=3, per_shard=4)
    with pytest.raises(ValueError, match="no shards"):
        Frames([])


def test_without_pytorch_it_is_said_how_to_install_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    config = Path(tmp_path / "run.yaml")
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.run(parser.parse_args(["--config", str(config)])) == 1
    said = capsys.readouterr().err
    assert "which is not installed: pip install " in said
