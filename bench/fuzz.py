"""Malformed messages to every conversion of a subscription: is one read wrongly, or too large?

The cases are those of `test/test_malformed_messages.py`, as many as are asked for: each is refused
with words or read rightly, in little memory. A case is a seed, so that one that fails can be made
again. Every subscription has a process of its own, whose memory is shown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from machine import describe_machine, print_result

ROOT = Path(__file__).resolve().parent.parent
RUN = """
import json, sys, time, warnings
from malformed_checks import peak_mb, run_cases

name, cases = sys.argv[1], int(sys.argv[2])
warnings.simplefilter("error")
run_cases(name, 1000)
before_mb, begun_s = peak_mb(), time.perf_counter()
read = run_cases(name, cases)
figures = {
    "cases": cases,
    "read": read,
    "refused": cases - read,
    "seconds": round(time.perf_counter() - begun_s, 1),
    "memory_growth_mb": round(peak_mb() - before_mb, 1),
}
print(json.dumps(figures))
"""


def measure(name: str, cases: int) -> dict[str, Any]:
    """Run the cases of one subscription.

    Raises:
        CalledProcessError: a case failed; its seed and message are on stderr.
    """
    program = f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'test')]}\n{RUN}"
    command = [sys.executable, "-c", program, name, str(cases)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    """Parse the command line, run, print."""
    sys.path[:0] = [str(ROOT), str(ROOT / "test")]
    from malformed_checks import SUBSCRIPTIONS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--cases", type=int, default=100_000, help="for each subscription")
    parser.add_argument(
        "--subscription",
        action="append",
        choices=list(SUBSCRIPTIONS),
        help="only this one; may be repeated",
    )
    args = parser.parse_args()
    names = args.subscription or list(SUBSCRIPTIONS)
    figures = {name: measure(name, args.cases) for name in names}
    print_result({"benchmark": "fuzz", **figures, **describe_machine()}, as_json=args.json)


if __name__ == "__main__":
    main()
