"""``Engine.pool``: containers prepared ahead, for starts that only have to exec."""

from __future__ import annotations

import collections
import contextlib
import os
import select
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from .container import pool_collect, pool_prepare, pool_take
from .container.merge import process_args
from .container.pool_prepare import Prepared, Recipe
from .errors import FastboxError, InvalidArgument
from .pool_pressure import cost, is_short
from .pool_types import Cancel, PoolStats
from .runner import Result, Run, check_attributes, checked, succeeded

if TYPE_CHECKING:
    from .container.config import ContainerConfig
    from .container.record import Container
    from .engine import Engine

LARGEST = 1024  # containers in a pool
LOOK = 2.0  # seconds between looks at the machine's memory
PAUSES = (0.1, 0.5, 2.0, 5.0, 10.0)  # seconds before the next try, after failures in a row


class _Counts:
    """The counting part of ``PoolStats``."""

    def __init__(self) -> None:
        self.taken = self.missed = self.died = self.drained = self.prepared = self.failed = 0


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
_registered = False


def _leave_all() -> None:
    """In a forked child: its parent's prepared containers are not its own, and must end with the
    parent."""
    for pool in list(_pools):
        pool._leave()


class Pool:
    """Prepared containers of one image and configuration; see ``Engine.pool``, which makes them.

    Its methods may be called from several threads. A process forked from this one cannot use it.
    """

    def __init__(
        self,
        engine: Engine,
        image: str,
        size: int,
        *,
        max_memory: int | None = None,
        pull: str = "missing",
        **config: Any,
    ) -> None:
        self._engine, self._name, self._size = engine, image, _checked_size(size)
        self._max_memory = _checked_memory(max_memory)
        self._config = _checked_config(image, config, size)
        self._options = config
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._looking = threading.Lock()  # one at a time looks whether the image has changed
        self._ready: collections.deque[Prepared] = collections.deque()
        self._counts = _Counts()
        self._each, self._short = 0, ""
        self._error: FastboxError | None = None
        self._failures, self._retry = 0, 0.0
        self._closed, self._owner = False, os.getpid()
        self._mark: tuple[int, ...] = ()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._work, name="fastbox-pool", daemon=True)
        try:
            mark = _mark(engine.root)
            self._recipe = self._find_image(pull)
            self._mark = mark
            self._add(self._prepare())  # what cannot work is told here
            first = self._ready[0]
            self._each = cost((first.pid, first.monitor_pid), len(first.record.networks))
            self._check_limit()
        except BaseException:
            self._empty()
            os.close(self._wake)
            raise
        _remember(self)
        self._thread.start()

    # life ---------------------------------------------------------------------------------------
    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Throw away what is prepared, and wait until nothing of it is left. What was taken goes
        on."""
        if self._owner != os.getpid():
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._empty()
        os.close(self._wake)

    def _leave(self) -> None:
        """Close what a fork has copied, without a word to anybody."""
        self._closed = True
        self._lock = threading.Lock()  # somebody may have held it
        while self._ready:
            self._ready.pop().close()

    def _empty(self) -> int:
        """Throw away all that wait; how many that were."""
        waiting = []
        with contextlib.suppress(IndexError):  # others may take meanwhile
            while True:
                waiting.append(self._ready.popleft())
        pool_prepare.throw_away(self._engine._lifecycle, waiting)
        return len(waiting)

    def _check_open(self) -> None:
        if self._owner != os.getpid():
            raise FastboxError("the pool belongs to the process that made it, not to its children")
        if self._closed:
            raise FastboxError(f"the pool of {self._name} is closed")

    # making -------------------------------------------------------------------------------------
    def _find_image(self, pull: str) -> Recipe:
        engine = self._engine
        with engine._images.lease():
            image, name = engine._image_for(self._name, pull, None, None)
            return Recipe(
                config=self._config,
                image=image,
                image_name=name,
                layers=engine._images.ensure_layers(image),
                cgroup_parent=engine.cgroup_parent,
                driver=engine._images.driver,
            )

    def _prepare(self) -> Prepared:
        engine = self._engine
        with engine._images.lease():
            return pool_prepare.prepare(engine._lifecycle, self._recipe)

    def _add(self, prepared: Prepared) -> None:
        with self._lock:
            self._counts.prepared += 1
            self._ready.append(prepared)
            self._changed.notify_all()

    def _check_limit(self) -> None:
        if self._max_memory is not None and self._max_memory < self._each:
            raise InvalidArgument(
                f"max_memory is {self._max_memory} bytes, but one prepared container takes "
                f"{self._each}"
            )

    @property
    def _target(self) -> int:
        """How many are to be kept now."""
        if self._short or self._closed:
            return 0
        if self._max_memory is None or not self._each:
            return self._size
        return min(self._size, self._max_memory // self._each)

    # the thread that refills --------------------------------------------------------------------
    def _work(self) -> None:
        looked = 0.0
        while not self._closed:
            now = time.monotonic()
            if now - looked >= LOOK:
                looked = now
                self._look_at_memory()
                with contextlib.suppress(FastboxError):  # whoever takes one is told
                    self._check_image()
            self._remove_dead()
            if len(self._ready) < self._target and now >= self._retry:
                self._refill()
                continue
            self._wait()

    def _wait(self) -> None:
        """Until one is taken or dies, or it is time to look."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        for prepared in self._ready.copy():
            with contextlib.suppress(ValueError):  # taken, and closed, meanwhile
                poller.register(prepared.owner, 0)
                poller.register(prepared.order, 0)
        wait = LOOK
        if len(self._ready) < self._target:
            wait = min(wait, max(0.0, self._retry - time.monotonic()))
        poller.poll(wait * 1000)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def _look_at_memory(self) -> None:
        self._short = is_short()
        if self._short:
            self._counts.drained += self._empty()
            with self._lock:
                self._changed.notify_all()  # none is enough now

    def _remove_dead(self) -> None:
        dead = []
        for prepared in self._ready.copy():
            with contextlib.suppress(ValueError):  # taken meanwhile
                if pool_prepare.is_dead(prepared):
                    self._ready.remove(prepared)
                    dead.append(prepared)
        self._counts.died += len(dead)
        pool_prepare.throw_away(self._engine._lifecycle, dead)

    def _refill(self) -> None:
        try:
            self._check_image()
            recipe = self._recipe
            prepared = self._prepare()
        except Exception as error:  # told to whoever takes one
            self._failed(error)
            return
        if recipe is not self._recipe or not self._mark:  # its image was removed meanwhile
            pool_prepare.throw_away(self._engine._lifecycle, [prepared])
            return
        self._error, self._failures = None, 0
        self._add(prepared)

    def _failed(self, error: Exception) -> None:
        self._error = error if isinstance(error, FastboxError) else FastboxError(repr(error))
        self._counts.failed += 1
        self._retry = time.monotonic() + PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        with self._lock:
            self._changed.notify_all()

    def _poke(self) -> None:
        os.eventfd_write(self._wake, 1)

    # taking -------------------------------------------------------------------------------------
    def _check_image(self) -> None:
        """An image that was removed, or another of its name, is used from now on.

        Raises:
            NotFound: it was removed.
        """
        mark = _mark(self._engine.root)
        if mark == self._mark:
            return
        with self._looking:
            try:
                recipe = self._find_image("never")
            except FastboxError:
                self._counts.drained += self._empty()
                self._mark = ()
                raise
            if recipe.image.id != self._recipe.image.id:
                self._recipe = recipe
                self._counts.drained += self._empty()
            self._mark = mark
        self._error, self._retry = None, 0.0
        self._poke()

    def _take(self, begin: Callable[[Prepared], None]) -> Prepared | None:
        """One that ``begin`` could be done with; None if there is none."""
        while True:
            try:
                prepared = self._ready.popleft()
            except IndexError:
                self._counts.missed += 1
                self._poke()
                return None
            try:
                begin(prepared)
            except pool_take.Dead:
                self._counts.died += 1
                pool_prepare.throw_away(self._engine._lifecycle, [prepared])
                continue
            except BaseException:
                pool_take.kill(self._engine._lifecycle, prepared)
                prepared.close()
                raise
            self._counts.taken += 1
            return prepared

    def _request(self, command: list[str] | None, env: Mapping[str, str] | None) -> pool_take.Take:
        image: Any = self._recipe.image.config.get("config") or {}
        config = msgspec.structs.replace(self._config, command=command)
        entries = [f"{key}={value}" for key, value in (env or {}).items()]
        argv = process_args(config, image)
        return pool_take.Take(command=command, argv=argv, env=entries)

    def run(
        self,
        command: Iterable[str] | None = None,
        *,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = False,
        cancel: Cancel | None = None,
    ) -> Result:
        """Run a command in a prepared container, which is removed afterwards; see ``fastbox.run``.
        Where none is ready, an ordinary start takes its place.

        Raises:
            LaunchError: it could not be run. CommandFailed: see ``check``. NotFound: the image was
            removed.
        """
        self._check_open()
        words, data = checked(command, input, env)
        self._check_image()
        request = self._request(words, env)
        job = _Job(self, request, data, timeout, cancel)
        try:
            prepared = self._take(job.begin)
            if prepared is None:
                return self._run_ordinary(words, data, env, timeout, check, cancel)
            found = job.collect(prepared)
        finally:
            job.close()
        result = Result(
            args=request.argv,
            returncode=found.returncode,
            stdout=found.stdout,
            stderr=found.stderr,
            timed_out=found.timed_out,
        )
        return succeeded(result, self._name) if check else result

    def _run_ordinary(
        self,
        command: list[str] | None,
        input: bytes | None,
        env: Mapping[str, str] | None,
        timeout: float | None,
        check: bool,
        cancel: Cancel | None,
    ) -> Result:
        self._check_failures()
        ours = ("auto_remove", "env")
        options = {name: value for name, value in self._options.items() if name not in ours}
        job = Run(self._engine, self._name, command, input=input, env=env, timeout=timeout,
                  check=check, **options)  # fmt: skip
        job.config.env = [*self._config.env, *job.config.env]
        job.prepare("never")
        if cancel is not None:
            cancel.arm(lambda: self._engine.remove(job.container_id, force=True, volumes=True))
        return job.execute()

    def _check_failures(self) -> None:
        """Raises: what keeps the pool from being refilled, if that is so."""
        error = self._error
        if error is not None:
            raise FastboxError(
                f"the pool of {self._name} cannot be refilled: {error.message}", hint=error.hint
            ) from error

    def start(
        self, command: Iterable[str] | None = None, *, env: Mapping[str, str] | None = None
    ) -> Container:
        """Start a prepared container detached. It is removed when it ends, unless the pool was made
        with ``auto_remove=False``.

        Raises:
            LaunchError: the command could not be run. NotFound: the image was removed.
        """
        self._check_open()
        words, _ = checked(command, None, env)
        self._check_image()
        request = self._request(words, env)
        lifecycle = self._engine._lifecycle
        prepared = self._take(lambda one: pool_take.begin(lifecycle, one, request))
        if prepared is None:
            return self._start_ordinary(request)
        try:
            pool_take.finish(lifecycle, prepared)
        finally:
            self._poke()
            prepared.close()
        pool_take.settle(lifecycle, prepared)
        return pool_take.container(lifecycle, prepared)

    def _start_ordinary(self, request: pool_take.Take) -> Container:
        self._check_failures()
        config = msgspec.structs.replace(
            self._config, command=request.command, env=[*self._config.env, *request.env]
        )
        box = self._engine.create(config, pull="never", transient=True)
        try:
            return self._engine.start(box.id)
        except BaseException:
            with contextlib.suppress(FastboxError):
                self._engine.remove(box.id, force=True, volumes=True)
            raise

    def wait(self, timeout: float | None = None) -> bool:
        """Until as many are ready as it keeps now; False: not within ``timeout`` seconds.

        Raises:
            FastboxError: why it cannot be refilled.
        """
        self._check_open()
        with self._lock:
            full = self._changed.wait_for(
                lambda: len(self._ready) >= self._target or self._error is not None, timeout
            )
        self._check_failures()
        return full

    def hand_over(self, send: Callable[[Prepared], None]) -> bool:
        """Give one to another process; False if there is none.

        Args:
            send: sends it; what it raises leaves the prepared one to nobody.
        """
        try:
            self._check_image()
        except FastboxError:
            return False
        prepared = self._take(send)
        if prepared is None:
            return False
        prepared.close()
        self._poke()
        return True

    @property
    def key(self) -> bytes:
        """See ``pool_client.match_key``."""
        from .container.pool_client import match_key

        return match_key(self._config)

    def stats(self) -> PoolStats:
        """What it has and has done."""
        ready, counts = len(self._ready), self._counts
        return PoolStats(
            size=self._size,
            target=self._target,
            ready=ready,
            each=self._each,
            memory=ready * self._each,
            error=str(self._error or ""),
            short=self._short,
            **vars(counts),
        )


