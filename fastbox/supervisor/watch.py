"""Looking after one container: a task that waits for the end of a run, decides, starts it again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING

from ..container import health, process, restarts
from ..container.record import Container
from ..errors import FastboxError, NotFound
from .checks import Checks

if TYPE_CHECKING:
    from .service import Service

LATER = 0.05  # seconds until something is tried again that somebody else stands in the way of
AT_MOST = 1.0  # … growing to this


class Watch:
    """One container's task. It ends when there is nothing to look after any more: the container is
    gone, was stopped, or has neither policy nor health check."""

    def __init__(self, service: Service, container_id: str) -> None:
        self.service = service
        self.id = container_id
        self.poked = asyncio.Event()
        self.ended: float | None = None  # when the end was seen, CLOCK_BOOTTIME
        self.delay = LATER
        self.checked = False  # whether probes run

    async def run(self) -> None:
        """Until there is nothing to do."""
        while True:
            self.poked.clear()
            try:
                box = self.service.store.load(self.id)
                if not restarts.wants_supervisor(box.record):
                    return
                if box.state.status.is_up:
                    await self._attend(box)
                elif not await self._follow(box):
                    return
            except (NotFound, FileNotFoundError):
                return
            except FastboxError as error:
                self.service.note(f"{self.id[:12]}: {error}")
                return
            except OSError as error:
                self.service.note(f"{self.id[:12]}: {error}")
                await self._wait_a_little()

    # up -----------------------------------------------------------------------------------------
    async def _attend(self, box: Container) -> None:
        """Until the run has ended, or has become somebody else's."""
        state = box.state
        pidfd = process.open_pidfd(state.pid, state.pid_starttime)
        if pidfd is None:  # it has ended, its record is about to come
            if self.ended is None:
                self.ended = time.clock_gettime(time.CLOCK_BOOTTIME)
            await self._wait_a_little(0.002)
            return
        self.ended, self.delay = None, LATER
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(pidfd, ended.set)
        checks = asyncio.ensure_future(self._check(box)) if health.is_probed(box.record) else None
        try:
            while not await self._either(ended):
                if not self._is_still_wanted(state.run):
                    return
            self.ended = time.clock_gettime(time.CLOCK_BOOTTIME)
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            if checks is not None:
                checks.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await checks

    async def _check(self, box: Container) -> None:
        self.checked = True
        try:
            await Checks(self.service, box).run()
        except (FastboxError, OSError) as error:
            self.service.note(f"{self.id[:12]}: its health check ended: {error}")
        finally:
            self.checked = False

    async def _either(self, ended: asyncio.Event) -> bool:
        """Wait for the end, or a poke: whether it has ended."""
        waits = [asyncio.ensure_future(event.wait()) for event in (ended, self.poked)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self.poked.clear()
        return ended.is_set()

    def _is_still_wanted(self, run: int) -> bool:
        box = self.service.store.load(self.id)
        return box.state.run == run and restarts.wants_supervisor(box.record)

    # not up -------------------------------------------------------------------------------------
    async def _follow(self, box: Container) -> bool:
        """Start it again, when its policy says so and the time has come; False if it is done."""
        try:
            plan = restarts.settle(self.service.store, self.id, ended=self.ended)
            if plan is None:  # up again, or it has no policy
                await self._wait_a_little()
                return box.record.config.restart.is_set
            if not plan.pending or restarts.is_stopped(self.service.store, self.id):
                return False
            left = min(plan.due - time.monotonic(), restarts.MAX_DELAY)
            if left > 0:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self.poked.wait(), left)
                if self.poked.is_set():
                    return True
            if not await self._start(plan.run):
                await self._wait_a_little()
        except BlockingIOError:  # a command is at work on it
            await self._wait_a_little()
        return True

    async def _start(self, after_run: int) -> bool:
        service = self.service
        try:
            started = await service.in_thread(service.lifecycle.start_again, self.id, after_run)
        except (BlockingIOError, NotFound, FileNotFoundError):
            raise
        except (FastboxError, OSError) as error:
            service.note(f"{self.id[:12]}: restarting it failed: {error}")
            restarts.settle(service.store, self.id, failed=True)
            return True
        if started:
            self.ended = None
            service.note(f"{self.id[:12]}: restarted after run {after_run}")
        return started

    async def _wait_a_little(self, seconds: float = 0.0) -> None:
        if seconds:
            self.delay = seconds
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.poked.wait(), self.delay)
        self.delay = min(self.delay * 2, AT_MOST)
