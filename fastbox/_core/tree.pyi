from os import PathLike

def remove_tree(
    path: str | bytes | PathLike[str] | PathLike[bytes], *, dir_fd: int | None = None
) -> None:
    """Remove a file, link or directory with everything below it.

    No link is followed below the parent directory, neither depth nor number of entries cost memory
    or descriptors (``shutil.rmtree`` ends in RecursionError on deep trees), and the GIL is
    released. Something that does not exist is no error.

    Raises:
        OSError: something could not be removed (a mount point, an I/O error).
    """

def exchange(
    one: str | bytes | PathLike[str] | PathLike[bytes],
    other: str | bytes | PathLike[str] | PathLike[bytes],
) -> None:
    """Let two files or directories of a file system swap their places, in one step (renameat2,
    RENAME_EXCHANGE).

    Raises:
        OSError: EINVAL or ENOSYS where the file system or the kernel cannot.
    """
