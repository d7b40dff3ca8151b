"""Docker's JSON of containers, images and volumes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, strategies

from fastbox.cli.inspecting import as_json
from fastbox.container.config import Device, Mount, RestartPolicy, Ulimit
from fastbox.container.inspect import inspect, inspect_volume
from fastbox.container.record import MountPoint, Status
from fastbox.image.inspect import inspect as inspect_image
from tests.cli.fake import DIGEST, ID, IMAGE_ID, box, image, volume

TOP_KEYS = [
    "Id", "Created", "Path", "Args", "State", "Image", "ResolvConfPath", "HostnamePath",
    "HostsPath", "LogPath", "Name", "RestartCount", "Driver", "Platform", "MountLabel",
    "ProcessLabel", "AppArmorProfile", "ExecIDs", "HostConfig", "GraphDriver", "Mounts", "Config",
    "NetworkSettings",
]  # fmt: skip


def test_the_keys_are_dockers_in_its_order() -> None:
    result = inspect(box())
    assert list(result) == TOP_KEYS
    assert result["Id"] == ID
    assert result["Name"] == "/web"
    assert result["Image"] == IMAGE_ID
    assert result["LogPath"] == f"/store/containers/{ID}/container.log"
    sized = inspect(box(size_rw=5, size_root=7))
    assert (sized["SizeRw"], sized["SizeRootFs"]) == (5, 7)
    assert list(sized)[20:22] == ["SizeRw", "SizeRootFs"]


def test_state() -> None:
    result = inspect(
        box(
            status=Status.RUNNING, state_pid=12, state_started_at="2026-01-02T03:04:05Z",
            state_restart_count=2,
        )
    )  # fmt: skip
    assert result["State"] == {
        "Status": "running", "Running": True, "Paused": False, "Restarting": False,
        "OOMKilled": False, "Dead": False, "Pid": 12, "ExitCode": 0, "Error": "",
        "StartedAt": "2026-01-02T03:04:05Z", "FinishedAt": "0001-01-01T00:00:00Z",
    }  # fmt: skip
    assert result["RestartCount"] == 2
    paused = inspect(box(status=Status.PAUSED))["State"]
    assert (paused["Running"], paused["Paused"]) == (True, True)
    killed = inspect(box(status=Status.EXITED, state_oom_killed=True, state_exit_code=137))["State"]
    assert (killed["Running"], killed["OOMKilled"], killed["ExitCode"]) == (False, True, 137)


def test_host_config() -> None:
    mounts = [
        Mount(type="bind", source="/a", target="/b", create_source=True, read_only=True),
        Mount(type="volume", source="data", target="/c"),
        Mount(type="volume", target="/anonymous"),
        Mount(type="bind", source="/d", target="/e", propagation="rslave"),
        Mount(type="tmpfs", target="/f", options=["exec"], tmpfs_size=5),
    ]
    host = inspect(
        box(
            config_mounts=mounts, config_memory=5, config_nano_cpus=7, config_auto_remove=True,
            config_restart=RestartPolicy(name="on-failure", max_retries=3),
            config_ulimits=[Ulimit(name="nofile", soft=1, hard=2)],
            config_devices=[Device(host="/dev/a", container="/dev/b")],
            config_no_new_privileges=True, config_seccomp="unconfined", config_cap_add=["ALL"],
            config_sysctls={"b": "2", "a": "1"}, config_pids_limit=9, config_network="host",
        )
    )["HostConfig"]  # fmt: skip
    assert host["Binds"] == ["/a:/b:ro", "data:/c"]
    assert host["Mounts"] == [
        {
            "Type": "bind", "Source": "/d", "Target": "/e",
            "BindOptions": {"Propagation": "rslave"},
        }
    ]  # fmt: skip
    assert host["Tmpfs"] == {"/f": "exec,size=5"}
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert host["Ulimits"] == [{"Name": "nofile", "Hard": 2, "Soft": 1}]
    assert host["Devices"] == [
        {"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "rwm"}
    ]
    assert host["SecurityOpt"] == ["no-new-privileges", "seccomp=unconfined"]
    assert list(host["Sysctls"]) == ["a", "b"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (5, 10, 7)
    assert (host["CapAdd"], host["PidsLimit"], host["NetworkMode"]) == (["ALL"], 9, "host")
    assert host["AutoRemove"] is True
    assert "/proc/kcore" in host["MaskedPaths"]
    assert inspect(box(config_privileged=True))["HostConfig"]["MaskedPaths"] is None


def test_config_shows_what_the_image_said_unless_it_was_replaced() -> None:
    image_says = {"image_cmd": ["redis-server"], "image_entrypoint": ["entry.sh"]}
    config = inspect(box(**image_says, labels={"b": "2", "a": "1"}))["Config"]
    assert (config["Cmd"], config["Entrypoint"]) == (["redis-server"], ["entry.sh"])
    assert list(config["Labels"]) == ["a", "b"]
    config = inspect(box(**image_says, config_command=["sh"]))["Config"]
    assert (config["Cmd"], config["Entrypoint"]) == (["sh"], ["entry.sh"])
    config = inspect(box(**image_says, config_entrypoint=["ls"], config_stop_timeout=3))["Config"]
    assert (config["Cmd"], config["Entrypoint"], config["StopTimeout"]) == (None, ["ls"], 3)
    ports = inspect(box(exposed_ports=["80/tcp", "53/udp"]))["Config"]["ExposedPorts"]
    assert ports == {"53/udp": {}, "80/tcp": {}}


def test_mounts() -> None:
    points = [
        MountPoint(
            type="volume", name="v", source="/s", destination="/d", driver="local", mode="z"
        ),
        MountPoint(type="bind", source="/h", destination="/e", rw=False, propagation="rprivate"),
    ]
    assert inspect(box(mounts=points))["Mounts"] == [
        {
            "Type": "volume", "Name": "v", "Source": "/s", "Destination": "/d", "Driver": "local",
            "Mode": "z", "RW": True, "Propagation": "",
        },
        {
            "Type": "bind", "Source": "/h", "Destination": "/e", "Mode": "", "RW": False,
            "Propagation": "rprivate",
        },
    ]  # fmt: skip


def test_no_log_path_without_a_log() -> None:
    result = inspect(box(config_log_driver="none"))
    assert result["LogPath"] == ""
    assert result["HostConfig"]["LogConfig"] == {"Type": "none", "Config": {}}


def test_image() -> None:
    config = {
        "author": "me",
        "config": {"Cmd": ["sh"], "Labels": {"b": "2", "a": "1"}, "ExposedPorts": {"80/tcp": {}}},
        "history": [{"created_by": "x"}, {"comment": "imported"}],
    }
    result = inspect_image(
        image(
            "docker.io/library/redis:latest", "localhost:5000/x:1",
            repo_digests=[f"docker.io/library/redis@{DIGEST}"], config=config,
        )
    )  # fmt: skip
    assert result["Id"] == IMAGE_ID
    assert result["RepoTags"] == ["redis:latest", "localhost:5000/x:1"]
    assert result["RepoDigests"] == [f"redis@{DIGEST}"]
    assert (result["Author"], result["Comment"]) == ("me", "imported")
    assert result["RootFS"] == {"Type": "layers", "Layers": ["sha256:" + "1" * 64]}
    assert result["Config"]["Cmd"] == ["sh"]
    assert list(result["Config"]["Labels"]) == ["a", "b"]
    assert "Variant" not in result


def test_an_image_whose_config_is_empty_or_odd() -> None:
    for config in ({}, {"config": None}, {"config": [], "history": {}}, {"history": ["x"]}):
        result = inspect_image(image(config=config))
        assert (result["Config"]["Cmd"], result["Comment"]) == (None, "")


def test_volume() -> None:
    assert inspect_volume(volume("data", labels={"b": "2", "a": "1"})) == {
        "CreatedAt": "2026-01-02T03:04:05Z", "Driver": "local", "Labels": {"a": "1", "b": "2"},
        "Mountpoint": "/store/volumes/data/_data", "Name": "data", "Options": None,
        "Scope": "local",
    }  # fmt: skip
    anonymous = inspect_volume(volume("f" * 64, anonymous=True))
    assert anonymous["Labels"] == {"com.docker.volume.anonymous": ""}


@given(
    strategies.recursive(
        strategies.none()
        | strategies.booleans()
        | strategies.integers()
        | strategies.text(strategies.characters()),
        lambda below: (
            strategies.lists(below)
            | strategies.dictionaries(strategies.text(strategies.characters()), below)
        ),
    ),
    strategies.sampled_from((0, 4)),
)
def test_json_is_that_of_the_standard_library(value: Any, indent: int) -> None:
    separators = None if indent else (",", ":")
    expected = json.dumps(value, ensure_ascii=False, indent=indent or None, separators=separators)
    assert as_json(value, indent=indent) == expected
