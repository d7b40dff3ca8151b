"""A piece of a file as the body of a request: sent by the kernel, or in small pieces over TLS."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterator

from ..errors import StoreError
from .guard import Exchange
from .retry import Policy

_PLAIN = 1 << 20  # bytes for each sendfile
_TLS = 1 << 16  # bytes copied at once; so many in each `stall` are little more than the floor


class FileBody:
    """``size`` bytes of a file from ``offset`` on. It can be sent any number of times.

    Args:
        fd: open for reading; its own offset is neither used nor moved.
        on_sent: told how many bytes of this body the connection has taken.
    """

    def __init__(self, fd: int, offset: int, size: int, on_sent: Callable[[int], None]) -> None:
        self.fd = fd
        self.offset = offset
        self.size = size
        self._on_sent = on_sent

    def __iter__(self) -> Iterator[FileBody]:
        """urllib3 takes iterables, and hands what they yield to its connection."""
        yield self

    def send(self, sock: socket.socket, exchange: Exchange, policy: Policy) -> None:
        """Write all of it to a connected socket.

        Raises:
            OSError: the connection broke, or its peer takes nothing any more.
            StoreError: the file is shorter than it was.
            Cancelled: by the exchange's guard.
        """
        sock.settimeout(policy.stall)
        # Whatever else is there encrypts: ssl's sockets, and urllib3's for TLS within TLS.
        step = self._by_kernel if type(sock) is socket.socket else self._over_tls
        sent = unpaid = 0
        while sent < self.size:
            exchange.guard.check()
            count = step(sock, self.offset + sent, self.size - sent, policy.stall)
            sent += count
            unpaid += count
            if unpaid >= policy.floor:
                unpaid = 0
                exchange.extend(policy.stall)
            self._on_sent(sent)

    def _by_kernel(self, sock: socket.socket, offset: int, most: int, stall: float) -> int:
        while True:
            try:
                count = os.sendfile(sock.fileno(), self.fd, offset, min(most, _PLAIN))
            except BlockingIOError:
                poller = select.poll()
                poller.register(sock.fileno(), select.POLLOUT)
                if not poller.poll(1000 * stall):
                    raise TimeoutError("timed out") from None
                continue
            if count == 0:
                raise _shrunk()
            return count

    def _over_tls(self, sock: socket.socket, offset: int, most: int, stall: float) -> int:
        data = os.pread(self.fd, min(most, _TLS), offset)
        if not data:
            raise _shrunk()
        sock.sendall(data)
        return len(data)


def _shrunk() -> StoreError:
    return StoreError("a blob of the store became shorter while it was sent")
