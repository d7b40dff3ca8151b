"""``python -m bench [--quick] [pytest arguments]``: the suite in mount and network namespaces of
its own, with a dockerd of its own where none answers.

crun wants the hugetlb controller mounted on a host with cgroup v1; it is mounted here and only for
here, so that the host stays as it is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable

from bench import peers, worlds

HUGETLB = "/sys/fs/cgroup/hugetlb"


def main(arguments: list[str]) -> int:
    import pytest

    if os.geteuid() != 0:
        print("bench: needs root", file=sys.stderr)
        return 1
    here = os.path.dirname(os.path.abspath(__file__))
    results = os.path.join(here, "results")
    os.makedirs(results, exist_ok=True)
    name = time.strftime("%Y%m%d-%H%M%S") + ".json"
    host = os.open("/proc/self/ns/net", os.O_RDONLY)
    peers.docker_network = f"/proc/{os.getpid()}/fd/{host}"
    worlds.own_namespaces()
    undo = mount_hugetlb()
    daemon = None
    if shutil.which("dockerd") and worlds.docker_answers():
        daemon = worlds.Daemon()
        peers.docker_network = daemon.network
    try:
        return pytest.main(
            [
                *([] if any(not word.startswith("-") for word in arguments) else [here]),
                f"--rootdir={os.path.dirname(here)}",
                "-p",
                "no:cacheprovider",
                "--benchmark-only",
                "--benchmark-disable-gc",
                "--benchmark-quiet",
                f"--benchmark-json={os.path.join(results, name)}",
                *arguments,
            ]
        )
    finally:
        if daemon is not None:
            daemon.close()
        undo()


def hugetlb_is_unbound() -> bool:
    """Whether the kernel has the controller and no hierarchy uses it."""
    with open("/proc/cgroups") as file:
        return any(line.split()[:2] == ["hugetlb", "0"] for line in file)


def mount_hugetlb() -> Callable[[], None]:
    """Mount cgroup v1's hugetlb where a v1 host lacks it; returns the function that undoes that."""
    is_v1 = os.path.isdir("/sys/fs/cgroup/memory") and not os.path.exists(
        "/sys/fs/cgroup/cgroup.controllers"
    )
    if not (is_v1 and hugetlb_is_unbound()):
        return lambda: None
    made = not os.path.isdir(HUGETLB)
    os.makedirs(HUGETLB, exist_ok=True)
    try:
        worlds.mount("cgroup", HUGETLB, "cgroup", 0, "hugetlb")
    except OSError:
        print("bench: no hugetlb controller; crun will fail", file=sys.stderr)

    def undo() -> None:
        # The kernel lets go of the hierarchy a moment after the last mount, and only if no dead
        # cgroup of it lingers at that time: otherwise it wants to be mounted and unmounted again.
        for _ in range(5):
            with contextlib.suppress(OSError):
                worlds.unmount(HUGETLB)
            deadline = time.monotonic() + 1
            while not hugetlb_is_unbound() and time.monotonic() < deadline:
                time.sleep(0.01)
            if hugetlb_is_unbound():
                break
            with contextlib.suppress(OSError):
                worlds.mount("cgroup", HUGETLB, "cgroup", 0, "hugetlb")
        else:
            with contextlib.suppress(OSError):
                worlds.unmount(HUGETLB)
        if made:
            os.rmdir(HUGETLB)

    return undo


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
