"""``events --filter``: which events are shown.

As in Docker: values of one key are alternatives, keys must all fit, and so must several ``label``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import InvalidArgument
from ..oci import filters as oci_filters
from ..oci import reference as references
from .event import Event

_ACTORS = (
    "container", "daemon", "volume", "network", "plugin", "service", "node", "secret", "config",
)  # fmt: skip
KEYS = frozenset(("type", "event", "image", "label", "scope", *_ACTORS))
# ``event=exec_start`` means all of ``exec_start: COMMAND``.
_WITH_DETAILS = frozenset(("health_status", "exec_create", "exec_start"))

Test = Callable[[Event], bool]


def compile(filters: oci_filters.Filters) -> Test:
    """The test that an event must pass.

    Raises:
        InvalidArgument: an unknown key.
    """
    oci_filters.check_keys(filters, KEYS)
    tests: list[Test] = []
    for key, values in filters.items():
        if values:
            tests.append(_test(key, values))
    return lambda event: all(test(event) for test in tests)


def _test(key: str, values: Sequence[str]) -> Test:
    prefixes, wanted = tuple(values), frozenset(values)
    if key == "type":
        return lambda event: event.type in wanted
    if key == "scope":
        return lambda event: event.scope in wanted
    if key == "event":
        if wanted & _WITH_DETAILS:
            return lambda event: event.action.startswith(prefixes)
        return lambda event: event.action in wanted
    if key == "label":
        return lambda event: oci_filters.labels_match(event.attributes, {"label": values})
    if key == "image":
        return lambda event: not wanted.isdisjoint(_image_names(event))
    # The id, or the start of it; the name likewise.
    return lambda event: event.id.startswith(prefixes) or event.name.startswith(prefixes)


def _image_names(event: Event) -> set[str]:
    """What an image's event, or that of a container made of an image, can be asked for by."""
    name = event.attributes.get("name" if event.type == "image" else "image", "")
    return {event.id, name, _without_tag(event.id), _without_tag(name)}


def _without_tag(name: str) -> str:
    try:
        return references.parse(name).familiar_repository
    except InvalidArgument:
        return name
