"""Files in and out of containers: what ``cp`` does, with Docker's rules for names.

A tar stream runs between two threads: one walks the source (``pack``), the other unpacks it
(``_core.tar``), confined to the directory that the target's path led to. No program is run and
nothing is loaded from the container, whatever the stream is compressed with.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import posixpath
import select
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

import msgspec

from ..errors import FastboxError, InvalidArgument, NotFound, PermissionDenied, StoreError
from . import view as views
from .pack import Packer

if TYPE_CHECKING:
    from .._core.tar import Cancel
    from .view import View

    Progress = Callable[[int], object]
    Source = bytes | bytearray | memoryview | int | IO[bytes] | Iterable[bytes]

_PIPE = 1 << 20
_PIECE = 256 << 10
_NO_LIMIT = 1 << 62
_MAX_LINKS = 40
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class LocalPathError(InvalidArgument):
    """A path on the host, or the pair of paths, is not acceptable: found without the container."""


class PathStat(msgspec.Struct, frozen=True, kw_only=True):
    """What a path in a container is.

    Attributes:
        name: last component of the path asked for.
        mode: as in ``os.stat_result``; ``mtime_ns``: nanoseconds since the epoch.
        link_target: of a symbolic link, else "".
    """

    name: str
    size: int
    mode: int
    mtime_ns: int
    uid: int
    gid: int
    link_target: str = ""

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """What was copied.

    Attributes:
        size: bytes of the tar stream, as Docker counts them.
        path: the target, with a link that it was followed.
        skipped: devices, which are only copied to the host when everything is to be kept.
    """

    size: int
    path: str
    skipped: list[str] = []


class Place(Protocol):
    """Where paths are resolved: a View, or the host."""

    def open(self, path: str, flags: int) -> int: ...


class Host:
    """The host's own files: the user's paths, followed wherever they lead."""

    def open(self, path: str, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC)


# paths ------------------------------------------------------------------------------------------


def clean(path: str, base: str = "/") -> str:
    """An absolute path without ``..``, keeping what says "the directory" and "its content": a slash
    or ``/.`` at its end."""
    if "\0" in path:
        raise InvalidArgument("a path may not contain a NUL byte")
    whole = "/" + posixpath.normpath(posixpath.join(base, path)).lstrip("/")
    if _base(path) == ".":
        return whole.rstrip("/") + "/."
    return whole + "/" if path.endswith("/") and whole != "/" else whole


def _base(path: str) -> str:
    """The last component; "/" of the root, "." of nothing."""
    return path.rstrip("/").rpartition("/")[2] or ("/" if path else ".")


def _split(path: str) -> tuple[str, str]:
    """(parent, last component) of a clean path."""
    whole = path.rstrip("/") or "/"
    return posixpath.dirname(whole), _base(whole)


def _content_name(path: str) -> str:
    """The name of a source's entry; "" for the content of a directory."""
    base = _base(path)
    return "" if base in ("/", ".") else base


class _Target:
    """Where a copy goes: ``fd`` is a directory, ``name`` what the source is to be called in it
    ("": its content goes right there); ``path`` is the target for people, ``directory`` of fd."""

    def __init__(self, fd: int, name: str, path: str, directory: str) -> None:
        self.fd, self.name, self.path, self.directory = fd, name, path, directory


def _find_target(place: Place, path: str, source: str, is_dir: bool, shown: str) -> _Target:
    """Docker's rules: a directory is copied into; a file is replaced; what is missing is made, but
    not its parents.

    Args:
        path: clean; its links are followed in ``place``.
        source: name of the source's entry; is_dir: what it is.
        shown: how the user wrote the path.

    Raises:
        LocalPathError; OSError: the parent cannot be opened, with its path as ``filename``.
    """
    exists = False
    for _ in range(_MAX_LINKS):
        try:
            fd = place.open(path, os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno not in _MISSING:
                raise
            break
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            return _Target(fd, source, path, path)
        try:
            if not stat.S_ISLNK(mode):
                if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                    raise LocalPathError(
                        f'destination "{shown}" must be a directory or a regular file: got a device'
                    )
                exists = True
                break
            path = clean(os.readlink("", dir_fd=fd), _split(path)[0])
        finally:
            os.close(fd)
    else:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    if exists and is_dir:
        raise LocalPathError("cannot copy directory")
    if not exists and not is_dir and path.endswith(("/", "/.")):
        raise LocalPathError("no such directory")
    parent, name = _split(path)
    try:
        fd = place.open(parent, os.O_PATH)
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), parent) from error
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), parent)
    return _Target(fd, name, path, parent)


