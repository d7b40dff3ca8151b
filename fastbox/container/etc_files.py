"""The files of /etc that the engine writes for a container: hosts, hostname, resolv.conf."""

from __future__ import annotations

import os

from ..errors import InvalidArgument
from ..network.types import BUILT_IN, Networking
from .config import ContainerConfig
from .networking import joined_container
from .record import ContainerRecord

NAME_SERVER = "127.0.0.11"

_HOSTS = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
_FALLBACK_DNS = ("8.8.8.8", "8.8.4.4")
_STUB = "/run/systemd/resolve/resolv.conf"


def check_hostname(name: str, what: str = "hostname") -> None:
    """Raise InvalidArgument for a name that would break the files or the kernel's limit
    (CVE-2022-4318: a newline adds a line)."""
    if len(name) > 64:
        raise InvalidArgument(f'{what} "{name}" is too long (maximum 64 bytes)')
    if not name or not all((c.isalnum() and c.isascii()) or c in "-_." for c in name):
        raise InvalidArgument(f"invalid {what} format: {name!r}")


def write(directory: str, record: ContainerRecord) -> None:
    """Write the three files into a new container's directory, as known before a start.

    Raises:
        InvalidArgument: a hostname or an ``--add-host`` entry that does not fit on its line.
    """
    _write(f"{directory}/hostname", record.hostname + "\n")
    if joined_container(record.config.network) is None:
        networking = Networking()
        _write(f"{directory}/hosts", _hosts(record, networking))
        text = _resolv_conf(record.config, networking)
        _write(f"{directory}/resolv.conf", text)
        _write(f"{directory}/resolv.made", text)


def update(directory: str, record: ContainerRecord, networking: Networking) -> None:
    """Write what depends on the networks of a run. A resolv.conf that somebody has edited stays."""
    if joined_container(record.config.network) is not None:
        return  # its files are the other container's
    _write(f"{directory}/hosts", _hosts(record, networking))
    made, path = f"{directory}/resolv.made", f"{directory}/resolv.conf"
    before = _read(made, "")
    if before and _read(path, before) != before:
        return
    text = _resolv_conf(record.config, networking)
    if text != before:
        _write(path, text)
        _write(made, text)


def _hosts(record: ContainerRecord, networking: Networking) -> str:
    config = record.config
    base = _read("/etc/hosts", _HOSTS) if config.network == "host" else _HOSTS
    if base and not base.endswith("\n"):
        base += "\n"
    own = f"{record.hostname}.{config.domainname} " if config.domainname else ""
    lines = [
        f"{address}\t{own}{record.hostname}\n"
        for endpoint in networking.endpoints
        for address in endpoint.addresses
    ]
    return base + _added(config.add_hosts, networking) + "".join(lines)


def _added(entries: list[str], networking: Networking) -> str:
    lines = []
    for entry in entries:
        name, _, address = entry.partition(":")
        if not name or not address or any(c.isspace() or c == "\0" for c in entry):
            raise InvalidArgument(f"bad format for add-host: {entry!r}")
        if address == "host-gateway":
            address = next((e.gateway for e in networking.endpoints if e.gateway), "127.0.0.1")
        lines.append(f"{address}\t{name}\n")
    return "".join(lines)


def _resolv_conf(config: ContainerConfig, networking: Networking) -> str:
    """Of the host's, with what the user asks for in place of its parts (as Docker)."""
    servers, search, options = _host_resolvers(own=config.network == "host")
    if config.dns:
        servers = config.dns
    if config.dns_search:
        search = [] if config.dns_search == ["."] else config.dns_search
    if config.dns_options:
        options = config.dns_options
    if _has_name_server(networking, config):
        servers = [NAME_SERVER]
        if not any(option.startswith("ndots:") for option in options):
            options = [*options, "ndots:0"]
    lines = [f"nameserver {address}" for address in servers]
    lines += [f"search {' '.join(search)}"] if search else []
    lines += [f"options {' '.join(options)}"] if options else []
    return "\n".join(lines) + "\n"


def _has_name_server(networking: Networking, config: ContainerConfig) -> bool:
    """Whether its resolver is the one of its networks: where it can find other containers."""
    linked = any(attachment.links for attachment in config.networks)
    return bool(networking.endpoints) and (
        linked or any(endpoint.network not in BUILT_IN for endpoint in networking.endpoints)
    )


def _host_resolvers(*, own: bool) -> Resolvers:
    """The host's name servers, search domains and options. Its loopback ones are useless inside (as
    Docker), unless the container has the host's network (own)."""
    global _parsed
    stamp = resolvers_stamp()
    if _parsed is None or _parsed[0] != stamp:
        _parsed = stamp, {own: _parse_resolvers(own) for own in (False, True)}
    return _parsed[1][own]


Resolvers = tuple[list[str], list[str], list[str]]
_parsed: tuple[object, dict[bool, Resolvers]] | None = None


def resolvers_stamp() -> object:
    """Another one whenever the host's resolv.conf is."""
    stamps = []
    for path in ("/etc/resolv.conf", _STUB):
        try:
            found = os.stat(path)
            stamps.append((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))
        except OSError:
            stamps.append((0, 0, 0, 0))
    return stamps


def _parse_resolvers(own: bool) -> Resolvers:
    text = _read("/etc/resolv.conf", "")
    if "nameserver 127.0.0.53" in text and not own:
        text = _read(_STUB, text)
    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "nameserver" and len(words) > 1:
            if own or not (words[1].startswith("127.") or words[1] == "::1"):
                servers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = words[1:]
        elif words[0] == "options":
            options = words[1:]
    return servers or list(_FALLBACK_DNS), search, options


def _read(path: str, default: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(1 << 20)
    except OSError:
        return default


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, text.encode("utf-8", "surrogateescape"))
        os.fchmod(fd, 0o644)
    finally:
        os.close(fd)
