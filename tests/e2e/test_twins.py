"""The same commands to fastbox and, where a daemon answers, to docker: equal output, equal codes.

Words that differ on purpose are made equal first (docs/from-docker.md has the list).
"""

from __future__ import annotations

import hashlib
import re

import pytest

from tests.support.command import Command, Result

IMAGE = "fastbox-test/busybox"
RUN = ("run", "--rm", "--network", "none", IMAGE)


def normal(text: str) -> str:
    """Docker's words as fastbox's."""
    text = text.replace("Error response from daemon: ", "Error: ")
    text = re.sub(r"\bdocker\b", "fastbox", text)
    # The chain of causes before the last one belongs to Docker's layers.
    text = re.sub(
        r"Error: (failed to create|OCI runtime|unable to start).*?(exec: )", r"Error: \2", text
    )
    text = re.sub(r"(?m)^hint: .*\n?", "", text)
    text = re.sub(r"\b[0-9a-f]{64}\b", "ID", text)
    return text.replace(": unknown", "").rstrip(".\n")


def last_line(result: Result) -> str:
    """The error itself, without the usage text behind it and docker's own log before it."""
    lines = [line for line in normal(result.err).splitlines() if not line.startswith("time=")]
    return lines[0] if lines else ""


@pytest.mark.parametrize(
    ("command", "code", "out"),
    [
        (["echo", "hi"], 0, "hi\n"),
        (["sh", "-c", "exit 42"], 42, ""),
        (["sh", "-c", "kill -TERM $$; sleep 1"], 0, ""),
        (["sh", "-c", "kill -KILL $$"], 0, ""),
        (["id"], 0, "uid=0(root) gid=0(root) groups=0(root)\n"),
        (["pwd"], 0, "/\n"),
        (["cat"], 0, ""),
        (["sh", "-c", "umask; ulimit -c >/dev/null; echo $HOME $PATH"], 0,
         "0022\n/root /bin:/sbin:/usr/bin:/usr/sbin\n"),
        (["grep", "-E", "^(Cap|NoNewPrivs|Seccomp:)", "/proc/self/status"], 0,
         "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n"
         "CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n"),
        (["stat", "-c", "%F %a %t:%T", "/dev/null", "/dev/zero", "/dev/full", "/dev/random",
          "/dev/urandom", "/dev/tty"], 0,
         "".join(f"character special file 666 {n}\n" for n in
                 ("1:3", "1:5", "1:7", "1:8", "1:9", "5:0"))),
        (["sh", "-c", "for n in fd stdin stdout stderr ptmx; do readlink /dev/$n; done"], 0,
         "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n"),
        (["sh", "-c", "head -6 /etc/hosts"], 0,
         "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n"
         "ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"),
        (["sh", "-c", "df -k /dev/shm | tail -1 | awk '{print $2}'"], 0, "65536\n"),
        (["sh", "-c", "echo x > /proc/sys/kernel/hostname; echo $?"], 0, "1\n"),
        (["sh", "-c", "cat /proc/kcore | wc -c; ls /sys/firmware | wc -l"], 0, "0\n0\n"),
        (["sh", "-c", "ip -o link | wc -l; ip addr show lo | grep -c 127.0.0.1/8"], 0, "1\n1\n"),
        (["unshare", "-m", "true"], 1, ""),
        (["sh", "-c", "ls /proc/self/fd | wc -l"], 0, "4\n"),
    ],
)  # fmt: skip
def test_inside(twin: Command, command: list[str], code: int, out: str) -> None:
    result = twin(*RUN, *command)
    if "kill" in " ".join(command):  # PID 1 takes no default action
        assert result.code == 0
        return
    assert (result.code, result.out.replace("fe00::0", "fe00::").replace("ff00::0", "ff00::")) == (
        code,
        out.replace("fe00::0", "fe00::").replace("ff00::0", "ff00::"),
    )