def _open_source(view: View, container: str, path: str, follow_link: bool) -> int:
    """O_PATH descriptor of a path in a container."""
    flags = os.O_PATH | (0 if follow_link else os.O_NOFOLLOW)
    try:
        fd = view.open(clean(path), flags)
    except OSError as error:
        if error.errno in _MISSING:
            raise _missing(path, container) from error
        raise StoreError(
            f"cannot open {path} in container {container}: {(error.strerror or '').lower()}"
        ) from error
    if stat.S_ISREG(os.fstat(fd).st_mode) and views.is_kernels(fd):
        os.close(fd)
        failure = _missing(path, container)
        failure.hint = f"the kernel makes it up: try `fastbox exec {container} cat {path}`"
        raise failure
    return fd


def _missing(path: str, container: str) -> NotFound:
    return NotFound(f"Could not find the file {path} in container {container}")


def stat_path(view: View, container: str, path: str) -> PathStat:
    """Describe a path, not following a link at its end.

    Raises:
        NotFound
    """
    fd = _open_source(view, container, path, False)
    try:
        found = os.fstat(fd)
        link = os.readlink("", dir_fd=fd) if stat.S_ISLNK(found.st_mode) else ""
    finally:
        os.close(fd)
    return PathStat(
        name=_base(clean(path)),
        size=found.st_size,
        mode=found.st_mode,
        mtime_ns=found.st_mtime_ns,
        uid=found.st_uid,
        gid=found.st_gid,
        link_target=link,
    )


# streams ----------------------------------------------------------------------------------------


class _Unpacking:
    """A pipe whose content a thread unpacks into a directory. A context manager around the writing;
    it ends when all is unpacked.

    Args:
        options: of ``_core.tar.extract``.
    """

    def __init__(self, target: _Target, options: dict[str, Any]) -> None:
        from .._core import tar

        self._cancel: Cancel = tar.Cancel()
        self._error: BaseException | None = None
        self._reader, self.writer = _pipe()

        def unpack() -> None:
            try:
                tar.extract(
                    self._reader,
                    target.fd,
                    whiteouts="keep",
                    max_bytes=_NO_LIMIT,
                    max_entries=_NO_LIMIT,
                    cancel=self._cancel,
                    merge=True,
                    digests=False,
                    **options,
                )
            except BaseException as error:
                self._error = error
            finally:
                os.close(self._reader)

        self._thread = threading.Thread(target=unpack, name="fastbox-unpack", daemon=True)
        self._thread.start()

    def __enter__(self) -> _Unpacking:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # A broken pipe says that the unpacking failed, which says why.
        if error is not None and not isinstance(error, BrokenPipeError):
            self._cancel.cancel()
        os.close(self.writer)
        self._thread.join()
        if self._error is not None and (error is None or isinstance(error, BrokenPipeError)):
            raise self._error


