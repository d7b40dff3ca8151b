"""Terminals: a person types, a container answers. The real command on a real pseudo-terminal."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess

import pytest

from fastbox.container.record import Status
from fastbox.engine import Engine
from tests.support.command import Command
from tests.support.keyboard import Keyboard
from tests.support.wait import wait_for

PROMPT = "/ # "
LEAVE = "\x10\x11"
BUSY = "sh -c 'echo bu''sy; sleep 1000'\r"  # by the time it says so, it has the terminal


def shell(cli: Command, *options: str) -> Keyboard:
    keyboard = Keyboard(cli, "run", "-it", *options, "busybox", "sh")
    keyboard.see(PROMPT)
    return keyboard


def test_a_shell(cli: Command, busybox_image: str, engine: Engine) -> None:
    with shell(cli, "--rm", "--name", "shell") as person:
        assert person.is_raw
        assert person.command("tty") == "/dev/pts/0\r\n"
        assert person.command("echo $TERM") == "xterm\r\n"
        assert person.command("stty size") == "24 80\r\n"
        # The terminal is of the container's own devpts, and its console.
        assert person.command("ls /dev/pts") == "0     ptmx\r\n"
        assert person.command("echo to the console > /dev/console") == "to the console\r\n"
        person.type("exit 7\r")
        assert person.wait() == 7
        assert person.attributes == person.before
    assert engine.containers(all=True) == []


def test_keys_and_signals(cli: Command, busybox_image: str) -> None:
    with shell(cli, "--rm") as person:
        person.type(BUSY)
        person.see("busy\r\n")
        person.type("\x03")  # ctrl-C ends the command, not the shell and not the client
        person.see(PROMPT)
        assert person.command("echo $?") == "130\r\n"
        person.type(BUSY)
        person.see("busy\r\n")
        person.type("\x1a")  # ctrl-Z
        person.see("Stopped")
        person.see(PROMPT)
        person.type("echo wo''rd; cat\r")
        person.see("word\r\n")
        person.type("line\r")
        person.see("line\r\nline\r\n")
        person.type("\x04")  # ctrl-D
        person.see(PROMPT)
        every = bytes(range(1, 256))
        person.type("stty raw -echo; echo re''ady; head -c 253 | xxd -p | tr -d '\\n'; stty sane\r")
        person.see("ready")
        # All but the two that are looked at for leaving; a lone ctrl-P goes through with the next.
        keys = every.replace(b"\x10", b"").replace(b"\x11", b"")
        person.type(keys)
        person.see(keys.hex())
        person.see(PROMPT)
        person.type("exit\rexit\r")  # it tells of the stopped job first
        assert person.wait() == 0


def test_the_size_follows(cli: Command, busybox_image: str) -> None:
    with shell(cli, "--rm") as person:
        person.type("trap 'stty size' WINCH\r")
        person.see(PROMPT)
        for rows, columns in ((40, 100), (10, 20), (50, 132)):
            person.resize(rows, columns)
            wait_for(lambda: person.command("stty size").endswith(f"{rows} {columns}\r\n"))  # noqa: B023
        person.type("\x03exit\r")
        person.wait()


def test_leaving_and_coming_back(cli: Command, busybox_image: str, engine: Engine) -> None:
    with shell(cli, "--name", "stays") as person:
        person.type("X=kept\r")
        person.see(PROMPT)
        person.type(LEAVE)
        assert person.wait() == 0
        assert person.shown.replace(b"\x1b[6n", b"") == b""  # run prints nothing
        assert person.attributes == person.before
    assert engine.container("stays").state.status is Status.RUNNING
    with Keyboard(cli, "attach", "stays", rows=33, columns=99) as person:
        person.type("\r")
        person.see(PROMPT)
        assert person.command("echo $X; stty size") == "kept\r\n33 99\r\n"
        person.type(LEAVE)
        assert person.wait() == 1
        assert person.shown.decode().endswith("read escape sequence\r\n")
        assert person.attributes == person.before
    with Keyboard(cli, "attach", "--detach-keys", "ctrl-a,d", "stays") as person:
        person.type("\r")
        person.see(PROMPT)
        person.type(LEAVE + "\x01x")  # other keys, and half of these, do not
        person.see("x")
        person.type("\x01d")
        assert person.wait() == 1
    with Keyboard(cli, "start", "-ai", "stays") as person:  # it runs: the same as attach
        person.type("\r")
        person.see(PROMPT)
        person.type("exit 3\r")
        assert person.wait() == 3
    assert engine.container("stays").state.exit_code == 3
    with Keyboard(cli, "start", "-ai", "stays") as person:  # now it starts it
        person.see(PROMPT)
        assert person.command("echo $X") == "\r\n"
        person.type(LEAVE)
        assert person.wait() == 0
    engine.remove("stays", force=True)


def test_detach_keys_from_the_configuration(cli: Command, busybox_image: str, home: str) -> None:
    os.mkdir(f"{home}/.docker")
    with open(f"{home}/.docker/config.json", "w") as file:
        file.write('{"detachKeys": "ctrl-x"}')
    with shell(cli, "--name", "box") as person:
        person.type("\x18")
        assert person.wait() == 0
    cli.ok("rm", "-f", "box")


@pytest.mark.parametrize("keys", ["ctrl-", "ctrl-é", "xx", "a,,b", "ctrl-P"])
def test_bad_detach_keys(cli: Command, busybox_image: str, keys: str) -> None:
    error = cli.fails(125, "run", "--detach-keys", keys, "busybox", "true")
    assert error.startswith(f"fastbox: Error: invalid detach keys ({keys}): Unknown character: '")
    assert cli.ok("ps", "-aq") == ""


@pytest.mark.parametrize("how", ["kill", "monitor"])
def test_the_terminal_is_restored_when_the_container_is_killed(
    cli: Command, busybox_image: str, engine: Engine, how: str
) -> None:
    with shell(cli, "--name", "box") as person:
        state = engine.container("box").state
        os.kill(state.pid if how == "kill" else state.monitor_pid, signal.SIGKILL)
        assert person.wait() == (137 if how == "kill" else 125)
        assert person.attributes == person.before
    engine.remove("box", force=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_the_terminal_is_restored_when_the_client_is_ended(
    cli: Command, busybox_image: str, engine: Engine, number: signal.Signals
) -> None:
    with Keyboard(cli, "run", "-it", "--sig-proxy=false", "--name", "box", "busybox") as person:
        person.see(PROMPT)
        person.signal(number)
        assert person.wait() in (-number, 128 + number)
        assert person.attributes == person.before
    assert engine.container("box").state.status is Status.RUNNING
    engine.remove("box", force=True)


def test_a_client_that_was_stopped_takes_the_terminal_again(
    cli: Command, busybox_image: str
) -> None:
    with shell(cli, "--rm") as person:
        person.signal(signal.SIGSTOP)
        subprocess.run(["stty", "-F", os.ttyname(person.slave), "sane"], check=True)
        assert not person.is_raw
        person.signal(signal.SIGCONT)
        wait_for(lambda: person.is_raw, "raw mode")
        assert person.command("echo back") == "back\r\n"
        person.type("exit\r")
        assert person.wait() == 0


def test_a_client_begun_in_the_background_waits_for_the_terminal(
    cli: Command, busybox_image: str
) -> None:
    bash = Command(["bash", "--norc", "--noediting"], cli.home, {**cli.env, "PS1": "host # "})
    with Keyboard(bash) as person:
        person.see("host # ")
        person.type(f"{shlex.join([*cli.argv, 'run', '-it', '--rm', 'busybox', 'sh'])} &\r")
        person.see("host # ")
        wait_for(lambda: "Stopped" in person.command("jobs", prompt="host # "), "a stopped job")
        person.type("fg\r")
        person.see(PROMPT)
        assert person.command("stty size") == "24 80\r\n"
        person.type("exit 5\r")
        person.see("host # ")
        assert person.command("echo $?", prompt="host # ") == "5\r\n"


def test_a_killed_client_leaves_the_container(
    cli: Command, busybox_image: str, engine: Engine
) -> None:
    with shell(cli, "--name", "box") as person:
        person.signal(signal.SIGKILL)
        person.wait()
    assert engine.container("box").state.status is Status.RUNNING
    with Keyboard(cli, "attach", "box") as person:
        person.type("exit 4\r")
        assert person.wait() == 4
    engine.remove("box")


def test_a_terminal_without_input(cli: Command, busybox_image: str) -> None:
    """``-t`` alone works in a pipe: Docker's lines end with CR LF, and the streams are one."""
    result = cli("run", "--rm", "-t", "busybox", "sh", "-c", "echo out; echo err >&2; tty; exit 3")
    assert (result.code, result.raw, result.err) == (3, b"out\r\nerr\r\n/dev/pts/0\r\n", "")


