"""Where the benchmarks run: mount and network namespaces of their own, and docker's daemon in
another network namespace, so that neither engine's packet filter sees the other's packets."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MS_MOVE, MS_BIND, MS_REC, MS_PRIVATE = 0x2000, 0x1000, 0x4000, 0x40000
_CGROUPS = "/sys/fs/cgroup"
_STARTS_WITHIN = 30  # seconds
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), what)


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """mount(2)."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    _check(_libc.mount(*words, ctypes.c_ulong(flags), data.encode()), f"mounting {target}")


def unmount(target: str) -> None:
    """umount(2)."""
    _check(_libc.umount2(os.fsencode(target), 0), f"unmounting {target}")


def own_namespaces() -> None:
    """Mounts and interfaces made from here on are seen by this process and its children only."""
    _check(_libc.unshare(CLONE_NEWNS), "a mount namespace of one's own")
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    own_network()


def own_network() -> None:
    """An empty network namespace whose lo is up, and the /sys that shows it; in a mount namespace
    of one's own."""
    _check(_libc.unshare(CLONE_NEWNET), "a network namespace of one's own")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
    kept = tempfile.mkdtemp(prefix="fb-bench-", dir="/var/tmp")
    mount(_CGROUPS, kept, None, MS_BIND | MS_REC)
    mount("sysfs", "/sys", "sysfs", 0)
    mount(kept, _CGROUPS, None, MS_MOVE)
    os.rmdir(kept)


def remove_cgroups(path: str) -> None:
    """Remove a cgroup and those below it, as far as they are empty."""
    for directory, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def docker_answers() -> str:
    """``""``, or why docker cannot be used."""
    if not shutil.which("docker"):
        return "not installed"
    done = subprocess.run(["docker", "version"], capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no daemon"])[-1]
    return ""


class Daemon:
    """A dockerd of the bench's own, with nothing of the host's: DOCKER_HOST leads to it.

    Args:
        place: an existing directory for what it keeps; None makes one.
        isolated: it gets a network namespace of its own; otherwise it makes no networks at all, and
            reaches what listens on the bench's loopback.

    Attributes:
        address: for DOCKER_HOST. network: path of its network namespace.
    """

    def __init__(self, place: str | None = None, *, isolated: bool = True) -> None:
        self._given = place is not None
        self.directory = place or tempfile.mkdtemp(prefix="fb-bench-docker-", dir="/var/tmp")
        self.cgroup = f"fastbox-bench-{os.getpid()}"
        self._before = os.environ.get("DOCKER_HOST")
        run = os.path.join(self.directory, "run")
        os.mkdir(run)
        # Its socket is where both see it; its other runtime files are on a tmpfs, as on a host.
        self.address = f"unix://{self.directory}/socket"
        argv = ["dockerd", "--data-root", f"{self.directory}/data", "--exec-root", run]
        argv += ["--host", self.address, "--pidfile", f"{run}/pid", "--log-level", "error"]
        argv += ["--cgroup-parent", f"/{self.cgroup}"]
        if not isolated:
            argv += ["--bridge", "none", "--iptables=false", "--ip6tables=false"]

        def enter() -> None:
            _check(_libc.unshare(CLONE_NEWNS), "unshare")
            if isolated:
                own_network()
            mount("tmpfs", run, "tmpfs", 0)

        with open(f"{self.directory}/log", "wb") as log:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=enter,  # noqa: PLW1509  # there is one thread yet
            )
        self.network = f"/proc/{self.process.pid}/ns/net"
        os.environ["DOCKER_HOST"] = self.address
        deadline = time.monotonic() + _STARTS_WITHIN
        while docker_answers() and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)

    def close(self) -> None:
        """End it, and remove all that it had."""
        self.process.terminate()
        try:
            self.process.wait(_STARTS_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self._before is None:
            del os.environ["DOCKER_HOST"]
        else:
            os.environ["DOCKER_HOST"] = self._before
        if not self._given:
            shutil.rmtree(self.directory)
        for base in [_CGROUPS, *(entry.path for entry in os.scandir(_CGROUPS))]:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(base, self.cgroup))


class Disk:
    """A new file system (ext4, on a loop device) for each round: none inherits what the one before
    it wrote or removed. ext4 is slow to make files where many were removed a moment ago.

    Args:
        directory: where its image is kept.
        gigabytes: its size; the image is sparse.
    """

    def __init__(self, directory: str, gigabytes: int = 8) -> None:
        self.path = tempfile.mkdtemp(prefix="disk-", dir=directory)
        self._image = self.path + ".img"
        with open(self._image, "wb") as file:
            file.truncate(gigabytes << 30)
        lazy = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
        make = ["mkfs.ext4", "-q", "-F", "-E", lazy, self._image]
        subprocess.run(make, check=True, capture_output=True)
        command = ["mount", "-o", "loop", self._image, self.path]
        subprocess.run(command, check=True, capture_output=True)
        os.sync()  # what others wrote is not paid for by who measures here

    def __enter__(self) -> str:
        return self.path

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--recursive", self.path], check=True, capture_output=True)
        os.rmdir(self.path)
        os.unlink(self._image)
