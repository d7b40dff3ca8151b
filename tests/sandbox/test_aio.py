"""Boxes in asyncio: the same results, and what a cancellation ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import pytest

import fastbox

if TYPE_CHECKING:
    from fastbox.engine import Engine


def run(main: Coroutine[Any, Any, None], engine: Engine) -> None:
    asyncio.run(main)
    assert os.listdir(f"{engine.root}/containers") == []


def test_the_same_as_coroutines(engine: Engine, busybox_image: str, tmp_path: Any) -> None:
    async def main() -> None:
        async with fastbox.AsyncSandbox(busybox_image, engine=engine) as box:
            await box.write("/x", b"1")
            await box.put({"a/b": "2"}, "/tree")
            results = await asyncio.gather(*(box.run(["cat", "/x"]) for _ in range(10)))
            assert [result.stdout for result in results] == [b"1"] * 10
            assert (await box.read("/x"), await box.get("/tree")) == (b"1", {"a/b": b"2"})
            assert await box.exists("/x") and len(await box.list("/tree")) == 1
            await box.get("/tree", tmp_path)
            assert (tmp_path / "a" / "b").read_text() == "2"
            other = await box.fork()
            async with other:
                assert (await other.run(["cat", "/x"], check=True)).text == "1"
                await other.stop()
                with await other.snapshot() as snapshot:
                    async with fastbox.AsyncSandbox(snapshot, timeout=0.1) as third:
                        assert (await third.run(["sleep", "1000"])).timed_out
            with pytest.raises(fastbox.FastboxError):
                await box.run(["no-such-program"])

    run(main(), engine)


def test_cancelling_a_run_kills_that_run(engine: Engine, busybox_image: str) -> None:
    async def main() -> None:
        async with fastbox.AsyncSandbox(busybox_image, engine=engine) as box:
            going_on = asyncio.ensure_future(box.run(["sh", "-c", "sleep 0.5; echo done"]))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(box.run(["sleep", "1000"]), 0.2)
            left = await box.run(["sh", "-c", "cat /proc/[0-9]*/cmdline"])
            assert b"1000" not in left.stdout and b"0.5" in left.stdout
            assert (await going_on).text == "done\n"

    run(main(), engine)


def test_cancelling_the_context_removes_the_box(engine: Engine, busybox_image: str) -> None:
    async def work() -> None:
        async with fastbox.AsyncSandbox(busybox_image, engine=engine) as box:
            await box.run(["sh", "-c", "sleep 1000 & sleep 1000"])

    async def main() -> None:
        for seconds in (0.0, 0.003, 0.01, 0.3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(work(), seconds)

    run(main(), engine)


def test_many(engine: Engine, busybox_image: str) -> None:
    async def main() -> None:
        jobs = [["echo", str(n)] for n in range(6)]
        options: dict[str, Any] = {"image": busybox_image, "engine": engine, "parallel": 2}
        texts = [result.text async for result in fastbox.async_run_many(jobs, **options)]
        assert texts == [f"{n}\n" for n in range(6)]

        async def endless() -> None:
            async for _ in fastbox.async_run_many([["sleep", "1000"]] * 4, **options):
                raise AssertionError("one has ended")

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(endless(), 0.3)

    run(main(), engine)
