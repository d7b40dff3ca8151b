"""The engine's side of pools: a part of Engine, in a file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pool import Pool


class PoolVerbs:
    """See ``Engine``, which is one."""

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
