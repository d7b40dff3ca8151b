"""The compiled default filter and compiled profiles, against the table, libseccomp, the kernel."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from fastbox.container import seccomp
from fastbox.container.capabilities import DEFAULT_MASK, NAMES, from_mask
from fastbox.errors import InvalidArgument, Unsupported
from tests.container import classic_bpf as bpf

DEFAULT_CAPS = from_mask(DEFAULT_MASK)
EPERM, ENOSYS = bpf.ERRNO | errno.EPERM, bpf.ERRNO | errno.ENOSYS
X32 = 0x40000000
U64 = (1 << 64) - 1

with open(os.path.join(seccomp.DATA, "syscalls.json")) as f:
    TABLES = json.load(f)
with open(os.path.join(seccomp.DATA, "seccomp.json")) as f:
    PROFILE = json.load(f)


@pytest.fixture(scope="module")
def libseccomp() -> bpf.Libseccomp:
    return bpf.Libseccomp()


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> bpf.Probe:
    return bpf.Probe(str(tmp_path_factory.mktemp("probe")))


def compiled(oci: dict, arch: str = "x86_64") -> bpf.Program:  # type: ignore[type-arg]
    program = bpf.decode(seccomp.compile(oci, arch=arch))
    bpf.check(program)
    return program


def rule(names: object, action: str = "SCMP_ACT_ALLOW", **more: object) -> dict:  # type: ignore[type-arg]
    return {"names": [names] if isinstance(names, str) else names, "action": action, **more}


def arg(index: int, op: str, value: int, two: int = 0) -> dict:  # type: ignore[type-arg]
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": two}


def oci(*rules: dict, default: str = "SCMP_ACT_ERRNO", **more: object) -> dict:  # type: ignore[type-arg]
    return {"defaultAction": default, "syscalls": list(rules), **more}


# ---- the tables ------------------------------------------------------------------------------


def header_numbers(name: str) -> dict[str, int]:
    """System call numbers of the machine's kernel headers."""
    source = f"#include <asm/{name}>\n"
    out = subprocess.run(
        ["cc", "-E", "-dM", "-x", "c", "-"],
        input=source,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.findall(r"#define __NR_(\w+) (?:\(__X32_SYSCALL_BIT \+ )?(\d+)\)?\n", out)
    return {name: int(number) for name, number in found}


@pytest.mark.parametrize(
    ("header", "table", "bit"),
    [("unistd_64.h", "x86_64", 0), ("unistd_32.h", "i386", 0), ("unistd_x32.h", "x32", X32)],
)
def test_tables_hold_what_the_kernel_headers_say(header: str, table: str, bit: int) -> None:
    numbers = header_numbers(header)
    assert len(numbers) > 300
    mine = TABLES[table]
    assert {n: mine.get(n) for n in numbers} == {n: v + bit for n, v in numbers.items()}


def test_tables_reach_linux_6_17() -> None:
    for table, bit in (("x86_64", 0), ("i386", 0), ("x32", X32), ("aarch64", 0), ("arm", 0)):
        assert TABLES[table]["file_setattr"] == bit + 469


def test_every_name_of_the_profile_is_known() -> None:
    known = {name for table in TABLES.values() for name in table}
    names = {name for r in PROFILE["syscalls"] for name in r["names"]}
    assert names <= known
    assert len(names) == 426


def test_profile_carries_its_origin() -> None:
    assert "Apache License, Version 2.0" in " ".join(PROFILE["comment"])


# ---- the default profile, by simulation ------------------------------------------------------


@pytest.fixture(scope="module")
def default() -> bpf.Program:
    return compiled(seccomp.to_oci(None, DEFAULT_CAPS, "x86_64"))


def expected_default(arch: str, number: int, names: dict[int, str]) -> int | None:
    """From the profile's text alone; None where arguments decide."""
    name = names.get(number)
    if name is None:
        return ENOSYS
    verdict = EPERM
    for r in PROFILE["syscalls"]:
        if name not in r["names"]:
            continue
        includes, excludes = r.get("includes", {}), r.get("excludes", {})
        if set(excludes.get("caps", [])) & set(DEFAULT_CAPS):
            continue
        if not set(includes.get("caps", [])) <= set(DEFAULT_CAPS):
            continue
        if "amd64" not in includes.get("arches", ["amd64"]):
            continue
        if r.get("args"):
            return None
        verdict = bpf.ALLOW if r["action"] == "SCMP_ACT_ALLOW" else bpf.ERRNO | r["errnoRet"]
    return verdict


@pytest.mark.parametrize("arch", ["x86_64", "i386"])
def test_default_verdict_of_every_number(default: bpf.Program, arch: str) -> None:
    names = {number: name for name, number in TABLES[arch].items()}
    decided_by_arguments = set()
    for number in [*range(1200), 0x3FFFFFFF]:
        wanted = expected_default(arch, number, names)
        if wanted is None:
            decided_by_arguments.add(names[number])
        else:
            assert bpf.run(default, bpf.AUDIT[arch], number) == wanted, (number, names.get(number))
    wanted_names = {"clone", "personality", "socket"} | (
        {"socketcall"} if arch == "i386" else set()
    )
    assert decided_by_arguments == wanted_names


def test_x32_numbers_are_refused(default: bpf.Program) -> None:
    for number in [X32, X32 + 39, X32 + 520, X32 + 10_000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]:
        assert bpf.run(default, bpf.AUDIT["x86_64"], number) == EPERM


def test_x32_is_allowed_to_a_profile_that_names_it() -> None:
    program = compiled(oci(rule("execve"), architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"]))
    assert bpf.run(program, bpf.AUDIT["x32"], X32 + 520) == bpf.ALLOW
    assert bpf.run(program, bpf.AUDIT["x32"], X32 + 59) == ENOSYS
    assert bpf.run(program, bpf.AUDIT["x32"], X32 + 39) == EPERM
    assert bpf.run(program, bpf.AUDIT["x32"], 59) == bpf.ALLOW
    assert bpf.run(program, bpf.AUDIT["x32"], 520) == ENOSYS


def test_foreign_architecture_is_killed(default: bpf.Program) -> None:
    assert bpf.run(default, bpf.AUDIT["aarch64"], 0) == bpf.KILL_PROCESS
    only_native = compiled(oci(rule("read"), architectures=["SCMP_ARCH_X86_64"]))
    assert bpf.run(only_native, bpf.AUDIT["i386"], 3) == bpf.KILL_PROCESS


@pytest.mark.parametrize("upper", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_socket_families(default: bpf.Program, upper: int) -> None:
    """The kernel looks at the lower half of the family only, so no upper half may open a hole
    (Docker's profile, with 64-bit 'greater than 40', lets 1 << 32 | AF_ALG through)."""
    number = TABLES["x86_64"]["socket"]
    for family in range(70):
        verdict = bpf.run(default, bpf.AUDIT["x86_64"], number, [upper << 32 | family, 1, 0])
        wanted = EPERM if upper or family in (38, 40) or family >= 64 else bpf.ALLOW
        assert verdict == wanted, family


def test_socketcall_makes_no_sockets(default: bpf.Program) -> None:
    number = TABLES["i386"]["socketcall"]
    verdicts = [bpf.run(default, bpf.AUDIT["i386"], number, [call]) for call in range(21)]
    assert verdicts == [EPERM, EPERM, *[bpf.ALLOW] * 19]


@pytest.mark.parametrize("arch", ["x86_64", "i386"])
def test_clone_makes_no_namespaces(default: bpf.Program, arch: str) -> None:
    number = TABLES[arch]["clone"]
    for bit in range(64 if arch == "x86_64" else 32):
        verdict = bpf.run(default, bpf.AUDIT[arch], number, [1 << bit])
        assert verdict == (EPERM if 1 << bit & 0x7E020000 else bpf.ALLOW), bit


@pytest.mark.parametrize("arch", ["x86_64", "i386"])
def test_personality(default: bpf.Program, arch: str) -> None:
    number = TABLES[arch]["personality"]
    allowed = {0, 8, 0x20000, 0x20008, 0xFFFFFFFF}
    for value in sorted({v + d for v in allowed for d in (-1, 0, 1) if 0 <= v + d < 1 << 32}):
        verdict = bpf.run(default, bpf.AUDIT[arch], number, [value])
        assert verdict == (bpf.ALLOW if value in allowed else EPERM), value


def test_capabilities_open_calls() -> None:
    def verdict(caps: list[str], name: str) -> int:
        program = compiled(seccomp.to_oci(None, caps, "x86_64"))
        return bpf.run(program, bpf.AUDIT["x86_64"], TABLES["x86_64"][name], [0x7E020000])

    opened = {
        "CAP_SYS_ADMIN": ["mount", "setns", "unshare", "clone", "clone3", "bpf", "fsopen"],
        "CAP_SYS_TIME": ["clock_settime"],
        "CAP_SYS_PTRACE": ["kcmp", "pidfd_getfd"],
        "CAP_BPF": ["bpf"],
        "CAP_PERFMON": ["perf_event_open"],
        "CAP_SYS_CHROOT": ["chroot"],
        "CAP_DAC_READ_SEARCH": ["open_by_handle_at"],
        "CAP_SYSLOG": ["syslog"],
    }
    for cap, names in opened.items():
        for name in names:
            assert verdict([], name) == (ENOSYS if name == "clone3" else EPERM), name
            assert verdict([cap], name) == bpf.ALLOW, name
    never = ["io_uring_setup", "userfaultfd", "keyctl", "add_key", "kexec_load", "pivot_root"]
    for name in never:
        assert verdict(list(NAMES), name) == EPERM


@pytest.mark.parametrize("arch", ["aarch64", "arm"])
def test_other_architectures_compile(arch: str) -> None:
    program = compiled(seccomp.to_oci(None, DEFAULT_CAPS, arch), arch)
    audit = {"aarch64": 0xC00000B7, "arm": 0x40000028}
    table = TABLES[arch]
    assert bpf.run(program, audit[arch], table["read"]) == bpf.ALLOW
    assert bpf.run(program, audit[arch], table["mount"]) == EPERM
    assert bpf.run(program, audit[arch], table["clone3"]) == ENOSYS
    assert bpf.run(program, audit[arch], 4000) == ENOSYS
    assert bpf.run(program, bpf.AUDIT["x86_64"], 0) == bpf.KILL_PROCESS
    if arch == "aarch64":  # and the 32-bit programs of such a machine
        assert bpf.run(program, audit["arm"], TABLES["arm"]["write"]) == bpf.ALLOW
        assert bpf.run(program, audit["arm"], TABLES["arm"]["set_tls"]) == bpf.ALLOW


def test_common_calls_cost_few_instructions(default: bpf.Program) -> None:
    """A search tree: no call is behind a long list. (The kernel's bitmap spares plain allows the
    run altogether.)"""

    def length(number: int, args: list[int]) -> int:
        steps = 0

        class Counting(list):  # type: ignore[type-arg]
            def __getitem__(self, at: object) -> object:
                nonlocal steps
                steps += 1
                return super().__getitem__(at)  # type: ignore[index]

        bpf.run(Counting(default), bpf.AUDIT["x86_64"], number, args)
        return steps

    assert max(length(n, []) for n in TABLES["x86_64"].values()) <= 36
    assert length(TABLES["x86_64"]["socket"], [2]) <= 18
    assert len(default) < 600


# ---- against libseccomp ----------------------------------------------------------------------

# Values at which one of the comparisons of the default profile changes its mind.
EDGES = sorted(
    {
        v + d & U64
        for v in (0, 8, 38, 39, 40, 64, 0x20000, 0x20008, 1 << 32, U64)
        for d in (-1, 0, 1)
    }
    | {1 << bit for bit in range(64)}
    | {1 << 32 | 38, 0x7E020000}
)


def test_default_equals_libseccomp(libseccomp: bpf.Libseccomp, default: bpf.Program) -> None:
    """Every number, many arguments; the differences are those of the module's docstring."""
    profile = seccomp.to_oci(None, DEFAULT_CAPS, "x86_64")
    theirs = libseccomp.compile(profile)
    for arch in ("x86_64", "i386"):
        names = {number: name for name, number in TABLES[arch].items()}
        compared = 0
        for number in range(800):
            name = names.get(number)
            if name is not None and not libseccomp.knows(name):
                continue  # newer than that library
            if arch == "i386" and name in ("socketcall", "ipc"):
                continue  # libseccomp spreads rules for socket() and the like over these
            values = EDGES if name in ("socket", "personality", "clone") else [0, U64]
            if arch == "i386":
                values = sorted({v & 0xFFFFFFFF for v in values})
            for value in values:
                args = [value, 0, 0, 0, 0, 0]
                want = bpf.run(theirs, bpf.AUDIT[arch], number, args)
                if name is None:
                    assert want == EPERM
                    want = ENOSYS
                assert bpf.run(default, bpf.AUDIT[arch], number, args) == want, (name, hex(value))
                compared += 1
        assert compared > 800


def cases() -> Iterator[tuple[str, list[dict]]]:  # type: ignore[type-arg]
    """Profiles in which combination rules matter."""
    big = 0x1_0000_0005
    for op in ("NE", "LT", "LE", "EQ", "GE", "GT"):
        for value in (0, 5, 0xFFFFFFFF, 1 << 32, big, U64):
            yield f"{op} {value:#x}", [rule("ioctl", args=[arg(1, op, value)])]
    for mask, two in ((0xFF, 5), (U64, big), (0xFF << 32, 1 << 32), (0, 0), (1 << 63 | 1, 1)):
        yield f"MASKED {mask:#x}", [rule("ioctl", args=[arg(2, "MASKED_EQ", mask, two)])]
    yield "and", [rule("ioctl", args=[arg(0, "GE", 3), arg(1, "LT", big), arg(2, "NE", 7)])]
    yield "or", [rule("ioctl", args=[arg(0, "EQ", 3)]), rule("ioctl", args=[arg(1, "EQ", 4)])]
    yield "same argument twice: or", [rule("ioctl", args=[arg(0, "EQ", 3), arg(0, "EQ", 9)])]
    yield "plain wins, last", [rule("ioctl", args=[arg(0, "EQ", 3)]), rule("ioctl", "SCMP_ACT_LOG")]
    yield (
        "plain wins, first",
        [
            rule("ioctl", "SCMP_ACT_LOG"),
            rule("ioctl", args=[arg(0, "EQ", 3)]),
        ],
    )
    yield "first plain wins", [rule("ioctl"), rule("ioctl", "SCMP_ACT_LOG")]
    yield (
        "default action is no rule",
        [
            rule("ioctl", "SCMP_ACT_ERRNO", errnoRet=1),
            rule("ioctl", args=[arg(0, "EQ", 3)]),
        ],
    )
    yield "errno", [rule("ioctl", "SCMP_ACT_ERRNO", errnoRet=77, args=[arg(0, "GT", 3)])]
    yield (
        "trap, kill, trace",
        [
            rule("ioctl", "SCMP_ACT_TRAP", args=[arg(0, "EQ", 3)]),
            rule("read", "SCMP_ACT_KILL"),
            rule("write", "SCMP_ACT_KILL_PROCESS"),
            rule("close", "SCMP_ACT_TRACE", errnoRet=9),
        ],
    )


@pytest.mark.parametrize(("name", "rules"), list(cases()))
@pytest.mark.parametrize("default_action", ["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"])
def test_rules_equal_libseccomp(
    libseccomp: bpf.Libseccomp,
    name: str,
    rules: list[dict],  # type: ignore[type-arg]
    default_action: str,
) -> None:
    profile = oci(*rules, default=default_action, architectures=["SCMP_ARCH_X86_64"])
    mine, theirs = compiled(profile), libseccomp.compile(profile)
    values = [0, 1, 3, 4, 5, 6, 7, 9, 0xFFFFFFFF, 1 << 32, 0x1_0000_0005, 0x1_0000_0006, U64]
    for number in (0, 1, 2, 3, 16):
        for first in values:
            for second in values:
                args = [first, second, second, 0, 0, 0]
                got = bpf.run(mine, bpf.AUDIT["x86_64"], number, args)
                assert got == bpf.run(theirs, bpf.AUDIT["x86_64"], number, args), (number, args)


def test_most_restrictive_condition_wins() -> None:
    program = compiled(
        oci(
            rule("ioctl", args=[arg(0, "GT", 3)]),
            rule("ioctl", "SCMP_ACT_KILL_PROCESS", args=[arg(0, "EQ", 5)]),
            rule("ioctl", "SCMP_ACT_ERRNO", errnoRet=9, args=[arg(0, "LT", 7)]),
        )
    )
    verdicts = [bpf.run(program, bpf.AUDIT["x86_64"], 16, [v]) for v in (3, 5, 6, 8)]
    assert verdicts == [bpf.ERRNO | 9, bpf.KILL_PROCESS, bpf.ERRNO | 9, bpf.ALLOW]


def test_very_long_rule_lists_stay_correct() -> None:
    """Jumps beyond 255 instructions."""
    rules = [rule("ioctl", args=[arg(1, "EQ", 3 * n)]) for n in range(600)]
    program = compiled(oci(*rules, rule("read"), architectures=["SCMP_ARCH_X86_64"]))
    for value in (0, 3, 900, 1797):
        assert bpf.run(program, bpf.AUDIT["x86_64"], 16, [0, value]) == bpf.ALLOW
        assert bpf.run(program, bpf.AUDIT["x86_64"], 16, [0, value + 1]) == EPERM
    assert bpf.run(program, bpf.AUDIT["x86_64"], 0) == bpf.ALLOW
    assert bpf.run(program, bpf.AUDIT["x86_64"], 317) == EPERM


# ---- in a real process -----------------------------------------------------------------------

# Calls that end the process or stop it for long. The two of uprobes pass every filter: the kernel
# puts them into programs itself (seccomp_uprobe_exception, Linux 6.14).
UNPROBED = {
    *("exit", "exit_group", "fork", "vfork", "pause", "rt_sigreturn", "sigreturn", "sigsuspend"),
    *("rt_sigsuspend", "uretprobe", "uprobe", "sync", "close", "read", "write"),
}


def test_kernel_agrees_about_every_number(probe: bpf.Probe) -> None:
    """All numbers 0 to 600 with arguments of -1. Refusals get an errno that no call returns."""
    profile = seccomp.to_oci(None, DEFAULT_CAPS, "x86_64")
    profile["defaultErrnoRet"] = 3999
    program = seccomp.compile(profile)
    decoded = bpf.decode(program)
    names = {number: name for name, number in TABLES["x86_64"].items()}
    numbers = [n for n in range(601) if names.get(n) not in UNPROBED]
    results = probe.calls(program, [(64, n, [U64] * 6) for n in numbers])
    for number, result in zip(numbers, results, strict=True):
        verdict = bpf.run(decoded, bpf.AUDIT["x86_64"], number, [U64] * 6)
        if verdict == bpf.ALLOW:
            assert result != -3999, names[number]
        else:
            assert result == -(verdict & 0xFFFF), (number, names.get(number))


def test_refusals_in_a_real_process(probe: bpf.Probe) -> None:
    program = seccomp.compile(seccomp.to_oci(None, DEFAULT_CAPS))
    n64, n32 = TABLES["x86_64"], TABLES["i386"]
    refused = [
        (64, n64["socket"], [38, 5, 0]),
        (64, n64["socket"], [40, 1, 0]),
        (64, n64["socket"], [1 << 32 | 38, 5, 0]),
        (64, n64["io_uring_setup"], [1, 0]),
        (64, n64["bpf"], [0]),
        (64, n64["userfaultfd"], [0]),
        (64, n64["keyctl"], [0]),
        (64, n64["add_key"], []),
        (64, n64["unshare"], [0x10000000]),
        (64, n64["clone"], [0x10000000 | 17]),
        (64, n64["open_by_handle_at"], [-1 & U64]),
        (64, n64["mount"], []),
        (64, X32 + 39, []),
        (32, n32["socket"], [38, 5, 0]),
        (32, n32["socketcall"], [1, 0]),
        (32, n32["mount"], []),
    ]
    assert probe.calls(program, refused) == [-errno.EPERM] * len(refused)
    absent = [(64, n64["clone3"], []), (64, 335 + 60, []), (32, n32["clone3"], []), (64, 4000, [])]
    assert probe.calls(program, absent) == [-errno.ENOSYS] * len(absent)
    sockets = [(64, n64["socket"], [family, 2, 0]) for family in (1, 2, 10)]
    assert min(probe.calls(program, sockets, flags=4)) > 0
    assert probe.calls(program, [(64, n64["getppid"], []), (32, n32["getpid"], [])])[0] > 0


def test_hole_of_the_upper_half_is_real(probe: bpf.Probe) -> None:
    """Why the profile differs from Docker's: the kernel drops the upper half of the family."""
    number = TABLES["x86_64"]["socket"]
    assert probe.calls(b"", [(64, number, [1 << 32 | 1, 1, 0])])[0] > 0


# ---- profiles as input -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"defaultAction": 1}',
        '{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": {}}',
        '{"defaultAction": "SCMP_ACT_ERRNO", "syscals": []}',
        '{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": "read", "action": "x"}]}',
        '{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "actoin": "x"}]}',
        '{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"],'
        ' "archMap": [{"architecture": "SCMP_ARCH_X86"}]}',
        "[" * 100_000,
    ],
)
def test_malformed_profile_is_an_error(text: str) -> None:
    with pytest.raises(InvalidArgument):
        seccomp.to_oci(text, [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"defaultAction": "SCMP_ACT_NONE"}, "SCMP_ACT_NONE"),
        ({"defaultErrnoRet": 5000}, "5000"),
        ({"architectures": ["SCMP_ARCH_Z80"]}, "SCMP_ARCH_Z80"),
        ({"syscalls": [rule("read", "SCMP_ACT_MAYBE")]}, "SCMP_ACT_MAYBE"),
        ({"syscalls": [rule("reed", "SCMP_ACT_KILL")]}, "reed"),
        ({"syscalls": [rule("read", args=[arg(6, "EQ", 1)])]}, "6"),
        ({"syscalls": [rule("read", args=[arg(-1, "EQ", 1)])]}, "-1"),
        ({"syscalls": [rule("read", args=[arg(0, "LIKE", 1)])]}, "LIKE"),
        ({"syscalls": [rule("read", args=[arg(0, "EQ", -1)])]}, "64 bits"),
        ({"syscalls": [rule("read", args=[arg(0, "EQ", 1 << 64)])]}, "64 bits"),
        ({"syscalls": [{"action": "SCMP_ACT_ALLOW"}]}, "names"),
        ({"syscalls": [rule("ioctl", args=[arg(0, "EQ", n)]) for n in range(2000)]}, "too large"),
    ],
)
def test_bad_values_are_errors(change: dict, words: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(InvalidArgument, match=re.escape(words)):
        seccomp.compile({**oci(), **change})


def test_what_is_not_supported_says_so() -> None:
    with pytest.raises(Unsupported, match="NOTIFY"):
        seccomp.compile(oci(rule("mount", "SCMP_ACT_NOTIFY")))
    with pytest.raises(Unsupported, match="listener"):
        seccomp.compile(oci(listenerPath="/run/x"))
    with pytest.raises(Unsupported, match="riscv64"):
        seccomp.compile(oci(), arch="riscv64")


def test_names_of_other_machines_are_no_error() -> None:
    program = compiled(oci(rule("s390_pci_mmio_read", "SCMP_ACT_KILL"), rule(["read", "madeup"])))
    assert bpf.run(program, bpf.AUDIT["x86_64"], 0) == bpf.ALLOW


def test_kernel_version_conditions() -> None:
    text = json.dumps(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [
                rule("read", includes={"minKernel": "4.8"}),
                rule("write", includes={"minKernel": "99.0"}),
                rule("close", excludes={"minKernel": "4.8"}),
            ],
        }
    )
    assert [r["names"] for r in seccomp.to_oci(text, [])["syscalls"]] == [["read"]]
    with pytest.raises(InvalidArgument, match="minKernel"):
        seccomp.to_oci(text.replace("99.0", "new"), [])


