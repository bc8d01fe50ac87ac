"""The real node with an engine whose answer, time and faults a test decides.

Disparity is the red channel at half size, so that a test knows every metre. Environment:
`ENGINE_DELAY_S` seconds an inference takes; `ENGINE_FAULTS` comma-separated `<frame>:<fault>` with
the fault `nan`, `raise`, `memory` or `slow` (100 times as long).
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np

import depth_node.ros.node
from depth_node.engines.base import EngineError
from depth_node.ros.main import main
from depth_node.types import Disparity, ImageU8

DELAY_S = float(os.environ.get("ENGINE_DELAY_S", "0"))
FAULTS = dict(item.split(":") for item in os.environ.get("ENGINE_FAULTS", "").split(",") if item)


class TestEngine:
    """Answers with the image itself."""

    name = "test"
    model = "red channel"
    device = "this test"
    precision = "fp32"

    def __init__(self) -> None:
        self._frames = 0

    def infer(self, image: ImageU8) -> Disparity:
        fault = FAULTS.get(str(self._frames))
        self._frames += 1
        time.sleep(DELAY_S * (100.0 if fault == "slow" else 1.0))
        if fault == "raise":
            raise RuntimeError("the engine was told to fail")
        if fault == "memory":
            raise MemoryError("the engine was told to run out of memory")
        if fault == "nan":
            raise EngineError("the engine's output is not finite")
        return Disparity(np.ascontiguousarray(image[::2, ::2, 0]).astype(np.float32))

    def close(self) -> None:
        pass


def load_test_engine(settings: object, log: object) -> TestEngine:
    return TestEngine()


depth_node.ros.node.load_engine = load_test_engine  # type: ignore[assignment]
sys.exit(main())