@pytest.mark.parametrize(
    ("options", "command", "out"),
    [
        (["-e", "A=b", "-e", "PATH=/bin"], ["sh", "-c", "echo $A $PATH"], "b /bin\n"),
        (["-w", "/a/b"], ["pwd"], "/a/b\n"),
        (["-u", "1000"], ["id"], "uid=1000(app) gid=1000(app) groups=1000(app),1001(extra)\n"),
        (["-u", "app"], ["sh", "-c", "id -u; echo $HOME"], "1000\n/home/app\n"),
        (["-u", "app:nogroup"], ["id"], "uid=1000(app) gid=65534(nogroup) groups=65534(nogroup)\n"),
        (["-u", "4321:8765"], ["id"], "uid=4321 gid=8765 groups=8765\n"),
        (["-u", "app"], ["grep", "CapEff", "/proc/self/status"], "CapEff:\t0000000000000000\n"),
        (["--group-add", "extra"], ["id", "-G"], "0 1001\n"),
        (["-h", "box"], ["hostname"], "box\n"),
        (["--hostname", "box"], ["cat", "/etc/hostname"], "box\n"),
        (["--read-only"], ["sh", "-c", "touch /x; touch /dev/shm/x; echo $?"], "0\n"),
        (["--tmpfs", "/t:size=1m"], ["sh", "-c", "df -k /t | awk 'NR == 2 {print $2}'"], "1024\n"),
        (["--entrypoint", "echo"], ["a", "b"], "a b\n"),
        (["--cap-drop", "ALL"], ["grep", "CapBnd", "/proc/self/status"],
         "CapBnd:\t0000000000000000\n"),
        (["--cap-drop", "ALL", "--cap-add", "chown"], ["grep", "CapBnd", "/proc/self/status"],
         "CapBnd:\t0000000000000001\n"),
        (["--cap-add", "NET_ADMIN"], ["grep", "CapBnd", "/proc/self/status"],
         "CapBnd:\t00000000a80435fb\n"),
        (["--security-opt", "no-new-privileges"], ["grep", "NoNew", "/proc/self/status"],
         "NoNewPrivs:\t1\n"),
        (["--security-opt", "seccomp=unconfined"], ["grep", "Seccomp:", "/proc/self/status"],
         "Seccomp:\t0\n"),
        (["--ulimit", "nofile=100:200"], ["sh", "-c", "ulimit -Sn; ulimit -Hn"], "100\n200\n"),
        (["--sysctl", "net.ipv4.ip_forward=1"], ["cat", "/proc/sys/net/ipv4/ip_forward"], "1\n"),
        (["--shm-size", "1m"], ["sh", "-c", "df -k /dev/shm | tail -1 | awk '{print $2}'"],
         "1024\n"),
        (["--device", "/dev/null:/dev/mine"], ["stat", "-c", "%t:%T", "/dev/mine"], "1:3\n"),
        (["--init"], ["sh", "-c", "echo $$"], "7\n"),
        (["-v", "/tmp:/mnt:ro"], ["sh", "-c", "touch /mnt/x 2>/dev/null; echo $?"], "1\n"),
        (["--mount", "type=tmpfs,dst=/t"], ["sh", "-c", "grep -c ' /t ' /proc/mounts"], "1\n"),
        (["--oom-score-adj", "500"], ["cat", "/proc/self/oom_score_adj"], "500\n"),
    ],
)  # fmt: skip
def test_options(twin: Command, options: list[str], command: list[str], out: str) -> None:
    result = twin("run", "--rm", "--network", "none", *options, IMAGE, *command)
    if "--init" in options:  # any pid but 1
        assert int(result.out) > 1
        return
    assert (result.code, result.out) == (0, out), result


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ([*RUN, "nosuch"], 127),
        ([*RUN, "/nosuch"], 127),
        ([*RUN, "/etc/passwd"], 126),
        (["run", "--foo"], 125),
        (["run"], 1),
        (["run", "--name", "a b", IMAGE], 125),
        (["run", "-v", "a:b:c:d", IMAGE], 125),
        (["run", "--mount", "type=bind,src=/nonexistent,dst=/x", IMAGE], 125),
        (["run", "-w", "rel", IMAGE, "true"], 125),
        (["run", "-m", "1m", IMAGE, "true"], 125),
        (["run", "--cpus", "1000", IMAGE, "true"], 125),
        (["run", "--cpuset-cpus", "99", IMAGE, "true"], 125),
        (["run", "--sysctl", "kernel.core_pattern=x", IMAGE, "true"], 125),
        (["run", "--security-opt", "nonsense=1", IMAGE, "true"], 125),
        (["run", "--rm", "--restart", "always", IMAGE], 125),
        (["run", "--restart", "sometimes", IMAGE], 125),
        (["run", "--privileged=maybe", IMAGE], 125),
        (["run", "--cap-add", "NONSENSE", IMAGE], 125),
        (["run", "-u", "nobodyhere", IMAGE, "true"], 125),
        (["run", "--pull", "sometimes", IMAGE], 125),
        (["run", "--pull", "never", "nosuch/image"], 125),
        (["run", "Upper/Case"], 125),
        (["start", "nosuch"], 1),
        (["stop", "nosuch"], 1),
        (["kill", "nosuch"], 1),
        (["rm", "nosuch"], 1),
        (["rm", "-f", "nosuch"], 0),
        (["logs", "nosuch"], 1),
        (["exec", "nosuch", "true"], 1),
        (["top", "nosuch"], 1),
        (["wait", "nosuch"], 1),
        (["inspect", "nosuch"], 1),
        (["rmi", "nosuch"], 1),
        (["rmi", "-f", "nosuch"], 0),
        (["tag", "nosuch", "x"], 1),
        (["ps", "-f", "foo=bar"], 1),
        (["ps", "-f", "foo"], 125),
        (["nonsense"], 1),
        (["volume", "inspect", "nosuch"], 1),
        (["volume", "rm", "nosuch"], 1),
        (["volume", "create", "a b"], 1),
        (["images", "a", "b"], 1),
    ],
)
def test_refusals(twin: Command, args: list[str], code: int) -> None:
    result = twin(*args)
    assert result.code == code, result
    assert "Traceback" not in result.err
    if code:
        assert result.err.strip(), result


