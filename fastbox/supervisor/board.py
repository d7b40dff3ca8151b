"""How many workers the command server has and what they have done: a page of memory that the
supervisor, the master and its workers share. Each slot is written by one process at a time."""

from __future__ import annotations

import mmap
import os
import struct

SLOTS = 64
FREE, IDLE, BUSY = range(3)
_SIZE = 4096
_TOTAL = struct.Struct("=Q")  # commands of workers that have ended
_PID = struct.Struct("=I")
_SERVED = struct.Struct("=I")
_PIDS, _STATES, _COUNTS = 64, 64 + 4 * SLOTS, 64 + 5 * SLOTS


def create() -> int:
    """The page, as a descriptor."""
    fd = os.memfd_create("fastbox-board", os.MFD_CLOEXEC)
    os.ftruncate(fd, _SIZE)
    return fd


class Board:
    """The page, mapped."""

    def __init__(self, fd: int) -> None:
        self._page = mmap.mmap(fd, _SIZE)

    def close(self) -> None:
        self._page.close()

    def count(self, state: int) -> int:
        """How many slots are in a state."""
        return self._page[_STATES : _STATES + SLOTS].count(state)

    def set_state(self, slot: int, state: int) -> None:
        self._page[_STATES + slot] = state

    def add_served(self, slot: int) -> int:
        """One command more; how many they are now."""
        place = _COUNTS + 4 * slot
        served = int(_SERVED.unpack_from(self._page, place)[0]) + 1
        _SERVED.pack_into(self._page, place, served)
        return served

    @property
    def served(self) -> int:
        """Commands, all together."""
        total: int = _TOTAL.unpack_from(self._page)[0]
        counts = (_SERVED.unpack_from(self._page, _COUNTS + 4 * slot) for slot in range(SLOTS))
        return total + sum(int(count) for (count,) in counts)

    def pids(self) -> list[int]:
        """The workers that live."""
        found = (_PID.unpack_from(self._page, _PIDS + 4 * slot)[0] for slot in range(SLOTS))
        return [pid for pid in found if pid]

    # the master's -------------------------------------------------------------------------------
    def take(self) -> int | None:
        """A slot for a new worker, None if all are taken."""
        slot = self._page.find(bytes([FREE]), _STATES, _STATES + SLOTS) - _STATES
        if slot < 0:
            return None
        self.set_state(slot, IDLE)
        return slot

    def name(self, slot: int, pid: int) -> None:
        """Who has the slot."""
        _PID.pack_into(self._page, _PIDS + 4 * slot, pid)

    def free(self, slot: int) -> None:
        """Its worker has ended."""
        place = _COUNTS + 4 * slot
        total = _TOTAL.unpack_from(self._page)[0] + _SERVED.unpack_from(self._page, place)[0]
        _TOTAL.pack_into(self._page, 0, total)
        _SERVED.pack_into(self._page, place, 0)
        self.name(slot, 0)
        self.set_state(slot, FREE)
