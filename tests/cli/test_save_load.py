"""``save`` and ``load``: flags and words; and the real commands in a pipe."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Callable

import pytest

from fastbox.cli import output
from tests.cli.conftest import Fastbox
from tests.cli.fake import IMAGE_ID, FakeEngine
from tests.conftest import runtime_of
from tests.support.command import Command, fastbox_program
from tests.support.registry import Registry

LOADED = (
    "Loaded image: redis:7\n"
    "The image localhost:5000/a:1 already exists, renaming the old one with ID"
    f" sha256:{'a' * 64} to empty string\n"
    "Loaded image: localhost:5000/a:1\n"
    f"Loaded image ID: {IMAGE_ID}\n"
)


def test_save(fastbox: Fastbox, fake: FakeEngine) -> None:
    for words in (("save",), ("image", "save")):
        fake.calls.clear()
        result = fastbox(*words, "a", "b:1")
        assert (result.code, result.out, result.err) == (0, "", "")
        assert fake.asked("save") == ((["a", "b:1"], 1), {"platform": None, "format": None})
    fake.calls.clear()
    fastbox("save", "-o", "x.tar", "--platform", "linux/arm64", "--format", "oci-archive", "a")
    options = {"platform": "linux/arm64", "format": "oci-archive"}
    assert fake.asked("save") == ((["a"], "x.tar"), options)
    result = fastbox("save")
    assert result.code == 1
    assert result.err.startswith("fastbox: 'fastbox save' requires at least 1 argument")


def test_save_refuses_a_terminal(
    fastbox: Fastbox, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fastbox("save", "--format", "oci-dir", "a").code == 1
    monkeypatch.setattr(output, "is_terminal", lambda stream: True)
    result = fastbox("save", "a")
    wanted = "cowardly refusing to save to a terminal. Use the -o flag or redirect\n"
    assert (result.code, result.out, result.err) == (1, "", wanted)
    assert fake.calls == []


def test_load(fastbox: Fastbox, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    result = fastbox("load", "-i", "/", "--platform", "linux/arm64")
    assert (result.code, result.out, result.err) == (0, LOADED, "")
    assert fake.asked("load") == (("/",), {"platform": "linux/arm64"})
    fake.calls.clear()
    assert fastbox("image", "load").out == LOADED
    assert fake.asked("load") == (("-",), {"platform": None})
    assert fastbox("load", "-q").out == LOADED
    result = fastbox("load", "-i", "/no/such")
    assert (result.code, result.err) == (1, "open /no/such: no such file or directory\n")
    assert fastbox("load", "file.tar").code == 1
    monkeypatch.setattr(output, "is_terminal", lambda stream: True)
    result = fastbox("load")
    assert (result.code, result.err) == (1, "requested load from stdin, but stdin is empty\n")
    result = fastbox("load", "-i", "/")
    assert "0123456789ab: Loading layer" in result.out
    assert result.out.endswith(LOADED)


# ---- the real commands -----------------------------------------------------------------------


@pytest.fixture
def there(cli: Command, new_root: Callable[[str], str]) -> Command:
    """The command on a second store."""
    root = new_root("other")
    argv = [fastbox_program(), "--root", root, "--runtime-dir", runtime_of(root)]
    return Command(argv, cli.home)


def test_a_pipe(cli: Command, there: Command, busybox_image: str, base: str) -> None:
    with cli.popen("save", busybox_image) as saving:
        done = there("load", stdin=saving.stdout)
    assert (done.code, done.out) == (0, f"Loaded image: {busybox_image}:latest\n")
    assert saving.returncode == 0
    assert there.ok("images", "-q", "--no-trunc") == cli.ok("images", "-q", "--no-trunc")
    assert there.ok("run", "--rm", "--network", "none", busybox_image, "echo", "hi") == "hi"
    cli.ok("save", "-o", f"{base}/file.tar", busybox_image)
    with open(f"{base}/file.tar", "rb") as file:
        assert there.ok("load", "-q", stdin=file) == f"Loaded image: {busybox_image}:latest"
    assert os.stat(f"{base}/file.tar").st_mode & 0o777 == 0o600
    events = there.ok("events", "--since", "0", "--until", "0s", "--format", "json")
    actions = [json.loads(line)["Action"] for line in events.splitlines()]
    assert actions.count("load") == 2


def test_what_commit_has_not_packed(cli: Command, there: Command, busybox_image: str) -> None:
    """It gets its archive now; its id elsewhere is that of the true config."""
    cli.ok("create", "--name", "box", "--network", "none", busybox_image, "true")
    cli.ok("cp", "-L", "/etc/os-release", "box:/added")
    cli.ok("commit", "box", "mine:1")
    archive = cli("save", "mine:1").raw
    assert there.ok("load", input=archive) == "Loaded image: mine:1"
    with open("/etc/os-release", encoding="utf-8") as file:
        wanted = file.read().rstrip("\n")
    assert there.ok("run", "--rm", "--network", "none", "mine:1", "cat", "/added") == wanted
    assert cli("save", "mine:1").raw == archive
    assert cli.ok("load", input=archive) == "Loaded image: mine:1"
    assert len(cli.ok("images", "-aq", "mine").splitlines()) == 1


def test_layers_compressed_as_configured(
    cli: Command, there: Command, busybox_image: str, base: str, registry: Registry
) -> None:
    """A commit's layer in zstd: pushed, pulled elsewhere, saved and loaded there."""
    with open(f"{base}/config.toml", "w", encoding="utf-8") as file:
        file.write('layer-compression = "zstd"\n')
    name, env = f"{registry.host}/made:1", {"FASTBOX_CONFIG": f"{base}/config.toml"}
    script = "echo added > /added"
    cli.ok("run", "--name", "box", "--network", "none", busybox_image, "sh", "-c", script)
    cli.ok("commit", "box", name)
    cli.ok("push", name, env=env)
    _, _, manifest = registry.request("GET", "/v2/made/manifests/1")
    layer = json.loads(manifest)["layers"][-1]
    assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+zstd"
    _, _, blob = registry.request("GET", f"/v2/made/blobs/{layer['digest']}")
    assert blob.startswith(b"\x28\xb5\x2f\xfd")
    read = ("run", "--rm", "--network", "none", name, "cat", "/added")
    assert there.ok(*read) == "added"
    archive = there("save", name).raw
    there.ok("rmi", name)
    assert there.ok("load", input=archive) == f"Loaded image: {name}"
    assert there.ok(*read) == "added"


