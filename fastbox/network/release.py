"""What a run of a container has to give back: written before it starts, acted on at its end.

The monitor does it (``_core/monitor/network.c``), in the order of the lines; where it was killed,
the next command does. Lines of ``RUNTIME/ID/release``: ``n HEX`` a batch of nftables messages,
``l HEX`` one of rtnetlink, ``e JSON`` an event that the monitor tells, without its end; below
``RUNTIME/networks`` ``u PATH`` a file, ``r PATH`` a directory, and ``o ID PATH`` a symlink that is
still this container's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from .. import atomic
from ..locks import lock
from . import messages

_NAME = "release"
_PROTOCOLS = {"n": messages.NETLINK_NETFILTER, "l": messages.NETLINK_ROUTE}


def write(directory: str, lines: Iterable[str]) -> None:
    """Store what is to be undone.

    Args:
        directory: the container's runtime directory.
    """
    text = "".join(f"{line}\n" for line in lines)
    atomic.write(f"{directory}/{_NAME}", text.encode(), sync=False)


def read(directory: str) -> list[str]:
    """The lines; none when everything has been given back."""
    try:
        with open(f"{directory}/{_NAME}", encoding="utf-8") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def batch(data: bytes) -> str:
    """The line for a batch of nftables messages."""
    return f"n {data.hex()}"


def link(name: str) -> str:
    """The line that deletes an interface of the host's."""
    return f"l {messages.delete_link(name).hex()}"


def run(networks: str, lines: Iterable[str]) -> None:
    """Undo; what is gone already is passed over.

    Args:
        networks: ``RUNTIME/networks``.
    """
    for line in lines:
        kind, _, rest = line.partition(" ")
        with contextlib.suppress(OSError):
            if kind in _PROTOCOLS:
                with messages.open_socket(_PROTOCOLS[kind]) as netlink:
                    messages.send(netlink, bytes.fromhex(rest))
            elif kind == "o":
                owner, _, path = rest.partition(" ")
                if os.readlink(f"{networks}/{path}").partition("/")[0] == owner:
                    os.unlink(f"{networks}/{path}")
            elif kind == "u":
                os.unlink(f"{networks}/{rest}")
            elif kind == "r":
                os.rmdir(f"{networks}/{rest}")


def finish(networks: str, directory: str) -> bool:
    """Do what a killed monitor did not. Under a lock: only one does.

    Returns:
        Whether elements of the packet filter were deleted: by their keys, so that another
        container's, which has the port by now, may be among them.
    """
    path = f"{directory}/{_NAME}"
    with contextlib.suppress(FileNotFoundError), lock(path):
        lines = read(directory)
        run(networks, lines)
        os.unlink(path)
        return any(line.startswith("n ") for line in lines)
    return False


def append(directory: str, lines: Iterable[str]) -> None:
    """Add to what is undone.

    Raises:
        FileNotFoundError: there is nothing to undo any more.
    """
    fd = os.open(f"{directory}/{_NAME}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(fd, "".join(f"{line}\n" for line in lines).encode())
    finally:
        os.close(fd)
