"""``--filter`` values, with Docker's rules: same key twice is OR, different keys are AND, but all
of several ``label=`` must fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ..errors import InvalidArgument

Filters = Mapping[str, Sequence[str]]

_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))


def check_keys(filters: Filters, known: Collection[str]) -> None:
    """Raises InvalidArgument for a key that is not known (Docker's text)."""
    for key in filters:
        if key not in known:
            raise InvalidArgument(
                f"invalid filter '{key}'", hint=f"known filters: {', '.join(sorted(known))}"
            )


def boolean(filters: Filters, key: str) -> bool | None:
    """The value of a yes/no filter; None when it is not given, or given as both.

    Raises:
        InvalidArgument: neither yes nor no (Docker's text).
    """
    values = list(filters.get(key, ()))
    found: set[bool] = set()
    for value in values:
        if value not in _TRUE and value not in _FALSE:
            raise InvalidArgument(f"invalid filter '{key}=[{' '.join(values)}]'")
        found.add(value in _TRUE)
    return found.pop() if len(found) == 1 else None


def labels_match(labels: Mapping[str, str], filters: Filters) -> bool:
    """Whether labels satisfy ``label`` (all of them) and ``label!`` (not all of them)."""
    wanted = filters.get("label", ())
    if not all(_has(labels, entry) for entry in wanted):
        return False
    unwanted = filters.get("label!", ())
    return not (unwanted and all(_has(labels, entry) for entry in unwanted))


def _has(labels: Mapping[str, str], entry: str) -> bool:
    key, equals, value = entry.partition("=")
    return key in labels and (not equals or labels[key] == value)
