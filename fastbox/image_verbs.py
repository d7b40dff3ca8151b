"""The verbs of images: a part of Engine, in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any

from .errors import FastboxError

if TYPE_CHECKING:
    from .container.lifecycle import Lifecycle
    from .container.store import ContainerStore
    from .image.history import HistoryEntry
    from .image.store import ImageStore
    from .image.types import Image, LoadResult, PullResult, Removed


class ImageVerbs:
    """See ``Engine``, which is one."""

    if TYPE_CHECKING:
        root: str
        runtime_dir: str

        @property
        def _images(self) -> ImageStore: ...
        @property
        def _containers(self) -> ContainerStore: ...
        @property
        def _lifecycle(self) -> Lifecycle: ...
        def _used_by(self, image_id: str) -> list[tuple[str, str, bool]]: ...

    def pull(
        self,
        reference: str,
        *,
        platform: str | None = None,
        all_platforms: bool = False,
        progress: Callable[[Any], None] | None = None,
    ) -> PullResult:
        """Download an image and unpack its layers.

        Args:
            reference: ``NAME[:TAG|@DIGEST]``; short names mean Docker Hub.
            platform: ``os/arch[/variant]``; None is the host's.
            all_platforms: store what there is for other platforms as well.
            progress: told each step (a ``fastbox.image.progress.ProgressEvent``), in this thread.

        Raises:
            InvalidArgument, RegistryError, AuthError, DigestMismatch, ImageError, ArchiveError,
            StoreError
        """
        from .image.pull import pull

        return pull(
            self._images,
            reference,
            platform=platform,
            all_platforms=all_platforms,
            progress=progress,
        )

    def pull_all(
        self,
        repository: str,
        *,
        platform: str | None = None,
        all_platforms: bool = False,
        progress: Callable[[Any], None] | None = None,
    ) -> list[PullResult]:
        """Download every tag of a repository; arguments as for ``pull``.

        Raises:
            InvalidArgument: the name has a tag. The others: as ``pull``, of the first that fails.
        """
        from .image.pull import pull_all

        return pull_all(
            self._images,
            repository,
            platform=platform,
            all_platforms=all_platforms,
            progress=progress,
        )

    def images(
        self,
        reference: str | None = None,
        *,
        all: bool = False,
        filters: dict[str, list[str]] | None = None,
    ) -> list[Image]:
        """The store's images, newest first."""
        from .image.listing import select

        return select(self._images, reference, all=all, filters=filters)

    def image(self, name_or_id: str) -> Image:
        """One image by name, id or id prefix.

        Raises:
            NotFound, Ambiguous
        """
        return self._images.resolve(name_or_id)

    def tag(self, source: str, target: str) -> None:
        """Give an image another name."""
        self._images.tag(source, target)

    def remove_image(
        self,
        name_or_id: str,
        *,
        force: bool = False,
        prune: bool = True,
        platforms: Sequence[str] = (),
    ) -> list[Removed]:
        """Untag an image, and delete it when nothing names it any more.

        Args:
            prune: with it, delete the nameless images that it was made of, if nothing needs them.
            platforms: only if it is for one of them (``os/arch[/variant]``).

        Raises:
            NotFound; Conflict: a container uses it, or several names share the id.
        """
        return self._images.remove(
            name_or_id, force=force, prune=prune, platforms=platforms, used_by=self._used_by
        )

    def import_image(
        self,
        source: str | IO[bytes],
        reference: str | None = None,
        *,
        changes: Iterable[str] = (),
        message: str = "",
        platform: str | None = None,
    ) -> Image:
        """Make an image of one layer from the tar of a root filesystem.

        Args:
            source: a path, ``"-"`` (stdin), an http(s) URL, or a binary file object; plain, gzip,
                zstd, bzip2 or xz.
            changes: Dockerfile instructions (``"CMD [\\"sh\\"]"``) for the image's config.
        """
        from .image.importer import import_image

        return import_image(
            self._images, source, reference, changes=changes, message=message, platform=platform
        )

    def save(
        self,
        names: Iterable[str],
        output: int | str | IO[bytes],
        *,
        platform: str | None = None,
        format: str | None = None,
    ) -> None:
        """Write images to an archive that is a docker-archive and an OCI image layout at once.

        Args:
            names: names, ids, or repositories without a tag (all of their tags); a str is one.
            output: a descriptor, the path of a file (which appears when it is whole), or a binary
                file object; for ``oci-dir`` the path of a directory.
            platform: ``os/arch[/variant]``: of an image for several only this one.
            format: only ``"docker-archive"``, ``"oci-archive"``, or ``"oci-dir"``.

        Raises:
            NotFound, Ambiguous, InvalidArgument, ImageError, StoreError; BrokenPipeError: the
            reader of a pipe has gone.
        """
        from .image.save import save

        save(self._images, names, output, platform=platform, format=format)

    def load(
        self,
        source: str | IO[bytes],
        *,
        platform: str | None = None,
        progress: Callable[[Any], None] | None = None,
    ) -> list[LoadResult]:
        """Read an archive that ``save`` wrote (ours, Docker's, podman's …), or an OCI layout.

        Args:
            source: path of an archive (plain, gzip, zstd, xz, bzip2) or of a layout's directory,
                ``"-"`` (stdin), or a binary file object.
            platform: ``os/arch[/variant]``: which image of an index to load.
            progress: told the bytes of each layer, in this thread.

        Raises:
            InvalidArgument, ArchiveError, ImageError, DigestMismatch, Unsupported, StoreError: no
            image was added.
        """
        from .image.load import load

        return load(self._images, source, platform=platform, progress=progress)

    def bootstrap(
        self,
        reference: str,
        *,
        include: Iterable[str] = (),
        suite: str | None = None,
        changes: Iterable[str] = (),
        variant: str = "minbase",
        output: Callable[[str], None] | None = None,
    ) -> Image:
        """Assemble an image from the host distribution's packages, without any registry.

        Args:
            include: packages beyond the variant's own; suite: None is the host's.
            output: told each line that mmdebstrap prints.
        """
        from .image.bootstrap import bootstrap

        return bootstrap(
            self._images,
            reference,
            include=include,
            suite=suite,
            changes=changes,
            variant=variant,
            output=output,
        )

    def commit(
        self,
        container: str,
        reference: str | None = None,
        *,
        message: str = "",
        author: str = "",
        changes: Iterable[str] = (),
        pause: bool = True,
    ) -> Image:
        """Make an image of a container: its image's layers, and one of what it has changed.

        Of a stopped container this takes the same time however much that is; of a running one, its
        changes are copied. The image's archive, digests and blob are made when something needs
        them (see docs/images.md). What is in volumes is not included.

        Args:
            reference: name for the image; None leaves it dangling.
            changes: Dockerfile instructions (``"CMD [\\"sh\\"]"``) for the image's config.
            pause: keep a running container paused while its files are copied.

        Returns:
            The image; its size does not count the new layer yet.

        Raises:
            NotFound: no such container, or its image is gone. InvalidArgument: bad reference or
            instruction, or there are too many layers. StoreError: the disk is full, or the like.
        """
        from .container.commit import commit, settle_soon

        image = commit(
            self._lifecycle,
            self._images,
            self._containers.resolve(container),
            reference,
            message=message,
            author=author,
            changes=changes,
            pause=pause,
        )
        settle_soon(self.root, self.runtime_dir)
        return image

    def settle_images(self, *, seal: bool = False) -> None:
        """Finish in the background what commits have put off: bring their layers to the disk.

        Args:
            seal: make their archives, too.

        Raises:
            FastboxError: the first that could not be finished; the others were.
        """
        from .image import pending
        from .image.seal import seal_all

        images = self._images
        pending.settle(images.layers, pending.unsettled(images.layers))
        failures: list[FastboxError] = []
        if seal:
            seal_all(images, failures.append)
        for failure in failures:
            raise failure

    def check_platform(self, name_or_id: str, platform: str) -> None:
        """See that an image is one for a platform (``os/arch[/variant]``).

        Raises:
            NotFound: it is not. InvalidArgument: no platform.
        """
        from .errors import NotFound
        from .oci.platform import normalise, parse, runs

        wanted = runs(parse(platform))
        image = self.image(name_or_id)
        has = normalise(image.os, image.architecture, image.variant)
        if has not in wanted:
            raise NotFound(
                f"image with reference {name_or_id} was found but does not provide the specified"
                f" platform ({platform})",
                hint=f"the one here is for {has}",
            )

    def history(self, name_or_id: str) -> list[HistoryEntry]:
        """How an image came about, the last step first.

        Raises:
            NotFound, Ambiguous
        """
        from .image.history import history

        return history(self._images, name_or_id)

    def inspect_image(self, name_or_id: str) -> dict[str, Any]:
        """Docker's JSON of an image; of one that was committed, its archives are made first, which
        tell its true diff-ids."""
        from .image.inspect import inspect
        from .image.seal import sealed

        self.image(name_or_id)  # a damaged one is told first
        sealed(self._images, name_or_id)
        image, layers = self.image(name_or_id), self._images.layers
        names = layers.directories(reversed(image.layers))
        return inspect(image, [f"{layers.directory}/{name}" for name in names])
