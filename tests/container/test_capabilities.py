"""--cap-add and --cap-drop, and the names against the kernel's."""

from __future__ import annotations

import re
import subprocess

import pytest

from fastbox.container import capabilities as caps
from fastbox.errors import InvalidArgument, Unsupported

FULL = (1 << len(caps.NAMES)) - 1
DOCKER = (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP "
    "NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
)


def test_names_are_the_kernel_headers() -> None:
    out = subprocess.run(
        ["cc", "-E", "-dM", "-x", "c", "-"],
        input="#include <linux/capability.h>\n",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = dict(re.findall(r"#define (CAP_[A-Z_]+) +(\d+)\n", out))
    assert len(found) >= 41
    assert {name: int(number) for name, number in found.items()} == {
        name: number for name, number in caps.NUMBERS.items() if name in found
    }


def test_last_capability_of_this_kernel() -> None:
    with open("/proc/sys/kernel/cap_last_cap") as f:
        assert int(f.read()) == len(caps.NAMES) - 1


def test_default_is_dockers() -> None:
    assert caps.to_mask(f"CAP_{name}" for name in DOCKER.split()) == 0xA80425FB
    assert caps.to_mask(caps.resolve(bounding=FULL)) == caps.DEFAULT_MASK == 0xA80425FB


@pytest.mark.parametrize("name", ["net_admin", "NET_ADMIN", "cap_net_admin", "Cap_Net_Admin"])
def test_spellings(name: str) -> None:
    assert caps.normalize(name) == "CAP_NET_ADMIN"
    assert "CAP_NET_ADMIN" in caps.resolve([name], bounding=FULL)


@pytest.mark.parametrize(
    "name", ["", "CAP_", "NET ADMIN", "NET_ADMIN ", "\u017fYS_ADMIN", "21", "NONE", "CAP_CAP_KILL"]
)
def test_unknown_names(name: str) -> None:
    with pytest.raises(InvalidArgument, match="unknown capability"):
        caps.resolve([name], bounding=FULL)
    with pytest.raises(InvalidArgument, match="unknown capability"):
        caps.resolve((), [name], bounding=FULL)


def test_add_and_drop() -> None:
    def mask(add: list[str], drop: list[str]) -> int:
        return caps.to_mask(caps.resolve(add, drop, bounding=FULL))

    default = caps.DEFAULT_MASK
    chown, admin = 1 << 0, 1 << 21
    assert mask([], ["chown"]) == default & ~chown
    assert mask(["sys_admin"], []) == default | admin
    assert mask(["chown"], ["chown"]) == default
    assert mask([], ["all"]) == 0
    assert mask(["chown"], ["ALL"]) == chown
    assert mask(["ALL"], []) == FULL
    assert mask(["all"], ["sys_admin"]) == FULL & ~admin
    assert mask(["ALL"], ["ALL"]) == FULL
    assert mask(["ALL", "chown"], ["chown"]) == FULL & ~chown


def test_what_the_engine_lacks() -> None:
    """Left out of sets, an error by name (a VM without CAP_SYS_RESOURCE, where runc fails)."""
    have = FULL & ~(1 << 24) & ~(1 << 0)
    assert "CAP_SYS_RESOURCE" not in caps.resolve(privileged=True, bounding=have)
    assert caps.to_mask(caps.resolve(privileged=True, bounding=have)) == have
    assert caps.to_mask(caps.resolve(["ALL"], bounding=have)) == have
    assert caps.to_mask(caps.resolve(bounding=have)) == caps.DEFAULT_MASK & ~1
    with pytest.raises(Unsupported, match=r'not available .*"CAP_SYS_RESOURCE"'):
        caps.resolve(["SYS_RESOURCE"], bounding=have)
    assert "CAP_SYS_RESOURCE" not in caps.resolve((), ["SYS_RESOURCE"], bounding=have)


def test_own_bounding_set() -> None:
    with open("/proc/self/status") as f:
        line = next(line for line in f if line.startswith("CapBnd:"))
    assert caps.own_bounding_set() == int(line.split()[1], 16)
    assert caps.to_mask(caps.resolve(privileged=True)) == caps.own_bounding_set()


def test_masks() -> None:
    assert caps.from_mask(0b101) == ["CAP_CHOWN", "CAP_DAC_READ_SEARCH"]
    assert caps.from_mask(1 << 63) == []
    with pytest.raises(InvalidArgument):
        caps.to_mask(["CHOWN"])
