"""What a killed test run left (kill -9 runs no tear-down) is removed by the next run."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import tempfile
from collections.abc import Iterator

from fastbox._core.tree import remove_tree

from .leaks import LeakCheck

OWNER = ".owner"


@contextlib.contextmanager
def own_directory(prefix: str) -> Iterator[str]:
    """A new directory of this run: no other one takes it for that of a run that is gone, neither
    while it comes into being nor while it goes.

    Args:
        prefix: what its path begins with.
    """
    # A file that is there but not locked means "gone", so the name comes after the lock.
    unnamed = tempfile.mkdtemp(prefix="starting-", dir=os.path.dirname(prefix))
    path = prefix + os.path.basename(unnamed).removeprefix("starting-")
    with open(os.path.join(unnamed, OWNER), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.rename(unnamed, path)
        try:
            yield path
        finally:
            if not os.environ.get("FASTBOX_TEST_KEEP"):
                remove_tree(path)


def sweep(pattern: str) -> list[str]:
    """Clean and remove the directories of runs that are gone: their processes, mounts, cgroups.

    Returns:
        The directories that were removed.
    """
    if os.environ.get("FASTBOX_TEST_KEEP"):
        return []
    return [path for path in glob.glob(pattern) if _swept(path)]


def _swept(path: str) -> bool:
    owner = os.path.join(path, OWNER)
    with contextlib.suppress(FileNotFoundError, BlockingIOError), open(owner) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever removed it meanwhile let go of a file that has no name any more.
        if os.fstat(file.fileno()).st_nlink == 0:
            return False
        check = LeakCheck([path], skip_others=False)
        for root in [*glob.glob(path + "/*"), *glob.glob(path + "/*/*")]:
            check.watch(root)
        check.clean()
        check.remove_cgroups()
        remove_tree(path)
        return True
    return False
