"""Policies: ``--restart``, ``--security-opt``, ``--log-driver``, ``--log-opt``, ``--pull``. Choices
among a few things, and what is said about those that are not there."""

from __future__ import annotations

from ..container.config import RestartPolicy
from ..errors import InvalidArgument, Unsupported
from . import gotext
from .errors import CliError
from .human import parse_size

_MAX_PROFILE = 4 << 20
_PULL = ("always", "missing", "never")
_RESTART = ("no", "on-failure", "always", "unless-stopped")


def pull_policy(text: str) -> str:
    """Raises:
    CliError: it is none of the three.
    """
    if text not in _PULL:
        raise CliError(
            f'invalid pull option: \'{text}\': must be one of "always", "missing" or "never"'
        )
    return text


def restart(text: str) -> RestartPolicy:
    """``no``, ``always``, ``unless-stopped``, ``on-failure[:N]``.

    Raises:
        CliError, InvalidArgument
    """
    prefix = "invalid restart policy format: "
    name, colon, count = text.partition(":")
    if colon and not name:
        raise CliError(prefix + "no policy provided before colon")
    retries = 0
    if count:
        try:
            retries = gotext.parse_int(count, base=10, function="Atoi")
        except ValueError:
            raise CliError(prefix + "maximum retry count must be an integer") from None
    name = name or "no"
    prefix = "invalid restart policy: "
    if name not in _RESTART:
        raise InvalidArgument(
            f"{prefix}unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or "
            "'unless-stopped'"
        )
    if name != "on-failure" and retries:
        raise InvalidArgument(f"{prefix}maximum retry count can only be used with 'on-failure'")
    if retries < 0:
        raise InvalidArgument(f"{prefix}maximum retry count cannot be negative")
    return RestartPolicy(name=name, max_retries=retries)


class Security:
    """What the ``--security-opt``s amount to."""

    def __init__(self, options: list[str]) -> None:
        """Raises:
        CliError, InvalidArgument, Unsupported
        """
        self.no_new_privileges = False
        self.seccomp: str | None = None
        for option in options:
            self._add(option)

    def _add(self, option: str) -> None:
        if option == "no-new-privileges":
            self.no_new_privileges = True
            return
        cut = min((option.index(mark) for mark in "=:" if mark in option), default=-1)
        name, value = (option[:cut], option[cut + 1 :]) if cut >= 0 else (option, "")
        if not value:
            raise CliError(f"invalid --security-opt: {gotext.quote(option)}")
        if name == "no-new-privileges":
            try:
                self.no_new_privileges = gotext.parse_bool(value)
            except ValueError:
                quoted = gotext.quote(option)
                raise InvalidArgument(f"invalid --security-opt 2: {quoted}") from None
        elif name == "seccomp":
            self.seccomp = _seccomp(value)
        elif (name, value) not in (("apparmor", "unconfined"), ("label", "disable")):
            # Nothing to switch off; anything else would be protection that is not there.
            if name in ("apparmor", "label", "systempaths", "writable-cgroups"):
                raise Unsupported(
                    f"--security-opt {name} is not supported",
                    hint="no-new-privileges and seccomp are",
                )
            raise CliError(f"invalid --security-opt: {gotext.quote(option)}")


def _seccomp(value: str) -> str | None:
    if value == "unconfined":
        return value
    if value == "builtin":
        return None
    try:
        with open(value, "rb") as file:
            data = file.read(_MAX_PROFILE + 1)
    except (OSError, ValueError) as error:
        verb = "read" if isinstance(error, IsADirectoryError) else "open"
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise CliError(
            f"opening seccomp profile ({value}) failed: {verb} {value}: {reason}"
        ) from None
    import orjson

    try:
        if len(data) > _MAX_PROFILE:
            raise ValueError(f"it is larger than {_MAX_PROFILE >> 20} MiB")
        return orjson.dumps(orjson.loads(data)).decode()
    except ValueError as error:
        raise CliError(f"compacting json for seccomp profile ({value}) failed: {error}") from None


class Logging:
    """``--log-driver`` with its ``--log-opt``s; what is not given is the default of the config."""

    def __init__(self, driver: str, options: dict[str, str]) -> None:
        """Raises:
        CliError, InvalidArgument, Unsupported
        """
        self.driver = driver or "cri"
        self.max_size: int | None = None
        self.max_file: int | None = None
        self.options: dict[str, str] = {}
        if self.driver == "none" and options:
            raise CliError("invalid logging opts for driver none")
        if self.driver in ("json-file", "local"):
            raise Unsupported(
                f"logging driver '{self.driver}' is not supported",
                hint="use --log-driver cri: files that rotate, read by `fastbox logs`",
            )
        for name, value in options.items():
            if self.driver == "cri" and name in ("max-size", "max-file"):
                self._add(name, value)
            else:
                self.options[name] = value
        if self.driver != "cri" or self.options:
            from ..container import logging

            logging.check_options(self.driver, self.options)

    def _add(self, name: str, value: str) -> None:
        if name == "max-size":
            self.max_size = self._size(value)
            return
        try:
            self.max_file = gotext.parse_int(value, base=10, function="Atoi")
        except ValueError as error:
            raise InvalidArgument(f"invalid log opt max-file: {error}") from None
        if self.max_file < 1:
            raise InvalidArgument("max-file cannot be less than 1")

    def _size(self, value: str) -> int:
        if value == "-1":
            return -1
        try:
            # Docker counts these in powers of 1000.
            size = parse_size(value, 1000)
        except ValueError as error:
            raise InvalidArgument(f"invalid log opt max-size: {error}") from None
        if size <= 0:
            raise InvalidArgument("max-size must be a positive number")
        return size
