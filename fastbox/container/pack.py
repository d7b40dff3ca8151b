"""Writing a tar archive of a tree that may be hostile and may change meanwhile.

What is read is opened with O_PATH, looked at, and only then opened for reading, and only if it is a
regular file: to open a device or a fifo can block or do worse. Directories are walked by descriptor
and never through a link. The format is POSIX.1-2001 (pax): names, sizes and times of any kind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
from collections.abc import Callable, Mapping

from ..errors import FastboxError
from ..volume.tree import Cursor
from . import view

_BLOCK = 512
_BUFFER = 256 << 10
_SMALL = 64 << 10  # what is read into the buffer; more is sent by the kernel
_PIECE = 64 << 20
_CAPABILITY = "security.capability"
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_TYPES = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}
_LINK = b"1"
_MAX_OCTAL = {8: 0o7777777, 12: 0o77777777777}


class Packer:
    """Writes one archive to a descriptor.

    Args:
        out: a pipe, socket or file, blocking or not.
        devices: False leaves out device nodes; see ``skipped``.
        progress: told ``size`` as it grows.

    Attributes:
        size: bytes of the archive, as it is without the finer times.
        skipped: paths of what was left out.
    """

    def __init__(
        self,
        out: int,
        *,
        devices: bool = True,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self._out = out
        self._progress = progress
        self._devices = devices
        self._buffer = bytearray()
        self._linked: dict[tuple[int, int], bytes] = {}
        self.size = 0
        self.skipped: list[str] = []

    def add(self, fd: int, name: str) -> None:
        """Add what an O_PATH descriptor is, with all that is below it.

        Args:
            name: in the archive; "" stands for a directory whose content is the archive's.

        Raises:
            OSError: (EPIPE) nobody reads the archive.
        """
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            self._tree(fd, os.fsencode(name))
        else:
            self._other(fd, os.fsencode(name), found)

    def finish(self) -> None:
        """The end of the archive."""
        self._put(bytes(2 * _BLOCK))
        self._flush()

    # entries ------------------------------------------------------------------------------------
    def _tree(self, top: int, name: bytes) -> None:
        prefix = name + b"/" if name else b"./"
        names = [prefix]
        levels: list[list[str]] = []
        device = -1
        with Cursor(top) as cursor:
            while True:
                device, children = self._directory(cursor.fd, names[-1], device)
                levels.append(children)
                while True:
                    while not levels[-1]:
                        levels.pop()
                        names.pop()
                        if not levels:
                            return
                        cursor.up()
                        device = -1
                    if self._descend(cursor, levels[-1].pop(), names):
                        break

    def _descend(self, cursor: Cursor, name: str, names: list[bytes]) -> bool:
        """Add an entry of the directory; whether it is one to go down into, and there we are."""
        path = names[-1] + os.fsencode(name)
        try:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=cursor.fd)
        except OSError as error:
            if error.errno in _GONE:
                return False
            raise
        try:
            found = os.fstat(fd)
            if not stat.S_ISDIR(found.st_mode):
                self._other(fd, path, found)
                return False
        finally:
            os.close(fd)
        try:
            cursor.down(name)
        except OSError as error:
            if error.errno in _GONE:
                return False
            raise
        names.append(path + b"/")
        return True

    def _directory(self, fd: int, path: bytes, device: int) -> tuple[int, list[str]]:
        """Add a directory; (its device, names in it, the first last)."""
        found = os.fstat(fd)
        self._header(path, b"5", found)
        if found.st_dev != device and view.is_kernels(fd):
            return found.st_dev, []
        return found.st_dev, sorted(os.listdir(fd), reverse=True)

    def _other(self, fd: int, path: bytes, found: os.stat_result) -> None:
        kind = _TYPES.get(stat.S_IFMT(found.st_mode))
        if kind is None:  # a socket: tar knows none, and without its listener it is nothing
            return
        if kind in b"34" and not self._devices:
            self.skipped.append(os.fsdecode(path))
            return
        if found.st_nlink > 1:
            first = self._linked.setdefault((found.st_dev, found.st_ino), path)
            if first != path:
                self._header(path, _LINK, found, link=first)
                return
        if kind == b"0":
            self._file(fd, path, found)
        else:
            link = os.fsencode(os.readlink("", dir_fd=fd)) if kind == b"2" else b""
            self._header(path, kind, found, link=link)

    def _file(self, path_fd: int, path: bytes, found: os.stat_result) -> None:
        if view.is_kernels(path_fd):  # a file bound over another one
            return
        fd = os.open(f"/proc/self/fd/{path_fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            self._header(path, b"0", found, size=found.st_size, xattrs=_capability(fd))
            self._content(fd, path, found.st_size)
        finally:
            os.close(fd)
        self._put(bytes(-found.st_size % _BLOCK))

    def _content(self, fd: int, path: bytes, size: int) -> None:
        """``size`` bytes, although the file may be another size by now."""
        if size > _SMALL:
            self._flush()
        sent = 0
        while sent < size:
            if size <= _SMALL:
                data = os.read(fd, size - sent)
                self._put(data)
                count = len(data)
            else:
                count = _send(self._out, fd, sent, size - sent)
                self.size += count
                if self._progress is not None:
                    self._progress(self.size)
            if not count:
                raise FastboxError(
                    f"{os.fsdecode(path)} became shorter while it was copied",
                    hint="pause the container meanwhile",
                )
            sent += count

    # bytes --------------------------------------------------------------------------------------
    def _header(
        self,
        name: bytes,
        kind: bytes,
        found: os.stat_result,
        *,
        size: int = 0,
        link: bytes = b"",
        xattrs: Mapping[bytes, bytes] | None = None,
    ) -> None:
        records = dict(xattrs or {})
        if len(name) > 100:
            records[b"path"] = name
        if len(link) > 100:
            records[b"linkpath"] = link
        for key, value, width in (
            (b"uid", found.st_uid, 8),
            (b"gid", found.st_gid, 8),
            (b"size", size, 12),
        ):
            if value > _MAX_OCTAL[width]:
                records[key] = b"%d" % value
        if records and not all(map(_is_utf8, (name, link))):
            records[b"hdrcharset"] = b"BINARY"
        finer = b"mtime" if found.st_mtime_ns % 10**9 or found.st_mtime_ns < 0 else b""
        counted = bool(records)
        if finer:
            records[finer] = _time(found.st_mtime_ns)
        if records:
            body = b"".join(_record(key, value) for key, value in records.items())
            pax = _ustar(b"PaxHeaders/x", b"x", found, len(body), b"")
            padded = pax + body + bytes(-len(body) % _BLOCK)
            self._put(padded)
            if not counted:
                self.size -= len(padded)
        self._put(_ustar(name[:100], kind, found, size, link[:100]))

    def _put(self, data: bytes) -> None:
        self._buffer += data
        self.size += len(data)
        if len(self._buffer) >= _BUFFER:
            self._flush()

    def _flush(self) -> None:
        data = memoryview(self._buffer)
        while data:
            try:
                data = data[os.write(self._out, data) :]
            except BlockingIOError:
                _wait(self._out)
        self._buffer = bytearray()
        if self._progress is not None:
            self._progress(self.size)


def _send(out: int, fd: int, start: int, count: int) -> int:
    """Copy bytes of a file, best without seeing them; how many, 0 at its end."""
    try:
        return os.sendfile(out, fd, start, min(count, _PIECE))
    except BlockingIOError:
        _wait(out)
        return _send(out, fd, start, count)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):  # O_APPEND, odd file systems
            raise
    data = memoryview(os.pread(fd, min(count, _BUFFER), start))
    whole = len(data)
    while data:
        try:
            data = data[os.write(out, data) :]
        except BlockingIOError:
            _wait(out)
    return whole


def _wait(out: int) -> None:
    poller = select.poll()
    poller.register(out, select.POLLOUT)
    poller.poll()


def _capability(fd: int) -> dict[bytes, bytes]:
    """File capabilities; of extended attributes, Docker copies these alone."""
    with contextlib.suppress(OSError):
        return {b"SCHILY.xattr.security.capability": os.getxattr(fd, _CAPABILITY)}
    return {}


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _time(nanoseconds: int) -> bytes:
    seconds, rest = divmod(abs(nanoseconds), 10**9)
    text = f"{seconds}.{rest:09d}".rstrip("0").rstrip(".")
    return f"{'-' if nanoseconds < 0 else ''}{text}".encode()


def _record(key: bytes, value: bytes) -> bytes:
    """``LENGTH KEY=VALUE\\n``, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _ustar(name: bytes, kind: bytes, found: os.stat_result, size: int, link: bytes) -> bytes:
    """A header block. Numbers that do not fit are 0 here: pax records say them."""

    def octal(value: int, width: int) -> bytes:
        return b"%0*o\0" % (width - 1, value if 0 <= value <= _MAX_OCTAL[width] else 0)

    is_device = kind in b"34"
    parts = (
        name.ljust(100, b"\0"),
        octal(stat.S_IMODE(found.st_mode), 8),
        octal(found.st_uid, 8),
        octal(found.st_gid, 8),
        octal(size, 12),
        octal(found.st_mtime_ns // 10**9, 12),
        b" " * 8,
        kind,
        link.ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(64),
        octal(os.major(found.st_rdev) if is_device else 0, 8),
        octal(os.minor(found.st_rdev) if is_device else 0, 8),
    )
    block = bytearray(b"".join(parts).ljust(_BLOCK, b"\0"))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
