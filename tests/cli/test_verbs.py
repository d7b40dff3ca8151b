"""The other commands: echoes, several names, order of output and errors."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from fastbox.container.config import RestartPolicy
from fastbox.container.logs import LogLine
from fastbox.errors import Conflict, NotRunning
from tests.cli.conftest import Fastbox
from tests.cli.fake import DIGEST, ID, IMAGE_ID, FakeEngine, box, image, volume


@pytest.fixture
def boxes(fake: FakeEngine) -> None:
    fake.boxes = [box("a"), box("b", "f" * 64)]


@pytest.mark.usefixtures("boxes")
@pytest.mark.parametrize("command", ["stop", "kill", "rm", "pause", "unpause", "restart"])
def test_names_are_echoed_in_their_order(fastbox: Fastbox, command: str) -> None:
    result = fastbox(command, "b", ID[:12], "a")
    assert (result.code, result.err) == (0, "")
    assert result.out == f"b\n{ID[:12]}\na\n"


@pytest.mark.usefixtures("boxes")
@pytest.mark.parametrize("command", ["stop", "rm", "wait", "pause", "unpause", "restart"])
def test_what_fails_is_told_at_the_end(fastbox: Fastbox, command: str) -> None:
    result = fastbox(command, "x", "a", "y")
    assert result.code == 1
    assert result.out == ("0\n" if command == "wait" else "a\n")
    assert result.err == "Error: No such container: x\nError: No such container: y\n"


@pytest.mark.usefixtures("boxes")
@pytest.mark.parametrize("command", ["stop", "restart"])
def test_flags_of_stop(fastbox: Fastbox, fake: FakeEngine, command: str) -> None:
    for words, wanted in (
        ((), {"timeout": None, "signal": None}),
        (("-t", "3"), {"timeout": 3, "signal": None}),
        (("-t", "-1", "-s", "INT"), {"timeout": -1, "signal": "INT"}),
        (("--timeout=0",), {"timeout": 0, "signal": None}),
        (("--time", "4"), {"timeout": 4, "signal": None}),
    ):
        fake.calls.clear()
        result = fastbox(command, *words, "a")
        assert fake.asked(command)[1] == wanted
        deprecated = "Flag --time has been deprecated, use --timeout instead\n"
        assert result.err == (deprecated if "--time" in words else "")
    result = fastbox(command, "-t", "3", "--time", "4", "a")
    assert result.code == 1
    assert "conflicting options: cannot specify both --timeout and --time\n" in result.err


def test_kill(fastbox: Fastbox, fake: FakeEngine) -> None:
    fastbox("kill", "a")
    assert fake.asked("kill")[1] == {"signal": "SIGKILL"}
    fake.calls.clear()
    fake.errors["kill"] = NotRunning(f"cannot kill container: a: container {ID} is not running")
    result = fastbox("kill", "-s", "HUP", "a")
    assert fake.asked("kill")[1] == {"signal": "HUP"}
    assert (result.code, result.out) == (1, "")
    assert result.err == f"Error: cannot kill container: a: container {ID} is not running\n"


@pytest.mark.usefixtures("boxes")
def test_rm_by_force_of_what_is_not_there(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("rm", "-fv", "x", "a")
    assert (result.code, result.out, result.err) == (0, "a\n", "")
    assert ("remove", ("a",), {"force": True, "volumes": True}) in fake.calls


def test_rm_by_force_tells_other_errors(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.errors["remove"] = Conflict("removal of container a is already in progress")
    result = fastbox("rm", "-f", "a")
    assert (result.code, result.err) == (1, f"Error: {fake.errors['remove']}\n")


@pytest.mark.usefixtures("boxes")
def test_wait_prints_statuses(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.status = 7
    result = fastbox("wait", "a", "b")
    assert (result.code, result.out) == (0, "7\n7\n")


def test_top(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("top", "web", "-o", "pid,cmd")
    assert fake.asked("top")[0] == ("web", ["-o", "pid,cmd"])
    assert result.out == (
        "UID                 PID                 CMD\n"
        "root                12                  redis-server *:6379\n"
    )
    fake.calls.clear()
    fastbox("top", "web")
    assert fake.asked("top")[0] == ("web", None)


@pytest.mark.usefixtures("boxes")
def test_update(fastbox: Fastbox, fake: FakeEngine) -> None:
    words = ["-m", "64m", "--memory-swap", "-1", "--cpus", "1.5", "-c", "512"]
    words += ["--cpuset-cpus", "0", "--pids-limit", "0"]
    result = fastbox("update", *words, "--restart", "on-failure:3", "a", "x", "b")
    assert (result.code, result.out) == (1, "a\nb\n")
    assert result.err == "Error: No such container: x\n"
    assert fake.calls[0][2] == {
        "memory": 64 << 20,
        "memory_swap": -1,
        "nano_cpus": 1_500_000_000,
        "cpu_shares": 512,
        "cpuset_cpus": "0",
        "pids_limit": 0,
        "restart": RestartPolicy(name="on-failure", max_retries=3),
    }
    fake.calls.clear()
    fastbox("update", "--cpu-period", "50000", "--cpu-quota", "-1", "--blkio-weight", "10", "a")
    assert fake.asked("update") == (
        ("a",),
        {"cpu_period": 50_000, "cpu_quota": -1, "blkio_weight": 10},
    )
    result = fastbox("update", "--kernel-memory", "64m", "a")
    assert result.err.startswith("Error: --kernel-memory is not supported: ")
    result = fastbox("container", "update", "a")
    assert (result.code, result.out) == (1, "")
    assert result.err == "you must provide one or more flags when using this command\n"
    result = fastbox("update", "--restart", "maybe", "a")
    assert "invalid restart policy: unknown policy 'maybe'" in result.err


@pytest.mark.usefixtures("boxes")
def test_rename(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("rename", "a", "new")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert fake.asked("rename")[0] == ("a", "new")
    result = fastbox("container", "rename", "x", "new")
    assert (result.code, result.out) == (1, "")
    assert result.err == "Error: failed to rename container: No such container: x\n"


def test_cleanup(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("container", "cleanup", ID)
    assert (result.code, result.out, result.err) == (0, "", "")
    assert fake.asked("cleanup")[0] == (ID,)


# ---- logs --------------------------------------------------------------------------------------


def test_logs(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.lines = [
        LogLine("t1", "stdout", b"one", False),
        LogLine("t2", "stderr", b"oops", False),
        LogLine("t3", "stdout", b"\xff\x00", True),
        LogLine("t4", "stderr", b"between", False),
        LogLine("t5", "stdout", b"rest", False),
        LogLine("t6", "stdout", b"no newline", True),
    ]
    result = fastbox("logs", "web")
    assert result.raw == b"one\n\xff\x00rest\nno newline"
    assert result.err == "oops\nbetween\n"
    # A time only where a line begins.
    result = fastbox("logs", "-t", "web")
    assert result.raw == b"t1 one\nt3 \xff\x00rest\nt6 no newline"
    assert result.err == "t2 oops\nt4 between\n"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ((), {"follow": False, "tail": None, "since": None, "until": None}),
        (("-f", "-n", "5"), {"follow": True, "tail": 5, "since": None, "until": None}),
        (("--tail", "0"), {"follow": False, "tail": 0, "since": None, "until": None}),
        (("--tail=all",), {"follow": False, "tail": None, "since": None, "until": None}),
        (("--tail=-3",), {"follow": False, "tail": None, "since": None, "until": None}),
        (("--tail=x",), {"follow": False, "tail": None, "since": None, "until": None}),
        (
            ("--since", "1767323045", "--until", "1767323046.5"),
            {"follow": False, "tail": None, "since": 1767323045.0, "until": 1767323046.5},
        ),
    ],
)
def test_what_logs_asks_for(
    fastbox: Fastbox, fake: FakeEngine, words: tuple[str, ...], wanted: dict[str, Any]
) -> None:
    assert fastbox("logs", *words, "web").code == 0
    assert fake.asked("logs")[1] == wanted


def test_logs_with_a_bad_time(fastbox: Fastbox) -> None:
    result = fastbox("logs", "--since", "foo", "web")
    assert (result.code, result.err) == (
        1,
        'invalid value for "since": failed to parse value as time or duration: "foo"\n',
    )


# ---- images ------------------------------------------------------------------------------------


def test_rmi(fastbox: Fastbox) -> None:
    result = fastbox("rmi", "a", "x", "b")
    assert result.code == 1
    assert result.out == (
        f"Untagged: a:latest\nDeleted: {IMAGE_ID}\nUntagged: b:latest\nDeleted: {IMAGE_ID}\n"
    )
    assert result.err == "Error: No such image: x:latest\n"


def test_rmi_by_force(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("rmi", "-f", "x")
    assert (result.code, result.err) == (0, "Error: No such image: x:latest\n")
    fake.errors["remove_image"] = Conflict("conflict: unable to delete a (cannot be forced)")
    assert fastbox("rmi", "-f", "a").code == 1


def test_tag(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("tag", "redis", "localhost:5000/redis:1")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert fake.asked("tag")[0] == ("redis", "localhost:5000/redis:1")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "B!",
            'error parsing reference: "B!" is not a valid repository/tag: invalid reference '
            "format: repository name (library/B!) must be lowercase",
        ),
        (
            "a\uff1a1",
            'error parsing reference: "a\uff1a1" is not a valid repository/tag: '
            "invalid reference format",
        ),
        (f"a@{DIGEST}", "refusing to create a tag with a digest reference"),
    ],
)
def test_bad_targets_of_tag(fastbox: Fastbox, fake: FakeEngine, target: str, message: str) -> None:
    result = fastbox("tag", "redis", target)
    assert result.code == 1
    assert result.err.split("\n")[0] == message
    assert fake.calls == []


def test_import(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("import", "-c", "CMD sh", "-c", "ENV A=1", "-m", "hi", "-", "x:1")
    assert (result.code, result.out) == (0, f"{IMAGE_ID}\n")
    assert fake.asked("import_image") == (
        ("-", "x:1"),
        {"changes": ["CMD sh", "ENV A=1"], "message": "hi", "platform": None},
    )
    result = fastbox("import", "-", "A!")
    assert (result.code, result.err.startswith("invalid reference format")) == (1, True)


def test_bootstrap(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox(
        "bootstrap",
        "--include",
        "a,b",
        "--include",
        "c",
        "--suite",
        "sid",
        "-c",
        "CMD x",
        "-t",
        "n",
    )
    assert (result.code, result.out, result.err) == (0, f"{IMAGE_ID}\n", "I: running apt-get\n")
    args, asked = fake.asked("bootstrap")
    del asked["output"]
    assert args == ("n",)
    assert asked == {
        "include": ["a", "b", "c"], "suite": "sid", "changes": ["CMD x"], "variant": "minbase",
    }  # fmt: skip
    assert fastbox("bootstrap", "-q", "-t", "n").err == ""
    result = fastbox("bootstrap")
    assert (result.code, result.err) == (1, "no name for the image\nhint: give one with -t NAME\n")


def test_pull(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("pull", "redis")
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        "Using default tag: latest\n"
        "latest: Pulling from library/redis\n"
        f"Digest: {DIGEST}\n"
        "Status: Downloaded newer image for redis:latest\n"
        "docker.io/library/redis:latest\n"
    )
    assert fastbox("pull", "-q", "redis:6").out == "docker.io/library/redis:6\n"
    assert fake.calls[-1][2]["platform"] is None


def test_pull_of_a_malformed_name(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("pull", "A!")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(
        "invalid reference format: repository name (library/A!) must be lowercase\n"
    )
    assert fake.calls == []


# ---- volumes -----------------------------------------------------------------------------------


def test_volume_create(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("volume", "create", "--label", "a=b", "-o", "type=tmpfs", "data")
    assert (result.code, result.out) == (0, "data\n")
    assert fake.asked("create_volume") == (
        ("data",),
        {"labels": {"a": "b"}, "options": {"type": "tmpfs"}},
    )
    assert fastbox("volume", "create").out == "f" * 64 + "\n"
    assert fastbox("volume", "create", "-d", "nfs", "x").code == 1
    assert fastbox("volume", "create", "--name", "x", "y").err.startswith("conflicting options")


def test_volume_rm(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.kept = [volume("data")]
    result = fastbox("volume", "rm", "x", "data")
    assert (result.code, result.out, result.err) == (
        1,
        "data\n",
        "Error: get x: no such volume\n",
    )
    assert fastbox("volume", "rm", "-f", "x").out == "x\n"


@pytest.mark.parametrize(
    ("answer", "goes"), [("y", True), ("Y", True), ("yes", False), ("", False)]
)
def test_volume_prune_asks(
    fastbox: Fastbox,
    fake: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    goes: bool,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{answer}\n" if answer else ""))
    result = fastbox("volume", "prune")
    question = (
        "WARNING! This will remove anonymous local volumes not used by at least one container.\n"
        "Are you sure you want to continue? [y/N] "
    )
    done = "Deleted Volumes:\none\ntwo\n\nTotal reclaimed space: 1.84kB\n" if goes else ""
    assert (result.code, result.out, result.err) == (0, question + done, "")
    assert bool(fake.calls) is goes


def test_volume_prune_by_force(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("volume", "prune", "-af", "--filter", "label=a")
    assert result.out.endswith("Total reclaimed space: 1.84kB\n")
    assert fake.asked("prune_volumes")[1] == {"all": True, "filters": {"label": ["a"]}}
    fake.calls.clear()
    fastbox("volume", "prune", "-f", "--filter", "all=true")
    assert fake.asked("prune_volumes")[1] == {"all": True, "filters": {}}


@pytest.mark.usefixtures("boxes")
@pytest.mark.parametrize(("answer", "goes"), [("y", True), ("n", False), ("", False)])
def test_container_prune_asks(
    fastbox: Fastbox,
    fake: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    goes: bool,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{answer}\n" if answer else ""))
    result = fastbox("container", "prune")
    question = (
        "WARNING! This will remove all stopped containers.\n"
        "Are you sure you want to continue? [y/N] "
    )
    done = f"Deleted Containers:\n{ID}\n{'f' * 64}\n\nTotal reclaimed space: 212MB\n"
    assert (result.code, result.out, result.err) == (0, question + (done if goes else ""), "")
    assert bool(fake.calls) is goes


def test_container_prune_by_force(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("container", "prune", "-f", "--filter", "until=1h", "--filter", "label=a=b")
    assert result.out == "Total reclaimed space: 212MB\n"
    wanted = {"until": ["1h"], "label": ["a=b"]}
    assert fake.asked("prune_containers")[1] == {"filters": wanted}


# ---- inspect -----------------------------------------------------------------------------------


@pytest.fixture
def objects(fake: FakeEngine) -> None:
    fake.boxes = [box("web")]
    fake.stored = [image("docker.io/library/redis:latest")]
    fake.kept = [volume("data")]


@pytest.mark.usefixtures("objects")
def test_inspect_finds_every_kind(fastbox: Fastbox) -> None:
    import json

    result = fastbox("inspect", "data", "redis", "web")
    assert (result.code, result.err) == (0, "")
    kinds = json.loads(result.out)
    assert [kind.get("Name") or kind["RepoTags"] for kind in kinds] == [
        "data", ["redis:latest"], "/web",
    ]  # fmt: skip
    assert result.out.startswith('[\n    {\n        "CreatedAt": "2026')
    assert fastbox("inspect", "-f", "json", "data").out.startswith('[{"CreatedAt":"2026')


@pytest.mark.usefixtures("objects")
def test_inspect_prints_what_it_finds_and_tells_what_not(fastbox: Fastbox) -> None:
    result = fastbox("inspect", "-f", "{{.Name}}", "x", "web", "Y")
    assert (result.code, result.out) == (1, "/web\n")
    assert result.err == "error: no such object: x\nerror: no such object: Y\n"
    result = fastbox("inspect", "x")
    assert (result.code, result.out, result.err) == (1, "[]\n", "error: no such object: x\n")


@pytest.mark.usefixtures("objects")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("inspect", "--type", "container", "redis"), "Error: No such container: redis"),
        (("inspect", "--type=image", "web"), "Error: No such image: web:latest"),
        (("container", "inspect", "redis"), "Error: No such container: redis"),
        (("image", "inspect", "web"), "Error: No such image: web:latest"),
        (("volume", "inspect", "web"), "Error: get web: no such volume"),
    ],
)
def test_inspect_of_one_kind(fastbox: Fastbox, words: tuple[str, ...], message: str) -> None:
    result = fastbox(*words)
    assert (result.code, result.out, result.err) == (1, "[]\n", f"{message}\n")


def test_inspect_of_an_unknown_kind(fastbox: Fastbox) -> None:
    result = fastbox("inspect", "--type", "foo", "x")
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        'unknown type: "foo": must be one of "container", "image", "network", "volume"\n'
    )


@pytest.mark.usefixtures("objects")
def test_templates_of_inspect(fastbox: Fastbox) -> None:
    result = fastbox("inspect", "-f", "{{", "web")
    assert (result.code, result.out) == (64, "")
    assert result.err == "template parsing error: template: :1: unclosed action\n"
    result = fastbox("inspect", "-f", "{{.Foo}}", "web")
    assert result.code == 1
    assert result.err == (
        'template parsing error: template: :1:2: executing "" at <.Foo>: map has no entry for key '
        '"Foo"\n'
    )
    result = fastbox("inspect", "-f", "{{.State.Status}} {{.HostConfig.NanoCPUs}}", "web")
    assert result.out == "created 0\n"


# ---- version and info --------------------------------------------------------------------------


def test_version(fastbox: Fastbox) -> None:
    out = fastbox("version").out
    assert out.startswith("Client:\n Version:           1.2.3\n")
    assert "\n\nServer: " in out
    assert fastbox("version", "-f", "{{.Server.Version}} {{.Client.Os}}").out == "1.2.3 linux\n"
    assert fastbox("version", "-f", "json").out.startswith('{"Client":{"Version":"1.2.3"')
    result = fastbox("version", "-f", "{{")
    assert (result.code, result.err) == (
        64,
        "template parsing error: template: version:1: unclosed action\n",
    )


def test_info(fastbox: Fastbox) -> None:
    result = fastbox("info")
    assert result.code == 0
    assert "\nServer:\n Containers: 3\n  Running: 1\n" in result.out
    assert "\n Total Memory: 2GiB\n" in result.out
    assert "\n  seccomp\n   Profile: builtin\n" in result.out
    assert "\n  Log: cri none\n" in result.out
    assert result.err == "WARNING: no swap\n"
    assert fastbox("system", "info", "-f", "{{.Containers}}").out == "3\n"
    assert fastbox("info", "-f", "{{.Foo}}").code == 1
    assert fastbox("info", "-f", "{{").code == 64
