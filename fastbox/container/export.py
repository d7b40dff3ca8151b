"""``export``: the files of a container as a tar archive."""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import IO, TYPE_CHECKING

from .. import atomic
from ..errors import InvalidArgument, StoreError

if TYPE_CHECKING:
    from .view import View

    Output = int | str | bytes | os.PathLike[str] | IO[bytes]

_PIECE = 1 << 20


def check_output(path: str) -> None:
    """Whether an archive can be put there: beside what is there, then in its place.

    Raises:
        InvalidArgument
    """
    directory = os.path.dirname(os.path.normpath(path)) or "."
    if not os.path.isdir(directory):
        raise InvalidArgument(f'invalid output path: directory "{directory}" does not exist')
    try:
        mode = os.stat(path).st_mode
    except OSError:  # to be made; if that fails, it says why
        return
    if stat.S_ISDIR(mode):
        raise InvalidArgument(f'invalid output path: "{path}" is a directory')
    if not stat.S_ISREG(mode):
        kind = "a device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "an irregular file"
        raise InvalidArgument(
            f'invalid output path: "{path}" must be a directory or a regular file: got {kind}',
            hint="write to standard output and redirect it",
        )


def export(view: View, output: Output) -> None:
    """Write all that a view shows as an archive.

    Args:
        output: a descriptor; a path, where the archive appears when it is whole, with mode 0600; or
            a binary file object, of which only ``write`` is used.

    Raises:
        InvalidArgument: the path cannot be written to. StoreError, PermissionDenied: reading or
            writing failed. BrokenPipeError: nobody reads it.
    """
    if isinstance(output, int):
        _pack(view, output)
    elif isinstance(output, (str, bytes, os.PathLike)):
        _to_path(view, os.fsdecode(output))
    else:
        _to_object(view, output)


def _pack(view: View, out: int) -> None:
    from .._core import pack

    pack.pack(view.root, out, whiteouts="none", digests=False)


def _to_path(view: View, path: str) -> None:
    check_output(path)
    # The file that a link leads to is replaced, not the link.
    path = os.path.realpath(path)
    try:
        with atomic.replacing(path) as fd:
            _pack(view, fd)
    except OSError as error:
        hint = "free some space on that file system" if error.errno == errno.ENOSPC else None
        raise StoreError(
            f"cannot write {path}: {(error.strerror or str(error)).lower()}", hint=hint
        ) from error


def _to_object(view: View, output: IO[bytes]) -> None:
    from .._core import pack

    reader, writer = os.pipe2(os.O_CLOEXEC)
    cancel = pack.Cancel()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            pack.pack(view.root, writer, whiteouts="none", digests=False, cancel=cancel)
        except BaseException as error:
            errors.append(error)
        finally:
            os.close(writer)

    thread = threading.Thread(target=work, name="fastbox-pack", daemon=True)
    try:
        thread.start()
        try:
            while piece := os.read(reader, _PIECE):
                output.write(piece)
        except BaseException:
            cancel.cancel()
            raise
        finally:
            thread.join()
    finally:
        os.close(reader)
    if errors:
        raise errors[0]
