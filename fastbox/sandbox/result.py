"""What a command in a box has done."""

from __future__ import annotations

import msgspec

from ..errors import CommandFailed, FastboxError


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has used.

    Attributes:
        user, system: CPU seconds of all its processes. Where there is no cgroup v2, only of the
            command and of what it has waited for.
        memory: bytes, the peak. Of a box with a memory limit: of the whole box while the run went
            on. Else: of the largest process of the run.
        wall: seconds from the request to the end.
    """

    user: float = 0.0
    system: float = 0.0
    memory: int = 0
    wall: float = 0.0

    @property
    def cpu(self) -> float:
        """CPU seconds, user and system."""
        return self.user + self.system


class SandboxResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a command in a box ended.

    Attributes:
        returncode: its exit status; 128+n if signal n killed it, also when fastbox sent that.
        stdout, stderr: what it wrote, to the limit.
        oom: the kernel killed one of its processes for want of memory.
        timed_out: its time was over, so it was killed, with all that it had started.
        truncated: it wrote more than ``output_limit`` to one of the two, so it was killed.
        error: of ``run_many``: what it could not be run for; else None.
        index: of ``run_many``: which of the jobs it was. files: what its job has collected.
    """

    args: list[str]
    stdout: bytes = b""
    stderr: bytes = b""
    returncode: int = 0
    oom: bool = False
    timed_out: bool = False
    truncated: bool = False
    usage: Usage = Usage()
    error: FastboxError | None = None
    index: int = 0
    files: dict[str, bytes] = {}

    @property
    def text(self) -> str:
        """stdout as UTF-8, undecodable bytes replaced."""
        return self.stdout.decode(errors="replace")

    def check(self) -> SandboxResult:
        """Itself, if all went well.

        Raises:
            CommandFailed: the exit status is not 0. FastboxError: ``error``.
        """
        if self.error is not None:
            raise self.error
        if self.returncode != 0:
            raise CommandFailed(
                f"{self.args[0]} in a box {self._why()}",
                returncode=self.returncode,
                stdout=self.stdout,
                stderr=self.stderr,
            )
        return self

    def _why(self) -> str:
        if self.timed_out:
            return "was killed: its time was over"
        if self.truncated:
            return "was killed: it wrote more than its output limit"
        if self.oom:
            return f"ended with exit status {self.returncode}: out of memory"
        return f"ended with exit status {self.returncode}"
