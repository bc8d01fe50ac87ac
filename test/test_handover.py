"""Turns at something that only some may have at once: fair, and ended by those who leave."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from test_engine_shared import wait_until
from test_pipeline import TIMEOUT_S

from depth_node.handover import Line


def test_those_who_take_turns_again_and_again_get_equally_many() -> None:
    line, turns, inside, first = Line(), Counter(), [], [None]
    end, begun = threading.Event(), threading.Barrier(3)

    def take_turns(name: int) -> None:
        place = line.join()
        begun.wait(TIMEOUT_S)
        while not end.is_set():
            with place:
                inside.append(name)
                assert len(inside) == 1
                assert first[0] in (None, place), "who waited longest was overtaken"
                turns[name] += 1
                time.sleep(0.0005)
                first[0] = line._waiting[0] if line._waiting else None
                inside.pop()
                if sum(turns.values()) >= 600:
                    end.set()

    with ThreadPoolExecutor(3) as threads:
        for future in [threads.submit(take_turns, name) for name in range(3)]:
            future.result(10 * TIMEOUT_S)  # of 600 turns
    assert min(turns.values()) > 0.4 * max(turns.values()), turns


def test_a_closed_place_waits_no_longer_and_takes_nobodys_turn() -> None:
    line = Line()
    holder, waiter, last = line.join(), line.join(), line.join()
    with holder, ThreadPoolExecutor(2) as threads:
        entered = threads.submit(waiter.__enter__)
        wait_until(lambda: len(line._waiting) == 1)
        waiter.close()
        entered.result(TIMEOUT_S)
        assert not waiter.served
        waiting = threads.submit(last.__enter__)
        waiter.__exit__(None, None, None)
        assert not waiting.done()
        holder.__exit__(None, None, None)
        waiting.result(TIMEOUT_S)
        assert last.served
