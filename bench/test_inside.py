"""Work inside a container beside the same work on the host: redis-benchmark, and tar of a source
tree from an image and into the writable layer. What differs is the container: its seccomp filter,
cgroup and overlay."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import statistics
import subprocess
import sysconfig
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pytest

from bench import worlds
from bench.answers import until_pong
from bench.conftest import House
from bench.inside import Worker, pinned, requests_per_second
from bench.race import Found, race, report
from bench.userland import REDIS_COMMAND, archive, redis_files, with_parents
from fastbox.container.config import ContainerConfig
from fastbox.engine import Engine
from tests.conftest import remove_networks
from tests.support.images import busybox_binary

CONTESTANTS = {
    "test_redis": ["inside", "host"],
    "test_tar": ["inside", "overlay", "host"],
    "test_untar": ["inside", "overlay", "host"],
}
REDIS_IMAGE, TREE_IMAGE = "inside-redis", "inside-tree"
PORTS = {"inside": 16479, "host": 16480}
REQUESTS, REQUESTS_QUICK = 100_000, 4_000
ROUNDS, ROUNDS_QUICK = 20, 3


@pytest.fixture(scope="module")
def times(quick: bool) -> int:
    return ROUNDS_QUICK if quick else ROUNDS


def compare(values: dict[str, float], what: str, found: Found) -> None:
    """The ratios, and how far the host's own rounds are apart: what noise is."""
    host = found["host"]
    if isinstance(host, Exception):
        return
    middle = statistics.median(host)
    for name, seconds in found.items():
        if name != "host" and not isinstance(seconds, Exception):
            values[f"{what}[{name}] / [host]"] = statistics.median(seconds) / middle
    if len(host) > 1:
        quarters = statistics.quantiles(host, n=4, method="inclusive")
        values[f"{what}[host, IQR / median]"] = (quarters[2] - quarters[0]) / middle


# ---- redis ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def redis_inside(house: House) -> Iterator[int]:
    """Its pid; in the host's network namespace, so that both are reached over one loopback."""
    path = os.path.join(house.directory, "inside-redis.tar")
    archive(path, with_parents(redis_files()))
    house.engine.import_image(path, REDIS_IMAGE)
    os.unlink(path)
    config = msgspec.structs.replace(
        house.config,
        image=REDIS_IMAGE,
        network="host",
        command=[*REDIS_COMMAND, "--port", str(PORTS["inside"])],
    )
    made = house.engine.create(config)
    try:
        yield house.engine.start(made.id).state.pid
    finally:
        house.engine.remove(made.id, force=True)


@contextlib.contextmanager
def redis_on_host(house: House) -> Iterator[int]:
    argv = [*REDIS_COMMAND, "--port", str(PORTS["host"])]
    null = subprocess.DEVNULL
    with subprocess.Popen(argv, stdin=null, stdout=null, cwd=house.directory) as process:
        try:
            yield process.pid
        finally:
            process.kill()


@pytest.fixture(scope="module")
def served(
    house: House, quick: bool, times: int, missing: dict[str, str], values: dict[str, float]
) -> Found:
    """Seconds of a request, the mean of SET and GET; the servers on the first processor that we
    may use, their client on the last."""
    if "redis-benchmark" in missing:
        pytest.skip(f"redis-benchmark: {missing['redis-benchmark']}")
    processors = sorted(os.sched_getaffinity(0))
    requests = REQUESTS_QUICK if quick else REQUESTS
    with contextlib.ExitStack() as stack:
        pids = {
            "inside": stack.enter_context(redis_inside(house)),
            "host": stack.enter_context(redis_on_host(house)),
        }
        for name, pid in pids.items():
            until_pong(PORTS[name], alive=lambda: True)
            stack.enter_context(pinned(pid, processors[0]))

        def once(name: str) -> float:
            found = requests_per_second(PORTS[name], processors[-1], requests)
            return sum(1 / rate for rate in found.values()) / len(found)

        turns = {name: functools.partial(once, name) for name in pids}
        found = race(turns, times, warmup=1)
    compare(values, "redis-benchmark", found)
    return found


@pytest.mark.benchmark(group="redis-benchmark")
def test_redis(contestant: str, served: Found, benchmark: Any) -> None:
    """Seconds of a request."""
    report(benchmark, served[contestant])


# ---- files ---------------------------------------------------------------------------------------


class Tree(NamedTuple):
    """An image with the standard library of this Python, in a store on a disk of its own.

    Attributes:
        disk: where the disk is mounted. layer: directory of the image's only layer: the host reads
            the very same files. overlay: the same through a plain overlay mount, without a
            container. argv: fastbox's command with that store.
    """

    disk: str
    layer: str
    overlay: str
    argv: list[str]


