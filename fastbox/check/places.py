"""Volumes, networks, and what killed processes left and nobody can remove."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

import msgspec

from .. import atomic, locks
from ..errors import NotFound, StoreError
from ..image import trash
from ..volume.store import Record
from .problems import shown

if TYPE_CHECKING:
    from .problems import Look

ANONYMOUS = 64  # hex digits of its name


def check(look: Look) -> None:
    """Look at all of them."""
    _volumes(look)
    _networks(look)
    _leftovers(look)


def _volumes(look: Look) -> None:
    try:
        names = sorted(os.listdir(look.volumes.directory))
    except FileNotFoundError:
        names = []
    names = [name for name in names if not name.startswith(".")]
    for name in names:
        _volume(look, name, os.path.join(look.volumes.directory, name))
    look.counted("volume", len(names))


def _volume(look: Look, name: str, path: str) -> None:
    for place in (path, os.path.join(path, "_data")):
        try:
            mode = os.lstat(place).st_mode
        except FileNotFoundError:
            if os.path.lexists(path):  # else it was removed meanwhile
                hint = f"`fastbox volume rm {shown(name)}` removes the volume"
                look.found("volume", shown(name), f"{shown(place)} is missing", hint)
            return
        if not stat.S_ISDIR(mode):
            link = "a symbolic link" if stat.S_ISLNK(mode) else "not a directory"
            hint = "mount what it leads to there (mount --bind)" if stat.S_ISLNK(mode) else ""
            look.found("volume", shown(name), f"{shown(place)} is {link}", hint)
            return
    record = os.path.join(path, "volume.json")
    try:
        if os.path.islink(record):
            raise StoreError(f"{record} is a symbolic link")
        look.volumes.get(name)
    except NotFound:
        if os.path.lexists(path):
            hint = "move it away"
            look.found("leftover", shown(path), "it has a name that no volume can have", hint)
    except StoreError as error:
        problem = look.found("volume", name, error.message)
        look.mend(problem, lambda: _describe(name, path, record))


def _describe(name: str, path: str, record: str) -> None:
    """Write the metadata of a volume anew: its labels are lost, its data are not."""
    with locks.lock(path):
        made = time.gmtime(os.stat(path).st_mtime)
        anonymous = len(name) == ANONYMOUS and not name.strip("0123456789abcdef")
        new = Record(
            name=name, created=time.strftime("%Y-%m-%dT%H:%M:%SZ", made), anonymous=anonymous
        )
        atomic.write(record, msgspec.json.encode(new))


def _networks(look: Look) -> None:
    damaged = look.networks.damaged()
    for text in damaged:
        name = os.path.basename(text.partition(".json")[0])
        hint = f"`fastbox network rm {name}` removes the network"
        look.found("network", name, text, hint)
    look.counted("network", len(list(look.networks.stored())) + len(damaged))


def _leftovers(look: Look) -> None:
    """Opening the store has removed what killed processes had left, and this removes the rest:
    what is still there cannot be."""
    try:
        trash.empty(look.images.trash)
    except StoreError as error:
        look.found("leftover", look.images.trash, error.message)
