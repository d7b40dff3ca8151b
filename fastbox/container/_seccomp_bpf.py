"""The compiler behind ``seccomp.compile``: rules in, classic BPF out.

Code is built from blocks that end in a return and hold only jumps inside themselves, so that
blocks can be put one behind the other without any fixing up of addresses.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import TYPE_CHECKING

import msgspec

from ..errors import InvalidArgument, StoreError, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Instruction = tuple[int, int, int, int]  # code, jt, jf, k
    Code = list[Instruction]
    Emitter = Callable[["Argument", bool], "Code | None"]

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
VERSION = b"fastbox seccomp compiler 1"

# linux/bpf_common.h
LD, JA, JEQ, JGT, JGE, AND, RET = 0x20, 0x05, 0x15, 0x25, 0x35, 0x54, 0x06

# linux/seccomp.h, most restrictive first (the kernel's own order of precedence)
ACTIONS = {
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
WITH_ERRNO = (ACTIONS["SCMP_ACT_ERRNO"], ACTIONS["SCMP_ACT_TRACE"])
PERMISSIVE = (0x7FF00000, 0x7FFC0000, 0x7FFF0000)
ERRNO_EPERM, ERRNO_ENOSYS = 0x00050001, 0x00050026
KILL_PROCESS = 0x80000000

OFFSET_NR, OFFSET_ARCH, OFFSET_ARGS = 0, 4, 16  # struct seccomp_data
X32_BIT = 0x40000000

# linux/audit.h
AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
WIDE = ("x86_64", "x32", "aarch64")  # x32 passes whole registers, whatever its pointers are
TABLE_OF = {
    "SCMP_ARCH_X86_64": "x86_64",
    "SCMP_ARCH_X86": "i386",
    "SCMP_ARCH_X32": "x32",
    "SCMP_ARCH_AARCH64": "aarch64",
    "SCMP_ARCH_ARM": "arm",
}
# Which programs a kernel can run; architectures outside cannot occur and are left out.
FAMILY = {
    "x86_64": ("x86_64", "i386", "x32"),
    "i386": ("i386",),
    "aarch64": ("aarch64", "arm"),
    "arm": ("arm",),
}
FOREIGN = frozenset(
    f"SCMP_ARCH_{name}"
    for name in (
        *("MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32", "PPC", "PPC64"),
        *("PPC64LE", "S390", "S390X", "PARISC", "PARISC64", "RISCV64", "LOONGARCH64", "M68K"),
        *("SH", "SHEB"),
    )
)
U64 = (1 << 64) - 1


class Argument(msgspec.Struct, frozen=True):
    """One condition on one argument."""

    index: int
    value: int
    op: str
    valueTwo: int = 0


class Rule(msgspec.Struct):
    """One OCI ``linux.seccomp.syscalls`` entry."""

    names: list[str]
    action: str
    errnoRet: int | None = None
    args: list[Argument] | None = None


class Filter(msgspec.Struct):
    """OCI ``linux.seccomp``, as far as it decides on verdicts."""

    defaultAction: str
    defaultErrnoRet: int | None = None
    architectures: list[str] | None = None
    syscalls: list[Rule] | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What happens to one system call: the alternatives in order, else ``otherwise``."""

    otherwise: int
    alternatives: tuple[tuple[tuple[Argument, ...], int], ...] = ()


Tables = dict[str, dict[str, int]]
_raw: bytes | None = None
_tables: tuple[Tables, frozenset[str]] | None = None


def _raw_tables(data_dir: str) -> bytes:
    global _raw
    if _raw is None:
        path = os.path.join(data_dir, "syscalls.json")
        try:
            with open(path, "rb") as f:
                _raw = f.read()
        except OSError as e:
            raise StoreError(f"reading the system call tables {path} failed: {e.strerror}") from e
    return _raw


