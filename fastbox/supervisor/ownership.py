"""Being the one supervisor of a store: its lock, its socket, and what systemd hands over."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time

from .. import supervision
from ..container import process
from ..errors import Conflict
from ..sockets import bound

PATIENCE = 1.0  # seconds for a lock that is held by somebody who only looks whether it is held
_FIRST_FD = 3  # sd_listen_fds(3)


class Ownership:
    """The lock, held until the process ends.

    Args:
        unasked: a monitor brings it back: it stays away after ``supervisor stop``. Looked at under
            the lock, which ``stop`` looks at after it has left its mark: one of the two sees it.

    Raises:
        Conflict: another supervisor has it, or see ``unasked``.
    """

    def __init__(self, runtime: str, *, unasked: bool = False) -> None:
        self.runtime = runtime
        self._unasked = unasked
        os.makedirs(runtime, mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self.fd = os.open(supervision.lock_path(runtime), flags, 0o600)
        try:
            self._take()
        except BaseException:
            os.close(self.fd)
            raise

    def _take(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pid = supervision.owner(self.runtime)
                if pid or time.monotonic() > deadline:
                    raise Conflict(
                        f"a supervisor of {self.runtime} is running already (pid "
                        f"{pid or 'unknown'})"
                    ) from None
                time.sleep(0.002)
        if self._unasked and os.path.exists(supervision.stopped_path(self.runtime)):
            raise Conflict("it was told to stop, and nobody has asked for it since")
        own = os.getpid()
        text = f"{own} {process.start_time(own)}\n".encode()
        os.pwrite(self.fd, text, 0)
        os.ftruncate(self.fd, len(text))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(supervision.stopped_path(self.runtime))

    def listen(self) -> socket.socket:
        """The socket: systemd's, or a new one in the place of what a killed one left."""
        handed = _handed_over()
        if handed is not None:
            return handed
        path = supervision.socket_path(self.runtime)
        made = bound(path, socket.SOCK_STREAM)
        self.made = path
        made.listen(128)
        return made

    made = ""

    def release(self) -> None:
        """Nobody is to connect any more; the lock goes with the process, or here."""
        if self.made:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.made)
        os.ftruncate(self.fd, 0)
        os.close(self.fd)


def _handed_over() -> socket.socket | None:
    """The first descriptor of LISTEN_FDS, if it is meant for this process."""
    mine = os.environ.pop("LISTEN_PID", "") == str(os.getpid())
    count = os.environ.pop("LISTEN_FDS", "")
    if not mine or not count.isdecimal() or not int(count):
        return None
    os.set_inheritable(_FIRST_FD, False)
    return socket.socket(fileno=_FIRST_FD)


def notify(message: str) -> None:
    """Tell systemd (sd_notify(3)), if it started us."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = "\0" + path[1:] if path[0] == "@" else path
    with contextlib.suppress(OSError):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            connection.connect(address)
            connection.send(message.encode())


def detach() -> int | None:
    """Go on in a process that is nobody's child, with no terminal and no standard streams.

    Returns:
        In the new process a descriptor: what is written to it, the old one prints; closed with
        nothing written, all is well. In the old process None, when that has come.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    if os.fork():
        os.close(writer)
        with open(reader, "rb") as file:
            problem = file.read()
        if problem:
            os.write(2, problem)
            os._exit(1)
        return None
    os.close(reader)
    with contextlib.suppress(OSError):
        os.setsid()  # EPERM: the starter made a session for us
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)
    return writer


def reason(error: OSError) -> str:
    """A failed system call in a few words."""
    name = f"{error.filename}: " if error.filename else ""
    text = error.strerror or os.strerror(error.errno or errno.EIO)
    return name + text.lower()
