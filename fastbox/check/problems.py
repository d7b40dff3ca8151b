"""What a check finds, and what its parts share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from ..errors import FastboxError

if TYPE_CHECKING:
    from ..container.store import ContainerStore
    from ..image.store import ImageStore
    from ..network.store import NetworkStore
    from ..volume.store import VolumeStore

Counted: TypeAlias = "Callable[[str, int], None]"


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Something in a store that is not as it should be.

    Attributes:
        kind: ``"index"``, ``"image"``, ``"blob"``, ``"layer"``, ``"metadata"``, ``"container"``,
            ``"name"``, ``"volume"``, ``"network"`` or ``"leftover"``.
        what: which one: an image's name, a digest, a layer's directory, a container's name …
        text: what is wrong with it, one line.
        repaired: it is as it should be now.
        hint: what the user can do, or ``""``.
        harmless: nothing is known to be damaged; it could only not be verified.
    """

    kind: str
    what: str
    text: str
    repaired: bool = False
    hint: str = ""
    harmless: bool = False

    @property
    def is_left(self) -> bool:
        """Whether somebody has to do something about it."""
        return not (self.repaired or self.harmless)


class Known(msgspec.Struct, kw_only=True):
    """A layer as the images know it.

    Attributes:
        blobs: digests of whole blobs that hold it.
        images: names of those who have it.
        pending: a commit's, which is nothing but its directory yet.
    """

    diff_id: str
    blobs: list[str] = []
    images: list[str] = []
    pending: bool = False


class Look:
    """One check under way.

    Args:
        images: a store object of the check's own: one that was in use has things in memory that
            it does not read again. containers, volumes, networks: the stores.
        repair: put right what can be.
        counted: told (kind, how many) of what was looked at.

    Attributes:
        problems: what was found.
        layers: directory name -> layer, of all images.
    """

    def __init__(
        self,
        images: ImageStore,
        containers: ContainerStore,
        volumes: VolumeStore,
        networks: NetworkStore,
        *,
        repair: bool = False,
        counted: Counted | None = None,
    ) -> None:
        self.images = images
        self.containers = containers
        self.volumes = volumes
        self.networks = networks
        self.repair = repair
        self.counted = counted or (lambda kind, count: None)
        self.problems: list[Problem] = []
        self.layers: dict[str, Known] = {}
        self._lease = contextlib.ExitStack()

    def found(self, kind: str, what: str, text: str, hint: str = "") -> Problem:
        """Note a problem."""
        problem = Problem(kind=kind, what=what, text=text, hint=hint)
        self.problems.append(problem)
        return problem

    def mend(self, problem: Problem, action: Callable[[], str | None]) -> None:
        """Try to put a problem right, if that was asked for.

        Args:
            action: does it; gives None, or why it could not be done.
        """
        if not self.repair:
            if not problem.hint:
                problem.hint = "`fastbox system check --repair` puts it right"
            return
        try:
            refused = action()
        except FastboxError as error:
            refused = error.message
        except OSError as error:
            refused = f"{error.filename or ''}: {(error.strerror or '').lower()}".lstrip(": ")
        problem.repaired = refused is None
        if refused is None:
            problem.hint = ""
        else:
            problem.text += f"; not repaired: {refused}"

    # locks --------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def leased(self) -> Iterator[None]:
        """While this is held, nothing is collected; everybody else goes on."""
        with self._lease:
            self._lease.enter_context(self.images.lease())
            yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """For a moment nobody makes a container or an image; False if somebody is at it.

        The own lease is given up for it. Meanwhile nobody else can collect, because whoever does
        needs the store's lock first, which is held here.
        """
        with self.images.locked():
            self._lease.close()
            try:
                with self.images.exclusive() as mine:
                    yield mine
            finally:
                self._lease.enter_context(self.images.lease())


def shown(path: str) -> str:
    """A path or name of unknown origin, printable and on one line."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:300])
