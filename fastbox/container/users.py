"""``--user``: from text to numbers where the text has them, names for the container's files."""

from __future__ import annotations

import msgspec

from ..errors import InvalidArgument

MAX_ID = 2**31 - 1


class UserSpec(msgspec.Struct, frozen=True):
    """A user as asked for: numbers are known now, names are looked up in the container's passwd and
    group files when the process starts.

    Attributes:
        uid: None when ``user_name`` is to be looked up.
        gid: None when no group or a group name was given.
    """

    user_name: str = ""
    uid: int | None = 0
    group_name: str = ""
    gid: int | None = None
    has_group: bool = False


def parse(text: str) -> UserSpec:
    """Parse ``name|uid[:group|gid]``; empty text is root.

    A number is never a name, and one out of range is an error and not a name either
    (CVE-2024-40635, CVE-2016-3697).

    Raises:
        InvalidArgument
    """
    if not text:
        return UserSpec()
    user, colon, group = text.partition(":")
    for part in (user, group):
        if any(c in part for c in ":\n\r\0/ \t") or (part and not part.isascii()):
            raise InvalidArgument(f"invalid user specification: {text!r}")
    if not user and not group:
        raise InvalidArgument(f"invalid user specification: {text!r}")
    uid, user_name = _number_or_name(user, text) if user else (0, "")
    gid, group_name = _number_or_name(group, text) if group else (None, "")
    return UserSpec(user_name, uid, group_name, gid, bool(colon and group))


def parse_group(text: str) -> tuple[int | None, str]:
    """(gid, "") or (None, name) of one ``--group-add``."""
    if not text or any(c in text for c in ":\n\r\0/ \t") or not text.isascii():
        raise InvalidArgument(f"invalid group: {text!r}")
    return _number_or_name(text, text)


def _number_or_name(part: str, whole: str) -> tuple[int | None, str]:
    if part.isdigit():
        value = int(part)
        if value > MAX_ID or (len(part) > 1 and part[0] == "0"):
            raise InvalidArgument(
                f"uids and gids must be in range 0-{MAX_ID}, without leading zeros: {whole!r}"
            )
        return value, ""
    if part[0] in "-+0123456789":
        raise InvalidArgument(f"invalid user or group {part!r}: neither a number nor a name")
    return None, part
