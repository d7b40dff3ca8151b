"""What a pull or a push tells while it goes on, in Docker's words."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

PULLING = "Pulling fs layer"
WAITING = "Waiting"
DOWNLOADING = "Downloading"
DOWNLOADED = "Download complete"
EXTRACTING = "Extracting"
COMPLETE = "Pull complete"
EXISTS = "Already exists"
LOADING = "Loading layer"

PREPARING = "Preparing"
PUSHING = "Pushing"
PUSHED = "Pushed"
PUSHED_BEFORE = "Layer already exists"
MOUNTED_FROM = "Mounted from "
SKIPPED = "Skipped foreign layer"

_INTERVAL = 0.1  # seconds between two events that differ in their numbers only


class ProgressEvent(msgspec.Struct, frozen=True):
    """One step of one layer.

    Attributes:
        id: 12 hex digits of the blob's digest.
        status: one of the words above, or ``Retrying in N seconds``.
        current: bytes done, of ``total`` (0 where bytes make no sense).
    """

    id: str
    status: str
    current: int = 0
    total: int = 0


class Reporter:
    """The events of one layer: every change of status, and the numbers not too often."""

    def __init__(self, blob_id: str, total: int, emit: Callable[[ProgressEvent], None]) -> None:
        self._id = blob_id
        self._total = total
        self._emit = emit
        self._status = ""
        self._next = 0.0

    def status(self, status: str) -> None:
        """A new status; the same one again is not repeated."""
        if status != self._status:
            self._status = status
            self._next = 0.0
            self._emit(ProgressEvent(self._id, status))

    def bytes(self, status: str, current: int) -> None:
        """So many bytes are done."""
        now = time.monotonic()
        if status != self._status or now >= self._next:
            self._status = status
            self._next = now + _INTERVAL
            self._emit(ProgressEvent(self._id, status, current, self._total))
