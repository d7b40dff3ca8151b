"""Starting containers and what can go wrong: Docker's exit codes, clean errors, nothing left."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from fastbox import atomic
from fastbox._core.tree import remove_tree
from fastbox.container.config import ContainerConfig, Mount, Ulimit
from fastbox.engine import Engine
from fastbox.errors import Conflict, FastboxError, InvalidArgument, LaunchError
from tests.support.boxes import compile_static, entry, execute, image, link, run, start
from tests.support.leaks import cgroup_parent
from tests.support.wait import wait_for


def cgroups(engine: Engine) -> list[str]:
    """Cgroups of the store's containers."""
    name = cgroup_parent(engine.root)
    found = subprocess.run(
        ["find", "/sys/fs/cgroup", "-mindepth", "2", "-type", "d", "-path", f"*/{name}/*"],
        capture_output=True,
        text=True,
    )
    return found.stdout.split()


@pytest.mark.parametrize("how", ["run", "exec"])
@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("nosuch", 127, 'exec: "nosuch": executable file not found in $PATH'),
        ("/nosuch", 127, "no such file or directory"),
        ("/no/such", 127, "no such file or directory"),
        ("/plain", 126, "permission denied"),
        ("plain-in-path", 126, "permission denied"),
        ("/etc", 126, "permission denied"),
        ("/etc/passwd/x", 127, "not a directory"),
        ("/loop", 126, "too many levels"),
        ("/garbage", 126, "exec format error"),
        ("/empty", 126, "exec format error"),
        ("/foreign", 126, "exec format error"),
        ("/interpreter", 127, "no such file or directory"),
        ("", 127, "executable file not found"),
    ],
)
def test_commands_that_cannot_start(
    engine: Engine, how: str, command: str, code: int, words: str
) -> None:
    plain = entry(b"0", mode=0o644)
    foreign = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\xf3\0" + bytes(44)  # RISC-V
    content = {
        "plain": plain,
        "bin/plain-in-path": entry(b"0", mode=0o644),
        "loop": link("loop"),
        "garbage": b"\1\2\3garbage",
        "empty": b"",
        "foreign": foreign,
        "interpreter": b"#!/nosuch\n",
    }
    name = image(engine, "commands", content)  # type: ignore[arg-type]
    if how == "exec":
        box = start(engine, name)
        with pytest.raises(LaunchError) as caught:
            execute(engine, box, command)
    else:
        with pytest.raises(LaunchError) as caught:
            run(engine, name, command)
        assert engine.containers(all=True) == [] and cgroups(engine) == []
    assert caught.value.run_exit_code == code and words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_failed_start_is_remembered(engine: Engine, busybox_image: str) -> None:
    made = engine.create(ContainerConfig(image=busybox_image, command=["nosuch"]))
    for _ in range(2):
        with pytest.raises(LaunchError):
            engine.start(made.id)
    state = engine.container(made.id).state
    assert (state.status.value, state.exit_code) == ("created", 127)
    assert "executable file not found" in state.error
    engine.remove(made.id)
    assert os.listdir(f"{engine.root}/trash") == os.listdir(f"{engine.root}/names") == []


@pytest.mark.parametrize(
    "config",
    [
        {"user": "nobodyknows"},
        {"user": "root:nogrp"},
        {"group_add": ["nogrp"]},
        {"workdir": "/etc/passwd"},
        {"mounts": [Mount(type="bind", source="/etc/passwd", target="/tmp")]},
        {"mounts": [Mount(type="bind", source="/etc", target="/etc/passwd")]},
        {"mounts": [Mount(type="tmpfs", target="/t", options=["size=many"])]},
        {"ulimits": [Ulimit(name="nofile", soft=1 << 40, hard=1 << 40)]},
        {"sysctls": {"net.ipv4.nosuch": "1"}},
        {"sysctls": {"kernel.msgmax": "many"}},
        {"oom_score_adj": 5000},
    ],
    ids=lambda config: next(iter(config)),
)
def test_each_step_can_fail(engine: Engine, busybox_image: str, config: dict[str, Any]) -> None:
    with pytest.raises(FastboxError) as caught:
        run(engine, busybox_image, "true", **config)
    assert "\n" not in str(caught.value) and "step" not in str(caught.value)
    assert engine.containers(all=True) == [] and cgroups(engine) == []
    assert set(os.listdir(engine.runtime_dir)) <= {"cache", "rootfs"}


def test_descriptors_stay_flat(engine: Engine, busybox_image: str) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def both(box: str) -> None:
        with pytest.raises(LaunchError):
            run(engine, busybox_image, "nosuch")
        with pytest.raises(LaunchError):
            engine.exec(box, ["nosuch"])
        assert engine.exec(box, ["true"]) == 0

    box = start(engine, busybox_image)
    both(box.id)
    before = descriptors()
    for _ in range(30):
        both(box.id)
    assert descriptors() == before


