"""Talking to the supervisor: is there one, start it, poke it, stop it. What the engine needs of it.

The supervisor holds ``RUNTIME/supervisor.lock`` for as long as it lives (the file names it) and
listens on ``RUNTIME/supervisor.sock``: a line of JSON in, a line of JSON out.
``RUNTIME/supervisor.stopped`` is there after ``supervisor stop``: nothing but a command that needs
it brings it back then.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from typing import Any

import orjson

from . import atomic, locks
from .container import process
from .errors import FastboxError
from .sockets import short_path

ANSWER = 5.0  # seconds that a supervisor has to answer
START = 20.0  # seconds that a new one has until it answers
MAX_MESSAGE = 65536


def lock_path(runtime: str) -> str:
    return f"{runtime}/supervisor.lock"


def socket_path(runtime: str) -> str:
    return f"{runtime}/supervisor.sock"


def command_socket_path(runtime: str) -> str:
    """Where the native client finds the command server (``_core/client/find.c``)."""
    return f"{runtime}/command.sock"


def stopped_path(runtime: str) -> str:
    return f"{runtime}/supervisor.stopped"


def is_running(runtime: str) -> bool:
    """Whether a supervisor lives, by its lock."""
    try:
        fd = os.open(lock_path(runtime), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        locks.release(fd)
    return False


def owner(runtime: str) -> int:
    """Pid of the process that the lock file names, 0 if that is gone."""
    try:
        with open(lock_path(runtime), "rb") as file:
            pid, started = map(int, file.read(64).split())
    except (OSError, ValueError):
        return 0
    return pid if process.is_alive(pid, started) else 0


def was_stopped(runtime: str) -> bool:
    """Whether the user stopped it."""
    return os.path.exists(stopped_path(runtime))


def ask(runtime: str, **request: Any) -> dict[str, Any]:
    """Send a request; the answer.

    Raises:
        OSError: nobody is there (ConnectionError, FileNotFoundError), or does not answer in time
        (TimeoutError).
        FastboxError: what the supervisor says.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER)
        with short_path(socket_path(runtime)) as path:
            connection.connect(path)
        connection.sendall(orjson.dumps(request) + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            chunk = connection.recv(MAX_MESSAGE)
            if not chunk:
                raise ConnectionResetError("the supervisor ended before it answered")
            data += chunk
    answer: dict[str, Any] = orjson.loads(data)
    if "error" in answer:
        raise FastboxError(answer["error"])
    return answer


def poke(root: str, runtime: str, container_id: str) -> None:
    """Let the supervisor look at a container; start it when there is none. One that does not answer
    (it is stopped by a signal, the machine is busy) looks at all when it goes on.

    Raises:
        FastboxError: it could not be started.
    """
    if not _is_there(runtime, poke=container_id):
        spawn(root, runtime)


def start(root: str, runtime: str) -> dict[str, Any]:
    """Start the supervisor, if there is none, and wait until it answers; its status.

    Raises:
        FastboxError: why it did not.
    """
    deadline = time.monotonic() + START
    if not _is_there(runtime, request="status"):
        spawn(root, runtime)
    while True:
        try:
            return ask(runtime, request="status")
        except OSError as error:
            if time.monotonic() > deadline:
                raise _silent(runtime) from error
            time.sleep(0.01)


def status(runtime: str) -> dict[str, Any] | None:
    """What it says of itself; None if there is none.

    Raises:
        FastboxError: it does not answer.
    """
    if not is_running(runtime):
        return None
    try:
        return ask(runtime, request="status")
    except OSError as error:
        if not is_running(runtime):
            return None
        raise _silent(runtime) from error


def stop(runtime: str) -> bool:
    """End the supervisor; containers run on, and nothing but a command that needs it starts it
    again. False if there was none.

    Raises:
        FastboxError: it does not end.
    """
    with contextlib.suppress(FileNotFoundError):
        atomic.touch(stopped_path(runtime))
    if not is_running(runtime):
        return False
    deadline, told = time.monotonic() + START, None
    while is_running(runtime):
        pid = owner(runtime)
        # Each is told once: behind a socket of systemd's the next one would hear the second time.
        if (told is None or pid not in (0, told)) and _is_there(runtime, request="stop"):
            told = pid
        if time.monotonic() > deadline:
            raise _silent(runtime)
        time.sleep(0.005)
    return True


def _silent(runtime: str) -> FastboxError:
    return FastboxError(
        f"the supervisor (pid {owner(runtime) or 'unknown'}) does not answer",
        hint="end it with SIGKILL: containers and their state are not affected",
    )


def _is_there(runtime: str, **request: Any) -> bool:
    """Whether a supervisor took the request, or at least lives."""
    try:
        ask(runtime, **request)
    except TimeoutError:
        return True
    except OSError:
        return False
    return True


def command(root: str, runtime: str, *words: str) -> list[str]:
    """A command line of the supervisor's; see ``launch.own_command``."""
    from .container.launch import own_command

    return own_command(root, runtime, "supervisor", *words)


def spawn(root: str, runtime: str) -> None:
    """Start a supervisor that is nobody's child, and wait until it serves. Of several that are
    started at once, one does.

    Raises:
        FastboxError: why it could not be started.
    """
    import subprocess

    argv = command(root, runtime, "run", "--detach")
    if not argv:
        raise FastboxError("the supervisor cannot be started: the interpreter's path is unknown")
    ours = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET")
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    try:
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env=environment,
            start_new_session=True,
        ) as child:
            try:
                _, said = child.communicate(timeout=START)
            except subprocess.TimeoutExpired:
                child.kill()
                raise _silent(runtime) from None
    except OSError as error:
        raise FastboxError(f"the supervisor cannot be started: {error}") from error
    if child.returncode and not is_running(runtime):
        lines = said.decode(errors="replace").strip().splitlines() or ["it says nothing"]
        raise FastboxError(f"the supervisor cannot be started: {lines[-1]}")
