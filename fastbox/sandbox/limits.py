"""What is asked of a box, checked before anything is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..container.config import ContainerConfig
from ..errors import InvalidArgument
from ..oci.healthcheck import Healthcheck

OUTPUT_LIMIT = 10 << 20
PIDS_LIMIT = 512
_FOREVER = 1 << 31
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
# A box has no command of its own, and nobody but its maker starts or keeps it.
_NOT_OF_A_BOX = frozenset(
    (
        "attach", "auto_remove", "command", "entrypoint", "healthcheck", "idle", "image", "init",
        "interactive", "log_driver", "log_max_file", "log_max_size", "log_options", "nano_cpus",
        "restart", "stdin_once", "stop_signal", "stop_timeout", "tty",
    )
)  # fmt: skip


def configuration(
    image: str,
    *,
    memory: int | str | None,
    cpus: float | None,
    network: str,
    env: Mapping[str, str] | None,
    user: str | None,
    workdir: str | None,
    config: Mapping[str, Any],
) -> ContainerConfig:
    """The configuration of a box.

    Args:
        config: further attributes of ``ContainerConfig``.

    Raises:
        InvalidArgument
    """
    from ..container import cgroups, create

    known = set(ContainerConfig.__struct_fields__) - _NOT_OF_A_BOX
    for name in config:
        if name not in known:
            raise InvalidArgument(
                f"a box has no attribute {name!r}", hint="known: " + ", ".join(sorted(known))
            )
    made = ContainerConfig(
        image=image,
        memory=0 if memory is None else size("memory", memory),
        nano_cpus=0 if cpus is None else _nano_cpus(cpus),
        network=network,
        env=environment(env),
        user=user,
        workdir=workdir,
        **{**_SAFE, **config},
        idle=True,
        auto_remove=True,
        interactive=True,
        log_driver="none",
        healthcheck=Healthcheck(test=["NONE"]),
    )
    made = create.copy_config(made)
    create.check(made)
    directory(workdir)
    cgroups.validate(cgroups.Resources.from_config(made), cgroups.detect())
    return made


# What code of strangers has no use for; each can be given otherwise by its name.
_SAFE: dict[str, Any] = {
    "cap_drop": ["ALL"],
    "no_new_privileges": True,
    "pids_limit": PIDS_LIMIT,
}


def size(what: str, value: int | str) -> int:
    """Bytes of a number or a text like ``"256m"`` (powers of 1024).

    Raises:
        InvalidArgument
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, str):
        text = value.strip().lower().removesuffix("b").removesuffix("i")
        digits = text.rstrip("kmgtb")
        unit = _UNITS.get(text[len(digits) :])
        try:
            number = float(digits) * unit if unit is not None else 0.0
        except ValueError:
            number = 0.0
        if 0 < number < 1 << 62:
            return int(number)
    raise InvalidArgument(f"{what}={value!r} is no size", hint='a number of bytes, or "256m", "1g"')


def _nano_cpus(value: float) -> int:
    number = seconds("cpus", value)
    if number is None:
        raise InvalidArgument(f"cpus={value!r} is no number of CPUs")
    return max(1, round(number * 1e9))


def seconds(what: str, value: object) -> float | None:
    """A positive number; None for None, and for a time that is too long for the kernel's clocks.

    Raises:
        InvalidArgument
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise InvalidArgument(f"{what}={value!r} is not a positive number")
    return None if value > _FOREVER else float(value)


def output_limit(value: int | str | None, what: str = "output_limit") -> int | None:
    """Bytes; None: none.

    Raises:
        InvalidArgument
    """
    return None if value is None else size(what, value)


def environment(env: Mapping[str, str] | None) -> list[str]:
    """``NAME=value`` of each.

    Raises:
        InvalidArgument
    """
    if env is None:
        return []
    if not isinstance(env, Mapping):
        raise InvalidArgument(f"env must be a mapping of names to values, not {env!r}")
    items: list[tuple[Any, Any]] = list(env.items())
    for name, value in items:
        bad = not isinstance(name, str) or not isinstance(value, str)
        if bad or not name or "=" in name or "\0" in name + value:
            raise InvalidArgument(f"{name!r}={value!r} cannot be an environment variable")
    return [f"{name}={value}" for name, value in items]


def directory(path: object) -> str | None:
    """A working directory.

    Raises:
        InvalidArgument
    """
    if path is None or (isinstance(path, str) and path.startswith("/") and "\0" not in path):
        return path
    raise InvalidArgument(f"the working directory {path!r} is not an absolute path")


def words(args: object) -> list[str]:
    """A command line.

    Raises:
        InvalidArgument
    """
    if isinstance(args, (str, bytes)) or not hasattr(args, "__iter__"):
        raise InvalidArgument(
            f"the command must be a list of words, not {args!r}",
            hint='["sh", "-c", "…"] runs a line of shell',
        )
    found = [str(word) for word in args]
    if not found or not found[0] or any("\0" in word for word in found):
        raise InvalidArgument(
            "the command must be a list of words without NUL, the first not empty"
        )
    return found


def data(value: object) -> bytes | bytearray | memoryview | None:
    """Bytes, or text as UTF-8.

    Raises:
        InvalidArgument
    """
    if value is None or isinstance(value, (bytes, bytearray, memoryview)):
        return value
    if isinstance(value, str):
        return value.encode()
    raise InvalidArgument(f"bytes are needed, not {type(value).__name__}")
