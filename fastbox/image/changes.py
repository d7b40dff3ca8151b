"""Dockerfile instructions that change an image's config: ``import -c``, ``commit -c``.

The grammar and the error texts are Docker's (github.com/moby/buildkit, frontend/dockerfile).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from ..errors import InvalidArgument
from ..oci import times
from ..oci.healthcheck import Healthcheck
from ..oci.image import Defaults
from ..oci.text import check as check_text
from .words import expand, split_words

DEFAULT_SHELL = ["/bin/sh", "-c"]
MAX_PORT = 65535
_SIGNALS = frozenset(
    (
        *("ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT"),
        *("KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM"),
        *("TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU"),
        *("XFSZ", "RTMIN", "RTMAX"),
    )
)


def apply(config: Defaults | None, changes: Iterable[str]) -> Defaults:
    """A config with instructions applied, in order.

    Args:
        config: not changed; None is an empty one.
        changes: each one or several instructions, as lines of a Dockerfile; a str is one of them.

    Raises:
        InvalidArgument: with Docker's text.
    """
    result = (
        Defaults() if config is None else msgspec.convert(msgspec.to_builtins(config), Defaults)
    )
    work = _Changes(result)
    for name, rest in _instructions(changes):
        action = work.actions.get(name.upper())
        if action is None:
            raise InvalidArgument(
                f"{name} is not a valid change command",
                hint=f"known instructions: {' '.join(sorted(work.actions))}",
            )
        action(rest)
    return result


def _instructions(changes: Iterable[str]) -> list[tuple[str, str]]:
    """(name, rest) of each instruction: comments and blank lines dropped, lines continued."""
    source = changes if isinstance(changes, str) else "\n".join(changes)
    check_text("a change", source)
    found = []
    pending = ""
    for line in source.splitlines():
        if line.lstrip().startswith("#") or (not line.strip() and not pending):
            continue
        text = pending + line.rstrip() if pending else line.strip()
        if text.endswith("\\") and not text.endswith("\\\\"):
            pending = text[:-1]
            continue
        pending = ""
        found.append(text)
    if pending.strip():
        found.append(pending.rstrip())
    result = []
    for text in found:
        result.append(_cut(text))
    return result


class _Changes:
    """The instructions, working on one config."""

    def __init__(self, config: Defaults) -> None:
        self.config = config
        self.cmd_given = False
        self.actions: dict[str, Callable[[str], None]] = {
            "CMD": self.cmd,
            "ENTRYPOINT": self.entrypoint,
            "ENV": self.env,
            "EXPOSE": self.expose,
            "HEALTHCHECK": self.healthcheck,
            "LABEL": self.label,
            "ONBUILD": self.onbuild,
            "STOPSIGNAL": self.stopsignal,
            "USER": self.user,
            "VOLUME": self.volume,
            "WORKDIR": self.workdir,
        }

    def cmd(self, rest: str) -> None:
        self.config.cmd = self._command("CMD", rest)
        self.cmd_given = True

    def entrypoint(self, rest: str) -> None:
        self.config.entrypoint = self._command("ENTRYPOINT", rest) or None
        # An inherited CMD was meant for the inherited entrypoint.
        if not self.cmd_given:
            self.config.cmd = None

    def _command(self, name: str, rest: str) -> list[str]:
        _need(rest, f"{name} requires at least one argument")
        words = json_words(rest)
        if words is not None:
            return words
        return [*(self.config.shell or DEFAULT_SHELL), rest]

    def env(self, rest: str) -> None:
        env = list(self.config.env or [])
        for key, value in self._pairs("ENV", rest):
            entry = f"{key}={value}"
            for position, old in enumerate(env):
                if old.partition("=")[0] == key:
                    env[position] = entry
                    break
            else:
                env.append(entry)
        self.config.env = env

    def label(self, rest: str) -> None:
        self.config.labels = {**(self.config.labels or {}), **dict(self._pairs("LABEL", rest))}

    def _pairs(self, name: str, rest: str) -> list[tuple[str, str]]:
        """``a=b "c d"=e …``, or the old form ``a the whole rest``."""
        _need(rest, f"{name} requires at least one argument")
        words = split_words(rest)
        if "=" not in words[0]:
            key, value = words[0], rest[len(words[0]) :].strip()
            if not value:
                raise InvalidArgument(f"{name} must have two arguments")
            return [(self._expand(key), self._expand(value))]
        result = []
        for word in words:
            key, equals, value = word.partition("=")
            if not equals:
                raise InvalidArgument(
                    f"Syntax error - can't find = in {_quoted(word)}."
                    " Must be of the form: name=value"
                )
            key = self._expand(key)
            if not key:
                raise InvalidArgument(f"{name} names can not be blank")
            result.append((key, self._expand(value)))
        return result

    def expose(self, rest: str) -> None:
        _need(rest, "EXPOSE requires at least one argument")
        ports = dict(self.config.exposed_ports or {})
        for word in split_words(rest):
            for port in _ports(self._expand(word)):
                ports[port] = {}
        self.config.exposed_ports = ports

    def healthcheck(self, rest: str) -> None:
        _need(rest, "HEALTHCHECK requires at least one argument")
        check = Healthcheck()
        while match := re.match(r"--([a-z-]+)(?:=(\S*))?(?:\s+|$)", rest):
            _health_option(check, match.group(1), match.group(2))
            rest = rest[match.end() :]
        kind, command = _cut(rest or "CMD")
        if kind.upper() == "NONE":
            if command:
                raise InvalidArgument("HEALTHCHECK NONE takes no arguments")
            check = Healthcheck(test=["NONE"])
        elif kind.upper() == "CMD":
            _need(command, "Missing command after HEALTHCHECK CMD")
            words = json_words(command)
            check.test = ["CMD-SHELL", command] if words is None else ["CMD", *words]
            if words == []:
                raise InvalidArgument("Missing command after HEALTHCHECK CMD")
        else:
            raise InvalidArgument(f"Unknown type {_quoted(kind)} in HEALTHCHECK (try CMD)")
        self.config.healthcheck = check

    def onbuild(self, rest: str) -> None:
        _need(rest, "ONBUILD requires at least one argument")
        trigger = rest.split(None, 1)[0].upper()
        if trigger == "ONBUILD":
            raise InvalidArgument("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
        if trigger in ("MAINTAINER", "FROM"):
            raise InvalidArgument(f"{trigger} isn't allowed as an ONBUILD trigger")
        self.config.on_build = [*(self.config.on_build or []), rest]

    def stopsignal(self, rest: str) -> None:
        _need(rest, "STOPSIGNAL requires exactly one argument")
        signal = self._expand(rest)
        if not _is_signal(signal):
            raise InvalidArgument(f"Invalid signal: {signal}")
        self.config.stop_signal = signal

    def user(self, rest: str) -> None:
        _need(rest, "USER requires exactly one argument")
        self.config.user = self._expand(rest)

    def volume(self, rest: str) -> None:
        _need(rest, "VOLUME requires at least one argument")
        words = json_words(rest)
        volumes = dict(self.config.volumes or {})
        for word in rest.split() if words is None else words:
            path = self._expand(word.strip())
            if not path:
                raise InvalidArgument("VOLUME specified can not be an empty string")
            volumes[path] = {}
        self.config.volumes = volumes

    def workdir(self, rest: str) -> None:
        _need(rest, "WORKDIR requires exactly one argument")
        path = self._expand(rest)
        if not path.startswith("/"):
            path = f"{self.config.working_dir or '/'}/{path}"
        parts: list[str] = []
        for part in path.split("/"):
            if part == "..":
                parts = parts[:-1]
            elif part not in ("", "."):
                parts.append(part)
        self.config.working_dir = "/" + "/".join(parts)

    def _expand(self, text: str) -> str:
        entries = (entry.partition("=") for entry in self.config.env or [])
        env = {key: value for key, equals, value in entries if equals}
        return expand(text, env)


def _cut(text: str) -> tuple[str, str]:
    """The first word and the rest."""
    first, *rest = text.split(None, 1)
    return first, rest[0].strip() if rest else ""


def _need(rest: str, message: str) -> None:
    if not rest:
        raise InvalidArgument(message)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def json_words(text: str) -> list[str] | None:
    """The strings of an instruction's JSON form; None if it is the shell form.

    Raises:
        InvalidArgument: a JSON array of something else.
    """
    if not text.startswith("["):
        return None
    try:
        words = msgspec.json.decode(text.encode())
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InvalidArgument(
            "When using JSON array syntax, arrays must be comprised of strings only."
        )
    return words


def _health_option(check: Healthcheck, name: str, value: str | None) -> None:
    fields = {
        "interval": "interval",
        "timeout": "timeout",
        "start-period": "start_period",
        "start-interval": "start_interval",
    }
    if name not in fields and name != "retries":
        raise InvalidArgument(f"unknown flag: --{name}")
    if not value:
        raise InvalidArgument(f"missing a value on flag: --{name}")
    if name == "retries":
        if not re.fullmatch(r"[+-]?\d{1,9}", value, re.ASCII):
            raise InvalidArgument(f'strconv.ParseInt: parsing "{value}": invalid syntax')
        check.retries = int(value)
        if check.retries < 0:
            raise InvalidArgument(f"--retries cannot be negative ({check.retries})")
        return
    nanoseconds = times.duration(value)
    if nanoseconds < 0:
        raise InvalidArgument(f'Interval "{name}" cannot be negative')
    if 0 < nanoseconds < 1_000_000:
        raise InvalidArgument(f'Interval "{name}" cannot be less than 1ms')
    setattr(check, fields[name], nanoseconds)


def _ports(spec: str) -> list[str]:
    """``80``, ``80/udp`` or ``8000-8010`` as ``PORT/PROTOCOL`` keys."""
    numbers, _, protocol = spec.partition("/")
    protocol = (protocol or "tcp").lower()
    if protocol not in ("tcp", "udp", "sctp"):
        raise InvalidArgument(f"invalid proto: {protocol}")
    match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", numbers, re.ASCII)
    if match is None:
        raise InvalidArgument(f"invalid containerPort: {numbers}")
    first, last = int(match.group(1)), int(match.group(2) or match.group(1))
    if last > MAX_PORT or last < first:
        raise InvalidArgument(f"invalid containerPort: {numbers}")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _is_signal(text: str) -> bool:
    if text.isascii() and text.isdigit():
        return 1 <= int(text[:4]) <= 64 and len(text) <= 2
    name = text.upper().removeprefix("SIG")
    base = re.fullmatch(r"(RTM(?:IN|AX))[+-]\d{1,2}", name, re.ASCII)
    return (base.group(1) if base else name) in _SIGNALS