def test_one_name_one_winner(engine: Engine, busybox_image: str) -> None:
    def attempt(_: int) -> str | None:
        try:
            config = ContainerConfig(image=busybox_image, command=["true"], name="same")
            return Engine(engine.root, engine.runtime_dir).create(config).id
        except Conflict as error:
            assert '"/same" is already in use' in str(error)
            return None

    for _ in range(5):
        with ThreadPoolExecutor(8) as pool:
            winners = [made for made in pool.map(attempt, range(16)) if made]
        assert len(winners) == 1
        assert engine.container("same").id == winners[0]
        engine.remove("same")
    assert os.listdir(f"{engine.root}/containers") == []


def test_a_name_while_its_holder_goes(engine: Engine, busybox_image: str) -> None:
    """Creating and removing under one name, from several threads: never two at once."""
    config = ContainerConfig(image=busybox_image, command=["true"], name="same")

    def work(_: int) -> int:
        own, won = Engine(engine.root, engine.runtime_dir), 0
        for _ in range(15):
            try:
                made = own.create(config)
            except Conflict:
                continue
            won += 1
            assert os.readlink(f"{engine.root}/names/same") == made.id
            own.remove(made.id)
        return won

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) > 0
    assert engine.containers(all=True) == [] and os.listdir(f"{engine.root}/names") == []


def _is_empty(directory: str) -> bool:
    return not os.listdir(directory)


def test_many_runs_at_once_leave_nothing(engine: Engine, busybox_image: str) -> None:
    def one(number: int) -> int:
        return run(engine, busybox_image, "sh", "-c", f"echo {number}; exit {number % 7}").code

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(200))) == [number % 7 for number in range(200)]
    assert engine.containers(all=True) == []
    # The monitors delete what nobody waits for.
    for place in ("containers", "names", "trash"):
        wait_for(functools.partial(_is_empty, f"{engine.root}/{place}"), f"empty {place}")
    assert set(os.listdir(engine.runtime_dir)) <= {"cache", "rootfs"}
    assert cgroups(engine) == []


def test_verbs_at_random_from_many_threads(engine: Engine, busybox_image: str) -> None:
    """No deadlock, no error but fastbox's own, and a consistent end."""
    import random

    boxes = [start(engine, busybox_image, stop_timeout=0).id for _ in range(2)]

    def work(seed: int) -> None:
        choose = random.Random(seed)
        own = Engine(engine.root, engine.runtime_dir)
        for _ in range(12):
            box = choose.choice(boxes)
            verb = choose.choice(["start", "stop", "kill", "exec", "ps", "remove", "logs"])
            try:
                if verb == "exec":
                    own.exec(box, ["true"])
                elif verb == "stop":
                    own.stop(box, timeout=0)
                elif verb == "ps":
                    own.containers(all=True)
                elif verb == "logs":
                    list(own.logs(box))
                elif verb != "remove":
                    getattr(own, verb)(box)
                elif choose.random() < 0.1:
                    own.remove(box, force=True)
            except FastboxError as error:
                assert "\n" not in str(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    for box in engine.containers(all=True):
        engine.remove(box.id, force=True)
    assert cgroups(engine) == []


def test_too_much_is_refused(engine: Engine, busybox_image: str) -> None:
    configs: list[dict[str, Any]] = [
        {"mounts": [Mount(type="tmpfs", target=f"/m/{n}") for n in range(10_000)]},
        {"mounts": [Mount(type="bind", source="/" + "x" * 65536, target="/m")]},
        {"mounts": [Mount(type="bind", source="/a\0b", target="/m")]},
        {"mounts": [Mount(type="bind", source="/etc", target="/a\0b")]},
        {"mounts": [Mount(type="bind", source="/etc", target="/a\nb")]},
        {"mounts": [Mount(type="tmpfs", target="/m", options=["size=1,mode=0"])]},
        {"mounts": [Mount(type="tmpfs", target="/m", options=["size=1\0"])]},
        {"group_add": [str(n) for n in range(5000)]},
        {"env": ["A=b\0c"]},
        {"workdir": "/a\0b"},
        {"user": "a\0b"},
    ]
    for config in configs:
        with pytest.raises(FastboxError) as caught:
            run(engine, busybox_image, "true", **config)
        assert "launch plan" not in str(caught.value)
    assert engine.containers(all=True) == []


def test_large_values_arrive(engine: Engine, busybox_image: str) -> None:
    value = "x" * 100_000
    command = ("sh", "-c", 'echo "${#A} ${#1}"', "sh", value)
    result = run(engine, busybox_image, *command, env=[f"A={value}"])
    assert result.out == "100000 100000\n"
    with pytest.raises(LaunchError) as caught:
        run(engine, busybox_image, "true", *["y" * 131_000] * 60)
    assert "argument list too long" in str(caught.value)
    with pytest.raises(InvalidArgument, match="too large"):
        run(engine, busybox_image, "true", *["y" * 131_000] * 80)


WITHOUT = """
import sys
from fastbox import ContainerConfig, Engine
from fastbox.errors import FastboxError
engine = Engine(sys.argv[1], sys.argv[2])
try:
    made = engine.create(ContainerConfig(image="busybox", command=["true"], auto_remove=True))
    sys.exit(engine.run_attached(made.id))
except FastboxError as error:
    print(error, "|", error.hint)
    sys.exit(125)
"""


@pytest.mark.parametrize(
    "options",
    [
        ["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"],
        ["--bounding-set=-all", "--inh-caps=-all"],
        ["--reuid=65534", "--regid=65534", "--clear-groups"],
    ],
    ids=["no SYS_ADMIN", "no capability", "another user"],
)
def test_missing_privilege_is_one_clear_line(
    engine: Engine, busybox_image: str, options: list[str], runtime_dir: str
) -> None:
    command = ["setpriv", *options, "--", sys.executable, "-c", WITHOUT, engine.root, runtime_dir]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
    assert done.returncode == 125, done
    assert done.stderr == "" and done.stdout.count("\n") == 1
    assert "root" in done.stdout or "CAP_" in done.stdout, done.stdout
    assert cgroups(engine) == []
    assert engine.containers(all=True) == []


def test_the_starter_may_be_anywhere(engine: Engine, busybox_image: str, base: str) -> None:
    """A monitor keeps no directory of its starter's busy, and no terminal."""
    where = os.path.join(base, "where")
    os.mkdir(where)
    before = os.getcwd()
    os.chdir(where)
    try:
        box = start(engine, busybox_image)
        engine.exec(box.id, ["sleep", "1000"], detach=True)
    finally:
        os.chdir(before)
    state = engine.container(box.id).state
    assert os.readlink(f"/proc/{state.monitor_pid}/cwd") == "/"
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and _cwd(pid) == where]