def test_life(twin: Command) -> None:
    """Names, states, logs, exec, exit codes through a container's life."""
    name = "fastbox-twin-life"
    container = twin.ok(
        "run", "-d", "--name", name, "--network", "none", "--label", "a=b", IMAGE,
        "sh", "-c", "echo out; echo err >&2; trap 'exit 3' TERM; while :; do sleep 0.1; done",
    ).strip()  # fmt: skip
    assert re.fullmatch("[0-9a-f]{64}", container)
    assert twin.ok("ps", "--format", "{{.Names}} {{.Image}} {{.State}}", "-f", f"name={name}") == (
        f"{name} {IMAGE} running"
    )
    assert twin.ok("ps", "-q", "--no-trunc", "-f", "label=a=b") == container
    assert twin.ok("exec", name, "sh", "-c", "echo $0; hostname") == f"sh\n{container[:12]}"
    assert twin("exec", name, "sh", "-c", "exit 9").code == 9
    assert twin("exec", name, "nosuch").code in (126, 127)  # 126: docker before 23
    assert twin("exec", name, "/etc/passwd").code == 126
    assert twin("rm", name).code == 1
    assert twin.ok("inspect", "-f", "{{.State.Running}} {{.Config.Hostname}}", container[:15]) == (
        f"true {container[:12]}"
    )
    top = twin.ok("top", name, "-o", "pid,comm").splitlines()
    assert top[0].split() == ["PID", "COMMAND"]
    assert twin.ok("stop", "-t", "20", name) == name
    assert twin.ok("wait", name) == "3"
    assert twin.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name) == "exited 3"
    logs = twin("logs", name)
    assert (logs.out, logs.err) == ("out\n", "err\n")
    assert twin.ok("logs", "--tail", "0", name) == ""
    assert twin.ok("start", name) == name
    assert twin.ok("kill", name) == name
    assert twin.ok("wait", name) == "137"
    assert twin("kill", name).code == 1
    assert twin("exec", name, "true").code == 1
    assert twin.ok("rm", name) == name
    assert twin("inspect", name).code == 1


def test_volumes(twin: Command) -> None:
    volume = "fastbox-twin-volume"
    assert twin.ok("volume", "create", volume) == volume
    run = ("run", "--rm", "--network", "none", "-v", f"{volume}:/etc", IMAGE)
    assert twin.ok(*run, "sh", "-c", "grep -c root /etc/passwd; echo new > /etc/new").strip() == "1"
    assert twin.ok(*run, "cat", "/etc/new") == "new"
    assert twin.ok("volume", "inspect", "-f", "{{.Name}} {{.Driver}}", volume) == f"{volume} local"
    assert volume in twin.ok("volume", "ls", "-q").split()
    assert twin.ok("volume", "rm", volume) == volume


def test_oom_is_reported(twin: Command) -> None:
    name = "fastbox-twin-oom"
    twin.ok(
        "run", "-d", "--name", name, "--network", "none", "-m", "16m", "--memory-swap", "16m",
        IMAGE, "tail", "/dev/zero",
    )  # fmt: skip
    assert twin.ok("wait", name) == "137"
    assert twin.ok("inspect", "-f", "{{.State.OOMKilled}}", name) == "true"
    twin.ok("rm", name)


def test_stdin_is_passed_exactly(twin: Command) -> None:
    data = bytes(range(256)) * 4096
    result = twin("run", "--rm", "-i", "--network", "none", IMAGE, "sha256sum", input=data)
    assert result.out.split()[0] == hashlib.sha256(data).hexdigest()
