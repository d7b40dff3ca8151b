"""The code that runs between clone and exec may share its memory with a threaded Python: what it
calls must be async-signal-safe, and must not touch the heap, stdio, locks or the interpreter."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess

import pytest

CORE = os.path.join(os.path.dirname(__file__), "..", "..", "fastbox", "_core")
# overlay.c runs in a thread of the engine, with the C library at its disposal.
CHILD = sorted(set(glob.glob(f"{CORE}/launch/*.c")) - {f"{CORE}/launch/overlay.c"})

# signal-safety(7), or a function of memory and arguments alone, or a bare system call.
ALLOWED = {
    *("memcpy", "memset", "memchr", "memmove", "strlen", "strchr", "strrchr", "strcmp", "strncmp"),
    *("strcspn", "strspn", "strncpy", "__errno_location", "__stack_chk_fail"),
    *("syscall", "open", "openat", "read", "write", "fcntl", "fstat", "stat", "fstatfs"),
    *("mkdirat", "mknodat", "symlinkat", "fchmodat", "fchownat", "fchown", "chdir", "execve"),
    *("mount", "umount2", "unshare", "socket", "ioctl", "sethostname", "setdomainname"),
    *("bind", "listen", "send", "recv", "setns", "clock_gettime"),
}


def imports(path: str, directory: str) -> set[str]:
    """Undefined symbols of the compiled file, fortified ones under their plain names."""
    target = os.path.join(directory, os.path.basename(path) + ".o")
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-fstack-protector-strong"]
    flags += ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-fPIC", f"-I{CORE}"]
    compiler = shutil.which("cc") or "gcc"
    subprocess.run([compiler, *flags, "-c", "-o", target, path], check=True)
    listing = subprocess.run(["nm", "-u", target], capture_output=True, text=True, check=True)
    found = set()
    for line in listing.stdout.splitlines():
        name = line.split()[-1].partition("@")[0].removesuffix("64")
        if name.startswith("__") and name.endswith(("_chk", "_2")):
            name = name.removeprefix("__").removesuffix("_chk").removesuffix("_2")
        found.add(name)
    return found


@pytest.mark.parametrize("path", CHILD, ids=os.path.basename)
def test_nothing_unsafe_is_called(path: str, base: str) -> None:
    assert len(CHILD) >= 6
    own = {name for name in imports(path, base) if name.startswith("fb_")}
    foreign = imports(path, base) - own - {"_GLOBAL_OFFSET_TABLE_"}
    assert foreign <= ALLOWED, foreign - ALLOWED


def test_the_check_sees_what_is_unsafe(base: str) -> None:
    path = os.path.join(base, "bad.c")
    with open(path, "w") as file:
        file.write(
            "#include <pthread.h>\n#include <stdio.h>\n#include <stdlib.h>\n"
            'void *bad(void) { printf("%p", (void *)pthread_self()); return malloc(7); }\n'
        )
    assert imports(path, base) - ALLOWED >= {"printf", "malloc", "pthread_self"}
