"""Who takes part: the names of the peers, which of them are here, and their versions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from bench.worlds import docker_answers

# Name -> the command that tells its version; the first word is the program. A contestant belongs to
# the peer that its name begins with: "docker, bridge", "skopeo to oci", "floor+seccomp".
PEERS: dict[str, list[str]] = {
    "floor": ["cc", "--version"],
    "bubblewrap": ["bwrap", "--version"],
    "crun": ["crun", "--version"],
    "runc": ["runc", "--version"],
    "podman": ["podman", "--version"],
    "docker": ["docker", "version", "--format", "{{.Server.Version}}"],
    "conmon": ["conmon", "--version"],
    "skopeo": ["skopeo", "--version"],
    "qemu": ["qemu-system-x86_64", "--version"],
    "redis-benchmark": ["redis-benchmark", "--version"],
    "tar": ["tar", "--version"],
    "cp": ["cp", "--version"],
}


def peer_of(contestant: str) -> str | None:
    """The peer that a contestant's name begins with; None for fastbox's own."""
    found = re.match(r"[a-z0-9-]+", contestant)
    return found[0] if found and found[0] in PEERS else None


def absent() -> dict[str, str]:
    """Who cannot take part here: name -> why. Our own faces that this build lacks are named too."""
    missing = {name: "not installed" for name, argv in PEERS.items() if not shutil.which(argv[0])}
    if "docker" not in missing and (why := docker_answers()):
        missing["docker"] = why
    if not is_native(program("fastbox")):
        missing["client"] = "no native client is installed"
    if not has_pool():
        missing["pool"] = "this fastbox has no pool"
    return missing


def program(name: str) -> str:
    """A command of this environment; "" when it is not there."""
    import sysconfig

    path = os.path.join(sysconfig.get_path("scripts"), name)
    return path if os.path.exists(path) else ""


def is_native(path: str) -> bool:
    """Whether a file is an ELF program."""
    if not path:
        return False
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def has_pool() -> bool:
    from fastbox.engine import Engine

    return hasattr(Engine, "pool")


def takes_part(contestant: str, missing: dict[str, str]) -> bool:
    """Whether a contestant's peer, or face of ours, is here."""
    name = peer_of(contestant) or re.split(r"[ ,+]", contestant)[0]
    return name not in missing


def versions() -> dict[str, str]:
    """Peer -> the first line that it tells about itself; absent ones are left out."""
    found = {}
    for name, argv in PEERS.items():
        if not shutil.which(argv[0]):
            continue
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        lines = done.stdout.strip().splitlines()
        if done.returncode == 0 and lines:
            found[name] = re.sub(r"\s+", " ", lines[0].strip())
    return found
