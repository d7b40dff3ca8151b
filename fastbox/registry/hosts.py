"""Which hosts are spoken to, and which of them may learn what.

Every URL that a registry hands out (redirect, token realm) passes one of the checks here before
it is used.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from urllib.parse import SplitResult, urljoin, urlsplit

import msgspec

from ..errors import InvalidArgument, RegistryError

DOCKER_HUB = "docker.io"
DOCKER_HUB_HOST = "registry-1.docker.io"
# The key of Docker Hub's credentials in every credential file and helper, for historical reasons.
DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_HUB_NAMES = frozenset((DOCKER_HUB, "index.docker.io", DOCKER_HUB_HOST))
_PORTS = {"http": 80, "https": 443}


class Origin(msgspec.Struct, frozen=True):
    """Scheme, host (lower case, no brackets) and port: who learns what is sent."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def is_docker_hub(host: str) -> bool:
    """Whether the host (without port) is one of Docker Hub's names."""
    return host in _HUB_NAMES


def registry_host(domain: str) -> str:
    """The host (and port) that serves a reference's domain: ``docker.io`` is an alias."""
    return DOCKER_HUB_HOST if domain in _HUB_NAMES else domain


def base_urls(domain: str, insecure: Callable[[Origin], bool] | None = None) -> list[str]:
    """Where to try, in this order. Plain HTTP is for loopback, and for what the user excepts
    (CVE-2014-5277 and kin).

    Args:
        insecure: whether the user excepts a host.

    Raises:
        InvalidArgument: the domain is fit for a reference, but no host.
    """
    host = registry_host(domain)
    urls = [f"https://{host}"]
    try:
        found = origin(urls[0])
    except ValueError as error:
        reason = str(error)
        raise InvalidArgument(
            f"cannot reach registry {host}: {reason[:1].lower()}{reason[1:]}"
        ) from None
    if is_loopback(found.host) or (insecure is not None and insecure(found)):
        urls.append(f"http://{host}")
    return urls


def is_loopback(host: str) -> bool:
    """localhost, 127.0.0.0/8 or ::1, by name only: what DNS says of other names counts not."""
    if host == "localhost":
        return True
    address = _address(host)
    if address is None:
        return False
    return address[0] == 127 if len(address) == 4 else address == b"\0" * 15 + b"\1"


def is_public_enough(address: str) -> bool:
    """Whether a host that a registry named may live at this address.

    Loopback, link-local (cloud metadata services), unspecified and multicast addresses are ours;
    private networks are allowed, because registries and their storage live there.
    """
    packed = _address(address.partition("%")[0])
    if packed is None:
        return False
    if len(packed) == 16:
        # IPv4 in disguise: mapped, and NAT64.
        if packed.startswith((b"\0" * 10 + b"\xff\xff", b"\x00\x64\xff\x9b" + b"\0" * 8)):
            packed = packed[12:]
        else:
            link_local = packed[0] == 0xFE and packed[1] & 0xC0 == 0x80
            return packed[:15] != b"\0" * 15 and packed[0] != 0xFF and not link_local
    return packed[0] not in (0, 127) and packed[:2] != b"\xa9\xfe" and packed[0] < 224


def _address(host: str) -> bytes | None:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
    return None


def split(url: str) -> tuple[SplitResult, Origin]:
    """Parse an absolute http(s) URL that came from outside.

    Raises:
        ValueError: another scheme, no host, userinfo, control characters, a bad port.
    """
    if not url.isascii() or any(c <= " " or c == "\x7f" or c == "\\" for c in url):
        raise ValueError("it has characters that do not belong in a URL")
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        raise ValueError("it is neither http nor https")
    if not parts.hostname or "@" in parts.netloc:
        raise ValueError("it has no host" if not parts.hostname else "it carries a user name")
    port = parts.port  # ValueError when out of range
    port = _PORTS[parts.scheme] if port is None else port
    return parts, Origin(parts.scheme, parts.hostname.lower(), port)


def origin(url: str) -> Origin:
    """Who is spoken to by this URL (one that ``split`` accepts)."""
    return split(url)[1]


def redact(url: str) -> str:
    """The URL without what may be secret: user, query (presigned URLs), fragment."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "an invalid URL"
    text = f"{parts.scheme}://{host}{parts.path}"
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text[:200])


def redirect(current: str, location: str, registry: Origin, *, how: str = "redirects to") -> str:
    """The URL to go to next.

    Args:
        current: the URL that answered with a redirect (or with where an upload goes).
        registry: the registry at which it all began.
        how: what the registry does, for messages.

    Raises:
        RegistryError: the target is not acceptable.
    """
    where = f"registry {registry} {how}"
    try:
        url = urljoin(current, location)
        parts, target = split(url)
    except ValueError as error:
        raise RegistryError(f"{where} {redact(location)}, which is refused: {error}") from None
    if origin(current).scheme == "https" and target.scheme != "https":
        raise RegistryError(f"{where} plain HTTP ({redact(url)}), which is refused")
    if not may_reach(target.host, registry):
        raise RegistryError(
            f"{where} {target.host}, which is refused: a loopback or link-local address"
        )
    return parts._replace(fragment="").geturl()


def may_reach(host: str, registry: Origin) -> bool:
    """Whether this registry may send us to the host, as far as its name tells."""
    if host == registry.host or is_loopback(registry.host):
        return True
    return host != "localhost" and (_address(host) is None or is_public_enough(host))


def check_realm(
    realm: str, registry: Origin, insecure: Callable[[Origin], bool] | None = None
) -> Origin:
    """Whether a token may be asked for at this URL at all, without credentials.

    Args:
        insecure: whether the user excepts a host from verified TLS.

    Raises:
        RegistryError: no URL, plain HTTP for a registry with TLS, a host that is not public.
    """
    where = f"registry {registry} names {redact(realm)} as its token service, which is refused"
    try:
        _, target = split(realm)
    except ValueError as error:
        raise RegistryError(f"{where}: {error}") from None
    excepted = insecure is not None and insecure(target)
    plain = is_loopback(target.host) or target.host == registry.host or excepted
    if target.scheme != "https" and (registry.scheme == "https" or not plain):
        raise RegistryError(f"{where}: it is plain HTTP")
    is_literal = _address(target.host) is not None
    if not may_reach(target.host, registry) or (
        is_literal
        and target.host != registry.host
        and not is_loopback(registry.host)
        and not excepted
    ):
        raise RegistryError(f"{where}: it is an address outside of the registry's own")
    return target


def same_family(registry: str, realm: str) -> bool:
    """Whether the realm's host belongs to those who run the registry's host.

    True for one host, for a host below the registry's parent domain (``registry.gitlab.com`` and
    ``gitlab.com``, ``registry-1.docker.io`` and ``auth.docker.io``), never across what looks like
    a public suffix: the parent needs two labels, three below two short ones (``co.uk``).
    """
    if registry == realm:
        return True
    if _address(registry) is not None or _address(realm) is not None:
        return False
    parent = registry.split(".")[1:]
    needed = 3 if len(parent) >= 2 and len(parent[-1]) == 2 and len(parent[-2]) <= 3 else 2
    if len(parent) < needed:
        # example.com itself may send to auth.example.com.
        parent = registry.split(".")
        if len(parent) < needed:
            return False
    domain = ".".join(parent)
    return realm == domain or realm.endswith("." + domain)