def test_podman_errno_names() -> None:
    text = json.dumps(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrno": "ENOSYS",
            "defaultErrnoRet": 38,
            "syscalls": [rule("mount", "SCMP_ACT_ERRNO", errno="EPERM")],
        }
    )
    program = compiled(seccomp.to_oci(text, []))
    assert bpf.run(program, bpf.AUDIT["x86_64"], TABLES["x86_64"]["mount"]) == EPERM
    assert bpf.run(program, bpf.AUDIT["x86_64"], 0) == ENOSYS
    with pytest.raises(InvalidArgument, match="ENOTHING"):
        seccomp.to_oci(text.replace("ENOSYS", "ENOTHING"), [])


def test_flags() -> None:
    assert seccomp.filter_flags(oci()) == 4
    assert seccomp.filter_flags(oci(flags=[])) == 0
    assert seccomp.filter_flags(oci(flags=["SECCOMP_FILTER_FLAG_LOG"])) == 2
    with pytest.raises(InvalidArgument, match="NEW_LISTENER"):
        seccomp.filter_flags(oci(flags=["SECCOMP_FILTER_FLAG_NEW_LISTENER"]))


# ---- the cache -------------------------------------------------------------------------------


def test_cache_gives_the_same_program(tmp_path: os.PathLike[str]) -> None:
    directory = os.path.join(tmp_path, "seccomp")
    profile = seccomp.to_oci(None, DEFAULT_CAPS)
    fresh = seccomp.compile(profile, directory)
    assert os.stat(directory).st_mode & 0o777 == 0o700
    (name,) = os.listdir(directory)
    before = os.stat(os.path.join(directory, name)).st_ino
    assert seccomp.compile(profile, directory) == fresh == seccomp.compile(profile)
    assert os.stat(os.path.join(directory, name)).st_ino == before


