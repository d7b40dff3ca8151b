"""Device rules: flags, normal form, and the BPF program against it."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbox._core import bpf
from fastbox.container import devices as dev
from fastbox.container.config import Device
from fastbox.errors import InvalidArgument, NotFound


@pytest.fixture(autouse=True)
def no_programs_left(leak_check: object) -> Iterator[None]:
    yield
    dev.forget_programs()


def rule(text: str) -> dev.DeviceRule:
    """``"+c 1:3 rw"``, ``"-a"``; * is any."""
    words = text[1:].split()
    if len(words) == 1:
        return dev.DeviceRule(allow=text[0] == "+", type=words[0])
    major, minor = (-1 if n == "*" else int(n) for n in words[1].split(":"))
    return dev.DeviceRule(
        allow=text[0] == "+", type=words[0], major=major, minor=minor, access=words[2]
    )


def policy(*rules: str) -> dev.Policy:
    return dev.normalize(map(rule, rules))


# ---- what a policy means, and an interpreter for what enforces it ----------------------------


def allows(p: dev.Policy, kind: str, major: int, minor: int, access: int) -> bool:
    """The v1 controller's rule (security/device_cgroup.c, __devcgroup_check_permission)."""
    for k, a, b, bits in p.exceptions:
        if k != kind or a not in (-1, major) or b not in (-1, minor):
            continue
        if access & bits if p.default_allow else not access & ~bits:
            return not p.default_allow
    return p.default_allow


def run(program: bytes, kind: str, major: int, minor: int, access: int) -> int:
    """An interpreter of the few eBPF instructions that the compiler uses."""
    code = list(struct.iter_unpack("=BBhi", program))
    context = {0: access << 16 | dev.TYPES[kind], 4: major, 8: minor}
    registers: dict[int, int] = {}
    pc = 0
    while True:
        op, both, offset, imm = code[pc]
        dst, src = both & 15, both >> 4
        pc += 1
        value = registers.get(dst, 0)
        if op == 0x61:
            registers[dst] = context[offset]
        elif op == 0xB7:
            registers[dst] = imm
        elif op == 0xBF:
            registers[dst] = registers[src]
        elif op == 0x57:
            registers[dst] &= imm
        elif op == 0x95:
            return registers[0]
        else:
            taken = {
                0x05: True,
                0x15: value == imm,
                0x55: value != imm,
                0x45: bool(value & imm),
                0xA5: value < imm,
                0xB5: value <= imm,
            }[op]
            pc += offset if taken else 0


def check(p: dev.Policy) -> None:
    program = dev.bpf_program(p)
    os.close(bpf.load(program))  # the kernel's verifier takes it
    majors = sorted({m for _, a, _, _ in p.exceptions for m in (a, a + 1) if m >= 0} | {0, 300})
    minors = sorted({m for e in p.exceptions for m in (e[2] - 1, e[2], e[2] + 1) if m >= 0} | {0})
    for kind, major, minor, access in itertools.product("bc", majors, minors, range(1, 8)):
        wanted = allows(p, kind, major, minor, access)
        assert run(program, kind, major, minor, access) == wanted, (kind, major, minor, access)


def test_default_rules() -> None:
    p = dev.normalize(dev.DEFAULT)
    check(p)
    yes = [("c", 1, 3), ("c", 1, 9), ("c", 5, 0), ("c", 5, 2), ("c", 136, 77), ("c", 10, 200)]
    no = [("b", 8, 0), ("c", 10, 229), ("c", 1, 1), ("c", 4, 0), ("b", 7, 0), ("c", 1, 6)]
    program = dev.bpf_program(p)
    assert all(run(program, *d, dev.READ | dev.WRITE) for d in yes)
    assert not any(run(program, *d, access) for d in no for access in (dev.READ, dev.WRITE))
    assert all(run(program, *d, dev.MKNOD) for d in yes + no)
    assert len(program) // 8 == 20


@pytest.mark.parametrize(
    "rules",
    [
        (),
        ("-a",),
        ("+a",),
        ("-a", "+a"),
        ("-a", "+b *:* rwm"),
        ("-a", "+c *:* rwm", "+b *:* rwm"),
        ("-a", "+c *:* m", "+b *:* rm"),
        ("-a", "+c 1:3 r", "+c 1:3 w", "+c 1:5 rw", "+c 1:* m"),
        ("-a", "+b *:7 rw", "+c *:0 r"),
        ("-a", "+b 8:* rwm", "+c 8:1 rwm", "+b 8:1 r"),
        ("-a", "+c 1:3 rwm", "-c 1:3 w"),
        ("-a", "+c 1:3 rwm", "+c 1:4 rwm", "-c 1:* rwm"),
        ("-c 1:3 rwm",),
        ("-c 1:3 w", "-b *:* rw", "-c 136:* m"),
        ("-b *:* m", "-c *:* m"),
        ("-b *:* rwm", "-c *:* rwm"),
        ("-c 1:3 rw", "+c 1:3 w"),
        ("-a", "+c 4095:1048575 rwm"),
    ],
)
def test_programs(rules: tuple[str, ...]) -> None:
    check(policy(*rules))


NUMBER = st.sampled_from([-1, 0, 1, 2, 3, 5, 9, 200])
EXCEPTION = st.tuples(st.sampled_from("bc"), NUMBER, NUMBER, st.integers(1, 7))


@given(st.booleans(), st.lists(EXCEPTION, max_size=8, unique_by=lambda e: e[:3]))
def test_any_program(default: bool, exceptions: list[tuple[str, int, int, int]]) -> None:
    check(dev.Policy(default, tuple(sorted(exceptions))))


