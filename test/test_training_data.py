"""Rendered frames, batches and disturbances; none of it needs PyTorch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest

from depth_node.training import command
from depth_node.training.data import AugmentConfig, disturb, make_batch
from depth_node.training.shards import Frames, ShardConfig, render_shards


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


def test_disparity_is_inverse_depth_and_zero_in_the_sky(frames):
    for index in range(frames.count):
        disparity = np.asarray(frames[index][1], np.float32)
        assert np.isfinite(disparity).all()
        assert (disparity >= 0).all()
        assert disparity.max() > 0


def test_a_batch_depends_on_seed_and_step_alone(frames):
    one = make_batch(frames, AugmentConfig(), 5, 17, (64, 32), 3)
    same = make_batch(frames, AugmentConfig(), 5, 17, (64, 32), 3)
    other = make_batch(frames, AugmentConfig(), 5, 18, (64, 32), 3)
    np.testing.assert_array_equal(one.image, same.image)
    np.testing.assert_array_equal(one.disparity, same.disparity)
    assert (one.image != other.image).any()
    assert one.image.shape == (3, 32, 64, 3)
    assert one.disparity.shape == (3, 32, 64)


def test_an_epoch_shows_every_frame_once():
    class Numbered:
        count = 10

        def __getitem__(self, index):
            return np.zeros((8, 8, 3), np.uint8), np.full((8, 8), index, np.float16)

    seen = [
        float(value)
        for step in range(5)
        for value in make_batch(Numbered(), AugmentConfig(), 0, step, (8, 8), 2).disparity[:, 0, 0]
    ]
    assert sorted(seen) == list(range(10))


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


def test_without_pytorch_the_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    config = Path(tmp_path / "run.yaml")
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.run(parser.parse_args(["--config", str(config)])) == 1
    assert "depth_node[train]" in capsys.readouterr().err