def test_cache_key_covers_what_decides(tmp_path: os.PathLike[str]) -> None:
    directory = os.path.join(tmp_path, "seccomp")
    variants = [
        (oci(rule("read")), "x86_64"),
        (oci(rule("write")), "x86_64"),
        (oci(rule("read"), default="SCMP_ACT_KILL"), "x86_64"),
        (oci(rule("read"), defaultErrnoRet=9), "x86_64"),
        (oci(rule("read"), architectures=["SCMP_ARCH_X86"]), "x86_64"),
        (oci(rule("read", args=[arg(0, "EQ", 1)])), "x86_64"),
        (oci(rule("read")), "aarch64"),
    ]
    programs = [seccomp.compile(profile, directory, arch) for profile, arch in variants]
    assert len(os.listdir(directory)) == len(variants) == len(set(programs))
    again = [seccomp.compile(profile, directory, arch) for profile, arch in variants]
    assert again == programs


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "huge", "symlink", "writable"])
def test_damaged_cache_entries_are_not_used(tmp_path: os.PathLike[str], damage: str) -> None:
    directory = os.path.join(tmp_path, "seccomp")
    profile = oci(rule("read"))
    good = seccomp.compile(profile, directory)
    (name,) = os.listdir(directory)
    path = os.path.join(directory, name)
    evil = seccomp.compile(oci(default="SCMP_ACT_ALLOW"), os.path.join(tmp_path, "other"))
    with open(path, "rb") as f:
        content = f.read()
    if damage == "flip":
        content = content[:32] + evil
    elif damage == "truncate":
        content = content[:-8]
    elif damage == "empty":
        content = b""
    elif damage == "huge":
        content += b"\0" * 100_000
    with open(path, "wb") as f:
        f.write(content)
    if damage in ("symlink", "writable"):
        source = os.path.join(tmp_path, "other", os.listdir(os.path.join(tmp_path, "other"))[0])
        os.unlink(path)
        if damage == "symlink":
            os.symlink(source, path)
        else:
            os.rename(source, path)
            os.chmod(path, 0o666)
    assert seccomp.compile(profile, directory) == good


def test_directory_of_others_is_not_used(tmp_path: os.PathLike[str]) -> None:
    directory = os.path.join(tmp_path, "seccomp")
    os.mkdir(directory)
    os.chmod(directory, 0o777)
    profile = oci(rule("read"))
    assert seccomp.compile(profile, directory) == seccomp.compile(profile)
    assert os.listdir(directory) == []


def test_cache_that_cannot_be_written_is_no_error(tmp_path: os.PathLike[str]) -> None:
    blocked = os.path.join(tmp_path, "file")
    open(blocked, "w").close()
    profile = oci(rule("read"))
    assert seccomp.compile(profile, os.path.join(blocked, "x")) == seccomp.compile(profile)
