"""The verbs of images: a part of Engine, in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .image.store import ImageStore
    from .image.types import Image, LoadResult, PullResult, Removed


class ImageVerbs:
    """See ``Engine``, which is one."""

    if TYPE_CHECKING:

        @property
        def _images(self) -> ImageStore: ...
        def _used_by(self, image_id: str) -> list[tuple[str, str, bool]]: ...

    def pull(
        self,
        reference: str,
        *,
        platform: str | None = None,
        progress: Callable[[Any], None] | None = None,
    ) -> PullResult:
        """Download an image and unpack its layers.

        Args:
            reference: ``NAME[:TAG|@DIGEST]``; short names mean Docker Hub.
            platform: ``os/arch[/variant]``; None is the host's.
            progress: told each step (a ``fastbox.image.progress.ProgressEvent``), in this thread.

        Raises:
            InvalidArgument, RegistryError, AuthError, DigestMismatch, ImageError, ArchiveError,
            StoreError
        """
        from .image.pull import pull

        return pull(self._images, reference, platform=platform, progress=progress)

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

    def remove_image(self, name_or_id: str, *, force: bool = False) -> list[Removed]:
        """Untag an image, and delete it when nothing names it any more.

        Raises:
            NotFound; Conflict: a container uses it, or several names share the id.
        """
        return self._images.remove(name_or_id, force=force, used_by=self._used_by)

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
            names: names, ids, or repositories without a tag (all of their tags).
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

    def inspect_image(self, name_or_id: str) -> dict[str, Any]:
        """Docker's JSON of an image."""
        from .image.inspect import inspect

        return inspect(self.image(name_or_id))
