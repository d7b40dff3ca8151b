"""Commands that turn on what has started them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fastbox
from tests.support.boxes import compile_static

if TYPE_CHECKING:
    from fastbox.engine import Engine

# Children that are not its own but its parent's, which is outside of the box.
SIBLINGS = """
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void) {
  int made = 0;
  for (int i = 0; i < 30; i++) {
    long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(9);
    made += pid > 0;
  }
  return made;
}
"""

# It has its parent trace it, which then sees each signal and exec.
TRACED = """
#include <signal.h>
#include <sys/ptrace.h>
#include <unistd.h>
static void ignore(int number) { (void)number; }
int main(int argc, char **argv) {
  signal(SIGUSR1, ignore);
  if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0) return 1;
  raise(SIGUSR1);
  if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0) return 2;
  execv(argv[1], argv + 1);
  return 3;
}
"""


def test_siblings_do_not_fill_the_box(box: fastbox.Sandbox, base: str) -> None:
    box.write("/siblings", compile_static(SIBLINGS, base), mode=0o755)
    for _ in range(20):  # more than its limit of processes
        assert box.run(["/siblings"]).returncode == 30


def test_a_traced_command_is_no_ended_one(box: fastbox.Sandbox, engine: Engine, base: str) -> None:
    box.write("/traced", compile_static(TRACED, base), mode=0o755)
    line = ["/traced", "/bin/sh", "-c", "echo on; exit 7"]
    result = box.run(line, timeout=20)
    assert (result.stdout, result.returncode) == (b"on\n", 7)
    assert engine.exec(box.id, line) == 7
    assert box.run(["/traced", "/bin/sleep", "1000"], timeout=0.1).timed_out
