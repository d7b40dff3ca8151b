"""diff: what a container's own layer adds, changes and deletes."""

from __future__ import annotations

import os
import subprocess

import pytest

from fastbox import ContainerConfig, Engine, Mount
from fastbox.errors import NotFound
from tests.support.boxes import execute, run, start


def diff(engine: Engine) -> list[str]:
    return [f"{change.kind} {change.path}" for change in engine.changes("web")]


def after(engine: Engine, image: str, script: str) -> list[str]:
    """The changes that a shell makes, running and stopped."""
    start(engine, image, name="web")
    done = execute(engine, engine.container("web"), "sh", "-ec", script)
    assert done.code == 0, done.err
    running = diff(engine)
    engine.stop("web", timeout=0)
    assert diff(engine) == running
    return running


def test_an_idle_container_has_none(engine: Engine, busybox_image: str) -> None:
    engine.create(ContainerConfig(image=busybox_image, name="web", command=["sleep", "1000"]))
    assert diff(engine) == []
    engine.start("web")
    assert diff(engine) == []
    execute(engine, engine.container("web"), "sh", "-c", "cat /etc/passwd; ls -R /etc; id")
    assert diff(engine) == []
    engine.stop("web", timeout=0)
    assert diff(engine) == []


def test_mount_points_alone_are_seen(engine: Engine, busybox_image: str) -> None:
    mounts = [
        Mount(type="volume", source="vol", target="/a/b"),
        Mount(type="tmpfs", target="/scratch"),
    ]
    start(engine, busybox_image, name="web", mounts=mounts, workdir="/work")
    script = "echo 1 > /a/b/x; echo 1 > /scratch/x; echo 1 > /dev/x; echo 1 > /dev/shm/x"
    assert execute(engine, engine.container("web"), "sh", "-c", script).code == 0
    assert diff(engine) == ["A /a", "A /a/b", "A /scratch", "A /work"]


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("echo 1 > /etc/new", ["C /etc", "A /etc/new"]),
        ("echo 1 > /new", ["A /new"]),
        ("echo 1 >> /etc/passwd", ["C /etc", "C /etc/passwd"]),
        ("chmod 600 /etc/passwd", ["C /etc", "C /etc/passwd"]),
        ("chmod 700 /etc", ["C /etc"]),
        ("chown 1:1 /home/app", ["C /home", "C /home/app"]),
        ("rm /etc/passwd", ["C /etc", "D /etc/passwd"]),
        ("rm -r /home", ["D /home"]),
        ("mkdir -p /a/b/c; touch /a/b/c/d", ["A /a", "A /a/b", "A /a/b/c", "A /a/b/c/d"]),
        ("touch /etc/x; rm /etc/x", ["C /etc"]),
        ("rm -r /home/app; touch /home/app", ["C /home", "C /home/app"]),
        ("rm /etc/group; mkdir /etc/group; touch /etc/group/x",
         ["C /etc", "C /etc/group", "A /etc/group/x"]),
        # An opaque directory: what it hides is deleted.
        ("rm -r /home; mkdir -p /home/app /home/b; touch /home/app/x",
         ["C /home", "C /home/app", "A /home/app/x", "A /home/b"]),
        ("rm -r /etc; mkdir /etc; touch /etc/group",
         ["C /etc", "C /etc/group", "D /etc/hostname", "D /etc/hosts", "D /etc/mtab",
          "D /etc/os-release", "D /etc/passwd", "D /etc/resolv.conf"]),
        ("rm /bin/sh; ln -s /etc /bin/sh", ["C /bin", "C /bin/sh"]),
        ("mknod /pipe p; ln -s x /link; ln /etc/passwd /etc/hard",
         ["C /etc", "A /etc/hard", "C /etc/passwd", "A /link", "A /pipe"]),
        ("mkdir /a; touch /a-b /a/c", ["A /a", "A /a-b", "A /a/c"]),
    ],
)  # fmt: skip
def test_changes(engine: Engine, busybox_image: str, script: str, wanted: list[str]) -> None:
    if "rm -r /etc;" in script:  # a running container has mounts in there
        engine.create(ContainerConfig(image=busybox_image, name="web"))
        upper = f"{engine.container('web').directory}/upper"
        subprocess.run(["sh", "-ec", f"mkdir {upper}/etc; touch {upper}/etc/group"], check=True)
        os.setxattr(f"{upper}/etc", "trusted.overlay.opaque", b"y")
        assert diff(engine) == wanted
    else:
        assert after(engine, busybox_image, script) == wanted


def test_what_cp_brings(engine: Engine, busybox_image: str, base: str) -> None:
    with open(f"{base}/f", "w") as file:
        file.write("f")
    engine.create(ContainerConfig(image=busybox_image, name="web"))
    with engine.copy_from("web", "/etc") as archive:
        archive.read()
    assert diff(engine) == []
    engine.copy_in("web", f"{base}/f", "/home/app/f")
    assert diff(engine) == ["C /home", "C /home/app", "A /home/app/f"]
    with pytest.raises(NotFound):
        engine.changes("nosuch")


def test_others_do_not_change(engine: Engine, busybox_image: str) -> None:
    """Copy on write: the image and other containers keep what one of them changes (S76)."""
    after(engine, busybox_image, "echo evil > /etc/passwd; rm /etc/group")
    assert "root" in run(engine, busybox_image, "cat", "/etc/passwd", "/etc/group").out
    engine.create(ContainerConfig(image=busybox_image, name="other"))
    assert engine.changes("other") == []


def test_hostile_trees(engine: Engine, busybox_image: str) -> None:
    script = (
        "ln -s / /tmp/up; ln -s /etc/passwd /home/link; rm -r /root; ln -s /etc /root;"
        "cd /; n=0; while [ $n -lt 240 ]; do mkdir ddddddddddddddd; cd ddddddddddddddd;"
        " n=$((n+1)); done"
    )
    found = after(engine, busybox_image, script)
    assert "C /root" in found and "A /tmp/up" in found and "A /home/link" in found
    assert found.count("A " + "/ddddddddddddddd" * 240) == 1


def test_while_directories_move(engine: Engine, busybox_image: str) -> None:
    """Each answer is a possible one, and none is an error."""
    script = "mkdir -p /a/b/c /x; while :; do mv /a/b /x/b; mv /x/b /a/b; done"
    start(engine, busybox_image, "sh", "-c", script, name="web")
    for _ in range(100):
        assert {change.path for change in engine.changes("web")} <= {
            "/a", "/a/b", "/a/b/c", "/x", "/x/b", "/x/b/c",
        }  # fmt: skip
