"""Names of containers on networks, as files that their name servers look up.

``RUNTIME/networks/NETID/names/NAME/ADDRESS`` is a symlink to a container's id: NAME has that
address there, by that container. No process has to be told of a change: whoever answers a query
looks (``_core/monitor/net``).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from .. import atomic
from .leases import make_directory
from .types import Endpoint

RACES = 100
_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


def usable(names: Iterable[str]) -> list[str]:
    """Names as they are looked up: lower case, each once; what can be no name is left out."""
    found: dict[str, None] = {}
    for name in names:
        plain = name.lower().rstrip(".")
        if plain and len(plain) <= 253 and plain[0] != "." and _ALLOWED.issuperset(plain):
            found[plain] = None
    return list(found)


def make_directories(networks: str) -> None:
    """Make RUNTIME/networks, for a name server that is nobody, whatever the umask is."""
    for path in (networks, f"{networks}/boxes"):
        make_directory(path)


def add(networks: str, endpoint: Endpoint, container_id: str) -> None:
    """Enter an endpoint's names."""
    base = f"{networks}/{endpoint.network_id}/names"
    make_directory(base)
    for name in endpoint.names:
        for address in endpoint.addresses:
            _enter(f"{base}/{name}", address, container_id)


def lines_of(endpoint: Endpoint, container_id: str) -> list[str]:
    """What takes an endpoint's names back, see ``release``."""
    base, lines = f"{endpoint.network_id}/names", []
    for name in endpoint.names:
        lines += [f"o {container_id} {base}/{name}/{address}" for address in endpoint.addresses]
        lines.append(f"r {base}/{name}")
    return lines


def forget(networks: str, network_id: str, address: str) -> None:
    """Take back all names of an address."""
    base = f"{networks}/{network_id}/names"
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(base):
            with contextlib.suppress(OSError):
                os.unlink(f"{base}/{name}/{address}")
                os.rmdir(f"{base}/{name}")


def _enter(directory: str, address: str, container_id: str) -> None:
    """Somebody else may just be removing the directory, as that of the last container so called;
    and one that was killed may have left this name for the address."""
    path = f"{directory}/{address}"
    for attempt in range(RACES):
        make_directory(directory)
        try:
            os.symlink(container_id, path)
            return
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(path) == container_id:
                    return
                os.unlink(path)
        except FileNotFoundError:
            if attempt + 1 == RACES:
                raise


def write_configuration(
    networks: str,
    container_id: str,
    *,
    known: Iterable[tuple[str, str]],
    aliases: Iterable[tuple[str, str, str]],
    internal: bool,
    servers: Iterable[str],
) -> None:
    """Tell the container's name server what it answers; it looks again when this changes.

    Args:
        known: (id, name) of the networks whose names it knows, in order.
        aliases: (name, what it stands for, id of the network), for this container alone.
        internal: nothing is forwarded.
        servers: addresses; none: the host's.
    """
    lines = [f"network {network_id} {name}" for network_id, name in known]
    lines += [f"alias {name} {target} {network_id}" for name, target, network_id in aliases]
    lines += ["internal"] if internal else []
    lines += [f"server {address}" for address in servers]
    _write(networks, container_id, "dns", lines)


def write_ports(networks: str, container_id: str, lines: Iterable[str]) -> None:
    """Tell where its published ports lead: ``PROTOCOL ADDRESS PORT`` for each socket, or ``-``."""
    _write(networks, container_id, "ports", lines)


def files_of(container_id: str) -> list[str]:
    """What removes both, see ``release``."""
    directory = f"boxes/{container_id}"
    return [f"u {directory}/dns", f"u {directory}/ports", f"r {directory}"]


def remove_files(networks: str, container_id: str) -> None:
    """Remove both, and what a killed process was just writing."""
    path = f"{networks}/boxes/{container_id}"
    if os.path.isdir(path):
        from .._core.tree import remove_tree

        remove_tree(path)


def _write(networks: str, container_id: str, name: str, lines: Iterable[str]) -> None:
    directory = f"boxes/{container_id}"
    make_directory(f"{networks}/{directory}")
    text = "".join(f"{line}\n" for line in lines)
    atomic.write(f"{networks}/{directory}/{name}", text.encode(), mode=0o644, sync=False)
