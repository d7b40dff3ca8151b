"""Commands in a box, one after another or at once, each in a cgroup of its own.

``Server`` is the helper that starts them (``_core/monitor/serve.c``). A ``Group`` is what a command
and all that it starts are in, also what has left its session, so that they can be killed together
and nothing else is. Only the v2 hierarchy tells their CPU time, and kills them in one step; on a
host that has none the group is one of the freezer's, and its processes are killed until none is
left.
"""

from __future__ import annotations

import _socket  # the module over it costs milliseconds at start
import array
import contextlib
import errno
import os
import select
import signal
import struct
import time
from typing import TYPE_CHECKING

import msgspec

from .._core import launch as core
from ..errors import FastboxError, NotRunning, Unsupported
from . import exec as execs
from . import launch
from .cgroups import files, v1, v2

if TYPE_CHECKING:
    from .cgroups import Cgroup

_SERVED = struct.Struct("=iIQQQ")
_PIECE = 1 << 16
_PIPEFULS = 16
_NEVER = 1 << 62  # bytes: no limit
KILL_SECONDS = 10.0
_AGAIN = 0.02  # seconds between two kills of what may just be starting
_EMPTY_SECONDS = 2.0


class Ended(msgspec.Struct):
    """How a command ended.

    Attributes:
        status: its exit status, 128+n if signal n killed it.
        stopped: why it was killed by us: ``"timeout"``, ``"output"``, ``"cancel"``; "" if it was
            not.
        user, system: CPU seconds of the command and of what it waited for.
        max_rss: bytes that the largest of these processes had resident.
        failure: what it could not be started for.
    """

    status: int = 137
    stdout: bytes = b""
    stderr: bytes = b""
    stopped: str = ""
    truncated: bool = False
    user: float = 0.0
    system: float = 0.0
    max_rss: int = 0
    failure: core.StepError | None = None


