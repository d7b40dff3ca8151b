"""Mistakes in how a command is typed: Docker's lines and exit codes (taken from docker 28)."""

from __future__ import annotations

import pytest

from fastbox.cli import commands
from fastbox.cli.main import main
from tests.cli.conftest import Fastbox

RUN = "fastbox run [OPTIONS] IMAGE [COMMAND] [ARG...]"
PS = "fastbox ps [OPTIONS]"

# (command line, first line, usage)
FLAG_ERRORS = [
    ("run -name=x", "unknown shorthand flag: 'n' in -name=x", RUN),
    ("run --foo", "unknown flag: --foo", RUN),
    ("run --blah=3 img", "unknown flag: --blah", RUN),
    ("run --gpus all img", "unknown flag: --gpus", RUN),
    ("run -zd img", "unknown shorthand flag: 'z' in -zd", RUN),
    ("run -m", "flag needs an argument: 'm' in -m", RUN),
    ("run -dm", "flag needs an argument: 'm' in -m", RUN),
    ("run -h", "flag needs an argument: 'h' in -h", RUN),
    ("run --memory", "flag needs an argument: --memory", RUN),
    ("run --=x img", "bad flag syntax: --=x", RUN),
    ("run ---x img", "bad flag syntax: ---x", RUN),
    (
        "run --privileged=maybe img",
        'invalid argument "maybe" for "--privileged" flag: strconv.ParseBool: parsing "maybe": '
        "invalid syntax",
        RUN,
    ),
    (
        "run --init=2 img",
        'invalid argument "2" for "--init" flag: strconv.ParseBool: parsing "2": invalid syntax',
        RUN,
    ),
    (
        "run --stop-timeout x img",
        'invalid argument "x" for "--stop-timeout" flag: strconv.ParseInt: parsing "x": '
        "invalid syntax",
        RUN,
    ),
    (
        "run --oom-score-adj 99999999999999999999 img",
        'invalid argument "99999999999999999999" for "--oom-score-adj" flag: strconv.ParseInt: '
        'parsing "99999999999999999999": value out of range',
        RUN,
    ),
    (
        "run -c abc img",
        'invalid argument "abc" for "-c, --cpu-shares" flag: strconv.ParseInt: parsing "abc": '
        "invalid syntax",
        RUN,
    ),
    (
        "run --memory abc img",
        'invalid argument "abc" for "-m, --memory" flag: invalid size: \'abc\'',
        RUN,
    ),
    ("ps --foo", "unknown flag: --foo", PS),
    ("ps --no-trun", "unknown flag: --no-trun", PS),
    (
        "ps -f foo",
        'invalid argument "foo" for "-f, --filter" flag: bad format of filter (expected '
        "name=value)",
        PS,
    ),
    (
        "ps -n x",
        'invalid argument "x" for "-n, --last" flag: strconv.ParseInt: parsing "x": invalid syntax',
        PS,
    ),
    ("container ps --foo", "unknown flag: --foo", "fastbox container ls [OPTIONS]"),
    ("--foo", "unknown flag: --foo", "fastbox [OPTIONS] COMMAND [ARG...]"),
    ("volume --foo", "unknown flag: --foo", "fastbox volume COMMAND"),
    ("version --foo", "unknown flag: --foo", "fastbox version [OPTIONS]"),
    ("wait --foo", "unknown flag: --foo", "fastbox wait CONTAINER [CONTAINER...]"),
]


@pytest.mark.parametrize(("line", "first", "usage"), FLAG_ERRORS, ids=[c[0] for c in FLAG_ERRORS])
def test_a_bad_flag_names_itself_and_ends_with_125(
    fastbox: Fastbox, line: str, first: str, usage: str
) -> None:
    command = usage.removeprefix("fastbox ").split(" [")[0].split(" C")[0]
    path = "fastbox" if usage.startswith("fastbox [") else f"fastbox {command}"
    result = fastbox(*line.split(" "))
    assert result.code == 125
    assert result.out == ""
    assert result.err == (
        f"{first}\n\nUsage:  {usage}\n\nRun '{path} --help' for more information\n"
    )


COUNTS = [
    ("run", "requires at least 1 argument", RUN, "See"),
    ("create", "requires at least 1 argument", RUN.replace("run", "create"), "See"),
    ("ps a b", "accepts no arguments", PS, "Run"),
    ("rm", "requires at least 1 argument", "fastbox rm [OPTIONS] CONTAINER [CONTAINER...]", "See"),
    ("rename a", "requires 2 arguments", "fastbox rename CONTAINER NEW_NAME", "Run"),
    ("tag a", "requires 2 arguments", "fastbox tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "Run"),
    (
        "exec x",
        "requires at least 2 arguments",
        "fastbox exec [OPTIONS] CONTAINER COMMAND [ARG...]",
        "See",
    ),
    ("pull", "requires 1 argument", "fastbox pull [OPTIONS] NAME[:TAG|@DIGEST]", "Run"),
    ("pull a b", "requires 1 argument", "fastbox pull [OPTIONS] NAME[:TAG|@DIGEST]", "Run"),
    (
        "images a b",
        "requires at most 1 argument",
        "fastbox images [OPTIONS] [REPOSITORY[:TAG]]",
        "Run",
    ),
    ("wait", "requires at least 1 argument", "fastbox wait CONTAINER [CONTAINER...]", "See"),
    ("logs", "requires 1 argument", "fastbox logs [OPTIONS] CONTAINER", "Run"),
]


@pytest.mark.parametrize(("line", "text", "usage", "verb"), COUNTS, ids=[c[0] for c in COUNTS])
def test_too_few_or_too_many_arguments(
    fastbox: Fastbox, line: str, text: str, usage: str, verb: str
) -> None:
    command = line.split(" ")[0]
    result = fastbox(*line.split(" "))
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        f"fastbox: 'fastbox {command}' {text}\n\nUsage:  {usage}\n\n"
        f"{verb} 'fastbox {command} --help' for more information\n"
    )


