"""What a pool tells of itself, and what ends a run in one."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec


class PoolStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a pool has and has done.

    Attributes:
        size: how many it keeps; target: how many it does now, within its limit of memory, and none
            while the machine is short of it. ready: how many wait.
        taken: how often one was taken. missed: how often none was there, and an ordinary start took
            its place. died: prepared ones that somebody else ended. drained: thrown away, because
            memory was short or the image has changed.
        prepared, failed: how many were made, and how many could not be.
        each: bytes that one takes; memory: all that wait.
        error: of the last failure, "" after a success. short: why none are kept now, or "".
    """

    size: int
    target: int
    ready: int
    taken: int
    missed: int
    died: int
    drained: int
    prepared: int
    failed: int
    each: int
    memory: int
    error: str
    short: str


class Cancel:
    """Ends a ``Pool.run`` from another thread: its container is killed and removed."""

    def __init__(self) -> None:
        self.event = os.eventfd(0, os.EFD_CLOEXEC)
        self.is_set = False
        self._kill: Callable[[], None] | None = None

    def __call__(self) -> None:
        self.is_set = True
        os.eventfd_write(self.event, 1)
        if self._kill is not None:
            self._kill()

    def arm(self, kill: Callable[[], None]) -> None:
        """``kill`` is called when it is cancelled, or has been."""
        self._kill = kill
        if self.is_set:
            kill()

    def close(self) -> None:
        os.close(self.event)
