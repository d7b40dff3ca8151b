"""The verbs that change a container which exists: a part of Engine, in a file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import FastboxError

if TYPE_CHECKING:
    from .container.config import RestartPolicy
    from .container.lifecycle import Lifecycle
    from .container.record import Container
    from .container.store import ContainerStore


class ChangingVerbs:
    """See ``Engine``, which is one."""

    if TYPE_CHECKING:
        runtime_dir: str

        @property
        def _containers(self) -> ContainerStore: ...

        @property
        def _lifecycle(self) -> Lifecycle: ...

        def _all_containers(self) -> list[Container]: ...
        def _release(self, layers: list[str]) -> int: ...

    def restart(
        self, container: str, *, timeout: int | None = None, signal: str | None = None
    ) -> None:
        """Stop a container, if it is running, and start it detached.

        Args:
            timeout, signal: see ``stop``.

        Raises:
            NotFound; FastboxError: as ``stop`` and ``start``, with what was done before.
        """
        container_id = self._containers.resolve(container)
        try:
            self._lifecycle.restart(container_id, timeout, signal)
        except FastboxError as error:
            error.message = f"Cannot restart container {container}: {error.message}"
            raise

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

    def update(
        self,
        container: str,
        *,
        memory: int | None = None,
        memory_swap: int | None = None,
        memory_reservation: int | None = None,
        nano_cpus: int | None = None,
        cpu_shares: int | None = None,
        cpu_period: int | None = None,
        cpu_quota: int | None = None,
        cpuset_cpus: str | None = None,
        cpuset_mems: str | None = None,
        pids_limit: int | None = None,
        blkio_weight: int | None = None,
        restart: RestartPolicy | None = None,
    ) -> None:
        """Change limits and restart policy of a container, running or not; see
        ``ContainerConfig`` for what they mean. None leaves one as it is.

        Raises:
            NotFound; InvalidArgument: a bad limit. Conflict: it does not go with the others.
            Unsupported: the kernel cannot do it, or a process cannot be moved to the cgroup of a
            limit that the container was started without (cgroup v1; a limit of memory counts what
            is taken from then on).
        """
        from .container.update import Changes

        changes = Changes(
            memory=memory,
            memory_swap=memory_swap,
            memory_reservation=memory_reservation,
            nano_cpus=nano_cpus,
            cpu_shares=cpu_shares,
            cpu_period=cpu_period,
            cpu_quota=cpu_quota,
            cpuset_cpus=cpuset_cpus,
            cpuset_mems=cpuset_mems,
            pids_limit=pids_limit,
            blkio_weight=blkio_weight,
            restart=restart,
        )
        self._lifecycle.update(self._containers.resolve(container), changes)

    def rename(self, container: str, name: str) -> None:
        """Give a container another name.

        Raises:
            NotFound; Conflict: the name is taken. InvalidArgument: it is no name, or its own.
        """
        self._lifecycle.rename(container, name)

    def prune_containers(
        self, *, filters: dict[str, list[str]] | None = None
    ) -> tuple[list[str], int]:
        """Remove the containers that are not up; one that is just being made to run stays.

        Args:
            filters: ``until`` (a time or a duration), ``label``, ``label!``.

        Returns:
            (ids removed, bytes freed)

        Raises:
            InvalidArgument: a bad filter.
        """
        from .container.prune import prune
        from .pruning import pruning

        with pruning(self.runtime_dir, self._containers.journal, "container") as tally:
            boxes = self._all_containers()
            removed, freed = prune(self._lifecycle, boxes, filters or {})
            gone = [box.record for box in boxes if box.id in set(removed)]
            freed += self._release([name for record in gone for name in record.committed])
            tally.freed = freed
        return removed, freed
