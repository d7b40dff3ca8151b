"""Commands in a box: what they get, what comes back, and what ends them."""

from __future__ import annotations

import math
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

import fastbox
from fastbox.errors import CommandFailed, Conflict, InvalidArgument, LaunchError, NotRunning
from tests.support.wait import wait_for

if TYPE_CHECKING:
    from fastbox.engine import Engine

Box = fastbox.Sandbox


def sh(box: Box, line: str, **options: Any) -> fastbox.SandboxResult:
    return box.run(["sh", "-c", line], **options)


def test_output_status_and_input(box: Box) -> None:
    every = bytes(range(256)) * 3000  # more than the pipes hold, both ways
    result = sh(box, "cat; echo oops >&2; exit 3", input=every)
    assert (result.returncode, result.stdout, result.stderr) == (3, every, b"oops\n")
    assert not (result.timed_out or result.oom or result.truncated)
    assert result.args == ["sh", "-c", "cat; echo oops >&2; exit 3"]
    assert box.run(["cat"]).stdout == b""  # stdin is at its end
    assert box.run(["cat"], input="ü").text == "ü"
    assert box.run(["true"], input=every).returncode == 0  # nobody reads it


def test_environment_directory_and_user(engine: Engine, busybox_image: str) -> None:
    options: dict[str, Any] = {"env": {"A": "1", "B": "2"}, "workdir": "/tmp", "user": "app"}
    with Box(busybox_image, engine=engine, **options) as box:
        assert sh(box, "echo $A $B $(pwd) $(id -u)").text == "1 2 /tmp 1000\n"
        line = "echo $A $B $(pwd) $(id -u)"
        assert sh(box, line, env={"B": "x y"}, cwd="/etc", user="0").text == "1 x y /etc 0\n"


def test_files_and_background_processes_last(box: Box) -> None:
    sh(box, "echo kept > /file; sleep 1000 >/dev/null 2>&1 &", check=True)
    line = "cat /file; until pidof sleep >/dev/null; do :; done; echo runs"
    assert sh(box, line, timeout=60).text == "kept\nruns\n"


def test_nothing_of_the_image_runs_by_itself(box: Box) -> None:
    found = sh(box, "for p in /proc/[0-9]*; do cat $p/comm; done").text.split()
    assert sorted(set(found) - {"cat"}) == ["fastbox-idle", "sh"]


