"""When something first says something: a byte on a pipe, redis at a port."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from bench.commands import CommandFailed, begin, killed_if_interrupted, last_words

CLONE_NEWNET = 0x40000000
_ANSWERS_WITHIN = 60.0  # seconds
_TRY = 0.1  # seconds: a forwarder may accept a connection before anybody serves it
_PAUSE = 0.001  # seconds between tries

_libc = ctypes.CDLL(None, use_errno=True)


def first_byte(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> float:
    """Seconds from starting a command to its first byte; its end is waited for, not measured.

    Raises:
        CommandFailed: it wrote nothing.
    """
    with open(os.memfd_create("stderr"), "w+b") as errors:
        start = time.perf_counter()
        process = begin(argv, subprocess.PIPE, errors, env=env, pass_fds=pass_fds)
        with process, killed_if_interrupted(process):
            assert process.stdout is not None
            data = os.read(process.stdout.fileno(), 1)
            taken = time.perf_counter() - start
            process.wait()
        if not data:
            errors.seek(0)
            raise CommandFailed(f"{argv[0]}: wrote nothing: {last_words(errors.read())}")
    return taken


def first_byte_of(work: Callable[[int], object]) -> float:
    """The same of a function, which is given the descriptor to write to and returns at the end."""
    found = [0.0]
    read_end, write_end = os.pipe()

    def listen() -> None:
        if os.read(read_end, 1):
            found[0] = time.perf_counter()

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        start = time.perf_counter()
        work(write_end)
    finally:
        os.close(write_end)
        listener.join()
        os.close(read_end)
    if not found[0]:
        raise CommandFailed("nothing was written")
    return found[0] - start


@contextlib.contextmanager
def network_of(path: str | None) -> Iterator[None]:
    """In another network namespace (this thread's), as far as new sockets are concerned."""
    if path is None:
        yield
        return
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(path)
        yield
    finally:
        _check(_libc.setns(own, CLONE_NEWNET))
        os.close(own)


def _enter(path: str) -> None:
    other = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(other, CLONE_NEWNET))
    finally:
        os.close(other)


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "entering a network namespace")


def until_pong(port: int, *, network: str | None = None, alive: Callable[[], bool]) -> None:
    """Ask redis at 127.0.0.1 until it answers PING.

    Args:
        network: path of the network namespace; None: this one. alive: whether to go on.

    Raises:
        CommandFailed: it did not, in a minute or while ``alive``.
    """
    deadline = time.monotonic() + _ANSWERS_WITHIN
    while not pong(port, network):
        if time.monotonic() > deadline or not alive():
            raise CommandFailed("redis does not answer")
        time.sleep(_PAUSE)


def pong(port: int, network: str | None = None) -> bool:
    """Whether redis answers PING just now."""
    with network_of(network):
        s = socket.socket()
    with s:
        s.settimeout(_TRY)
        try:
            s.connect(("127.0.0.1", port))
            s.sendall(b"PING\r\n")
            return s.recv(7) == b"+PONG\r\n"
        except OSError:
            return False
