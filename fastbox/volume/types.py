"""What the volume verbs return."""

from __future__ import annotations

import msgspec


class Volume(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A named or anonymous volume; ``mountpoint`` is the absolute path of its data."""

    name: str
    mountpoint: str
    created: str
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    driver: str = "local"
    anonymous: bool = False
