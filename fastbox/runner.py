"""``fastbox.run``: a command in a fresh container, as ``subprocess.run`` has it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from .errors import CommandFailed, FastboxError, InvalidArgument

if TYPE_CHECKING:
    from .engine import Engine

_shared: Engine | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How a command ended.

    Attributes:
        returncode: its exit status; 128+n when signal n killed it.
        stdout, stderr: all it wrote.
        timed_out: it was killed because its time was over (``returncode`` is 137 then).
    """

    args: list[str]
    returncode: int
    stdout: bytes
    stderr: bytes
    timed_out: bool = False

    @property
    def text(self) -> str:
        """stdout as UTF-8, undecodable bytes replaced."""
        return self.stdout.decode(errors="replace")


def run(
    image: str,
    command: Iterable[str] | None = None,
    *,
    input: bytes | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    check: bool = False,
    pull: str = "missing",
    engine: Engine | None = None,
    **config: Any,
) -> Result:
    """Run a command in a new container, which is removed afterwards, and collect its output.

    Args:
        command: replaces the image's CMD; None keeps it.
        input: what the command reads from stdin; None is an empty stdin.
        timeout: seconds, after which the container is killed.
        check: raise CommandFailed when the exit status is not 0.
        engine: whose store; None is the default one.
        config: any attribute of ``ContainerConfig`` (``memory``, ``network``, ``mounts`` …).

    Raises:
        FastboxError: it could not be started. CommandFailed: see ``check``.
    """
    job = Run(
        engine or default_engine(),
        image,
        command,
        input=input,
        env=env,
        timeout=timeout,
        check=check,
        **config,
    )
    job.prepare(pull)
    return job.execute()


class Run:
    """One ``run`` in two steps, so that whoever waits knows the container (see ``AsyncEngine``).

    Attributes:
        config: what the container is made of. container_id: once it is made.
    """

    def __init__(
        self,
        engine: Engine,
        image: str,
        command: Iterable[str] | None,
        *,
        input: bytes | None,
        env: Mapping[str, str] | None,
        timeout: float | None,
        check: bool,
        **config: Any,
    ) -> None:
        from .container.config import ContainerConfig

        command, input = checked(command, input, env)
        check_attributes(config)
        entries = [f"{key}={value}" for key, value in (env or {}).items()]
        self._engine = engine
        self._input, self._timeout, self._check = input, timeout, check
        self.config = ContainerConfig(
            image=image,
            command=command,
            env=entries,
            auto_remove=True,
            interactive=input is not None,
            **config,
        )
        self._args: list[str] = []
        self.container_id = ""

    def prepare(self, pull: str = "missing") -> None:
        """Make the container."""
        container = self._engine.create(self.config, pull=pull, transient=True)
        self.container_id = container.id
        self._args = [container.record.path, *container.record.args]

    def execute(self) -> Result:
        """Start it, wait, collect; the container is gone afterwards."""
        out, err = _Collector(), _Collector()
        feeder = _Feeder(self._input) if self._input is not None else None
        killer = _Killer(self._engine, self.container_id, self._timeout)
        try:
            with killer:
                status = self._engine.run_attached(
                    self.container_id,
                    stdin=feeder.reader if feeder else None,
                    stdout=out.writer,
                    stderr=err.writer,
                )
        finally:
            if feeder:
                feeder.close()
            stdout, stderr = out.finish(), err.finish()
        result = Result(
            args=self._args,
            returncode=status,
            stdout=stdout,
            stderr=stderr,
            timed_out=killer.fired,
        )
        return succeeded(result, self.config.image) if self._check else result


def default_engine() -> Engine:
    global _shared
    if _shared is None:
        from .engine import Engine

        _shared = Engine()
    return _shared


def succeeded(result: Result, image: str) -> Result:
    """The same. Raises CommandFailed: the exit status is not 0."""
    if result.returncode != 0:
        raise CommandFailed(
            f"{result.args[0]} in {image} ended with exit status {result.returncode}",
            returncode=result.returncode,
            stdout=result.stdout,
            stderr=result.stderr,
        )
    return result


def check_attributes(config: Mapping[str, Any]) -> None:
    """Raises InvalidArgument: a container's configuration has no such attribute."""
    from .container.config import ContainerConfig

    known = ContainerConfig.__struct_fields__
    for name in config:
        if name not in known:
            raise InvalidArgument(
                f"unknown attribute of a container: {name!r}", hint="known: " + ", ".join(known)
            )


def checked(command: object, input: object, env: object) -> tuple[list[str] | None, bytes | None]:
    """Command and input of a ``run``: what is plainly of the wrong type is refused before anything
    is made.

    Raises:
        InvalidArgument
    """
    if isinstance(command, (str, bytes)):
        raise InvalidArgument(
            f"the command must be a list of words, not {command!r}",
            hint='["sh", "-c", "…"] runs a line of shell',
        )
    if isinstance(input, str):
        input = input.encode()
    if input is not None and not isinstance(input, (bytes, bytearray, memoryview)):
        raise InvalidArgument(f"input must be bytes, not {type(input).__name__}")
    if env is not None and not isinstance(env, Mapping):
        raise InvalidArgument(f"env must be a mapping of names to values, not {env!r}")
    words = None if command is None else [str(word) for word in command]  # type: ignore[attr-defined]
    return words, None if input is None else bytes(input)


class _Collector:
    """The write end of a pipe whose read end a thread empties into memory."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        self._parts: list[bytes] = []
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        while chunk := os.read(self._reader, 1 << 16):
            self._parts.append(chunk)

    def finish(self) -> bytes:
        os.close(self.writer)
        self._thread.join()
        os.close(self._reader)
        return b"".join(self._parts)


class _Feeder:
    """The read end of a pipe that a thread fills."""

    def __init__(self, data: bytes) -> None:
        self.reader, self._writer = os.pipe2(os.O_CLOEXEC)
        self._data = data
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def _feed(self) -> None:
        view = memoryview(self._data)
        try:
            while view:
                view = view[os.write(self._writer, view) :]
        except BrokenPipeError:
            pass  # the command did not read all
        finally:
            os.close(self._writer)

    def close(self) -> None:
        os.close(self.reader)
        self._thread.join()


class _Killer:
    """Kills a container when its time is over."""

    def __init__(self, engine: Engine, container_id: str, seconds: float | None) -> None:
        self.fired = False
        self._engine, self._id = engine, container_id
        self._timer = None if seconds is None else threading.Timer(seconds, self._fire)

    def _fire(self) -> None:
        self.fired = True
        with contextlib.suppress(FastboxError):
            self._engine.kill(self._id)

    def __enter__(self) -> None:
        if self._timer is not None:
            self._timer.start()

    def __exit__(self, *exc: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
