"""HTTP/1.1 over urllib3's connection pools: one request, one answer.

No redirect is followed and nothing is retried here. What goes wrong comes out either as
``Transient`` (worth another try) or as RegistryError (final).
"""

from __future__ import annotations

import functools
import socket
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .. import errors
from ..errors import RegistryError
from . import hosts, tls
from .body import FileBody
from .dial import Forbidden, dial
from .guard import Exchange, Guard, Wire
from .insecure import Insecure
from .retry import Policy, Transient, describe

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool, PoolManager

USER_AGENT = "fastbox/0.1 (+OCI distribution client)"
_CHUNK = 256 * 1024

Dial = Callable[[str, int, float], socket.socket]


class NoTLS(RegistryError):
    """The server does not speak TLS on that port; where the user allows it, HTTP may do."""


class Refused(RegistryError):
    """Nobody listens on that port of this machine."""


class _Current(threading.local):
    """What the connection classes below need from the request that this thread makes."""

    exchange: Exchange | None = None
    dial: Dial | None = None
    policy: Policy | None = None
    patience: float = 0.0  # seconds for the answer to a body


_current = _Current()


class Response:
    """An answer whose body was not read yet. Close it (it is a context manager).

    Attributes:
        url: of the request.
        headers: with case-insensitive names.
    """

    def __init__(self, raw: BaseHTTPResponse, url: str, exchange: Exchange, policy: Policy) -> None:
        self._raw = raw
        self._exchange = exchange
        self._policy = policy
        self._since_extended = 0
        self.url = url
        self.status = raw.status
        self.headers: Mapping[str, str] = raw.headers
        exchange.extend(policy.stall)

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def all(self, name: str) -> list[str]:
        """Every value of a header that may come several times."""
        values: list[str] = self._raw.headers.getlist(name)
        return values

    @property
    def length(self) -> int | None:
        """Content-Length, None when absent (chunked, or until the connection ends)."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    def read(self) -> bytes:
        """The next piece of the body as it comes, ``b""`` at the end.

        Raises:
            Transient: the connection broke, or the peer sends less than the policy's floor.
        """
        try:
            data: bytes = self._raw.read1(_CHUNK, decode_content=False) or b""
        except Exception as error:
            self.close()
            raise _failure(error, self._exchange, self.url) from error
        if self._exchange.expired:
            self.close()
            raise _stalled(self.url)
        self._since_extended += len(data)
        if self._since_extended >= self._policy.floor:
            self._since_extended = 0
            self._exchange.extend(self._policy.stall)
        return data

    def read_all(self, limit: int, what: str) -> bytes:
        """The whole body.

        Raises:
            RegistryError: it is larger than ``limit`` bytes.
            Transient: as ``read``.
        """
        pieces: list[bytes] = []
        size = 0
        while True:
            data = self.read()
            if not data:
                return b"".join(pieces)
            size += len(data)
            if size > limit:
                self.close()
                where = hosts.origin(self.url)
                raise RegistryError(
                    f"{what} from {where} is too large: the limit is {limit} bytes",
                    status=self.status,
                )
            pieces.append(data)

    def close(self) -> None:
        """Give the connection back if the body was read, else drop it."""
        self._exchange.end()
        try:
            self._raw.close()
        except Exception:  # a TLS goodbye to a dead peer
            pass


class Transport:
    """Connections to any number of hosts, shared by the threads of one pull.

    Args:
        domain: the registry as the user wrote it: the key of ``certs.d`` directories.
        insecure: hosts whose certificates do not count.
    """

    def __init__(
        self,
        domain: str,
        guard: Guard,
        policy: Policy,
        *,
        connections: int = 4,
        insecure: Insecure | None = None,
    ) -> None:
        self.guard = guard
        self.policy = policy
        self.insecure = insecure or Insecure([])
        self.registry: hosts.Origin | None = None
        self._domain = domain
        self._connections = connections
        self._pools: dict[str, PoolManager] = {}
        self._lock = threading.Lock()
        self._answered: set[hosts.Origin] = set()

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            managers, self._pools = list(self._pools.values()), {}
        for manager in managers:
            # clear() leaves the sockets to the garbage collector.
            for key in manager.pools.keys():  # noqa: SIM118
                pool = manager.pools.get(key)
                if pool is not None:
                    pool.close()
            manager.clear()

    def send(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes | FileBody | None = None,
        *,
        patience: float = 0.0,
    ) -> Response:
        """Send one request and read the answer's head.

        Args:
            patience: seconds that the answer to a body may take, if more than the policy's stall.

        Raises:
            Transient, RegistryError: no answer.
            Cancelled: by the guard.
        """
        _, origin = hosts.split(url)
        proxy = _proxy_for(url, origin)
        manager = self._manager(origin, proxy)
        exchange = self.guard.begin(self.policy.connect + self.policy.stall)
        _current.exchange = exchange
        _current.dial = functools.partial(self._dial, None if proxy else origin)
        _current.policy = self.policy
        _current.patience = max(patience, self.policy.stall)
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
        if isinstance(body, FileBody):
            headers["Content-Length"] = str(body.size)
        try:
            raw = manager.urlopen(
                method,
                url,
                body=body,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=_timeout(self.policy, _current.patience),
            )
        except BaseException as error:
            exchange.end()
            if not isinstance(error, Exception):
                raise
            fresh = origin not in self._answered
            plain = hosts.is_loopback(origin.host) or self.insecure.covers(origin)
            raise _failure(error, exchange, url, fresh=fresh, plain=plain) from error
        finally:
            _current.exchange = _current.dial = _current.policy = None
        self._answered.add(origin)
        return Response(raw, url, exchange, self.policy)

    def _dial(self, origin: hosts.Origin | None, host: str, port: int, timeout: float) -> Any:
        """Connect, keeping hosts that the registry named away from our own network's corners."""
        registry = self.registry
        free = origin is None or registry is None or hosts.is_loopback(registry.host)
        if origin is not None and registry is not None and origin.host == registry.host:
            free = True
        by_name = origin is None or self.insecure.has_name(origin)
        listed = origin is not None and not by_name and self.insecure.has_address(origin)

        def allowed(address: str) -> bool:
            # Where a network is listed, it is trusted, not the name: not with another address.
            # Whom the registry names stays away from ours, though people list 127.0.0.0/8.
            public = free or hosts.is_public_enough(address)
            return public and (not listed or self.insecure.holds(address))

        return dial(host, port, timeout=timeout, check=self._check, allowed=allowed)

    def _check(self) -> None:
        """The end of an attempt to connect, name resolution included."""
        self.guard.check()
        if _current.exchange is not None and _current.exchange.expired:
            raise TimeoutError("timeout")

    def _manager(self, origin: hosts.Origin, proxy: str | None) -> PoolManager:
        # A client certificate from certs.d is for the registry only, so others get a manager of
        # their own.
        own = self.registry is None or origin == self.registry
        verify = not self.insecure.covers(origin)
        key = f"{own} {verify} {proxy or ''}"
        with self._lock:
            manager = self._pools.get(key)
            if manager is None:
                context = tls.context(self._domain if own else None, verify=verify)
                manager = _new_manager(context, proxy, self._connections)
                self._pools[key] = manager
            return manager


