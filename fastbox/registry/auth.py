"""Authorization for one registry: Basic, or bearer tokens from the service that it names
(distribution "Token Authentication", docker's identity tokens by OAuth2 refresh)."""

from __future__ import annotations

import math
import threading
import time
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from ..errors import AuthError, FastboxError, RegistryError
from ..oci.reference import Reference
from . import credentials, hosts, reply
from .challenge import Challenge, choose, parse
from .credentials import Credentials
from .retry import Policy, persist
from .text import clean
from .transport import Response, Transport

MAX_TOKEN_BODY = 1024 * 1024
_MAX_TOKEN = 64 * 1024
_DEFAULT_SECONDS = 60
_MAX_TOKEN_REDIRECTS = 3
_MAX_SCOPES = 4
CLIENT_ID = "fastbox"


class Token(msgspec.Struct):
    """The answer of a token service; one of the first two is there."""

    token: str = ""
    access_token: str = ""
    refresh_token: str = ""
    expires_in: int | None = None


# Made with the module: two threads must not be the first to use a type at the same time.
_token_decoder: msgspec.json.Decoder[Token] = msgspec.json.Decoder(Token)


class _Held(msgspec.Struct):
    header: str
    expires: float  # of the monotonic clock


class Authorizer:
    """Finds the Authorization header for requests to the registry, and to nobody else.

    Credentials are looked up only once the registry asks for some. Thread-safe: of several
    threads that need the same token, one fetches it.

    Attributes:
        note: why there are no credentials though some might be expected, or None.
    """

    def __init__(
        self, transport: Transport, reference: Reference, registry: hosts.Origin, policy: Policy
    ) -> None:
        self._transport = transport
        self._reference = reference
        self._registry = registry
        self._policy = policy
        self._lock = threading.Lock()
        self._scopes = self._first_scopes()
        self._held: _Held | None = None
        self._challenge: Challenge | None = None
        self._loaded: tuple[Credentials | None, FastboxError | None] | None = None
        self.note: str | None = None

    def _first_scopes(self) -> set[str]:
        """What a token is asked for before the registry says what it wants."""
        return {f"repository:{self._reference.path}:pull"}

    def header(self) -> str | None:
        """What to send now; None before the registry asked.

        Raises:
            AuthError, RegistryError: an expired token could not be renewed.
        """
        with self._lock:
            held = self._held
            if held is None or time.monotonic() < held.expires:
                return None if held is None else held.header
            return self._answer()

    @property
    def held(self) -> str | None:
        """What ``header`` gives, without renewing it: None where that would be needed."""
        held = self._held
        return held.header if held is not None and time.monotonic() < held.expires else None

    def challenged(self, response: Response, used: str | None, *, again: bool) -> bool:
        """The registry answered 401: find better credentials.

        Args:
            used: the header that it refused, or None.
            again: it did so before for this request; only another scope can help then.

        Returns:
            Whether another try makes sense.

        Raises:
            AuthError: the token service refuses our credentials, or a helper fails.
            RegistryError: the token service cannot be used.
        """
        challenge = choose(parse(response.all("WWW-Authenticate")))
        if challenge is None:
            return False
        with self._lock:
            if self._held is not None and self._held.header != used:
                return True  # another thread was quicker
            wanted = set(challenge.get("scope").split()) - self._scopes
            if used is not None and challenge.get("error") != "insufficient_scope":
                wanted = set()
            if again and not wanted:
                return False
            self._scopes |= set(sorted(wanted)[:_MAX_SCOPES])
            self._held = None
            self._challenge = challenge
            header = self._answer()
            return header is not None and header != used

    def _answer(self) -> str | None:
        """Answer the challenge; holds the lock."""
        assert self._challenge is not None
        found = self._credentials()
        if found is not None and found.registry_token:
            return self._hold(f"Bearer {_checked(found.registry_token)}", float("inf"))
        if self._challenge.scheme == "bearer":
            token = self._token(self._challenge, found)
            seconds = max(token.expires_in or _DEFAULT_SECONDS, _DEFAULT_SECONDS)
            # A tenth earlier, so that it does not expire on its way.
            header = f"Bearer {_checked(token.token or token.access_token)}"
            return self._hold(header, time.monotonic() + 0.9 * seconds)
        if found is None or not found.username:
            return None
        return self._hold(found.basic(), float("inf"))

    def _hold(self, header: str, expires: float) -> str:
        self._held = _Held(header, expires)
        return header

    def _credentials(self) -> Credentials | None:
        """Look them up once. A failing helper leaves us anonymous, which is said in ``note``."""
        if self._loaded is None and not self._is_private():
            self._loaded = (None, None)
            self.note = f"credentials are not sent to {self._registry} without TLS"
        if self._loaded is None:
            try:
                self._loaded = (
                    credentials.find(self._reference.domain, self._reference.path),
                    None,
                )
            except AuthError as error:
                self._loaded = (None, error)
                self.note = error.message
        return self._loaded[0]

    def _is_private(self) -> bool:
        """Whether nobody listens, or the user does not mind: a mirror's URL may be plain HTTP."""
        registry = self._registry
        return (
            registry.scheme == "https"
            or hosts.is_loopback(registry.host)
            or self._transport.insecure.covers(registry)
        )

    def _token(self, challenge: Challenge, found: Credentials | None) -> Token:
        realm = challenge.get("realm")
        target = hosts.check_realm(realm, self._registry, self._transport.insecure.covers)
        if found is not None and not hosts.same_family(self._registry.host, target.host):
            # The registry may be honest and its token service elsewhere; it may also have been
            # told to name a stranger (CVE-2026-33540).
            found = self._for_stranger(str(target), found)

        def ask() -> Token:
            return self._ask(challenge, realm, target, found)

        return persist(ask, self._transport.guard, self._policy)

    def _for_stranger(self, stranger: str, own: Credentials) -> Credentials | None:
        """The registry's credentials, if the user has the same ones for that very host. With other
        ones, the registry would be given a token for an account elsewhere, and chose its scope."""
        found = credentials.find(stranger)
        if found is not None and not found.identity_token and found.basic() == own.basic():
            return found
        self.note = f"credentials are not sent to {stranger}, a stranger to {self._registry}"
        return None

    def _ask(
        self, challenge: Challenge, realm: str, target: hosts.Origin, found: Credentials | None
    ) -> Token:
        service = challenge.get("service")
        if found is not None and found.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": found.identity_token,
                "service": service,
                "scope": " ".join(sorted(self._scopes)),
                "client_id": CLIENT_ID,
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            response = self._transport.send("POST", realm, headers, urlencode(form).encode())
        else:
            response = self._get(self._token_url(realm, service, found), target, found)
        with response:
            return self._read(response, target, found)

    def _token_url(self, realm: str, service: str, found: Credentials | None) -> str:
        parts = urlsplit(realm)
        query = parse_qsl(parts.query, keep_blank_values=True)
        if service:
            query.append(("service", service))
        query += [("scope", scope) for scope in sorted(self._scopes)]
        if found is not None and found.username:
            query.append(("account", found.username))
        return parts._replace(query=urlencode(query), fragment="").geturl()

    def _get(self, url: str, target: hosts.Origin, found: Credentials | None) -> Response:
        for _ in range(_MAX_TOKEN_REDIRECTS + 1):
            headers = {}
            if found is not None and found.username and hosts.origin(url) == target:
                headers["Authorization"] = found.basic()
            response = self._transport.send("GET", url, headers)
            if response.status not in (301, 302, 303, 307, 308):
                return response
            response.close()
            url = hosts.redirect(url, response.headers.get("Location", ""), self._registry)
        raise RegistryError(f"token service {target} redirects without end")

    def _read(self, response: Response, target: hosts.Origin, found: Credentials | None) -> Token:
        what = f"asking {target} for a token"
        again = reply.transient(response, what)
        if again is not None:
            raise again
        if response.status in (400, 401, 403):
            raise self._refusal(reply.read(response), found)
        if response.status != 200:
            raise reply.final(reply.read(response), target, what)
        data = response.read_all(MAX_TOKEN_BODY, "a token")
        try:
            token = _token_decoder.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise RegistryError(f"{what} failed: the answer is not a token") from None
        if not (token.token or token.access_token):
            raise RegistryError(f"{what} failed: the answer holds no token")
        return token

    def _refusal(self, failure: reply.Failure, found: Credentials | None) -> AuthError:
        """The error for a token service that gives no token."""
        if found is None:
            name = self._reference.familiar_repository
            return reply.denied(
                name, failure.text, failure.status, self._reference.domain, self.note
            )
        return AuthError(
            f"registry {self._registry} refuses the credentials of"
            f" {clean(found.username) or 'the identity token'}: {failure.text}",
            hint=f"correct them in {found.source}",
            status=failure.status,
        )