@pytest.mark.parametrize("verb", ["run", "exec", "attach"])
def test_keys_need_a_terminal(cli: Command, busybox_image: str, engine: Engine, verb: str) -> None:
    cli.ok("run", "-dit", "--name", "box", "busybox")
    words = {"run": ["-it", "busybox"], "exec": ["-it", "box", "sh"], "attach": ["box"]}[verb]
    assert cli.fails(1, verb, *words) == "the input device is not a TTY\n"
    assert len(engine.containers(all=True)) == 1
    assert cli.ok("exec", "box", "true") == ""
    cli.ok("rm", "-f", "box")


def test_a_user_owns_the_terminal(cli: Command, busybox_image: str) -> None:
    with Keyboard(cli, "run", "-it", "--rm", "-u", "1000", "busybox", "sh") as person:
        person.see("/ $ ")
        assert person.command("stat -c '%u %a' /dev/pts/0", prompt="$ ") == "1000 620\r\n"
        assert person.command("echo new > /dev/stdout", prompt="$ ") == "new\r\n"
        person.type("exit\r")
        person.wait()


def test_the_log_has_what_the_terminal_showed(cli: Command, busybox_image: str) -> None:
    with shell(cli, "--name", "box") as person:
        person.command("echo logged")
        person.type("exit\r")
        person.wait()
    assert "logged\r\n" in cli("logs", "box").raw.decode()
    cli.ok("rm", "box")


