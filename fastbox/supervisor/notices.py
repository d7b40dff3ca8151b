"""Where the supervisor's events go."""

from __future__ import annotations

from ..container.record import Container


def emit(action: str, box: Container) -> None:
    """Something happened to a container (``health_status: healthy``). Nobody listens yet: the event
    journal takes it from here."""
