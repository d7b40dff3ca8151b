"""Where directories of containers are made."""

from __future__ import annotations

import fcntl
import os
import threading
from typing import Any

import pytest

from fastbox import locks
from fastbox.container import nursery
from fastbox.container.nursery import Nursery

ID = "ab" * 32


@pytest.fixture
def place(root: str) -> str:
    os.makedirs(f"{root}/containers")
    return root


def test_what_is_made_is_whole_and_locked(place: str) -> None:
    made = f"{place}/containers/{ID}"
    with Nursery(place).made(ID, made):
        assert sorted(os.listdir(made)) == ["upper", "work"]
        with pytest.raises(BlockingIOError), locks.lock(made, blocking=False):
            pass
    with locks.lock(made, blocking=False):
        assert os.stat(made).st_mode & 0o777 == 0o700


def test_a_target_that_is_there_leaves_nothing(place: str) -> None:
    made = f"{place}/containers/{ID}"
    os.makedirs(f"{made}/x")
    found = Nursery(place)
    with pytest.raises(OSError), found.made(ID, made):
        pass
    assert not [name for where in found._places for name in os.listdir(where)]
    assert os.listdir(made) == ["x"]


def test_one_place_where_there_are_no_groups(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(25, "not a file system with groups")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    found = Nursery(place)
    with found.made(ID, f"{place}/containers/{ID}"):
        assert os.listdir(found.path) == ["0"]


def test_a_sweep_takes_what_a_killed_process_left_and_nothing_else(place: str) -> None:
    found = Nursery(place)
    with found.made("cd" * 32, f"{place}/containers/{'cd' * 32}"):
        pass
    left, held = (f"{found._place(other)}/{other}" for other in ("ef" * 32, "01" * 32))
    os.makedirs(f"{left}/upper")
    os.makedirs(held)
    with locks.lock(held):
        Nursery(place).sweep()
        assert not os.path.exists(left)
        assert os.path.isdir(held)
    Nursery(place).sweep()
    assert not os.path.exists(held)


def test_sweeps_while_others_make(place: str) -> None:
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            Nursery(place).sweep()

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for number in range(300):
            other = f"{number:04x}" + "0" * 60
            with Nursery(place).made(other, f"{place}/containers/{other}"):
                pass
    finally:
        stop.set()
        sweeper.join()
    assert len(os.listdir(f"{place}/containers")) == 300


def test_a_store_that_was_removed_meanwhile(place: str) -> None:
    found = Nursery(place)
    for name in ("first", "second"):
        with found.made(ID, f"{place}/containers/{name}"):
            pass
        for where in found._places:
            os.rmdir(where)
        os.rmdir(found.path)
    assert nursery.PLACES > 1


def test_a_thread_that_forgets_the_places_disturbs_no_other(place: str) -> None:
    made, several = f"{place}/containers/{ID}", Nursery(place)

    class Slow(str):
        """Another thread's turn comes while its letters are read."""

        def __getitem__(self, index: Any) -> str:
            several._places = []
            return super().__getitem__(index)

    with several.made(Slow(ID), made):
        assert sorted(os.listdir(made)) == ["upper", "work"]
