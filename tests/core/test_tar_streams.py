"""Compression, truncation, limits, cancelling, and how little the rest of the process notices."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable

import pytest

from fastbox._core import tar
from fastbox.errors import ArchiveError, FastboxError, StoreError
from tests.core.tar_archives import Tar, Unpack, header, padded, read, tree
from tests.support.wait import wait_for


def sample(seed: int = 1, files: int = 40) -> bytes:
    """An archive of some 3 MB, half of it compressible; larger than the ring's chunks."""
    rng = random.Random(seed)
    archive = Tar()
    for i in range(files):
        size = rng.choice([0, 1, 511, 512, 513, 5000, 100_000, 400_000])
        data = rng.randbytes(size) if i % 2 else b"text %d " % i * (size // 7)
        archive.dir(f"d{i % 7}").file(f"d{i % 7}/f{i}", data)
    return archive.bytes()


def zstd(data: bytes, *options: str) -> bytes:
    command = ["zstd", "-q", "-c", *options]
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": lambda data: gzip.compress(data, 6),
    "zstd": zstd,
}


# ---- compression -----------------------------------------------------------------------------


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_digests(unpack: Unpack, compression: str) -> None:
    data = sample()
    packed = COMPRESSORS[compression](data)
    got = unpack(packed)
    assert got.compression == compression
    assert (got.digest, got.size) == (sha256(packed), len(packed))
    assert (got.diff_id, got.tar_size) == (sha256(data), len(data))


def test_all_compressions_give_the_same_tree(base: str) -> None:
    trees = []
    for name, compress in COMPRESSORS.items():
        path = os.path.join(base, name)
        os.mkdir(path)
        fd = os.memfd_create(name)
        os.write(fd, compress(sample()))
        os.lseek(fd, 0, os.SEEK_SET)
        tar.extract(fd, path)
        os.close(fd)
        trees.append({k: v for k, v in tree(path).items() if k != "."})
    assert trees[0] == trees[1] == trees[2]


@pytest.mark.parametrize("level", [0, 1, 9])
def test_gzip_levels(unpack: Unpack, level: int) -> None:
    data = sample()
    assert unpack(gzip.compress(data, level)).diff_id == sha256(data)


def test_gzip_of_several_members(unpack: Unpack) -> None:
    data = sample()
    cuts = [0, 1, 512, 700_001, 700_001, len(data)]
    packed = b"".join(gzip.compress(data[a:b]) for a, b in itertools.pairwise(cuts))
    got = unpack(packed)
    assert (got.diff_id, got.digest) == (sha256(data), sha256(packed))
    assert unpack(packed + b"\0" * 10_000).diff_id == sha256(data)


def test_gzip_header_fields(unpack: Unpack) -> None:
    data = sample()
    raw = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = raw.compress(data) + raw.flush()
    extra = b"x" * 60_000
    head = b"\x1f\x8b\x08" + bytes([4 | 8 | 16]) + b"\0" * 6
    head += len(extra).to_bytes(2, "little") + extra + b"name\0" + b"comment" * 9000 + b"\0"
    tail = zlib.crc32(data).to_bytes(4, "little") + (len(data) & 0xFFFFFFFF).to_bytes(4, "little")
    assert unpack(head + body + tail).diff_id == sha256(data)


def test_zstd_of_several_frames(unpack: Unpack) -> None:
    data = sample()
    skippable = b"\x50\x2a\x4d\x18" + (1000).to_bytes(4, "little") + b"s" * 1000
    packed = skippable + zstd(data[:1_000_000]) + skippable + zstd(data[1_000_000:]) + skippable
    got = unpack(packed)
    assert (got.compression, got.diff_id, got.digest) == ("zstd", sha256(data), sha256(packed))


def test_zstd_window_of_128_mib(unpack: Unpack) -> None:
    data = sample()
    assert unpack(zstd(data, "--ultra", "-22", "--long=27")).diff_id == sha256(data)


def test_zstd_window_beyond(unpack: Unpack) -> None:
    # A frame header: magic, no single segment, window of 256 MiB (exponent 18 over 1 KiB).
    for exponent in (18, 21, 31):
        frame = b"\x28\xb5\x2f\xfd" + bytes([0, exponent << 3]) + b"\1\0\0"
        with pytest.raises(ArchiveError, match="window is larger"):
            unpack(frame)


