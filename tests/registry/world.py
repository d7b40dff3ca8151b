"""An internet in miniature: servers with names and certificates, all on loopback.

Names are given to servers at the one place where the client connects, so that everything above
(TLS with host names, redirects, realms, credentials) is real.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastbox.registry import dial as dialing
from fastbox.registry import transport

from .server import FaultyRegistry


class Authority:
    """A CA and the certificates that it signed, made with the openssl program."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.ca = os.path.join(directory, "ca.crt")
        self._key = os.path.join(directory, "ca.key")
        subject = ["-subj", "/CN=fastbox tests"]
        self._openssl("req", "-x509", "-days", "30", *self._new_key(self._key), *subject,
                      "-out", self.ca)  # fmt: skip

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments], check=True, stdin=subprocess.DEVNULL, capture_output=True
        )

    @staticmethod
    def _new_key(path: str) -> list[str]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", path]

    def context(self, *names: str, days: int = 20) -> ssl.SSLContext:
        """A server's context with a certificate for these names (``IP:…`` for addresses)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files(*names, days=days))
        return context

    def files(self, *names: str, days: int = 20) -> tuple[str, str]:
        """Certificate and key for these names."""
        stem = os.path.join(self.directory, f"{names[0].replace(':', '-')}-{days}")
        if not os.path.exists(stem + ".crt"):
            alternatives = ",".join(n if ":" in n else f"DNS:{n}" for n in names)
            with open(stem + ".ext", "w") as file:
                file.write(f"subjectAltName={alternatives}\n")
            self._openssl("req", *self._new_key(stem + ".key"), "-subj", "/CN=x",
                          "-out", stem + ".csr")  # fmt: skip
            self._openssl("x509", "-req", "-in", stem + ".csr", "-CA", self.ca,
                          "-CAkey", self._key, "-CAcreateserial", "-days", str(days),
                          "-extfile", stem + ".ext", "-out", stem + ".crt")  # fmt: skip
        return stem + ".crt", stem + ".key"


class World:
    """Named servers. ``connections`` are the (host, port) that were dialled, in order."""

    def __init__(self, authority: Authority, stack: contextlib.ExitStack) -> None:
        self.authority = authority
        self.connections: list[tuple[str, int]] = []
        self._places: dict[tuple[str, int], int] = {}
        self._stack = stack

    def server(self, *names: str, port: int = 443, tls: bool = True) -> FaultyRegistry:
        """A server that answers under these names."""
        context = self.authority.context(*names) if tls else None
        server = FaultyRegistry(context)
        self.adopt(server, *names, port=port)
        return server

    def adopt(self, server: FaultyRegistry, *names: str, port: int = 443) -> None:
        """Give these names to a server, and stop it in the end."""
        self._stack.callback(server.stop)
        for name in names:
            self._places[name, port] = server.port

    def dial(
        self,
        host: str,
        port: int,
        *,
        timeout: float,
        check: Callable[[], None],
        allowed: Callable[[str], bool] | None = None,
    ) -> Any:
        self.connections.append((host, port))
        place = self._places.get((host, port))
        if place is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return dialing.dial("127.0.0.1", place, timeout=timeout, check=check)


@contextlib.contextmanager
def world(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world whose CA the client trusts."""
    with contextlib.ExitStack() as stack:
        result = World(authority, stack)
        monkeypatch.setattr(transport, "dial", result.dial)
        monkeypatch.setenv("SSL_CERT_FILE", authority.ca)
        yield result
