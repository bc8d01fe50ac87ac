"""Networks without PyTorch: the graph's contract, front and end, registry and refusals."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_node.network.adopt import add_graph
from depth_node.network.build import normalised
from depth_node.network.compose import Size, compose
from depth_node.network.errors import ModelError
from depth_node.network.front import split_front
from depth_node.network.graph import read_graph
from depth_node.network.precision import require_symmetric, to_fp16, to_int8
from depth_node.network.registry import Entry, find_entry, load_registry
from depth_node.network.store import graph_path

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx import parser
from onnx_stubs import save_stub, stub_model

pytestmark = pytest.mark.usefixtures("own_cache")

RELATIVE = Entry("net", "Apache-2.0", "relative", "disparity", "net.pth")
METRIC = Entry("net", "Apache-2.0", "metric", "depth", "net.pth", max_depth_m=20.0)


def core(body: str = "raw = ReduceMean <axes = [1], keepdims = 0> (pixels)", opset: int = 13):
    """A plain network: the mean of the normalised colours."""
    return parser.parse_model(f"""
        <ir_version: 9, opset_import: ["" : {opset}]>
        core (float[1, 3, h, w] pixels) => (float[1, h, w] raw) {{ {body} }}""")


@pytest.mark.parametrize("text", ["252", "252x336"])
@pytest.mark.parametrize("shape", [(480, 640), (375, 1242), (720, 405), (252, 336)])
def test_the_front_is_the_reference_preprocessing(text, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 1.5)
    size = Size.parse(text, 14)
    model = compose(core(), RELATIVE, size, "fp32")
    h, w = size.of(*shape, 14)
    pixels = cv2.resize(image.astype(np.float32) / 255, (w, h), interpolation=cv2.INTER_CUBIC)
    centred = (pixels - np.array(RELATIVE.mean)) / np.array(RELATIVE.std)
    expected = centred.mean(axis=-1)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    seen = session.run(None, {"image": image})[0]
    assert seen.shape == (h, w)
    assert np.linalg.norm(seen - expected) <= 1e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize(("shape", "pads"), [((120, 160), (23, 26)), ((512, 288), (48, 36))])
def test_a_padded_network_sees_a_reflected_border_and_gives_the_image_alone(shape, pads):
    entry = dataclasses.replace(RELATIVE, interpolation="linear", padded=True)
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 2)
    size = Size(height=56, width=70)
    model = compose(core(), entry, size, "fp32")
    onnx.checker.check_model(model, full_check=True)
    raw = normalised(entry, size, image).mean(axis=1)[0]
    (rows, columns), (height, width) = pads, shape
    whole = cv2.resize(raw, (width + 2 * columns, height + 2 * rows), interpolation=cv2.INTER_CUBIC)
    expected = np.maximum(whole[rows:-rows, columns:-columns], raw.min())
    session = onnxruntime.InferenceSession(model.SerializeToString())
    seen = session.run(None, {"image": image})[0]
    np.testing.assert_allclose(seen, expected, atol=1e-4)
    assert split_front(model) is None  # OpenCV's resize, which would be done first, is another one


def test_a_metric_network_gives_inverse_metres():
    image = np.full((28, 28, 3), 200, np.uint8)
    body = "four = Constant <value = float {4.0}> ()  zero = Constant <value = float {0.0}> ()"
    body += " nothing = Mul (pixels, zero)  flat = ReduceMean <axes = [1], keepdims = 0> (nothing)"
    body += " raw = Add (flat, four)"
    model = compose(core(body), METRIC, Size(height=28, width=28), "fp32")
    session = onnxruntime.InferenceSession(model.SerializeToString())
    np.testing.assert_allclose(session.run(None, {"image": image})[0], 0.25, rtol=1e-6)


@pytest.mark.parametrize(("max_m", "seen"), [(20.0, [True, True, False]), (0.0, [True] * 3)])
def test_what_a_metric_network_puts_at_its_end_is_beyond_all_that_it_sees(max_m, seen):
    entry = dataclasses.replace(METRIC, max_depth_m=max_m)
    body = """
        metres = Constant <value = float[1, 1, 3] {4.0, 19.5, 19.9}> ()
        none = Constant <value = float {0.0}> ()
        mean = ReduceMean <axes = [1, 2, 3], keepdims = 0> (pixels)
        nothing = Mul (mean, none)
        raw = Add (metres, nothing)"""
    model = compose(core(body), entry, Size(height=28, width=28), "fp32")
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (disparity,) = session.run(None, {"image": np.zeros((28, 28, 3), np.uint8)})
    expected = np.where(seen, 1 / np.array([4.0, 19.5, 19.9]), 0.0)
    np.testing.assert_allclose(disparity.ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("250", "multiples of 14, such as 252"), ("0", "multiples"), ("a", "short side"),
     ("252x330", "multiples"), ("252x336x3", "short side")],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(text, reason):
    with pytest.raises(ModelError, match=reason):
        Size.parse(text, 14)


def test_a_composed_graph_says_what_it_is(tmp_path):
    path = tmp_path / "net.onnx"
    model = compose(core(), METRIC, Size(short=252), "fp16")
    path.write_bytes(model.SerializeToString())
    graph = read_graph(path)
    assert (graph.name, graph.kind, graph.precision) == ("net", "metric", "fp16")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"cannot read the network .*none.onnx: No such file"):
        read_graph(tmp_path / "none.onnx")


@pytest.mark.parametrize("content", [b"", b"this is no protobuf at all", b"\x08\x09" * 40])
def test_what_is_not_onnx_is_refused(tmp_path, content):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not an ONNX file"):
        read_graph(path)


def test_a_truncated_graph_is_refused(tmp_path):
    path = save_stub(tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ModelError, match="not an ONNX file"):
        read_graph(path)


def test_weights_in_a_file_of_their_own_are_part_of_the_networks_identity(tmp_path):
    path = tmp_path / "net.onnx"
    graphs = []
    for scale in (1.0, 3.0, 1.0):
        model = stub_model()
        (kernel,) = (item for item in model.graph.initializer if item.name == "kernel")
        values = np.full((1, 3, 3, 3), scale, np.float32)
        kernel.CopyFrom(onnx.numpy_helper.from_array(values, "kernel"))
        (tmp_path / "net.onnx.data").unlink(missing_ok=True)
        onnx.save(
            model, path, save_as_external_data=True, location="net.onnx.data", size_threshold=0
        )
        graphs.append((path.read_bytes(), read_graph(path)))
    assert len({file for file, _ in graphs}) == 1  # only the weights' file has changed
    first, other, again = (graph for _, graph in graphs)
    assert first.sha256 == again.sha256 != other.sha256
    assert first.size_bytes >= path.stat().st_size
    (kernel,) = (item for item in other.proto.graph.initializer if item.name == "kernel")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(kernel), 3.0)


def test_an_opset_too_new_is_refused_with_the_newest_that_works(tmp_path):
    model = stub_model()
    model.opset_import[0].version = 99
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"uses opset 99; .* knows up to"):
        read_graph(path)


def test_another_interface_is_refused_with_both_named(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(core().SerializeToString())
    with pytest.raises(ModelError, match=r"`pixels` float32 \[1, 3, h, w\] in, .*expected `image`"):
        read_graph(path)


def test_metadata_of_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ModelError, match="kind='feet'"):
        read_graph(save_stub(tmp_path / "net.onnx", kind="feet"))


def test_splitting_does_not_change_the_model_it_is_given():
    model = stub_model()
    before = model.SerializeToString()
    assert split_front(model) is not None
    assert model.SerializeToString() == before


@pytest.mark.parametrize(
    "attribute", ['mode = "nearest"', 'coordinate_transformation_mode = "asymmetric"']
)
def test_a_resize_that_opencv_does_otherwise_is_left_in(attribute):
    text = onnx.printer.to_text(stub_model())
    changed = text.replace('mode: string = "cubic"', attribute).replace('mode = "cubic"', attribute)
    assert changed != text
    assert split_front(parser.parse_model(changed)) is None


def test_a_plain_network_gets_front_and_end(tmp_path):
    path = tmp_path / "theirs.onnx"
    body = "four_d = ReduceMean <axes = [1]> (image_in)  out = Relu (four_d)"
    path.write_bytes(
        parser.parse_model(f"""
        <ir_version: 9, opset_import: ["" : 17]>
        theirs (float[1, 3, 28, 42] image_in) => (float[1, 1, 28, 42] out) {{ {body} }}
        """).SerializeToString()
    )
    target = add_graph(RELATIVE, path)
    assert target == graph_path("net", "28x42", "fp32")
    image = np.full((60, 80, 3), 255, np.uint8)
    session = onnxruntime.InferenceSession(target)
    seen = session.run(None, {"image": image})[0]
    expected = np.mean((1 - np.array(RELATIVE.mean)) / np.array(RELATIVE.std))
    np.testing.assert_allclose(seen, np.full((28, 42), expected), rtol=1e-5)


def test_a_network_of_any_size_needs_one_to_be_added(tmp_path):
    path = tmp_path / "theirs.onnx"
    path.write_bytes(core().SerializeToString())
    with pytest.raises(ModelError, match="give the short side"):
        add_graph(RELATIVE, path)
    assert add_graph(RELATIVE, path, "28").name == "28.onnx"


def test_a_file_that_is_no_network_cannot_be_added(tmp_path):
    path = tmp_path / "theirs.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="not an ONNX file"):
        add_graph(RELATIVE, path)


def test_every_entry_of_the_registry_is_complete():
    for name, entry in load_registry().items():
        assert entry.repository, name
        assert entry.revision, name
        if entry.family == "depth_anything" and "v2" in name:
            assert len(entry.revision) == 40, name
            assert len(entry.sha256) == 64, name
        assert (entry.output == "depth") == (entry.max_depth_m > 0), name


@pytest.mark.parametrize(
    ("name", "free"),
    [("small", True), ("base", False), ("large", False), ("metric-indoor-base", False)],
)
def test_non_commercial_licences_are_known(name, free):
    assert find_entry(f"depth-anything-v2-{name}").non_commercial is not free


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ModelError, match=r"there is no network 'nix'.*depth-anything-v2-small"):
        find_entry("nix")


def element_types(model) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    values = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    types = {v.name: v.type.tensor_type.elem_type for v in values}
    return {**types, **{i.name: i.data_type for i in inferred.graph.initializer}}


def test_fp16_keeps_layer_norm_and_softmax_in_fp32():
    body = """weights = Constant <value = float[4] {1.0, 2.0, 3.0, 4.0}> ()
              normed = LayerNormalization <axis = -1> (pixels, weights)
              scaled = Mul (normed, weights)  soft = Softmax <axis = -1> (scaled)
              out = Add (soft, scaled)  raw = ReduceMean <axes = [1], keepdims = 0> (out)"""
    model = core(body, opset=17)
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 4
    half = to_fp16(model)
    onnx.checker.check_model(half)
    types = element_types(half)
    kinds = {n.op_type: types[n.input[0]] for n in half.graph.node if n.input}
    assert kinds["LayerNormalization"] == kinds["Softmax"] == onnx.TensorProto.FLOAT
    assert kinds["Mul"] == onnx.TensorProto.FLOAT16
    assert types["pixels"] == types["raw"] == onnx.TensorProto.FLOAT


QUANTISED = """q = QuantizeLinear (pixels, scale, zero_point)
               d = DequantizeLinear (q, scale, zero_point)  raw = ReduceMean <axes = [1]> (d)"""


def quantised(folder: Path, kind: type, zero_point: int) -> Path:
    """A network whose pixels are quantised with this zero point."""
    model = stub_model(
        body="scale = Constant <value = float {0.01}> ()"
        f"zero_point = Constant <value = {kind.__name__} {{{zero_point}}}> () {QUANTISED}",
        opset=13,
        precision="int8",
    )
    path = folder / "net.int8.onnx"
    onnx.save(model, path)
    return path


def test_symmetric_int8_is_what_tensorrt_takes(tmp_path):
    require_symmetric(read_graph(quantised(tmp_path, np.int8, 0)))
    require_symmetric(read_graph(save_stub(tmp_path / "net.onnx")))


@pytest.mark.parametrize(("kind", "zero_point"), [(np.int8, 15), (np.uint8, 0), (np.uint8, 128)])
def test_int8_with_zero_points_is_refused_for_tensorrt(tmp_path, kind, zero_point):
    graph = read_graph(quantised(tmp_path, kind, zero_point))
    with pytest.raises(ModelError, match=r"net.int8.onnx is quantised with zero points.*Take fp16"):
        require_symmetric(graph)


@pytest.mark.parametrize(("count", "first", "last"), [(3, 1, 0), (34, 3, 8)])
def test_int8_leaves_the_ends_of_a_convolutional_network_in_fp32(count: int, first: int, last: int):
    pytest.importorskip("nncf")
    rng = np.random.default_rng(0)
    kernels = [rng.standard_normal((8, 3 if i == 0 else 8, 3, 3)) for i in range(count)]
    lines, at = [], "pixels"
    for i in range(count):
        lines.append(f"c{i} = Conv <pads = [1, 1, 1, 1]> ({at}, k{i})  a{i} = Relu (c{i})")
        at = f"a{i}"
    lines.append(f"raw = ReduceMean <axes = [1], keepdims = 0> ({at})")
    model = core("\n".join(lines))
    for i, values in enumerate(kernels):
        scaled = np.float32(values / np.sqrt(values[0].size))
        model.graph.initializer.append(onnx.numpy_helper.from_array(scaled, f"k{i}"))
    for number, node in enumerate(model.graph.node):
        node.name = f"node_{number}"
    frames = [rng.standard_normal((1, 3, 28, 28), dtype=np.float32) for _ in range(4)]
    quantised = to_int8(model, frames)
    makers = {node.output[0]: node.op_type for node in quantised.graph.node}
    convolutions = [node for node in quantised.graph.node if node.op_type == "Conv"]
    weighed = [makers.get(node.input[1]) == "DequantizeLinear" for node in convolutions]
    assert weighed == [False] * first + [True] * (count - first - last) + [False] * last
