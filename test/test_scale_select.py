"""When an estimator serves other parameters, and when it has to start afresh."""

from __future__ import annotations

import pytest
from scale_picture import WIDTH, disparity, frame, points, relative

from depth_node.parameters import Settings
from depth_node.scale.alignment import Offset
from depth_node.scale.select import make_estimator, same_estimator

POSE = "0 -0.25 0 1.5707963 -1.5707963 0"


def changed(**values: object) -> Settings:
    """The LiDAR and the scanner in use; names have `__` for the dot."""
    named = {name.replace("__", "."): value for name, value in values.items()}
    return Settings().with_values({"lidar.enabled": True, "scan.enabled": True, **named})


@pytest.mark.parametrize("sensor", ["lidar", "scan", "range", "landmarks"])
@pytest.mark.parametrize("enabled", [True, False])
def test_other_extrinsics_take_a_new_estimator(sensor: str, enabled: bool) -> None:
    before = changed(**{f"{sensor}__enabled": enabled})
    after = changed(**{f"{sensor}__enabled": enabled, f"{sensor}__extrinsics": POSE})
    assert not same_estimator(before, after)


def test_a_sensor_that_is_switched_on_or_off_leaves_the_history() -> None:
    assert same_estimator(changed(), changed(lidar__enabled=False))
    assert same_estimator(changed(), changed(landmarks__enabled=True))


def test_an_error_that_was_corrected_is_no_longer_undone() -> None:
    wrong, right = changed(), changed(lidar__extrinsics=POSE)
    estimator = make_estimator(wrong)
    given = points(2000)
    estimator.add(Offset(dv=-4.5 / WIDTH, gain=1.0).applied(given))
    estimator.estimate(frame(), relative(disparity()))
    assert estimator.extrinsic_errors["lidar"].gain > 0.0
    if not same_estimator(wrong, right):
        estimator = make_estimator(right)
    estimator.add(given)
    estimator.estimate(frame(), relative(disparity()))
    assert estimator.extrinsic_errors["lidar"].gain == 0.0
