"""The demo's processes: started on a private domain, ended with it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

END_TIMEOUT_S = 3.0


class ProgramEndedError(RuntimeError):
    """A process of the demo ended by itself; the message names it and its log."""


class Program:
    """One process, writing to a log file of its own."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self._log = log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, *command],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the demo, and the demo ends the others
            )

    def check(self) -> None:
        """Raise when the process has ended.

        Raises:
            ProgramEndedError: it has.
        """
        code = self._process.poll()
        if code is not None:
            tail = self._log.read_text(errors="replace").strip().splitlines()[-5:]
            raise ProgramEndedError(
                f"{self.name} ended with exit code {code}; its log is {self._log}:\n  "
                + "\n  ".join(tail)
            )

    def end(self) -> None:
        """End the process as Ctrl-C does, then without asking."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_TIMEOUT_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def running(programs: Mapping[str, Sequence[str]], logs: Path) -> Iterator[list[Program]]:
    """Start programs (name to arguments of this interpreter) and end all of them afterwards."""
    started: list[Program] = []
    try:
        for name, command in programs.items():
            started.append(Program(name, command, logs / f"{name}.log"))
        yield started
    finally:
        for program in reversed(started):
            program.end()
