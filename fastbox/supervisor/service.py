"""The supervisor's process: an event loop with a task for each container that it looks after.

Files and kernel hold the truth; what is in memory here are only descriptors to wait on and times.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import orjson

from .. import __version__, supervision
from ..container import restarts
from ..container.lifecycle import Lifecycle
from ..container.store import ContainerStore
from ..errors import FastboxError, NotFound
from ..network import firewall, ground, tables
from . import housekeeping, ownership, sealing
from .commands import Commands
from .log import Log
from .pools import Pools
from .watch import Watch

T = TypeVar("T")

SCAN = 10.0  # seconds between looks at all containers, the net below the pokes
SCAN_SHARE = 200  # … and at least so many times as long as a look takes
HOUR = 3600.0
RULES = 2.0  # seconds between looks at the packet filter; twice as many after each that failed …
RULES_MOST = 60.0  # … up to this
THREADS = 4
LAST_WORDS = 10.0  # seconds that starts under way have when it is told to end
MAX_REQUEST = 4096  # bytes
IDLE = 5.0  # seconds after which a client that says nothing is dropped


class Service:
    """One supervisor.

    Args:
        root, runtime: absolute paths of the store.
        lifecycle: of an engine that tells nobody of what it starts.
        pools: what it keeps prepared.
    """

    def __init__(
        self, root: str, runtime: str, lifecycle: Lifecycle, pools: Pools | None = None
    ) -> None:
        self.pools = pools
        self.root = root
        self.runtime = runtime
        self.lifecycle = lifecycle
        self.store: ContainerStore = lifecycle.store
        self.log = Log(f"{root}/supervisor.log")
        self.since = time.time()
        self.watches: dict[str, Watch] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.seen: dict[str, tuple[int, ...]] = {}
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="fastbox-supervisor")
        self.end = asyncio.Event()
        self.commands = Commands(self)

    def note(self, text: str) -> None:
        """A line for the log."""
        self.log.write(text)

    async def in_thread(self, call: Callable[..., T], *args: Any) -> T:
        """Run what blocks."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, call, *args)

    # containers ---------------------------------------------------------------------------------
    def look_at(self, container_id: str) -> None:
        """Somebody started or changed it: look now."""
        watch = self.watches.get(container_id)
        if watch is not None:
            watch.poked.set()
            return
        watch = self.watches[container_id] = Watch(self, container_id)
        task = asyncio.ensure_future(watch.run())
        self.tasks[container_id] = task
        task.add_done_callback(lambda done: self._is_done(container_id, done))

    def _is_done(self, container_id: str, task: asyncio.Task[None]) -> None:
        watch = self.watches.pop(container_id)
        self.tasks.pop(container_id)
        self.seen.pop(container_id, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self.note(f"{container_id[:12]}: internal error: {error!r}")
            self.seen[container_id] = ()  # not at once again: with the next scan
        elif watch.poked.is_set():  # between its last look and now
            self.look_at(container_id)

    def scan(self) -> None:
        """Look for containers that are to be looked after and are not. What has not changed since
        it was found to need nobody is passed over."""
        present = set(self.store.ids())
        for container_id in present:
            if container_id in self.watches:
                continue
            mark = self._mark(container_id)
            if self.seen.get(container_id) == mark:
                continue
            try:
                record = self.store.load_record(container_id)
            except (NotFound, OSError):
                continue
            except FastboxError as error:
                self.note(f"{container_id[:12]} is left alone: {error}")
                self.seen[container_id] = mark
                continue
            if restarts.wants_supervisor(record):
                self.look_at(container_id)
            self.seen[container_id] = mark
        for container_id in self.seen.keys() - present:
            del self.seen[container_id]

    def _mark(self, container_id: str) -> tuple[int, ...]:
        """Changes when the container was started, ended, or changed."""
        directory, runtime = self.store.directory(container_id), self.store.runtime
        files = (f"{directory}/container.json", f"{directory}/exit", f"{directory}/restarts.json",
                 f"{runtime}/{container_id}/state.json")  # fmt: skip
        return tuple(map(_changed, files))

    async def _scan_for_ever(self) -> None:
        pause = SCAN
        while True:
            await asyncio.sleep(pause)
            began = time.monotonic()
            try:
                self.scan()
            except OSError as error:
                self.note(f"looking at the containers failed: {error}")
            pause = max(SCAN, (time.monotonic() - began) * SCAN_SHARE)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUR)
            for line in await self.in_thread(housekeeping.clean, self.root, self.runtime):
                self.note(line)

    async def _serve_commands(self) -> None:
        """Have a command server, unless that is not wanted."""
        from .. import configuration

        try:
            wanted = configuration.load().command_server
        except FastboxError as error:
            self.note(str(error))
            wanted = True
        if wanted:
            await self.commands.run()

    async def _guard_rules(self) -> None:
        """The packet filter's rules are fastbox's, but a reload of the host's firewall may flush
        everything: whenever the filter has changed, it is looked whether they are still there. They
        also depend on whether the filter sees bridged packets."""
        seen = (0, False)
        pause, told = RULES, ""
        while True:
            await asyncio.sleep(pause)
            try:
                seen = await self._guarded_rules(seen)
                pause, told = RULES, ""
            except Exception as error:  # nobody else would learn that the rules are not guarded
                why = str(error) if isinstance(error, (OSError, FastboxError)) else repr(error)
                if why != told:
                    self.note(f"looking at the packet filter failed: {why}")
                pause, told = min(pause * 2, RULES_MOST), why
                if isinstance(error, OSError) and error.errno in tables.ABSENT:
                    pause = HOUR  # there is nothing to guard in this kernel

    async def _guarded_rules(self, seen: tuple[int, bool]) -> tuple[int, bool]:
        """See that the rules are there and fit, if something is not as it was seen; what it was
        before that: what is loaded here is looked at once more, and what is flushed meanwhile."""
        networks = self.lifecycle.networks
        now, bridged = await self.in_thread(_look)
        if now != seen[0] and await self.in_thread(networks.guard):
            self.note("the packet filter's rules were gone: loaded again")
        if bridged is not seen[1]:
            await self.in_thread(ground.update_relayed, networks.networks, networks.host.table)
        return now, bridged

    # the process --------------------------------------------------------------------------------
    async def run(self, listener: socket.socket, ready: Callable[[], None]) -> None:
        """Serve until told to end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end.set)
        server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_REQUEST)
        self.note(f"fastbox {__version__}: started")
        self.scan()
        duties = [asyncio.ensure_future(self._scan_for_ever())]
        duties.append(asyncio.ensure_future(self._keep_house()))
        duties.append(asyncio.ensure_future(self._guard_rules()))
        duties.append(
            asyncio.ensure_future(sealing.seal_for_ever(self.root, self.runtime, self.note))
        )
        if self.pools is not None:
            self.pools.start(self.note)
        duties.append(asyncio.ensure_future(self._serve_commands()))
        gc.collect()
        gc.freeze()
        ready()
        try:
            await self.end.wait()
        finally:
            server.close()
            if self.pools is not None:
                await self.in_thread(self.pools.close)
            duties.pop().cancel()
            await self.commands.stop()
            await self._stop_tasks(duties)
            self.note("ended")

    async def _stop_tasks(self, duties: list[asyncio.Task[None]]) -> None:
        tasks = [*duties, *self.tasks.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_WORDS)
        self.pool.shutdown(wait=False, cancel_futures=True)

    # clients ------------------------------------------------------------------------------------
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if _is_allowed(writer.get_extra_info("socket")):
                data = await asyncio.wait_for(reader.readuntil(b"\n"), IDLE)
                writer.write(orjson.dumps(self._answer(data)) + b"\n")
                await asyncio.wait_for(writer.drain(), IDLE)
        except (OSError, EOFError, ValueError, asyncio.TimeoutError, asyncio.LimitOverrunError):
            pass  # the client's trouble
        finally:
            writer.close()

    def _answer(self, data: bytes) -> dict[str, Any]:
        try:
            request = orjson.loads(data)
        except orjson.JSONDecodeError:
            request = None
        if not isinstance(request, dict):
            return {"error": "the request is no JSON object"}
        if isinstance(request.get("poke"), str):
            self.look_at(request["poke"])
            return {"ok": True}
        if request.get("request") == "status":
            return self.status()
        if request.get("request") == "stop":
            self.end.set()
            return {"ok": True}
        return {"error": "unknown request", "version": __version__}

    def status(self) -> dict[str, Any]:
        """What ``supervisor status`` shows."""
        return {
            "pid": os.getpid(),
            "version": __version__,
            "since": self.since,
            "root": self.root,
            "socket": supervision.socket_path(self.runtime),
            "watched": len(self.watches),
            "probed": sum(watch.checked for watch in self.watches.values()),
            "pools": self.pools.status() if self.pools is not None else [],
            "pools_problem": self.pools.problem if self.pools is not None else "",
            **self.commands.status(),
        }


def _look() -> tuple[int, bool]:
    """What may have changed of the packet filter; some 50 µs."""
    return tables.generation(), firewall.sees_bridged()


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _is_allowed(connection: socket.socket) -> bool:
    """Root, and who runs the supervisor."""
    size = struct.calcsize("3i")
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, uid, _ = struct.unpack("3i", data)
    return uid in (0, os.geteuid())


def main(
    root: str,
    runtime: str,
    lifecycle: Lifecycle,
    ready: Callable[[], None],
    *,
    unasked: bool = False,
    pools: Pools | None = None,
) -> None:
    """Be the supervisor of a store until told to end.

    Args:
        unasked: see ``ownership.Ownership``.
        ready: called when it serves.

    Raises:
        Conflict: there is one.
    """
    import uvloop

    owned = ownership.Ownership(runtime, unasked=unasked)
    listener = None
    try:
        listener = owned.listen()
        loop = uvloop.new_event_loop()
        try:
            loop.run_until_complete(_serve(root, runtime, lifecycle, listener, ready, pools))
        finally:
            loop.close()
    finally:
        ownership.notify("STOPPING=1")
        if listener is not None:
            listener.close()
        with contextlib.suppress(OSError):
            owned.release()


async def _serve(
    root: str, runtime: str, lifecycle: Lifecycle, listener: socket.socket,
    ready: Callable[[], None], pools: Pools | None,
) -> None:  # fmt: skip
    service = Service(root, runtime, lifecycle, pools)
    try:
        await service.run(listener, ready)
    finally:
        service.log.close()
