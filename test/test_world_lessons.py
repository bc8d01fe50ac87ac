"""What the student is shown."""

from __future__ import annotations

from dataclasses import asdict

import cv2
import numpy as np
import pytest
from world_checks import assert_plausible_view

from depth_node.cli import main
from depth_node.world.lessons import Shares, lessons
from depth_node.world.staged import avenue, kitchen, office


@pytest.mark.parametrize("kind", asdict(Shares()))
def test_every_kind_gives_plausible_views(kind):
    for rgb, depth in lessons(11, 2, 80, 60, kind):
        assert_plausible_view(rgb, depth, 80, 60)


def test_a_seed_gives_the_same_views():
    for one, other in zip(lessons(3, 2, 64, 48), lessons(3, 2, 64, 48), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_shares_say_what_is_drawn():
    def farthest(shares: Shares) -> float:
        views = [next(lessons(seed, 1, 32, 24, shares=shares))[1] for seed in range(8)]
        return float(np.median([np.percentile(np.minimum(depth, 80), 90) for depth in views]))

    streets, kitchens = Shares(0, 0, 0, 0, 1, 0, 0), Shares(0, 1, 0, 0, 0, 0, 0)
    assert farthest(streets) > 2 * farthest(kitchens)


@pytest.mark.parametrize("wrong", [{"room": 0.5}, {"room": 0.42, "kitchen": -0.04}])
def test_shares_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="add up to 1"):
        Shares(**wrong)


def test_few_lessons_show_nothing_but_a_wall():
    def flat(depth: np.ndarray) -> bool:
        low, high = np.percentile(np.minimum(depth, 80), [3, 97])
        return bool(high / low < 1.8)

    seen = [flat(depth) for seed in range(24) for _, depth in lessons(seed, 2, 64, 48)]
    assert np.mean(seen) < 0.12


@pytest.mark.parametrize("compose", [kitchen, office])
def test_targets_stand_in_the_room(compose):
    found = 0
    for seed in range(6):
        stage = compose(np.random.default_rng(seed))
        x0, y0, x1, y1 = stage.place.bounds
        found += len(stage.targets)
        for left, near, right, far in stage.targets:
            assert x0 - 0.3 <= left < right <= x1 + 0.3
            assert y0 - 0.3 <= near < far <= y1 + 0.3
    assert found >= 6


def test_an_avenue_has_more_along_its_sides_than_a_street():
    counts = [len(avenue(np.random.default_rng(seed)).place.obstacles) for seed in range(4)]
    assert min(counts) > 30


def test_an_unknown_lesson_is_refused():
    with pytest.raises(ValueError, match=r"moon.*kitchen"):
        next(lessons(0, 1, 32, 24, "moon"))


def test_the_sheet_shows_lessons_when_asked(tmp_path):
    path = tmp_path / "sheet.png"
    assert main(["world", "--sheet", str(path), "--lessons", "--count", "1", "--seed", "7"]) == 0
    shown = cv2.imread(str(path))[:180, :, ::-1]
    np.testing.assert_array_equal(shown, next(lessons(7, 1, 240, 180))[0])
