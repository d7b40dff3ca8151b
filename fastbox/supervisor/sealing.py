"""What commits have put off is done in the background: the archives of their layers are made.

By a process of its own, which is nice: packing a large layer takes a while and some memory, and may
be ended at any time. It takes no lock that anybody waits for who does not need the same archive.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from ..container.launch import own_command
from ..image.naming import PENDING

PAUSE = 60.0  # seconds between looks at the index of the images
AGAIN = 3600.0  # seconds after which what failed is tried again, unless the index has changed


async def seal_for_ever(root: str, runtime: str, note: Callable[[str], object]) -> None:
    """Look for images that are not sealed, and have them sealed.

    Args:
        note: writes a line to the log.
    """
    path = f"{root}/images/index.json"
    seen, waited = (0, 0), 0.0
    while True:
        await asyncio.sleep(PAUSE)
        waited += PAUSE
        stamp = _stamp(path)
        if stamp == seen and waited < AGAIN:
            continue
        seen, waited = stamp, 0.0
        if not _is_wanted(path):
            continue
        problem = await _seal(root, runtime)
        if problem:
            note(f"packing committed layers failed: {problem}")
        seen = _stamp(path)


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns


def _is_wanted(path: str) -> bool:
    """Whether some entry of the index says that it is not sealed."""
    try:
        with open(path, "rb") as file:
            return f'"{PENDING}"'.encode() in file.read()
    except OSError:
        return False


async def _seal(root: str, runtime: str) -> str:
    """Run the command; what it says when it fails."""
    argv = own_command(root, runtime, "image", "settle", "--seal")
    if not argv:
        return ""
    child = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        cwd="/",
    )
    try:
        _, said = await child.communicate()
    except asyncio.CancelledError:  # the supervisor ends
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
        raise
    lines = said.decode(errors="replace").strip().splitlines() or ["it says nothing"]
    return lines[-1] if child.returncode else ""