@pytest.fixture(scope="module")
def tree(house: House) -> Iterator[Tree]:
    with contextlib.ExitStack() as stack:
        # ext4 makes files slowly where many were removed a moment ago; a new one has no past.
        disk = stack.enter_context(worlds.Disk(house.directory))
        source = os.path.join(disk, "source")
        make_tree(source)
        engine = Engine(f"{disk}/root", f"{disk}/run")
        stack.callback(remove_networks, f"{disk}/root")
        engine.import_image(f"{source}.tar", TREE_IMAGE)
        shutil.rmtree(source)
        os.unlink(f"{source}.tar")
        made = engine.create(ContainerConfig(image=TREE_IMAGE, command=["/bin/sh"]))
        (name,) = made.record.layers
        engine.remove(made.id)
        layer = f"{disk}/root/layers/{name}"
        for directory in ("upper", "work", "overlay"):
            os.mkdir(f"{disk}/{directory}")
        options = f"lowerdir={layer},upperdir={disk}/upper,workdir={disk}/work"
        worlds.mount("overlay", f"{disk}/overlay", "overlay", 0, options)
        stack.callback(worlds.unmount, f"{disk}/overlay")
        argv = [house.cli.argv[0], "--root", f"{disk}/root", "--runtime-dir", f"{disk}/run"]
        yield Tree(disk, layer, f"{disk}/overlay", argv)


def make_tree(place: str) -> None:
    """What becomes the image: busybox, the source files, and an archive of them."""
    os.makedirs(f"{place}/bin")
    shutil.copy(busybox_binary(), f"{place}/bin/busybox")
    os.symlink("busybox", f"{place}/bin/sh")
    left_out = shutil.ignore_patterns("*-packages", "__pycache__", "config-*", "test", "tests")
    source = sysconfig.get_path("stdlib")
    shutil.copytree(source, f"{place}/tree", symlinks=True, ignore=left_out)
    subprocess.run(["tar", "-cf", f"{place}/tree.tar", "-C", f"{place}/tree", "."], check=True)
    subprocess.run(["tar", "-cf", f"{place}.tar", "-C", place, "."], check=True)


def worked(tree: Tree, env: dict[str, str], job: str, times: int) -> Found:
    """The job in a container, on the host, and on the host through an overlay.

    Args:
        job: a shell command with ``{root}`` for where the files are and ``{scratch}`` for a place
            to write to.
    """
    scratch = f"{tree.disk}/scratch"
    os.mkdir(scratch)
    inside = ["run", "-i", "--rm", "--network", "none", TREE_IMAGE, "/bin/busybox", "sh", "-c"]
    on_host = [busybox_binary(), "sh", "-c"]
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, scratch)
        trio = {
            "inside": Worker([*tree.argv, *inside], filled(job, "", "/scratch"), env),
            "host": Worker(on_host, filled(job, tree.layer, scratch)),
            "overlay": Worker(on_host, filled(job, tree.overlay, f"{tree.overlay}/scratch")),
        }
        for worker in trio.values():
            stack.callback(worker.close)
        return race({name: worker.run for name, worker in trio.items()}, times, warmup=2)


def filled(job: str, root: str, scratch: str) -> str:
    words = {"{busybox}": f"{root}/bin/busybox", "{root}": root, "{scratch}": scratch}
    for name, word in words.items():
        job = job.replace(name, word)
    return job


@pytest.fixture(scope="module")
def packed(house: House, tree: Tree, times: int, values: dict[str, float]) -> Found:
    job = "{busybox} tar -cf /dev/null -C {root}/tree ."
    found = worked(tree, house.cli.env, job, times)
    compare(values, "tar", found)
    return found


@pytest.fixture(scope="module")
def unpacked(house: House, tree: Tree, times: int, values: dict[str, float]) -> Found:
    job = "n=$((n + 1)) && {busybox} mkdir -p {scratch}/$n && "
    job += "{busybox} tar -xf {root}/tree.tar -C {scratch}/$n"
    found = worked(tree, house.cli.env, job, max(2, times // 2))
    compare(values, "untar", found)
    return found


@pytest.mark.benchmark(group="tar of a source tree")
def test_tar(contestant: str, packed: Found, benchmark: Any) -> None:
    """All files of the image are read."""
    report(benchmark, packed[contestant])


@pytest.mark.benchmark(group="untar of a source tree")
def test_untar(contestant: str, unpacked: Found, benchmark: Any) -> None:
    """They are written to the container's layer."""
    report(benchmark, unpacked[contestant])
