"""A new volume takes the image's content: all that a tree can have, and nothing from outside."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator

import pytest

from fastbox.errors import StoreError
from fastbox.volume import tree
from fastbox.volume.store import VolumeStore
from fastbox.volume.types import Volume
from tests.image.build import die_at

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # cap_net_raw+ep


@pytest.fixture
def image(base: str) -> Iterator[tuple[int, str]]:
    """An image's root: (descriptor, path)."""
    path = os.path.join(base, "image")
    os.mkdir(path, 0o755)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd, path
    os.close(fd)


@pytest.fixture
def volume(root: str) -> tuple[VolumeStore, Volume]:
    store = VolumeStore(root)
    return store, store.create("data")


def rich_tree(path: str) -> None:
    """One of everything."""
    os.makedirs(f"{path}/sub/deeper")
    with open(f"{path}/file", "wb") as file:
        file.write(b"content")
    os.link(f"{path}/file", f"{path}/sub/hard")
    os.link(f"{path}/file", f"{path}/sub/deeper/harder")
    os.chown(f"{path}/file", 1000, 1001)
    os.setxattr(f"{path}/file", "user.note", b"hello\0world")
    os.setxattr(f"{path}/file", "trusted.note", b"t")
    os.setxattr(f"{path}/file", "security.capability", CAPABILITY)
    os.chmod(f"{path}/file", 0o6755)
    with open(f"{path}/sparse", "wb") as file:
        file.write(b"begin")
        file.seek(50 << 20)
        file.write(b"end")
        file.truncate(100 << 20)
    with open(f"{path}/empty", "wb"):
        pass
    os.symlink("/etc/shadow", f"{path}/outside")
    os.symlink("file", f"{path}/inside")
    os.chown(f"{path}/inside", 7, 8, follow_symlinks=False)
    os.setxattr(f"{path}/inside", "trusted.link", b"l", follow_symlinks=False)
    os.mkfifo(f"{path}/fifo", 0o640)
    os.mknod(f"{path}/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(f"{path}/disk", stat.S_IFBLK | 0o600, os.makedev(8, 0))
    with socket.socket(socket.AF_UNIX) as sock:
        here = os.open(path, os.O_RDONLY)
        sock.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    names = [b"na me", b"new\nline", b"\xff\xfe", b"-rf", "ü".encode(), b"x" * 255]
    for name in names:
        with open(os.path.join(os.fsencode(path), name), "wb") as file:
            file.write(name)
    os.setxattr(f"{path}/sub", "user.dir", b"d")
    for number, (directory, _, files) in enumerate(os.walk(path, topdown=False)):
        for name in files:
            times = (10**18 + number, 10**18 + 123456789 * number)
            os.utime(os.path.join(directory, name), ns=times, follow_symlinks=False)
        os.utime(directory, ns=(10**18, 1_100_000_000_987_654_321 + number))
    os.chmod(f"{path}/sub", 0o2750)
    os.chmod(f"{path}/sub/deeper", 0o000)
    os.chmod(path, 0o1777)
    os.chown(path, 33, 44)


def listing(path: str) -> dict[str, object]:
    """Everything about a tree that a copy must keep."""
    found: dict[str, object] = {}
    links: dict[tuple[int, int], str] = {}
    todo = [""]
    while todo:
        name = todo.pop()
        full = path + name
        status = os.lstat(full)
        extra: object = None
        if stat.S_ISDIR(status.st_mode):
            todo += sorted(f"{name}/{child}" for child in os.listdir(full))
        elif stat.S_ISLNK(status.st_mode):
            extra = os.readlink(full)
        elif stat.S_ISREG(status.st_mode):
            with open(full, "rb") as file:
                extra = file.read()
            first = links.setdefault((status.st_dev, status.st_ino), name)
            extra = (extra, first, status.st_nlink)
        found[name] = (
            status.st_mode, status.st_uid, status.st_gid, status.st_rdev, status.st_mtime_ns,
            {key: os.getxattr(full, key, follow_symlinks=False)
             for key in sorted(os.listxattr(full, follow_symlinks=False))},
            extra,
        )  # fmt: skip
    return found


def test_everything_is_kept(
    image: tuple[int, str], volume: tuple[VolumeStore, Volume], root: str
) -> None:
    store, data = volume
    rich_tree(f"{image[1]}/srv")
    assert store.is_empty(data)
    assert store.populate(data, image[0], "/srv") is True
    expected = listing(f"{image[1]}/srv")
    assert listing(data.mountpoint) == expected
    assert len(expected) == 20
    assert not store.is_empty(data)
    assert sorted(os.listdir(f"{root}/volumes/data")) == ["_data", "volume.json"]
    assert os.stat(f"{data.mountpoint}/sparse").st_blocks * 512 < 1 << 20
    # The second time, content is there and stays.
    os.unlink(f"{data.mountpoint}/file")
    assert store.populate(data, image[0], "/srv") is False
    assert not os.path.exists(f"{data.mountpoint}/file")


def test_an_empty_directory_gives_owner_and_mode(
    image: tuple[int, str], volume: tuple[VolumeStore, Volume]
) -> None:
    store, data = volume
    os.mkdir(f"{image[1]}/data")
    os.chown(f"{image[1]}/data", 999, 998)
    os.chmod(f"{image[1]}/data", 0o2770)
    assert store.populate(data, image[0], "/data") is True
    found = os.stat(data.mountpoint)
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (999, 998, 0o2770)
    assert store.is_empty(data)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/data", "inside"),
        ("data/", "inside"),
        ("//data//.", "inside"),
        ("/../../data", "inside"),
        ("/data/../data/sub/..", "inside"),
        ("/abs", "inside"),
        ("/up", "inside"),
        ("/chain", "inside"),
        ("/data/back/data", "inside"),
        ("/host", None),
        ("/host/passwd", None),
        ("/../../../etc", None),
        ("/loop", None),
        ("/file", None),
        ("/file/x", None),
        ("/missing", None),
        ("/fifo", None),
        ("/proc/self/root", None),
    ],
)
def test_paths_stay_in_the_image(
    image: tuple[int, str], volume: tuple[VolumeStore, Volume], path: str, found: str | None
) -> None:
    store, data = volume
    top = image[1]
    os.makedirs(f"{top}/data/sub")
    os.symlink("/", f"{top}/data/back")
    with open(f"{top}/data/inside", "w"), open(f"{top}/file", "w"):
        pass
    os.mkfifo(f"{top}/fifo")
    os.symlink("/data", f"{top}/abs")
    os.symlink("../../../../../data", f"{top}/up")
    os.symlink("abs/.", f"{top}/chain")
    # On the host this directory exists, in the image it does not.
    os.symlink("/etc", f"{top}/host")
    os.symlink("loop", f"{top}/loop")
    if path == "/loop":
        with pytest.raises(StoreError, match=r"too many levels of symbolic links"):
            store.populate(data, image[0], path)
    else:
        assert store.populate(data, image[0], path) is (found is not None)
    entries = os.listdir(data.mountpoint)
    assert (found in entries) if found else entries == []


