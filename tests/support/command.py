"""The ``fastbox`` command (or docker's) as a callable."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from typing import Any


class Result:
    """What a command did.

    Attributes:
        code: exit status (``-n``: it died of signal n).
        out, err: its output, decoded; ``raw`` is standard output in bytes.
    """

    def __init__(self, args: list[str], code: int, out: bytes, err: bytes) -> None:
        self.args, self.code, self.raw = args, code, out
        self.out = out.decode(errors="replace")
        self.err = err.decode(errors="replace")

    @property
    def lines(self) -> list[str]:
        """Standard output's lines."""
        return self.out.splitlines()

    def __repr__(self) -> str:
        return (
            f"{' '.join(self.args)}\n-> exit status {self.code}\n"
            f"-- stdout\n{self.out}-- stderr\n{self.err}"
        )


class Command:
    """Runs one program with fixed leading arguments and a clean environment.

    ``cli("ps", "-a")`` gives a Result whatever happened; ``cli.ok("ps", "-a")`` fails the test
    unless the status is 0 and gives the standard output without its last newline;
    ``cli.fails(125, …)`` wants that status and gives the standard error.
    """

    def __init__(self, argv: list[str], home: str, env: dict[str, str] | None = None) -> None:
        self.argv = argv
        self.home = home
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            # conftest's empty file, not what the host is configured for
            "FASTBOX_CONFIG": os.environ.get("FASTBOX_CONFIG", ""),
            **(env or {}),
        }

    def __call__(
        self,
        *args: str,
        input: bytes | str | None = None,
        timeout: float = 120,
        env: dict[str, str] | None = None,
        **popen: Any,
    ) -> Result:
        data = input.encode() if isinstance(input, str) else input
        if data is None and "stdin" not in popen:
            popen["stdin"] = subprocess.DEVNULL
        argv = [*self.argv, *args]
        done = subprocess.run(
            argv, input=data, capture_output=True, timeout=timeout, env=self._env(env), **popen
        )
        return Result(argv, done.returncode, done.stdout, done.stderr)

    def ok(self, *args: str, **options: Any) -> str:
        result = self(*args, **options)
        assert result.code == 0, repr(result)
        return result.out.removesuffix("\n")

    def fails(self, code: int, *args: str, **options: Any) -> str:
        result = self(*args, **options)
        assert result.code == code, f"wanted status {code}: {result!r}"
        return result.err

    def popen(
        self, *args: str, env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start it and return; standard streams are pipes unless told otherwise."""
        for stream in ("stdin", "stdout", "stderr"):
            options.setdefault(stream, subprocess.PIPE)
        return subprocess.Popen([*self.argv, *args], env=self._env(env), **options)

    def _env(self, extra: dict[str, str] | None) -> dict[str, str]:
        return {**self.env, **(extra or {})}


def fastbox_program() -> str:
    """The installed command of the interpreter that runs the tests."""
    path = os.path.join(sysconfig.get_path("scripts"), "fastbox")
    if not os.path.exists(path):
        raise RuntimeError(f"{path} is missing: run `make build`")
    return path


def docker_works() -> bool:
    """Whether a docker command is here with a daemon that answers."""
    if not shutil.which("docker"):
        return False
    try:
        done = subprocess.run(
            ["docker", "version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
