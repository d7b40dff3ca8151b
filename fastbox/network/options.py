"""What a network's driver may be told (``-o NAME=VALUE``), and the names of its devices."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import InvalidArgument, Unsupported
from .types import DEFAULT, Network

DEFAULT_ROOT = "/var/lib/fastbox"

MTU = "com.docker.network.driver.mtu"
BRIDGE_NAME = "com.docker.network.bridge.name"
ICC = "com.docker.network.bridge.enable_icc"
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
PARENT = "parent"
MODE = "macvlan_mode"

KNOWN = {
    "bridge": (MTU, "mtu", BRIDGE_NAME, ICC, MASQUERADE, HOST_BINDING),
    "macvlan": (PARENT, MODE, MTU, "mtu"),
}
MODES = ("bridge", "private", "vepa", "passthru")
BRIDGE_PREFIX = "fb-"  # of the bridges that are not given a name
MAX_INTERFACE_NAME = 15  # IFNAMSIZ - 1
_MTU_RANGE = range(68, 65536)  # RFC 791; a bridge's own limit
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


def check(driver: str, options: Mapping[str, str]) -> None:
    """Refuse what a driver does not know, and values that it cannot have.

    Raises:
        InvalidArgument: names the option.
        Unsupported: one of Docker's that fastbox does not have.
    """
    known = KNOWN.get(driver, ())
    for name, value in options.items():
        if name not in known:
            hint = f"known options: {', '.join(known)}"
            if name.startswith("com.docker.network."):
                raise Unsupported(f"network option {name!r} is not supported", hint=hint)
            raise InvalidArgument(f"unknown option {name!r} of driver {driver}", hint=hint)
        _check_value(driver, name, value)
    if driver == "macvlan" and not options.get(PARENT):
        raise InvalidArgument(
            "a macvlan network needs the interface that it is on", hint="-o parent=INTERFACE"
        )


def _check_value(driver: str, name: str, value: str) -> None:
    if name in (MTU, "mtu"):
        if not value.isdecimal() or not value.isascii() or int(value[:10]) not in _MTU_RANGE:
            raise InvalidArgument(f"invalid MTU {value[:100]!r}: 68 to 65535")
    elif name in (ICC, MASQUERADE):
        _boolean(name, value)
    elif name in (BRIDGE_NAME, PARENT):
        check_interface_name(value)
    elif name == HOST_BINDING:
        from . import addresses

        try:
            family, _ = addresses.parse(value)
        except ValueError:
            family = 0
        if family != 4:
            raise InvalidArgument(f"invalid value {value[:100]!r} for {name}: not an IPv4 address")
    elif name == MODE and value not in MODES:
        raise InvalidArgument(f"unknown macvlan mode {value[:100]!r}: one of {', '.join(MODES)}")


def check_interface_name(name: str) -> None:
    """Raises InvalidArgument for what Linux does not take, or what would be a path in /proc/sys."""
    good = (
        0 < len(name.encode("utf-8", "replace")) <= MAX_INTERFACE_NAME
        and name.isascii()
        and name.isprintable()
        and not any(c in name for c in ' /:%"\\')
        and name not in (".", "..", "all", "default")
    )
    if not good:
        from ..oci.text import printable

        shown = printable(name[:60])
        raise InvalidArgument(
            f"invalid interface name {shown!r}: 1 to {MAX_INTERFACE_NAME} characters, no '/',"
            " no white space"
        )


def _boolean(name: str, value: str) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise InvalidArgument(f"invalid value {value[:100]!r} for {name}: true or false")


def mtu(network: Network) -> int:
    """The MTU that was asked for, 0: the default."""
    value = network.options.get(MTU) or network.options.get("mtu") or "0"
    return int(value) if value.isdecimal() else 0


def allows_icc(network: Network) -> bool:
    """Whether its containers may talk to one another."""
    return network.options.get(ICC, "true") not in _FALSE


def masquerades(network: Network) -> bool:
    """Whether what its containers send leaves with the host's address."""
    return network.options.get(MASQUERADE, "true") not in _FALSE and not network.internal


def host_binding(network: Network) -> str:
    """The host's address for published ports that name none, ``""``: all."""
    return network.options.get(HOST_BINDING, "")


def macvlan_mode(network: Network) -> str:
    return network.options.get(MODE, "bridge")


def device_of(
    root: str, network_id: str, name: str, driver: str, options: Mapping[str, str]
) -> str:
    """The host's device of a network: its bridge, or what a macvlan is on; ``""``: none."""
    if driver == "macvlan":
        return options.get(PARENT, "")
    if driver != "bridge":
        return ""
    if options.get(BRIDGE_NAME):
        return options[BRIDGE_NAME]
    if name != DEFAULT:
        return f"{BRIDGE_PREFIX}{network_id[:12]}"
    if root == DEFAULT_ROOT:
        return "fastbox0"
    return f"fb0-{store_hash(root)}"


def link_prefix(root: str) -> str:
    """What the host's ends of a store's links are called: ``fbXXXXXX``, and eight digits more."""
    return f"fb{store_hash(root)[:6]}"


def store_hash(root: str) -> str:
    """8 hex digits that tell a store from others, as its cgroups' name has them."""
    import hashlib

    return hashlib.sha256(root.encode()).hexdigest()[:8]
