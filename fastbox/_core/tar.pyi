"""Unpacking layers: streaming, confined to the destination, in constant memory.

One archive is worked on by three native threads (source, hasher, writer) while the caller waits
without the GIL. The writer has the destination as its root directory and keeps the capabilities
CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD and SETFCAP only; all its system calls are relative to
directory descriptors that were resolved with openat2(RESOLVE_IN_ROOT) and follow no link in the
last component. Either of the two would do.
"""

from collections.abc import Callable
from os import PathLike
from typing import Literal, final

MAX_BYTES: int
"""Default limit of the uncompressed archive, in bytes (64 GiB)."""

MAX_ENTRIES: int
"""Default limit of headers in an archive (4,194,304)."""

@final
class Extracted:
    """What was read and made."""

    @property
    def digest(self) -> str:
        """``sha256:HEX`` of the bytes that were read, to the end of the file."""

    @property
    def size(self) -> int:
        """Bytes that were read."""

    @property
    def diff_id(self) -> str:
        """``sha256:HEX`` of the uncompressed archive, padding and all (OCI image-spec, config.md)."""

    @property
    def tar_size(self) -> int:
        """Bytes of the uncompressed archive."""

    @property
    def unpacked_size(self) -> int:
        """Sum of the regular files' sizes in bytes, holes included."""

    @property
    def entries(self) -> int:
        """Entries, extended headers not counted."""

    @property
    def compression(self) -> Literal["none", "gzip", "zstd"]:
        """Found by the first bytes, never by a name."""

    @property
    def opaque_root(self) -> bool:
        """The layer hides everything below it (``.wh..wh..opq`` in its root). overlayfs takes no
        notice of that mark on a layer's root: leave the layers below out instead."""

@final
class Cancel:
    """Ends extractions from another thread. One handle may serve several of them."""

    def __init__(self) -> None: ...
    @property
    def cancelled(self) -> bool: ...
    def cancel(self) -> None:
        """Make every extraction with this handle end soon, now and in future."""

def extract(
    fd: int,
    dest: int | str | bytes | PathLike[str] | PathLike[bytes],
    *,
    whiteouts: Literal["overlay", "keep"] = "overlay",
    max_bytes: int = ...,
    max_entries: int = ...,
    on_progress: Callable[[int], object] | None = None,
    cancel: Cancel | None = None,
    openat2: bool = True,
    merge: bool = False,
    harmless: bool = False,
    digests: bool = True,
    owner: tuple[int, int] | None = None,
) -> Extracted:
    """Unpack a tar archive (ustar, pax, GNU; plain, gzip or zstd) into an existing directory.

    ``dest`` should be empty; its mode becomes 0755 and its owner the caller, unless the archive
    has an entry for the root. Later entries replace earlier ones. Nothing is synced to disk. On an
    error, ``dest`` holds what had been made until then.

    Long runs of zeros in a file become holes. Owners, modes, times (nanoseconds), hard links,
    devices, fifos, sparse files and the xattrs ``user.*``, ``security.capability`` and POSIX ACLs
    are set; other xattrs are left out, but ``trusted.*`` and ``user.overlay.*`` are refused, and so
    is the device 0:0.

    A memory of about 10 MiB is used, whatever the archive is; a zstd archive may take another 128
    for its window.

    Args:
        fd: the archive, from its current position to its end; a file, a pipe or a socket.
        dest: the directory, or a descriptor of it. It is not followed if it is a symbolic link.
        whiteouts: ``"overlay"`` turns ``.wh.NAME`` into what overlayfs wants (a character device
            0:0; ``trusted.overlay.opaque``), ``"keep"`` unpacks such names as they are.
        max_bytes: limit of the uncompressed archive (data, headers, padding).
        max_entries: limit of headers of all kinds.
        on_progress: called in this thread with the bytes read so far, some 20 times a second, and
            once at the end. What it raises ends the extraction and is passed on.
        cancel: a handle with which another thread can end it.
        openat2: False resolves paths component by component, as is done by itself on kernels
            without that call (before Linux 5.6).
        merge: ``dest`` holds things already, and others may be at work in it. It keeps its own
            owner, mode and time; files are replaced, but no directory by something else, nor
            something else by a directory. Special files get no set-id or sticky bits.
        harmless: leave out set-id bits, capabilities and ACLs, and refuse devices.
        digests: False saves the time; ``digest`` and ``diff_id`` are empty then.
        owner: (uid, gid) of everything that is made, instead of the archive's; what it gives to
            others loses its set-id bits.

    Returns:
        Extracted.

    Raises:
        ArchiveError: malformed, hostile or over a limit.
        StoreError: reading or writing failed (full disk, I/O error), or no memory.
        PermissionDenied: a privilege is missing (CAP_SYS_CHROOT, CAP_CHOWN, CAP_MKNOD …).
        FastboxError: it was cancelled.
        KeyboardInterrupt: like anything that a signal handler raises.

        The errors have the attributes ``entry`` (name in the archive, or ``""``), ``step`` (for
        example ``"write"``) and ``errno`` (0 if no system call failed); where one did, the cause
        is an OSError. A merge that meets a directory or something else in its place fails in the
        step ``"remove"`` with EISDIR or ENOTDIR.
    """

def decompress(fd: int, out: int, *, cancel: Cancel | None = None) -> None:
    """Copy a stream (gzip, zstd, or plain) from ``fd`` to its end, uncompressed, into the pipe
    ``out``. Both stay open. There is no limit: the reader of the pipe stops when it has enough, by
    closing its end.

    Raises:
        ArchiveError: the stream is malformed or cut off. StoreError: reading or writing failed
        (cause: BrokenPipeError where the reader closed the pipe). FastboxError: it was cancelled.
    """
