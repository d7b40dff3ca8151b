"""Reading a container's log: CRI lines, ``<RFC 3339 ns> <stdout|stderr> <F|P> <text>``.

The monitor appends to ``container.log`` and renames full files to ``.1`` (newest), ``.2`` …, or
truncates where one file is kept. Reading needs no lock: files are opened newest first, so a rename
in between shows as the same inode twice and never as a gap.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from typing import IO

import msgspec

from ..errors import StoreError
from ..watch import Watch

BLOCK = 64 * 1024
# Longer pieces than the monitor writes; a damaged file is cut there instead of filling memory.
MAX_PIECE = 1 << 20
# A follower looks this often (seconds) whether the container has ended.
CHECK = 0.5


class LogLine(msgspec.Struct, gc=False, frozen=True):
    """A line, or a piece of one.

    Attributes:
        time: RFC 3339 with nanoseconds, UTC.
        stream: ``"stdout"`` or ``"stderr"``.
        data: what was written, without the newline that ended the line.
        partial: the line goes on in the stream's next piece.
    """

    time: str
    stream: str
    data: bytes
    partial: bool

    @property
    def time_ns(self) -> int:
        """Nanoseconds since the epoch, 0 if the time is not readable."""
        return parse_time(self.time)


def parse_time(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time; 0 if it is none."""
    import calendar

    try:
        date, _, rest = text.partition("T")
        clock, fraction = rest[:8], rest[8:]
        year, month, day = (int(part) for part in date.split("-"))
        hour, minute, second = (int(part) for part in clock.split(":"))
        seconds = calendar.timegm((year, month, day, hour, minute, second))
        zone = fraction.lstrip(".0123456789")
        digits = fraction[: len(fraction) - len(zone)].lstrip(".")
        if zone not in ("Z", "z", ""):
            offset = int(zone[1:3]) * 3600 + int(zone[4:6] or 0) * 60
            seconds -= offset if zone[0] == "+" else -offset
        return seconds * 1_000_000_000 + int((digits + "000000000")[:9])
    except (ValueError, IndexError, OverflowError):
        return 0


def parse_line(raw: bytes) -> LogLine | None:
    """One line of the file without its newline; None if it is no CRI line."""
    parts = raw.split(b" ", 3)
    if len(parts) < 3 or parts[1] not in (b"stdout", b"stderr"):
        return None
    # Tags are separated by colons, the first one is F or P.
    tag = parts[2].split(b":", 1)[0]
    if tag not in (b"F", b"P"):
        return None
    data = parts[3] if len(parts) == 4 else b""
    stream = "stdout" if parts[1] == b"stdout" else "stderr"
    return LogLine(parts[0].decode("ascii", "replace"), stream, data, tag == b"P")


def read_logs(
    path: str,
    *,
    follow: bool = False,
    tail: int | None = None,
    since: float | None = None,
    until: float | None = None,
    is_running: Callable[[], bool] | None = None,
) -> Iterator[LogLine]:
    """Lines in the order in which they were written.

    Args:
        path: the current file; there may be none yet.
        follow: wait for more until ``is_running`` says that the container has ended.
        tail: begin with the last so many lines (before ``since`` and ``until`` choose); None = all.
        since, until: seconds since the epoch; only lines at or after, at or before.
        is_running: only asked when following.

    Raises:
        StoreError: a file could not be read.
    """
    first = _nanoseconds(since)
    last = _nanoseconds(until)
    lines = _read(path, tail, follow, is_running or _never, _deadline(until))
    try:
        for line in lines:
            if first is not None or last is not None:
                time = line.time_ns
                if first is not None and time < first:
                    continue
                if last is not None and time > last:
                    return
            yield line
    finally:
        lines.close()


def _read(
    path: str,
    tail: int | None,
    follow: bool,
    is_running: Callable[[], bool],
    over: Callable[[], bool],
) -> Generator[LogLine, None, None]:
    reader = None
    try:
        reader = _Reader(path)
        yield from reader.all(tail)
        if follow:
            yield from reader.follow(is_running, over)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StoreError(f"reading the log {path} failed: {reason}") from error
    finally:
        if reader is not None:
            reader.close()


def _nanoseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1_000_000_000)


def _deadline(until: float | None) -> Callable[[], bool]:
    import time

    return lambda: until is not None and time.time() > until


def _never() -> bool:
    return False


