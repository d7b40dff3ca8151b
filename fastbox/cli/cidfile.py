"""``--cidfile``: the container's id in a file, for scripts."""

from __future__ import annotations

import errno
import os

from .errors import CliError

_STATUS = {errno.ENOENT: 127, errno.EACCES: 126}


class CidFile:
    """Claims the file before the container is made, so that a bad path leaves nothing behind.

    Args:
        path: or ``""`` for none.

    Raises:
        CliError: the file exists or cannot be made.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = -1
        if not path:
            return
        try:
            self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            raise CliError(
                "container ID file found, make sure the other container isn't running or delete "
                f"{path}",
                option=False,
            ) from None
        except (OSError, ValueError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            raise CliError(
                f"failed to create the container ID file: open {path}: {reason}",
                option=False,
                # Docker goes by the words of the reason.
                run_exit_code=_STATUS.get(getattr(error, "errno", None) or 0, 125),
            ) from None

    def write(self, container_id: str) -> None:
        """Keep the file."""
        if self.fd >= 0:
            os.write(self.fd, container_id.encode())
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> CidFile:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file if there was no container to write about."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            os.unlink(self.path)
