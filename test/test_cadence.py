"""A camera's period from its arrivals."""

from __future__ import annotations

import math

import pytest

from depth_node.cadence import Cadence


def cadence(*arrivals_s: float) -> Cadence:
    made = Cadence()
    for at_s in arrivals_s:
        made.arrived(at_s)
    return made


def test_two_intervals_are_too_few_to_tell() -> None:
    assert math.isinf(cadence(0.0, 0.1, 0.2).period_s)


def test_a_late_frame_a_lost_one_and_a_pause_do_not_move_it() -> None:
    at = [0.0, 0.1, 0.2, 0.35, 0.4, 0.6, 0.7, 60.7, 60.8]
    assert cadence(*at).period_s == pytest.approx(0.1)


def test_a_camera_that_changes_its_rate_is_followed() -> None:
    slow = [0.5 * i for i in range(9)]
    fast = [10.0 + 0.02 * i for i in range(9)]
    assert cadence(*slow, *fast).period_s == pytest.approx(0.02)
