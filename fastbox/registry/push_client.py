"""The push side of distribution-spec v1.1 for one repository: upload sessions and manifests.

A session is a URL that the registry hands out anew with every answer. It passes the checks of a
redirect: no plain HTTP after TLS, no addresses of our own network, and credentials only where it
leads to the registry itself (CVE-2026-50151).
"""

from __future__ import annotations

import re
import threading
import time
from urllib.parse import quote, urlsplit

import msgspec

from ..errors import AuthError, DigestMismatch, FastboxError, RegistryError
from ..oci import digest as digests
from . import hosts, reply
from .auth import PushAuthorizer
from .body import FileBody
from .client import Client, drain
from .guard import Guard
from .retry import Policy, Transient, persist
from .transport import Response, Transport

COMMIT_SECONDS = 600.0  # a registry may copy or hash a large blob before it answers …
_COMMIT_RATE = 2 << 20  # … but not slower than so many bytes in each second
_OCTETS = {"Content-Type": "application/octet-stream"}
_GOODBYE_SECONDS = 2.0  # for all uploads that are cancelled, together
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,19})")
_MAX_LEAST = 1 << 30


class Refused(RegistryError):
    """The registry says no to an upload.

    Attributes:
        code: distribution-spec's, ``""`` if it gave none.
        digests: of what it misses, if it says so.
    """

    def __init__(self, message: str, failure: reply.Failure, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, status=failure.status)
        self.failure = failure
        self.code = failure.code
        self.digests = failure.digests


class Session(msgspec.Struct):
    """An upload under way.

    Attributes:
        url: where to go on.
        size: bytes that the registry has.
        least: bytes that each piece but the last one must have.
    """

    url: str
    size: int = 0
    least: int = 0


