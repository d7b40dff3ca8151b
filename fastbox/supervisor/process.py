"""Becoming the supervisor: in the foreground for systemd, or in a process nobody is parent of."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import FastboxError
from . import ownership

if TYPE_CHECKING:
    from ..engine import Engine


def run(engine: Engine, *, detached: bool, unasked: bool = False) -> int:
    """Serve until told to end; the exit status.

    Args:
        unasked: nobody has typed a command that needs it: see ``ownership.Ownership``.

    Raises:
        FastboxError: it could not begin (in the foreground; else the starter prints it).
    """
    problems = -1
    if detached:
        fd = ownership.detach()
        if fd is None:
            return 0
        problems = fd
    _undo_inherited()

    def ready() -> None:
        nonlocal problems
        if problems >= 0:
            os.close(problems)
            problems = -1
        ownership.notify("READY=1")

    try:
        _serve(engine, ready, unasked)
    except BaseException as error:
        if problems >= 0:  # the starter prints it
            text = str(error) if isinstance(error, FastboxError) else repr(error)
            os.write(problems, f"{text}\n".encode())
            return 1
        if detached:
            _log(engine, error)
            return 1
        raise
    return 0


def _serve(engine: Engine, ready: Callable[[], None], unasked: bool) -> None:
    from ..container.lifecycle import Lifecycle
    from .pools import Pools
    from .service import main

    root, runtime = engine.root, engine.runtime_dir
    # One that tells nobody of what it starts: it would tell us.
    networks = engine._container_networks
    lifecycle = Lifecycle(engine._containers, engine._volumes, root, f"{root}/layers", networks)
    main(root, runtime, lifecycle, ready, unasked=unasked, pools=Pools(engine))


def _log(engine: Engine, error: BaseException) -> None:
    import traceback

    from .log import Log

    log = Log(f"{engine.root}/supervisor.log")
    log.write("".join(traceback.format_exception(error)).rstrip())
    log.close()


def _undo_inherited() -> None:
    """What a monitor, or whoever else started us, has set and our children must not inherit."""
    os.umask(0o022)
    os.chdir("/")
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTSTP,
                   signal.SIGTTIN, signal.SIGTTOU, signal.SIGXFSZ):  # fmt: skip
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
