"""Flags of run and create: the ContainerConfig they amount to, and what is said about bad ones."""

from __future__ import annotations

import os
from typing import Any

import pytest

from fastbox.container.config import (
    ContainerConfig,
    Device,
    DeviceLimit,
    Mount,
    RestartPolicy,
    Ulimit,
)
from tests.cli.conftest import Fastbox
from tests.cli.fake import FakeEngine


def config(fastbox: Fastbox, fake: FakeEngine, *flags: str) -> ContainerConfig:
    result = fastbox("create", *flags, "img")
    assert (result.code, result.err) == (0, "")
    return fake.config


def test_without_flags_only_the_image_is_asked_for(fastbox: Fastbox, fake: FakeEngine) -> None:
    assert config(fastbox, fake) == ContainerConfig(image="img")


def test_options_stop_at_the_image(fastbox: Fastbox, fake: FakeEngine) -> None:
    fastbox("create", "-i", "img", "-i", "--foo", "--", "-m")
    assert fake.config == ContainerConfig(
        image="img",
        interactive=True,
        stdin_once=True,
        attach=["stdin", "stdout", "stderr"],
        command=["-i", "--foo", "--", "-m"],
    )


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        ("-m 6m", "memory", 6 << 20),
        ("--memory-swap -1", "memory_swap", -1),
        ("--memory-swap 1g", "memory_swap", 1 << 30),
        ("--memory-reservation=10kb", "memory_reservation", 10240),
        ("--cpus 1.5", "nano_cpus", 1_500_000_000),
        ("--cpus 1/2", "nano_cpus", 500_000_000),
        ("--cpus 1e-1", "nano_cpus", 100_000_000),
        ("--cpus 0x1", "nano_cpus", 1_000_000_000),
        ("-c 512", "cpu_shares", 512),
        ("--cpuset-cpus 0-1", "cpuset_cpus", "0-1"),
        ("--cpuset-mems 0", "cpuset_mems", "0"),
        ("--pids-limit -1", "pids_limit", -1),
        ("--cpu-period 50000", "cpu_period", 50_000),
        ("--cpu-quota -1", "cpu_quota", -1),
        ("--blkio-weight 300", "blkio_weight", 300),
        ("--memory-swappiness 0", "memory_swappiness", 0),
        ("--memory-swappiness -1", "memory_swappiness", None),
        (
            "--blkio-weight-device /dev/a:0 --blkio-weight-device /dev/b:1000",
            "blkio_weight_device",
            [DeviceLimit(path="/dev/a", value=0), DeviceLimit(path="/dev/b", value=1000)],
        ),
        (
            "--device-read-bps /dev/a:1mb",
            "device_read_bps",
            [DeviceLimit(path="/dev/a", value=1 << 20)],
        ),
        (
            "--device-write-bps /dev/a:5",
            "device_write_bps",
            [DeviceLimit(path="/dev/a", value=5)],
        ),
        (
            "--device-read-iops /dev/a:100",
            "device_read_iops",
            [DeviceLimit(path="/dev/a", value=100)],
        ),
        (
            "--device-write-iops /dev/a:100",
            "device_write_iops",
            [DeviceLimit(path="/dev/a", value=100)],
        ),
        ("--oom-score-adj -5", "oom_score_adj", -5),
        ("--shm-size 1g", "shm_size", 1 << 30),
        ("--shm-size 0", "shm_size", 64 << 20),
        ("-u 1:2", "user", "1:2"),
        ("-w /x", "workdir", "/x"),
        ("-h box", "hostname", "box"),
        ("--domainname d", "domainname", "d"),
        ("--name n1", "name", "n1"),
        ("--entrypoint sh", "entrypoint", ["sh"]),
        ("--entrypoint=", "entrypoint", []),
        ("--stop-signal INT", "stop_signal", "INT"),
        ("--stop-timeout 0", "stop_timeout", 0),
        ("--stop-timeout -1", "stop_timeout", -1),
        ("--rm", "auto_remove", True),
        ("--init", "init", True),
        ("--read-only", "read_only", True),
        ("--privileged=true", "privileged", True),
        ("--cap-add NET_ADMIN --cap-add ALL", "cap_add", ["NET_ADMIN", "ALL"]),
        ("--cap-drop all", "cap_drop", ["all"]),
        ("--group-add a --group-add 5", "group_add", ["a", "5"]),
        ("--add-host a:1.2.3.4", "add_hosts", ["a:1.2.3.4"]),
        ("--add-host a=::1 --add-host b=[::2]", "add_hosts", ["a:::1", "b:::2"]),
        ("--add-host a:host-gateway", "add_hosts", ["a:host-gateway"]),
        ("--label a=b=c --label d -l a=e", "labels", {"a": "e", "d": ""}),
        ("--annotation a=b", "annotations", {"a": "b"}),
        ("--sysctl net.a=b --sysctl net.a=c", "sysctls", {"net.a": "c"}),
        ("--network none", "network", "none"),
        ("--net host", "network", "host"),
        ("--network name=host", "network", "host"),
        ("--restart always", "restart", RestartPolicy(name="always")),
        ("--restart on-failure:3", "restart", RestartPolicy(name="on-failure", max_retries=3)),
        ("--restart on-failure:", "restart", RestartPolicy(name="on-failure")),
        ("--security-opt no-new-privileges", "no_new_privileges", True),
        ("--security-opt no-new-privileges:false", "no_new_privileges", False),
        ("--security-opt seccomp=unconfined", "seccomp", "unconfined"),
        ("--security-opt seccomp:unconfined", "seccomp", "unconfined"),
        ("--security-opt seccomp=builtin", "seccomp", None),
        ("--security-opt apparmor=unconfined", "seccomp", None),
        ("--log-driver none", "log_driver", "none"),
        ("--log-driver cri --log-opt max-size=3m", "log_max_size", 3_000_000),
        ("--log-opt max-size=-1", "log_max_size", -1),
        ("--log-opt max-file=2", "log_max_file", 2),
        ("--ulimit nofile=5", "ulimits", [Ulimit(name="nofile", soft=5, hard=5)]),
        ("--ulimit core=5:-1", "ulimits", [Ulimit(name="core", soft=5, hard=-1)]),
        (
            "--ulimit nofile=1 --ulimit nofile=2:3",
            "ulimits",
            [Ulimit(name="nofile", soft=2, hard=3)],
        ),
        ("--device /dev/a", "devices", [Device(host="/dev/a", container="/dev/a")]),
        (
            "--device /dev/a:/b:r",
            "devices",
            [Device(host="/dev/a", container="/b", permissions="r")],
        ),
        (
            "--device /dev/a:rw",
            "devices",
            [Device(host="/dev/a", container="/dev/a", permissions="rw")],
        ),
    ],
)
def test_a_flag_sets_its_field(
    fastbox: Fastbox, fake: FakeEngine, flags: str, field: str, value: Any
) -> None:
    wanted = ContainerConfig(image="img")
    setattr(wanted, field, value)
    assert config(fastbox, fake, *flags.split(" ")) == wanted


