"""JPEG and PNG messages, and depth in compressed_depth_image_transport's format."""

from __future__ import annotations

import re
import struct
import zlib
from array import array

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

pytest.importorskip("sensor_msgs.msg", reason="the message packages are not installed")

from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from depth_node.health import apart
from depth_node.ros.compressed_depth import decode_compressed_depth, encode_compressed_depth
from depth_node.ros.compressed_image import decode_compressed
from depth_node.ros.wire import ConversionError


def compressed(data, label="jpeg"):
    return CompressedImage(format=label, data=array("B", bytes(data)))


def picture(height=48, width=64):
    """A smooth RGB picture whose left is red and right is blue."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    return np.dstack([230 - 200 * x, 40 + 100 * y, 20 + 200 * x]).astype(np.uint8)


def encoded(rgb, kind):
    image = rgb[:, :, ::-1] if rgb.ndim == 3 else rgb
    return cv2.imencode(f".{kind}", np.ascontiguousarray(image))[1].tobytes()


def png_chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


JPEG, PNG = encoded(picture(), "jpg"), encoded(picture(), "png")


@pytest.mark.parametrize("label", ["jpeg", "jpg", "rgb8; jpeg compressed bgr8", "", "png"])
def test_jpeg_is_recognised_whatever_the_format_says(label):
    image = decode_compressed(compressed(JPEG, label))
    assert np.abs(image.astype(int) - picture()).max() < 12


@pytest.mark.parametrize("label", ["png", "bgr8; png compressed bgr8", "rgb8; png compressed bgr8"])
def test_png_is_exact(label):
    np.testing.assert_array_equal(decode_compressed(compressed(PNG, label)), picture())


def test_pixels_that_were_encoded_as_rgb_are_turned_back():
    swapped = encoded(picture()[:, :, ::-1], "png")
    image = decode_compressed(compressed(swapped, "rgb8; png compressed rgb8"))
    np.testing.assert_array_equal(image, picture())


def test_a_bayer_mosaic_in_a_png_is_interpolated():
    mosaic = np.zeros((8, 10), np.uint8)
    mosaic[::2, ::2], mosaic[1::2, 1::2] = 200, 50
    mosaic[::2, 1::2] = mosaic[1::2, ::2] = 100
    image = decode_compressed(compressed(encoded(mosaic, "png"), "bayer_rggb8; png compressed "))
    np.testing.assert_array_equal(image, np.broadcast_to(np.uint8([200, 100, 50]), (8, 10, 3)))


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_grey_files_become_rgb(kind):
    grey = np.full((8, 12), 131, np.uint8)
    image = decode_compressed(compressed(encoded(grey, kind)))
    np.testing.assert_array_equal(image, np.full((8, 12, 3), 131))


@pytest.mark.parametrize("channels", [1, 3])
def test_png_of_16_bits_keeps_the_high_byte(channels):
    values = np.random.default_rng(0).integers(0, 65536, (6, 7, channels), np.uint16)
    image = decode_compressed(compressed(cv2.imencode(".png", values)[1].tobytes(), "png"))
    expected = np.broadcast_to(values[:, :, ::-1] >> 8, (6, 7, 3))
    # libpng may round where others cut; either is the high byte within one step.
    assert np.abs(image.astype(int) - expected).max() <= 1


def test_alpha_is_dropped():
    bgra = np.dstack([picture()[:, :, ::-1], np.full((48, 64), 7, np.uint8)])
    image = decode_compressed(compressed(cv2.imencode(".png", bgra)[1].tobytes(), "png"))
    np.testing.assert_array_equal(image, picture())


def test_cmyk_jpeg_is_converted():
    pillow = pytest.importorskip("PIL.Image", reason="Pillow writes the CMYK file")
    import io

    buffer = io.BytesIO()
    pillow.fromarray(picture()).convert("CMYK").save(buffer, "JPEG", quality=95)
    image = decode_compressed(compressed(buffer.getvalue()))
    assert np.abs(image.astype(int) - picture()).mean() < 10


def test_exif_orientation_does_not_turn_the_image():
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + tiff
    turned = JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + JPEG[2:]
    image = decode_compressed(compressed(turned))
    np.testing.assert_array_equal(image, decode_compressed(compressed(JPEG)))


def test_bytes_after_the_end_do_no_harm():
    for data in (JPEG, PNG):
        image = decode_compressed(compressed(data + b"\0" * 4000))
        np.testing.assert_array_equal(image, decode_compressed(compressed(data)))


def claimed_jpeg(width, height):
    position = JPEG.index(b"\xff\xc0")
    return JPEG[: position + 5] + struct.pack(">HH", height, width) + JPEG[position + 9 :]


def claimed_png(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("forge", [claimed_jpeg, claimed_png])
def test_absurd_claims_are_refused_before_decoding(forge, monkeypatch):
    def imdecode(*_):
        raise AssertionError("it was decoded")

    monkeypatch.setattr(cv2, "imdecode", imdecode)
    with pytest.raises(ConversionError, match=r"60000x60000 claims 3600000000 pixels.*not decoded"):
        decode_compressed(compressed(forge(60000, 60000)))
    with pytest.raises(ConversionError, match="no pixels"):
        decode_compressed(compressed(forge(64, 0)))
    with pytest.raises(ConversionError, match="more than the 3071 accepted"):
        decode_compressed(compressed(forge(64, 48)), max_pixels=3071)


@pytest.mark.parametrize(
    ("data", "label", "words"),
    [
        (b"", "jpeg", "begin with nothing are neither JPEG nor PNG"),
        (b"hello, this is no image", "jpeg", "neither JPEG nor PNG"),
        (b"\0\0\0\x01gB\0\x1e", "h264", "'h264'.*neither JPEG nor PNG"),
        (PNG, "32FC1; compressedDepth png", "compressed depth, not a camera image"),
        (PNG, "16UC1; compressedDepth", "compressed depth, not a camera image"),
        (JPEG[:-2], "jpeg", "JPEG.*truncated"),
        (JPEG[: len(JPEG) // 2], "jpeg", "JPEG.*truncated"),
        (JPEG[:40], "jpeg", "JPEG.*truncated"),
        (JPEG[:3], "jpeg", "JPEG.*truncated"),
        (PNG[:-12], "png", "PNG.*truncated"),
        (PNG[:20], "png", "PNG.*truncated"),
        (PNG[:60] + b"\0\0\0" + PNG[63:], "png", "damaged"),
        (b"\xff\xd8\xff\xda\0\x08" + b"\0" * 30, "jpeg", "damaged"),
        (b"\xff\xd8\xff\xe0\0\x01" + b"\0" * 30, "jpeg", "damaged"),
        (b"\xff\xd8\xff\xe0\0\x04ab" + b"\0" * 30, "jpeg", "damaged"),
    ],
)
def test_what_is_no_whole_image_is_refused(data, label, words):
    with pytest.raises(ConversionError, match=words) as caught:
        decode_compressed(compressed(data, label))
    seen, cure = apart(str(caught.value), "")
    assert re.search(words, seen), "what was seen is not split up"
    assert re.match("(check|publish|subscribe) ", cure), "the doctor has something to do"


@st.composite
def damaged(draw):
    data = bytearray(draw(st.sampled_from([JPEG, PNG])))
    for _ in range(draw(st.integers(0, 6))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    start = draw(st.sampled_from([0, 0, 0, 1, 8]))
    return bytes(data[start : draw(st.integers(0, len(data)))]) + draw(st.binary(max_size=20))


@given(st.one_of(damaged(), st.binary(max_size=200)), st.text(max_size=30))
@settings(max_examples=300)
def test_malformed_files_raise_conversion_error_or_decode(data, label):
    try:
        image = decode_compressed(compressed(data, label), max_pixels=1_000_000)
    except ConversionError:
        return
    assert image.dtype == np.uint8
    assert image.shape[2] == 3


# --- compressed depth ---------------------------------------------------------------------------


def decoded_codes(msg):
    return cv2.imdecode(np.frombuffer(msg.data, np.uint8)[12:], cv2.IMREAD_UNCHANGED)


def test_compressed_depth_has_the_bytes_computed_by_hand():
    # A = 100 * 101 = 10100 = 0x461DD000, B = 1 - 10100 / 10 = -1009 = 0xC47C4000.
    # 1 m: 10100 - 1009 = 9091; 2 m: 5050 - 1009; 3 m: 3366.67 - 1009 = 2357.67, cut; 10 m: none.
    nan, inf = np.nan, np.inf
    depth = np.float32([[1, 2, 3, 5], [9.9, 10, 12, inf], [nan, 0, -1, -inf], [0.15, 0.16, 0.2, 4]])
    msg = encode_compressed_depth(depth, Header(frame_id="optical"), depth_max=10.0)
    assert msg.format == "32FC1; compressedDepth png"
    assert msg.header.frame_id == "optical"
    assert bytes(msg.data[:12]).hex(" ", 4) == "00000000 00d01d46 00407cc4"
    expected = [[9091, 4041, 2357, 1011], [11, 0, 0, 0], [0, 0, 0, 0], [0, 62116, 49491, 1516]]
    np.testing.assert_array_equal(decoded_codes(msg), expected)


def test_compressed_depth_of_millimetres_is_the_png_behind_twelve_bytes():
    depth = np.uint16([[0, 1, 9999], [10000, 10001, 65535]])
    msg = encode_compressed_depth(depth, Header(), depth_max=10.0)
    assert msg.format == "16UC1; compressedDepth png"
    assert bytes(msg.data[12:20]) == b"\x89PNG\r\n\x1a\n"
    expected = [[0, 1, 9999], [10000, 0, 0]]
    np.testing.assert_array_equal(decoded_codes(msg), expected)
    np.testing.assert_array_equal(decode_compressed_depth(msg), expected)


def test_millimetres_beyond_16_bits_do_not_wrap_the_limit():
    depth = np.uint16([[65535, 400]])
    msg = encode_compressed_depth(depth, Header(), depth_max=100.0)
    np.testing.assert_array_equal(decode_compressed_depth(msg), depth)


depths = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.one_of(st.floats(0.125, 128.0, width=32), st.floats(width=32)),
)


@given(depths, st.floats(1.0, 100.0), st.floats(10.0, 150.0), st.sampled_from([None, 0, 9]))
@settings(max_examples=200)
def test_compressed_depth_comes_back_within_one_code(depth, depth_max, quantization, level):
    msg = encode_compressed_depth(depth, Header(), depth_max, quantization, level)
    result = decode_compressed_depth(msg)
    a = quantization * (quantization + 1.0)
    # Codes reach 2^16 with 24 bits of mantissa: float32 adds at most a hundredth of a code.
    slack = 0.02
    nearest = a / (65536.0 - 1.0 + a / depth_max)
    with np.errstate(all="ignore"):
        outside = ~(depth > 0) | (depth >= np.float32(depth_max)) | (depth < nearest * 0.999)
        inside = (depth > nearest * 1.001) & (depth < depth_max * 0.999)
    assert np.isnan(result[outside]).all()
    assert np.isfinite(result[inside]).all()
    z, z_back = depth[inside].astype(float), result[inside].astype(float)
    lost = a / z - a / z_back  # codes
    assert np.all(lost >= -slack)
    assert np.all(lost <= 1.0 + slack)


def test_the_documented_error_holds_at_ten_metres():
    depth = np.linspace(9.0, 10.0, 400, dtype=np.float32)[None]
    msg = encode_compressed_depth(depth, Header(), depth_max=50.0)
    assert np.abs(decode_compressed_depth(msg) - depth).max() < 0.01


@pytest.mark.parametrize(
    ("depth", "depth_max", "quantization"),
    [
        (np.ones((2, 2)), 10.0, 100.0),
        (np.ones(4, np.float32), 10.0, 100.0),
        (np.ones((0, 4), np.float32), 10.0, 100.0),
        (np.ones((2, 2), np.float32), 0.0, 100.0),
        (np.ones((2, 2), np.float32), np.nan, 100.0),
        (np.ones((2, 2), np.float32), 10.0, -1.0),
    ],
)
def test_what_is_no_depth_image_is_not_compressed(depth, depth_max, quantization):
    with pytest.raises(ConversionError):
        encode_compressed_depth(depth, Header(), depth_max, quantization)


GOOD = bytes(encode_compressed_depth(np.full((4, 6), 2, np.float32), Header(), 10.0).data)


@pytest.mark.parametrize("label", ["32FC1", "32FC1; compressedDepth", "32FC1;compressedDepth png"])
def test_labels_of_older_releases_are_read(label):
    assert np.allclose(decode_compressed_depth(compressed(GOOD, label)), 2.0, atol=1e-3)


@pytest.mark.parametrize(
    ("data", "label"),
    [
        (GOOD, "32FC1; compressedDepth rvl"),
        (GOOD, "jpeg"),
        (GOOD, "8UC1; compressedDepth png"),
        (GOOD[:5], "32FC1; compressedDepth png"),
        (GOOD[:-8], "32FC1; compressedDepth png"),
        (GOOD[:12] + PNG, "32FC1; compressedDepth png"),
        (GOOD[:12] + claimed_png(60000, 60000), "32FC1; compressedDepth png"),
        (struct.pack("<iff", 0, float("nan"), 0.0) + GOOD[12:], "32FC1; compressedDepth png"),
        (struct.pack("<iff", 0, 0.0, 0.0) + GOOD[12:], "32FC1; compressedDepth png"),
    ],
)
def test_damaged_compressed_depth_is_refused(data, label):
    with pytest.raises(ConversionError):
        decode_compressed_depth(compressed(data, label))


@given(
    st.sampled_from(["32FC1; compressedDepth png", "16UC1; compressedDepth png"]),
    st.binary(min_size=12, max_size=12),
    st.integers(0, len(GOOD)),
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=4),
)
@settings(max_examples=200)
def test_malformed_compressed_depth_raises_conversion_error_or_decodes(label, config, end, edits):
    data = bytearray(config + GOOD[12:])
    for position, value in edits:
        data[position] = value
    try:
        depth = decode_compressed_depth(compressed(data[:end], label), max_pixels=100_000)
    except ConversionError:
        return
    assert depth.ndim == 2
    assert not (depth < 0).any()