def test_a_second_spelling_is_reported_under_the_first_of_its_group(fastbox: Fastbox) -> None:
    result = fastbox("container", "remove")
    assert result.err.startswith("fastbox: 'fastbox container rm' requires at least 1 argument\n")


def test_an_unknown_command(fastbox: Fastbox) -> None:
    result = fastbox("foo")
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "fastbox: unknown command: fastbox foo\n\nRun 'fastbox --help' for more information\n"
    )


def test_an_unknown_command_of_a_group(fastbox: Fastbox) -> None:
    result = fastbox("volume", "foo")
    assert result.code == 1
    assert result.err == (
        "fastbox: unknown command: fastbox volume foo\n\nUsage:  fastbox volume COMMAND\n\n"
        "Run 'fastbox volume --help' for more information\n"
    )


@pytest.mark.parametrize("word", ["", "container ls", "Run", "ps "])
def test_what_is_nearly_a_command_is_none(fastbox: Fastbox, word: str) -> None:
    assert fastbox(word).err.startswith(f"fastbox: unknown command: fastbox {word}\n")


def test_help_of_an_unknown_topic(fastbox: Fastbox) -> None:
    result = fastbox("help", "foo")
    assert (result.code, result.out, result.err) == (1, "", "unknown help topic: foo\n")


def test_without_arguments_the_help_goes_to_standard_error(fastbox: Fastbox) -> None:
    result = fastbox()
    assert (result.code, result.out) == (0, "")
    assert result.err == fastbox("--help").out


@pytest.mark.parametrize("entry", commands.ENTRIES, ids=lambda entry: entry.module)
def test_every_spelling_of_every_command_has_help(fastbox: Fastbox, entry: commands.Entry) -> None:
    shown = set()
    for spelling in entry.spellings:
        for line in ([*spelling.split(" "), "--help"], ["help", *spelling.split(" ")]):
            result = fastbox(*line)
            assert (result.code, result.err) == (0, ""), line
            usage, rest = result.out.split("\n", 1)
            assert usage.startswith("Usage:  fastbox ")
            shown.add(rest)
    assert len(shown) == 1, "twins have the same help"
    text = shown.pop()
    assert entry.summary in text
    if len(entry.spellings) > 1:
        aliases = ", ".join(f"fastbox {spelling}" for spelling in entry.spellings)
        assert f"Aliases:\n  {aliases}\n" in text


def test_every_command_module_is_in_the_table_and_loads() -> None:
    for entry in commands.ENTRIES:
        command = commands.load(entry)
        assert command.entry is entry
        assert command.callback is None
        longs = [flag.long for flag in command.flags]
        shorts = [flag.short for flag in command.flags if flag.short]
        assert len(set(longs)) == len(longs)
        assert len(set(shorts)) == len(shorts)


def test_help_has_dockers_shape(fastbox: Fastbox) -> None:
    assert fastbox("rm", "--help").out == (
        "Usage:  fastbox rm [OPTIONS] CONTAINER [CONTAINER...]\n"
        "\n"
        "Remove one or more containers\n"
        "\n"
        "Aliases:\n"
        "  fastbox container rm, fastbox container remove, fastbox rm\n"
        "\n"
        "Options:\n"
        "  -f, --force     Force the removal of a running container (uses SIGKILL)\n"
        "  -v, --volumes   Remove anonymous volumes associated with the container\n"
    )


def test_help_wraps_as_docker_does(fastbox: Fastbox) -> None:
    assert fastbox("logs", "--help").out.partition("Options:\n")[2] == (
        "      --details        Show extra details provided to logs\n"
        "  -f, --follow         Follow log output\n"
        "      --since string   Show logs since timestamp (e.g.\n"
        '                       "2013-01-02T13:23:37Z") or relative (e.g. "42m"\n'
        "                       for 42 minutes)\n"
        "  -n, --tail string    Number of lines to show from the end of the logs\n"
        '                       (default "all")\n'
        "  -t, --timestamps     Show timestamps\n"
        "      --until string   Show logs before a timestamp (e.g.\n"
        '                       "2013-01-02T13:23:37Z") or relative (e.g. "42m"\n'
        "                       for 42 minutes)\n"
    )


def test_help_lists_no_hidden_command(fastbox: Fastbox) -> None:
    assert "cleanup" not in fastbox("container", "--help").out


def test_the_short_help_flag_is_deprecated(fastbox: Fastbox) -> None:
    result = fastbox("ps", "-h")
    assert result.code == 0
    assert result.err == "Flag shorthand -h has been deprecated, use --help\n"
    assert result.out.startswith("Usage:  fastbox ps [OPTIONS]\n")


def test_help_may_be_switched_off(fastbox: Fastbox) -> None:
    assert "requires at least 1 argument" in fastbox("run", "--help=false").err


def test_version(fastbox: Fastbox) -> None:
    for flag in ("--version", "-v"):
        assert fastbox(flag).out == "fastbox version 0.1.0\n"


def test_the_store_may_be_named_before_and_behind_the_command(
    capfd: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("stores")
    for words in (
        ["--root", f"{base}/r", "--runtime-dir", f"{base}/x", "ps", "-q"],
        ["ps", "-q", "--root", f"{base}/r", "--runtime-dir", f"{base}/x"],
        ["container", "--root", f"{base}/r", "ls", f"--runtime-dir={base}/x", "-q"],
    ):
        assert main(words) == 0
        assert capfd.readouterr() == ("", "")
    assert sorted(entry.name for entry in base.iterdir()) == ["r", "x"]
