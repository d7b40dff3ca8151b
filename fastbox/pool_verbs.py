"""The engine's side of pools: a part of Engine, in a file of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .container.config import ContainerConfig
    from .container.lifecycle import Lifecycle
    from .container.pool_prepare import Prepared
    from .container.record import Container
    from .pool import Pool


class PoolVerbs:
    """See ``Engine``, which is one."""

    runtime_dir: str

    if TYPE_CHECKING:

        @property
        def _lifecycle(self) -> Lifecycle: ...

    def pool(self, image: str, size: int, *, max_memory: int | None = None, **config: Any) -> Pool:
        """Keep ``size`` containers prepared, for starts that only have to exec. A context manager:
        leaving it throws away what is prepared.

        Args:
            image: pulled when it is missing.
            max_memory: bytes that the prepared ones may take together (see ``Pool.stats``).
            config: any attribute of ``ContainerConfig`` but command, interactive, name, restart and
                tty; ``auto_remove`` is True unless given.

        Raises:
            FastboxError: one could not be prepared.
        """
        from .pool import Pool

        engine: Any = self
        return Pool(engine, image, size, max_memory=max_memory, **config)

    def _take_prepared(self, config: ContainerConfig) -> Container | None:
        """A container that the supervisor has prepared, for who is about to start it; None: it has
        none of that kind."""
        if not os.path.exists(f"{self.runtime_dir}/pool.sock"):
            return None
        from .container import pool_client
        from .container.merge import adopt

        prepared = pool_client.take(self._lifecycle, config)
        if prepared is None:
            return None
        try:
            adopt(prepared.record, config)
        except BaseException:
            prepared.close()
            raise
        self._lifecycle.prepared[prepared.record.id] = prepared
        return self._created_of(prepared)

    def _created_of(self, prepared: Prepared) -> Container:
        """One that waits to be started, as any that was created."""
        from .container.record import Container, ContainerState

        return Container(
            record=prepared.record,
            state=ContainerState(),
            directory=prepared.directory,
            bundle=prepared.bundle,
        )
