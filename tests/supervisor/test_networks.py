"""Networks and what may happen to their ground: rules that are flushed, a reboot."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fastbox.container.config import RestartPolicy
from fastbox.container.record import Container
from fastbox.engine import Engine
from fastbox.errors import FastboxError
from fastbox.network import firewall
from fastbox.network.types import Publish
from fastbox.supervisor import service
from fastbox.supervisor.service import Service
from tests.conftest import remove_networks
from tests.support.boxes import start
from tests.support.wait import wait_for

SERVER = "while :; do echo it works | nc -l -p 80; done"


def server(engine: Engine, image: str, network: str) -> Container:
    """A container that the supervisor looks after, with a published port."""
    return start(
        engine,
        image,
        *("sh", "-c", SERVER),
        name="served",
        network=network,
        restart=RestartPolicy(name="always"),
        publish=[Publish(container=80, host_ip="127.0.0.1")],
    )


def rules(table: str) -> str:
    listing = subprocess.run(
        ["nft", "list", "table", "inet", table], capture_output=True, text=True
    )
    return listing.stdout


def answer(engine: Engine) -> str:
    """What the published port says; "" while nobody answers."""
    ports = engine.networking(engine.container("served")).ports
    if not ports:
        return ""
    try:
        with socket.create_connection(("127.0.0.1", ports[0].host), timeout=2) as client:
            return client.recv(100).decode()
    except OSError:
        return ""


def test_flushed_rules_come_back(engine: Engine, busybox_image: str) -> None:
    table = firewall.table_name(engine.root)
    server(engine, busybox_image, "bridge")
    before = rules(table)
    assert "tcp . " in before
    subprocess.run(["nft", "delete", "table", "inet", table], check=True)
    wait_for(lambda: rules(table) == before, "its rules")
    subprocess.run(["nft", "flush", "table", "inet", table], check=True)
    wait_for(lambda: rules(table) == before, "its rules")
    assert wait_for(lambda: answer(engine), "an answer") == "it works\n"


class Enough(BaseException):
    """The end of a task that has none."""


def guarding(monkeypatch: pytest.MonkeyPatch, outcomes: list[Any]) -> tuple[list[float], list[str]]:
    """How long the supervisor waits between its looks at the packet filter, and what it notes.

    Args:
        outcomes: of each look: whether the rules were gone, or what it raises.
    """
    pauses: list[float] = []
    notes: list[str] = []
    numbers = itertools.count(1)
    guarded = Service.__new__(Service)

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if not outcomes:
            raise Enough

    async def in_thread(call: Callable[..., Any], *args: Any) -> Any:
        return call()

    def guard() -> bool:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return bool(outcome)

    monkeypatch.setattr(service.asyncio, "sleep", sleep)
    monkeypatch.setattr(service.tables, "generation", lambda: next(numbers))
    monkeypatch.setattr(service.firewall, "sees_bridged", lambda: False)
    monkeypatch.setattr(guarded, "in_thread", in_thread, raising=False)
    monkeypatch.setattr(guarded, "note", notes.append, raising=False)
    lifecycle = SimpleNamespace(networks=SimpleNamespace(guard=guard))
    monkeypatch.setattr(guarded, "lifecycle", lifecycle, raising=False)
    with contextlib.suppress(Enough):
        asyncio.run(guarded._guard_rules())
    return pauses, notes


def test_rules_are_guarded_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon again, then less often; whatever it was."""
    outcomes = [FastboxError("nft: busy")] * 7 + [KeyError("x"), True, OSError(errno.EIO, "I/O")]
    pauses, notes = guarding(monkeypatch, outcomes)
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60, 2, 4]
    assert notes == [
        "looking at the packet filter failed: nft: busy",
        "looking at the packet filter failed: KeyError('x')",
        "the packet filter's rules were gone: loaded again",
        "looking at the packet filter failed: [Errno 5] I/O",
    ]


def test_no_filter_in_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses, _ = guarding(monkeypatch, [OSError(errno.EPROTONOSUPPORT, "no"), False])
    assert pauses == [2, 3600, 2]


def test_networks_come_back_after_a_reboot(engine: Engine, busybox_image: str) -> None:
    made = engine.create_network("backend")
    box = server(engine, busybox_image, "backend")
    assert wait_for(lambda: answer(engine), "an answer") == "it works\n"
    engine.stop_supervisor()
    os.kill(box.state.monitor_pid, signal.SIGKILL)  # init dies with it
    wait_for(lambda: not engine.container(box.id).state.status.is_up, "its end")
    remove_networks(engine.root)
    shutil.rmtree(engine.runtime_dir)
    again = Engine(engine.root, engine.runtime_dir)
    again.start_supervisor()
    wait_for(lambda: again.container(box.id).state.run == 2, "its second run")
    assert wait_for(lambda: answer(again), "an answer") == "it works\n"
    assert again.network("backend") == made
    (place,) = again.networking(again.container(box.id)).endpoints
    assert place.network == "backend"