def test_environment(
    fastbox: Fastbox, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    monkeypatch.setenv("HERE", "of ours")
    monkeypatch.delenv("ABSENT", raising=False)
    path = os.path.join(base, "env")
    with open(path, "wb") as file:
        file.write(b"\xef\xbb\xbfA=1\r\n  B= 2 \n#C=3\n\nHERE\nABSENT\n;D='x'\nE=\n")
    made = config(fastbox, fake, "-e", "A=2", "--env-file", path, "-e", "HERE", "-e", "ABSENT")
    # Those of files first; a bare name that we have not is to be unset, but only with -e.
    assert made.env == [
        "A=1",
        "B= 2 ",
        "HERE=of ours",
        ";D='x'",
        "E=",
        "A=2",
        "HERE=of ours",
        "ABSENT",
    ]


def test_label_file(fastbox: Fastbox, fake: FakeEngine, base: str) -> None:
    path = os.path.join(base, "labels")
    with open(path, "w") as file:
        file.write("a=1\nHOME\n")
    assert config(fastbox, fake, "-l", "a=2", "--label-file", path).labels == {"a": "2", "HOME": ""}


def test_a_seccomp_profile_is_read(fastbox: Fastbox, fake: FakeEngine, base: str) -> None:
    path = os.path.join(base, "profile.json")
    with open(path, "w") as file:
        file.write('{\n  "defaultAction": "SCMP_ACT_ALLOW"\n}')
    made = config(fastbox, fake, "--security-opt", f"seccomp={path}")
    assert made.seccomp == '{"defaultAction":"SCMP_ACT_ALLOW"}'


# ---- what the client refuses (Docker's lines) --------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--cpus x", "failed to parse x as a rational number"),
        ("--cpus 1/0", "failed to parse 1/0 as a rational number"),
        ("--cpus inf", "failed to parse inf as a rational number"),
        ("--cpus 1e999999999", "failed to parse 1e999999999 as a rational number"),
        ("--cpus 1.00000000001", "value is too precise"),
        ("-m -1", "invalid size: '-1'"),
        ("-m 10kx", "invalid suffix: 'kx'"),
        ("--memory-swap -2", "invalid size: '-2'"),
        ("--shm-size x", "invalid size: 'x'"),
        ("--ulimit nofile", "invalid ulimit argument: nofile"),
        ("--ulimit NOFILE=1", "invalid ulimit type: NOFILE"),
        ("--ulimit as=1", "invalid ulimit type: as"),
        ("--ulimit =1", "invalid ulimit type: "),
        ("--ulimit nofile=a", 'strconv.ParseInt: parsing "a": invalid syntax'),
        ("--ulimit nofile=0x10", 'strconv.ParseInt: parsing "0x10": invalid syntax'),
        ("--ulimit nofile=1:", 'strconv.ParseInt: parsing "": invalid syntax'),
        (
            "--ulimit nofile=5:1",
            "ulimit soft limit must be less than or equal to hard limit: 5 > 1",
        ),
        (
            "--ulimit nofile=-1:5",
            "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), "
            "hard: 5",
        ),
        (
            "--ulimit nofile=1:2:3",
            "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`",
        ),
        ("--blkio-weight x", 'strconv.ParseUint: parsing "x": invalid syntax'),
        ("--blkio-weight -1", 'strconv.ParseUint: parsing "-1": invalid syntax'),
        ("--blkio-weight 70000", 'strconv.ParseUint: parsing "70000": value out of range'),
        ("--blkio-weight-device x", "bad format: x"),
        ("--blkio-weight-device x:5", "bad format for device path: x:5"),
        ("--blkio-weight-device /dev/x:5", "invalid weight for device: /dev/x:5"),
        ("--blkio-weight-device /dev/x:1001", "invalid weight for device: /dev/x:1001"),
        ("--device-read-bps :5", "bad format: :5"),
        (
            "--device-write-bps /dev/x:y",
            "invalid rate for device: /dev/x:y. The correct format is <device-path>:<number>"
            "[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or "
            "gb",
        ),
        (
            "--device-read-iops /dev/x:1k",
            "invalid rate for device: /dev/x:1k. The correct format is <device-path>:<number>. "
            "Number must be a positive integer",
        ),
        (
            "--device-write-iops /dev/x:-1",
            "invalid rate for device: /dev/x:-1. The correct format is <device-path>:<number>. "
            "Number must be a positive integer",
        ),
        ("--sysctl foo", "sysctl 'foo' is not allowed"),
        ("--sysctl kernel.foo=1", "sysctl 'kernel.foo=1' is not allowed"),
        ("--sysctl kernel.core_pattern=|x", "sysctl 'kernel.core_pattern=|x' is not allowed"),
        ("-e =x", "invalid environment variable: =x"),
        ("-e ", "invalid environment variable: "),
        ("-l =x", "invalid label '=x': empty name"),
        ("--add-host foo", 'bad format for add-host: "foo"'),
        ("--add-host :1.2.3.4", 'bad format for add-host: ":1.2.3.4"'),
        ("--add-host foo:bar", 'invalid IP address in add-host: "bar"'),
        ("--add-host a=", 'invalid IP address in add-host: ""'),
        ("--add-host a:01.2.3.4", 'invalid IP address in add-host: "01.2.3.4"'),
        ("--add-host a=b=1.2.3.4", 'invalid IP address in add-host: "b=1.2.3.4"'),
        ("--network foo=bar", "invalid field key foo"),
        ("--network alias=x", "network name/id is not specified"),
    ],
)
def test_a_value_that_the_flag_refuses(
    fastbox: Fastbox, fake: FakeEngine, flags: str, message: str
) -> None:
    for command in ("run", "create"):
        result = fastbox(command, *flags.split(" "), "img")
        assert result.code == 125
        first, *rest = result.err.split("\n")
        assert first.startswith('invalid argument "')
        assert first.endswith(f" flag: {message}")
        assert rest[1].startswith(f"Usage:  fastbox {command} ")
    assert fake.calls == []


