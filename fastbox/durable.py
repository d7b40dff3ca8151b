"""Files that shall survive a power loss, without anybody waiting for the disk.

A new container's files are complete for every other process at once; that they are on the disk
matters only should the power fail. So they are synced a moment after, by a thread, and not at all
when they are gone by then: a container that lives for milliseconds costs no disk flush. A process
that ends syncs what is left first, so ``fastbox create`` returns with everything on the disk.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import threading
import time

DELAY = 1.0  # seconds

_guard = threading.Condition()
_pending: dict[str, tuple[float, list[str]]] = {}
_thread: threading.Thread | None = None


def later(directory: str, names: list[str]) -> None:
    """Sync these files of a new directory, the directory and the one above it, in a moment.

    Args:
        directory: absolute; names: of files in it.
    """
    global _thread
    with _guard:
        _pending[directory] = (time.monotonic() + DELAY, names)
        if _thread is None:
            _register()
            _thread = threading.Thread(target=_work, name="fastbox-durable", daemon=True)
            _thread.start()


@functools.cache
def _register() -> None:
    atexit.register(flush)
    os.register_at_fork(after_in_child=_leave)


def _leave() -> None:
    """In a forked child: no thread works there, and its parent syncs what is waiting."""
    global _guard, _thread
    _guard, _thread = threading.Condition(), None
    _pending.clear()


def forget(directory: str) -> None:
    """It was removed: nothing needs to be synced."""
    with _guard:
        _pending.pop(directory, None)
        _guard.notify()


def flush() -> None:
    """Sync all that is waiting, now."""
    with _guard:
        waiting = dict(_pending)
        _pending.clear()
    for directory, (_, names) in waiting.items():
        _sync(directory, names)


def _work() -> None:
    global _thread
    with _guard:
        while _pending:
            directory, (when, names) = next(iter(_pending.items()))
            wait = when - time.monotonic()
            if wait > 0:
                _guard.wait(wait)
                continue
            del _pending[directory]
            _guard.release()
            try:
                _sync(directory, names)
            finally:
                _guard.acquire()
        _thread = None


def _sync(directory: str, names: list[str]) -> None:
    """A file that is gone, or a disk that fails (the next write will say so), is passed over."""
    paths = [*(os.path.join(directory, name) for name in names), directory]
    for path in [*paths, os.path.dirname(directory)]:
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