@pytest.mark.parametrize(
    ("start", "name"),
    [(b"\xfd7zXZ\0", "xz"), (b"BZh91AY&SY", "bzip2"), (b"\x04\x22\x4d\x18abc", "lz4")],
)
def test_other_compressions_are_named(unpack: Unpack, start: bytes, name: str) -> None:
    with pytest.raises(ArchiveError, match=f"compressed with {name}"):
        unpack(start + b"\0" * 600)


def test_compressed_twice_is_no_archive(unpack: Unpack) -> None:
    with pytest.raises(ArchiveError):
        unpack(gzip.compress(gzip.compress(sample())))


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_nothing_is_executed(base: str, dest: str, compression: str) -> None:
    """CVE-2026-41567, CVE-2014-9357: an unpacker that runs xz or gzip may run the image's."""
    tools, marker = os.path.join(base, "tools"), os.path.join(base, "marker")
    os.mkdir(tools)
    script = f"#!/bin/sh\ntouch {marker}\n".encode()
    archive = Tar()
    for name in ("gzip", "gunzip", "pigz", "unpigz", "zstd", "unzstd", "xz", "tar", "sh"):
        archive.file(f"usr/bin/{name}", script, mode=0o755)
        with open(os.open(os.path.join(tools, name), os.O_CREAT | os.O_WRONLY, 0o755), "wb") as f:
            f.write(script)
    path = os.path.join(base, "archive")
    with open(path, "wb") as file:
        file.write(COMPRESSORS[compression](archive.bytes()))
    code = "import sys; from fastbox._core import tar; print(tar.extract(0, sys.argv[1]).entries)"
    with open(path, "rb") as file:
        out = subprocess.run(
            [sys.executable, "-c", code, dest],
            stdin=file,
            env={**os.environ, "PATH": tools},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    assert out == "9\n" and not os.path.exists(marker)


# ---- damage ----------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_truncated(unpack: Unpack, compression: str) -> None:
    packed = COMPRESSORS[compression](Tar().file("a", b"abc" * 5000).file("b", b"x" * 700).bytes())
    if compression == "none":
        packed = packed[:-1024]  # without the end, every cut but between entries hurts
    whole = len(packed)
    for cut in sorted({1, 2, 3, 5, 9, 17, 100, 511, 513, 1025, whole // 2, whole - 9, whole - 1}):
        if cut >= whole:
            continue
        with pytest.raises(ArchiveError, match=r"too early|damaged|checksum|does not match"):
            unpack(packed[:cut])


def test_truncated_file_names_the_entry(unpack: Unpack) -> None:
    with pytest.raises(ArchiveError, match="ends too early at entry dir/name") as caught:
        unpack(bytes(Tar().file("dir/name", b"x" * 2000).data[:1500]))
    assert getattr(caught.value, "entry", None) == "dir/name"


def test_gzip_checks(unpack: Unpack) -> None:
    packed = bytearray(gzip.compress(Tar().file("a", b"abc" * 5000).bytes()))
    for at in (-1, -5, len(packed) // 2, 2, 3):
        bad = bytearray(packed)
        bad[at] ^= 0x55
        with pytest.raises(ArchiveError):
            unpack(bytes(bad))
    for tail in (b"garbage", b"\0\0garbage", b"\x1f", b"\x1f\x8b\x08"):
        with pytest.raises(ArchiveError, match="gzip"):
            unpack(bytes(packed) + tail)


def test_zstd_checks(unpack: Unpack) -> None:
    packed = zstd(Tar().file("a", random.Random(3).randbytes(5000)).bytes(), "--check")
    for at in (-1, len(packed) // 2, 4):
        bad = bytearray(packed)
        bad[at] ^= 0x55
        with pytest.raises(ArchiveError):
            unpack(bytes(bad))
    with pytest.raises(ArchiveError, match="zstd"):
        unpack(packed + b"garbage")


# ---- limits ----------------------------------------------------------------------------------


def test_byte_limit(unpack: Unpack) -> None:
    data = Tar().file("a", b"x" * 100_000).bytes()
    assert unpack(data, max_bytes=len(data)).tar_size == len(data)
    with pytest.raises(ArchiveError, match="more than is allowed"):
        unpack(data, max_bytes=len(data) - 1)


def test_a_size_beyond_the_limit_is_refused_before_a_byte_is_written(
    unpack: Unpack, dest: str
) -> None:
    with pytest.raises(ArchiveError, match="more than is allowed at entry a"):
        unpack(header("a", size=10**9) + b"x" * 100_000, max_bytes=10**8)
    assert os.listdir(dest) == []


def bomb(size: int) -> bytes:
    """A gzip file of zeros, a thousandth of its content."""
    one = gzip.compress(b"\0" * (1 << 20), 9)
    return gzip.compress(header("bomb", size=size)) + one * (size >> 20)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_bombs(unpack: Unpack, dest: str, compression: str) -> None:
    """10 GiB that the header does not announce: zeros behind the end of the archive."""
    if compression == "gzip":
        packed = (
            gzip.compress(Tar().file("a").bytes()) + gzip.compress(b"\0" * (1 << 20), 9) * 10240
        )
    else:
        frame = zstd(b"\0" * (1 << 24))
        packed = zstd(Tar().file("a").bytes()) + frame * 640
    with pytest.raises(ArchiveError, match="more than is allowed"):
        unpack(packed, max_bytes=50 << 20)


def test_bomb_in_a_file(unpack: Unpack, dest: str) -> None:
    with pytest.raises(ArchiveError, match="more than is allowed"):
        unpack(bomb(200 << 20), max_bytes=20 << 20)
    assert sum(os.lstat(os.path.join(dest, n)).st_blocks for n in os.listdir(dest)) == 0


MEASURE = """
import os, resource, sys
from fastbox._core import tar
fd, dest = int(sys.argv[1]), sys.argv[2]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tar.extract(fd, dest)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("compression", ["gzip", "none", "zstd"])
def test_memory_is_constant(dest: str, compression: str) -> None:
    """A gigabyte and a half, through a pipe, in less than 24 MiB."""
    size = 1 << 20
    data = random.Random(1).randbytes(size)
    packed = COMPRESSORS[compression](data)
    count = 1500
    first = COMPRESSORS[compression](header("big", size=count * size))
    reader, writer = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", MEASURE, str(reader), dest],
        pass_fds=[reader],
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(reader)
    with open(writer, "wb") as file:
        file.write(first)
        for _ in range(count):
            file.write(packed)
    out, _ = child.communicate()
    assert child.returncode == 0
    assert int(out) < 24 << 10
    assert os.stat(f"{dest}/big").st_size == count * size
    os.unlink(f"{dest}/big")


# ---- pipes, sockets, signals, cancelling -----------------------------------------------------


def in_thread(run: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    errors: list[BaseException] = []

    def main() -> None:
        try:
            run()
        except BaseException as e:
            errors.append(e)

    thread = threading.Thread(target=main)
    thread.start()
    return thread, errors


@pytest.mark.parametrize("compression", COMPRESSORS)
@pytest.mark.parametrize("step", [1, 7, 4096, 65_537])
def test_pipes_that_deliver_little_at_a_time(dest: str, compression: str, step: int) -> None:
    data = sample(files=3 if step < 10 else 40)
    packed = COMPRESSORS[compression](data)[: None if step > 1 else 40_000_000]
    reader, writer = os.pipe()
    os.set_blocking(reader, False)

    def feed() -> None:
        with open(writer, "wb", buffering=0) as file:
            for at in range(0, len(packed), step):
                file.write(packed[at : at + step])

    thread, errors = in_thread(feed)
    got = tar.extract(reader, dest)
    thread.join()
    os.close(reader)
    assert not errors and got.diff_id == sha256(data) and got.digest == sha256(packed)


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_what_a_slow_writer_has_sent_is_unpacked(dest: str, compression: str) -> None:
    """However little it is: a part (of a file, of a block) is not kept back until more comes."""
    pack = COMPRESSORS[compression]
    data = Tar().file("first", b"1").file("second", b"2" * 5000).bytes()
    first, rest = data[:2000], data[2000:]
    reader, writer = os.pipe()
    thread, errors = in_thread(lambda: tar.extract(reader, dest))
    os.write(writer, pack(first))
    path = os.path.join(dest, "first")
    wait_for(lambda: os.path.exists(path) and os.path.getsize(path) == 1, "the first file")
    os.write(writer, pack(rest))
    os.close(writer)
    thread.join()
    os.close(reader)
    assert not errors
    assert os.path.getsize(os.path.join(dest, "second")) == 5000


def test_sockets(dest: str) -> None:
    ours, theirs = socket.socketpair()
    data = sample()

    def feed() -> None:
        with ours:
            ours.sendall(data)

    thread, errors = in_thread(feed)
    assert tar.extract(theirs.fileno(), dest).diff_id == sha256(data)
    thread.join()
    theirs.close()
    assert not errors


def test_from_the_current_position(dest: str) -> None:
    fd = os.memfd_create("x")
    data = sample()
    os.write(fd, b"prefix" + data)
    os.lseek(fd, 6, os.SEEK_SET)
    assert tar.extract(fd, dest).digest == sha256(data)
    os.close(fd)


def test_progress(dest: str) -> None:
    seen: list[int] = []
    reader, writer = os.pipe()

    def step(n: int) -> None:
        seen.append(n)
        if n == 512 and len(seen) > 2:
            os.write(writer, b"\0" * 1024)
            os.close(writer)

    os.write(writer, header("a"))
    got = tar.extract(reader, dest, on_progress=step)
    os.close(reader)
    assert seen == sorted(seen) and seen[-1] == got.size == 1536


def test_progress_may_raise(dest: str) -> None:
    reader, writer = os.pipe()

    def step(n: int) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        tar.extract(reader, dest, on_progress=step)
    os.close(reader)
    os.close(writer)


def test_cancel(dest: str) -> None:
    reader, writer = os.pipe()
    cancel = tar.Cancel()
    started = threading.Event()
    thread, errors = in_thread(
        lambda: tar.extract(reader, dest, cancel=cancel, on_progress=lambda n: started.set())
    )
    assert started.wait(30)
    cancel.cancel()
    thread.join(30)
    assert not thread.is_alive() and cancel.cancelled
    assert len(errors) == 1 and type(errors[0]) is FastboxError
    assert "cancelled" in str(errors[0])
    with pytest.raises(FastboxError, match="cancelled"):
        tar.extract(reader, dest, cancel=cancel)
    os.close(reader)
    os.close(writer)


def test_cancel_serves_several_at_once(base: str) -> None:
    cancel = tar.Cancel()
    ends = []
    for i in range(3):
        path = os.path.join(base, f"d{i}")
        os.mkdir(path)
        reader, writer = os.pipe()
        started = threading.Event()
        run = in_thread(
            lambda r=reader, p=path, s=started: tar.extract(  # type: ignore[misc]
                r, p, cancel=cancel, on_progress=lambda n: s.set()
            )
        )
        assert started.wait(30)
        ends.append((run, reader, writer))
    cancel.cancel()
    for (thread, errors), reader, writer in ends:
        thread.join(30)
        assert not thread.is_alive() and "cancelled" in str(errors[0])
        os.close(reader)
        os.close(writer)
    done = tar.Cancel()
    fd = os.memfd_create("x")
    assert tar.extract(fd, os.path.join(base, "d0"), cancel=done).entries == 0
    done.cancel()
    os.close(fd)


INTERRUPTED = """
import os, sys
from fastbox._core import tar
reader, writer = os.pipe()
os.write(writer, b"x")
def step(n):
    if n: print("reading", flush=True)
try:
    tar.extract(reader, sys.argv[1], on_progress=step)
except KeyboardInterrupt:
    print(sorted(os.listdir("/proc/self/task")) == [str(os.getpid())])
"""


def test_keyboard_interrupt(dest: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, dest], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "reading\n"
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=30)
    assert out.splitlines()[-1] == "True", "it was interrupted, and no thread is left"
    assert child.returncode == 0


def test_other_threads_run_meanwhile(dest: str) -> None:
    """The GIL is free: this thread feeds the pipe that the other one waits for."""
    reader, writer = os.pipe()
    thread, errors = in_thread(lambda: tar.extract(reader, dest))
    for part in (header("a", size=3), padded(b"abc"), b"\0" * 1024):
        os.write(writer, part)
    os.close(writer)
    thread.join(30)
    os.close(reader)
    assert not errors and read(dest, "a") == b"abc"


def test_the_process_keeps_its_root_directory_and_privileges(unpack: Unpack) -> None:
    def state() -> tuple[object, ...]:
        with open("/proc/self/status") as file:
            caps = [line for line in file if line.startswith(("Cap", "Umask", "Seccomp"))]
        return os.getcwd(), os.stat("/").st_ino, caps

    before = state()
    unpack(sample())
    assert state() == before


# ---- the host's troubles ---------------------------------------------------------------------


@pytest.fixture
def small(base: str, request: pytest.FixtureRequest) -> str:
    """A file system of a megabyte and 50 inodes."""
    path = os.path.join(base, "small")
    os.mkdir(path)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=50,mode=755", "x", path], check=True
    )
    request.addfinalizer(lambda: subprocess.run(["umount", path], check=True))
    return path


@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_full_disk(small: str, what: str) -> None:
    archive = Tar().file("ok", b"x")
    if what == "bytes":
        archive.file("big", b"x" * 3_000_000)
    else:
        for i in range(100):
            archive.file(f"f{i}")
    fd = os.memfd_create("x")
    with open(fd, "wb", closefd=False) as file:
        file.write(archive.bytes())
    os.lseek(fd, 0, os.SEEK_SET)
    with pytest.raises(
        StoreError, match=r"cannot (write big|create f\d+): No space left"
    ) as caught:
        tar.extract(fd, small)
    os.close(fd)
    assert caught.value.hint and isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == 28


def test_read_only(base: str, small: str) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    fd = os.memfd_create("x")
    os.write(fd, Tar().file("f").bytes())
    os.lseek(fd, 0, os.SEEK_SET)
    with pytest.raises(StoreError, match="cannot create f: Read-only file system"):
        tar.extract(fd, small)
    os.close(fd)


def test_unreadable_archive(dest: str, base: str) -> None:
    fd = os.open(os.path.join(base, "x"), os.O_WRONLY | os.O_CREAT)
    with pytest.raises(StoreError, match="reading the archive failed: Bad file descriptor"):
        tar.extract(fd, dest)
    os.close(fd)
    fd = os.open(base, os.O_RDONLY)
    with pytest.raises(StoreError, match="reading the archive failed: Is a directory"):
        tar.extract(fd, dest)
    os.close(fd)


def test_no_such_destination(base: str) -> None:
    fd = os.memfd_create("x")
    with pytest.raises(StoreError, match="No such file"):
        tar.extract(fd, os.path.join(base, "nowhere"))
    os.close(fd)


def test_file_size_limit(dest: str) -> None:
    """EFBIG is said of the entry that met it; SIGXFSZ kills nobody."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    fd = os.memfd_create("x")
    os.write(fd, Tar().file("big", b"x" * 100_000).bytes())
    os.lseek(fd, 0, os.SEEK_SET)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(ArchiveError, match="cannot write big: File too large"):
            tar.extract(fd, dest)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        os.close(fd)


UNPRIVILEGED = """
import os, sys
from fastbox._core import tar
from fastbox.errors import PermissionDenied
os.setuid(65534)
fd = os.memfd_create("x")
try:
    tar.extract(fd, sys.argv[1])
except PermissionDenied as e:
    print(e, "/", e.hint)
"""


def test_without_privilege(dest: str, base: str) -> None:
    path = os.path.join("/tmp", os.path.basename(base) + "-open")
    os.mkdir(path, 0o777)
    try:
        out = subprocess.run(
            [sys.executable, "-c", UNPRIVILEGED, path], capture_output=True, text=True, check=True
        ).stdout
    finally:
        os.rmdir(path)
    assert out == "cannot unpack the layer: chroot: Operation not permitted / run fastbox as root\n"


def test_without_the_privilege_for_devices(dest: str) -> None:
    """Whatever the engine lacks is an error, not a layer with things missing."""
    code = """
import os, sys, ctypes
from fastbox._core import tar
from fastbox.errors import PermissionDenied
libc = ctypes.CDLL(None, use_errno=True)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
data = (ctypes.c_uint32 * 6)()
libc.capget(header, data)
data[0] &= ~(1 << 27); data[1] &= ~(1 << 27)
assert libc.capset(header, data) == 0
fd = os.open(sys.argv[1], os.O_RDONLY)
try:
    tar.extract(fd, sys.argv[2])
except PermissionDenied as e:
    print(e)
"""
    archive = os.path.join(dest, "..", "archive")
    with open(archive, "wb") as file:
        file.write(Tar().entry("null", "3", device=(1, 3)).bytes())
    out = subprocess.run(
        [sys.executable, "-c", code, archive, dest], capture_output=True, text=True, check=True
    ).stdout
    assert out == "cannot unpack the layer: cannot create null: Operation not permitted\n"
