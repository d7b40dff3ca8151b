"""The master: has everything imported, and forks workers before they are needed."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import traceback
from typing import NoReturn

from ...sockets import end_listening
from ...supervisor import board
from .. import commands
from . import protocol
from .disguise import RELAYED
from .worker import SPARE, Worker

BACKLOG = 128
LAST_WORDS = 1.0  # seconds that workers without a command have to end
# Memory that is to be free for another worker: below that, clients run the Python command line.
LEAST_FREE = 128 << 20
ORPHANED = signal.SIGRTMIN + 11
_PR_SET_PDEATHSIG = 1
# What commands import as they run; not what speaks to registries, which few do.
_USED = (
    "fastbox.container.create", "fastbox.container.lifecycle", "fastbox.container.launch",
    "fastbox.container.session", "fastbox.container.filters", "fastbox.container.inspect",
    "fastbox.container.logs", "fastbox.container.exec", "fastbox.container.networking",
    "fastbox.image.store", "fastbox.network.attach", "fastbox.network.store",
    "fastbox.network.firewall", "fastbox.volume.store", "fastbox.cli.command",
    "fastbox.cli.template", "fastbox.cli.signals",
)  # fmt: skip
_HEAVY = {"pull", "push", "login", "logout", "search", "bootstrap", "manifest_inspect"}


class Master:
    """The master process.

    Args:
        listener: the command socket, bound. page: descriptor of the board.
        life: a pipe that the supervisor holds: its end is ours.
    """

    def __init__(self, listener: int, page: int, life: int) -> None:
        self.listener = socket.socket(fileno=listener)
        self.board = board.Board(page)
        self.life = life
        self.workers: dict[int, int] = {}  # pid -> slot
        self.wake, self.waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.libc = ctypes.CDLL(None)

    def run(self) -> None:
        """Until the supervisor ends, or tells us to."""
        preload()
        signal.set_wakeup_fd(self.waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        gc.collect()
        gc.freeze()
        self._fork_spare()
        # Nobody can connect before this: the first client finds a worker.
        self.listener.listen(BACKLOG)
        poller = select.poll()
        poller.register(self.life, select.POLLIN)
        poller.register(self.wake, select.POLLIN)
        while True:
            full = not self._fork_spare()
            poller.register(self.listener, select.POLLIN if full else 0)
            ready = {fd for fd, _ in poller.poll()}
            if self.life in ready:
                break
            if self.wake in ready:
                os.read(self.wake, 4096)
            self._reap(os.WNOHANG)
            if self.listener.fileno() in ready and not self.board.count(board.IDLE):
                refuse(self.listener)
        self._end()

    def _fork_spare(self) -> bool:
        """See that somebody waits for clients; False if that cannot be."""
        waiting = self.board.count(board.IDLE)
        if waiting and len(self.workers) >= SPARE:
            return True
        while waiting < SPARE:
            if not self._fork():
                return waiting > 0
            waiting += 1
        return True

    def _fork(self) -> bool:
        slot = self.board.take() if _free_memory() > LEAST_FREE else None
        if slot is None:
            return False
        try:
            pid = os.fork()
        except OSError:
            self.board.free(slot)
            return False
        if not pid:
            self._be_worker(slot)
        self.workers[pid] = slot
        self.board.name(slot, pid)
        return True

    def _be_worker(self, slot: int) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # A group of its own, with a parent in another one: so it can be stopped (ctrl-Z).
            os.setpgid(0, 0)
            os.close(self.life)
            os.close(self.wake)
            worker = Worker(self.listener, self.board, slot, self._notice)
            signal.signal(ORPHANED, worker.orphan)
            self.libc.prctl(_PR_SET_PDEATHSIG, ORPHANED, 0, 0, 0)
            worker.run()
            status = 0
        except BaseException:
            with contextlib.suppress(OSError):
                os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(status)

    def _notice(self) -> None:
        """In a worker: nobody waits for clients any more."""
        with contextlib.suppress(OSError):
            os.write(self.waker, b"n")

    def _reap(self, options: int) -> bool:
        """Forget workers that have ended; False when there is none to wait for."""
        try:
            while True:
                pid, _ = os.waitpid(-1, options)
                if not pid:
                    return True
                slot = self.workers.pop(pid, None)
                if slot is not None:
                    self.board.free(slot)
        except ChildProcessError:
            return False

    def _end(self) -> None:
        """Who waits for clients ends; whoever has one ends after it."""
        end_listening(self.listener)
        poller = select.poll()
        poller.register(self.wake, select.POLLIN)
        while self._reap(os.WNOHANG) and self.board.count(board.IDLE):
            if not poller.poll(LAST_WORDS * 1000):
                break
            os.read(self.wake, 4096)


def preload() -> None:
    """Import what commands need."""
    import importlib

    for entry in commands.ENTRIES:
        if entry.module not in _HEAVY and not entry.module.startswith("supervisor_"):
            commands.load(entry)
    for name in _USED:
        importlib.import_module(name)


def refuse(listener: socket.socket) -> None:
    """Tell a client that nobody has time for it, unless a worker was faster."""
    before = signal.signal(signal.SIGALRM, _give_up)
    # Its file is the workers' too: it has to block.
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    with contextlib.suppress(OSError):
        try:
            connection, _ = listener.accept()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        with connection:
            protocol.answer(connection, protocol.REFUSED)
    signal.signal(signal.SIGALRM, before)


def _give_up(*_: object) -> None:
    raise TimeoutError


def _free_memory() -> int:
    """Bytes that can be had without swapping."""
    with open("/proc/meminfo", "rb") as file:
        for line in file:
            if line.startswith(b"MemAvailable:"):
                return int(line.split()[1]) * 1024
    return LEAST_FREE + 1


def serve(listener: int, page: int, life: int) -> int:
    """Be the master."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, RELAYED)
    Master(listener, page, life).run()
    return 0
