"""The verbs that tell what is happening: a part of Engine, in a file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .events.stream import EventStream


class ListeningVerbs:
    """See ``Engine``, which is one."""

    if TYPE_CHECKING:
        root: str

        def _make_directories(self) -> None: ...

    def events(
        self,
        since: float | str | None = None,
        until: float | str | None = None,
        filters: dict[str, list[str]] | None = None,
    ) -> EventStream:
        """What happens to containers, images and volumes, whoever does it: an iterator of
        ``fastbox.Event`` that waits for the next one, and misses none from this call on.

        Its ``close`` (from any thread) ends it; so does leaving a ``with`` over it.

        Args:
            since: begin with what has happened from then on; None is only what happens now.
                Seconds since the epoch, or text: RFC 3339, seconds, ``10m`` for ten minutes ago.
            until: end there; None is never.
            filters: ``type``, ``event``, ``container``, ``image``, ``volume``, ``label`` …

        Raises:
            InvalidArgument: no time, or an unknown filter. StoreError
        """
        from .events.stream import EventStream

        self._make_directories()
        return EventStream(self.root, since, until, filters)
