"""``--sysctl``: only what belongs to a namespace that the container has of its own.

Anything else would be a setting of the host (CVE-2022-0811: kernel.core_pattern by way of a
container's sysctls). The list is the one of runc's validator.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import InvalidArgument

IPC = frozenset(
    (
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    )
)
MAX_VALUE = 4095  # proc_dostring and its kin take less than a page

_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def parse(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` of ``--sysctl``.

    Raises:
        InvalidArgument: no ``=``, or no name.
    """
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise InvalidArgument(f"sysctl '{text}' is not allowed", hint="the form is NAME=VALUE")
    return name, value


def components(name: str) -> list[str]:
    """A name as path components below /proc/sys.

    As in sysctl(8), the first separator says how to read the rest: in ``net.ipv4.conf.eth0/1.x``
    the slash stands for a dot in the interface's name, in ``net/ipv4/conf/eth0.1/x`` it separates.

    Raises:
        InvalidArgument: an empty, ``.`` or ``..`` component, or an unusual character.
    """
    dots = "/" not in name or ("." in name and name.index(".") < name.index("/"))
    parts = name.split("." if dots else "/")
    if dots:
        parts = [part.replace("/", ".") for part in parts]
    for part in parts:
        # A dot is only ever within the name of an interface.
        if not part or part in (".", "..") or not _ALPHABET.issuperset(part.replace(".", "")):
            raise InvalidArgument(
                f"sysctl '{name}' is not allowed", hint="it is not a well-formed sysctl name"
            )
    return parts


def resolve(
    sysctls: Mapping[str, str],
    *,
    own_net: bool,
    own_ipc: bool = True,
    own_uts: bool = True,
    own_user: bool = False,
) -> list[tuple[str, str]]:
    """What to write inside the container's namespaces: (path below /proc/sys, value). Of one
    setting under two spellings, the last counts.

    Args:
        sysctls: name -> value; names with dots or slashes.
        own_net, own_ipc, own_uts, own_user: whether the container has that namespace of its own.

    Raises:
        InvalidArgument: not namespaced, or namespaced but shared with the host; a malformed name
            or value.
    """
    result: dict[str, str] = {}
    for name, value in sysctls.items():
        parts = components(name)
        _check(name, parts, own_net=own_net, own_ipc=own_ipc, own_uts=own_uts, own_user=own_user)
        if len(value) > MAX_VALUE or not value.replace("\t", " ").isprintable():
            raise InvalidArgument(f"sysctl '{name}': the value is too long or not printable")
        result["/".join(parts)] = value
    return list(result.items())


def _check(
    name: str, parts: list[str], *, own_net: bool, own_ipc: bool, own_uts: bool, own_user: bool
) -> None:
    dotted = ".".join(parts)
    if dotted in IPC or (parts[:2] == ["fs", "mqueue"] and len(parts) == 3):
        own, kind = own_ipc, "IPC"
    elif parts[0] == "net" and len(parts) > 2:
        own, kind = own_net, "network"
    elif dotted == "kernel.domainname":
        own, kind = own_uts, "UTS"
    elif parts[0] == "user" and len(parts) == 2:
        own, kind = own_user, "user"
    else:
        hint = "only settings that belong to one of the container's namespaces can be changed"
        if dotted == "kernel.hostname":
            hint = "use --hostname"
        raise InvalidArgument(f"sysctl '{name}' is not allowed", hint=hint)
    if not own:
        raise InvalidArgument(
            f"sysctl '{name}' is not allowed in the host's {kind} namespace",
            hint=f"it would change the host: give the container its own {kind} namespace",
        )


def defaults(*, own_net: bool, own_user: bool = False) -> dict[str, str]:
    """What Docker sets in a network namespace of the container's own: any port and ping without
    privilege (``ping_group_range`` not in a user namespace, where the groups are not mapped)."""
    if not own_net:
        return {}
    values = {"net.ipv4.ip_unprivileged_port_start": "0"}
    if not own_user:
        values["net.ipv4.ping_group_range"] = "0 2147483647"
    return values
