"""A program that a test starts, and what it says."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

PATIENCE_S = 60.0
"""How long a test waits for what comes within seconds on a machine that has nothing else to do."""
LINES_SHOWN = 30
"""Of a program's output, in the message of a wait that failed."""


class Process:
    """A program of the graph; its output is kept for the failure message."""

    def __init__(self, command: Sequence[str], env: dict[str, str]) -> None:
        self.lines: list[str] = []
        self._command = command
        self._told_to_end = False
        self._process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                with self._news:
                    self.lines.append(line.rstrip())
                    self._news.notify_all()

    @property
    def output(self) -> str:
        """Everything printed so far."""
        return "\n".join(self.lines)

    @property
    def has_failed(self) -> bool:
        """Whether it ended by itself, with an error."""
        return not self._told_to_end and bool(self._process.poll())

    def describe(self) -> str:
        """What the program is, whether it runs, and the last that it printed."""
        code = self._process.poll()
        state = "is running" if code is None else f"ended with exit code {code}"
        return "\n".join(
            [f"{' '.join(self._command)} {state}:", *self.lines[-LINES_SHOWN:], "(end of output)"]
        )

    def wait_for_line(self, text: str, timeout: float = PATIENCE_S) -> None:
        """Wait until the program prints a line with `text`."""
        with self._news:
            seen = self._news.wait_for(lambda: any(text in line for line in self.lines), timeout)
        assert seen, f"no line with {text!r} within {timeout} s\n{self.describe()}"

    def memory_mb(self, which: str = "VmRSS") -> float:
        """Resident memory of the program now, or at its largest (`VmHWM`)."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        (kilobytes,) = (line.split()[1] for line in lines if line.startswith(which))
        return int(kilobytes) / 1024.0

    def send_signal(self, number: int) -> None:
        """Send a signal and do not wait."""
        self._told_to_end = True
        self._process.send_signal(number)

    def interrupt(self, number: int = signal.SIGINT, timeout: float = 30.0) -> tuple[int, float]:
        """Send a signal and wait for the end: (exit code, seconds that it took)."""
        start = time.monotonic()
        self.send_signal(number)
        code = self._process.wait(timeout)
        self._reader.join(timeout=2.0)
        return code, time.monotonic() - start

    def end(self) -> None:
        """End the program whatever it does."""
        self._told_to_end = True
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(3.0)
            self._process.kill()
        self._process.wait(PATIENCE_S)
