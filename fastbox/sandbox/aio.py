"""Boxes for asyncio: the same as ``Sandbox`` and ``run_many``, as coroutines.

Each call runs in a thread, where it waits without the GIL; so the event loop never waits, whatever
loop it is.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from ..cancelling import to_its_end, with_event
from .box import DEFAULT, Sandbox
from .many import Many

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..aio import AsyncEngine
    from ..engine import Engine
    from .files import Data, Entry
    from .many import Work
    from .result import SandboxResult
    from .snapshot import Snapshot

T = TypeVar("T")
MAX_THREADS = 64


def _blocking(engine: Engine | AsyncEngine | None) -> Engine | None:
    from ..engine import Engine

    return engine if engine is None or isinstance(engine, Engine) else engine.engine


class AsyncSandbox:
    """``Sandbox`` with the same arguments, results and errors, its methods as coroutines.

        async with fastbox.AsyncSandbox("python", memory="256m", timeout=5) as box:
            result = await box.run(["python3", "-c", code])

    Cancelling ``run`` kills that run; leaving the context, also by a cancellation, removes the box.
    ``snapshot`` gives a ``Snapshot``; ``AsyncSandbox(snapshot)`` is a box of it.

    Args:
        image, options: see ``Sandbox``. max_threads: how many calls may be under way at once.

    Attributes:
        box: the Sandbox.
    """

    def __init__(
        self,
        image: str | Snapshot,
        *,
        engine: Engine | AsyncEngine | None = None,
        max_threads: int = MAX_THREADS,
        **options: Any,
    ) -> None:
        self.box = Sandbox(image, engine=_blocking(engine), **options)
        self._pool = ThreadPoolExecutor(max_threads, thread_name_prefix="fastbox-box")

    @classmethod
    def _of(cls, box: Sandbox) -> Self:
        made = cls.__new__(cls)
        made.box = box
        made._pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="fastbox-box")
        return made

    @property
    def id(self) -> str:
        """The container's; "" before it is made."""
        return self.box.id

    async def _submit(self, call: Callable[..., T], *args: Any, **options: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, functools.partial(call, *args, **options))

    async def _to_its_end(self, call: Callable[[], T]) -> T:
        """What a cancellation must not leave half done."""
        return await to_its_end(self._submit(call))

    async def start(self) -> Self:
        """See ``Sandbox.start``. Cancelled, the box is gone."""
        try:
            await self._to_its_end(self.box.start)
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """See ``Sandbox.close``."""
        try:
            await self._to_its_end(self.box.close)
        finally:
            self._pool.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def run(
        self,
        args: Iterable[str],
        *,
        input: bytes | str | None = None,
        timeout: float | None = DEFAULT,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        output_limit: int | str | None = DEFAULT,
        check: bool = False,
    ) -> SandboxResult:
        """See ``Sandbox.run``; cancelling kills the run."""
        call = functools.partial(
            self.box.run,
            args,
            input=input,
            timeout=timeout,
            env=env,
            cwd=cwd,
            user=user,
            output_limit=output_limit,
            check=check,
        )
        return await with_event(lambda stop: self._submit(call, cancel=stop))

    async def stop(self) -> None:
        """See ``Sandbox.stop``."""
        await self._to_its_end(self.box.stop)

    async def snapshot(self, *, keep_processes: bool = False) -> Snapshot:
        """See ``Sandbox.snapshot``."""
        return await self._to_its_end(
            functools.partial(self.box.snapshot, keep_processes=keep_processes)
        )

    async def fork(self, *, keep_processes: bool = False, **changes: Any) -> Self:
        """See ``Sandbox.fork``."""
        call = functools.partial(self.box.fork, keep_processes=keep_processes, **changes)
        return self._of(await self._to_its_end(call))

    async def write(self, path: str, data: Data, *, mode: int | None = None) -> None:
        """See ``Sandbox.write``."""
        await self._submit(self.box.write, path, data, mode=mode)

    async def read(self, path: str, **options: Any) -> bytes:
        """See ``Sandbox.read``."""
        return await self._submit(self.box.read, path, **options)

    async def list(self, path: str = "/", **options: Any) -> Entries:
        """See ``Sandbox.list``."""
        return await self._submit(self.box.list, path, **options)

    async def exists(self, path: str) -> bool:
        """See ``Sandbox.exists``."""
        return await self._submit(self.box.exists, path)

    async def put(self, tree: str | os.PathLike[str] | Mapping[str, Data], path: str = "/") -> None:
        """See ``Sandbox.put``."""
        await self._submit(self.box.put, tree, path)

    async def get(
        self, path: str, dest: str | os.PathLike[str] | None = None, **options: Any
    ) -> dict[str, bytes] | None:
        """See ``Sandbox.get``."""
        found: dict[str, bytes] | None = await self._submit(
            self.box.get, path, *([] if dest is None else [dest]), **options
        )
        return found


if TYPE_CHECKING:
    Entries = list[Entry]  # "list" is a method above


async def async_run_many(
    jobs: Iterable[Work],
    *,
    image: str | Snapshot | None = None,
    parallel: int | None = None,
    ordered: bool = True,
    engine: Engine | AsyncEngine | None = None,
    **options: Any,
) -> AsyncIterator[SandboxResult]:
    """See ``run_many``. Cancelling whoever waits for a result, or closing the iterator
    (``aclose``), kills and removes all that runs."""
    loop = asyncio.get_running_loop()
    many = Many(jobs, image, parallel, ordered, {**options, "engine": _blocking(engine)})
    results = iter(many)
    with ThreadPoolExecutor(1, thread_name_prefix="fastbox-many") as pool:
        try:
            while True:
                following = loop.run_in_executor(pool, next, results, None)
                result = await to_its_end(following, many.interrupt)
                if result is None:
                    return
                yield result
        finally:
            many.interrupt()
            await to_its_end(loop.run_in_executor(pool, results.close))
