"""commit, history: flags, texts, tables."""

from __future__ import annotations

import json

import msgspec
import pytest

from fastbox.cli import human
from fastbox.image.history import HistoryEntry
from tests.cli.conftest import Fastbox
from tests.cli.fake import IMAGE_ID, FakeEngine

DEFAULTS = {"message": "", "author": "", "changes": [], "pause": True}
STEPS = [
    HistoryEntry(
        id=IMAGE_ID, created="2026-01-02T03:04:05.6Z", created_by="sh -c\t" + "x" * 50,
        size=1_048_576, comment="my change",
    ),
    HistoryEntry(
        id="<missing>", created="2020-01-02T03:04:05Z", created_by="", size=0, comment=""
    ),
]  # fmt: skip


def test_commit(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("commit", "web")
    assert (result.code, result.out) == (0, f"{IMAGE_ID}\n")
    assert fake.asked("commit") == (("web", None), DEFAULTS)
    fake.calls.clear()
    words = ["-m", "why", "-a", "me", "-c", "CMD x", "--change=ENV A=b", "-p=false"]
    assert fastbox("container", "commit", *words, "web", "repo/x:1").code == 0
    assert fake.asked("commit") == (
        ("web", "repo/x:1"),
        {"message": "why", "author": "me", "changes": ["CMD x", "ENV A=b"], "pause": False},
    )
    fake.calls.clear()
    fastbox("commit", "--no-pause", "web", "")
    assert fake.asked("commit") == (("web", ""), {**DEFAULTS, "pause": False})


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 1, "requires at least 1 and at most 2 arguments"),
        (["-m", "=", "x", "web", "name"], 1, "requires at least 1 and at most 2 arguments"),
        (["web", "Foo"], 1,
         "invalid reference format: repository name (library/Foo) must be lowercase"),
        (["web", f"a@sha256:{'1' * 64}"], 1, "refusing to create a tag with a digest reference"),
        (["web", "name\uff1atag"], 1, "invalid reference format"),
        (["-p", "--no-pause", "web"], 1, "cannot be used together"),
        (["--pause=maybe", "web"], 125, "invalid argument"),
    ],
)  # fmt: skip
def test_bad_commits(
    fastbox: Fastbox, fake: FakeEngine, words: list[str], code: int, message: str
) -> None:
    result = fastbox("commit", *words)
    assert (result.code, result.out) == (code, "") and message in result.err
    assert "commit" not in [name for name, *_ in fake.calls]


def test_history(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.steps = STEPS
    lines = fastbox("history", "redis").out.splitlines()
    assert lines[0].split("   ")[0] == "IMAGE"
    assert [word.strip() for word in lines[0].split("  ") if word] == [
        "IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT",
    ]  # fmt: skip
    assert lines[1].startswith(IMAGE_ID[7:19] + "   ") and lines[1].endswith("1.05MB    my change")
    assert "sh -c " + "x" * 38 + "…" in lines[1]
    assert lines[2].startswith("<missing>      ") and " ago" in lines[2] and "0B" in lines[2]
    whole = fastbox("image", "history", "--no-trunc", "-H=false", "redis").out.splitlines()
    assert "CREATED AT" in whole[0]
    assert whole[1].startswith(IMAGE_ID) and "sh -c " + "x" * 50 in whole[1]
    assert human.rfc3339_local("2026-01-02T03:04:05Z") in whole[1] and "1048576" in whole[1]


def test_history_drives_no_terminal(fastbox: Fastbox, fake: FakeEngine) -> None:
    evil = "\x1b]0;x\x07\nrm"
    fake.steps = [msgspec.structs.replace(STEPS[0], created_by=evil, comment=evil)]
    lines = fastbox("history", "redis").out.splitlines()
    assert len(lines) == 2 and lines[1].count(r"\x1b]0;x\x07\nrm") == 2


def test_history_in_other_forms(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.steps = STEPS
    assert fastbox("history", "-q", "redis").out == f"{IMAGE_ID[7:19]}\n<missing>\n"
    assert fastbox("history", "-q", "--no-trunc", "redis").out == f"{IMAGE_ID}\n<missing>\n"
    out = fastbox("history", "--format", "{{.ID}}: {{.Size}} {{.Comment}}", "redis").out
    assert out == f"{IMAGE_ID[7:19]}: 1.05MB my change\n<missing>: 0B \n"
    rows = [json.loads(line) for line in fastbox("history", "--format=json", "x").out.splitlines()]
    assert set(rows[0]) == {"Comment", "CreatedAt", "CreatedBy", "CreatedSince", "ID", "Size"}
    assert fastbox("history", "--format", "{{.Nope}}", "x").code == 1
    assert fastbox("history").code == 1 and fastbox("history", "a", "b").code == 1
    fastbox("history", "--platform", "linux/amd64", "redis")
    assert fake.asked("check_platform") == (("redis", "linux/amd64"), {})
    fake.steps = []
    assert len(fastbox("history", "redis").out.splitlines()) == 1


def test_zones() -> None:
    assert human.rfc3339_local("") == "0001-01-01T00:00:00Z"
