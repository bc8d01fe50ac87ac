"""CameraInfo to a camera model and back, and names of frames."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sensor_msgs.msg", reason="the message packages are not installed")

from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header

from depth_node.health import Health, Level, apart
from depth_node.ros import calibration
from depth_node.ros.calibration import CameraInfoCache
from depth_node.ros.camera_info import (
    CalibrationError,
    camera_from_info,
    info_from_camera,
    optical_frame_warning,
)
from depth_node.types import CameraModel

INF, NAN = float("inf"), float("nan")


def info(**changes):
    """A calibrated 640x480 camera with distortion."""
    msg = CameraInfo(
        width=640,
        height=480,
        distortion_model="plumb_bob",
        d=[-0.2, 0.05, 1e-3, -1e-3, 0.0],
        k=[500.0, 0.0, 320.5, 0.0, 510.0, 240.5, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[480.0, 0.0, 318.0, 0.0, 0.0, 490.0, 238.0, 0.0, 0.0, 0.0, 1.0, 0.0],
    )
    for name, value in changes.items():
        setattr(msg, name, value)
    return msg


def test_a_calibrated_camera_is_read_as_it_is():
    camera = camera_from_info(info(), image_size=(640, 480))
    assert (camera.width, camera.height) == (640, 480)
    assert camera.intrinsics == (480.0, 490.0, 318.0, 238.0)
    np.testing.assert_array_equal(camera.K.ravel(), info().k)
    np.testing.assert_array_equal(camera.D, info().d)
    assert camera.distortion_model == "plumb_bob"
    assert camera.distorted
    assert not camera.assumed


def test_zeros_in_p_and_r_mean_a_raw_monocular_camera():
    camera = camera_from_info(info(p=[0.0] * 12, r=[0.0] * 9))
    assert camera.intrinsics == (500.0, 510.0, 320.5, 240.5)
    np.testing.assert_array_equal(camera.R, np.eye(3))


@pytest.mark.parametrize("model", ["plumb_bob", "", "something else"])
@pytest.mark.parametrize("count", [0, 5, 8])
def test_zero_coefficients_are_no_distortion_under_any_model(model, count):
    camera = camera_from_info(info(distortion_model=model, d=[0.0] * count))
    assert not camera.distorted
    assert camera.distortion_model == ""


def test_zero_coefficients_of_a_fisheye_are_a_fisheye():
    camera = camera_from_info(info(distortion_model="equidistant", d=[0.0] * 4))
    assert camera.distorted
    assert camera.distortion_model == "equidistant"
    assert list(info_from_camera(camera, Header()).d) == [0.0] * 4
    assert not camera.rectified().distorted


@pytest.mark.parametrize("count", [0, 5])
def test_zeros_that_no_fisheye_has_are_no_distortion(count):
    camera = camera_from_info(info(distortion_model="equidistant", d=[0.0] * count))
    assert not camera.distorted
    assert camera.distortion_model == ""


@pytest.mark.parametrize(
    ("model", "count"),
    [
        ("plumb_bob", 4),
        ("plumb_bob", 5),
        ("rational_polynomial", 8),
        ("rational_polynomial", 14),
        ("equidistant", 4),
    ],
)
def test_the_three_models_are_known(model, count):
    camera = camera_from_info(info(distortion_model=model, d=[0.01] * count))
    assert camera.distortion_model == model
    assert camera.D.size == count


@given(
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(0, 300),
    st.integers(0, 200),
    st.floats(-1, 1),
    st.floats(-1, 1),
)
def test_binning_and_region_move_pixels_as_image_geometry_moves_them(bin_x, bin_y, x, y, a, b):
    roi = RegionOfInterest(x_offset=x, y_offset=y, width=320, height=240)
    camera = camera_from_info(info(binning_x=bin_x, binning_y=bin_y, roi=roi))
    full = camera_from_info(info())
    bin_x, bin_y = max(bin_x, 1), max(bin_y, 1)
    assert (camera.width, camera.height) == (320 // bin_x, 240 // bin_y)
    ray = np.array([a, b, 1.0])
    for reduced, whole in ((camera.K, full.K), (camera.P[:, :3], full.P[:, :3])):
        u, v, w = whole @ ray
        expected = [(u / w - x) / bin_x, (v / w - y) / bin_y, 1.0]
        np.testing.assert_allclose(reduced @ ray, expected, atol=1e-9)


def test_the_baseline_of_a_stereo_camera_is_divided_by_the_binning():
    p = info().p.copy()
    p[3] = -40.0
    assert camera_from_info(info(p=p, binning_x=2, binning_y=2)).P[0, 3] == -20.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": [0.0] * 9}, "uncalibrated"),
        ({"k": [NAN] + [0.0] * 8}, "K is .*finite"),
        ({"k": [500.0, 0.0, 320.0, 0.0, INF, 240.0, 0.0, 0.0, 1.0]}, "K is .*finite"),
        (
            {"k": [500.0, 0.0, 320.0, 0.0, 0.0, 240.0, 0.0, 0.0, 1.0]},
            "K is .*focal lengths above 0",
        ),
        (
            {"k": [-500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 1.0]},
            "K is .*focal lengths above 0",
        ),
        ({"k": [500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 0.0]}, "K is .*last row"),
        ({"p": [NAN] * 12}, "P is .*finite"),
        ({"p": [0.0] * 11 + [1.0]}, "P is .*focal lengths"),
        ({"r": [2.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]}, "R is .*no rotation"),
        ({"r": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0]}, "R is .*no rotation"),
        ({"r": [1e308] * 9}, "R is .*no rotation"),
        ({"d": [NAN] * 5}, "D is .*finite"),
        ({"d": [0.1] * 3}, "D has 3 coefficients; plumb_bob takes 4 or 5"),
        ({"d": [0.1] * 8}, "D has 8 coefficients"),
        ({"distortion_model": "equidistant"}, "D has 5 coefficients; equidistant takes 4"),
        ({"distortion_model": ""}, "distortion model is ''; it must be one of"),
        ({"distortion_model": "fov"}, "distortion model is 'fov'"),
        ({"width": 0}, "size 0x480"),
        ({"height": 0}, "size 640x0"),
        ({"binning_x": 1000}, "binning 1000x1 does not fit"),
        ({"roi": RegionOfInterest(x_offset=10, width=640, height=480)}, "does not fit"),
        ({"roi": RegionOfInterest(x_offset=10)}, "does not fit"),
    ],
)
def test_what_cannot_be_a_calibration_is_refused_and_named(changes, words):
    with pytest.raises(CalibrationError, match=words):
        camera_from_info(info(**changes))


def test_another_size_than_the_images_is_refused():
    words = "describes images of 640x480, but the image is 320x240"
    with pytest.raises(CalibrationError, match=words):
        camera_from_info(info(), image_size=(320, 240))
    camera = camera_from_info(info(binning_x=2, binning_y=2), image_size=(320, 240))
    assert camera.width == 320


def test_the_published_info_of_a_rectified_camera_has_no_distortion():
    camera = camera_from_info(info()).rectified().resized(320, 240)
    header = Header(frame_id="optical")
    msg = info_from_camera(camera, header)
    assert msg.header is header
    assert (msg.width, msg.height, msg.distortion_model) == (320, 240, "plumb_bob")
    assert list(msg.d) == [0.0] * 5
    np.testing.assert_array_equal(msg.r, np.eye(3).ravel())
    np.testing.assert_allclose(msg.k, [240, 0, 158.75, 0, 245, 118.75, 0, 0, 1])
    np.testing.assert_allclose(msg.p, [240, 0, 158.75, 0, 0, 245, 118.75, 0, 0, 0, 1, 0])


@given(
    st.integers(1, 4000),
    st.integers(1, 4000),
    st.tuples(*[st.floats(1.0, 5000.0)] * 4),
    st.sampled_from([("", 0), ("plumb_bob", 5), ("rational_polynomial", 8), ("equidistant", 4)]),
)
def test_a_camera_survives_the_message(width, height, intrinsics, lens):
    D = np.linspace(0.01, 0.1, lens[1])
    camera = CameraModel.pinhole(width, height, *intrinsics, D=D, distortion_model=lens[0])
    back = camera_from_info(info_from_camera(camera, Header()), (width, height))
    assert (back.width, back.height) == (width, height)
    assert back.distortion_model == camera.distortion_model
    for name in ("K", "D", "R", "P"):
        np.testing.assert_array_equal(getattr(back, name), getattr(camera, name))


numbers = st.one_of(st.floats(), st.sampled_from([0.0, 1.0, 500.0, 1e308, 1e-308]))
unsigned = st.one_of(st.integers(0, 1000), st.integers(0, 2**32 - 1))


def row(count):
    return st.lists(numbers, min_size=count, max_size=count)


@given(
    row(9),
    row(9),
    row(12),
    st.lists(numbers, max_size=15),
    st.one_of(st.sampled_from(["plumb_bob", "equidistant", ""]), st.text(max_size=8)),
    st.lists(unsigned, min_size=8, max_size=8),
    st.sets(st.sampled_from(["k", "r", "p", "d", "distortion_model", "size", "window"])),
)
@settings(max_examples=400)
def test_malformed_infos_raise_calibration_error_or_give_a_camera(k, r, p, d, model, n, wild):
    values = {"k": k, "r": r, "p": p, "d": d, "distortion_model": model}
    msg = info(**{name: value for name, value in values.items() if name in wild})
    if "size" in wild:
        msg.width, msg.height = n[0], n[1]
    if "window" in wild:
        msg.binning_x, msg.binning_y = n[2], n[3]
        msg.roi = RegionOfInterest(x_offset=n[4], y_offset=n[5], width=n[6], height=n[7])
    try:
        camera = camera_from_info(msg)
    except CalibrationError:
        return
    assert min(camera.width, camera.height) > 0
    assert np.isfinite(camera.K).all()
    assert np.isfinite(camera.P).all()
    assert min(camera.intrinsics[:2]) > 0.0


@pytest.mark.parametrize(
    "name",
    [
        "",
        "camera",
        "default_cam",
        "head_camera",
        "/camera",
        "robot1/usb_cam",
        "camera_link",
        "base_link",
        "camera_color_frame",
        "map",
        "Camera",
    ],
)
def test_frames_that_are_not_optical_are_named(name):
    warning = optical_frame_warning(name)
    assert warning is not None
    assert "optical_frame" in warning
    assert repr(name) in warning or not name


@pytest.mark.parametrize(
    "name",
    ["camera_color_optical_frame", "optical", "camera_optical_link", "cam0", "robot1/front_left"],
)
def test_frames_that_may_be_optical_pass(name):
    assert optical_frame_warning(name) is None


@pytest.mark.parametrize(
    ("made", "level", "seen", "cure"),
    [
        (None, Level.ERROR, "no CameraInfo on /info", "start the driver's calibration"),
        (info(), Level.WARN, "in frame 'eye' but its CameraInfo in 'other'", "check that both"),
        (info(width=0), Level.ERROR, "/info: CameraInfo", "until then only relative depth"),
        (info(width=64), Level.ERROR, "the image is 640x480", "publish the two at the same size"),
        (info(d=300 * [0.0]), Level.ERROR, "300 distortion coefficients", "correct the driver"),
    ],
)
def test_what_is_wrong_with_a_calibration_is_logged_once_with_a_cure(
    made, level, seen, cure, caplog
):
    health = Health()
    cache = CameraInfoCache("/info", health)
    if made is not None:
        made.header.frame_id = "other"
        cache.add(made)
    for _ in range(3):
        cache.camera_for(Header(frame_id="eye"), 640, 480)
    (problem,) = health.problems()
    assert problem.level is level
    texts = apart(problem.text, "")
    assert seen in texts[0]
    assert cure in texts[1]
    assert [record.getMessage() for record in caplog.records] == [problem.text]


def test_that_camera_info_has_ended_is_said_and_a_cleared_cache_has_none(monkeypatch):
    health = Health()
    cache = CameraInfoCache("/info", health)
    heard = info()
    heard.header.frame_id = "eye"
    cache.add(heard)
    header = Header(frame_id="eye")
    assert cache.camera_for(header, heard.width, heard.height) is not None
    assert health.problems() == []
    later = time.monotonic() + calibration.STALE_S + 1.0
    monkeypatch.setattr(calibration.time, "monotonic", lambda: later)
    assert cache.camera_for(header, heard.width, heard.height) is not None
    (problem,) = health.problems()
    assert (problem.level, "the last one is used" in problem.text) == (Level.WARN, True)
    cache.clear()
    assert cache.camera_for(header, heard.width, heard.height) is None