CLIENT_ERRORS = [
    ("-v ", "invalid empty volume spec"),
    ("-v :/x", "invalid spec: :/x: empty section between colons"),
    ("-v a:b:", "invalid spec: a:b:: empty section between colons"),
    ("-v a:b:c:d", "invalid spec: a:b:c:d: too many colons"),
    ("--device ", "bad format for path: "),
    ("--device :/x", "bad format for path: :/x"),
    ("--device /dev/a:/b:c:d", "bad format for path: /dev/a:/b:c:d"),
    ("--device /dev/null:rw:x", "bad mode specified: x"),
    ("--device /dev/null:/x:rr", "bad mode specified: rr"),
    ("--device null", "null is not an absolute path"),
    ("--device /a:", " is not an absolute path"),
    (
        "--restart on-failure:x",
        "invalid restart policy format: maximum retry count must be an integer",
    ),
    ("--restart a:b:c", "invalid restart policy format: maximum retry count must be an integer"),
    ("--restart :3", "invalid restart policy format: no policy provided before colon"),
    ("--restart always --rm", "conflicting options: cannot specify both --restart and --rm"),
    ("--security-opt foo", 'invalid --security-opt: "foo"'),
    ("--security-opt ", 'invalid --security-opt: ""'),
    ("--security-opt seccomp=", 'invalid --security-opt: "seccomp="'),
    (
        "--security-opt seccomp=/nonexistent",
        "opening seccomp profile (/nonexistent) failed: open /nonexistent: no such file or "
        "directory",
    ),
    (
        "--security-opt seccomp=/etc",
        "opening seccomp profile (/etc) failed: read /etc: is a directory",
    ),
    ("--network none --network none", 'network "none" is specified multiple times'),
    ("--network ", "no name set for network"),
    ("--log-driver none --log-opt max-size=3", "invalid logging opts for driver none"),
    ("--pull x", 'invalid pull option: \'x\': must be one of "always", "missing" or "never"'),
    ("--env-file /nonexistent", "open /nonexistent: no such file or directory"),
    ("--env-file /etc", "invalid env file (/etc): read /etc: is a directory"),
    ("--label-file /nonexistent", "open /nonexistent: no such file or directory"),
]


