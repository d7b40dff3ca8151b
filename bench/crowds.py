"""Many at once: how many starts per second, and fleets of containers that do nothing."""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bench.commands import CommandFailed, output
from bench.memory import keepers, pss
from bench.peers import HERE, Docker, Floor, Podman, compile_c

if TYPE_CHECKING:
    from bench.bundles import Oci
    from bench.house import House

FILES = ("hosts", "hostname", "resolv.conf")  # that the floor binds

# What a container of a fleet does: it writes a little, for `logs`, and idles.
IDLE = ["/bin/sh", "-c", "seq 20; exec sleep 100000"]


# ---- starts per second ---------------------------------------------------------------------------


class Rate(NamedTuple):
    """So many in so many seconds."""

    count: int
    seconds: float


def rate_of_command(
    argv: Sequence[str], at_once: int, window: float, env: Mapping[str, str] | None = None
) -> Rate:
    """Run copies of a command for ``window`` seconds, see many.c.

    Raises:
        CommandFailed: one of them failed.
    """
    program = compile_c(os.path.join(HERE, "many.c"), "many")
    words = [program, "-j", str(at_once), "-t", str(int(window * 1000)), *argv]
    count, nanoseconds = output(words, env=env).split()
    return Rate(int(count), int(nanoseconds) / 1e9)


def rate_of_call(call: Callable[[], object], at_once: int, window: float) -> Rate:
    """The same of a function, in so many threads.

    Raises:
        Exception: what the first failing call raised.
    """
    counts = [0] * at_once
    failed: list[Exception] = []
    start = time.perf_counter()

    def work(number: int) -> None:
        try:
            while not failed:
                call()
                counts[number] += 1
                if time.perf_counter() - start >= window:
                    return
        except Exception as e:
            failed.append(e)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return Rate(sum(counts), time.perf_counter() - start)


def floors_for(floor: Floor, at_once: int) -> list[str]:
    """A command line for rate_of_command: each slot has a working directory of its own."""
    for slot in range(at_once):
        place = os.path.join(floor.work, f"slot{slot}")
        os.makedirs(place, exist_ok=True)
        for name in FILES:
            shutil.copy(os.path.join(floor.work, name), place)
    slots = os.path.join(floor.work, "slot{s}")
    return [slots if word == floor.work else word for word in floor.argv]


def bundles_for(oci: Oci, at_once: int) -> list[str]:
    """A command line for rate_of_command: each slot has a bundle, hence a cgroup, of its own."""
    for slot in range(at_once):
        if not os.path.isdir(os.path.join(oci.work, f"slot{slot}")):
            spec = copy.deepcopy(oci.spec)
            spec["linux"]["cgroupsPath"] += f"-slot{slot}"
            oci.make_bundle(f"slot{slot}", spec)
    bundle = os.path.join(oci.work, "slot{s}")
    return [*oci.argv, "run", "--bundle", bundle, f"many{os.getpid()}-{{}}"]


# ---- fleets --------------------------------------------------------------------------------------


class Fleet:
    """fastbox's containers that do nothing.

    Attributes:
        ids: of those that run.
    """

    def __init__(self, house: House) -> None:
        self.house = house
        self.ids: list[str] = []
        self.config = msgspec.structs.replace(house.config, command=IDLE, stop_timeout=0)

    def grow(self, size: int) -> None:
        """Start more, until there are so many."""
        while len(self.ids) < size:
            made = self.house.engine.create(self.config)
            self.ids.append(made.id)
            self.house.engine.start(made.id)

    def memory(self) -> float:
        """KiB for each, of what fastbox keeps running: its monitor, and whatever else names it."""
        monitors = {self.house.engine.container(name).state.monitor_pid for name in self.ids}
        return sum(map(pss, monitors | keepers(self.ids))) / len(self.ids)

    def remove(self) -> None:
        """End and remove all of them."""
        for name in self.ids:
            self.house.engine.remove(name, force=True)
        self.ids = []

    def close(self) -> None:
        """The same, of those that something else has not removed already."""
        from fastbox.errors import NotFound

        for name in self.ids:
            with contextlib.suppress(NotFound):
                self.house.engine.remove(name, force=True)
        self.ids = []


class PeerFleet:
    """The same of docker or podman."""

    def __init__(self, engine: Docker | Podman) -> None:
        self.engine = engine
        self.ids: list[str] = []

    def grow(self, size: int) -> None:
        words = ["run", "-d", *self.engine.LIMITS, "--network", "none", self.engine.IMAGE, *IDLE]
        while len(self.ids) < size:
            self.ids.append(output([*self.engine.argv, *words]))

    def memory(self) -> float:
        """KiB for each, of conmon or containerd's shim."""
        found = keepers(self.ids)
        if not found:
            raise CommandFailed(f"{self.engine.NAME}: no process names its containers")
        return sum(map(pss, found)) / len(self.ids)

    def removal(self) -> list[str]:
        """The command that removes all of them."""
        # docker's -f kills at once; podman's stops, and its -t 0 kills.
        now = ["-t", "0"] if self.engine.NAME == "podman" else []
        return [*self.engine.argv, "rm", "-f", *now, *self.ids]

    def close(self) -> None:
        if self.ids:
            with contextlib.suppress(CommandFailed):
                output(self.removal())
        self.ids = []
