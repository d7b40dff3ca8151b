"""The engines of one worker: one for each store, kept from command to command."""

from __future__ import annotations

import os

from ...engine import Engine

_MOST = 8
_Places = tuple[tuple[int, int], tuple[int, int]] | None


class Engines:
    """Engines by store. One whose directories are others than when it was made is made anew."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[_Places, Engine]] = {}

    def get(self, root: str | None, runtime: str | None) -> Engine:
        """As ``Engine(root, runtime)``.

        Raises:
            InvalidArgument
        """
        engine = Engine(root, runtime)
        key = (engine.root, engine.runtime_dir)
        places = _places(engine)
        known = self._known.get(key)
        if known is not None and places is not None and known[0] == places:
            return known[1]
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[key] = (places, engine)
        return engine


def _places(engine: Engine) -> _Places:
    try:
        root, runtime = os.stat(engine.root), os.stat(engine.runtime_dir)
    except OSError:
        return None
    return (root.st_dev, root.st_ino), (runtime.st_dev, runtime.st_ino)
