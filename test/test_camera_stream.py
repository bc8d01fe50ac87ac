"""Streams: a real motion-JPEG server on this machine, and everything that is none."""

from __future__ import annotations

import dataclasses
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from camera_fakes import GatedClock, picture

from depth_node.cameras.base import CameraError
from depth_node.cameras.open import open_camera
from depth_node.cameras.stream import hide_password, open_stream, to_bgr
from depth_node.parameters import CameraSettings


class _Motion(http.server.BaseHTTPRequestHandler):
    """A network camera: motion JPEG over HTTP, as many pictures a connection as the server says."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        served = 0
        while self.server.pictures_each is None or served < self.server.pictures_each:
            jpeg = cv2.imencode(".jpg", picture(served % 200))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + jpeg + b"\r\n")
            except OSError:
                return
            served += 1
            if self.server.stopping.wait(0.01):
                return

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


needs_ffmpeg = pytest.mark.skipif(
    not cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG),
    reason="this OpenCV has no FFmpeg, which reads what comes over HTTP and from files",
)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    pictures_each: int | None = None
    stopping = threading.Event()


@pytest.fixture
def network_camera() -> Iterator[Server]:
    if not cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG):
        pytest.skip("this OpenCV has no FFmpeg")
    with Server(("127.0.0.1", 0), _Motion) as server:
        server.stopping = threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.stopping.set()
        server.shutdown()
        thread.join()


def url_settings(path: str, **settings: object) -> CameraSettings:
    return dataclasses.replace(CameraSettings(source="url", path=path), **settings)


def test_a_motion_jpeg_camera_is_read(network_camera: Server) -> None:
    url = f"http://user:secret@127.0.0.1:{network_camera.server_port}/video.mjpg"
    camera = open_camera(url_settings(url, fps=15.0))
    frames = [camera.read() for _ in range(5)]
    assert frames[0].image.shape == (48, 64, 3)
    assert np.all(np.diff([f.stamp_ns for f in frames]) > 0)
    assert "secret" not in camera.describe()
    assert any("camera.fps cannot be requested of a stream" in n for n in camera.notices)
    camera.close()


def test_a_stream_that_ends_is_opened_again(network_camera: Server) -> None:
    network_camera.pictures_each = 20
    clock = GatedClock()
    url = f"http://127.0.0.1:{network_camera.server_port}/video.mjpg"
    camera = open_stream(url_settings(url), clock)
    with pytest.raises(CameraError, match=r"delivers no more images.*next attempt in 0\.5 s"):  # noqa: PT012
        for _ in range(100):
            camera.read()
    clock.gate.release()
    assert camera.read().image.shape == (48, 64, 3)
    camera.close()


def test_a_stream_that_nobody_serves_is_an_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"rtsp://user:secret@127.0.0.1:{unused.getsockname()[1]}/stream"
        with pytest.raises(CameraError, match="cannot be opened within") as caught:
            open_camera(url_settings(url))
    assert "secret" not in str(caught.value)


def test_a_server_that_never_answers_runs_into_the_time_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/video"
        with pytest.raises(CameraError, match=r"within 0\.2 s"):
            open_stream(url_settings(url), timeout_ms=200)


def test_a_missing_backend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda _: False)
    with pytest.raises(CameraError, match="built without GStreamer"):
        open_camera(url_settings("videotestsrc ! videoconvert ! appsink"))
    with pytest.raises(CameraError, match="built without FFmpeg"):
        open_camera(url_settings("rtsp://127.0.0.1/stream"))


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(CameraError, match="needs a URL such as rtsp"):
        open_camera(url_settings("videos/drive.mp4"))


@needs_ffmpeg
def test_a_recording_behind_a_url_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 48))
    writer.write(picture(1))
    writer.release()
    with pytest.raises(CameraError, match="is a recording of 1 frames and no live stream"):
        open_camera(url_settings(f"file://{file}"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://admin:pa:ss@10.0.0.2:554/ch1", "rtsp://***@10.0.0.2:554/ch1"),
        ("rtsp://10.0.0.2/a@b", "rtsp://10.0.0.2/a@b"),
        (
            "rtspsrc location=rtsp://u:p@cam/1 ! appsink",
            "rtspsrc location=rtsp://***@cam/1 ! appsink",
        ),
        ("rtsp://admin:p@ssw0rd@10.0.0.2/ch1", "rtsp://***@10.0.0.2/ch1"),
        ("rtsp://admin:what?#@10.0.0.2/ch1", "rtsp://***@10.0.0.2/ch1"),
        ("http://cam/video.cgi?user=admin&pwd=s3cr&et", "http://cam/video.cgi?user=admin&pwd=***"),
        ("http://cam/v?loginpas=secret&res=640", "http://cam/v?loginpas=***&res=640"),
        (
            "http://cam/v?api_key=secret&Access-Token=secret",
            "http://cam/v?api_key=***&Access-Token=***",
        ),
        ("srt://cam:7001?passphrase=secret", "srt://cam:7001?passphrase=***"),
        (
            "rtspsrc location=rtsp://cam/1 user-id=admin user-pw=secret ! appsink",
            "rtspsrc location=rtsp://cam/1 user-id=admin user-pw=*** ! appsink",
        ),
        (
            r'rtspsrc user-pw = "a \" b" proxy-pw=(string)secret ! appsink max-buffers=1',
            "rtspsrc user-pw = *** proxy-pw=*** ! appsink max-buffers=1",
        ),
        ("rtspsrc password='two words' ! appsink", "rtspsrc password=*** ! appsink"),
        ("http://cam/v?keyframe=1&tokens=2", "http://cam/v?keyframe=1&tokens=2"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert hide_password(url) == shown


@pytest.mark.parametrize(
    ("pipeline", "converted"),
    [
        (
            "v4l2src ! appsink",
            "v4l2src ! videoconvert ! video/x-raw,format=BGR ! appsink",
        ),
        (
            "a ! video/x-raw,format=NV12 !appsink drop=true sync=false",
            "a ! video/x-raw,format=NV12 ! videoconvert ! video/x-raw,format=BGR ! "
            "appsink drop=true sync=false",
        ),
        (
            "a ! tee name=t t. ! queue ! appsink name=other t. ! queue ! appsink",
            "a ! tee name=t t. ! queue ! appsink name=other t. ! queue ! videoconvert ! "
            "video/x-raw,format=BGR ! appsink",
        ),
    ],
)
def test_a_pipeline_is_converted_to_bgr_before_its_appsink(pipeline: str, converted: str) -> None:
    assert to_bgr(pipeline) == converted


def test_a_pipeline_without_an_appsink_at_its_end_is_refused() -> None:
    with pytest.raises(CameraError, match=r"user-pw=\*\*\* .*must be `! appsink`"):
        open_camera(url_settings("rtspsrc user-pw=secret ! decodebin ! autovideosink"))


@pytest.mark.parametrize("pixels", ["RGBA", "NV12", "I420", "RGB", "UYVY", "GRAY8", "BGR"])
def test_a_pipeline_gives_a_true_picture_whatever_its_pixels_are(pixels: str) -> None:
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has no GStreamer")
    form = f"video/x-raw,width=64,height=48,framerate=30/1,format={pixels}"
    source = "videotestsrc is-live=true pattern=red ! videoconvert"
    camera = open_camera(url_settings(f"{source} ! {form} ! appsink"))
    image = camera.read().image
    camera.close()
    assert image.shape == (48, 64, 3)
    expected = (76, 76, 76) if pixels == "GRAY8" else (255, 0, 0)
    np.testing.assert_allclose(np.median(image, axis=(0, 1)), expected, atol=8)
