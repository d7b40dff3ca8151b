"""Every system call number, tried in a container, against what the profile says of it."""

from __future__ import annotations

import errno
import platform
from collections.abc import Callable
from typing import Any

import pytest

from fastbox.container import seccomp
from fastbox.engine import Engine
from tests.container import classic_bpf as bpf
from tests.support.boxes import image, run

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64's numbers")

LAST = 600
MINUS_ONE = (1 << 64) - 1
# They would wait for ever, or for the whole machine's disks; the filter is tested without them.
NOT_TRIED = {"pause", "sync", "rt_sigtimedwait"}
# The kernel itself lets these pass every filter (Linux 6.14): its own trampolines make them.
NOT_FILTERED = {"uprobe", "uretprobe"}

# Calls each number with all arguments -1, in a child of its own; prints "NUMBER RESULT" where the
# result is -errno, "ok", or "died" when the child did not return from it.
PROBE = """
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv) {
  /* A slot for each: what fork made may write its own late. */
  volatile long *results =
      mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (int i = 1; i < argc; i++) {
    long number = atol(argv[i]);
    volatile long *result = &results[number];
    *result = 1 << 20;
    pid_t pid = fork();
    if (pid == 0) {
      alarm(2);
      long value = syscall(number, -1L, -1L, -1L, -1L, -1L, -1L);
      *result = value < 0 ? -errno : 0;
      syscall(SYS_exit_group, 0);
    }
    waitpid(pid, 0, 0);
    if (*result == 1 << 20) printf("%ld died\\n", number);
    else if (*result == 0) printf("%ld ok\\n", number);
    else printf("%ld %ld\\n", number, *result);
    fflush(stdout);
  }
}
"""


def probe(engine: Engine, name: str, numbers: list[int], **config: Any) -> dict[int, str]:
    result = run(engine, name, "/probe", *map(str, numbers), **config)
    assert result.code == 0, result
    pairs = [line.split(" ") for line in result.lines]
    assert [int(number) for number, _ in pairs] == numbers
    return {int(number): what for number, what in pairs}


@pytest.mark.parametrize("caps", [[], ["SYS_ADMIN"], ["SYS_PTRACE", "SYS_CHROOT"]], ids=str)
def test_every_number(engine: Engine, program: Callable[[str], bytes], caps: list[str]) -> None:
    from fastbox.container import capabilities

    name = image(engine, "probe", {"probe": program(PROBE)})
    table = {number: call for call, number in seccomp_table().items()}
    numbers = [n for n in range(LAST + 1) if table.get(n) not in NOT_TRIED | NOT_FILTERED]
    oci = seccomp.to_oci(None, capabilities.resolve(caps, []))
    code = bpf.decode(seccomp.compile(oci))
    filtered = probe(engine, name, numbers, cap_add=caps)
    free = probe(engine, name, numbers, cap_add=caps, seccomp="unconfined")
    allowed = denied = 0
    for number in numbers:
        verdict = bpf.run(code, bpf.AUDIT["x86_64"], number, [MINUS_ONE] * 6)
        what = f"{number} ({table.get(number)}): {filtered[number]}, without filter {free[number]}"
        if verdict == bpf.ALLOW:
            allowed += 1
            assert filtered[number] == free[number], what
        else:
            denied += 1
            assert verdict & 0xFFFF0000 == bpf.ERRNO, what
            assert filtered[number] == str(-(verdict & 0xFFFF)), what
            wanted = errno.EPERM if number in table and table[number] != "clone3" else errno.ENOSYS
            assert verdict & 0xFFFF == wanted, what
    assert allowed > 250 and denied > 100


def seccomp_table() -> dict[str, int]:
    import json
    import os

    with open(os.path.join(seccomp.DATA, "syscalls.json")) as file:
        tables: dict[str, dict[str, int]] = json.load(file)
    return tables["x86_64"]


DOORS = """
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static void report(const char *name, long value) {
  printf("%s %ld\\n", name, value < 0 ? -errno : 0L);
  fflush(stdout);
}
static long int80(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c)
                   : "memory", "r8", "r9", "r10", "r11");
  if (result < 0 && result > -4096) { errno = -result; return -1; }
  return result;
}
static void old_abi(void) {
  unsigned *args = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  args[0] = 38; args[1] = SOCK_SEQPACKET; args[2] = 0;
  report("i386-socket-alg", int80(359, 38, SOCK_SEQPACKET, 0));
  report("i386-mount", int80(21, 0, 0, 0));
  report("i386-unshare", int80(310, 0x10000000, 0, 0));
}
int main(void) {
  report("socket-alg", syscall(SYS_socket, 38, SOCK_SEQPACKET, 0));
  report("socket-vsock", syscall(SYS_socket, 40, SOCK_STREAM, 0));
  report("io_uring_setup", syscall(425, 1, 0));
  report("bpf", syscall(SYS_bpf, 0, 0, 0));
  report("userfaultfd", syscall(SYS_userfaultfd, 0));
  report("keyctl", syscall(SYS_keyctl, 0, 0));
  report("add_key", syscall(SYS_add_key, "user", "x", "x", 1, -3));
  report("unshare-user", syscall(SYS_unshare, 0x10000000));
  report("clone-user", syscall(SYS_clone, 0x10000000 | 17, 0, 0, 0, 0));
  report("clone3", syscall(435, 0, 0));
  report("open_by_handle_at", syscall(SYS_open_by_handle_at, -1, 0, 0));
  report("mount", syscall(SYS_mount, 0, 0, 0, 0, 0));
  report("open_tree", syscall(428, -100, "/", 1));
  report("fsopen", syscall(430, "tmpfs", 0));
  report("setns", syscall(SYS_setns, 0, 0));
  report("x32-mount", syscall(0x40000000 | SYS_mount, 0, 0, 0, 0, 0));
  report("x32-getpid", syscall(0x40000000 | SYS_getpid));
  if (fork() == 0) { old_abi(); _exit(0); }
  int status;
  wait(&status);
  if (!WIFEXITED(status)) puts("i386 gone");
}
"""


@pytest.mark.parametrize("config", [{}, {"user": "1000"}, {"no_new_privileges": True}], ids=str)
def test_doors(engine: Engine, program: Callable[[str], bytes], config: dict[str, Any]) -> None:
    name = image(engine, "doors", {"doors": program(DOORS)})
    pairs = [line.split(" ") for line in run(engine, name, "/doors", **config).lines]
    seen = {key: value for key, value in pairs}  # noqa: C416
    if seen.pop("i386", "") != "gone":  # a kernel without 32-bit programs
        assert {key: seen[key] for key in seen if key.startswith("i386")} == {
            "i386-socket-alg": "-1",
            "i386-mount": "-1",
            "i386-unshare": "-1",
        }
    closed = [key for key in seen if not key.startswith(("i386", "x32-getpid"))]
    assert len(closed) == 16
    for key in closed:
        assert seen[key] in ("-1", "-38"), (key, seen[key])
    assert seen["clone3"] == "-38"


def test_a_profile_of_ones_own(engine: Engine, program: Callable[[str], bytes]) -> None:
    """It may forbid what the launch itself uses in vain or not at all once the filter is loaded."""
    profile = (
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": ['
        '{"names": ["execveat", "clone3", "openat2"], "action": "SCMP_ACT_ERRNO"}]}'
    )
    name = image(engine, "probe", {"probe": program(PROBE)})
    numbers = [322, 435, 437, 39]
    seen = probe(engine, name, numbers, seccomp=profile, no_new_privileges=True)
    assert [seen[n] for n in numbers] == ["-1", "-1", "-1", "ok"]
