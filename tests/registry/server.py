"""A registry whose faults are scripted: it cuts, lies, stalls and redirects on demand.

Rules are tried in order before the honest answer; each is used a number of times. A rule gets the
handler and writes whatever it likes to the socket.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from tests.support.registry import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    compress,
    descriptor,
    digest_of,
)


class Seen(msgspec.Struct):
    """A request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


class Rule(msgspec.Struct):
    """``action`` answers requests whose "METHOD path" the pattern finds, ``times`` of them;
    ``early``: before the request's body was read."""

    pattern: str
    action: Callable[[Handler], None]
    times: int
    early: bool = False


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection of the server."""

    protocol_version = "HTTP/1.1"
    server: _Server
    body: bytes = b""

    def do_GET(self) -> None:
        self.body = b""
        self.server.owner.answer(self)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def read_body(self, most: int = 1 << 40) -> bytes:
        """Read the body, or its first bytes; those are ``body`` from then on."""
        length = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(min(length, most))
        return self.body

    def log_message(self, format: str, *args: Any) -> None:
        pass

    # ---- what actions use --------------------------------------------------------------------

    def reply(
        self,
        status: int,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        length: int | None = None,
    ) -> None:
        """An answer; ``length`` is the Content-Length to claim, -1 for none at all."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if length == -1:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if length is not None and length != len(body):
            self.close_connection = True

    def reset(self) -> None:
        """End the connection by RST."""
        self.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True

    def stall(self) -> None:
        """Say nothing more until the client goes away or the server stops."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.settimeout(0.05)
        while not self.server.owner.stopping.is_set():
            try:
                if not self.connection.recv(1):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def honest(self) -> None:
        """What a good registry answers."""
        self.server.owner.honest(self)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    owner: FaultyRegistry

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that go away are what the tests are about


class FaultyRegistry:
    """The registry, on a free port of 127.0.0.1.

    Attributes:
        seen: all requests, in order of arrival.
        blobs, manifests: what it serves.
        ranges: whether it honours Range.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[bytes, str]] = {}
        self.rules: list[Rule] = []
        self.seen: list[Seen] = []
        self.ranges = True
        self.etag: str | None = None
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.owner = self
        if context is not None:
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port: int = self._server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self.scheme = "https" if context else "http"
        self.url = f"{self.scheme}://{self.host}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="faulty"
        )
        self._thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # ---- scripts -----------------------------------------------------------------------------

    def on(
        self,
        pattern: str,
        action: Callable[[Handler], None],
        times: int = 1,
        *,
        early: bool = False,
    ) -> None:
        """Use ``action`` for the next ``times`` requests that match (-1: for all).

        Args:
            early: before the request's body was read, which the action may do.
        """
        self.rules.append(Rule(pattern, action, times, early))

    def requests(self, pattern: str) -> list[Seen]:
        """What was asked, by regular expression over ``METHOD path``."""
        with self._lock:
            return [s for s in self.seen if re.search(pattern, f"{s.method} {s.path}")]

    def answer(self, handler: Handler) -> None:
        line = f"{handler.command} {handler.path}"
        headers = {name.lower(): value for name, value in handler.headers.items()}
        action: Callable[[Handler], None] = self.honest
        early = False
        seen = Seen(handler.command, handler.path, headers)
        with self._lock:
            self.seen.append(seen)
            for rule in self.rules:
                if rule.times and re.search(rule.pattern, line):
                    rule.times -= 1
                    action, early = rule.action, rule.early
                    break
        with contextlib.suppress(OSError):
            if not early:
                seen.body = handler.read_body()
            action(handler)

    def honest(self, handler: Handler) -> None:
        path = handler.path.partition("?")[0]
        if match := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", path):
            self._manifest(handler, match[1], match[2])
        elif match := re.fullmatch(r"/v2/(.+)/blobs/([^/]+)", path):
            self._blob(handler, match[2])
        else:
            handler.reply(404, b"no such page")

    def _manifest(self, handler: Handler, repository: str, reference: str) -> None:
        found = self.manifests.get(f"{repository}:{reference}")
        if found is None:
            handler.reply(404, error_body("MANIFEST_UNKNOWN", "manifest unknown"))
            return
        data, media_type = found
        headers = {"Content-Type": media_type, "Docker-Content-Digest": digest_of(data)}
        handler.reply(200, data, headers)

    def _blob(self, handler: Handler, digest: str) -> None:
        data = self.blobs.get(digest)
        if data is None:
            handler.reply(404, error_body("BLOB_UNKNOWN", "blob unknown to registry"))
            return
        headers = {"Content-Type": "application/octet-stream"}
        if self.etag:
            headers["ETag"] = self.etag
        match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        condition = handler.headers.get("If-Range")
        if match and self.ranges and condition in (None, self.etag):
            start = int(match[1])
            if start >= len(data):
                handler.reply(416)
                return
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            handler.reply(206, data[start:], headers)
            return
        handler.reply(200, data, headers)

    # ---- content -----------------------------------------------------------------------------

    def add_blob(self, data: bytes) -> str:
        digest = digest_of(data)
        self.blobs[digest] = data
        return digest

    def add_manifest(
        self, name: str, document: dict[str, Any] | bytes, media_type: str
    ) -> dict[str, Any]:
        """Serve a document under ``repository:tag`` and its digest; its descriptor."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        repository, _, tag = name.partition(":")
        for reference in (tag or "latest", digest_of(data)):
            self.manifests[f"{repository}:{reference}"] = (data, media_type)
        return descriptor(data, media_type)

    def add_image(
        self,
        name: str,
        layers: list[bytes],
        *,
        docker: bool = False,
        compression: str = "gzip",
        architecture: str = "amd64",
        diff_ids: list[str] | None = None,
        change: Callable[[dict[str, Any]], None] | None = None,
        system: str = "linux",
    ) -> dict[str, Any]:
        """Serve an image of uncompressed layer tars; its manifest's descriptor, with ``layers``
        (descriptors) and ``config`` (digest) added.

        Args:
            diff_ids: to claim, instead of the true ones.
            change: edits the manifest before it is encoded.
        """
        config = json.dumps(
            {
                "architecture": architecture,
                "os": system,
                "config": {"Cmd": ["true"]},
                "rootfs": {
                    "type": "layers",
                    "diff_ids": diff_ids or [digest_of(layer) for layer in layers],
                },
            }
        ).encode()
        blobs = [compress(layer, compression) for layer in layers]
        suffix = {"none": "", "gzip": "+gzip", "zstd": "+zstd"}[compression]
        layer_type = DOCKER_LAYER if docker else OCI_LAYER + suffix
        manifest = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
            "config": descriptor(config, DOCKER_CONFIG if docker else OCI_CONFIG),
            "layers": [descriptor(blob, layer_type) for blob in blobs],
        }
        for blob in [config, *blobs]:
            self.add_blob(blob)
        layers_said = list(manifest["layers"])  # type: ignore[call-overload]
        if change is not None:
            change(manifest)
        described = self.add_manifest(name, manifest, DOCKER_MANIFEST if docker else OCI_MANIFEST)
        return {
            **described,
            "platform": {"architecture": architecture, "os": system},
            "config": digest_of(config),
            "layers": layers_said,
        }

    def add_index(
        self, name: str, images: list[dict[str, Any]], media_type: str = OCI_INDEX
    ) -> dict[str, Any]:
        """Serve an index over what ``add_image`` (or this) returned."""
        keys = ("mediaType", "digest", "size", "platform")
        manifests = [{k: image[k] for k in keys if k in image} for image in images]
        document = {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}
        return self.add_manifest(name, document, media_type)


def error_body(code: str, message: str) -> bytes:
    """An error answer of the distribution-spec."""
    return json.dumps({"errors": [{"code": code, "message": message, "detail": None}]}).encode()


# ---- actions -------------------------------------------------------------------------------------


def status(
    code: int, body: bytes = b"", headers: dict[str, str] | None = None
) -> Callable[[Handler], None]:
    """Answer with that."""
    return lambda handler: handler.reply(code, body, headers)


def cut_after(count: int, *, reset: bool = False) -> Callable[[Handler], None]:
    """The honest answer's head and ``count`` bytes of its body, then the end of the connection."""

    def action(handler: Handler) -> None:
        stream = handler.wfile
        handler.wfile = limited = _Limited(stream, count)  # type: ignore[assignment]
        try:
            handler.honest()
        except _Full:
            pass
        finally:
            handler.wfile = stream
        assert limited.head_done
        handler.close_connection = True
        if reset:
            handler.reset()

    return action


def endless(headers: dict[str, str] | None = None, code: int = 200) -> Callable[[Handler], None]:
    """A body that never ends."""

    def action(handler: Handler) -> None:
        handler.send_response(code)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        while not handler.server.owner.stopping.is_set():
            handler.wfile.write(b" " * 65536)

    return action


class _Full(Exception):
    pass


class _Limited:
    """Lets the head and so many bytes of the body through."""

    def __init__(self, stream: Any, count: int) -> None:
        self._stream = stream
        self._left = count
        self.head_done = False

    def write(self, data: bytes) -> int:
        if not self.head_done:
            self.head_done = True
            return int(self._stream.write(data))
        self._stream.write(data[: self._left])
        self._stream.flush()
        if len(data) >= self._left:
            raise _Full
        self._left -= len(data)
        return len(data)

    def flush(self) -> None:
        self._stream.flush()


@contextlib.contextmanager
def running(context: ssl.SSLContext | None = None) -> Iterator[FaultyRegistry]:
    """A server for the length of a block."""
    server = FaultyRegistry(context)
    try:
        yield server
    finally:
        server.stop()