@pytest.mark.parametrize(("flags", "message"), CLIENT_ERRORS, ids=[c[0] for c in CLIENT_ERRORS])
def test_an_option_that_the_client_refuses(
    fastbox: Fastbox, fake: FakeEngine, flags: str, message: str
) -> None:
    for command in ("run", "create"):
        result = fastbox(command, *flags.split(" "), "img")
        assert (result.code, result.out) == (125, "")
        assert result.err == (
            f"fastbox: {message}\n\nRun 'fastbox {command} --help' for more information\n"
        )
    assert fake.calls == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"A=1\n=x\n", "no variable name on line '=x'"),
        (b"a b=1\n", "variable 'a b' contains whitespaces"),
        (b" A = 3 \n", "variable 'A ' contains whitespaces"),
        (b"A=1\n\xff=1\n", "invalid utf8 bytes at line 2: [255 61 49]"),
    ],
)
def test_a_malformed_env_file(fastbox: Fastbox, base: str, content: bytes, message: str) -> None:
    path = os.path.join(base, "env")
    with open(path, "wb") as file:
        file.write(content)
    result = fastbox("run", "--env-file", path, "img")
    assert result.code == 125
    assert result.err.startswith(f"fastbox: invalid env file ({path}): {message}\n\n")


def test_a_profile_that_is_no_json(fastbox: Fastbox, base: str) -> None:
    path = os.path.join(base, "profile")
    with open(path, "w") as file:
        file.write("{")
    result = fastbox("run", "--security-opt", f"seccomp={path}", "img")
    assert result.code == 125
    assert result.err.startswith(f"fastbox: compacting json for seccomp profile ({path}) failed: ")


