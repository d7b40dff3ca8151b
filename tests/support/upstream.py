"""A name server of somebody else's: knows one address for all names below example.net."""

from __future__ import annotations

import select
import socket
import struct
import threading

from .netns import World

ANSWER = "203.0.113.7"


class Upstream:
    """At port 53 (UDP) of a place of the world; ``names`` are those that were asked for."""

    def __init__(self, world: World, where: str, address: str) -> None:
        self.names: list[str] = []
        self._socket = world.inside(where, lambda: _bound(address))
        self._woken, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._wake.close()
        self._thread.join()
        self._woken.close()
        self._socket.close()

    def __enter__(self) -> Upstream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket, self._woken], [], [])
            if self._woken in ready:
                return
            query, peer = self._socket.recvfrom(4096)
            self._socket.sendto(self._reply(query), peer)

    def _reply(self, query: bytes) -> bytes:
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        end = at + 5
        self.names.append(".".join(labels))
        (kind,) = struct.unpack(">H", query[at + 1 : at + 3])
        known = self.names[-1].endswith("example.net")
        is_a = known and kind == 1
        flags = 0x8180 if known else 0x8183  # NXDOMAIN
        header = query[:2] + struct.pack(">HHHHH", flags, 1, int(is_a), 0, 0)
        answer = struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(ANSWER)
        return header + query[12:end] + (answer if is_a else b"")


def _bound(address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, 53))
    return made
