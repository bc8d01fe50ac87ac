"""The student that ships: what its file promises and what it sees. Needs no PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import depth_node.world
from depth_node.evaluation import depth as protocol

MEGABYTES = 8


@pytest.fixture(scope="module")
def session(repo_root):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    path = repo_root / "models" / "student.onnx"
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def see(session, image: np.ndarray) -> np.ndarray:
    (disparity,) = session.run(None, {"image": image})
    return disparity


def test_the_file_keeps_the_contract(session, repo_root):
    (image,), (disparity,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape[2]) == ("image", "tensor(uint8)", 3)
    assert not any(isinstance(side, int) for side in image.shape[:2]), "height and width are free"
    assert (disparity.name, disparity.type) == ("disparity", "tensor(float)")
    properties = session.get_modelmeta().custom_metadata_map
    assert properties["kind"] == "relative"
    assert properties["licence"] == "Apache-2.0"
    assert properties["name"]
    assert properties["version"]
    assert (repo_root / "models" / "student.onnx").stat().st_size <= MEGABYTES * 1e6
    assert (repo_root / "models" / "student.md").is_file()


@pytest.mark.parametrize("size", [(480, 640), (375, 1242), (240, 320), (101, 77), (1, 1)])
def test_any_image_size_gives_finite_disparity(session, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    disparity = see(session, image)
    assert disparity.shape == tuple(session.get_outputs()[0].shape)
    assert disparity.dtype == np.float32
    assert np.isfinite(disparity).all()
    assert (disparity >= 0).all()


def test_the_same_image_gives_the_same_disparity(session):
    image, _ = depth_node.world.sample(77, 160, 120)
    np.testing.assert_array_equal(see(session, image), see(session, image))


def test_the_floor_is_nearer_at_the_bottom_than_at_the_horizon(session):
    image, _ = depth_node.world.sample(10_000_002, 320, 240, "street")
    disparity = see(session, image)
    rows = disparity.shape[0]
    assert disparity[-rows // 8 :].mean() > 2 * disparity[rows // 2 - 4 : rows // 2 + 4].mean()


def test_it_sees_the_world_better_than_the_image_row_does(session):
    ours, blind = [], []
    for seed in range(10_000_000, 10_000_012):
        image, depth = depth_node.world.sample(seed, 256, 192)
        mask = protocol.valid_mask(depth, 1e-3, 80)
        rows = protocol.row_baseline(*depth.shape)
        ours.append(protocol.evaluate_disparity(see(session, image), depth, mask, 1e-3, 80))
        blind.append(protocol.evaluate_disparity(rows, depth, mask, 1e-3, 80))
    assert protocol.mean_metrics(ours).absrel < 0.8 * protocol.mean_metrics(blind).absrel
    assert protocol.mean_metrics(ours).delta1 > protocol.mean_metrics(blind).delta1 + 0.1


def test_it_sees_real_images_better_than_the_image_row_does(session, shared_data):
    import cv2

    ours, blind = [], []
    for index in (0, 13, 26, 39):
        stem = shared_data / "sevenscenes" / f"frame-{index:06d}"
        image = cv2.cvtColor(cv2.imread(f"{stem}.color.jpg"), cv2.COLOR_BGR2RGB)
        raw = cv2.imread(f"{stem}.depth.png", cv2.IMREAD_UNCHANGED)
        depth = np.where(raw == 65535, 0, raw).astype(np.float32) / 1000
        mask = protocol.valid_mask(depth, 1e-3, 10)
        rows = protocol.row_baseline(*depth.shape)
        ours.append(protocol.evaluate_disparity(see(session, image), depth, mask, 1e-3, 10))
        blind.append(protocol.evaluate_disparity(rows, depth, mask, 1e-3, 10))
    assert protocol.mean_metrics(ours).absrel < protocol.mean_metrics(blind).absrel
