"""What the list commands share: their ``--format`` and ``--filter`` flags."""

from __future__ import annotations

from .flags import Filters, Flag, Text

FORMAT = Flag(
    "--format",
    Text(),
    "Format output using a custom template:\n"
    "'table':            Print output in table format with column headers (default)\n"
    "'table TEMPLATE':   Print output in table format using the given Go template\n"
    "'json':             Print in JSON format\n"
    "'TEMPLATE':         Print output using the given Go template.\n"
    "Refer to https://docs.docker.com/go/formatting/ for more information about formatting "
    "output with templates",
)


def filter_flag(names: str, help: str) -> Flag:
    """``--filter KEY=VALUE``."""
    return Flag(names, Filters(), help)
