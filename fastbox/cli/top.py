"""``fastbox top``."""

from __future__ import annotations

from . import output
from .command import App, FlagCommand
from .flags import Values
from .tables import align


def top(app: App, values: Values, words: list[str]) -> int:
    """The processes of a container, by the host's ps."""
    titles, rows = app.engine.top(words[0], words[1:] or None)
    output.write(align(["\t".join(titles), *("\t".join(row) for row in rows)], minimum=20))
    return 0


COMMAND = FlagCommand("top", top, "CONTAINER [ps OPTIONS]", least=1, interspersed=False)
