"""A proxy for TCP that cuts connections: what a bad line does to a good registry."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class CuttingProxy:
    """Listens on loopback and passes everything on.

    Args:
        port: of the server on 127.0.0.1 to which it leads.
        cuts: of the first connections that send so much: bytes after which each is cut.

    Attributes:
        host: ``127.0.0.1:PORT``.
        sent: bytes that clients have sent, all in all.
    """

    def __init__(self, port: int, cuts: list[int]) -> None:
        self._target = ("127.0.0.1", port)
        self._cuts = list(cuts)
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent = 0
        self._start(self._accept)

    @property
    def left(self) -> int:
        """Cuts that are still to come."""
        return len(self._cuts)

    def stop(self) -> None:
        """Cut everything and end."""
        with self._lock:
            sockets = [self._listener, *self._sockets]
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        while self._threads:
            self._threads.pop().join()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            with self._lock:
                self._sockets |= {client, server}
            self._start(self._copy, client, server, True)
            self._start(self._copy, server, client, False)

    def _copy(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        count = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if counted:
                    with self._lock:
                        count += len(data)
                        self.sent += len(data)
                        cut = bool(self._cuts) and count >= self._cuts[0]
                        if cut:
                            self._cuts.pop(0)
                    if cut:
                        target.sendall(data)
                        break
                target.sendall(data)
        for sock in (source, target):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def cutting(port: int, cuts: list[int]) -> Iterator[CuttingProxy]:
    """A proxy for the length of a block."""
    proxy = CuttingProxy(port, cuts)
    try:
        yield proxy
    finally:
        proxy.stop()