def _load_tables(data_dir: str) -> tuple[Tables, frozenset[str]]:
    """(architecture -> name -> number, every name known anywhere), decoded once."""
    global _tables
    if _tables is None:
        try:
            parsed = msgspec.json.decode(
                _raw_tables(data_dir), type=dict[str, dict[str, int] | list[str]]
            )
        except msgspec.DecodeError as e:
            raise StoreError(f"the system call tables in {data_dir} are damaged: {e}") from e
        tables = {name: entry for name, entry in parsed.items() if isinstance(entry, dict)}
        _tables = tables, frozenset(name for entry in parsed.values() for name in entry)
    return _tables


def fingerprint(data_dir: str) -> bytes:
    """What besides the filter decides on the result: compiler version, byte order, tables."""
    return VERSION + sys.byteorder.encode() + b"\0" + _raw_tables(data_dir)


def compile(oci: Filter, machine: str, data_dir: str) -> bytes:
    """See ``seccomp.compile``."""
    tables, names = _load_tables(data_dir)
    if machine not in FAMILY or sys.byteorder != "little":
        raise Unsupported(
            f"seccomp: no system call table for the architecture {machine}",
            hint="--security-opt seccomp=unconfined runs without a filter",
        )
    default = _action(oci.defaultAction, oci.defaultErrnoRet)
    rules = [(rule, _action(rule.action, rule.errnoRet)) for rule in oci.syscalls or []]
    for rule, action in rules:
        _check_rule(rule, action, names)
    chosen = _architectures(oci, machine)
    code: Code = [(LD, 0, 0, OFFSET_ARCH)]
    for arch in FAMILY[machine]:
        if arch not in chosen or arch == "x32":
            continue
        ranges = _ranges(tables[arch], arch, rules, default)
        if arch == "x86_64":
            ranges = [r for r in ranges if r[0] < X32_BIT] + (
                _ranges(tables["x32"], "x32", rules, default)
                if "x32" in chosen
                else [(X32_BIT, Verdict(ERRNO_EPERM))]
            )
        wide = arch in WIDE
        body = [(LD, 0, 0, OFFSET_NR), *_tree(_merge(ranges), wide)]
        code += [(JEQ, 1, 0, AUDIT[arch]), (JA, 0, 0, len(body)), *body]
    # An architecture that the profile does not list: as libseccomp's SCMP_ACT_BADARCH.
    code.append((RET, 0, 0, KILL_PROCESS))
    if len(code) > MAX_INSTRUCTIONS:
        raise InvalidArgument(
            f"seccomp profile too large: {len(code)} instructions, the kernel takes "
            f"{MAX_INSTRUCTIONS}"
        )
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _architectures(oci: Filter, machine: str) -> set[str]:
    chosen = {machine}  # always, as in libseccomp: else the container could not do one call
    for name in oci.architectures or []:
        if name in TABLE_OF:
            chosen.add(TABLE_OF[name])
        elif name not in FOREIGN and name != "SCMP_ARCH_NATIVE":
            raise InvalidArgument(f"invalid seccomp profile: unknown architecture {name!r}")
    return chosen


def _action(name: str, number: int | None) -> int:
    """SECCOMP_RET_* of an action; ``number`` is errnoRet, by default EPERM."""
    if name == "SCMP_ACT_NOTIFY":
        raise Unsupported("seccomp: SCMP_ACT_NOTIFY is not supported")
    if name not in ACTIONS:
        raise InvalidArgument(
            f"invalid seccomp profile: unknown action {name!r}", hint="known: " + ", ".join(ACTIONS)
        )
    action = ACTIONS[name]
    if action not in WITH_ERRNO:
        return action
    value = 1 if number is None else number
    # ERRNO is capped at MAX_ERRNO by the kernel; a value beyond is a mistake, not a wish.
    if not 0 <= value <= (4095 if action == ACTIONS["SCMP_ACT_ERRNO"] else 0xFFFF):
        raise InvalidArgument(f"invalid seccomp profile: errnoRet {value} is out of range")
    return action | value


