"""Sends what the package logs to the node's ROS logger, and so to `/rosout`."""

from __future__ import annotations

import contextvars
import logging
from typing import Any

_mine: contextvars.ContextVar[Any] = contextvars.ContextVar("logger")
"""The logger of the node that this thread works for; several nodes may share a process."""


class _RosHandler(logging.Handler):
    """Writes Python's log records with rclpy's logger."""

    def __init__(self, default: Any) -> None:
        super().__init__()
        self._default = default

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record at its level.

        rclpy fixes a call site's level at its first call, hence one line a level.
        """
        logger = _mine.get(self._default)
        text = self.format(record)
        if record.levelno >= logging.ERROR:
            logger.error(text)
        elif record.levelno >= logging.WARNING:
            logger.warning(text)
        elif record.levelno >= logging.INFO:
            logger.info(text)
        else:
            logger.debug(text)


def forward_logs(logger: Any) -> None:
    """Replace the package's log handlers by one that writes to `logger` (rclpy's).

    Where several nodes do so, each in a context of its own, a record goes to the logger of the
    context that it is made in; without one, to the last.
    """
    _mine.set(logger)
    package = logging.getLogger("depth_node")
    package.handlers = [_RosHandler(logger)]
    package.setLevel(logging.DEBUG)
    package.propagate = False