ENGINE_ERRORS = [
    (
        "-v x:y",
        "invalid volume specification: 'x:y': invalid mount path: 'y' mount path must be absolute",
    ),
    (
        "-v x:/",
        "invalid volume specification: 'x:/': invalid specification: destination can't be '/'",
    ),
    (
        "-v /a:/..",
        "invalid volume specification: '/a:/..': invalid specification: destination can't be '/'",
    ),
    ("-v a:/b:zz", "invalid mode: zz"),
    ("-v a:/b:shared", "invalid mode: shared"),
    ("-v /a:/b:nocopy", "invalid mode: nocopy"),
    ("-v a:/x -v b:/x", "Duplicate mount point: /x"),
    ("-v a:/x --tmpfs /y/../x", "Duplicate mount point: /x"),
    ("--tmpfs x", "invalid mount path: 'x' mount path must be absolute"),
    ("--tmpfs /", "invalid specification: destination can't be '/'"),
    ("--tmpfs /x:foo", 'invalid tmpfs option "foo"'),
    ("--tmpfs /x:size=abc", 'invalid tmpfs option "size=abc"'),
    ("--tmpfs /x:mode=99", 'invalid tmpfs option "mode=99"'),
    ("--mount type=foo,dst=/x", 'invalid mount config for type "foo": mount type unknown'),
    (
        "--mount type=bind,dst=/x",
        'invalid mount config for type "bind": field Source must not be empty',
    ),
    (
        "--mount type=bind,src=a,dst=/x",
        "invalid mount config for type \"bind\": invalid mount path: 'a' mount path must be "
        "absolute",
    ),
    (
        "--mount type=tmpfs,src=a,dst=/x",
        'invalid mount config for type "tmpfs": field Source must not be specified',
    ),
    (
        "--restart foo",
        "invalid restart policy: unknown policy 'foo'; use one of 'no', 'always', 'on-failure', or "
        "'unless-stopped'",
    ),
    (
        "--restart always:3",
        "invalid restart policy: maximum retry count can only be used with 'on-failure'",
    ),
    ("--restart on-failure:-1", "invalid restart policy: maximum retry count cannot be negative"),
    (
        "--security-opt no-new-privileges=maybe",
        'invalid --security-opt 2: "no-new-privileges=maybe"',
    ),
    ("--security-opt apparmor=x", "--security-opt apparmor is not supported"),
    ("--log-driver json-file", "logging driver 'json-file' is not supported"),
    ("--log-driver foo", "logger: no log driver named 'foo' is registered"),
    ("--log-opt foo=1", "unknown log opt 'foo' for cri log driver"),
    ("--log-opt max-size=0", "max-size must be a positive number"),
    ("--log-opt max-file=0", "max-file cannot be less than 1"),
    ("--oom-score-adj 1001", "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
    (
        "--cpu-rt-period 1000",
        "--cpu-rt-period is not supported: a budget of real-time CPU time would have to be set "
        "in every cgroup above the container's",
    ),
    (
        "--cpu-rt-runtime 1000",
        "--cpu-rt-runtime is not supported: a budget of real-time CPU time would have to be set "
        "in every cgroup above the container's",
    ),
    (
        "--kernel-memory 64m",
        "--kernel-memory is not supported: the kernel has no such limit any more (Linux 5.16)",
    ),
]


@pytest.mark.parametrize(("flags", "message"), ENGINE_ERRORS, ids=[c[0] for c in ENGINE_ERRORS])
def test_an_option_that_the_engine_would_refuse(
    fastbox: Fastbox, fake: FakeEngine, flags: str, message: str
) -> None:
    result = fastbox("run", *flags.split(" "), "img")
    assert (result.code, result.out) == (125, "")
    first, *rest = result.err.split("\n")
    assert first == f"fastbox: Error: {message}"
    assert [line for line in rest if not line.startswith("hint: ")] == [
        "", "Run 'fastbox run --help' for more information", "",
    ]  # fmt: skip
    result = fastbox("create", *flags.split(" "), "img")
    assert result.code == 1
    assert result.err.split("\n")[0] == f"Error: {message}"
    assert fake.calls == []


@pytest.mark.parametrize("flags", ["--log-driver json-file", "--log-opt a=b"])
def test_what_is_not_there_yet_is_refused_with_what_to_use(fastbox: Fastbox, flags: str) -> None:
    result = fastbox("create", *flags.split(" "), "img")
    assert result.err.split("\n")[1].startswith("hint: ")


# ---- mounts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/a:/b", Mount(type="bind", source="/a", target="/b", create_source=True)),
        ("/a/../c/:/b/./d/", Mount(type="bind", source="/c", target="/b/d", create_source=True)),
        (
            "/a:/b:ro,z,rshared",
            Mount(
                type="bind", source="/a", target="/b", create_source=True, read_only=True,
                propagation="rshared",
            ),
        ),
        ("name:/b", Mount(type="volume", source="name", target="/b")),
        ("a/b:/c", Mount(type="volume", source="a/b", target="/c")),
        ("name:/b:nocopy,rw", Mount(type="volume", source="name", target="/b", no_copy=True)),
        ("/b", Mount(type="volume", target="/b")),
    ],
)  # fmt: skip
def test_volume(fastbox: Fastbox, fake: FakeEngine, text: str, mount: Mount) -> None:
    assert config(fastbox, fake, "-v", text).mounts == [mount]


