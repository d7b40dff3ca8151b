"""Reading what strace wrote: every system call with its time, and whose it was."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator

import msgspec

# Their time is somebody else's: they are counted, but cost nothing.
WAITS = {"wait4", "waitid", "poll", "ppoll", "futex", "recvmsg", "recvfrom", "restart_syscall"}
OPTIONS = ["-f", "-qq", "-s", "200", "--absolute-timestamps=format:unix,precision:ns"]
OPTIONS += ["--syscall-times=ns", "--signal=none"]

_LINE = re.compile(r"^(?P<pid>\d+)\s+(?P<at>\d+\.\d+) (?P<rest>.*)$")
_WHOLE = re.compile(r"^(?P<name>\w+)\((?P<args>.*)\)\s+= (?P<result>.*?)(?: <(?P<took>[\d.]+)>)?$")
_RESUMED = re.compile(r"^<\.\.\. \w+ resumed>(?P<rest>.*)$")


class Call(msgspec.Struct):
    """A system call.

    Attributes:
        at: seconds since the epoch. took: seconds in the kernel, strace's own among them; 0 of one
            that never returned. waits: the time is that of whom it waits for.
    """

    pid: int
    at: float
    name: str
    args: str
    result: str
    took: float
    waits: bool = False


def trace(argv: list[str], path: str) -> list[Call]:
    """Run a program below strace; its calls and those of its children, in the order in which they
    began.

    Raises:
        CalledProcessError
    """
    subprocess.run(["strace", *OPTIONS, "-o", path, *argv], check=True, stdout=subprocess.DEVNULL)
    with open(path, encoding="utf-8", errors="replace") as file:
        return read(file)


def read(lines: Iterable[str]) -> list[Call]:
    """The calls of a file of strace's."""
    calls = sorted(_calls(lines), key=lambda call: call.at)
    _cut_vforks(calls)
    return calls


def _calls(lines: Iterable[str]) -> Iterator[Call]:
    begun: dict[int, tuple[float, str]] = {}
    for line in lines:
        found = _LINE.match(line.rstrip("\n"))
        if found is None:
            continue
        pid, at, rest = int(found["pid"]), float(found["at"]), found["rest"]
        if rest.endswith("<unfinished ...>"):
            begun[pid] = at, rest.removesuffix("<unfinished ...>").rstrip()
            continue
        resumed = _RESUMED.match(rest)
        blocked = resumed is not None
        if resumed is not None:
            at, first = begun.pop(pid, (at, ""))
            rest = first + resumed["rest"]
        whole = _WHOLE.match(rest)
        if whole is None:
            continue
        took = float(whole["took"] or 0)
        call = Call(pid, at, whole["name"], whole["args"], whole["result"].strip(), took)
        call.waits = call.name in WAITS or (call.name == "read" and blocked and took > 100e-6)
        yield call


def _cut_vforks(calls: list[Call]) -> None:
    """A parent that is suspended waits: its clone has cost what passed until its child's first
    call."""
    first: dict[int, float] = {}
    for call in calls:
        first.setdefault(call.pid, call.at)
    for call in calls:
        if call.name in ("clone3", "clone", "vfork") and "VFORK" in call.args + call.name.upper():
            child = first.get(_number(call.result), 0)
            if child > call.at:
                call.took = min(call.took, child - call.at)


def _number(text: str) -> int:
    return int(text.split()[0]) if text.split() and text.split()[0].isdigit() else -1


def children(calls: list[Call]) -> dict[int, int]:
    """Of each process its parent."""
    return {
        _number(call.result): call.pid
        for call in calls
        if call.name in ("clone", "clone3", "fork", "vfork") and _number(call.result) > 0
    }


def argument(call: Call) -> str:
    """What a reader wants to know of a call: the file system and its place, the path, the flags."""
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', call.args)
    if call.name == "mount" and len(strings) > 2:
        return f"{strings[2]} {strings[1]}"
    if call.name in ("clone3", "clone"):
        flags = re.search(r"flags=([\w|]+)", call.args)
        return "" if flags is None else flags[1].replace("CLONE_", "").lstrip("|")
    if call.name in ("prctl", "unshare", "bpf", "seccomp", "keyctl", "socket"):
        return call.args.split(", ")[0].partition("|")[0]
    if call.name == "fcntl":
        return call.args.split(", ")[1]
    if call.name in ("read", "write", "sendto", "sendmsg", "recvmsg", "getcwd", "getrandom"):
        return ""
    return strings[0] if strings else ""


def plain(text: str, places: dict[str, str]) -> str:
    """Without what differs from run to run: ids, numbers, temporary names, the store's place."""
    for path, name in places.items():
        text = text.replace(path, name)
    text = re.sub(r"[0-9a-f]{64}", "ID", text)
    text = re.sub(r"profiled\d+", "NAME", text)
    text = re.sub(r"\.\d+-[0-9a-f]{8}\b", ".N", text)
    return re.sub(r"/proc/\d+", "/proc/N", text)


def is_there() -> bool:
    return any(
        os.access(f"{directory}/strace", os.X_OK)
        for directory in os.environ.get("PATH", "").split(":")
    )
