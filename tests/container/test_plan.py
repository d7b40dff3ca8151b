"""The launch plan: what the builder makes, the executor takes; damaged plans are refused."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbox._core import launch
from fastbox.container.launch import sealed_helper
from fastbox.container.plan import Filter, PlanBuilder


def plan(**extra: object) -> bytes:
    builder = PlanBuilder()
    builder.op(launch.OP_HOSTNAME, "box")
    builder.op(launch.OP_TREE, "/etc", slot=builder.new_slot(), flags=launch.F_RECURSIVE)
    builder.op(launch.OP_ATTACH, b="/mnt", slot=0, flags=launch.F_DIR)
    return builder.build(
        argv=["sh", "-c", "true"],
        env=["A=b", "PATH=/bin"],
        cwd="/",
        groups=[(5, ""), (None, "wheel")],
        seccomp=Filter(b"\6\0\0\0\0\0\xff\x7f", 4),
        **extra,  # type: ignore[arg-type]
    )


def test_a_plan_is_well_formed() -> None:
    launch.check_plan(plan(user_name="redis", group_name="redis", uid=3, gid=4))


def test_nul_in_a_string_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        PlanBuilder().op(launch.OP_HOSTNAME, "a\0b")


def test_a_slot_out_of_range_is_refused() -> None:
    builder = PlanBuilder()
    builder.op(launch.OP_ATTACH, b="/mnt", slot=3)
    with pytest.raises(ValueError, match="well-formed"):
        launch.check_plan(builder.build(argv=["x"], env=[], cwd="/"))


def test_no_argv_is_refused() -> None:
    with pytest.raises(ValueError, match="well-formed"):
        launch.check_plan(PlanBuilder().build(argv=[], env=[], cwd="/"))


def test_truncation_is_refused() -> None:
    data = plan()
    for length in range(len(data)):
        with pytest.raises(ValueError, match="well-formed"):
            launch.check_plan(data[:length])


@given(st.integers(0, len(plan()) - 1), st.integers(1, 255))
def test_a_flipped_byte_never_crashes(position: int, mask: int) -> None:
    data = bytearray(plan())
    data[position] ^= mask
    try:
        launch.check_plan(bytes(data))
    except ValueError:
        pass


@given(st.binary(max_size=400))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="well-formed"):
        launch.check_plan(data)


def test_ten_thousand_mounts_fit() -> None:
    builder = PlanBuilder()
    for number in range(10_000):
        builder.op(launch.OP_MKDIR, f"/{number}{'x' * 100}")
    launch.check_plan(builder.build(argv=["x"], env=[], cwd="/"))


def test_a_failing_step_is_an_error_with_its_place(tmp_path: object) -> None:
    builder = PlanBuilder()
    builder.op(launch.OP_HOSTNAME, "box")
    builder.op(launch.OP_CGROUP_JOIN, f"{tmp_path}/nothing/cgroup.procs")
    data = builder.build(argv=["true"], env=["PATH=/bin"], cwd="/", namespaces=0x04000000)
    with pytest.raises(launch.StepError) as caught:
        launch.start(
            data,
            stdio=[-1, -1, -1],
            monitor_path=b"/nonexistent",
            monitor_argv=[b"m", b""],
            monitor_fds=[-1] * 11,
            helper_fd=sealed_helper(),
        )
    assert (caught.value.step, caught.value.index, caught.value.errno) == (
        launch.OP_CGROUP_JOIN,
        1,
        2,
    )
    assert os.uname().nodename != "box"


def test_a_missing_monitor_leaves_no_process(tmp_path: object) -> None:
    builder = PlanBuilder()
    argv = ["fastbox-exec", "sleep", "1000"]
    data = builder.build(argv=argv, env=["PATH=/bin:/usr/bin"], cwd="/")
    with pytest.raises(launch.StepError) as caught:
        launch.start(
            data,
            stdio=[-1, -1, -1],
            monitor_path=b"/nonexistent",
            monitor_argv=[b"m", b""],
            monitor_fds=[-1] * 11,
            helper_fd=sealed_helper(),
        )
    assert caught.value.step == launch.STEP_MONITOR
