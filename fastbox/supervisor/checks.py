"""The health check of one run of a container: probes at their times, and what they amount to."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from ..container import health
from ..container.record import Container, Probe
from ..errors import FastboxError
from ..oci import times
from .probe import Probing, Spawned, spawn

if TYPE_CHECKING:
    from .service import Service

SHORTEST_PAUSE = 0.02  # seconds: an image may ask for a probe each millisecond
PAUSED = 0.2  # seconds between looks whether a paused container goes on


class Checks:
    """Probes a container until cancelled."""

    def __init__(self, service: Service, box: Container) -> None:
        assert box.record.healthcheck is not None
        self.service, self.box = service, box
        self.check = box.record.healthcheck
        self.argv = health.command(box.record)
        self.timeout = (self.check.timeout or health.TIMEOUT) / 1e9
        _, ticks = service.store.init(box.id)
        self.started = ticks / os.sysconf("SC_CLK_TCK")
        self.known = health.load(service.store, box.id, box.state.run)

    def up_for(self) -> float:
        """Seconds since the container was started, whatever the wall clock did."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.started

    async def run(self) -> None:
        """For ever."""
        while True:
            pause = health.next_interval(self.check, self.known.status, self.up_for())
            await asyncio.sleep(max(pause, SHORTEST_PAUSE))
            if self._is_paused():
                while self._is_paused():
                    await asyncio.sleep(PAUSED)
                continue  # the time counts from here
            up_for, start = self.up_for(), times.now()
            code, text = await self._probe()
            if code != 0 and self._is_paused():
                continue  # it could not go on, which says nothing
            self._note(Probe(start=start, end=times.now(), exit_code=code, output=text), up_for)

    def _is_paused(self) -> bool:
        return os.path.exists(self.service.store.pause_mark(self.box.id))

    async def _probe(self) -> tuple[int, str]:
        """(exit code, output)"""
        service = self.service
        spawning = asyncio.ensure_future(
            service.in_thread(spawn, service.lifecycle, self.box, self.argv)
        )
        try:
            spawned = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            spawning.add_done_callback(self._abandon)
            raise
        except (FastboxError, OSError) as error:
            return -1, str(error)
        probing = Probing(service.lifecycle, self.box, spawned)
        try:
            status = await probing.wait(self.timeout)
        except FastboxError as error:
            return -1, str(error)
        if status is None:
            late = f"Health check exceeded timeout ({go_duration(self.timeout)})"
            return -1, f"{late}: {probing.output}" if probing.output else late
        return status, probing.output

    def _abandon(self, spawning: asyncio.Future[Spawned]) -> None:
        """The container ended while a probe was being started."""
        if not spawning.cancelled() and spawning.exception() is None:
            Probing(self.service.lifecycle, self.box, spawning.result()).close()

    def _note(self, probe: Probe, up_for: float) -> None:
        before = self.known.status
        self.known = health.note(self.known, self.check, probe, up_for)
        try:
            health.save(self.service.store, self.box.id, self.known)
        except OSError as error:
            self.service.note(f"{self.box.short_id}: storing its health failed: {error}")
        if self.known.status != before:
            self.service.note(f"{self.box.short_id}: {self.known.status}")
            action = f"health_status: {self.known.status}"
            self.service.store.journal.container(action, self.box.record)


def go_duration(seconds: float) -> str:
    """``1m30s``, ``500ms``: as Go prints a duration."""
    if seconds < 1:
        return f"{seconds * 1000:.6g}ms"
    minutes, rest = divmod(round(seconds, 9), 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:.9g}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text
