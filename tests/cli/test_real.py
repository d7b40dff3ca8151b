"""The real command over the real engine: streams, signals, pipes, logs that rotate."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from tests.support.command import Command

TRAP = 'trap "echo caught; exit 7" TERM INT; echo up; while :; do sleep 0.05; done'


@pytest.mark.usefixtures("busybox_image")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_to_the_client_reaches_the_command(cli: Command, name: str) -> None:
    client = cli.popen("run", "--network", "none", "--rm", "busybox", "sh", "-c", TRAP)
    assert client.stdout is not None
    assert client.stdout.readline() == b"up\n"
    client.send_signal(getattr(signal, name))
    out, err = client.communicate(timeout=30)
    assert (client.returncode, out, err) == (7, b"caught\n", b"")
    assert cli.ok("ps", "-aq") == ""


@pytest.mark.usefixtures("busybox_image")
def test_without_proxy_the_client_ends_and_the_container_stays(cli: Command) -> None:
    client = cli.popen(
        "run",
        "--network",
        "none",
        "--name",
        "stays",
        "--sig-proxy=false",
        "busybox",
        "sh",
        "-c",
        TRAP,
    )
    assert client.stdout is not None
    assert client.stdout.readline() == b"up\n"
    client.send_signal(signal.SIGINT)
    _, err = client.communicate(timeout=30)
    assert (client.returncode, err) == (130, b"")
    assert cli.ok("inspect", "-f", "{{.State.Status}}", "stays") == "running"


@pytest.mark.usefixtures("busybox_image")
def test_streams_stay_apart_and_standard_input_needs_i(cli: Command) -> None:
    script = "cat; echo out; echo err >&2; exit 3"
    result = cli(
        "run", "--network", "none", "--rm", "-i", "busybox", "sh", "-c", script, input="in\n"
    )
    assert (result.code, result.out, result.err) == (3, "in\nout\n", "err\n")
    result = cli("run", "--network", "none", "--rm", "busybox", "sh", "-c", script, input="in\n")
    assert (result.code, result.out, result.err) == (3, "out\n", "err\n")


@pytest.mark.usefixtures("busybox_image")
def test_a_closed_standard_output_is_the_containers_dev_null(cli: Command) -> None:
    line = '"$@" run --rm --network none busybox sh -c "echo lost; exit 4" >&-'
    done = subprocess.run(
        ["sh", "-c", line, "sh", *cli.argv], env=cli.env, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (4, b"", b"")


@pytest.mark.usefixtures("busybox_image")
def test_logs_of_a_container_that_rotates_them(cli: Command) -> None:
    script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo oops >&2"
    options = ["--log-opt", "max-size=60k", "--log-opt", "max-file=20"]
    name = cli.ok("run", "--network", "none", "-d", *options, "busybox", "sh", "-c", script)
    followed = cli("logs", "-f", name)
    assert followed.lines == [f"line {number}" for number in range(3000)]
    assert followed.err == "oops\n"
    directory = os.path.dirname(cli.ok("inspect", "-f", "{{.LogPath}}", name))
    assert "container.log.1" in os.listdir(directory)
    last = cli("logs", "--tail", "3", name)
    assert (last.lines, last.err) == (["line 2998", "line 2999"], "oops\n")
    stamped = cli("logs", "-t", "-n", "2", name).lines[0]
    assert stamped.endswith("Z line 2999")
    assert cli("logs", "--since", "1h", "-n", "2", name).lines == ["line 2999"]
    assert cli("logs", "--until", "1h", name).lines == []


@pytest.mark.usefixtures("busybox_image")
def test_output_is_kept_byte_by_byte(cli: Command) -> None:
    """Long lines, NULs, bytes that are no UTF-8, no newline at the end."""
    script = "head -c 200000 /dev/zero | tr '\\0' x; printf '\\n\\000\\377\\nend'"
    expected = b"x" * 200000 + b"\n\0\xff\nend"
    name = cli.ok("run", "--network", "none", "-d", "busybox", "sh", "-c", script)
    assert cli("wait", name).out == "0\n"
    assert cli("logs", name).raw == expected
    assert cli("logs", "-n", "1", name).raw == b"end"
    assert cli("logs", "-n", "2", name).raw == b"\0\xff\nend"


@pytest.mark.usefixtures("busybox_image")
def test_inspect_tells_what_was_asked_for(cli: Command) -> None:
    cli.ok(
        "create", "--network", "none", "--name", "web", "-e", "A=1", "-l", "a=b", "-v",
        "data:/data:ro", "--tmpfs", "/scratch:size=1m", "-m", "64m", "--restart",
        "on-failure:2", "busybox", "true",
    )  # fmt: skip
    (box,) = json.loads(cli.ok("inspect", "web"))
    assert box["Name"] == "/web"
    assert box["State"]["Status"] == "created"
    assert (box["Path"], box["Args"], box["Config"]["Cmd"]) == ("true", [], ["true"])
    assert "A=1" in box["Config"]["Env"]
    assert box["Config"]["Labels"] == {"a": "b"}
    assert box["HostConfig"]["Memory"] == 64 << 20
    assert box["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    assert box["HostConfig"]["Binds"] == ["data:/data:ro"]
    (data,) = [point for point in box["Mounts"] if point["Type"] == "volume"]
    assert (data["Name"], data["Destination"], data["RW"]) == ("data", "/data", False)
    assert box["Image"] == cli.ok("inspect", "-f", "{{.Id}}", "--type", "image", "busybox")
    assert cli.ok("ps", "-aq", "-f", "ancestor=busybox", "-f", "volume=data") == box["Id"][:12]
    assert cli.ok("volume", "ls", "-q") == "data"


@pytest.mark.usefixtures("busybox_image")
def test_top_shows_the_containers_processes_as_the_host_numbers_them(cli: Command) -> None:
    name = cli.ok("run", "--network", "none", "-d", "busybox", "sh", "-c", "sleep 61 & sleep 62")
    pid = cli.ok("inspect", "-f", "{{.State.Pid}}", name)
    rows = cli("top", name, "-o", "pid,args").lines
    assert rows[0].split() == ["PID", "COMMAND"]
    assert rows[1].split()[0] == pid
    head, *rows = cli("top", name).lines
    assert head.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert head.startswith("UID".ljust(20) + "PID".ljust(20))
    assert sorted(row.split()[-1] for row in rows) == ["61", "62"]
    assert cli("top", name, "aux").lines[0].startswith("USER".ljust(20) + "PID".ljust(20) + "%CPU")
    for column in ("comm", "pid="):
        error = cli.fails(1, "top", name, "-o", column)
        assert error.splitlines()[0] == "Error: Couldn't find PID field in ps output"
    cli.ok("kill", name)
    assert cli.fails(1, "top", name) == f"Error: container {name} is not running\n"
    assert cli.ok("wait", name) == "137"
