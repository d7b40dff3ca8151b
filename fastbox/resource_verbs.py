"""The verbs that look at what there is: what a container is and uses, whether the store is whole. A
part of Engine, in a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .check.problems import Problem
    from .container.lifecycle import Lifecycle
    from .container.record import Container
    from .container.stats import Stats
    from .container.store import ContainerStore
    from .network.store import NetworkStore
    from .volume.store import VolumeStore


class ResourceVerbs:
    """See ``Engine``, which is one."""

    if TYPE_CHECKING:

        @property
        def _containers(self) -> ContainerStore: ...
        @property
        def _volumes(self) -> VolumeStore: ...
        @property
        def _networks(self) -> NetworkStore: ...
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

    def check(
        self, repair: bool = False, *, counted: Callable[[str, int], None] | None = None
    ) -> list[Problem]:
        """Whether everything in the store is what it was when it was stored: every blob is hashed,
        every unpacked layer compared with its blob. Others may use the store meanwhile.

        Args:
            repair: put right what can be; the rest says what to do.
            counted: told (kind, how many) of what was looked at.

        Returns:
            What is wrong, and what was put right (``Problem.is_left`` tells them apart).

        Raises:
            StoreError: the store cannot be opened or written.
        """
        from .check.whole import check

        return check(
            self._containers, self._volumes, self._networks, repair=repair, counted=counted
        )
