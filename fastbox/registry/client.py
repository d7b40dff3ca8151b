"""The pull side of distribution-spec v1.1 for one repository: manifests and blobs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec

from .. import configuration
from ..errors import DigestMismatch, FastboxError, ImageError, NotFound, RegistryError
from ..oci import digest as digests
from ..oci import image as oci
from ..oci import reference as references
from ..oci.reference import Reference
from . import hosts, reply
from .auth import Authorizer
from .body import FileBody
from .guard import Guard
from .insecure import Insecure
from .retry import Policy, Transient, persist
from .text import clean
from .transport import NoTLS, Refused, Response, Transport

MAX_REDIRECTS = 10
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
ACCEPT = ", ".join((oci.OCI_INDEX, oci.DOCKER_INDEX, oci.OCI_MANIFEST, oci.DOCKER_MANIFEST))
_MAX_PAGES = 1000
_MAX_NAMES = 100_000  # in all pages of a list
Notify = Callable[[int], None]


class Document(msgspec.Struct):
    """A manifest or index as it was served; the digest is computed from the data."""

    data: bytes
    media_type: str
    digest: str


class Client:
    """A repository at its registry. Thread-safe; close it.

    Args:
        reference: which repository; tag and digest are for error texts and the default request.
        guard: cancels everything.
        base: URL of the registry without ``/v2/``, None to find it by the reference's domain.
        insecure: it may do without verified TLS, whatever is configured.
    """

    def __init__(
        self,
        reference: Reference,
        guard: Guard,
        policy: Policy | None = None,
        *,
        connections: int = 4,
        base: str | None = None,
        insecure: bool = False,
    ) -> None:
        self.reference = reference
        self.guard = guard
        self.policy = policy or Policy()
        listed = configuration.load().insecure_registries
        more = [reference.domain.lower()] if insecure else []
        excepted = Insecure([*listed, *more], guard.check)
        self._transport = Transport(
            reference.domain, guard, self.policy, connections=connections, insecure=excepted
        )
        self._bases = [base] if base else hosts.base_urls(reference.domain, excepted.covers)
        self._base: str | None = None
        self._tried: str | None = None
        self._authorizer: Authorizer | None = None

    def retag(self, reference: Reference) -> None:
        """Speak of another tag of the repository from now on (in error texts)."""
        self.reference = msgspec.structs.replace(
            self.reference, tag=reference.tag, digest=reference.digest
        )

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    # ---- documents ---------------------------------------------------------------------------

    def digest_of(self, tag: str) -> str | None:
        """The digest that a tag has now (HEAD); None when the registry does not tell.

        Docker Hub does not count HEAD against its rate limit.

        Raises:
            AuthError, RegistryError: as ``manifest``.
        """
        try:
            return self.head(tag)
        except (Transient, NotFound):
            return None

    def head(self, tag: str) -> str | None:
        """Like ``digest_of``, but failing where there is nothing to be had.

        Raises:
            Transient: no answer now.
            NotFound: the answer is no.
        """
        with self._request("HEAD", f"manifests/{tag}", {"Accept": ACCEPT}) as response:
            if response.status != 200:
                raise NotFound(f"{self._where()} answers with HTTP status {response.status}")
            digest = response.headers.get("Docker-Content-Digest")
            return digest if digests.is_digest(digest) else None

    def manifest(
        self, tag_or_digest: str, *, size: int | None = None, notify: Notify | None = None
    ) -> Document:
        """Fetch a manifest or index, verified against its digest.

        Args:
            size: what the index said, or None.

        Raises:
            NotFound: no such tag or repository (Docker's texts).
            AuthError: access denied.
            ImageError: the answer is no manifest.
            DigestMismatch, RegistryError: it is another one, or there is none to be had.
        """

        def fetch() -> Document:
            return self._manifest(tag_or_digest, size)

        return persist(fetch, self.guard, self.policy, notify)

    def _manifest(self, tag_or_digest: str, size: int | None) -> Document:
        what = f"the manifest of {self.reference.familiar}"
        with self._request("GET", f"manifests/{tag_or_digest}", {"Accept": ACCEPT}) as response:
            if response.status != 200:
                raise self._refused(response, f"fetching {what}", manifest=True)
            data = response.read_all(oci.MAX_DOCUMENT, what)
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            said = response.headers.get("Docker-Content-Digest")
        if "html" in media_type or data.lstrip()[:1] == b"<":
            raise ImageError(
                f"{self._where()} answers with a web page instead of {what}",
                hint="is that host a registry?",
            )
        expected = tag_or_digest if ":" in tag_or_digest else said
        digest = digests.of(data)
        if expected is not None:
            digests.validate(expected, f"digest of {self.reference.familiar} from the registry")
            if digest != expected:
                raise DigestMismatch(f"{what} has digest {digest} instead of {expected}")
        if size is not None and len(data) != size:
            raise DigestMismatch(f"{what} has {len(data)} bytes instead of {size}")
        return Document(data, media_type, digest)

    def tags(self) -> list[str]:
        """All tags of the repository, as the registry orders them.

        Raises:
            NotFound, AuthError, RegistryError: as ``manifest``.
        """
        found: dict[str, None] = {}
        for page in self.pages("tags/list", "tags", "the list of tags"):
            for tag in page:
                if not references.is_tag(tag):
                    raise RegistryError(f"{self._where()} lists the invalid tag {clean(tag)!r}")
                found[tag] = None
        return list(found)

    def pages(self, tail: str, member: str, what: str) -> Iterator[list[str]]:
        """A list that comes in pages (distribution-spec "Listing Tags"), bounded in every way.

        Args:
            tail: where it is, below the repository; from the registry's root with a ``/``.
            member: name of the list in each answer.
        """
        path, _, query = tail.partition("?")
        total = 0
        seen = {query}
        for _ in range(_MAX_PAGES):
            where = f"{path}?{query}" if query else path
            page, link = persist(
                functools.partial(self._page, where, member, what), self.guard, self.policy
            )
            total += len(page)
            if total > _MAX_NAMES:
                break
            yield page
            query = next_query(link)
            if not query or not page:
                return
            if query in seen:
                break
            seen.add(query)
        raise RegistryError(f"{self._where()} gives {what} without end")

    def get(self, path: str) -> Response:
        """The answer to a GET of a path from the registry's root.

        Raises:
            Transient: worth another try. RegistryError: no answer.
        """
        return self._request("GET", path, {"Accept": "application/json"})

    def _page(self, where: str, member: str, what: str) -> tuple[list[str], str]:
        with self._request("GET", where, {"Accept": "application/json"}) as response:
            if response.status != 200 and where[0] == "/":  # it is not about the repository
                failure = reply.read(response)
                raise reply.final(failure, hosts.origin(response.url), f"fetching {what}")
            if response.status != 200:
                raise self._refused(response, f"fetching {what}", manifest=True)
            data = response.read_all(oci.MAX_DOCUMENT, what)
            link = response.headers.get("Link", "")
        try:
            page = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get(member)
            return msgspec.json.decode(page or b"null", type=list[str] | None) or [], link
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise RegistryError(f"{self._where()} gives no list in the place of {what}") from None

    def small_blob(
        self, descriptor: oci.Descriptor, what: str, notify: Notify | None = None
    ) -> bytes:
        """Fetch a blob of at most ``oci.MAX_DOCUMENT`` bytes into memory, verified.

        Raises:
            DigestMismatch, RegistryError: as its names say.
        """

        def fetch() -> bytes:
            with self.blob(descriptor.digest, what) as response:
                limit = min(descriptor.size, oci.MAX_DOCUMENT)
                return response.read_all(limit, what)

        data = persist(fetch, self.guard, self.policy, notify)
        if len(data) != descriptor.size or digests.of(data) != descriptor.digest:
            raise DigestMismatch(
                f"{what} does not have the digest {descriptor.digest} and {descriptor.size} bytes"
            )
        return data

    def blob(self, digest: str, what: str, *, offset: int = 0, etag: str | None = None) -> Response:
        """Begin to fetch a blob; the answer has status 200, 206 or 416.

        Args:
            offset: first byte wanted; the server may ignore it (200).
            etag: strong validator of the bytes that are there already.

        Raises:
            Transient: worth another try.
            RegistryError: no such blob, access denied, ….
        """
        digests.validate(digest)
        headers = {"Accept": "*/*"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if etag:
                headers["If-Range"] = etag
        response = self._request("GET", f"blobs/{digest}", headers)
        if response.status == 200 or (response.status in (206, 416) and offset):
            return response
        raise self._refused(response, f"downloading {what}", manifest=False)

    def interrupted(self, digest: str) -> bool:
        """A blob's transfer broke off: whether to go on at once, with another source."""
        return False

    def rejected(self, digest: str) -> bool:
        """A blob that came is not what it should be: whether another source may have it."""
        return False

    # ---- requests ----------------------------------------------------------------------------

    def _request(self, method: str, tail: str, headers: dict[str, str], **options: Any) -> Response:
        """Send to the registry, authenticate when asked, follow redirects.

        Args:
            tail: of the URL, below the repository's; with a ``/`` below the registry's root.
            options: body and authorizer of ``_exchange``; ``path`` instead of the repository's.

        Returns:
            Any answer but redirects and those to retry.
        """
        if self._base is not None:
            return self._follow(method, self._base, tail, headers, **options)
        for base in self._bases[:-1]:
            self._use(base)
            try:
                return self._follow(method, base, tail, headers, **options)
            except NoTLS:
                continue
            except Refused:
                # On localhost, port 443 may be closed where port 80 is open.
                if hosts.origin(base).port != 443:
                    raise
            except Transient as failure:
                # The same of hosts that the user excepts from TLS, and where packets get lost.
                if not failure.fresh or hosts.origin(base).port != 443:
                    raise
        self._use(self._bases[-1])
        return self._follow(method, self._bases[-1], tail, headers, **options)

    def _use(self, base: str) -> None:
        self._tried = base
        registry = hosts.origin(base)
        self._transport.registry = registry
        self._authorizer = self._new_authorizer(registry)

    def _new_authorizer(self, registry: hosts.Origin) -> Authorizer:
        return Authorizer(self._transport, self.reference, registry, self.policy)

    def _where(self) -> str:
        return f"registry {self._transport.registry}"

    def _follow(
        self,
        method: str,
        base: str,
        tail: str,
        headers: dict[str, str],
        *,
        path: str | None = None,
        **options: Any,
    ) -> Response:
        prefix = f"{self.reference.path}/" if path is None else path
        url = base + tail if tail[:1] == "/" else f"{base}/v2/{prefix}{tail}"
        return self._exchange(method, url, headers, **options)

    def _exchange(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes | FileBody | None = None,
        *,
        authorizer: Authorizer | None = None,
        patience: float = 0.0,
    ) -> Response:
        """One request to any URL. Only the registry itself gets to know who asks.

        Args:
            authorizer: another than the client's own.
            patience: see ``Transport.send``.

        Raises:
            Transient, RegistryError
        """
        authorizer, registry = authorizer or self._authorizer, self._transport.registry
        assert authorizer is not None and registry is not None
        refused = 0
        for _ in range(MAX_REDIRECTS + 3):
            # Each hop decides anew who is spoken to (GHSA-vh4v-2xq2-g5cg).
            header = authorizer.header() if hosts.origin(url) == registry else None
            sent = dict(headers) if header is None else {**headers, "Authorization": header}
            response = self._transport.send(method, url, sent, body, patience=patience)
            # A base that answered is the base, whatever it answers.
            self._base = self._base or self._tried
            if response.status == 401 and hosts.origin(url) == registry and refused < 2:
                refused += 1
                try:
                    again = authorizer.challenged(response, header, again=refused > 1)
                except BaseException:
                    response.close()
                    raise
                if not again:
                    return response
                drain(response)
                continue
            if response.status in _REDIRECTS:
                if method not in ("GET", "HEAD") and response.status not in (307, 308):
                    return response  # as those are understood, it would become a GET
                location = response.headers.get("Location", "")
                drain(response)
                url = hosts.redirect(url, location, registry)
                continue
            failure = reply.transient(response, f"{method} {hosts.redact(url)}")
            if failure is not None:
                raise failure
            return response
        raise RegistryError(f"{self._where()} redirects without end")

    def _refused(self, response: Response, what: str, *, manifest: bool) -> FastboxError:
        """The error for a final answer, in Docker's words where it has some."""
        failure = reply.read(response)
        here = hosts.origin(response.url) == self._transport.registry
        name, familiar = self.reference.familiar_repository, self.reference.familiar
        if here and failure.status in (401, 403):
            denied = "denied: requested access to the resource is denied"
            note = self._authorizer.note if self._authorizer else None
            text = failure.text if failure.code else denied
            return reply.denied(name, text, failure.status, self.reference.domain, note)
        if here and failure.status == 404 and manifest:
            if failure.code == "NAME_UNKNOWN":
                return NotFound(f"repository {name} not found: {failure.text}")
            if failure.code:
                return NotFound(f"manifest for {familiar} not found: {failure.text}")
            return NotFound(
                f"manifest for {familiar} not found: {self._where()} answers {failure.text}"
            )
        return reply.final(failure, hosts.origin(response.url), what)


def next_query(link: str) -> str:
    """The query of the next page in a Link header (RFC 8288), ``""`` where there is none.

    Only the query: a next page is at the same place, wherever the server says it is.
    """
    for part in link[:8192].split(","):
        target, _, parameters = part.strip().partition(">")
        if target.startswith("<") and 'rel="next"' in parameters.replace("rel=next", 'rel="next"'):
            try:
                query = urlsplit(target[1:]).query
            except ValueError:
                return ""
            return query if query.isascii() and query.isprintable() and " " not in query else ""
    return ""


def drain(response: Response) -> None:
    """Read a short body that nobody wants, so that the connection can be used again."""
    length = response.length
    try:
        if length is not None and length <= 65536:
            while response.read():
                pass
    except Transient:
        pass
    finally:
        response.close()
