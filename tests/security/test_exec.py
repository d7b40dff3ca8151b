"""What a container could take hold of while the engine starts a process in it: the engine's program
(CVE-2019-5736), its descriptors (CVE-2016-9962, CVE-2024-21626), its rights."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastbox._core import launch as core
from fastbox.container import launch
from fastbox.container.config import Ulimit
from fastbox.engine import Engine
from fastbox.errors import FastboxError, LaunchError
from tests.support.boxes import Output, execute, image, link, run, start
from tests.support.wait import wait_for

DEFAULT_CAPS = 0xA80425FB


@pytest.fixture
def binaries_unchanged() -> Iterator[None]:
    """The programs that the engine is made of stay as they are."""
    files = [os.path.realpath(sys.executable), launch.HELPER, core.__file__]

    def hashes() -> list[str]:
        found = []
        for path in files:
            with open(path, "rb") as file:
                found.append(hashlib.sha256(file.read()).hexdigest())
        return found

    before = hashes()
    yield
    assert hashes() == before


# ---- /proc/self/exe --------------------------------------------------------------------------

# Wherever a dynamic linker is looked for: it tells who was started, and tries to write to it.
LINKER = """
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
int main(void) {
  char name[4096] = "";
  readlink("/proc/self/exe", name, sizeof name - 1);
  printf("LINKER RAN FOR %s\\n", name);
  int fd = open("/proc/self/exe", O_RDONLY);
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  for (int i = 0; i < 10000; i++)
    if (open(path, O_WRONLY) >= 0) puts("WRITABLE");
}
"""


@pytest.mark.parametrize(
    "command", ["/script", "/proc/self/exe", "/link", "/script-of-link", "/proc/1/exe", "/nested"]
)
@pytest.mark.parametrize("how", ["run", "init", "exec"])
def test_the_engines_program_is_never_run(
    engine: Engine,
    program: Callable[[str], bytes],
    binaries_unchanged: None,
    command: str,
    how: str,
) -> None:
    linker = program(LINKER)
    content = {
        "script": b"#!/proc/self/exe\n",
        "link": link("/proc/self/exe"),
        "script-of-link": b"#!/link\n",
        "nested": b"#!/script\n",
        "lib64/ld-linux-x86-64.so.2": linker,
        "lib/ld-linux-aarch64.so.1": linker,
        "lib/ld-musl-x86_64.so.1": linker,
    }
    name = image(engine, "exe", content)  # type: ignore[arg-type]
    try:
        if how == "exec":
            result = execute(engine, start(engine, name), command, "-c", "print('PYTHON')")
        else:
            result = run(engine, name, command, "-c", "print('PYTHON')", init=how == "init")
    except LaunchError as error:
        assert error.run_exit_code in (126, 127)
        return
    assert result.code != 0 or command == "/proc/1/exe", result
    assert "LINKER" not in result.out and "PYTHON" not in result.out, result


def test_the_helper_is_sealed() -> None:
    fd = launch.sealed_helper()
    path = f"/proc/self/fd/{fd}"
    with pytest.raises(OSError):
        os.write(fd, b"x")
    with pytest.raises(OSError):
        os.truncate(path, 0)
    writer = os.open(path, os.O_RDWR)  # root may open it, and then not write
    try:
        for change in (lambda: os.write(writer, b"x"), lambda: os.ftruncate(writer, 1 << 20)):
            with pytest.raises(PermissionError):
                change()
    finally:
        os.close(writer)
    with open(path, "rb") as copy, open(launch.HELPER, "rb") as original:
        assert copy.read() == original.read()


# ---- descriptors -----------------------------------------------------------------------------


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Inheritable descriptors of the host's directories at many numbers."""
    fds = [os.open(path, os.O_RDONLY) for path in ("/", "/etc", "/proc") for _ in range(20)]
    for fd in fds:
        os.set_inheritable(fd, True)
    yield
    for fd in fds:
        os.close(fd)


def test_only_the_standard_streams_are_inherited(
    engine: Engine, busybox_image: str, many_descriptors: None
) -> None:
    box = start(engine, busybox_image)
    listing = ("sh", "-c", "ls /proc/self/fd; ls /proc/1/fd; ls /proc/$$/fd")
    for result in (
        run(engine, busybox_image, *listing),
        run(engine, busybox_image, *listing, init=True),
        execute(engine, box, *listing),
    ):
        assert set(result.lines) <= {"0", "1", "2", "3"}, result
    init = execute(engine, box, "ls", "-l", "/proc/1/fd").out
    assert init.count("pipe:") == 2 and init.count("/dev/null") == 1


