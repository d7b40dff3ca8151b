"""Flags: what they are called, what values they take, and the grammar in which they are typed.

The grammar is that of Docker (Go's pflag): ``--name value``, ``--name=value``, ``-abc``,
``-nvalue``, ``-n=value``, switches that take ``=true`` or ``=false``; ``--`` ends the
flags. No abbreviations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from . import gotext
from .errors import Finished, FlagError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Kind(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """What a flag's value is.

    Attributes:
        name: stands for the value in ``--help`` (empty: a switch).
        bare: what ``--flag`` without a value means, None = a value is needed.
        many: values add up to a list.
    """

    name = "string"
    bare: str | None = None
    many = False

    def parse(self, text: str) -> Any:
        """The value of one use of the flag.

        Raises:
            ValueError: with the text that the user is to see.
        """
        return text

    def add(self, old: Any, text: str) -> Any:
        """The flag's value after one more use; the last counts, unless values add up."""
        value = self.parse(text)
        return [*(old or ()), value] if self.many else value

    def convert(self, value: Any, param: Any = None, ctx: Any = None) -> Any:
        """What click calls where it handles values itself (defaults, completion)."""
        return self.parse(value) if isinstance(value, str) else value

    def default_text(self, default: Any) -> str:
        """The default as ``--help`` shows it, empty = not worth showing."""
        return str(default) if default else ""


class Text(Kind):
    """Any text."""

    def default_text(self, default: Any) -> str:
        return gotext.quote(default) if default else ""


class Switch(Kind):
    """On or off."""

    name = ""
    bare = "true"

    def parse(self, text: str) -> bool:
        return gotext.parse_bool(text)

    def default_text(self, default: Any) -> str:
        return "true" if default is True else ""


class Integer(Kind):
    """A whole number of 64 bits."""

    name = "int"

    def parse(self, text: str) -> int:
        return gotext.parse_int(text)


class Texts(Kind):
    """A list; ``check`` may change or refuse a value (ValueError)."""

    name = "list"
    many = True

    def __init__(self, check: Callable[[str], Any] | None = None, name: str = "list") -> None:
        self.check = check
        self.name = name

    def parse(self, text: str) -> Any:
        return self.check(text) if self.check else text


class Mapping(Kind):
    """``KEY=VALUE``, several; a later value of a key replaces the earlier one."""

    name = "map"

    def __init__(self, check: Callable[[str], Any] | None = None) -> None:
        self.check = check

    def add(self, old: Any, text: str) -> dict[str, str]:
        if self.check:
            self.check(text)
        key, _, value = text.partition("=")
        return {**(old or {}), key: value}


class Checked(Kind):
    """One value, read by a function that raises ValueError."""

    def __init__(self, read: Callable[[str], Any], name: str) -> None:
        self.read = read
        self.name = name

    def parse(self, text: str) -> Any:
        return self.read(text)


class Filters(Kind):
    """``KEY=VALUE`` of ``--filter``: a dict of lists."""

    name = "filter"

    def add(self, old: Any, text: str) -> dict[str, list[str]]:
        result: dict[str, list[str]] = old if old is not None else {}
        if not text:
            return result
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError("bad format of filter (expected name=value)")
        values = result.setdefault(key.strip().lower(), [])
        if value.strip() not in values:
            values.append(value.strip())
        return result


class Flag(click.Option):
    """One flag.

    Args:
        names: ``"--memory"`` or ``"-m --memory"``.
        kind: of its value.
        help: text of ``--help``; newlines are kept.
        default: value when it is not given.
        hidden: not in ``--help``.
        deprecated: what to say (after ``Flag --x has been deprecated, ``) when it is used.
        dest: name of the value, if it is not the flag's.
    """

    def __init__(
        self,
        names: str,
        kind: Kind,
        help: str = "",
        *,
        default: Any = None,
        hidden: bool = False,
        deprecated: str = "",
        dest: str = "",
    ) -> None:
        words = names.split(" ")
        self.long = words[-1]
        self.short = words[0][1:] if len(words) > 1 else ""
        dest = dest or self.long[2:].replace("-", "_")
        if default is None and isinstance(kind, Switch):
            default = False
        super().__init__(
            [dest, *words], type=kind, help=help, hidden=hidden, expose_value=True, default=default
        )
        self.kind = kind
        self.given_default = default
        self.advice = deprecated

    @property
    def label(self) -> str:
        """``-m, --memory``: the flag as errors name it."""
        return f"-{self.short}, {self.long}" if self.short else self.long