def _check_rule(rule: Rule, action: int, names: frozenset[str]) -> None:
    for argument in rule.args or []:
        if not 0 <= argument.index <= 5:
            raise InvalidArgument(
                f"invalid seccomp profile: argument index {argument.index} is not 0 to 5"
            )
        if argument.op not in _OPERATORS:
            raise InvalidArgument(
                f"invalid seccomp profile: unknown operator {argument.op!r}",
                hint="known: " + ", ".join(_OPERATORS),
            )
        if not 0 <= argument.value <= U64 or not 0 <= argument.valueTwo <= U64:
            raise InvalidArgument("invalid seccomp profile: a value does not fit in 64 bits")
    if action & 0xFFFF0000 in PERMISSIVE:
        return  # allowing what does not exist here is nothing
    for name in rule.names:
        if name not in names:
            # Leaving out a denial that was misspelled would be a filter with a hole.
            raise InvalidArgument(f"invalid seccomp profile: unknown system call {name!r}")


def _ranges(
    table: dict[str, int], arch: str, rules: Iterable[tuple[Rule, int]], default: int
) -> list[tuple[int, Verdict]]:
    """(first number, verdict) of all ranges of an architecture's numbers, ascending."""
    always: dict[int, int] = {}
    under: dict[int, list[tuple[tuple[Argument, ...], int]]] = {}
    for rule, action in rules:
        if action == default:
            continue
        alternatives = _alternatives(rule.args or [])
        for name in rule.names:
            number = table.get(name)
            if number is None:
                continue
            if not alternatives:
                always.setdefault(number, action)
            else:
                under.setdefault(number, []).extend((a, action) for a in alternatives)
    ordinary = Verdict(default)
    unknown = ordinary if default & 0xFFFF0000 in PERMISSIVE else Verdict(ERRNO_ENOSYS)
    ranges: list[tuple[int, Verdict]] = []
    # x32 and x86_64 share one number space, at its two halves.
    expected = X32_BIT if arch == "x32" else 0
    for number in sorted(set(table.values())):
        if number > expected:
            ranges.append((expected, unknown))
        if number in always:
            verdict = Verdict(always[number])
        elif number in under:
            strictest_first = sorted(under[number], key=lambda entry: _rank(entry[1]))
            verdict = Verdict(default, tuple(strictest_first))
        else:
            verdict = ordinary
        ranges.append((number, verdict))
        expected = number + 1
    ranges.append((expected, unknown))
    return ranges


def _rank(action: int) -> int:
    return -1 if action == KILL_PROCESS else action & 0xFFFF0000


def _alternatives(arguments: list[Argument]) -> list[tuple[Argument, ...]]:
    """A rule's conditions as alternatives of conjunctions (see the rules of ``seccomp``)."""
    if not arguments:
        return []
    if len({argument.index for argument in arguments}) < len(arguments):
        return [(argument,) for argument in arguments]
    return [tuple(arguments)]


def _merge(ranges: list[tuple[int, Verdict]]) -> list[tuple[int, Verdict]]:
    merged: list[tuple[int, Verdict]] = []
    for start, verdict in ranges:
        if not merged or merged[-1][1] != verdict:
            merged.append((start, verdict))
    return merged


def _tree(ranges: list[tuple[int, Verdict]], wide: bool) -> Code:
    """Code that finds the range that the number in the accumulator belongs to."""
    if len(ranges) == 1:
        return _verdict(ranges[0][1], wide)
    if len(ranges) == 3 and ranges[0][1] == ranges[2][1] and ranges[1][0] + 1 == ranges[2][0]:
        one, around = ranges[1][1], ranges[0][1]
        return _branch(JEQ, ranges[1][0], _verdict(one, wide), _verdict(around, wide))
    middle = len(ranges) // 2
    pivot = ranges[middle][0]
    return _branch(JGE, pivot, _tree(ranges[middle:], wide), _tree(ranges[:middle], wide))


def _branch(jump: int, k: int, if_true: Code, if_false: Code) -> Code:
    """if (A jump k) if_true else if_false; conditional jumps reach 255, JA any distance."""
    if len(if_false) <= 255:
        return [(jump, len(if_false), 0, k), *if_false, *if_true]
    return [(jump, 0, 1, k), (JA, 0, 0, len(if_false)), *if_false, *if_true]