@pytest.mark.parametrize("form", ["{}", "{}/", "{}/../..", "{}/./etc", "/x{}"])
def test_working_directories_through_descriptors(
    engine: Engine, many_descriptors: None, form: str
) -> None:
    name = image(engine, "cwd", {"x": link("/"), "linked": link("/proc/self/fd/7")})
    box = start(engine, name)
    paths = [form.format(f"/proc/self/fd/{number}") for number in range(3, 64, 3)]
    for path in [*paths, "/linked", "/proc/self/cwd/../proc/self/fd/6", "/proc/1/fd/5"]:
        with pytest.raises(LaunchError, match="working directory") as caught:
            run(engine, name, "pwd", workdir=path)
        assert caught.value.run_exit_code in (126, 127)
        with pytest.raises(LaunchError, match="working directory"):
            execute(engine, box, "pwd", workdir=path)


@pytest.mark.parametrize("rest", ["", "/../../bin/sh", "/bin/sh", "/../bin/sh", "/usr/bin/env"])
def test_commands_through_descriptors(engine: Engine, many_descriptors: None, rest: str) -> None:
    name = image(engine, "fd", {"entry": link(f"/proc/self/fd/9{rest}")})
    box = start(engine, name)
    commands = [f"/proc/self/fd/{number}{rest}" for number in range(3, 64, 3)]
    for command in [*commands, "/entry"]:
        with pytest.raises(LaunchError) as started:
            run(engine, name, command, "-c", "echo out")
        with pytest.raises(LaunchError) as joined:
            execute(engine, box, command, "-c", "echo out")
        assert {started.value.run_exit_code, joined.value.run_exit_code} <= {126, 127}
    assert engine.top(box.id)[1] and len(engine.top(box.id)[1]) == 1


# ---- rights ----------------------------------------------------------------------------------

# Watches every process that appears, before it is what it will be; prints each new observation.
WATCHER = """
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
static char seen[512][256];
static int count;
static void observe(const char *text) {
  for (int i = 0; i < count; i++) if (!strcmp(seen[i], text)) return;
  if (count < 512) strcpy(seen[count++], text);
  puts(text);
  fflush(stdout);
}
static void status(const char *pid) {
  char path[64], text[8192], line[256];
  snprintf(path, sizeof path, "/proc/%s/status", pid);
  int fd = open(path, O_RDONLY);
  if (fd < 0) return;
  long n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return;
  text[n] = 0;
  char *cap = strstr(text, "CapPrm:"), *bnd = strstr(text, "CapBnd:");
  char *seccomp = strstr(text, "Seccomp:");
  if (!cap || !bnd || !seccomp) return;
  snprintf(line, sizeof line, "status %.16s %.16s %c", cap + 8, bnd + 8, seccomp[9]);
  observe(line);
}
static void links(const char *pid) {
  char path[300], target[256], line[300];
  snprintf(path, sizeof path, "/proc/%s/fd", pid);
  DIR *dir = opendir(path);
  if (!dir) return;
  for (struct dirent *e; (e = readdir(dir));) {
    snprintf(path, sizeof path, "/proc/%s/fd/%s", pid, e->d_name);
    long n = readlink(path, target, sizeof target - 1);
    if (n <= 0) continue;
    target[n] = 0;
    if (strncmp(target, "pipe:", 5) == 0) strcpy(target, "pipe");
    snprintf(line, sizeof line, "fd %.200s", target);
    observe(line);
  }
  closedir(dir);
}
static void attach(const char *pid) {
  if (ptrace(PTRACE_SEIZE, atoi(pid), 0, 0) == 0) {
    observe("attached");
    ptrace(PTRACE_INTERRUPT, atoi(pid), 0, 0);
    if (waitpid(atoi(pid), 0, __WALL) > 0) status(pid);
    ptrace(PTRACE_DETACH, atoi(pid), 0, 0);
  }
}
int main(void) {
  puts("watching");
  fflush(stdout);
  for (;;) {
    DIR *dir = opendir("/proc");
    for (struct dirent *e; (e = readdir(dir));) {
      int pid = atoi(e->d_name);
      if (pid <= 1) continue;
      status(e->d_name);
      links(e->d_name);
      if (pid % 2) attach(e->d_name);
    }
    closedir(dir);
  }
}
"""


