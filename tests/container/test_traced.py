"""``run --trace``: each phase of a start and each step of its children, on the rows of whoever did
it; also of a start that fails; and no trace, no container where the file cannot be written."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

import fastbox
from fastbox import ContainerConfig, tracing
from fastbox.engine import Engine
from fastbox.errors import Conflict, FastboxError, LaunchError
from tests.support.command import Command

PHASES = ["resolve image", "create", "network", "cgroup", "plan", "launch", "clone"]
PHASES += ["wait for exec", "monitor ready"]
NEVER = ["run", "--pull", "never", "--network", "none"]


class Picture:
    """A trace that was written."""

    def __init__(self, path: str) -> None:
        with open(path, "rb") as file:
            document = json.load(file)
        self.spans = [event for event in document["traceEvents"] if event["ph"] == "X"]
        self.instants = [event for event in document["traceEvents"] if event["ph"] == "i"]
        self.rows = {
            event["pid"]: event["args"]["name"]
            for event in document["traceEvents"]
            if event["ph"] == "M" and event["name"] == "process_name"
        }
        assert {event["pid"] for event in self.spans} == set(self.rows)

    def names(self, row: str) -> list[str]:
        """Of a row's spans, in the order of their beginnings, the longer ones first."""
        mine = [event for event in self.spans if self.rows[event["pid"]] == row]
        mine.sort(key=lambda event: (event["ts"], -event["dur"]))
        return [event["name"] for event in mine]

    def span(self, name: str) -> dict[str, Any]:
        (found,) = [event for event in self.spans if event["name"] == name]
        return found

    def failed(self) -> list[tuple[str, str]]:
        """(row, name) of the spans that failed, the innermost last."""
        wrong = [event for event in self.spans if "error" in event.get("args", {})]
        wrong.sort(key=lambda event: (event["ts"], -event["dur"]))
        return [(self.rows[event["pid"]], event["name"]) for event in wrong]


def check_whole(picture: Picture) -> None:
    """All that a start has, each step within what it is a part of."""
    assert picture.names("fastbox-monitor")[0] == "clone init: namespaces, cgroup"
    steps = picture.names("the container's init")
    assert steps[0] == "operations"
    assert {"confine", "exec", "mounting /proc", "masking /proc/kcore"} <= set(steps)
    assert steps[-1] == "exec of the command"
    whole = picture.span("launch")
    for event in picture.spans:
        if picture.rows[event["pid"]] != "fastbox":
            assert whole["ts"] <= event["ts"]
            assert event["ts"] + event["dur"] <= whole["ts"] + whole["dur"] + 0.01


def test_an_attached_run(cli: Command, busybox_image: str, base: str) -> None:
    done = cli(*NEVER, "--rm", "--trace=t.json", busybox_image, "sh", "-c", "exit 3", cwd=base)
    assert (done.code, done.out, done.err) == (3, "", "")
    picture = Picture(f"{base}/t.json")
    check_whole(picture)
    assert picture.names("fastbox") == ["parse", *PHASES, "attached run", "removal"]
    assert not picture.failed()
    assert not os.listdir(f"{cli.ok('info', '-f', '{{.DockerRootDir}}')}/containers")


def test_a_detached_run(cli: Command, busybox_image: str, base: str) -> None:
    path = f"{base}/t.json"
    cli.ok(*NEVER, "-d", "--name", "box", "--trace", path, busybox_image, "sleep", "1000")
    picture = Picture(path)
    check_whole(picture)
    assert picture.names("fastbox") == ["parse", *PHASES]
    init = int(cli.ok("inspect", "-f", "{{.State.Pid}}", "box"))
    assert picture.rows[init] == "the container's init"


@pytest.mark.parametrize("volumes", [True, False])
def test_removal_is_in_it_whoever_removes(
    cli: Command, busybox_image: str, base: str, volumes: bool
) -> None:
    options = ["-v", "/data"] if volumes else []
    cli.ok(*NEVER, "--rm", *options, f"--trace={base}/t", busybox_image, "true")
    assert Picture(f"{base}/t").names("fastbox")[-1] == "removal"
    assert cli.ok("volume", "ls", "-q") == ""


