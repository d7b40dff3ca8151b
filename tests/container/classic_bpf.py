"""For tests of seccomp filters: an interpreter of classic BPF, libseccomp by way of ctypes, and a
static program that makes system calls under a filter."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Sequence

AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "x32": 0xC000003E, "aarch64": 0xC00000B7}

ALLOW, LOG, KILL_PROCESS, KILL_THREAD = 0x7FFF0000, 0x7FFC0000, 0x80000000, 0
ERRNO = 0x00050000

Program = list[tuple[int, int, int, int]]


def decode(program: bytes) -> Program:
    return list(struct.iter_unpack("=HBBI", program))


def check(program: Program) -> None:
    """What the kernel's bpf_check_classic and seccomp_check_filter refuse."""
    assert 0 < len(program) <= 4096
    for at, (code, jt, jf, k) in enumerate(program):
        if code == 0x20:
            assert k % 4 == 0 and k < 64
        elif code == 0x05:
            assert at + 1 + k < len(program)
        elif code in (0x15, 0x25, 0x35, 0x45):
            assert at + 1 + max(jt, jf) < len(program)
        else:
            assert code in (0x06, 0x54), hex(code)
    assert program[-1][0] == 0x06


def run(program: Program, arch: int, number: int, args: Sequence[int] = ()) -> int:
    """The filter's return value for one system call."""
    padded = [a & (1 << 64) - 1 for a in (*args, *(0,) * 6)][:6]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *padded)
    words = struct.unpack("<16I", data)
    a = pc = 0
    while True:
        code, jt, jf, k = program[pc]
        pc += 1
        if code == 0x20:
            a = words[k // 4]
        elif code == 0x06:
            return k
        elif code == 0x15:
            pc += jt if a == k else jf
        elif code == 0x35:
            pc += jt if a >= k else jf
        elif code == 0x25:
            pc += jt if a > k else jf
        elif code == 0x45:
            pc += jt if a & k else jf
        elif code == 0x54:
            a &= k
        elif code == 0x05:
            pc += k
        else:  # X register and memory, which libseccomp uses for nothing here
            raise AssertionError(f"instruction {code:#x}")


# ---- libseccomp --------------------------------------------------------------------------------

OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
TOKENS = {"SCMP_ARCH_X86_64": 0xC000003E, "SCMP_ARCH_X86": 0x40000003, "SCMP_ARCH_X32": 0x4000003E}
ACTIONS = {
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_ALLOW": ALLOW,
}


class _Compare(ctypes.Structure):
    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


def _library() -> ctypes.CDLL:
    lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_init.argtypes = [ctypes.c_uint32]
    lib.seccomp_release.argtypes = [ctypes.c_void_p]
    lib.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    lib.seccomp_arch_remove.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    lib.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    lib.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    lib.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    lib.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Compare),
    ]
    return lib


class Libseccomp:
    """Compiles OCI linux.seccomp in the way of runc (libcontainer/seccomp)."""

    UNKNOWN = -1  # __NR_SCMP_ERROR

    def __init__(self) -> None:
        self.lib = _library()

    def knows(self, name: str) -> bool:
        return bool(self.lib.seccomp_syscall_resolve_name(name.encode()) != self.UNKNOWN)

    def compile(self, oci: dict) -> Program:  # type: ignore[type-arg]
        default = self._action(oci["defaultAction"], oci.get("defaultErrnoRet"))
        context = self.lib.seccomp_init(default)
        assert context
        try:
            for token in oci.get("architectures") or []:
                assert self.lib.seccomp_arch_add(context, TOKENS[token]) in (0, -17)  # EEXIST
            for rule in oci["syscalls"]:
                action = self._action(rule["action"], rule.get("errnoRet"))
                if action == default:
                    continue
                for name in rule["names"]:
                    number = self.lib.seccomp_syscall_resolve_name(name.encode())
                    if number != self.UNKNOWN:
                        self._add(context, action, number, rule.get("args") or [])
            return self._export(context)
        finally:
            self.lib.seccomp_release(context)

    def _action(self, name: str, number: int | None) -> int:
        value = ACTIONS[name]
        if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
            value |= 1 if number is None else number
        return value

    def _add(self, context: int, action: int, number: int, args: list[dict]) -> None:  # type: ignore[type-arg]
        if len({a["index"] for a in args}) < len(args):
            for argument in args:
                self._add(context, action, number, [argument])
            return
        array = (_Compare * max(len(args), 1))()
        for slot, a in zip(array, args, strict=False):  # room for one when there is none
            slot.arg, slot.op = a["index"], OPERATORS[a["op"]]
            slot.datum_a, slot.datum_b = a["value"], a.get("valueTwo", 0)
        result = self.lib.seccomp_rule_add_array(context, action, number, len(args), array)
        assert result in (0, -17), (result, number, args)  # -EEXIST: covered already

    def _export(self, context: int) -> Program:
        with tempfile.TemporaryFile() as f:
            assert self.lib.seccomp_export_bpf(context, f.fileno()) == 0
            f.seek(0)
            return decode(f.read())


