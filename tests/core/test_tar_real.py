"""A real Debian tree, packed by GNU tar and unpacked by both: nothing may differ."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from fastbox._core import tar
from fastbox._core.tree import remove_tree
from tests.core.tar_archives import capability, tree

GNU = ["tar", "--numeric-owner", "--xattrs", "--xattrs-include=*"]


@pytest.fixture(scope="module")
def original(debian_tar: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian as GNU tar unpacks it, and a few rarer things."""
    path = str(tmp_path_factory.mktemp("original"))
    subprocess.run([*GNU, "-xpf", debian_tar, "-C", path], check=True)
    extra = os.path.join(path, "opt", "extra")
    os.makedirs(os.path.join(extra, "n" * 120, "m" * 150))
    with open(os.path.join(extra, "n" * 120, "m" * 150, "long"), "w") as file:
        file.write("long")
    with open(os.path.join(extra, "sparse"), "wb") as sparse:
        for at in range(40):
            sparse.seek(at * 1_000_000)
            sparse.write(b"%d" % at)
        sparse.truncate(50_000_000)
    with open(os.path.join(extra, "capable"), "w") as file:
        file.write("x")
    os.chown(os.path.join(extra, "capable"), 1234, 2**31)
    os.chmod(os.path.join(extra, "capable"), 0o6755)
    os.setxattr(os.path.join(extra, "capable"), "security.capability", capability(1 << 13))
    os.setxattr(os.path.join(extra, "capable"), "user.note", b"\0binary\xff")
    os.link(os.path.join(extra, "capable"), os.path.join(extra, "linked"))
    os.symlink("t" * 3000, os.path.join(extra, "longlink"))
    os.symlink(b"\xff\xfe", os.path.join(os.fsencode(extra), b"name\xff\n"))
    os.mknod(os.path.join(extra, "null"), 0o020666, os.makedev(1, 3))
    os.mkfifo(os.path.join(extra, "fifo"), 0o620)
    os.makedirs(os.path.join(extra, "shared"))
    os.setxattr(os.path.join(extra, "shared"), "user.dir", b"d")
    os.chmod(os.path.join(extra, "shared"), 0o3777)
    yield path
    remove_tree(path)


@pytest.mark.parametrize(
    ("form", "packer", "openat2"),
    [
        ("pax", "", True),
        ("pax", "-z", True),
        ("pax", "--zstd", True),
        ("pax", "", False),
        ("gnu", "", True),
    ],
)
def test_what_gnu_tar_packs(
    original: str, base: str, dest: str, form: str, packer: str, openat2: bool
) -> None:
    # GNU tar keeps xattrs in the pax format only.
    xattrs = ["--xattrs", "--xattrs-include=*"] if form == "pax" else []
    command = ["tar", "--numeric-owner", *xattrs, f"--format={'posix' if form == 'pax' else 'gnu'}"]
    command += ["--sparse", *([packer] if packer else []), "-cf", "-", "-C", original, "."]
    reference = os.path.join(base, "reference")
    os.mkdir(reference)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as pack:
        assert pack.stdout is not None
        got = tar.extract(pack.stdout.fileno(), dest, openat2=openat2)
    assert got.compression == {"": "none", "-z": "gzip", "--zstd": "zstd"}[packer]
    if form == "pax":
        assert tree(dest) == tree(original)
    else:
        # Whole seconds and no xattrs: compared with what GNU tar makes of the same archive.
        with subprocess.Popen(command, stdout=subprocess.PIPE) as pack:
            subprocess.run([*GNU, "-xp", *([packer] if packer else []), "-C", reference],
                           stdin=pack.stdout, check=True)  # fmt: skip
        assert tree(dest) == tree(reference)
    holes = os.stat(os.path.join(dest, "opt/extra/sparse"))
    assert holes.st_size == 50_000_000 and holes.st_blocks * 512 < 2_000_000
    remove_tree(reference)
    remove_tree(dest)
    assert os.listdir(base) == []


def test_sums(debian_tar: str, dest: str) -> None:
    """The digest is sha256sum's, and the size the file's."""
    want = subprocess.run(["sha256sum", debian_tar], capture_output=True, text=True, check=True)
    with open(debian_tar, "rb") as file:
        got = tar.extract(file.fileno(), dest)
    assert got.digest == "sha256:" + want.stdout.split()[0]
    assert got.size == os.path.getsize(debian_tar)
    assert got.entries == len(tree(dest))
    remove_tree(dest)