class _Job:
    """One ``run``: what it needs open, and what is done in which order."""

    def __init__(
        self,
        pool: Pool,
        request: pool_take.Take,
        data: bytes | None,
        timeout: float | None,
        cancel: Cancel | None,
    ) -> None:
        self._pool, self._timeout = pool, timeout
        self._cancel = cancel.event if cancel is not None else None
        self._lifecycle = pool._engine._lifecycle
        self._collector = pool_collect.Collector(data)
        self._request = request
        request.attached, request.stdin = True, self._collector.stdin
        request.out, request.err = self._collector.out, self._collector.err

    def begin(self, prepared: Prepared) -> None:
        pool_take.begin(self._lifecycle, prepared, self._request)

    def collect(self, prepared: Prepared) -> pool_collect.Collected:
        lifecycle, running = self._lifecycle, _Poking(self._pool)
        self._collector.handed_over()
        try:
            found = self._collector.collect(
                lifecycle, prepared, self._timeout, running, self._cancel
            )
        except FastboxError:
            raise
        except BaseException:  # interrupted: nobody will look after it any more
            pool_take.kill(lifecycle, prepared)
            raise
        finally:
            self._pool._poke()
            prepared.close()
        pool_take.remove_after(lifecycle, prepared)
        return found

    def close(self) -> None:
        self._collector.close()


class _Poking(pool_collect.Running):
    """Once a command runs, there is time to prepare the next."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self._pool = pool

    def __call__(self) -> None:
        super().__call__()
        self._pool._poke()


def _remember(pool: Pool) -> None:
    global _registered
    _pools.add(pool)
    if not _registered:
        os.register_at_fork(after_in_child=_leave_all)
        _registered = True


def _mark(root: str) -> tuple[int, ...]:
    """Changes when a name of the image store does."""
    try:
        found = os.stat(f"{root}/images/index.json")
    except OSError:
        return (0,)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _checked_size(size: object) -> int:
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= LARGEST:
        raise InvalidArgument(f"a pool's size is a number from 1 to {LARGEST}, not {size!r}")
    return size


def _checked_memory(limit: object) -> int | None:
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool) or limit <= 0:
        raise InvalidArgument(f"max_memory is a number of bytes, not {limit!r}")
    return limit


def _checked_config(image: str, config: dict[str, Any], size: int) -> ContainerConfig:
    from .container.config import ContainerConfig
    from .container.create import copy_config

    check_attributes(config)
    made = copy_config(ContainerConfig(image=image, **{"auto_remove": True, **config}))
    pool_prepare.check_config(made, size)
    return made
