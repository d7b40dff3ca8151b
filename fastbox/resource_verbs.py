"""The verbs that look at what a container is and uses: a part of Engine, in a file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .container.lifecycle import Lifecycle
    from .container.record import Container
    from .container.stats import Stats


class ResourceVerbs:
    """See ``Engine``, which is one."""

    if TYPE_CHECKING:

        @property
        def _lifecycle(self) -> Lifecycle: ...

        def container(self, name_or_id: str, *, size: bool = False) -> Container: ...

    def stats(self, container: str) -> Stats:
        """What a container uses: one sample. Two of them tell its load (``Stats.cpu_percent``).

        Raises:
            NotFound, Ambiguous, StoreError
        """
        return self._lifecycle.stats(self.container(container))

    def inspect_container(self, name_or_id: str, *, size: bool = False) -> dict[str, Any]:
        """Docker's JSON of a container."""
        from .container.inspect import inspect

        box = self.container(name_or_id, size=size)
        self._lifecycle.see_oom_kills(box)
        return inspect(box)