class Values:
    """The flags' values of one command line, as attributes; ``given`` holds what was typed."""

    def __init__(self, flags: Sequence[Flag]) -> None:
        self.given: set[str] = set()
        for flag in flags:
            setattr(self, flag.name or "", flag.given_default)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


HELP = Flag("--help", Switch(), "Print usage", hidden=True)


class Parser:
    """Reads one command's arguments.

    Args:
        interspersed: whether flags may follow arguments (not where a command line follows).
        notice: where one line about a deprecated flag goes.
    """

    def __init__(
        self,
        ctx: click.Context,
        flags: Sequence[Flag],
        *,
        interspersed: bool,
        notice: Callable[[str], None],
    ) -> None:
        self.ctx = ctx
        self.interspersed = interspersed
        self.notice = notice
        self.values = Values(flags)
        self.long = {flag.long: flag for flag in flags}
        self.short = {flag.short: flag for flag in flags if flag.short}

    def parse(self, words: Sequence[str]) -> tuple[Values, list[str]]:
        """Raises:
        FlagError: an unknown flag, a missing or bad value.
        Finished: help was asked for and printed.
        """
        rest = list(words)
        arguments: list[str] = []
        while rest:
            word = rest.pop(0)
            if len(word) < 2 or word[0] != "-":
                arguments.append(word)
                if not self.interspersed:
                    arguments += rest
                    break
            elif word == "--":
                arguments += rest
                break
            elif word.startswith("--"):
                self._long(word, rest)
            else:
                self._short(word[1:], rest)
        return self.values, arguments

    def _long(self, word: str, rest: list[str]) -> None:
        if word[2] in "-=":
            raise FlagError(f"bad flag syntax: {word}", self.ctx)
        name, equals, value = word.partition("=")
        flag = self.long.get(name)
        if flag is None and name == "--help":
            flag = HELP
        if flag is None:
            raise FlagError(f"unknown flag: {name}", self.ctx)
        if not equals:
            if flag.kind.bare is not None:
                value = flag.kind.bare
            elif rest:
                value = rest.pop(0)
            else:
                raise FlagError(f"flag needs an argument: {name}", self.ctx)
        self._set(flag, value)

    def _short(self, letters: str, rest: list[str]) -> None:
        while letters:
            flag = self.short.get(letters[0])
            if flag is None and letters[0] == "h":
                self.notice("Flag shorthand -h has been deprecated, use --help")
                self._help()
            if flag is None:
                letter = gotext.quote_char(letters[0])
                raise FlagError(f"unknown shorthand flag: {letter} in -{letters}", self.ctx)
            if len(letters) > 2 and letters[1] == "=":
                value, after = letters[2:], ""
            elif flag.kind.bare is not None:
                value, after = flag.kind.bare, letters[1:]
            elif len(letters) > 1:
                value, after = letters[1:], ""
            elif rest:
                value, after = rest.pop(0), ""
            else:
                letter = gotext.quote_char(letters[0])
                raise FlagError(f"flag needs an argument: {letter} in -{letters}", self.ctx)
            self._set(flag, value)
            letters = after

    def _set(self, flag: Flag, text: str) -> None:
        name = flag.name or ""
        try:
            old = getattr(self.values, name, None) if name in self.values.given else None
            value = flag.kind.add(old, text)
        except ValueError as error:
            raise FlagError(
                f"invalid argument {gotext.quote(text)} for {gotext.quote(flag.label)} flag: "
                f"{error}",
                self.ctx,
            ) from None
        if flag is HELP or flag.long == "--help":
            if value:
                self._help()
            return
        if flag.advice:
            self.notice(f"Flag {flag.long} has been deprecated, {flag.advice}")
        setattr(self.values, name, value)
        self.values.given.add(name)

    def _help(self) -> None:
        from .output import write

        write(self.ctx.command.get_help(self.ctx) + "\n")
        raise Finished(0)
