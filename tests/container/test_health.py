"""Health checks as functions: the user's over the image's, times, and what probes amount to."""

from __future__ import annotations

import pytest

from fastbox import ContainerConfig, Engine
from fastbox.container import health
from fastbox.container.merge import merge
from fastbox.container.record import Health, Probe
from fastbox.errors import InvalidArgument
from fastbox.oci.healthcheck import Healthcheck

SECOND = 1_000_000_000
IMAGE = {"Test": ["CMD", "check"], "Interval": 5 * SECOND, "Retries": 4}


def probe(code: int) -> Probe:
    return Probe(start="s", end="e", exit_code=code, output=str(code))


def test_the_users_check_over_the_images() -> None:
    assert health.merge(None, None) is None
    assert health.merge(None, IMAGE) == Healthcheck(
        test=["CMD", "check"], interval=5 * SECOND, retries=4
    )
    asked = Healthcheck(interval=SECOND, timeout=2 * SECOND)
    assert health.merge(asked, IMAGE) == Healthcheck(
        test=["CMD", "check"], interval=SECOND, timeout=2 * SECOND, retries=4
    )
    off = health.merge(Healthcheck(test=["NONE"]), IMAGE)
    assert off is not None
    assert off.test == ["NONE"]


def test_the_images_shell_runs_the_users_line() -> None:
    config = ContainerConfig(image="x", healthcheck=Healthcheck(test=["CMD-SHELL", "a | b"]))
    record = merge("0" * 64, "box", "now", config, {"Cmd": ["x"], "Shell": ["/bin/ash", "-xc"]})
    assert health.command(record) == ["/bin/ash", "-xc", "a | b"]
    record = merge("0" * 64, "box", "now", config, {"Cmd": ["x"]})
    assert health.command(record) == ["/bin/sh", "-c", "a | b"]
    for test in (["NONE"], [], ["CMD"], ["CMD-SHELL", ""], ["PIGEON", "x"]):
        record.healthcheck = Healthcheck(test=test)
        assert health.command(record) == []
        assert not health.is_probed(record)


def test_times_of_probes() -> None:
    plain = Healthcheck(test=["CMD", "x"])
    assert health.next_interval(plain, "starting", 0) == 30
    check = Healthcheck(
        test=["CMD", "x"], interval=10 * SECOND, start_period=60 * SECOND, start_interval=2 * SECOND
    )
    assert health.next_interval(check, "starting", 0) == 2
    assert health.next_interval(check, "healthy", 0) == 10
    assert health.next_interval(check, "starting", 59) == 1  # one at the period's end
    assert health.next_interval(check, "starting", 61) == 10
    check.start_interval = 0
    assert health.next_interval(check, "starting", 0) == 5


def test_what_probes_amount_to() -> None:
    check = Healthcheck(test=["CMD", "x"], retries=2, start_period=10 * SECOND)
    known = Health(run=3)
    known = health.note(known, check, probe(1), up_for=5)
    assert (known.status, known.failing_streak) == ("starting", 0)
    known = health.note(known, check, probe(0), up_for=6)
    assert known.status == "healthy"
    known = health.note(known, check, probe(-1), up_for=7)  # it has been healthy: this counts
    assert (known.status, known.failing_streak) == ("healthy", 1)
    known = health.note(known, check, probe(2), up_for=8)
    assert (known.status, known.failing_streak, known.run) == ("unhealthy", 2, 3)
    for code in (0, 0, 7):
        known = health.note(known, check, probe(code), up_for=9)
    assert (known.status, known.failing_streak) == ("healthy", 1)
    assert [found.output for found in known.log] == ["-1", "2", "0", "0", "7"]


def test_three_failures_make_it_unhealthy() -> None:
    known, check = Health(run=1), Healthcheck(test=["CMD", "x"])
    states = []
    for _ in range(4):
        known = health.note(known, check, probe(1), up_for=0)
        states.append(known.status)
    assert states == ["starting", "starting", "unhealthy", "unhealthy"]


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (Healthcheck(interval=999_999), "Interval in Healthcheck cannot be less than 1ms"),
        (Healthcheck(timeout=-1), "Timeout in Healthcheck cannot be less than 1ms"),
        (Healthcheck(start_period=1), "StartPeriod in Healthcheck cannot be less than 1ms"),
        (Healthcheck(start_interval=1), "StartInterval in Healthcheck cannot be less than 1ms"),
        (Healthcheck(retries=-1), "Retries in Healthcheck cannot be negative"),
        (Healthcheck(test=["CMD", "\0"]), "an argument of the health check holds a NUL character"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(
    engine: Engine, busybox_image: str, check: Healthcheck, text: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        engine.create(ContainerConfig(image=busybox_image, healthcheck=check))
    assert str(refused.value) == text
    assert engine.containers(all=True) == []
