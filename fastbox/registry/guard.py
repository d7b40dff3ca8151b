"""Ends HTTP exchanges from outside: when the pull is cancelled, or when the peer is too slow.

A thread that waits in ``recv`` can be woken by shutting the socket down. A per-read timeout alone
does not do it: a server that sends one header byte each minute never lets it strike.
"""

from __future__ import annotations

import os
import socket
import threading
import time

from ..errors import FastboxError


class Cancelled(FastboxError):
    """The pull was cancelled by its caller."""

    def __init__(self) -> None:
        super().__init__("cancelled")


class Wire:
    """A second descriptor of a connected socket.

    TLS sockets replace one another during the handshake and are not thread-safe; the descriptor
    below them stays the same, and shutting it down wakes whoever reads.

    It belongs to the connection, but an answer that ends with the connection outlives that one; so
    it is closed when both the connection and the exchange are through with it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._lock = threading.Lock()
        self._fd = os.dup(sock.fileno())
        self._busy = False
        self._orphaned = False

    def busy(self, busy: bool) -> None:
        """An exchange begins or ends."""
        self._busy = busy
        self._close_unused()

    def orphan(self) -> None:
        """The connection is closed."""
        self._orphaned = True
        self._close_unused()

    def cut(self) -> None:
        """Shut the connection down; a blocked read or write returns at once."""
        with self._lock:
            if self._fd < 0:
                return
            try:
                with socket.socket(fileno=os.dup(self._fd)) as sock:
                    sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the peer was quicker

    def _close_unused(self) -> None:
        if self._busy or not self._orphaned:
            return
        with self._lock:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Exchange:
    """One request and its answer, up to the end of the body.

    Attributes:
        wire: the connection in use, set by the transport once there is one.
        expired: it was cut because its deadline passed.
        connected: the TCP connection is there.
        ready: the TLS handshake is done as well.
    """

    def __init__(self, guard: Guard, seconds: float) -> None:
        self.guard = guard
        self.wire: Wire | None = None
        self.expired = False
        self.connected = False
        self.ready = False
        self.deadline = time.monotonic() + seconds

    def extend(self, seconds: float) -> None:
        """The peer did its part; from now on it has so many seconds for the next one."""
        self.deadline = time.monotonic() + seconds

    def attach(self, wire: Wire) -> None:
        """Say which connection carries the exchange.

        Raises:
            Cancelled: it came too late to be cut.
        """
        wire.busy(True)
        self.wire = wire
        self.connected = True
        self.guard.check()

    def cut(self) -> None:
        """Break the connection, if there is one."""
        wire = self.wire
        if wire is not None:
            wire.cut()

    def end(self) -> None:
        """The body was read or given up."""
        self.guard._forget(self)
        wire, self.wire = self.wire, None
        if wire is not None:
            wire.busy(False)


class Guard:
    """Cancellation and deadlines of all exchanges of one pull. Thread-safe."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._changed = threading.Condition()
        self._exchanges: set[Exchange] = set()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def cancelled(self) -> bool:
        """Whether ``cancel`` was called."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Cut every exchange under way and refuse new ones. Idempotent, from any thread."""
        self._cancelled.set()
        with self._changed:
            exchanges = list(self._exchanges)
        for exchange in exchanges:
            exchange.cut()

    def check(self) -> None:
        """Raises Cancelled after ``cancel``."""
        if self._cancelled.is_set():
            raise Cancelled

    def wait(self, seconds: float) -> None:
        """Sleep; raises Cancelled as soon as ``cancel`` is called."""
        if self._cancelled.wait(seconds):
            raise Cancelled

    def begin(self, seconds: float) -> Exchange:
        """Watch a new exchange that must get somewhere within so many seconds."""
        self.check()
        exchange = Exchange(self, seconds)
        with self._changed:
            if self._closed:
                raise Cancelled
            self._exchanges.add(exchange)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name="fastbox-registry-watch", daemon=True
                )
                self._thread.start()
            self._changed.notify()
        return exchange

    def _forget(self, exchange: Exchange) -> None:
        with self._changed:
            self._exchanges.discard(exchange)

    def _watch(self) -> None:
        """Cut what is over its deadline. Deadlines only ever move to later while one waits."""
        while True:
            with self._changed:
                if self._closed:
                    return
                now = time.monotonic()
                late = [e for e in self._exchanges if e.deadline <= now and not e.expired]
                if not late:
                    pending = [e.deadline for e in self._exchanges if not e.expired]
                    self._changed.wait(min(pending) - now if pending else None)
                    continue
            for exchange in late:
                exchange.expired = True
                exchange.cut()

    def close(self) -> None:
        """End the watching thread."""
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join()
