"""A dockerd of the tests' own: its files below one directory, no networks."""

from __future__ import annotations

import contextlib
import os
import subprocess

from .command import Command
from .wait import wait_for

# Its runtime files are on a tmpfs, as on a host; what it mounts goes with the namespace.
_START = 'mkdir -p "$1/run" && mount -t tmpfs tmpfs "$1/run" && shift && exec dockerd "$@"'


class Dockerd:
    """A running daemon.

    Args:
        directory: an existing one, with a short path; emptied by whoever made it.

    Attributes:
        docker: the client.
    """

    def __init__(self, directory: str) -> None:
        address = f"unix://{directory}/socket"
        argv = ["--data-root", f"{directory}/data", "--exec-root", f"{directory}/run"]
        argv += ["--pidfile", f"{directory}/run/pid", "--host", address, "--bridge", "none"]
        argv += ["--iptables=false", "--ip6tables=false", "--log-level", "error"]
        self._log = os.path.join(directory, "log")
        home = os.path.join(directory, "home")
        os.makedirs(home)
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", _START, "sh",
                 directory, *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )  # fmt: skip
        self.docker = Command(["docker"], home, {"DOCKER_HOST": address})
        try:
            wait_for(self._answers, "dockerd to answer", timeout=60)
        except BaseException:
            self.close()
            raise

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            with open(self._log, encoding="utf-8", errors="replace") as log:
                raise ChildProcessError(f"dockerd ended: {log.read()[-2000:]}")
        return self.docker("version").code == 0

    def close(self) -> None:
        """End it, with its containerd."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
