"""Where frames lie relative to each other: a tree of stamped transforms, as TF has it.

`T_a_b` is a 4x4 float64 homogeneous matrix that takes points of frame b to frame a: the pose of b
in a. Its last row is (0, 0, 0, 1).
"""

from __future__ import annotations

import bisect
import enum
import math
import threading
import time
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from depth_node.types import ArrayF64

HORIZON_S = 10.0
"""For how long transforms are kept, as in tf2."""
RESTART_S = 2.0
"""Stamps that fall back by more are a bag or a simulation that starts again, and not messages out
of order."""
MAX_FRAMES = 2000
"""Frames of a buffer: a publisher that invents names must not fill the memory."""
MAX_NAME = 255
"""Characters of a frame's name; ROS 2 allows its topics as many."""
MAX_STAMPS = 2000
"""Transforms kept of one frame: all of the horizon at 200 Hz, the newest of them above that."""
FARTHEST_M = 1e8
"""Longest translation along an axis. From a robot to REP 105's `earth` it is 6.4e6 m, to the origin
of its UTM zone up to 1e7 m; what is longer is garbage, of which float32 may have no number."""
_NAMED = 20  # frames that a message lists
_UNIT_TOLERANCE = 1e-3
_NS = 1_000_000_000


class Fault(enum.Enum):
    """Why a transform is not to be had."""

    UNKNOWN_FRAME = "unknown frame"
    NOT_CONNECTED = "not connected"
    CYCLIC = "cyclic"
    TOO_OLD = "too old"
    NOT_YET = "not yet"
    """Newer than everything heard: it may still come, or its publisher has stopped."""
    INVALID = "invalid"
    NO_TF = "no TF"


CURES = {
    Fault.UNKNOWN_FRAME: "start what publishes it, or correct the frame_id",
    Fault.NOT_CONNECTED: "publish the transform between the two trees",
    Fault.CYCLIC: "every frame has one parent: stop one of the publishers",
    Fault.TOO_OLD: "the measurement is too late, or its clock is not that of TF",
    Fault.NOT_YET: "its publisher is late, has stopped, or runs on another clock",
    Fault.INVALID: "correct the frame_id, or what publishes the transform",
}
"""What a failed look-up tells the user to do, whichever buffer answers it."""


