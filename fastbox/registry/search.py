"""``search``: Docker Hub's index, the same interface of a private registry, or its catalog.

The interface is that of the first registry protocol (``/v1/search?q=&n=``), which Docker Hub still
has; others list their repositories (``/v2/_catalog``), where the term is looked for here.
"""

from __future__ import annotations

from urllib.parse import urlencode

import msgspec

from ..errors import AuthError, InvalidArgument, RegistryError
from ..oci.reference import DEFAULT_DOMAIN, LEGACY_DOMAIN, OFFICIAL, Reference
from ..oci.text import check
from . import hosts, reply
from .client import Client
from .guard import Guard
from .retry import Policy, persist
from .text import clean

DEFAULT_LIMIT = 25
MAX_LIMIT = 100
_MAX_ANSWER = 4 << 20  # bytes
_FILTERS = ("is-automated", "is-official", "stars")
_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}


class SearchResult(msgspec.Struct, kw_only=True):
    """A repository. ``name`` can be pulled."""

    name: str = ""
    description: str | None = ""
    star_count: int = 0
    is_official: bool = False
    is_automated: bool = False


class _Answer(msgspec.Struct):
    results: list[SearchResult] | None = None


class _Filter(msgspec.Struct):
    stars: int = 0
    official: bool | None = None
    automated: bool | None = None

    def accepts(self, found: SearchResult) -> bool:
        return (
            found.star_count >= self.stars
            and self.official in (None, found.is_official)
            and self.automated in (None, found.is_automated)
        )


def search(
    term: str,
    *,
    limit: int = DEFAULT_LIMIT,
    filters: dict[str, list[str]] | None = None,
    policy: Policy | None = None,
) -> list[SearchResult]:
    """See ``Engine.search``."""
    if limit > MAX_LIMIT:
        raise InvalidArgument(f"limit {limit} is outside the range of [1, {MAX_LIMIT}]")
    check("the term", term)
    limit = limit if limit > 0 else DEFAULT_LIMIT
    wanted = _filter(filters or {})
    domain, words = _split(term)
    guard = Guard()
    # The path is the first scope that a token is asked for; the registry names a better one.
    base = f"https://{domain}" if domain == LEGACY_DOMAIN else None
    client = Client(Reference(domain, "search"), guard, policy, base=base)
    try:
        found = _index(client, domain, words, limit)
        if found is None:
            found = _catalog(client, domain, words, limit)
    except AuthError as error:
        error.hint = error.hint or reply.login_hint(domain)
        raise
    finally:
        client.close()
        guard.close()
    return [result for result in found if wanted.accepts(result)][:limit]


def _filter(filters: dict[str, list[str]]) -> _Filter:
    for key in filters:
        if key not in _FILTERS:
            raise InvalidArgument(f"invalid filter '{key}'")
    result = _Filter()
    for text in filters.get("stars", ()):
        if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) < 12):
            raise InvalidArgument(f"invalid filter 'stars=[{text}]'")
        result.stars = max(result.stars, int(text))
    for name in ("is-official", "is-automated"):
        values = filters.get(name)
        if not values:
            continue
        if any(value.lower() not in _BOOLEANS for value in values) or len(values) > 1:
            raise InvalidArgument(f"invalid filter '{name}=[{' '.join(values)}]'")
        setattr(result, name[3:], _BOOLEANS[values[0].lower()])
    return result


def _split(term: str) -> tuple[str, str]:
    """Registry and words of a term, as Docker tells them apart.

    Raises:
        InvalidArgument: it is a URL, or names no host.
    """
    if "://" in term:
        raise InvalidArgument(
            f"invalid repository name: repository name ({term}) should not have a scheme"
        )
    first, slash, rest = term.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = DEFAULT_DOMAIN, term
    if first in (DEFAULT_DOMAIN, LEGACY_DOMAIN):
        return LEGACY_DOMAIN, rest.removeprefix(OFFICIAL)
    if first.startswith("-") or first.endswith("-"):
        raise InvalidArgument(f"invalid index name ({first}). Cannot begin or end with a hyphen")
    try:
        hosts.origin(f"https://{first}")
    except ValueError as error:
        raise InvalidArgument(f"invalid index name ({first}): {error}") from None
    return first, rest


def _index(client: Client, domain: str, words: str, limit: int) -> list[SearchResult] | None:
    """What the registry's own search finds; None if it has no such thing."""
    what = f"searching {domain}"
    query = urlencode({"q": words, "n": limit}, errors="surrogateescape")

    def ask() -> list[SearchResult] | None:
        with client.get(f"/v1/search?{query}") as response:
            if response.status in (404, 405, 410) and domain != LEGACY_DOMAIN:
                return None
            if response.status != 200:
                raise reply.final(reply.read(response), domain, what)
            kind = response.headers.get("Content-Type", "").lower()
            data = response.read_all(_MAX_ANSWER, "an answer to a search")
        if "html" in kind and domain != LEGACY_DOMAIN:
            return None  # a registry with pages for people, which has one for every path
        try:
            return msgspec.json.decode(data, type=_Answer).results or []
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise RegistryError(f"{what} failed: the answer is not a list of results") from None

    found = persist(ask, client.guard, client.policy)
    if found is None:
        return None
    prefix = "" if domain == LEGACY_DOMAIN else f"{domain}/"
    for result in found:
        result.name = clean(result.name)
        result.description = clean(result.description or "")
        if prefix and not result.name.startswith(prefix):
            result.name = prefix + result.name
    return found


def _catalog(client: Client, domain: str, words: str, limit: int) -> list[SearchResult]:
    """The repositories of a registry with the term in their names."""
    found: list[SearchResult] = []
    words = words.lower()
    for page in client.pages("/v2/_catalog?n=100", "repositories", f"the catalog of {domain}"):
        names = [clean(name) for name in page if words in name.lower()]
        found += [SearchResult(name=f"{domain}/{name}") for name in names]
        if len(found) >= limit:
            break
    return found
