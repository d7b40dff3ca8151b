"""What a test left behind: mounts, cgroups, processes, namespaces, descriptors, threads.

Things outside this process are told apart from other people's by the test's own paths: the
container's cgroups lie below ``fastbox-<8 hex of sha256(root)>``, and every process, mount and
namespace of a store carries a path of that store in its command line, links, cgroup or options.
"""

from __future__ import annotations

import contextlib
import gc
import glob
import hashlib
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator


def cgroup_parent(root: str) -> str:
    """Name of the cgroup below which the containers of the store at ``root`` live."""
    if root == "/var/lib/fastbox":
        return "fastbox"
    return "fastbox-" + hashlib.sha256(root.encode()).hexdigest()[:8]


def link_prefix(root: str) -> str:
    """What the host's ends of the links of that store's containers are called."""
    return f"fb{store_hash(root)[:6]}"


def store_hash(root: str) -> str:
    """What tells a store's bridges and packet filter from those of others."""
    return hashlib.sha256(root.encode()).hexdigest()[:8]


# What a process keeps once it has it: one device program for each rule set, one sealed helper.
KEPT = ("anon_inode:bpf-prog", "/memfd:fastbox-helper")


class LeakCheck:
    """State before a test, and what there is more of after it.

    Args:
        paths: directories of which everything below belongs to the test.
        skip_others: False looks also at processes that are there already.
    """

    # Seconds within which what is ending must have ended.
    SETTLE = float(os.environ.get("FASTBOX_TEST_SETTLE", "5"))

    def __init__(self, paths: list[str], *, skip_others: bool = True) -> None:
        self.paths = paths
        self.roots: list[str] = []
        self.stores: list[str] = []  # others, in the test's own directories
        self.places: list[Callable[[], list[str]]] = []
        self.cgroup_mounts = [m for m in mounts() if m[2] in ("cgroup", "cgroup2")]
        self.before = set(self._own())
        # Who runs by now is not the test's, and need not be looked at: there may be a thousand.
        self.others = set(os.listdir("/proc")) if skip_others else set[str]()

    def watch(self, root: str) -> None:
        """Look at the cgroups of the store at ``root`` too."""
        self.roots.append(root)

    def watch_stores(self) -> None:
        """Look at the cgroups of each store in the test's directories, or in one in them."""
        for path in self.paths:
            for inside in (path, *_directories(path)):
                for root in _directories(inside):
                    if root not in self.roots and os.path.isdir(f"{root}/containers"):
                        self.stores.append(root)

    def watch_interfaces(self, names: Callable[[], list[str]]) -> None:
        """Look for links of the stores' containers in another network namespace too."""
        self.places.append(names)

    def leaks(self) -> list[str]:
        """One line for each thing left; waits a moment for what is just ending."""
        deadline = time.monotonic() + self.SETTLE
        collected = False
        while True:
            found = [*self._marked(), *(line for line in self._own() if line not in self.before)]
            if not found or time.monotonic() > deadline:
                return found
            if not collected:
                gc.collect()
                collected = True
            time.sleep(0.01)

    def clean(self) -> None:
        """Remove what was left, so that the next test starts from nothing."""
        for pid, _ in self._processes():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for point in reversed([m[0] for m in self._mounts()]):
            subprocess.run(["umount", "-l", point], capture_output=True)
        deadline = time.monotonic() + self.SETTLE
        while self._cgroups() and time.monotonic() < deadline:
            self.remove_cgroups()
            time.sleep(0.01)

    def remove_cgroups(self) -> None:
        """Remove the empty cgroups of the test, the parent included."""
        for parent in self._parents():
            for directory, _, _ in os.walk(parent, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)

    # ---- of the machine --------------------------------------------------------------------

    def _marked(self) -> Iterator[str]:
        for pid, why in self._processes():
            yield f"process {pid}: {why}"
        for mount in self._mounts():
            yield f"mount {mount[0]}: {mount[3]}"
        for path in self._cgroups():
            yield f"cgroup {path}"
        for root in self.roots:
            for line in network_state(f"{root}.run"):
                yield f"network's {line}"
            yield from self._devices(root)

    def _devices(self, root: str) -> Iterator[str]:
        """Links, bridges and packet filter of a store; the latter two only in the network namespace
        of this process: in a test's own, they may stay for its next test."""
        number = store_hash(root)
        for name in os.listdir("/sys/class/net"):
            if name.startswith(link_prefix(root)) or name.endswith(number):
                yield f"network interface {name}"
        for table in nft_tables():
            if table == f"fastbox_{number}":
                yield f"nft table {table}"
        for names in self.places:
            for name in names():
                if name.startswith(link_prefix(root)):
                    yield f"network interface {name} of a world's host"

    def _mounts(self) -> list[tuple[str, str, str, str]]:
        return [m for m in mounts() if self._is_ours(m[3])]

    def _is_ours(self, text: str) -> bool:
        return any(path in text for path in self.paths)

    def _parents(self) -> list[str]:
        names = [cgroup_parent(root) for root in (*self.roots, *self.stores)]
        own = own_cgroups()
        found = []
        for point, _, kind, line in self.cgroup_mounts:
            options = line.rsplit(" ", 1)[-1].split(",")
            inside = own.get("", "/") if kind == "cgroup2" else "/"
            for option in options if kind == "cgroup" else []:
                inside = own.get(option, inside)
            for base in {point, os.path.normpath(point + inside)}:
                found += [path for name in names if os.path.isdir(path := f"{base}/{name}")]
        return sorted(set(found))

    def _cgroups(self) -> list[str]:
        """The containers' cgroups that still exist; their empty parent may stay."""
        found = []
        for parent in self._parents():
            with contextlib.suppress(FileNotFoundError):
                found += [entry.path for entry in os.scandir(parent) if entry.is_dir()]
                with open(f"{parent}/cgroup.procs") as file:
                    if file.read().strip():
                        found.append(parent)
        return found

    def _processes(self) -> list[tuple[int, str]]:
        names = [cgroup_parent(root) for root in self.roots]
        found = []
        for entry in os.listdir("/proc"):
            if entry in self.others or not entry.isdigit() or int(entry) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                why = self._why(f"/proc/{entry}", names)
                if why:
                    found.append((int(entry), why))
        return found

    def _why(self, proc: str, names: list[str]) -> str:
        with open(proc + "/cgroup") as file:
            group = next((line for line in file if any(f"/{n}" in line for n in names)), "")
        with open(proc + "/cmdline", "rb") as file:
            command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
        if group or self._is_ours(command):
            return f"{command or open_text(proc + '/comm')} {group.strip()}"
        for link in ("cwd", "root"):
            target = os.readlink(f"{proc}/{link}")
            if self._is_ours(target):
                return f"{command}, whose {link} is {target}"
        return ""

    # ---- of this process, and things that carry fastbox's name ------------------------------

    def _own(self) -> Iterator[str]:
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/self/fd/{fd}")
                if target != f"/proc/{os.getpid()}/fd" and not target.startswith(KEPT):
                    yield f"descriptor {fd}: {target}"
        for thread in threading.enumerate():
            yield f"thread {thread.name} {thread.ident}"
        for child in children(os.getpid()):
            yield f"child {child}: {open_text(f'/proc/{child}/comm')}"
        for name in os.listdir("/sys/class/net"):
            if name.startswith("fb-") and not self._is_foreign(name):  # of users' networks
                yield f"network interface {name}"
        if os.path.isdir("/run/netns"):
            for name in os.listdir("/run/netns"):
                if name.startswith(("fb", "fastbox")):
                    yield f"network namespace {name}"

    def _is_foreign(self, bridge: str) -> bool:
        """Whether a bridge is of a store that is not the test's: its alias says whose it is."""
        words = open_text(f"/sys/class/net/{bridge}/ifalias").split()
        return len(words) == 3 and words[1] not in map(store_hash, self.roots)


