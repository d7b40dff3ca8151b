"""What all prunes share: one of a kind at a time, and the event that tells of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from .errors import Conflict
from .events import Journal
from .locks import lock


class Tally:
    """What a prune freed, in bytes."""

    def __init__(self) -> None:
        self.freed = 0


@contextlib.contextmanager
def pruning(runtime_dir: str, journal: Journal, kind: str) -> Iterator[Tally]:
    """While something prunes; afterwards the journal is told.

    Args:
        kind: ``container``, ``image``, ``network`` or ``volume``.

    Raises:
        Conflict: a prune of this kind is going on (Docker's text).
    """
    tally = Tally()
    os.makedirs(runtime_dir, 0o700, exist_ok=True)
    path = os.path.join(runtime_dir, f"prune-{kind}.lock")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(path, create=True, blocking=False))
        except BlockingIOError:
            raise Conflict("a prune operation is already running") from None
        yield tally
    journal.emit(kind, "prune", "", {"reclaimed": str(tally.freed)})
