"""Having the disk write while layers are still being unpacked.

The kernel keeps new files in memory for half a minute, so all of an image would be written at the
end, when it is synced, with the processors idle; and while it is unpacked, the disk would be.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from .layers import storing, sync_filesystem

_PAUSE = 0.3  # seconds; what takes less has little to write


@contextlib.contextmanager
def early(directory: str) -> Iterator[None]:
    """While this lasts, the file system of ``directory`` writes what it has, again and again.

    It makes nothing durable that is written later: ``LayerStore.settle`` still does that.

    Raises:
        StoreError: writing failed. The kernel tells it once, so whoever syncs next would not know.
    """
    ended = threading.Event()
    failures: list[OSError] = []

    def work() -> None:
        try:
            while not ended.wait(_PAUSE):
                sync_filesystem(directory)
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=work, name="fastbox-writeback", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
    # Only here: who was cancelled does not wait for the disk.
    thread.join()
    if failures:
        with storing("sync", directory):
            raise failures[0]
