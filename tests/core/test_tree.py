"""Deleting trees, however hostile."""

from __future__ import annotations

import os

import pytest

from fastbox._core.tree import exchange, remove_tree


def test_remove_tree(tmp_path: object) -> None:
    base = str(tmp_path)
    os.makedirs(f"{base}/t/a/b")
    os.mkdir(f"{base}/keep")
    with open(f"{base}/keep/f", "w"):
        pass
    os.symlink("../../keep", f"{base}/t/a/l")
    for i in range(500):
        os.mkdir(f"{base}/t/{i}")
        with open(f"{base}/t/{i}/f", "w"):
            pass
    remove_tree(f"{base}/t/")
    remove_tree(f"{base}/t")
    assert os.listdir(base) == ["keep"] and os.listdir(f"{base}/keep") == ["f"]
    os.symlink("keep", f"{base}/l")
    remove_tree(os.fsencode(base) + b"/l")
    assert os.listdir(base) == ["keep"]


@pytest.mark.parametrize("depth", [31, 32, 33, 65, 5000])
def test_remove_deep_tree(tmp_path: object, depth: int) -> None:
    base = os.open(str(tmp_path), os.O_RDONLY)
    os.mkdir("deep", dir_fd=base)
    fd = os.open("deep", os.O_RDONLY, dir_fd=base)
    for i in range(3):  # names that moving deep directories up would like to have
        os.close(os.open(f".fastbox-removed-{i}", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    remove_tree("deep", dir_fd=base)
    os.close(base)
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("path", [".", "..", "a/..", "/", ""])
def test_remove_tree_wants_a_name(path: str) -> None:
    with pytest.raises(ValueError, match="not the name of a tree"):
        remove_tree(path)


def test_exchange(base: str) -> None:
    for name, content in (("one", "1"), ("other", "2")):
        os.mkdir(f"{base}/{name}")
        with open(f"{base}/{name}/{content}", "w"):
            pass
    exchange(f"{base}/one", os.fsencode(f"{base}/other"))
    assert (os.listdir(f"{base}/one"), os.listdir(f"{base}/other")) == (["2"], ["1"])
    with pytest.raises(FileNotFoundError) as caught:
        exchange(f"{base}/one", f"{base}/missing")
    assert (caught.value.filename, caught.value.filename2) == (f"{base}/one", f"{base}/missing")
    assert os.listdir(f"{base}/one") == ["2"]
