"""From an OCI runtime configuration to a launch plan: every path and number resolved."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from .._core import launch as core
from ..errors import InvalidArgument, Unsupported
from ..network import messages as network_messages
from . import capabilities, rlimits, users
from .plan import Filter, PlanBuilder
from .process import oom_score_of_others

if TYPE_CHECKING:
    from ..network.endpoint import Messages

NAMESPACES = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "network": 0x40000000,
}
_ATTRIBUTES = {
    "ro": 0x1,
    "nosuid": 0x2,
    "nodev": 0x4,
    "noexec": 0x8,
    "noatime": 0x10,
    "strictatime": 0x20,
    "nodiratime": 0x80,
}
_CLEARED = {"rw": 0x1, "suid": 0x2, "dev": 0x4, "exec": 0x8, "relatime": 0x70}
_PROPAGATION = {"private": 1 << 18, "slave": 1 << 19, "shared": 1 << 20, "unbindable": 1 << 17}
_ATIME_MASK = 0x70
_MS_REC, _MS_SLAVE = 1 << 14, 1 << 19
_CGROUP2 = "cgroup2"


class CgroupView(msgspec.Struct, frozen=True):
    """What a plan needs to know of a container's cgroup.

    Attributes:
        procs: ``cgroup.procs`` files of v1 hierarchies to join, in order.
        v1_mounts: (name below /sys/fs/cgroup, directory on the host) of the v1 groups to show.
        v2: whether there is a v2 cgroup.
    """

    procs: list[str]
    v1_mounts: list[tuple[str, str]]
    v2: bool


class Overlay(msgspec.Struct, frozen=True):
    """The root filesystem: ``options`` for overlayfs, lowerdirs relative to ``directory``; mounted
    on ``target``, an empty directory, in the container's own mount namespace."""

    directory: str
    target: str
    options: str


class Bound(msgspec.Struct, frozen=True):
    """A root filesystem that is a directory, ``source``, mounted on ``target``, an empty one."""

    source: str
    target: str


Root: TypeAlias = "Overlay | Bound"


class Network(msgspec.Struct, frozen=True):
    """The network of a container that is to start.

    Attributes:
        messages: what makes its links, in its own namespace. socket: of the host's, for some.
        ipv6: any of its networks has it. announced: its neighbours are to learn its MAC.
        names: there is a name server; also where a network may come later.
        join: descriptor of another container's namespace, instead of one of its own.
    """

    messages: list[Messages] = []
    socket: int = -1
    ipv6: bool = False
    announced: bool = False
    names: bool = False
    join: int | None = None


class Plan(msgspec.Struct, frozen=True):
    """The plan's bytes, and for messages what each operation is about.

    Attributes:
        descriptions: see ``about``.
        renamed: (an id in them, the one that it stands for), of a plan made from another's.
    """

    data: bytes
    descriptions: list[str]
    renamed: tuple[str, str] | None = None

    def about(self, index: int) -> str:
        """What an operation is about; "" for a number that is none of them."""
        if not 0 <= index < len(self.descriptions):
            return ""
        text = self.descriptions[index]
        return text.replace(*self.renamed) if self.renamed is not None else text