def test_an_exec_is_confined_before_it_is_visible(
    engine: Engine, program: Callable[[str], bytes], binaries_unchanged: None
) -> None:
    """Also for a container that may attach to everything (CAP_SYS_PTRACE)."""
    name = image(engine, "watch", {"watch": program(WATCHER)})
    box = start(engine, name, "/watch", cap_add=["SYS_PTRACE"])
    allowed = DEFAULT_CAPS | 1 << 19

    def output() -> list[str]:
        return [line.data.decode() for line in engine.logs(box.id)]

    wait_for(output, "the watcher")
    for number in range(200):
        user = ("0", "1000")[number % 2]
        assert engine.exec(box.id, ["true"], user=user) == 0
    seen = output()
    states = [line.split()[1:] for line in seen if line.startswith("status")]
    assert len(states) >= 1, seen
    for permitted, bounding, mode in states:
        assert int(permitted, 16) & ~allowed == 0, seen
        assert int(bounding, 16) & ~allowed == 0, seen
        assert mode == "2", seen
    descriptors = {line for line in seen if line.startswith("fd ")}
    assert descriptors <= {"fd pipe", "fd /dev/null", "fd /memfd:out (deleted)"}, descriptors


STATE = """
grep -E '^(Cap|Seccomp|NoNewPrivs|Umask|Groups|Uid|Gid)' /proc/$1/status
cat /proc/$1/cgroup /proc/$1/limits /proc/$1/oom_score_adj
"""


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"user": "1000:1001"},
        {"user": "app", "group_add": ["7", "extra"]},
        {"cap_add": ["SYS_ADMIN"], "cap_drop": ["CHOWN"]},
        {"cap_drop": ["ALL"]},
        {"no_new_privileges": True},
        {"no_new_privileges": True, "user": "1000"},
        {"seccomp": "unconfined"},
        {"oom_score_adj": 500},
        {
            "ulimits": [
                Ulimit(name="nofile", soft=64, hard=128),
                Ulimit(name="core", soft=0, hard=0),
            ]
        },
        {"memory": 64 << 20, "pids_limit": 20},
        {"privileged": True},
    ],
    ids=lambda config: ",".join(config) or "default",
)
def test_an_exec_has_what_init_has(
    engine: Engine, busybox_image: str, config: dict[str, Any]
) -> None:
    box = start(engine, busybox_image, **config)
    own = execute(engine, box, "sh", "-c", STATE, "sh", "self").lines
    init = execute(engine, box, "sh", "-c", STATE, "sh", "1").lines
    assert own == init and len(own) > 25
    if "privileged" not in config and "cap_add" not in config:
        assert not [line for line in own if line.startswith(("CapInh", "CapAmb")) and "1" in line]


def test_no_program_of_the_container_is_run(engine: Engine) -> None:
    script = b'#!/bin/sh\necho "$0" >> /marker\n'
    tools = ("ps", "nsenter", "tar", "xz", "ls", "df", "du", "cat", "id", "getent", "true")
    name = image(engine, "tools", {f"bin/{tool}": script for tool in tools})
    box = start(engine, name)
    titles, rows = engine.top(box.id)
    assert "CMD" in titles and len(rows) == 1
    engine.top(box.id, ["aux"])
    engine.inspect_container(box.id, size=True)
    engine.containers(all=True, size=True)
    list(engine.logs(box.id))
    engine.info()
    assert execute(engine, box, "sh", "-c", "[ ! -e /marker ]").code == 0
    assert execute(engine, box, "ls").code == 0  # the check itself
    assert execute(engine, box, "sh", "-c", "[ -e /marker ]").code == 0


def test_exec_in_an_ending_container(engine: Engine, busybox_image: str) -> None:
    """A result or a clean error, never a hang."""
    for _ in range(25):
        box = start(engine, busybox_image)
        results: list[int | Output | FastboxError] = []

        def work(box_id: str = box.id, results: list[object] = results) -> None:  # type: ignore[assignment]
            try:
                results.append(engine.exec(box_id, ["sleep", "1000"]))
            except FastboxError as error:
                results.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        engine.kill(box.id)
        thread.join(30)
        assert not thread.is_alive()
        (result,) = results
        assert result == 137 or isinstance(result, FastboxError), result
        engine.remove(box.id)