# ---- a real process ----------------------------------------------------------------------------

PROBE = r"""
// Reads a filter (length, then struct sock_filter) and calls from stdin, installs the filter, and
// answers each call with its result: {int32 abi, nr; uint64 args[6]} -> int64.
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

struct call { int32_t abi, nr; uint64_t a[6]; };

static int all(int fd, void *p, size_t n, int out)
{
    char *c = p;
    while (n) {
        ssize_t r = out ? write(fd, c, n) : read(fd, c, n);
        if (r <= 0) return 0;
        c += r, n -= r;
    }
    return 1;
}

static long call64(long n, const uint64_t *a)
{
    long r;
    register long r10 asm("r10") = a[3], r8 asm("r8") = a[4], r9 asm("r9") = a[5];
    asm volatile("syscall" : "=a"(r) : "a"(n), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8),
                 "r"(r9) : "rcx", "r11", "memory");
    return r;
}

static long call32(long n, const uint64_t *a)
{
    long r;
    asm volatile("int $0x80" : "=a"(r) : "a"(n), "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]),
                 "D"(a[4]) : "r8", "r9", "r10", "r11", "memory");
    return (int32_t)r;
}

int main(void)
{
    static struct sock_filter filter[4096];
    struct sock_fprog program = { 0, filter };
    uint32_t n, flags;
    struct call c;
    // What calls with wild arguments could leave behind goes away with these namespaces.
    if (unshare(CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWNS)) return 3;
    if (!all(0, &n, 4, 0) || !all(0, &flags, 4, 0)) return 4;
    if (n > 4096 || !all(0, filter, n * 8, 0)) return 4;
    program.len = n;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return 5;
    if (n && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program)) return 6;
    while (all(0, &c, sizeof c, 0)) {
        int64_t r = c.abi == 32 ? call32(c.nr, c.a) : call64(c.nr, c.a);
        if (!all(1, &r, 8, 1)) return 7;
    }
    return 0;
}
"""


class Probe:
    """The program above, built in ``directory``."""

    def __init__(self, directory: str) -> None:
        source, self.path = os.path.join(directory, "probe.c"), os.path.join(directory, "probe")
        with open(source, "w") as f:
            f.write(PROBE)
        compiler = shutil.which("cc") or "gcc"
        subprocess.run([compiler, "-O1", "-static", "-o", self.path, source], check=True)

    def calls(
        self, program: bytes, calls: Iterable[tuple[int, int, Sequence[int]]], flags: int = 0
    ) -> list[int]:
        """Results (negative errno, as the kernel returns) of calls (32 or 64, number, args)."""
        packed = b"".join(
            struct.pack("=iI6Q", abi, nr, *[a & (1 << 64) - 1 for a in (*args, *(0,) * 6)][:6])
            for abi, nr, args in calls
        )
        head = struct.pack("=II", len(program) // 8, flags)
        done = subprocess.run(
            [self.path], input=head + program + packed, capture_output=True, timeout=60
        )
        assert done.returncode == 0, (done.returncode, done.stderr, len(done.stdout) // 8)
        return [value for (value,) in struct.iter_unpack("=q", done.stdout)]
