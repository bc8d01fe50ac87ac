"""A node that starts by itself, also where its own camera comes later than it."""

from __future__ import annotations

import threading

from depth_node.cameras.open import open_camera
from depth_node.cameras.timing import Backoff
from depth_node.handover import worker
from depth_node.ros.node import SUCCESS, DepthNode


class Autostart:
    """Configures and activates a node, again as soon as a webcam or stream that was missing opens.

    Any other failure leaves the node where it can be mended, and whoever makes a transition by hand
    in the meantime has taken over.
    """

    def __init__(self, node: DepthNode, stopped: threading.Event) -> None:
        """Begin with an attempt at the first look, if `autostart` is set.

        Args:
            node: the node, unconfigured.
            stopped: set when the process is to end.
        """
        self._node, self._stopped = node, stopped
        self._opens: threading.Event | None = None
        node.starts_itself = node.settings.autostart

    def look(self) -> None:
        """Make an attempt if it is time; on the thread that serves the node."""
        node = self._node
        if not node.starts_itself:
            return
        if node.state_label == "unconfigured":
            if self._opens is not None and not self._opens.is_set():
                return
            for transition in (node.trigger_configure, node.trigger_activate):
                if self._stopped.is_set() or transition() != SUCCESS:
                    break
        if node.camera_missing and node.state_label == "unconfigured":
            self._opens = threading.Event()
            worker("camera probe", self._probe, self._opens).start()
        else:
            node.starts_itself = False

    def _probe(self, opens: threading.Event) -> None:
        """Try to open the camera: not on the thread that serves the node, for it may take 5 s."""
        backoff = Backoff()
        while not self._stopped.wait(backoff.failed()) and self._node.starts_itself:
            try:
                open_camera(self._node.settings.camera).close()
            except Exception as error:  # what does not go by itself, `configure` meets and says
                if self._node.may_come(error):
                    continue
            break
        opens.set()
