"""The prepared store that all cases share, and every engine that can start its image."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from bench import worlds
from bench.bundles import Bubblewrap, Oci
from bench.commands import output
from bench.peers import Docker, Floor, Podman
from bench.race import out
from bench.roster import program
from tests.conftest import remove_networks
from tests.support.command import Command
from tests.support.images import archive, changes

if TYPE_CHECKING:
    from fastbox.engine import Engine

T = TypeVar("T")
TRUE = ["/bin/true"]
BRIDGE = "fbfloor0"  # of the floor's containers


class House:
    """A warm store with busybox, and its peers.

    Attributes:
        engine: the library.
        cli: the command in Python; client: the native client, None where there is none.
        config: ``true`` in busybox without a network; ephemeral: the same with ``--rm``.
        floors: ``floor``, ``floor+seccomp``, and ``floor, bridge`` where ``ip`` is here.
        crun, runc, bubblewrap, docker, podman: None where it is absent, or could not be made ready
            (the end of the run says why).
    """

    def __init__(self, directory: str, missing: dict[str, str]) -> None:
        from fastbox.container.config import ContainerConfig
        from fastbox.engine import Engine

        self.directory = directory
        self.root = os.path.join(directory, "root")
        self.runtime_dir = os.path.join(directory, "run")
        os.mkdir(self.runtime_dir, 0o700)
        worlds.mount("tmpfs", self.runtime_dir, "tmpfs", 0, "mode=0700")  # as /run is
        self.missing = missing
        self.engine: Engine = Engine(self.root, self.runtime_dir)
        words = ["--root", self.root, "--runtime-dir", self.runtime_dir]
        plain = program("fastbox-python") or program("fastbox")
        self.cli = Command([plain, *words], directory, {"FASTBOX_DIRECT": "1"})
        self.client: Command | None = None
        if "client" not in missing:
            self.client = Command([program("fastbox"), *words], directory)
        self.config = ContainerConfig(image="busybox", command=TRUE, network="none")
        self.ephemeral = ContainerConfig(
            image="busybox", command=TRUE, network="none", auto_remove=True
        )
        self.floors: dict[str, Floor] = {}
        self.bubblewrap: Bubblewrap | None = None
        self.crun: Oci | None = None
        self.runc: Oci | None = None
        self.docker: Docker | None = None
        self.podman: Podman | None = None

    # ---- preparing ---------------------------------------------------------------------------

    def prepare(self) -> None:
        """Import the image and make the peers ready."""
        self.engine.import_image(archive("busybox"), "busybox", changes=changes("busybox"))
        # A container that ran tells everything: its config.json and its layers.
        example = self.engine.create(self.config)
        self.engine.start(example.id)
        assert self.engine.wait(example.id) == 0
        with open(os.path.join(example.directory, "config.json")) as file:
            spec = json.load(file)
        layers = os.path.join(self.root, "layers")
        names = example.record.layers
        if os.path.isdir(os.path.join(layers, ".init")):
            names = [".init", *names]
        self._prepare_floors(layers, names, self._seccomp(spec))
        self._prepare_bundles(layers, names, spec)
        self.docker = self._ready("docker", lambda: Docker(archive("busybox"), TRUE))
        # A short path: podman wants its runtime directory's to be of 50 characters at most.
        place = tempfile.mkdtemp(prefix="fbp-", dir="/var/tmp") if self._is_here("podman") else ""
        self.podman = self._ready("podman", lambda: Podman(place, archive("busybox"), TRUE))
        self.engine.remove(example.id)

    def _is_here(self, peer: str) -> bool:
        return peer not in self.missing

    def _ready(self, peer: str, make: Callable[[], T]) -> T | None:
        """Make a peer ready; what fails is noted as its failure, and the rest goes on."""
        if not self._is_here(peer):
            return None
        try:
            return make()
        except Exception as e:
            out(peer, e)
            return None

    def _prepare_floors(self, layers: str, names: list[str], filter_file: str) -> None:
        def make(label: str, seccomp: str | None, bridge: str | None = None) -> Callable[[], Floor]:
            work = os.path.join(self.directory, "floors", label.replace(", ", "-"))
            return lambda: Floor(work, layers, names, TRUE, seccomp, bridge)

        found = {
            "floor": self._ready("floor", make("floor", None)),
            "floor+seccomp": self._ready("floor", make("floor+seccomp", filter_file)),
        }
        if shutil.which("ip"):
            output(["ip", "link", "add", BRIDGE, "type", "bridge"])
            output(["ip", "address", "add", "10.254.0.1/16", "dev", BRIDGE])
            output(["ip", "link", "set", BRIDGE, "up"])
            found["floor, bridge"] = self._ready("floor", make("floor, bridge", None, BRIDGE))
        self.floors = {name: floor for name, floor in found.items() if floor is not None}

    def _prepare_bundles(self, layers: str, names: list[str], spec: dict[str, Any]) -> None:
        rootfs = os.path.join(self.directory, "rootfs")
        for name in reversed(names):
            shutil.copytree(os.path.join(layers, name), rootfs, symlinks=True, dirs_exist_ok=True)

        def oci(name: str) -> Callable[[], Oci]:
            return lambda: Oci(name, os.path.join(self.directory, name), rootfs, spec, TRUE)

        self.crun = self._ready("crun", oci("crun"))
        self.runc = self._ready("runc", oci("runc"))
        kept = spec["process"]["capabilities"]["effective"]
        filter_file = os.path.join(self.directory, "filter")
        self.bubblewrap = self._ready(
            "bubblewrap", lambda: Bubblewrap(rootfs, TRUE, filter_file, kept)
        )

    def _seccomp(self, spec: dict[str, Any]) -> str:
        from fastbox.container import seccomp

        path = os.path.join(self.directory, "filter")
        program = seccomp.compile(spec["linux"]["seccomp"], os.path.join(self.directory, "cache"))
        with open(path, "wb") as file:
            file.write(program)
        return path

    # ---- using -------------------------------------------------------------------------------

    def command(self, face: str, *words: str) -> list[str]:
        """The whole argv of ``fastbox`` with the house's store.

        Args:
            face: ``"cli"`` or ``"client"``.
        """
        chosen = self.client if face == "client" else self.cli
        assert chosen is not None
        return [*chosen.argv, *words]

    @contextlib.contextmanager
    def supervised(self) -> Iterator[None]:
        """With the supervisor running, which is what a native client talks to."""
        self.cli.ok("supervisor", "start")
        try:
            yield
        finally:
            self.cli.ok("supervisor", "stop")

    def close(self) -> None:
        for container in self.engine.containers(all=True):
            self.engine.remove(container.id, force=True, volumes=True)
        peers = [self.crun, self.runc, self.bubblewrap, self.docker, self.podman]
        for peer in [*self.floors.values(), *peers]:
            if peer is not None:
                with contextlib.suppress(Exception):
                    peer.close()
        subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)
        remove_networks(self.root)
        worlds.unmount(self.runtime_dir)
