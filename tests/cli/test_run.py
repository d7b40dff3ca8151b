"""run, create, start, exec: what is printed where, exit codes, pulling, --cidfile."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from fastbox.cli import leaving
from fastbox.container.record import Status
from fastbox.errors import Conflict, Detached, LaunchError, NotFound, NotRunning
from tests.cli.conftest import Fastbox
from tests.cli.fake import DIGEST, ID, FakeEngine, box

MISSING = LaunchError('exec: "foo": executable file not found in $PATH', run_exit_code=127)
DENIED = LaunchError('exec: "/bin": permission denied', run_exit_code=126)
HELP = "\n\nRun 'fastbox run --help' for more information\n"


@pytest.mark.parametrize("status", [0, 3, 137])
def test_run_prints_nothing_and_ends_with_the_containers_status(
    fastbox: Fastbox, fake: FakeEngine, status: int
) -> None:
    fake.status = status
    result = fastbox("run", "img", "true")
    assert (result.code, result.out, result.err) == (status, "", "")
    assert fake.asked("run_attached") == ((ID,), {"stdin": None, "stdout": 1, "stderr": 2})


def test_standard_input_only_with_i(fastbox: Fastbox, fake: FakeEngine) -> None:
    fastbox("run", "-i", "img")
    assert fake.asked("run_attached")[1]["stdin"] == 0


def test_detached_prints_the_id(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.boxes = [box()]
    result = fastbox("run", "-d", "img")
    assert (result.code, result.out, result.err) == (0, f"{ID}\n", "")
    assert [name for name, _, _ in fake.calls] == ["create", "start"]


def test_detached_prints_the_id_even_if_it_cannot_be_started(
    fastbox: Fastbox, fake: FakeEngine
) -> None:
    fake.errors["start"] = MISSING
    result = fastbox("run", "-d", "img", "foo")
    assert (result.code, result.out) == (127, f"{ID}\n")
    assert result.err == f"fastbox: Error: {MISSING}{HELP}"


@pytest.mark.parametrize(("error", "code"), [(MISSING, 127), (DENIED, 126), (Conflict("x"), 125)])
def test_run_wraps_errors_of_the_engine(
    fastbox: Fastbox, fake: FakeEngine, error: Any, code: int
) -> None:
    for method in ("create", "run_attached"):
        fake.errors = {method: error}
        result = fastbox("run", "img")
        assert (result.code, result.out) == (code, "")
        assert result.err == f"fastbox: Error: {error}{HELP}"
    fake.errors = {"create": error}
    result = fastbox("create", "img")
    assert (result.code, result.err) == (1, f"Error: {error}\n")


def test_a_hint_is_a_second_line(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.errors["create"] = Conflict("the name is taken", hint="take another")
    assert (
        fastbox("run", "img").err == f"fastbox: Error: the name is taken\nhint: take another{HELP}"
    )


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("Foo", "invalid reference format: repository name (library/Foo) must be lowercase"),
        ("", "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("name\uff1atag", "invalid reference format"),
    ],
)
def test_a_malformed_image_name(fastbox: Fastbox, image: str, message: str) -> None:
    result = fastbox("run", image)
    assert result.code == 125
    assert result.err.split("\n")[0] == f"fastbox: {message}"
    result = fastbox("create", image)
    assert result.code == 1
    assert result.err.split("\n")[0] == message


@pytest.mark.parametrize("image", ["a" * 64, "sha256:" + "a" * 64, "0123456789ab"])
def test_an_image_may_be_an_id(fastbox: Fastbox, fake: FakeEngine, image: str) -> None:
    assert fastbox("create", image).code == 0
    assert fake.config.image == image


def test_a_malformed_platform(fastbox: Fastbox) -> None:
    result = fastbox("run", "--platform", "!!", "img")
    assert result.code == 125
    assert result.err.startswith("fastbox: error parsing specified platform: ")


def test_the_platform_may_come_from_the_environment(
    fastbox: Fastbox, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "linux/arm64")
    fastbox("create", "img")
    assert fake.asked("create")[1]["platform"] == "linux/arm64"


# ---- pulling -----------------------------------------------------------------------------------


def test_a_missing_image_is_pulled_and_said_so_on_standard_error(
    fastbox: Fastbox, fake: FakeEngine
) -> None:
    fake.missing = {"redis"}
    result = fastbox("run", "redis")
    assert (result.code, result.out) == (0, "")
    assert result.err == (
        "Unable to find image 'redis:latest' locally\n"
        f"Digest: {DIGEST}\nStatus: Downloaded newer image for redis:latest\n"
    )
    assert [name for name, _, _ in fake.calls] == ["pull", "create", "run_attached"]


def test_a_quiet_pull(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.missing = {"redis"}
    assert fastbox("run", "-q", "redis").err == "Unable to find image 'redis:latest' locally\n"


def test_never_pull(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.missing = {"redis"}
    result = fastbox("run", "--pull=never", "redis")
    assert (result.code, result.err) == (125, f"fastbox: Error: No such image: redis:latest{HELP}")


def test_always_pull(fastbox: Fastbox, fake: FakeEngine) -> None:
    fastbox("run", "--pull", "always", "redis")
    assert [name for name, _, _ in fake.calls] == ["pull", "create", "run_attached"]


def test_a_pull_that_fails(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.missing = {"redis"}
    fake.errors["pull"] = NotFound("pull access denied for redis")
    result = fastbox("run", "redis")
    assert result.code == 125
    assert result.err == (
        "Unable to find image 'redis:latest' locally\n"
        f"fastbox: Error: pull access denied for redis{HELP}"
    )


# ---- --cidfile ---------------------------------------------------------------------------------


def test_cidfile(fastbox: Fastbox, base: str) -> None:
    path = os.path.join(base, "cid")
    assert fastbox("run", "--cidfile", path, "img").code == 0
    with open(path) as file:
        assert file.read() == ID
    result = fastbox("run", "--cidfile", path, "img")
    assert (result.code, result.err) == (
        125,
        "fastbox: container ID file found, make sure the other container isn't running or delete "
        f"{path}{HELP}",
    )
    result = fastbox("create", "--cidfile", path, "img")
    assert (result.code, result.err.startswith("container ID file found")) == (1, True)


def test_cidfile_in_no_directory(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("run", "--cidfile", "/nonexistent/x", "img")
    assert result.code == 127  # Docker goes by the text
    assert result.err.startswith(
        "fastbox: failed to create the container ID file: open /nonexistent/x: no such file or "
    )
    assert fake.calls == []


def test_no_cidfile_without_a_container(fastbox: Fastbox, fake: FakeEngine, base: str) -> None:
    fake.errors["create"] = Conflict("no")
    fastbox("run", "--cidfile", os.path.join(base, "cid"), "img")
    assert os.listdir(base) == []


# ---- signals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2"])
def test_signals_are_forwarded_while_attached(
    fastbox: Fastbox, fake: FakeEngine, name: str
) -> None:
    number = getattr(signal, f"SIG{name}")
    before = signal.getsignal(number)
    fake.during_run = lambda: os.kill(os.getpid(), number)
    fake.status = 7
    assert fastbox("run", "img").code == 7
    assert fake.asked("kill") == ((ID,), {"signal": f"SIG{name}"})
    assert signal.getsignal(number) is before


def test_a_signal_that_cannot_be_delivered_is_no_error(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.errors["kill"] = NotRunning("gone")
    fake.during_run = lambda: os.kill(os.getpid(), signal.SIGTERM)
    result = fastbox("run", "img")
    assert (result.code, result.err) == (0, "")


def test_without_proxy_an_interrupt_ends_the_client_alone(
    fastbox: Fastbox, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    monkeypatch.setattr(leaving, "leave", left.append)
    fake.during_run = lambda: os.kill(os.getpid(), signal.SIGINT)
    result = fastbox("run", "--sig-proxy=false", "img")
    assert (left, result.out, result.err) == ([130], "", "")
    assert "kill" not in [name for name, _, _ in fake.calls]


def test_an_ignored_signal_stays_ignored(fastbox: Fastbox, fake: FakeEngine) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        fake.during_run = lambda: os.kill(os.getpid(), signal.SIGHUP)
        assert fastbox("run", "img").code == 0
        assert "kill" not in [name for name, _, _ in fake.calls]
    finally:
        signal.signal(signal.SIGHUP, before)


# ---- start -------------------------------------------------------------------------------------


def test_start_echoes_names_as_typed(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.boxes = [box("web"), box("db", "f" * 64)]
    result = fastbox("start", "web", "f" * 12)
    assert (result.code, result.out) == (0, f"web\n{'f' * 12}\n")


def test_start_tells_what_failed_twice(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.boxes = [box("web")]
    result = fastbox("start", "x", "web", "y")
    assert (result.code, result.out) == (1, "web\n")
    assert result.err == (
        "Error: No such container: x\nError: No such container: y\n"
        "failed to start containers: x, y\n"
    )


def test_start_attached(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.boxes = [box("web", config_interactive=True), box("db", "f" * 64)]
    fake.status = 4
    result = fastbox("start", "-ai", "web")
    assert (result.code, result.out) == (4, "")
    assert fake.asked("run_attached") == ((ID,), {"stdin": 0, "stdout": 1, "stderr": 2})
    fake.calls.clear()
    fastbox("start", "-i", "db")  # made without -i: it has no standard input
    assert fake.asked("run_attached")[1]["stdin"] is None
    result = fastbox("start", "-a", "web", "db")
    assert (result.code, result.err) == (
        1,
        "you cannot start and attach multiple containers at once\n",
    )


def test_start_attaches_to_a_running_container(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.boxes = [box("web", status=Status.RUNNING)]
    fake.status = 6
    result = fastbox("start", "-a", "web")
    assert (result.code, result.out) == (6, "")
    assert fake.asked("attach") == ((ID,), {"stdin": None, "stdout": 1, "stderr": 2})


@pytest.mark.parametrize(
    ("flags", "given"),
    [
        ("-a stdout", (None, 1, None)),
        ("-a STDERR -a stdout", (None, 1, 2)),
        ("-i -a stdout", (None, 1, None)),
        ("-i -a stdin -a stderr", (0, None, 2)),
        ("-a stdin", (None, None, None)),
        ("-i", (0, 1, 2)),
    ],
    ids=str,
)
def test_streams_to_attach(
    fastbox: Fastbox, fake: FakeEngine, flags: str, given: tuple[int | None, ...]
) -> None:
    result = fastbox("run", *flags.split(), "img")
    # With neither output attached, the id is all there is to see.
    assert result.out == ("" if given[1] or given[2] else f"{ID}\n")
    asked = fake.asked("run_attached")[1]
    assert (asked["stdin"], asked["stdout"], asked["stderr"]) == given
    assert fake.config.stdin_once is ("-i" in flags and "stdin" in fake.config.attach)


def test_a_stream_that_does_not_exist(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("run", "-a", "foo", "img")
    assert result.code == 125
    assert result.err.startswith(
        'invalid argument "foo" for "-a, --attach" flag: valid streams are STDIN, STDOUT and STDERR'
    )


def test_attached_and_detached(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("run", "-d", "-a", "stdout", "img")
    assert (result.code, result.out, result.err) == (
        1, "", "conflicting options: cannot specify both --attach and --detach\n",
    )  # fmt: skip
    assert fake.calls == []


# ---- attach ------------------------------------------------------------------------------------


def test_attach(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.boxes = [box("web", status=Status.RUNNING, config_interactive=True)]
    fake.status = 5
    assert fastbox("attach", "web").code == 5
    assert fake.asked("attach") == ((ID,), {"stdin": 0, "stdout": 1, "stderr": 2})
    fake.calls.clear()
    fastbox("attach", "--no-stdin", "web")
    assert fake.asked("attach")[1]["stdin"] is None


def test_attach_that_is_left(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.boxes = [box("web", status=Status.RUNNING)]
    fake.errors["attach"] = Detached("read escape sequence")
    result = fastbox("attach", "web")
    assert (result.code, result.out, result.err) == (1, "", "read escape sequence\n")


def test_attach_to_what_is_not_running(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.boxes = [box("web")]
    text = "cannot attach to a stopped container, start it first"
    fake.errors["attach"] = Conflict(text)
    result = fastbox("attach", "web")
    assert (result.code, result.out, result.err) == (1, "", text + "\n")


# ---- exec --------------------------------------------------------------------------------------


def test_exec(fastbox: Fastbox, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "1")
    fake.status = 5
    result = fastbox("exec", "-i", "-e", "HERE", "-u", "me", "-w", "/x", "web", "ls", "-l", "--")
    assert (result.code, result.out, result.err) == (5, "", "")
    assert fake.asked("exec") == (
        ("web", ["ls", "-l", "--"]),
        {
            "env": ["HERE=1"], "workdir": "/x", "user": "me", "privileged": False,
            "detach": False, "stdin": 0, "stdout": 1, "stderr": 2,
        },
    )  # fmt: skip


def test_exec_detached_has_no_streams(fastbox: Fastbox, fake: FakeEngine) -> None:
    fastbox("exec", "-d", "-i", "--privileged", "web", "ls")
    asked = fake.asked("exec")[1]
    assert (asked["detach"], asked["privileged"]) == (True, True)
    assert (asked["stdin"], asked["stdout"], asked["stderr"]) == (None, None, None)


@pytest.mark.parametrize(
    ("error", "code"),
    [(MISSING, 127), (DENIED, 126), (NotRunning(f"container {ID} is not running"), 1)],
)
def test_exec_that_fails(fastbox: Fastbox, fake: FakeEngine, error: Any, code: int) -> None:
    fake.errors["exec"] = error
    result = fastbox("exec", "web", "foo")
    assert (result.code, result.out, result.err) == (code, "", f"Error: {error}\n")


def test_exec_with_a_terminal(fastbox: Fastbox, fake: FakeEngine) -> None:
    fastbox("exec", "-t", "--detach-keys", "ctrl-x", "web", "sh")
    asked = fake.asked("exec")[1]
    assert asked["tty"] is True and asked["detach_keys"] == "ctrl-x"


def test_exec_with_a_missing_env_file(fastbox: Fastbox) -> None:
    result = fastbox("exec", "--env-file", "/nonexistent", "x", "ls")
    assert (result.code, result.err) == (1, "open /nonexistent: no such file or directory\n")
