"""What the monitor tells of a container: in order, with the right name, to nobody else."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from fastbox.container.config import ContainerConfig
from fastbox.engine import Engine
from tests.support.boxes import start
from tests.support.wait import wait_for


def events(engine: Engine, *actions: str) -> list[dict[str, Any]]:
    with open(f"{engine.root}/events/journal") as file:
        found = [json.loads(line) for line in file]
    return [event for event in found if not actions or event["Action"] in actions]


def actions(engine: Engine) -> list[str]:
    return [event["Action"] for event in events(engine) if event["Type"] == "container"]


@pytest.mark.parametrize("code", [0, 3])
def test_a_life(engine: Engine, busybox_image: str, code: int) -> None:
    for _ in range(20):  # start comes before die, however short it is
        box = start(engine, busybox_image, "sh", "-c", f"exit {code}")
        engine.wait(box.id)
        wait_for(lambda: actions(engine).count("die") == actions(engine).count("start"), "die")
        engine.remove(box.id)
    assert actions(engine) == ["create", "start", "die", "destroy"] * 20
    assert events(engine, "die")[0]["Actor"]["Attributes"]["exitCode"] == str(code)


def test_of_an_auto_remove_container(engine: Engine, busybox_image: str) -> None:
    box = engine.create(
        ContainerConfig(image=busybox_image, command=["true"], auto_remove=True, name="brief")
    )
    assert engine.run_attached(box.id) == 0
    assert actions(engine) == ["create", "start", "die", "destroy"]
    assert {event["Actor"]["Attributes"]["name"] for event in events(engine, "die", "destroy")} == {
        "brief"
    }


def test_after_a_rename(engine: Engine, busybox_image: str) -> None:
    """An auto_remove container frees its new name, and tells it."""
    start(engine, busybox_image, auto_remove=True, name="before", labels={"a": 'é"\\'})
    engine.rename("before", "after")
    engine.kill("after")
    wait_for(lambda: actions(engine)[-1] == "destroy", "its end")
    for event in events(engine, "die", "destroy"):
        about = event["Actor"]["Attributes"]
        assert (about["name"], about["a"]) == ("after", 'é"\\')
    assert os.listdir(f"{engine.root}/names") == []
    again = start(engine, busybox_image, name="after")
    engine.remove(again.id, force=True)


def test_a_command_line_tells_no_labels(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, labels={"token": "very-private"})
    with open(f"/proc/{box.state.monitor_pid}/cmdline") as file:
        assert "very-private" not in file.read()
    engine.kill(box.id)
    assert events(engine, "die")[0]["Actor"]["Attributes"]["token"] == "very-private"
    engine.remove(box.id)


def test_out_of_memory(engine: Engine, busybox_image: str) -> None:
    hog = "x=a; while :; do x=$x$x; done"
    box = start(engine, busybox_image, "sh", "-c", f"(sh -c '{hog}'); sleep 1000", memory=8 << 20)
    wait_for(lambda: "oom" in actions(engine), "the event")
    engine.kill(box.id)
    assert engine.container(box.id).state.oom_killed
    engine.remove(box.id)


def test_a_journal_that_cannot_be_written(engine: Engine, busybox_image: str) -> None:
    """It is nobody's reason to fail."""
    os.makedirs(f"{engine.root}/events/journal")
    box = start(engine, busybox_image, "sh", "-c", "exit 4")
    assert engine.wait(box.id) == 4
    engine.remove(box.id)