class _Reader:
    """The files of one log. ``files`` is oldest first, the last one is where following goes on."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.files: list[IO[bytes]] = []
        self._open()

    def _open(self) -> None:
        seen: set[tuple[int, int]] = set()
        number = 0
        while True:
            name = f"{self.path}.{number}" if number else self.path
            number += 1
            try:
                file = open(name, "rb", buffering=BLOCK)
            except FileNotFoundError:
                # No current file: nothing was written yet, or a rotation is under way.
                if number == 1:
                    continue
                return
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino) in seen:
                file.close()
                continue
            seen.add((status.st_dev, status.st_ino))
            self.files.insert(0, file)

    def close(self) -> None:
        for file in self.files:
            file.close()
        self.files = []

    # ---- what is there -------------------------------------------------------------------------

    def all(self, tail: int | None) -> Iterator[LogLine]:
        if tail is not None:
            self._seek(max(tail, 0))
        # The last file stays open for a follower.
        while self.files:
            yield from self._lines(self.files[0])
            if len(self.files) == 1:
                return
            self.files.pop(0).close()

    def _lines(self, file: IO[bytes]) -> Iterator[LogLine]:
        """Whole lines from the file's position on; the position stays behind the last of them."""
        while True:
            start = file.tell()
            raw = file.readline(MAX_PIECE)
            if not raw.endswith(b"\n") and len(raw) < MAX_PIECE:
                file.seek(start)  # being written, or the end
                return
            line = parse_line(raw.rstrip(b"\n"))
            if line is not None:
                yield line

    def _seek(self, wanted: int) -> None:
        """Set the files' positions to the last ``wanted`` lines; close what is before them."""
        found = 0
        # A piece at the very end of the log, whose line never ended, counts as a line.
        complete = False
        for index in range(len(self.files) - 1, -1, -1):
            position, found, complete = _from_end(self.files[index], wanted, found, complete)
            if position is not None:
                for file in self.files[:index]:
                    file.close()
                self.files = self.files[index:]
                self.files[0].seek(position)
                return
            self.files[index].seek(0)

    # ---- what comes ----------------------------------------------------------------------------

    def follow(self, is_running: Callable[[], bool], over: Callable[[], bool]) -> Iterator[LogLine]:
        with Watch(os.path.dirname(self.path)) as watch:
            while True:
                # Asked before reading: what a container wrote before its end is then in the file.
                running = is_running()
                yield from self._new_lines()
                if not running or over():
                    return
                watch.wait(CHECK)

    def _new_lines(self) -> Iterator[LogLine]:
        while True:
            current = self.files[-1] if self.files else None
            if current is not None:
                yield from self._lines(current)
            try:
                status = os.stat(self.path)
            except FileNotFoundError:
                return
            if current is not None:
                own = os.fstat(current.fileno())
                if (own.st_dev, own.st_ino) == (status.st_dev, status.st_ino):
                    if own.st_size >= current.tell():
                        return
                    # Truncated: one file is kept. What is buffered of it is not there any more.
                    self.close()
                    self.files = [open(self.path, "rb", buffering=BLOCK)]
                    continue
                # Renamed: what was written to it between our last read and the renaming.
                yield from self._lines(current)
            newer = self._newer(current)
            if not newer:
                return
            self.close()
            self.files = newer
            while len(self.files) > 1:
                yield from self._lines(self.files[0])
                self.files.pop(0).close()

    def _newer(self, current: IO[bytes] | None) -> list[IO[bytes]]:
        """The files after ``current``; several may have been filled since the last look."""
        files = _Reader(self.path).files
        if current is None:
            return files
        status = os.fstat(current.fileno())
        inodes = [(found.st_dev, found.st_ino) for found in map(_status, files)]
        identity = (status.st_dev, status.st_ino)
        keep = inodes.index(identity) + 1 if identity in inodes else 0
        for file in files[:keep]:
            file.close()
        return files[keep:]


def _status(file: IO[bytes]) -> os.stat_result:
    return os.fstat(file.fileno())


def _from_end(
    file: IO[bytes], wanted: int, found: int, complete: bool
) -> tuple[int | None, int, bool]:
    """Where the last ``wanted`` lines begin in a file.

    Args:
        found: how many lines newer files have.
        complete: whether the end of this file's last line was seen (the first of the newer lines).

    Returns:
        (position, or None if they begin in an older file; lines found by now; complete)
    """
    end = file.seek(0, os.SEEK_END)
    for start, line in _backwards(file, end):
        parsed = parse_line(line)
        if parsed is None:
            continue
        if not parsed.partial or (not complete and not found):
            # This piece ends a line: the older one of two.
            if found == wanted:
                return start + len(line) + 1, found, True
            found += 1
            complete = True
    return (end if wanted == 0 else None), found, complete


def _backwards(file: IO[bytes], end: int) -> Iterator[tuple[int, bytes]]:
    """(offset, line without newline), last line first; an unfinished last line is passed over."""
    position = end
    rest = b""
    seen_newline = False
    while position > 0:
        size = min(BLOCK, position)
        position -= size
        file.seek(position)
        block = file.read(size) + rest
        lines = block.split(b"\n")
        # lines[0] may begin in the block before.
        offset = position + len(block)
        for index in range(len(lines) - 1, 0, -1):
            offset -= len(lines[index])
            if seen_newline:
                yield offset, lines[index]
            seen_newline = True
            offset -= 1
        rest = lines[0]
        if len(rest) > MAX_PIECE:
            rest = b""
    if rest and seen_newline:
        yield 0, rest
