"""Credentials kept and forgotten: Docker's ``config.json``, or the helper that it names.

The file may be another program's as much as ours: everything else in it stays as it is, in its
order; it is replaced whole, with mode 0600, and a symbolic link stays one.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterator
from typing import Any

import msgspec

from .. import atomic, locks
from ..errors import AuthError, FastboxError, InvalidArgument, PermissionDenied, StoreError
from . import credentials
from .credentials import Credentials


class Kept(msgspec.Struct, frozen=True):
    """Where credentials went: a file's path, or a helper's name. ``plain``: anybody who can read
    that file has them."""

    place: str
    plain: bool


class Forgotten(msgspec.Struct, frozen=True):
    """What ``forget`` did.

    Attributes:
        found: there was something.
        problems: why a helper could not do its part.
        elsewhere: file or helper of another program that still has some, or ``""``.
    """

    found: bool
    problems: list[str]
    elsewhere: str = ""


def keep(domain: str, secret: Credentials) -> Kept:
    """Store credentials for a registry where pulls and pushes look first.

    Raises:
        AuthError: the helper fails.
        InvalidArgument, PermissionDenied, StoreError: the file is malformed or cannot be written.
    """
    file = credentials.files()[0]
    helper = credentials.helper_in(file, domain)
    entry = {}
    if helper:
        _give(helper, domain, secret)
    else:
        pair = f"{secret.username}:{secret.password}".encode()
        entry = {"auth": base64.b64encode(pair).decode("ascii")}
        if secret.identity_token:
            entry["identitytoken"] = secret.identity_token
    key = credentials.helper_key(domain)
    with _edited(file) as document:
        auths = _auths(document, file)
        # Whatever else the same registry was called would be found first, or later.
        for other in credentials.keys_of(auths, domain):
            if other != key:
                del auths[other]
        auths[key] = entry
        document["auths"] = auths
    return Kept(f"docker-credential-{helper}" if helper else file, not helper)


def forget(domain: str) -> Forgotten:
    """Remove the credentials for a registry.

    Raises:
        InvalidArgument, PermissionDenied, StoreError: as ``keep``.
    """
    file = credentials.files()[0]
    problems: list[str] = []
    found = False
    helper = credentials.helper_in(file, domain)
    if helper:
        key = credentials.helper_key(domain)
        try:
            what = f"cannot erase credentials for {key}"
            found = credentials.run_helper(helper, "erase", key.encode(), what) is not None
        except AuthError as error:
            problems.append(str(error))
    if os.path.lexists(file):
        with _edited(file) as document:
            auths = _auths(document, file)
            for key in credentials.keys_of(auths, domain):
                found = True
                del auths[key]
    return Forgotten(found, problems, "" if problems else _elsewhere(domain))


def _elsewhere(domain: str) -> str:
    try:
        left = credentials.find(domain)
    except FastboxError:
        return ""
    return left.source if left is not None else ""


def _give(helper: str, domain: str, secret: Credentials) -> None:
    key = credentials.helper_key(domain)
    data = {"ServerURL": key, "Username": secret.username, "Secret": secret.password}
    if secret.identity_token:
        data |= {"Username": "<token>", "Secret": secret.identity_token}
    what = f"cannot store credentials for {key}"
    if credentials.run_helper(helper, "store", msgspec.json.encode(data), what) is None:
        raise AuthError(f"{what}: docker-credential-{helper} refuses them")


# ---- the file ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _edited(file: str) -> Iterator[dict[str, Any]]:
    """The content of a credential file, written back if the block changed it."""
    path = os.path.realpath(file)
    directory = os.path.dirname(path)
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        # Two logins at once: the second one reads what the first one wrote.
        with locks.lock(directory):
            before = _load(path)
            document = _parsed(before, file)
            yield document
            after = _text(document)
            if document != _parsed(before, file):
                _replace(path, after)
    except PermissionError:
        raise PermissionDenied(
            f"cannot write the credentials in {file}: permission denied"
        ) from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise StoreError(f"cannot write the credentials in {file}: {reason}") from error


def _load(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return b""


def _replace(path: str, data: bytes) -> None:
    try:
        owner = os.stat(path)
    except FileNotFoundError:
        owner = None
    atomic.write(path, data)
    if owner is not None and (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(path, owner.st_uid, owner.st_gid)  # root, in somebody's home


def _parsed(data: bytes, file: str) -> dict[str, Any]:
    import json

    if not data.strip():
        return {}
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise InvalidArgument(
            f"credential file {file} is malformed: it is no JSON object",
            hint="correct or remove that file",
        )
    return document


def _text(document: dict[str, Any]) -> bytes:
    """As Docker writes it, with tabs."""
    import json

    return json.dumps(document, indent="\t", ensure_ascii=False).encode()


def _auths(document: dict[str, Any], file: str) -> dict[str, Any]:
    auths = document.get("auths")
    if auths is None:
        return {}
    if not isinstance(auths, dict):
        raise InvalidArgument(
            f"credential file {file} is malformed: auths is no JSON object",
            hint="correct or remove that file",
        )
    return auths
