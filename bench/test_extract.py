"""A Debian layer of about 200 MB in 10,000 files: fastbox's extraction against GNU tar's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.race import Found, race, report
from tests.support.images import archive, cache_directory

CONTESTANTS = ["plain", "gzip", "zstd", "tar xf", "tar xzf", "tar --zstd"]
FORMATS = {"plain": "", "gzip": ".gz", "zstd": ".zst"}


@pytest.fixture(scope="module")
def layers(quick: bool) -> dict[str, str]:
    """Format -> path of the layer in it."""
    plain = archive("debian" if quick else "big")
    for suffix, program in ((".gz", ["gzip", "-6", "-c"]), (".zst", ["zstd", "-q", "-c"])):
        if not os.path.exists(plain + suffix):
            with open(plain + suffix + ".tmp", "wb") as out:
                subprocess.run([*program, plain], stdout=out, check=True)
            os.rename(plain + suffix + ".tmp", plain + suffix)
    return {name: plain + suffix for name, suffix in FORMATS.items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # In memory: on a disk that others use too, both sides mostly measure the disk (and ext4 is slow
    # to make files where many were deleted a moment ago).
    path = f"/dev/shm/fastbox-extract-{os.getpid()}"
    os.mkdir(path)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def disk() -> Iterator[str]:
    """Where gigabytes may be written."""
    path = os.path.join(cache_directory(), f"extract-{os.getpid()}")
    os.mkdir(path)
    yield path
    shutil.rmtree(path)


def into(place: str, work: Callable[[str], None]) -> Callable[[], float]:
    """A contestant that unpacks into a new directory; making and removing it is not measured."""

    def run() -> float:
        target = os.path.join(place, "x")
        os.mkdir(target)
        start = time.perf_counter()
        work(target)
        taken = time.perf_counter() - start
        shutil.rmtree(target)
        # What was written is not to be paid for by the next one.
        os.sync()
        return taken

    return run


def by_fastbox(path: str) -> Callable[[str], None]:
    from fastbox._core import tar

    def work(target: str) -> None:
        with open(path, "rb") as file:
            done = tar.extract(file.fileno(), target)
        assert done.entries > 3000

    return work


def by_tar(path: str, *options: str) -> Callable[[str], None]:
    def work(target: str) -> None:
        argv = ["tar", *options, "--numeric-owner", "--xattrs", "-xf", path, "-C", target]
        subprocess.run(argv, check=True)

    return work


@pytest.fixture(scope="module")
def extractions(layers: dict[str, str], place: str, rounds: int) -> Found:
    ours = {name: into(place, by_fastbox(path)) for name, path in layers.items()}
    # What a promise is about, often enough for it; the rest is for information.
    promised = {
        "gzip": ours.pop("gzip"),
        "tar xzf": into(place, by_tar(layers["gzip"], "-z")),
    }
    others = {
        **ours,
        "tar xf": into(place, by_tar(layers["plain"])),
        "tar --zstd": into(place, by_tar(layers["zstd"], "--zstd")),
    }
    few = max(2, rounds // 6)
    return race(promised, max(rounds * 5 // 6, few), warmup=1) | race(others, few, warmup=1)


@pytest.mark.benchmark(group="extract")
def test_extract(
    contestant: str,
    extractions: Found,
    layers: dict[str, str],
    benchmark: Any,
) -> None:
    with tarfile.open(layers["plain"]) as tar:
        entries = sum(1 for _ in tar)
    report(
        benchmark,
        extractions[contestant],
        entries=entries,
        bytes=os.path.getsize(layers["plain"]),
    )


MEASURE_MEMORY = """
import sys
from fastbox._core import tar
def peak():  # of this program: getrusage's maximum goes back to before exec
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
before = peak()
tar.extract(0, sys.argv[1], max_bytes=1 << 40)
print(peak() - before)
"""


@pytest.mark.benchmark(group="memory")
def test_memory_of_a_large_layer(
    disk: str, values: dict[str, float], request: pytest.FixtureRequest, benchmark: Any
) -> None:
    """Memory that the extraction of 5 GB (1 GB when quick) adds to a Python process, in MiB."""
    gigabytes = 1 if request.config.getoption("--quick") else 5
    target = os.path.join(disk, "large")
    os.mkdir(target)
    argv = [sys.executable, "-c", MEASURE_MEMORY, target]
    start = time.perf_counter()
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        write_large_layer(process.stdin, gigabytes)
        process.stdin.close()
        kibibytes = int(process.stdout.read())
    taken = time.perf_counter() - start
    assert process.returncode == 0
    assert os.path.getsize(os.path.join(target, "0")) == 1 << 28
    shutil.rmtree(target)
    values["memory[extraction]"] = kibibytes / 1024
    report(benchmark, [taken], mebibytes=kibibytes / 1024, gigabytes=gigabytes)


def write_large_layer(out: Any, gigabytes: int) -> None:
    """A layer of files of 256 MiB, made on the way."""
    block = os.urandom(1 << 20)
    for number in range(gigabytes * 4):
        info = tarfile.TarInfo(str(number))
        info.size = 1 << 28
        out.write(info.tobuf())
        for _ in range(1 << 8):
            out.write(block)
    out.write(b"\0" * 10240)
