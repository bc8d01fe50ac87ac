"""Rectified pixels are where P says, for every distortion model."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_node.geometry.calibration import checked_camera
from depth_node.geometry.rectify import Blinder, Rectifier
from depth_node.types import CameraModel, Disparity, Frame

WIDTH, HEIGHT = 320, 240
BLOB_SIGMA_PX = 3.0


def radial_tangential(x, y, D):
    """CameraInfo's plumb_bob and rational_polynomial, from image_geometry's documentation."""
    k1, k2, p1, p2, k3, k4, k5, k6 = [*D, *[0.0] * (8 - len(D))]
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    )


def equidistant(x, y, D):
    """Kannala and Brandt, 2006: the distorted radius is a polynomial of the angle."""
    r = np.hypot(x, y)
    angle = np.arctan(r)
    bent = angle * (1 + sum(k * angle ** (2 * i + 2) for i, k in enumerate(D)))
    scale = bent / r if r > 0 else 1.0
    return x * scale, y * scale


def rotation(pitch_deg, roll_deg):
    a, b = np.radians([pitch_deg, roll_deg])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return about_x @ about_z


def camera(model, D, R=None, zoom=0.9):
    K = np.array([[230.0, 0, 163.0], [0, 235.0, 117.0], [0, 0, 1]])
    P = np.array([[230.0 * zoom, 0, 158.0, 0], [0, 230.0 * zoom, 121.0, 0], [0, 0, 1, 0]])
    R = np.eye(3) if R is None else R
    return CameraModel(WIDTH, HEIGHT, K, np.asarray(D, float), R, P, model)


def frame_of(image, model, **kwargs):
    return Frame(image, 1_234_567_891, "left_optical", model, 42, **kwargs)


def blob(u, v):
    """A soft white dot; its brightness is its probability, so its centroid is its position."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    dot = 255.0 * np.exp(-0.5 * ((x - u) ** 2 + (y - v) ** 2) / BLOB_SIGMA_PX**2)
    return np.repeat(dot.round().astype(np.uint8)[..., None], 3, axis=2)