def _verdict(verdict: Verdict, wide: bool) -> Code:
    code: Code = []
    for arguments, action in verdict.alternatives:
        code += _conjunction(arguments, action, wide)
    return [*code, (RET, 0, 0, verdict.otherwise)]


def _conjunction(arguments: tuple[Argument, ...], action: int, wide: bool) -> Code:
    """Return ``action`` if all conditions hold, else fall through to what follows."""
    tests: list[Code] = []
    for argument in arguments:
        test = _OPERATORS[argument.op](argument, wide)
        if test is None:
            return []  # can never hold
        tests.append(test)
    # In a test, a jump of FAIL leads behind the return.
    code = [instruction for test in tests for instruction in test]
    code.append((RET, 0, 0, action))
    end = len(code)
    return [
        (op, end - at - 1 if jt == FAIL else jt, end - at - 1 if jf == FAIL else jf, k)
        for at, (op, jt, jf, k) in enumerate(code)
    ]


FAIL = 256  # a jump target that does not occur: a conjunction has at most 6 * 7 + 1 instructions


def _words(argument: Argument) -> tuple[int, int]:
    return argument.value >> 32, argument.value & 0xFFFFFFFF


def _load(argument: Argument, high: bool) -> Instruction:
    return (LD, 0, 0, OFFSET_ARGS + 8 * argument.index + (4 if high else 0))


def _equal(argument: Argument, wide: bool) -> Code | None:
    high, low = _words(argument)
    test = [_load(argument, False), (JEQ, 0, FAIL, low)]
    if wide:
        return [_load(argument, True), (JEQ, 0, FAIL, high), *test]
    return None if high else test


def _not_equal(argument: Argument, wide: bool) -> Code | None:
    high, low = _words(argument)
    test = [_load(argument, False), (JEQ, FAIL, 0, low)]
    if wide:
        return [_load(argument, True), (JEQ, 0, 2, high), *test]
    return [] if high else test


def _ordered(jump: int, inverted: bool) -> Emitter:
    """GE (JGE), GT (JGT) and their negations LT and LE, on 64 bits."""

    def emit(argument: Argument, wide: bool) -> Code | None:
        high, low = _words(argument)
        yes, no = (FAIL, 0) if inverted else (0, FAIL)
        test = [_load(argument, False), (jump, yes, no, low)]
        if not wide:
            if high:  # every 32-bit value is below
                return [] if inverted else None
            return test
        # high word above: greater; below: less; equal: the low word decides
        above, below = (FAIL, 2) if inverted else (3, FAIL)
        return [_load(argument, True), (JGT, above, 0, high), (JEQ, 0, below, high), *test]

    return emit


def _masked_equal(argument: Argument, wide: bool) -> Code | None:
    """``arg & value == valueTwo``; words whose mask is 0 are not looked at."""
    mask, wanted = argument.value, argument.valueTwo
    if wanted & ~mask or (not wide and wanted >> 32):
        return None
    code: Code = []
    for high in (True, False) if wide else (False,):
        shift = 32 if high else 0
        part, value = mask >> shift & 0xFFFFFFFF, wanted >> shift & 0xFFFFFFFF
        if part:
            code.append(_load(argument, high))
            if part != 0xFFFFFFFF:
                code.append((AND, 0, 0, part))
            code.append((JEQ, 0, FAIL, value))
    return code


_OPERATORS: dict[str, Emitter] = {
    "SCMP_CMP_NE": _not_equal,
    "SCMP_CMP_LT": _ordered(JGE, True),
    "SCMP_CMP_LE": _ordered(JGT, True),
    "SCMP_CMP_EQ": _equal,
    "SCMP_CMP_GE": _ordered(JGE, False),
    "SCMP_CMP_GT": _ordered(JGT, False),
    "SCMP_CMP_MASKED_EQ": _masked_equal,
}

# msgspec analyses a type when it is first used, which two threads must not do at the same time.
msgspec.json.Decoder(Filter)