class Server:
    """The helper that starts a box's commands. Close it before the box ends.

    Args:
        init: a pidfd of the box's init.

    Raises:
        OSError
    """

    def __init__(self, cgroup: Cgroup, init: int) -> None:
        self._socket, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        procs = [os.fsencode(f"{path}/cgroup.procs") for path in cgroup.v1_dirs.values()]
        try:
            self._pid = core.spawn_helper(
                launch.sealed_helper(),
                [b"fastbox-serve", *procs],
                [-1, -1, -1, theirs.fileno(), init],
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()

    def close(self) -> None:
        """Its commands end with it. A second time is fine."""
        pid, self._pid = self._pid, 0
        if pid:
            # Closing alone would say nothing while a process lives that was forked meanwhile.
            with contextlib.suppress(OSError):  # it has ended
                self._socket.shutdown(_socket.SHUT_RDWR)
            self._socket.close()
            with contextlib.suppress(ChildProcessError):
                core.wait_helper(pid)

    def leave(self) -> None:
        """In a forked child: it is the parent's."""
        self._pid = 0
        self._socket.close()

    def request(self, plan: bytes, stdio: list[int], group: int) -> _socket.socket:
        """Ask for a command; where the answers come from.

        Raises:
            NotRunning: the box has ended.
        """
        answers, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        plan_fd = os.memfd_create("fastbox-plan", os.MFD_CLOEXEC)
        try:
            os.write(plan_fd, plan)
            rights = array.array("i", [*stdio, plan_fd, theirs.fileno(), group])
            self._socket.sendmsg([b"R"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
        except BaseException as error:
            answers.close()
            if not self._pid or isinstance(error, ConnectionError):
                raise NotRunning("the box has ended") from error
            raise
        finally:
            theirs.close()
            os.close(plan_fd)
        return answers


class Group:
    """The cgroup of a run. It can be used again once it is empty, unless it was killed: the kernel
    kills what is cloned into such a one from outside (``kill_seq``, Linux 6.15).

    Args:
        cgroup: the box's. number: tells its groups apart.

    Raises:
        Unsupported: there is no hierarchy for it. OSError
    """

    def __init__(self, cgroup: Cgroup, number: int) -> None:
        parent = cgroup.v2_dir or cgroup.v1_dirs.get("freezer")
        if parent is None:
            raise Unsupported("runs cannot be told apart: no cgroup v2 and no freezer hierarchy")
        self.directory = f"{parent}/run-{number}"
        self._is_v2 = cgroup.v2_dir is not None
        self.was_killed = False
        os.mkdir(self.directory, 0o755)
        # What the server takes, see serve.c.
        flags = os.O_RDONLY | os.O_DIRECTORY if self._is_v2 else os.O_WRONLY
        place = self.directory if self._is_v2 else f"{self.directory}/cgroup.procs"
        self.fd = os.open(place, flags | os.O_CLOEXEC)

    def close(self) -> None:
        """Remove it, if nothing is in it."""
        os.close(self.fd)
        with contextlib.suppress(OSError):
            os.rmdir(self.directory)

    def pids(self) -> list[int]:
        """Its processes; none if it is gone."""
        try:
            return [int(pid) for pid in files.read(self.directory, "cgroup.procs").split()]
        except OSError:
            return []

    def is_empty(self) -> bool:
        """Whether no process is in it."""
        if not self._is_v2:
            return not self.pids()
        try:
            return v2.events(self.directory).get("populated") == "0"
        except OSError:
            return True

    def kill(self) -> None:
        """SIGKILL to all that is in it."""
        self.was_killed = True
        if self._is_v2:
            try:
                files.write_raw(self.directory, "cgroup.kill", "1")  # Linux 5.14
                return
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
                    raise
        self._kill_each()

    def _kill_each(self) -> None:
        """In passes: what is killed may have forked before."""
        for _ in range(100):
            pids = self.pids()
            if not pids:
                return
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)

    def kill_and_wait(self) -> None:
        """Until all of it is gone."""
        self.kill()
        if self._is_v2:
            v2.wait_empty(self.directory, _EMPTY_SECONDS)

    def cpu(self) -> tuple[int, int] | None:
        """µs in user and kernel mode of all that ever was in it; None where nobody counts."""
        if not self._is_v2:
            return None
        try:
            lines = files.read(self.directory, "cpu.stat").splitlines()
        except OSError:
            return None
        found = dict(line.split(" ", 1) for line in lines)
        if "user_usec" not in found:
            return None
        return int(found["user_usec"]), int(found["system_usec"])


class Groups:
    """The groups of a box's runs: those that became empty are used again."""

    def __init__(self, cgroup: Cgroup) -> None:
        self._cgroup = cgroup
        self._free: list[Group] = []
        self._left: list[Group] = []  # whose processes went on when their run had ended
        self._made = 0
        self._is_closed = False

    def take(self) -> Group:
        """One that nothing is in."""
        if not self._free and self._left:
            self._look_again()
        with contextlib.suppress(IndexError):  # another thread
            return self._free.pop()
        self._made += 1
        return Group(self._cgroup, self._made)

    def give_back(self, group: Group) -> None:
        """The run has ended; what it has left behind goes on."""
        if self._is_closed or group.was_killed:
            group.close()
            return
        (self._free if group.is_empty() else self._left).append(group)

    def _look_again(self) -> None:
        left, self._left = self._left, []
        for group in left:
            self.give_back(group)

    def close(self) -> None:
        """Their descriptors; the box's end removes them."""
        self._is_closed = True
        for group in [*self._free, *self._left]:
            group.close()
        self._free, self._left = [], []


class Memory:
    """What the memory controller counts of a box.

    Attributes:
        counts: whether it does.
    """

    def __init__(self, cgroup: Cgroup) -> None:
        self._v1 = cgroup.v1_dirs.get("memory")
        self._directory = self._v1 or cgroup.v2_dir or ""
        name = "memory.max_usage_in_bytes" if self._v1 else "memory.peak"
        self._peak = -1
        with contextlib.suppress(OSError):
            self._peak = os.open(f"{self._directory}/{name}", os.O_RDWR | os.O_CLOEXEC)
        self.counts = self._peak >= 0

    def close(self) -> None:
        if self._peak >= 0:
            os.close(self._peak)
            self._peak = -1

    def kills(self) -> int:
        """How often the kernel has killed for want of memory."""
        if not self.counts:
            return 0
        with contextlib.suppress(OSError):
            count = v1.oom_kills if self._v1 else v2.oom_kills
            return count(self._directory)
        return 0

    def begin(self) -> None:
        """Forget the peak so far (v2: Linux 6.12; before, it is of the box's whole life)."""
        if self.counts:
            with contextlib.suppress(OSError):
                os.write(self._peak, b"0")

    def peak(self) -> int:
        """Bytes; 0 if nobody counts."""
        if not self.counts:
            return 0
        with contextlib.suppress(OSError, ValueError):
            return int(os.pread(self._peak, 64, 0))
        return 0


class Exchange:
    """The streams of a run while it lasts: what goes in, what comes out, and what ends it.

    Args:
        answers: see ``Server.request``. group: what to kill.
        out, err: read ends, not blocking; closed in the end.
        feed: the write end of its stdin, not blocking, or -1; data: what goes there.
        limit: bytes of each of the two outputs.
        deadline: in ``time.monotonic()``. cancel: a descriptor that is readable when it is to end.
    """

    def __init__(
        self,
        answers: _socket.socket,
        group: Group,
        out: int,
        err: int,
        feed: int,
        data: memoryview,
        *,
        limit: int | None,
        deadline: float | None,
        cancel: int | None,
    ) -> None:
        self._answers, self._group = answers, group
        self._parts: dict[int, list[bytes]] = {out: [], err: []}
        self._room = dict.fromkeys((out, err), _NEVER if limit is None else limit)
        self._outputs = (out, err)
        self._feed, self._data = feed, data
        self._deadline, self._cancel = deadline, cancel
        self._ended = Ended()
        self._is_over = False
        self._poller = select.poll()
        for fd in (answers.fileno(), out, err):
            self._poller.register(fd, select.POLLIN)
        if cancel is not None:
            self._poller.register(cancel, select.POLLIN)
        if feed >= 0:
            self._poller.register(feed, select.POLLOUT)

    def serve(self) -> Ended:
        """Until the command has ended, or was killed.

        Raises:
            NotRunning: the box has ended.
        """
        try:
            while not self._is_over:
                self._step()
            if self._ended.stopped:
                self._group.kill_and_wait()
            self._drain()
        except BaseException:
            self._abandon()
            raise
        finally:
            self.close()
        return self._ended

    def close(self) -> None:
        self._answers.close()
        self._end_input()
        for fd in self._outputs:
            os.close(fd)

    def _step(self) -> None:
        ready = self._poller.poll(self._patience())
        for fd, _ in ready:
            if fd in self._parts:
                self._read(fd)
            elif fd == self._feed:
                self._write()
            elif fd == self._cancel:
                self._stop("cancel")
        if any(fd == self._answers.fileno() for fd, _ in ready):
            self._receive()
        elif self._ended.stopped:
            self._group.kill()  # it may not have been in its group yet
            if time.monotonic() > self._deadline_of_kill:
                raise FastboxError(
                    "a command in a box did not end when it was killed",
                    hint="it may be stuck in the kernel (state D)",
                )
        elif self._deadline is not None and time.monotonic() >= self._deadline:
            self._stop("timeout")

    def _patience(self) -> float | None:
        """ms"""
        if self._ended.stopped:
            return _AGAIN * 1000
        if self._deadline is None:
            return None
        # A millisecond more: poll(2) rounds down.
        return max(0.0, (self._deadline - time.monotonic()) * 1000) + 1

    def _stop(self, why: str) -> None:
        if self._ended.stopped:
            return
        self._ended.stopped = why
        self._deadline_of_kill = time.monotonic() + KILL_SECONDS
        if self._cancel is not None:
            self._poller.unregister(self._cancel)
        self._end_input()
        self._group.kill()

    def _receive(self) -> None:
        with contextlib.suppress(ConnectionResetError):
            packet = self._answers.recv(_SERVED.size)
            if len(packet) == _SERVED.size:
                status, _, user, system, kib = _SERVED.unpack(packet)
                self._ended.status = status
                self._ended.user, self._ended.system = user / 1e6, system / 1e6
                self._ended.max_rss = kib * 1024
                self._is_over = True
                return
            error = execs.decode_error(packet)
            if error is not None:
                self._ended.failure = error
                return
        raise NotRunning("the box has ended while a command ran in it")

    def _read(self, fd: int) -> bool:
        """Whether there may be more."""
        try:
            data = os.read(fd, _PIECE)
        except BlockingIOError:
            return False
        if not data:
            self._poller.unregister(fd)
            self._room[fd] = -1
            return False
        room = self._room[fd]
        self._parts[fd].append(data[:room] if len(data) > room else data)
        self._room[fd] = max(0, room - len(data))
        if len(data) > room:
            self._poller.unregister(fd)
            self._room[fd] = -1
            self._ended.truncated = True
            if not self._is_over:
                self._stop("output")
            return False
        return True

    def _write(self) -> None:
        try:
            self._data = self._data[os.write(self._feed, self._data) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # the command did not read all
            self._data = memoryview(b"")
        if not self._data:
            self._end_input()

    def _end_input(self) -> None:
        if self._feed >= 0:
            with contextlib.suppress(KeyError):
                self._poller.unregister(self._feed)
            os.close(self._feed)
            self._feed = -1

    def _drain(self) -> None:
        """What is in the pipes. Who still has them open may be writing, so not until they are
        empty."""
        for fd in self._outputs:
            for _ in range(_PIPEFULS):
                if self._room[fd] < 0 or not self._read(fd):
                    break
        self._ended.stdout, self._ended.stderr = (b"".join(self._parts[fd]) for fd in self._outputs)

    def _abandon(self) -> None:
        """Interrupted: kill it, and see that it has gone."""
        deadline = time.monotonic() + KILL_SECONDS
        with contextlib.suppress(OSError, FastboxError):
            while not self._is_over and time.monotonic() < deadline:
                self._group.kill()
                if select.select([self._answers], [], [], _AGAIN)[0]:
                    self._receive()
            self._group.kill_and_wait()
