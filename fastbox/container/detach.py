"""The keys that leave a container's terminal: ``ctrl-p,ctrl-q`` unless told otherwise."""

from __future__ import annotations

from ..errors import InvalidArgument

DEFAULT = "ctrl-p,ctrl-q"
_CONTROL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse(text: str) -> bytes:
    """The bytes of a sequence such as ``ctrl-a,x``; empty text is the default.

    Raises:
        InvalidArgument
    """
    keys = bytearray()
    for word in (text or DEFAULT).split(","):
        name = word.removeprefix("ctrl-")
        if len(word) == 1 and word.isascii():
            keys += word.encode()
        elif name != word and len(name) == 1 and "a" <= name <= "z":
            keys.append(ord(name) - ord("a") + 1)
        elif name != word and name in _CONTROL:
            keys.append(_CONTROL[name])
        else:
            raise InvalidArgument(
                f"invalid detach keys ({text}): Unknown character: '{word}'",
                hint="a comma-separated list of single characters and ctrl-X, X one of a-z @ [ \\ "
                "] ^ _",
            )
    return bytes(keys)


class Scanner:
    """Looks for the sequence in what is typed, over any number of reads.

    The keys of a sequence that has begun are held back until it is complete or another key comes.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what goes to the container, whether the sequence is complete)."""
        keys = self._keys
        if not keys:
            return data, False
        text = self._held + data
        found = text.find(keys)
        if found >= 0:
            self._held = b""
            return text[:found], True
        keep = next(
            (n for n in range(min(len(keys) - 1, len(text)), 0, -1) if text.endswith(keys[:n])), 0
        )
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False
