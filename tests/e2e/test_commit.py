"""commit, history and image inspect through the command; the same with docker where it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.support.command import Command

IMAGE = "fastbox-test/busybox"
NAME = "fastbox-twin-commit"
SNAP = "fastbox-test/snap"


@pytest.fixture(autouse=True)
def gone(twin: Command) -> Iterator[None]:
    yield
    twin("rm", "-f", NAME)
    twin("rmi", "-f", SNAP, f"{SNAP}:2")


def text(err: str) -> str:
    """An error's lines, without what docker puts before them."""
    lines = [line for line in err.splitlines() if not line.startswith(("time=", "hint: "))]
    return re.sub(r"(?m)^(Error response from daemon|Error): ", "", "\n".join(lines)).lower()


def test_the_way_of_the_notes(twin: Command) -> None:
    """A container, a program in it, an image of that (S77, S84, S85)."""
    twin.ok("run", "--network", "none", "--name", NAME, IMAGE, "sh", "-c", "echo hi > /new")
    diff = twin.ok("diff", NAME)
    made = twin.ok("commit", "-m=my change", "-a=me", NAME, f"{SNAP}:2")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", made)
    assert twin.ok("diff", NAME) == diff == "A /new"
    assert twin.ok("run", "--rm", "--network", "none", f"{SNAP}:2", "cat", "/new") == "hi"
    assert twin("run", "--rm", "--network", "none", IMAGE, "cat", "/new").code == 1
    twin.ok("start", NAME)
    rows = twin.ok("history", "--no-trunc", "--format", "{{json .}}", f"{SNAP}:2").splitlines()
    top, below = map(json.loads, rows)
    assert (top["ID"], top["Comment"], top["CreatedBy"]) == (
        made, "my change", "sh -c echo hi > /new",
    )  # fmt: skip
    assert below["ID"] == "<missing>"
    assert twin.ok("images", "-q", "--no-trunc", SNAP) == made
    (found,) = json.loads(twin.ok("image", "inspect", f"{SNAP}:2"))
    (base,) = json.loads(twin.ok("image", "inspect", IMAGE))
    assert found["RootFS"]["Layers"][:-1] == base["RootFS"]["Layers"]
    assert (found["Id"], found["Author"], found["Comment"]) == (made, "me", "my change")
    assert found["Config"]["Cmd"] == ["sh", "-c", "echo hi > /new"]
    assert not found["Metadata"]["LastTagTime"].startswith("0001")
    assert twin.ok("commit", NAME) != made
    twin.ok("rm", NAME)
    assert twin.ok("run", "--rm", "--network", "none", f"{SNAP}:2", "cat", "/new") == "hi"


def test_errors(twin: Command) -> None:
    twin.ok("create", "--network", "none", "--name", NAME, IMAGE, "true")
    for words, message in (
        (["nosuch", SNAP], "no such container: nosuch"),
        ([NAME, "Foo"], "invalid reference format"),
        ([NAME, f"{SNAP}@sha256:{'1' * 64}"], "refusing to create a tag with a digest reference"),
        ([], "requires at least 1 and at most 2 arguments"),
        (["-m", "=", "x", NAME, SNAP], "requires at least 1 and at most 2 arguments"),
    ):
        assert message in text(twin.fails(1, "commit", *words))
    assert "is not a valid change command" in text(twin.fails(1, "commit", "-c", "RUN x", NAME))
    assert twin.ok("images", "-q", SNAP) == ""
    assert "no such image" in text(twin.fails(1, "history", "fastbox-test/nosuch"))
