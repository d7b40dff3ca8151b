"""Work in a thread, awaited by a task that may be cancelled. asyncio would let go of the thread
then, which would go on with whatever it has in hand."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def to_its_end(work: Awaitable[T], stop: Callable[[], object] | None = None) -> T:
    """Await work. Cancelled, it is waited for all the same, and nobody hears how it ended.

    Args:
        stop: called when cancelled, so that the work ends soon.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if stop is not None:
            stop()
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):  # a second one ends nothing sooner
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # asked for, so that asyncio does not complain
        raise


async def with_event(submit: Callable[[int], Awaitable[T]]) -> T:
    """The same of work that ends when the descriptor that it is given becomes readable."""
    stop = os.eventfd(0, os.EFD_CLOEXEC)
    try:
        return await to_its_end(submit(stop), lambda: os.eventfd_write(stop, 1))
    finally:
        os.close(stop)
