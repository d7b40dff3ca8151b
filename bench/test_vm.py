"""A container beside a virtual machine: until user space says its first byte, until redis answers
PING, and what one of each takes in memory and on disk.

Both run the same files: see userland.py; vm.py for how the machines are made. A boot takes seconds,
so that there are a few only; for each, the containers are started many times.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import pytest

from bench import peers
from bench.answers import first_byte, first_byte_of, until_pong
from bench.commands import CommandFailed, output
from bench.conftest import House
from bench.memory import pss, tree_bytes
from bench.peers import Docker, Podman
from bench.race import Found, race, ready, report
from bench.userland import REDIS_COMMAND, archive, redis_files, with_parents
from bench.vm import MACHINES, MARK, Machines, overlay
from fastbox.network.types import Publish

VMS = [f"qemu {machine}" for machine in MACHINES]
CONTESTANTS = {
    "test_first_byte": [
        *("bubblewrap", "client", "library", "cli", "crun", "runc", "podman", "docker"),
        *VMS,
    ],
    "test_redis": ["client", "library", "cli", "podman", "docker", *VMS],
}
ECHO = ["/bin/echo", MARK.decode()]
IMAGE = "fastbox-bench-redis"
NAME = "fastbox-bench-redis"
PORT = 16379
BOOTS, BOOTS_QUICK = 7, 1
Contestants = dict[str, Callable[[], float]]


@pytest.fixture(scope="module")
def machines(house: House, missing: dict[str, str]) -> Machines | None:
    """None where there can be no virtual machines; the end says why."""
    found = None
    if "qemu" not in missing:
        directory = os.path.join(house.directory, "machines")
        os.mkdir(directory)
        with ready("qemu"):
            found = Machines(directory)
    return found


@pytest.fixture(scope="module")
def boots(request: pytest.FixtureRequest) -> int:
    return BOOTS_QUICK if request.config.getoption("--quick") else BOOTS


def taking_turns(containers: Contestants, vms: Contestants, boots: int, rounds: int) -> Found:
    """Blocks of one boot of each virtual machine and many starts of each container."""
    found = Found()
    out: set[str] = set()
    for number in range(boots):
        few = max(1, rounds // boots)
        block = race(_without(containers, out), few, warmup=2 if number == 0 else 0)
        block = block | race(_without(vms, out), 1, warmup=0)
        for name, times in block.items():
            before = found.get(name, [])
            if isinstance(times, Exception):
                found[name] = times
                out.add(name)
            elif not isinstance(before, Exception):
                found[name] = [*before, *times]
    return found


def _without(contestants: Contestants, out: set[str]) -> Contestants:
    return {name: work for name, work in contestants.items() if name not in out}


def facts(machines: Machines | None) -> dict[str, object]:
    """What a result says beside the times."""
    if machines is None:
        return {}
    return {
        "accelerator": machines.accelerator.name,
        "not KVM": machines.accelerator.why,
        "kernel": os.path.basename(machines.kernel.image),
    }


# ---- the first byte ----------------------------------------------------------------------------


class Used(NamedTuple):
    """What instances took while they ran: contestant -> KiB of each.

    Attributes:
        idle: ones that do nothing. redis: ones that have just answered.
    """

    idle: dict[str, list[int]]
    redis: dict[str, list[int]]


@pytest.fixture(scope="module")
def used() -> Used:
    return Used({}, {})


def note(values: dict[str, float], what: str, found: dict[str, list[int]]) -> None:
    """Medians, and how many containers' worth a virtual machine is."""
    for name, sizes in found.items():
        values[f"{what}[{name}]"] = sorted(sizes)[len(sizes) // 2]
    ours = values.get(f"{what}[fastbox]")
    theirs = values.get(f"{what}[qemu microvm]")
    if ours and theirs:
        values[f"{what}[qemu microvm] / [fastbox]"] = theirs / ours


def booted(machines: Machines, machine: str, used: Used) -> float:
    with machines.boot(machine) as guest:
        used.idle.setdefault(f"qemu {machine}", []).append(pss(guest.process.pid))
        return guest.first_byte


def spoken(house: House) -> float:
    """Through the library, the command's standard output being a pipe of ours."""
    config = msgspec.structs.replace(house.ephemeral, command=ECHO)

    def work(fd: int) -> None:
        assert house.engine.run_attached(house.engine.create(config).id, stdout=fd) == 0

    return first_byte_of(work)


def speakers(house: House) -> Contestants:
    """A container that says the byte, of each engine."""
    found: Contestants = {"library": lambda: spoken(house)}
    words = ["--rm", "--network", "none"]
    for face in ("client", "cli"):
        if face not in house.missing:
            argv = house.command(face, "run", *words, "busybox", *ECHO)
            found[face] = functools.partial(first_byte, argv, env=environment(house, face))
    for engine in (house.podman, house.docker):
        if engine is not None:
            argv = [*engine.argv, "run", *engine.LIMITS, *words, engine.IMAGE, *ECHO]
            found[engine.NAME] = functools.partial(first_byte, argv)
    return found | bundles(house)


def environment(house: House, face: str) -> dict[str, str] | None:
    return house.cli.env if face == "cli" else None


def bundles(house: House) -> Contestants:
    """crun, runc and bubblewrap, from what is ready made."""
    found: Contestants = {}
    for oci in (house.crun, house.runc):
        if oci is not None:
            spec = copy.deepcopy(oci.spec)
            spec["process"]["args"] = ECHO
            argv = [*oci.argv, "run", "--bundle", oci.make_bundle("echo", spec)]
            found[oci.name] = functools.partial(first_byte, [*argv, f"echo{os.getpid()}"])
    if house.bubblewrap is not None:
        found["bubblewrap"] = functools.partial(bubbled, house.bubblewrap)
    return found


def bubbled(peer: Any) -> float:
    with open(peer.filter, "rb") as file:
        argv = [*peer.argv, "--seccomp", str(file.fileno()), *ECHO]
        return first_byte(argv, pass_fds=[file.fileno()])


@pytest.fixture(scope="module")
def bytes_said(
    house: House, machines: Machines | None, used: Used, boots: int, rounds: int
) -> Found:
    vms: Contestants = {}
    if machines is not None:
        for machine in MACHINES:
            vms[f"qemu {machine}"] = functools.partial(booted, machines, machine, used)
    with house.supervised():
        return taking_turns(speakers(house), vms, boots, rounds)


@pytest.mark.benchmark(group="first byte")
def test_first_byte(
    contestant: str, bytes_said: Found, machines: Machines | None, benchmark: Any
) -> None:
    report(benchmark, bytes_said[contestant], **facts(machines))


# ---- redis -------------------------------------------------------------------------------------


def served_by_vm(machines: Machines, machine: str, used: Used) -> float:
    with machines.boot(machine, redis_port=PORT) as guest:
        until_pong(PORT, alive=lambda: guest.process.poll() is None)
        taken = time.perf_counter() - guest.started
        used.redis.setdefault(f"qemu {machine}", []).append(pss(guest.process.pid))
        return taken


def served_by_library(house: House, used: Used) -> float:
    config = msgspec.structs.replace(
        house.ephemeral,
        image=IMAGE,
        command=REDIS_COMMAND,
        network="bridge",
        publish=[Publish(container=6379, host=PORT, host_ip="127.0.0.1")],
    )
    start = time.perf_counter()
    made = house.engine.create(config)
    try:
        started = house.engine.start(made.id)
        until_pong(PORT, alive=lambda: True)
        taken = time.perf_counter() - start
        taken_up = pss(started.state.pid) + pss(started.state.monitor_pid)
        used.redis.setdefault("fastbox", []).append(taken_up)
        return taken
    finally:
        house.engine.remove(made.id, force=True)


def served_by_command(
    argv: list[str],
    limits: list[str],
    image: str,
    network: str | None = None,
    env: dict[str, str] | None = None,
) -> float:
    """``run -d`` as a whole process, and then until PONG."""
    words = ["run", "-d", *limits, "--name", NAME, "-p", f"127.0.0.1:{PORT}:6379", image]
    with open(os.devnull, "r+b") as null:
        start = time.perf_counter()
        process = subprocess.Popen(
            [*argv, *words, *REDIS_COMMAND],
            stdin=null,
            stdout=null,
            stderr=null,
            env=env,
            start_new_session=True,
        )
    try:
        until_pong(PORT, network=network, alive=lambda: process.poll() in (None, 0))
        taken = time.perf_counter() - start
        if process.wait():
            raise CommandFailed(f"{argv[0]} run: exit status {process.returncode}")
        return taken
    finally:
        process.wait()
        output([*argv, "rm", "-f", NAME], env=env)


@pytest.fixture(scope="module")
def redis_image(house: House) -> Iterator[str]:
    """The image in each engine's store; its archive's path."""
    path = os.path.join(house.directory, "redis.tar")
    archive(path, with_parents(redis_files()))
    house.engine.import_image(path, IMAGE)
    for engine in engines(house):
        with ready(engine.NAME):
            output([*engine.argv, "import", path, IMAGE])
    yield path
    for engine in engines(house):
        with contextlib.suppress(CommandFailed):
            output([*engine.argv, "rmi", "-f", IMAGE])
    os.unlink(path)


def engines(house: House) -> list[Docker | Podman]:
    return [engine for engine in (house.podman, house.docker) if engine is not None]


@pytest.fixture(scope="module")
def pongs(
    house: House,
    machines: Machines | None,
    redis_image: str,
    used: Used,
    boots: int,
    rounds: int,
) -> Found:
    containers: Contestants = {"library": functools.partial(served_by_library, house, used)}
    for face in ("client", "cli"):
        if face not in house.missing:
            env = environment(house, face)
            containers[face] = functools.partial(
                served_by_command, house.command(face), [], IMAGE, env=env
            )
    for engine in engines(house):
        network = peers.docker_network if engine.NAME == "docker" else None
        containers[engine.NAME] = functools.partial(
            served_by_command, engine.argv, engine.LIMITS, IMAGE, network
        )
    vms: Contestants = {}
    if machines is not None and set(MACHINES) <= set(machines.images):
        for machine in MACHINES:
            vms[f"qemu {machine}"] = functools.partial(served_by_vm, machines, machine, used)
    with house.supervised():
        return taking_turns(containers, vms, boots, max(boots, rounds // 3))


@pytest.mark.benchmark(group="redis answers PING")
def test_redis(
    contestant: str,
    pongs: Found,
    used: Used,
    machines: Machines | None,
    values: dict[str, float],
    benchmark: Any,
) -> None:
    report(benchmark, pongs[contestant], **facts(machines))
    note(values, "memory with redis", used.redis)


# ---- one more of them --------------------------------------------------------------------------


@pytest.mark.benchmark(group="instance")
def test_what_an_instance_takes(
    house: House,
    machines: Machines | None,
    bytes_said: Found,
    used: Used,
    values: dict[str, float],
    benchmark: Any,
) -> None:
    """Memory (KiB, shared pages in proportion, its own process included) and disk (KiB) of one
    that idles: a container that sleeps, a virtual machine whose init does,
    and of the files of each."""
    config = msgspec.structs.replace(house.config, command=["sleep", "1000"])
    start = time.perf_counter()
    box = house.engine.start(house.engine.create(config).id)
    taken = time.perf_counter() - start
    values["memory per instance[fastbox]"] = pss(box.state.pid) + pss(box.state.monitor_pid)
    values["disk per instance[fastbox]"] = tree_bytes(box.directory) / 1024
    house.engine.remove(box.id, force=True)
    note(values, "memory per instance", used.idle)
    if machines is not None:
        image = os.stat(machines.images["byte"])
        values["disk per instance[qemu, initramfs]"] = image.st_blocks / 2
        with ready("qemu"):
            values["disk per instance[qemu, overlay]"] = overlay(machines.directory) / 1024
    report(benchmark, [taken], **facts(machines))
