"""ps --filter."""

from __future__ import annotations

import pytest

from fastbox.container.filters import select
from fastbox.container.record import Container, MountPoint, Status
from fastbox.errors import InvalidArgument, NotFound
from fastbox.image.types import Image
from tests.cli.fake import box, image

WEB, DB, OLD = "a1" * 32, "b2" * 32, "b3" * 32


@pytest.fixture
def boxes() -> list[Container]:
    """Newest first."""
    return [
        box(
            "web", WEB, status=Status.RUNNING, labels={"tier": "front", "x": "1"},
            exposed_ports=["80/tcp", "53/udp"], layers=["2" * 24, "1" * 24],
        ),
        box(
            "my-db", DB, status=Status.EXITED, state_exit_code=137,
            labels={"tier": "back", "x": "1"},
            mounts=[MountPoint(type="volume", name="data", source="/s", destination="/var/lib/x")],
            config_network="host", layers=["1" * 24],
        ),
        box("web2", OLD, status=Status.CREATED, config_network="none", layers=["3" * 24]),
    ]  # fmt: skip


def names(boxes: list[Container], *, all: bool = True, **filters: list[str]) -> list[str]:
    fixed = {key.replace("_not", "!").replace("_", "-"): value for key, value in filters.items()}
    return [found.name for found in select(boxes, all=all, filters=fixed, image_of=image_of)]


def image_of(name: str) -> Image | None:
    if name == "base":
        return image(id="sha256:" + "9" * 64, layers=["sha256:" + "1" * 64])
    return image() if name == "redis" else None


def test_without_filters(boxes: list[Container]) -> None:
    assert names(boxes) == ["web", "my-db", "web2"]
    assert names(boxes, all=False) == ["web"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"name": ["web"]}, ["web", "web2"]),
        ({"name": ["^/web$"]}, ["web"]),
        ({"name": ["/my-db"]}, ["my-db"]),
        ({"name": ["^web$", "db"]}, ["web", "my-db"]),
        ({"name": ["["]}, []),
        ({"id": [WEB]}, ["web"]),
        ({"id": ["b"]}, ["my-db", "web2"]),
        ({"id": ["^b2"]}, ["my-db"]),
        ({"status": ["exited"]}, ["my-db"]),
        ({"status": ["exited", "created"]}, ["my-db", "web2"]),
        ({"exited": ["137"]}, ["my-db"]),
        ({"exited": ["0"]}, []),  # a created one has not exited
        ({"label": ["tier"]}, ["web", "my-db"]),
        ({"label": ["tier=front"]}, ["web"]),
        ({"label": ["tier", "x=1"]}, ["web", "my-db"]),
        ({"label": ["tier=front", "tier=back"]}, []),  # all of them must fit
        ({"label_not": ["tier=front"]}, ["my-db", "web2"]),
        ({"label_not": ["tier=front", "x=1"]}, ["my-db", "web2"]),
        ({"volume": ["data"]}, ["my-db"]),
        ({"volume": ["/var/lib/x"]}, ["my-db"]),
        ({"network": ["host"]}, ["my-db"]),
        ({"network": ["none", "host"]}, ["my-db", "web2"]),
        ({"network": ["bridge"]}, ["web"]),
        ({"expose": ["80"]}, ["web"]),
        ({"expose": ["53/udp"]}, ["web"]),
        ({"expose": ["53"]}, []),
        ({"expose": ["70-90/tcp"]}, ["web"]),
        ({"expose": ["x"]}, []),
        ({"publish": ["80"]}, []),
        ({"health": ["none"]}, ["web", "my-db", "web2"]),
        ({"health": ["healthy"]}, []),
        ({"is_task": ["true"]}, []),
        ({"before": ["web"]}, ["my-db", "web2"]),
        ({"since": ["web2"]}, ["web", "my-db"]),
        ({"since": ["web2"], "before": ["web"]}, ["my-db"]),
        ({"since": [OLD[:4]]}, ["web", "my-db"]),
        ({"ancestor": ["redis"]}, ["web", "my-db", "web2"]),
        ({"ancestor": ["base"]}, ["web"]),  # built on it
        ({"ancestor": ["nothing"]}, []),
        ({"name": ["web"], "status": ["running"]}, ["web"]),
    ],
)
def test_filters(boxes: list[Container], filters: dict[str, list[str]], found: list[str]) -> None:
    assert names(boxes, **filters) == found


def test_which_filters_look_at_what_does_not_run(boxes: list[Container]) -> None:
    assert names(boxes, all=False, status=["exited"]) == ["my-db"]
    assert names(boxes, all=False, before=["web"]) == ["my-db", "web2"]
    assert names(boxes, all=False, name=["web"]) == ["web"]
    assert names(boxes, all=False, exited=["137"]) == []


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"foo": ["x"]}, "invalid filter 'foo'"),
        ({"": ["x"]}, "invalid filter ''"),
        ({"status": ["foo"]}, "invalid filter 'status=foo': it must be one of created, running"),
        ({"exited": ["x"]}, "invalid filter 'exited=x': it must be an exit status"),
        ({"health": ["x"]}, "invalid filter 'health=x': "),
        ({"is-task": ["x"]}, "invalid filter 'is-task=x': it must be true or false"),
    ],
)
def test_bad_filters(boxes: list[Container], filters: dict[str, list[str]], message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        select(boxes, filters=filters)
    assert str(caught.value).startswith(message)


def test_before_what_is_not_there(boxes: list[Container]) -> None:
    with pytest.raises(NotFound, match=r"^No such container: x$"):
        names(boxes, before=["x"])
    with pytest.raises(NotFound, match=r"^No such container: $"):
        names(boxes, before=[""])
    with pytest.raises(InvalidArgument, match=r"^multiple IDs found with provided prefix: b$"):
        names(boxes, since=["b"])
