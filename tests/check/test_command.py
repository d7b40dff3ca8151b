"""``fastbox system check``: what it prints, and its exit status."""

from __future__ import annotations

import json
import os

from tests.support.command import Command


def test_a_store_that_is_whole(cli: Command, busybox_image: str) -> None:
    out = cli.ok("system", "check")
    assert out == (
        "Checked 3 blobs, 1 image, 1 layer, 0 containers, 0 volumes, 0 networks: no problems"
    )
    assert cli.ok("system", "check", "--format", "json") == ""


def test_problems(cli: Command, root: str, busybox_image: str) -> None:
    cli.ok("volume", "create", "data")
    path = f"{root}/volumes/data/volume.json"
    with open(path, "w") as file:
        file.write("{")
    os.rmdir(f"{root}/volumes/data/_data")
    os.mkdir(f"{root}/volumes/data/_data")
    done = cli("system", "check")
    assert (done.code, done.err) == (1, "")
    assert done.lines[0].startswith(f"volume data: {path} is damaged: ")
    assert done.lines[0].endswith(": `fastbox system check --repair` puts it right")
    assert done.lines[-1].endswith("1 volume, 0 networks: 1 problem")
    row = json.loads(cli("system", "check", "--format=json").out)
    assert (row["kind"], row["what"], row["repaired"]) == ("volume", "data", False)
    done = cli("system", "check", "--repair")
    assert done.code == 0
    assert done.lines[0].endswith(": repaired")
    assert done.lines[-1].endswith(": no problems, 1 repaired")
    assert cli.ok("system", "check").endswith(": no problems")


def test_a_bad_format(cli: Command) -> None:
    err = cli.fails(1, "system", "check", "--format", "xml")
    assert 'invalid format "xml": must be "text" or "json"' in err
    assert "accepts no arguments" in cli.fails(1, "system", "check", "x")
