"""Reading and following the journal.

A reader has the files open that it reads: what was renamed stays readable, and no other file can
get its inode. After a rename it goes on with the newer files, and still looks at the one before for
what a writer may have appended late.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Iterator

from ..errors import FastboxError, InvalidArgument, StoreError
from ..oci import times
from ..oci.filters import Filters
from ..watch import Watch
from . import filters as event_filters
from .event import BEGIN, Event, parse
from .journal import directory_of

_BLOCK = 64 * 1024
_MAX_LINE = 1 << 20  # bytes; longer ones are damage
# The kernel stamps files with the time of its last tick.
_TICK = 1_000_000_000
_RACES = 100

Moment = float | str


class EventStream(Iterator[Event]):
    """Events, as they happen; see ``Engine.events``. It counts from the moment it is made.

    It is an iterator, whose ``next`` waits. ``close`` may be called from any thread: it wakes who
    is waiting, and ends the iteration. One that is left alone closes itself.
    """

    def __init__(
        self,
        root: str,
        since: Moment | None,
        until: Moment | None,
        filters: Filters | None,
    ) -> None:
        self._fds: list[int] = []
        self._watch: Watch | None = None
        self._files: list[_File] = []
        self._closed = False
        self._using = threading.Lock()
        self._buffer: deque[Event] = deque()
        first, self._last = _nanoseconds(since), _nanoseconds(until)
        if first is not None and self._last is not None and first > self._last:
            raise InvalidArgument(
                f"`since` time ({_shown(first)}) cannot be after `until` time "
                f"({_shown(self._last)})"
            )
        self._chosen = event_filters.compile(filters or {})
        self._first = first or 0
        self._directory = directory_of(root)
        self._path = f"{self._directory}/journal"
        with self._reading():
            self._open(past=since is not None or self.over)

    def _open(self, *, past: bool) -> None:
        os.makedirs(self._directory, 0o700, exist_ok=True)
        self._fds.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        if not self.over:
            self._watch = Watch(self._directory)
        self._files = self._newest()
        for file in self._files:
            if not past or file.changed < self._first - _TICK:
                file.skip()
        self._blocks = self._read()

    # what the asyncio face needs, too -----------------------------------------------------------
    @property
    def over(self) -> bool:
        """Whether nothing that may come is asked for any more."""
        return self._last is not None and time.time_ns() > self._last

    @property
    def remaining(self) -> float | None:
        """Seconds until ``over``; None is for ever."""
        if self._last is None:
            return None
        return max(self._last - time.time_ns(), 0) / 1e9 + 0.001

    def fileno(self) -> int:
        """Readable when there may be more; -1 if one has to look from time to time."""
        return self._watch.fd if self._watch is not None else -1

    def poll(self) -> list[Event] | None:
        """Some of the events that have happened (perhaps none of those is asked for); None when
        there are no more now. Does not wait.

        Raises:
            StoreError: the journal cannot be read.
        """
        try:
            with self._reading():
                return next(self._blocks)
        except BaseException:
            self._closed = True
            raise

    def drain(self) -> None:
        """To be called after ``fileno`` was readable, before ``poll``."""
        if self._watch is not None:
            self._watch.drain()

    # iteration ----------------------------------------------------------------------------------
    def __next__(self) -> Event:
        if not self._using.acquire(blocking=False):
            raise FastboxError("the events of one stream are asked for by two threads")
        try:
            event = self._next()
        finally:
            self._using.release()
            if self._closed:
                self._release()
        if event is None:
            self.close()
            raise StopIteration
        return event

    def _next(self) -> Event | None:
        while not self._closed:
            if self._buffer:
                return self._buffer.popleft()
            over = self.over  # asked before reading: what happened until then is in the file
            block = self.poll()
            if block is not None:
                self._buffer.extend(block)
            elif over:
                return None
            elif self._watch is not None:
                self._watch.wait(self.remaining, self._fds[0])
        return None

    def close(self) -> None:
        """End it; may be called again."""
        self._closed = True
        if self._using.acquire(blocking=False):
            try:
                self._release_held()
            finally:
                self._using.release()
        else:
            with contextlib.suppress(IndexError, OSError):
                os.eventfd_write(self._fds[0], 1)

    def _release(self) -> None:
        """What a ``close`` that came while another thread waited has left to that thread."""
        if self._using.acquire(blocking=False):
            try:
                self._release_held()
            finally:
                self._using.release()

    def _release_held(self) -> None:
        self._buffer.clear()
        for file in self._files:
            file.close()
        self._files = []
        if self._watch is not None:
            self._watch.close()
        while self._fds:
            os.close(self._fds.pop())

    def __del__(self) -> None:
        self._release_held()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # the files ----------------------------------------------------------------------------------
    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise StoreError(f"reading the events in {self._directory} failed: {reason}") from error

    def _read(self) -> Iterator[list[Event] | None]:
        """Blocks of events, None whenever all has been read."""
        while True:
            for file in self._files:
                for lines in file.lines():
                    yield [event for line in lines for event in parse(line) if self._wants(event)]
            newer = self._newer()
            if not newer:
                yield None
                continue
            for file in self._files[:-1]:
                file.close()
            self._files = [*self._files[-1:], *newer]

    def _wants(self, event: Event) -> bool:
        return (
            event.time_ns >= self._first
            and (self._last is None or event.time_ns <= self._last)
            and self._chosen(event)
        )

    def _newer(self) -> list[_File]:
        """The files after the last one of ours, oldest first."""
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            os.stat(self._directory)  # gone, too: then nothing will ever come
            return []
        known = {file.identity for file in self._files}
        if (found.st_dev, found.st_ino) in known:
            return []
        newer = []
        for file in self._newest():
            if file.identity in known:
                file.close()
            else:
                newer.append(file)
        return newer

    def _newest(self) -> list[_File]:
        """The journal's files, oldest first."""
        for _ in range(_RACES):
            # The newer one first: a rename in between shows as the same file twice.
            files = [file for path in (self._path, f"{self._path}.1") if (file := _opened(path))]
            if len({file.identity for file in files}) == len(files):
                return files[::-1]
            for file in files:
                file.close()
        raise StoreError(f"the events in {self._directory} change too fast to be read")


class _File:
    """One file of the journal, read up to some point."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        found = os.fstat(fd)
        self.identity = found.st_dev, found.st_ino
        self.changed = found.st_mtime_ns
        self._position = 0
        self._rest = b""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def skip(self) -> None:
        """Go on at the end."""
        self._position = os.fstat(self._fd).st_size

    def lines(self) -> Iterator[list[bytes]]:
        """What has been appended, as whole lines; what is not a line yet is kept for later."""
        while True:
            data = os.pread(self._fd, _BLOCK, self._position)
            if not data:
                if os.fstat(self._fd).st_size < self._position:  # somebody emptied it
                    self._position, self._rest = 0, b""
                    continue
                return
            self._position += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            if len(self._rest) > _MAX_LINE:
                at = self._rest.rfind(BEGIN)
                self._rest = self._rest[at:] if len(self._rest) - at < _MAX_LINE and at > 0 else b""
            yield lines


def _opened(path: str) -> _File | None:
    try:
        return _File(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK))
    except FileNotFoundError:
        return None


def _nanoseconds(moment: Moment | None) -> int | None:
    if moment is None:
        return None
    if isinstance(moment, str):
        return times.moment(moment)
    return round(moment * 1_000_000_000)


def _shown(moment: int) -> str:
    return f"{moment // 1_000_000_000}.{moment % 1_000_000_000:09d}"
