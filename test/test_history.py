"""Messages of a sensor that are kept for frames whose inference takes its time."""

from __future__ import annotations

import itertools
from array import array
from typing import Any

import pytest

pytest.importorskip("rclpy")

from ros_graph import stamped
from sensor_msgs.msg import Image, LaserScan, PointCloud2, PointField, Range

from depth_node.ros.history import FEWEST, MAX_BYTES, SPAN_S, History

S = 1_000_000_000
START = 1000 * S


def filled(rate_hz: float, seconds: float, spacing_s: float = 0.015) -> History:
    history = History(spacing_s)
    for i in range(round(rate_hz * seconds)):
        history.add(stamped(Range(), START + round(i * S / rate_hz)))
    return history


def stamps(history: History) -> list[int]:
    return [message.stamp_ns for message in history.messages()]


@pytest.mark.parametrize("rate_hz", [1.0, 10.0, 50.0, 100.0, 400.0, 1000.0])
def test_at_any_rate_a_neighbour_of_every_moment_is_kept_for_the_span(rate_hz: float) -> None:
    history = filled(rate_hz, SPAN_S)
    kept = stamps(history)
    assert kept[0] == START
    assert kept[-1] == START + round((SPAN_S * rate_hz - 1) * S / rate_hz)
    widest = max(after - before for before, after in itertools.pairwise(kept))
    assert widest <= max(1.0 / rate_hz, 0.021) * S
    assert len(kept) <= SPAN_S / 0.015 + 2


def test_what_comes_at_fifty_hertz_or_slower_is_kept_whole() -> None:
    assert len(stamps(filled(50.0, 2.0))) == 100


@pytest.mark.parametrize("rate_hz", [100.0, 1000.0])
def test_memory_does_not_grow_beyond_the_span(rate_hz: float) -> None:
    kept = stamps(filled(rate_hz, 3 * SPAN_S))
    assert len(kept) <= SPAN_S / 0.015 + 2
    assert kept[-1] - kept[0] > 0.99 * SPAN_S * S


def large(name: str) -> Any:
    eighth = MAX_BYTES // 8
    if name == "cloud":
        return PointCloud2(data=array("B", bytes(eighth)))
    if name == "fields":
        return PointCloud2(fields=[PointField(name=eighth // 4 * "x") for _ in range(4)])
    if name == "image":
        return Image(encoding=eighth * "x")
    if name == "frame":
        return Range()
    half = array("f", bytes(eighth // 2))
    return LaserScan(ranges=half, intensities=half)


@pytest.mark.parametrize("name", ["cloud", "fields", "image", "frame", "scan"])
def test_large_messages_are_bounded_by_their_bytes(name: str) -> None:
    history = History(0.015)
    frame_id = MAX_BYTES // 8 * "x" if name == "frame" else "lidar"
    msg = large(name)
    for i in range(20):
        history.add(stamped(msg, START + i * S, frame_id))
    assert FEWEST <= len(history.messages()) <= 8


def test_a_few_messages_are_kept_however_large_they_are() -> None:
    history = History(0.015)
    huge = PointCloud2(data=array("B", bytes(MAX_BYTES)))
    for i in range(10):
        history.add(stamped(huge, START + i * S))
    assert len(history.messages()) == FEWEST


def test_a_bag_that_starts_again_is_not_mixed_with_the_run_before() -> None:
    history = filled(10.0, 6.0)
    history.add(stamped(Range(), START + S))
    assert stamps(history) == [START + S]


def test_messages_out_of_order_are_all_kept() -> None:
    history = History(0.015)
    for tenth in (0, 5, 1, 6, 2, 7):
        history.add(stamped(Range(), START + tenth * S // 10))
    assert len(stamps(history)) == 6


def test_what_no_later_frame_can_want_is_forgotten() -> None:
    history = filled(10.0, 3.0)
    wanted = history.messages()[20]
    history.forget_before(wanted.received_ns)
    assert history.messages()[0] is wanted
    assert len(history.messages()) == 10
