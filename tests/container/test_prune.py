"""container prune: what does not run goes, and nothing else."""

from __future__ import annotations

import pytest

from fastbox import ContainerConfig, Engine, Mount
from fastbox.errors import InvalidArgument
from tests.support.boxes import start
from tests.support.command import Command


def create(engine: Engine, image: str, name: str, **config: object) -> str:
    values = ContainerConfig(image=image, name=name, command=["true"], **config)  # type: ignore[arg-type]
    return engine.create(values).id


def names(engine: Engine) -> list[str]:
    return sorted(box.name for box in engine.containers(all=True))


def test_what_is_up_stays(engine: Engine, busybox_image: str) -> None:
    start(engine, busybox_image, name="running")
    start(engine, busybox_image, name="paused")
    engine.pause("paused")
    made = create(engine, busybox_image, "made")
    mounts = [Mount(type="volume", target="/v")]
    write = ("sh", "-c", "head -c 5000 /dev/zero > /file")
    ended = start(engine, busybox_image, *write, name="ended", mounts=mounts).id
    engine.wait("ended")
    removed, freed = engine.prune_containers()
    assert sorted(removed) == sorted([made, ended])
    assert freed == 5000
    assert names(engine) == ["paused", "running"]
    assert len(engine.volumes()) == 1
    assert engine.prune_containers() == ([], 0)


def test_what_a_run_is_about_to_start_stays(engine: Engine, busybox_image: str) -> None:
    config = ContainerConfig(image=busybox_image, name="mine", command=["true"])
    box = engine.create(config, transient=True)
    assert engine.prune_containers() == ([], 0)
    engine.start(box.id)
    engine.wait(box.id)
    assert engine.prune_containers()[0] == [box.id]


def test_filters(engine: Engine, busybox_image: str) -> None:
    for number, labels in enumerate(({"a": "b"}, {"a": "c"}, {})):
        create(engine, busybox_image, f"box{number}", labels=labels)
    assert engine.prune_containers(filters={"until": ["1h"]}) == ([], 0)
    engine.prune_containers(filters={"label": ["a=b"], "until": ["0s"]})
    assert names(engine) == ["box1", "box2"]
    engine.prune_containers(filters={"label!": ["a"]})
    assert names(engine) == ["box1"]
    for filters, text in (
        ({"name": ["x"]}, "invalid filter 'name'"),
        ({"until": ["1h", "2h"]}, "more than one until filter specified"),
        ({"until": ["soon"]}, 'failed to parse value as time or duration: "soon"'),
    ):
        with pytest.raises(InvalidArgument) as caught:
            engine.prune_containers(filters=filters)
        assert str(caught.value) == text
    engine.prune_containers(filters={"until": ["2100-01-01"]})
    assert names(engine) == []


@pytest.mark.usefixtures("busybox_image")
def test_the_command(cli: Command) -> None:
    box = cli.ok("create", "busybox", "true")
    question = (
        "WARNING! This will remove all stopped containers.\n"
        "Are you sure you want to continue? [y/N] "
    )
    assert cli("container", "prune", input="n\n").out == question
    deleted = f"Deleted Containers:\n{box}\n\nTotal reclaimed space: 0B\n"
    assert cli("container", "prune", input="y\n").out == question + deleted
    assert cli("container", "prune", "-f").out == "Total reclaimed space: 0B\n"
