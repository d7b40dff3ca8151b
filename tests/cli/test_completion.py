"""What tab offers: commands, flags, names of what there is."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import pytest

from fastbox.container.record import Status
from fastbox.errors import StoreError
from tests.cli.conftest import Fastbox
from tests.cli.fake import FakeEngine, box, image, network, volume
from tests.support.command import Command


@pytest.fixture(autouse=True)
def there(fake: FakeEngine) -> None:
    fake.boxes = [box("web", status=Status.RUNNING), box("worker", "f" * 64, status=Status.EXITED)]
    fake.stored = [image("docker.io/library/redis:latest", "localhost:5000/me/app:1")]
    fake.nets = [network("bridge"), network("backend")]
    fake.kept = [volume("data")]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ren", "rename"),
        ("network cr", "create"),
        ("network ", "connect create disconnect inspect ls prune rm"),
        ("logs --t", "--tail --timestamps"),
        ("--ro", "--root"),
        ("run --netw", "--network --network-alias"),
        ("run --network b", "backend bridge"),
        ("run --network=ba", "--network=backend"),
        ("run -d --pull ", "always missing never"),
        ("run -d --name w ", "localhost:5000/me/app:1 redis redis:latest"),
        ("run -it redis ", ""),
        ("run redis --na", ""),  # the command's own
        ("rmi localhost:5000/me/app", "localhost:5000/me/app:1"),
        ("rm w", "web worker"),
        ("rm web w", "worker"),
        ("rm -- w", "web worker"),
        ("container stop w", "web"),  # what runs
        ("start w", "worker"),  # what does not
        ("rename web w", ""),
        ("cp we", "web:"),
        ("cp -a web:/etc w", "web: worker:"),
        ("inspect w", "web worker"),
        ("network connect ", "backend bridge"),
        ("network connect bridge ", "web worker"),
        ("volume rm ", "data"),
        ("no-such ", ""),
        ("no-such --", ""),
        ("--root /elsewhere stop w", "web"),
    ],
)
def test_what_is_offered(fastbox: Fastbox, line: str, offered: str) -> None:
    result = fastbox("__complete", "--", *line.split(" "))
    assert (result.code, result.err) == (0, "")
    assert result.out.split() == offered.split()


def test_a_store_that_cannot_be_read_has_no_names(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.errors["containers"] = StoreError("broken")
    result = fastbox("__complete", "--", "rm", "")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_what_there_is_no_script_for(fastbox: Fastbox) -> None:
    result = fastbox("completion", "tcsh")
    assert (result.code, result.out) == (1, "")
    assert result.err == "no completion for 'tcsh': there is one for bash, zsh\n"
    assert fastbox("completion", "zsh").out.startswith("#compdef fastbox\n")


@pytest.mark.usefixtures("busybox_image")
@pytest.mark.parametrize("face", ["cli", "served"])
def test_bash(face: str, request: pytest.FixtureRequest) -> None:
    command: Command = request.getfixturevalue(face)
    bash = shutil.which("bash")
    assert bash
    found = []
    for line in ("fastbox rena", "fastbox rmi busybox:", "fastbox run --pull=m"):
        script = (
            f'fastbox() {{ {shlex.join(command.argv)} "$@"; }}\nsource <(fastbox completion bash)\n'
            f"COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}\n"
            '_fastbox; echo "${COMPREPLY[@]}"'
        )
        ended = subprocess.run(
            [bash, "-c", script], env=command.env, capture_output=True, text=True
        )
        found.append(ended.stdout)
    assert found == ["rename\n", "latest\n", "missing\n"]
