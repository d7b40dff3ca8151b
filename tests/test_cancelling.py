"""Work in threads that is awaited by a task which is cancelled."""

import asyncio
import os
import select
import threading

import pytest

from fastbox.cancelling import to_its_end, with_event
from fastbox.errors import Conflict


def test_a_second_cancellation_waits_for_the_thread_too() -> None:
    async def main() -> None:
        begun, go_on, asked = asyncio.Event(), threading.Event(), asyncio.Event()
        loop, ended = asyncio.get_running_loop(), []

        def work() -> None:
            loop.call_soon_threadsafe(begun.set)
            go_on.wait(10)
            ended.append(True)
            raise Conflict("cancelled")  # nobody is to hear of it

        task = asyncio.create_task(to_its_end(asyncio.to_thread(work), asked.set))
        await begun.wait()
        task.cancel()
        await asked.wait()
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended

    asyncio.run(main())


def test_work_is_told_by_an_event_and_its_descriptor_is_closed() -> None:
    async def main() -> None:
        begun, given = asyncio.Event(), []
        loop = asyncio.get_running_loop()

        def work(stop: int) -> None:
            given.append(os.readlink(f"/proc/self/fd/{stop}"))
            loop.call_soon_threadsafe(begun.set)
            assert select.select([stop], [], [], 10)[0]
            given.append(stop)

        task = asyncio.create_task(with_event(lambda stop: asyncio.to_thread(work, stop)))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "eventfd" in given[0]
        with pytest.raises(OSError):
            os.fstat(given[1])

    asyncio.run(main())


def test_what_work_raises_is_raised() -> None:
    async def main() -> None:
        def work() -> None:
            raise Conflict("no")

        with pytest.raises(Conflict):
            await to_its_end(asyncio.to_thread(work))

    asyncio.run(main())