@pytest.mark.parametrize("options", [[], ["--init"], ["--privileged"], ["--read-only"]], ids=str)
def test_kinds_of_containers(cli: Command, busybox_image: str, options: list[str]) -> None:
    with shell(cli, "--rm", *options) as person:
        assert person.command("stty size") == "24 80\r\n"
        person.type(BUSY)
        person.see("busy\r\n")
        person.type("\x03")
        person.see(PROMPT)
        person.type("exit 5\r")
        assert person.wait() == 5


def test_programs_may_close_the_terminal_and_open_it_again(
    cli: Command, busybox_image: str
) -> None:
    """While init lives, nobody having the terminal open is not its end."""
    script = (
        "exec </dev/null >/dev/null 2>&1; sleep 0.3; exec </dev/console >/dev/console 2>&1; "
        "echo again; read line; echo got $line"
    )
    with Keyboard(cli, "run", "-it", "--rm", "busybox", "sh", "-c", script) as person:
        person.see("again")
        person.type("it\r")
        person.see("got it")
        assert person.wait() == 0


# ---- exec --------------------------------------------------------------------------------------


@pytest.fixture
def box(engine: Engine, busybox_image: str, cli: Command) -> str:
    cli.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    return "box"


def test_exec_with_a_terminal(cli: Command, box: str, engine: Engine) -> None:
    with Keyboard(cli, "exec", "-it", box, "sh", rows=30, columns=90) as person:
        person.see(PROMPT)
        assert person.is_raw
        assert person.command("tty; stty size; echo $TERM") == "/dev/pts/0\r\n30 90\r\nxterm\r\n"
        person.type(BUSY)
        person.see("busy\r\n")
        person.type("\x03")
        person.see(PROMPT)
        person.resize(20, 70)
        wait_for(lambda: person.command("stty size") == "20 70\r\n", "the size")
        person.type("exit 9\r")
        assert person.wait() == 9
        assert person.attributes == person.before
    assert engine.container(box).state.status is Status.RUNNING


def test_exec_goes_on_after_the_detach_keys(cli: Command, box: str) -> None:
    with Keyboard(cli, "exec", "-it", box, "sh") as person:
        person.see(PROMPT)
        # More than a terminal's buffer: somebody must go on reading it.
        person.type("sleep 0.3; seq 100000; echo done > /tmp/done; sleep 1000\r")
        person.see("sleep 1000")
        person.type(LEAVE)
        assert person.wait() == 1
        assert person.shown.decode().endswith("read escape sequence\r\n")
    wait_for(lambda: cli("exec", box, "cat", "/tmp/done").out == "done\n", "the command's end")


def test_exec_goes_on_when_its_client_is_killed(cli: Command, box: str) -> None:
    with Keyboard(cli, "exec", "-it", box, "sh") as person:
        person.see(PROMPT)
        person.type("sleep 0.3; seq 100000; echo done > /tmp/done\r")
        person.see("/tmp/done\r\n")
        person.signal(signal.SIGKILL)
        person.wait()
    wait_for(lambda: cli("exec", box, "cat", "/tmp/done").out == "done\n", "the command's end")


def test_exec_with_a_terminal_that_fails(cli: Command, box: str) -> None:
    with Keyboard(cli, "exec", "-it", box, "nonexistent") as person:
        assert person.wait() == 127
        assert b"executable file not found in $PATH" in person.shown
        assert person.attributes == person.before


def test_exec_in_the_background_with_a_terminal(cli: Command, box: str) -> None:
    assert cli.ok("exec", "-dt", box, "sh", "-c", "seq 100000; tty > /tmp/tty") == ""
    wait_for(lambda: cli("exec", box, "cat", "/tmp/tty").out == "/dev/pts/0\n", "its end")


def test_the_end_of_the_container_ends_exec(cli: Command, box: str, engine: Engine) -> None:
    with Keyboard(cli, "exec", "-it", box, "sh") as person:
        person.see(PROMPT)
        engine.kill(box)
        assert person.wait() == 137
        assert person.attributes == person.before
