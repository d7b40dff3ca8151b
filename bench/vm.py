"""Virtual machines as contestants: qemu with Debian's cloud kernel and an initramfs of one program.

Everything is in their favour: the kernel is loaded by qemu itself, nothing is compressed twice, no
module is loaded that is not needed, no disk is looked for, and init is a static program that says
so at once.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import select
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import IO, NamedTuple

from bench.commands import CommandFailed, begin, killed_if_interrupted, last_words
from bench.peers import HERE, compile_c
from bench.userland import Entry, cpio, needed_modules, read, redis_files, with_parents

PROGRAM = "qemu-system-x86_64"
MARK = b"!FB!"  # what guest.c says
MEMORY = 128  # MiB
# Machine type -> its network device and the modules of that device (and of its bus).
MACHINES = {
    "microvm": ("virtio-net-device", ["virtio_mmio", "virtio_net"]),
    "q35": ("virtio-net-pci", ["virtio_pci", "virtio_net"]),
}
_BOOTS_WITHIN = 60.0  # seconds of a whole boot
_KVM_BOOTS_WITHIN = 3.0  # where KVM works a boot takes less than one
_KVM_PROCESSORS = ("max", "max,-arch-capabilities")


class Kernel(NamedTuple):
    """A kernel and its modules' directory."""

    image: str
    modules: str


class Accelerator(NamedTuple):
    """How guests' instructions are run.

    Attributes:
        name: ``"KVM"`` or ``"TCG"``. options: of qemu's command line. why: not KVM, "" if it is.
    """

    name: str
    options: list[str]
    why: str


def kernel() -> Kernel:
    """An installed cloud kernel, or the one that tools/kernel.sh unpacked.

    Raises:
        FileNotFoundError: there is none.
    """
    for root in ("", os.path.join(HERE, "bin", "kernel")):
        for image in sorted(glob.glob(f"{root}/boot/vmlinuz-*-cloud-*"), reverse=True):
            version = os.path.basename(image).removeprefix("vmlinuz-")
            modules = f"{root}/lib/modules/{version}"
            if os.path.isdir(modules):
                return Kernel(image, modules)
    raise FileNotFoundError("no Debian cloud kernel is here (make bench-deps fetches it)")


