"""``Are you sure you want to continue? [y/N]``."""

from __future__ import annotations

import sys

from . import output


def confirm(warning: str) -> bool:
    """Ask on standard output, read the answer from standard input; only ``y`` means yes."""
    output.write(f"{warning}\nAre you sure you want to continue? [y/N] ")
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    return answer.strip().lower() == "y"
