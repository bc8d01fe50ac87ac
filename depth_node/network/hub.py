"""Fetching weights from the Hugging Face hub: pinned, checked, and quick to give up.

`huggingface_hub` does the download with progress, resume and its cache; its variables (HF_HOME,
HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN) work as everywhere.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

from depth_node.files import sha256_of
from depth_node.imports import pip_install
from depth_node.network.errors import ModelError
from depth_node.network.registry import Entry

REACH_TIMEOUT_S = 8.0
"""How long the hub may take to answer the first question, name resolution included."""
_CONFIG = "config.json"


def local_weights(entry: Entry) -> Path | None:
    """The file of an entry if it is on this machine, unchecked; None otherwise.

    What the hub's client has fetched is only found where that client is installed.
    """
    if not entry.repository:
        path = Path(entry.file).expanduser()
        return path if path.is_file() else None
    try:
        hub = _import_hub()
    except ModelError:
        return None
    found = hub.try_to_load_from_cache(entry.repository, entry.file, revision=entry.revision)
    return Path(found) if isinstance(found, str) else None


def fetch_weights(entry: Entry, *, accept_licence: bool = False) -> Path:
    """Return the checked weights of a network, downloading them if they are not here.

    Args:
        entry: the network.
        accept_licence: whether the user accepts a licence that forbids commercial use.

    Raises:
        ModelError: the licence is not accepted, the hub cannot be reached, or the file differs
            from the pinned one.
    """
    path = local_weights(entry)
    if path is not None:
        check_weights(entry, path)
        return path
    if not entry.repository:
        raise ModelError(f"the checkpoint {entry.file} of {entry.name} is not there any more")
    if entry.non_commercial and not accept_licence:
        raise ModelError(
            f"{entry.name} is under {entry.licence}: not for commercial use. "
            "If that is acceptable, repeat with --accept-license"
        )
    sha256 = entry.sha256 or _stated_hash(entry)
    path = _download(entry, entry.file)
    check_hash(path, sha256)
    return path


def fetch_config(entry: Entry) -> Path:
    """Return the `config.json` that describes a network of the family `transformers`.

    Raises:
        ModelError: it is not here and the hub cannot be reached.
    """
    if not entry.repository:
        return Path(entry.file).expanduser().with_name(_CONFIG)
    hub = _import_hub()
    found = hub.try_to_load_from_cache(entry.repository, _CONFIG, revision=entry.revision)
    return Path(found) if isinstance(found, str) else _download(entry, _CONFIG)


def check_weights(entry: Entry, path: Path) -> None:
    """Refuse weights on this machine that are not those of an entry.

    Where the entry pins no hash, what the hub stated at the download counts: its client keeps a
    file under the name of its ETag, for large files their SHA-256, and `path` is a link to that
    (`hf_hub_download` of huggingface_hub). Only on a file system without links is that lost.

    Args:
        entry: the network.
        path: what `local_weights` found of it.

    Raises:
        ModelError: the file is truncated or altered.
    """
    kept_as = path.resolve().name
    stated = kept_as if re.fullmatch("[0-9a-f]{64}", kept_as) else ""
    check_hash(path, entry.sha256 or stated)


def check_hash(path: Path, sha256: str) -> None:
    """Refuse a file that is not the expected one; an empty hash accepts any.

    Raises:
        ModelError: the file is truncated or altered.
    """
    if not sha256:
        return
    seen = sha256_of(path)
    if seen != sha256:
        raise ModelError(
            f"{path.name} is truncated or altered: its SHA-256 is {seen}, expected "
            f"{sha256}. Delete {path.resolve()} and fetch it again"
        )


def _stated_hash(entry: Entry) -> str:
    etag = str(_ask(entry, entry.file).etag or "")
    return etag if len(etag) == 64 else ""  # SHA-256 for large files, a git hash for small ones


def _download(entry: Entry, file: str) -> Path:
    hub = _import_hub()
    _ask(entry, file)  # the library itself retries for half a minute before it gives up
    try:
        return Path(hub.hf_hub_download(entry.repository, file, revision=entry.revision))
    except Exception as error:  # its own, its HTTP client's (which one differs by version), OSError
        raise _unreachable(entry, file, error) from error


def _ask(entry: Entry, file: str) -> Any:
    """The hub's metadata of a file, within `REACH_TIMEOUT_S`."""
    hub = _import_hub()
    if hub.constants.HF_HUB_OFFLINE:
        raise _unreachable(entry, file, "HF_HUB_OFFLINE is set")
    url = hub.hf_hub_url(entry.repository, file, revision=entry.revision)
    answer: list[Any] = []

    def ask() -> None:
        try:
            answer.append(hub.get_hf_file_metadata(url, timeout=REACH_TIMEOUT_S / 2))
        except Exception as error:  # handed to the caller's thread below
            answer.append(error)

    # A thread, because name resolution knows no timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(REACH_TIMEOUT_S)
    if not answer:
        raise _unreachable(entry, file, f"no answer within {REACH_TIMEOUT_S:g} s")
    if isinstance(answer[0], Exception):
        raise _unreachable(entry, file, answer[0]) from answer[0]
    return answer[0]


def _unreachable(entry: Entry, file: str, cause: object) -> ModelError:
    hub = _import_hub()
    files = [entry.file, _CONFIG] if entry.family == "transformers" else [entry.file]
    urls = [hub.hf_hub_url(entry.repository, name, revision=entry.revision) for name in files]
    copy = "copy it here" if len(files) == 1 else "copy both here, into one folder,"
    first_line = str(cause).strip().splitlines()[0] if str(cause).strip() else repr(cause)
    return ModelError(
        f"cannot fetch {file} of {entry.name}: {first_line}. On a machine with internet, download "
        f"{' and '.join(urls)} , {copy} and register it: "
        f"depth-node models add {entry.name} {entry.file} --like {entry.name}"
    )


def _import_hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
    except ImportError as error:
        raise ModelError(f"fetching needs huggingface_hub; {pip_install('hub')}") from error
    return huggingface_hub
