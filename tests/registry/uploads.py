"""The scripted registry, taking uploads: sessions that move with every answer, repositories that
do not share blobs unless one mounts them, manifests only when their blobs are there."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import ssl
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from tests.support.registry import digest_of

from .server import FaultyRegistry, Handler, error_body


class UploadRegistry(FaultyRegistry):
    """A registry that can be pushed to.

    Attributes:
        owned: (repository, digest) of the blobs that each repository has.
        uploads: bytes of the sessions, by their ids.
        grants: whether repositories are mounted from one another.
        where: makes the Location of a session out of its path.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(context)
        self.owned: set[tuple[str, str]] = set()
        self.uploads: dict[str, bytearray] = {}
        self.grants = True
        self.where: Callable[[str], str] = lambda path: path
        self._numbers = itertools.count(1)

    def honest(self, handler: Handler) -> None:
        path = urlsplit(handler.path).path
        if path == "/v2/":
            handler.reply(200, b"{}")
        elif match := re.fullmatch(r"/v2/(.+)/blobs/uploads/(.*)", path):
            self._upload(handler, match[1], match[2])
        elif handler.command == "PUT" and (match := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path)):
            self._store(handler, match[1], match[2])
        elif (match := re.fullmatch(r"/v2/(.+)/blobs/(.+)", path)) and (
            (match[1], match[2]) not in self.owned
        ):
            handler.reply(404, error_body("BLOB_UNKNOWN", "blob unknown to registry"))
        else:
            super().honest(handler)

    def has(self, repository: str, *datas: bytes) -> bool:
        """Whether a repository has these blobs, unharmed."""
        digests = [digest_of(data) for data in datas]
        return all((repository, d) in self.owned and digest_of(self.blobs[d]) == d for d in digests)

    def give(self, repository: str, data: bytes) -> str:
        """Put a blob into a repository."""
        digest = self.add_blob(data)
        self.owned.add((repository, digest))
        return digest

    # ---- sessions ----------------------------------------------------------------------------

    def _upload(self, handler: Handler, repository: str, session: str) -> None:
        query = {k: v[0] for k, v in parse_qs(urlsplit(handler.path).query).items()}
        if handler.command == "POST":
            self._begin(handler, repository, query)
        elif session not in self.uploads:
            handler.reply(404, error_body("BLOB_UPLOAD_UNKNOWN", "blob upload unknown"))
        elif handler.command == "GET":
            self.reply_state(handler, repository, session, 204)
        elif query.get("state") != self.state(session):
            handler.reply(400, error_body("BLOB_UPLOAD_INVALID", "an old location"))
        elif handler.command == "DELETE":
            del self.uploads[session]
            handler.reply(204)
        else:
            self._receive(handler, repository, session, query)

    def _begin(self, handler: Handler, repository: str, query: dict[str, str]) -> None:
        digest, source = query.get("mount", ""), query.get("from", "")
        if digest and self.grants and (source, digest) in self.owned:
            self.owned.add((repository, digest))
            location = {"Location": f"/v2/{repository}/blobs/{digest}"}
            handler.reply(201, headers={**location, "Docker-Content-Digest": digest})
            return
        session = f"s{next(self._numbers)}"
        self.uploads[session] = bytearray()
        self.reply_state(handler, repository, session, 202)

    def _receive(
        self, handler: Handler, repository: str, session: str, query: dict[str, str]
    ) -> None:
        data = self.uploads[session]
        span = handler.headers.get("Content-Range")
        if span and not span.startswith(f"{len(data)}-"):
            handler.reply(416, headers=self._headers(repository, session))
            return
        data += handler.body
        if handler.command == "PATCH":
            self.reply_state(handler, repository, session, 202)
            return
        digest = query.get("digest", "")
        if digest_of(bytes(data)) != digest:
            handler.reply(400, error_body("DIGEST_INVALID", "provided digest did not match"))
            return
        del self.uploads[session]
        self.give(repository, bytes(data))
        handler.reply(201, headers={"Docker-Content-Digest": digest})

    def state(self, session: str) -> str:
        """What the next request of a session has to carry: its Location changes every time."""
        return f"{len(self.uploads[session])}/x"

    def _headers(self, repository: str, session: str) -> dict[str, str]:
        state = quote(self.state(session), safe="")
        path = f"/v2/{repository}/blobs/uploads/{session}?b=1&state={state}&a=%20"
        last = max(0, len(self.uploads[session]) - 1)
        return {"Location": self.where(path), "Range": f"0-{last}"}

    def reply_state(self, handler: Handler, repository: str, session: str, status: int) -> None:
        """Where the upload goes on, and what is there of it."""
        handler.reply(status, headers=self._headers(repository, session))

    # ---- manifests ---------------------------------------------------------------------------

    def _store(self, handler: Handler, repository: str, reference: str) -> None:
        document = json.loads(handler.body)
        blobs = [document.get("config"), *document.get("layers", [])]
        missing = [b["digest"] for b in blobs if b and (repository, b["digest"]) not in self.owned]
        if missing:
            errors = [
                {"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown", "detail": digest}
                for digest in missing
            ]
            handler.reply(400, json.dumps({"errors": errors}).encode())
            return
        digest = digest_of(handler.body)
        for name in (reference, digest):
            media_type = handler.headers["Content-Type"]
            self.manifests[f"{repository}:{name}"] = (handler.body, media_type)
        handler.reply(201, headers={"Docker-Content-Digest": digest})


# ---- actions -------------------------------------------------------------------------------------


def cut_upload(server: UploadRegistry, after: int) -> Callable[[Handler], None]:
    """Keep the first bytes of a body, then reset the connection (an early action)."""

    def action(handler: Handler) -> None:
        match = re.search(r"/uploads/(s\d+)", handler.path)
        assert match
        server.uploads[match[1]] += handler.read_body(after)
        handler.reset()

    return action


def lost_reply(handler: Handler) -> None:
    """Do what was asked, and end the connection without a word."""

    class Nowhere:
        def write(self, data: Any) -> int:
            return len(data)

        def flush(self) -> None:
            pass

    stream = handler.wfile
    handler.wfile = Nowhere()  # type: ignore[assignment]
    try:
        handler.honest()
    finally:
        handler.wfile = stream
    handler.reset()


@contextlib.contextmanager
def running(context: ssl.SSLContext | None = None) -> Iterator[UploadRegistry]:
    """A server for the length of a block."""
    server = UploadRegistry(context)
    try:
        yield server
    finally:
        server.stop()
