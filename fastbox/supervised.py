"""The engine's side of the supervisor: a part of Engine, in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .errors import FastboxError, NotFound

if TYPE_CHECKING:
    from .container.record import Container, ContainerRecord
    from .container.store import ContainerStore

PATIENCE = 5.0  # seconds that whoever follows a log waits for a policy to be acted on


def _warn(text: str) -> None:
    import warnings

    warnings.warn(text, RuntimeWarning, stacklevel=4)


class SupervisorVerbs:
    """See ``Engine``, which is one.

    Attributes:
        warn: told what does not fail a verb, but is not as it should be; None: ``warnings.warn``.
    """

    root: str
    runtime_dir: str
    warn: Callable[[str], None] | None = None

    if TYPE_CHECKING:

        @property
        def _containers(self) -> ContainerStore: ...

    def start_supervisor(self) -> dict[str, Any]:
        """Start the supervisor, if there is none; its status (see ``supervisor_status``).

        Raises:
            FastboxError: why it could not be started.
        """
        from . import supervision

        _ = self._containers  # the store's errors are better than those of a process
        return supervision.start(self.root, self.runtime_dir)

    def stop_supervisor(self) -> bool:
        """End the supervisor; containers run on. Only a command that needs it starts it again.

        Returns:
            Whether there was one.
        """
        from . import supervision

        return supervision.stop(self.runtime_dir)

    def supervisor_status(self) -> dict[str, Any] | None:
        """``pid``, ``version``, ``since`` (seconds since the epoch), ``root``, ``socket``,
        ``watched`` (containers looked after), ``probed`` (those with health checks running),
        ``pools`` (see ``supervisor.pools``); None if there is no supervisor.

        Raises:
            FastboxError: it does not answer.
        """
        from . import supervision

        return supervision.status(self.runtime_dir)

    def _supervise(self, container_id: str) -> None:
        """A container was started, or changed, that wants the supervisor."""
        from . import supervision

        self._try(lambda: supervision.poke(self.root, self.runtime_dir, container_id))

    def _see_to_supervision(self, boxes: Iterable[Container]) -> None:
        """Bring the supervisor back when it was killed, or the machine restarted."""
        from .container import restarts

        wanting = [box for box in boxes if restarts.wants_supervisor(box.record)]
        if not wanting:
            return
        from . import supervision

        if supervision.is_running(self.runtime_dir) or supervision.was_stopped(self.runtime_dir):
            return
        if any(
            box.state.status.is_active or restarts.is_unsettled(self._containers, box.record)
            for box in wanting
        ):
            self._try(lambda: supervision.spawn(self.root, self.runtime_dir))

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except FastboxError as error:
            (self.warn or _warn)(f"{error}; restart policies and health checks are not acted on")

    def _going_on(self, record: ContainerRecord) -> Callable[[], bool]:
        """Whether the container writes, or will: its policy starts it, or ``restart`` does."""
        import time

        ended = 0.0

        def is_going_on() -> bool:
            nonlocal ended
            try:
                if self._containers.state(record).status.is_active:
                    ended = 0.0
                    return True
                ended = ended or time.monotonic()
                return self._containers.is_going_on(record, time.monotonic() < ended + PATIENCE)
            except NotFound:
                return False

        return is_going_on
