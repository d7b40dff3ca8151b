"""The floor of ``exec``: bench/enter.c in a container of fastbox's."""

from __future__ import annotations

import os

from bench.commands import output
from bench.peers import HERE, compile_c, unified_hierarchy
from fastbox.container.record import Container
from fastbox.engine import Engine


class Enter:
    """The kernel's own cost of another process in a running container.

    Args:
        seccomp: a file of struct sock_filter, or None.
    """

    def __init__(
        self, engine: Engine, box: Container, args: list[str], seccomp: str | None
    ) -> None:
        program = compile_c(os.path.join(HERE, "enter.c"), "enter")
        self._argv = [program, "-p", str(box.state.pid)]
        hierarchy = unified_hierarchy()
        if hierarchy:
            self._argv += ["-c", f"{hierarchy}/{engine.cgroup_parent}/{box.id}"]
        if seccomp:
            self._argv += ["-s", seccomp]
        self._argv += args

    def run(self) -> float:
        """Seconds of one, as measured inside (the helper's own start is not part)."""
        return int(output(self._argv)) / 1e9
