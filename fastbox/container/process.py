"""Processes by pid *and* start time: a pid alone may belong to somebody else by now."""

from __future__ import annotations

import os
import select
import signal


def stat_fields(pid: int, most: int = -1) -> list[bytes]:
    """proc_pid_stat(5) from field 3, the state, on: the name before may hold anything. Empty if the
    process is gone.

    Args:
        most: fields that are wanted one by one; the rest is one text at the end.
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        data = os.read(fd, 4096)
    except OSError:
        return []
    finally:
        os.close(fd)
    return data[data.rfind(b")") + 2 :].split(b" ", most)


def start_time(pid: int) -> int:
    """Start time of a process in clock ticks since boot (proc(5), stat field 22); 0 if it is gone
    or a zombie."""
    fields = stat_fields(pid, 20)
    if not fields or fields[0] in (b"Z", b"X"):
        return 0
    return int(fields[19])


def own() -> tuple[int, int]:
    """(pid, start time) of this process."""
    global _own
    pid = os.getpid()
    if _own[0] != pid:  # the first time, or after a fork
        _own = pid, start_time(pid)
    return _own


_own = (0, 0)


def is_exiting(pid: int) -> bool:
    """Whether a process is gone, or on its way out (PF_EXITING in field 9)."""
    fields = stat_fields(pid)
    return not fields or fields[0] in (b"Z", b"X") or bool(int(fields[6]) & 0x4)


def boot_id() -> str:
    """Identity of this boot of the machine: a pid and a start time mean nothing after the next."""
    global _boot_id
    if not _boot_id:
        try:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                _boot_id = file.read().strip()
        except OSError:
            return ""
    return _boot_id


_boot_id = ""


def is_alive(pid: int, started: int) -> bool:
    """Whether this very process still runs."""
    return pid > 0 and start_time(pid) == started


def open_pidfd(pid: int, started: int) -> int | None:
    """A pidfd of this very process, or None if it is gone. The caller closes it."""
    if pid <= 0:
        return None
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return None
    if start_time(pid) != started:
        os.close(fd)
        return None
    return fd


def send(pid: int, started: int, number: int) -> bool:
    """Send a signal to this very process; False if it is gone."""
    fd = open_pidfd(pid, started)
    if fd is None:
        return False
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def wait_gone(pid: int, started: int, timeout: float | None) -> bool:
    """Block until the process has ended; False when the timeout (seconds) came first."""
    fd = open_pidfd(pid, started)
    if fd is None:
        return True
    try:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        return bool(poller.poll(None if timeout is None else max(0, timeout * 1000)))
    finally:
        os.close(fd)


_NAMES = {
    name[3:]: int(number)
    for name, number in signal.Signals.__members__.items()
    if name.startswith("SIG") and not name.startswith("SIG_")
}


def signal_number(text: str) -> int:
    """Number of a signal given as ``TERM``, ``SIGTERM``, ``sigterm``, ``15``, ``RTMIN+3``.

    Raises:
        InvalidArgument
    """
    from ..errors import InvalidArgument

    name = text.upper().removeprefix("SIG")
    if name.isdigit() and name.isascii():
        number = int(name)
        if 1 <= number <= 64:
            return number
    elif name in _NAMES:
        return _NAMES[name]
    else:
        for base, origin, sign in (("RTMIN+", signal.SIGRTMIN, 1), ("RTMAX-", signal.SIGRTMAX, -1)):
            if name.startswith(base) and name[len(base) :].isdigit():
                number = int(origin) + sign * int(name[len(base) :])
                if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
                    return number
    raise InvalidArgument(f"invalid signal: {text}")


def oom_score_of_others() -> str | None:
    """What to write to the oom_score_adj of a container whose configuration says nothing: nothing,
    unless this process is protected (systemd's supervisor has -500), which its containers are not
    to be. Looked up once."""
    global _others
    if _others is None:
        with open("/proc/self/oom_score_adj", encoding="ascii") as file:
            _others = "0" if int(file.read()) < 0 else ""
    return _others or None


_others: str | None = None
