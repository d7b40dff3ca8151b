"""A worker: takes one command line after another from clients, and runs each as its own."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Callable

from ... import durable
from ...sockets import end_listening, is_neighbour
from ...supervisor import board
from .. import leaving
from .. import main as cli
from . import likeness, protocol
from .disguise import RELAYED, Disguise
from .engines import Engines

PATIENCE = 1.0  # seconds that a client has to say what it wants, and to go when it has its answer
MOST_COMMANDS = 2000  # then another takes its place
MOST_GROWTH = 48 << 20  # bytes of resident memory, likewise
SPARE = 2  # workers that wait for clients, however quiet it is; others wait …
WAIT = 20.0  # … so many seconds
# What a worker dies of when its client is gone.
GONE = signal.SIGRTMIN + 10
_F_SETSIG = 10
_THREADS = ("MainThread", "fastbox-durable")
_TIMEOUT = struct.pack("@ll", int(PATIENCE), 0)
_CREDENTIALS = struct.Struct("3i")


class Worker:
    """One worker process.

    Args:
        listener: the command socket. notice: called when no worker waits for clients any more.
        slot: of the board.
    """

    def __init__(
        self, listener: socket.socket, page: board.Board, slot: int, notice: Callable[[], None]
    ) -> None:
        self.listener = listener
        self.board = page
        self.slot = slot
        self.notice = notice
        self.orphaned = self.idle = self.broken = False
        self.served = 0
        self.likeness = likeness.of_self()
        self.pidfd = os.pidfd_open(os.getpid())
        self.engines = Engines()
        self.buffer = bytearray(protocol.REQUEST + protocol.PACKET + 1)
        self.null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self.disguise = Disguise(self.null)
        self.connection: socket.socket | None = None
        self.resident = _resident()
        leaving.leave = self._leave

    def run(self) -> None:
        """Until the server ends, or there are better ones."""
        signal.pthread_sigmask(signal.SIG_BLOCK, RELAYED)
        while not (self.orphaned or self.broken):
            connection = self._accept()
            if connection is None:
                return
            with connection:
                self._serve(connection)
            self._look_at_oneself()

    def orphan(self, *_: object) -> None:
        """The master has gone: end, after the command that is going on."""
        if self.idle:
            os._exit(0)
        self.orphaned = True
        end_listening(self.listener)

    def _accept(self) -> socket.socket | None:
        self.board.set_state(self.slot, board.IDLE)
        surplus = self.board.count(board.IDLE) > SPARE
        if surplus:  # SIGALRM ends it
            signal.setitimer(signal.ITIMER_REAL, WAIT)
        self.idle = True
        if self.orphaned:
            return None
        try:
            connection, _ = self.listener.accept()
        except OSError:  # nobody is to be served any more
            return None
        self.idle = False
        self.board.set_state(self.slot, board.BUSY)
        if surplus:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if not self.board.count(board.IDLE):
            self.notice()
        return connection

    def _serve(self, connection: socket.socket) -> None:
        try:
            request = self._receive(connection)
        except (OSError, protocol.Malformed):
            return
        if request is None:
            with contextlib.suppress(OSError):
                protocol.answer(connection, protocol.REFUSED)
            return
        self.connection = connection
        try:
            status = self._run(connection, request)
        finally:
            request.close()
            self.connection = None
        if status is not None:
            self._finish(connection, status)

    def _receive(self, connection: socket.socket) -> protocol.Request | None:
        """What it wants; None: it is to do that itself."""
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(data)
        if uid != os.geteuid() or not is_neighbour(pid):
            return None
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
        request = protocol.receive(connection, self.buffer)
        if self._is_like(request) and self.disguise.can(request):
            return request
        request.close()
        return None

    def _is_like(self, request: protocol.Request) -> bool:
        if request.likeness == self.likeness:
            return True
        self.likeness = likeness.of_self()  # a processor came or went
        return request.likeness == self.likeness

    def _run(self, connection: socket.socket, request: protocol.Request) -> int | None:
        """Run it; its status, None: the client has gone before it began."""
        self._die_with(connection)
        try:
            protocol.answer(connection, protocol.TAKEN, os.getpid(), self.pidfd)
        except OSError:
            return None
        argv = request.argv()
        self.disguise.put_on(request)
        mistakes = cli.mistakes
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, RELAYED)
            status = cli.main(argv, engines=self.engines.get)
        except KeyboardInterrupt:
            status = cli.INTERRUPTED
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            _block_signals()
        self.broken = cli.mistakes != mistakes
        return status

    def _die_with(self, connection: socket.socket) -> None:
        """From here on, the end of the client is ours: as of a command that is killed."""
        fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(connection, _F_SETSIG, GONE)
        fcntl.fcntl(connection, fcntl.F_SETFL, os.O_RDWR | os.O_ASYNC)

    def _finish(self, connection: socket.socket, status: int) -> None:
        """Let go of what is the client's, tell it, wait until it has gone: a signal that it is just
        sending must not meet the next command."""
        durable.flush()
        self.disguise.take_off()
        self.served = self.board.add_served(self.slot)
        fcntl.fcntl(connection, fcntl.F_SETFL, os.O_RDWR)  # it may go
        with contextlib.suppress(OSError):
            protocol.answer(connection, protocol.STATUS, status)
        self.broken |= not _has_gone(connection)
        self.disguise.forget()

    def _leave(self, status: int) -> None:
        """In the place of ``os._exit``: the client gets the status."""
        _block_signals()
        if self.connection is not None:
            with contextlib.suppress(OSError):
                self._finish(self.connection, status)
        os._exit(0)

    def _look_at_oneself(self) -> None:
        """End rather than serve on with what a command has left behind."""
        threads = any(thread.name not in _THREADS for thread in threading.enumerate())
        grown = _resident() > self.resident + MOST_GROWTH
        self.broken |= threads or grown or self.served >= MOST_COMMANDS
        gc.collect(0)


def _block_signals() -> None:
    """Handlers of those that came before run here, and what they raise ends here."""
    while True:
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, RELAYED)
            return
        except (KeyboardInterrupt, Exception):
            continue


def _has_gone(connection: socket.socket) -> bool:
    poller = select.poll()
    poller.register(connection, select.POLLIN)
    return bool(poller.poll(PATIENCE * 1000))


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * 4096
