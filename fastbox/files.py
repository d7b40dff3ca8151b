"""The verbs about the files of containers: a part of Engine, in a file of its own."""

from __future__ import annotations

import contextlib
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .container.changes import Change
    from .container.copy import Archive, Copied, PathStat, Source
    from .container.lifecycle import Lifecycle
    from .container.store import ContainerStore


class FileVerbs:
    """See ``Engine``, which is one.

    Paths in containers are absolute, whether they begin with a slash or not; ``..`` is taken back
    by its letters. Links lead where they would lead a process in the container. All this works
    with running and with stopped containers; a stopped one cannot start meanwhile.
    """

    if TYPE_CHECKING:

        @property
        def _containers(self) -> ContainerStore: ...

        @property
        def _lifecycle(self) -> Lifecycle: ...

    def stat_path(self, container: str, path: str) -> PathStat:
        """What a path in a container is; a link at its end is not followed.

        Raises:
            NotFound
        """
        from .container.copy import stat_path

        with self._lifecycle.view(self._containers.resolve(container), write=False) as view:
            return stat_path(view, container, path)

    def copy_from(self, container: str, path: str, *, follow_link: bool = False) -> Archive:
        """A file or tree of a container as a tar stream, to be read and closed.

        Args:
            path: with ``/.`` at its end, the entries have names in the directory, not of it.
            follow_link: a link at the end of ``path``.

        Raises:
            NotFound
        """
        from .container.copy import copy_from

        with contextlib.ExitStack() as held:
            container_id = self._containers.resolve(container)
            view = held.enter_context(self._lifecycle.view(container_id, write=False))
            archive = copy_from(view, container, path, follow_link=follow_link)
            archive.hold(held.pop_all())
        return archive

    def copy_to(
        self, container: str, path: str, archive: Source, *, keep_owners: bool = True
    ) -> None:
        """Unpack a tar archive in a directory of a container. What is there is replaced, but no
        directory by something else, nor something else by a directory.

        Args:
            archive: bytes, a binary file object, pieces of bytes, or a descriptor; plain, or
                compressed with gzip, zstd, bzip2 or xz.
            keep_owners: False makes all of it root's.

        Raises:
            NotFound; InvalidArgument: ``path`` is no directory, or read-only. ArchiveError: what
            came before the bad entry is there.
        """
        from .container.copy import copy_to

        with self._lifecycle.view(self._containers.resolve(container), write=True) as view:
            copy_to(view, container, path, archive, keep_owners=keep_owners)

    def copy_out(
        self,
        container: str,
        path: str,
        dest: str,
        *,
        follow_link: bool = False,
        archive: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> Copied:
        """Copy a file or tree of a container to the host, by ``docker cp``'s rules: into a
        directory that exists, over a file, as a new name in a directory.

        Args:
            archive: keep owners, devices, set-id bits and capabilities. Else all belongs to who
                calls.
            progress: told the bytes so far, in this thread.

        Raises:
            NotFound; InvalidArgument: about ``dest``.
        """
        from .container.copy import copy_out

        with self._lifecycle.view(self._containers.resolve(container), write=False) as view:
            return copy_out(
                view,
                container,
                path,
                dest,
                follow_link=follow_link,
                archive=archive,
                progress=progress,
            )

    def copy_in(
        self,
        container: str,
        source: str,
        path: str,
        *,
        follow_link: bool = False,
        archive: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> Copied:
        """Copy a file or tree of the host to a container; see ``copy_out``.

        Args:
            archive: keep owners. Else all belongs to root.
            progress: told the bytes so far, in this thread.

        Raises:
            NotFound; InvalidArgument: about ``source``, or ``path`` is read-only.
        """
        from .container.copy import copy_in

        with self._lifecycle.view(self._containers.resolve(container), write=True) as view:
            return copy_in(
                view,
                container,
                source,
                path,
                follow_link=follow_link,
                archive=archive,
                progress=progress,
            )

    def changes(self, container: str) -> list[Change]:
        """What a container added to its image's files, changed and deleted, by path; without what
        is in volumes and binds.

        Raises:
            NotFound
        """
        from .container.changes import changes
        from .container.store import storing

        box = self._containers.load(self._containers.resolve(container))
        with storing(f"reading the changes of container {box.name}"):
            return changes(self._containers, box.record, self._lifecycle.layers_dir)

    def export(self, container: str, output: int | str | IO[bytes]) -> None:
        """Write a container's files as a tar archive, without what is mounted in it: volumes and
        binds are empty directories there, and so are /proc, /sys and /dev.

        Owners, modes, times, hard links, devices, fifos, ``user.*`` attributes, capabilities and
        ACLs are kept; ``import_image`` restores them.

        Args:
            output: a descriptor; a path, where the archive appears when it is whole, with mode
                0600; or a binary file object.

        Raises:
            NotFound; InvalidArgument: the path cannot be written to. StoreError: reading or writing
            failed, or a file became shorter meanwhile. BrokenPipeError: nobody reads it.
        """
        from .container.export import export

        container_id = self._containers.resolve(container)
        record = self._containers.load(container_id).record
        with self._lifecycle.view(container_id, write=False, mounts=False) as view:
            export(view, output)
        self._containers.journal.container("export", record)
