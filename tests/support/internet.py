"""The internet, as far as image registries go, on loopback: an HTTP proxy (``HTTPS_PROXY``) that
answers for hosts like ``registry-1.docker.io`` with certificates of the tests' own CA
(``SSL_CERT_FILE``), and hands what they are asked to servers of the test."""

from __future__ import annotations

import contextlib
import http.server
import json
import select
import socket
import ssl
import threading
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.registry.world import Authority


class Internet:
    """Hosts by name.

    Args:
        directory: for the CA's files.
        listener: where the proxy listens; of another network namespace, say.
        hosts: name -> (address, port) of a server that speaks plain HTTP.
    """

    def __init__(
        self, directory: str, listener: socket.socket, hosts: dict[str, tuple[str, int]]
    ) -> None:
        self._authority = Authority(directory)
        self._contexts = {name: self._authority.context(name) for name in hosts}
        self._hosts = hosts
        self._listener = listener
        self._clients: list[threading.Thread] = []
        self._woken, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to be on it."""
        host, port = self._listener.getsockname()[:2]
        return {"HTTPS_PROXY": f"http://{host}:{port}", "SSL_CERT_FILE": self._authority.ca}

    def close(self) -> None:
        """End it, and the connections that are open."""
        self._wake.close()
        self._thread.join()
        for client in self._clients:
            client.join()
        self._woken.close()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._woken], [], [])
            if self._woken in ready:
                return
            connection, _ = self._listener.accept()
            thread = threading.Thread(target=self._answer, args=(connection,))
            self._clients.append(thread)
            thread.start()

    def _answer(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            client.settimeout(30)
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(4096)
                if not data:
                    return
                head += data
            name = head.split()[1].decode().partition(":")[0]
            if name not in self._hosts:
                client.sendall(b"HTTP/1.1 502 No such host\r\nContent-Length: 0\r\n\r\n")
                return
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            context = self._contexts[name]
            with (
                context.wrap_socket(client, server_side=True) as tls,
                socket.create_connection(self._hosts[name]) as server,
            ):
                self._relay(tls, server)

    def _relay(self, tls: ssl.SSLSocket, server: socket.socket) -> None:
        while True:
            waiting = [tls, server, self._woken]
            ready = [tls] if tls.pending() else select.select(waiting, [], [])[0]
            if self._woken in ready:
                return
            for end in ready:
                data = end.recv(1 << 18)
                if not data:
                    return
                (server if end is tls else tls).sendall(data)


class Search:
    """Docker Hub's search (``/v1/search?q=TERM&n=COUNT``) over a fixed list."""

    def __init__(self, found: list[dict[str, Any]]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                term, count = query["q"][0], int(query.get("n", ["25"])[0])
                results = [item for item in found if term in item["name"]][:count]
                body = json.dumps({"num_results": len(results), "results": results}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
