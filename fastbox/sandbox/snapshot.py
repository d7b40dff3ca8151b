"""``Snapshot``: the files of a box as they were, for other boxes to begin with."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any

from ..container import snapshots
from ..errors import NotRunning

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..container.config import ContainerConfig
    from ..container.record import Container
    from ..engine import Engine
    from ..image.types import Image
    from .box import Sandbox

_lock = threading.RLock()
# How many snapshots and boxes of this process have a layer: (root, name) -> count.
_users: dict[tuple[str, str], int] = {}


def take_layers(engine: Engine, names: list[str]) -> None:
    """Note one user more of each layer."""
    with _lock:
        for name in names:
            _users[engine.root, name] = _users.get((engine.root, name), 0) + 1


def drop_layers(engine: Engine, names: list[str]) -> None:
    """Note one user less; what has none is deleted, unless an image or a container needs it."""
    gone = []
    with _lock:
        for name in names:
            key = engine.root, name
            _users[key] = _users.get(key, 1) - 1
            if _users[key] <= 0:
                del _users[key]
                gone.append(name)
    if gone:
        snapshots.give_up(engine.root, gone, engine._release)


class Snapshot:
    """The files of a box at one moment. Boxes made of it share them, and what they write is their
    own: ``Sandbox(snapshot)`` with limits of its own, ``fork()`` with those of the box.

    It is there until it is closed (it is a context manager) and all boxes made of it are; not
    longer than this process. ``fastbox commit`` of a box makes an image, which lasts.
    """

    def __init__(
        self,
        engine: Engine,
        image: Image,
        image_name: str,
        own: list[str],
        base: list[str],
        made_by: type[Sandbox],
        options: dict[str, Any],
    ) -> None:
        self.engine = engine
        self.image_name = image_name
        self.image = image
        self._own, self._base = own, base
        self._made_by, self._options = made_by, options
        self._owner = os.getpid()
        self._is_closed = False
        self._hold = ""
        take_layers(engine, own)
        if not own:  # its image may be removed meanwhile
            self._hold = os.urandom(12).hex()
            snapshots.hold(engine.root, self._hold, [], base)

    def fork(self, **changes: Any) -> Sandbox:
        """A box with these files and the settings of the one that they are of.

        Args:
            changes: other settings, see ``Sandbox``.

        Raises:
            InvalidArgument; NotRunning: the snapshot is closed.
        """
        return self._made_by(self, **{**self._options, **changes})

    def acquire(self) -> list[str]:
        """Its layers, with one user more; see ``drop_layers``."""
        with _lock:
            if self._is_closed:
                raise NotRunning("the snapshot is closed")
            take_layers(self.engine, self._own)
            return list(self._own)

    def create(self, config: ContainerConfig) -> Container:
        """A container of it that is not started yet."""
        from ..container.create import copy_config, create

        engine = self.engine
        return create(
            engine._containers,
            copy_config(config),
            self.image,
            self.image_name,
            self._base,
            f"{engine.root}/layers",
            engine._volumes,
            engine.cgroup_parent,
            engine._container_networks,
            driver=engine._images.driver,
            transient=True,
            own=self._own,
        )

    def close(self) -> None:
        """Let go of the files. A second time is fine."""
        if os.getpid() != self._owner:
            return
        with _lock:
            if self._is_closed:
                return
            self._is_closed = True
        if self._hold:
            snapshots.let_go(self.engine.root, self._hold)
        drop_layers(self.engine, self._own)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()
