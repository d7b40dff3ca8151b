"""What the supervisor does once an hour."""

from __future__ import annotations

import os

from fastbox.engine import Engine
from fastbox.supervisor import housekeeping
from tests.support.boxes import start


def test_what_killed_commands_left_is_removed(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, name="kept")
    root = engine.root
    half_made = f"{root}/containers/{'0' * 64}"
    old = f"{root}/images/ingest/sha256-{'1' * 64}"
    staged = f"{root}/images/.index.json.123-abc"
    for path in (half_made, f"{root}/trash/{'2' * 64}"):
        os.makedirs(path)
    for path in (old, staged):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write("half")
    os.utime(old, (0, 0))
    os.symlink("3" * 64, f"{root}/names/nobody")
    assert housekeeping.clean(root, engine.runtime_dir) == []
    for path in (half_made, old, staged, f"{root}/names/nobody"):
        assert not os.path.lexists(path), path
    assert os.listdir(f"{root}/trash") == []
    assert [found.id for found in engine.containers()] == [box.id]
    engine.remove(box.id, force=True)
    assert engine.image(busybox_image)


def test_one_part_that_fails_leaves_the_others(engine: Engine, busybox_image: str) -> None:
    _ = engine._containers
    os.rmdir(f"{engine.root}/trash")
    with open(f"{engine.root}/trash", "w"):
        pass
    staged = f"{engine.root}/images/.index.json.123-abc"
    with open(staged, "w"):
        pass
    problems = housekeeping.clean(engine.root, engine.runtime_dir)
    assert len(problems) == 1 and problems[0].startswith("sweeping containers failed: ")
    os.unlink(f"{engine.root}/trash")
