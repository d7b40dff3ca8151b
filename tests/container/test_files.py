"""What is remembered of files: never anything but what is in them now."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import product
from threading import Event, Thread

import pytest

from fastbox import atomic
from fastbox.container import files as files_module
from fastbox.container.files import Remembered

DAY = 86_400


@pytest.fixture
def path(tmp_path: object) -> str:
    return f"{tmp_path}/file"


@pytest.fixture
def made() -> list[bytes]:
    """What was read, in its order."""
    return []


@pytest.fixture
def files(made: list[bytes], monkeypatch: pytest.MonkeyPatch) -> Remembered[str]:
    """Files count as settled at once: the tests see to it that they are told apart all the same."""
    monkeypatch.setattr(files_module, "SETTLED", -DAY * 1_000_000_000)

    def make(data: bytes, path: str) -> str:
        made.append(data)
        return data.decode("ascii")

    return Remembered(make)


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def test_read_once(path: str, files: Remembered[str], made: list[bytes]) -> None:
    write(path, "one")
    assert [files.get(path) for _ in range(3)] == ["one"] * 3
    assert made == [b"one"]


def test_a_fresh_file_is_not_remembered(path: str) -> None:
    """A change within the same tick of the clock could not be told apart."""
    made: list[bytes] = []
    files = Remembered(lambda data, path: made.append(data))
    write(path, "one")
    files.get(path)
    files.get(path)
    assert len(made) == 2


def test_a_file_of_the_future_is_not_remembered(
    path: str, files: Remembered[str], made: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock was set back: what comes now may get the same time."""
    monkeypatch.setattr(files_module, "SETTLED", 0)
    write(path, "one")
    past = time.time_ns() - DAY * 1_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: past)
    assert files.get(path) == files.get(path) == "one"
    assert len(made) == 2


def replaced(path: str, text: str) -> None:
    atomic.write(path, text.encode(), sync=False)


def rewritten(path: str, text: str) -> None:
    before = os.stat(path).st_ctime_ns
    while os.stat(path).st_ctime_ns == before:  # the next tick
        write(path, text)


def with_its_old_time(path: str, text: str) -> None:
    before = os.stat(path)
    rewritten(path, text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swapped(path: str, text: str) -> None:
    """Another one takes its name, as old and as long as it."""
    write(path + "2", text)
    before = os.stat(path)
    os.utime(path + "2", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.rename(path + "2", path)


@pytest.mark.parametrize("change", [replaced, rewritten, with_its_old_time, swapped])
@pytest.mark.parametrize("text", ["two", "three"])
def test_changed(
    change: Callable[[str, str], None], text: str, path: str, files: Remembered[str]
) -> None:
    write(path, "one")
    assert files.get(path) == "one"
    change(path, text)
    assert files.get(path) == text


def test_deleted_and_made_again(path: str, files: Remembered[str]) -> None:
    assert files.get(path) is None
    write(path, "one")
    assert files.get(path) == "one"
    os.unlink(path)
    assert files.get(path) is None
    os.mkdir(path + "d")
    assert files.get(f"{path}/below") is None
    write(path, "two")
    assert files.get(path) == "two"
    assert files.get(f"{path}/below") is None


def test_a_link_in_its_place(path: str, files: Remembered[str]) -> None:
    write(path, "one")
    files.get(path)
    os.rename(path, path + "2")
    os.symlink(path + "2", path)
    with pytest.raises(OSError):
        files.get(path)


def test_damaged_and_repaired(path: str, files: Remembered[str], made: list[bytes]) -> None:
    """What its reader refuses is refused each time, and read each time."""
    write(path, "one")
    files.get(path)
    replaced(path, "\xff")
    for _ in range(2):
        with pytest.raises(UnicodeDecodeError):
            files.get(path)
    replaced(path, "one")
    assert files.get(path) == "one" and len(made) == 4


def test_written_while_it_is_read(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stamp is from before it was read."""
    monkeypatch.setattr(files_module, "SETTLED", -DAY * 1_000_000_000)
    later = iter(["two", "three"])

    def make(data: bytes, path: str) -> bytes:
        if text := next(later, ""):
            rewritten(path, text)
        return data

    files = Remembered(make)
    write(path, "one")
    assert [files.get(path) for _ in range(4)] == [b"one", b"two", b"three", b"three"]


def test_bounded(tmp_path: object, files: Remembered[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Remembered, "MOST", 8)
    for number in range(20):
        write(f"{tmp_path}/{number}", str(number))
    for _, number in product(range(2), range(20)):
        assert files.get(f"{tmp_path}/{number}") == str(number)
        assert len(files._known) <= 8


def test_never_older_than_what_was_there(path: str) -> None:
    """Under a writer that does not rest, with the limits as they are."""
    files = Remembered(lambda data, path: int(data))
    stop, last = Event(), 0
    replaced(path, "0")

    def change() -> None:
        nonlocal last
        while not stop.is_set():
            replaced(path, str(last + 1))
            last += 1

    writer = Thread(target=change)
    writer.start()
    try:
        for _ in range(2000):
            least = last
            found = files.get(path)
            assert found is not None and found >= least
    finally:
        stop.set()
        writer.join()
    assert files.get(path) == last
