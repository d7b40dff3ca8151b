"""Registries behind an HTTP proxy, as the environment names it."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import threading
from collections.abc import Iterator

import pytest

from fastbox.errors import RegistryError
from fastbox.image.store import ImageStore

from .conftest import Puller, layer
from .world import World


class Proxy:
    """Tunnels CONNECT requests, whatever their host, to one place."""

    def __init__(self, target: int) -> None:
        self.heads: list[bytes] = []
        self.answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
        self._target = target
        self._threads: list[threading.Thread] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._tunnel, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _tunnel(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(4096)
                if not data:
                    return
                head += data
            self.heads.append(head)
            client.sendall(self.answer)
            if b" 200 " not in self.answer:
                return
            with socket.create_connection(("127.0.0.1", self._target)) as server:
                while True:
                    for end in select.select([client, server], [], [])[0]:
                        data = end.recv(65536)
                        if not data:
                            return
                        (server if end is client else client).sendall(data)

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def proxy(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The registry ``behind.example`` can only be reached through ``proxy.test:3128``."""
    server = world.server("behind.example", port=1)  # that port is nobody's
    server.add_image("app", [layer("a"), layer("b")])
    proxy = Proxy(server.port)
    world._places["proxy.test", 3128] = proxy.port
    monkeypatch.setenv("HTTPS_PROXY", "http://user:c4n4ry@proxy.test:3128")
    yield proxy
    proxy.stop()


def test_a_pull_through_a_proxy(proxy: Proxy, world: World, store: ImageStore) -> None:
    assert Puller(store, "behind.example")("app").status == "downloaded"
    assert set(world.connections) == {("proxy.test", 3128)}
    expected = b"basic " + base64.b64encode(b"user:c4n4ry")
    for head in proxy.heads:
        assert head.startswith(b"CONNECT behind.example:443 HTTP/1.")
        assert expected in head.lower().replace(expected.lower(), expected)


def test_no_proxy(
    proxy: Proxy, world: World, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "other.test,.example")
    with pytest.raises(RegistryError, match=r"cannot reach registry behind\.example"):
        Puller(store, "behind.example")("app")
    assert proxy.heads == []


def test_a_proxy_that_refuses(proxy: Proxy, store: ImageStore) -> None:
    proxy.answer = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
    with pytest.raises(RegistryError, match=r"behind\.example") as caught:
        Puller(store, "behind.example")("app")
    assert "c4n4ry" not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.hint}"


def test_a_kind_of_proxy_that_is_not_spoken(
    world: World, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:c4n4ry@proxy.test:1080")
    with pytest.raises(RegistryError, match="unsupported proxy socks5://proxy") as caught:
        Puller(store, "behind.example")("app")
    assert "c4n4ry" not in str(caught.value)
    assert world.connections == []


def test_loopback_needs_no_proxy(
    faulty: object, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    faulty.add_image("app", [layer("a")])  # type: ignore[attr-defined]
    assert puller("app").status == "downloaded"