class Archive:
    """A tar stream out of a container: read it, or iterate over its pieces. Close it, or use it as
    a context manager: a container that does not run cannot start before.

    Attributes:
        stat: what the path is.
    """

    _thread: threading.Thread | None = None

    def __init__(self, source: int, name: str, found: PathStat) -> None:
        self.stat = found
        self._held = contextlib.ExitStack()
        self._reader, writer = _pipe()
        # Not in self, which the thread does not know: so an archive that is forgotten is closed.
        self._errors: list[BaseException] = []
        errors = self._errors

        def pack() -> None:
            try:
                packer = Packer(writer)
                packer.add(source, name)
                packer.finish()
            except BaseException as error:
                errors.append(error)
            finally:
                os.close(writer)
                os.close(source)

        self._thread = threading.Thread(target=pack, name="fastbox-pack", daemon=True)
        self._thread.start()

    def hold(self, held: contextlib.ExitStack) -> None:
        """Close this too, in the end."""
        self._held = held

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, all of it by default; b"" at the end.

        Raises:
            FastboxError: the tree could not be read to its end.
        """
        if size < 0:
            return b"".join(self)
        data = os.read(self._reader, size) if self._thread is not None else b""
        if not data and size and self._errors:
            raise _read_error(self._errors[0])
        return data

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(_PIECE):
            yield piece

    def close(self) -> None:
        """Stop, and let go of the container."""
        if self._thread is None:
            return
        os.close(self._reader)
        self._thread.join()
        self._thread = None
        self._held.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _read_error(error: BaseException) -> BaseException:
    if not isinstance(error, OSError) or isinstance(error, FastboxError):
        return error
    name = f" {error.filename}" if isinstance(error.filename, str) else ""
    failure = StoreError(f"cannot read{name}: {(error.strerror or str(error)).lower()}")
    failure.__cause__ = error
    return failure


def _pipe() -> tuple[int, int]:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # over the user's limit: the usual 64 KiB do as well
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE)
    return reader, writer


def _feed(source: Source, writer: int) -> None:
    """Write an archive's bytes, xz and bzip2 undone, into the pipe."""
    from ..image import sources

    read: sources.Read
    if isinstance(source, (bytes, bytearray, memoryview)):
        pieces: Iterator[bytes] = iter([bytes(source)])
        read = _of_pieces(pieces)
    elif isinstance(source, int):
        read = _of_descriptor(source, writer)
    elif hasattr(source, "read"):
        read = sources.of_object(cast("IO[bytes]", source))
    else:
        read = _of_pieces(iter(source))
    read = sources.decompressed(read)
    while data := read(_PIECE):
        view = memoryview(data)
        while view:
            view = view[os.write(writer, view) :]


def _of_pieces(pieces: Iterator[bytes]) -> Any:
    rest = b""

    def read(count: int) -> bytes:
        nonlocal rest
        while not rest:
            piece = next(pieces, None)
            if piece is None:
                return b""
            rest = bytes(piece)
        data, rest = rest[:count], rest[count:]
        return data

    return read


def _of_descriptor(fd: int, writer: int) -> Any:
    """Reading that ends with BrokenPipeError when nobody wants the bytes any more, although none
    come."""
    poller = select.poll()
    poller.register(writer, 0)
    regular = stat.S_ISREG(os.fstat(fd).st_mode)
    if not regular:
        poller.register(fd, select.POLLIN)

    def read(count: int) -> bytes:
        events = dict(poller.poll(0 if regular else None))
        if writer in events:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        try:
            return os.read(fd, count)
        except OSError as error:
            raise StoreError(
                f"cannot read the archive: {(error.strerror or '').lower()}"
            ) from error

    return read


# copying ----------------------------------------------------------------------------------------


def copy_from(view: View, container: str, path: str, *, follow_link: bool) -> Archive:
    """The tar stream of a path. The view is to be kept open until it is closed.

    Raises:
        NotFound
    """
    found = stat_path(view, container, path)
    source = _open_source(view, container, path, follow_link)
    return Archive(source, _content_name(clean(path)), found)


def copy_to(
    view: View, container: str, path: str, archive: Source, *, keep_owners: bool = True
) -> None:
    """Unpack a tar stream in a directory of a container.

    Raises:
        NotFound; InvalidArgument: it is no directory, or read-only. ArchiveError.
    """
    with _into(view, container, path) as target:
        with _unpacking(target, owner=None if keep_owners else (0, 0)) as unpacking:
            _feed(archive, unpacking.writer)


@contextlib.contextmanager
def _into(view: View, container: str, path: str) -> Iterator[_Target]:
    try:
        fd = view.open(clean(path), os.O_PATH)
    except OSError as error:
        raise _missing(path, container) from error
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise LocalPathError(f'destination "{container}:{path}" must be a directory')
        target = _Target(fd, "", clean(path), clean(path))
        _check_writable(view, fd, target.path)
        yield target
    finally:
        os.close(fd)


def _check_writable(view: View, fd: int, path: str) -> None:
    if views.is_kernels(fd):
        raise InvalidArgument(f"cannot copy to {path}: the kernel makes up what is in there")
    if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
        raise InvalidArgument(
            "container rootfs is marked read-only"
            if view.is_root_mount(fd)
            else "mounted volume is marked read-only"
        )


