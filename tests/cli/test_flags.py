"""The grammar of flags."""

from __future__ import annotations

from typing import Any

import click
import pytest

from fastbox.cli.command import App, FlagCommand
from fastbox.cli.errors import FlagError
from fastbox.cli.flags import Filters, Flag, Integer, Mapping, Parser, Switch, Text, Texts, Values

FLAGS = (
    Flag("-a --all", Switch()),
    Flag("-b --both", Switch(), default=True),
    Flag("-n --number", Integer(), default=-1),
    Flag("-s --some-text", Text()),
    Flag("-l --list", Texts()),
    Flag("-m --map", Mapping()),
    Flag("-f --filter", Filters()),
    Flag("--old", Text(), deprecated="use --some-text instead"),
)


def parse(*words: str, interspersed: bool = True) -> tuple[Values, list[str], list[str]]:
    notices: list[str] = []
    command = FlagCommand("ps", lambda *_: 0, flags=FLAGS)
    ctx = click.Context(command, info_name="x", obj=App())
    parser = Parser(ctx, FLAGS, interspersed=interspersed, notice=notices.append)
    values, arguments = parser.parse(words)
    return values, arguments, notices


def test_defaults() -> None:
    values, arguments, _ = parse()
    assert (values.all, values.both, values.number) == (False, True, -1)
    assert (values.some_text, values.list, values.map, values.filter) == (None, None, None, None)
    assert (arguments, values.given) == ([], set())


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--all", "all", True),
        ("--all=false", "all", False),
        ("--all=F", "all", False),
        ("-a", "all", True),
        ("-a=false", "all", False),
        ("-b=0", "both", False),
        ("-n5", "number", 5),
        ("-n=5", "number", 5),
        ("-n 5", "number", 5),
        ("-n -5", "number", -5),
        ("--number -5", "number", -5),
        ("--number=0x10", "number", 16),
        ("--number 010", "number", 8),
        ("--number 1_000", "number", 1000),
        ("-an5", "number", 5),
        ("-s=x", "some_text", "x"),
        ("-s=", "some_text", "="),  # pflag: a lone "=" is the value
        ("--some-text=", "some_text", ""),
        ("--some-text --all", "some_text", "--all"),
        ("-s --", "some_text", "--"),
        ("-s a -s b", "some_text", "b"),
        ("-l a --list b -l=c", "list", ["a", "b", "c"]),
        ("-m a=b -m c -m a=d=e", "map", {"a": "d=e", "c": ""}),
        ("-f a=b -f a=c -f a=b -f D=e", "filter", {"a": ["b", "c"], "d": ["e"]}),
    ],
)
def test_ways_to_give_a_value(words: str, name: str, value: Any) -> None:
    values, arguments, _ = parse(*words.split(" "))
    assert getattr(values, name) == value
    assert name in values.given
    assert arguments == []


def test_flags_may_follow_arguments_where_no_command_line_does() -> None:
    values, arguments, _ = parse("x", "-a", "y")
    assert (values.all, arguments) == (True, ["x", "y"])
    values, arguments, _ = parse("x", "-a", "--", "y", interspersed=False)
    assert (values.all, arguments) == (False, ["x", "-a", "--", "y"])


def test_two_dashes_end_the_flags_and_one_is_an_argument() -> None:
    values, arguments, _ = parse("-a", "-", "--", "-b", "--x")
    assert (values.all, arguments) == (True, ["-", "-b", "--x"])
    assert parse("", "x")[1] == ["", "x"]


def test_a_deprecated_flag_works_and_says_so() -> None:
    values, _, notices = parse("--old", "x")
    assert values.old == "x"
    assert notices == ["Flag --old has been deprecated, use --some-text instead"]


def test_a_filter_may_be_empty() -> None:
    assert parse("-f", "")[0].filter == {}


@pytest.mark.parametrize("word", ["--al", "--All", "--all-", "--some_text", "-é", "--é"])
def test_nothing_is_abbreviated_or_guessed(word: str) -> None:
    with pytest.raises(FlagError, match="unknown"):
        parse(word)


def test_bytes_that_are_not_utf8_survive_and_are_quoted() -> None:
    odd = b"a\xff".decode("utf-8", "surrogateescape")
    assert parse("-s", odd)[0].some_text == odd
    with pytest.raises(FlagError, match=r'invalid argument "a\\xff" for "-n, --number"'):
        parse("-n", odd)


def test_a_value_with_control_characters_is_quoted() -> None:
    with pytest.raises(FlagError) as caught:
        parse("-n", "\x1b[31m\n")
    assert str(caught.value).startswith('invalid argument "\\x1b[31m\\n" for "-n, --number" flag')
