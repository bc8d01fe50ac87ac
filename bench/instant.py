"""The real node with a network that answers at once, so that all else can be measured."""

from __future__ import annotations

from typing import Any

import depth_node.ros.node
from depth_node.types import ArrayF32, Disparity


class InstantEngine:
    """Gives the same hxw float32 disparity for every image."""

    name, model, device, precision = "instant", "constant", "none", "fp32"

    def __init__(self, answer: ArrayF32) -> None:
        self._answer = answer

    def infer(self, image: Any) -> Disparity:
        return Disparity(self._answer.copy())

    def close(self) -> None:
        pass


def replace_network(answer: ArrayF32) -> None:
    """Make the node of this process load the constant instead of a network."""
    depth_node.ros.node.load_engine = lambda *_: InstantEngine(answer)
