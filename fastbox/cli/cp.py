"""``fastbox cp``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from ..container.copy import Copied, LocalPathError
from . import output
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Switch, Values
from .human import size

_REDRAW = 0.075  # seconds


def cp(app: App, values: Values, words: list[str]) -> int:
    """Copy between a container and the host, or a tar stream."""
    if not words[0]:
        raise CliError("source can not be empty")
    if not words[1]:
        raise CliError("destination can not be empty")
    source, source_path = _cut(words[0])
    target, target_path = _cut(words[1])
    if source and target:
        raise CliError("copying between containers is not supported")
    if not source and not target:
        raise CliError("must specify at least one container source")
    quiet = values.quiet if "quiet" in values.given else not output.is_terminal(sys.stdout)
    try:
        if source and target_path == "-":
            return _write_archive(app, source, source_path, values.follow_link)
        if target and source_path == "-":
            app.engine.copy_to(target, target_path, 0)
            return 0
        call: Callable[..., Copied] = app.engine.copy_out if source else app.engine.copy_in
        arguments = (
            (source, source_path, target_path) if source else (target, source_path, target_path)
        )
        progress = _Progress("from" if source else "to", quiet)
        try:
            copied = call(
                *arguments,
                follow_link=values.follow_link,
                archive=values.archive,
                progress=progress.show if progress.shown else None,
            )
        finally:
            progress.clear()
    except LocalPathError as error:  # the client's own, in Docker
        raise CliError(error.message, hint=error.hint) from error
    if not quiet:
        output.error(f"Successfully copied {size(copied.size)} to {copied.path}")
    for path in copied.skipped:
        output.error(f"WARNING: {path} is a device: not copied (--archive does)")
    return 0


def _cut(word: str) -> tuple[str, str]:
    """(container, path in it), or ("", path of the host): what begins with a slash or a dot, and
    what has no colon."""
    container, colon, path = word.partition(":")
    if word.startswith("/") or not colon or container.startswith("."):
        return "", word
    return container, path


def _write_archive(app: App, container: str, path: str, follow_link: bool) -> int:
    stream = getattr(sys.stdout, "buffer", None)
    with app.engine.copy_from(container, path, follow_link=follow_link) as archive:
        for piece in archive:
            if stream is not None:
                output.copy(stream, piece)
    return 0


class _Progress:
    """One line on a terminal while bytes are copied."""

    def __init__(self, direction: str, quiet: bool) -> None:
        self.shown = not quiet and output.is_terminal(sys.stderr)
        self._direction = direction
        self._last = time.monotonic()
        self._drawn = False

    def show(self, count: int) -> None:
        now = time.monotonic()
        if now - self._last < _REDRAW:
            return
        self._last = now
        self._drawn = True
        output.write_error(f"\r\x1b[KCopying {self._direction} container - {size(count)}")

    def clear(self) -> None:
        if self._drawn:
            output.write_error("\r\x1b[K")


COMMAND = FlagCommand(
    "cp",
    cp,
    "CONTAINER:SRC_PATH DEST_PATH|-\n\tfastbox cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    (
        Flag("-a --archive", Switch(), "Archive mode (copy all uid/gid information)"),
        Flag("-L --follow-link", Switch(), "Always follow symlinks in SRC_PATH"),
        Flag(
            "-q --quiet",
            Switch(),
            "Suppress progress output during copy. Progress output is automatically suppressed if "
            "no terminal is attached",
        ),
    ),
    least=2,
    most=2,
)
