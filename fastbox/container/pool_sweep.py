"""Prepared containers that nobody owns any more, and what the living ones use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from ..errors import FastboxError
from ..locks import lock
from . import process
from .files import read_file
from .record import ContainerRecord

if TYPE_CHECKING:
    from .lifecycle import Lifecycle
    from .store import ContainerStore


class _Owned(msgspec.Struct):
    creator: tuple[int, int] | None = None


def is_owned(store: ContainerStore, container_id: str) -> bool:
    """Whether a container that does not exist (yet) is a prepared one whose owner lives."""
    data = read_file(f"{store.directory(container_id)}/prepared.json")
    try:
        owner = None if data is None else msgspec.json.decode(data, type=_Owned).creator
    except msgspec.DecodeError:
        return False
    return owner is not None and process.is_alive(*owner)


def records(store: ContainerStore) -> Iterator[ContainerRecord]:
    """Of all that is prepared, or is left of what was."""
    for container_id in store.ids():
        directory = store.directory(container_id)
        if os.path.exists(f"{directory}/container.json"):
            continue
        data = read_file(f"{directory}/prepared.json")
        if data is None:
            continue
        with contextlib.suppress(msgspec.DecodeError):
            yield msgspec.json.decode(data, type=ContainerRecord)


def sweep(lifecycle: Lifecycle) -> None:
    """Remove those whose owner and monitor were killed. While the owner lives it does that."""
    from .pool_prepare import forget

    for record in records(lifecycle.store):
        if record.creator is not None and process.is_alive(*record.creator):
            continue
        with contextlib.suppress(FastboxError, OSError):
            with lock(lifecycle.store.directory(record.id), blocking=False):
                forget(lifecycle, record)
