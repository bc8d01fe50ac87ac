"""Fetching weights, from a hub that runs in this process."""

from __future__ import annotations

import hashlib
import http.server
import importlib
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from depth_node.cli import main
from depth_node.engines import select
from depth_node.engines.cache import EngineCache
from depth_node.network import hub
from depth_node.network.errors import ModelError
from depth_node.network.registry import Entry
from depth_node.network.resolve import ModelFiles
from depth_node.parameters import ModelSettings

constants = pytest.importorskip("huggingface_hub.constants")

CONTENT = b"weights" * 1000
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ENTRY = Entry(
    "net",
    "Apache-2.0",
    "relative",
    "disparity",
    "net.pth",
    repository="org/net",
    revision=COMMIT,
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)


def point_at(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """What HF_ENDPOINT does for a process that starts with it."""
    url = f"http://127.0.0.1:{port}"
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    for module in (constants, importlib.import_module("huggingface_hub.file_download")):
        if hasattr(module, "HUGGINGFACE_CO_URL_TEMPLATE"):
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@dataclass
class FakeHub:
    """What the hub serves, and what it was asked for."""

    content: bytes = CONTENT
    requests: list[str] = field(default_factory=list)
    breaks_off: bool = False


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with one file, as the real one answers for a large one."""
    fake = FakeHub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, body: bytes) -> None:
            if self.path != f"/org/net/resolve/{COMMIT}/net.pth":
                self.send_error(404)
                return
            fake.requests.append(f"{self.command} {self.path}")
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(CONTENT).hexdigest()}"')
            self.send_header("Content-Length", str(len(fake.content)))
            self.end_headers()
            self.wfile.write(body[:100] if fake.breaks_off else body)

        def do_HEAD(self) -> None:
            self.answer(b"")

        def do_GET(self) -> None:
            self.answer(fake.content)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    point_at(monkeypatch, server.server_port)
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()


def test_fetched_weights_are_those_of_the_pinned_revision(served):
    path = hub.fetch_weights(ENTRY)
    assert path.read_bytes() == CONTENT
    assert any(request.startswith("GET") for request in served.requests)


def test_weights_that_are_here_need_no_network(served):
    first = hub.fetch_weights(ENTRY)
    served.requests.clear()
    assert hub.fetch_weights(ENTRY) == first
    assert not served.requests


def test_an_altered_file_is_refused_by_name_and_hash(served):
    served.content = b"WEIGHTS" * 1000
    with pytest.raises(ModelError, match=rf"net.pth is truncated or altered: .*{ENTRY.sha256}"):
        hub.fetch_weights(ENTRY)


def test_a_file_that_was_altered_after_the_download_is_refused(served):
    path = hub.fetch_weights(ENTRY)
    path.resolve().write_bytes(CONTENT[:-5])
    with pytest.raises(ModelError, match="truncated or altered"):
        hub.fetch_weights(ENTRY)


def test_without_a_pinned_hash_the_hubs_own_statement_counts(served):
    served.content = b"WEIGHTS" * 1000
    with pytest.raises(ModelError, match="truncated or altered"):
        hub.fetch_weights(replace(ENTRY, sha256=""))


def test_a_refused_download_stays_refused_without_a_pinned_hash(served):
    served.content = b"WEIGHTS" * 1000
    for _ in range(2):  # the hub's client keeps it, so that the second call finds it here
        with pytest.raises(ModelError, match="truncated or altered"):
            hub.fetch_weights(replace(ENTRY, sha256=""))


def test_without_a_pinned_hash_a_file_that_is_here_is_checked_offline(served):
    entry = replace(ENTRY, sha256="")
    path = hub.fetch_weights(entry)
    served.requests.clear()
    assert hub.fetch_weights(entry) == path
    path.resolve().write_bytes(CONTENT[:-5])
    with pytest.raises(ModelError, match="truncated or altered"):
        hub.fetch_weights(entry)
    assert not served.requests


def test_the_torch_engine_takes_no_altered_weights_without_a_pinned_hash(served, monkeypatch):
    entry = replace(ENTRY, sha256="")
    hub.fetch_weights(entry).resolve().write_bytes(CONTENT[:-5])
    monkeypatch.setattr(select, "find_entry", lambda _: entry)
    files = ModelFiles("net", {})
    loader = select.Loader(files, ModelSettings(engine="torch"), EngineCache(log=lambda _: None))
    with pytest.raises(ModelError, match="truncated or altered"):
        loader.open(select.Candidate("torch", "fp32"))


def test_a_non_commercial_licence_must_be_accepted(served):
    entry = replace(ENTRY, licence="CC-BY-NC-4.0")
    with pytest.raises(ModelError, match=r"CC-BY-NC-4.0.*--accept-license"):
        hub.fetch_weights(entry)
    assert not served.requests
    assert hub.fetch_weights(entry, accept_licence=True).is_file()


def unreachable(within_s: float) -> str:
    start = time.monotonic()
    with pytest.raises(ModelError) as caught:
        hub.fetch_weights(ENTRY)
    assert time.monotonic() - start < within_s
    return str(caught.value)


def test_a_hub_that_refuses_fails_at_once_and_says_how_to_copy_the_file(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    point_at(monkeypatch, port)
    message = unreachable(3.0)
    assert f"http://127.0.0.1:{port}/org/net/resolve/{COMMIT}/net.pth" in message
    assert "depth-node models add net net.pth" in message


@pytest.mark.parametrize("wanted", [hub.fetch_weights, hub.fetch_config])
def test_what_transformers_describes_is_copied_with_its_description(served, wanted):
    entry = replace(ENTRY, family="transformers", revision="elsewhere")
    with pytest.raises(ModelError) as caught:
        wanted(entry)
    message = str(caught.value)
    assert "/org/net/resolve/elsewhere/net.pth and http" in message
    assert "/org/net/resolve/elsewhere/config.json , copy both here, into one folder" in message
    assert message.endswith("depth-node models add net net.pth --like net")


def test_a_hub_that_never_answers_fails_within_the_limit(monkeypatch):
    monkeypatch.setattr(hub, "REACH_TIMEOUT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        point_at(monkeypatch, port)
        assert "cannot fetch net.pth" in unreachable(4.0)


def test_the_limit_is_at_most_ten_seconds():
    assert hub.REACH_TIMEOUT_S <= 10.0


def test_offline_says_so_without_asking(served, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        hub.fetch_weights(ENTRY)
    assert not served.requests


def test_a_connection_that_breaks_off_ends_in_how_to_copy_the_file(served):
    served.breaks_off = True
    with pytest.raises(ModelError, match=r"cannot fetch net.pth of net: .*depth-node models add"):
        hub.fetch_weights(ENTRY)


def test_an_error_of_the_hubs_http_client_ends_in_how_to_copy_the_file(served, monkeypatch):
    class ReadTimeout(Exception):  # noqa: N818 - as the client names it; it derives from no other
        pass

    def broken(*_: object, **__: object) -> str:
        raise ReadTimeout("The read operation timed out")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", broken)
    with pytest.raises(ModelError, match=r"The read operation timed out.*depth-node models add"):
        hub.fetch_weights(ENTRY)


def test_without_the_hubs_client_what_is_here_is_still_shown(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DEPTH_NODE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # its import fails
    assert hub.local_weights(ENTRY) is None
    assert main(["models", "list"]) == 0
    assert main(["models", "info", "depth-anything-v2-small"]) == 0
    assert "depth-anything-v2-small" in capsys.readouterr().out
    with pytest.raises(ModelError, match="fetching needs huggingface_hub"):
        hub.fetch_weights(ENTRY)
