"""Containers made from a template are those that the long way makes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from typing import Any

import msgspec
import pytest

from fastbox.container import templates
from fastbox.container.config import ContainerConfig
from fastbox.container.record import Container
from fastbox.engine import Engine
from fastbox.errors import NotFound
from fastbox.oci.healthcheck import Healthcheck
from tests.support.wait import wait_for

CONFIGS: list[dict[str, Any]] = [
    {},
    {"auto_remove": True},
    {"auto_remove": True, "interactive": True, "init": True},
    {"env": ["A=1", "HOSTNAME=other"], "labels": {"a": "b"}, "workdir": "/tmp", "user": "1:2"},
    {"hostname": "box", "domainname": "example", "add_hosts": ["other:192.0.2.7"]},
    {"read_only": True, "cap_drop": ["ALL"], "no_new_privileges": True, "network": "none"},
    {"memory": 64 << 20, "pids_limit": 50, "seccomp": "unconfined", "dns": ["192.0.2.53"]},
    {"entrypoint": ["/bin/sh", "-c"], "command": ["exit 3"], "stop_signal": "SIGINT"},
    {"healthcheck": Healthcheck(test=["NONE"]), "sysctls": {"net.ipv4.ip_forward": "0"}},
]


def told(engine: Engine, box: Container) -> Any:
    """All that is on disk of a container, but for what is its own."""
    found: dict[str, Any] = {}
    for directory in {box.directory, box.bundle}:
        for name in sorted(os.listdir(directory)):
            path = f"{directory}/{name}"
            if os.path.isfile(path):
                with open(path, encoding="utf-8") as file:
                    text = file.read()
                text = text.replace(box.id, "ID").replace(box.short_id, "SHORT")
                found[name] = json.loads(text) if name.endswith(".json") else text
            else:
                found[name] = os.stat(path).st_mode
    record = found["container.json"]
    assert record.pop("name") == box.name
    assert record.pop("created") == box.record.created
    return found


@pytest.mark.parametrize("options", CONFIGS, ids=lambda options: ",".join(options) or "plain")
def test_the_second_is_as_the_first(
    engine: Engine, busybox_image: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ContainerConfig(image=busybox_image, **{"command": ["true"], **options})
    first = engine.create(config)
    calls: list[object] = []
    monkeypatch.setattr("fastbox.container.create.merge", lambda *_: calls.append(_))
    second = engine.create(config)
    assert not calls
    assert told(engine, first) == told(engine, second)
    assert {first.id, first.name}.isdisjoint({second.id, second.name})
    monkeypatch.undo()
    for box in (first, second):
        engine.start(box.id)
        engine.wait(box.id)


def test_what_depends_on_more_is_always_made_the_long_way(
    engine: Engine, busybox_image: str
) -> None:
    from fastbox.container.config import Mount, Ulimit

    plain = ContainerConfig(image=busybox_image)
    assert templates.is_plain(plain)
    for change in (
        {"name": "x"},
        {"privileged": True},
        {"network": "host"},
        {"network": "container:x"},
        {"ulimits": [Ulimit(name="nofile", soft=1, hard=1)]},
        {"mounts": [Mount(type="tmpfs", target="/x")]},
    ):
        assert not templates.is_plain(msgspec.structs.replace(plain, **change))


def test_plans_of_starts(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second start of a kind replays the first one's plan, with its own id in it."""
    words = ["sh", "-c", "hostname; cat /etc/hostname; cat /proc/self/cgroup | tail -1"]
    config = ContainerConfig(image=busybox_image, command=words, network="none", interactive=True)
    first = engine.create(config)
    engine.start(first.id)
    second, third = engine.create(config), engine.create(config)
    engine.rename(third.id, "renamed")
    made: list[str] = []
    real = engine._lifecycle._plan
    monkeypatch.setattr(
        engine._lifecycle,
        "_plan",
        lambda record, *rest: (made.append(record.id), real(record, *rest))[1],
    )
    for box in (second, third):
        engine.start(box.id)
        engine.wait(box.id)
        lines = [line.data.decode() for line in engine.logs(box.id)]
        assert lines[:2] == [box.short_id] * 2
    assert made == [third.id]  # it is not what was made any more


def test_a_changed_image_has_another_template(engine: Engine, busybox_image: str) -> None:
    config = ContainerConfig(image=busybox_image, command=["true"])
    before = engine.create(config)
    engine.commit(before.id, busybox_image, changes=["ENV NEW=1"])
    after = engine.create(config)
    assert "NEW=1" in after.record.env and "NEW=1" not in before.record.env


@pytest.mark.parametrize("auto_remove", [True, False])
def test_the_store_is_made_anew_meanwhile(
    engine: Engine, busybox_image: str, auto_remove: bool
) -> None:
    config = ContainerConfig(
        image=busybox_image, command=["true"], network="none", auto_remove=auto_remove
    )

    def life() -> None:
        box = engine.create(config, transient=True)
        engine._lifecycle.start(box.id)
        engine._lifecycle.wait(box.id)

    for _ in range(2):
        life()
    for box in engine.containers(all=True):
        with contextlib.suppress(NotFound):
            engine.remove(box.id)
    wait_for(lambda: not os.listdir(f"{engine.root}/containers"))
    wait_for(lambda: not os.listdir(f"{engine.root}/trash"))
    kept = f"{engine.root}.kept"
    os.mkdir(kept)
    for name in ("images", "layers"):
        os.rename(f"{engine.root}/{name}", f"{kept}/{name}")
    for directory in (engine.root, engine.runtime_dir):
        shutil.rmtree(directory)
    with pytest.raises(NotFound, match="No such image"):
        engine.create(config, pull="never")
    for name in ("images", "layers"):
        shutil.rmtree(f"{engine.root}/{name}")
        os.rename(f"{kept}/{name}", f"{engine.root}/{name}")
    shutil.rmtree(f"{engine.root}/layers/.init")
    life()


def test_only_so_many_are_kept() -> None:
    kept = templates.Templates()
    for number in range(templates.MOST + 10):
        kept.put((number,), object())  # type: ignore[arg-type]
    assert kept.get((9,)) is None and kept.get((10,)) is not None