def flatten(
    spec: dict[str, Any],
    root: Root,
    cgroup: CgroupView,
    *,
    seccomp: Filter | None,
    group_add: list[str],
    init: bool,
    idle: bool = False,
    window: tuple[int, int] = (0, 0),
    network: Network | None = None,
    wait: bool = False,
) -> Plan:
    """The plan for a container's init.

    Args:
        idle: that is the helper itself (``ContainerConfig.idle``).
        network: see there; None: a namespace with the loopback interface alone, or the host's.
        window: (rows, columns) of its terminal, if it has one; zeros: not known.
        wait: the helper stays there, confined, until it is told the command.
    """
    builder = PlanBuilder()
    linux = spec["linux"]
    kinds = {entry["type"] for entry in linux["namespaces"]}
    if network is not None and network.join is not None:
        builder.op(core.OP_JOIN, slot=network.join, x=NAMESPACES["network"])
    for path in cgroup.procs:
        builder.op(core.OP_CGROUP_JOIN, path)
    # Not with the clone: a cgroup namespace's root is where its maker is.
    builder.op(core.OP_UNSHARE, x=NAMESPACES["cgroup"])
    attach = _detached_trees(builder, spec["mounts"])
    cgroup_slots = _cgroup_trees(builder, spec["mounts"], cgroup)
    builder.op(core.OP_PROPAGATION, x=_MS_REC | _MS_SLAVE)
    _root(builder, root)
    if "network" in kinds:
        builder.op(core.OP_LOOPBACK)
    builder.op(core.OP_HOSTNAME, spec["hostname"])
    if spec.get("domainname"):
        builder.op(core.OP_DOMAINNAME, spec["domainname"])
    _mount_all(builder, spec, attach, cgroup, cgroup_slots)
    if spec["process"].get("terminal"):
        builder.op(core.OP_CONSOLE, x=window[0] << 16 | window[1])
    if network is not None and network.names:
        _network(builder, network)
    for name, value in linux["sysctl"].items():
        builder.op(core.OP_SYSCTL, f"sys/{name.replace('.', '/')}", value)
        builder.descriptions[-1] = name
    score = spec["process"].get("oomScoreAdj", oom_score_of_others())
    if score is not None:
        builder.op(core.OP_PROC_WRITE, "self/oom_score_adj", str(score))
    for path in linux.get("maskedPaths") or []:
        builder.op(core.OP_MASK, path)
    for path in linux.get("readonlyPaths") or []:
        builder.op(core.OP_READONLY, path)
    if spec["process"]["cwd"] != "/":
        builder.op(core.OP_MKDIR, spec["process"]["cwd"])
    if spec["root"]["readonly"]:
        builder.op(core.OP_ROOT_READONLY)
    namespaces = sum(NAMESPACES[kind] for kind in kinds if kind != "cgroup")
    launcher = [] if idle else ["fastbox-init", "--"] if init else ["fastbox-exec"]
    flags = core.P_INIT if init else 0
    process = spec["process"]
    if wait:
        launcher, flags = ["fastbox-wait", *(["--init"] if init else [])], core.P_WAIT
        process = {**process, "args": []}
    data = finish(
        builder,
        process,
        user=spec["annotations"]["dev.fastbox.user"],
        group_add=group_add,
        namespaces=namespaces,
        seccomp=seccomp,
        flags=core.P_KEYRING | flags,
        launcher=launcher,
    )
    return Plan(data, builder.descriptions)


def _root(builder: PlanBuilder, root: Root) -> None:
    """Mount the root filesystem, and make it the root."""
    if isinstance(root, Overlay):
        builder.op(core.OP_OVERLAY, root.directory, root.target, root.options)
    else:
        slot = builder.new_slot()
        # As an overlay, it is not held to what the mount of its directory forbids.
        cleared = sum(_ATTRIBUTES[name] for name in ("ro", "nosuid", "nodev", "noexec"))
        private = _PROPAGATION["private"]
        builder.op(core.OP_TREE, root.source, slot=slot, y=cleared, z=private)
        builder.op(core.OP_ATTACH, b=root.target, slot=slot, flags=core.F_DIR)
    builder.op(core.OP_PIVOT, root.target)


def _network(builder: PlanBuilder, network: Network) -> None:
    """The container's links. What is set before holds for all of them: no router that anybody in a
    network can pretend to be is believed (CVE-2020-13401)."""
    values = {"ipv6/conf/default/accept_ra": "0"}
    if network.announced:
        values["ipv4/conf/default/arp_notify"] = "1"
    if not network.ipv6:
        values["ipv6/conf/default/disable_ipv6"] = "1"
    for name, value in values.items():
        builder.op(core.OP_SYSCTL, f"sys/net/{name}", value, flags=core.F_OPTIONAL)
    for part in network.messages:
        builder.messages(
            part.data,
            protocol=network_messages.NETLINK_ROUTE,
            answers=part.answers,
            about=part.about,
            interface=part.interface,
            host=network.socket if part.host else None,
        )
    builder.messages(
        network_messages.name_server_rules(network_messages.NAME_SERVER_PORT),
        protocol=network_messages.NETLINK_NETFILTER,
        answers=1,
        about="its name server",
    )
    builder.op(core.OP_NAMES, x=network_messages.NAME_SERVER_PORT)


