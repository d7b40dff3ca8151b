"""Nothing that kill -9 leaves counts as damage; and a repair that is killed can be made again."""

from __future__ import annotations

import io
import os
from collections.abc import Callable

import pytest

from fastbox.container.config import ContainerConfig
from fastbox.engine import Engine
from tests.image.build import die_at, tar
from tests.support.whole import check_whole

EVERY = 9  # each so many-th step on the file system is one before which the process dies


def import_(engine: Engine) -> None:
    engine.import_image(io.BytesIO(tar({"file": b"new"})), "new:1")


def rmi(engine: Engine) -> None:
    engine.remove_image("old:1")


def tag(engine: Engine) -> None:
    engine.tag("old:1", "another:1")


def create(engine: Engine) -> None:
    engine.create(ContainerConfig(image="old:1", command=["x"], name="box", network="none"))


def rename(engine: Engine) -> None:
    create(engine)
    engine.rename("box", "another")


@pytest.mark.parametrize("verb", [import_, rmi, tag, create, rename])
def test_a_killed_verb(
    new_root: Callable[[str], str], verb: Callable[[Engine], None], base: str
) -> None:
    point = 1
    while True:
        root = new_root(str(point))
        Engine(root, root + ".run").import_image(io.BytesIO(tar({"file": b"old"})), "old:1")
        lived = die_at(point, lambda root=root: verb(Engine(root, root + ".run")))  # type: ignore[misc]
        check_whole(root)
        if lived:
            break
        point += EVERY
    assert point > EVERY


def test_a_killed_repair(new_root: Callable[[str], str]) -> None:
    point = 1
    while True:
        root = new_root(str(point))
        image = Engine(root, root + ".run").import_image(io.BytesIO(tar({"file": b"old"})), "a:1")
        layer = os.path.join(root, "layers", image.layers[0][7:31])
        Engine(root, root + ".run").create(ContainerConfig(image="a:1", command=["x"]))
        with open(f"{layer}/file", "wb") as file:
            file.write(b"bad")
        lived = die_at(point, lambda root=root: Engine(root, root + ".run").check(repair=True))  # type: ignore[misc]
        Engine(root, root + ".run").check(repair=True)
        check_whole(root)
        with open(f"{layer}/file", "rb") as file:
            assert file.read() == b"old"
        if lived:
            break
        point += EVERY
    assert point > EVERY
