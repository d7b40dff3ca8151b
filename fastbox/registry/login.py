"""``login`` and ``logout``: credentials are tried at their registry before they are kept."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from ..errors import AuthError, InvalidArgument, NotFound, RegistryError
from ..oci.reference import Reference
from ..oci.text import check
from . import credentials, hosts, keeping, reply
from .auth import CLIENT_ID, Authorizer, Token
from .challenge import Challenge
from .client import Client
from .credentials import Credentials
from .guard import Guard
from .retry import Policy, persist
from .transport import Response, Transport


class Login(msgspec.Struct, frozen=True):
    """A login that succeeded.

    Attributes:
        server: the registry, as its credentials are called (``registry.example:5000``).
        place: file or helper that has them.
        plain: they are there to be read.
    """

    server: str
    username: str
    place: str
    plain: bool


class Logout(msgspec.Struct, frozen=True):
    """What a logout did; see ``keeping.Forgotten``."""

    server: str
    found: bool
    problems: list[str]
    elsewhere: str = ""


def domain_of(server: str | None) -> str:
    """The registry that a user means by a host, a URL or nothing, as in references.

    Raises:
        InvalidArgument: it is no host.
    """
    if not server:
        return hosts.DOCKER_HUB
    host = server.rpartition("://")[2].partition("/")[0]
    try:
        parts, origin = hosts.split(f"https://{host}")
    except ValueError as error:
        raise InvalidArgument(
            f"{hosts.redact('https://' + host)[8:]!r} is no registry's address: {error}",
            hint="it is HOST or HOST:PORT",
        ) from None
    return hosts.DOCKER_HUB if hosts.is_docker_hub(origin.host) else parts.netloc.lower()


def login(
    server: str | None,
    username: str | None = None,
    password: str | None = None,
    *,
    policy: Policy | None = None,
    guard: Guard | None = None,
) -> Login:
    """Try credentials, then keep them.

    Args:
        server: None is Docker Hub.
        username, password: None for both tries what is kept already.

    Raises:
        NotFound: there is nothing to try.
        AuthError: the registry refuses them, or a helper fails.
        RegistryError: there is no such registry.
        InvalidArgument, PermissionDenied, StoreError: arguments, or the credential file.
    """
    domain = domain_of(server)
    if username is None and password is None:
        found = credentials.find(domain)
        if found is None:
            raise NotFound(f"Not logged in to {credentials.helper_key(domain)}")
        verify(domain, found, policy=policy, guard=guard)
        return Login(credentials.helper_key(domain), found.username, found.source, False)
    secret = Credentials(username or "", password or "")
    if not secret.username or not secret.password:
        raise InvalidArgument("username is empty" if not secret.username else "password is empty")
    check("the user name", secret.username)
    check("the password", secret.password)
    if ":" in secret.username:
        raise InvalidArgument("a user name cannot contain a colon (RFC 7617)")
    try:
        secret.basic()
    except UnicodeEncodeError:  # an argument of other bytes
        raise InvalidArgument("user name and password have to be UTF-8") from None
    token = verify(domain, secret, policy=policy, guard=guard)
    if token:
        secret = Credentials(secret.username, "", token)
    kept = keeping.keep(domain, secret)
    return Login(credentials.helper_key(domain), secret.username, kept.place, kept.plain)


def logout(server: str | None) -> Logout:
    """Forget the credentials of a registry.

    Raises:
        InvalidArgument, PermissionDenied, StoreError: argument, or the credential file.
    """
    domain = domain_of(server)
    done = keeping.forget(domain)
    return Logout(credentials.helper_key(domain), done.found, done.problems, done.elsewhere)


def verify(
    domain: str,
    secret: Credentials,
    *,
    policy: Policy | None = None,
    guard: Guard | None = None,
) -> str:
    """Ask a registry whether it takes these credentials.

    Returns:
        The identity token that its token service gives in exchange, or ``""``.

    Raises:
        AuthError: it does not. RegistryError: it cannot be asked.
    """
    guard = guard or Guard()
    client = _LoginClient(domain, secret, guard, policy or Policy())
    try:
        return client.verify()
    finally:
        client.close()
        guard.close()


class _LoginClient(Client):
    def __init__(self, domain: str, secret: Credentials, guard: Guard, policy: Policy) -> None:
        super().__init__(Reference(domain, ""), guard, policy, connections=1)
        self._secret = secret

    def _new_authorizer(self, registry: hosts.Origin) -> Authorizer:
        return _LoginAuthorizer(
            self._transport, self.reference, registry, self.policy, self._secret
        )

    def verify(self) -> str:
        def ask() -> None:
            response = self._request("GET", "", {}, path="")
            if response.status == 200:
                self._check_page(response)
                return
            failure = reply.read(response)
            if failure.status in (401, 403):
                raise _wrong(response.url, failure)
            raise reply.final(failure, hosts.origin(response.url), "login")

        persist(ask, self.guard, self.policy)
        authorizer = self._authorizer
        assert isinstance(authorizer, _LoginAuthorizer)
        return authorizer.identity_token

    def _check_page(self, response: Response) -> None:
        """Raises RegistryError: it is a page for people, which asks for no password."""
        with response:
            html = "html" in response.headers.get("Content-Type", "").lower()
            if html and response.read().lstrip()[:1] == b"<":
                raise RegistryError(
                    f"{self._where()} answers with a web page", hint="is that host a registry?"
                )


class _LoginAuthorizer(Authorizer):
    """Takes the credentials that it is given, and asks for no right to anything."""

    def __init__(
        self,
        transport: Transport,
        reference: Reference,
        registry: hosts.Origin,
        policy: Policy,
        secret: Credentials,
    ) -> None:
        super().__init__(transport, reference, registry, policy)
        self._secret = secret
        self.identity_token = ""

    def _first_scopes(self) -> set[str]:
        return set()

    def _credentials(self) -> Credentials | None:
        return self._secret

    def _for_stranger(self, stranger: str, own: Credentials) -> Credentials | None:
        found = super()._for_stranger(stranger, own)
        if found is not None:
            return found
        raise AuthError(
            f"registry {self._registry} names {stranger} as its token service, a stranger that"
            " does not get the password",
            hint="if they belong together, log in there first, with the same user name and"
            f" password: fastbox login {stranger}",
        )

    def _token_url(self, realm: str, service: str, found: Credentials | None) -> str:
        parts = urlsplit(super()._token_url(realm, service, found))
        query = parse_qsl(parts.query, keep_blank_values=True)
        query += [("client_id", CLIENT_ID), ("offline_token", "true")]
        return parts._replace(query=urlencode(query)).geturl()

    def _token(self, challenge: Challenge, found: Credentials | None) -> Token:
        token = super()._token(challenge, found)
        self.identity_token = token.refresh_token
        return token

    def _refusal(self, failure: reply.Failure, found: Credentials | None) -> AuthError:
        return _wrong(f"{self._registry.scheme}://{self._registry}/v2/", failure)


def _wrong(url: str, failure: reply.Failure) -> AuthError:
    text = failure.text
    if "HTTP status" in text:
        text = "unauthorized: incorrect username or password"
    elif not text.startswith(("unauthorized", "denied")):
        text = f"unauthorized: {text}"
    return AuthError(f'Get "{hosts.redact(url)}": {text}', status=failure.status)
