"""Reading CRI logs: rotated files, the last lines, following, damage."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastbox.container import logs
from fastbox.container.logs import LogLine, parse_line, parse_time, read_logs
from fastbox.errors import StoreError


class Log:
    """A log as the monitor writes it."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, "container.log")
        self.clock = 0

    def raw(self, data: bytes) -> None:
        with open(self.path, "ab") as file:
            file.write(data)

    def line(self, text: str, stream: str = "stdout", tag: str = "F") -> None:
        self.raw(f"{self.time(self.clock)} {stream} {tag} {text}\n".encode())
        self.clock += 1

    @staticmethod
    def time(second: int) -> str:
        return f"1970-01-01T00:{second // 60:02}:{second % 60:02}.000000001Z"

    def rotate(self, keep: int = 5) -> None:
        for number in range(keep - 1, 0, -1):
            older = f"{self.path}.{number - 1}" if number > 1 else self.path
            if os.path.exists(older):
                os.rename(older, f"{self.path}.{number}")
        self.raw(b"")

    def texts(self, **options: object) -> list[str]:
        found = read_logs(self.path, **options)  # type: ignore[arg-type]
        return [line.data.decode() for line in found]


@pytest.fixture
def log(base: str) -> Log:
    return Log(base)


def test_parse_line() -> None:
    raw = b"2016-10-06T00:17:09.669794202Z stdout F log  content "
    assert parse_line(raw) == LogLine(
        "2016-10-06T00:17:09.669794202Z", "stdout", b"log  content ", False
    )
    assert parse_line(b"t stderr P:tag2 x") == LogLine("t", "stderr", b"x", True)
    assert (
        parse_line(b"t stdout F ")
        == parse_line(b"t stdout F")
        == LogLine("t", "stdout", b"", False)
    )
    for damaged in (b"", b"x", b"t stdout", b"t stdin F x", b"t stdout X x", b"\0\0\0\0"):
        assert parse_line(damaged) is None


def test_parse_time() -> None:
    assert parse_time("2016-10-06T00:17:09.669794202Z") == 1475713029669794202
    assert parse_time("2016-10-06T02:17:09.669794202+02:00") == 1475713029669794202
    assert parse_time("2016-10-05T19:17:09.5-05:00") == 1475713029500000000
    assert parse_time("2016-10-06T00:17:09Z") == 1475713029000000000
    for text in ("", "x", "2016-10-06", "2016-10-06T", "T", "99999999999999999999-01-01T00:00:00Z"):
        assert parse_time(text) == 0


def test_no_file_is_no_output(log: Log) -> None:
    assert log.texts() == log.texts(tail=5) == []


def test_both_streams_in_their_order(log: Log) -> None:
    log.line("a")
    log.line("b", "stderr")
    log.line("c", tag="P")
    log.line("d")
    found = list(read_logs(log.path))
    assert [(line.stream, line.data, line.partial) for line in found] == [
        ("stdout", b"a", False), ("stderr", b"b", False), ("stdout", b"c", True),
        ("stdout", b"d", False),
    ]  # fmt: skip


def test_rotated_files_come_first(log: Log) -> None:
    for number in range(7):
        log.line(str(number))
        if number in (1, 3, 4):
            log.rotate()
    assert sorted(os.listdir(os.path.dirname(log.path))) == [
        "container.log", "container.log.1", "container.log.2", "container.log.3",
    ]  # fmt: skip
    assert log.texts() == list("0123456")
    for count in range(9):
        assert log.texts(tail=count) == list("0123456")[7 - count if count < 7 else 0 :], count


def test_a_rotation_without_a_new_file_yet(log: Log) -> None:
    log.line("0")
    os.rename(log.path, log.path + ".1")
    assert log.texts() == log.texts(tail=3) == ["0"]


def test_pieces_of_a_line_count_as_one(log: Log) -> None:
    log.line("one")
    for text in ("two-", "two-"):
        log.line(text, tag="P")
    log.rotate()
    log.line("end")
    log.line("three-", tag="P")  # the container ended without a newline
    assert log.texts(tail=1) == ["three-"]
    assert log.texts(tail=2) == ["two-", "two-", "end", "three-"]
    assert log.texts(tail=3) == ["one", "two-", "two-", "end", "three-"]
    assert log.texts(tail=0) == []


@pytest.mark.parametrize("length", [0, 1, 1000, logs.BLOCK - 60, logs.BLOCK, 3 * logs.BLOCK])
def test_the_last_lines_across_blocks(log: Log, length: int) -> None:
    lines = [f"{number}" + "x" * length for number in range(12)]
    for text in lines:
        log.line(text)
    for count in (1, 2, 5, 11, 12, 13):
        assert log.texts(tail=count) == lines[-count:]


def test_damage_is_passed_over(log: Log) -> None:
    log.line("a")
    log.raw(b"\0" * 100 + b"\nrubbish\n\n" + b"x" * (logs.MAX_PIECE + 5) + b"\n")
    log.line("b")
    log.raw(b"1970-01-01T00:00:02Z stdout F being writ")
    assert log.texts() == log.texts(tail=2) == ["a", "b"]
    assert log.texts(tail=1) == ["b"]


def test_since_and_until(log: Log) -> None:
    for number in range(10):
        log.line(str(number))
    assert log.texts(since=7) == ["7", "8", "9"]
    assert log.texts(since=7.5) == ["8", "9"]
    assert log.texts(until=2.5) == ["0", "1", "2"]
    assert log.texts(since=3, until=5.5) == ["3", "4", "5"]
    # The last lines are taken first.
    assert log.texts(tail=3, until=8) == ["7"]
    assert log.texts(since=99) == []


