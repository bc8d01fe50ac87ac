"""Giving back what is held, whatever fails on the way."""

from __future__ import annotations

import logging
from collections.abc import Callable

_log = logging.getLogger(__name__)


def run_all(*steps: Callable[[], None]) -> None:
    """Run every step, also after one that fails: what the others hold would be leaked.

    Raises:
        Exception: the first that a step raised; what others raised is logged.
    """
    first: Exception | None = None
    for step in steps:
        try:
            step()
        except Exception as error:
            if first is not None:
                _log.warning("%s: %s", type(error).__name__, error)
            first = first or error
    if first is not None:
        raise first
