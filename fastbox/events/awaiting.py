"""The event stream for asyncio: the loop itself waits, no thread does."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ..watch import POLL
from .event import Event
from .stream import EventStream


async def follow(stream: EventStream) -> AsyncIterator[Event]:
    """The events of a stream, which is closed in the end."""
    import asyncio

    with stream:
        while True:
            over = stream.over  # asked before reading: what happened until then is in the file
            block = stream.poll()
            if block is None:
                if over:
                    return
                await _changed(stream)
                continue
            for event in block:
                yield event
            # A long journal of which little is asked for shall not stop everything else.
            await asyncio.sleep(0)


async def _changed(stream: EventStream) -> None:
    """Until there may be more, or the stream is over."""
    import asyncio

    fd, remaining = stream.fileno(), stream.remaining
    if fd < 0:
        await asyncio.sleep(POLL if remaining is None else min(POLL, remaining))
        return
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(fd, readable.set)
    try:
        await asyncio.wait_for(readable.wait(), remaining)
    except asyncio.TimeoutError:
        pass
    finally:
        loop.remove_reader(fd)
    stream.drain()
