"""A small world of network namespaces: a host, a neighbour outside, containers on bridges.

Each namespace is held by a ``cat`` that ends when its standard input closes, with us at the
latest; it has a mount namespace too, whose /sys shows its own interfaces. Sockets are made by
threads of the test that have entered a namespace, so servers and clients need no processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

HOST4, OUTSIDE4 = "192.0.2.1", "192.0.2.2"
HOST6, OUTSIDE6 = "2001:db8::1", "2001:db8::2"


class World:
    """``host`` and ``outside``, joined by a veth (eth0 and eth0); more as the test wishes.

    Use it as a context manager, or call ``close``.
    """

    def __init__(self) -> None:
        self._holders: dict[str, subprocess.Popen[bytes]] = {}
        self._adopted: dict[str, int] = {}
        self._servers: list[Server] = []
        self._serial = 0
        try:
            self.add("host")
            self.add("outside")
            self.join("host", "eth0", [f"{HOST4}/24", f"{HOST6}/64"],
                      "outside", "eth0", [f"{OUTSIDE4}/24", f"{OUTSIDE6}/64"])  # fmt: skip
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything: servers, then the namespaces, which take their devices along."""
        for server in self._servers:
            server.close()
        for holder in self._holders.values():
            assert holder.stdin is not None and holder.stdout is not None
            holder.stdin.close()
            holder.stdout.close()
            holder.wait()
        self._servers.clear()
        self._holders.clear()

    # ---- namespaces --------------------------------------------------------------------------

    def add(self, name: str) -> None:
        """A further namespace, with ``lo`` up."""
        script = "mount -t sysfs sysfs /sys && ip link set lo up && echo && exec cat"
        argv = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script]
        holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._holders[name] = holder
        assert holder.stdout is not None
        if holder.stdout.readline() != b"\n":
            raise OSError(f"no network namespace {name}")

    def pid(self, name: str) -> int:
        """A process of a namespace: ``/proc/PID/ns/net``."""
        return self._adopted[name] if name in self._adopted else self._holders[name].pid

    def adopt(self, name: str, pid: int) -> None:
        """Know the network namespace of somebody else's process by a name."""
        self._adopted[name] = pid

    def forget(self, name: str) -> None:
        """No longer know it."""
        self._adopted.pop(name, None)

    def join(
        self,
        one: str,
        device: str,
        addresses: Sequence[str],
        other: str,
        other_device: str,
        other_addresses: Sequence[str],
    ) -> None:
        """Join two namespaces by a veth, with ``ADDRESS/PREFIX`` on both ends."""
        self.ip(
            one, f"link add {device} type veth peer name {other_device} netns {self.pid(other)}"
        )
        for name, end, mine in (
            (one, device, addresses),
            (other, other_device, other_addresses),
        ):
            self.ip(name, f"link set {end} up")
            for address in mine:
                self.ip(name, f"address add {address} dev {end}" + _nodad(address))

    def container(self, name: str, bridge: str, addresses: Sequence[str], gateway: str = "") -> str:
        """A namespace with eth0 on a bridge of ``host``, and a default route.

        Returns:
            The name of the veth's end on the bridge.
        """
        self.add(name)
        self._serial += 1
        port = f"fbv{self._serial}"
        self.join("host", port, [], name, "eth0", addresses)
        self.ip("host", f"link set {port} master {bridge}")
        for text in gateway.split():
            self.ip(name, f"route add default via {text}")
        return port

    # ---- doing things there ------------------------------------------------------------------

    def run(self, name: str, argv: Sequence[str], *, input: str = "") -> str:
        """What a program prints in a namespace.

        Raises:
            AssertionError: it failed; says why.
        """
        pid = self.pid(name)
        enter = ["nsenter", f"--net=/proc/{pid}/ns/net", f"--mount=/proc/{pid}/ns/mnt"]
        done = subprocess.run([*enter, *argv], input=input, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr.strip()}"
        return done.stdout

    def ip(self, name: str, arguments: str) -> str:
        """``ip ARGUMENTS`` in a namespace."""
        return self.run(name, ["ip", *arguments.split()])

    def python(self, name: str, code: str) -> str:
        """What Python code prints in a namespace."""
        return self.run(name, [sys.executable, "-c", code])

    def sysctl(self, name: str, key: str, value: str | None = None) -> str:
        """Read, or set, ``net/ipv4/ip_forward`` and the like."""
        path = f"/proc/sys/{key}"

        def act() -> str:
            with open(path, "r" if value is None else "w") as file:
                if value is not None:
                    file.write(value)
                    return value
                return file.read().strip()

        return self.inside(name, act)

    def inside(self, name: str, action: Callable[[], T]) -> T:
        """Call something in a thread that is in the network namespace (its sockets stay there, as
        do the threads and processes that it starts)."""
        result: list[T] = []
        failure: list[BaseException] = []

        def work() -> None:
            try:
                fd = os.open(f"/proc/{self.pid(name)}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    if _libc.setns(fd, _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                finally:
                    os.close(fd)
                result.append(action())
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return result[0]

    # ---- traffic -----------------------------------------------------------------------------

    def serve(self, name: str, address: str, port: int, protocol: str = "tcp") -> Server:
        """Answer with the client's address."""
        server = Server(self.inside(name, lambda: _listening(address, port, protocol)))
        self._servers.append(server)
        return server

    def ask(
        self,
        name: str,
        address: str,
        port: int,
        protocol: str = "tcp",
        *,
        source: str = "",
        timeout: float = 5,
    ) -> str:
        """Who the server at an address thinks that we are.

        Raises:
            OSError: refused, unreachable, or no answer.
        """

        def act() -> str:
            kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
            with socket.socket(_family(address), kind) as s:
                s.settimeout(timeout)
                if source:
                    s.bind((source, 0))
                s.connect((address, port))
                s.send(b"?")
                return s.recv(100).decode()

        return self.inside(name, act)

    def is_blocked(self, name: str, address: str, port: int, protocol: str = "tcp") -> bool:
        """Whether nothing answers. (Waits half a second; a busy machine makes it true, not
        false: ask before that what must work does.)"""
        try:
            self.ask(name, address, port, protocol, timeout=0.5)
        except OSError:
            return True
        return False


class Server:
    """A socket, and a thread that answers on it."""

    def __init__(self, listening: socket.socket) -> None:
        self._socket = listening
        self._woken, self._wake = socket.socketpair()
        is_stream = listening.type == socket.SOCK_STREAM
        self._thread = threading.Thread(target=self._streams if is_stream else self._datagrams)
        self._thread.start()

    def close(self) -> None:
        """End it; again is no error."""
        self._wake.close()
        self._thread.join()
        self._woken.close()
        self._socket.close()

    def _ready(self) -> Iterator[None]:
        import select

        while True:
            ready, _, _ = select.select([self._socket, self._woken], [], [])
            if self._woken in ready:
                return
            yield

    def _streams(self) -> None:
        for _ in self._ready():
            with contextlib.suppress(OSError):
                connection, peer = self._socket.accept()
                with connection:
                    connection.settimeout(5)
                    connection.recv(1)
                    connection.sendall(str(peer[0]).encode())

    def _datagrams(self) -> None:
        for _ in self._ready():
            with contextlib.suppress(OSError):
                _, peer = self._socket.recvfrom(100)
                self._socket.sendto(str(peer[0]).encode(), peer)


def _listening(address: str, port: int, protocol: str) -> socket.socket:
    s = socket.socket(
        _family(address), socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    )
    try:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if s.family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((address, port))
        if protocol == "tcp":
            s.listen()
    except BaseException:
        s.close()
        raise
    return s


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _nodad(address: str) -> str:
    return " nodad" if ":" in address else ""
