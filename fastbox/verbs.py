"""The verbs that change a container which exists: a part of Engine, in a file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .container.lifecycle import Lifecycle
    from .container.store import ContainerStore


class ChangingVerbs:
    """See ``Engine``, which is one."""

    if TYPE_CHECKING:

        @property
        def _containers(self) -> ContainerStore: ...

        @property
        def _lifecycle(self) -> Lifecycle: ...

    def pause(self, container: str) -> None:
        """Stop all processes of a container where they are.

        Raises:
            NotRunning; Conflict: it is paused. Unsupported: they could not be frozen.
        """
        self._lifecycle.pause(self._containers.resolve(container))

    def unpause(self, container: str) -> None:
        """Let a paused container go on.

        Raises:
            Conflict: it is not paused.
        """
        self._lifecycle.unpause(self._containers.resolve(container))
