"""Images between a registry and this machine: whole commands of fastbox, docker, podman and skopeo,
each with an empty store on an empty disk of its own in every round."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

from bench.layered import layered
from bench.race import Times, race, report
from bench.worlds import Daemon, Disk
from tests.support.command import fastbox_program
from tests.support.registry import Registry

# Two things are "skopeo": the copy of blobs that needs no unpacking, and what docker and podman do.
CONTESTANTS = ["fastbox", "docker", "podman", "skopeo to storage", "skopeo to oci"]
Engine: TypeAlias = "Callable[[str], contextlib.AbstractContextManager[list[str]]]"


@contextlib.contextmanager
def fastbox(place: str) -> Iterator[list[str]]:
    yield [fastbox_program(), "--root", f"{place}/root", "--runtime-dir", f"{place}/run"]


@contextlib.contextmanager
def docker(place: str) -> Iterator[list[str]]:
    with contextlib.closing(Daemon(place, isolated=False)):
        yield ["docker"]


@contextlib.contextmanager
def podman(place: str) -> Iterator[list[str]]:
    where = ["--root", f"{place}/root", "--runroot", f"{place}/run"]
    yield ["podman", *where, "--storage-driver", "overlay"]


def run(argv: list[str]) -> float:
    """Seconds of a command.

    Raises:
        RuntimeError: it failed.
    """
    start = time.perf_counter()
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    taken = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return taken


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    """Where disks and registries are."""
    # A short path: there are sockets in it (108 bytes), and podman wants no more than 50.
    with tempfile.TemporaryDirectory(prefix="fb-", dir="/var/tmp") as path:
        yield path


@pytest.fixture(scope="module")
def image(place: str) -> Iterator[str]:
    """The reference of the layered image in a registry."""
    os.mkdir(f"{place}/registry")
    registry = Registry(f"{place}/registry")
    try:
        layered().push(registry, "bench/layered")
        yield f"{registry.host}/bench/layered"
    finally:
        registry.stop()


def pulls(engine: Engine, place: str, *words: str) -> Callable[[], float]:
    """A contestant that pulls into an empty store."""

    def once() -> float:
        with Disk(place) as disk, engine(disk) as command:
            return run([*command, "pull", "-q", *words])

    return once


def copies(place: str, image: str, target: str) -> Callable[[], float]:
    """A contestant: skopeo; ``{disk}`` in the target is the empty disk."""

    def once() -> float:
        with Disk(place) as disk:
            where = target.format(disk=disk)
            options = ["--quiet", "--insecure-policy", "--src-tls-verify=false"]
            return run(["skopeo", "copy", *options, f"docker://{image}", where])

    return once


@pytest.fixture(scope="module")
def pulled(place: str, image: str, missing: dict[str, str], rounds: int) -> dict[str, Times]:
    storage = "containers-storage:[overlay@{disk}/root+{disk}/run]x:latest"
    contestants = {
        "fastbox": pulls(fastbox, place, image),
        "docker": pulls(docker, place, image),
        "podman": pulls(podman, place, "--tls-verify=false", image),
        "skopeo to storage": copies(place, image, storage),
        "skopeo to oci": copies(place, image, "oci:{disk}/oci:x"),
    }
    present = {n: work for n, work in contestants.items() if n.split()[0] not in missing}
    return race(present, max(3, rounds // 8), warmup=1)


@pytest.mark.benchmark(group="pull")
def test_pull(contestant: str, pulled: dict[str, Times], benchmark: Any) -> None:
    """An image of 500 MB in five layers, from a registry on this machine."""
    report(benchmark, pulled[contestant], bytes=layered().unpacked)
