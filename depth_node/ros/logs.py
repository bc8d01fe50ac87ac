"""Sends what the package logs to the node's ROS logger, and so to `/rosout`."""

from __future__ import annotations

import logging
from typing import Any


class _RosHandler(logging.Handler):
    """Writes Python's log records with rclpy's logger."""

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record at its level.

        rclpy fixes a call site's level at its first call, hence one line a level.
        """
        text = self.format(record)
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        elif record.levelno >= logging.INFO:
            self._logger.info(text)
        else:
            self._logger.debug(text)


def forward_logs(logger: Any) -> None:
    """Replace the package's log handlers by one that writes to `logger` (rclpy's)."""
    package = logging.getLogger("depth_node")
    package.handlers = [_RosHandler(logger)]
    package.setLevel(logging.DEBUG)
    package.propagate = False
