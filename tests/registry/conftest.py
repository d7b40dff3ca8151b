"""Fixtures of the registry tests: a scripted server, a store, layers, a home without secrets."""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastbox.image.pull import ProgressEvent, pull
from fastbox.image.store import ImageStore
from fastbox.image.types import PullResult
from fastbox.registry.retry import Policy

from .server import FaultyRegistry, running
from .world import Authority, World
from .world import world as make_world

# Patient with a slow machine, quick between tries.
QUICK = Policy(base=0.001, busy_base=0.001, cap=0.01)


@pytest.fixture(autouse=True)
def clean_environment(base: str, home: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A home of the test's own; no proxies, no credentials of whoever runs the tests."""
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


@pytest.fixture(scope="session")
def authority(session_base: str) -> Authority:
    """A certificate authority of this run."""
    directory = os.path.join(session_base, "ca")
    os.mkdir(directory)
    return Authority(directory)


@pytest.fixture
def world(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Servers with names and certificates."""
    with make_world(authority, monkeypatch) as result:
        yield result


class Secrets:
    """Writes credential files below the test's home."""

    def __init__(self, home: str) -> None:
        self.home = home

    def docker(self, content: dict[str, Any] | bytes) -> str:
        """``~/.docker/config.json``; its path."""
        return self.write(".docker/config.json", content)

    def write(self, path: str, content: dict[str, Any] | bytes) -> str:
        full = os.path.join(self.home, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb") as file:
            file.write(content if isinstance(content, bytes) else json.dumps(content).encode())
        return full

    def login(self, key: str, user: str = "ann", password: str = "s3cret") -> None:
        """Credentials for one registry, as ``docker login`` writes them."""
        self.docker({"auths": {key: {"auth": encoded(user, password)}}})

    def helper(
        self, name: str, answers: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A credential helper on PATH that knows these registries."""
        directory = os.path.join(self.home, "bin")
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, f"docker-credential-{name}")
        with open(path, "w") as file:
            file.write(
                f"#!{sys.executable} -S\nimport json, sys\n"
                f"answer = {answers!r}.get(sys.stdin.read())\n"
                "if sys.argv[1:] != ['get']: sys.exit(3)\n"
                "if answer is None:\n"
                "    print('credentials not found in native keychain')\n    sys.exit(1)\n"
                "print(json.dumps(answer))\n"
            )
        os.chmod(path, 0o755)
        monkeypatch.setenv("PATH", directory + os.pathsep + os.environ["PATH"])


def encoded(user: str, password: str) -> str:
    """The ``auth`` of a credential file."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def secrets(clean_environment: str) -> Secrets:
    return Secrets(clean_environment)