def view_plan(spec: dict[str, Any], root: Root) -> Plan:
    """The plan that mounts the root of a container which does not run, with its volumes and binds,
    for the engine to look at; what the kernel makes (/proc, /sys, tmpfs) is left out."""
    builder = PlanBuilder()
    mounts = [
        mount
        for mount in spec["mounts"]
        if _is_bind(mount) and not mount["destination"].startswith(("/proc/", "/sys/"))
    ]
    attach = _detached_trees(builder, mounts)
    builder.op(core.OP_PROPAGATION, x=_MS_REC | _MS_SLAVE)
    _root(builder, root)
    for destination, (slot, kind) in attach.items():
        builder.op(core.OP_ATTACH, b=destination, slot=slot, flags=kind | core.F_USER)
    if spec["root"]["readonly"]:
        builder.op(core.OP_ROOT_READONLY)
    return Plan(builder.build(argv=["view"], env=[], cwd="/"), builder.descriptions)


def finish(
    builder: PlanBuilder,
    process: dict[str, Any],
    *,
    user: str,
    group_add: list[str],
    namespaces: int,
    seccomp: Filter | None,
    flags: int,
    launcher: list[str],
) -> bytes:
    """The plan's last part, from an OCI ``process``: the same for a container's init and for a
    process that joins it.

    Args:
        launcher: words before the command, for the helper that runs it.
    """
    for limit in process.get("rlimits") or []:
        number = rlimits.NUMBERS[limit["type"].removeprefix("RLIMIT_").lower()]
        builder.op(
            core.OP_RLIMIT, limit["type"].lower(), x=number, y=limit["soft"], z=limit["hard"]
        )
    spec_user = users.parse(user)
    if spec_user.uid is None:
        flags |= core.P_USER_NAME
    if spec_user.has_group:
        flags |= core.P_GROUP
    if process.get("noNewPrivileges"):
        flags |= core.P_NO_NEW_PRIVS
    caps = process["capabilities"]
    masks = [
        capabilities.to_mask(caps.get(kind) or [])
        for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")
    ]
    return builder.build(
        argv=[*launcher, *process["args"]],
        env=process["env"],
        cwd=process["cwd"],
        uid=spec_user.uid or 0,
        gid=spec_user.gid or 0,
        user_name=spec_user.user_name,
        group_name=spec_user.group_name,
        groups=[users.parse_group(group) for group in group_add],
        flags=flags | core.P_SET_HOME,
        umask=process["user"].get("umask", 0o022),
        namespaces=namespaces,
        seccomp=seccomp,
        capabilities=masks,
    )


def _attributes(options: list[str]) -> tuple[int, int, list[str]]:
    """(attributes to set, to clear, what is left)."""
    set_, clear, rest = 0, 0, []
    for option in options:
        if option in _ATTRIBUTES:
            set_ |= _ATTRIBUTES[option]
        elif option in _CLEARED:
            clear |= _CLEARED[option]
        else:
            rest.append(option)
    return set_, clear, rest


def _is_bind(mount: dict[str, Any]) -> bool:
    options = mount["options"]
    return "bind" in options or "rbind" in options


def _detached_trees(
    builder: PlanBuilder, mounts: list[dict[str, Any]]
) -> dict[str, tuple[int, int]]:
    """Copy the sources of all binds while the host's tree is still there, and before its
    propagation changes, so that rshared ones stay peers. destination -> (slot, DIR or FILE)."""
    attach: dict[str, tuple[int, int]] = {}
    for mount in mounts:
        if not _is_bind(mount):
            continue
        set_, clear, rest = _attributes(mount["options"])
        propagation = 0
        for word in rest:
            plain = word.removeprefix("r") if word not in _PROPAGATION else word
            propagation |= _PROPAGATION.get(plain, 0)
        flags = core.F_RECURSIVE if "rbind" in rest else 0
        slot = builder.new_slot()
        if set_ & _ATIME_MASK:
            clear |= _ATIME_MASK  # the kernel wants the whole field replaced
        builder.op(
            core.OP_TREE, mount["source"], flags=flags, slot=slot, x=set_, y=clear, z=propagation
        )
        attach[mount["destination"]] = slot, _kind_of(mount["source"])
    return attach


