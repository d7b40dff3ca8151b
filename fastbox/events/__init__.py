"""The event journal: what happened to containers, images and volumes.

There is no daemon that could tell; so every process that does something appends a line to a file,
``ROOT/events/journal``, and whoever wants to know reads and follows that file. See docs/events.md.
"""

from __future__ import annotations

from .journal import Journal, container_attributes

__all__ = ["Journal", "container_attributes"]
