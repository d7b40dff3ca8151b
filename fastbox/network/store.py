"""Networks on disk: ``ROOT/networks/NAME.json``.

A network's name is its file's. A file appears by link(2), whole, and only if there is none of that
name; it goes by unlink(2). ``host`` and ``none`` have no file.

Two locks. ``.lock``: shared while a container attaches, exclusive while networks come and go.
``.pools``: held for the moment in which a subnet is chosen and stored; apart, because the default
network is made when the first container needs it, by a process that holds the other one.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

from .. import atomic, locks
from ..errors import Ambiguous, Conflict, FastboxError, InvalidArgument, NotFound, StoreError
from ..events import Journal
from ..oci import filters as oci_filters
from . import addresses, options
from .types import BUILT_IN, DEFAULT, DRIVERS, Network, Subnet

InUse: TypeAlias = "Callable[[Network], list[str]]"
Networks: TypeAlias = "list[Network]"
Names: TypeAlias = "list[str]"

MAX_NAME = 200  # a file's name has 255 bytes, and a temporary one is longer than NAME.json
_MAX_RECORD = 1 << 20
_LIST_FILTERS = frozenset(("dangling", "driver", "id", "label", "label!", "name", "scope", "type"))
_PRUNE_FILTERS = frozenset(("label", "label!", "until"))


class Damaged(StoreError):
    """A network's file is not one that ``create`` has written."""