def test_a_mounted_proc_leads_nowhere(
    image: tuple[int, str], volume: tuple[VolumeStore, Volume]
) -> None:
    store, data = volume
    os.mkdir(f"{image[1]}/proc")
    subprocess.run(["mount", "-t", "proc", "proc", f"{image[1]}/proc"], check=True)
    try:
        for path in ("/proc/self/root/etc", f"/proc/{os.getpid()}/cwd", "/proc/1/root"):
            assert store.populate(data, image[0], path) is False
    finally:
        subprocess.run(["umount", f"{image[1]}/proc"], check=True)
    assert os.listdir(data.mountpoint) == []


def test_as_deep_as_an_image_goes(
    image: tuple[int, str], volume: tuple[VolumeStore, Volume]
) -> None:
    store, data = volume
    fd = os.dup(image[0])
    for _ in range(2000):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)
    assert store.populate(data, image[0], "/") is True
    with tree.Cursor(data.mountpoint) as cursor:
        for _ in range(2000):
            cursor.down("d")
        assert os.listdir(cursor.fd) == ["file"]
        for _ in range(2000):
            cursor.up()
        assert os.fstat(cursor.fd).st_ino == os.stat(data.mountpoint).st_ino
    # pytest's own clean-up would not get so deep.
    store.remove("data")
    from fastbox._core.tree import remove_tree

    remove_tree(f"{image[1]}/d")


