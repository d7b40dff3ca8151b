"""Files of a box, in and out: while it is up, when it was stopped, and when it is hostile."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

import fastbox
from fastbox.errors import FastboxError, InvalidArgument, NotFound
from fastbox.sandbox import files
from tests.support.boxes import Canary

if TYPE_CHECKING:
    from fastbox.engine import Engine

Box = fastbox.Sandbox
EVERY = bytes(range(256))


@pytest.fixture(params=["up", "stopped"])
def both(request: pytest.FixtureRequest, box: Box) -> Box:
    """A box that is up, and one that was stopped."""
    if request.param == "stopped":
        box.run(["sh", "-c", "echo before > /before"], check=True)
        box.stop()
    return box


def test_a_file_in_and_out(both: Box) -> None:
    both.write("/work/deep/file", EVERY)
    assert both.read("/work/deep/file") == EVERY == both.read("work/deep/../deep/file")
    both.write("/work/script", "#!/bin/sh\necho ran\n", mode=0o755)
    assert both.run(["/work/script"]).text == "ran\n"
    both.write("/work/script", "#!/bin/sh\necho again\n")  # it keeps its mode
    assert both.run(["/work/script"]).text == "again\n"
    assert both.run(["cat", "/work/deep/file"]).stdout == EVERY
    both.run(["sh", "-c", "ln -s /work/deep /link; echo new > /link/file"], check=True)
    assert both.read("/link/file") == b"new\n"
    assert both.exists("/link/file") and not both.exists("/link/no")


def test_lists(both: Box) -> None:
    both.put({"a": b"12", "d/b": "", "d/e/c": b"x"}, "/tree")
    first, second = both.list("/tree")
    assert (first.name, first.kind, first.size, first.mode) == ("a", "file", 2, 0o644)
    assert (second.name, second.kind) == ("d", "directory")
    assert {"bin", "etc"} <= {entry.name for entry in both.list()}
    assert both.get("/tree") == {"a": b"12", "d/b": b"", "d/e/c": b"x"}
    assert both.get("/tree/a") == {"a": b"12"}
    for path, error in (("/no", NotFound), ("/tree/a", InvalidArgument)):
        with pytest.raises(error):
            both.list(path)


def test_trees_of_directories(both: Box, tmp_path: Any) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    os.makedirs(source / "sub")
    (source / "sub" / "run").write_bytes(EVERY)
    (source / "sub" / "run").chmod(0o755)
    (source / "plain").write_text("text")
    os.symlink("plain", source / "link")
    both.put(source, "/srv/tree")
    assert both.run(["sh", "-c", "cat /srv/tree/link; ls -l /srv/tree/sub"]).text.startswith("text")
    both.get("/srv/tree", target)
    assert (target / "sub" / "run").read_bytes() == EVERY
    assert os.access(target / "sub" / "run", os.X_OK) and not os.access(target / "link", os.F_OK)
    assert sorted(os.listdir(target)) == ["plain", "sub"]


def test_files_belong_to_the_boxs_user(engine: Engine, busybox_image: str) -> None:
    for user, number in (("app", 1000), ("1234:1235", 1234)):
        with Box(busybox_image, engine=engine, user=user) as box:
            box.write("/home/new/file", b"x")
            box.put({"y": b""}, "/other")
            line = "echo >> /home/new/file && echo > /other/z && stat -c %u /home/new /other/y"
            assert box.run(["sh", "-c", line]).text == f"{number}\n{number}\n"


def test_what_is_too_large_or_no_file(box: Box) -> None:
    box.run(["sh", "-c", "mkfifo /fifo; mkdir /d; ln -s /fifo /to-fifo; ln -s loop /loop"])
    box.write("/d/file", b"x" * 2000)
    for path in ("/fifo", "/to-fifo", "/d", "/dev/zero", "/proc/version", "/proc/kmsg"):
        with pytest.raises(InvalidArgument):
            box.read(path)
    for path in ("/no", "/d/file/x", "/loop", "/" + "x" * 300):
        with pytest.raises(NotFound):
            box.read(path)
    with pytest.raises(InvalidArgument, match="more than 1999 bytes"):
        box.read("/d/file", limit=1999)
    assert len(box.read("/d/file", limit=2000)) == 2000
    with pytest.raises(InvalidArgument, match="more than"):
        box.get("/d", limit=1999)
    with pytest.raises(InvalidArgument, match="entries"):
        box.list("/bin", limit=3)


def test_what_cannot_be_written(box: Box) -> None:
    box.run(["mkdir", "-p", "/d/e"])
    for path in ("/d", "/proc/x", "/sys/x", "/", "/dev/shm"):
        with pytest.raises(FastboxError):
            box.write(path, b"")
    for name in ("/absolute", "../up", "a/../../b", "", "dir/"):
        with pytest.raises(InvalidArgument):
            box.put({name: b""})
    with pytest.raises(InvalidArgument):
        box.put("/no/such/directory", "/x")
    with pytest.raises(InvalidArgument):
        box.write("/x", None)  # type: ignore[arg-type]
    assert not [e for e in box.list("/") + box.list("/d") if e.name.startswith(".fastbox")]


def test_a_fifo_and_a_device_are_replaced(box: Box) -> None:
    box.run(["sh", "-c", "mkfifo /fifo; ln -s /dev/zero /zero"], check=True)
    for path in ("/fifo", "/zero"):
        box.write(path, b"plain")
        assert box.read(path) == b"plain"


def test_a_file_that_is_mounted(box: Box) -> None:
    box.write("/etc/hosts", "1.2.3.4 there\n")
    assert box.read("/etc/hosts") == b"1.2.3.4 there\n" == box.run(["cat", "/etc/hosts"]).stdout


def test_links_lead_nowhere_outside(both: Box, tmp_path: Any) -> None:
    canary = Canary(str(tmp_path / "host"))
    both.run(
        ["sh", "-c", 'ln -s "$1" /abs; ln -s ../../../../../../.."$1" /rel; '
         'ln -s /proc/1/root /magic; mkdir /tree; ln -s "$1" /tree/dir; '
         'ln -s "$1/f" /tree/file; mkfifo /tree/fifo',
         "sh", canary.path],
        check=True,
    )  # fmt: skip
    for name in ("abs", "rel"):
        with pytest.raises(NotFound):
            both.read(f"/{name}/f")
        with pytest.raises(FastboxError):
            both.write(f"/{name}/f", b"from the box")
    with pytest.raises(FastboxError):
        both.read(f"/magic{canary.path}/f")
    assert both.get("/tree") == {}
    both.put({"dir": b"x", "file": b"y"}, "/tree")
    assert both.get("/tree") == {"dir": b"x", "file": b"y"}
    canary.check()


def test_a_get_does_not_follow_what_is_there_already(box: Box, tmp_path: Any) -> None:
    canary = Canary(str(tmp_path / "host"))
    target = tmp_path / "target"
    target.mkdir()
    os.symlink(f"{canary.path}/f", target / "f")
    os.symlink(canary.path, target / "d")
    box.put({"f": b"new"}, "/one")
    box.get("/one", target)
    assert (target / "f").read_bytes() == b"new" and not (target / "f").is_symlink()
    box.put({"d/f": b"new"}, "/two")
    with pytest.raises(InvalidArgument, match="no directory"):
        box.get("/two", target)
    canary.check()


def test_a_tree_that_changes_meanwhile(box: Box) -> None:
    line = "cd /tmp; while :; do mkdir d; ln -s /etc/passwd d/x; rm -r d; ln -s / d; rm d; done"
    box.run(["sh", "-c", f"({line}) >/dev/null 2>&1 &"], check=True)
    for _ in range(200):
        assert not any(b"root" in content for content in box.get("/tmp").values())


def test_long_names(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree of few bytes can have paths that would fill the memory of who collects them."""
    box.put({f"{'d' * 200}/{'d' * 200}/{n}": b"" for n in range(9)}, "/tree")
    assert len(box.get("/tree")) == 9
    monkeypatch.setattr(files, "MAX_NAMES", 2000)
    with pytest.raises(InvalidArgument, match="names of files"):
        box.get("/tree")


def test_a_deep_tree(box: Box) -> None:
    box.run(["sh", "-c", "cd /tmp; for i in $(seq 250); do mkdir d; cd d; done"], check=True)
    with pytest.raises(InvalidArgument, match="deep"):
        box.get("/tmp")