@functools.cache
def _pool_classes() -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's pools, over connections that the guard can cut."""
    import http.client

    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection

    class Strict(http.client.HTTPResponse):
        def begin(self) -> None:
            super().begin()
            lengths = ",".join(self.headers.get_all("Content-Length", []))
            found = {length.strip() for length in lengths.split(",")} - {""}
            if len(found) > 1 or not all(n.isascii() and n.isdigit() for n in found):
                raise http.client.HTTPException("invalid Content-Length")

    class Guarded(HTTPConnection):
        response_class = Strict
        fastbox_wire: Wire | None = None

        def _new_conn(self) -> socket.socket:
            assert _current.dial is not None and _current.exchange is not None
            timeout = self.timeout if isinstance(self.timeout, (int, float)) else 30.0
            host = self._dns_host.strip("[]").rstrip(".")
            sock = _current.dial(host, self.port, float(timeout))
            wire = Wire(sock)
            try:
                _current.exchange.attach(wire)
            except BaseException:
                wire.orphan()
                sock.close()
                raise
            self.fastbox_wire = wire
            return sock

        def connect(self) -> None:
            super().connect()
            if _current.exchange is not None:
                _current.exchange.ready = True

        def request(self, *arguments: Any, **keywords: Any) -> None:
            # A connection out of the pool does not pass _new_conn.
            if _current.exchange is not None and self.fastbox_wire is not None:
                _current.exchange.attach(self.fastbox_wire)
                _current.exchange.ready = True
            super().request(*arguments, **keywords)
            if _current.exchange is not None:
                _current.exchange.extend(_current.patience)

        def send(self, data: Any) -> None:
            if not isinstance(data, FileBody):
                super().send(data)
                return
            assert _current.exchange is not None and _current.policy is not None
            data.send(self.sock, _current.exchange, _current.policy)

        def close(self) -> None:
            wire, self.fastbox_wire = self.fastbox_wire, None
            super().close()
            if wire is not None:
                wire.orphan()

    class GuardedTLS(Guarded, HTTPSConnection):
        pass

    class Pool(HTTPConnectionPool):
        ConnectionCls = Guarded

    class TLSPool(HTTPSConnectionPool):
        ConnectionCls = GuardedTLS

        def _validate_conn(self, conn: Any) -> None:
            # Not urllib3's, which warns of hosts that the user excepted from verification.
            if conn.is_closed:
                conn.connect()

    return {"http": Pool, "https": TLSPool}


