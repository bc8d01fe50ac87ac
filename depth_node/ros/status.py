"""What the node says about itself: `/diagnostics` and `~/scale_status`."""

from __future__ import annotations

import math
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from depth_node.health import Level, Problem
from depth_node.metrics import Percentiles, Snapshot
from depth_node.types import PointCounts, ScaleEstimate, ScaleState

_SCALE_LEVELS = {
    ScaleState.METRIC: DiagnosticStatus.OK,
    ScaleState.HELD: DiagnosticStatus.WARN,
    ScaleState.RELATIVE: DiagnosticStatus.ERROR,
}
_PROBLEM = "problem "


def scale_status(estimate: ScaleEstimate, header: Header) -> DiagnosticArray:
    """What the metres of the frame with this header rest on.

    A `diagnostic_msgs/DiagnosticArray` with the image's own header and one status: level OK for
    `metric`, WARN for `held`, ERROR for `relative`; message `<state>: <source or reason>`; values
    `state`, `source`, `age_s`, `inliers`, `residual`, `scale`, `shift`, `sigma_scale`,
    `sigma_shift`, and `<source> points`: what became of each source's points.
    """
    state = estimate.state.value
    values = {
        "state": state,
        "source": estimate.source,
        "age_s": f"{estimate.age_s:.3f}",
        "inliers": str(estimate.inliers),
        "residual": f"{estimate.residual:.6g}",
        "scale": f"{estimate.scale:.9g}",
        "shift": f"{estimate.shift:.9g}",
        "sigma_scale": f"{math.sqrt(max(estimate.covariance[0, 0], 0.0)):.6g}",
        "sigma_shift": f"{math.sqrt(max(estimate.covariance[1, 1], 0.0)):.6g}",
    }
    values |= {f"{source} points": points_used(n) for source, n in estimate.counts.items()}
    message = f"{state}: {estimate.reason or estimate.source}"
    status = _status("scale", _SCALE_LEVELS[estimate.state], message, values)
    return DiagnosticArray(header=header, status=[status])


def points_used(counts: PointCounts) -> str:
    """What became of one source's points, as text."""
    return (
        f"{counts.used} of {counts.given} used, {counts.refused} refused, {counts.saturated} on sky"
    )


def diagnostics(
    name: str, facts: Mapping[str, str], snapshot: Snapshot, problems: list[Problem], header: Header
) -> DiagnosticArray:
    """The node's report: one status with everything it counted and all its problems.

    Its name never changes: an aggregator would keep a status of its own for each problem, and take
    it for stale, which is an error, once the problem is gone. The worst problem is the message, the
    others are values, as `problem 2: WARN: ...`.

    Args:
        name: the node's full name.
        facts: what the node runs on: state, camera, network, engine, scale.
        snapshot: the counters.
        problems: what is wrong, the worst first; each carries its cure.
        header: time of the report.
    """
    worst = problems[0] if problems else Problem(Level.OK, _summary(facts, snapshot))
    values = {**facts, **_counters(snapshot)}
    for number, problem in enumerate(problems[1:], start=2):
        values[f"{_PROBLEM}{number}"] = f"{problem.level.name}: {problem.text}"
    status = _status(name, bytes([worst.level]), worst.text, values)
    return DiagnosticArray(header=header, status=[status])


def problems_in(status: DiagnosticStatus) -> list[Problem]:
    """The problems that a status of `diagnostics` tells of, the worst first."""
    level = Level(min(ord(status.level), Level.ERROR))  # above it there is STALE
    problems = [Problem(level, status.message)] if level > Level.OK else []
    for item in status.values:
        name, _, text = item.value.partition(": ")
        if item.key.startswith(_PROBLEM) and name in Level.__members__:
            problems.append(Problem(Level[name], text))
    return problems


def _summary(facts: Mapping[str, str], snapshot: Snapshot) -> str:
    return f"{facts.get('state', '')}, {snapshot.rate_out_hz:.1f} Hz, {facts.get('scale', '')}"


def _counters(snapshot: Snapshot) -> dict[str, str]:
    values = {
        "rate_in_hz": f"{snapshot.rate_in_hz:.2f}",
        "rate_out_hz": f"{snapshot.rate_out_hz:.2f}",
        "received": str(snapshot.received),
        "published": str(snapshot.published),
        "in_flight": str(snapshot.in_flight),
        "dropped": str(sum(snapshot.dropped.values())),
    }
    values |= {f"dropped: {why}": str(n) for why, n in sorted(snapshot.dropped.items())}
    values |= _times("latency_ms", snapshot.latency_ms)
    values |= _times("turnaround_ms", snapshot.turnaround_ms)
    for stage, times in snapshot.stages_ms.items():
        values |= _times(f"{stage}_ms", times)
    return values


def _times(name: str, times: Percentiles) -> dict[str, str]:
    return {
        f"{name}.p50": f"{times.p50:.2f}",
        f"{name}.p95": f"{times.p95:.2f}",
        f"{name}.p99": f"{times.p99:.2f}",
    }


def _status(name: str, level: bytes, message: str, values: Mapping[str, str]) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id="depth_node",
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
