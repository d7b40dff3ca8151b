"""``export``: the files of a container as a tar archive."""

from __future__ import annotations

import os
import threading
from typing import IO, TYPE_CHECKING

from ..image import sink as sinks

if TYPE_CHECKING:
    from .view import View

_PIECE = 1 << 20


def export(view: View, output: int | str | IO[bytes]) -> None:
    """Write all that a view shows as an archive.

    Args:
        output: see ``image.sink.opened``.

    Raises:
        InvalidArgument: the path cannot be written to. StoreError, PermissionDenied: reading or
            writing failed. BrokenPipeError: nobody reads it.
    """
    from .._core.pack import pack

    with sinks.opened(output) as sink:
        if isinstance(sink, sinks.DescriptorSink):
            pack(view.root, sink.fd, whiteouts="none", digests=False)
        else:
            _through_a_pipe(view, sink)


def _through_a_pipe(view: View, sink: sinks.Sink) -> None:
    from .._core.pack import Cancel, pack

    reader, writer = os.pipe2(os.O_CLOEXEC)
    cancel = Cancel()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            pack(view.root, writer, whiteouts="none", digests=False, cancel=cancel)
        except BaseException as error:
            errors.append(error)
        finally:
            os.close(writer)

    thread = threading.Thread(target=work, name="fastbox-pack", daemon=True)
    try:
        try:
            thread.start()
        except BaseException:
            os.close(writer)
            raise
        try:
            while piece := os.read(reader, _PIECE):
                sink.write(piece)
        except BaseException:
            cancel.cancel()
            raise
        finally:
            thread.join()
    finally:
        os.close(reader)
    if errors:
        raise errors[0]
