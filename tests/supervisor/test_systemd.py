"""The units under a real systemd, which is init of a privileged container: fastbox in fastbox."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.support.command import Command
from tests.support.images import archive
from tests.support.wait import wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT = os.path.dirname(os.path.dirname(HERE))


@pytest.fixture
def machine(cli: Command, systemd_image: str, base: str) -> Iterator[Callable[..., str]]:
    """A booted machine, on which this installation of fastbox is; what it gives runs a command."""
    program = os.path.join(sys.prefix, "bin", "fastbox")
    volumes = [f"{PROJECT}:{PROJECT}:ro", f"{archive('busybox')}:/busybox.tar:ro"]
    if not sys.prefix.startswith(PROJECT):
        volumes.append(f"{sys.prefix}:{sys.prefix}:ro")
    if sys.base_prefix != "/usr":
        volumes.append(f"{sys.base_prefix}:{sys.base_prefix}:ro")
    cli.ok(
        "run", "-d", "--privileged", "--name", "machine", "-e", "container=fastbox",
        *(word for volume in volumes for word in ("-v", volume)),
        "-v", "store:/var/lib/fastbox", "--tmpfs", "/run:exec", "--tmpfs", "/tmp", systemd_image,
    )  # fmt: skip

    def run(*words: str, status: int | None = 0) -> str:
        words = (program, *words[1:]) if words[0] == "fastbox" else words
        result = cli("exec", "machine", *words)
        assert status is None or result.code == status, result
        return result.out

    booted(run)
    yield run
    cli.ok("rm", "-fv", "machine")
    cli.ok("volume", "rm", "store")


def booted(run: Callable[..., str]) -> None:
    wait_for(
        lambda: (
            run("systemctl", "is-system-running", status=None).strip() in ("running", "degraded")
        ),
        "the machine to boot",
    )


def main_pid(run: Callable[..., str]) -> str:
    return run("systemctl", "show", "-p", "MainPID", "--value", "fastbox").strip()


def test_the_life_of_a_service(machine: Callable[..., str], cli: Command) -> None:
    run = machine
    said = run("fastbox", "supervisor", "install")
    assert "/etc/systemd/system/fastbox.service" in said
    assert run("systemctl", "is-enabled", "fastbox.service", "fastbox.socket").split() == [
        "enabled",
        "enabled",
    ]
    run("systemctl", "start", "fastbox")
    assert "Active: active (running)" in run("systemctl", "status", "fastbox", "--no-pager")
    assert "PID: " + main_pid(run) in run("fastbox", "supervisor", "status")

    run("fastbox", "import", "-c", 'CMD ["sleep", "100000"]', "/busybox.tar", "busybox")
    for policy in ("always", "no"):
        run(
            "fastbox",
            "run",
            "-d",
            "--name",
            policy,
            "--restart",
            policy,
            "--network",
            "none",
            "busybox",
        )  # the image has no nft
    inits = "{{.State.Pid}} {{.State.StartedAt}}"
    before = run("fastbox", "inspect", "-f", inits, "always", "no")

    # Neither a restart, nor a kill, nor a stop of the supervisor touches a container.
    run("systemctl", "restart", "fastbox")
    assert run("fastbox", "inspect", "-f", inits, "always", "no") == before
    killed = main_pid(run)
    run("kill", "-9", killed)
    wait_for(lambda: main_pid(run) not in ("0", killed), "systemd to start it again")
    assert run("fastbox", "inspect", "-f", inits, "always", "no") == before
    run("systemctl", "stop", "fastbox")
    assert "Active: inactive" in run("systemctl", "status", "fastbox", "--no-pager", status=3)
    assert run("fastbox", "inspect", "-f", inits, "always", "no") == before

    # Somebody who needs it wakes it up by its socket.
    run("fastbox", "restart", "-t", "0", "always")
    wait_for(lambda: main_pid(run) != "0", "socket activation")

    # After a boot, what is to run always runs.
    cli.ok("restart", "-t", "20", "machine")
    booted(run)
    wait_for(
        lambda: re.fullmatch("running exited\n?", " ".join(
            run("fastbox", "inspect", "-f", "{{.State.Status}}", "always", "no").split()
        )),
        "the containers after the boot",
    )  # fmt: skip
    assert run("fastbox", "supervisor", "status").startswith("Active: active (running)")
    run("fastbox", "rm", "-f", "always", "no")
    run("fastbox", "supervisor", "uninstall")
    assert run("systemctl", "is-active", "fastbox.service", status=None).strip() == "inactive"
