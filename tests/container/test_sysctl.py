"""--sysctl: what is namespaced and ours, nothing else (SECURITY: CVE-2022-0811)."""

from __future__ import annotations

import pytest

from fastbox.container import sysctl
from fastbox.errors import InvalidArgument


def resolve(name: str, value: str = "1", **own: bool) -> list[tuple[str, str]]:
    return sysctl.resolve({name: value}, **{"own_net": True, **own})


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
        ("net.ipv4.conf.eth0/1.rp_filter", "net/ipv4/conf/eth0.1/rp_filter"),
        ("net/ipv4/conf/eth0.1/rp_filter", "net/ipv4/conf/eth0.1/rp_filter"),
        ("kernel.shmmax", "kernel/shmmax"),
        ("kernel/shm_rmid_forced", "kernel/shm_rmid_forced"),
        ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
        ("kernel.domainname", "kernel/domainname"),
    ],
)
def test_allowed(name: str, path: str) -> None:
    assert resolve(name) == [(path, "1")]


@pytest.mark.parametrize(
    "name",
    [
        "kernel.core_pattern",
        "kernel/core_pattern",
        "net/../kernel/core_pattern",
        "net.ipv4/../../kernel.core_pattern",
        "net/ipv4/../../kernel/core_pattern",
        "net/./ipv4/ip_forward",
        "net..ipv4",
        "net.",
        ".net.ipv4.ip_forward",
        "/net/ipv4/ip_forward",
        "/proc/sys/net/ipv4/ip_forward",
        "net",
        "net.ipv4",
        "",
        "net.ipv4.ip_forward+kernel.core_pattern",
        "net.ipv4.ip_forward\n",
        "net.ipv4.ip_forward\0",
        "net.ipv4.ïp_forward",
        "fs.mqueue",
        "fs.mqueue.a.b",
        "fs.mqueue/x.y",
        "fs.file-max",
        "vm.swappiness",
        "kernel.hostname",
        "kernel.sem.x",
        "kernel.shmmaxx",
        "user.max_user_namespaces",
        "kernel.unprivileged_bpf_disabled",
        "debug.exception-trace",
    ],
)
def test_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="is not allowed"):
        resolve(name)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("net.ipv4.ip_forward", "own_net"),
        ("fs.mqueue.msg_max", "own_ipc"),
        ("kernel.msgmax", "own_ipc"),
        ("kernel.domainname", "own_uts"),
        ("user.max_net_namespaces", "own_user"),
    ],
)
def test_only_in_a_namespace_of_its_own(name: str, own: str) -> None:
    assert resolve(name, **{own: True})
    with pytest.raises(InvalidArgument, match="not allowed in the host's"):
        resolve(name, **{own: False})


@pytest.mark.parametrize("value", ["1\n2", "1\0", "x" * 4096, "\x1b[0m"])
def test_bad_values(value: str) -> None:
    with pytest.raises(InvalidArgument, match="value"):
        resolve("kernel.domainname", value)


def test_values_with_blanks() -> None:
    assert resolve("kernel.sem", "250\t32000 32 128") == [("kernel/sem", "250\t32000 32 128")]
    assert resolve("kernel.domainname", "") == [("kernel/domainname", "")]


def test_last_spelling_wins() -> None:
    both = {"net.ipv4.ip_forward": "0", "net/ipv4/ip_forward": "1"}
    assert sysctl.resolve(both, own_net=True) == [("net/ipv4/ip_forward", "1")]


def test_defaults() -> None:
    assert sysctl.resolve(sysctl.defaults(own_net=True), own_net=True) == [
        ("net/ipv4/ip_unprivileged_port_start", "0"),
        ("net/ipv4/ping_group_range", "0 2147483647"),
    ]
    assert "net.ipv4.ping_group_range" not in sysctl.defaults(own_net=True, own_user=True)
    assert sysctl.defaults(own_net=False) == {}


def test_flag_texts() -> None:
    assert sysctl.parse("kernel.sem=1 2=3") == ("kernel.sem", "1 2=3")
    for text in ("kernel.sem", "=1", ""):
        with pytest.raises(InvalidArgument, match=f"sysctl '{text}' is not allowed"):
            sysctl.parse(text)