def test_a_relative_volume_source_is_below_our_directory(
    fastbox: Fastbox, fake: FakeEngine, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base)
    made = config(fastbox, fake, "-v", ".:/a", "-v", "./x:/b", "-v", "..:/c", "-v", "~/y:/d")
    # "~" is the shell's: what it left is no path, and no volume's name (the engine says so).
    assert [mount.source for mount in made.mounts] == [
        base, f"{base}/x", os.path.dirname(base), "~/y",
    ]  # fmt: skip
    assert [mount.type for mount in made.mounts] == ["bind", "bind", "bind", "volume"]


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("dst=/x", Mount(type="volume", target="/x")),
        ("type=BIND,SRC=/a,Target=/x", Mount(type="bind", source="/a", target="/x")),
        (
            "type=bind,source=/a,destination=/x,readonly",
            Mount(type="bind", source="/a", target="/x", read_only=True),
        ),
        ("type=bind,src=/a,dst=/x,ro=false", Mount(type="bind", source="/a", target="/x")),
        (
            '"type=bind","src=/a,b",dst=/x',
            Mount(type="bind", source="/a,b", target="/x"),
        ),
        (
            '"type=bind","src=/a""b",dst=/x',
            Mount(type="bind", source='/a"b', target="/x"),
        ),
        (
            "type=bind,src=/a,dst=/x,bind-propagation=rslave,bind-recursive=disabled",
            Mount(type="bind", source="/a", target="/x", propagation="rslave", recursive=False),
        ),
        (
            "type=bind,src=/a,dst=/x,bind-create-src",
            Mount(type="bind", source="/a", target="/x", create_source=True),
        ),
        (
            "type=volume,src=v,dst=/x,volume-nocopy,volume-label=a=b,volume-driver=local",
            Mount(type="volume", source="v", target="/x", no_copy=True, labels={"a": "b"}),
        ),
        (
            "type=tmpfs,dst=/x,tmpfs-size=3m,tmpfs-mode=0700",
            Mount(type="tmpfs", target="/x", tmpfs_size=3 << 20, tmpfs_mode=0o700),
        ),
        (
            "type=bind,src=/a,dst=/x,consistency=cached",
            Mount(type="bind", source="/a", target="/x"),
        ),
    ],
)
def test_mount(fastbox: Fastbox, fake: FakeEngine, text: str, mount: Mount) -> None:
    assert config(fastbox, fake, "--mount", text).mounts == [mount]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "EOF"),
        ("foo", "invalid field 'foo' must be a key=value pair"),
        ("type=bind,x", "invalid field 'x' must be a key=value pair"),
        ("type=bind,x=1", "unknown option 'x' in 'x=1'"),
        ("type=bind, dst=/x", "unknown option ' dst' in ' dst=/x'"),
        ("type=,dst=/x", "type is required"),
        ("type=bind", "target is required"),
        ("type=bind,src=/,dst=/x,ro=maybe", "invalid value for ro: maybe"),
        ("type=bind,dst=/x,tmpfs-size=3", "cannot mix 'tmpfs-*' options with mount type 'bind'"),
        ("dst=/x,bind-propagation=shared", "cannot mix 'bind-*' options with mount type 'volume'"),
        (
            "type=tmpfs,dst=/x,volume-nocopy",
            "cannot mix 'volume-*' options with mount type 'tmpfs'",
        ),
        ("type=tmpfs,dst=/x,tmpfs-size=zz", "invalid value for tmpfs-size: zz"),
        ("type=tmpfs,dst=/x,tmpfs-mode=8", "invalid value for tmpfs-mode: 8"),
        (
            "type=bind,src=/,dst=/x,bind-recursive=foo",
            'invalid value for bind-recursive: foo (must be "enabled", "disabled", "writable", or '
            '"readonly")',
        ),
        (
            "type=bind,src=/,dst=/x,bind-recursive=readonly",
            "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction",
        ),
        (
            'type=bind,"src=/',
            'parse error on line 1, column 17: extraneous or missing " in quoted-field',
        ),
        ('type=bi"nd,dst=/x', 'parse error on line 1, column 8: bare " in non-quoted-field'),
    ],
)
def test_a_malformed_mount(fastbox: Fastbox, text: str, message: str) -> None:
    result = fastbox("run", "--mount", text, "img")
    assert result.code == 125
    assert result.err.split("\n")[0].endswith(f' for "--mount" flag: {message}')


def test_tmpfs(fastbox: Fastbox, fake: FakeEngine) -> None:
    made = config(
        fastbox, fake, "--tmpfs", "/a", "--tmpfs", "/b:size=1m,mode=700,exec,uid=3,ro",
        "--tmpfs", "/a:exec",
    )  # fmt: skip
    assert made.mounts == [
        Mount(type="tmpfs", target="/a", options=["exec"]),
        Mount(
            type="tmpfs", target="/b", tmpfs_size=1 << 20, tmpfs_mode=0o700, read_only=True,
            options=["exec", "uid=3"],
        ),
    ]  # fmt: skip


def test_a_warning_about_the_oom_killer(fastbox: Fastbox, fake: FakeEngine) -> None:
    warning = (
        "WARNING: Disabling the OOM killer on containers without setting a '-m/--memory' limit "
        "may be dangerous.\n"
    )
    result = fastbox("create", "--oom-kill-disable", "img")
    assert (result.code, result.err) == (0, warning)
    assert fake.config.oom_kill_disable
    assert fastbox("create", "--oom-kill-disable", "-m", "64m", "img").err == ""
