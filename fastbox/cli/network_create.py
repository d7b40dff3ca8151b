"""``fastbox network create``."""

from __future__ import annotations

from ..errors import Unsupported
from . import output, parse_env, parse_subnets
from .command import App, FlagCommand
from .flags import Flag, Mapping, Switch, Text, Texts, Values

# Flags that would mean something to a swarm, or nothing: attribute -> (flag, what to do).
_NEVER = {
    "attachable": ("--attachable", "leave it out: any container can join any network"),
    "config_from": ("--config-from", "give the options themselves"),
    "config_only": ("--config-only", "give the options to each network"),
    "ingress": ("--ingress", "publish ports with `fastbox run -p`"),
    "ipam_opt": ("--ipam-opt", "use --subnet, --ip-range, --gateway and --aux-address"),
}


def create(app: App, values: Values, words: list[str]) -> int:
    """Make a network; print its id."""
    _refuse(values)
    subnets = parse_subnets.subnets(
        values.subnet or [],
        gateways=values.gateway or [],
        ranges=values.ip_range or [],
        reserved=values.aux_address or {},
    )
    network = app.engine.create_network(
        words[0],
        driver="none" if values.driver == "null" else values.driver or "bridge",
        subnets=subnets,
        internal=values.internal,
        ipv6=values.ipv6,
        labels=parse_env.merged_labels([], values.label or []),
        options=values.opt or {},
    )
    output.line(network.id)
    return 0


def _refuse(values: Values) -> None:
    for name, (flag, hint) in _NEVER.items():
        if getattr(values, name):
            raise Unsupported(f"{flag} is not supported", hint=hint)
    if values.scope not in (None, "", "local"):
        raise Unsupported(
            f"--scope {values.scope} is not supported",
            hint="leave it out: a network is this host's",
        )
    if values.ipam_driver not in ("", "default"):
        raise Unsupported(
            f"--ipam-driver {values.ipam_driver} is not supported",
            hint='leave it out: "default" is the only one',
        )
    if not values.ipv4:
        raise Unsupported(
            "--ipv4=false is not supported",
            hint="use --ipv6: containers have addresses of both kinds",
        )


COMMAND = FlagCommand(
    "network_create",
    create,
    "NETWORK",
    (
        Flag("--attachable", Switch(), hidden=True),
        Flag("--aux-address", Mapping(), "Auxiliary IPv4 or IPv6 addresses used by Network driver"),
        Flag("--config-from", Text(), hidden=True),
        Flag("--config-only", Switch(), hidden=True),
        Flag("-d --driver", Text(), "Driver to manage the Network", default="bridge"),
        Flag("--gateway", parse_subnets.Strings(), "IPv4 or IPv6 Gateway for the master subnet"),
        Flag("--ingress", Switch(), hidden=True),
        Flag("--internal", Switch(), "Restrict external access to the network"),
        Flag("--ip-range", parse_subnets.Strings(), "Allocate container ip from a sub-range"),
        Flag("--ipam-driver", Text(), "IP Address Management Driver", default="default"),
        Flag("--ipam-opt", Mapping(), hidden=True),
        Flag("--ipv4", Switch(), "Enable or disable IPv4 address assignment", default=True),
        Flag("--ipv6", Switch(), "Enable or disable IPv6 address assignment"),
        Flag("--label", Texts(parse_env.label), "Set metadata on a network"),
        Flag("-o --opt", Mapping(), "Set driver specific options"),
        Flag("--scope", Text(), hidden=True),
        Flag(
            "--subnet",
            parse_subnets.Strings(),
            "Subnet in CIDR format that represents a network segment",
        ),
    ),
    least=1,
    most=1,
)
