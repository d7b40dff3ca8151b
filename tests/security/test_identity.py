"""Who a process in a container is, and what an image or a flag may say about it: capabilities
(CVE-2022-29162 and its family), users (CVE-2024-40635, CVE-2022-36109), passwd files
(CVE-2026-47262), injected lines (CVE-2022-4318), environment (CVE-2026-57231), labels
(CVE-2026-53488), sysctls (CVE-2022-0811), security options."""

from __future__ import annotations

import os
import resource
import tarfile
from collections.abc import Callable
from typing import Any

import pytest

from fastbox.engine import Engine
from fastbox.errors import FastboxError, InvalidArgument, LaunchError
from tests.support.boxes import (
    Canary,
    Output,
    device,
    directory,
    execute,
    fifo,
    image,
    link,
    run,
    start,
)


def status(output: Output) -> dict[str, str]:
    """/proc/self/status as a dictionary."""
    return dict(line.split(":\t", 1) for line in output.lines if ":\t" in line)


# ---- capabilities ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["run", "exec"])
@pytest.mark.parametrize(
    ("config", "effective", "bounding"),
    [
        ({}, 0xA80425FB, 0xA80425FB),
        ({"user": "1000"}, 0, 0xA80425FB),
        ({"cap_add": ["SYS_ADMIN"]}, 0xA82425FB, 0xA82425FB),
        ({"cap_add": ["SYS_ADMIN"], "user": "app"}, 0, 0xA82425FB),
        ({"cap_drop": ["ALL"]}, 0, 0),
        ({"cap_drop": ["ALL"], "cap_add": ["NET_RAW"]}, 0x2000, 0x2000),
    ],
)
def test_capability_sets(
    engine: Engine,
    busybox_image: str,
    how: str,
    config: dict[str, Any],
    effective: int,
    bounding: int,
) -> None:
    command = ("cat", "/proc/self/status")
    if how == "run":
        seen = status(run(engine, busybox_image, *command, **config))
    else:
        seen = status(execute(engine, start(engine, busybox_image, **config), *command))
    sets = [int(seen[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")]
    assert sets == [0, effective, effective, bounding, 0]
    assert seen["Seccomp"] == "2" and seen["NoNewPrivs"] == "0"


def test_privileged_has_what_the_engine_has(engine: Engine, busybox_image: str) -> None:
    with open("/proc/self/status") as file:
        own = next(line.split()[1] for line in file if line.startswith("CapBnd"))
    seen = status(run(engine, busybox_image, "cat", "/proc/self/status", privileged=True))
    assert (seen["CapBnd"], seen["CapEff"], seen["CapInh"]) == (own, own, "0" * 16)


def test_set_user_id_programs(engine: Engine, program: Callable[[str], bytes]) -> None:
    """They work, unless no_new_privileges is asked for."""
    source = '#include <stdio.h>\n#include <unistd.h>\nint main(void){printf("%d\\n",geteuid());}'
    name = image(engine, "suid", {"suid": program(source)})
    prepare = "cp /suid /tmp/suid; chmod 4755 /tmp/suid; su app -s /tmp/suid"
    assert run(engine, name, "sh", "-c", prepare).out == "0\n"
    assert run(engine, name, "sh", "-c", prepare, no_new_privileges=True).out == "1000\n"


# ---- users -----------------------------------------------------------------------------------

BAD_USERS = (
    "2147483648",
    "4294967295",
    "4294967296",
    "18446744073709551616",
    "-1",
    "0x0",
    "1e3",
    "01",
    " 0",
    "1:4294967296",
    "1:-1",
    "+1",
    "\N{FULLWIDTH DIGIT ONE}",
    ":",
    "0:0:0",
    "a\nb",
    "a/b",
)


def test_numbers_are_never_names(engine: Engine) -> None:
    users = {user.partition(":")[0].strip() or "x" for user in BAD_USERS} - {"a\nb"}
    passwd = "".join(f"{user}:x:0:0::/:/bin/sh\n" for user in sorted(users))
    group = "4294967296:x:0:\n-1:x:0:\n7:x:0:\n"
    content = {"etc/passwd": passwd.encode(), "etc/group": group.encode()}
    name = image(engine, "users", content)  # type: ignore[arg-type]
    box = start(engine, name)
    for user in BAD_USERS:
        with pytest.raises(FastboxError):
            run(engine, name, "id", user=user)
        with pytest.raises(FastboxError):
            execute(engine, box, "id", user=user)
    for attempt in (
        run(engine, name, "id", user="7:7"),
        execute(engine, box, "id", user="7:7"),
    ):
        assert attempt.out.startswith("uid=7 gid=7") and "groups=7" in attempt.out


@pytest.mark.parametrize("user", ["4294967296", "-1", "01", "0:0:0", "nobodyknows", "app:none"])
def test_users_of_an_image(engine: Engine, user: str) -> None:
    name = image(engine, "user", {}, [f'USER "{user}"'])
    with pytest.raises(FastboxError):
        run(engine, name, "id")
    assert engine.containers(all=True) == []


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({}, (0, 0, {0})),
        ({"user": "1"}, (1, 0, {0})),
        ({"user": "1:2"}, (1, 2, {2})),
        ({"user": "app"}, (1000, 1000, {1000, 1001})),
        ({"user": "1000"}, (1000, 1000, {1000, 1001})),
        ({"user": "app:nogroup"}, (1000, 65534, {65534})),
        ({"user": "app:extra", "group_add": ["nogroup", "5"]}, (1000, 1001, {1001, 65534, 5})),
        ({"user": "2147483647:2147483647"}, (2**31 - 1, 2**31 - 1, {2**31 - 1})),
    ],
    ids=lambda value: str(value.get("user", "root")) if isinstance(value, dict) else "",
)
def test_users_and_groups(
    engine: Engine,
    busybox_image: str,
    config: dict[str, Any],
    wanted: tuple[int, int, set[int]],
) -> None:
    """The primary group is among the others, and none of the engine's own are."""
    seen = status(run(engine, busybox_image, "cat", "/proc/self/status", **config))
    uid, gid, groups = wanted
    assert seen["Uid"].split() == [str(uid)] * 4
    assert seen["Gid"].split() == [str(gid)] * 4
    assert {int(word) for word in seen["Groups"].split()} == groups


# ---- passwd and group files ------------------------------------------------------------------

FILES: dict[str, Callable[[Canary], tarfile.TarInfo | bytes]] = {
    "fifo": lambda canary: fifo(),
    "endless": lambda canary: device(1, 5),
    "link to zero": lambda canary: link("/dev/zero"),
    "link to a host file": lambda canary: link(f"{canary.path}/passwd"),
    "link to proc": lambda canary: link("/proc/self/environ"),
    "magic link": lambda canary: link("/proc/self/root/etc/shadow"),
    "loop": lambda canary: link("passwd"),
    "directory": lambda canary: directory(),
    "large": lambda canary: b"a:x:1:1::/:/bin/sh\n" * 700_000,
}


@pytest.mark.parametrize("kind", FILES)
def test_hostile_passwd(engine: Engine, canary: Canary, kind: str) -> None:
    content = {"etc/passwd": FILES[kind](canary)}
    if kind == "large":
        content["etc/group"] = b"g:x:5:" + b"app," * 3_000_000
    name = image(engine, "passwd", content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LaunchError, match=r"passwd") as caught:
        run(engine, name, "id", user="canary")
    assert caught.value.run_exit_code == 125 and "canary passwd" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_sparse_passwd(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image)
    assert execute(engine, box, "truncate", "-s", "20G", "/etc/passwd").code == 0
    with pytest.raises(LaunchError, match="file too large"):
        execute(engine, box, "id", user="app")


def test_long_lines_are_passed_over(engine: Engine) -> None:
    passwd = b"x" * 100_000 + b":x:5:5::/:/\napp:x:1000:1000::/home/app:/bin/sh\n" + b"y" * 50_000
    name = image(engine, "long", {"etc/passwd": passwd})
    assert run(engine, name, "id", "-u", user="app").out == "1000\n"
    with pytest.raises(LaunchError, match="unable to find user"):
        run(engine, name, "id", user="y" * 50)


# ---- text that ends up in files --------------------------------------------------------------


@pytest.mark.parametrize("bad", ["\n", "\r", "\0", " ", "\t"], ids=repr)
def test_no_line_is_injected(engine: Engine, busybox_image: str, bad: str) -> None:
    text = f"a{bad}10.0.0.1 evil"
    configs: list[dict[str, Any]] = [
        {"hostname": text},
        {"domainname": text},
        {"add_hosts": [f"x:{text}"]},
        {"add_hosts": [f"{text}:10.0.0.1"]},
        {"user": text},
        {"name": text},
    ]
    for config in configs:
        with pytest.raises(InvalidArgument):
            run(engine, busybox_image, "true", **config)
    assert engine.containers(all=True) == []


def test_home_with_a_newline_changes_no_file(engine: Engine, busybox_image: str) -> None:
    command = "cat /etc/passwd | wc -l; cat /etc/hosts | wc -l"
    plain = run(engine, busybox_image, "sh", "-c", command)
    odd = run(engine, busybox_image, "sh", "-c", command, env=["HOME=/a\nevil:x:0:0::/:/bin/sh"])
    assert odd == plain


@pytest.mark.parametrize("where", ["command", "env", "labels", "workdir", "user"])
def test_what_is_not_utf8_is_refused(engine: Engine, busybox_image: str, where: str) -> None:
    bad = "a\udcff"
    values: dict[str, Any] = {
        "command": ["echo", bad],
        "env": [f"A={bad}"],
        "labels": {"a": bad},
        "workdir": f"/{bad}",
        "user": bad,
    }
    config = {where: values[where]}
    command = config.pop("command", ["true"])
    with pytest.raises(InvalidArgument):
        run(engine, busybox_image, *command, **config)
    assert engine.containers(all=True) == []


# ---- environment and labels ------------------------------------------------------------------


def test_an_image_gets_nothing_of_the_engines_environment(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_SECRET_ACCESS_KEY", "A", "PATHX", "SECRET"):
        monkeypatch.setenv(variable, "canary-value")
    name = image(engine, "env", {})
    loaded = engine.image(name)
    assert isinstance(loaded.config["config"], dict)
    # Entries as only a hostile image has them.
    from fastbox.container.merge import merge

    hostile = ["AWS_SECRET_ACCESS_KEY", "*", "PATH*", "=x", "A", "", "GOOD=1"]
    from fastbox.container.config import ContainerConfig

    config = ContainerConfig(image=name, command=["env"])
    record = merge("0" * 64, "x", "", config, {"Env": hostile})
    assert record.env[2:] == ["GOOD=1"]
    seen = run(engine, name, "env", env=["MINE=1"])
    names = {line.partition("=")[0] for line in seen.lines}
    assert names == {"PATH", "HOSTNAME", "HOME", "MINE"}
    assert "canary-value" not in seen.out


def test_labels_of_an_image_do_not_steer(engine: Engine) -> None:
    labels = {
        "dev.fastbox.user": "root",
        "run.oci.handler": "krun",
        "io.podman.annotations.privileged": "TRUE",
        "io.containers.capabilities": "SYS_ADMIN",
        "cdi.k8s.io/x": "vendor.com/device=all",
        "org.systemd.property.ExecStartPre": "'/bin/false'",
    }
    changes = [f'LABEL "{key}"="{value}"' for key, value in labels.items()]
    plain = start(engine, image(engine, "plain", {}), hostname="box")
    labelled = start(engine, image(engine, "labels", {}, [*changes, "LABEL a=b"]), hostname="box")
    assert labelled.record.labels == {"a": "b"}

    def config(directory: str, own_id: str) -> str:
        with open(f"{directory}/config.json") as file:
            return file.read().replace(own_id, "ID")

    assert config(plain.directory, plain.id) == config(labelled.directory, labelled.id)


# ---- sysctls and security options ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "network"),
    [
        ("net.ipv4.ip_forward", "1+kernel.core_pattern=|/x", "none"),
        ("net.ipv4.ip_forward", "1\nkernel.core_pattern=x", "none"),
        ("kernel/core_pattern", "x", "none"),
        ("kernel.core_pattern", "x", "none"),
        ("net/../kernel/core_pattern", "x", "none"),
        ("net.../kernel/core_pattern", "x", "none"),
        ("net//ipv4", "1", "none"),
        ("vm.overcommit_memory", "1", "none"),
        ("net.ipv4.ip_forward", "1", "host"),
        ("user.max_user_namespaces", "1", "none"),
    ],
)
def test_sysctls_of_the_host_are_refused(
    engine: Engine, busybox_image: str, name: str, value: str, network: str
) -> None:
    with open("/proc/sys/kernel/core_pattern") as file:
        before = file.read()
    with pytest.raises(FastboxError):
        run(engine, busybox_image, "true", sysctls={name: value}, network=network)
    with open("/proc/sys/kernel/core_pattern") as file:
        assert file.read() == before


@pytest.mark.parametrize(
    "profile",
    [
        "nonexist",
        "{}",
        "[]",
        "null",
        '{"defaultAction": "SCMP_ACT_NOTHING"}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 5}',
        '{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": "read"}]}',
        "Unconfined",
        "",
    ],
)
def test_no_profile_is_no_profile(engine: Engine, busybox_image: str, profile: str) -> None:
    """What is not understood never means fewer filters."""
    with pytest.raises(FastboxError):
        run(engine, busybox_image, "true", seccomp=profile)
    assert engine.containers(all=True) == []


def test_capabilities_that_are_none(engine: Engine, busybox_image: str) -> None:
    configs: list[dict[str, Any]] = [{"cap_add": ["SYS_ADMINS"]}, {"cap_drop": ["NONE"]}]
    for config in (*configs, {"cap_add": [""]}):
        with pytest.raises(FastboxError):
            run(engine, busybox_image, "true", **config)


def test_store_is_closed_to_others(engine: Engine, busybox_image: str) -> None:
    """Another user of the host can neither list nor reach anything (CVE-2021-41091)."""
    box = start(engine, busybox_image)
    for path in (engine.root, engine.runtime_dir, box.directory):
        assert os.stat(path).st_mode & 0o077 == 0, path
    for name in ("container.json", "config.json"):
        assert os.stat(f"{box.directory}/{name}").st_mode & 0o077 == 0
    assert os.stat(f"{engine.runtime_dir}/{box.id}/state.json").st_mode & 0o077 == 0
