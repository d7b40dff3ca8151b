"""``-e``, ``--env-file``, ``--label``, ``--label-file``: names with values, and files of them."""

from __future__ import annotations

import os

from .errors import CliError

_MAX_FILE = 16 << 20


def variable(text: str) -> str:
    """``NAME=VALUE``; a bare ``NAME`` takes the value of our own environment, and stays bare (the
    variable is to be unset) where there is none.

    Raises:
        ValueError: the name is empty.
    """
    name, equals, _ = text.partition("=")
    if not name:
        raise ValueError(f"invalid environment variable: {text}")
    if not equals and name in os.environ:
        return f"{name}={os.environ[name]}"
    return text


def label(text: str) -> str:
    """``KEY`` or ``KEY=VALUE``.

    Raises:
        ValueError: an empty key, or one with spaces.
    """
    key = text.partition("=")[0].lstrip(" \t\n\v\f\r")
    if not key:
        raise ValueError(f"invalid label '{text}': empty name")
    if any(char in key for char in " \t\n\v\f\r"):
        raise ValueError(f"label '{key}' contains whitespaces")
    return text


def merged_variables(files: list[str], given: list[str]) -> list[str]:
    """Those of files first, so that ``-e`` wins.

    Raises:
        CliError: a file cannot be read or has a malformed line.
    """
    return [*_from_files(files, inherit=True), *given]


def merged_labels(files: list[str], given: list[str]) -> dict[str, str]:
    """As a mapping; a key without a value has the empty one.

    Raises:
        CliError: as ``merged_variables``.
    """
    lines = [*_from_files(files, inherit=False), *given]
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


def _from_files(paths: list[str], *, inherit: bool) -> list[str]:
    found: list[str] = []
    for path in paths:
        found += _read(path, inherit)
    return found


def _read(path: str, inherit: bool) -> list[str]:
    """Lines ``NAME=VALUE`` or ``NAME``; ``#`` begins a comment line, quotes mean nothing."""
    data = _content(path)
    found: list[str] = []
    for number, raw in enumerate(data.split(b"\n"), 1):
        content = raw.removesuffix(b"\r")
        try:
            line = content.decode().lstrip()
        except UnicodeDecodeError:
            numbers = " ".join(str(byte) for byte in content)
            raise _bad(path, f"invalid utf8 bytes at line {number}: [{numbers}]") from None
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if any(char.isspace() for char in name):
            raise _bad(path, f"variable '{name}' contains whitespaces")
        if not name:
            raise _bad(path, f"no variable name on line '{line}'")
        if equals:
            found.append(f"{name}={value}")
        elif not inherit:
            found.append(name)
        elif name in os.environ:
            found.append(f"{name}={os.environ[name]}")
    return found


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE + 1)
    except IsADirectoryError:
        raise _bad(path, f"read {path}: is a directory") from None
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise CliError(f"open {path}: {reason}") from None
    if len(data) > _MAX_FILE:
        raise _bad(path, f"it is larger than {_MAX_FILE >> 20} MiB")
    return data.removeprefix(b"\xef\xbb\xbf")


def _bad(path: str, reason: str) -> CliError:
    return CliError(f"invalid env file ({path}): {reason}")
