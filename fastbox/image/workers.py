"""Several transfers at once: one thread each, their progress told in the caller's thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable

from ..errors import FastboxError, StoreError
from ..registry.guard import Cancelled, Guard
from .progress import ProgressEvent

_JOIN_SECONDS = 30.0

Emit = Callable[[ProgressEvent], None]
Progress = Callable[[ProgressEvent], None]


class Workers:
    """Runs jobs in threads.

    Args:
        guard: cancelled as soon as one job fails, or the caller is interrupted.
        progress: told what jobs ``emit``, in the thread that calls ``run``.
        what: ``"push redis:7"``, for messages.
    """

    def __init__(self, guard: Guard, progress: Progress | None, what: str) -> None:
        self._guard = guard
        self._progress = progress
        self._what = what
        self._events: queue.SimpleQueue[ProgressEvent | BaseException | None] = queue.SimpleQueue()

    def emit(self, event: ProgressEvent) -> None:
        """Tell progress, from any thread."""
        if self._progress is not None:
            self._events.put(event)

    def run(self, jobs: Iterable[Callable[[], None]], most: int) -> None:
        """Run all jobs, ``most`` at once, begun in their order.

        Raises:
            FastboxError: the first failure, once all threads have ended.
            BaseException: what progress raises, the same.
        """
        waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        for job in jobs:
            waiting.put(job)
        threads = [
            threading.Thread(
                target=self._work, args=(waiting,), name=f"fastbox-transfer-{n}", daemon=True
            )
            for n in range(min(most, waiting.qsize()))
        ]
        try:
            for thread in threads:
                thread.start()
            failure = self._wait(len(threads))
        except BaseException:
            self._guard.cancel()
            raise
        finally:
            for thread in threads:
                if thread.ident is not None:
                    thread.join(_JOIN_SECONDS)
        if isinstance(failure, FastboxError):
            raise failure
        if failure is not None:
            raise StoreError(f"cannot {self._what}: {failure}") from failure

    def _work(self, waiting: queue.SimpleQueue[Callable[[], None]]) -> None:
        try:
            while not self._guard.cancelled:
                try:
                    job = waiting.get_nowait()
                except queue.Empty:
                    break
                job()
            self._events.put(None)
        except BaseException as error:
            self._events.put(error)

    def _wait(self, running: int) -> BaseException | None:
        """Until all threads have ended; the first failure that is not only a consequence."""
        failure: BaseException | None = None
        while running:
            event = self._events.get()
            if isinstance(event, ProgressEvent):
                if self._progress is not None and failure is None:
                    self._progress(event)
                continue
            running -= 1
            if event is not None and (failure is None or isinstance(failure, Cancelled)):
                failure = event
                self._guard.cancel()
        return failure
