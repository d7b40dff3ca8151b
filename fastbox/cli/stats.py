"""``fastbox stats``: a table, once or again and again."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..errors import FastboxError
from . import human, output
from .command import App, FlagCommand
from .errors import Finished, message_of
from .flags import Flag, Switch, Values
from .listing import FORMAT
from .tables import render

if TYPE_CHECKING:
    from ..container.stats import Stats

HEADERS = {
    "BlockIO": "BLOCK I/O",
    "CPUPerc": "CPU %",
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "MemPerc": "MEM %",
    "MemUsage": "MEM USAGE / LIMIT",
    "Name": "NAME",
    "NetIO": "NET I/O",
    "PIDs": "PIDS",
}
DEFAULT = "ID\tName\tCPUPerc\tMemUsage\tMemPerc\tNetIO\tBlockIO\tPIDs"
INTERVAL = 1.0
# Between the two samples of which the first table's CPU % is made.
FIRST_INTERVAL = 0.5


def stats(app: App, values: Values, words: list[str]) -> int:
    """Print what containers use."""
    watch = _Watch(app.engine, list(dict.fromkeys(words)), all=values.all)
    errors = watch.look()
    if errors:
        for error in errors:
            output.error(message_of(error))
        return 1

    def table() -> str | bytes:
        watch.look()
        return render(
            [row(*line, trunc=not values.no_trunc) for line in watch.lines],
            format=values.format or "",
            default=DEFAULT,
            headers=HEADERS,
            type_name="*container.statsContext",
        )

    time.sleep(FIRST_INTERVAL)
    if values.no_stream:
        output.write(table())
    elif output.is_terminal(sys.stdout):
        with _Screen() as screen:
            _repeat(lambda: screen.show(table()))
    else:
        _repeat(lambda: output.write(table()))
    return 0


def _repeat(act: Callable[[], None]) -> None:
    """Each second, until interrupted."""
    due = time.monotonic()
    while True:
        act()
        # After a stop (ctrl-Z) or on a busy machine: no burst of what was missed.
        due = max(due + INTERVAL, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


class _Watch:
    """The containers to show, those that come and go included.

    Args:
        words: names or ids as typed; none: all that run, or with ``all`` all there are.

    Attributes:
        lines: (what the Container column shows, sample or None if it is gone, CPU in percent).
    """

    def __init__(self, engine: Any, words: list[str], *, all: bool) -> None:
        self.engine = engine
        self.words = words
        self.all = all
        self.lines: list[tuple[str, Stats | None, float]] = []
        self._before: dict[str, Stats] = {}
        self._order: list[str] = []

    def look(self) -> list[FastboxError]:
        """Take a sample of each; errors of the containers that were named."""
        errors: list[FastboxError] = []
        lines: list[tuple[str, Stats | None, float]] = []
        before, self._before = self._before, {}
        for name in self.words or self._ids():
            try:
                found: Stats = self.engine.stats(name)
            except FastboxError as error:
                if self.words:
                    errors.append(error)
                    lines.append((name, None, 0.0))
                continue
            self._before[found.id] = found
            percent = found.cpu_percent(before.get(found.id))
            lines.append((name if self.words else found.id[:12], found, percent))
        self.lines = lines
        return errors

    def _ids(self) -> list[str]:
        """Whoever is new comes last, so that nobody jumps about."""
        now = dict.fromkeys(box.id for box in self.engine.containers(all=self.all))
        self._order = [id for id in self._order if id in now]
        self._order += [id for id in now if id not in self._order]
        return self._order


def row(
    shown: str, sample: Stats | None, percent: float, *, trunc: bool
) -> dict[str, Callable[[], Any]]:
    """The fields of one line."""
    if sample is None:
        gone = {"Container": shown, "ID": "", "MemUsage": "-- / --"}
        return {field: lambda field=field: gone.get(field, "--") for field in HEADERS}  # type: ignore[misc]
    return {
        "BlockIO": lambda: f"{human.size(sample.block_read)} / {human.size(sample.block_write)}",
        "CPUPerc": lambda: f"{percent:.2f}%",
        "Container": lambda: shown,
        "ID": lambda: sample.id[:12] if trunc else sample.id,
        "MemPerc": lambda: f"{sample.memory_percent:.2f}%",
        "MemUsage": lambda: (
            f"{human.binary_size(sample.memory)} / {human.binary_size(sample.memory_limit)}"
        ),
        "Name": lambda: sample.name,
        "NetIO": lambda: f"{human.size(sample.net_rx)} / {human.size(sample.net_tx)}",
        "PIDs": lambda: str(sample.pids),
    }


class _Screen:
    """A terminal on which each text takes the place of the one before: one write per text, over
    what is there, so that nothing flickers. While entered, the cursor is hidden and long lines are
    cut; both are undone whatever ends the command, and while it is stopped (ctrl-Z)."""

    BEGIN = "\033[?25l\033[?7l\033[2J"
    END = "\n\033[?7h\033[?25h"

    def __init__(self) -> None:
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _Screen:
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._previous[number] = signal.signal(number, _finish)
        self._previous[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._stop)
        output.write(self.BEGIN)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            output.write(self.END)
        finally:
            for number, handler in self._previous.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        os.write(1, self.END.encode())
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        # Here it goes on, once somebody has sent SIGCONT.
        signal.signal(signal.SIGTSTP, self._stop)
        os.write(1, self.BEGIN.encode())

    def show(self, text: str | bytes) -> None:
        """Show it from the top left corner, as much as there is room for."""
        data = text if isinstance(text, bytes) else output.encode(text)
        try:
            height = os.get_terminal_size(1).lines or 24
        except OSError:
            height = 24
        # No newline behind the last line: at the bottom it would scroll.
        lines = data.split(b"\n")[:-1][: max(height - 1, 1)]
        output.write(b"\033[H" + b"\n".join(line + b"\033[K" for line in lines) + b"\033[J")


def _finish(number: int, frame: FrameType | None) -> None:
    raise Finished(128 + number)


COMMAND = FlagCommand(
    "stats",
    stats,
    "[CONTAINER...]",
    (
        Flag("-a --all", Switch(), "Show all containers (default shows just running)"),
        FORMAT,
        Flag("--no-stream", Switch(), "Disable streaming stats and only pull the first result"),
        Flag("--no-trunc", Switch(), "Do not truncate output"),
    ),
)