# ---- normal form -----------------------------------------------------------------------------


def test_normal_form() -> None:
    assert policy() == dev.Policy(True)
    assert policy("-a") == dev.Policy(False)
    assert policy("-a", "+c 1:3 r", "+c 1:3 wm") == dev.Policy(False, (("c", 1, 3, 7),))
    assert policy("-a", "+c 1:3 rwm", "-c 1:3 w") == dev.Policy(False, (("c", 1, 3, 3),))
    assert policy("-a", "+c 1:3 rwm", "-c *:* rwm") == dev.Policy(False)
    assert policy("+c 1:3 rwm", "-a", "+a", "-b 8:0 w") == dev.Policy(True, (("b", 8, 0, 4),))
    assert policy("-a", "-c 10:229 rwm") == dev.Policy(False)
    assert policy("-a", "+c 1:3 r") == policy("+c 9:9 r", "-a", "+c 1:3 r")


@pytest.mark.parametrize(
    "rules",
    [
        ("-a", "+c 1:* rwm", "-c 1:3 w"),
        ("-a", "+c *:* rwm", "-c 1:3 w"),
        ("-a", "+c 1:* rwm", "-c *:3 w"),
    ],
)
def test_holes_in_wildcards_are_an_error(rules: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument, match="hole"):
        policy(*rules)


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "x"},
        {"type": "u"},
        {"type": "c", "major": -2},
        {"type": "c", "major": 4096},
        {"type": "c", "minor": 1 << 20},
        {"type": "c", "access": ""},
        {"type": "c", "access": "rwx"},
        {"type": "c", "access": "rr"},
    ],
)
def test_malformed_rules(bad: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument, match="invalid device rule"):
        dev.normalize([dev.DeviceRule(allow=True, **bad)])  # type: ignore[arg-type]


def test_v1_writes() -> None:
    assert dev.v1_writes(policy("-a", "+c 1:3 rw", "+b *:* m")) == [
        ("devices.deny", "a"),
        ("devices.allow", "b *:* m"),
        ("devices.allow", "c 1:3 rw"),
    ]
    assert dev.v1_writes(policy("-c 1:3 rwm")) == [
        ("devices.allow", "a"),
        ("devices.deny", "c 1:3 mrw"),
    ]


def test_kept_programs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long-lived engine with ever new rule sets keeps 64 descriptors at most."""
    attached: list[int] = []
    monkeypatch.setattr(bpf, "attach", lambda cgroup, prog: attached.append(prog))
    before = len(os.listdir("/proc/self/fd"))
    policies = [policy("-a", f"+c 1:{minor} rwm") for minor in range(100)]
    for p in policies:
        dev.attach(-1, p)
    assert len(os.listdir("/proc/self/fd")) == before + dev.MAX_PROGRAMS
    dev.attach(-1, policies[-1])
    assert attached[-1] == attached[-2]


# ---- --device --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/dev/fuse", ("/dev/fuse", "/dev/fuse", "rwm")),
        ("/dev/fuse:/dev/x", ("/dev/fuse", "/dev/x", "rwm")),
        ("/dev/fuse:r", ("/dev/fuse", "/dev/fuse", "r")),
        ("/dev/fuse:/dev/x:mr", ("/dev/fuse", "/dev/x", "mr")),
        ("/dev/fuse::rw", ("/dev/fuse", "/dev/fuse", "rw")),
    ],
)
def test_parse(text: str, wanted: tuple[str, str, str]) -> None:
    parsed = dev.parse(text)
    assert (parsed.host, parsed.container, parsed.permissions) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "fuse",
        "/dev/fuse:x",
        "/dev/fuse:/dev/x:rwx",
        "/a:/b:r:w",
        "/dev/fuse:/",
        "/a:/b:rr",
    ],
)
def test_bad_texts(text: str) -> None:
    with pytest.raises(InvalidArgument):
        dev.parse(text)


def test_find(base: str) -> None:
    (null,) = dev.find(Device(host="/dev/null", container="/dev/x", permissions="r"))
    assert (null.path, null.type, null.major, null.minor) == ("/dev/x", "c", 1, 3)
    assert null.rule() == dev.DeviceRule(allow=True, type="c", major=1, minor=3, access="r")
    assert null.to_oci()["fileMode"] == 0o666
    with pytest.raises(NotFound, match="no such file or directory"):
        dev.find(Device(host="/dev/nonesuch", container="/dev/nonesuch"))
    open(f"{base}/file", "w").close()
    with pytest.raises(InvalidArgument, match="not a device node"):
        dev.find(Device(host=f"{base}/file", container="/dev/x"))


def test_find_below_a_directory(base: str) -> None:
    os.makedirs(f"{base}/d/sub")
    with pytest.raises(InvalidArgument, match="no device nodes"):
        dev.find(Device(host=f"{base}/d", container="/dev/d"))
    os.mknod(f"{base}/d/one", 0o600 | 0o020000, os.makedev(1, 3))
    os.mknod(f"{base}/d/sub/two", 0o640 | 0o060000, os.makedev(7, 9))
    os.symlink("/dev/zero", f"{base}/d/link")  # not followed
    found = dev.find(Device(host=f"{base}/d/", container="/dev/d/", permissions="rw"))
    assert [(n.path, n.type, n.major, n.minor, n.access) for n in found] == [
        ("/dev/d/one", "c", 1, 3, "rw"),
        ("/dev/d/sub/two", "b", 7, 9, "rw"),
    ]
