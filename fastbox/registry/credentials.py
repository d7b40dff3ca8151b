"""Credentials for registries, from the files and helpers that docker and podman share.

A file holds secrets of many registries; the look-up is by exact host (and, in podman's manner,
by repository path below it). Nothing is ever tried for another host (CVE-2021-41092).
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import TypeVar

import msgspec

from ..errors import AuthError, InvalidArgument, PermissionDenied
from . import hosts

_T = TypeVar("_T")

_MAX_FILE = 4 * 1024 * 1024
_MAX_HELPER_REPLY = 1024 * 1024
_HELPER_SECONDS = 60
_HELPER_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
# What helpers print for "I have none", credential helper protocol.
_NOT_FOUND = "credentials not found in native keychain"


class Credentials(msgspec.Struct, frozen=True):
    """What to prove who we are with. ``repr`` shows no secret.

    Attributes:
        identity_token: OAuth2 refresh token, used instead of the password.
        registry_token: ready-made bearer token for the registry itself.
        source: file or helper that it comes from, for messages.
    """

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""
    source: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, from {self.source!r})"

    def basic(self) -> str:
        """The value of an Authorization header of the scheme Basic."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode("ascii")


class _Entry(msgspec.Struct):
    auth: str | None = None
    username: str | None = None
    password: str | None = None
    identitytoken: str | None = None
    registrytoken: str | None = None


class _File(msgspec.Struct):
    """``config.json`` of docker, ``auth.json`` of containers-auth.json(5)."""

    auths: dict[str, _Entry] | None = None
    creds_store: str | None = msgspec.field(name="credsStore", default=None)
    cred_helpers: dict[str, str] | None = msgspec.field(name="credHelpers", default=None)


class _Reply(msgspec.Struct):
    username: str = msgspec.field(name="Username")
    secret: str = msgspec.field(name="Secret")


def files() -> list[str]:
    """Where credentials are looked for, the most explicit place first."""
    environment = os.environ
    docker = environment.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    runtime = environment.get("XDG_RUNTIME_DIR")
    if not runtime:
        runtime = f"/run/user/{os.getuid()}"
    config = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return [
        *filter(None, [environment.get("REGISTRY_AUTH_FILE")]),
        os.path.join(docker, "config.json"),
        os.path.join(runtime, "containers", "auth.json"),
        f"/run/containers/{os.getuid()}/auth.json",
        os.path.join(config, "containers", "auth.json"),
    ]


def find(domain: str, path: str = "") -> Credentials | None:
    """The credentials for a repository.

    Args:
        domain: registry as in a reference (``docker.io``, ``localhost:5000``).
        path: repository, for podman's ``quay.io/team`` keys.

    Raises:
        InvalidArgument: a credential file is malformed.
        PermissionDenied: it may not be read.
        AuthError: a helper that is set for this registry failed.
    """
    for file in files():
        content = _read(file)
        if content is None:
            continue
        found = _in_file(content, file, domain, path)
        if found is not None:
            return found
    return None


