"""Control groups, on cgroup v1, v2 and hybrid hosts.

- v2: one directory does it all: membership, limits, kill, freeze, and the device filter (BPF).
- hybrid (v1 controllers, and a v2 hierarchy beside them): the v2 directory is for membership,
  kill, freeze and the device filter; a v1 hierarchy is joined only for a controller that a limit
  needs, because moving a process between v1 cgroups waits for an RCU grace period.
- v1: devices, freezer and systemd's hierarchy always, others when a limit needs them.

``detect`` says what this host has, ``create`` makes a container's group, ``open_existing`` finds
one again, ``join`` brings one that has processes into further v1 hierarchies.
"""

from __future__ import annotations

from .blkio import DEFAULT_WEIGHT
from .group import Cgroup, create, open_existing
from .joining import join
from .layout import CgroupLayout, detect
from .resources import DEFAULT_SHARES, PERIOD, Resources, validate

__all__ = [
    "DEFAULT_SHARES",
    "DEFAULT_WEIGHT",
    "PERIOD",
    "Cgroup",
    "CgroupLayout",
    "Resources",
    "create",
    "detect",
    "join",
    "open_existing",
    "validate",
]
