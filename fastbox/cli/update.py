"""``fastbox update``."""

from __future__ import annotations

from . import parse_policy, run_options
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Text, Values
from .several import each

# The flag's name -> the argument of Engine.update.
_LIMITS = {
    "blkio_weight": "blkio_weight",
    "cpu_period": "cpu_period",
    "cpu_quota": "cpu_quota",
    "cpu_shares": "cpu_shares",
    "cpus": "nano_cpus",
    "cpuset_cpus": "cpuset_cpus",
    "cpuset_mems": "cpuset_mems",
    "memory": "memory",
    "memory_reservation": "memory_reservation",
    "memory_swap": "memory_swap",
    "pids_limit": "pids_limit",
}

# Docker has them here too; see run_options.refuse_never.
_REFUSED = ("cpu_rt_period", "cpu_rt_runtime", "kernel_memory")


def update(app: App, values: Values, words: list[str]) -> int:
    """Change limits and restart policy of containers."""
    run_options.refuse_never(values)
    changes = {
        argument: getattr(values, flag)
        for flag, argument in _LIMITS.items()
        if flag in values.given
    }
    if "restart" in values.given:
        changes["restart"] = parse_policy.restart(values.restart)
    if not changes:
        raise CliError("you must provide one or more flags when using this command")

    def act(name: str) -> str:
        app.engine.update(name, **changes)
        return name

    return each(words, act)


COMMAND = FlagCommand(
    "update",
    update,
    "CONTAINER [CONTAINER...]",
    (
        *(flag for flag in run_options.FLAGS if flag.name in _LIMITS or flag.name in _REFUSED),
        Flag("--restart", Text(), "Restart policy to apply when a container exits"),
    ),
    least=1,
)
