"""Image config and user config become a record."""

from __future__ import annotations

from typing import Any

import pytest

from fastbox.container.config import ContainerConfig
from fastbox.container.merge import merge
from fastbox.container.record import ContainerRecord
from fastbox.errors import InvalidArgument

ID = "ab" * 32


def made(image: dict[str, Any] | None = None, **config: Any) -> ContainerRecord:
    wanted = ContainerConfig(image="x", **config)
    return merge(ID, "name", "2026-01-01T00:00:00Z", wanted, image or {})


@pytest.mark.parametrize(
    ("image", "config", "argv"),
    [
        ({"Cmd": ["a", "b"]}, {}, ["a", "b"]),
        ({"Cmd": ["a"]}, {"command": ["c", "d"]}, ["c", "d"]),
        ({"Entrypoint": ["e"], "Cmd": ["a"]}, {}, ["e", "a"]),
        ({"Entrypoint": ["e"], "Cmd": ["a"]}, {"command": ["c"]}, ["e", "c"]),
        ({"Entrypoint": ["e"], "Cmd": ["a"]}, {"entrypoint": ["f"]}, ["f"]),
        ({"Entrypoint": ["e"], "Cmd": ["a"]}, {"entrypoint": ["f"], "command": ["c"]}, ["f", "c"]),
        ({"Entrypoint": ["e"], "Cmd": ["a"]}, {"entrypoint": [], "command": ["c"]}, ["c"]),
        ({"Entrypoint": ["e"], "Cmd": ["a"]}, {"entrypoint": [""], "command": ["c"]}, ["c"]),
    ],
)
def test_argv(image: dict[str, Any], config: dict[str, Any], argv: list[str]) -> None:
    record = made(image, **config)
    assert [record.path, *record.args] == argv


def test_no_command() -> None:
    with pytest.raises(InvalidArgument, match="no command specified"):
        made({})


def test_environment_is_layered_and_an_image_copies_nothing_from_the_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")  # CVE-2026-57231
    image = {"Cmd": ["x"], "Env": ["A=1", "B=2", "AWS_SECRET_ACCESS_KEY", "*", "PATH*", "=x"]}
    env = made(image, env=["B=3", "C=4"]).env
    assert env == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        f"HOSTNAME={ID[:12]}",
        "A=1",
        "B=3",
        "C=4",
    ]


def test_an_image_may_set_path_and_a_user_may_unset() -> None:
    image = {"Cmd": ["x"], "Env": ["PATH=/bin", "A=1"]}
    assert made(image, env=["A"]).env == ["PATH=/bin", f"HOSTNAME={ID[:12]}"]


def test_labels_of_an_image_do_not_steer_the_engine() -> None:
    image = {"Cmd": ["x"], "Labels": {"dev.fastbox.user": "0", "run.oci.x": "y", "ok": "1"}}
    assert made(image, labels={"dev.fastbox.mine": "1"}).labels == {
        "ok": "1",
        "dev.fastbox.mine": "1",
    }


@pytest.mark.parametrize("path", ["x/y", "./x", ""])
def test_workdir_must_be_absolute(path: str) -> None:
    if path:
        with pytest.raises(InvalidArgument, match="needs to be an absolute path"):
            made({"Cmd": ["x"]}, workdir=path)
    else:
        assert made({"Cmd": ["x"], "WorkingDir": "/w"}, workdir=path).workdir == "/w"


def test_user_and_stop_signal_come_from_the_image_unless_asked() -> None:
    image = {"Cmd": ["x"], "User": "redis", "StopSignal": "SIGQUIT"}
    assert (made(image).user, made(image).stop_signal) == ("redis", "SIGQUIT")
    record = made(image, user="5", stop_signal="INT")
    assert (record.user, record.stop_signal) == ("5", "INT")
