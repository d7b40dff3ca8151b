"""Trees at random: a list of entries that any file system can hold, and making them."""

from __future__ import annotations

import os
import stat
import struct
from typing import Any

from hypothesis import strategies as st

from tests.core.tar_archives import capability

# Names of one component; long ones, and such as no text is.
_names = st.one_of(
    st.sampled_from(["a", "b", "c", "ü", "x" * 120, "-", "~", "a b", "PaxHeaders"]),
    st.binary(min_size=1, max_size=12)
    .filter(lambda name: not {0, 47} & set(name) and name not in (b".", b".."))
    .filter(lambda name: not name.startswith(b".wh."))
    .map(os.fsdecode),
)
_ids = st.one_of(st.sampled_from([0, 1, 1000, 0o7777777, 0o10000000, 0xFFFFFFFE]))
_times = st.one_of(
    st.integers(-(2**31) * 10**9, 2**33 * 10**9),
    st.sampled_from([0, 10**9, 10**18, -1, -(10**9), 10**9 - 1]),
)
_attributes = st.dictionaries(
    st.sampled_from(["user.a", "user.b", "user.ü", "user." + "n" * 200]),
    st.binary(max_size=40),
    max_size=2,
)
_entry = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(
            ["file", "file", "dir", "dir", "symlink", "hardlink", "fifo", "node"]
        ),
        "parent": st.integers(0, 30),
        "name": _names,
        "mode": st.integers(0, 0o7777),
        "ids": st.tuples(_ids, _ids),
        "time": _times,
        "data": st.one_of(st.binary(max_size=600), st.just(b"z" * 70_000)),
        "attributes": _attributes,
        "extra": st.sampled_from(["", "", "capability", "acl", "hole"]),
        "which": st.integers(0, 30),
    }
)
trees = st.lists(_entry, max_size=14)


def acl(uid: int) -> bytes:
    """A POSIX ACL in the kernel's form: u::rw- u:UID:r-- g::r-- m::r-- o::---."""
    none = 0xFFFFFFFF
    entries = [(1, 6, none), (2, 4, uid), (4, 4, none), (16, 4, none), (32, 0, none)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def make_tree(root: str, plan: list[dict[str, Any]]) -> None:
    """Make what the file system takes; names that are there are passed over."""
    folders, others = [root], list[str]()
    made: list[tuple[str, dict[str, Any]]] = []
    for entry in plan:
        path = f"{folders[entry['parent'] % len(folders)]}/{entry['name']}"
        if len(os.fsencode(path)) > 3000 or os.path.lexists(path):
            continue
        if entry["kind"] == "hardlink":
            if others:
                os.link(others[entry["which"] % len(others)], path, follow_symlinks=False)
            continue
        _make(path, entry)
        (folders if entry["kind"] == "dir" else others).append(path)
        made.append((path, entry))
    for path, entry in reversed(made):
        _dress(path, entry)
    os.utime(root, ns=(0, 10**18 + 5))


def _make(path: str, entry: dict[str, Any]) -> None:
    kind = entry["kind"]
    if kind == "file":
        with open(path, "wb") as file:
            file.write(entry["data"])
            if entry["extra"] == "hole":
                file.truncate(200_000)
    elif kind == "dir":
        os.mkdir(path)
    elif kind == "symlink":
        os.symlink(entry["data"].replace(b"\0", b"/")[:300] or b"x", os.fsencode(path))
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, entry["which"] + 1))


def _dress(path: str, entry: dict[str, Any]) -> None:
    """Owner first: it takes away set-id bits and capabilities."""
    kind, plain = entry["kind"], entry["kind"] in ("file", "dir")
    os.chown(path, *entry["ids"], follow_symlinks=False)
    if kind != "symlink":
        os.chmod(path, entry["mode"])
    if plain:
        for name, value in entry["attributes"].items():
            os.setxattr(path, name, value)
        if entry["extra"] == "acl":
            os.setxattr(path, "system.posix_acl_access", acl(1234))
        if entry["extra"] == "capability" and kind == "file":
            os.setxattr(path, "security.capability", capability(1 << 10))
    os.utime(path, ns=(0, entry["time"]), follow_symlinks=False)