class NetworkStore:
    """The networks below a data root. Threads and processes may share one.

    Args:
        runtime: the runtime directory; what a network has there goes with it.
        journal: where ``create`` and ``destroy`` are told.
    """

    def __init__(self, root: str, runtime: str, journal: Journal) -> None:
        self.root = root
        self.directory = os.path.join(root, "networks")
        self.runtime = os.path.join(runtime, "networks")
        self.journal = journal

    @contextlib.contextmanager
    def lock(self, shared: bool) -> Iterator[None]:
        """Hold the lock of all networks. Not reentrant: ``create``, ``remove`` and ``prune`` take
        it (exclusive) themselves.

        Args:
            shared: networks stay what they are while it is held; others may hold it so too.
        """
        self._make_directory()
        with locks.lock(os.path.join(self.directory, ".lock"), shared=shared, create=True):
            yield

    def _make_directory(self) -> None:
        try:
            os.makedirs(self.directory, 0o700, exist_ok=True)
        except OSError as error:
            raise _failed("make", self.directory, error) from error

    # ---- looking up --------------------------------------------------------------------------

    def get(self, name: str) -> Network:
        """The network of that name. ``bridge`` is made when it is asked for first.

        Raises:
            NotFound: `network X not found`.
            Damaged: its file is (names it).
        """
        if name in ("host", "none"):
            return self._builtin(name)
        if not _is_name(name):
            raise _not_found(name)
        try:
            return self._load(name)
        except FileNotFoundError:
            if name == DEFAULT:
                return self._make_default()
            raise _not_found(name) from None

    def resolve(self, name_or_id: str) -> Network:
        """A network by id, name or unique beginning of an id, in this order.

        Raises:
            NotFound: `network X not found`.
            Ambiguous: the beginning of several ids.
            Damaged: the file of that name is.
        """
        prefix = bool(name_or_id) and not name_or_id.strip("0123456789abcdef")
        if not (prefix and len(name_or_id) == 64):
            with contextlib.suppress(NotFound):
                return self.get(name_or_id)
        if not prefix:
            raise _not_found(name_or_id)
        found = [network for network in self._all() if network.id.startswith(name_or_id)]
        if len(found) > 1:
            raise Ambiguous(
                f"network {name_or_id} is ambiguous ({len(found)} matches found on name)",
                hint=f"give more of the id: {', '.join(sorted(n.id[:12] for n in found)[:5])}",
            )
        return found[0] if found else self.get(name_or_id)

    def list(
        self, *, filters: oci_filters.Filters | None = None, in_use: InUse | None = None
    ) -> Networks:
        """Networks by name, the built-in ones among them. Damaged ones are passed over.

        Args:
            filters: ``dangling``, ``driver``, ``id``, ``label``, ``name``, ``scope``, ``type``.
            in_use: ids of the containers on a network; for ``dangling``.

        Raises:
            InvalidArgument: a bad filter.
        """
        wanted = filters or {}
        oci_filters.check_keys(wanted, _LIST_FILTERS)
        dangling = oci_filters.boolean(wanted, "dangling")
        for kind in wanted.get("type", ()):
            if kind not in ("builtin", "custom"):
                raise InvalidArgument(f"invalid filter: 'type'='{kind}'")
        found = sorted(self._all(), key=lambda network: network.name)
        result = [network for network in found if _fits(network, wanted)]
        if dangling is None:
            return result
        return [n for n in result if n.is_user_defined and _is_dangling(n, in_use) is dangling]

    def _all(self) -> Iterator[Network]:
        with contextlib.suppress(Damaged):
            yield self.get(DEFAULT)
        yield self._builtin("host")
        yield self._builtin("none")
        yield from self._custom()

    def _custom(self) -> Iterator[Network]:
        return (network for network in self.stored() if network.name not in BUILT_IN)

    def stored(self) -> Iterator[Network]:
        """Of all files those that can be read: a damaged one is in nobody's way but its own."""
        for name in self._names():
            # (Not found: removed meanwhile.)
            with contextlib.suppress(FileNotFoundError, Damaged):
                yield self._load(name)

    def damaged(self) -> Names:
        """What is wrong with the files that ``list`` passes over, a line each."""
        found = []
        for name in self._names():
            try:
                self._load(name)
            except FileNotFoundError:
                continue
            except Damaged as error:
                found.append(error.message)
        return found

    def _names(self) -> Names:
        try:
            files = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _failed("read", self.directory, error) from error
        return sorted(f[:-5] for f in files if f.endswith(".json") and _is_name(f[:-5]))

    def _builtin(self, name: str) -> Network:
        import hashlib

        digest = hashlib.sha256(f"{self.root}{name}".encode()).hexdigest()
        return Network(id=digest, name=name, driver=name)

    def _path(self, name: str) -> str:
        return f"{self.directory}/{name}.json"

    def _load(self, name: str) -> Network:
        path = self._path(name)
        try:
            with open(path, "rb", opener=atomic.no_wait) as file:
                network = msgspec.json.decode(file.read(_MAX_RECORD), type=Network)
            _check_record(network, name)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _failed("read", path, error) from error
        except (msgspec.MsgspecError, ValueError, RecursionError, FastboxError) as error:
            raise Damaged(
                f"{path} is damaged: {error}",
                hint=f"`fastbox network rm {name}` removes the network",
            ) from error
        return network

    # ---- making ------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        *,
        driver: str = "bridge",
        subnets: Sequence[Subnet] = (),
        internal: bool = False,
        ipv6: bool = False,
        labels: Mapping[str, str] | None = None,
        driver_options: Mapping[str, str] | None = None,
        made: Callable[[Network], None] | None = None,
    ) -> Network:
        """Make a network.

        Args:
            subnets: at most one of each family; chosen where there is none.
            driver_options: Docker's names, see ``options.KNOWN``.
            made: called under the lock, it makes the device. What it raises undoes the network.
                (Killed before it, a network without a device is left: the first start makes one.)

        Raises:
            InvalidArgument, Unsupported: a bad name, subnet or option.
            Conflict: the name or the subnet is taken.
            StoreError: nothing could be written; nothing was made.
        """
        from . import strays

        check_name(name)
        _check_driver(driver)
        asked = dict(driver_options or {})
        options.check(driver, asked)
        network = Network(
            id=os.urandom(32).hex(),
            name=name,
            driver=driver,
            created=_now(),
            internal=internal,
            ipv6=ipv6,
            labels=dict(labels or {}),
            options=asked,
        )
        with contextlib.suppress(FastboxError):
            self.get(DEFAULT)  # it is the first, as in Docker: no other one gets its subnet
        with self.lock(shared=False):
            if os.path.lexists(self._path(name)):
                raise _exists(name)
            strays.sweep(self)
            try:
                self._add(network, subnets)
            except Conflict:
                # The subnet, or the name, may be a bridge's that nobody needs.
                if not strays.sweep(self, thorough=True):
                    raise
                self._add(network, subnets)
            try:
                if made is not None:
                    made(network)
            except BaseException:
                os.unlink(self._path(name))
                raise
        self._tell("create", network)
        return network

    def _make_default(self) -> Network:
        network = Network(id=os.urandom(32).hex(), name=DEFAULT, created=_now())
        try:
            self._add(network, ())
        except Conflict:
            if not os.path.exists(self._path(DEFAULT)):
                raise
            return self._load(DEFAULT)  # another process was faster
        return network

    def _add(self, network: Network, subnets: Sequence[Subnet]) -> None:
        """Choose what is open and store the network, if there is none of its name."""
        from . import pools
        from .device import bridge_index

        self._make_directory()
        device = options.device_of(
            self.root, network.id, network.name, network.driver, network.options
        )
        with locks.lock(os.path.join(self.directory, ".pools"), create=True):
            self._remove_leftovers()
            others = list(self.stored())
            network.device = device
            for other in others:
                if network.driver == other.driver == "bridge" and other.device == device:
                    if other.name == network.name:
                        raise _exists(other.name)
                    raise Conflict(f"bridge {device} is network {other.name}'s")
            if options.BRIDGE_NAME in network.options and bridge_index(device) is not None:
                raise Conflict(
                    f"interface {device} is there and not fastbox's", hint="choose another name"
                )
            network.subnets = pools.plan(
                network.id,
                subnets,
                ipv6=network.ipv6,
                networks=pools.of_networks(others),
                host=pools.of_host(),
                is_bridge=network.driver == "bridge",
            )
            self._write(network)

    def _write(self, network: Network) -> None:
        """Store a network durably, whole, and never over another one."""
        path = self._path(network.name)
        staged = f"{self.directory}/.{network.name}.{os.urandom(4).hex()}"
        try:
            try:
                atomic.write(staged, msgspec.json.encode(network))
                os.link(staged, path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(staged)
            atomic.sync_directory(self.directory)
        except FileExistsError:
            raise _exists(network.name) from None
        except OSError as error:
            raise _failed("store", f"network {network.name}", error) from error

    def _remove_leftovers(self) -> None:
        """Of killed processes: live ones write under the lock that we hold."""
        for name in os.listdir(self.directory):
            if name[0] == "." and name not in (".lock", ".pools"):
                with contextlib.suppress(OSError):
                    os.unlink(f"{self.directory}/{name}")

    # ---- removing ----------------------------------------------------------------------------

    def remove(
        self,
        name_or_id: str,
        *,
        in_use: InUse | None = None,
        undo: Callable[[Network], None] | None = None,
    ) -> Network:
        """Remove a network.

        Args:
            in_use: ids of the containers that are on it.
            undo: called under the lock, once nobody can find the network: it removes the device.

        Raises:
            NotFound, Ambiguous: see ``resolve``.
            Conflict: a built-in network, or one in use (Docker's texts).
        """
        from . import strays

        with self.lock(shared=False):
            strays.sweep(self)
            try:
                network = self.resolve(name_or_id)
            except Damaged:
                return self._remove_damaged(name_or_id)
            if not network.is_user_defined:
                raise Conflict(f"{network.name} is a pre-defined network and cannot be removed")
            users = in_use(network) if in_use is not None else []
            if users:
                raise Conflict(
                    f"error while removing network: network {network.name} has active endpoints"
                    f" ({', '.join(users)})"
                )
            self._remove(network, undo)
        return network

    def prune(
        self,
        *,
        filters: oci_filters.Filters | None = None,
        in_use: InUse | None = None,
        undo: Callable[[Network], None] | None = None,
    ) -> Names:
        """Remove the user-defined networks that no container is on.

        Args:
            filters: ``label``, ``label!``, ``until``.

        Returns:
            Their names.

        Raises:
            InvalidArgument: a bad filter.
        """
        from ..oci import times
        from . import strays

        wanted = filters or {}
        oci_filters.check_keys(wanted, _PRUNE_FILTERS)
        until = list(wanted.get("until", ()))
        if len(until) > 1:
            raise InvalidArgument("more than one until filter specified")
        limit = times.moment(until[0]) if until else None
        removed: Names = []
        if not any(name not in BUILT_IN for name in self._names()) and not strays.likely(self):
            return removed
        with self.lock(shared=False):
            strays.sweep(self)
            for network in list(self._custom()):
                created = times.rfc3339(network.created)
                if limit is not None and (created is None or created > limit):
                    continue
                if oci_filters.labels_match(network.labels, wanted) and _is_dangling(
                    network, in_use
                ):
                    self._remove(network, undo)
                    removed.append(network.name)
        return removed

    def _remove_damaged(self, name: str) -> Network:
        """The file, and the bridge of whatever network has none then: nothing is known of this one
        but its name."""
        from . import strays

        self._unlink(name)
        strays.sweep(self, thorough=True)
        return Network(id="", name=name)

    def _unlink(self, name: str) -> None:
        try:
            os.unlink(self._path(name))
            atomic.sync_directory(self.directory)
        except FileNotFoundError:
            raise _not_found(name) from None
        except OSError as error:
            raise _failed("remove", f"network {name}", error) from error

    def _remove(self, network: Network, undo: Callable[[Network], None] | None) -> None:
        from .._core.tree import remove_tree

        self._unlink(network.name)
        with contextlib.suppress(FileNotFoundError):
            remove_tree(f"{self.runtime}/{network.id}")
        if undo is not None:
            undo(network)
        self._tell("destroy", network)

    def _tell(self, action: str, network: Network) -> None:
        about = {"name": network.name, "type": network.driver}
        self.journal.emit("network", action, network.id, about)


# ---- rules ---------------------------------------------------------------------------------------


def check_name(name: str) -> None:
    """Raises InvalidArgument, with Docker's text, for what cannot be a new network's name."""
    if not name.strip():
        raise InvalidArgument("invalid name: name is empty")
    if name in (*BUILT_IN, "default") or name.startswith("container:"):
        shown = "container" if name.startswith("container:") else name
        raise Conflict(f"operation is not permitted on predefined {shown} network")
    if len(name) > MAX_NAME:
        raise InvalidArgument(f"network name is too long: at most {MAX_NAME} characters")
    if not _is_name(name):
        from ..oci.text import printable

        shown = printable(name[:300])
        raise InvalidArgument(
            f'"{shown}" includes invalid characters for a network name, only'
            ' "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed'
        )


def _is_name(name: str) -> bool:
    """[a-zA-Z0-9][a-zA-Z0-9_.-]*"""
    rest = name.replace("_", "").replace(".", "").replace("-", "")
    return 0 < len(name) <= MAX_NAME and name.isascii() and name[0].isalnum() and rest.isalnum()


def _check_driver(driver: str) -> None:
    if driver in ("host", "null", "none"):
        raise Conflict(f'only one instance of "{driver}" network is allowed')
    if driver not in DRIVERS:
        raise InvalidArgument(
            f'could not find network driver "{driver[:100]}"', hint="drivers: bridge, macvlan"
        )


def _check_record(network: Network, name: str) -> None:
    """Raises ValueError or FastboxError for what ``create`` would not have written."""
    if network.name != name:
        raise ValueError(f"it is about {network.name[:100]!r}")
    if len(network.id) != 64 or network.id.strip("0123456789abcdef"):
        raise ValueError("no id")
    if network.driver not in ("bridge", "macvlan"):
        raise ValueError(f"unknown driver {network.driver[:100]!r}")
    options.check_interface_name(network.device)
    for subnet in network.subnets:
        block, _ = addresses.parse_prefix(subnet.subnet)
        for address in (subnet.gateway, *subnet.reserved.values()):
            if address and addresses.parse(address)[0] != block.family:
                raise ValueError(f"{address[:100]!r} is not of the subnet's family")
        if subnet.ip_range and addresses.parse_prefix(subnet.ip_range)[0].family != block.family:
            raise ValueError(f"{subnet.ip_range[:100]!r} is not of the subnet's family")


def _fits(network: Network, wanted: oci_filters.Filters) -> bool:
    shown = "null" if network.driver == "none" else network.driver
    ids, names = wanted.get("id", ()), wanted.get("name", ())
    if ids and not any(text in network.id for text in ids):
        return False
    if names and not any(_matches(text, network.name) for text in names):
        return False
    if wanted.get("driver") and shown not in wanted["driver"]:
        return False
    if wanted.get("scope") and "local" not in wanted["scope"]:
        return False
    kind = "custom" if network.is_user_defined else "builtin"
    if wanted.get("type") and kind not in wanted["type"]:
        return False
    return oci_filters.labels_match(network.labels, wanted)


def _matches(text: str, name: str) -> bool:
    """Docker's: a regular expression, or part of the name."""
    try:
        return re.search(text, name) is not None
    except re.error:
        return text in name


def _is_dangling(network: Network, in_use: InUse | None) -> bool:
    return in_use is None or not in_use(network)


def _now() -> str:
    from ..oci import times

    return times.now()


def _exists(name: str) -> Conflict:
    return Conflict(f"network with name {name} already exists")


def _not_found(name: str) -> NotFound:
    return NotFound(f"network {name[:300]} not found")


def _failed(action: str, what: str, error: OSError) -> StoreError:
    import errno

    return StoreError(
        f"cannot {action} {what}: {(error.strerror or str(error)).lower()}",
        hint="free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else None,
    )
