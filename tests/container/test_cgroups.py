"""Groups in the layouts that this machine can show: its own, and forced v1 and v2 ones."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest

from fastbox._core import bpf
from fastbox.container import cgroups, devices
from fastbox.container.cgroups import CgroupLayout, Resources, files, group, layout, v1, v2
from fastbox.errors import Conflict, InvalidArgument, PermissionDenied, Unsupported

MIB = 1024 * 1024

HERE = cgroups.detect()
LAYOUTS = {HERE.mode: HERE}
if HERE.mode == "hybrid":
    LAYOUTS["v1"] = CgroupLayout(None, HERE.v1)
    LAYOUTS["hybrid, no BPF"] = CgroupLayout(HERE.v2, HERE.v1)
    LAYOUTS["hybrid, old v2"] = CgroupLayout(HERE.v2, HERE.v1, v2_freezes=False)


class Groups:
    """Makes groups below a parent of the test's own, and removes what is left of them."""

    def __init__(self, where: CgroupLayout, parent: str) -> None:
        self.layout, self.parent = where, parent
        self.processes: list[subprocess.Popen[bytes]] = []
        self.count = 0

    def path(self) -> str:
        self.count += 1
        return f"{self.parent}/{self.count}"

    def create(self, **limits: object) -> cgroups.Cgroup:
        return cgroups.create(self.layout, self.path(), Resources(**limits))  # type: ignore[arg-type]

    def run(self, made: cgroups.Cgroup, script: str, *words: str) -> subprocess.Popen[bytes]:
        """Start a shell in the group; its first output line is read (it says that it is in)."""
        join = "".join(f"echo 0 > {directory}/cgroup.procs && " for directory in made.all_dirs)
        process = subprocess.Popen(
            ["sh", "-c", f"{join} echo in; {script}", "sh", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n", process.communicate()
        return process

    def python(self, made: cgroups.Cgroup, code: str) -> tuple[int, str, str]:
        """Run Python in the group to its end: (status, output, errors)."""
        process = self.run(made, 'exec "$@"', sys.executable, "-I", "-S", "-c", code)
        out, err = process.communicate(timeout=60)
        return process.returncode, out.decode(), err.decode()

    def close(self) -> None:
        parent = cgroups.open_existing(self.layout, self.parent)
        for directory in parent.all_dirs:
            with contextlib.suppress(OSError):
                files.write_raw(directory, "cgroup.freeze", "0")
        parent.kill()
        for process in self.processes:
            process.kill()
            process.wait(timeout=60)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        # Also in hierarchies that the forced layout does not use.
        cgroups.open_existing(HERE, self.parent).remove()


@contextlib.contextmanager
def groups_in(where: CgroupLayout) -> Iterator[Groups]:
    made = Groups(where, f"fastbox-test-{uuid.uuid4().hex[:8]}")
    where.bpf_devices = None if where.v2 is not None else False
    try:
        yield made
    finally:
        made.close()
        devices.forget_programs()


@pytest.fixture(params=LAYOUTS)
def groups(
    request: pytest.FixtureRequest, leak_check: object, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Groups]:
    if request.param == "hybrid, no BPF":

        def refuse(*_: object) -> None:
            raise OSError(22, "Invalid argument")

        monkeypatch.setattr(bpf, "load", refuse)
    with groups_in(LAYOUTS[request.param]) as made:
        yield made


@pytest.fixture
def native(leak_check: object) -> Iterator[Groups]:
    with groups_in(HERE) as made:
        yield made


def has(controller: str) -> bool:
    return controller in HERE.v1 or controller in HERE.v2_controllers()


# ---- making and removing ---------------------------------------------------------------------


def test_group_without_limits_is_one_directory(groups: Groups) -> None:
    made = groups.create()
    if groups.layout.mode == "v1":
        systemd = [name for name in HERE.v1 if name == "name=systemd"]
        assert list(made.v1_dirs) == ["devices", "freezer", *systemd]
        assert made.v2_dir is None
    elif groups.layout.v2_freezes and groups.layout.bpf_devices:
        assert made.v1_dirs == {}
        assert made.all_dirs == [made.v2_dir]
    assert all(os.path.isdir(directory) for directory in made.all_dirs)
    assert made.exists()
    assert made.pids() == []
    made.remove()
    assert not made.exists()
    made.remove()


def test_plain_create_costs_few_system_calls(
    native: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where v2 is: after the first of a process, one mkdir and one attach."""
    if HERE.v2 is None:
        return
    native.create().remove()
    calls: list[str] = []
    for name in ("mkdir", "makedirs", "stat", "access", "open"):
        real = getattr(os, name)

        def count(*args: object, _real: Callable[..., object] = real, **more: object) -> object:
            calls.append(f"{_real.__name__} {args[0]}")  # type: ignore[attr-defined]
            return _real(*args, **more)

        monkeypatch.setattr(os, name, count)
    made = native.create()
    monkeypatch.undo()
    assert calls == [f"mkdir {made.v2_dir}", f"open {made.v2_dir}"]


def test_detection_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cgroups.detect() is HERE
    monkeypatch.setattr(layout, "_detected", None)
    again = cgroups.detect()
    assert again is not HERE
    assert (again.mode, again.v2, again.v1) == (HERE.mode, HERE.v2, HERE.v1)


def test_limits_are_set(groups: Groups) -> None:
    made = groups.create(
        memory=64 * MIB,
        memory_swap=96 * MIB,
        memory_reservation=16 * MIB,
        nano_cpus=500_000_000,
        cpu_shares=512,
        pids_limit=33,
    )
    if groups.layout.v1:
        wanted = {
            ("memory", "memory.limit_in_bytes"): str(64 * MIB),
            ("memory", "memory.memsw.limit_in_bytes"): str(96 * MIB),
            ("memory", "memory.soft_limit_in_bytes"): str(16 * MIB),
            ("cpu", "cpu.cfs_period_us"): "100000",
            ("cpu", "cpu.cfs_quota_us"): "50000",
            ("cpu", "cpu.shares"): "512",
            ("pids", "pids.max"): "33",
        }
    else:
        wanted = {
            ("", "memory.max"): str(64 * MIB),
            ("", "memory.swap.max"): str(32 * MIB),
            ("", "memory.low"): str(16 * MIB),
            ("", "cpu.max"): "50000 100000",
            ("", "cpu.weight"): "59",
            ("", "pids.max"): "33",
        }
    found = {
        (controller, name): files.read(made.v1_dirs.get(controller, made.v2_dir or ""), name)
        for controller, name in wanted
    }
    assert found == wanted


@pytest.mark.parametrize(("swap", "total"), [(0, 128 * MIB), (64 * MIB, 64 * MIB), (-1, None)])
def test_swap_defaults(groups: Groups, swap: int, total: int | None) -> None:
    made = groups.create(memory=64 * MIB, memory_swap=swap)
    if "memory" in made.v1_dirs:
        value = int(files.read(made.v1_dirs["memory"], "memory.memsw.limit_in_bytes"))
        assert value == total if total else value > 1 << 60
    else:
        assert made.v2_dir
        expected = str(total - 64 * MIB) if total else "max"
        assert files.read(made.v2_dir, "memory.swap.max") == expected


def test_update(groups: Groups) -> None:
    made = groups.create(memory=64 * MIB, pids_limit=5)
    for memory in (256 * MIB, 32 * MIB):
        made.update(Resources(memory=memory, pids_limit=-1))
        file = "memory.limit_in_bytes" if "memory" in made.v1_dirs else "memory.max"
        assert files.read(made.v1_dirs.get("memory", made.v2_dir or ""), file) == str(memory)
    assert files.read(made.v1_dirs.get("pids", made.v2_dir or ""), "pids.max") == "max"
    if groups.layout.v1:
        with pytest.raises(Unsupported, match="not in the cpu hierarchy"):
            made.update(Resources(nano_cpus=10**9))


def test_cpuset_holds_processes(groups: Groups) -> None:
    if not has("cpuset"):
        with pytest.raises(Unsupported, match="no cpuset controller"):
            groups.create(cpuset_cpus="0")
        return
    made = groups.create(cpuset_cpus="0")
    _, out, _ = groups.python(made, "import os; print(os.sched_getaffinity(0))")
    assert out == "{0}\n"


def test_pids_limit_holds(groups: Groups) -> None:
    made = groups.create(pids_limit=7)
    code = (
        "import os\nn = 1\nwhile True:\n"
        "    try:\n        pid = os.fork()\n"
        "    except BlockingIOError:\n        break\n"
        "    if not pid:\n        import signal; signal.pause()\n"
        "    n += 1\n"
        "print(n)\nimport signal; signal.signal(15, signal.SIG_IGN)\nos.kill(0, 15)"
    )
    process = groups.run(made, 'exec setsid "$@"', sys.executable, "-I", "-S", "-c", code)
    assert process.stdout is not None
    assert process.stdout.readline() == b"7\n"


def test_out_of_memory_is_counted(groups: Groups) -> None:
    made = groups.create(memory=24 * MIB, memory_swap=24 * MIB)
    assert made.oom_kills() == 0
    status, _, _ = groups.python(made, "x = bytearray(b'x') * (1 << 27)")
    assert status == -signal.SIGKILL
    assert made.oom_kills() == 1
    assert cgroups.open_existing(groups.layout, made.path).oom_kills() == 1


def test_open_existing_finds_the_same(groups: Groups) -> None:
    made = groups.create(pids_limit=9)
    found = cgroups.open_existing(groups.layout, made.path)
    assert found.v2_dir == made.v2_dir
    assert found.v1_dirs.get("pids") == made.v1_dirs.get("pids")
    assert set(found.all_dirs) == set(made.all_dirs)
    made.remove()
    assert cgroups.open_existing(groups.layout, made.path).all_dirs == []
    assert not found.exists()
    assert found.pids() == []
    assert found.oom_kills() == 0
    found.kill()


def test_empty_leftover_is_replaced(groups: Groups) -> None:
    path = groups.path()
    left = cgroups.create(groups.layout, path, Resources(pids_limit=3))
    for directory in left.all_dirs:
        os.makedirs(f"{directory}/inner/most")
    made = cgroups.create(groups.layout, path, Resources(pids_limit=4))
    for directory in made.all_dirs:
        assert not os.path.exists(f"{directory}/inner")


def test_group_in_use_is_a_conflict(groups: Groups) -> None:
    made = groups.create()
    groups.run(made, "exec cat")
    with pytest.raises(Conflict, match="in use"):
        cgroups.create(groups.layout, made.path, Resources())
    assert len(made.pids()) == 1


def test_failure_leaves_nothing(groups: Groups) -> None:
    path = groups.path()
    with pytest.raises((Unsupported, InvalidArgument)):
        cgroups.create(groups.layout, path, Resources(memory=64 * MIB, cpuset_cpus="4000"))
    assert cgroups.open_existing(HERE, path).all_dirs == []


@pytest.mark.parametrize(
    "path", ["", "/", "..", "a/../b", "a//b", "./a", "a\0b", "a\nb", "x" * 300]
)
def test_odd_paths_are_refused(path: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid cgroup path"):
        cgroups.create(HERE, path, Resources())
    with pytest.raises(InvalidArgument, match="invalid cgroup path"):
        cgroups.open_existing(HERE, path)


def test_many_at_once(groups: Groups) -> None:
    """Threads that make and remove groups, while the parent comes into being."""
    problems: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                path = f"{groups.parent}/{number}-{turn}"
                cgroups.create(groups.layout, path, Resources(pids_limit=5)).remove()
        except BaseException as e:
            problems.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


# ---- processes -------------------------------------------------------------------------------

FORKING = "while :; do (exec sleep 1000) & sleep 0.001; done"


def test_kill_reaches_all(groups: Groups) -> None:
    made = groups.create(pids_limit=50)
    process = groups.run(made, "setsid sleep 1000 & (exec sleep 1000) & " + FORKING)
    made.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    made.remove()
    assert made.pids() == []


def test_kill_without_cgroup_kill(groups: Groups, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux before 5.14: freeze, kill each, thaw."""
    real = files.write_raw

    def old_kernel(directory: str, name: str, value: str) -> None:
        if name == "cgroup.kill":
            raise FileNotFoundError(2, "No such file or directory", name)
        real(directory, name, value)

    monkeypatch.setattr(files, "write_raw", old_kernel)
    made = groups.create(pids_limit=50)
    process = groups.run(made, "(exec sleep 1000) & " + FORKING)
    made.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    made.remove()


def test_kill_below_and_frozen(groups: Groups) -> None:
    made = groups.create()
    inner = [f"{directory}/inner" for directory in made.all_dirs]
    for directory in inner:
        os.mkdir(directory)
    process = groups.run(made, "exec cat")
    for directory in inner:
        files.write_raw(directory, "cgroup.procs", str(process.pid))
    assert made.pids() == [process.pid]
    made.freeze()
    made.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    made.remove()
    assert not any(map(os.path.exists, inner))


def test_freeze_and_thaw(groups: Groups) -> None:
    made = groups.create()
    process = groups.run(made, "exec cat")
    assert process.stdin is not None
    assert process.stdout is not None
    assert not made.is_frozen()
    made.freeze()
    assert made.is_frozen()
    process.stdin.write(b"x")
    process.stdin.flush()
    assert select.select([process.stdout], [], [], 0.2)[0] == []
    made.thaw()
    assert process.stdout.read(1) == b"x"
    assert not made.is_frozen()


def test_remove_waits_for_the_end(groups: Groups, monkeypatch: pytest.MonkeyPatch) -> None:
    made = groups.create()
    process = groups.run(made, "read x; exit 3")
    monkeypatch.setattr(group, "REMOVE_SECONDS", 0.05)
    with pytest.raises(Conflict, match=f"processes are left in it: {process.pid}"):
        made.remove()
    monkeypatch.undo()
    assert process.stdin is not None
    remover = threading.Thread(target=made.remove)
    remover.start()
    process.stdin.close()
    remover.join()
    assert process.wait(timeout=60) == 3
    assert not made.exists()


# ---- devices ---------------------------------------------------------------------------------

OPEN_ALL = """
import os, sys
for word in "c 1 3,c 1 1,c 4 0,b 7 0,c 10 229,c 10 200".split(","):
    kind, major, minor = word.split()[0], int(word.split()[1]), int(word.split()[2])
    path = f"{base}/{kind}{major}.{minor}"
    made = opened = "ok"
    try:
        os.mknod(path, 0o600 | (0o060000 if kind == "b" else 0o020000), os.makedev(major, minor))
    except PermissionError:
        made = "refused"
    else:
        try:
            os.close(os.open(path, os.O_RDWR))
        except PermissionError:
            opened = "refused"
        except OSError:
            pass  # no such driver, busy: the filter let it through
        os.unlink(path)
    print(kind, major, minor, made, opened)
"""


def device_results(groups: Groups, made: cgroups.Cgroup, base: str) -> dict[str, str]:
    status, out, err = groups.python(made, f"base = {base!r}\n" + OPEN_ALL)
    assert status == 0, err
    return {line.rsplit(" ", 2)[0]: " ".join(line.split(" ")[3:]) for line in out.splitlines()}


def test_default_devices(groups: Groups, base: str) -> None:
    assert device_results(groups, groups.create(), base) == {
        "c 1 3": "ok ok",
        "c 1 1": "ok refused",
        "c 4 0": "ok refused",
        "b 7 0": "ok refused",
        "c 10 229": "ok refused",
        "c 10 200": "ok ok",
    }


def test_added_device(groups: Groups, base: str) -> None:
    rules = (*devices.DEFAULT, devices.DeviceRule(allow=True, type="c", major=10, minor=229))
    results = device_results(groups, groups.create(devices=rules), base)
    assert results["c 10 229"] == "ok ok"
    assert results["c 1 1"] == "ok refused"


def test_without_filter(groups: Groups, base: str) -> None:
    made = groups.create(devices=None)
    assert set(device_results(groups, made, base).values()) == {"ok ok"}


def test_one_program_per_rule_set(native: Groups) -> None:
    if HERE.v2 is None:
        return

    def programs(made: cgroups.Cgroup) -> list[int]:
        fd = os.open(made.v2_dir or "", os.O_RDONLY)
        try:
            return bpf.query(fd)
        finally:
            os.close(fd)

    rules = (*devices.DEFAULT, devices.DeviceRule(allow=True, type="c", major=10, minor=229))
    one, two, other = native.create(), native.create(), native.create(devices=rules)
    assert len(programs(one)) == 1
    assert programs(one) == programs(two) != programs(other)
    devices.forget_programs()
    assert len(programs(one)) == 1


def test_never_without_filter(native: Groups, monkeypatch: pytest.MonkeyPatch) -> None:
    """No BPF and no v1 controller: an error, not a container with all devices."""
    if HERE.v2 is None:
        return

    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(bpf, "load", refuse)
    alone = CgroupLayout(HERE.v2, {})
    path = native.path()
    with pytest.raises(Unsupported, match="devices cannot be filtered"):
        cgroups.create(alone, path, Resources())
    assert not cgroups.open_existing(alone, path).exists()


# ---- the v2 hierarchy alone ------------------------------------------------------------------


# pids and cpu can be handed down by a group with processes, to groups that then take none.
THREADED = ("cpu", "cpuset", "pids", "perf_event")


OFFERED = sorted(HERE.v2_controllers() & {"memory", "pids", "cpu", "hugetlb"})


NONE = pytest.param("", marks=pytest.mark.hardware(reason="v1 has all the kernel's controllers"))


@pytest.fixture(params=OFFERED or [NONE])
def delegated(native: Groups, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """A v2 group, as an engine in a container has it, and a controller that can be had there."""
    controller = request.param
    if HERE.v2 is None or not controller:
        pytest.skip("no controller is left to a v2 hierarchy here")
    enabled = controller in files.read(HERE.v2, "cgroup.subtree_control").split()
    made = native.create()
    layout.enable_v2(HERE.v2, f"{made.path}/x", (controller,))
    assert made.v2_dir
    top = f"{made.v2_dir}/top"
    os.mkdir(top)
    yield top, controller
    cgroups.open_existing(HERE, made.path).kill()
    cgroups.open_existing(HERE, made.path).remove()
    if not enabled:
        for directory in (f"{HERE.v2}/{native.parent}", HERE.v2):
            files.write_raw(directory, "cgroup.subtree_control", f"-{controller}")


def test_processes_in_the_way_are_moved(native: Groups, delegated: tuple[str, str]) -> None:
    """No internal processes: a delegated group hands controllers down only when it is empty."""
    top, controller = delegated
    process = native.run(cgroups.Cgroup(HERE, "top", top, {}), "exec cat")
    if controller not in THREADED:
        with pytest.raises(OSError, match="busy"):
            files.write_raw(top, "cgroup.subtree_control", f"+{controller}")
    os.mkdir(f"{top}/fastbox")
    layout.enable_v2(top, "fastbox/x", (controller,))
    assert files.read(f"{top}/{layout.LEAF}", "cgroup.procs") == str(process.pid)
    assert files.read(f"{top}/fastbox", "cgroup.subtree_control") == controller
    inner = f"{top}/fastbox/x"
    os.mkdir(inner)
    assert controller in files.read(inner, "cgroup.controllers").split()
    assert files.read(inner, "cgroup.type") == "domain"
    native.run(cgroups.Cgroup(HERE, "x", inner, {}), "exec cat")


def test_v2_values(base: str) -> None:
    """What is written to which file, also where this machine's v2 hierarchy lacks a controller."""

    def values(controller: str, **limits: object) -> dict[str, str]:
        directory = os.path.join(base, uuid.uuid4().hex)
        os.mkdir(directory)
        names = ["memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpu.weight"]
        for name in [*names, "cpuset.cpus", "cpuset.mems", "pids.max"]:
            open(f"{directory}/{name}", "w").close()
        v2.apply(directory, controller, Resources(**limits))  # type: ignore[arg-type]
        return {
            n: text for n in sorted(os.listdir(directory)) if (text := files.read(directory, n))
        }

    m = 64 * MIB
    assert values("memory", memory=m) == {"memory.max": str(m), "memory.swap.max": str(m)}
    assert values("memory", memory=m, memory_swap=m) == {
        "memory.max": str(m),
        "memory.swap.max": "0",
    }
    assert values("memory", memory=m, memory_swap=-1, memory_reservation=7) == {
        "memory.low": "7",
        "memory.max": str(m),
        "memory.swap.max": "max",
    }
    assert values("memory", memory=-1) == {"memory.max": "max"}
    assert values("cpu", nano_cpus=1_500_000_000) == {"cpu.max": "150000 100000"}
    assert values("cpu", cpu_shares=1024) == {"cpu.weight": "100"}
    assert values("cpuset", cpuset_cpus="0-1", cpuset_mems="0") == {
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
    }
    assert values("pids", pids_limit=12) == {"pids.max": "12"}
    assert values("pids", pids_limit=-1) == {"pids.max": "max"}


def test_missing_swap_accounting(base: str) -> None:
    open(os.path.join(base, "memory.max"), "w").close()
    v2.apply(base, "memory", Resources(memory=MIB))
    with pytest.raises(FileNotFoundError):
        v2.apply(base, "memory", Resources(memory=MIB, memory_swap=2 * MIB))
    open(os.path.join(base, "memory.limit_in_bytes"), "w").close()
    v1.apply(base, "memory", Resources(memory=MIB))
    with pytest.raises(Unsupported, match="swap limits"):
        v1.apply(base, "memory", Resources(memory=MIB, memory_swap=2 * MIB))


@pytest.mark.parametrize(
    ("shares", "weight"), [(1, 1), (2, 1), (512, 59), (1024, 100), (2048, 174), (262_144, 10_000)]
)
def test_shares_as_weight(shares: int, weight: int) -> None:
    assert Resources(cpu_shares=shares).weight == weight


# ---- which layout ----------------------------------------------------------------------------


def mountinfo(*mounts: tuple[str, str, str, str]) -> bytes:
    """Lines of (root, mount point, type, super options)."""
    lines = [
        f"{n} 1 0:{n} {root} {point} rw,nosuid shared:{n} - {kind} {kind} {options}\n"
        for n, (root, point, kind, options) in enumerate(mounts)
    ]
    return b"1 0 8:1 / / rw - ext4 /dev/sda rw\n" + "".join(lines).encode()


def writable(*directories: str) -> None:
    for directory in directories:
        os.makedirs(directory, exist_ok=True)
        open(f"{directory}/cgroup.procs", "w").close()


def test_parse_v2(base: str) -> None:
    writable(base)
    found = layout.parse(mountinfo(("/", base, "cgroup2", "rw")), b"0::/user.slice\n")
    assert (found.mode, found.v2, found.v1) == ("v2", base, {})


def test_parse_v1_and_co_mounted(base: str) -> None:
    points = [f"{base}/{name}" for name in ("cpu,cpuacct", "memory", "devices", "systemd")]
    writable(*points)
    text = mountinfo(
        ("/", points[0], "cgroup", "rw,cpu,cpuacct"),
        ("/", points[1], "cgroup", "rw,memory"),
        ("/", points[2], "cgroup", "rw,devices"),
        ("/", points[3], "cgroup", "rw,xattr,name=systemd"),
    )
    found = layout.parse(text, b"3:memory:/\n2:cpu,cpuacct:/a\n1:name=systemd:/\n")
    assert found.mode == "v1"
    names = ("cpu", "memory", "devices", "name=systemd")
    assert found.v1 == dict(zip(names, points, strict=True))


def test_parse_hybrid(base: str) -> None:
    writable(f"{base}/unified", f"{base}/devices")
    text = mountinfo(
        ("/", f"{base}/devices", "cgroup", "rw,devices"), ("/", f"{base}/unified", "cgroup2", "rw")
    )
    found = layout.parse(text, b"1:devices:/\n0::/\n")
    assert (found.mode, found.v2) == ("hybrid", f"{base}/unified")
    os.unlink(f"{base}/unified/cgroup.procs")  # not ours to write
    assert layout.parse(text, b"1:devices:/\n0::/\n").mode == "v1"


@pytest.mark.parametrize("leaf", ["", f"/{layout.LEAF}"])
def test_parse_delegated(base: str, leaf: str) -> None:
    """Only our own group is ours; also after we moved ourselves to the leaf in it."""
    own = "/user.slice/user@0.service/app.slice"
    writable(base + own)
    os.makedirs(base + own + leaf, exist_ok=True)
    found = layout.parse(mountinfo(("/", base, "cgroup2", "rw")), f"0::{own}{leaf}\n".encode())
    assert found.v2 == base + own


def test_parse_bind_of_a_part(base: str) -> None:
    """Docker in Docker on v1: the mount shows a group, /proc/self/cgroup names it from the top."""
    writable(f"{base}/a/b")
    os.makedirs(f"{base}/devices")
    text = mountinfo(("/docker/x", f"{base}/a", "cgroup", "rw,devices"))
    assert layout.parse(text, b"1:devices:/docker/x/b\n").v1 == {"devices": f"{base}/a/b"}
    with pytest.raises(Unsupported):
        layout.parse(text, b"1:devices:/docker/xx/b\n")
    with pytest.raises(Unsupported):
        layout.parse(text, b"1:devices:/docker/x/../../b\n")


def test_parse_odd_mount_points(base: str) -> None:
    directory = f"{base}/with blank\\and\ttab"
    writable(directory)
    escaped = directory.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011")
    found = layout.parse(mountinfo(("/", escaped, "cgroup2", "rw")), b"0::/\n")
    assert found.v2 == directory


def test_parse_prefers_the_whole_tree(base: str) -> None:
    writable(f"{base}/part", f"{base}/whole")
    text = mountinfo(
        ("/x", f"{base}/part", "cgroup2", "rw"), ("/", f"{base}/whole", "cgroup2", "rw")
    )
    assert layout.parse(text, b"0::/\n").v2 == f"{base}/whole"


def test_no_cgroups_is_an_error() -> None:
    for text in (b"", b"1 0 8:1 / / rw - ext4 /dev/sda rw\n"):
        with pytest.raises(Unsupported, match="no writable cgroup hierarchy"):
            layout.parse(text, b"0::/\n")


def in_namespace(prepare: str, code: str) -> str:
    """Run Python in a mount namespace of its own, after shell commands; its output."""
    script = f'set -e\nmount --make-rprivate /\n{prepare}\nexec {sys.executable} -c "$0"\n'
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


UNMOUNT = (
    "grep -E ' - cgroup2? ' /proc/self/mountinfo | cut -d' ' -f5 | sort -r | xargs -r umount\n"
)


def test_detect_with_v2_alone() -> None:
    prepare = UNMOUNT + "mkdir -p /sys/fs/cgroup\nmount -t cgroup2 none /sys/fs/cgroup\n"
    code = """
import os
from fastbox.container import cgroups
from fastbox.errors import Unsupported
found = cgroups.detect()
print(found.mode, found.v2, found.v1)
path = f"fastbox-test-ns/{os.getpid()}"
made = cgroups.create(found, path, cgroups.Resources())
print(made.v1_dirs, made.exists())
made.remove()
if "memory" not in found.v2_controllers():
    try:
        cgroups.create(found, path, cgroups.Resources(memory=1 << 24))
    except Unsupported as e:
        print(e)
else:
    print("the kernel or the parent cgroup has no memory controller")
print(cgroups.open_existing(found, path).exists())
os.rmdir("/sys/fs/cgroup/fastbox-test-ns")
"""
    assert in_namespace(prepare, code).splitlines() == [
        "v2 /sys/fs/cgroup {}",
        "{} True",
        "the kernel or the parent cgroup has no memory controller",
        "False",
    ]


def test_detect_with_v1_alone() -> None:
    if "devices" not in HERE.v1:
        return
    prepare = "umount " + HERE.v2 if HERE.v2 else ""
    code = "from fastbox.container import cgroups; print(cgroups.detect().mode)"
    assert in_namespace(prepare, code) == "v1\n"


def test_read_only_hierarchies_are_none() -> None:
    prepare = UNMOUNT + "mount -t cgroup2 none /sys/fs/cgroup -o ro\n"
    code = """
from fastbox.container import cgroups
from fastbox.errors import Unsupported
try:
    cgroups.detect()
except Unsupported as e:
    print(e)
"""
    assert in_namespace(prepare, code) == "no writable cgroup hierarchy is mounted\n"


# ---- values ----------------------------------------------------------------------------------

CPUS = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"memory": 4 * MIB}, "Minimum memory limit allowed is 6MB"),
        ({"memory": -2}, "Minimum memory limit allowed is 6MB"),
        (
            {"memory": 64 * MIB, "memory_swap": 32 * MIB},
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            {"memory_swap": 32 * MIB},
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        ({"memory_reservation": MIB}, "Minimum memory reservation allowed is 6MB"),
        (
            {"memory": 8 * MIB, "memory_reservation": 9 * MIB},
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        (
            {"nano_cpus": (CPUS + 1) * 10**9},
            f"range of CPUs is from 0.01 to {CPUS}.00, as there are only {CPUS} CPUs available",
        ),
        (
            {"nano_cpus": 9 * 10**6},
            f"range of CPUs is from 0.01 to {CPUS}.00, as there are only {CPUS} CPUs available",
        ),
        (
            {"nano_cpus": -1},
            f"range of CPUs is from 0.01 to {CPUS}.00, as there are only {CPUS} CPUs available",
        ),
        ({"cpu_shares": -1}, "invalid CPU shares (-1): value must be a positive integer"),
        ({"cpuset_cpus": "0-x"}, "Invalid value 0-x for cpuset cpus"),
        ({"cpuset_cpus": "3-1"}, "Invalid value 3-1 for cpuset cpus"),
        ({"cpuset_cpus": "0,,1"}, "Invalid value 0,,1 for cpuset cpus"),
        ({"cpuset_cpus": "1e9"}, "Invalid value 1e9 for cpuset cpus"),
        ({"cpuset_cpus": "0-99999999"}, "Invalid value 0-99999999 for cpuset cpus"),
        ({"cpuset_mems": "0\n1"}, "Invalid value 0\n1 for cpuset mems"),
        ({"pids_limit": -2}, "invalid pids limit (-2): it is a positive number, or -1 for none"),
        ({"memory": 1 << 64}, "a memory limit does not fit in 63 bits"),
    ],
)
def test_bad_limits(limits: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        cgroups.validate(Resources(**limits), HERE)  # type: ignore[arg-type]
    assert str(caught.value) == text


def test_cpus_that_are_not_there() -> None:
    with pytest.raises(InvalidArgument) as caught:
        cgroups.validate(Resources(cpuset_cpus="0,99"), HERE)
    assert re.fullmatch(
        r"Requested CPUs are not available - requested 0,99, available: 0[0-9,-]*",
        str(caught.value),
    )
    with pytest.raises(InvalidArgument, match="Requested memory nodes are not available"):
        cgroups.validate(Resources(cpuset_mems="1000"))


def test_good_limits() -> None:
    for limits in (
        {},
        {"memory": 6 * MIB, "memory_swap": -1},
        {"memory": -1},
        {"memory": 8 * MIB, "memory_swap": 8 * MIB, "memory_reservation": 6 * MIB},
        {"nano_cpus": 10**7},
        {"nano_cpus": CPUS * 10**9},
        {"cpuset_cpus": "0", "cpuset_mems": "0"},
        {"pids_limit": -1},
    ):
        cgroups.validate(Resources(**limits), HERE)  # type: ignore[arg-type]


def test_oci_round_trip() -> None:
    limits = Resources(
        memory=64 * MIB,
        memory_swap=-1,
        memory_reservation=7 * MIB,
        nano_cpus=1_500_000_000,
        cpu_shares=100,
        cpuset_cpus="0-1",
        cpuset_mems="0",
        pids_limit=5,
    )
    assert Resources.from_oci(limits.to_oci()) == limits
    assert Resources.from_oci(Resources(devices=None).to_oci()).devices is None
    assert Resources.from_oci(Resources().to_oci()).devices == devices.DEFAULT
    with pytest.raises(InvalidArgument, match=r"memory.limit"):
        Resources.from_oci({"memory": {"limit": "much"}})


def test_kernel_refusal_names_file_and_reason(native: Groups) -> None:
    made = native.create(pids_limit=5)
    directory = made.v1_dirs.get("pids", made.v2_dir or "")
    with pytest.raises(Unsupported, match=r"setting pids.max of cgroup .* to 'x' failed: Invalid"):
        files.write(directory, "pids.max", "x")
    with pytest.raises(Unsupported, match=r"nothing\.max"):
        files.write(directory, "nothing.max", "1")
    error = files.failure("creating cgroup /x", OSError(30, "Read-only file system"))
    assert isinstance(error, PermissionDenied)
    assert error.hint


def test_a_group_that_goes_while_somebody_waits_for_it() -> None:
    """commit freezes a container that ends this moment."""
    if HERE.v2 is None:
        return
    path = f"{HERE.v2}/fastbox-test-{uuid.uuid4().hex}"
    os.mkdir(path)
    found: list[bool] = []
    waiter = threading.Thread(target=lambda: found.append(v2._wait_for(path, "frozen", "1", 60)))
    waiter.start()
    waiter.join(0.1)  # it has begun
    os.rmdir(path)
    waiter.join(30)
    assert found == [True]
