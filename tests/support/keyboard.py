"""A person at a terminal: a program on a pseudo-terminal, what is typed there and what it shows."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from typing import Any

from .command import Command


def _at_a_terminal() -> None:
    """As a login has it, whatever started the tests (``nohup``, ``&``)."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


class Keyboard:
    """A command on a terminal of its own.

    Attributes:
        shown: all that the terminal showed, carriage returns included.
    """

    def __init__(self, command: Command, *args: str, rows: int = 24, columns: int = 80) -> None:
        self.master, self.slave = os.openpty()
        self.shown = b""
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            [*command.argv, *args],
            env={**command.env, "TERM": "xterm"},
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=_at_a_terminal,  # noqa: PLW1509
        )

    def __enter__(self) -> Keyboard:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for fd in (self.master, self.slave):
            os.close(fd)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: str | bytes) -> None:
        """Press keys; ``\\r`` is Enter."""
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def see(self, text: str | bytes, *, timeout: float = 30.0) -> bytes:
        """Wait until the terminal has shown a text; all up to its end, which is taken away."""
        wanted = text.encode() if isinstance(text, str) else text
        deadline = time.monotonic() + timeout
        while wanted not in self.shown:
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"waited in vain for {wanted!r}; shown: {self.shown!r}")
        head, _, self.shown = self.shown.partition(wanted)
        return head + wanted

    def command(self, line: str, *, prompt: str = "# ") -> str:
        """Type a line (short enough for the screen's width) for a shell; what it prints."""
        self.type(f"{line}; echo e''nd\r")
        self.see("e''nd\r\n")
        printed = self.see("end\r\n").decode().removesuffix("end\r\n")
        self.see(prompt)
        return printed

    def wait(self, *, timeout: float = 30.0) -> int:
        """The exit status; what was still to be shown is in ``shown``."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"it does not end; shown: {self.shown!r}")
            self._read(0.02)
        while self._read(0):
            pass
        return self.process.returncode

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    @property
    def attributes(self) -> list[Any]:
        """Of the terminal, now."""
        return termios.tcgetattr(self.slave)

    @property
    def is_raw(self) -> bool:
        return not self.attributes[3] & termios.ICANON

    def _read(self, seconds: float) -> bool:
        if seconds < 0 or not select.select([self.master], [], [], seconds)[0]:
            return False
        self.shown += os.read(self.master, 65536)
        return True
