"""The command server's socket and its master process, for as long as the supervisor lives: started
again when it ends, told to end with us. What it does is no business of the supervisor's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any

from .. import supervision
from ..sockets import bound, end_listening
from . import board

if TYPE_CHECKING:
    from .service import Service

PAUSE = 0.1  # seconds until a master that has ended is started again, doubled each time …
LONGEST = 60.0
LASTED = 10.0  # … and from the beginning after one that has lived so long
LAST_WORDS = 5.0


class Commands:
    """The command server of a store."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._runtime = service.runtime
        self._board: board.Board | None = None
        self._served = 0  # by masters that have ended
        self._listener: socket.socket | None = None
        self._life = -1
        self._process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Until cancelled."""
        loop, pause = asyncio.get_running_loop(), PAUSE
        while True:
            began = loop.time()
            try:
                await self._start()
                assert self._process is not None
                status = await self._process.wait()
                self._service.note(f"the command server ended with status {status}")
            except OSError as error:
                self._service.note(f"starting the command server failed: {error}")
            self._close()
            if loop.time() - began > LASTED:
                pause = PAUSE
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST)

    def status(self) -> dict[str, Any]:
        """How many workers it has, and how many commands they have run."""
        page = self._board
        return {
            "workers": len(page.pids()) if page else 0,
            "commands": self._served + (page.served if page else 0),
        }

    async def stop(self) -> None:
        """End it: idle workers are gone then, others finish what they do."""
        process = self._process
        self._close()
        if process is not None and process.returncode is None:
            try:
                await asyncio.wait_for(process.wait(), LAST_WORDS)
            except asyncio.TimeoutError:
                process.kill()
                await process.wait()

    async def _start(self) -> None:
        # Only bound: the master listens when it has workers.
        path = supervision.command_socket_path(self._runtime)
        self._listener = bound(path, socket.SOCK_SEQPACKET)
        life, self._life = os.pipe2(os.O_CLOEXEC)
        page = board.create()  # its own: what a dead one's workers still write does not matter
        self._board = board.Board(page)
        fds = {"listener": self._listener.fileno(), "board": page, "life": life}
        argv = supervision.command(
            self._service.root, self._runtime, "serve",
            *(f"--{name}={fd}" for name, fd in fds.items()),
        )  # fmt: skip
        try:
            with open(f"{self._service.root}/supervisor.log", "ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=log,
                    pass_fds=tuple(fds.values()),
                )
        finally:
            os.close(life)
            os.close(page)

    def _close(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(OSError):
                os.unlink(supervision.command_socket_path(self._runtime))
            # Also for workers that a killed master has left: they end.
            end_listening(self._listener)
            self._listener = None
        if self._life >= 0:
            os.close(self._life)
            self._life = -1
        if self._board is not None:
            self._served += self._board.served
            self._board.close()
            self._board = None
        self._process = None
