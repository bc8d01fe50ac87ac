"""Calibration files: what is read, how it is scaled, and what is refused with which words."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from depth_node.cameras.calibration import CalibrationError, fit_to_size, read_calibration
from depth_node.cameras.intrinsics import Intrinsics
from depth_node.parameters import CameraSettings
from depth_node.types import CameraModel

K = [500.0, 0.0, 320.5, 0.0, 501.0, 240.5, 0.0, 0.0, 1.0]
D = [0.1, -0.2, 1e-05, -0.001, 0.0]
R = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
P = [480.0, 0.0, 321.0, 0.0, 0.0, 482.0, 239.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def saved_by_camera_calibration() -> dict[str, Any]:
    return {
        "image_width": 640,
        "image_height": 480,
        "camera_name": "narrow_stereo",
        "camera_matrix": {"rows": 3, "cols": 3, "data": list(K)},
        "distortion_model": "plumb_bob",
        "distortion_coefficients": {"rows": 1, "cols": 5, "data": list(D)},
        "rectification_matrix": {"rows": 3, "cols": 3, "data": list(R)},
        "projection_matrix": {"rows": 3, "cols": 4, "data": list(P)},
    }


def write(folder: Path, content: object) -> Path:
    file = folder / "camera.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return file


def test_camera_calibrations_file_is_read(tmp_path: Path) -> None:
    camera = read_calibration(write(tmp_path, saved_by_camera_calibration()))
    assert (camera.width, camera.height) == (640, 480)
    assert camera.distortion_model == "plumb_bob"
    assert not camera.assumed
    np.testing.assert_array_equal(camera.K.ravel(), K)
    np.testing.assert_array_equal(camera.D, D)
    np.testing.assert_array_equal(camera.R, np.eye(3))
    np.testing.assert_array_equal(camera.P.ravel(), P)


@pytest.mark.parametrize("upper", [False, True], ids=["ros2", "ros1"])
def test_a_camera_info_that_was_echoed_into_a_file_is_read(tmp_path: Path, upper: bool) -> None:
    names = [n.upper() if upper else n for n in "kdrp"]
    matrices = "".join(f"{n}: {v}\n" for n, v in zip(names, (K, D, R, P), strict=True))
    text = (
        "header:\n  stamp: {sec: 1, nanosec: 2}\n  frame_id: camera_optical_frame\n"
        f"height: 480\nwidth: 640\ndistortion_model: plumb_bob\n{matrices}"
        "binning_x: 0\nbinning_y: 0\n"
        "roi: {x_offset: 0, y_offset: 0, height: 0, width: 0, do_rectify: false}\n---\n"
    )
    camera = read_calibration(write(tmp_path, text))
    np.testing.assert_array_equal(camera.K.ravel(), K)
    np.testing.assert_array_equal(camera.D, D)  # 1e-05 is a string to a YAML 1.1 parser


def test_opencvs_file_header_and_camera_info_managers_url_are_accepted(tmp_path: Path) -> None:
    text = "%YAML:1.0\n---\n" + yaml.safe_dump(saved_by_camera_calibration())
    camera = read_calibration(f"file://{write(tmp_path, text)}")
    assert camera.width == 640


focal = st.floats(1e-3, 1e5)
coefficient = st.floats(-1e3, 1e3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    model_and_d=st.one_of(
        st.tuples(st.just("plumb_bob"), st.lists(coefficient, min_size=5, max_size=5)),
        st.tuples(st.just("rational_polynomial"), st.lists(coefficient, min_size=8, max_size=8)),
        st.tuples(st.just("equidistant"), st.lists(coefficient, min_size=4, max_size=4)),
    ),
    fx=focal,
    fy=focal,
    centre=st.tuples(coefficient, coefficient),
)
def test_every_number_survives_the_file(
    tmp_path: Path,
    model_and_d: tuple[str, list[float]],
    fx: float,
    fy: float,
    centre: tuple[float, float],
) -> None:
    content = saved_by_camera_calibration()
    content["distortion_model"], coefficients = model_and_d
    k = [fx, 0.0, centre[0], 0.0, fy, centre[1], 0.0, 0.0, 1.0]
    content["camera_matrix"] = {"rows": 3, "cols": 3, "data": k}
    content["distortion_coefficients"] = {"rows": 1, "cols": 5, "data": coefficients}
    # str() writes numbers as Python and C++ do; safe_dump would adapt them to YAML 1.1.
    text = "\n".join(f"{key}: {value}" for key, value in content.items())
    camera = read_calibration(write(tmp_path, text))
    np.testing.assert_array_equal(camera.K.ravel(), k)
    distorted = any(coefficients) or model_and_d[0] == "equidistant"
    np.testing.assert_array_equal(camera.D, coefficients if distorted else [])
    assert camera.distortion_model == (content["distortion_model"] if distorted else "")


def test_missing_rectification_and_projection_mean_none(tmp_path: Path) -> None:
    content = saved_by_camera_calibration()
    del content["rectification_matrix"], content["projection_matrix"]
    camera = read_calibration(write(tmp_path, content))
    np.testing.assert_array_equal(camera.R, np.eye(3))
    np.testing.assert_array_equal(camera.P[:, :3], camera.K)


def test_a_projection_of_zeros_becomes_k(tmp_path: Path) -> None:
    content = saved_by_camera_calibration()
    content["projection_matrix"]["data"] = [0.0] * 12
    camera = read_calibration(write(tmp_path, content))
    np.testing.assert_array_equal(camera.P[:, :3], camera.K)


def test_an_ideal_lens_needs_no_model(tmp_path: Path) -> None:
    content = saved_by_camera_calibration()
    content["distortion_model"] = ""
    content["distortion_coefficients"] = {"rows": 1, "cols": 0, "data": []}
    camera = read_calibration(write(tmp_path, content))
    assert not camera.distorted
    assert camera.distortion_model == ""


def changed(path: str, value: object) -> dict[str, Any]:
    content = saved_by_camera_calibration()
    *parents, leaf = path.split("/")
    target = content
    for parent in parents:
        target = target[parent]
    if value is None:
        del target[leaf]
    else:
        target[leaf] = value
    return content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: [1, 2", "is not yaml"),
        ("just words", "holds str"),
        ("", "holds NoneType"),
        ("- 1\n- 2", "holds list"),
        (changed("image_width", None), "`image_width` is missing"),
        (changed("image_height", 0), "`image_height` is 0"),
        (changed("image_height", "tall"), "`image_height` is 'tall'"),
        (changed("camera_matrix", None), "`camera_matrix` is missing"),
        (changed("camera_matrix", "five"), "`camera_matrix` must be a list"),
        (changed("camera_matrix/data", None), "`camera_matrix` must be a list"),
        (changed("camera_matrix/data", K[:8]), "has 8 numbers; it must have 3 x 3"),
        (changed("camera_matrix/data", [float("nan"), *K[1:]]), "holds nan"),
        (changed("camera_matrix/data", ["wide", *K[1:]]), "holds 'wide'"),
        (changed("camera_matrix/data", [True, *K[1:]]), "holds True"),
        (changed("camera_matrix/data", [0.0, *K[1:]]), "uncalibrated (K[0] is 0)"),
        (changed("camera_matrix/data", [-500.0, *K[1:]]), "must have focal lengths above 0"),
        (changed("camera_matrix/data", [*K[:8], 2.0]), "the last row [0.0, 0.0, 1.0]"),
        (changed("distortion_model", None), "`distortion_model` is missing"),
        (
            changed("distortion_model", "fisheye9"),
            "distortion model is 'fisheye9'; it must be one of",
        ),
        (changed("distortion_coefficients", None), "`distortion_coefficients` is missing"),
        (
            changed("distortion_coefficients/data", D[:3]),
            "D has 3 coefficients; plumb_bob takes 4 or 5",
        ),
        (changed("distortion_coefficients/data", [float("inf"), *D[1:]]), "holds inf"),
        (changed("rectification_matrix/data", [2.0, *R[1:]]), "which is no rotation"),
        (changed("rectification_matrix/data", [-1.0, *R[1:]]), "which is no rotation"),
        (changed("projection_matrix/data", P[:9]), "has 9 numbers; it must have 3 x 4"),
        (changed("projection_matrix/data", [0.0, *P[1:]]), "must have focal lengths above 0"),
        ({**saved_by_camera_calibration(), "binning_x": 2}, "binning_x and binning_y are 2 and 1"),
        ({**saved_by_camera_calibration(), "roi": {"x_offset": 8}}, "region of interest"),
        ({**saved_by_camera_calibration(), "roi": {"width": 320}}, "region of interest"),
        ({**saved_by_camera_calibration(), "roi": 5}, "`roi` is 5"),
    ],
)
def test_a_bad_calibration_is_refused_with_its_reason(
    tmp_path: Path, content: object, words: str
) -> None:
    file = write(tmp_path, content)
    with pytest.raises(CalibrationError) as caught:
        read_calibration(file)
    assert words in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_missing_and_a_binary_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="No such file"):
        read_calibration(tmp_path / "nowhere.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(CalibrationError, match="cannot be read"):
        read_calibration(binary)


def test_a_calibration_is_scaled_to_the_same_proportions() -> None:
    camera = CameraModel.pinhole(640, 480, 500.0, 500.0, 319.5, 239.5)
    half = fit_to_size(camera, 320, 240)
    assert half.intrinsics == pytest.approx((250.0, 250.0, 159.5, 119.5))
    kitti = CameraModel.pinhole(1242, 375, 721.5, 721.5, 609.6, 172.9)
    assert fit_to_size(kitti, 640, 192).height == 192  # 193.2 rounded to an even number


@pytest.mark.parametrize("size", [(640, 360), (480, 640), (640, 490), (64, 50), (1280, 720)])
def test_a_calibration_of_other_proportions_is_refused(size: tuple[int, int]) -> None:
    camera = CameraModel.pinhole(640, 480, 500.0, 500.0, 319.5, 239.5)
    with pytest.raises(CalibrationError, match=f"640x480 images and the image is {size[0]}x"):
        fit_to_size(camera, *size)


def test_scaling_is_told_for_as_long_as_the_images_have_that_size(tmp_path: Path) -> None:
    file = write(tmp_path, saved_by_camera_calibration())
    intrinsics = Intrinsics.from_settings(CameraSettings(calibration=str(file)))
    assert intrinsics.for_size(640, 480) is not None
    assert intrinsics.notices == ()
    first = intrinsics.for_size(1280, 960)
    assert first is intrinsics.for_size(1280, 960)
    assert len(intrinsics.notices) == 1
    assert "640x480 is scaled to 1280x960" in intrinsics.notices[0]
    intrinsics.for_size(640, 480)
    assert intrinsics.notices == ()


def test_a_size_that_the_calibration_does_not_fit_has_no_intrinsics_and_is_told(
    tmp_path: Path,
) -> None:
    file = write(tmp_path, saved_by_camera_calibration())
    intrinsics = Intrinsics.from_settings(CameraSettings(calibration=str(file)))
    for _ in range(2):
        assert intrinsics.fitting(640, 360) is None
        assert "only relative depth is published; calibrate at 640x360" in intrinsics.notices[0]
        with pytest.raises(CalibrationError, match="other proportions"):
            intrinsics.for_size(640, 360)
    assert intrinsics.fitting(640, 480) is not None
    assert intrinsics.notices == ()


def test_an_assumed_field_of_view_is_marked_and_told() -> None:
    intrinsics = Intrinsics.from_settings(CameraSettings(assumed_fov_deg=90.0))
    camera = intrinsics.for_size(640, 480)
    assert camera is not None
    assert camera.assumed
    assert camera.K[0, 0] == pytest.approx(320.0)
    assert "NOT CALIBRATED" in intrinsics.notices[0]
    assert "90 deg" in intrinsics.notices[0]


def test_without_calibration_and_assumption_there_are_no_intrinsics() -> None:
    intrinsics = Intrinsics.from_settings(
        dataclasses.replace(CameraSettings(), assumed_fov_deg=0.0)
    )
    assert intrinsics.for_size(640, 480) is None
    assert "nothing can be published in metres" in intrinsics.notices[0]
