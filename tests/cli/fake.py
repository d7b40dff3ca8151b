"""An engine without containers: it notes what it is asked and answers from prepared objects."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fastbox.container.changes import Change
from fastbox.container.config import ContainerConfig
from fastbox.container.copy import Copied
from fastbox.container.filters import select
from fastbox.container.inspect import inspect
from fastbox.container.logs import LogLine
from fastbox.container.record import Container, ContainerRecord, ContainerState, Status
from fastbox.container.stats import Stats
from fastbox.errors import NotFound
from fastbox.events.event import Event
from fastbox.image.history import HistoryEntry
from fastbox.image.progress import ProgressEvent
from fastbox.image.types import Image, LoadResult, PullResult, Removed, StoreUsage, Volume
from fastbox.network import wishes
from fastbox.network.inspect import inspect_network
from fastbox.network.types import Network, Networking
from fastbox.usage import DiskUsage, PrunedSystem

if TYPE_CHECKING:
    from fastbox.registry.search import SearchResult  # loads what speaks to registries

ID = "0123456789ab" + "c" * 52
IMAGE_ID = "sha256:" + "d" * 64
DIGEST = "sha256:" + "e" * 64


def box(name: str = "web", id: str = ID, **changes: Any) -> Container:
    """A container; ``config_…`` and ``state_…`` go to those, the rest to the record."""
    config = ContainerConfig(image=changes.pop("image", "redis"))
    state = ContainerState(status=changes.pop("status", Status.CREATED))
    for key in list(changes):
        kind, _, field = key.partition("_")
        if kind == "config":
            setattr(config, field, changes.pop(key))
        elif kind == "state":
            setattr(state, field, changes.pop(key))
    if config.network not in ("none", "host"):
        changes.setdefault("networks", wishes.attachments(config))
    others = ("size_rw", "size_root", "networking")
    sizes = {key: changes.pop(key) for key in others if key in changes}
    values = {"created": "2026-01-02T03:04:05.000000006Z", "path": "redis-server", **changes}
    record = ContainerRecord(id=id, name=name, config=config, image_id=IMAGE_ID, **values)
    return Container(
        record=record,
        state=state,
        directory=f"/store/containers/{id}",
        bundle=f"/store/containers/{id}",
        **sizes,
    )


def image(*names: str, **changes: Any) -> Image:
    values = {
        "id": IMAGE_ID,
        "names": list(names),
        "repo_digests": [],
        "manifest_digest": DIGEST,
        "created": "2026-01-02T03:04:05Z",
        "size": 12_345_678,
        "layers": ["sha256:" + "1" * 64],
        "layer_blobs": ["sha256:" + "2" * 64],
        "architecture": "amd64",
        "os": "linux",
        **changes,
    }
    return Image(**values)


class FakeArchive(list[bytes]):
    """The pieces of a tar stream."""

    def __enter__(self) -> FakeArchive:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class FakeEngine:
    """Signatures of Engine. ``calls`` holds (method, arguments); ``errors[method]`` is raised.

    Attributes:
        boxes, stored, kept, nets: containers, images, volumes and networks that exist.
        missing: names of images that have to be pulled first.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.errors: dict[str, Exception] = {}
        self.boxes: list[Container] = []
        self.stored: list[Image] = []
        self.steps: list[HistoryEntry] = []
        self.found: list[SearchResult] = []
        self.kept: list[Volume] = []
        self.nets: list[Network] = []
        self.lines: list[LogLine] = []
        self.happened: list[Event] = []
        self.missing: set[str] = set()
        self.samples: dict[str, int] = {}
        self.status = 0
        self.skipped: list[str] = []
        self.gone = [
            Removed(kind="untagged", what="redis:7"), Removed(kind="deleted", what=IMAGE_ID),
        ]  # fmt: skip
        self.usage = DiskUsage(images=StoreUsage(size=0, reclaimable=0), containers=[], volumes=[])
        self.during_run: Callable[[], None] = lambda: None

    def _note(self, method: str, *args: Any, **kwargs: Any) -> None:
        self.calls.append((method, args, kwargs))
        if method in self.errors:
            raise self.errors[method]

    def asked(self, method: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of the only call of a method."""
        found = [(args, kwargs) for name, args, kwargs in self.calls if name == method]
        assert len(found) == 1, self.calls
        return found[0]

    @property
    def config(self) -> ContainerConfig:
        """What ``create`` was asked for."""
        config: ContainerConfig = self.asked("create")[0][0]
        return config

    # containers
    def create(self, config: ContainerConfig, **kwargs: Any) -> Container:
        if config.image in self.missing:
            assert kwargs["pull"] == "never"
            raise NotFound(f"No such image: {config.image}:latest")
        self._note("create", config, **kwargs)
        made = box()
        made.record.config = config
        return made

    def start(self, name: str) -> Container:
        self._note("start", name)
        return self.container(name)

    def run_attached(self, name: str, **kwargs: Any) -> int:
        self._note("run_attached", name, **kwargs)
        self.during_run()
        return self.status

    def containers(
        self, *, all: bool = False, filters: dict[str, list[str]] | None = None, size: bool = False
    ) -> list[Container]:
        self._note("containers", all=all, filters=filters, size=size)
        return select(self.boxes, all=all, filters=filters)

    def container(self, name: str, *, size: bool = False) -> Container:
        for found in self.boxes:
            if name in (found.name, found.id, found.short_id):
                return found
        raise NotFound(f"No such container: {name}")

    def logs(self, name: str, **kwargs: Any) -> Iterator[LogLine]:
        self._note("logs", name, **kwargs)
        return iter(self.lines)

    def top(self, name: str, ps_args: list[str] | None = None) -> tuple[list[str], list[list[str]]]:
        self._note("top", name, ps_args)
        return ["UID", "PID", "CMD"], [["root", "12", "redis-server *:6379"]]

    def attach(self, name: str, **kwargs: Any) -> int:
        self._note("attach", name, **kwargs)
        return self.status

    def stats(self, name: str) -> Stats:
        """Each further sample of a container shows another second, and 0.25 s of CPU time."""
        self._note("stats", name)
        found = self.container(name)
        count = self.samples[found.id] = self.samples.get(found.id, 0) + 1
        return Stats(
            id=found.id,
            name=found.name,
            time=count * 10**9,
            cpu=count * 25 * 10**7,
            memory=3 << 19,
            memory_limit=64 << 20,
            net_rx=1234,
            net_tx=5_678_901,
            block_read=4096,
            block_write=1_024_000_000,
            pids=3,
        )

    def exec(self, name: str, args: list[str], **kwargs: Any) -> int:
        self._note("exec", name, args, **kwargs)
        return self.status

    def stop(self, name: str, **kwargs: Any) -> None:
        self._note("stop", name, **kwargs)
        self.container(name)

    def kill(self, name: str, **kwargs: Any) -> None:
        self._note("kill", name, **kwargs)

    def restart(self, name: str, **kwargs: Any) -> None:
        self._note("restart", name, **kwargs)
        self.container(name)

    def update(self, name: str, **kwargs: Any) -> None:
        self._note("update", name, **kwargs)
        self.container(name)

    def rename(self, name: str, new: str) -> None:
        self._note("rename", name, new)
        self.container(name)

    def copy_from(self, name: str, path: str, **kwargs: Any) -> FakeArchive:
        self._note("copy_from", name, path, **kwargs)
        return FakeArchive([b"tar", b"ball"])

    def copy_to(self, name: str, path: str, archive: Any, **kwargs: Any) -> None:
        self._note("copy_to", name, path, archive, **kwargs)

    def copy_out(self, name: str, path: str, dest: str, **kwargs: Any) -> Copied:
        self._note("copy_out", name, path, dest, **kwargs)
        return Copied(size=2048, path=dest, skipped=self.skipped)

    def copy_in(self, name: str, source: str, path: str, **kwargs: Any) -> Copied:
        self._note("copy_in", name, source, path, **kwargs)
        return Copied(size=2048, path=f"{name}:{path}")

    def changes(self, name: str) -> list[Change]:
        self._note("changes", name)
        self.container(name)
        return [Change("C", "/etc"), Change("D", "/etc/motd"), Change("A", "/new")]

    def pause(self, name: str) -> None:
        self._note("pause", name)
        self.container(name)

    def unpause(self, name: str) -> None:
        self._note("unpause", name)
        self.container(name)

    def remove(self, name: str, **kwargs: Any) -> None:
        self._note("remove", name, **kwargs)
        self.container(name)

    def prune_containers(self, **kwargs: Any) -> tuple[list[str], int]:
        self._note("prune_containers", **kwargs)
        return [box.id for box in self.boxes], 212_000_000

    def wait(self, name: str) -> int:
        self._note("wait", name)
        self.container(name)
        return self.status

    def cleanup(self, name: str) -> None:
        self._note("cleanup", name)

    # images
    def pull(self, reference: str, **kwargs: Any) -> PullResult:
        self._note("pull", reference, **kwargs)
        self.missing.discard(reference)
        return PullResult(
            image=image(), name="docker.io/library/redis:latest", digest=DIGEST, status="downloaded"
        )

    def pull_all(self, repository: str, **kwargs: Any) -> list[PullResult]:
        self._note("pull_all", repository, **kwargs)
        results = []
        for tag in ("6", "7"):
            kwargs["progress"](ProgressEvent(tag, "Pulling from library/redis"))
            kwargs["progress"](ProgressEvent("aaa", "Pull complete"))
            kwargs["progress"](ProgressEvent("", f"Digest: {DIGEST}"))
            name = f"docker.io/library/redis:{tag}"
            status = "downloaded" if tag == "6" else "up-to-date"
            results.append(PullResult(image=image(), name=name, digest=DIGEST, status=status))
        return results

    def search(self, term: str, **kwargs: Any) -> list[SearchResult]:
        self._note("search", term, **kwargs)
        return self.found

    def images(self, reference: str | None = None, **kwargs: Any) -> list[Image]:
        self._note("images", reference, **kwargs)
        return self.stored

    def tag(self, source: str, target: str) -> None:
        self._note("tag", source, target)

    def remove_image(self, name: str, **kwargs: Any) -> list[Removed]:
        self._note("remove_image", name, **kwargs)
        if name not in ("redis", "a", "b"):
            raise NotFound(f"No such image: {name}:latest")
        return [
            Removed(kind="untagged", what=f"{name}:latest"),
            Removed(kind="deleted", what=IMAGE_ID),
        ]

    def prune_images(self, **kwargs: Any) -> tuple[list[Removed], int]:
        self._note("prune_images", **kwargs)
        return self.gone, 12_345_678

    def prune_system(self, *, told: Callable[[str, Any], None], **kwargs: Any) -> PrunedSystem:
        self._note("prune_system", **kwargs)
        told("Containers", [ID])
        told("Networks", ["one", "two"])
        told("Volumes", [])
        told("Images", self.gone)
        return PrunedSystem(freed=12_345_890)

    def system_df(self) -> DiskUsage:
        return self.usage

    def import_image(self, source: str, reference: str | None = None, **kwargs: Any) -> Image:
        self._note("import_image", source, reference, **kwargs)
        return image()

    def commit(self, container: str, reference: str | None = None, **kwargs: Any) -> Image:
        self._note("commit", container, reference, **kwargs)
        return image()

    def check_platform(self, name: str, platform: str) -> None:
        self._note("check_platform", name, platform)

    def history(self, name: str) -> list[HistoryEntry]:
        self._note("history", name)
        return self.steps

    def save(self, names: list[str], target: int | str, **kwargs: Any) -> None:
        self._note("save", names, target, **kwargs)

    def load(self, source: str, **kwargs: Any) -> list[LoadResult]:
        kwargs["progress"](ProgressEvent("0123456789ab", "Loading layer", 5, 10))
        self._note("load", source, platform=kwargs["platform"])
        moved = "sha256:" + "a" * 64
        return [
            LoadResult(image=image(), name="docker.io/library/redis:7"),
            LoadResult(image=image(), name="localhost:5000/a:1", replaced=moved),
            LoadResult(image=image()),
        ]

    def bootstrap(self, reference: str, **kwargs: Any) -> Image:
        self._note("bootstrap", reference, **kwargs)
        if kwargs["output"]:
            kwargs["output"]("I: running apt-get")
        return image()

    # volumes
    def create_volume(self, name: str | None = None, **kwargs: Any) -> Volume:
        self._note("create_volume", name, **kwargs)
        return volume(name or "f" * 64)

    def volumes(self, *, filters: dict[str, list[str]] | None = None) -> list[Volume]:
        self._note("volumes", filters=filters)
        return self.kept

    def remove_volume(self, name: str, *, force: bool = False) -> None:
        self._note("remove_volume", name, force=force)
        if not force and name not in [kept.name for kept in self.kept]:
            raise NotFound(f"get {name}: no such volume")

    def prune_volumes(self, **kwargs: Any) -> tuple[list[str], int]:
        self._note("prune_volumes", **kwargs)
        return ["one", "two"], 1840

    # networks
    def networks(self, *, filters: dict[str, list[str]] | None = None) -> list[Network]:
        self._note("networks", filters=filters)
        return self.nets

    def network(self, name: str) -> Network:
        for found in self.nets:
            if found.name == name or found.id.startswith(name):
                return found
        raise NotFound(f"network {name} not found")

    def create_network(self, name: str, **kwargs: Any) -> Network:
        self._note("create_network", name, **kwargs)
        return network(name)

    def remove_network(self, name: str) -> Network:
        self._note("remove_network", name)
        return self.network(name)

    def prune_networks(self, **kwargs: Any) -> list[str]:
        self._note("prune_networks", **kwargs)
        return [found.name for found in self.nets]

    def connect_network(self, name: str, container: str, **kwargs: Any) -> None:
        self._note("connect_network", name, container, **kwargs)
        self.network(name)

    def disconnect_network(self, name: str, container: str, **kwargs: Any) -> None:
        self._note("disconnect_network", name, container, **kwargs)
        self.network(name)

    def networking(self, container: Container) -> Networking:
        return container.networking or Networking()

    def inspect_network(self, name: str) -> dict[str, Any]:
        return inspect_network(self.network(name), [])

    # what inspect shows
    def inspect_container(self, name: str, *, size: bool = False) -> dict[str, Any]:
        return inspect(self.container(name))

    def inspect_image(self, name: str) -> dict[str, Any]:
        from fastbox.image.inspect import inspect as inspect_image

        for found in self.stored:
            if any(f"/{name}:" in known for known in found.names):
                return inspect_image(found)
        raise NotFound(f"No such image: {name}:latest")

    def inspect_volume(self, name: str) -> dict[str, Any]:
        from fastbox.container.inspect import inspect_volume

        for found in self.kept:
            if found.name == name:
                return inspect_volume(found)
        raise NotFound(f"get {name}: no such volume")

    # the engine
    def events(
        self, since: str | None, until: str | None, filters: dict[str, list[str]]
    ) -> contextlib.AbstractContextManager[Iterator[Event]]:
        self._note("events", since, until, filters)
        return contextlib.nullcontext(iter(self.happened))

    def version(self) -> dict[str, Any]:
        return {"Version": "1.2.3", "Os": "linux", "Arch": "amd64", "KernelVersion": "6.1"}

    def info(self) -> dict[str, Any]:
        return {
            "Containers": 3,
            "ContainersRunning": 1,
            "MemTotal": 2 << 30,
            "SecurityOptions": ["name=seccomp,profile=builtin"],
            "Plugins": {"Log": ["cri", "none"]},
            "Warnings": ["WARNING: no swap"],
        }


def volume(name: str, **changes: Any) -> Volume:
    return Volume(
        name=name,
        mountpoint=f"/store/volumes/{name}/_data",
        created="2026-01-02T03:04:05Z",
        **changes,
    )


def network(name: str, **changes: Any) -> Network:
    values = {"id": "f" * 64, "created": "2026-01-02T03:04:05Z", **changes}
    return Network(name=name, **values)