def test_a_directory_moved_meanwhile_is_an_error(base: str) -> None:
    os.makedirs(f"{base}/a/b")
    os.mkdir(f"{base}/c")
    with tree.Cursor(f"{base}/a") as cursor:
        cursor.down("b")
        os.rename(f"{base}/a/b", f"{base}/c/b")
        with pytest.raises(OSError) as caught:
            cursor.up()
    assert caught.value.errno == errno.ESTALE


@pytest.mark.parametrize("refused", [errno.EXDEV, errno.EINVAL, errno.ENOSYS])
def test_without_copy_file_range(
    image: tuple[int, str],
    volume: tuple[VolumeStore, Volume],
    monkeypatch: pytest.MonkeyPatch,
    refused: int,
) -> None:
    def no(*_: object) -> int:
        raise OSError(refused, os.strerror(refused))

    monkeypatch.setattr(os, "copy_file_range", no)
    store, data = volume
    rich_tree(f"{image[1]}/srv")
    store.populate(data, image[0], "/srv")
    assert listing(data.mountpoint) == listing(f"{image[1]}/srv")


def test_killed_at_any_step(image: tuple[int, str], new_root: Callable[[str], str]) -> None:
    source = f"{image[1]}/srv"
    os.makedirs(f"{source}/sub")
    for name in ("one", "two", "sub/three"):
        with open(f"{source}/{name}", "w") as file:
            file.write(name)
    os.link(f"{source}/one", f"{source}/sub/one")
    os.utime(source, ns=(10**18, 10**18))
    expected = listing(source)
    for point in range(1, 300):
        root = new_root(f"at{point}")
        store = VolumeStore(root)
        data = store.create("data")
        lived = die_at(point, lambda s=store, d=data: s.populate(d, image[0], "/srv"))  # type: ignore[misc]
        for name in os.listdir(data.mountpoint):
            path = f"{data.mountpoint}/{name}"
            if os.path.isfile(path):  # whole, if there
                with open(path) as file:
                    assert file.read() == name, point
            else:
                assert sorted(os.listdir(path)) == ["one", "three"], point
        if store.is_empty(data):
            store.populate(data, image[0], "/srv")
        assert set(listing(data.mountpoint)) == set(expected), point
        assert sorted(os.listdir(f"{root}/volumes/data"))[:1] == ["_data"]
        again = store.create("other")
        store.populate(again, image[0], "/srv")
        assert listing(again.mountpoint) == expected
        subprocess.run(["rm", "-rf", root], check=True)
        if lived:
            break
    else:
        raise AssertionError("never came to its end")
    assert point > 20


def test_full_disk_leaves_the_volume_empty(image: tuple[int, str], base: str) -> None:
    with open(f"{image[1]}/large", "wb") as file:
        file.write(os.urandom(1 << 20))
    path = os.path.join(base, "small")
    os.mkdir(path, 0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", path], check=True)
    try:
        store = VolumeStore(path)
        data = store.create("data")
        with pytest.raises(StoreError, match=r"cannot fill volume data: .*no space left") as caught:
            store.populate(data, image[0], "/")
        assert caught.value.hint == "free some space"
        assert os.listdir(data.mountpoint) == [] and store.is_empty(data)
        assert sorted(os.listdir(f"{path}/volumes/data")) == ["_data", "volume.json"]
        assert os.listdir(f"{path}/trash") == []
    finally:
        subprocess.run(["umount", path], check=True)


def test_as_many_links_as_the_file_system_allows(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy has a further name for each linked file while it is made."""
    link = os.link

    def limited(source: str, target: str, **options: object) -> None:
        inside = options["src_dir_fd"]
        assert isinstance(inside, int)
        if os.stat(source, dir_fd=inside, follow_symlinks=False).st_nlink == 3:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK), source)
        link(source, target, **options)  # type: ignore[arg-type]

    fds = []
    for name in ("source", "target", "links"):
        os.mkdir(f"{base}/{name}")
        fds.append(os.open(f"{base}/{name}", os.O_RDONLY | os.O_DIRECTORY))
    os.mknod(f"{base}/source/a", stat.S_IFCHR, 0)
    for name in ("b", "c"):
        os.link(f"{base}/source/a", f"{base}/source/{name}")
    monkeypatch.setattr(os, "link", limited)
    tree.Copy(*fds, overlay=True).run()
    for fd in fds:
        os.close(fd)
    found = {os.stat(f"{base}/target/{name}").st_ino for name in "abc"}
    assert len(found) == 1 and os.stat(f"{base}/target/a").st_nlink == 3