def centroid(image):
    weight = image[..., 0].astype(float)
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    return (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()


MODELS = {
    "plumb_bob": (radial_tangential, [-0.28, 0.09, 0.002, -0.001, -0.01]),
    "rational_polynomial": (
        radial_tangential,
        [0.35, -0.12, 0.001, -0.002, 0.02, 0.6, -0.1, 0.03],
    ),
    "equidistant": (equidistant, [-0.03, 0.012, -0.006, 0.001]),
}
MODELS_AND_D = [*MODELS.items(), ("equidistant", (equidistant, [0.0] * 4))]


@settings(max_examples=40, deadline=None)
@given(
    lens=st.sampled_from(MODELS_AND_D),
    u=st.floats(40, WIDTH - 40),
    v=st.floats(40, HEIGHT - 40),
    pitch=st.floats(-3, 3),
    roll=st.floats(-3, 3),
)
def test_a_distorted_point_is_rectified_to_where_p_says(lens, u, v, pitch, roll):
    model, (distort, D) = lens
    cam = camera(model, D, rotation(pitch, roll))
    in_rectified = np.linalg.inv(cam.P[:, :3]) @ [u, v, 1.0]
    in_raw = cam.R.T @ in_rectified
    x, y = distort(in_raw[0] / in_raw[2], in_raw[1] / in_raw[2], D)
    raw = blob(cam.K[0, 0] * x + cam.K[0, 2], cam.K[1, 1] * y + cam.K[1, 2])

    rectified = Rectifier().rectify(frame_of(raw, cam))

    assert np.hypot(*np.subtract(centroid(rectified.image), (u, v))) <= 0.5


def test_an_ideal_fisheye_without_p_is_rectified_as_opencv_has_it():
    K = np.array([[150.0, 0, 159.5], [0, 150.0, 119.5], [0, 0, 1]])
    numbers = {"K": K, "D": np.zeros(4), "R": np.eye(3), "P": np.zeros((3, 4))}
    cam = checked_camera(WIDTH, HEIGHT, **numbers, model="equidistant")
    ray = np.array([[[np.tan(np.radians(35.0)), 0.1, 1.0]]])
    seen, _ = cv2.fisheye.projectPoints(ray, np.zeros(3), np.zeros(3), K, np.zeros(4))
    rectified = Rectifier().rectify(frame_of(blob(*seen.ravel()), cam))
    expected = (cam.P[:, :3] @ ray.ravel())[:2]
    assert np.hypot(*np.subtract(seen.ravel(), expected)) > 10.0  # as a pinhole would have it
    assert np.hypot(*np.subtract(centroid(rectified.image), expected)) <= 0.5


def test_equidistant_without_coefficients_is_no_fisheye():
    cam = camera("equidistant", [], zoom=1.0)
    result = Rectifier().rectify(frame_of(blob(163, 117), cam))
    np.testing.assert_allclose(centroid(result.image), (158, 121), atol=0.1)


def test_the_rectified_frame_keeps_its_identity_and_loses_its_distortion():
    cam = camera("plumb_bob", MODELS["plumb_bob"][1])
    result = Rectifier().rectify(frame_of(blob(100, 100), cam))
    assert (result.stamp_ns, result.frame_id, result.received_ns) == (
        1_234_567_891,
        "left_optical",
        42,
    )
    assert result.rectified
    assert not result.camera.distorted
    np.testing.assert_array_equal(result.camera.K, cam.P[:, :3])


def test_an_undistorted_image_is_not_copied():
    cam = CameraModel.pinhole(WIDTH, HEIGHT, 200, 200, 160, 120, distortion_model="plumb_bob")
    image = blob(50, 50)
    result = Rectifier().rectify(frame_of(image, cam))
    assert result.image is image
    assert result.rectified


def test_an_image_that_is_rectified_already_is_left_alone():
    cam = camera("plumb_bob", MODELS["plumb_bob"][1])
    frame = frame_of(blob(50, 50), cam, rectified=True)
    assert Rectifier().rectify(frame) is frame


def test_an_undistorted_image_moves_when_p_differs_from_k():
    cam = camera("", [], zoom=1.0)
    result = Rectifier().rectify(frame_of(blob(163, 117), cam))
    np.testing.assert_allclose(centroid(result.image), (158, 121), atol=0.1)


def test_maps_are_computed_once_for_equal_calibrations(monkeypatch):
    calls = []
    import depth_node.geometry.rectify as module

    original = module._maps
    monkeypatch.setattr(module, "_maps", lambda cam: calls.append(cam) or original(cam))
    rectifier, image = Rectifier(), blob(100, 100)
    D = MODELS["plumb_bob"][1]
    for _ in range(3):
        rectifier.rectify(frame_of(image, camera("plumb_bob", D)))
    assert len(calls) == 1
    rectifier.rectify(frame_of(image, camera("plumb_bob", [0.1, *D[1:]])))
    assert len(calls) == 2


def test_pixels_that_the_camera_never_saw_are_known():
    rectifier = Rectifier()
    wide = frame_of(blob(10, 10), camera("plumb_bob", [-0.1, 0, 0, 0, 0], zoom=0.6))
    narrow = frame_of(blob(10, 10), camera("plumb_bob", [-0.05, 0, 0, 0, 0], zoom=1.3))
    for between in (narrow, replace(wide, rectified=True)):
        rectifier.rectify(wide)
        assert rectifier.unseen[0, 0] == 255
        assert rectifier.unseen[HEIGHT // 2, WIDTH // 2] == 0
        rectifier.rectify(between)
        assert rectifier.unseen is None


FOLDING = {
    "plumb_bob": ([-0.33, 0.14, 0, 0, -0.03], 1.47),  # grows, falls, and falls through the centre
    "equidistant": ([-0.35, 0, 0, 0], np.tan(np.sqrt(1 / 1.05))),
}
"""D, and the undistorted radius at which the distorted one stops growing."""


@pytest.mark.parametrize("model", FOLDING)
@pytest.mark.parametrize("roll_deg", [0, 180])
@pytest.mark.parametrize("column", [158.0, -40.0])  # of the optical axis
def test_what_the_lens_folds_back_was_not_seen(model, roll_deg, column):
    D, radius = FOLDING[model]
    cam = camera(model, D, rotation(0, roll_deg), zoom=0.25)
    cam.P[0, 2] = column
    rectifier = Rectifier()
    image = rectifier.rectify(frame_of(np.full((HEIGHT, WIDTH, 3), 255, np.uint8), cam)).image
    np.testing.assert_array_equal(image[..., 0], 255 - rectifier.unseen)
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    r = np.hypot(x - column, y - cam.P[1, 2]) / cam.P[0, 0]
    folded, inside = r > radius + 0.03, r < radius - 0.03
    library = cv2.fisheye if model == "equidistant" else cv2
    maps = library.initUndistortRectifyMap(
        cam.K, np.array(D), cam.R, cam.P[:, :3], (WIDTH, HEIGHT), cv2.CV_16SC2
    )
    ghosts = cv2.remap(np.full((HEIGHT, WIDTH), 255, np.uint8), *maps, cv2.INTER_LINEAR)
    assert ghosts[folded].any()
    assert (rectifier.unseen[folded] == 255).all()
    np.testing.assert_array_equal(rectifier.unseen[inside], 255 - ghosts[inside])


def test_a_distorted_image_of_one_line_is_rectified():
    cam = replace(camera("plumb_bob", MODELS["plumb_bob"][1]), height=1)
    image = np.full((1, WIDTH, 3), 9, np.uint8)
    assert Rectifier().rectify(frame_of(image, cam)).image.shape == image.shape


@pytest.mark.parametrize(
    ("model", "D", "message"),
    [
        ("fov", [0.9], "'fov'.*plumb_bob"),
        ("plumb_bob", [0.1, 0.2], "D has 2 .*plumb_bob takes 4 or 5"),
        ("rational_polynomial", [0.1] * 5, "D has 5 .*rational_polynomial takes 8"),
        ("equidistant", [0.1] * 5, "D has 5 .*equidistant takes 4"),
        ("plumb_bob", [np.nan, 0.1, 0, 0, 0], "must be a finite number"),
    ],
)
def test_a_distortion_that_cannot_be_understood_is_refused(model, D, message):
    with pytest.raises(ValueError, match=message):
        Rectifier().rectify(frame_of(blob(9, 9), camera(model, D)))


def test_a_calibration_that_does_not_fit_the_image_is_refused():
    cam = camera("plumb_bob", MODELS["plumb_bob"][1])
    with pytest.raises(ValueError, match="640x240 but the image is 320x240"):
        Rectifier().rectify(frame_of(blob(9, 9), replace(cam, width=640)))
    with pytest.raises(ValueError, match="no calibration"):
        Rectifier().rectify(frame_of(blob(9, 9), None))
    with pytest.raises(ValueError, match="K of the calibration"):
        Rectifier().rectify(frame_of(blob(9, 9), replace(cam, K=np.full((3, 3), np.nan))))


def test_a_bad_calibration_leaves_the_good_one_in_place():
    rectifier, good = Rectifier(), camera("plumb_bob", MODELS["plumb_bob"][1])
    before = rectifier.rectify(frame_of(blob(99, 99), good)).image
    with pytest.raises(ValueError, match="takes 4 or 5"):
        rectifier.rectify(frame_of(blob(99, 99), camera("plumb_bob", [0.1])))
    np.testing.assert_array_equal(rectifier.rectify(frame_of(blob(99, 99), good)).image, before)


def test_disparity_of_what_was_not_seen_is_no_number():
    rectifier, blinder = Rectifier(), Blinder()
    wide = camera("plumb_bob", [-0.1, 0, 0, 0, 0], zoom=0.6)
    rectifier.rectify(frame_of(blob(10, 10), wide))
    for height, width in ((HEIGHT, WIDTH), (90, 126)):
        given = Disparity(np.ones((height, width), np.float32))
        unseen = cv2.resize(rectifier.unseen, (width, height), interpolation=cv2.INTER_NEAREST)
        for _ in range(2):
            blinded = blinder.blind(given, rectifier.unseen)
            np.testing.assert_array_equal(np.isnan(blinded.values), unseen > 0)
            assert np.all(blinded.values[unseen == 0] == 1.0)
        assert np.all(given.values == 1.0)
    other = np.zeros((HEIGHT, WIDTH), np.uint8)
    other[:, :10] = 255
    assert np.isnan(blinder.blind(given, other).values).sum() == 90 * round(10 * 126 / WIDTH)
    assert blinder.blind(given, None) is given
