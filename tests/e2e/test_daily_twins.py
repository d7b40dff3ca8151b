"""Terminals, the life cycle, restart policies, health and events: the same with docker, where a
daemon of it answers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest

from tests.support.command import Command
from tests.support.keyboard import Keyboard
from tests.support.wait import wait_for

IMAGE = "fastbox-test/busybox"
NAME = "fastbox-twin-daily"
LEAVE = "\x10\x11"
RUN = ["--network", "none", "--name", NAME]


@pytest.fixture(autouse=True)
def gone(twin: Command) -> Iterator[None]:
    yield
    twin("rm", "-f", NAME)


def text(result_err: str) -> str:
    """An error's lines, without what docker puts before them."""
    lines = [line for line in result_err.splitlines() if not line.startswith(("time=", "hint: "))]
    return re.sub(r"(?m)^(Error response from daemon|Error): ", "", "\n".join(lines)).lower()


def state(twin: Command, field: str) -> str:
    return twin.ok("inspect", "-f", f"{{{{.State.{field}}}}}", NAME)


# ---- terminals ---------------------------------------------------------------------------------


def test_a_shell(twin: Command) -> None:
    with Keyboard(twin, "run", "-it", *RUN, IMAGE, "sh", rows=30, columns=100) as person:
        person.see("# ")
        wait_for(lambda: person.command("stty size") == "30 100\r\n", "the size")
        assert person.command("tty") == "/dev/pts/0\r\n"
        assert person.command("echo $TERM") == "xterm\r\n"
        person.type(LEAVE)
        assert person.wait() == 0
        assert person.attributes == person.before
    assert state(twin, "Running") == "true"
    with Keyboard(twin, "attach", NAME, rows=20, columns=70) as person:
        person.type("\r")
        person.see("# ")
        person.type(LEAVE)
        assert person.wait() == 1
        assert "read escape sequence" in person.shown.decode()
    with Keyboard(twin, "attach", "--detach-keys", "ctrl-a,d", NAME) as person:
        person.type("\r")
        person.see("# ")
        person.type("\x01d")
        assert person.wait() == 1
    with Keyboard(twin, "attach", NAME) as person:
        person.type("exit 7\r")
        assert person.wait() == 7
    assert state(twin, "ExitCode") == "7"


def test_a_shell_by_exec(twin: Command) -> None:
    twin.ok("run", "-d", *RUN, IMAGE, "sleep", "1000")
    with Keyboard(twin, "exec", "-it", NAME, "sh", rows=30, columns=100) as person:
        person.see("# ")
        wait_for(lambda: person.command("stty size") == "30 100\r\n", "the size")
        person.type("exit 9\r")
        assert person.wait() == 9
    with Keyboard(twin, "exec", "-it", NAME, "sh") as person:
        person.see("# ")
        person.type("sleep 0.5; echo on > /tmp/on\r")
        person.see("/tmp/on")
        person.type(LEAVE)
        assert person.wait() == 1
    wait_for(lambda: twin("exec", NAME, "cat", "/tmp/on").out == "on\n", "it to go on")
    assert state(twin, "Running") == "true"


@pytest.mark.parametrize(
    "words",
    [
        ["run", "-it", *RUN, IMAGE, "true"],
        ["run", "-d", "-a", "stdout", *RUN, IMAGE, "true"],
    ],
    ids=["no terminal", "attached and detached"],
)
def test_what_is_refused(twin: Command, words: list[str]) -> None:
    result = twin(*words)
    assert result.code == 1
    assert text(result.err) in (
        "the input device is not a tty",
        "conflicting options: cannot specify both --attach and --detach",
    )
    assert twin("inspect", NAME).code == 1


def test_attach_to_what_is_not_up(twin: Command) -> None:
    twin.ok("create", *RUN, IMAGE, "sleep", "1000")
    result = twin("attach", NAME)
    assert result.code == 1
    assert "attach to a stopped container, start it first" in text(result.err)
    twin.ok("start", NAME)
    twin.ok("pause", NAME)
    result = twin("attach", NAME)
    assert result.code == 1
    assert "attach to a paused container, unpause it first" in text(result.err)
    twin.ok("unpause", NAME)


def test_input_is_exact(twin: Command) -> None:
    data = bytes(range(256)) * 40000
    result = twin("run", "-i", "--rm", *RUN, IMAGE, "cat", input=data)
    assert (result.code, result.raw) == (0, data)


