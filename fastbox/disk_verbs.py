"""The verbs that tell of disk space and give it back: a part of Engine, in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .container.record import Container
    from .image.store import ImageStore
    from .image.types import Removed, Volume
    from .usage import DiskUsage, PrunedSystem

Filters = dict[str, list[str]]


class DiskVerbs:
    """See ``Engine``, which is one."""

    if TYPE_CHECKING:
        runtime_dir: str
        warn: Callable[[str], None] | None

        @property
        def _images(self) -> ImageStore: ...

        def _all_containers(self) -> list[Container]: ...
        def _volumes_in_use(self) -> dict[str, list[str]]: ...
        def containers(
            self, *, all: bool = False, filters: Filters | None = None, size: bool = False
        ) -> list[Container]: ...
        def volumes(self, *, filters: Filters | None = None) -> list[Volume]: ...
        def prune_containers(self, *, filters: Filters | None = None) -> tuple[list[str], int]: ...
        def prune_networks(self, *, filters: Filters | None = None) -> list[str]: ...
        def prune_volumes(
            self, *, all: bool = False, filters: Filters | None = None
        ) -> tuple[list[str], int]: ...

    def prune_images(
        self, *, all: bool = False, filters: Filters | None = None
    ) -> tuple[list[Removed], int]:
        """Remove the images without a tag that no container uses, with ``all`` the tagged ones too.

        What a pull, an import or a create that is going on may need stays until it has ended;
        ``warn`` is told so.

        Args:
            filters: ``dangling``, ``label``, ``label!``, ``until``.

        Returns:
            (what was untagged and deleted, bytes freed)

        Raises:
            InvalidArgument: a bad filter. Conflict: another prune is going on.
        """
        from .image.prune import prune
        from .pruning import pruning

        with pruning(self.runtime_dir, self._images.journal, "image") as tally:
            done = prune(self._images, all=all, filters=filters, used=self._images_in_use)
            tally.freed = done.freed
        if done.left and self.warn is not None:
            self.warn(
                f"{done.left / 1e6:.4g} MB are freed when the pulls, imports and starts that are"
                " going on have ended"
            )
        return done.removed, done.freed

    def _images_in_use(self) -> set[str]:
        return {box.record.image_id for box in self._all_containers()}

    def prune_system(
        self,
        *,
        all: bool = False,
        volumes: bool = False,
        filters: Filters | None = None,
        told: Callable[[str, Sequence[str | Removed]], None] | None = None,
    ) -> PrunedSystem:
        """Remove the containers that are not up, then the networks, anonymous volumes (with
        ``volumes``) and images that no container uses then; images as ``prune_images`` does.

        Args:
            filters: ``label``, ``label!``, ``until`` (not with ``volumes``).
            told: what was removed of a kind (``Containers``, ``Networks``, ``Volumes``,
                ``Images``), at once.

        Raises:
            InvalidArgument: a bad filter; nothing was removed.
            Conflict: another prune is going on.
        """
        from .errors import InvalidArgument
        from .usage import PrunedSystem

        wanted = filters or {}
        if volumes and "until" in wanted:
            raise InvalidArgument('ERROR: The "until" filter is not supported with "--volumes"')
        tell = told or (lambda kind, what: None)
        done = PrunedSystem()
        done.containers, freed = self.prune_containers(filters=wanted)  # checks the filters
        done.freed += freed
        tell("Containers", done.containers)
        done.networks = self.prune_networks(filters=wanted)
        tell("Networks", done.networks)
        if volumes:
            done.volumes, freed = self.prune_volumes(filters=wanted)
            done.freed += freed
            tell("Volumes", done.volumes)
        done.images, freed = self.prune_images(all=all, filters=wanted)
        done.freed += freed
        tell("Images", done.images)
        return done

    def system_df(self) -> DiskUsage:
        """How much disk images, containers and volumes take, and what could be freed."""
        from .usage import disk_usage

        boxes = self.containers(all=True)
        return disk_usage(self._images, boxes, self.volumes(), self._volumes_in_use())