class PushAuthorizer(Authorizer):
    """Authorization to write to a repository, and perhaps to read another one.

    Args:
        also: repository of the same registry out of which a blob is mounted.
    """

    def __init__(
        self,
        transport: Transport,
        reference: Reference,
        registry: hosts.Origin,
        policy: Policy,
        also: str = "",
    ) -> None:
        self._also = also
        super().__init__(transport, reference, registry, policy)

    def _first_scopes(self) -> set[str]:
        scopes = {f"repository:{self._reference.path}:pull,push"}
        return scopes | ({f"repository:{self._also}:pull"} if self._also else set())

    def beside(self, repository: str) -> PushAuthorizer:
        """One that has the right to read from ``repository`` as well: a token of its own, so that
        a registry that does not grant that still gets blobs uploaded."""
        other = PushAuthorizer(
            self._transport, self._reference, self._registry, self._policy, repository
        )
        with self._lock:
            other._loaded = self._loaded
            other._challenge = self._challenge
            if self._challenge is not None and self._held is not None:
                basic = self._challenge.scheme == "basic"
                other._held = _Held(self._held.header if basic else "", math.inf if basic else 0.0)
        return other

    @property
    def anonymous(self) -> bool:
        """Whether the registry asked for credentials, and there were none."""
        return self._loaded is not None and self._loaded[0] is None

    @property
    def basic(self) -> bool:
        """Whether the registry wants name and password, not a token."""
        return self._challenge is not None and self._challenge.scheme == "basic"

    def _refusal(self, failure: reply.Failure, found: Credentials | None) -> AuthError:
        if found is not None:
            return super()._refusal(failure, found)
        name = self._reference.familiar_repository
        return reply.push_denied(name, failure, self._reference.domain, self.note)


def _checked(token: str) -> str:
    """A token that can be put into a header.

    Raises:
        RegistryError: line breaks and other things with which a header could be forged.
    """
    if len(token) > _MAX_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise RegistryError("the token service gave an invalid token")
    return token
