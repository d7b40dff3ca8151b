"""Signals that the client gets while it is attached go to the container."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from ..container.terminal import restore
from ..errors import FastboxError
from . import leaving, output

FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
_ENDING = (signal.SIGINT, signal.SIGTERM)
# A container that ignores the request must not hold its user.
_PATIENCE = 3


class Forwarding:
    """While entered, signals are sent on to the container's init.

    The third SIGINT or SIGTERM ends the client, and leaves the container running.

    Args:
        enabled: False (``--sig-proxy=false``): an interrupt ends the client at once and leaves
            the container to its monitor; other signals do what they always do.
    """

    def __init__(self, engine: Any, container: str, *, enabled: bool = True) -> None:
        self.engine = engine
        self.container = container
        self.enabled = enabled
        self.endings = 0
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> Forwarding:
        handler = self._forward if self.enabled else _leave
        for name in FORWARDED if self.enabled else ("SIGINT",):
            number = getattr(signal, name)
            # nohup and "&" in a script ask for signals to be ignored: that stays.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self.previous[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _forward(self, number: int, frame: FrameType | None) -> None:
        if number in _ENDING:
            self.endings += 1
            if self.endings >= _PATIENCE:
                restore()
                output.error("\ngot 3 SIGTERM/SIGINTs, forcefully exiting")
                leaving.now(1)
        try:
            self.engine.kill(self.container, signal=signal.Signals(number).name)
        except FastboxError:
            # Not running yet, or not any more: its end is reported by whoever waits for it.
            return


def _leave(number: int, frame: FrameType | None) -> None:
    """Without unwinding: what the engine does when its caller is interrupted is not wanted here."""
    restore()
    leaving.now(128 + number)
