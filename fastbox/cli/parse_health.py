"""``--health-*`` and ``--no-healthcheck``."""

from __future__ import annotations

from ..errors import InvalidArgument
from ..oci.healthcheck import Healthcheck
from .errors import CliError
from .flags import Checked, Flag, Integer, Switch, Text, Values


def nanoseconds(text: str) -> int:
    """A Go duration.

    Raises:
        ValueError
    """
    from ..oci import times

    try:
        return times.duration(text)
    except InvalidArgument as error:
        raise ValueError(str(error)) from None


_DURATION = Checked(nanoseconds, "duration")

FLAGS = (
    Flag("--health-cmd", Text(), "Command to run to check health"),
    Flag(
        "--health-interval",
        _DURATION,
        "Time between running the check (ms|s|m|h) (default 30s, or the image's)",
        default=0,
    ),
    Flag(
        "--health-retries",
        Integer(),
        "Consecutive failures needed to report unhealthy (default 3, or the image's)",
        default=0,
    ),
    Flag(
        "--health-start-interval",
        _DURATION,
        "Time between running the check during the start period (ms|s|m|h) (default 5s)",
        default=0,
    ),
    Flag(
        "--health-start-period",
        _DURATION,
        "Start period for the container to initialize before starting health-retries countdown "
        "(ms|s|m|h) (default 0s)",
        default=0,
    ),
    Flag(
        "--health-timeout",
        _DURATION,
        "Maximum time to allow one check to run (ms|s|m|h) (default 30s, or the image's)",
        default=0,
    ),
    Flag("--no-healthcheck", Switch(), "Disable any container-specified HEALTHCHECK"),
)


def check(values: Values) -> Healthcheck | None:
    """What the flags ask for; None if nothing.

    Raises:
        CliError: they contradict each other, or are out of range.
    """
    found = Healthcheck(
        test=["CMD-SHELL", values.health_cmd] if values.health_cmd else None,
        interval=values.health_interval,
        timeout=values.health_timeout,
        start_period=values.health_start_period,
        start_interval=values.health_start_interval,
        retries=values.health_retries,
    )
    asked = found != Healthcheck()
    if values.no_healthcheck:
        if asked:
            raise CliError("--no-healthcheck conflicts with --health-* options")
        return Healthcheck(test=["NONE"])
    for name in ("interval", "timeout", "retries", "start_period", "start_interval"):
        if getattr(found, name) < 0:
            raise CliError(f"--health-{name.replace('_', '-')} cannot be negative")
    return found if asked else None
