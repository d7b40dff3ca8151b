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
