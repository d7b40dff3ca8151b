"""The host's ps, cut down to a container."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from fastbox.container.top import parse, top
from fastbox.errors import InvalidArgument, Unsupported

OUTPUT = """UID          PID    PPID  C STIME TTY          TIME CMD
root           1       0  0 10:00 ?        00:00:01 /sbin/init  splash
redis         12       1  0 10:00 ?        00:00:00 redis-server *:6379
redis        112      12  0 10:01 ?        00:00:00 sh -c  a   b
"""


def test_only_rows_of_the_container_with_the_rest_of_the_line_in_the_last_column() -> None:
    titles, rows = parse(OUTPUT, {12, 112})
    assert titles == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert rows == [
        ["redis", "12", "1", "0", "10:00", "?", "00:00:00", "redis-server *:6379"],
        ["redis", "112", "12", "0", "10:01", "?", "00:00:00", "sh -c  a   b"],
    ]


def test_threads_follow_their_process() -> None:
    output = "PID LWP CMD\n1 - init\n- 1 -\n2 - web\n- 2 -\n- 3 -\n"
    assert parse(output, {2})[1] == [["2", "-", "web"], ["-", "2", "-"], ["-", "3", "-"]]


@pytest.mark.parametrize("output", ["", "COMMAND\nsh\n", "PPID CMD\n1 x\n"])
def test_the_pid_column_is_needed(output: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^Couldn't find PID field in ps output$"):
        parse(output, {1})


def test_a_pid_that_is_none() -> None:
    with pytest.raises(InvalidArgument, match=r"^Unexpected pid 'x': not a number$"):
        parse("PID CMD\nx y\n", {1})


def test_the_real_ps() -> None:
    titles, rows = top({os.getpid()})
    assert titles[:3] == ["UID", "PID", "PPID"]
    assert [row[1:3] for row in rows] == [[str(os.getpid()), str(os.getppid())]]
    titles, rows = top([os.getpid()], ["-o", "pid,comm"])
    assert titles == ["PID", "COMMAND"]
    assert top(set())[1] == []


@pytest.mark.parametrize(
    "args",
    [["-o", "pid=PID"], ["-opid=PID"], ["axo", "pid=PID"], ["-o", "ppid,pid=PID"], ["aux"],
     ["--format=pid=PID"], ["-e", "--forest"], ["-eo", "user=UID,pid"]],
)  # fmt: skip
def test_options_that_keep_the_pid(args: list[str]) -> None:
    mine = args if args[0] in ("axo", "aux", "-e", "-eo") else ["-e", *args]
    titles, rows = top([os.getpid()], mine)
    assert [row[titles.index("PID")] for row in rows] == [str(os.getpid())]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-o", "comm"], "Couldn't find PID field in ps output"),
        (["-o", "pid=X"], "Couldn't find PID field in ps output"),
        (["-o", "pid="], "Couldn't find PID field in ps output"),
        (["-o", "pid=", "-o", "comm="], "Couldn't find PID field in ps output"),
        (["-o", "ppid=PID"], 'specifying "ppid=PID" is not allowed'),
        (["-o", "ppid=PID,comm"], 'specifying "ppid=PID,comm" is not allowed'),
        (["-o", "pid,comm=PIDS"], 'specifying "pid,comm=PIDS" is not allowed'),
        (["-oppid=PID"], 'specifying "-oppid=PID" is not allowed'),
        (["--format=ppid=PID"], 'specifying "--format=ppid=PID" is not allowed'),
        (["axo", "comm=", "PID"], 'specifying "comm=PID" is not allowed'),
        (["--nonsense"], "error running ps: "),
        (["a\0b"], "an option of ps holds a NUL character"),
    ],
)
def test_bad_options(args: list[str], message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        top({1}, args)
    assert str(caught.value).startswith(message)


def test_no_ps(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: Any, **kwargs: Any) -> None:
        raise FileNotFoundError(2, "No such file or directory", "ps")

    monkeypatch.setattr(subprocess, "run", missing)
    with pytest.raises(Unsupported, match="there is no ps on this system") as caught:
        top({1})
    assert caught.value.hint == "install the package procps"
