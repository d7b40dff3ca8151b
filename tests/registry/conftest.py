"""Fixtures of the registry tests: a scripted server, a store, layers, a home without secrets."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator

import pytest

from fastbox.image.pull import ProgressEvent, pull
from fastbox.image.store import ImageStore
from fastbox.image.types import PullResult
from fastbox.registry.retry import Policy

from .server import FaultyRegistry, running

# Patient with a slow machine, quick between tries.
QUICK = Policy(base=0.001, busy_base=0.001, cap=0.01)


@pytest.fixture(autouse=True)
def clean_environment(base: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A home of the test's own; no proxies, no credentials of whoever runs the tests."""
    home = os.path.join(base, "home")
    os.mkdir(home)
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("XDG_RUNTIME_DIR", os.path.join(base, "runtime"))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for scheme in ("http", "https", "no", "all"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme.upper()}_PROXY", raising=False)
    return home


@pytest.fixture
def faulty() -> Iterator[FaultyRegistry]:
    """A plain HTTP registry on loopback that does as it is told."""
    with running() as server:
        yield server


@pytest.fixture
def store(root: str) -> ImageStore:
    return ImageStore(root)


class Puller:
    """Pulls into the store, quickly; keeps the progress events."""

    def __init__(self, store: ImageStore, host: str) -> None:
        self.store = store
        self.host = host
        self.events: list[ProgressEvent] = []

    def __call__(
        self, name: str, *, platform: str | None = None, policy: Policy = QUICK, **options: object
    ) -> PullResult:
        reference = f"{self.host}/{name}"
        return pull(
            self.store,
            reference,
            platform=platform,
            progress=self.events.append,
            policy=policy,
            **options,  # type: ignore[arg-type]
        )

    def statuses(self, blob_id: str | None = None) -> list[str]:
        """The statuses of a layer, each change once."""
        found: list[str] = []
        for event in self.events:
            if blob_id in (None, event.id) and (not found or found[-1] != event.status):
                found.append(event.status)
        return found


@pytest.fixture
def puller(store: ImageStore, faulty: FaultyRegistry) -> Puller:
    return Puller(store, faulty.host)


@pytest.fixture
def state(store: ImageStore) -> Callable[[], dict[str, list[str]]]:
    """What the store holds: names of blobs, partial downloads, layers, staged layers."""

    def look() -> dict[str, list[str]]:
        images, layers = store.directory, os.path.join(store.root, "layers")
        return {
            "blobs": sorted(os.listdir(os.path.join(images, "blobs", "sha256"))),
            "parts": sorted(os.listdir(os.path.join(images, "ingest"))),
            "layers": sorted(n for n in os.listdir(layers) if not n.startswith(".")),
            "staged": os.listdir(os.path.join(layers, ".tmp")),
        }

    return look


def layer(*names: str, size: int = 1000, seed: int = 0) -> bytes:
    """A layer tar with these files, their content hard to compress."""
    import random

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in names:
            data = random.Random(f"{name} {seed}").randbytes(size)
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()
