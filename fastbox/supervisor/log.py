"""The supervisor's own log: ``ROOT/supervisor.log``, a line for each thing it did, bounded."""

from __future__ import annotations

import contextlib
import os
import time

MAX_SIZE = 1 << 20  # bytes, of each of two files


class Log:
    """Appends lines; a disk that is full loses them, nothing else.

    Args:
        path: the file; the older half is ``path + ".1"``.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = self._open()

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self.path, flags, 0o600)
        except OSError:
            return -1

    def write(self, text: str) -> None:
        """Add a line."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = f"{now} {os.getpid()} {text}\n".encode(errors="replace")
        with contextlib.suppress(OSError):
            if self.fd >= 0:
                os.write(self.fd, line)
                if os.fstat(self.fd).st_size >= MAX_SIZE:
                    os.rename(self.path, f"{self.path}.1")
                    self.close()
        if self.fd < 0:
            self.fd = self._open()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1
