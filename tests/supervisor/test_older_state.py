"""State that fastbox 0.1 (commit b0bac3e, before there was a supervisor) wrote is read, and its
containers are looked after. ``state-0.1-b0bac3e`` is what that commit left, with the names of the
machine it ran on replaced."""

from __future__ import annotations

import json
import os
import signal

import pytest

from fastbox import Engine, RestartPolicy, Status, supervision
from fastbox.container import process
from tests.support.boxes import start
from tests.support.leaks import cgroup_parent
from tests.support.wait import wait_for

OLD = os.path.join(os.path.dirname(__file__), "state-0.1-b0bac3e")
NAMES = {"ended-always": 3, "ended-failure": 5, "ended-no": 4, "stopped-unless": 137}


def unpack(engine: Engine, boot_id: str) -> None:
    """Put the old state into a store."""
    image = engine.image("busybox")
    values = {
        "@ROOT@": engine.root,
        "@RUNTIME@": engine.runtime_dir,
        "@PARENT@": cgroup_parent(engine.root),
        "@LAYER@": engine._images.ensure_layers(image)[0],
        "@BOOT@": boot_id,
    }
    store = engine._containers
    for kind, place in (("containers", store.containers), ("runtime", store.runtime)):
        for container_id in os.listdir(f"{OLD}/{kind}"):
            target = f"{place}/{container_id}"
            os.makedirs(target)
            for name in os.listdir(f"{OLD}/{kind}/{container_id}"):
                with open(f"{OLD}/{kind}/{container_id}/{name}") as file:
                    text = file.read()
                for mark, value in values.items():
                    text = text.replace(mark, value)
                with open(f"{target}/{name}", "w") as file:
                    file.write(text)
    for container_id in os.listdir(f"{OLD}/containers"):
        for part in ("upper", "work"):
            os.mkdir(f"{store.directory(container_id)}/{part}")
        store.reserve_name(store.load_record(container_id).name, container_id)


@pytest.mark.usefixtures("busybox_image")
def test_it_is_read(engine: Engine) -> None:
    unpack(engine, process.boot_id())
    engine.stop_supervisor()
    found = {box.name: box for box in engine.containers(all=True)}
    assert {name: box.state.exit_code for name, box in found.items()} == NAMES
    for name, box in found.items():
        assert (box.state.status, box.state.run, box.state.restart_count) == (Status.EXITED, 1, 0)
        assert box.state.finished_at.startswith("2026-11-25T11:05:03.")
        assert engine.inspect_container(name)["State"]["ExitCode"] == NAMES[name]
        assert (box.record.config.network, box.record.networks) == ("none", [])  # as it was made
    for name in NAMES:
        engine.start(name)
        assert engine.container(name).state.run == 2


@pytest.mark.usefixtures("busybox_image")
def test_an_upgrade(engine: Engine) -> None:
    """What ended while there was nobody to act on its policy is started now."""
    unpack(engine, process.boot_id())
    engine.start_supervisor()
    for name in ("ended-always", "ended-failure"):
        wait_for(lambda: engine.container(name).state.run >= 2, f"a restart of {name}")  # noqa: B023
    for name in ("ended-no", "stopped-unless"):
        assert engine.container(name).state.run == 1


@pytest.mark.usefixtures("busybox_image")
def test_an_upgrade_and_a_reboot(engine: Engine) -> None:
    unpack(engine, "00000000-0000-0000-0000-000000000000")
    engine.start_supervisor()
    wait_for(lambda: engine.container("ended-always").state.run >= 2, "the start of one")
    wait_for(lambda: engine.supervisor_status()["watched"] == 1, "the others' decisions")  # type: ignore[index]
    for name in ("ended-failure", "ended-no", "stopped-unless"):
        assert engine.container(name).state.run == 1


@pytest.mark.usefixtures("busybox_image")
def test_an_upgrade_under_a_running_container(engine: Engine) -> None:
    box = start(engine, "busybox", name="box", restart=RestartPolicy(name="always"))
    os.kill(supervision.owner(engine.runtime_dir), signal.SIGKILL)
    wait_for(lambda: not supervision.is_running(engine.runtime_dir), "its end")
    # As the older one left it.
    os.unlink(f"{box.directory}/restarts.json")
    os.unlink(f"{engine.runtime_dir}/epoch")
    path = f"{box.directory}/container.json"
    with open(path) as file:
        record = json.load(file)
    del record["version"]
    with open(path, "w") as file:
        json.dump(record, file)
    engine.start_supervisor()
    assert engine.container("box").state.pid == box.state.pid
    os.kill(box.state.pid, signal.SIGKILL)
    wait_for(lambda: engine.container("box").state.run == 2, "its restart")
    assert engine.container("box").state.restart_count == 1
