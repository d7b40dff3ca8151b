"""The read-only layer on top of every image (Docker's "init layer").

It holds, as real directories and files, every place that the engine mounts on or that an image
could turn into a symlink to lead the engine astray: seven CVEs of other engines were exactly that,
for example CVE-2026-41579 and CVE-2026-47766 (``/dev`` as a symlink). It is the same for all
containers.
"""

from __future__ import annotations

import contextlib
import os

NAME = ".init"

_DIRECTORIES = ("dev", "dev/pts", "dev/shm", "dev/mqueue", "proc", "sys", "etc")
_FILES = ("etc/hosts", "etc/hostname", "etc/resolv.conf", "dev/console", ".dockerenv")


def ensure(layers: str) -> None:
    """Make ``layers/.init`` unless it is there; safe against others doing the same."""
    target = f"{layers}/{NAME}"
    if os.path.isdir(target):
        return
    from .._core.tree import remove_tree

    os.makedirs(layers, mode=0o700, exist_ok=True)
    staging = f"{layers}/{NAME}.{os.getpid()}-{os.urandom(4).hex()}"
    os.mkdir(staging, 0o755)
    os.chmod(staging, 0o755)
    fill(staging)
    try:
        os.rename(staging, target)
    except OSError:
        with contextlib.suppress(OSError):
            remove_tree(staging)
        if not os.path.isdir(target):
            raise


def fill(directory: str) -> None:
    """Make what the layer holds in an empty directory."""
    old = os.umask(0o022)
    try:
        for name in _DIRECTORIES:
            os.mkdir(f"{directory}/{name}", 0o755)
        for name in _FILES:
            os.close(os.open(f"{directory}/{name}", os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        os.symlink("/proc/mounts", f"{directory}/etc/mtab")
    finally:
        os.umask(old)
