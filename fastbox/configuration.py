"""The configuration files: ``config.toml``, and the two keys of Docker's ``daemon.json`` that
people bring along.

Only what speaks to registries, and what prints the configuration, loads it: no start of a container
waits for it, and none fails because of it.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from . import pool_settings
from .errors import FastboxError, InvalidArgument, PermissionDenied
from .pool_settings import PoolSetting

SYSTEM_FILE = "/etc/fastbox/config.toml"
DAEMON_JSON = "/etc/docker/daemon.json"
DOCKERS_KEYS = ("registry-mirrors", "insecure-registries")
_MAX_FILE = 1 << 20  # bytes
_MOST_AT_ONCE = 100  # transfers
_DRIVERS = ("overlay", "copy")
_COMPRESSIONS = ("gzip", "zstd")
_HOST_PORT = re.compile(r"(?:\w(?:[\w.-]*\w)?|\[[0-9a-fA-F:.]+\])(?::[0-9]+)?", re.ASCII)

_Stamp = tuple[int, int, int, int, int, int] | None


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """What the files say, checked and completed.

    Attributes:
        registry_mirrors: base URLs with a final ``/``, asked before Docker Hub, in this order.
        insecure_registries: ``host[:port]`` or networks in CIDR notation: TLS is not verified
            there, and plain HTTP is spoken to those without it.
        max_concurrent_downloads, max_concurrent_uploads: layers of one pull or push at a time.
        layer_compression: of layers that are pushed for the first time.
        pool: what the supervisor keeps prepared.
        storage_driver: None leaves the choice to the store.
        command_server: whether a supervisor has one (client.md).
        files: those that were read.
    """

    registry_mirrors: list[str] = []
    insecure_registries: list[str] = []
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    layer_compression: str = "gzip"
    storage_driver: str | None = None
    pool: list[PoolSetting] = []
    command_server: bool = True
    files: list[str] = []


class _Loaded(msgspec.Struct):
    """A configuration, with everything on which it depends."""

    places: list[str]
    stamps: list[tuple[str, _Stamp]]
    configuration: Configuration


_loaded: _Loaded | None = None


def load() -> Configuration:
    """The configuration as the files are now; read again only when one has changed.

    Raises:
        InvalidArgument: a file has an error; the message names file, line and key.
        PermissionDenied: a file cannot be read.
    """
    global _loaded
    places = _places()
    known = _loaded
    if (
        known is not None
        and known.places == places
        and all(_stamp(path) == stamp for path, stamp in known.stamps)
    ):
        return known.configuration
    _loaded = None
    _loaded = _load(places)
    return _loaded.configuration


def _places() -> list[str]:
    """The ``config.toml`` files, the weakest first."""
    named = os.environ.get("FASTBOX_CONFIG")
    if named:
        return [named]
    home = os.environ.get("XDG_CONFIG_HOME") or ""
    if not os.path.isabs(home):  # the XDG specification: a relative path is to be ignored
        home = os.path.expanduser("~/.config")
    return [SYSTEM_FILE, os.path.join(home, "fastbox", "config.toml")]


def _stamp(path: str) -> _Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_mode,
    )


def _load(places: list[str]) -> _Loaded:
    stamps, files = [], []
    values: dict[str, Any] = {}
    named = bool(os.environ.get("FASTBOX_CONFIG"))
    for path in places:
        stamps.append((path, _stamp(path)))
        text = _read(path, must_exist=named)
        if text is not None:
            files.append(path)
            values.update(_checked(path, text, _toml(path, text), KEYS))
    daemon = values.pop("daemon-json", None)
    path = DAEMON_JSON if daemon is None else str(daemon)
    # Whoever says both things here has no use for Docker's file, not even for its errors.
    if path and not all(key in values for key in DOCKERS_KEYS):
        stamps.append((path, _stamp(path)))
        text = _read(path, must_exist=daemon is not None)
        if text is not None:
            files.append(path)
            shared = {key: KEYS[key] for key in DOCKERS_KEYS}
            document = {k: v for k, v in _json(path, text).items() if k in shared}
            values = {**_checked(path, text, document, shared), **values}
    fields = {key.replace("-", "_"): value for key, value in values.items()}
    return _Loaded(places, stamps, Configuration(**fields, files=files))


# ---- reading a file ------------------------------------------------------------------------------


def _read(path: str, *, must_exist: bool) -> str | None:
    """A file's text; None if there is no such file.

    Raises:
        InvalidArgument: it is missing though somebody named it, is no text, or others may write it.
        PermissionDenied: it may not be read.
    """
    if path == os.devnull:
        return ""
    try:
        # O_NONBLOCK: a FIFO there shall not hold us up.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        if must_exist:
            raise InvalidArgument(f"{path}: no such configuration file") from None
        return None
    except PermissionError:
        raise PermissionDenied(f"cannot read {path}: permission denied") from None
    except OSError as error:
        raise InvalidArgument(f"cannot read {path}: {(error.strerror or '').lower()}") from error
    try:
        _check_owner(path, os.fstat(fd))
        with open(fd, "rb", closefd=False) as file:
            data = file.read(_MAX_FILE + 1)
    finally:
        os.close(fd)
    if len(data) > _MAX_FILE:
        raise InvalidArgument(f"{path}: larger than {_MAX_FILE} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InvalidArgument(f"{path}:{line}: not UTF-8") from None


def _check_owner(path: str, found: os.stat_result) -> None:
    """Whoever writes this file decides whose images are trusted: refuse it where that is somebody
    other than root and the user. Groups are accepted for users (many have one of their own)."""
    if not stat.S_ISREG(found.st_mode):
        raise InvalidArgument(f"{path}: not a regular file")
    me = os.geteuid()
    if found.st_uid not in (0, me):
        raise InvalidArgument(
            f"{path}: owned by user {found.st_uid}, who could have images of anyone trusted",
            hint=f"chown {me} {path}",
        )
    loose = stat.S_IWOTH
    if me == 0 and found.st_gid != 0:
        loose |= stat.S_IWGRP
    if found.st_mode & loose:
        raise InvalidArgument(
            f"{path}: writable by others, who could have images of anyone trusted",
            hint=f"chmod go-w {path}",
        )


def _toml(path: str, text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of numbers with thousands of digits
        message = " ".join(str(error).split())
        where = re.search(r" \(at line (\d+), column (\d+)\)$", message)
        if where is None:
            line = text.count("\n") + (not text.endswith("\n"))
            message = message.removesuffix(" (at end of document)")
            raise InvalidArgument(f"{path}:{line}: invalid TOML: {message}") from None
        message = message[: where.start()]
        raise InvalidArgument(
            f"{path}:{where[1]}: invalid TOML: {message} (column {where[2]})"
        ) from None
    return document


def _json(path: str, text: str) -> dict[str, Any]:
    import json

    if not text.strip():  # as Docker has it
        return {}
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidArgument(
            f"{path}:{error.lineno}: invalid JSON: {error.msg} (column {error.colno})"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{path}:1: invalid JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidArgument(f"{path}:1: not a JSON object")
    return document


# ---- values --------------------------------------------------------------------------------------


def _checked(
    path: str, text: str, document: dict[str, Any], known: dict[str, Callable[[Any], Any]]
) -> dict[str, Any]:
    """The document with its values checked, each error with the line of its key."""
    values: dict[str, Any] = {}
    for key, value in document.items():
        try:
            if key not in known:
                import difflib

                close = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
                raise InvalidArgument("unknown key", hint=hint)
            values[key] = known[key](value)
        except pool_settings.BadKey as error:
            where = f"{path}:{pool_settings.line_of(text, error.table, error.key)}"
            about = f"pool.{error.key}" if error.key else "pool"
            message = f"{where}: {_printable(about)}: {_printable(str(error))}"
            raise InvalidArgument(message, hint=error.hint) from None
        except (FastboxError, ValueError) as error:
            where = f"{path}:{_line(text, key)}: {_printable(key)}"
            message = f"{where}: {_printable(str(error))}"
            raise InvalidArgument(message, hint=getattr(error, "hint", None)) from None
    return values


def _line(text: str, key: str) -> int:
    """Number of the line on which a key begins, in TOML (also as a table) or JSON; else 1."""
    name = re.escape(key)
    named = rf"(?:{name}|\"{name}\"|'{name}')"
    pattern = rf"^[ \t]*(?:{named}[ \t]*[.=]|\[+[ \t]*{named}[ \t]*[.\]])|\"{name}\"\s*:"
    found = re.search(pattern, text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 1


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:300])


def _strings(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("it has to be a list of strings")
    return value


def _mirrors(value: Any) -> list[str]:
    return list(dict.fromkeys(mirror(item) for item in _strings(value)))


def mirror(url: str) -> str:
    """A mirror's URL with a final ``/``.

    Raises:
        ValueError: it is none, in Docker's words.
    """
    from urllib.parse import urlsplit

    allowed = "must use either 'https://' or 'http://'"
    scheme, separator, _ = url.partition("://")
    if not separator or not scheme:
        raise ValueError(f'invalid mirror: no scheme specified for "{url}": {allowed}')
    try:
        parts = urlsplit(url)
        good = parts.port != 0 and bool(parts.hostname)
    except ValueError:
        good = False
    if not good or not url.isascii() or any(c <= " " or c in '\x7f\\"<>^`{|}' for c in url):
        raise ValueError(f'invalid mirror: "{url}" is not a valid URI')
    if parts.scheme not in ("http", "https"):
        raise ValueError(
            f'invalid mirror: unsupported scheme "{parts.scheme}" in "{url}": {allowed}'
        )
    if "@" in parts.netloc:
        host = parts.netloc.rpartition("@")[2]
        shown = parts._replace(netloc=f"{parts.username or ''}:xxxxx@{host}").geturl()
        raise ValueError(f'invalid mirror: username/password not allowed in URI "{shown}"')
    if "?" in url or "#" in url:
        raise ValueError(f'invalid mirror: query or fragment at end of the URI "{url}"')
    return url.rstrip("/") + "/"


def _insecure(value: Any) -> list[str]:
    return list(dict.fromkeys(_insecure_one(item) for item in _strings(value)))


def _insecure_one(text: str) -> str:
    """``host[:port]`` in lower case, or a network as Docker shows it.

    Raises:
        ValueError: it is neither, in Docker's words.
    """
    import ipaddress

    scheme, separator, rest = text.partition("://")
    if separator:
        if scheme.lower() not in ("http", "https"):
            raise ValueError(f"insecure registry {text} should not contain '://'")
        text = rest.rstrip("/")
    if text.startswith("-") or text.endswith("-"):
        raise ValueError(f"invalid index name ({text}). Cannot begin or end with a hyphen")
    if "/" in text:
        try:
            return str(ipaddress.ip_network(text, strict=False))
        except ValueError:
            pass
    host, colon, port = text.rpartition(":")
    host = host if colon and port.isdigit() else text
    if not _HOST_PORT.fullmatch(text):
        try:
            return f"[{ipaddress.IPv6Address(text)}]"
        except ValueError:
            raise ValueError(
                f'insecure registry {text} is not valid: invalid host "{host}"'
            ) from None
    if host != text and not 0 < int(port) <= 65535:
        raise ValueError(f'insecure registry {text} is not valid: invalid port "{port}"')
    return text.lower()


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_AT_ONCE:
        raise ValueError(f"it has to be a number from 1 to {_MOST_AT_ONCE}")
    return value


def _one_of(words: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in words or not isinstance(value, str):
            raise ValueError("it has to be " + " or ".join(f'"{word}"' for word in words))
        return value

    return check


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("it has to be true or false")
    return value


def _path(value: Any) -> str:
    if not isinstance(value, str) or (value and not value.startswith("/")) or "\0" in value:
        raise ValueError('it has to be an absolute path, or "" for none')
    return value


KEYS: dict[str, Callable[[Any], Any]] = {
    "registry-mirrors": _mirrors,
    "insecure-registries": _insecure,
    "max-concurrent-downloads": _count,
    "max-concurrent-uploads": _count,
    "layer-compression": _one_of(_COMPRESSIONS),
    "storage-driver": _one_of(_DRIVERS),
    "daemon-json": _path,
    "pool": pool_settings.parse,
    "command-server": _switch,
}
