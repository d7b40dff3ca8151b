"""The test tools, tested: a leak check that finds nothing would make every test pass."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator

import pytest

from tests.support.command import Command
from tests.support.images import archive
from tests.support.leaks import LeakCheck, cgroup_parent, empty_parents, store_hash
from tests.support.registry import Registry, digest_of
from tests.support.sweep import own_directory, sweep
from tests.support.wait import wait_for


@pytest.fixture
def check(base: str) -> Iterator[LeakCheck]:
    found = LeakCheck([base])
    found.SETTLE = 0.05
    found.watch(base + "/root")
    yield found
    found.SETTLE = 5.0
    found.clean()


def test_nothing_is_found_where_nothing_is_left(check: LeakCheck) -> None:
    assert check.leaks() == []


def test_descriptor(check: LeakCheck) -> None:
    left, right = socket.socketpair()
    with left, right:
        assert [line for line in check.leaks() if line.startswith("descriptor")]
    assert check.leaks() == []


def test_thread(check: LeakCheck) -> None:
    event = threading.Event()
    thread = threading.Thread(target=event.wait, name="lingering")
    thread.start()
    found = check.leaks()
    event.set()
    thread.join()
    assert any("lingering" in line for line in found)


def test_zombie_child(check: LeakCheck) -> None:
    child = subprocess.Popen(["true"])
    wait_for(lambda: " Z " in open_stat(child.pid), "the child to end")
    found = check.leaks()
    child.wait()
    assert any(line.startswith(f"child {child.pid}") for line in found)
    assert check.leaks() == []


def test_cgroup_of_a_store_that_nobody_watches(check: LeakCheck, base: str) -> None:
    """One that a test makes by itself: its containers are leaks, its empty parent goes."""
    store = f"{base}/mine/store"
    os.makedirs(f"{store}/containers")
    point = next(m[0] for m in check.cgroup_mounts)
    parent = f"{point}/{cgroup_parent(store)}"
    os.makedirs(f"{parent}/box")
    assert check.leaks() == []
    check.watch_stores()
    assert check.leaks() == [f"cgroup {parent}/box"]
    os.rmdir(f"{parent}/box")
    assert check.leaks() == []
    assert empty_parents({cgroup_parent(store): "mine"}) == [(parent, "mine")]
    check.remove_cgroups()
    assert empty_parents({cgroup_parent(store): "mine"}) == []


def test_bridges_of_others_are_not_ours(check: LeakCheck) -> None:
    """Another run, or the other worker, may have made a network meanwhile."""
    device, mine = f"fb-{os.getpid():012x}", store_hash(check.roots[0])
    subprocess.run(["ip", "link", "add", device, "type", "bridge"], check=True)
    try:
        for alias, is_leak in ((f"fastbox {'0' * 8} ID", False), (f"fastbox {mine} ID", True)):
            subprocess.run(["ip", "link", "set", device, "alias", alias], check=True)
            assert (f"network interface {device}" in check.leaks()) == is_leak
    finally:
        subprocess.run(["ip", "link", "del", device], check=True)


def open_stat(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read()


def test_process_by_command_line(check: LeakCheck, base: str) -> None:
    code = "import sys; sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", code, base + "/x"], stdin=subprocess.PIPE)
    wait_for(lambda: base in command_line(child.pid), "exec")
    found = check.leaks()
    child.communicate()
    assert any(line.startswith(f"process {child.pid}") for line in found)


def command_line(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline") as file:
        return file.read()


def test_process_by_directory_and_clean(check: LeakCheck, base: str) -> None:
    child = subprocess.Popen(["sleep", "1000"], cwd=base)
    assert any(line.startswith(f"process {child.pid}") for line in check.leaks())
    check.clean()
    assert child.wait() == -9


def test_mount_and_clean(check: LeakCheck, base: str) -> None:
    os.mkdir(base + "/m")
    subprocess.run(["mount", "-t", "tmpfs", "none", base + "/m"], check=True)
    assert any(line.startswith(f"mount {base}/m") for line in check.leaks())
    check.clean()
    assert check.leaks() == []


def test_cgroup_and_clean(check: LeakCheck, base: str) -> None:
    point = next(m[0] for m in check.cgroup_mounts)
    parent = f"{point}/{cgroup_parent(base + '/root')}"
    os.makedirs(parent)
    assert check.leaks() == []  # an empty parent may stay
    os.mkdir(parent + "/container")
    assert check.leaks() == [f"cgroup {parent}/container"]
    check.clean()
    check.remove_cgroups()
    assert not os.path.exists(parent)


def test_a_leak_fails_the_test(base: str) -> None:
    """The autouse fixture, in a pytest of its own."""
    path = os.path.join(os.path.dirname(__file__), "leaking_case.py")
    done = run_pytest(path)
    assert done.returncode == 1, done.stdout
    assert "left behind:" in done.stdout and "descriptor" in done.stdout


@pytest.mark.parametrize(("ci", "outcome"), [("", "2 skipped"), ("true", "1 failed, 1 skipped")])
def test_a_skip_fails_in_ci(ci: str, outcome: str) -> None:
    path = os.path.join(os.path.dirname(__file__), "skipping_case.py")
    done = run_pytest(path, CI=ci)
    assert outcome in done.stdout or f"1 error, {outcome}" in done.stdout, done.stdout


def test_a_hanging_test_fails_and_the_next_one_runs() -> None:
    done = run_pytest(os.path.join(os.path.dirname(__file__), "hanging_case.py"))
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "no end after 1 seconds" in done.stdout


def run_pytest(path: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", path],
        env={**os.environ, "FASTBOX_TEST_SETTLE": "0.1", **env},
        capture_output=True,
        text=True,
    )


def test_registry_serves_what_was_pushed(registry: Registry) -> None:
    layer = b"\0" * 10240
    image = registry.push("infra/pushed:1", [layer], config={"Cmd": ["x"]})
    status, headers, data = registry.request("GET", "/v2/infra/pushed/manifests/1")
    assert (status, digest_of(data)) == (200, image["digest"])
    assert headers["docker-content-digest"] == image["digest"]


def test_registry_with_credentials(auth_registry: Registry) -> None:
    auth_registry.push("infra/private", [b"\0" * 1024])
    credentials, auth_registry.auth = auth_registry.auth, None
    try:
        status, headers, _ = auth_registry.request("GET", "/v2/", check=False)
    finally:
        auth_registry.auth = credentials
    assert status == 401
    assert headers["www-authenticate"].startswith("Basic realm=")


def test_busybox_archive_is_a_root_filesystem() -> None:
    with tarfile.open(archive("busybox")) as tar:
        names = tar.getnames()
        assert tar.getmember("bin/busybox").mode == 0o755
        assert tar.getmember("tmp").mode == 0o1777
    assert {"bin/sh", "bin/ls", "etc/passwd"} <= set(names)


def test_command_reports_status_and_streams(home: str) -> None:
    sh = Command(["sh", "-c"], home)
    result = sh("cat; echo err >&2; exit 3", input="in")
    assert (result.code, result.out, result.err) == (3, "in", "err\n")
    assert sh.ok("echo $HOME") == home
    assert sh.fails(7, "echo no >&2; exit 7") == "no\n"


def test_a_killed_run_is_swept(base: str) -> None:
    code = (
        "import os, sys, tests.support.sweep as s\n"
        "with s.own_directory(sys.argv[1]) as path: print(path); sys.stdout.flush(); os._exit(0)"
    )
    argv = [sys.executable, "-c", code, base + "/fb-"]
    gone = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    os.makedirs(gone + "/1/root")
    child = subprocess.Popen(["sleep", "1000"], cwd=gone)
    subprocess.run(["mount", "-t", "tmpfs", "none", gone + "/1/root"], check=True)
    with own_directory(base + "/fb-") as alive:
        assert sweep(base + "/fb-*") == [gone]
        assert os.path.isdir(alive)
    assert child.wait() == -9
    assert not os.path.exists(gone)
    assert not os.path.exists(alive)


def test_runs_do_not_sweep_each_other(base: str) -> None:
    """Neither one that begins nor one that ends is taken for one that is gone."""
    swept, done = list[str](), threading.Event()

    def sweeper() -> None:
        while not done.is_set():
            swept.extend(sweep(base + "/fb-*"))

    thread = threading.Thread(target=sweeper)
    thread.start()
    try:
        for _ in range(50):
            with own_directory(base + "/fb-") as path:
                os.makedirs(path + "/1/2")
    finally:
        done.set()
        thread.join()
    assert swept == []


def test_a_terminated_run_tears_down(base: str) -> None:
    path = os.path.join(os.path.dirname(__file__), "terminated_case.py")
    done = run_pytest(path, WHERE=base)
    assert "terminated" in done.stdout, done.stdout
    assert os.path.exists(base + "/torn-down")