def test_nobody_reads(cli: Command, busybox_image: str) -> None:
    with cli.popen("save", busybox_image) as saving:
        assert saving.stdout is not None and saving.stderr is not None
        saving.stdout.read(1)
        saving.stdout.close()
        assert (saving.wait(), saving.stderr.read()) == (141, b"")


def test_terminals_and_errors(cli: Command, busybox_image: str, base: str) -> None:
    master, slave = pty.openpty()
    done = subprocess.run(
        [*cli.argv, "save", busybox_image], stdout=slave, stderr=subprocess.PIPE, env=cli.env
    )
    assert (done.returncode, done.stderr.split(b".")[0]) == (
        1,
        b"cowardly refusing to save to a terminal",
    )
    err = cli.fails(1, "load", stdin=slave)
    assert err == "requested load from stdin, but stdin is empty\n"
    os.close(master)
    os.close(slave)
    assert cli.fails(1, "load") == (
        "Error: invalid archive: it is empty\n"
        "hint: `fastbox load` reads what `save` wrote, and OCI image layouts; `fastbox import`"
        " reads a root filesystem's tar\n"
    )
    err = cli.fails(1, "save", "-o", f"{base}/no/file", busybox_image)
    assert err == f'Error: invalid output path: directory "{base}/no" does not exist\n'
    assert cli.fails(1, "save", "-o", f"{base}/x", "nope") == "Error: No such image: nope:latest\n"
    assert not os.path.exists(f"{base}/x")
