"""The verbs that connect a client to a container's streams: a part of Engine, in its own file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .errors import Detached, FastboxError

if TYPE_CHECKING:
    from .container.lifecycle import Lifecycle
    from .container.record import Container
    from .container.store import ContainerStore


class AttachingVerbs:
    """See ``Engine``, which is one.

    In all of them stdin, stdout and stderr are the client's descriptors, or None. Where the
    container has a terminal and stdin is one too, that is in raw mode meanwhile and its size is
    the container's; ``detach_keys`` (``"ctrl-p,ctrl-q"``) then leave the container, which raises
    ``Detached``.
    """

    if TYPE_CHECKING:

        @property
        def _containers(self) -> ContainerStore: ...

        @property
        def _lifecycle(self) -> Lifecycle: ...

        def container(self, name_or_id: str) -> Container: ...

    def run_attached(
        self,
        container: str,
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        detach_keys: str | None = None,
    ) -> int:
        """Start a created container with these descriptors, wait for its end; its exit status.

        An auto_remove container is gone afterwards, also when it could not be started or the wait
        was interrupted; another goes on running then.

        Raises:
            Detached: the client left it by the detach keys (None: there are none).
        """
        from .container.launch import Streams

        streams = Streams(stdin, stdout, stderr, _keys(detach_keys))
        container_id = self._containers.resolve(container)
        try:
            return self._lifecycle.run_attached(container_id, streams)
        except Detached:
            raise
        except BaseException:
            with contextlib.suppress(FastboxError):
                self._lifecycle.cleanup(container_id)
            raise

    def attach(
        self,
        container: str,
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        detach_keys: str | None = None,
        cancel: int | None = None,
    ) -> int:
        """Connect to a running container; its exit status, once it ends. Nothing is replayed.

        Several clients may be attached at once. One that reads too slowly loses nothing up to
        64 MiB, then it is let go; the container and the others never wait for it.

        Args:
            cancel: a descriptor that becomes readable when the client shall leave.

        Raises:
            Conflict: it is not running, or paused.
            Detached: by the detach keys (None: there are none), or by ``cancel``.
        """
        from .container.launch import Streams

        streams = Streams(stdin, stdout, stderr, _keys(detach_keys))
        return self._lifecycle.attach(self.container(container), streams, cancel)

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
        tty: bool = False,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        detach_keys: str | None = None,
    ) -> int:
        """Run another process in a running container; its exit status (0 when detached).

        Args:
            tty: with a terminal of its own.

        Raises:
            NotRunning; LaunchError: it could not be started. Detached: see ``attach``; the process
            goes on.
        """
        from .container.exec import ExecRequest
        from .container.launch import Streams

        request = ExecRequest(
            args=args,
            env=env,
            workdir=workdir,
            user=user,
            privileged=privileged,
            detach=detach,
            tty=tty,
        )
        streams = Streams(stdin, stdout, stderr, _keys(detach_keys))
        box = self._containers.load(self._containers.resolve(container))
        return self._lifecycle.exec(box, request, streams)


def _keys(text: str | None) -> bytes:
    from .container import detach

    return b"" if text is None else detach.parse(text)
