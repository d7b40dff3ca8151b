"""The user's own terminal while a container's is on it: raw mode, its size, and its way back."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import struct
import termios
import threading
from types import FrameType
from typing import Any

# Ended by one of these, a process leaves the terminal as it found it; others handle them already.
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT)
# Seconds between two looks at the size where SIGWINCH cannot be had (not in the main thread).
LOOK = 0.25


def first(*fds: int | None) -> int | None:
    """The first of the descriptors that is a terminal."""
    return next((fd for fd in fds if fd is not None and os.isatty(fd)), None)


def size(fd: int) -> tuple[int, int]:
    """(rows, columns) of a terminal; zeros where nobody knows."""
    try:
        data = fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8)
    except OSError:
        return 0, 0
    rows, columns, _, _ = struct.unpack("4H", data)
    return rows, columns


def set_size(fd: int, rows: int, columns: int) -> None:
    """Set the size of the terminal behind a master or slave."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


def raw(attributes: list[Any]) -> list[Any]:
    """Terminal attributes in which every key goes through (cfmakeraw(3))."""
    changed = [*attributes]
    changed[0] &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    changed[1] &= ~termios.OPOST
    changed[2] = (changed[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
    changed[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    changed[6] = [*changed[6]]
    changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
    return changed


def _set(fd: int, attributes: list[Any]) -> None:
    """Set them once what was written is out. In the background of its terminal a process is stopped
    for asking (SIGTTOU), and asks again when it has been brought to the foreground: Python handles
    SIGCONT, so the call is interrupted, and termios does not repeat it."""
    while True:
        try:
            return termios.tcsetattr(fd, termios.TCSADRAIN, attributes)
        except termios.error as error:
            if error.args[0] != errno.EINTR:
                raise


_entered: list[Terminal] = []


def restore() -> None:
    """Put back every terminal: for who ends the process without unwinding."""
    for terminal in _entered:
        terminal._restore()


class Terminal:
    """While entered, the terminal passes every key on; afterwards it is as it was, also when a
    signal ends the process meanwhile.

    Args:
        fd: the terminal. raw: False leaves its mode alone: only its size is followed.

    Attributes:
        wakeup: becomes readable when its size may have changed; -1 outside the main thread, where
            it has to be looked at every ``LOOK`` seconds.
    """

    def __init__(self, fd: int, *, raw: bool = True) -> None:
        self.fd = fd
        self.wakeup = -1
        self._raw = raw
        self._before: list[Any] | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Terminal:
        if self._raw:
            self._before = termios.tcgetattr(self.fd)
        if threading.current_thread() is threading.main_thread():
            self.wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._catch(signal.SIGWINCH, self._changed)
            self._catch(signal.SIGCONT, self._continued)
            for number in _ENDING if self._raw else ():
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._catch(number, self._end)
        _entered.append(self)
        self._set_raw()
        return self

    def __exit__(self, *_: object) -> None:
        _entered.remove(self)
        self._restore()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self.wakeup >= 0:
            os.close(self.wakeup)
            self.wakeup = -1

    def size(self) -> tuple[int, int]:
        """(rows, columns)."""
        if self.wakeup >= 0:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.wakeup)
        return size(self.fd)

    def _catch(self, number: int, handler: Any) -> None:
        self._handlers[number] = signal.signal(number, handler)

    def _set_raw(self) -> None:
        if self._before is not None:
            _set(self.fd, raw(self._before))

    def _restore(self) -> None:
        if self._before is not None:
            with contextlib.suppress(termios.error):  # it has been hung up
                _set(self.fd, self._before)

    def _changed(self, number: int, frame: FrameType | None) -> None:
        os.eventfd_write(self.wakeup, 1)

    def _continued(self, number: int, frame: FrameType | None) -> None:
        """The shell has had the terminal while we were stopped."""
        with contextlib.suppress(termios.error):
            self._set_raw()
        os.eventfd_write(self.wakeup, 1)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
