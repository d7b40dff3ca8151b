"""A client's connection to a container's monitor, and what goes over it until either leaves.

The protocol is described in ``_core/monitor/clients.h``: packets on a unix socket, each a letter
and what belongs to it.
"""

from __future__ import annotations

import _socket  # the module over it costs milliseconds at start
import array
import contextlib
import os
import select
import struct
from typing import TYPE_CHECKING

import msgspec

from ..errors import Conflict, Detached, FastboxError
from ..sockets import short_path
from . import detach
from .terminal import LOOK, Terminal, first, set_size

if TYPE_CHECKING:
    from .launch import Streams

VERSION = 1
PIECE = 32 * 1024  # bytes of input in a packet
PACKET = 64 * 1024
HELD = 64 * 1024  # what may be typed ahead of a container that does not read
_INPUT, _OUTPUT, _ERRORS = 1, 2, 4
_TTY, _HAS_INPUT = 1, 2


class _ExitRecord(msgspec.Struct):
    exit_code: int
    client_error: int = 0


# Made with the module: two threads must not be the first to use a type at the same time.
_exit_decoder: msgspec.json.Decoder[_ExitRecord] = msgspec.json.Decoder(_ExitRecord)


class Session:
    """One client's side of the connection.

    Args:
        connection: a SOCK_SEQPACKET socket to the monitor; closed with ``close``.
        tty: whether the container has a terminal: then its output comes over the socket.
    """

    def __init__(self, connection: _socket.socket, *, tty: bool) -> None:
        self._socket = connection
        self._tty = tty
        self._pending = bytearray()  # input that is yet to be sent
        self._eof = False
        self._waiting = False  # for the answer to the last input

    def close(self) -> None:
        """Leave; the container goes on."""
        self._socket.close()

    def serve(
        self,
        streams: Streams,
        *,
        relay_input: bool,
        redraw: bool = False,
        cancel: int | None = None,
    ) -> int:
        """Pass everything on until the container ends; its exit status.

        Args:
            relay_input: whether ``streams.stdin`` is to be sent to the monitor.
            redraw: make programs that fill the screen draw it again, for a client that comes late.
            cancel: a descriptor that is readable when the client shall leave.

        Raises:
            Detached: by the detach keys, or by ``cancel``.
            FastboxError: the output could not be written, or the exit status is lost.
        """
        source = streams.stdin if relay_input else None
        with contextlib.ExitStack() as stack:
            terminal = None
            if self._tty:
                shown = first(source, streams.stdout)
                if shown is not None:
                    raw = shown == source
                    terminal = stack.enter_context(Terminal(shown, raw=raw))
                if terminal is not None and redraw:
                    # They are told only of a size that is another than before (as docker attach).
                    rows, columns = terminal.size()
                    self._send(b"W" + struct.pack("2H", rows + 1, columns + 1))
            return self._loop(streams, source, terminal, cancel)

    def _loop(
        self, streams: Streams, source: int | None, terminal: Terminal | None, cancel: int | None
    ) -> int:
        keys = streams.detach_keys if self._tty else b""
        scanner = detach.Scanner(keys or b"")
        size = (0, 0)
        while True:
            if terminal is not None and (now := terminal.size()) != size:
                size = now
                self._send(b"W" + struct.pack("2H", *size))
            reading = source is not None and not self._eof and len(self._pending) < HELD
            ready = self._wait(source if reading else None, terminal, cancel)
            if cancel is not None and cancel in ready:
                raise Detached("the client was told to leave")
            if reading and source in ready:
                self._read_input(source, scanner)
            if self._socket.fileno() in ready:
                status = self._receive(streams)
                if status is not None:
                    return status
            self._send_input()

    def _wait(self, source: int | None, terminal: Terminal | None, cancel: int | None) -> set[int]:
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        timeout = None
        for fd in (source, cancel):
            if fd is not None:
                poller.register(fd, select.POLLIN)
        if terminal is not None:
            if terminal.wakeup >= 0:
                poller.register(terminal.wakeup, select.POLLIN)
            else:
                timeout = LOOK * 1000
        return {fd for fd, _ in poller.poll(timeout)}

    def _read_input(self, source: int | None, scanner: detach.Scanner) -> None:
        assert source is not None
        data = _read(source)
        if not data:
            self._eof = data is not None
            return
        typed, left = scanner.feed(data)
        self._pending += typed
        if left:
            self._send_input()
            raise Detached("read escape sequence")

    def _send_input(self) -> None:
        if self._waiting:
            return
        if self._pending:
            piece = bytes(self._pending[:PIECE])
            if self._send(b"I" + piece):
                del self._pending[: len(piece)]
                self._waiting = True
        elif self._eof:
            self._waiting = True  # nothing more will be sent
            self._send(b"E")

    def _send(self, packet: bytes) -> bool:
        try:
            self._socket.send(packet)
        except OSError:
            return False  # the monitor is gone: the next receive says so
        return True

    def _receive(self, streams: Streams) -> int | None:
        """Handle a packet; the exit status if it is the last one."""
        try:
            packet = self._socket.recv(PACKET)
        except ConnectionResetError:
            packet = b""
        kind, data = packet[:1], memoryview(packet)[1:]
        if kind == b"O":
            _write_all(streams.stdout, data)
        elif kind == b"K":
            self._waiting = False
        elif kind == b"X":
            return exit_status(bytes(data))
        elif kind == b"L":
            raise FastboxError(
                "detached: the container writes faster than its output is read here",
                hint="it goes on; `fastbox logs` has all of it",
            )
        elif not kind:
            if any(map(_has_no_reader, (streams.stdout, streams.stderr))):
                raise BrokenPipeError
            raise FastboxError(
                "the container's exit status is lost: its monitor was killed",
                hint="`fastbox ps -a` shows what is left of it",
            )
        return None


