"""The main path: a real image from a real registry to a service that answers."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile

from tests.support.command import Command
from tests.support.images import archive
from tests.support.registry import Registry
from tests.support.wait import wait_for


def push_redis(registry: Registry, name: str) -> None:
    with open(archive("redis"), "rb") as file:
        layer = file.read()
    config = {
        "Cmd": ["redis-server", "--protected-mode", "no", "--dir", "/data"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "Volumes": {"/data": {}},
        "WorkingDir": "/data",
        "ExposedPorts": {"6379/tcp": {}},
    }
    registry.push(name, [layer], config=config)


def test_redis_pulled_and_run(cli: Command, registry: Registry) -> None:
    push_redis(registry, "e2e/redis:1")
    name = f"{registry.host}/e2e/redis:1"
    out = cli.ok("pull", name)
    assert out.splitlines()[0] == "1: Pulling from e2e/redis"
    assert out.splitlines()[-2] == f"Status: Downloaded newer image for {name}"
    assert out.splitlines()[-1] == name
    assert f"Status: Image is up to date for {name}" in cli.ok("pull", name)
    cli.ok("run", "-d", "--name", "cache", name)
    wait_for(lambda: cli("exec", "cache", "redis-cli", "ping").out == "PONG\n", "redis to answer")
    assert cli.ok("exec", "cache", "redis-cli", "set", "k", "v") == "OK"
    assert cli.ok("exec", "cache", "redis-cli", "save") == "OK"
    inspected = json.loads(cli.ok("inspect", "cache"))[0]
    volume = inspected["Mounts"][0]
    assert (volume["Destination"], volume["Type"]) == ("/data", "volume")
    assert cli.ok("stop", "cache") == "cache"
    assert cli.ok("wait", "cache") == "0"
    assert "Ready to accept connections" in cli.ok("logs", "cache")
    cli.ok("start", "cache")
    wait_for(
        lambda: cli("exec", "cache", "redis-cli", "get", "k").out == "v\n",
        "redis to have its data again",
    )
    assert "container" in cli.fails(1, "rmi", name)
    cli.ok("rm", "-f", "-v", "cache")
    assert cli.ok("volume", "ls", "-q") == ""
    cli.ok("rmi", name)
    assert cli.ok("images", "-q") == ""


def test_run_pulls_what_is_missing(cli: Command, registry: Registry) -> None:
    with open(archive("busybox"), "rb") as file:
        registry.push("e2e/box", [file.read()], config={"Env": ["PATH=/bin"]}, compression="zstd")
    name = f"{registry.host}/e2e/box"
    result = cli("run", "--rm", name, "echo", "pulled")
    assert (result.code, result.out) == (0, "pulled\n")
    assert result.err.splitlines()[0] == f"Unable to find image '{name}:latest' locally"


def test_skopeo_reads_the_store_and_writes_into_it(cli: Command, root: str) -> None:
    cli.ok("import", "-c", 'CMD ["sh"]', "-c", "ENV PATH=/bin", archive("busybox"), "box:1")
    layout = f"{root}/images"
    source = f"oci:{layout}:docker.io/library/box:1"
    inspect = ["skopeo", "inspect", "--config", source]
    config = json.loads(subprocess.run(inspect, capture_output=True, check=True).stdout)
    assert config["config"]["Cmd"] == ["sh"]
    other = f"oci:{root}/other:box"
    subprocess.run(["skopeo", "copy", "-q", source, other], check=True)
    back = f"oci:{layout}:docker.io/library/back:2"
    subprocess.run(["skopeo", "copy", "-q", other, back], check=True)
    assert cli.ok("run", "--rm", "back:2", "echo", "here") == "here"


def test_the_starter_may_be_killed(cli: Command, redis_image: str) -> None:
    """`run` in the foreground killed by SIGKILL: the container goes on, its log is complete."""
    script = "echo one; while [ ! -e /go ]; do sleep 0.05; done; echo two; exit 4"
    client = cli.popen("run", "--name", "orphan", redis_image, "sh", "-c", script)
    assert client.stdout is not None
    assert client.stdout.readline() == b"one\n"
    client.kill()
    client.communicate()
    assert cli.ok("ps", "-q", "-f", "name=orphan") != ""
    cli.ok("exec", "orphan", "touch", "/go")
    assert cli.ok("wait", "orphan") == "4"
    assert cli.ok("logs", "orphan") == "one\ntwo"
    cli.ok("rm", "orphan")


def test_our_config_json_is_one_that_runc_takes(
    cli: Command, root: str, base: str, busybox_image: str
) -> None:
    """config.json is a real OCI runtime configuration: another runtime starts the container."""
    container = cli.ok("create", "-e", "A=b", busybox_image, "sh", "-c", "echo $A; id -u; hostname")
    with open(f"{root}/containers/{container}/config.json", "rb") as file:
        config = json.load(file)
    bundle = os.path.join(base, "bundle")
    os.makedirs(f"{bundle}/rootfs")
    subprocess.run(["tar", "-C", f"{bundle}/rootfs", "-xf", archive("busybox")], check=True)
    config["root"]["path"] = f"{bundle}/rootfs"
    # What depends on this host's hierarchies is cgroup business of the runtime under test.
    config["mounts"] = [m for m in config["mounts"] if m["type"] != "cgroup"]
    config["linux"]["namespaces"] = [
        n for n in config["linux"]["namespaces"] if n["type"] != "cgroup"
    ]
    del config["linux"]["cgroupsPath"]
    with open(f"{bundle}/config.json", "w") as file:
        json.dump(config, file)
    command = ["runc", "--root", f"{base}/runc", "run", "-b", bundle, "fb-runc"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == f"b\n0\n{container[:12]}\n", done.stderr
    cli.ok("rm", container)


def layer_of(files: dict[str, bytes]) -> bytes:
    """A plain tar of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_layers_hide_what_is_below(cli: Command, registry: Registry) -> None:
    """Whiteouts, opaque directories, and a layer whose root hides everything below it."""
    with open(archive("busybox"), "rb") as file:
        busybox = file.read()
    below = layer_of({"gone": b"1", "d/old": b"1", "kept": b"1"})
    above = layer_of({".wh.gone": b"", "d/.wh..wh..opq": b"", "d/new": b"2"})
    environment = {"Env": ["PATH=/bin"]}
    registry.push("e2e/whiteouts", [busybox, below, above], config=environment)
    script = "ls -d /gone /kept /d/* 2>/dev/null"
    name = f"{registry.host}/e2e/whiteouts"
    assert cli("run", "--rm", name, "sh", "-c", script).out.split() == ["/d/new", "/kept"]

    fresh = layer_of({".wh..wh..opq": b""})
    registry.push("e2e/opaque", [below, fresh, busybox], config=environment)
    name = f"{registry.host}/e2e/opaque"
    assert cli("run", "--rm", name, "sh", "-c", script).out.split() == []


