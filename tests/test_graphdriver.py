"""Which graph driver a store gets, and that it keeps it."""

from __future__ import annotations

import os
import subprocess

import pytest

from fastbox import Engine, graphdriver
from fastbox.errors import FastboxError, StoreError
from tests.image.build import make, open_store
from tests.support.command import Command, fastbox_program
from tests.support.images import archive
from tests.support.leaks import LeakCheck


def driver(root: str) -> str:
    with open(f"{root}/driver") as file:
        return file.readline().strip()


@pytest.fixture
def config(base: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The configuration file of this test."""
    path = os.path.join(base, "config.toml")
    monkeypatch.setenv("FASTBOX_CONFIG", path)
    with open(path, "w"):
        pass
    return path


def set_driver(config: str, name: str) -> None:
    with open(config, "w") as file:
        file.write(f'storage-driver = "{name}"\n')


def test_a_normal_file_system(root: str, config: str) -> None:
    make(open_store(root), "a:1")
    assert driver(root) == "overlay"
    assert os.listdir(f"{root}/layers/.tmp") == []
    assert graphdriver.trial(root) == ""


def test_a_store_of_an_older_version(root: str, config: str) -> None:
    make(open_store(root), "a:1")
    os.unlink(f"{root}/driver")
    set_driver(config, "copy")
    assert open_store(root).resolve("a:1")
    with open_store(root).lease():
        assert driver(root) == "overlay"


SCRIPT = """
set -e
mount -t tmpfs none "$1"; cd "$1"; mkdir low up work root
mount -t overlay none -o lowerdir=low,upperdir=up,workdir=work root
export FASTBOX_ROOT="$1/root/store"; fastbox=$2
$fastbox import "$3" busybox > "$1/out"
cat $FASTBOX_ROOT/driver
$fastbox run --name web --network none busybox sh -c 'echo one > /file; rm -f /bin/cat'
$fastbox start -a web
$fastbox diff web
$fastbox cp web:/file - | tar -xO
$fastbox commit web made | cut -c 1-7; $fastbox run --rm --network none made sed p /file
$fastbox rm web > "$1/out"
$fastbox info 2>&1 | grep -e Storage -e overlayfs -e Backing
$fastbox system check
"""


def test_inside_of_an_overlay(base: str, home: str, leak_check: LeakCheck) -> None:
    """As in a container: there, overlayfs can mount, but not write."""
    place = f"{base}/tmpfs"
    leak_check.watch(f"{place}/root/store")
    os.mkdir(place)
    argv = ["unshare", "-m", "sh", "-c", SCRIPT]
    cli = Command([*argv, "sh", place, fastbox_program(), archive("busybox")], home)
    lines = cli.ok().splitlines()
    assert lines[0] == "copy"
    assert "making a whiteout: operation not permitted" in lines[1]
    assert lines[2:6] == ["C /bin", "D /bin/cat", "A /file", "one"]
    assert lines[6:9] == ["sha256:", "one", "one"]
    assert lines[9:11] == [" Storage Driver: copy", "  Backing Filesystem: overlay"]
    assert "WARNING: overlayfs does not work in" in lines[11]
    assert lines[12].endswith("0 containers, 0 volumes, 1 network: no problems")


def test_the_configured_one(root: str, config: str) -> None:
    set_driver(config, "copy")
    make(open_store(root), "a:1")
    assert driver(root) == "copy"
    assert graphdriver.reason(root) == ""
    set_driver(config, "overlay")
    with pytest.raises(
        StoreError, match=r"storage-driver is overlay, and the store .* copy"
    ) as caught:
        make(open_store(root), "b:1")
    assert "set storage-driver to copy, or use another store" in str(caught.value.hint)
    assert [image.names for image in open_store(root).images()] == [["docker.io/library/a:1"]]


def test_an_empty_store_follows_the_configuration(root: str, config: str) -> None:
    set_driver(config, "copy")
    open_store(root).prepare()
    assert driver(root) == "copy"
    set_driver(config, "overlay")
    make(open_store(root), "a:1")
    assert driver(root) == "overlay"


def test_a_configured_one_that_does_not_work(
    root: str, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_driver(config, "overlay")
    monkeypatch.setattr(graphdriver, "trial", lambda directory: "mounting: no such device")
    with pytest.raises(
        StoreError, match=r"does not work in .*: mounting: no such device"
    ) as caught:
        open_store(root).prepare()
    assert "take the key out" in str(caught.value.hint)
    set_driver(config, "copy")
    open_store(root).prepare()


def test_who_cannot_mount_does_not_choose(
    root: str, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphdriver, "trial", lambda directory: "mounting: operation not permitted")
    monkeypatch.setattr(graphdriver, "_may_mount", lambda: False)
    open_store(root).prepare()
    assert not os.path.exists(f"{root}/driver")


@pytest.mark.parametrize("text", ["", "zfs\n", "overlay2", "\xff"])
def test_a_damaged_file(root: str, config: str, text: str) -> None:
    make(open_store(root), "a:1")
    with open(f"{root}/driver", "w", encoding="latin-1") as file:
        file.write(text)
    with pytest.raises(FastboxError, match=r"driver is damaged: it names no driver"):
        open_store(root).prepare()


def test_a_start_reads_it_nowhere(engine: Engine, busybox_image: str) -> None:
    from tests.support.boxes import start

    box = start(engine, "busybox")
    engine.stop(box.id, timeout=0)
    with open(f"{engine.root}/driver", "w") as file:
        file.write("damaged")
    Engine(engine.root, engine.runtime_dir).start(box.id)


def test_a_trial_that_fails_leaves_nothing(base: str) -> None:
    assert graphdriver.trial("/proc/self") != ""
    done = subprocess.run(["findmnt", "-n", "-o", "TARGET"], capture_output=True, text=True)
    assert "trial-" not in done.stdout
