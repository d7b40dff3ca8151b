"""What a pull, push or load is doing: a bar per layer on a terminal, else a line per change."""

from __future__ import annotations

import threading
from typing import IO, Any

from ..oci.text import printable
from . import output

_QUIET = ("Downloading", "Extracting", "Loading layer", "Pushing")
_DONE = (
    "Pull complete",
    "Already exists",
    "Download complete",
    "Pushed",
    "Layer already exists",
    "Skipped foreign layer",
)


class Progress:
    """Takes ProgressEvents from any thread. A context manager.

    Args:
        stream: ``sys.stdout`` for ``pull``, ``sys.stderr`` for ``run``.
        quiet: show nothing.
    """

    def __init__(self, stream: IO[str] | None, *, quiet: bool = False) -> None:
        self.stream = stream
        self.quiet = quiet
        self.lock = threading.Lock()
        self.last: dict[str, str] = {}
        self.bars: Any = None
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        """Leave the bars as they are; later events get new ones."""
        if self.bars is not None:
            self.bars.stop()
            self.bars = None
        self.tasks.clear()

    def update(self, event: Any) -> None:
        """Show one event: ``id``, ``status``, ``current`` and ``total`` bytes."""
        if self.quiet:
            return
        with self.lock:
            if event.status.startswith("Pulling from "):
                self._stop()
                self.last.clear()
                self._print(f"{event.id}: {event.status}")
            elif output.is_terminal(self.stream):
                self._draw(event)
            elif self.last.get(event.id) != event.status:
                self.last[event.id] = event.status
                if not event.id:  # between two tags: the layers begin anew
                    self.last = {"": event.status}
                # Without a terminal only changes count, and these change all the time.
                if event.status not in _QUIET:
                    self._print(f"{event.id}: {event.status}" if event.id else event.status)

    def summary(self, result: Any) -> None:
        """``Digest: …`` and ``Status: …`` of a finished pull."""
        from ..oci.reference import parse

        self._print(f"Digest: {result.digest}")
        self.status(parse(result.name).familiar, [result.status])

    def status(self, name: str, statuses: list[str]) -> None:
        """``Status: …`` of one pull or several."""
        if "downloaded" in statuses:
            self._print(f"Status: Downloaded newer image for {name}")
        else:
            self._print(f"Status: Image is up to date for {name}")

    def _print(self, text: str) -> None:
        if self.stream is not None and not self.quiet:
            try:
                self.stream.write(printable(text) + "\n")
                self.stream.flush()
            except OSError as error:
                raise output.failed(self.stream, error) from error

    # ---- bars ----------------------------------------------------------------------------------

    def _draw(self, event: Any) -> None:
        if not event.id:
            self._stop()
            self._print(event.status)
            return
        if self.bars is None:
            self.bars = self._make_bars()
            self.bars.start()
        if event.id not in self.tasks:
            self.tasks[event.id] = self.bars.add_task(printable(event.id), total=None, status="")
        fields: dict[str, Any] = {"status": printable(event.status)}
        if event.status in _QUIET and event.total:
            fields |= {"completed": event.current, "total": event.total}
        elif event.status in _DONE or event.status.startswith("Mounted from "):
            fields |= {"completed": 1, "total": 1}
        self.bars.update(self.tasks[event.id], **fields)

    def _make_bars(self) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn
        from rich.table import Column

        def text(template: str) -> TextColumn:
            return TextColumn(template, markup=False, table_column=Column(no_wrap=True))

        console = Console(file=self.stream, highlight=False)
        return _bars_class(console)(
            text("{task.description}:"),
            text("{task.fields[status]}"),
            BarColumn(),
            _size_column(DownloadColumn)(table_column=Column(no_wrap=True)),
            console=console,
            auto_refresh=True,
        )


def _bars_class(console: Any) -> Any:
    from rich.constrain import Constrain
    from rich.progress import Progress as Bars

    class Narrower(Bars):
        def get_renderable(self) -> Any:
            # Room for the ^C that a terminal shows: on a line of its own, it would have the bars
            # drawn again in the wrong place.
            return Constrain(super().get_renderable(), console.width - 2)

    return Narrower


def _size_column(base: Any) -> Any:
    """Sizes only while bytes are counted."""

    class Sizes(base):  # type: ignore[misc]
        def render(self, task: Any) -> Any:
            from rich.text import Text

            return super().render(task) if task.fields["status"] in _QUIET else Text("")

    return Sizes
