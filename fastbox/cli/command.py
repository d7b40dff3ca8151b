"""Commands and groups of commands on top of click, with Docker's grammar and usage errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from . import commands, help, output
from .errors import ArgumentCount, Finished, UnknownCommand
from .flags import Flag, Parser, Switch, Text, Values

PROGRAM = "fastbox"


class App:
    """What a command works with: the engine, made when it is first used, and global options.

    Args:
        engine: instead of one over ``--root`` and ``--runtime-dir``.
        engines: makes, or knows, an engine for the two.

    Attributes:
        wraps: name of the command that runs, if it is one that wraps its errors.
        spelling: how the command was typed (``images``, ``image ls``).
        began: ``time.monotonic_ns()`` of this object's making, for a trace.
    """

    def __init__(self, engine: Any = None, engines: Callable[..., Any] | None = None) -> None:
        self.root: str | None = None
        self.runtime_dir: str | None = None
        self.debug = False
        self.wraps = ""
        self.spelling = ""
        self.began = time.monotonic_ns()
        self._engine = engine
        self._engines = engines

    @property
    def engine(self) -> Any:
        """The Engine.

        Raises:
            FastboxError: the store cannot be used.
        """
        if self._engine is None:
            from ..engine import Engine

            make = self._engines or Engine
            self._engine = make(self.root, self.runtime_dir)
            self._engine.warn = lambda text: output.error(f"WARNING: {text}")
        return self._engine


# Docker takes its global options only before the command; a store is named more often.
STORE_FLAGS = (
    Flag("--root", Text(), "Where images, containers and volumes are kept", hidden=True),
    Flag("--runtime-dir", Text(), "Where the state of running containers is kept", hidden=True),
)


class FlagCommand(click.Command):
    """A command that does something.

    Args:
        module: key of the table in ``commands``.
        run: called with (app, flag values, arguments); returns the exit status.
        usage: what follows the command's name in the usage line, without ``[OPTIONS]``.
        flags: its flags.
        least, most: how many arguments there may be, None = any number.
        interspersed: whether flags may follow arguments.
        wraps: errors are printed with ``fastbox: `` before and a pointer to ``--help`` behind
            (all of them of ``run``, those about options of ``create``).
    """

    def __init__(
        self,
        module: str,
        run: Callable[[App, Values, list[str]], int],
        usage: str = "",
        flags: Sequence[Flag] = (),
        *,
        least: int = 0,
        most: int | None = None,
        interspersed: bool = True,
        wraps: bool = False,
    ) -> None:
        entry = commands.BY_MODULE[module]
        super().__init__(
            entry.spellings[-1],
            params=[*flags, *STORE_FLAGS],
            help=entry.summary,
            add_help_option=False,
            hidden=entry.hidden,
        )
        self.entry = entry
        self.flags = flags
        self.run = run
        self.usage = usage
        self.least = least
        self.most = most
        self.interspersed = interspersed
        self.wraps = wraps

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        parser = Parser(
            ctx, [*self.flags, *STORE_FLAGS], interspersed=self.interspersed, notice=output.error
        )
        app: App = ctx.obj
        app.wraps = self.entry.module if self.wraps else ""
        app.spelling = ctx.command_path.partition(" ")[2]
        values, ctx.args = parser.parse(args)
        app.root = values.root if "root" in values.given else app.root
        app.runtime_dir = values.runtime_dir if "runtime_dir" in values.given else app.runtime_dir
        problem = self._count_problem(len(ctx.args))
        if problem:
            raise ArgumentCount(f"'{ctx.command_path}' {problem}", ctx)
        ctx.params = {"values": values}
        return ctx.args

    def _count_problem(self, count: int) -> str:
        least, most = self.least, self.most
        if (most is not None and count > most) or count < least:
            if most == 0:
                return "accepts no arguments"
            if least == most:
                return f"requires {least} argument{'s' if least != 1 else ''}"
            if least and most is not None:
                return f"requires at least {least} and at most {most} arguments"
            if count < least:
                return f"requires at least {least} argument{'s' if least != 1 else ''}"
            return f"requires at most {most} argument{'s' if most != 1 else ''}"
        return ""

    def invoke(self, ctx: click.Context) -> int:
        return self.run(ctx.obj, ctx.params["values"], ctx.args)

    def get_usage(self, ctx: click.Context) -> str:
        words = [ctx.command_path]
        if any(not flag.hidden for flag in self.flags):
            words.append("[OPTIONS]")
        if self.usage:
            words.append(self.usage)
        return " ".join(words)

    def get_help(self, ctx: click.Context) -> str:
        spellings = [f"{PROGRAM} {spelling}" for spelling in self.entry.spellings]
        return help.command_help(
            self.get_usage(ctx),
            self.entry.summary,
            spellings if len(spellings) > 1 else (),
            [flag for flag in self.flags if not flag.hidden],
            output.width(),
        )


class CommandGroup(click.Group):
    """``fastbox volume``, ``fastbox container`` …: a command is imported when it is asked for."""

    def __init__(self, name: str, summary: str) -> None:
        super().__init__(name, help=summary, add_help_option=False, invoke_without_command=True)
        self.prefix = f"{name} "

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = commands.BY_SPELLING.get(self.prefix + cmd_name)
        return commands.load(entry) if entry else None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, _ in commands.listing(self.prefix.strip())]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        parser = Parser(ctx, STORE_FLAGS, interspersed=False, notice=output.error)
        values, ctx.args = parser.parse(args)
        app: App = ctx.obj
        app.root = values.root or app.root
        app.runtime_dir = values.runtime_dir or app.runtime_dir
        return ctx.args

    def invoke(self, ctx: click.Context) -> int:
        if not ctx.args:
            output.write(self.get_help(ctx) + "\n")
            raise Finished(0)
        name, *rest = ctx.args
        command = self.get_command(ctx, name)
        if command is None:
            raise UnknownCommand(f"unknown command: {ctx.command_path} {name}", ctx)
        if isinstance(command, FlagCommand):
            name = command.entry.name_in(self.prefix.strip())
        with command.make_context(name, rest, parent=ctx) as child:
            status: int = command.invoke(child)
            return status

    def get_usage(self, ctx: click.Context) -> str:
        return f"{ctx.command_path} COMMAND"

    def get_help(self, ctx: click.Context) -> str:
        rows = [(name, entry.summary) for name, entry in commands.listing(self.prefix.strip())]
        return (
            f"Usage:  {self.get_usage(ctx)}\n\n{self.help}\n\n"
            f"Commands:\n{help.command_table(rows)}\n\n"
            f"Run '{ctx.command_path} COMMAND --help' for more information on a command."
        )


TOP_FLAGS = (
    Flag("-D --debug", Switch(), "Show where an error was raised"),
    Flag(
        "--root",
        Text(),
        "Where images, containers and volumes are kept (overrides FASTBOX_ROOT)",
        default="/var/lib/fastbox",
    ),
    Flag(
        "--runtime-dir",
        Text(),
        "Where the state of running containers is kept (overrides FASTBOX_RUNTIME_DIR)",
        default="/run/fastbox",
    ),
    Flag("-v --version", Switch(), "Print version information and quit"),
)


class Program(CommandGroup):
    """``fastbox`` itself."""

    def __init__(self) -> None:
        super().__init__(PROGRAM, "Containers without a daemon")
        self.prefix = ""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in commands.GROUPS:
            return CommandGroup(cmd_name, commands.GROUPS[cmd_name])
        # "container ls" as one word is no spelling.
        return None if " " in cmd_name else super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*commands.GROUPS, *super().list_commands(ctx)])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        parser = Parser(ctx, TOP_FLAGS, interspersed=False, notice=output.error)
        values, ctx.args = parser.parse(args)
        app: App = ctx.obj
        app.debug = values.debug
        app.root = values.root if "root" in values.given else None
        app.runtime_dir = values.runtime_dir if "runtime_dir" in values.given else None
        if values.version:
            from .version import version_line

            output.line(version_line())
            raise Finished(0)
        return ctx.args

    def invoke(self, ctx: click.Context) -> int:
        if not ctx.args:
            output.write_error(self.get_help(ctx) + "\n")
            raise Finished(0)
        if ctx.args[0] == "help":
            return self._help_command(ctx)
        return super().invoke(ctx)

    def _help_command(self, ctx: click.Context) -> int:
        context, words = ctx, ctx.args[1:]
        for word in words:
            group = context.command
            command = group.get_command(context, word) if isinstance(group, click.Group) else None
            if command is None:
                from .errors import CliError

                raise CliError(f"unknown help topic: {' '.join(words)}")
            if isinstance(command, FlagCommand) and isinstance(group, CommandGroup):
                word = command.entry.name_in(group.prefix.strip())  # noqa: PLW2901
            context = click.Context(command, info_name=word, parent=context)
        output.write(context.command.get_help(context) + "\n")
        return 0

    def get_usage(self, ctx: click.Context) -> str:
        return f"{PROGRAM} [OPTIONS] COMMAND"

    def get_help(self, ctx: click.Context) -> str:
        top = commands.listing("")
        common = [
            (entry.spellings[-1], entry.summary) for entry in commands.ENTRIES if entry.common
        ]
        other = [(name, entry.summary) for name, entry in top if not entry.common]
        column = max(len(name) for name, _ in (*common, *other, *commands.GROUPS.items()))
        sections = [
            f"Usage:  {self.get_usage(ctx)}\n\n{self.help}",
            "Common Commands:\n" + help.command_table(common, column),
            "Management Commands:\n" + help.command_table([*commands.GROUPS.items()], column),
            "Commands:\n" + help.command_table(other, column),
            "Global Options:\n" + help.flag_table(TOP_FLAGS, output.width()),
            f"Run '{PROGRAM} COMMAND --help' for more information on a command.",
        ]
        return "\n\n".join(sections)
