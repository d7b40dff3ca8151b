"""fastbox-net by hand: the built binary with sockets on loopback, and DNS packets made here."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import ipaddress
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import fastbox._core
from fastbox._core import launch
from tests.support.wait import wait_for

T = TypeVar("T")
BINARY = os.path.join(os.path.dirname(fastbox._core.__file__), "fastbox-monitor")
BOX = "c0ffee"
TIMEOUT = 20.0  # seconds until a test gives up
A, NS, PTR, TXT, AAAA, OPT, ANY = 1, 2, 12, 16, 28, 41, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)


class Networks:
    """RUNTIME/networks, as the engine keeps it."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.makedirs(f"{path}/boxes/{BOX}")
        # Helpers are nobody.
        for directory in (path, f"{path}/boxes", f"{path}/boxes/{BOX}"):
            os.chmod(directory, 0o755)

    def write(self, name: str, text: str) -> None:
        """Replace boxes/BOX/NAME."""
        path = f"{self.path}/boxes/{BOX}/{name}"
        with open(path + ".new", "w") as file:
            file.write(text)
        os.chmod(path + ".new", 0o644)
        os.rename(path + ".new", path)

    def name(self, network: str, name: str, *addresses: str) -> None:
        directory = f"{self.path}/{network}/names/{name}"
        os.makedirs(directory, exist_ok=True)
        for address in addresses:
            with open(f"{directory}/{address}", "w"):
                pass

    def lease(self, network: str, address: str, container: str) -> None:
        os.makedirs(f"{self.path}/{network}/leases", exist_ok=True)
        os.symlink(f"0123456789abcdef/{container}", f"{self.path}/{network}/leases/{address}")


