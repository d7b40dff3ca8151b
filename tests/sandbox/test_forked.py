"""Processes that are forked while there is a box (``multiprocessing``): it is not theirs, and they
hold nothing of it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import fastbox
from fastbox import durable, locks
from fastbox.errors import FastboxError

if TYPE_CHECKING:
    import pytest

    from fastbox.engine import Engine


@contextlib.contextmanager
def child(work: Callable[[], bytes] = lambda: b"") -> Iterator[bytes]:
    """A forked process, which lives until the context is left; what ``work`` gave there."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            signal.alarm(60)
            os.write(writer, work())
            os.close(writer)
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    try:
        with open(reader, "rb") as answer:
            yield answer.read()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_box_is_not_the_childs(engine: Engine, busybox_image: str) -> None:
    box = fastbox.Sandbox(busybox_image, engine=engine).start()

    def use() -> bytes:
        for call in (
            lambda: box.run(["true"]),
            lambda: box.write("/file", b""),
            box.snapshot,
            box.stop,
            box.start,
        ):
            try:
                call()
            except FastboxError as error:
                assert "belongs to the process that made it" in str(error)
            else:
                return b"it could"
        box.close()
        with fastbox.Sandbox(busybox_image, engine=engine) as own:
            return own.run(["echo", "own"]).stdout

    with child(use) as answer:
        assert answer == b"own\n"
        assert box.run(["echo", "here"]).stdout == b"here\n"
        box.close()  # the child, which still lives, does not hold it up
        assert not os.listdir(f"{engine.root}/containers")


def test_a_child_holds_no_lock(tmp_path: os.PathLike[str]) -> None:
    with contextlib.ExitStack() as stack:
        with locks.lock(str(tmp_path)):
            stack.enter_context(child())
        with locks.lock(str(tmp_path), blocking=False):
            pass


def test_a_child_has_no_lease(engine: Engine, busybox_image: str) -> None:
    store = engine._images

    def lease() -> bytes:
        with store.lease():
            return b"%d" % store._leases

    with contextlib.ExitStack() as stack:
        with store.lease():
            assert stack.enter_context(child(lease)) == b"1"
        with store.exclusive() as mine:
            assert mine


def test_a_child_syncs_by_itself(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    durable.later(str(tmp_path), [])

    def again() -> bytes:
        assert durable._thread is None and not durable._pending
        durable.later(str(tmp_path), [])
        return b"%d" % (durable._thread is not None)

    with child(again) as answer:
        assert answer == b"1"
    durable.forget(str(tmp_path))