def _cwd(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


LIMITED = """
import resource, sys
from fastbox import ContainerConfig, Engine
from fastbox.errors import FastboxError
import fastbox.container.create, fastbox.container.lifecycle, fastbox.image.store
engine = Engine(sys.argv[1], sys.argv[2])
limit = int(sys.argv[4])
resource.setrlimit(getattr(resource, sys.argv[3]), (limit, limit))
try:
    made = engine.create(ContainerConfig(image="busybox", command=["true"], auto_remove=True))
    sys.exit(engine.run_attached(made.id))
except FastboxError as error:
    print(error)
    sys.exit(125)
"""


@pytest.mark.parametrize(
    ("kind", "limits"), [("RLIMIT_NOFILE", range(4, 84, 5)), ("RLIMIT_FSIZE", (0, 100, 4000))]
)
def test_limits_of_the_engine(
    engine: Engine, busybox_image: str, runtime_dir: str, kind: str, limits: Sequence[int]
) -> None:
    """However few descriptors or bytes it may have: it works, or one line says what failed."""
    command = [sys.executable, "-c", LIMITED, engine.root, runtime_dir, kind]
    for limit in limits:
        argv = [*command, str(limit)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd="/")
        assert done.stderr == "", (limit, done.stderr)
        if done.returncode:
            assert done.returncode == 125 and done.stdout.count("\n") == 1, (limit, done)
        assert engine.containers(all=True) == [] and cgroups(engine) == []


def test_a_fork_bomb_can_be_removed(engine: Engine, base: str) -> None:
    bomb = compile_static("#include <unistd.h>\nint main(void) { for (;;) fork(); }", base)
    name = image(engine, "bomb", {"bomb": bomb})
    box = start(engine, name, "/bomb", pids_limit=30)
    wait_for(lambda: len(engine.top(box.id)[1]) == 30, "the bomb")
    engine.remove(box.id, force=True)
    assert engine.containers(all=True) == [] and cgroups(engine) == []


def test_the_callers_umask_is_not_the_containers(
    engine: Engine, busybox_image: str, base: str
) -> None:
    before = os.umask(0o077)
    try:
        got = run(
            engine, busybox_image, "stat", "-c", "%a", "/", "/new", "/new/dir", "/mnt/v", "/mnt/b",
            user="1000", workdir="/new/dir",
            mounts=[
                Mount(type="volume", target="/mnt/v"),
                Mount(type="bind", source=f"{base}/a/b/", target="/mnt/b", create_source=True),
            ],
        )  # fmt: skip
    finally:
        os.umask(before)
    assert (got.err, got.lines) == ("", ["755"] * 5)
    assert os.stat(f"{base}/a").st_mode & 0o7777 == 0o755


def test_exec_sees_a_config_that_was_replaced(engine: Engine, busybox_image: str) -> None:
    for auto_remove in (False, True):  # the two have their bundles in different places
        box = start(engine, busybox_image, auto_remove=auto_remove)
        assert execute(engine, box, "sh", "-c", "ulimit -n").out != "77\n"
        with open(f"{box.bundle}/config.json", "rb") as file:
            config = orjson.loads(file.read())
        config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 77}]
        atomic.write(f"{box.bundle}/config.json", orjson.dumps(config))
        assert execute(engine, box, "sh", "-c", "ulimit -n").out == "77\n"
        engine.remove(box.id, force=True)


def test_one_with_rm_whose_bundle_went_with_a_boot(engine: Engine, busybox_image: str) -> None:
    box = engine.create(ContainerConfig(image=busybox_image, command=["true"], auto_remove=True))
    remove_tree(box.bundle)
    # It is made anew.
    assert Engine(engine.root, engine.runtime_dir).run_attached(box.id) == 0
    assert engine.containers(all=True) == []
