"""Servers in containers of both engines, and bench/net.c as their client: on the engine's host, or
in another container."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bench.commands import output
from bench.peers import HERE, compile_c
from bench.race import out
from tests.support.wait import wait_for

if TYPE_CHECKING:
    from bench.conftest import House
    from bench.peers import Docker
    from fastbox.network.types import Publish

PORT = 5201
INSIDE = "/bench/net"


class Server(NamedTuple):
    """A container that serves.

    Attributes:
        gateway: the host's address on its network.
    """

    id: str
    address: str
    gateway: str


class Net:
    """The client.

    Args:
        docker_network: path of the network namespace of docker's daemon.

    Attributes:
        docker_host: what goes before a command line so that it runs on docker's host.
    """

    def __init__(self, docker_network: str) -> None:
        self.program = compile_c(os.path.join(HERE, "net.c"), "net", "-static")
        self.docker_host = ["nsenter", f"--net={docker_network}"]

    # ---- servers -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def fastbox_server(
        self,
        house: House,
        *,
        network: str = "bridge",
        publish: Sequence[Publish] = (),
        name: str = "",
    ) -> Iterator[Server]:
        """A container of fastbox's that serves at PORT."""
        from fastbox.container.config import Mount

        config = msgspec.structs.replace(
            house.ephemeral,
            name=name or None,
            network=network,
            publish=list(publish),
            command=[INSIDE, "serve", str(PORT)],
            mounts=[Mount(type="bind", source=os.path.dirname(self.program), target="/bench")],
        )
        made = house.engine.create(config)
        try:
            started = house.engine.start(made.id)
            (place,) = house.engine.networking(started).endpoints
            yield self._ready([], Server(made.id, place.address, place.gateway))
        finally:
            house.engine.remove(made.id, force=True)

    @contextlib.contextmanager
    def docker_server(self, docker: Docker, options: Sequence[str] = ()) -> Iterator[Server]:
        """One of docker's."""
        volume = f"{os.path.dirname(self.program)}:/bench"
        argv = ["docker", "run", "-d", "--rm", "-v", volume, *options, docker.IMAGE]
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}}{{end}}"
        container = ""
        try:
            try:
                container = _output([*argv, INSIDE, "serve", str(PORT)])
                address, gateway = _output(["docker", "inspect", "-f", form, container]).split()
                server = self._ready(self.docker_host, Server(container, address, gateway))
            except Exception as e:
                raise out("docker", e) from e
            yield server
        finally:
            if container:
                subprocess.run(["docker", "rm", "-f", container], capture_output=True)

    def _ready(self, host: Sequence[str], server: Server) -> Server:
        argv = [*host, self.program, "call", server.address, str(PORT), "1"]
        wait_for(lambda: subprocess.run(argv, capture_output=True).returncode == 0, "a server")
        return server

    # ---- clients -----------------------------------------------------------------------------

    def call(self, host: Sequence[str], address: str, port: int, count: int = 300) -> float:
        """Median seconds of a connection: made, a byte there and back."""
        words = [self.program, "call", address, str(port), str(count)]
        return int(_output([*host, *words]).split()[0]) / 1e9

    def send(self, where: Sequence[str], program: str, address: str, seconds: float) -> float:
        """Seconds for a gigabyte in one stream.

        Args:
            where: goes before the command line: of a host, or ``docker exec ID``.
            program: its path there.
        """
        words = [program, "send", address, str(PORT), str(seconds)]
        return 1e9 / float(_output([*where, *words]))

    def ask(
        self, where: Sequence[str], name: str, seconds: float, window: int
    ) -> tuple[float, float]:
        """From a container: answers per second, and their median latency in seconds."""
        words = [INSIDE, "ask", "127.0.0.11", "53", str(seconds), str(window), name]
        rate, nanoseconds, lost = _output([*where, *words]).split()
        assert int(lost) == 0, f"{lost} answers were lost"
        return float(rate), int(nanoseconds) / 1e9


def _output(argv: Sequence[str]) -> str:
    return output(argv).strip()
