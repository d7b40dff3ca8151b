"""The graph drivers: where a container's root comes from (see ``fastbox.graphdriver`` for which one
a store has). All that depends on it goes through a driver's methods; the records say which is
theirs, so a start asks nobody.

``overlay`` is here, because every start needs it; ``copy`` is in ``copied``.
"""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING

from .._core import launch as core
from .flatten import Overlay, Root

if TYPE_CHECKING:
    from .record import Container, ContainerRecord
    from .store import ContainerStore

INIT_LAYER = ".init"  # see ``init_layer``
_PARAMETERS = "/sys/module/overlay/parameters"


class Driver:
    """What a graph driver does.

    Attributes:
        name: as in ``ROOT/driver``.
        layers_are_upper: what a container has written lies in directories that are layers already:
            a commit may take them as they are.
    """

    name = ""
    layers_are_upper = False

    def make(self, store: ContainerStore, record: ContainerRecord, layers_dir: str) -> None:
        """Make the root of a new container, whose directory has an empty ``upper`` and ``work``.

        Raises:
            OSError
        """

    def root(
        self, store: ContainerStore, record: ContainerRecord, layers_dir: str, *, lasting: bool
    ) -> Root:
        """The root as a mount that happens in the container's own mount namespace.

        Args:
            lasting: what is written shall survive a power loss.
        """
        raise NotImplementedError

    def readable(
        self, store: ContainerStore, record: ContainerRecord, layers_dir: str
    ) -> Root | None:
        """The same for reading alone, where there is a cheaper way."""
        return None

    def started_before(self, directory: str) -> None:
        """See that the root of a container that has run can be mounted once more."""

    def image_root(self, store: ContainerStore, record: ContainerRecord, layers_dir: str) -> int:
        """Descriptor of the root that a new container has; read-only. The caller closes it."""
        raise NotImplementedError

    def changes(
        self, store: ContainerStore, record: ContainerRecord, layers_dir: str
    ) -> dict[str, str]:
        """Absolute path -> "A", "C" or "D", of what the container has another version of than its
        image; directories in which something changed are not among them for that.

        Raises:
            OSError
        """
        raise NotImplementedError

    def size(self, container: Container, layers_dir: str) -> int:
        """Bytes of the files that a container has written; 0 if they vanish meanwhile."""
        raise NotImplementedError

    def copy_layer(
        self,
        store: ContainerStore,
        record: ContainerRecord,
        layers_dir: str,
        target: str,
        links: str,
    ) -> None:
        """Copy all that ``changes`` tells into an empty directory, as a layer, where what has been
        written is no such thing.

        Args:
            links: another empty one.

        Raises:
            OSError: also when the container, not paused, moves what is being copied.
        """
        raise NotImplementedError


class OverlayDriver(Driver):
    """overlayfs: the layers below, the container's own directory ``upper`` above."""

    name = "overlay"
    layers_are_upper = True

    def root(
        self, store: ContainerStore, record: ContainerRecord, layers_dir: str, *, lasting: bool
    ) -> Root:
        # Names are relative to the layers' directory, so that 125 layers fit into the one page
        # that mount(2) takes.
        target = mount_point(store, layers_dir)
        own = os.path.relpath(store.directory(record.id), layers_dir)
        options = f"lowerdir={_lower(record, layers_dir)},upperdir={own}/upper,workdir={own}/work"
        options += _plain()
        if not lasting:
            options += ",volatile"  # no fsync for what is thrown away (Linux 5.10)
        return Overlay(layers_dir, target, options)

    def readable(
        self, store: ContainerStore, record: ContainerRecord, layers_dir: str
    ) -> Root | None:
        # The upper directory as one more lower one: nothing can be changed, and the kernel has
        # nothing to sync when it is unmounted.
        target = mount_point(store, layers_dir)
        own = os.path.relpath(store.directory(record.id), layers_dir)
        return Overlay(layers_dir, target, f"lowerdir={own}/upper:{_lower(record, layers_dir)}")

    def started_before(self, directory: str) -> None:
        # A volatile one leaves a mark that the kernel refuses, because after a power loss its
        # files may be damaged. None came between.
        from .._core.tree import remove_tree

        remove_tree(f"{directory}/work/work/incompat")

    def image_root(self, store: ContainerStore, record: ContainerRecord, layers_dir: str) -> int:
        target = mount_point(store, layers_dir)
        lower = ":".join([INIT_LAYER, *_image_layers(record)])
        return core.overlay_view(layers_dir, target, f"lowerdir={lower}")

    def changes(
        self, store: ContainerStore, record: ContainerRecord, layers_dir: str
    ) -> dict[str, str]:
        from . import changes, layered

        image = self.image_root(store, record, layers_dir)
        try:
            own = layered.writable(store.directory(record.id), record, layers_dir)
            return changes.found_in_uppers(own, image)
        finally:
            os.close(image)

    def size(self, container: Container, layers_dir: str) -> int:
        from .sizes import size_of_uppers

        return size_of_uppers(container, layers_dir)


OVERLAY = OverlayDriver()


def of(record: ContainerRecord) -> Driver:
    """The driver of a container."""
    return OVERLAY if not record.driver else named(record.driver)


def named(name: str) -> Driver:
    """A driver by its name."""
    if name == OVERLAY.name:
        return OVERLAY
    from .copied import COPY

    return COPY


def mount_point(store: ContainerStore, layers_dir: str) -> str:
    """The empty directory on which roots are mounted; all that mounting needs is there then."""
    target = f"{store.runtime}/rootfs"
    if not os.path.isdir(target):
        os.makedirs(target, mode=0o700, exist_ok=True)
    if not os.path.isdir(f"{layers_dir}/{INIT_LAYER}"):
        from . import init_layer

        init_layer.ensure(layers_dir)
    return target


@functools.cache
def _plain() -> str:
    """Options against what some kernels (Arch, openSUSE) do by default: an upper directory whose
    entries point to places below it, by marks that no archive can say."""
    options = ""
    for name in ("redirect_dir", "metacopy"):
        with contextlib.suppress(OSError), open(f"{_PARAMETERS}/{name}", "rb") as file:
            options += f",{name}=off" if file.read(1) == b"Y" else ""
    return options


def _lower(record: ContainerRecord, layers_dir: str) -> str:
    """``lowerdir=`` of a container's image, the init layer on top; above that is what was the
    upper directory until a commit."""
    own: list[str] = []
    if record.committed:
        from .layered import own_layers

        own = own_layers(record, layers_dir)
    return ":".join([*own, INIT_LAYER, *_image_layers(record)])


def _image_layers(record: ContainerRecord) -> list[str]:
    if not record.committed:
        return record.layers
    from .layered import image_layers

    return image_layers(record)
