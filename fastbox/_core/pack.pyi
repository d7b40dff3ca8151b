"""Packing a tree of files: the inverse of ``tar``, streaming, in constant memory.

A thread walks the tree, one digests the archive, as many as there are CPUs compress it, one writes,
while the caller waits without the GIL. The bytes depend on the tree alone. The tree may be hostile
and may change meanwhile: it is walked by descriptors, never through a link, and no device in it is
opened.
"""

from collections.abc import Callable
from os import PathLike
from typing import Literal, final

@final
class Packed:
    """What was packed."""

    @property
    def diff_id(self) -> str:
        """``sha256:HEX`` of the uncompressed archive (OCI image-spec, config.md); "" without digests."""

    @property
    def digest(self) -> str:
        """``sha256:HEX`` of what was written; "" without digests."""

    @property
    def size(self) -> int:
        """Bytes that were written; of the archive, where there is nothing to write to."""

    @property
    def tar_size(self) -> int:
        """Bytes of the uncompressed archive."""

    @property
    def unpacked_size(self) -> int:
        """Sum of the regular files' sizes in bytes, holes included, each file once."""

    @property
    def entries(self) -> int:
        """Entries, whiteouts among them, extended headers not counted."""

@final
class Cancel:
    """Ends packing from another thread. One handle may serve several."""

    def __init__(self) -> None: ...
    @property
    def cancelled(self) -> bool: ...
    def cancel(self) -> None:
        """Make all packing with this handle end soon, now and in future."""

def pack(
    source: int | str | bytes | PathLike[str] | PathLike[bytes],
    out: int,
    *,
    whiteouts: Literal["overlay", "none"] = "overlay",
    compression: Literal["none", "gzip", "zstd"] = "none",
    level: int | None = None,
    digests: bool = True,
    on_progress: Callable[[int], object] | None = None,
    cancel: Cancel | None = None,
    clone: bool = True,
) -> Packed:
    """Write a tar archive of a directory's content: ustar, with pax records where that cannot say it.

    The first entry is ``./``, the directory itself; the others' names are relative to it, sorted by
    bytes in each directory, a directory's with a slash at its end. Owners (as numbers), modes, times
    (nanoseconds), hard links, devices, fifos and the xattrs ``user.*``, ``security.capability`` and
    POSIX ACLs are kept: what ``tar.extract`` sets. Sockets are left out, and so is what is mounted
    below the directory. Holes become zeros.

    Args:
        source: the directory, or a descriptor of it. It is not followed if it is a symbolic link.
        out: where to write: a file, a pipe or a socket; -1 computes the digests only.
        whiteouts: ``"overlay"`` turns what overlayfs makes of deletions into ``.wh.NAME`` and
            ``.wh..wh..opq``, whiteouts first in a directory; ``"none"`` means that no name and no
            device means anything.
        compression: gzip is one member, zstd several frames.
        level: of the compression: gzip 0 to 3 (1), zstd 1 to 19 (3).
        digests: False saves the time.
        on_progress: called in this thread with the bytes of the uncompressed archive so far, some
            20 times a second, and once at the end. What it raises ends the packing and is passed on.
        cancel: a handle with which another thread can end it.
        clone: False opens files in two steps, as is done by itself where the tree cannot be mounted
            once more with ``nodev``.

    Raises:
        StoreError: reading or writing failed; a file became shorter meanwhile; the archive cannot
            say what is there (a name that begins with ``.wh.`` in a layer; an overlayfs redirect).
        PermissionDenied: the caller may not read it all.
        BrokenPipeError: who reads ``out`` has gone.
        FastboxError: it was cancelled.
        KeyboardInterrupt: like anything that a signal handler raises.

        The errors of fastbox have the attributes ``entry`` (path in the tree, or ``""``), ``step``
        (for example ``"read"``) and ``errno`` (0 if no system call failed); where one did, the cause
        is an OSError. What has been written until then is no archive.
    """
