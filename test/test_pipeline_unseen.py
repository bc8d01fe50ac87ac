"""What a rectified image does not show counts for nothing: the network invents it."""

from __future__ import annotations

import numpy as np
import pytest
from test_pipeline import STAMP_NS, Bench

from depth_node.parameters import Settings
from depth_node.pipeline import Result
from depth_node.scale.fixed import FixedScale
from depth_node.scale.ground import GroundReference
from depth_node.scale.metric import MetricScaleEstimator
from depth_node.scale.points import RangeNoise, SparseDepth
from depth_node.scale.select import make_estimator
from depth_node.types import ArrayF32, CameraModel, Disparity, Frame, ImageU8, ScaleEstimate

WIDTH, HEIGHT = 256, 192
K = np.array([[200.0, 0, 127.5], [0, 200.0, 95.5], [0, 0, 1]])
WIDE = CameraModel(
    WIDTH, HEIGHT, K, P=np.array([[120.0, 0, 127.5, 0], [0, 120.0, 95.5, 0], [0, 0, 1, 0]])
)
"""P keeps more than the whole view: the rectified image has a black border of 20% on each side."""
NARROW = CameraModel(WIDTH, HEIGHT, K)
UNIT = 0.004  # 1/m per unit of the network's disparity
NEARER = 1.6  # than it is, the network takes the floor to be where the image is black
HEIGHT_M, PITCH = 1.2, 0.6  # of the camera over a floor that it sees all of


def floor(camera: CameraModel) -> ArrayF32:
    """HEIGHTxWIDTH inverse depth of the floor in a rectified image, 1/m."""
    _, fy, _, cy = camera.intrinsics
    y = (np.arange(HEIGHT)[:, None] - cy) / fy * np.ones((1, WIDTH))
    q = (np.cos(PITCH) * y + np.sin(PITCH)) / HEIGHT_M
    return np.asarray(np.maximum(q, 0.02), np.float32)


def picture() -> ImageU8:
    """The raw image, from the red channel of which the network reads the floor's disparity."""
    red = np.round(floor(NARROW) / UNIT)
    return np.repeat(red.astype(np.uint8)[..., None], 3, axis=2)


class Inventing:
    """A network that goes on with the floor where the image is black, but not at its distance."""

    name, model, device, precision = "inventing", "red channel", "test", "fp32"

    def infer(self, image: ImageU8) -> Disparity:
        red = image[..., 0].astype(np.float32)
        return Disparity(np.where(red > 0.0, red, np.float32(NEARER / UNIT) * floor(WIDE)))

    def close(self) -> None:
        pass


def run(estimator: object, camera: CameraModel = WIDE) -> Result:
    bench = Bench(estimator, depth__remove_edges=False)
    bench.pipeline._engine = Inventing()
    bench.pipeline.submit(
        lambda: Frame(picture(), STAMP_NS, "camera_optical_frame", camera, STAMP_NS)
    )
    (result,) = bench.sink.wait(1)
    bench.pipeline.stop()
    return result


def unseen() -> np.ndarray:
    """HEIGHTxWIDTH bool, the pixels of the rectified image that the camera never saw."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    column, row = (u - 127.5) / 120.0 * 200.0 + 127.5, (v - 95.5) / 120.0 * 200.0 + 95.5
    return (column < 0) | (column > WIDTH - 1) | (row < 0) | (row > HEIGHT - 1)


def assert_floor(result: Result) -> None:
    assert result.depth is not None
    depth, hidden = result.depth.depth, unseen()
    assert np.isnan(depth[hidden]).all()
    error = np.abs(depth * floor(WIDE) - 1.0)[~hidden]
    assert np.isfinite(error).mean() > 0.98
    assert np.nanmedian(error) < 0.01
    assert np.nanpercentile(error, 99) < 0.05


class Recorder(FixedScale):
    """Keeps what it was shown."""

    def estimate(self, frame: Frame, disparity: Disparity) -> ScaleEstimate:
        self.shown = disparity
        return super().estimate(frame, disparity)


def test_the_scale_is_not_shown_what_the_camera_did_not_see_and_consumers_get_all_numbers() -> None:
    recorder = Recorder(UNIT, 0.0)
    result = run(recorder)
    shown, published = recorder.shown.values, result.disparity.values
    np.testing.assert_array_equal(np.isnan(shown), unseen())
    np.testing.assert_array_equal(shown[~unseen()], published[~unseen()])
    np.testing.assert_array_equal(published, Inventing().infer(result.frame.image).values)
    assert_floor(result)


def test_where_all_was_seen_the_scale_is_shown_what_is_published() -> None:
    recorder = Recorder(UNIT, 0.0)
    result = run(recorder, NARROW)
    assert recorder.shown is result.disparity


def lidar() -> SparseDepth:
    """A LiDAR that sees as far around as the rectified image reaches."""
    v, u = (axis.ravel() for axis in np.mgrid[2:HEIGHT:6, 2:WIDTH:3])
    z = 1.0 / floor(WIDE)[v, u]
    sigma = RangeNoise().sigma(z)
    u32, v32 = u.astype(np.float32), v.astype(np.float32)
    return SparseDepth(u32, v32, z, sigma, "lidar", STAMP_NS, (WIDTH, HEIGHT))


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("align", [False, True])
def test_points_where_the_camera_sees_nothing_do_not_spoil_the_scale(
    local: bool, align: bool
) -> None:
    settings = Settings().with_values(
        {"lidar.enabled": True, "scale.local_correction": local, "scale.align": align}
    )
    estimator = make_estimator(settings)
    assert isinstance(estimator, MetricScaleEstimator)
    estimator.add(lidar())
    assert_floor(run(estimator))


def test_ground_that_the_camera_does_not_see_does_not_spoil_the_scale() -> None:
    settings = Settings().with_values({"ground.enabled": True})
    estimator = make_estimator(settings)
    assert isinstance(estimator, MetricScaleEstimator)
    down = (0.0, float(np.cos(PITCH)), float(np.sin(PITCH)))
    estimator.set_ground(GroundReference(HEIGHT_M, down))
    assert_floor(run(estimator))
