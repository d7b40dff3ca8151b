"""The walkthroughs: every command block of them is run, with the real command, images from (what
looks like) Docker Hub, and a host of its own whose /etc and network the commands may change."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator

import msgspec
import pytest

from fastbox.image.changes import apply
from tests.conftest import remove_containers
from tests.support.command import fastbox_program
from tests.support.images import archive, changes
from tests.support.internet import Internet, Search
from tests.support.leaks import LeakCheck
from tests.support.netns import World
from tests.support.registry import Registry

from .console import Shell, fits, script, steps

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ENGLISH = os.path.join(PROJECT, "docs", "walkthrough.md")
CHINESE = os.path.join(PROJECT, "docs", "walkthrough.zh.md")

LAN = "192.168.17.200"  # the address of the notes' private registry
PLACE = "/zzyyuse"  # where that registry keeps its images
ALIYUN = "registry.cn-hangzhou.aliyuncs.com"
# What Docker Hub has: name -> recipe of tests/support/images.py
HUB = {
    "library/ubuntu:latest": "ubuntu",
    "library/busybox:latest": "busybox",
    "library/redis:latest": "redis",
    "library/redis:6.0.8": "redis",
    "library/registry:latest": "registry",
}
FOUND = [
    {"name": name, "description": "A store", "star_count": stars, "is_official": stars > 9}
    for name, stars in (("redis", 12000), ("someone/redis", 3), ("else/redis-tools", 1))
]  # fmt: skip


def fill(registry: Registry) -> None:
    """Put the images into what is to be Docker Hub; uncompressed, for the tests' time."""
    for day, (name, recipe) in enumerate(HUB.items(), 1):
        with open(archive(recipe), "rb") as file:
            layer = file.read()
        config = msgspec.to_builtins(apply(None, changes(recipe)))
        created = f"2024-05-0{day}T10:00:00Z"
        registry.push(name, [layer], config=config, compression="none", created=created)


class Machine:
    """A host: network and mounts of its own, /etc that may be written, the internet."""

    def __init__(self, base: str, hub: Registry, private: Registry) -> None:
        os.makedirs(PLACE, exist_ok=True)
        self.world = World()
        self.world.ip("host", f"address add {LAN}/32 dev lo")
        self.search = Search(FOUND)
        listener = self.world.inside("host", _listener)
        os.makedirs(f"{base}/ca")
        self.internet = Internet(
            f"{base}/ca",
            listener,
            {
                "registry-1.docker.io": ("127.0.0.1", hub.port),
                "index.docker.io": self.search.address,
                ALIYUN: ("127.0.0.1", private.port),
            },
        )
        self.holder = subprocess.Popen(
            ["nsenter", f"--net=/proc/{self.world.pid('host')}/ns/net", "unshare", "--mount",
             "--propagation", "private", "sh", "-c", SETUP, "sh", base, PLACE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == b"ready\n"
        pid = self.holder.pid
        self.enter = ["nsenter", f"--net=/proc/{pid}/ns/net", f"--mount=/proc/{pid}/ns/mnt"]

    def close(self) -> None:
        assert self.holder.stdin is not None and self.holder.stdout is not None
        self.holder.stdin.close()
        self.holder.stdout.close()
        self.holder.wait()
        self.internet.close()
        self.search.close()
        self.world.close()
        with contextlib.suppress(OSError):  # somebody's own
            os.rmdir(PLACE)


# A writable /etc, and the notes' directory, that go with the namespace.
SETUP = """
mkdir -p "$1/etc" "$1/etc-work" &&
mount -t overlay -o "lowerdir=/etc,upperdir=$1/etc,workdir=$1/etc-work" overlay /etc &&
rm -rf /etc/fastbox /etc/docker /etc/containers &&
mount -t tmpfs tmpfs "$2" && echo ready && exec cat
"""


def _listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.fixture
def hub(base: str) -> Iterator[Registry]:
    with contextlib.closing(_Closing(f"{base}/hub")) as registry:
        fill(registry)
        yield registry


@pytest.fixture
def private(base: str) -> Iterator[Registry]:
    """Aliyun's registry: it wants a name and a password."""
    with contextlib.closing(_Closing(f"{base}/aliyun", auth=True)) as registry:
        yield registry


class _Closing(Registry):
    """Behind a proxy, so what it tells clients must not name itself."""

    def _config(self) -> str:
        config = json.loads(super()._config())
        config["http"]["relativeurls"] = True
        return json.dumps(config)

    def close(self) -> None:
        self.stop()


@pytest.fixture
def machine(base: str, hub: Registry, private: Registry) -> Iterator[Machine]:
    with contextlib.closing(Machine(base, hub, private)) as made:
        yield made


def test_walkthrough(
    machine: Machine, base: str, root: str, runtime_dir: str, home: str, leak_check: LeakCheck
) -> None:
    programs, work = os.path.dirname(fastbox_program()), os.path.join(base, "work")
    os.mkdir(work)
    env = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": home,
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "FASTBOX_ROOT": root,
        "FASTBOX_RUNTIME_DIR": runtime_dir,
        "NO_PROXY": LAN,
        **machine.internet.environment,
    }
    shell = Shell(machine.enter, work, env)
    try:
        for step in steps(ENGLISH):
            shell.run(step)
    finally:
        shell.close()
        machine.world.inside("host", lambda: remove_containers(root, runtime_dir))


def test_chinese_walkthrough_has_the_same_commands() -> None:
    """So what is true of the one is true of the other."""
    english = [(script(step), step.typed) for step in steps(ENGLISH)]
    chinese = [(script(step), step.typed) for step in steps(CHINESE)]
    assert chinese == english


@pytest.mark.parametrize(
    ("printed", "expected", "fit"),
    [
        ("", [], True),
        ("a\n", [], False),
        ("a\n", ["a"], True),
        ("a   b\n", ["a b"], True),
        ("id 1234 end\n", ["id … end"], True),
        ("id 1234\nend\n", ["id … end"], False),
        ("1\n2\n3\n", ["…", "3"], True),
        ("1\n2\n3\n", ["…", "4"], False),
        ("1\n2\n", ["1"], False),
    ],
)
def test_comparison(printed: str, expected: list[str], fit: bool) -> None:
    assert fits(printed, expected) is fit