class TransformError(ValueError):
    """A transform is not to be had; the message says what was asked, seen and is to be done.

    Attributes:
        fault: the kind of reason.
    """

    def __init__(self, fault: Fault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


class Transforms(Protocol):
    """Answers where one frame lies in another."""

    def lookup(self, target: str, source: str, stamp_ns: int, timeout_s: float = 0.0) -> ArrayF64:
        """T_target_source, 4x4 float64, at a time.

        Args:
            target: the frame to which it takes points.
            source: the frame from which it takes them.
            stamp_ns: the time in nanoseconds.
            timeout_s: how long to wait for a transform that has not come yet.

        Raises:
            TransformError: it is not to be had, for the reason in `fault`.
        """
        ...


def in_reach(translation: ArrayF64) -> bool:
    """Whether a translation (3,) in metres is finite and at most `FARTHEST_M` along each axis."""
    return bool((np.abs(translation) <= FARTHEST_M).all())  # false of NaN


def rigid(translation: ArrayF64, rotation: Rotation) -> ArrayF64:
    """4x4 matrix of a translation (3,) in metres and a rotation."""
    T = np.eye(4)
    T[:3, :3] = rotation.as_matrix()
    T[:3, 3] = translation
    return T


def inverse(T: ArrayF64) -> ArrayF64:
    """The inverse of a rigid transform: T_b_a of T_a_b."""
    out = np.eye(4)
    out[:3, :3] = T[:3, :3].T
    out[:3, 3] = -T[:3, :3].T @ T[:3, 3]
    return out


def from_xyz_rpy(x: float, y: float, z: float, roll: float, pitch: float, yaw: float) -> ArrayF64:
    """4x4 pose of a child frame, in metres and radians as static_transform_publisher takes them.

    The rotation is Rz(yaw) Ry(pitch) Rx(roll): about the fixed axes of the parent (REP 103).
    """
    return rigid(np.array([x, y, z]), Rotation.from_euler("xyz", [roll, pitch, yaw]))


@dataclass(eq=False)
class _Edge:
    """How one frame hangs on its parent.

    Attributes:
        parent: the parent's name.
        static: whether it holds for all time.
        stamps: sorted, nanoseconds; empty for a static edge.
        poses: T_parent_child at each stamp as (translation, quaternion x y z w); one if static.
    """

    parent: str
    static: bool
    stamps: list[int] = field(default_factory=list)
    poses: list[tuple[ArrayF64, ArrayF64]] = field(default_factory=list)

    def at(self, stamp_ns: int) -> ArrayF64:
        """T_parent_child at a stamp inside the kept time: linear and slerp between neighbours."""
        if self.static:
            translation, quaternion = self.poses[0]
            return rigid(translation, Rotation.from_quat(quaternion))
        i = bisect.bisect_left(self.stamps, stamp_ns)
        if self.stamps[i] == stamp_ns:
            translation, quaternion = self.poses[i]
            return rigid(translation, Rotation.from_quat(quaternion))
        (p0, q0), (p1, q1) = self.poses[i - 1], self.poses[i]
        share = (stamp_ns - self.stamps[i - 1]) / (self.stamps[i] - self.stamps[i - 1])
        between = Slerp([0.0, 1.0], Rotation.from_quat([q0, q1]))(share)
        return rigid((1.0 - share) * p0 + share * p1, between)

    def add(self, stamp_ns: int, pose: tuple[ArrayF64, ArrayF64], horizon_ns: int) -> None:
        """Insert in the order of the stamps and forget what is older than the horizon."""
        if self.stamps and stamp_ns < self.stamps[-1] - RESTART_S * _NS:
            self.clear()
        i = bisect.bisect_left(self.stamps, stamp_ns)
        if i < len(self.stamps) and self.stamps[i] == stamp_ns:
            self.poses[i] = pose
        else:
            self.stamps.insert(i, stamp_ns)
            self.poses.insert(i, pose)
        old = bisect.bisect_left(self.stamps, self.stamps[-1] - horizon_ns)
        old = max(old, len(self.stamps) - MAX_STAMPS)
        del self.stamps[:old], self.poses[:old]

    def clear(self) -> None:
        """Forget every pose."""
        self.stamps.clear()
        self.poses.clear()


class TransformBuffer:
    """The transforms of the last seconds; threads may write and look up at the same time."""

    def __init__(self, horizon_s: float = HORIZON_S) -> None:
        """Make an empty buffer that keeps transforms for `horizon_s`."""
        self._horizon_ns = int(horizon_s * _NS)
        self._edges: dict[str, _Edge] = {}
        self._news = threading.Condition()

    def add(
        self,
        parent: str,
        child: str,
        stamp_ns: int,
        translation: ArrayF64,
        quaternion: ArrayF64,
        *,
        static: bool = False,
    ) -> None:
        """Take in T_parent_child.

        A frame has one parent: another one replaces it and its history. A static transform holds
        for all time. A stamp that lies more than `RESTART_S` before the frame's newest one begins
        a new history: poses of two runs must not be mixed.

        Args:
            parent: name of the parent's frame; a leading slash is ignored.
            child: name of the child's frame.
            stamp_ns: when it held, nanoseconds.
            translation: (3,) metres, at most `FARTHEST_M` along each axis.
            quaternion: (4,) x, y, z, w of length 1.
            static: whether it came from /tf_static.

        Raises:
            TransformError: a name is empty or too long, a frame would be its own ancestor, the
                numbers are no rigid transform, or there are too many frames already.
        """
        parent, child = parent.lstrip("/"), child.lstrip("/")
        longest = max(len(parent), len(child))
        if longest > MAX_NAME:
            raise TransformError(
                Fault.INVALID,
                f"a transform names a frame with {longest} characters; expected at most {MAX_NAME}:"
                " correct its publisher",
            )
        what = f"transform {parent!r} -> {child!r}"
        if not parent or not child:
            raise TransformError(Fault.INVALID, f"{what} has an empty frame; correct its publisher")
        numbers = (*translation, *quaternion)
        length = math.hypot(*quaternion)
        unit = abs(length - 1.0) <= _UNIT_TOLERANCE  # false of NaN
        if not unit or not in_reach(translation):
            raise TransformError(
                Fault.INVALID,
                f"{what} has the numbers {[float(n) for n in numbers]}; expected metres up to "
                f"{FARTHEST_M:g} and a quaternion of length 1: correct its publisher",
            )
        pose = (np.array(translation, np.float64), np.array(quaternion, np.float64) / length)
        with self._news:
            path = [parent, *self._ancestors(parent)]
            if child in path:
                loop = " -> ".join([*reversed(path[: path.index(child) + 1]), child])
                raise TransformError(
                    Fault.CYCLIC,
                    f"{what} would close the loop {loop}; {CURES[Fault.CYCLIC]}",
                )
            edge = self._edges.get(child)
            if edge is None and len(self._edges) >= MAX_FRAMES:
                raise TransformError(
                    Fault.INVALID,
                    f"{what} would be one more than {MAX_FRAMES} frames; something publishes "
                    "transforms of ever new names: stop it, and restart the node",
                )
            if edge is None or edge.parent != parent or edge.static != static:
                edge = self._edges[child] = _Edge(parent, static)
            if static:
                edge.poses[:] = [pose]
            else:
                edge.add(stamp_ns, pose, self._horizon_ns)
            self._news.notify_all()

    def clear_moving(self) -> None:
        """Forget every transform but the static ones, as tf2 does when its clock is set back.

        The frames stay known: a look-up finds that nothing has been heard since.
        """
        with self._news:
            for edge in self._edges.values():
                if not edge.static:
                    edge.clear()

    def frames(self) -> list[str]:
        """The names of all frames that were heard of, sorted."""
        with self._news:
            return sorted({*self._edges, *(edge.parent for edge in self._edges.values())})

    def lookup(self, target: str, source: str, stamp_ns: int, timeout_s: float = 0.0) -> ArrayF64:
        """T_target_source, 4x4 float64, at a time; waits for one that has not come yet.

        See `Transforms.lookup` for the arguments.

        Raises:
            TransformError: a frame is unknown, the two are not connected, or the time lies before
                or after everything that was kept. Nothing is extrapolated.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        deadline = time.monotonic() + timeout_s
        with self._news:
            while True:
                try:
                    return self._lookup(target, source, stamp_ns)
                except TransformError as error:
                    left_s = deadline - time.monotonic()
                    if error.fault is not Fault.NOT_YET or left_s <= 0.0:
                        raise
                    self._news.wait(left_s)

    def _lookup(self, target: str, source: str, stamp_ns: int) -> ArrayF64:
        if target == source:
            return np.eye(4)
        up, down = [source, *self._ancestors(source)], [target, *self._ancestors(target)]
        for name, path in ((source, up), (target, down)):
            if len(path) == 1 and all(edge.parent != name for edge in self._edges.values()):
                known = ", ".join(sorted(self._edges)[:_NAMED]) or "none"
                known += ", ..." if len(self._edges) > _NAMED else ""
                raise TransformError(
                    Fault.UNKNOWN_FRAME,
                    f"TF knows no frame {name!r} (frames heard of: {known}); "
                    f"{CURES[Fault.UNKNOWN_FRAME]}",
                )
        if up[-1] != down[-1]:
            raise TransformError(
                Fault.NOT_CONNECTED,
                f"frames {source!r} (root {up[-1]!r}) and {target!r} (root {down[-1]!r}) are not "
                f"connected; {CURES[Fault.NOT_CONNECTED]}",
            )
        while len(up) > 1 and len(down) > 1 and up[-2] == down[-2]:  # their common ancestor
            up.pop()
            down.pop()
        return inverse(self._chain(down, stamp_ns)) @ self._chain(up, stamp_ns)

    def _chain(self, path: list[str], stamp_ns: int) -> ArrayF64:
        """T_last_first along a path from a frame to one of its ancestors."""
        T = np.eye(4)
        for child in path[:-1]:
            edge = self._edges[child]
            if not edge.static:
                _check_time(child, edge, stamp_ns)
            T = edge.at(stamp_ns) @ T
        return T

    def _ancestors(self, frame: str) -> list[str]:
        path = []
        while frame in self._edges:
            frame = self._edges[frame].parent
            path.append(frame)
        return path


def _check_time(child: str, edge: _Edge, stamp_ns: int) -> None:
    what = f"transform {edge.parent!r} -> {child!r}"
    if not edge.stamps:
        raise TransformError(
            Fault.NOT_YET,
            f"{what} has not been heard since the clock was set back; {CURES[Fault.NOT_YET]}",
        )
    if stamp_ns < edge.stamps[0]:
        raise TransformError(
            Fault.TOO_OLD,
            f"{what} is asked for {(edge.stamps[0] - stamp_ns) / _NS:.3f} s before the oldest one "
            f"kept; {CURES[Fault.TOO_OLD]}",
        )
    if stamp_ns > edge.stamps[-1]:
        raise TransformError(
            Fault.NOT_YET,
            f"{what} is asked for {(stamp_ns - edge.stamps[-1]) / _NS:.3f} s after the newest one "
            f"heard; {CURES[Fault.NOT_YET]}",
        )
