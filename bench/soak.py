"""Boxes, one after another, and what is left of them: ``python -m bench.soak [COUNT]`` (10,000).

Each box runs one command and is closed; every hundredth is forked too. Afterwards there must be no
file, mount, cgroup, descriptor, thread or process more than before, and the memory of this process
must not have grown by more than 5 MiB since the first tenth.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import threading
import time

from fastbox._core.tree import remove_tree
from fastbox.engine import Engine
from fastbox.sandbox.box import Sandbox
from tests.support.images import archive, changes
from tests.support.leaks import LeakCheck, children, mounts

FORKED = 100
MEMORY = 5 << 20  # bytes


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    base = tempfile.mkdtemp(prefix="fb-soak-", dir="/tmp")
    try:
        return soak(count, base)
    finally:
        remove_tree(base)


def soak(count: int, base: str) -> int:
    """Run them, and tell what is left; 0 if that is nothing."""
    engine = Engine(f"{base}/root")
    engine.import_image(archive("busybox"), "busybox", changes=changes("busybox"))
    check = LeakCheck([base])
    check.watch(engine.root)
    rounds(engine, max(1, count // 10))
    before, memory = state(engine), resident()
    began = time.monotonic()
    rest = count - count // 10
    rounds(engine, rest)
    seconds = time.monotonic() - began
    grown = resident() - memory
    left = [*check.leaks(), *differences(before, state(engine))]
    check.remove_cgroups()
    print(f"{count} boxes, {seconds / rest * 1000:.1f} ms each; memory grew by {grown >> 10} KiB")
    for line in left:
        print("left:", line)
    return 1 if left or grown > MEMORY else 0


def rounds(engine: Engine, count: int) -> None:
    for number in range(count):
        with Sandbox("busybox", engine=engine) as box:
            box.run(["true"], check=True)
            if number % FORKED == 0:
                box.write("/file", b"content")
                with box.fork() as other:
                    assert other.read("/file") == b"content"


def resident() -> int:
    """Bytes of this process."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def state(engine: Engine) -> dict[str, object]:
    """What must be the same afterwards. The journal of events is left out: it is rotated."""
    settle(engine)
    files = [
        os.path.join(directory, name)
        for top in (engine.root, engine.runtime_dir)
        for directory, folders, names in os.walk(top)
        for name in folders + names
        if not directory.endswith("/events")
    ]
    return {
        "files": sorted(set(files)),
        "mounts": [mount[0] for mount in mounts()],
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "children": children(os.getpid()),
    }


def settle(engine: Engine) -> None:
    """The last monitors are still deleting."""
    deadline = time.monotonic() + 10
    while os.listdir(f"{engine.root}/trash") and time.monotonic() < deadline:
        time.sleep(0.01)


def differences(before: dict[str, object], after: dict[str, object]) -> list[str]:
    return [
        f"{what}: {before[what]} became {after[what]}"
        for what in before
        if before[what] != after[what]
    ]


if __name__ == "__main__":
    sys.exit(main())
