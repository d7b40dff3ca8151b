"""docker reads what fastbox wrote, and fastbox what docker wrote: by archive and by registry."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import tempfile
from collections.abc import Iterator

import pytest

from fastbox._core.tree import remove_tree
from tests.support.command import Command
from tests.support.dockerd import Dockerd
from tests.support.images import archive, changes
from tests.support.registry import Registry


@pytest.fixture(scope="module")
def docker(session_base: str) -> Iterator[Command]:
    directory = tempfile.mkdtemp(prefix="", dir=session_base)
    with contextlib.closing(Dockerd(directory)) as daemon:
        yield daemon.docker
    remove_tree(directory)


@pytest.fixture
def committed(cli: Command, busybox_image: str) -> str:
    """An image with a layer of a commit: files added, changed and deleted, odd owners and modes."""
    script = "echo added > /new; chown 1000:5 /new; chmod 4750 /new; rm /etc/group; ln /new /same"
    cli.ok("run", "--network", "none", "--name", "box", busybox_image, "sh", "-c", script)
    cli.ok("commit", "-m", "三", "-a", "me", "-c", "ENV A=b", "box", "made/here:1")
    cli.ok("rm", "box")
    return "made/here:1"


def files(command: Command, image: str) -> dict[str, tuple[object, ...]]:
    """What an image's root has, as its engine exports it."""
    name = command.ok("create", "--network", "none", image, "true")
    try:
        data = command("export", name).raw
    finally:
        command.ok("rm", name)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {
            info.name.strip("/").removeprefix("./"): (
                info.type, info.mode & 0o7777, info.uid, info.gid, info.size, info.linkname
            )
            for info in tar
            # What each engine puts there by itself.
            if not info.name.strip("/").startswith(("dev", "etc/", "proc", "sys", ".dockerenv"))
            and info.name.strip("./")
        }  # fmt: skip


def identity(command: Command, image: str) -> list[str]:
    form = (
        "{{.Author}} {{.Architecture}} {{json .RootFS.Layers}} {{json .Config.Env}} {{.Config.Cmd}}"
    )
    return command.ok("image", "inspect", "-f", form, image).split()


def same(one: Command, other: Command, image: str) -> None:
    assert identity(one, image) == identity(other, image)
    found = files(one, image)
    assert found == files(other, image)
    assert found["new"] == (tarfile.REGTYPE, 0o4750, 1000, 5, 6, "")
    assert one.ok("history", "-q", image).count("\n") == other.ok("history", "-q", image).count(
        "\n"
    )


def test_archives(cli: Command, docker: Command, base: str, committed: str) -> None:
    ours, theirs = os.path.join(base, "ours.tar"), os.path.join(base, "theirs.tar")
    cli.ok("save", "-o", ours, committed)
    assert docker.ok("load", "-i", ours) == f"Loaded image: {committed}"
    try:
        same(cli, docker, committed)
        docker.ok("save", "-o", theirs, committed)
        cli.ok("rmi", committed)
        assert cli.ok("load", "-i", theirs) == f"Loaded image: {committed}"
        same(cli, docker, committed)
    finally:
        docker.ok("rmi", "-f", committed)


def test_registries(cli: Command, docker: Command, registry: Registry, committed: str) -> None:
    name = f"{registry.host}/{committed}"
    cli.ok("tag", committed, name)
    cli.ok("push", name)
    docker.ok("pull", name)
    try:
        same(cli, docker, name)
        # And back, under another tag: docker packs nothing anew, so it is the same image.
        docker.ok("tag", name, f"{name}-back")
        docker.ok("push", f"{name}-back")
        cli.ok("pull", f"{name}-back")
        same(cli, docker, f"{name}-back")
    finally:
        docker.ok("rmi", "-f", name, f"{name}-back")


def test_an_image_that_docker_imported(
    cli: Command, docker: Command, registry: Registry, base: str
) -> None:
    name = f"{registry.host}/theirs:1"
    options = [word for change in changes("busybox") for word in ("-c", change)]
    docker.ok("import", *options, archive("busybox"), name)
    try:
        docker.ok("push", name)
        assert cli.ok("run", "--rm", "--network", "none", name, "echo", "hello") == "hello"
        assert identity(cli, name) == identity(docker, name)
        # The config is docker's own bytes, so the id is the same.
        form = ("image", "inspect", "-f", "{{.Id}}", name)
        assert cli.ok(*form) == docker.ok(*form)
    finally:
        docker.ok("rmi", "-f", name)
