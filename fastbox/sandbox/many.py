"""``run_many``: many commands, each in a fresh box of its own, so many at once."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from ..errors import FastboxError, InvalidArgument
from . import limits
from .box import Sandbox
from .result import SandboxResult
from .snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

_AHEAD = 4  # results that wait to be taken, for each that is at work


class Job(msgspec.Struct, kw_only=True):
    """One command for ``run_many``.

    Attributes:
        args, input, env, cwd, timeout, output_limit: see ``Sandbox.run``; timeout and output_limit
            0: the box's.
        files: written before, by absolute path.
        collect: a path whose files are to be in the result's ``files``; "" is none.
        image: name, id or ``Snapshot``; None: the one of ``run_many``.
    """

    args: list[str]
    input: bytes | str | None = None
    env: Mapping[str, str] | None = None
    cwd: str | None = None
    timeout: float | None = 0
    output_limit: int | str | None = 0
    files: Mapping[str, Any] = {}
    collect: str = ""
    image: Any = None


Work: TypeAlias = "Job | Iterable[str]"


def run_many(
    jobs: Iterable[Work],
    *,
    image: str | Snapshot | None = None,
    parallel: int | None = None,
    ordered: bool = True,
    **options: Any,
) -> Iterator[SandboxResult]:
    """Run each job in a box of its own, which is gone afterwards.

    A job that could not be run has its error in ``SandboxResult.error`` (``check()`` raises it),
    and the others go on. Should the iterator be closed, or the loop over it be left by an exception
    (KeyboardInterrupt), all that runs is killed and removed.

    Args:
        jobs: ``Job`` or just command lines; taken as they are needed, so there may be no end.
        image: what the boxes are made of.
        parallel: how many at once; None: one for each CPU.
        ordered: in the order of the jobs; False: as they end (``index`` tells which it was).
        options: of each box, see ``Sandbox``.

    Raises:
        InvalidArgument: before anything is made.
    """
    return iter(Many(jobs, image, parallel, ordered, options))


def _workers(parallel: object) -> int:
    if parallel is None:
        return len(os.sched_getaffinity(0))
    if isinstance(parallel, bool) or not isinstance(parallel, int) or parallel < 1:
        raise InvalidArgument(f"parallel={parallel!r} is not a positive number")
    return parallel


class Many:
    """The threads and results of one ``run_many``. Iterate once."""

    def __init__(
        self,
        jobs: Iterable[Work],
        image: str | Snapshot | None,
        parallel: int | None,
        ordered: bool,
        options: dict[str, Any],
    ) -> None:
        workers = _workers(parallel)
        if isinstance(jobs, (str, bytes)):
            raise InvalidArgument("jobs must be a series of jobs, not a text")
        self.make: Callable[..., Sandbox] = Sandbox
        # All boxes have these: what is wrong with them is told now.
        if image is not None:
            Sandbox(image, **options).close()
        self._jobs = enumerate(jobs)
        self._image, self._options = image, options
        self._workers, self._ordered = workers, ordered
        self._cond, self._feeding = threading.Condition(), threading.Lock()
        self._done: dict[int, SandboxResult] = {}
        self._order: deque[int] = deque()  # as they ended
        self._next = self._started = 0
        self._failure: BaseException | None = None
        self._is_at_end = self._is_interrupted = False
        self._cancel = -1
        self._threads: list[threading.Thread] = []

    def __iter__(self) -> Generator[SandboxResult]:
        self._cancel = os.eventfd(0, os.EFD_CLOEXEC)
        try:
            for _ in range(self._workers):
                thread = threading.Thread(target=self._work, name="fastbox-many", daemon=True)
                thread.start()
                self._threads.append(thread)
            while (result := self._take()) is not None:
                yield result
        finally:
            self._end()

    def interrupt(self) -> None:
        """Kill all that runs, and give no more results; for another thread."""
        with self._cond:
            self._is_at_end, self._is_interrupted = True, True
            if self._cancel >= 0:
                os.eventfd_write(self._cancel, 1)
            self._cond.notify_all()

    def _end(self) -> None:
        self.interrupt()
        for thread in self._threads:
            thread.join()
        with self._cond:
            os.close(self._cancel)
            self._cancel = -1

    # ---- whoever takes the results -----------------------------------------------------------

    def _take(self) -> SandboxResult | None:
        """The next result; None: that was all."""
        with self._cond:
            while True:
                found = self._ready()
                if found is not None:
                    self._cond.notify_all()
                    return found
                if self._failure is not None:
                    raise self._failure
                if self._is_interrupted:
                    return None
                if self._is_at_end and self._next == self._started:
                    return None
                self._cond.wait()

    def _ready(self) -> SandboxResult | None:
        if self._ordered:
            result = self._done.pop(self._next, None)
        else:
            result = self._done.pop(self._order.popleft()) if self._order else None
        if result is not None:
            self._next += 1
        return result

    # ---- the threads -------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while (job := self._give()) is not None:
                result = self._run(*job)
                with self._cond:
                    self._done[result.index] = result
                    self._order.append(result.index)
                    self._cond.notify_all()
        except BaseException as error:  # of the iterator of jobs, or our own
            with self._cond:
                self._failure = self._failure or error
                self._is_at_end = True
                self._cond.notify_all()

    def _give(self) -> tuple[int, Work] | None:
        """The next job, once there is room for its result; None: there is none."""
        with self._feeding:
            with self._cond:
                while self._started - self._next >= self._workers * _AHEAD and not self._is_at_end:
                    self._cond.wait()
                if self._is_at_end:
                    return None
            job = next(self._jobs, None)  # which may take its time
            with self._cond:
                if job is None:
                    self._is_at_end = True
                    self._cond.notify_all()
                else:
                    self._started += 1
            return job

    def _run(self, index: int, work: Work) -> SandboxResult:
        args: list[str] = []
        try:
            job = work if isinstance(work, Job) else Job(args=limits.words(work))
            args = limits.words(job.args)
            return msgspec.structs.replace(self._in_a_box(job), index=index)
        except FastboxError as error:
            return SandboxResult(
                args=args, returncode=error.run_exit_code, error=error, index=index
            )

    def _in_a_box(self, job: Job) -> SandboxResult:
        image = self._image if job.image is None else job.image
        if image is None:
            raise InvalidArgument("neither the job nor run_many has an image")
        given: dict[str, Any] = {"timeout": job.timeout, "output_limit": job.output_limit}
        given = {name: value for name, value in given.items() if value != 0}
        with self.make(image, **self._options) as box:
            for path, data in job.files.items():
                box.write(path, data)
            result = box.run(
                job.args, input=job.input, env=job.env, cwd=job.cwd, cancel=self._cancel, **given
            )
            if job.collect:
                result = msgspec.structs.replace(result, files=box.get(job.collect))
            return result