def relay_terminal(master: int, streams: Streams) -> None:
    """Connect a client with the master of a terminal until its other side is closed.

    Raises:
        Detached: by the detach keys.
    """
    scanner = detach.Scanner(streams.detach_keys)
    source, size, typed = streams.stdin, (0, 0), b""
    os.set_blocking(master, False)
    with contextlib.ExitStack() as stack:
        shown = first(source, streams.stdout)
        terminal = None
        if shown is not None:
            terminal = stack.enter_context(Terminal(shown, raw=shown == source))
        while True:
            if terminal is not None and (now := terminal.size()) != size:
                size = now
                set_size(master, *size)
            poller = select.poll()
            poller.register(master, select.POLLIN | (select.POLLOUT if typed else 0))
            if source is not None and len(typed) < HELD:
                poller.register(source, select.POLLIN)
            if terminal is not None and terminal.wakeup >= 0:
                poller.register(terminal.wakeup, select.POLLIN)
            looks = terminal is not None and terminal.wakeup < 0
            ready = dict(poller.poll(LOOK * 1000 if looks else None))
            if source in ready:
                data = _read(source)
                if data is not None and not data:
                    source = None  # a terminal has no end of input but the key for it
                more, left = scanner.feed(data or b"")
                typed += more
                if left:
                    _write_some(master, typed)
                    raise Detached("read escape sequence")
            if ready.get(master, 0) & (select.POLLIN | select.POLLHUP | select.POLLERR):
                data = _read(master)
                if data is not None and not data:
                    return
                _write_all(streams.stdout, data or b"")
            if typed:
                typed = typed[_write_some(master, typed) :]


def _has_no_reader(fd: int | None) -> bool:
    """Whether a descriptor is a pipe whose reader has gone: then the monitor has let us go."""
    if fd is None:
        return False
    poller = select.poll()
    poller.register(fd, 0)
    return any(events & select.POLLERR for _, events in poller.poll(0))


def _read(fd: int) -> bytes | None:
    """What is there; empty at the end, which for a terminal is EIO; None: nothing yet."""
    try:
        return os.read(fd, PACKET)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _write_some(fd: int, data: bytes) -> int:
    try:
        return os.write(fd, data) if data else 0
    except BlockingIOError:
        return 0
    except OSError:
        return len(data)  # nobody is there to read it


def _write_all(fd: int | None, data: bytes | memoryview) -> None:
    data = memoryview(data)
    while data and fd is not None:
        data = data[os.write(fd, data) :]


def exit_status(data: bytes) -> int:
    """What the monitor's exit record says.

    Raises:
        FastboxError: the client's own output could not be written.
    """
    record = _exit_decoder.decode(data)
    if record.client_error:
        error = FastboxError(
            "writing the container's output to stdout or stderr failed: "
            f"{os.strerror(record.client_error).lower()}"
        )
        error.run_exit_code = 1
        raise error
    return record.exit_code


def attach(runtime_directory: str, streams: Streams, *, tty: bool) -> tuple[Session, bool]:
    """Connect to the monitor of a running container.

    Returns:
        (session, whether the container takes input)

    Raises:
        FileNotFoundError, ConnectionError: nobody listens there (yet, or any more).
        Conflict: it has too many clients.
    """
    connection = _connect(runtime_directory)
    try:
        flags = _INPUT if streams.stdin is not None else 0
        fds = []
        for fd, flag in ((streams.stdout, _OUTPUT), (streams.stderr, _ERRORS)):
            if fd is not None:
                flags |= flag
                fds.append(fd)
        hello = b"A" + bytes((VERSION, flags))
        if tty or not fds:
            connection.send(hello)
        else:
            rights = array.array("i", fds)
            connection.sendmsg([hello], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
        answer = connection.recv(PACKET)
        if answer[:1] == b"N":
            raise Conflict("the container has as many attached clients as it can have")
        if answer[:1] != b"H" or len(answer) < 3:
            raise ConnectionResetError
        return Session(connection, tty=bool(answer[2] & _TTY)), bool(answer[2] & _HAS_INPUT)
    except BaseException:
        connection.close()
        raise


def _connect(runtime_directory: str) -> _socket.socket:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        with short_path(f"{runtime_directory}/attach") as path:
            connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection
