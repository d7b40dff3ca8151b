"""cp and diff to fastbox and, where a daemon answers, to docker: equal output, equal codes."""

from __future__ import annotations

import io
import os
import tarfile

import pytest

from tests.e2e.test_twins import IMAGE, last_line
from tests.support.command import Command
from tests.support.wait import wait_for

NAME = "fastbox-twin-cp"


@pytest.fixture
def here(base: str, monkeypatch: pytest.MonkeyPatch) -> str:
    path = os.path.join(base, "here")
    os.makedirs(f"{path}/a/sub")
    for name in ("f", "a/x", "a/sub/y"):
        with open(f"{path}/{name}", "w") as file:
            file.write(name)
    os.symlink("f", f"{path}/link")
    os.chmod(f"{path}/a/x", 0o640)
    os.utime(f"{path}/a/x", (1_000_000_000, 1_000_000_000))
    monkeypatch.chdir(path)
    return path


SETUP = (
    "mkdir -p /dir /full/f /filled; echo old > /file; touch /filled/a; ln -s /file /tofile;"
    "ln -s dir /todir; ln -s made /dangling; sleep 1000"
)


@pytest.fixture(params=["running", "stopped"])
def box(request: pytest.FixtureRequest, twin: Command) -> str:
    twin.ok(
        "run", "-d", "--stop-timeout", "0", "--name", NAME, "--network", "none", IMAGE,
        "sh", "-c", SETUP,
    )  # fmt: skip
    wait_for(lambda: twin("exec", NAME, "readlink", "/dangling").code == 0, "the last of SETUP")
    if request.param == "stopped":
        twin.ok("stop", NAME)
    return NAME


def listing(twin: Command, path: str) -> dict[str, bytes | str | None]:
    """name in the archive -> content of a file, target of a link."""
    data = twin("cp", f"{NAME}:{path}", "-").raw
    found: dict[str, bytes | str | None] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            found[member.name] = file.read() if file else member.linkname or None
    return found


@pytest.mark.parametrize(
    ("source", "target", "wanted"),
    [
        ("f", "/new", {"new": b"f"}),
        ("f", "/dir", {"dir": None, "dir/f": b"f"}),
        ("f", "/file", {"file": b"f"}),
        ("f", "/tofile", {"tofile": "/file"}),
        ("a", "/new", {"new": None, "new/sub": None, "new/sub/y": b"a/sub/y", "new/x": b"a/x"}),
        ("a", "/dir", {"dir": None, "dir/a": None, "dir/a/sub": None, "dir/a/sub/y": b"a/sub/y",
                       "dir/a/x": b"a/x"}),
        ("a/.", "/dir", {"dir": None, "dir/sub": None, "dir/sub/y": b"a/sub/y",
                         "dir/x": b"a/x"}),
        ("a/.", "/new", {"new": None, "new/sub": None, "new/sub/y": b"a/sub/y", "new/x": b"a/x"}),
        ("link", "/new", {"new": "f"}),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("here", "box")
def test_in(twin: Command, source: str, target: str, wanted: dict[str, bytes | None]) -> None:
    assert twin.ok("cp", source, f"{NAME}:{target}") == ""
    assert listing(twin, target) == wanted


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["f", f"{NAME}:/new/"], "no such directory"),
        (["f", f"{NAME}:/no/new"], f"Error: Could not find the file /no in container {NAME}"),
        (["a", f"{NAME}:/file"], "cannot copy directory"),
        (["nosuch", f"{NAME}:/"], "lstat {here}/nosuch: no such file or directory"),
        ([f"{NAME}:/x", "y"], f"Error: Could not find the file /x in container {NAME}"),
        ([f"{NAME}:/etc/passwd", "no/y"],
         'invalid output path: directory "{here}/no" does not exist'),
        ([f"{NAME}:/etc", "f"], "cannot copy directory"),
        ([f"{NAME}:/etc/passwd", "new/"], "no such directory"),
        (["-", f"{NAME}:/file"], f'destination "{NAME}:/file" must be a directory'),
        ([f"{NAME}:/etc", f"{NAME}:/x"], "copying between containers is not supported"),
        (["a", "b"], "must specify at least one container source"),
        (["a", "fastbox-twin-none:/"], "Error: No such container: fastbox-twin-none"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("box")
def test_errors(twin: Command, here: str, words: list[str], text: str) -> None:
    result = twin("cp", *words)
    assert (result.code, last_line(result)) == (1, text.format(here=here))


@pytest.mark.usefixtures("box")
def test_out(twin: Command, here: str) -> None:
    twin.ok("cp", "a", f"{NAME}:/a")
    twin.ok("cp", f"{NAME}:/a", "back")
    twin.ok("cp", f"{NAME}:/a/.", "content")
    twin.ok("cp", f"{NAME}:/tofile", "link2")
    twin.ok("cp", "-L", f"{NAME}:/tofile", "followed")
    for place in ("back", "content"):
        with open(f"{here}/{place}/sub/y") as file:
            assert file.read() == "a/sub/y"
        found = os.stat(f"{here}/{place}/x")
        assert (found.st_mode & 0o7777, int(found.st_mtime)) == (0o640, 1_000_000_000)
    assert os.readlink("link2") == "/file"
    with open("followed") as file:
        assert file.read() == "old\n"


@pytest.mark.usefixtures("here")
def test_read_only(twin: Command) -> None:
    twin.ok(
        "run", "-d", "--stop-timeout", "0", "--read-only", "-v", "fastbox-twin-vol:/ro:ro",
        "--name", NAME, "--network", "none", IMAGE, "sleep", "1000",
    )  # fmt: skip
    for path, text in (
        ("/x", "container rootfs is marked read-only"),
        ("/ro/x", "mounted volume is marked read-only"),
    ):
        result = twin("cp", "f", f"{NAME}:{path}")
        assert (result.code, last_line(result)) == (1, f"Error: {text}")
    twin.ok("rm", "-f", NAME)
    twin.ok("volume", "rm", "fastbox-twin-vol")


@pytest.mark.usefixtures("here")
def test_diff(twin: Command) -> None:
    run = ("run", "-d", "--stop-timeout", "0", "--name", NAME, "--network", "none", IMAGE)
    twin.ok(*run, "sleep", "1000")
    assert twin.ok("diff", NAME) == ""
    script = "echo 1 > /etc/new; rm /etc/group; echo 1 >> /root/x; rm -r /home/app"
    twin.ok("exec", NAME, "sh", "-c", script)
    wanted = {"C /etc", "A /etc/new", "D /etc/group", "C /root", "A /root/x", "C /home",
              "D /home/app"}  # fmt: skip
    assert set(twin.ok("diff", NAME).splitlines()) == wanted
    twin.ok("stop", NAME)
    assert set(twin.ok("diff", NAME).splitlines()) == wanted
    result = twin("diff", "fastbox-twin-none")
    assert (result.code, last_line(result)) == (1, "Error: No such container: fastbox-twin-none")