# ---- following ---------------------------------------------------------------------------------


class Follower:
    """Follows a log; ``next()`` gives a line, ``stop()`` lets the container end."""

    def __init__(self, log: Log, **options: object) -> None:
        self.running = True
        self.lines: Iterator[LogLine] = read_logs(
            log.path,
            follow=True,
            is_running=lambda: self.running,
            **options,  # type: ignore[arg-type]
        )

    def next(self) -> str:
        return next(self.lines).data.decode()

    def stop(self) -> list[str]:
        self.running = False
        return [line.data.decode() for line in self.lines]


@pytest.fixture(params=["inotify", "polling"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "polling":
        monkeypatch.setattr(logs.Watch, "_start", lambda self, directory: -1)
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_follow_until_the_container_ends(log: Log) -> None:
    log.line("a")
    follower = Follower(log)
    assert follower.next() == "a"
    log.line("b")
    assert follower.next() == "b"
    log.raw(b"1970-01-01T00:00:09Z stdout F half")
    log.raw(b" and half\n")
    assert follower.next() == "half and half"
    log.line("c")
    assert follower.stop() == ["c"]


@pytest.mark.usefixtures("way")
def test_follow_waits_for_what_another_thread_writes(log: Log) -> None:
    follower = Follower(log)
    writer = threading.Timer(0.2, log.line, ["late"])
    writer.start()
    try:
        assert follower.next() == "late"  # there was no file at first
        assert follower.stop() == []
    finally:
        writer.join()


@pytest.mark.parametrize("rotations", [1, 2, 4, 7])
def test_follow_across_rotations(log: Log, rotations: int) -> None:
    log.line("a")
    follower = Follower(log)
    assert follower.next() == "a"
    log.line("b")  # written, not read yet, when the file is renamed
    for number in range(rotations):
        log.rotate(keep=5)
        log.line(str(number))
    found = follower.stop()
    if rotations <= 4:
        assert found == ["b", *map(str, range(rotations))]
    else:  # the open file is read to its end; those removed before anybody read them are lost
        assert found == ["b", "2", "3", "4", "5", "6"]


def test_follow_where_one_file_is_kept(log: Log) -> None:
    log.line("a" * 100)
    follower = Follower(log)
    assert follower.next() == "a" * 100
    os.truncate(log.path, 0)
    log.line("b")
    assert follower.next() == "b"
    assert follower.stop() == []


def test_follow_the_last_lines(log: Log) -> None:
    for number in range(5):
        log.line(str(number))
    follower = Follower(log, tail=1)
    assert follower.next() == "4"
    log.line("5")
    assert follower.stop() == ["5"]
    follower = Follower(log, tail=0)
    assert follower.stop() == []


def test_follow_ends_at_until(log: Log) -> None:
    log.line("a")
    follower = Follower(log, until=5.0)  # long ago
    assert [line.data for line in follower.lines] == [b"a"]


def test_follow_ends_when_the_log_is_removed(log: Log) -> None:
    log.line("a")
    follower = Follower(log)
    assert follower.next() == "a"
    os.unlink(log.path)
    assert follower.stop() == []


def test_reading_while_the_writer_rotates_loses_and_repeats_nothing(log: Log) -> None:
    """Every line of a busy writer, once and in order, while files are renamed under the reader."""
    total = 3000
    done = threading.Event()

    def write() -> None:
        for number in range(total):
            if number % 1000 == 999:
                log.rotate()
            log.raw(f"{log.time(0)} stdout F {number}\n".encode())
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = read_logs(log.path, follow=True, is_running=lambda: not done.is_set())
        assert [int(line.data) for line in found] == list(range(total))
    finally:
        writer.join()


def test_a_file_that_cannot_be_read(log: Log) -> None:
    os.mkdir(log.path)
    for options in ({}, {"tail": 3}, {"follow": True}):
        with pytest.raises(StoreError, match=r"^reading the log .*container\.log failed: is a dir"):
            log.texts(**options)


def test_closing_a_follower_leaves_no_descriptor(log: Log) -> None:
    def descriptors() -> list[str]:
        return sorted(os.listdir("/proc/self/fd"))

    log.line("a")
    log.rotate()
    log.line("b")
    before = descriptors()
    follower = Follower(log)
    assert follower.next() == "a"
    follower.lines.close()  # type: ignore[attr-defined]
    assert descriptors() == before


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    pieces=st.lists(
        st.tuples(st.integers(0, 300), st.booleans(), st.booleans(), st.booleans()), max_size=40
    ),
    wanted=st.integers(0, 45),
    block=st.sampled_from([2, 7, 64, 4096]),
)
def test_the_tail_is_the_end_of_the_whole(
    base: str, pieces: list[tuple[int, bool, bool, bool]], wanted: int, block: int
) -> None:
    """Whatever the lines, their pieces, rotations and the reader's block size."""
    log = Log(tempfile.mkdtemp(dir=base))
    lines: list[list[str]] = []
    begun = False
    for number, (length, partial, rotate, damage) in enumerate(pieces):
        text = f"{number}:" + "x" * length
        log.line(text, tag="P" if partial else "F")
        lines = [*lines[:-1], [*lines[-1], text]] if begun else [*lines, [text]]
        begun = partial
        if damage:
            log.raw(b"damage\n")
        if rotate:
            log.rotate(keep=50)
    expected = [piece for line in lines[max(len(lines) - wanted, 0) :] for piece in line]
    before, logs.BLOCK = logs.BLOCK, block
    try:
        assert log.texts(tail=wanted) == expected
    finally:
        logs.BLOCK = before
