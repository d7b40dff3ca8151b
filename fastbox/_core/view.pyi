"""Seeing a container's files from the host."""

from os import PathLike

def mount_view(plan: bytes, *, read_only: bool) -> int:
    """O_PATH descriptor of a root with all that is mounted below it; no mount table shows it, and it
    lives as long as the descriptor. Devices cannot be opened in it, programs cannot be run.

    Args:
        plan: a launch plan whose operations mount a root and pivot to it. They are replayed in a
            mount namespace of their own, which nothing else is ever in.
        read_only: also what is mounted below.

    Raises:
        StepError (of ``launch``): nothing is mounted.
    """

def root_of(namespace: int) -> int:
    """O_PATH descriptor of the root of another mount namespace, read-only, without anything that is
    mounted below it. A thread joins the namespace, and ends.

    Args:
        namespace: descriptor of ``/proc/PID/ns/mnt``.

    Raises:
        OSError
    """

def open_in_root(root: int, path: str | bytes | PathLike[str] | PathLike[bytes], flags: int) -> int:
    """openat2(2): open ``path`` as a process with the root directory ``root`` would, following no
    magic link. The descriptor is closed on exec.

    Raises:
        OSError: ENOSYS before Linux 5.6, EPERM under a seccomp filter that does not know the call.
    """

def file_system(fd: int) -> int:
    """Magic number of the file system (statfs(2), f_type)."""
