"""The files of /etc that the engine writes for a container: hosts, hostname, resolv.conf."""

from __future__ import annotations

import os

from ..errors import InvalidArgument
from .record import ContainerRecord

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
    """Write the three files into the container's directory.

    Raises:
        InvalidArgument: a hostname or an ``--add-host`` entry that does not fit on its line.
    """
    config = record.config
    _write(f"{directory}/hostname", _full_name(record) + "\n")
    if config.network == "host":
        _write(f"{directory}/hosts", _read("/etc/hosts", _HOSTS) + _added(config.add_hosts))
        _write(f"{directory}/resolv.conf", _read("/etc/resolv.conf", ""))
        return
    _write(f"{directory}/hosts", _HOSTS + _added(config.add_hosts))
    _write(f"{directory}/resolv.conf", _resolv_conf())


def _full_name(record: ContainerRecord) -> str:
    return record.hostname


def _added(entries: list[str]) -> str:
    lines = []
    for entry in entries:
        name, _, address = entry.partition(":")
        if not name or not address or any(c.isspace() or c == "\0" for c in entry):
            raise InvalidArgument(f"bad format for add-host: {entry!r}")
        lines.append(f"{address}\t{name}\n")
    return "".join(lines)


def _resolv_conf() -> str:
    """The host's resolvers; loopback ones are the host's own and useless inside (as Docker)."""
    text = _read("/etc/resolv.conf", "")
    if "nameserver 127.0.0.53" in text:
        text = _read(_STUB, text)
    lines, servers = [], 0
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith(("#", ";")):
            continue
        if words[0] == "nameserver":
            if len(words) < 2 or words[1].startswith("127.") or words[1] == "::1":
                continue
            servers += 1
        lines.append(line)
    if not servers:
        lines += [f"nameserver {address}" for address in _FALLBACK_DNS]
    return "\n".join(lines) + "\n"


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
