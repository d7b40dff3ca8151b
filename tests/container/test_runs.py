"""The groups of a box's runs: what kills them where the kernel has no quick way."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

import fastbox
from fastbox.container import cgroups, runs
from fastbox.container.cgroups import files
from fastbox.errors import Unsupported

if TYPE_CHECKING:
    from fastbox.engine import Engine

LINE = "setsid sh -c 'while :; do sleep 1002 & sleep 0.001; done' & sleep 1003"


def check(box: fastbox.Sandbox) -> None:
    """A timeout kills all of its run, and the next run is as before."""
    assert box.run(["sh", "-c", LINE], timeout=0.3).timed_out
    left = box.run(["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).text
    assert "1002" not in left and "1003" not in left


def test_a_kernel_without_cgroup_kill(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = files.write_raw

    def refuse(directory: str, name: str, value: str) -> None:
        if name == "cgroup.kill":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        write(directory, name, value)

    monkeypatch.setattr(files, "write_raw", refuse)
    with fastbox.Sandbox(busybox_image, engine=engine) as box:
        check(box)


def test_a_host_without_cgroup_v2(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = cgroups.detect()
    if not layout.v1:
        pytest.xfail("this host has no cgroup v1")
    only_v1 = cgroups.CgroupLayout(None, layout.v1)
    monkeypatch.setattr("fastbox.container.cgroups.layout._detected", only_v1)
    with fastbox.Sandbox(busybox_image, engine=engine, memory="32m") as box:
        check(box)
        usage = box.run(["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"]).usage
        assert usage.cpu > 0 and usage.memory > 0
        box.run(["sh", "-c", "sleep 1000 >/dev/null 2>&1 &"], check=True)


def test_no_hierarchy_for_groups(tmp_path: Any) -> None:
    group = cgroups.Cgroup(cgroups.detect(), "x", None, {"memory": str(tmp_path)})
    with pytest.raises(Unsupported, match="told apart"):
        runs.Group(group, 1)


def test_groups_are_used_again(engine: Engine, busybox_image: str) -> None:
    with fastbox.Sandbox(busybox_image, engine=engine) as box:
        directory = f"{cgroups.detect().v2}/{engine.cgroup_parent}/{box.id}"

        def groups() -> list[str]:
            return sorted(name for name in os.listdir(directory) if name.startswith("run-"))

        for _ in range(5):
            box.run(["true"])
        assert groups() == ["run-1"]
        box.run(["sh", "-c", "sleep 0.2 >/dev/null 2>&1 &"])
        box.run(["sleep", "0.4"])
        assert groups() == ["run-1", "run-2"]
        box.run(["sleep", "1000"], timeout=0.1)
        assert len(groups()) == 1  # what was killed is not
        box.run(["true"])
        assert len(groups()) == 1
