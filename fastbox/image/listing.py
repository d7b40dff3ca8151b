"""``images``: which ones, in which order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from ..errors import InvalidArgument
from ..oci import filters as oci_filters
from ..oci import reference as references
from ..oci import times
from .naming import try_parse

if TYPE_CHECKING:
    from .store import Broken, ImageStore
    from .types import Image

Pattern: TypeAlias = "tuple[bool, re.Pattern[str]]"

FILTERS = frozenset(("before", "dangling", "label", "label!", "reference", "since", "until"))


def select(
    store: ImageStore,
    reference: str | None = None,
    *,
    all: bool = False,
    filters: oci_filters.Filters | None = None,
    broken: list[Broken] | None = None,
) -> list[Image]:
    """Images of the store, newest first.

    Args:
        reference: only the names that fit it: ``ubuntu`` (all its tags), ``ubuntu:22.04``, or a
            glob; like the filter of that name, with which it is combined by OR.
        all: intermediate images too; fastbox has none, so this changes nothing.
        filters: ``dangling``, ``label``, ``label!``, ``before``, ``since``, ``until``,
            ``reference``.
        broken: gets entries that cannot be used.

    Raises:
        InvalidArgument: a bad filter. NotFound: `before` or `since` name no image.
    """
    wanted = filters or {}
    oci_filters.check_keys(wanted, FILTERS)
    dangling = oci_filters.boolean(wanted, "dangling")
    patterns = [*wanted.get("reference", ()), *([reference] if reference else [])]
    # Names as users write them; in full only where the pattern is.
    full = references.DEFAULT_DOMAIN + "/"
    compiled = [(text.startswith(full), _pattern(text)) for text in patterns]
    before = [_created(store.resolve(text)) for text in wanted.get("before", ())]
    before += [times.moment(text) for text in wanted.get("until", ())]
    since = [_created(store.resolve(text)) for text in wanted.get("since", ())]
    result = []
    for image in store.images(broken):
        if dangling is not None and dangling is bool(image.names):
            continue
        created = _created(image)
        if any(created >= limit for limit in before) or any(created <= limit for limit in since):
            continue
        if not oci_filters.labels_match(labels_of(image), wanted):
            continue
        shown = _with_names(image, compiled) if compiled else image
        if not compiled or shown.names or shown.repo_digests:
            result.append(shown)
    # By id among images of the same moment, so that the order is the same every time.
    result.sort(key=lambda image: (-_created(image), image.id))
    return result


def labels_of(image: Image) -> dict[str, str]:
    """The labels in the image's config."""
    config = image.config.get("config")
    labels = config.get("Labels") if isinstance(config, dict) else None
    return labels if isinstance(labels, dict) else {}


def _created(image: Image) -> int:
    return times.rfc3339(image.created) or 0


def _with_names(image: Image, patterns: list[Pattern]) -> Image:
    """The image with only the names that fit."""
    return msgspec.structs.replace(
        image,
        names=[name for name in image.names if _fits(name, patterns)],
        repo_digests=[name for name in image.repo_digests if _fits(name, patterns)],
    )


def _fits(name: str, patterns: list[Pattern]) -> bool:
    reference, _ = try_parse(name)
    if reference is None:
        return False
    familiar = (reference.familiar_repository, reference.familiar)
    full = (reference.repository, reference.canonical)
    return any(
        pattern.fullmatch(form)
        for is_full, pattern in patterns
        for form in (full if is_full else familiar)
    )


def _pattern(glob: str) -> re.Pattern[str]:
    """A Go path.Match pattern: ``*`` and ``?`` stop at slashes."""
    result = []
    position = 0
    while position < len(glob):
        char = glob[position]
        position += 1
        if char == "*":
            result.append("[^/]*")
        elif char == "?":
            result.append("[^/]")
        elif char == "[":
            text, position = _char_class(glob, position)
            result.append(text)
        else:
            if char == "\\":
                if position == len(glob):
                    raise _bad(glob)
                char = glob[position]
                position += 1
            result.append(re.escape(char))
    # A run of stars means what one means, and would take exponential time.
    text = re.sub(r"(?:\[\^/\]\*)+", "[^/]*", "".join(result))
    return re.compile(text)


def _char_class(glob: str, position: int) -> tuple[str, int]:
    """The class after ``[``, and the position after its ``]``."""
    negated = glob[position : position + 1] == "^"
    position += negated
    parts: list[str] = []
    while True:
        char = glob[position : position + 1]
        if char == "]" and parts:
            break
        low, position = _class_char(glob, position)
        high = low
        if glob[position : position + 1] == "-":
            high, position = _class_char(glob, position + 1)
        if high < low:
            raise _bad(glob)
        parts.append(f"{re.escape(low)}-{re.escape(high)}")
    return f"[{'^' if negated else ''}{''.join(parts)}]", position + 1


def _class_char(glob: str, position: int) -> tuple[str, int]:
    char = glob[position : position + 1]
    if char == "\\":
        position += 1
        char = glob[position : position + 1]
    elif char in ("-", "]"):
        raise _bad(glob)
    if not char:
        raise _bad(glob)
    return char, position + 1


def _bad(glob: str) -> InvalidArgument:
    return InvalidArgument(f"invalid reference filter {glob!r}: syntax error in pattern")


def display_names(image: Image) -> list[tuple[str, str]]:
    """(repository, tag) for each row of the table, ``<none>`` where there is none."""
    rows = []
    for name in image.names:
        reference = references.parse(name)
        rows.append((reference.familiar_repository, reference.tag_or_default))
    if not rows:
        repositories = dict.fromkeys(
            parsed.familiar_repository
            for full in image.repo_digests
            if (parsed := try_parse(full)[0]) is not None
        )
        rows = [(repository, "<none>") for repository in repositories]
    return rows or [("<none>", "<none>")]
