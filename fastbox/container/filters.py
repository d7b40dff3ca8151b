"""``ps --filter``: which containers are listed.

Values of one key are alternatives, keys must all fit; several ``label`` must all fit too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..errors import InvalidArgument, NotFound
from ..network import ports
from . import networks
from .layered import image_layers
from .record import Status

if TYPE_CHECKING:
    from ..image.types import Image
    from .record import Container

HEALTH = ("healthy", "none", "starting", "unhealthy")
KEYS = frozenset(
    (
        "ancestor",
        "before",
        "exited",
        "expose",
        "health",
        "id",
        "is-task",
        "isolation",
        "label",
        "label!",
        "name",
        "network",
        "publish",
        "since",
        "status",
        "volume",
    )
)

Filters = dict[str, list[str]]


def check(filters: Filters) -> None:
    """Raises:
    InvalidArgument: an unknown key, or a value that the key cannot have.
    """
    for key, values in filters.items():
        if key not in KEYS:
            raise InvalidArgument(
                f"invalid filter '{key}'", hint="known: " + ", ".join(sorted(KEYS))
            )
        for value in values:
            problem = _problem(key, value)
            if problem:
                raise InvalidArgument(f"invalid filter '{key}={value}': {problem}")


def _problem(key: str, value: str) -> str:
    if key == "status" and value not in {status.value for status in Status}:
        return "it must be one of " + ", ".join(status.value for status in Status)
    if key == "exited" and not value.removeprefix("-").isdecimal():
        return "it must be an exit status"
    if key == "health" and value not in HEALTH:
        return "it must be one of " + ", ".join(HEALTH)
    if key == "is-task" and value not in ("true", "false", "1", "0"):
        return "it must be true or false"
    return ""


def select(
    containers: list[Container],
    *,
    all: bool = False,
    filters: Filters | None = None,
    image_of: Callable[[str], Image | None] | None = None,
    layers_of: Callable[[Image], list[str]] | None = None,
) -> list[Container]:
    """The containers that are to be listed.

    Args:
        containers: every container, newest first.
        all: those that do not run too; ``status``, ``before`` and ``since`` imply it.
        image_of: finds the image that ``ancestor`` names, None if there is none.
        layers_of: directory names of an image's layers, bottom first.

    Raises:
        InvalidArgument: see ``check``.
        NotFound: ``before`` or ``since`` names no container.
    """
    filters = filters or {}
    if not filters:
        return containers if all else [box for box in containers if box.state.status.is_active]
    check(filters)
    chosen = _between(containers, filters)
    tests = _tests(filters, image_of, layers_of)
    everything = all or not filters.keys().isdisjoint(("status", "before", "since"))
    return [
        box for box in chosen if (everything or box.state.status.is_active) and _passes(box, tests)
    ]


def _passes(box: Container, tests: Iterable[Callable[[Container], bool]]) -> bool:
    return not any(not test(box) for test in tests)


def _between(containers: list[Container], filters: Filters) -> list[Container]:
    """``before``: created earlier than that container; ``since``: later."""
    start, end = 0, len(containers)
    for value in filters.get("before", ()):
        start = max(start, _place(containers, value) + 1)
    for value in filters.get("since", ()):
        end = min(end, _place(containers, value))
    return containers[start:end]


def _place(containers: list[Container], text: str) -> int:
    exact = [
        place for place, box in enumerate(containers) if text in (box.name, f"/{box.name}", box.id)
    ]
    found = exact or [place for place, box in enumerate(containers) if box.id.startswith(text)]
    if not text or not found:
        raise NotFound(f"No such container: {text}")
    if len(found) > 1:
        raise InvalidArgument(f"multiple IDs found with provided prefix: {text}")
    return found[0]


def _tests(
    filters: Filters,
    image_of: Callable[[str], Image | None] | None,
    layers_of: Callable[[Image], list[str]] | None,
) -> list[Callable[[Container], bool]]:
    """One function per key."""
    tests: list[Callable[[Container], bool]] = []
    simple: dict[str, Callable[[Container, list[str]], bool]] = {
        "id": lambda box, values: any(_matches(value, box.id) for value in values),
        "name": lambda box, values: any(
            _matches(value, box.name) or _matches(value, f"/{box.name}") for value in values
        ),
        "status": lambda box, values: box.state.status.value in values,
        "exited": lambda box, values: (
            box.state.status is Status.EXITED
            and box.state.exit_code in [int(value) for value in values]
        ),
        "health": lambda box, values: (
            (box.state.health.status if box.state.health else "none") in values
        ),
        "is-task": lambda box, values: values[0] in ("false", "0"),
        "isolation": lambda box, values: "default" in values or "" in values,
        "label": lambda box, values: all(has_label(box.record.labels, value) for value in values),
        "label!": lambda box, values: not all(
            has_label(box.record.labels, value) for value in values
        ),
        "network": lambda box, values: any(networks.is_on(box, value) for value in values),
        "publish": lambda box, values: any(_publishes(box, value) for value in values),
        "expose": lambda box, values: any(_exposes(box, value) for value in values),
        "volume": lambda box, values: any(
            value in (point.name, point.destination) for point in box.record.mounts
            for value in values
        ),
    }  # fmt: skip
    for key, values in filters.items():
        if key in simple and values:
            tests.append(_bind(simple[key], values))
    if "ancestor" in filters:
        tests.append(_ancestor(filters["ancestor"], image_of, layers_of))
    return tests


def _bind(
    test: Callable[[Container, list[str]], bool], values: list[str]
) -> Callable[[Container], bool]:
    return lambda box: test(box, values)


def _matches(pattern: str, text: str) -> bool:
    """Exactly, or as a regular expression found anywhere; one that is malformed fits nothing."""
    if pattern == text:
        return True
    import re

    try:
        return re.search(pattern, text) is not None
    except (re.error, RecursionError, OverflowError):
        return False


def has_label(labels: dict[str, str], wanted: str) -> bool:
    """``key`` or ``key=value``."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def _exposes(box: Container, wanted: str) -> bool:
    return any(ports.fits(port, wanted) for port in box.record.exposed_ports)


def _publishes(box: Container, wanted: str) -> bool:
    """Docker looks at the container's side of a published port."""
    return any(ports.fits(port, wanted) for port in networks.published(box))


def _ancestor(
    values: list[str],
    image_of: Callable[[str], Image | None] | None,
    layers_of: Callable[[Image], list[str]] | None,
) -> Callable[[Container], bool]:
    """Made from that image, or from one that was built on it (its layers come first)."""
    ids: set[str] = set()
    stacks: list[list[str]] = []
    for value in values:
        image = image_of(value) if image_of else None
        if image is not None:
            ids.add(image.id)
            if image.layers:
                stacks.append((layers_of or _directories)(image))

    def test(box: Container) -> bool:
        if box.record.image_id in ids:
            return True
        bottom_first = image_layers(box.record)[::-1]
        return any(_begins(bottom_first, stack) for stack in stacks)

    return test


def _directories(image: Image) -> list[str]:
    """Names of its layers' directories (24 digits of the diff-id each), bottom first."""
    return [diff_id.partition(":")[2][:24] for diff_id in image.layers]


def _begins(names: list[str], wanted: list[str]) -> bool:
    """Whether layer directories begin with these."""
    return len(names) > len(wanted) and names[: len(wanted)] == wanted
