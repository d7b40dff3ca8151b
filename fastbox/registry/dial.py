"""TCP connections that can be cancelled, and that do not hang on a dead address family.

Addresses are tried as RFC 8305 ("happy eyeballs") has it: the families take turns, the next
address is tried after a quarter of a second without waiting for the one before to fail.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable

STAGGER = 0.25  # seconds, RFC 8305 section 5
_SLICE = 0.05  # seconds between looks at the cancellation

# (family, socket address)
Address = tuple[int, "tuple[str, int] | tuple[str, int, int, int]"]


class Forbidden(OSError):
    """The name leads to an address that this connection must not reach."""


def dial(
    host: str,
    port: int,
    *,
    timeout: float,
    check: Callable[[], None],
    allowed: Callable[[str], bool] | None = None,
) -> socket.socket:
    """Connect.

    Args:
        host: name or address, without brackets.
        timeout: seconds for everything but the name's resolution; also set on the socket.
        check: called often; what it raises ends the attempt.
        allowed: decides on each address (textual); refused ones are not tried.

    Raises:
        socket.gaierror: the name is unknown, or cannot be resolved now.
        Forbidden: every address was refused.
        TimeoutError, OSError: no address could be connected; the last reason.
    """
    addresses = _interleave(resolve(host, port, check))
    if allowed is not None:
        addresses = [a for a in addresses if allowed(a[1][0])]
        if not addresses:
            raise Forbidden(errno.EACCES, "its address is not a public one")
    sock = _race(addresses, time.monotonic() + timeout, check)
    sock.settimeout(timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return sock


def resolve(host: str, port: int, check: Callable[[], None]) -> list[Address]:
    """getaddrinfo in a thread of its own: the C library's cannot be interrupted.

    Raises:
        socket.gaierror: as getaddrinfo does.
    """
    literal = _literal(host, port)
    if literal is not None:
        return [literal]
    answer: list[Address] = []
    failure: list[OSError] = []
    done = threading.Event()

    def look_up() -> None:
        try:
            for family, _, _, _, address in socket.getaddrinfo(
                host, port, 0, socket.SOCK_STREAM, socket.IPPROTO_TCP
            ):
                if family in (socket.AF_INET, socket.AF_INET6):
                    answer.append((family, address))  # type: ignore[arg-type]
        except (OSError, UnicodeError) as error:
            unknown = socket.gaierror(socket.EAI_NONAME, "no such host")
            failure.append(error if isinstance(error, OSError) else unknown)
        finally:
            done.set()

    thread = threading.Thread(target=look_up, name="fastbox-resolve", daemon=True)
    thread.start()
    while not done.wait(_SLICE):
        check()
    thread.join()
    if failure:
        raise failure[0]
    if not answer:
        raise socket.gaierror(socket.EAI_NONAME, "no such host")
    return answer


def _literal(host: str, port: int) -> Address | None:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return (family, (host, port) if family == socket.AF_INET else (host, port, 0, 0))
    return None


def _interleave(addresses: list[Address]) -> list[Address]:
    """The resolver's first family first, then in turns."""
    if not addresses:
        return []
    first = [a for a in addresses if a[0] == addresses[0][0]]
    other = [a for a in addresses if a[0] != addresses[0][0]]
    result: list[Address] = []
    for n in range(max(len(first), len(other))):
        result += first[n : n + 1] + other[n : n + 1]
    return result


def _race(addresses: list[Address], deadline: float, check: Callable[[], None]) -> socket.socket:
    pending: dict[int, socket.socket] = {}
    queue = list(addresses)
    last: OSError = TimeoutError(errno.ETIMEDOUT, "connection timed out")
    next_start = 0.0
    poller = select.poll()
    try:
        while queue or pending:
            check()
            now = time.monotonic()
            if now >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, "connection timed out")
            if queue and (now >= next_start or not pending):
                try:
                    sock = _start(queue.pop(0))
                except OSError as error:  # no route, no such family
                    last = error
                    continue
                pending[sock.fileno()] = sock
                poller.register(sock.fileno(), select.POLLOUT)
                next_start = now + STAGGER
            for fd, _ in poller.poll(1000 * _SLICE):
                sock = pending.pop(fd)
                poller.unregister(fd)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code == 0:
                    return sock
                sock.close()
                last = OSError(code, os.strerror(code))
        raise last
    finally:
        for sock in pending.values():
            sock.close()


def _start(address: Address) -> socket.socket:
    sock = socket.socket(address[0], socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(address[1])
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock
