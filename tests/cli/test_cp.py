"""cp and diff: words, flags, output."""

from __future__ import annotations

import pytest

from fastbox.cli import output
from fastbox.container.copy import LocalPathError
from fastbox.errors import NotFound
from tests.cli.conftest import Fastbox
from tests.cli.fake import FakeEngine, box

PLAIN = {"follow_link": False, "archive": False, "progress": None}


@pytest.mark.parametrize(
    ("words", "method", "arguments", "options"),
    [
        (("web:/x", "y"), "copy_out", ("web", "/x", "y"), {}),
        (("web:", "."), "copy_out", ("web", "", "."), {}),
        (("web:/x", "/y:z"), "copy_out", ("web", "/x", "/y:z"), {}),
        (("web:/x", "./y:z"), "copy_out", ("web", "/x", "./y:z"), {}),
        (("y", "web:x:y"), "copy_in", ("web", "y", "x:y"), {}),
        (("./y:z", "web:/x"), "copy_in", ("web", "./y:z", "/x"), {}),
        (("-a", "y", "web:/x"), "copy_in", ("web", "y", "/x"), {"archive": True}),
        (("y", "web:/x", "-L"), "copy_in", ("web", "y", "/x"), {"follow_link": True}),
        (("--archive", "--follow-link", "-q", "web:/x", "y"), "copy_out", ("web", "/x", "y"),
         {"archive": True, "follow_link": True}),
    ],
)  # fmt: skip
def test_both_ways(
    fastbox: Fastbox,
    fake: FakeEngine,
    words: tuple[str, ...],
    method: str,
    arguments: tuple[str, ...],
    options: dict[str, bool],
) -> None:
    for name in (("cp",), ("container", "cp")):
        fake.calls.clear()
        result = fastbox(*name, *words)
        assert (result.code, result.out, result.err) == (0, "", "")
        assert fake.asked(method) == (arguments, {**PLAIN, **options})


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("a:b", "c:d"), "copying between containers is not supported\n"),
        (("a", "b"), "must specify at least one container source\n"),
        (("-", "-"), "must specify at least one container source\n"),
        (("", "web:/"), "source can not be empty\n"),
        (("web:/", ""), "destination can not be empty\n"),
    ],
)
def test_bad_words(fastbox: Fastbox, fake: FakeEngine, words: tuple[str, str], text: str) -> None:
    result = fastbox("cp", *words)
    assert (result.code, result.err) == (1, text)
    assert fake.calls == []


def test_usage(fastbox: Fastbox) -> None:
    result = fastbox("cp", "web:/x")
    assert result.code == 1
    assert result.err == (
        "fastbox: 'fastbox cp' requires 2 arguments\n\n"
        "Usage:  fastbox cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n"
        "\tfastbox cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH\n\n"
        "Run 'fastbox cp --help' for more information\n"
    )


def test_streams(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("cp", "-L", "web:/x", "-")
    assert (result.code, result.raw, result.err) == (0, b"tarball", "")
    assert fake.asked("copy_from") == (("web", "/x"), {"follow_link": True})
    assert fastbox("cp", "-", "web:/x").code == 0
    assert fake.asked("copy_to") == (("web", "/x", 0), {})


def test_on_a_terminal(fastbox: Fastbox, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda stream: True)
    assert fastbox("cp", "y", "web:/x").err == "Successfully copied 2.05kB to web:/x\n"
    assert fake.asked("copy_in")[1]["progress"] is not None
    assert fastbox("cp", "web:/x", "/y").err == "Successfully copied 2.05kB to /y\n"
    assert fastbox("cp", "-q", "web:/x", "/y").err == ""
    monkeypatch.setattr(output, "is_terminal", lambda stream: False)
    assert fastbox("cp", "--quiet=false", "web:/x", "/y").err == (
        "Successfully copied 2.05kB to /y\n"
    )


def test_progress(fastbox: Fastbox, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    import itertools

    from fastbox.cli import cp

    monkeypatch.setattr(output, "is_terminal", lambda stream: True)
    clock = itertools.count()
    monkeypatch.setattr(cp.time, "monotonic", lambda: next(clock) / 20)
    copy_in = fake.copy_in

    def slow(*args: str, **kwargs: object) -> object:
        for count in (1000, 2000, 3000):
            kwargs["progress"](count)  # type: ignore[operator]
        return copy_in(*args, **kwargs)

    monkeypatch.setattr(fake, "copy_in", slow)
    assert fastbox("cp", "y", "web:/x").err == (
        "\r\x1b[KCopying to container - 2kB\r\x1b[KSuccessfully copied 2.05kB to web:/x\n"
    )


def test_what_is_not_copied_is_told(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.skipped = ["dev/null"]
    result = fastbox("cp", "web:/dev", "dev")
    assert result.code == 0
    assert result.err == "WARNING: dev/null is a device: not copied (--archive does)\n"


def test_errors(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.errors["copy_out"] = NotFound("Could not find the file /x in container web")
    result = fastbox("cp", "web:/x", "y")
    assert (result.code, result.err) == (1, "Error: Could not find the file /x in container web\n")
    fake.errors["copy_in"] = LocalPathError("cannot copy directory")
    result = fastbox("cp", "y", "web:/x")
    assert (result.code, result.err) == (1, "cannot copy directory\n")


def test_diff(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.boxes = [box("web")]
    for name in (("diff",), ("container", "diff")):
        result = fastbox(*name, "web")
        assert (result.code, result.out) == (0, "C /etc\nD /etc/motd\nA /new\n")
    assert fastbox("diff", "x").err == "Error: No such container: x\n"
    assert fastbox("diff", "").err == "Container name cannot be empty\n"
    assert fastbox("diff").code == fastbox("diff", "a", "b").code == 1
