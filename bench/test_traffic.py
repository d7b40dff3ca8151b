"""What goes through networks: streams, connections to published ports, and names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.conftest import House
from bench.race import Found, median, race, ready, report, unless_out
from bench.traffic import INSIDE, PORT, Net, Server
from fastbox.network.types import Publish

SECONDS, SECONDS_QUICK = 1.0, 0.2  # of one stream
ASKED = "server"  # the name that is looked up
NETWORK = "benchnet"
PATHS = ["host", "container", "published"]
CONTESTANTS = [f"{engine}, {path}" for path in PATHS for engine in ("fastbox", "docker")]
WINDOW = 64


def exec_in(house: House, container: str) -> list[str]:
    return [*house.cli.argv, "exec", container]


@contextlib.contextmanager
def servers(house: House, net: Net) -> Iterator[dict[str, Server]]:
    """One of each engine on its default bridge, published, and a container for the client."""
    with contextlib.ExitStack() as stack:
        found = {
            "fastbox": stack.enter_context(
                net.fastbox_server(house, publish=[Publish(container=PORT, host=PORT)])
            ),
            "fastbox client": stack.enter_context(net.fastbox_server(house)),
        }
        if house.docker is not None:
            with ready("docker"):
                options = ["-p", f"{PORT}:{PORT}"]
                server = stack.enter_context(net.docker_server(house.docker, options))
                client = stack.enter_context(net.docker_server(house.docker))
                found |= {"docker": server, "docker client": client}
        yield found


def streams_of(
    net: Net, engine: str, server: Server, host: list[str], inside: list[str], seconds: float
) -> dict[str, Callable[[], float]]:
    """The contestants of one engine."""
    return {
        f"{engine}, host": lambda: net.send(host, net.program, server.address, seconds),
        f"{engine}, container": lambda: net.send(inside, INSIDE, server.address, seconds),
        f"{engine}, published": lambda: net.send(host, net.program, "127.0.0.1", seconds),
    }


@pytest.fixture(scope="module")
def streams(house: House, net: Net, values: dict[str, float], rounds: int, quick: bool) -> Found:
    """Seconds for a gigabyte; also how long a connection to a published port takes."""
    long = SECONDS_QUICK if quick else SECONDS
    with servers(house, net) as found:
        inside = exec_in(house, found["fastbox client"].id)
        contestants = streams_of(net, "fastbox", found["fastbox"], [], inside, long)
        calls: dict[str, Callable[[], float]] = {
            "fastbox": lambda: net.call([], "127.0.0.1", PORT),
        }
        if "docker" in found:
            inside = ["docker", "exec", found["docker client"].id]
            contestants |= streams_of(net, "docker", found["docker"], net.docker_host, inside, long)
            calls["docker"] = lambda: net.call(net.docker_host, "127.0.0.1", PORT)
        times = race(contestants, max(3, rounds // 6), warmup=1)
        called = race(calls, max(3, rounds // 3))
    values["published call[fastbox]"] = median(called["fastbox"]) * 1000
    for path in PATHS:
        with unless_out():
            ratio = median(times[f"docker, {path}"]) / median(times[f"fastbox, {path}"])
            values[f"throughput {path}[fastbox] / [docker]"] = ratio
    with unless_out():
        ratio = median(called["fastbox"]) / median(called["docker"])
        values["published call[fastbox] / [docker]"] = ratio
    return times


@pytest.mark.benchmark(group="gigabyte")
def test_streams(contestant: str, streams: Found, benchmark: Any) -> None:
    report(benchmark, streams[contestant])


# ---- names ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def asking(house: House, net: Net) -> Iterator[dict[str, list[str]]]:
    """What runs a command in a container that can ask for ASKED, for each engine."""
    with contextlib.ExitStack() as stack:
        house.engine.create_network(NETWORK)
        stack.callback(house.engine.remove_network, NETWORK)
        stack.enter_context(net.fastbox_server(house, network=NETWORK, name=ASKED))
        client = stack.enter_context(net.fastbox_server(house, network=NETWORK))
        found = {"fastbox": exec_in(house, client.id)}
        if house.docker is not None:
            with ready("docker"):
                stack.enter_context(house.docker.network(NETWORK))
                options = ["--network", NETWORK]
                named = [*options, "--name", ASKED]
                stack.enter_context(net.docker_server(house.docker, named))
                container = stack.enter_context(net.docker_server(house.docker, options))
                found["docker"] = ["docker", "exec", container.id]
        yield found


def name_servers() -> list[int]:
    """Pids of fastbox's name servers."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{int(entry)}/cmdline") as file:
            if file.read().startswith("fastbox-net\0"):
                found.append(int(entry))
    return found


def processor_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.benchmark(group="names")
def test_names(
    house: House, net: Net, values: dict[str, float], rounds: int, quick: bool, benchmark: Any
) -> None:
    """Local names, asked for by one client: one after the other, and 64 at a time. Our name server
    is one process with one thread: it has one core at most."""
    rates: dict[str, list[float]] = {}
    used = answers = 0.0
    long = SECONDS_QUICK if quick else SECONDS
    before = set(name_servers())

    def one_by_one(engine: str) -> float:
        return net.ask(where[engine], ASKED, long / 2, 1)[1]

    def flood(engine: str) -> float:
        nonlocal used, answers
        mine = [pid for pid in name_servers() if pid not in before]
        start = sum(map(processor_seconds, mine))
        rate, _ = net.ask(where[engine], ASKED, long, WINDOW)
        if engine == "fastbox":
            used += sum(map(processor_seconds, mine)) - start
            answers += rate * long
        rates.setdefault(engine, []).append(rate)
        return long / rate

    with asking(house, net) as where:
        contestants: dict[str, Callable[[], float]] = {}
        for engine in where:
            contestants[f"{engine}, one by one"] = lambda engine=engine: one_by_one(engine)
            contestants[f"{engine}, flood"] = lambda engine=engine: flood(engine)
        found = race(contestants, max(3, rounds // 6), warmup=1)
    for engine in where:
        with unless_out():
            values[f"names[{engine}]"] = 1 / median(found[f"{engine}, flood"])
            values[f"names[{engine}, latency]"] = median(found[f"{engine}, one by one"]) * 1000
    values["names[fastbox, per second of its processor]"] = answers / max(used, 0.01)
    if "names[docker]" in values:
        values["names[fastbox] / [docker]"] = values["names[fastbox]"] / values["names[docker]"]
    report(benchmark, found["fastbox, one by one"])