def _read(file: str) -> _File | None:
    try:
        with open(file, "rb") as stream:
            data = stream.read(_MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise PermissionDenied(
            f"cannot read the credentials in {file}: permission denied"
        ) from None
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise InvalidArgument(f"cannot read credentials in {file}: {reason}") from None
    if not data.strip():
        return None
    try:
        if len(data) > _MAX_FILE:
            raise ValueError("it is too large")
        return msgspec.json.decode(data, type=_File)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        # msgspec quotes no values, so no secret gets into the text.
        raise InvalidArgument(
            f"credential file {file} is malformed: {error}", hint="correct or remove that file"
        ) from None


def _in_file(content: _File, file: str, domain: str, path: str) -> Credentials | None:
    helper, only = _helper(content, domain, path)
    if helper:
        found = ask_helper(helper, helper_key(domain))
        if found is not None or only:
            return found
    entry = _lookup(content.auths or {}, domain, path)
    return None if entry is None else _decode(entry[1], entry[0], file)


def _helper(content: _File, domain: str, path: str = "") -> tuple[str, bool]:
    """The helper for a registry, ``""`` for none; and whether it is the registry's own, beside
    which the file does not count."""
    own = _lookup(content.cred_helpers or {}, domain, path)
    if own is not None:
        # An empty name is docker's way to say: no helper for this registry, use the file.
        return own[1], bool(own[1])
    return content.creds_store or "", False


def helper_in(file: str, domain: str) -> str:
    """The helper that a credential file names for a registry, ``""`` for none.

    Raises:
        InvalidArgument, PermissionDenied: as ``find``.
    """
    content = _read(file)
    return "" if content is None else _helper(content, domain)[0]


def keys_of(table: dict[str, _T], domain: str) -> list[str]:
    """The keys of a table that mean the whole of a registry."""
    return [
        key for key in table if _same_host(_split_key(key)[0], domain) and not _split_key(key)[1]
    ]


def helper_key(domain: str) -> str:
    """What helpers know a registry by."""
    return hosts.DOCKER_HUB_KEY if hosts.is_docker_hub(domain) else domain


def _lookup(table: dict[str, _T], domain: str, path: str) -> tuple[str, _T] | None:
    """The entry for this very host with the longest fitting path."""
    best: tuple[int, str, _T] | None = None
    for key, value in table.items():
        host, prefix = _split_key(key)
        if not _same_host(host, domain):
            continue
        if prefix and path != prefix and not path.startswith(prefix + "/"):
            continue
        if best is None or len(prefix) > best[0]:
            best = (len(prefix), key, value)
    return None if best is None else best[1:]


def _split_key(key: str) -> tuple[str, str]:
    """Host and path of a key: ``https://host/v1/`` (docker, path means nothing), ``host/path``."""
    for scheme in ("https://", "http://"):
        if key.startswith(scheme):
            return key[len(scheme) :].partition("/")[0].lower(), ""
    host, _, prefix = key.partition("/")
    prefix = prefix.strip("/")
    return host.lower(), "" if prefix in ("v1", "v2") else prefix


def _same_host(mine: str, domain: str) -> bool:
    if hosts.is_docker_hub(domain):
        return hosts.is_docker_hub(mine)
    return mine == domain.lower()


def _decode(entry: _Entry, key: str, file: str) -> Credentials | None:
    username, password = entry.username or "", entry.password or ""
    if entry.auth:
        try:
            pair = base64.b64decode(entry.auth, validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            pair = ""
        username, colon, password = pair.partition(":")
        if not colon:
            raise InvalidArgument(
                f"credential file {file}: the auth of {key!r} is not base64 of user:password"
            )
        password = password.rstrip("\0")
    if not (username or entry.identitytoken or entry.registrytoken):
        return None
    return Credentials(
        username, password, entry.identitytoken or "", entry.registrytoken or "", file
    )


def ask_helper(name: str, key: str) -> Credentials | None:
    """Run ``docker-credential-NAME get`` (docker-credential-helpers protocol).

    Raises:
        AuthError: the helper is missing, fails, hangs or answers nonsense.
    """
    what = f"cannot get credentials for {key}"
    reply = run_helper(name, "get", key.encode(), what)
    if reply is None:
        return None
    try:
        answer = msgspec.json.decode(reply, type=_Reply)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise AuthError(f"{what}: {_program(name)} gave no valid answer") from None
    if answer.username == "<token>":
        return Credentials(identity_token=answer.secret, source=_program(name))
    return Credentials(answer.username, answer.secret, source=_program(name))


def run_helper(name: str, verb: str, data: bytes, what: str) -> bytes | None:
    """Run a credential helper; its answer, None when it knows no such credentials.

    Args:
        data: for its standard input: secrets never are arguments.
        what: for messages.

    Raises:
        AuthError: the helper is missing, fails or hangs.
    """
    import subprocess

    if not name or set(name) - _HELPER_NAME:
        raise AuthError(f"invalid credential helper name {name[:100]!r}")
    program = _program(name)
    hint = "correct credsStore or credHelpers in the credential file"
    try:
        done = subprocess.run(
            [program, verb],
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_HELPER_SECONDS,
        )
    except FileNotFoundError:
        raise AuthError(f"{what}: {program} is not installed", hint=hint) from None
    except subprocess.TimeoutExpired:
        raise AuthError(f"{what}: {program} does not answer") from None
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise AuthError(f"{what}: {program}: {reason}") from None
    reply = done.stdout[:_MAX_HELPER_REPLY]
    if done.returncode:
        if _NOT_FOUND in reply.decode("utf-8", "replace"):
            return None
        raise AuthError(f"{what}: {program} failed with status {done.returncode}", hint=hint)
    return reply


def _program(name: str) -> str:
    return f"docker-credential-{name}"