def test_125_layers(cli: Command, registry: Registry) -> None:
    """As many as overlayfs's one page of options must hold."""
    with open(archive("busybox"), "rb") as file:
        layers = [file.read()]
    layers += [
        layer_of({f"f{number}": b"x", "last": str(number).encode()}) for number in range(124)
    ]
    registry.push("e2e/deep", layers, config={"Env": ["PATH=/bin"]}, compression="none")
    name = f"{registry.host}/e2e/deep"
    result = cli("run", "--rm", name, "sh", "-c", "ls / | grep -c '^f[0-9]'; cat /last")
    assert (result.code, result.out) == (0, "124\n123")


def test_a_full_disk_behind_the_client_is_an_error(cli: Command, busybox_image: str) -> None:
    for command in (["echo", "hi"], ["seq", "100000"]):
        with open("/dev/full", "w") as full:
            client = cli.popen("run", "--rm", "busybox", *command, stdout=full)
        _, error = client.communicate()
        assert client.returncode == 1
        assert b"no space left on device" in error


def test_a_run_killed_before_it_started_leaves_nothing(cli: Command, busybox_image: str) -> None:
    """kill -9 at any moment of `run --rm`: the next command sweeps what was made."""
    for step in range(40):
        client = cli.popen("run", "--rm", "busybox", "sleep", "0.1")
        try:
            client.wait(0.03 + 0.004 * step)
        except subprocess.TimeoutExpired:
            client.kill()
        client.communicate()
    wait_for(lambda: cli.ok("ps", "-aq") == "", "the containers to be gone")
