"""Where a saved archive goes: a descriptor, a file object, a file that appears when whole."""

from __future__ import annotations

import contextlib
import errno
import os
import select
from collections.abc import Iterator
from typing import IO

from ..errors import InvalidArgument, StoreError
from .layers import store_error

_PIECE = 1 << 20
_LARGE = 1 << 30  # bytes that one call may copy
# sendfile cannot write there (a file opened for appending, an odd file system): read and write.
_CANNOT_SEND = frozenset((errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EOVERFLOW))


class Sink:
    """Takes the bytes of an archive in their order."""

    def write(self, data: bytes) -> None:
        """All of it.

        Raises:
            StoreError: writing failed. BrokenPipeError: nobody reads any more.
        """
        raise NotImplementedError

    def copy(self, fd: int, size: int) -> None:
        """The first ``size`` bytes of a file.

        Raises:
            StoreError: writing failed, or the file is shorter. BrokenPipeError.
        """
        raise NotImplementedError


class DescriptorSink(Sink):
    """Writes to a descriptor, the data of blobs without taking them through this process.

    Args:
        fd: open for writing; not closed here.
        name: for messages.
    """

    def __init__(self, fd: int, name: str) -> None:
        self.fd = self._fd = fd
        self._name = name
        self._sends = True

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        with self._writing():
            while view:
                try:
                    view = view[os.write(self._fd, view) :]
                except BlockingIOError:
                    self._wait()

    def copy(self, fd: int, size: int) -> None:
        offset = 0
        while offset < size:
            count = self._send(fd, offset, min(size - offset, _LARGE))
            if count == 0:
                raise StoreError("a blob of the store became shorter while it was saved")
            offset += count

    def _send(self, fd: int, offset: int, most: int) -> int:
        if not self._sends:
            data = os.pread(fd, min(most, _PIECE), offset)
            self.write(data)
            return len(data)
        while True:
            try:
                return os.sendfile(self._fd, fd, offset, most)
            except BlockingIOError:
                self._wait()
            except OSError as error:
                if error.errno in _CANNOT_SEND:
                    self._sends = False
                    return self._send(fd, offset, most)
                if error.errno == errno.EPIPE:
                    raise
                raise store_error("write", self._name, error) from error

    def _wait(self) -> None:
        """Standard output may be a pipe that does not block (another program made it so)."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.poll()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise store_error("write", self._name, error) from error


class ObjectSink(Sink):
    """Writes to a binary file object."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            # A bare file may take less than it is given, and a wrapper may not say how much.
            count: int | None = self._stream.write(view)
            view = view[len(view) if count is None else count :]

    def copy(self, fd: int, size: int) -> None:
        offset = 0
        while offset < size:
            data = os.pread(fd, min(size - offset, _PIECE), offset)
            if not data:
                raise StoreError("a blob of the store became shorter while it was saved")
            self.write(data)
            offset += len(data)


@contextlib.contextmanager
def opened(output: int | str | IO[bytes]) -> Iterator[Sink]:
    """A sink for a descriptor, a path, or a binary file object.

    A path names a file (mode 0600) that appears, or is replaced, when the block ends; an error in
    the block leaves nothing. What is a pipe already is written to.

    Raises:
        InvalidArgument: the path cannot be one (Docker's texts). StoreError: it cannot be made.
    """
    if isinstance(output, int):
        yield DescriptorSink(output, "standard output" if output == 1 else "the archive")
    elif not isinstance(output, str):
        yield ObjectSink(output)
    elif is_pipe(output):
        fd = _open(output, os.O_WRONLY)
        try:
            yield DescriptorSink(fd, output)
        finally:
            os.close(fd)
    else:
        with _file(output) as sink:
            yield sink


def check_path(path: str) -> None:
    """Raises InvalidArgument for a path where no file can be put (Docker's texts)."""
    import stat

    if not path:
        raise InvalidArgument("invalid output path: it is empty")
    directory = os.path.dirname(os.path.normpath(path))
    if directory and not os.path.isdir(directory):
        raise InvalidArgument(f'invalid output path: directory "{directory}" does not exist')
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
        raise InvalidArgument(
            f'invalid output path: "{path}" must be a directory or a regular file: got a device'
        )


def is_pipe(path: str) -> bool:
    """Whether there is a named pipe (``-o >(command)`` of a shell gives one, too)."""
    import stat

    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _file(path: str) -> Iterator[Sink]:
    check_path(path)
    if os.path.isdir(path):
        raise InvalidArgument(f"cannot write {path}: it is a directory")
    path = os.path.realpath(path)  # what a link leads to is replaced, not the link
    directory, name = os.path.split(path)
    name = os.fsdecode(os.fsencode(name)[:200])
    temporary = os.path.join(directory, f".{name}.{os.getpid()}-{os.urandom(4).hex()}")
    fd, named = _new(directory or ".", temporary, path)
    try:
        try:
            yield DescriptorSink(fd, path)
            if not named:
                # linkat(2) follows this link only when it is asked to, which takes a directory.
                os.link(f"/proc/self/fd/{fd}", temporary, src_dir_fd=fd, follow_symlinks=True)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise store_error("write", path, error) from error
        raise


def _new(directory: str, temporary: str, shown: str) -> tuple[int, bool]:
    """A new file, without a name where the file system can do that: then also SIGKILL leaves
    nothing. (descriptor, whether it has the name)"""
    try:
        return os.open(directory, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600), False
    except OSError:
        return _open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, shown), True


def _open(path: str, flags: int, shown: str = "") -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)
    except (OSError, ValueError) as error:
        why = (error.strerror or "").lower() if isinstance(error, OSError) else str(error)
        raise InvalidArgument(f"open {shown or path}: {why}") from error
