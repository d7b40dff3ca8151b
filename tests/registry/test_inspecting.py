"""What ``manifest inspect`` asks of registries, and what it believes."""

from __future__ import annotations

import json

import pytest

from fastbox.cli.manifest_inspect import _shown
from fastbox.errors import ImageError, NotFound, RegistryError
from fastbox.oci import image as oci
from fastbox.registry.inspecting import inspect

from .conftest import QUICK, layer
from .server import FaultyRegistry, status
from .world import World


def test_an_index(faulty: FaultyRegistry) -> None:
    images = [
        faulty.add_image(f"app:{machine}", [layer(machine)], architecture=machine)
        for machine in ("amd64", "arm64")
    ]
    faulty.add_index("app:all", images)
    found = inspect(f"{faulty.host}/app:all", policy=QUICK)
    assert (found.several, found.parts) == (False, [])
    assert len(faulty.seen) == 1
    found = inspect(f"{faulty.host}/app:all", verbose=True, policy=QUICK)
    assert found.several
    assert [part.descriptor["platform"]["architecture"] for part in found.parts] == [
        "amd64",
        "arm64",
    ]
    assert json.loads(found.parts[0].data)["layers"] == images[0]["layers"]


def test_an_index_of_gigabytes(faulty: FaultyRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [faulty.add_image(f"app:{n}", [layer("a")], architecture=f"m{n}") for n in range(9)]
    faulty.add_index("app:all", images)
    monkeypatch.setattr(oci, "MAX_DOCUMENTS", 1000)
    with pytest.raises(ImageError, match="too large"):
        inspect(f"{faulty.host}/app:all", verbose=True, policy=QUICK)
    assert len(faulty.seen) < 5


def test_what_is_not_there(faulty: FaultyRegistry) -> None:
    with pytest.raises(NotFound, match=r"no such manifest: .*/app:1"):
        inspect(f"{faulty.host}/app:1", policy=QUICK)
    faulty.on("", status(200, b"<html>", {"Content-Type": "text/html"}), -1)
    with pytest.raises(ImageError, match="web page"):
        inspect(f"{faulty.host}/app:1", policy=QUICK)


def test_what_is_shown_is_the_same_json() -> None:
    """Whatever a terminal makes of it: also what takes two escapes."""
    value = {"tag\U000e0041": "\x7f\u202e\u0085\ud800 é \U0001f600"}
    text = _shown(value)
    assert json.loads(text) == value
    assert set(text) - {"\t", "\n"} == {c for c in text if c.isprintable()}


def test_an_insecure_registry(world: World) -> None:
    plain = world.server("registry.example", port=5000, tls=False)
    plain.add_image("app:1", [layer("a")])
    with pytest.raises(RegistryError, match="http: server gave HTTP response to HTTPS client"):
        inspect("registry.example:5000/app:1", policy=QUICK)
    found = inspect("registry.example:5000/app:1", insecure=True, verbose=True, policy=QUICK)
    assert found.data == plain.manifests["app:1"][0]
