"""fastbox, docker and podman as commands, with stores of the bench's own that hold an image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeAlias

from bench.commands import seconds
from bench.race import CALL, ready
from bench.worlds import Daemon, Disk
from tests.support.command import fastbox_program

# A directory -> the words of a command whose store is there.
Engine: TypeAlias = "Callable[[str], contextlib.AbstractContextManager[list[str]]]"


@contextlib.contextmanager
def fastbox(place: str) -> Iterator[list[str]]:
    yield [fastbox_program(), "--root", f"{place}/root", "--runtime-dir", f"{place}/run"]


@contextlib.contextmanager
def docker(place: str) -> Iterator[list[str]]:
    with contextlib.closing(Daemon(place, isolated=False)) as daemon:
        yield ["docker", "--host", daemon.address]


@contextlib.contextmanager
def podman(place: str) -> Iterator[list[str]]:
    where = ["--root", f"{place}/root", "--runroot", f"{place}/run"]
    yield ["podman", *where, "--storage-driver", "overlay"]


ENGINES: dict[str, Engine] = {"fastbox": fastbox, "docker": docker, "podman": podman}


def run(argv: list[str]) -> float:
    """Seconds of a command.

    Raises:
        CommandFailed: it failed.
    """
    return seconds(argv, timeout=CALL)


def transfer(command: list[str], verb: str, image: str) -> float:
    """Seconds of a pull or push; the registry speaks no TLS, which only podman wants to be told."""
    options = ["--tls-verify=false"] if command[0] == "podman" else []
    return run([*command, verb, "--quiet", *options, image])


@contextlib.contextmanager
def stocked(place: str, image: str, missing: dict[str, str]) -> Iterator[dict[str, list[str]]]:
    """Every engine that is here, with the image pulled, on a disk of its own: name -> command."""
    with contextlib.ExitStack() as stack:
        commands = {}
        for name in ENGINES:
            if name not in missing:
                with contextlib.nullcontext() if name == "fastbox" else ready(name):
                    disk = stack.enter_context(Disk(place))
                    command = stack.enter_context(ENGINES[name](disk))
                    transfer(command, "pull", image)
                    commands[name] = command
        yield commands
