"""``AsyncEngine.pool``: a pool's methods as coroutines."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .cancelling import to_its_end
from .pool import Pool
from .pool_types import Cancel

if TYPE_CHECKING:
    from .container.record import Container
    from .pool_types import PoolStats
    from .runner import Result

T = TypeVar("T")
Submit = Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]]


class AsyncPool:
    """See ``Pool``. ``async with engine.pool(…) as pool`` makes it and, in the end, closes it.

    Args:
        make: makes the pool, which blocks. submit: runs what blocks in a thread.
    """

    def __init__(self, make: Callable[[], Pool], submit: Submit) -> None:
        self._make, self._submit = make, submit
        self._made: Pool | None = None

    async def __aenter__(self) -> AsyncPool:
        making = asyncio.ensure_future(self._submit(self._make))
        try:
            self._made = await to_its_end(making)
        except asyncio.CancelledError:
            if making.exception() is None:
                await self._submit(making.result().close)
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def _pool(self) -> Pool:
        if self._made is None:
            raise RuntimeError("the pool is used before `async with`")
        return self._made

    async def close(self) -> None:
        """See ``Pool.close``."""
        if self._made is not None:
            await self._submit(self._made.close)

    async def run(
        self,
        command: Iterable[str] | None = None,
        *,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = False,
    ) -> Result:
        """See ``Pool.run``; cancelling kills the container and removes it."""
        cancel = Cancel()
        call = functools.partial(
            self._pool.run,
            command,
            input=input,
            env=env,
            timeout=timeout,
            check=check,
            cancel=cancel,
        )
        try:
            result: Result = await to_its_end(self._submit(call), cancel)
            return result
        finally:
            cancel.close()

    async def start(
        self, command: Iterable[str] | None = None, *, env: Mapping[str, str] | None = None
    ) -> Container:
        """See ``Pool.start``."""
        box: Container = await self._submit(functools.partial(self._pool.start, command, env=env))
        return box

    async def wait(self, timeout: float | None = None) -> bool:
        """See ``Pool.wait``."""
        full: bool = await self._submit(functools.partial(self._pool.wait, timeout))
        return full

    def stats(self) -> PoolStats:
        """See ``Pool.stats``."""
        return self._pool.stats()
