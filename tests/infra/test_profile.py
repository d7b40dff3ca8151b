"""What ``bench/profile`` makes of strace's lines: whose a call was, and what it cost."""

from __future__ import annotations

import pytest

from bench import profile, strace

LINES = r"""
100 1700000000.000001000 clone3({flags=CLONE_VM|CLONE_VFORK, exit_signal=0, stack=NULL}, 88 <unfinished ...>
101 1700000000.000041000 mount("overlay", "/run/rootfs", "overlay", 0, "lowerdir=a,upperdir=b") = 0 <0.000900123>
101 1700000000.001000000 execve("/proc/self/fd/4", ["fastbox-exec", "a) = 1"], 0x7ff /* 2 vars */ <unfinished ...>
100 1700000000.001200000 <... clone3 resumed>) = 101 <0.001199000>
101 1700000000.001300000 <... execve resumed>) = 0 <0.000300000>
100 1700000000.001400000 wait4(101,  <unfinished ...>
101 1700000000.001500000 openat(AT_FDCWD, "/nosuch", O_RDONLY) = -1 ENOENT (No such file or directory) <0.000004000>
101 1700000000.001600000 exit_group(0)     = ?
101 1700000000.001700000 +++ exited with 0 +++
100 1700000000.001800000 <... wait4 resumed>NULL, __WALL, NULL) = 101 <0.000400000>
""".strip()  # noqa: E501


def test_calls_that_are_interrupted_are_put_together() -> None:
    calls = strace.read(LINES.splitlines())
    assert [(call.pid, call.name) for call in calls] == [
        (100, "clone3"), (101, "mount"), (101, "execve"), (100, "wait4"), (101, "openat"),
        (101, "exit_group"),
    ]  # fmt: skip
    clone, mount, execute, waited, failed, ended = calls
    assert clone.took == pytest.approx(40e-6, rel=0.02)  # up to the child's first call
    assert mount.took == pytest.approx(900e-6, rel=1e-3)
    assert (execute.result, execute.took) == ("0", 300e-6)
    assert waited.waits and not failed.waits
    assert failed.result.startswith("-1 ENOENT")
    assert ended.took == 0
    assert strace.children(calls) == {101: 100}


def test_what_is_shown_of_a_call() -> None:
    calls = strace.read(LINES.splitlines())
    shown = [strace.argument(call) for call in calls]
    assert shown == ["VM|VFORK", "overlay /run/rootfs", "/proc/self/fd/4", "", "/nosuch", ""]
    path = f"/var/x/root/containers/{'0f' * 32}/.config.json.27449-fa7a75ca"
    assert strace.plain(path, {"/var/x": ""}) == "/root/containers/ID/.config.json.N"
    assert strace.plain("/proc/123/stat", {}) == "/proc/N/stat"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--rounds", "0"], "must be at least 1, not 0"),
        (["--network", "nosuch"], "invalid choice: 'nosuch'"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    words: list[str],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["bench/profile", *words])
    with pytest.raises(SystemExit) as ended:
        profile.main()
    assert ended.value.code == 2
    assert problem in capsys.readouterr().err


def test_only_root_can(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["bench/profile"])
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert profile.main() == 1
    assert capsys.readouterr().err.count("\n") == 1
