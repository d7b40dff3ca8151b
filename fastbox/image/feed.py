"""Unpacking a blob while it is still being downloaded.

The download writes a file and says how much of it is valid; here, one thread copies that much into
a pipe (sendfile, the bytes never pass through Python) and ``_core.tar`` unpacks from the pipe in
another. So a slow disk never stalls the network, a broken connection never disturbs the unpacking,
and the digest is computed once, over the bytes that are in the file.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import ArchiveError

if TYPE_CHECKING:
    from .._core.tar import Extracted

_PIECE = 1 << 20


class Unpacking:
    """One run of the extractor over a growing file; ends with ``finish`` or ``abort``, or both.

    Args:
        fd: the file; read by offset, so its position does not matter.
        staging: directory to unpack into.
        max_bytes: limit of the uncompressed archive.
        on_progress: told the bytes read, from the unpacking thread.
    """

    def __init__(
        self, fd: int, staging: str, max_bytes: int, on_progress: Callable[[int], None]
    ) -> None:
        from .._core import tar
        from ..graphdriver import whiteouts_in

        self.staging = staging
        self._extract = tar.extract
        self._whiteouts = whiteouts_in(staging)
        self._cancel = tar.Cancel()
        self._fd = fd
        self.max_bytes = max_bytes
        self._on_progress = on_progress
        self._changed = threading.Condition()
        self._valid = 0
        self._ended = False
        self._aborted = False
        self._result: Extracted | None = None
        self._error: BaseException | None = None
        self._feed_error: OSError | None = None
        self._read_end, self._write_end = os.pipe2(os.O_CLOEXEC)
        try:
            fcntl.fcntl(self._write_end, fcntl.F_SETPIPE_SZ, _PIECE)
        except OSError:
            pass  # over the user's limit: the usual 64 KiB do as well
        self._threads = [
            threading.Thread(target=self._feed, name="fastbox-feed", daemon=True),
            threading.Thread(target=self._unpack, name="fastbox-unpack", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def grown(self, size: int) -> None:
        """The first ``size`` bytes are there and will not change."""
        with self._changed:
            self._valid = size
            self._changed.notify_all()

    @property
    def broken(self) -> bool:
        """Whether it failed for a reason that more of the archive cannot explain (full disk)."""
        return self._error is not None and not isinstance(self._error, ArchiveError)

    def finish(self) -> Extracted:
        """The file is complete; wait for the end of the unpacking.

        Raises:
            Whatever the extractor or the reading of the file raised.
        """
        self._end()
        if self._feed_error is not None:
            raise self._feed_error
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def abort(self) -> None:
        """Stop; what was unpacked is worthless."""
        with self._changed:
            self._aborted = True
        self._cancel.cancel()
        self._end()

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _feed(self) -> None:
        sent = 0
        try:
            while True:
                with self._changed:
                    while not self._ended and self._valid == sent:
                        self._changed.wait()
                    valid = self._valid
                if self._aborted or sent == valid:
                    return
                while sent < valid and not self._aborted:
                    count = os.sendfile(self._write_end, self._fd, sent, min(valid - sent, _PIECE))
                    if count == 0:
                        raise OSError(5, "the file is shorter than it was")
                    sent += count
        except BrokenPipeError:
            pass  # the extractor gave up, and says why
        except OSError as error:
            self._feed_error = error
        finally:
            os.close(self._write_end)

    def _unpack(self) -> None:
        try:
            self._result = self._extract(
                self._read_end,
                self.staging,
                whiteouts=self._whiteouts,
                max_bytes=self.max_bytes,
                on_progress=self._on_progress,
                cancel=self._cancel,
            )
        except BaseException as error:
            self._error = error
        finally:
            os.close(self._read_end)
