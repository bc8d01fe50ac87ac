"""Image messages to RGB and back."""

from __future__ import annotations

import sys
import types
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sensor_msgs.msg", reason="the message packages are not installed")

from sensor_msgs.msg import Image
from std_msgs.msg import Header

from depth_node.ros import images
from depth_node.ros.images import (
    SUPPORTED_ENCODINGS,
    decode_image,
    demosaic,
    image_message,
    millimetres,
)
from depth_node.ros.wire import ConversionError, fill, make_header, stamp_ns

CHANNELS = {"rgb": [0, 1, 2], "bgr": [2, 1, 0], "rgba": [0, 1, 2], "bgra": [2, 1, 0]}
MOSAICS = ["rggb", "bggr", "gbrg", "grbg"]


def message(rows, width, height, encoding, *, padding=0, big_endian=False, cut=0):
    """An image message from 2D rows of bytes; `cut` bytes are missing at the end."""
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=171)
    data = padded.tobytes()
    return Image(
        width=width,
        height=height,
        encoding=encoding,
        step=padded.shape[1],
        is_bigendian=int(big_endian),
        data=array("B", data[: len(data) - cut]),
    )


def random_bytes(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


sizes = st.integers(1, 40)
seeds = st.integers(0, 2**32 - 1)
paddings = st.integers(0, 9)


@given(sizes, sizes, seeds, paddings, st.booleans(), st.sampled_from(sorted(CHANNELS)))
def test_colour_of_8_bits_survives_padding_and_a_short_last_row(
    width, height, seed, padding, short, order
):
    channels = len(order)
    pixels = random_bytes(seed, height, width, channels)
    rows = pixels.reshape(height, -1)
    msg = message(rows, width, height, f"{order}8", padding=padding, cut=padding if short else 0)
    np.testing.assert_array_equal(decode_image(msg), pixels[:, :, CHANNELS[order]])


@given(sizes, sizes, seeds, paddings, st.booleans(), st.sampled_from(sorted(CHANNELS)))
def test_colour_of_16_bits_keeps_its_high_byte_in_either_byte_order(
    width, height, seed, padding, big_endian, order
):
    values = np.random.default_rng(seed).integers(0, 65536, (height, width, len(order)))
    stored = values.astype(">u2" if big_endian else "<u2")
    rows = np.frombuffer(stored.tobytes(), np.uint8).reshape(height, -1)
    msg = message(rows, width, height, f"{order}16", padding=padding, big_endian=big_endian)
    np.testing.assert_array_equal(decode_image(msg), (values >> 8)[:, :, CHANNELS[order]])


@given(sizes, sizes, seeds, paddings, st.booleans(), st.sampled_from(["mono16", "16UC1"]))
def test_grey_of_16_bits_keeps_its_high_byte_in_either_byte_order(
    width, height, seed, padding, big_endian, encoding
):
    values = np.random.default_rng(seed).integers(0, 65536, (height, width))
    stored = values.astype(">u2" if big_endian else "<u2")
    rows = np.frombuffer(stored.tobytes(), np.uint8).reshape(height, -1)
    msg = message(rows, width, height, encoding, padding=padding, big_endian=big_endian)
    np.testing.assert_array_equal(decode_image(msg), np.dstack([values >> 8] * 3))


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_is_repeated_in_all_channels(encoding):
    grey = random_bytes(1, 5, 7)
    image = decode_image(message(grey, 7, 5, encoding, padding=3))
    np.testing.assert_array_equal(image, np.dstack([grey] * 3))


@pytest.mark.parametrize(("encoding", "channels"), [("8UC3", 3), ("8UC4", 4)])
def test_opencv_types_are_taken_as_bgr(encoding, channels):
    pixels = random_bytes(2, 4, 6, channels)
    image = decode_image(message(pixels.reshape(4, -1), 6, 4, encoding))
    np.testing.assert_array_equal(image, pixels[:, :, [2, 1, 0]])


@pytest.mark.parametrize("padding", [0, 12])
def test_rgb8_is_not_copied(padding):
    msg = message(random_bytes(3, 4, 30), 10, 4, "rgb8", padding=padding)
    image = decode_image(msg)
    assert np.shares_memory(image, np.frombuffer(msg.data, np.uint8))
    assert image.strides == (30 + padding, 3, 1)


@pytest.mark.parametrize("pattern", MOSAICS)
@pytest.mark.parametrize("colour", [(200, 90, 30), (255, 0, 0), (0, 0, 255), (10, 250, 120)])
@pytest.mark.parametrize("wide", [None, "little", "big"])
def test_a_mosaic_of_one_colour_gives_that_colour(pattern, colour, wide):
    mosaic = np.zeros((8, 10), np.uint8)
    for i, name in enumerate(pattern):
        mosaic[i // 2 :: 2, i % 2 :: 2] = colour["rgb".index(name)]
    rows, encoding = mosaic, f"bayer_{pattern}8"
    if wide:
        stored = mosaic.astype(">u2" if wide == "big" else "<u2") << 8 | 77
        stored = stored.astype(">u2" if wide == "big" else "<u2")
        rows = np.frombuffer(stored.tobytes(), np.uint8).reshape(8, -1)
        encoding = f"bayer_{pattern}16"
    image = decode_image(message(rows, 10, 8, encoding, padding=4, big_endian=wide == "big"))
    np.testing.assert_array_equal(image, np.broadcast_to(np.uint8(colour), (8, 10, 3)))
    np.testing.assert_array_equal(demosaic(mosaic, f"bayer_{pattern}8"), image)


def test_demosaic_refuses_what_is_no_mosaic():
    for name in ("mono8", "bayer_", "bayer_rgbg8", ""):
        with pytest.raises(ConversionError, match="no Bayer mosaic"):
            demosaic(np.zeros((4, 4), np.uint8), name)


def video_yuv(rgb):
    """BT.601 with video range, in floats, by the standard's own definition."""
    r, g, b = (rgb[..., i] / 255.0 for i in range(3))
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    cb, cr = 0.5 * (b - luma) / (1 - 0.114), 0.5 * (r - luma) / (1 - 0.299)
    planes = [16 + 219 * luma, 128 + 224 * cb, 128 + 224 * cr]
    return [np.rint(plane).astype(np.uint8) for plane in planes]


def yuv_rows(encoding, y, u, v):
    """The rows of bytes of an encoding, from planes whose chroma is constant in 2x2 blocks."""
    height, width = y.shape
    if encoding in {"yuv422", "uyvy", "yuv422_yuy2", "yuyv"}:
        rows = np.zeros((height, 2 * width), np.uint8)
        first = 1 if encoding in {"yuv422", "uyvy"} else 0
        rows[:, first::2] = y
        rows[:, 1 - first :: 4] = u[:, ::2]
        rows[:, 3 - first :: 4] = v[:, ::2]
        return rows
    if encoding == "nv24":
        chroma = np.dstack([u, v]).reshape(height, 2 * width)
        return np.vstack([y, chroma.reshape(2 * height, width)])
    pair = (u, v) if encoding == "nv12" else (v, u)
    chroma = np.dstack([plane[::2, ::2] for plane in pair]).reshape(height // 2, width)
    return np.vstack([y, chroma])


@pytest.mark.parametrize(
    "encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21", "nv24"]
)
@given(seed=seeds, width=st.integers(1, 8), height=st.integers(1, 8), padding=paddings)
@settings(max_examples=30)
def test_yuv_gives_back_the_colours_it_was_made_from(encoding, seed, width, height, padding):
    blocks = random_bytes(seed, height, width, 3)
    rgb = blocks.repeat(2, axis=0).repeat(2, axis=1)
    if encoding == "nv24":
        padding = 0  # its chroma rows are twice as long, so they would be padded twice
    rows = yuv_rows(encoding, *video_yuv(rgb))
    msg = message(rows, 2 * width, 2 * height, encoding, padding=padding)
    # Rounding to 8-bit YUV and OpenCV's fixed point cost up to 2 steps a channel.
    assert np.abs(decode_image(msg).astype(int) - rgb).max() <= 3


def test_padded_nv24_reads_its_chroma_at_twice_the_step():
    rgb = random_bytes(4, 3, 5, 3)
    y, u, v = video_yuv(rgb)
    chroma = np.pad(np.dstack([u, v]).reshape(3, 10), ((0, 0), (0, 6)))
    rows = np.vstack([np.pad(y, ((0, 0), (0, 3))), chroma.reshape(6, 8)])
    msg = message(rows, 5, 3, "nv24")
    assert np.abs(decode_image(msg).astype(int) - rgb).max() <= 3


@pytest.mark.parametrize("encoding", ["yuyv", "uyvy", "nv12", "nv21"])
def test_an_odd_width_is_refused_where_pixels_share_colour(encoding):
    with pytest.raises(ConversionError, match="width is odd"):
        decode_image(message(random_bytes(5, 12, 40), 5, 4, encoding))


def test_an_odd_height_is_refused_for_420():
    with pytest.raises(ConversionError, match="height is odd"):
        decode_image(message(random_bytes(5, 12, 40), 4, 5, "nv12"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 0}, "no pixels"),
        ({"height": 0}, "no pixels"),
        ({"step": 29}, "step is 29 bytes, but a row needs at least 30"),
        ({"step": 0}, "step is 0"),
        ({"step": 4_000_000_000}, "truncated"),
        ({"height": 5}, "120 bytes of data, but 5 rows"),
        ({"width": 4_000_000_000, "height": 4_000_000_000}, "more than the 64000000 accepted"),
        ({"data": array("B")}, "0 bytes of data"),
        ({"encoding": "32FC1"}, "unknown encoding.*supported: rgb8, bgr8"),
        ({"encoding": ""}, "unknown encoding"),
    ],
)
def test_what_is_wrong_is_named(changes, words):
    msg = message(random_bytes(6, 4, 30), 10, 4, "rgb8")
    for name, value in changes.items():
        setattr(msg, name, value)
    with pytest.raises(ConversionError, match=words):
        decode_image(msg)