class Helper:
    """A running fastbox-net.

    Args:
        ports: listening or bound sockets, for descriptors 7 and up.
        leash: descriptor whose readability ends it.
    """

    def __init__(
        self,
        networks: Networks,
        *,
        udp: socket.socket | None = None,
        tcp: socket.socket | None = None,
        leash: int = -1,
        ports: list[socket.socket] | None = None,
        idle: int = 600,
    ) -> None:
        ports = ports or []
        directory = os.open(networks.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        binary = os.open(BINARY, os.O_RDONLY | os.O_CLOEXEC)
        fds = [s.fileno() if s else -1 for s in (udp, tcp)]
        argv = [b"fastbox-net", BOX.encode(), str(len(ports)).encode(), str(idle).encode()]
        try:
            self.pid = launch.spawn_helper(
                binary,
                argv,
                [-1, -1, -1, directory, *fds, leash, *(s.fileno() for s in ports)],
            )
        finally:
            os.close(directory)
            os.close(binary)

    def ready(self) -> None:
        """Wait until it has begun to serve: it has given up its rights, and opens no more."""

        def is_confined() -> bool:
            with open(f"/proc/{self.pid}/status") as file:
                return "Seccomp:\t2" in file.read()

        wait_for(is_confined, "a confined helper")

    def wait(self) -> int:
        """Its exit status; blocks."""
        pid, self.pid = self.pid, 0
        return launch.wait_helper(pid)

    def stop(self) -> None:
        if self.pid:
            os.kill(self.pid, 9)
            self.wait()

    def is_alive(self) -> bool:
        with open(f"/proc/{self.pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"


@contextlib.contextmanager
def running(networks: Networks, **options: object) -> Iterator[Helper]:
    helper = Helper(networks, **options)  # type: ignore[arg-type]
    try:
        yield helper
    finally:
        helper.stop()


def bound(kind: int, address: str = "127.0.0.1", *, port: int = 0) -> socket.socket:
    """A bound UDP socket or a listener."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, kind)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if kind == socket.SOCK_STREAM:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind((address, port))
    except OSError:
        s.close()
        raise
    s.settimeout(TIMEOUT)
    if kind == socket.SOCK_STREAM:
        s.listen(128)
    return s


def bound_twice(address: str) -> tuple[socket.socket, socket.socket]:
    """A UDP socket and a listener with the same port, which is free for both."""
    while True:
        udp = bound(socket.SOCK_DGRAM, address)
        try:
            return udp, bound(socket.SOCK_STREAM, address, port=udp.getsockname()[1])
        except OSError as e:
            udp.close()
            if e.errno != errno.EADDRINUSE:
                raise


def in_namespace(make: Callable[[], T]) -> T:
    """What ``make`` returns in a new network namespace, whose loopback is up. Sockets made there
    keep it."""
    made: list[T] = []

    def work() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x40000000) < 0:  # CLONE_NEWNET, of this thread alone
            raise OSError(ctypes.get_errno(), "unshare")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            # SIOCSIFFLAGS: IFF_UP
            fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1))
        made.append(make())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return made[0]


# ---- DNS packets ------------------------------------------------------------------------------


def wire_name(name: str) -> bytes:
    labels = [label.encode() for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def query(
    name: str, type: int = A, *, id: int = 0x1234, size: int = 0, flags: int = 0x100
) -> bytes:
    """A query; size: what an OPT record says the client takes, 0: none."""
    packet = struct.pack(">6H", id, flags, 1, 0, 0, 1 if size else 0)
    packet += wire_name(name) + struct.pack(">2H", type, 1)
    if size:
        packet += b"\0" + struct.pack(">HHIH", OPT, size, 0, 0)
    return packet


class Answer:
    """A parsed answer. records: (name, type, ttl, what it says) of its answer section."""

    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.id, self.flags, questions, answers, authorities, extra = struct.unpack_from(
            ">6H", packet
        )
        self.rcode, self.truncated = self.flags & 15, bool(self.flags & 0x200)
        at, self.question = 12, ""
        for _ in range(questions):
            self.question, at = self._name(at)
            at += 4
        self.records = []
        for _ in range(answers):
            record, at = self._record(at)
            self.records.append(record)
        others = []
        for _ in range(authorities + extra):
            record, at = self._record(at)
            others.append(record)
        self.edns = any(record[1] == OPT for record in others)
        assert at == len(packet)

    @property
    def values(self) -> list[str]:
        return [record[3] for record in self.records]

    def _name(self, at: int) -> tuple[str, int]:
        labels, end = [], 0
        while True:
            size = self.packet[at]
            if size >= 0xC0:
                end = end or at + 2
                at = struct.unpack_from(">H", self.packet, at)[0] & 0x3FFF
                continue
            at += 1
            if not size:
                return ".".join(labels), end or at
            labels.append(self.packet[at : at + size].decode(errors="replace"))
            at += size

    def _record(self, at: int) -> tuple[tuple[str, int, int, str], int]:
        name, at = self._name(at)
        type, _, ttl, size = struct.unpack_from(">HHIH", self.packet, at)
        at += 10
        data = self.packet[at : at + size]
        text = self._name(at)[0] if type == PTR else data.hex()
        if type in (A, AAAA):
            text = str(ipaddress.ip_address(data))
        return (name, type, ttl, text), at + size


def ask(server: socket.socket, packet: bytes) -> Answer:
    """The answer of a name server over UDP; a datagram that is no query gets none: TimeoutError."""
    with socket.socket(server.family, socket.SOCK_DGRAM) as s:
        s.settimeout(TIMEOUT)
        s.connect(server.getsockname())
        s.send(packet)
        return Answer(s.recv(65536))


def receive_exactly(s: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = s.recv(count - len(data))
        if not more:
            raise EOFError(f"{len(data)} of {count} bytes")
        data += more
    return data


def send_message(s: socket.socket, packet: bytes) -> None:
    s.sendall(struct.pack(">H", len(packet)) + packet)


def receive_message(s: socket.socket) -> bytes:
    return receive_exactly(s, struct.unpack(">H", receive_exactly(s, 2))[0])


# ---- an upstream server -----------------------------------------------------------------------

# What a query gets: packets that are sent back, in order.
Reaction = Callable[[bytes], list[bytes]]


def reply(packet: bytes, *, rcode: int = 0, address: str = "", id: int | None = None) -> bytes:
    """An answer as a real server gives it; address: of an A record in it."""
    number = struct.unpack(">H", packet[:2])[0] if id is None else id
    head = struct.pack(">6H", number, 0x8180 | rcode, 1, 1 if address else 0, 0, 0)
    record = struct.pack(">HHHIH", 0xC00C, A, 1, 60, 4) + socket.inet_aton(address or "0.0.0.0")
    return head + question(packet) + (record if address else b"")


def question(packet: bytes) -> bytes:
    """A query's question section."""
    at = 12
    while packet[at]:
        at += packet[at] + 1
    return packet[12 : at + 5]


class Upstream:
    """A name server on loopback, over UDP and TCP.

    Attributes:
        seen: (transport, client's port, query) of each query.
    """

    def __init__(self, react: Reaction, address: str = "127.0.0.1") -> None:
        self.react = react
        self.seen: list[tuple[str, int, bytes]] = []
        self.udp, self.tcp = bound_twice(address)
        self.port = self.udp.getsockname()[1]
        self.tcp.settimeout(None)
        self.udp.settimeout(None)
        self._threads = [
            threading.Thread(target=self._serve_udp),
            threading.Thread(target=self._serve_tcp),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def line(self) -> str:
        return f"server {self.udp.getsockname()[0]}#{self.port}\n"

    def _serve_udp(self) -> None:
        with contextlib.suppress(OSError):  # it is shut down
            while True:
                packet, client = self.udp.recvfrom(65536)
                if not packet:
                    return
                self.seen.append(("udp", client[1], packet))
                for answer in self.react(packet):
                    self.udp.sendto(answer, client)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, client = self.tcp.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError, EOFError):
                connection.settimeout(TIMEOUT)
                packet = receive_message(connection)
                self.seen.append(("tcp", client[1], packet))
                for answer in self.react(packet):
                    send_message(connection, answer)

    def __enter__(self) -> Upstream:
        return self

    def __exit__(self, *error: object) -> None:
        for s in (self.udp, self.tcp):
            with contextlib.suppress(OSError):  # ENOTCONN, but whoever waits is woken
                s.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self.udp.close()
        self.tcp.close()