@contextlib.contextmanager
def _unpacking(target: _Target, **options: Any) -> Iterator[_Unpacking]:
    """An unpacking, its errors in Docker's words."""
    try:
        with _Unpacking(target, options) as unpacking:
            yield unpacking
    except FastboxError as error:
        step, number = getattr(error, "step", ""), getattr(error, "errno", 0)
        if not step or not hasattr(error, "entry"):
            raise
        place, path = target.directory, posixpath.join(target.directory, error.entry)
        if step == "remove" and number == errno.EISDIR:
            text = f'cannot overwrite directory "{path}" with non-directory "{place}"'
        elif step in ("remove", "parent") and number == errno.ENOTDIR:
            text = f'cannot overwrite non-directory "{path}" with directory "{place}"'
        elif number == errno.EROFS:
            text = "mounted volume is marked read-only"
        else:
            text = f"cannot copy to {place}: {error.message.removeprefix(_TAR_PREFIX)}"
        hint = None if isinstance(error, PermissionDenied) else error.hint
        raise type(error)(text, hint=hint) from error


_TAR_PREFIX = "cannot unpack the layer: "


def copy_out(
    view: View,
    container: str,
    path: str,
    dest: str,
    *,
    follow_link: bool,
    archive: bool,
    progress: Progress | None = None,
) -> Copied:
    """Copy a path of a container to a path of the host.

    Args:
        archive: keep owners, devices and set-id bits.

    Raises:
        NotFound; LocalPathError: about ``dest``. FastboxError.
    """
    local = clean(dest, os.getcwd())
    _check_output(local)
    source = _open_source(view, container, path, follow_link)
    try:
        is_dir = stat.S_ISDIR(os.fstat(source).st_mode)
        name = _content_name(clean(path))
        try:
            target = _find_target(Host(), local, name, is_dir, dest)
        except OSError as error:
            raise LocalPathError(f"{error.filename}: {(error.strerror or '').lower()}") from error
        owner = None if archive else (os.geteuid(), os.getegid())
        try:
            with _unpacking(target, harmless=not archive, owner=owner) as unpacking:
                packer = Packer(unpacking.writer, devices=archive, progress=progress)
                _pack(packer, source, target.name)
        finally:
            os.close(target.fd)
    finally:
        os.close(source)
    return Copied(size=packer.size, path=local, skipped=packer.skipped)


def _pack(packer: Packer, source: int, name: str) -> None:
    try:
        packer.add(source, name)
        packer.finish()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _read_error(error) from error


def _check_output(path: str) -> None:
    """What Docker asks of a target on the host before it looks at the container."""
    parent = posixpath.dirname(posixpath.normpath(path))
    if not os.path.exists(parent):
        raise LocalPathError(f'invalid output path: directory "{parent}" does not exist')
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise LocalPathError(
            f'invalid output path: "{path}" must be a directory or a regular file: got a device'
        )


def copy_in(
    view: View,
    container: str,
    source: str,
    path: str,
    *,
    follow_link: bool,
    archive: bool,
    owner: tuple[int, int] = (0, 0),
    progress: Progress | None = None,
) -> Copied:
    """Copy a path of the host to a path of a container.

    Args:
        archive: keep owners; else all is ``owner``'s (uid, gid).

    Raises:
        NotFound; LocalPathError: about ``source``, or that does not fit. FastboxError.
    """
    local = clean(source, os.getcwd())
    flags = os.O_PATH | os.O_CLOEXEC | (0 if follow_link else os.O_NOFOLLOW)
    try:
        fd = os.open(local, flags)
    except OSError as error:
        raise LocalPathError(f"lstat {local}: {(error.strerror or '').lower()}") from error
    try:
        is_dir = stat.S_ISDIR(os.fstat(fd).st_mode)
        shown = f"{container}:{path}"
        try:
            target = _find_target(view, clean(path), _content_name(local), is_dir, shown)
        except OSError as error:
            if error.errno == errno.ENOTDIR:
                raise InvalidArgument("extraction point is not a directory") from error
            raise _missing(error.filename or path, container) from error
        try:
            _check_writable(view, target.fd, target.path)
            with _unpacking(target, owner=None if archive else owner) as unpacking:
                packer = Packer(unpacking.writer, progress=progress)
                _pack(packer, fd, target.name)
        finally:
            os.close(target.fd)
    finally:
        os.close(fd)
    return Copied(size=packer.size, path=f"{container}:{target.path}")