def _directories(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def empty_parents(known: dict[str, str]) -> list[tuple[str, str]]:
    """(directory, whose) of the parent cgroups of stores that are still there.

    Args:
        known: name of a parent (``cgroup_parent``) -> whose it is.
    """
    points = [point for point, _, kind, _ in mounts() if kind in ("cgroup", "cgroup2")]
    found = {path for point in points for path in glob.glob(f"{glob.escape(point)}/fastbox-*")}
    return [
        (path, known[name]) for path in sorted(found) if (name := path.rpartition("/")[2]) in known
    ]


def open_text(path: str) -> str:
    """A file's text, or ``""`` when it is gone."""
    try:
        with open(path, errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def network_state(runtime_dir: str) -> list[str]:
    """What containers have of networks below a runtime directory: addresses, names, name servers;
    and what their runs still have to give back."""
    found = []
    for kind, pattern in (
        ("address", "networks/*/leases/*"),
        ("name", "networks/*/names/*"),
        ("name server", "networks/boxes/*"),
        ("release", "*/release"),
    ):
        for path in sorted(glob.glob(f"{glob.escape(runtime_dir)}/{pattern}")):
            whose = os.readlink(path) if os.path.islink(path) else ""
            if whose and len(whose.partition("/")[0]) != 64:
                continue  # no container's: a test of leases alone
            whose = f" of {whose}" if whose else ""
            found.append(f"{kind} {os.path.relpath(path, runtime_dir)}{whose}")
    return found


def children(pid: int) -> list[int]:
    """Children of all threads of a process, zombies included."""
    found: list[int] = []
    for task in os.listdir(f"/proc/{pid}/task"):
        found += map(int, open_text(f"/proc/{pid}/task/{task}/children").split())
    return found


def mounts() -> list[tuple[str, str, str, str]]:
    """(mount point, root, type, whole line) of every mount of this namespace."""
    found = []
    with open("/proc/self/mountinfo", errors="surrogateescape") as file:
        for line in file:
            head, _, tail = line.rstrip("\n").partition(" - ")
            fields = head.split(" ")
            found.append((fields[4], fields[3], tail.split(" ")[0], line.rstrip("\n")))
    return found


def own_cgroups() -> dict[str, str]:
    """Controller (``""`` for v2) -> this process's cgroup."""
    found = {}
    with open("/proc/self/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for controller in controllers.split(","):
                found[controller] = path
    return found


def nft_tables() -> list[str]:
    """Names of this network namespace's nftables tables (by netlink: no process is started)."""
    get_table, dump, name_attribute = (10 << 8) | 1, 0x301, 1
    found: list[str] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as s:
            s.settimeout(5)
            s.send(struct.pack("=IHHII", 20, get_table, dump, 1, 0) + b"\0\0\0\0")
            while True:
                data = s.recv(65536)
                while data:
                    length, kind = struct.unpack_from("=IH", data)
                    if kind in (2, 3):  # NLMSG_ERROR, NLMSG_DONE
                        return found
                    at = 20
                    while at + 4 <= length:
                        size, attribute = struct.unpack_from("=HH", data, at)
                        if attribute & 0x3FFF == name_attribute:
                            found.append(data[at + 4 : at + size].rstrip(b"\0").decode())
                        at += max((size + 3) & ~3, 4)
                    data = data[(length + 3) & ~3 :]
    except OSError:
        return found
