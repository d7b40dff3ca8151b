"""What a killed test run left (kill -9 runs no tear-down) is removed by the next run."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
from collections.abc import Iterator

from fastbox._core.tree import remove_tree

from .leaks import LeakCheck

OWNER = ".owner"


@contextlib.contextmanager
def owned(path: str) -> Iterator[None]:
    """Mark a run's directory as in use for as long as this process lives."""
    with open(os.path.join(path, OWNER), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sweep(pattern: str) -> list[str]:
    """Clean and remove the directories of runs that are gone: their processes, mounts, cgroups.

    Returns:
        The directories that were removed.
    """
    if os.environ.get("FASTBOX_TEST_KEEP"):
        return []
    removed = []
    for path in glob.glob(pattern):
        try:
            # A directory without that file is not a run's, or one that is just starting.
            with open(os.path.join(path, OWNER)) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                check = LeakCheck([path], skip_others=False)
                for root in [*glob.glob(path + "/*"), *glob.glob(path + "/*/*")]:
                    check.watch(root)
                check.clean()
                check.remove_cgroups()
                remove_tree(path)
                removed.append(path)
        except (FileNotFoundError, BlockingIOError):
            continue
    return removed
