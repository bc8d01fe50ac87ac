"""What goes wrong with a network before any engine sees it."""

from __future__ import annotations


class ModelError(RuntimeError):
    """A network cannot be found, fetched, trusted or understood; the message says what to do."""
