"""``container prune``: removing what does not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import Conflict, InvalidArgument, NotFound
from ..oci import filters as oci_filters
from ..oci import times
from . import process
from .record import Status
from .sizes import size_of_tree

if TYPE_CHECKING:
    from .lifecycle import Lifecycle
    from .record import Container

_KEYS = frozenset(("label", "label!", "until"))


def prune(
    lifecycle: Lifecycle, containers: list[Container], filters: oci_filters.Filters
) -> tuple[list[str], int]:
    """Remove those of the containers that are not up and fit the filters.

    Returns:
        (ids, bytes freed)

    Raises:
        InvalidArgument: a bad filter.
    """
    oci_filters.check_keys(filters, _KEYS)
    until = filters.get("until", ())
    if len(until) > 1:
        raise InvalidArgument("more than one until filter specified")
    limit = times.moment(until[0]) if until else None
    removed: list[str] = []
    freed = 0
    for box in containers:
        if box.state.status.is_active or _is_starting(box):
            continue
        created = times.rfc3339(box.record.created)
        if limit is not None and (created is None or created > limit):
            continue
        if not oci_filters.labels_match(box.record.labels, filters):
            continue
        size = size_of_tree(f"{box.directory}/upper")
        try:
            lifecycle.remove(box.id, force=False, volumes=False)
        except (Conflict, NotFound):  # started, or removed, by somebody else meanwhile
            continue
        removed.append(box.id)
        freed += size
    return removed, freed


def _is_starting(box: Container) -> bool:
    """Whether a ``run`` that is under way has made it."""
    creator = box.record.creator
    created = box.state.status is Status.CREATED
    return created and creator is not None and process.is_alive(*creator)
