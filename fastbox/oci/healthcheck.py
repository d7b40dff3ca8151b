"""An image config's health check. By itself, because a container's configuration holds one too."""

from __future__ import annotations

import msgspec


class Healthcheck(msgspec.Struct, rename="pascal", omit_defaults=True, kw_only=True):
    """Docker's HEALTHCHECK; durations in nanoseconds, 0 = inherited or default."""

    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0
