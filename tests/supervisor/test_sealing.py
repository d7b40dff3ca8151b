"""The archives of committed layers are made in the background."""

from __future__ import annotations

import asyncio
import os

import pytest

from fastbox import ContainerConfig, Engine
from fastbox.image.seal import unsealed
from fastbox.supervisor import sealing


def commit(engine: Engine) -> None:
    box = engine.create(ContainerConfig(image="busybox", command=["true"]))
    with open(f"{box.directory}/upper/file", "w") as file:
        file.write("content")
    engine.commit(box.id, "snap")


async def watch(engine: Engine, notes: list[str], *, until: int) -> None:
    """Let it look until so many images are left, and something is noted if any are."""
    task = asyncio.ensure_future(
        sealing.seal_for_ever(engine.root, engine.runtime_dir, notes.append)
    )
    while len(unsealed(engine._images)) != until or bool(until) is not bool(notes):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_sealing(engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "PAUSE", 0.01)
    notes: list[str] = []
    commit(engine)
    image_id = engine.image("snap").id
    asyncio.run(watch(engine, notes, until=0))
    assert notes == [] and engine.image("snap").id == image_id


def test_what_fails_is_told_once(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "PAUSE", 0.01)
    notes: list[str] = []
    commit(engine)
    layer = engine._images.ensure_layers(engine.image("snap"))[0]
    bad = f"{engine.root}/layers/{layer}/.wh.x"
    os.close(os.open(bad, os.O_CREAT))
    asyncio.run(watch(engine, notes, until=1))
    assert len(notes) == 1 and notes[0].startswith("packing committed layers failed: ")
    os.unlink(bad)
    asyncio.run(watch(engine, [], until=0))