def test_a_timeout_kills_the_run_and_what_it_daemonised(box: Box) -> None:
    sh(box, "sleep 1001 >/dev/null 2>&1 &")
    line = "setsid sh -c 'trap : TERM; sleep 1002' & echo before; sleep 1003"
    result = sh(box, line, timeout=0.3)
    assert (result.timed_out, result.returncode, result.stdout) == (True, 137, b"before\n")
    left = sh(box, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").text
    assert "1001" in left and "1002" not in left and "1003" not in left


def test_the_timeout_of_the_box_and_of_a_run(engine: Engine, busybox_image: str) -> None:
    with Box(busybox_image, engine=engine, timeout=0.2) as box:
        assert box.run(["sleep", "1000"]).timed_out
        assert not box.run(["sleep", "0.3"], timeout=None).timed_out
        assert not box.run(["sleep", "0.3"], timeout=math.inf).timed_out


def test_output_is_limited(engine: Engine, busybox_image: str) -> None:
    with Box(busybox_image, engine=engine, output_limit="1k") as box:
        result = box.run(["yes"])
        assert result.truncated and result.returncode == 137 and len(result.stdout) == 1024
        exact = sh(box, "head -c 1024 /dev/zero; head -c 1024 /dev/zero >&2")
        assert not exact.truncated and len(exact.stdout) == len(exact.stderr) == 1024
        assert sh(box, "head -c 1025 /dev/zero").truncated
        assert len(sh(box, "head -c 300000 /dev/zero", output_limit=None).stdout) == 300000


def test_failures_are_told(box: Box) -> None:
    with pytest.raises(LaunchError, match="not found") as missing:
        box.run(["no-such-program"])
    assert missing.value.run_exit_code == 127
    with pytest.raises(LaunchError, match="/nowhere"):
        box.run(["true"], cwd="/nowhere")
    with pytest.raises(LaunchError, match="nobody-there"):
        box.run(["true"], user="nobody-there")
    with pytest.raises(CommandFailed, match="status 4") as failed:
        sh(box, "echo out; exit 4", check=True)
    assert (failed.value.returncode, failed.value.stdout) == (4, b"out\n")
    with pytest.raises(CommandFailed, match="time was over"):
        box.run(["sleep", "1000"], timeout=0.1).check()


def test_too_much_memory(engine: Engine, busybox_image: str) -> None:
    with Box(busybox_image, engine=engine, memory="16m", memory_swap=16 << 20) as box:
        result = sh(box, "a=x; while :; do a=$a$a; done")
        assert result.oom and result.returncode == 137
        child = sh(box, "sh -c 'a=x; while :; do a=$a$a; done'; echo status $?")
        assert child.oom and child.text == "status 137\n"
        fine = box.run(["true"])
        assert not fine.oom and 0 < fine.usage.memory < child.usage.memory <= 16 << 20


def test_usage(box: Box) -> None:
    line = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"
    usage = sh(box, f"sh -c '{line}' & sleep 0.3").usage
    assert usage.wall >= 0.3 and usage.cpu > 0 and usage.memory > 10000
    assert box.run(["true"]).usage.cpu < usage.cpu


def test_a_run_is_cancelled(box: Box) -> None:
    stop = os.eventfd(0)
    timer = threading.Timer(0.2, os.eventfd_write, (stop, 1))
    timer.start()
    with pytest.raises(Conflict, match="cancelled"):
        box.run(["sleep", "1000"], cancel=stop)
    timer.join()
    os.close(stop)
    assert sh(box, "pidof sleep").returncode == 1


def test_an_interrupt_kills_the_run(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    import select

    class Interrupted:
        def __init__(self) -> None:
            self._real = poll()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        def poll(self, timeout: float | None = None) -> Any:
            raise KeyboardInterrupt

    poll = select.poll
    with monkeypatch.context() as patched:
        patched.setattr(select, "poll", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            box.run(["sleep", "1000"])
    assert sh(box, "pidof sleep").returncode == 1


def test_runs_at_once(box: Box) -> None:
    results: list[fastbox.SandboxResult] = []

    def work(number: int) -> None:
        line = f"sleep 0.1; echo {number}; exit {number}"
        results.append(sh(box, line, timeout=60))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(r.returncode for r in results) == list(range(8))
    assert all(result.text == f"{result.returncode}\n" for result in results)


def test_a_box_that_is_killed(engine: Engine, busybox_image: str) -> None:
    with Box(busybox_image, engine=engine) as box:
        thread = threading.Timer(0.2, engine.kill, (box.id,))
        thread.start()
        with pytest.raises(NotRunning):
            box.run(["sleep", "1000"])
        thread.join()
        with pytest.raises(NotRunning):
            box.run(["true"])
    with pytest.raises(NotRunning, match="closed"):
        box.run(["true"])
    assert engine.containers(all=True) == []


def test_what_confines_a_box(box: Box) -> None:
    status = sh(box, "cat /proc/self/status; ls /sys/class/net").text
    assert "CapEff:\t0000000000000000" in status and "CapBnd:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    assert status.split()[-1] == "lo"
    first = sh(box, "cat </proc/1/fd/0; cat /proc/1/environ /proc/1/exe; kill -9 1; echo done")
    assert first.text == "done\n" and first.stderr.count(b"ermission denied") == 3
    assert engine_limit(box) == 512


def engine_limit(box: Box) -> int:
    return box.engine.container(box.id).record.config.pids_limit


BAD: list[dict[str, Any]] = [
    {"memory": "lots"},
    {"memory": -1},
    {"memory": "1m"},
    {"cpus": 0},
    {"cpus": "half"},
    {"cpus": 10000},
    {"timeout": 0},
    {"timeout": -1},
    {"output_limit": 0},
    {"env": {"A=B": "x"}},
    {"env": ["A=B"]},
    {"workdir": "relative"},
    {"pids_limit": "many"},
    {"command": ["sh"]},
    {"restart": "always"},
    {"no_such": 1},
    {"pull": "perhaps"},
]


def test_a_limit_that_cannot_be_is_refused_before_anything_is_made(engine: Engine) -> None:
    for options in BAD:
        with pytest.raises(InvalidArgument):
            Box("busybox", engine=engine, **options)
    assert not os.path.exists(f"{engine.root}/containers")


def test_bad_runs_are_refused(box: Box) -> None:
    for args in ("ls", b"ls", [], [""], ["a\0b"], 7):
        with pytest.raises(InvalidArgument):
            box.run(args)  # type: ignore[arg-type]
    for cwd in ("relative", 7):
        with pytest.raises(InvalidArgument, match="absolute path"):
            box.run(["ls"], cwd=cwd)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument):
        box.run(["ls"], input=7)  # type: ignore[arg-type]


def test_a_time_that_no_clock_counts_is_no_limit(box: Box) -> None:
    for timeout in (1e300, 10**400, float("inf")):
        assert sh(box, "echo in time", timeout=timeout).text == "in time\n"


def test_a_box_ends_with_the_process_that_made_it(engine: Engine, busybox_image: str) -> None:
    script = (
        "import fastbox, os, sys; from fastbox.engine import Engine\n"
        "box = fastbox.Sandbox('busybox', engine=Engine(*sys.argv[1:])).start()\n"
        "box.run(['sh', '-c', 'sleep 1000 >/dev/null 2>&1 &'])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    import subprocess
    import sys

    argv = [sys.executable, "-c", script, engine.root, engine.runtime_dir]
    assert subprocess.run(argv, cwd=os.getcwd()).returncode == -9
    wait_for(lambda: not os.listdir(f"{engine.root}/containers"))
    assert engine.containers(all=True) == []


def test_closing_a_box_ends_its_runs(engine: Engine, busybox_image: str) -> None:
    box = Box(busybox_image, engine=engine).start()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            box.run(["sleep", "1000"])
        except NotRunning as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_for(lambda: box._runs == 3)
    box.close()
    for thread in threads:
        thread.join()
    assert len(errors) == 3 and engine.containers(all=True) == []


def test_a_box_whose_maker_has_left_a_fork(engine: Engine, busybox_image: str) -> None:
    script = (
        "import fastbox, os, sys; from fastbox.engine import Engine\n"
        "box = fastbox.Sandbox('busybox', engine=Engine(*sys.argv[1:])).start()\n"
        "pid = os.fork()\n"
        "if pid == 0: sys.stdin.read(); os._exit(0)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    import subprocess
    import sys

    argv = [sys.executable, "-c", script, engine.root, engine.runtime_dir]
    child = subprocess.Popen(argv, cwd=os.getcwd(), stdin=subprocess.PIPE)
    assert child.wait() == -9
    assert engine.containers(all=True) == []
    assert not os.listdir(f"{engine.root}/containers")
    assert child.stdin is not None
    child.stdin.close()
