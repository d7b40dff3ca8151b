"""Engine: every verb of fastbox as a method with typed arguments and a typed result.

The CLI parses and prints; everything it does is a call of this class. Methods block; for asyncio
use ``fastbox.AsyncEngine``, which has the same methods as coroutines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .container.config import ContainerConfig
    from .container.logs import LogLine
    from .container.record import Container
    from .image.types import Image, PullResult, Removed, Volume


class Engine:
    """A container engine over one store.

    Args:
        root: where images, containers and volumes live (``FASTBOX_ROOT``, ``/var/lib/fastbox``).
        runtime_dir: state that does not outlive a reboot (``FASTBOX_RUNTIME_DIR``,
            ``/run/fastbox``).
    """

    def __init__(self, root: str | None = None, runtime_dir: str | None = None) -> None: ...

    # images -------------------------------------------------------------------------------------
    def pull(
        self,
        reference: str,
        *,
        platform: str | None = None,
        progress: Callable[[Any], None] | None = None,
    ) -> PullResult: ...
    def images(
        self,
        reference: str | None = None,
        *,
        all: bool = False,
        filters: dict[str, list[str]] | None = None,
    ) -> list[Image]: ...
    def image(self, name_or_id: str) -> Image: ...
    def tag(self, source: str, target: str) -> None: ...
    def remove_image(self, name_or_id: str, *, force: bool = False) -> list[Removed]: ...
    def import_image(
        self,
        source: str | IO[bytes],
        reference: str | None = None,
        *,
        changes: Iterable[str] = (),
        message: str = "",
        platform: str | None = None,
    ) -> Image: ...
    def bootstrap(
        self,
        reference: str,
        *,
        include: Iterable[str] = (),
        suite: str | None = None,
        changes: Iterable[str] = (),
        variant: str = "minbase",
        output: Callable[[str], None] | None = None,
    ) -> Image: ...

    # containers ---------------------------------------------------------------------------------
    def create(
        self, config: ContainerConfig, *, pull: str = "missing", platform: str | None = None,
        progress: Callable[[Any], None] | None = None,
    ) -> Container:
        """Create. pull: ``"missing"``, ``"always"`` or ``"never"``."""

    def start(self, container: str) -> Container:
        """Start detached; a running container is left as it is."""

    def run_attached(
        self,
        container: str,
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> int:
        """Start with these descriptors, wait, remove if auto_remove; the exit status."""

    def containers(
        self, *, all: bool = False, filters: dict[str, list[str]] | None = None, size: bool = False
    ) -> list[Container]:
        """Newest first."""

    def container(self, name_or_id: str, *, size: bool = False) -> Container: ...
    def logs(
        self,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> Iterator[LogLine]: ...
    def top(self, container: str, ps_args: list[str] | None = None) -> tuple[list[str], list[list[str]]]:
        """(titles, rows)."""

    def exec(
        self,
        container: str,
        args: list[str],
        *,
        env: Iterable[str] = (),
        workdir: str | None = None,
        user: str | None = None,
        privileged: bool = False,
        detach: bool = False,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> int:
        """Run another process in a running container; its exit status (0 when detached)."""

    def stop(self, container: str, *, timeout: int | None = None, signal: str | None = None) -> None: ...
    def kill(self, container: str, *, signal: str = "SIGKILL") -> None: ...
    def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None: ...
    def wait(self, container: str) -> int:
        """Block until the container is not running; its exit status."""

    def inspect_container(self, name_or_id: str, *, size: bool = False) -> dict[str, Any]: ...
    def inspect_image(self, name_or_id: str) -> dict[str, Any]: ...
    def inspect_volume(self, name: str) -> dict[str, Any]: ...

    # volumes ------------------------------------------------------------------------------------
    def create_volume(
        self, name: str | None = None, *, labels: dict[str, str] | None = None,
        options: dict[str, str] | None = None,
    ) -> Volume: ...
    def volumes(self, *, filters: dict[str, list[str]] | None = None) -> list[Volume]: ...
    def remove_volume(self, name: str, *, force: bool = False) -> None: ...
    def prune_volumes(
        self, *, all: bool = False, filters: dict[str, list[str]] | None = None
    ) -> tuple[list[str], int]:
        """(names removed, bytes freed)."""

    # the engine itself --------------------------------------------------------------------------
    def info(self) -> dict[str, Any]: ...
    def version(self) -> dict[str, Any]: ...
