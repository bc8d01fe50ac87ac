"""The real node with an engine whose answer, time and faults a test decides.

Disparity is the red channel at half size, so that a test knows every metre. An image whose first
pixel is `(255, n, 255)` injects fault n into its own inference:

1. values that are not finite, 2. an exception, 3. out of memory, 4. takes 2 s, a hundred times as
   long as a usual network, 5. hangs for 5 s.

Environment: `ENGINE_DELAY_S` seconds an inference takes, of one image or of up to `ENGINE_BATCH`
together (1 unless it is set); `ENGINE_LOADS_FOREVER` makes the loading
of the engine a library call that does not return; `DIAGNOSTICS_PERIOD_S` seconds between reports.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Sequence

import numpy as np

import depth_node.ros.node
from depth_node.engines.result import as_disparity
from depth_node.ros.main import main
from depth_node.types import Disparity, ImageU8

DELAY_S = float(os.environ.get("ENGINE_DELAY_S", "0"))
SLOW_S, HANG_S = 2.0, 5.0
NOT_FINITE, RAISES, NO_MEMORY, SLOW, HANGS = 1, 2, 3, 4, 5


class TestEngine:
    """Answers with the image itself."""

    name = "test"
    model = "red channel"
    device = "this test"
    precision = "fp32"

    batch_limit = int(os.environ.get("ENGINE_BATCH", "1"))

    def infer(self, image: ImageU8) -> Disparity:
        return self.infer_batch([image])[0]

    def infer_batch(self, images: Sequence[ImageU8]) -> list[Disparity]:
        faults = [self._fault(image) for image in images]
        time.sleep({SLOW: SLOW_S, HANGS: HANG_S}.get(max(faults), DELAY_S))
        if RAISES in faults:
            raise RuntimeError("the engine was told to fail")
        if NO_MEMORY in faults:
            raise MemoryError("the engine was told to run out of memory")
        return [self._answer(*item) for item in zip(images, faults, strict=True)]

    @staticmethod
    def _fault(image: ImageU8) -> int:
        red, fault, blue = image[0, 0]
        return int(fault) if red == blue == 255 else 0

    def _answer(self, image: ImageU8, fault: int) -> Disparity:
        values = np.ascontiguousarray(image[::2, ::2, 0]).astype(np.float32)
        if fault == NOT_FINITE:
            values[5, 7] = np.nan
        return as_disparity(values, self.name, "relative")

    def close(self) -> None:
        pass


def load_test_engine(settings: object, log: object) -> TestEngine:
    if "ENGINE_LOADS_FOREVER" in os.environ:
        print("the engine begins to load", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # no signal handler runs meanwhile
    return TestEngine()


depth_node.ros.node.DIAGNOSTICS_PERIOD_S = float(os.environ.get("DIAGNOSTICS_PERIOD_S", "1"))
depth_node.ros.node.load_engine = load_test_engine
sys.exit(main())