def _new_manager(context: Any, proxy: str | None, connections: int) -> PoolManager:
    from urllib3 import PoolManager, ProxyManager, make_headers
    from urllib3.util import parse_url

    options: dict[str, Any] = {
        "num_pools": 16,
        "maxsize": connections,
        "ssl_context": context,
        "retries": False,
    }
    if proxy is None:
        manager = PoolManager(**options)
    else:
        auth = parse_url(proxy).auth
        headers = make_headers(proxy_basic_auth=auth) if auth else None
        manager = ProxyManager(proxy, proxy_headers=headers, **options)
    manager.pool_classes_by_scheme = _pool_classes()
    return manager


def _timeout(policy: Policy, patience: float) -> Any:
    from urllib3 import Timeout

    return Timeout(connect=policy.connect, read=patience)


def _proxy_for(url: str, origin: hosts.Origin) -> str | None:
    """The proxy that the environment names (HTTPS_PROXY, HTTP_PROXY, NO_PROXY)."""
    if hosts.is_loopback(origin.host):
        return None
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    proxy: str | None = getproxies_environment().get(origin.scheme)
    if not proxy or proxy_bypass_environment(f"{origin.host}:{origin.port}"):
        return None
    if "://" not in proxy:
        proxy = "http://" + proxy
    if not proxy.startswith(("http://", "https://")):
        raise RegistryError(
            f"cannot reach {origin}: unsupported proxy {hosts.redact(proxy)}",
            hint="HTTP_PROXY and HTTPS_PROXY take http:// and https:// proxies",
        )
    return proxy


def _stalled(url: str) -> Transient:
    error = RegistryError(f"{hosts.origin(url)} stopped sending data")
    return Transient(error)


