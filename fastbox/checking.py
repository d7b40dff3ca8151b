"""The verb that checks a store: a part of Engine, in a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .check.problems import Problem
    from .container.store import ContainerStore
    from .network.store import NetworkStore
    from .volume.store import VolumeStore


class CheckingVerbs:
    """See ``Engine``, which is one."""

    if TYPE_CHECKING:

        @property
        def _containers(self) -> ContainerStore: ...
        @property
        def _volumes(self) -> VolumeStore: ...
        @property
        def _networks(self) -> NetworkStore: ...

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