@pytest.mark.parametrize(
    ("options", "command", "code", "where"),
    [
        ([], "nonsuch", 127, ("the container's init", "exec of the command")),
        (["-u", "nobody7"], "true", 125, ("the container's init", "look up user and groups")),
        (
            ["--sysctl", "net.ipv4.nonsuch=1"],
            "true",
            125,
            ("the container's init", "setting sysctl net.ipv4.nonsuch"),
        ),
        (["-v", "/tmp:/proc/1"], "true", 125, ("fastbox", "create")),
    ],
)
def test_a_start_that_fails(
    cli: Command,
    busybox_image: str,
    base: str,
    options: list[str],
    command: str,
    code: int,
    where: tuple[str, str],
) -> None:
    plain = cli.fails(code, *NEVER, "--rm", *options, busybox_image, command)
    traced = cli.fails(code, *NEVER, "--rm", f"--trace={base}/t", *options, busybox_image, command)
    assert traced == plain
    picture = Picture(f"{base}/t")
    (instant,) = picture.instants
    assert instant["name"].removeprefix("failed: ") in plain
    assert picture.failed()[-1] == where


def test_no_image(cli: Command, base: str) -> None:
    cli.fails(125, *NEVER, "--trace", f"{base}/t", "nosuch/image")
    assert Picture(f"{base}/t").failed() == [("fastbox", "resolve image")]


@pytest.mark.parametrize("path", ["", "nosuch/t", "/dev", "nosuch/"])
def test_a_file_that_cannot_be_written(cli: Command, busybox_image: str, path: str) -> None:
    told = cli.fails(125, *NEVER, f"--trace={path}", "--name", "box", busybox_image, "true")
    assert told.startswith("fastbox: Error: ")
    assert cli.ok("ps", "-aq") == ""


def test_a_full_disk_costs_the_trace_only(cli: Command, busybox_image: str) -> None:
    done = cli(*NEVER, "--rm", "--trace=/dev/full", busybox_image, "sh", "-c", "echo 1; exit 4")
    assert (done.code, done.out) == (4, "1\n")
    assert done.err == "WARNING: writing the trace file /dev/full failed: no space left on device\n"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0, 0o666)])
def test_the_file_is_the_callers(
    cli: Command, busybox_image: str, base: str, umask: int, mode: int
) -> None:
    cli.ok(*NEVER, "--rm", "--trace=t", busybox_image, "true", cwd=base, umask=umask)
    assert os.stat(f"{base}/t").st_mode & 0o7777 == mode


def test_what_was_there_is_replaced(cli: Command, busybox_image: str, base: str) -> None:
    with open(f"{base}/t", "w") as file:
        file.write("x" * 100_000)
    cli.ok(*NEVER, "--rm", "--trace", f"{base}/t", busybox_image, "true")
    check_whole(Picture(f"{base}/t"))


def test_only_run_has_it(cli: Command, busybox_image: str) -> None:
    assert "unknown flag: --trace" in cli.fails(125, "create", "--trace=t", busybox_image)


def test_from_python(engine: Engine, busybox_image: str, base: str) -> None:
    box = engine.create(ContainerConfig(image=busybox_image, command=["true"], network="none"))
    with fastbox.Trace(f"{base}/t"):
        with pytest.raises(Conflict, match="already"):
            fastbox.Trace(f"{base}/other").__enter__()
        assert engine.run_attached(box.id) == 0
    picture = Picture(f"{base}/t")
    assert picture.names("fastbox") == [*PHASES[2:], "attached run"]
    assert not os.path.exists(f"{base}/other")
    assert tracing.active is None


def test_an_exception_ends_it(engine: Engine, busybox_image: str, base: str) -> None:
    box = engine.create(ContainerConfig(image=busybox_image, command=["nonsuch"], network="none"))
    with pytest.raises(LaunchError), fastbox.Trace(f"{base}/t"):
        engine.start(box.id)
    assert tracing.active is None
    assert Picture(f"{base}/t").failed()[-1][1] == "exec of the command"
    with pytest.raises(FastboxError, match="no space left"), fastbox.Trace("/dev/full"):
        pass
    assert tracing.active is None


def test_nothing_is_noted_without_one() -> None:
    assert tracing.span("a") is tracing.span("b")

    @tracing.traced("c")
    def double(number: int, *, more: int = 0) -> int:
        """What it does."""
        return 2 * number + more

    assert double(4, more=1) == 9
    assert (double.__name__, double.__doc__) == ("double", "What it does.")
