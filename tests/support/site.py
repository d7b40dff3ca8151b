"""The real command on a host of the test's own: fastbox runs in the namespace ``host`` of a World,
the neighbour ``outside`` is another machine, and containers are places of that world too."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

from fastbox import supervision
from fastbox.network import firewall, options

from .boxes import compile_static
from .command import Command, Result, fastbox_program
from .leaks import network_state
from .netns import World
from .wait import wait_for

# Answers each TCP connection and datagram on the ports of its arguments with the peer's address.
PEER = r"""
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
static int open_one(int type, int port) {
  struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  int fd = socket(AF_INET6, type, 0), no = 0, yes = 1;
  setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(fd, (void *)&a, sizeof a) < 0) _exit(3);
  if (type == SOCK_STREAM && listen(fd, 64) < 0) _exit(4);
  return fd;
}
static int text(struct sockaddr_in6 *a, char *out) {
  if (IN6_IS_ADDR_V4MAPPED(&a->sin6_addr)) inet_ntop(AF_INET, a->sin6_addr.s6_addr + 12, out, 64);
  else inet_ntop(AF_INET6, &a->sin6_addr, out, 64);
  return strlen(out);
}
int main(int argc, char **argv) {
  struct pollfd polls[64];
  int n = 0;
  signal(SIGTERM, _exit);
  signal(SIGPIPE, SIG_IGN);
  for (int i = 1; i < argc && n < 64; i++) {
    polls[n++] = (struct pollfd){open_one(SOCK_DGRAM, atoi(argv[i])), POLLIN};
    polls[n++] = (struct pollfd){open_one(SOCK_STREAM, atoi(argv[i])), POLLIN};
  }
  for (;;) {
    if (poll(polls, n, -1) < 0) continue;
    for (int i = 0; i < n; i++) {
      struct sockaddr_in6 a;
      socklen_t size = sizeof a;
      char data[512], name[64];
      if (!polls[i].revents) continue;
      if (i % 2 == 0) {
        if (recvfrom(polls[i].fd, data, sizeof data, 0, (void *)&a, &size) < 0) continue;
        sendto(polls[i].fd, name, text(&a, name), 0, (void *)&a, size);
      } else {
        int fd = accept(polls[i].fd, (void *)&a, &size);
        struct timeval time = {5, 0};
        if (fd < 0) continue;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
        if (read(fd, data, 1) == 1 && write(fd, name, text(&a, name)) < 0) {}
        close(fd);
      }
    }
  }
}
"""


class Site:
    """A store whose fastbox runs on the host of a world.

    Attributes:
        cli: the command, there. root, runtime_dir: of the store.
    """

    def __init__(self, world: World, root: str, runtime_dir: str, home: str) -> None:
        self.world, self.root, self.runtime_dir = world, root, runtime_dir
        self.table = firewall.table_name(root)
        self.prefix = options.link_prefix(root)
        words = ["--root", root, "--runtime-dir", runtime_dir]
        self.cli = Command([*self.entering("host"), fastbox_program(), *words], home)
        self.peer = os.path.join(home, "peer")
        with open(self.peer, "wb") as file:
            file.write(compile_static(PEER, os.path.dirname(os.path.dirname(home))))
        os.chmod(self.peer, 0o755)
        self._adopted: list[str] = []
        self._gateways: dict[str, str] = {}

    def entering(self, name: str) -> list[str]:
        """What runs a program in a place of the world, with this machine's own mounts (the
        cgroups below /sys among them)."""
        return ["nsenter", f"--net=/proc/{self.world.pid(name)}/ns/net", "--"]

    def empty(self) -> None:
        """Remove what a test made, as a user would."""
        self.world.stop_serving()
        for name in self._adopted:
            self.world.forget(name)
        self._adopted.clear()
        self._gateways.clear()
        supervision.stop(self.runtime_dir)
        containers = self.cli.ok("ps", "-aq").split()
        if containers:
            self.cli.ok("rm", "-fv", *containers)
        if len(os.listdir(f"{self.root}/networks")) > 2:  # .lock and bridge.json
            self.cli.ok("network", "prune", "-f")

    # ---- containers --------------------------------------------------------------------------

    def run(self, name: str, *options: str, command: Sequence[str] = ()) -> str:
        """A detached busybox, known to the world by its name; it sleeps. Its id."""
        words = command or ("sleep", "1000")
        found = self.cli.ok("run", "-d", "--name", name, *options, "busybox", *words)
        self.adopt(name)
        return found

    def serve(self, name: str, *options: str, ports: Sequence[int] = (80,)) -> str:
        """A container that tells each caller its address, on the given ports; its id."""
        mount = ("-v", f"{self.peer}:/peer:ro")
        words = ("--name", name, *mount, *options, "busybox", "/peer", *map(str, ports))
        found = self.cli.ok("run", "-d", *words)
        self.wait_listening(name, ports)
        return found

    def adopt(self, name: str) -> None:
        """Let the world know a container that runs."""
        self.world.adopt(name, self.pid(name))
        self._adopted.append(name)

    def wait_listening(self, name: str, ports: Sequence[int]) -> None:
        """Wait until somebody listens at TCP ports in a container."""
        wanted = {f"{port:04X}" for port in ports}
        self.adopt(name)

        def listening() -> bool:
            found = set()
            for table in ("tcp", "tcp6"):
                with open(f"/proc/{self.world.pid(name)}/net/{table}") as file:
                    for line in list(file)[1:]:
                        words = line.split()
                        if words[3] == "0A":
                            found.add(words[1].rpartition(":")[2])
            return wanted <= found

        wait_for(listening, f"{name} to listen at {ports}")

    def inspect(self, name: str, format: str) -> str:
        return self.cli.ok("inspect", "-f", format, name)

    def pid(self, name: str) -> int:
        return int(self.inspect(name, "{{.State.Pid}}"))

    def monitor(self, name: str) -> int:
        """The monitor of a container that runs."""
        with open(f"{self.runtime_dir}/{self.inspect(name, '{{.Id}}')}/state.json") as file:
            return int(json.load(file)["monitor_pid"])

    def address(self, name: str, network: str = "", *, ipv6: bool = False) -> str:
        """A container's address on a network, the first one that it has if none is given."""
        field = "GlobalIPv6Address" if ipv6 else "IPAddress"
        places = json.loads(self.inspect(name, "{{json .NetworkSettings.Networks}}"))
        return str(places[network or next(iter(places))][field])

    def sh(self, name: str, script: str) -> Result:
        """A shell script in a container."""
        return self.cli("exec", name, "sh", "-c", script)

    def out(self, name: str, script: str) -> str:
        """What it prints; it must succeed."""
        return self.cli.ok("exec", name, "sh", "-c", script)

    def lookup(self, name: str, what: str) -> list[str]:
        """The addresses under which a container finds a name."""
        done = self.cli("exec", name, "nslookup", what)
        _, _, answer = done.out.partition("\n\n")
        return sorted(set(re.findall(r"(?m)^Address(?: \d+)?: *(\S+)", answer)))

    # ---- the host ----------------------------------------------------------------------------

    def gateway(self, network: str) -> str:
        return self.cli.ok(
            "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", network
        )

    def links(self) -> set[str]:
        """The host's ends of containers' links."""
        return {name for name in self.interfaces() if name.startswith(self.prefix)}

    def interfaces(self) -> set[str]:
        return self.world.inside("host", lambda: {name for _, name in socket.if_nameindex()})

    def elements(self) -> list[str]:
        """What the packet filter has of published ports: ``map: element``."""
        done = self.world.inside("host", lambda: subprocess.run(
            ["nft", "-j", "list", "table", "inet", self.table], capture_output=True))  # fmt: skip
        if done.returncode:
            return []
        found = []
        for item in json.loads(done.stdout)["nftables"]:
            if "map" in item and item["map"]["name"].startswith("ports"):
                for element in item["map"].get("elem", []):
                    found.append(f"{item['map']['name']}: {_flat(element)}")
        return sorted(found)

    def left(self) -> list[str]:
        """Everything that containers have of networks, a line each."""
        links = [f"link {name}" for name in sorted(self.links())]
        ports = [f"port {element}" for element in self.elements()]
        return [*network_state(self.runtime_dir), *links, *ports]

    def settles(self, expected: list[str]) -> bool:
        """Whether that is left, at once; but for links, which the kernel takes down in the
        background, with their namespaces."""

        def given_out(left: list[str]) -> list[str]:
            return [line for line in left if not line.startswith("link ")]

        if given_out(self.left()) != given_out(expected):
            return False
        wait_for(lambda: self.left() == expected, "the links to go")
        return True

    def resolve(self, name: str, what: str) -> list[str]:
        """The same as ``lookup`` for IPv4, by a query of this process: it is quicker."""
        labels = b"".join(bytes([len(x)]) + x.encode() for x in what.split("."))
        query = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"

        def act() -> bytes:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(10)
                s.connect(("127.0.0.11", 53))
                s.send(query)
                return s.recv(4096)

        reply = self.world.inside(name, act)
        count = int.from_bytes(reply[6:8], "big")
        answers = reply[len(query) :]  # of 16 bytes each: the name is a pointer to the question's
        return sorted(socket.inet_ntoa(answers[16 * n + 12 : 16 * n + 16]) for n in range(count))

    def nft(self, text: str) -> str:
        """``nft -f`` on the host."""
        return self.world.run("host", ["nft", "-f", "-"], input=text + "\n")

    def ruleset(self, *what: str) -> str:
        """``nft list …`` on the host."""
        return self.world.run("host", ["nft", "list", *(what or ("ruleset",))])

    @contextlib.contextmanager
    def holding(self, address: str, port: int, protocol: str = "tcp") -> Iterator[None]:
        """While a process of the host has a port."""
        server = self.world.serve("host", address, port, protocol)
        try:
            yield
        finally:
            server.close()


def _flat(value: Any) -> str:
    """``tcp 8080 172.18.0.2 80`` of nft's JSON."""
    if isinstance(value, dict):
        return " ".join(_flat(item) for item in value.values())
    if isinstance(value, list):
        return " ".join(_flat(item) for item in value)
    return str(value)
