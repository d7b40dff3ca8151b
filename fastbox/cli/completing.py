"""What may stand at the end of a command line: commands, flags, names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import click

from ..container.record import Status
from ..errors import FastboxError
from ..oci import reference
from .command import TOP_FLAGS, App, CommandGroup, FlagCommand, Program
from .flags import Flag

# Commands for which only some containers make sense.
_RUNNING = frozenset(("attach", "exec", "kill", "pause", "stop", "top", "unpause"))
_VALUES = {
    "pull": ("always", "missing", "never"),
    "restart": ("no", "always", "on-failure", "unless-stopped"),
}


def candidates(app: App, words: list[str]) -> list[str]:
    """What the last word (perhaps empty) can become.

    Args:
        app: takes over ``--root`` and ``--runtime-dir`` of the line.
        words: the line without the program's name.
    """
    line = _Line()
    for word in words[:-1]:
        line.read(word)
    app.root = line.values.get("root") or app.root
    app.runtime_dir = line.values.get("runtime_dir") or app.runtime_dir
    last = words[-1] if words else ""
    try:
        return sorted({found for found in line.what(app, last) if found.startswith(last)})
    except FastboxError:  # a store that cannot be read has no names
        return []


class _Line:
    """How far a command line has been read."""

    def __init__(self) -> None:
        self.command: click.Command | None = Program()
        self.flags: tuple[Flag, ...] = TOP_FLAGS
        self.arguments: list[str] = []
        self.values: dict[str, str] = {}
        self._waiting: Flag | None = None
        self._no_more_flags = False

    def read(self, word: str) -> None:
        if self._waiting is not None:
            self.values[self._waiting.name or ""] = word
            self._waiting = None
        elif self._may_be_flag(word):
            self._read_flag(word)
        elif isinstance(self.command, CommandGroup):
            self._enter(self.command, word)
        else:
            self.arguments.append(word)

    def what(self, app: App, last: str) -> Iterator[str]:
        name, equals, _ = last.partition("=")
        if self._waiting is not None:
            yield from _values(app, self._waiting)
        elif self._may_be_flag(last):
            for flag in self.flags:
                if equals and flag.long == name:
                    yield from (f"{name}={value}" for value in _values(app, flag))
                elif not equals and not flag.hidden:
                    yield flag.long
            if not equals and self.command is not None:
                yield "--help"
        elif isinstance(self.command, CommandGroup):
            # A context is asked for, and not used.
            yield from self.command.list_commands(click.Context(self.command))
        elif isinstance(self.command, FlagCommand):
            yield from _arguments(app, self.command, self.arguments)

    def _may_be_flag(self, word: str) -> bool:
        command = self.command
        over = isinstance(command, FlagCommand) and not command.interspersed and self.arguments
        return word.startswith("-") and not over and not self._no_more_flags

    def _read_flag(self, word: str) -> None:
        name, equals, value = word.partition("=")
        if word == "--":
            self._no_more_flags = True
        for flag in self.flags:
            # Of several letters the last may want a value: -it --name, -dp 80.
            short = not name.startswith("--") and flag.short and name.endswith(flag.short)
            if flag.long == name or short:
                if equals:
                    self.values[flag.name or ""] = value
                elif flag.kind.bare is None:
                    self._waiting = flag

    def _enter(self, group: CommandGroup, word: str) -> None:
        self.command = group.get_command(click.Context(group), word)
        self.flags = self.command.flags if isinstance(self.command, FlagCommand) else ()  # type: ignore[assignment]


def _values(app: App, flag: Flag) -> Iterator[str]:
    if flag.name == "network":
        yield from _networks(app)
    yield from _VALUES.get(flag.name or "", ())


def _arguments(app: App, command: FlagCommand, before: list[str]) -> Iterator[str]:
    """Names for the argument that the usage line has at this place."""
    module = command.entry.module
    if module == "cp":
        yield from (f"{name}:" for name in _containers(app, module))
        return
    places = command.usage.replace("[", "").replace("]", "").split()
    if not places or (len(before) >= len(places) and not places[-1].endswith("...")):
        return
    place = places[min(len(before), len(places) - 1)].removesuffix("...")
    names = _KINDS.get(place.partition(":")[0])
    if names is not None:
        yield from (name for name in names(app, module) if name not in before)


def _containers(app: App, module: str = "") -> Iterator[str]:
    for box in app.engine.containers(all=module not in _RUNNING):
        if module != "start" or box.state.status is not Status.RUNNING:
            yield box.name


def _images(app: App, module: str = "") -> Iterator[str]:
    for image in app.engine.images():
        for name in image.names:
            familiar = reference.parse(name).familiar
            yield familiar
            yield familiar.removesuffix(":latest")


def _networks(app: App, module: str = "") -> Iterator[str]:
    yield from (network.name for network in app.engine.networks())


def _volumes(app: App, module: str = "") -> Iterator[str]:
    yield from (volume.name for volume in app.engine.volumes())


def _objects(app: App, module: str = "") -> Iterator[str]:
    yield from _containers(app)
    yield from _images(app)


# First word of a place in a usage line -> what can stand there.
_KINDS: dict[str, Callable[[Any, str], Iterator[str]]] = {
    "CONTAINER": _containers,
    "IMAGE": _images,
    "SOURCE_IMAGE": _images,
    "REPOSITORY": _images,
    "NAME": _images,
    "NAME|ID": _objects,
    "NETWORK": _networks,
    "VOLUME": _volumes,
}