def test_the_largest_accepted_image_can_be_set():
    msg = message(random_bytes(6, 4, 30), 10, 4, "rgb8")
    assert decode_image(msg, max_pixels=40).shape == (4, 10, 3)
    with pytest.raises(ConversionError, match="40 pixels, more than the 39"):
        decode_image(msg, max_pixels=39)


lengths = st.one_of(st.integers(0, 20), st.integers(0, 2**32 - 1))


@given(
    st.one_of(st.sampled_from(SUPPORTED_ENCODINGS), st.text(max_size=12)),
    lengths,
    lengths,
    lengths,
    st.integers(0, 255),
    st.binary(max_size=4000),
)
@settings(max_examples=500)
def test_malformed_images_raise_conversion_error_or_decode(
    encoding, width, height, step, big_endian, data
):
    msg = Image(
        width=width,
        height=height,
        encoding=encoding,
        step=step,
        is_bigendian=big_endian,
        data=array("B", data),
    )
    try:
        image = decode_image(msg)
    except ConversionError:
        return
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8


@pytest.fixture
def fresh_bridge():
    images._cv_bridge.cache_clear()
    yield
    images._cv_bridge.cache_clear()


@pytest.mark.parametrize("result", ["rgb", "error", "wrong shape"])
def test_unknown_encodings_go_to_cv_bridge_where_it_is_installed(monkeypatch, fresh_bridge, result):
    class CvBridge:
        def imgmsg_to_cv2(self, msg, desired_encoding):
            assert desired_encoding == "rgb8"
            if result == "error":
                raise TypeError(f"[{msg.encoding}] is not recognised")
            return np.zeros((4, 10, 3 if result == "rgb" else 2), np.uint8)

    monkeypatch.setitem(sys.modules, "cv_bridge", types.SimpleNamespace(CvBridge=CvBridge))
    msg = message(random_bytes(7, 4, 20), 10, 4, "y210")
    if result == "rgb":
        assert decode_image(msg).shape == (4, 10, 3)
    else:
        with pytest.raises(ConversionError, match=r"y210.*cv_bridge"):
            decode_image(msg)