def _failure(
    error: Exception, exchange: Exchange, url: str, *, fresh: bool = False, plain: bool = False
) -> Exception:
    """What a failed exchange means: Cancelled, Transient or a final RegistryError.

    Args:
        fresh: the host never answered.
        plain: plain HTTP would do.
    """
    if isinstance(error, errors.FastboxError):
        return error
    from .guard import Cancelled

    if exchange.guard.cancelled:
        return Cancelled()
    if exchange.expired and exchange.connected:
        return _stalled(url)
    import http.client
    import ssl

    origin = hosts.origin(url)
    from urllib3 import exceptions as u

    causes = list(_causes(error))
    shaking = origin.scheme == "https" and exchange.connected and not exchange.ready
    for cause in causes:
        final = _final(cause, origin, shaking)
        if final is not None:
            return final
    if shaking and fresh and plain:
        return NoTLS(f"cannot reach registry {origin}: it does not answer the TLS handshake")
    for cause in causes:
        if isinstance(cause, u.IncompleteRead):
            return Transient(RegistryError(f"{origin} closed the connection in mid-transfer"))
        if isinstance(cause, (TimeoutError, u.TimeoutError)):
            return Transient(RegistryError(f"{origin} does not answer: timeout"), fresh=fresh)
        if isinstance(cause, ConnectionRefusedError) and hosts.is_loopback(origin.host) and fresh:
            return Refused(
                f"cannot reach registry {origin}: connection refused",
                hint="is a registry running there?",
            )
    for cause in causes:
        if isinstance(cause, http.client.RemoteDisconnected):
            return Transient(RegistryError(f"{origin} closes the connection without an answer"))
        if isinstance(cause, http.client.HTTPException):
            return Transient(RegistryError(f"{origin} gives no valid HTTP answer"), fresh=fresh)
    root = next((c for c in causes if isinstance(c, OSError) and c.errno), causes[-1])
    verb = "cannot reach registry" if fresh else "lost the connection to"
    if isinstance(root, (u.HTTPError, ssl.SSLError)) and fresh:
        verb = "no valid HTTP answer from"
    return Transient(RegistryError(f"{verb} {origin}: {describe(root)}"), fresh=fresh)


def _final(cause: BaseException, origin: hosts.Origin, shaking: bool) -> Exception | None:
    """The verdict on causes that no retry cures, and on names that may resolve later."""
    import ssl

    if isinstance(cause, ssl.SSLCertVerificationError):
        return RegistryError(
            f"cannot trust registry {origin}: certificate verification failed:"
            f" {cause.verify_message.rstrip('.')}",
            hint=f"put the CA's certificate into /etc/docker/certs.d/{origin}/ca.crt",
        )
    if isinstance(cause, ssl.SSLError) and shaking:
        if "WRONG_VERSION_NUMBER" in str(cause) or "HTTP_REQUEST" in str(cause):
            return NoTLS(
                f'Get "https://{origin}/v2/": http: server gave HTTP response to HTTPS client',
                hint=f"if it may be trusted without TLS, add {origin} to insecure-registries in"
                " /etc/fastbox/config.toml or /etc/docker/daemon.json",
            )
        if not isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            reason = cause.reason or str(cause)
            text = reason.replace("_", " ").lower()
            return RegistryError(f"cannot reach registry {origin}: TLS: {text}")
    if isinstance(cause, Forbidden):
        return RegistryError(
            f"{origin} is not reached: the registry names it, and it has a loopback or"
            " link-local address"
        )
    if isinstance(cause, socket.gaierror):
        if cause.errno == socket.EAI_AGAIN:
            error = RegistryError(f"cannot look up {origin.host}: temporary failure of DNS")
            return Transient(error, fresh=True)
        return RegistryError(
            f"cannot reach registry {origin}: no such host",
            hint="check the name; a name without a registry part means Docker Hub",
        )
    return None


def _causes(error: BaseException | None) -> list[BaseException]:
    """An exception and what is behind it, urllib3's nesting included, outermost first."""
    found: list[BaseException] = []
    queue: list[BaseException | None] = [error]
    while queue:
        item = queue.pop(0)
        # What was being handled when the request was made (no such image here) is no cause of it.
        if (
            item is None
            or item in found
            or isinstance(item, errors.FastboxError)
            or len(found) > 20
        ):
            continue
        found.append(item)
        queue += [item.__cause__, item.__context__]
        queue += [a for a in item.args if isinstance(a, BaseException)]
        reason = getattr(item, "reason", None)
        if isinstance(reason, BaseException):
            queue.append(reason)
    return found