class Machines:
    """Starts virtual machines; finds out once whether KVM works here.

    Args:
        directory: an existing one for the initramfs images.

    Attributes:
        accelerator: what they run on. images: name of an initramfs -> path.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.kernel = kernel()
        init = compile_c(os.path.join(HERE, "guest.c"), "guest", "-static", "-Os", "-s")
        base = [
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            Entry("dev/null", stat.S_IFCHR | 0o666, device=(1, 3)),
            Entry("dev/urandom", stat.S_IFCHR | 0o666, device=(1, 9)),
            Entry("init", stat.S_IFREG | 0o755, read(init)),
        ]
        self.images = {"byte": self._image("byte", base)}
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            redis = list(redis_files())
            for machine, (_, modules) in MACHINES.items():
                files = needed_modules(self.kernel.modules, modules)
                loaded = [
                    Entry(f"modules/{number:02}.ko", stat.S_IFREG | 0o644, read(path))
                    for number, path in enumerate(files)
                ]
                self.images[machine] = self._image(machine, [*base, *loaded, *redis])
        self.accelerator = self._find_accelerator()

    def _image(self, name: str, entries: list[Entry]) -> str:
        path = os.path.join(self.directory, f"{name}.cpio")
        with open(path, "wb") as file:
            file.write(cpio(with_parents(entries)))
        return path

    def _find_accelerator(self) -> Accelerator:
        why = "/dev/kvm cannot be opened"
        if os.access("/dev/kvm", os.R_OK | os.W_OK):
            for processor in _KVM_PROCESSORS:
                options = ["-accel", "kvm", "-cpu", processor]
                try:
                    with self._boot("microvm", options, within=_KVM_BOOTS_WITHIN):
                        return Accelerator("KVM", options, "")
                except CommandFailed as e:
                    why = f"with -cpu {processor}: {e}"
            if os.path.isdir("/sys/module/kvm_pvm"):
                why += " (kvm_pvm runs guests that were built for it only)"
        return Accelerator("TCG", ["-accel", "tcg,thread=multi", "-cpu", "max"], why)

    @contextlib.contextmanager
    def boot(self, machine: str, *, redis_port: int = 0) -> Iterator[Guest]:
        """A virtual machine whose user space runs; it is killed at the end.

        Args:
            redis_port: it is to run redis, which is reached at this port of 127.0.0.1.

        Raises:
            CommandFailed: qemu ended, or it said nothing in time.
        """
        with self._boot(machine, self.accelerator.options, redis_port=redis_port) as guest:
            yield guest

    @contextlib.contextmanager
    def _boot(
        self,
        machine: str,
        options: list[str],
        *,
        redis_port: int = 0,
        within: float = _BOOTS_WITHIN,
    ) -> Iterator[Guest]:
        words = ["console=ttyS0", "quiet"]
        if machine == "microvm" and "kvm" not in options:
            # It has no HPET, and an emulated processor on a busy host fails to measure its clock
            # against the PIT: the kernel would hang every few boots.
            words += [f"tsc_early_khz={clock_rate()}", "tsc=reliable"]
        argv = [PROGRAM, "-M", machine, *options, "-m", f"{MEMORY}M", "-smp", "1"]
        argv += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        argv += ["-serial", "stdio", "-kernel", self.kernel.image]
        image = "byte"
        if redis_port:
            image, (device, _) = machine, MACHINES[machine]
            forward = f"hostfwd=tcp:127.0.0.1:{redis_port}-:6379"
            argv += ["-netdev", f"user,id=n,restrict=on,{forward}", "-device", f"{device},netdev=n"]
            words += ["--", "redis"]
        argv += ["-initrd", self.images[image], "-append", " ".join(words)]
        with tempfile.TemporaryFile() as errors:
            start = time.perf_counter()
            process = begin(argv, subprocess.PIPE, errors)
            with process, killed_if_interrupted(process):
                try:
                    if not wait_for_mark(process, within):
                        raise CommandFailed(f"qemu {machine}: {_failure(process, errors, within)}")
                    yield Guest(process, start, time.perf_counter() - start)
                finally:
                    process.kill()


class Guest(NamedTuple):
    """A virtual machine that runs.

    Attributes:
        started: time.perf_counter() before qemu was started. first_byte: seconds from then until
            its user space wrote a byte.
    """

    process: subprocess.Popen[bytes]
    started: float
    first_byte: float


def wait_for_mark(process: subprocess.Popen[bytes], within: float) -> bool:
    """Read a process's standard output until MARK; whether it came within so many seconds."""
    assert process.stdout is not None
    deadline = time.monotonic() + within
    seen = b""
    while MARK not in seen:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            return False
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            return False
        seen = seen[-len(MARK) :] + data
    return True


def _failure(process: subprocess.Popen[bytes], errors: IO[bytes], within: float) -> str:
    if process.poll() is None:
        return f"its user space said nothing within {within:g} seconds"
    errors.seek(0)
    return f"it ended with {process.returncode}: {last_words(errors.read())}"


def clock_rate() -> int:
    """The processor's time stamp counter's, in kHz."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        found = re.search(r"^cpu MHz\s*: ([\d.]+)", file.read(), re.MULTILINE)
    return int(float(found[1]) * 1000) if found else 2_000_000


def overlay(directory: str) -> int:
    """Bytes on disk of a new qcow2 image over a base image, which is what a virtual machine of its
    own disk needs at least.

    Raises:
        OSError, CalledProcessError: qemu-img is not here, or failed.
    """
    base, top = os.path.join(directory, "base.img"), os.path.join(directory, "top.qcow2")
    with open(base, "wb") as file:
        file.truncate(8 << 30)
    make = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, top]
    subprocess.run(make, check=True, capture_output=True)
    return os.stat(top).st_blocks * 512
