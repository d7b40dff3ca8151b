"""Which tests are run by one process when several share them (``-n 2``)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-not-found,unused-ignore]

# A test that takes `twin` (tests/conftest.py).
TWIN = re.compile(r"::.*[\[-]fastbox[\]-]")


class ByModule(LoadScopeScheduling):  # type: ignore[misc,unused-ignore]
    """A module's tests stay together: they share what the module makes, and the network of its
    world. So do all modules whose tests give an image to the host's docker: they have one name for
    it. (Marks of a group, xdist's own way, do nothing with pytest 9.2.)"""

    def _split_scope(self, nodeid: str) -> str:
        module = module_of(nodeid)
        return "docker" if module in twins(self.collection or ()) else module


def module_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


_twins: set[str] | None = None


def twins(nodeids: Iterable[str]) -> set[str]:
    """The modules with such tests; looked for once."""
    global _twins
    if _twins is None:
        _twins = {module_of(nodeid) for nodeid in nodeids if TWIN.search(nodeid)}
    return _twins