def test_a_cv_bridge_built_for_another_numpy_is_named(monkeypatch, tmp_path, fresh_bridge):
    (tmp_path / "cv_bridge.py").write_text("raise AttributeError('_ARRAY_API not found')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConversionError, match=r"cv_bridge cannot be used \(_ARRAY_API"):
        decode_image(message(random_bytes(7, 4, 20), 10, 4, "y210"))


@pytest.mark.parametrize(
    ("encoding", "dtype", "channels"),
    [
        ("rgb8", np.uint8, 3),
        ("bgr8", np.uint8, 3),
        ("mono8", np.uint8, 1),
        ("16UC1", np.uint16, 1),
        ("32FC1", np.float32, 1),
    ],
)
def test_published_images_hold_the_array_row_by_row(encoding, dtype, channels):
    shape = (3, 5) if channels == 1 else (3, 5, channels)
    array_in = np.random.default_rng(8).integers(0, 255, shape).astype(dtype)
    header = make_header(1_234_567_890_123_456_789, "camera_optical_frame")
    # A strided view is packed as what it shows.
    msg = image_message(np.flip(array_in, 1), encoding, header)
    assert (msg.width, msg.height, msg.encoding, msg.is_bigendian) == (5, 3, encoding, 0)
    assert msg.step == 5 * channels * np.dtype(dtype).itemsize
    assert msg.header is header
    read = np.frombuffer(msg.data, dtype).reshape(shape)
    np.testing.assert_array_equal(read, np.flip(array_in, 1))


@pytest.mark.parametrize(
    ("image", "encoding"),
    [
        (np.zeros((2, 2), np.float64), "32FC1"),
        (np.zeros((2, 2, 1), np.float32), "32FC1"),
        (np.zeros((2, 2, 4), np.uint8), "rgb8"),
        (np.zeros((2, 2), np.uint8), "rgb8"),
        (np.zeros((0, 2), np.uint8), "mono8"),
        (np.zeros((2, 2), np.uint8), "mono12"),
        (np.zeros((), np.float32), "32FC1"),
    ],
)
def test_arrays_that_do_not_fit_the_encoding_are_refused(image, encoding):
    with pytest.raises(ConversionError, match="cannot publish"):
        image_message(image, encoding, Header())


def test_millimetres_are_rounded_and_everything_else_is_zero():
    inf, nan = np.inf, np.nan
    depth = np.float32(
        [[1.0, 1.2344, 1.2346, 65.535], [0.0, nan, inf, -inf], [-1, 65.54, 1e9, 0.1]]
    )
    expected = [[1000, 1234, 1235, 65535], [0, 0, 0, 0], [0, 0, 0, 100]]
    result = millimetres(depth)
    assert result.dtype == np.uint16
    np.testing.assert_array_equal(result, expected)


@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_millimetres_never_wrap(values):
    depth = np.float32([values])
    result = millimetres(depth)
    valid = (depth > 0) & (depth <= 65.535)
    assert not result[~valid].any()
    assert np.all(np.abs(result[valid] - depth[valid] * 1000.0) <= 0.51)


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 999_999_999))
def test_stamps_survive_to_the_nanosecond(seconds, nanoseconds):
    stamp = seconds * 1_000_000_000 + nanoseconds
    header = make_header(stamp, "frame")
    assert (header.stamp.sec, header.stamp.nanosec) == (seconds, nanoseconds)
    assert stamp_ns(header) == stamp


@pytest.mark.parametrize("shape", [(0,), (3, 0), (), (2, 3)])
def test_fill_appends_the_bytes_of_any_shape(shape):
    values = np.asarray(np.random.default_rng(9).random(shape))
    field = array("B", b"head")
    fill(field, values)
    assert field.tobytes() == b"head" + values.tobytes()
