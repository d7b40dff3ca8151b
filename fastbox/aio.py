"""AsyncEngine: the engine's verbs as coroutines.

Each call runs in a thread of the engine's own pool (the work is system calls that block without the
GIL), so the event loop never waits, whatever loop it is.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from .cancelling import to_its_end, with_event
from .engine import Engine

if TYPE_CHECKING:
    from .aio_pool import AsyncPool
    from .container.copy import Archive
    from .container.logs import LogLine
    from .events.event import Event
    from .runner import Result

P = ParamSpec("P")
T = TypeVar("T")


def _coroutine(
    method: Callable[Concatenate[Engine, P], T],
) -> Callable[Concatenate[AsyncEngine, P], Coroutine[Any, Any, T]]:
    async def call(self: AsyncEngine, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._submit(functools.partial(method, self.engine, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call


class AsyncArchive:
    """``Archive`` (see ``Engine.copy_from``) for asyncio: ``async with``, ``async for``, ``read``.

    Attributes:
        stat: what the path is.
    """

    def __init__(
        self, archive: Archive, submit: Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]]
    ) -> None:
        self.stat = archive.stat
        self._archive = archive
        self._submit = submit

    async def read(self, size: int = -1) -> bytes:
        data: bytes = await self._submit(functools.partial(self._archive.read, size))
        return data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.read(1 << 18):
            yield piece

    async def close(self) -> None:
        await self._submit(self._archive.close)

    async def __aenter__(self) -> AsyncArchive:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


class AsyncEngine:
    """The same verbs as ``Engine``, with the same arguments, results and errors, as coroutines.

    Use it as ``async with AsyncEngine() as engine`` or call ``close`` in the end. Cancelling
    ``run`` or ``run_attached`` kills the container; cancelling anything else lets it finish in its
    thread.

    Args:
        root, runtime_dir: see ``Engine``.
        max_threads: how many calls may be under way at once; a running container that is waited
            for takes one.
    """

    def __init__(
        self,
        root: str | None = None,
        runtime_dir: str | None = None,
        *,
        max_threads: int = 128,
    ) -> None:
        self.engine = Engine(root, runtime_dir)
        self._pool = ThreadPoolExecutor(max_threads, thread_name_prefix="fastbox")

    async def __aenter__(self) -> AsyncEngine:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads, once their calls have ended."""
        self._pool.shutdown(wait=False)

    async def _submit(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    pull = _coroutine(Engine.pull)
    pull_all = _coroutine(Engine.pull_all)
    search = _coroutine(Engine.search)
    images = _coroutine(Engine.images)
    image = _coroutine(Engine.image)
    tag = _coroutine(Engine.tag)
    remove_image = _coroutine(Engine.remove_image)
    prune_images = _coroutine(Engine.prune_images)
    import_image = _coroutine(Engine.import_image)
    save = _coroutine(Engine.save)
    load = _coroutine(Engine.load)
    bootstrap = _coroutine(Engine.bootstrap)
    commit = _coroutine(Engine.commit)
    check_platform = _coroutine(Engine.check_platform)
    history = _coroutine(Engine.history)
    settle_images = _coroutine(Engine.settle_images)
    push = _coroutine(Engine.push)
    login = _coroutine(Engine.login)
    logout = _coroutine(Engine.logout)
    inspect_manifest = _coroutine(Engine.inspect_manifest)
    create = _coroutine(Engine.create)
    start = _coroutine(Engine.start)
    containers = _coroutine(Engine.containers)
    container = _coroutine(Engine.container)
    top = _coroutine(Engine.top)
    stats = _coroutine(Engine.stats)
    exec = _coroutine(Engine.exec)
    stop = _coroutine(Engine.stop)
    restart = _coroutine(Engine.restart)
    kill = _coroutine(Engine.kill)
    pause = _coroutine(Engine.pause)
    unpause = _coroutine(Engine.unpause)
    update = _coroutine(Engine.update)
    rename = _coroutine(Engine.rename)
    stat_path = _coroutine(Engine.stat_path)
    copy_to = _coroutine(Engine.copy_to)
    copy_out = _coroutine(Engine.copy_out)
    copy_in = _coroutine(Engine.copy_in)
    changes = _coroutine(Engine.changes)
    export = _coroutine(Engine.export)
    remove = _coroutine(Engine.remove)
    prune_containers = _coroutine(Engine.prune_containers)
    wait = _coroutine(Engine.wait)
    cleanup = _coroutine(Engine.cleanup)
    inspect_container = _coroutine(Engine.inspect_container)
    inspect_image = _coroutine(Engine.inspect_image)
    inspect_volume = _coroutine(Engine.inspect_volume)
    create_volume = _coroutine(Engine.create_volume)
    volumes = _coroutine(Engine.volumes)
    remove_volume = _coroutine(Engine.remove_volume)
    prune_volumes = _coroutine(Engine.prune_volumes)
    networks = _coroutine(Engine.networks)
    network = _coroutine(Engine.network)
    create_network = _coroutine(Engine.create_network)
    remove_network = _coroutine(Engine.remove_network)
    prune_networks = _coroutine(Engine.prune_networks)
    connect_network = _coroutine(Engine.connect_network)
    disconnect_network = _coroutine(Engine.disconnect_network)
    network_containers = _coroutine(Engine.network_containers)
    inspect_network = _coroutine(Engine.inspect_network)
    networking = _coroutine(Engine.networking)
    network_obstacles = _coroutine(Engine.network_obstacles)
    start_supervisor = _coroutine(Engine.start_supervisor)
    stop_supervisor = _coroutine(Engine.stop_supervisor)
    supervisor_status = _coroutine(Engine.supervisor_status)
    check = _coroutine(Engine.check)
    prune_system = _coroutine(Engine.prune_system)
    system_df = _coroutine(Engine.system_df)
    info = _coroutine(Engine.info)
    version = _coroutine(Engine.version)

    def events(
        self,
        since: float | str | None = None,
        until: float | str | None = None,
        filters: dict[str, list[str]] | None = None,
    ) -> AsyncIterator[Event]:
        """See ``Engine.events``. It takes no thread while it waits, and ends when it is cancelled
        or closed (``aclose``)."""
        from .events.awaiting import follow

        return follow(self.engine.events(since, until, filters))

    async def run_attached(
        self,
        container: str,
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        detach_keys: str | None = None,
    ) -> int:
        """See ``Engine.run_attached``; cancelling kills the container."""
        call = functools.partial(
            self.engine.run_attached,
            container,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            detach_keys=detach_keys,
        )
        return await self._killing(self._submit(call), container)

    async def attach(
        self,
        container: str,
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        detach_keys: str | None = None,
    ) -> int:
        """See ``Engine.attach``; cancelling leaves the container, which goes on."""
        call = functools.partial(
            self.engine.attach,
            container,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            detach_keys=detach_keys,
        )
        return await with_event(lambda stop: self._submit(functools.partial(call, cancel=stop)))

    async def run(
        self,
        image: str,
        command: Iterable[str] | None = None,
        *,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = False,
        pull: str = "missing",
        **config: Any,
    ) -> Result:
        """See ``fastbox.run``; cancelling kills the container and removes it."""
        from .runner import Run

        job = Run(
            self.engine,
            image,
            command,
            input=input,
            env=env,
            timeout=timeout,
            check=check,
            **config,
        )
        await self._submit(functools.partial(job.prepare, pull))
        return await self._killing(self._submit(job.execute), job.container_id)

    def pool(
        self, image: str, size: int, *, max_memory: int | None = None, **config: Any
    ) -> AsyncPool:
        """See ``Engine.pool``; ``async with engine.pool(…) as pool``."""
        from .aio_pool import AsyncPool

        make = functools.partial(self.engine.pool, image, size, max_memory=max_memory, **config)
        return AsyncPool(make, self._submit)

    async def _killing(self, call: Coroutine[Any, Any, T], container: str) -> T:
        return await to_its_end(call, lambda: self._pool.submit(self.engine.kill, container))

    async def copy_from(
        self, container: str, path: str, *, follow_link: bool = False
    ) -> AsyncArchive:
        """See ``Engine.copy_from``."""
        call = functools.partial(self.engine.copy_from, container, path, follow_link=follow_link)
        return AsyncArchive(await self._submit(call), self._submit)

    async def logs(
        self,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> AsyncIterator[LogLine]:
        """See ``Engine.logs``."""
        lines = self.engine.logs(container, follow=follow, tail=tail, since=since, until=until)
        end = object()
        while True:
            line: Any = await self._submit(functools.partial(next, lines, end))
            if line is end:
                return
            yield line