# ---- the life cycle ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["start", NAME], "cannot start a paused container, try unpause instead"),
        (["exec", NAME, "true"], "is paused, unpause the container before exec"),
        (["pause", NAME], "is already paused"),
        (["rm", NAME], "container is paused and must be unpaused first"),
        (["kill", "-s", "NOPE", NAME], "invalid signal: nope"),
        (["rename", NAME, NAME], "renaming a container with the same name as its current name"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_errors(twin: Command, words: list[str], said: str) -> None:
    twin.ok("run", "-d", *RUN, IMAGE, "sleep", "1000")
    twin.ok("pause", NAME)
    result = twin(*words)
    if words[0] == "rm" and "docker" in twin.argv[0]:
        said = "paused"  # of version 20; the later ones say it as we do
    assert result.code == 1 and said in text(result.err), result
    twin.ok("unpause", NAME)


def test_stop_and_its_status(twin: Command) -> None:
    ignores = "trap '' TERM; while :; do sleep 0.05; done"
    twin.ok("run", "-d", *RUN, IMAGE, "sh", "-c", ignores)
    assert twin.ok("stop", "-t", "1", NAME) == NAME
    assert state(twin, "ExitCode") == "137"
    assert twin.ok("start", NAME) == NAME
    assert twin.ok("restart", "-t", "0", NAME) == NAME
    assert state(twin, "Running") == "true"
    assert twin.ok("kill", "-s", "KILL", NAME) == NAME
    wait_for(lambda: state(twin, "Running") == "false", "its end")
    assert twin.ok("wait", NAME) == "137"


# ---- restart policies and health -----------------------------------------------------------------


def test_retries(twin: Command) -> None:
    twin.ok("run", "-d", "--restart", "on-failure:2", *RUN, IMAGE, "sh", "-c", "exit 3")
    wait_for(lambda: twin.ok("inspect", "-f", "{{.RestartCount}}", NAME) == "2", "two restarts")
    wait_for(lambda: state(twin, "Status") == "exited", "the last end")
    assert state(twin, "ExitCode") == "3"
    # By hand, it counts anew.
    twin.ok("start", NAME)
    wait_for(lambda: state(twin, "Status") == "exited", "the last end")
    wait_for(lambda: twin.ok("inspect", "-f", "{{.RestartCount}}", NAME) == "2", "two restarts")


def test_always_and_a_stop(twin: Command) -> None:
    twin.ok("run", "-d", "--restart", "always", *RUN, IMAGE, "sh", "-c", "sleep 0.2; exit 1")
    wait_for(lambda: int(twin.ok("inspect", "-f", "{{.RestartCount}}", NAME)) >= 2, "restarts")
    twin.ok("stop", "-t", "0", NAME)
    before = twin.ok("inspect", "-f", "{{.RestartCount}}", NAME)
    assert state(twin, "Status") == "exited"
    assert twin.ok("inspect", "-f", "{{.RestartCount}}", NAME) == before


def test_health(twin: Command) -> None:
    check = ["--health-cmd", "cat /tmp/ok", "--health-interval", "100ms", "--health-retries", "2"]
    script = "touch /tmp/ok; exec sleep 1000"
    twin.ok("run", "-d", *check, *RUN, IMAGE, "sh", "-c", script)
    wait_for(lambda: state(twin, "Health.Status") == "healthy", "health")
    assert "(healthy)" in twin.ok("ps", "--filter", f"name={NAME}", "--format", "{{.Status}}")
    twin.ok("exec", NAME, "rm", "/tmp/ok")
    wait_for(lambda: state(twin, "Health.Status") == "unhealthy", "no health")
    log = json.loads(twin.ok("inspect", "-f", "{{json .State.Health}}", NAME))
    assert log["FailingStreak"] >= 2 and len(log["Log"]) <= 5
    assert log["Log"][-1]["ExitCode"] == 1 and "No such file" in log["Log"][-1]["Output"]


# ---- events ------------------------------------------------------------------------------------


def test_a_life_in_events(twin: Command) -> None:
    before = f"{time.time():.6f}"
    assert twin("run", "--rm", *RUN, IMAGE, "sh", "-c", "exit 4").code == 4
    words = [
        "events",
        "--since",
        before,
        "--until",
        f"{time.time():.6f}",
        "--filter",
        f"container={NAME}",
    ]
    lines = twin.ok(*words, "--format", "{{.Action}} {{.Actor.Attributes.exitCode}}").splitlines()
    seen = [line for line in lines if line.split()[0] in ("create", "start", "die", "destroy")]
    assert [line.split()[0] for line in seen] == ["create", "start", "die", "destroy"]
    assert seen[2] == "die 4"
