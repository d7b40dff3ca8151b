"""What bench/vm.py boots: the archive formats, and what is found in files and listings."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile

import pytest

from bench.userland import (
    Entry,
    archive,
    cpio,
    dependencies,
    libraries,
    needed_modules,
    with_parents,
)
from tests.support.images import busybox_binary

ENTRIES = [
    Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
    Entry("usr/bin/tool", stat.S_IFREG | 0o755, b"#!/bin/sh\n"),
    Entry("usr/bin/odd", stat.S_IFREG | 0o600, b"12345"),
]


def test_each_directory_comes_once_and_first() -> None:
    assert [entry.path for entry in with_parents(ENTRIES)] == [
        "dev",
        "dev/console",
        "usr",
        "usr/bin",
        "usr/bin/tool",
        "usr/bin/odd",
    ]


def test_an_initramfs_is_what_cpio_reads(tmp_path: object) -> None:
    command = [busybox_binary(), "cpio", "-idm"]
    data = cpio(with_parents(ENTRIES))
    subprocess.run(command, input=data, cwd=str(tmp_path), check=True, capture_output=True)
    console = os.stat(f"{tmp_path}/dev/console")
    assert stat.S_ISCHR(console.st_mode)
    assert (os.major(console.st_rdev), os.minor(console.st_rdev)) == (5, 1)
    assert os.stat(f"{tmp_path}/usr/bin/tool").st_mode == stat.S_IFREG | 0o755
    with open(f"{tmp_path}/usr/bin/odd", "rb") as file:
        assert file.read() == b"12345"


def test_an_initramfs_is_aligned() -> None:
    data = cpio(ENTRIES)
    assert data.startswith(b"070701")
    assert len(data) % 4 == 0
    assert b"TRAILER!!!" in data


def test_an_archive_holds_the_files(tmp_path: object) -> None:
    archive(f"{tmp_path}/tar", with_parents(ENTRIES[1:]))
    with tarfile.open(f"{tmp_path}/tar") as tar:
        assert tar.getnames() == ["usr", "usr/bin", "usr/bin/tool", "usr/bin/odd"]
        assert tar.getmember("usr/bin/tool").mode == 0o755
        member = tar.extractfile("usr/bin/odd")
        assert member is not None
        assert member.read() == b"12345"


def test_the_libraries_of_a_program() -> None:
    listing = (
        "\tlinux-vdso.so.1 (0x00007f266a68a000)\n"
        "\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f266a320000)\n"
        "\t/lib64/ld-linux-x86-64.so.2 (0x00007f266a68c000)\n"
        "\tlibgone.so => not found\n"
    )
    assert libraries(listing) == [
        "/lib/x86_64-linux-gnu/libm.so.6",
        "/lib64/ld-linux-x86-64.so.2",
    ]


def module(path: str, depends: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"\x7fELF...license=GPL\0depends=" + depends.encode() + b"\0name=x\0")


def test_a_module_comes_after_those_that_it_needs(tmp_path: object) -> None:
    place = f"{tmp_path}/kernel/drivers"
    module(f"{place}/net/net-failover.ko", "failover")
    module(f"{place}/net/failover.ko", "")
    module(f"{place}/virtio/virtio_net.ko", "virtio_ring,net-failover,built_in")
    module(f"{place}/virtio/virtio_ring.ko", "virtio")
    module(f"{place}/virtio/virtio.ko", "")
    found = needed_modules(str(tmp_path), ["virtio_net", "virtio_ring"])
    names = [os.path.basename(path) for path in found]
    assert names == [
        "virtio.ko",
        "virtio_ring.ko",
        "failover.ko",
        "net-failover.ko",
        "virtio_net.ko",
    ]


def test_a_module_that_is_not_there(tmp_path: object) -> None:
    with pytest.raises(KeyError):
        needed_modules(str(tmp_path), ["virtio_net"])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\0depends=a,b-c\0", ["a", "b_c"]),
        (b"\0depends=\0", []),
        (b"nothing", []),
    ],
)
def test_what_a_module_needs(data: bytes, expected: list[str]) -> None:
    assert dependencies(data) == expected