def _kind_of(source: str) -> int:
    try:
        mode = os.stat(source).st_mode
    except OSError as error:
        raise InvalidArgument(
            f'invalid mount config for type "bind": bind source path does not exist: {source}'
        ) from error
    return core.F_DIR if stat.S_ISDIR(mode) else core.F_FILE


def _mount_all(
    builder: PlanBuilder,
    spec: dict[str, Any],
    attach: dict[str, tuple[int, int]],
    cgroup: CgroupView,
    cgroup_slots: dict[str, int],
) -> None:
    for mount in spec["mounts"]:
        destination = mount["destination"]
        if destination in attach:
            slot, kind = attach[destination]
            builder.op(core.OP_ATTACH, b=destination, slot=slot, flags=kind | core.F_USER)
        elif mount["type"] == "cgroup":
            _mount_cgroup(builder, mount, cgroup, cgroup_slots)
        else:
            _mount_filesystem(builder, mount)
        if destination == "/dev" and mount["type"] == "tmpfs":
            _make_devices(builder, spec["linux"]["devices"])


# Their targets are in the read-only top layer of every image; a symlink there was put by somebody.
_FIXED = ("/proc", "/sys", "/dev")


def _mount_filesystem(builder: PlanBuilder, mount: dict[str, Any]) -> None:
    set_, clear, rest = _attributes(mount["options"])
    flags = core.F_DIR
    if mount["destination"] in _FIXED:
        flags |= core.F_NOFOLLOW
    else:
        flags |= core.F_USER
    builder.op(
        core.OP_FSMOUNT,
        mount["type"],
        mount["destination"],
        ",".join(rest),
        flags=flags,
        x=set_ & ~clear,
    )


def _cgroup_trees(
    builder: PlanBuilder, mounts: list[dict[str, Any]], cgroup: CgroupView
) -> dict[str, int]:
    """Copies of the container's own v1 groups: name -> slot."""
    slots: dict[str, int] = {}
    for mount in mounts:
        if mount["type"] == "cgroup":
            set_, _, _ = _attributes(mount["options"])
            for name, directory in cgroup.v1_mounts:
                slots[name] = builder.new_slot()
                builder.op(
                    core.OP_TREE, directory, slot=slots[name], x=set_, z=_PROPAGATION["private"]
                )
    return slots


def _mount_cgroup(
    builder: PlanBuilder, mount: dict[str, Any], cgroup: CgroupView, slots: dict[str, int]
) -> None:
    """The container's own part of each hierarchy that it is in."""
    destination = mount["destination"]
    set_, _, _ = _attributes(mount["options"])
    if not slots:
        if cgroup.v2:
            builder.op(core.OP_FSMOUNT, _CGROUP2, destination, flags=core.F_DIR, x=set_)
        return
    builder.op(core.OP_FSMOUNT, "tmpfs", destination, "mode=755", flags=core.F_DIR, x=set_ & ~0x1)
    for name, slot in slots.items():
        builder.op(core.OP_ATTACH, b=f"{destination}/{name}", slot=slot, flags=core.F_DIR)
    if cgroup.v2:
        builder.op(core.OP_FSMOUNT, _CGROUP2, f"{destination}/unified", flags=core.F_DIR, x=set_)
    if set_ & 0x1:
        builder.op(core.OP_READONLY, destination)


def _make_devices(builder: PlanBuilder, devices: list[dict[str, Any]]) -> None:
    kinds = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
    for device in devices:
        if device["type"] not in kinds:
            raise Unsupported(f"device {device['path']}: unknown type {device['type']!r}")
        mode = kinds[device["type"]] | (device.get("fileMode") or 0o666)
        number = os.makedev(device.get("major", 0), device.get("minor", 0))
        owner = (device.get("uid") or 0) << 32 | (device.get("gid") or 0)
        builder.op(core.OP_MKNOD, device["path"], x=mode, y=number, z=owner)
    links = [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("pts/ptmx", "/dev/ptmx"),
        ("/proc/kcore", "/dev/core"),
    ]
    for content, path in links:
        builder.op(core.OP_SYMLINK, content, path)
