"""Configuration files and the real command: mirrors, what is shown, and what a bad file stops."""

from __future__ import annotations

import json
import os

import pytest

from tests.support.command import Command
from tests.support.images import archive
from tests.support.registry import Registry


@pytest.fixture
def config(cli: Command, base: str) -> str:
    """Path of the configuration that the command reads."""
    path = os.path.join(base, "config.toml")
    cli.env["FASTBOX_CONFIG"] = path
    return path


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def busybox_layer() -> bytes:
    with open(archive("busybox"), "rb") as file:
        return file.read()


def test_a_mirror_of_docker_hub(cli: Command, registry: Registry, config: str) -> None:
    registry.push("mirrored/app", [busybox_layer()], config={"Cmd": ["echo", "hello"]})
    write(config, f'registry-mirrors = ["http://{registry.host}"]\ndaemon-json = ""\n')
    assert cli.ok("run", "--rm", "mirrored/app") == "hello"
    assert cli.ok("images", "--format", "{{.Repository}}") == "mirrored/app"
    assert cli.ok("pull", "mirrored/app").splitlines()[-2:] == [
        "Status: Image is up to date for mirrored/app:latest",
        "docker.io/mirrored/app:latest",
    ]


def test_what_info_shows(cli: Command, config: str, base: str) -> None:
    daemon = os.path.join(base, "daemon.json")
    mirror = "https://mirror.example/"
    write(daemon, json.dumps({"registry-mirrors": [mirror], "insecure-registries": ["a:5000"]}))
    write(config, f'daemon-json = "{daemon}"\ninsecure-registries = ["b:5000", "10.9.8.7/8"]\n')
    facts = json.loads(cli.ok("info", "--format", "json"))
    assert facts["ConfigurationFiles"] == [config, daemon]
    assert facts["RegistryConfig"] == {
        "IndexConfigs": {
            "docker.io": {
                "Name": "docker.io", "Mirrors": [mirror], "Secure": True, "Official": True,
            },
            "b:5000": {"Name": "b:5000", "Mirrors": [], "Secure": False, "Official": False},
        },
        "InsecureRegistryCIDRs": ["10.0.0.0/8", "::1/128", "127.0.0.0/8"],
        "Mirrors": [mirror],
    }  # fmt: skip
    text = cli.ok("info")
    assert f"\n Registry Mirrors:\n  {mirror}\n" in text
    assert "\n Insecure Registries:\n  b:5000\n  10.0.0.0/8\n  ::1/128\n  127.0.0.0/8\n" in text


def test_a_bad_file_stops_what_needs_it_and_nothing_else(
    cli: Command, busybox_image: str, config: str
) -> None:
    write(config, '\nregistry-mirrors = ["mirror.example"]\n')
    line = (
        f"{config}:2: registry-mirrors: invalid mirror: no scheme specified for"
        " \"mirror.example\": must use either 'https://' or 'http://'"
    )
    for words in (["info"], ["pull", "app"], ["search", "app"]):
        assert cli.fails(1, *words).splitlines()[0] == f"Error: {line}"
    assert line in cli.fails(125, "run", "--rm", "missing")
    assert cli.ok("ps", "-aq") == ""
    assert cli.ok("run", "--rm", busybox_image, "echo", "x") == "x"
    assert busybox_image in cli.ok("images")


def test_an_image_for_another_machine(cli: Command, registry: Registry) -> None:
    name = f"{registry.host}/foreign/app"
    images = [
        registry.push(f"foreign/app:{machine}", [busybox_layer()], architecture=machine)
        for machine in ("amd64", "arm64")
    ]
    registry.push_index("foreign/app", images)
    cli.ok("pull", "--platform", "linux/arm64", name)
    result = cli("create", name, "true")
    assert result.code == 0
    assert result.err == (
        "WARNING: The requested image's platform (linux/arm64) does not match the detected host"
        " platform (linux/amd64) and no specific platform was requested\n"
    )
    assert cli("create", "--platform", "linux/arm64", name, "true").err == ""
    assert cli.ok("run", "--rm", "--platform", "linux/amd64", name, "uname") == "Linux"
    assert cli("run", "--rm", "--platform", "linux/s390x", name, "true").code == 125
    cli.ok("pull", "-q", "--all-platforms", name)
    assert cli("run", "--rm", name, "uname").out == "Linux\n"


def test_tags_and_search(cli: Command, registry: Registry) -> None:
    for tag in ("1", "2"):
        registry.push(f"tagged/app:{tag}", [busybox_layer()])
    name = f"{registry.host}/tagged/app"
    out = cli.ok("pull", "-a", name).splitlines()
    assert out[0] in ("1: Pulling from tagged/app", "2: Pulling from tagged/app")
    assert out[-2:] == [f"Status: Downloaded newer image for {name}", name]
    assert sorted(cli.ok("images", "--format", "{{.Tag}}").split()) == ["1", "2"]
    assert cli.ok("search", "--format", "{{.Name}}", f"{registry.host}/gged") == name
    assert "limit 101 is outside" in cli.fails(1, "search", "--limit", "101", "x")