class PushClient(Client):
    """A repository that is written to. Thread-safe, once ``ping`` was called; close it."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self._beside: dict[str, PushAuthorizer] = {}
        self._sessions: set[str] = set()
        self._lock = threading.Lock()

    def _new_authorizer(self, registry: hosts.Origin) -> PushAuthorizer:
        return PushAuthorizer(self._transport, self.reference, registry, self.policy)

    @property
    def _push_authorizer(self) -> PushAuthorizer:
        assert isinstance(self._authorizer, PushAuthorizer)
        return self._authorizer

    # ---- questions ---------------------------------------------------------------------------

    def ping(self) -> None:
        """Find out where the registry is and how it wants to be asked, before many threads do.

        Raises:
            AuthError: it does not know us. RegistryError: it is not there.
        """

        def ask() -> None:
            response = self._request("GET", "", {}, path="")
            if response.status in (401, 403):
                raise self._denied(response)
            drain(response)

        persist(ask, self.guard, self.policy)

    def has_blob(self, digest: str, size: int) -> bool:
        """Whether the registry has a blob in this repository, of this size in bytes."""
        with self._request("HEAD", f"blobs/{digest}", {"Accept": "*/*"}) as response:
            return response.status == 200 and response.length in (None, size)

    # ---- uploads -----------------------------------------------------------------------------

    def begin(self) -> Session:
        """Open an upload session.

        Raises:
            Transient
            AuthError, Refused, RegistryError: we may not, or it cannot.
        """
        response = self._request("POST", "blobs/uploads/", {}, body=b"")
        return self._accepted(response, "starting an upload")

    def mount(self, digest: str, repository: str) -> Session | None:
        """Take a blob over from another repository of this registry.

        Returns:
            None when it is done; else the session with which the registry answers instead, or
            would: it may as well refuse to look there.

        Raises: as ``begin``.
        """
        tail = f"blobs/uploads/?mount={digest}&from={quote(repository, safe='/')}"
        try:
            response = self._request(
                "POST", tail, {}, body=b"", authorizer=self._authorizer_for(repository)
            )
        except AuthError:
            return self.begin()  # no token for that
        if response.status == 201:
            drain(response)
            said = response.headers.get("Docker-Content-Digest")
            return None if said in (None, digest) else self.begin()
        if response.status != 202:
            drain(response)
            return self.begin()
        return self._accepted(response, "starting an upload")

    def _authorizer_for(self, repository: str) -> PushAuthorizer:
        with self._lock:
            found = self._beside.get(repository)
            if found is None:
                found = self._beside[repository] = self._push_authorizer.beside(repository)
            return found

    def status(self, session: Session) -> Session | None:
        """How far an upload got; None when the registry does not know it any more.

        Raises:
            Transient, RegistryError
        """
        response = self._exchange("GET", session.url, {})
        if response.status in (400, 404, 405, 410):
            drain(response)
            self._forget(session.url)
            return None
        if response.status not in (200, 202, 204):
            raise self.refusal(response, "asking for the state of an upload")
        return self._moved(session, response)

    def append(self, session: Session, body: FileBody) -> Session | None:
        """Send a piece; None when the registry has another idea of how far the upload got.

        Raises:
            Transient, RegistryError. Refused: also for a session that it forgot (404).
        """
        headers = dict(_OCTETS)
        if session.size:
            headers["Content-Range"] = f"{session.size}-{session.size + body.size - 1}"
        patience = _patience(session.size + body.size)
        response = self._exchange("PATCH", session.url, headers, body, patience=patience)
        if response.status == 416:
            drain(response)
            return None
        if response.status not in (202, 201, 204):
            raise self.refusal(response, "uploading a layer")
        return self._moved(session, response, session.size + body.size)

    def finish(self, session: Session, digest: str, body: FileBody | None) -> None:
        """Say that all is there, and send the rest with it.

        Raises:
            Transient, RegistryError, Refused. DigestMismatch: it stored another thing.
        """
        parts = urlsplit(session.url)
        query = f"{parts.query}&" if parts.query else ""
        # Percent signs and the order in the query are the registry's own: nothing is encoded anew.
        url = parts._replace(query=f"{query}digest={digest}").geturl()
        patience = _patience(session.size + (body.size if body else 0))
        response = self._exchange("PUT", url, _OCTETS, body or b"", patience=patience)
        if response.status not in (201, 204, 200):
            raise self.refusal(response, "uploading a layer")
        drain(response)
        self._forget(session.url)
        said = response.headers.get("Docker-Content-Digest")
        if said not in (None, digest):
            raise DigestMismatch(
                f"{self._where()} stored layer {digest[7:19]} under another digest"
            )

    def cancel(self, session: Session) -> None:
        """Give an upload up; whether the registry listens does not matter."""
        self._forget(session.url)
        try:
            drain(self._exchange("DELETE", session.url, {}))
        except (Transient, RegistryError):
            pass

    def _accepted(self, response: Response, what: str) -> Session:
        if response.status != 202:
            raise self.refusal(response, what)
        text = response.headers.get("OCI-Chunk-Min-Length", "")
        least = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
        session = Session(response.url, 0, min(least, _MAX_LEAST))
        if not response.headers.get("Location"):
            drain(response)
            raise RegistryError(f"{what} failed: {self._where()} does not say where it goes")
        return self._moved(session, response, 0)

    def _moved(self, session: Session, response: Response, size: int | None = None) -> Session:
        """The session after an answer.

        Args:
            size: what the registry should have now; what it says counts. None: it has to say.
        """
        drain(response)
        registry = self._transport.registry
        assert registry is not None
        url = session.url
        location = response.headers.get("Location")
        if location:
            how = "sends uploads to"
            try:
                url = hosts.redirect(response.url, location, registry, how=how)
            except RegistryError as error:
                if "plain HTTP" in error.message:
                    error.hint = (
                        "if there is a proxy before the registry, it has to set X-Forwarded-Proto"
                    )
                raise
        match = _RANGE.fullmatch(response.headers.get("Range", "").strip())
        if match and size != 0:
            # "0-0" is one byte, or none (docker-registry): none is the safe side.
            said = int(match[1])
            size = 0 if said == 0 and size != 1 else said + 1
        if size is None:
            size = 0
        with self._lock:
            self._sessions.discard(session.url)
            self._sessions.add(url)
        return Session(url, size, session.least)

    def _forget(self, url: str) -> None:
        with self._lock:
            self._sessions.discard(url)

    def abandon(self) -> None:
        """Tell the registry that nobody will finish the uploads that are open. It is a courtesy:
        a registry that does not listen forgets them by itself after a while."""
        with self._lock:
            urls, self._sessions = list(self._sessions), set()
        registry, authorizer = self._transport.registry, self._authorizer
        if not urls or registry is None or authorizer is None:
            return
        header = authorizer.held
        guard = Guard()
        policy = Policy(connect=_GOODBYE_SECONDS, stall=_GOODBYE_SECONDS)
        transport = Transport(
            self.reference.domain, guard, policy, insecure=self._transport.insecure
        )
        transport.registry = registry
        end = time.monotonic() + _GOODBYE_SECONDS
        try:
            for url in urls:
                if time.monotonic() > end:
                    break
                own = header is not None and hosts.origin(url) == registry
                headers = {"Authorization": header} if own and header else {}
                transport.send("DELETE", url, headers).close()
        except (Transient, FastboxError):
            pass
        finally:
            transport.close()
            guard.close()

    # ---- manifests ---------------------------------------------------------------------------

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> None:
        """Store a manifest or index under a tag or its digest.

        Raises:
            Transient
            Refused: with the codes of blobs that are missing, for example.
            DigestMismatch: the registry stored something else.
        """
        what = f"pushing the manifest of {self.reference.familiar}"
        response = self._request(
            "PUT", f"manifests/{reference}", {"Content-Type": media_type}, body=data
        )
        if response.status not in (201, 200, 202, 204):
            raise self.refusal(response, what)
        drain(response)
        said = response.headers.get("Docker-Content-Digest")
        if said not in (None, digests.of(data)):
            raise DigestMismatch(
                f"{what} failed: {self._where()} answers with another digest than"
                f" {digests.of(data)}",
                hint="the registry, or something on the way to it, changes manifests",
            )

    # ---- refusals ----------------------------------------------------------------------------

    def refusal(self, response: Response, what: str) -> FastboxError:
        """The error for a final answer, in Docker's words where it has some."""
        here = hosts.origin(response.url) == self._transport.registry
        if here and response.status in (401, 403):
            return self._denied(response)
        failure = self._read(response)
        where = hosts.origin(response.url)
        error = reply.final(failure, where, what)
        hint = None
        if failure.status == 405:
            return Refused(
                f"cannot push to {self.reference.familiar_repository}: {where} takes no uploads"
                f" ({failure.text})",
                failure,
                "the registry is read-only, or is no registry",
            )
        if failure.status == 413:
            hint = "a proxy before the registry limits the size of requests"
        if "HTTP status" in failure.text and failure.status < 400:
            hint = "is that host a registry?"
        return Refused(str(error), failure, hint)

    def _read(self, response: Response) -> reply.Failure:
        try:
            return reply.read(response)
        except Transient:
            # Who refuses a body without reading it may break the connection on top of it.
            return reply.Failure(response.status, "", f"HTTP status {response.status}")

    def _denied(self, response: Response) -> FastboxError:
        authorizer = self._push_authorizer
        name, domain = self.reference.familiar_repository, self.reference.domain
        failure = self._read(response)
        if failure.status == 401 and authorizer.anonymous and authorizer.basic:
            return AuthError(
                f"cannot push to {name}: no basic auth credentials",
                hint=authorizer.note or reply.login_hint(domain),
                status=401,
            )
        if not failure.code:
            text = "denied: requested access to the resource is denied"
            failure = reply.Failure(failure.status, "DENIED", text)
        return reply.push_denied(name, failure, domain, authorizer.note)


def is_gone(error: Refused) -> bool:
    """Whether the registry knows nothing of an upload any more, so that a new one may do."""
    codes = ("BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "RANGE_INVALID")
    return error.status in (404, 410) or error.code in codes


def _patience(size: int) -> float:
    """Seconds in which a registry answers that got ``size`` bytes; the policy's stall at least."""
    return min(COMMIT_SECONDS, size / _COMMIT_RATE)
