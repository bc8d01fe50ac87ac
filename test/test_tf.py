"""Transforms between frames: the buffer by itself, and TF over DDS with the real tf2_msgs."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tf2_messages import tf2_messages

from depth_node.geometry.transforms import (
    CURES,
    Fault,
    TransformBuffer,
    TransformError,
    from_xyz_rpy,
    inverse,
)
from depth_node.types import ArrayF64

S = 1_000_000_000
metres = st.floats(-100.0, 100.0)
radians = st.floats(-3.14, 3.14)
poses = st.tuples(metres, metres, metres, radians, radians, radians).map(
    lambda numbers: from_xyz_rpy(*numbers)
)
NAMES = "abcdefgh"


def put(
    buffer: TransformBuffer,
    parent: str,
    child: str,
    T: ArrayF64,
    stamp_ns: int = 0,
    *,
    static: bool = False,
) -> None:
    quaternion = Rotation.from_matrix(T[:3, :3]).as_quat()
    buffer.add(parent, child, stamp_ns, T[:3, 3], quaternion, static=static)


@st.composite
def trees(draw: st.DrawFn) -> list[tuple[str, str, ArrayF64]]:
    """Edges (parent, child, T) of a tree over NAMES, in any order, static."""
    parents = [draw(st.integers(0, i)) for i in range(len(NAMES) - 1)]
    edges = [(NAMES[p], NAMES[i + 1], draw(poses)) for i, p in enumerate(parents)]
    return list(draw(st.permutations(edges)))


def tree_buffer(edges: list[tuple[str, str, ArrayF64]]) -> TransformBuffer:
    buffer = TransformBuffer()
    for parent, child, T in edges:
        put(buffer, parent, child, T, static=True)
    return buffer


@given(trees(), st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_transforms_compose_and_invert_between_any_frames(
    edges: list[tuple[str, str, ArrayF64]], a: str, b: str, c: str
) -> None:
    buffer = tree_buffer(edges)
    T_ab, T_bc, T_ac = (buffer.lookup(x, y, 5) for x, y in ((a, b), (b, c), (a, c)))
    np.testing.assert_allclose(T_ab @ T_bc, T_ac, atol=1e-9)
    np.testing.assert_allclose(inverse(T_ab), buffer.lookup(b, a, 5), atol=1e-9)
    np.testing.assert_array_equal(buffer.lookup(a, a, 5), np.eye(4))


@given(poses)
def test_a_look_up_takes_points_of_the_source_to_the_target(T: ArrayF64) -> None:
    buffer = TransformBuffer()
    put(buffer, "camera", "lidar", T, static=True)
    in_lidar = np.array([1.0, 2.0, 3.0, 1.0])
    np.testing.assert_allclose(buffer.lookup("camera", "lidar", 7) @ in_lidar, T @ in_lidar)


@given(poses, poses, st.floats(0.0, 1.0))
def test_between_two_stamps_position_is_linear_and_rotation_turns_evenly(
    first: ArrayF64, last: ArrayF64, share: float
) -> None:
    buffer = TransformBuffer()
    put(buffer, "odom", "base", last, 2 * S)  # late ones are sorted in
    put(buffer, "odom", "base", first, S)
    stamp = S + round(share * S)
    T = buffer.lookup("odom", "base", stamp)
    exact = (stamp - S) / S
    np.testing.assert_allclose(
        T[:3, 3], (1 - exact) * first[:3, 3] + exact * last[:3, 3], atol=1e-6
    )
    whole = Rotation.from_matrix(first[:3, :3].T @ last[:3, :3]).magnitude()
    part = Rotation.from_matrix(first[:3, :3].T @ T[:3, :3]).magnitude()
    assert part == pytest.approx(exact * whole, abs=1e-6)


@given(trees(), st.data())
def test_a_frame_can_never_become_its_own_ancestor(
    edges: list[tuple[str, str, ArrayF64]], data: st.DataObject
) -> None:
    buffer = tree_buffer(edges)
    parent_of = {child: parent for parent, child, _ in edges}
    descendant = data.draw(st.sampled_from(NAMES))
    line = [descendant]
    while line[-1] in parent_of:
        line.append(parent_of[line[-1]])
    ancestor = data.draw(st.sampled_from(line))
    before = buffer.lookup("a", descendant, 0)
    with pytest.raises(TransformError, match="loop") as caught:
        put(buffer, descendant, ancestor, np.eye(4), static=True)
    assert caught.value.fault is Fault.CYCLIC
    np.testing.assert_array_equal(buffer.lookup("a", descendant, 0), before)


def fault_of(buffer: TransformBuffer, target: str, source: str, stamp_ns: int) -> Fault:
    with pytest.raises(TransformError) as caught:
        buffer.lookup(target, source, stamp_ns)
    assert target in str(caught.value) or source in str(caught.value)
    assert str(caught.value).endswith(f"; {CURES[caught.value.fault]}")
    return caught.value.fault


def test_what_cannot_be_answered_says_why() -> None:
    buffer = TransformBuffer()
    put(buffer, "odom", "base", np.eye(4), 10 * S)
    put(buffer, "odom", "base", np.eye(4), 12 * S)
    put(buffer, "map", "marker", np.eye(4), static=True)
    assert fault_of(buffer, "odom", "nowhere", 11 * S) is Fault.UNKNOWN_FRAME
    assert fault_of(buffer, "marker", "base", 11 * S) is Fault.NOT_CONNECTED
    assert fault_of(buffer, "odom", "base", 9 * S) is Fault.TOO_OLD
    assert fault_of(buffer, "odom", "base", 13 * S) is Fault.NOT_YET


@pytest.mark.parametrize(
    ("parent", "child", "translation", "quaternion"),
    [
        ("", "b", (0, 0, 0), (0, 0, 0, 1)),
        ("a", "/", (0, 0, 0), (0, 0, 0, 1)),
        ("a", "b", (np.nan, 0, 0), (0, 0, 0, 1)),
        ("a", "b", (0, 0, 0), (0, 0, 0, 0)),
        ("a", "b", (0, 0, 0), (0, 0, 0, 2)),
        ("a", "b", (0, 0, 0), (0, np.inf, 0, 1)),
    ],
)
def test_what_is_no_transform_is_refused(
    parent: str, child: str, translation: tuple[float, ...], quaternion: tuple[float, ...]
) -> None:
    with pytest.raises(TransformError, match="correct its publisher") as caught:
        TransformBuffer().add(parent, child, 0, np.array(translation), np.array(quaternion))
    assert caught.value.fault is Fault.INVALID


def test_only_the_last_seconds_are_kept_and_a_bag_may_start_again() -> None:
    buffer = TransformBuffer(horizon_s=10.0)
    for second in range(30):
        put(buffer, "odom", "base", from_xyz_rpy(second, 0, 0, 0, 0, 0), second * S)
    assert fault_of(buffer, "odom", "base", 18 * S) is Fault.TOO_OLD
    assert buffer.lookup("odom", "base", 19 * S)[0, 3] == 19.0
    put(buffer, "odom", "base", np.eye(4), 2 * S)
    assert buffer.lookup("odom", "base", 2 * S)[0, 3] == 0.0
    assert fault_of(buffer, "odom", "base", 19 * S) is Fault.NOT_YET


def test_a_run_that_starts_again_soon_is_not_mixed_with_the_run_before() -> None:
    buffer = TransformBuffer()
    for i in range(600):  # drives at 1 m/s
        put(buffer, "odom", "base", from_xyz_rpy(0.01 * i, 0, 0, 0, 0, 0), i * S // 100)
    for i in range(301):  # stands still
        put(buffer, "odom", "base", np.eye(4), i * S // 100 + 3_000_000)
    for milliseconds in range(2950, 3000):
        T = buffer.lookup("odom", "base", milliseconds * S // 1000)
        assert T[0, 3] == 0.0


@given(st.permutations(range(20)))
def test_transforms_out_of_order_by_up_to_a_second_are_all_kept(order: list[int]) -> None:
    buffer = TransformBuffer()
    for i in order:
        put(buffer, "odom", "base", from_xyz_rpy(i, 0, 0, 0, 0, 0), 10 * S + i * S // 20)
    for i in range(20):
        assert buffer.lookup("odom", "base", 10 * S + i * S // 20)[0, 3] == i


def test_what_moves_is_forgotten_on_request_and_what_is_static_is_not() -> None:
    buffer = TransformBuffer()
    put(buffer, "odom", "base", np.eye(4), 10 * S)
    put(buffer, "base", "camera", from_xyz_rpy(1, 0, 0, 0, 0, 0), static=True)
    buffer.clear_moving()
    assert fault_of(buffer, "odom", "base", 10 * S) is Fault.NOT_YET
    assert buffer.lookup("base", "camera", 0)[0, 3] == 1.0
    put(buffer, "odom", "base", np.eye(4), 9 * S)
    assert buffer.lookup("odom", "camera", 9 * S)[0, 3] == 1.0


def test_a_frame_hangs_on_its_latest_parent_and_static_holds_for_all_time() -> None:
    buffer = TransformBuffer()
    put(buffer, "odom", "base", np.eye(4), S)
    put(buffer, "/map", "/base", from_xyz_rpy(1, 0, 0, 0, 0, 0), static=True)
    assert buffer.lookup("map", "base", 99 * S)[0, 3] == 1.0
    assert fault_of(buffer, "odom", "base", S) is Fault.UNKNOWN_FRAME
    put(buffer, "odom", "base", np.eye(4), S)
    assert fault_of(buffer, "odom", "base", 2 * S) is Fault.NOT_YET


def test_a_look_up_waits_for_a_transform_that_is_on_its_way_and_no_longer() -> None:
    buffer = TransformBuffer()
    put(buffer, "odom", "base", np.eye(4), S)
    late = threading.Timer(0.05, put, (buffer, "odom", "base", np.eye(4), 2 * S))
    late.start()
    np.testing.assert_array_equal(buffer.lookup("odom", "base", 2 * S, 5.0), np.eye(4))
    late.join()
    begun = time.monotonic()
    with pytest.raises(TransformError):
        buffer.lookup("odom", "base", 3 * S, 0.1)
    assert 0.09 < time.monotonic() - begun < 10.0
    with pytest.raises(TransformError):  # what never comes is not waited for
        buffer.lookup("odom", "nowhere", 3 * S, 60.0)


def test_angles_are_those_of_static_transform_publisher() -> None:
    T = from_xyz_rpy(1.0, 2.0, 3.0, 0.3, -0.2, 0.1)
    about = [Rotation.from_rotvec(v).as_matrix() for v in ([0, 0, 0.1], [0, -0.2, 0], [0.3, 0, 0])]
    np.testing.assert_allclose(T[:3, :3], about[0] @ about[1] @ about[2], atol=1e-12)
    np.testing.assert_allclose(T[:3, 3], [1, 2, 3])
    optical = from_xyz_rpy(0, 0, 0, -np.pi / 2, 0, -np.pi / 2)  # the usual one, in a body's axes
    np.testing.assert_allclose(optical[:3, 2], [1, 0, 0], atol=1e-12)  # its z looks along x


@pytest.mark.ros
def test_tf_is_heard_interpolated_waited_for_and_found_stale_over_dds(tmp_path: Path) -> None:
    pytest.importorskip("rclpy")
    from ros_graph import PROGRAMS, private_graph

    with private_graph() as graph:
        env = tf2_messages(tmp_path, graph.environment())
        robot = graph.run(str(PROGRAMS / "tf_publisher.py"), env=env)
        looker = graph.run(str(PROGRAMS / "tf_looker.py"), env=env)
        looker.wait_for_line("may fall silent")
        robot.end()
        looker.wait_for_line('"stale"')
        answers = json.loads(looker.lines[-1])
    above = np.array([[0, -1, 0, 0], [0, 0, -1, -0.25], [1, 0, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(answers["static"], above, atol=1e-9)
    assert answers["worst_error_m"] < 1e-5
    assert answers["unknown"] == "unknown frame"
    assert answers["too_old"] == "too old"
    assert answers["future"] == answers["stale"] == "not yet"
    assert answers["static_while_stale"] == "none"
    assert "would close the loop" in looker.output


def test_the_messages_built_for_the_tests_are_those_of_the_distributions(tmp_path: Path) -> None:
    typesys = pytest.importorskip("rosbags.typesys")
    tf2_messages(tmp_path, {})
    if not any(tmp_path.iterdir()):
        pytest.skip("tf2_msgs is installed: nothing was built")
    description = json.loads((tmp_path / "tf2_msgs/msg/TFMessage.json").read_text())
    hashes = {item["type_name"]: item["hash_string"] for item in description["type_hashes"]}
    store = typesys.get_typestore(typesys.Stores.ROS2_KILTED)
    expected = store.hash_rihs01("tf2_msgs/msg/TFMessage")
    assert hashes["tf2_msgs/msg/TFMessage"] == expected
