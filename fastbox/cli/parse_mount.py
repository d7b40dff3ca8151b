"""``-v``, ``--mount``, ``--tmpfs``: what is mounted where."""

from __future__ import annotations

import os

from ..container.config import Mount
from ..errors import InvalidArgument
from . import gotext
from .errors import CliError
from .human import parse_size

PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
# Words that change nothing here: SELinux labels are not set, consistency is Docker Desktop's.
_IGNORED = ("z", "Z", "consistent", "cached", "delegated", "default")
_TMPFS_FLAGS = frozenset(
    (
        "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync",
        "remount", "mand", "nomand", "atime", "noatime", "diratime", "nodiratime", "relatime",
        "norelatime", "strictatime", "nostrictatime",
    )
)  # fmt: skip
_TMPFS_VALUES = ("uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge")


# ---- -v ----------------------------------------------------------------------------------------


def volume(text: str) -> Mount:
    """``[SOURCE:]TARGET[:OPTIONS]``. A source with a slash or a leading dot is a path, another one
    is a volume's name; without a source the volume is anonymous.

    Raises:
        CliError, InvalidArgument
    """
    if not text:
        raise CliError("invalid empty volume spec")
    parts = text.split(":")
    if text == ":":
        raise InvalidArgument(f"invalid volume specification: '{text}'")
    if len(parts) > 3:
        raise CliError(f"invalid spec: {text}: too many colons")
    if not all(parts):
        raise CliError(f"invalid spec: {text}: empty section between colons")
    if len(parts) == 1:
        return _volume_mount(text, "", parts[0], [])
    options = parts[2].split(",") if len(parts) == 3 else []
    return _volume_mount(text, parts[0], parts[1], options)


def _volume_mount(text: str, source: str, target: str, options: list[str]) -> Mount:
    if source.startswith("."):
        source = os.path.abspath(source)
    bind = source.startswith("/")
    mount = Mount(
        type="bind" if bind else "volume",
        source=os.path.normpath(source) if bind else source,
        target=_target(target, f"invalid volume specification: '{text}': "),
        create_source=bind,
    )
    for word in options:
        _volume_option(mount, word, ",".join(options))
    return mount


def _volume_option(mount: Mount, word: str, mode: str) -> None:
    if word in ("ro", "readonly"):
        mount.read_only = True
    elif word == "rw" or word in _IGNORED:
        pass
    elif word in PROPAGATIONS and mount.type == "bind":
        mount.propagation = word
    elif word in ("nocopy", "volume-nocopy") and mount.type == "volume":
        mount.no_copy = True
    else:
        raise InvalidArgument(f"invalid mode: {mode}")


def _target(path: str, prefix: str = "") -> str:
    """An absolute path other than the root, without ``..``."""
    if "\0" in path:
        raise InvalidArgument(f"{prefix}the path holds a NUL character")
    if not path.startswith("/"):
        raise InvalidArgument(f"{prefix}invalid mount path: '{path}' mount path must be absolute")
    clean = "/" + os.path.normpath(path).lstrip("/")
    if clean == "/":
        raise InvalidArgument(f"{prefix}invalid specification: destination can't be '/'")
    return clean


# ---- --tmpfs -----------------------------------------------------------------------------------


def tmpfs(text: str) -> Mount:
    """``TARGET[:OPTIONS]``.

    Raises:
        InvalidArgument
    """
    target, _, options = text.partition(":")
    mount = Mount(type="tmpfs", target=_target(target))
    for word in options.split(",") if options else ():
        _tmpfs_option(mount, word)
    return mount


def _tmpfs_option(mount: Mount, word: str) -> None:
    name, equals, value = word.partition("=")
    bad = InvalidArgument(f"invalid tmpfs option {gotext.quote(word)}")
    if not equals:
        if word == "ro":
            mount.read_only = True
        elif word not in _TMPFS_FLAGS:
            raise bad
        else:
            mount.options = [*mount.options, word]
        return
    try:
        if name == "size":
            mount.tmpfs_size = parse_size(value)
        elif name == "mode":
            mount.tmpfs_mode = _octal(value)
        elif name in _TMPFS_VALUES and value and "," not in value:
            mount.options = [*mount.options, word]
        else:
            raise bad
    except ValueError:
        raise bad from None


def _octal(text: str) -> int:
    if not text or not set(text) <= set("01234567") or int(text, 8) > 0o7777:
        raise ValueError(text)
    return int(text, 8)


# ---- --mount -----------------------------------------------------------------------------------


def mount(text: str) -> Mount:
    """Comma-separated ``KEY=VALUE`` fields, quoted as in CSV.

    Raises:
        ValueError: with Docker's text (the value is malformed).
        InvalidArgument: it cannot be used.
    """
    fields = _Fields()
    for field in csv_fields(text):
        fields.add(field)
    return fields.mount()


class _Fields:
    """The fields of one ``--mount``, and what they amount to."""

    def __init__(self) -> None:
        self.type = "volume"
        self.source = self.target = ""
        self.values: dict[str, str] = {}
        self.labels: dict[str, str] = {}
        self.read_only = False
        self.no_copy = False
        self.recursion = ""
        self.size = 0
        self.mode = 0o1777
        self.create = False

    def add(self, field: str) -> None:
        key, equals, value = field.partition("=")
        key = key.lower()
        if not equals:
            if key not in (
                "readonly",
                "ro",
                "volume-nocopy",
                "bind-nonrecursive",
                "bind-create-src",
            ):
                raise ValueError(f"invalid field '{field}' must be a key=value pair")
            value = "true"
        setter = getattr(self, "_set_" + _KEYS.get(key, "unknown"))
        setter(key, value, field)
        if "-" in key:
            self.values[key] = value

    def _set_unknown(self, key: str, value: str, field: str) -> None:
        raise ValueError(f"unknown option '{key}' in '{field}'")

    def _set_type(self, key: str, value: str, field: str) -> None:
        if not value:
            raise ValueError("type is required")
        self.type = value.lower()

    def _set_source(self, key: str, value: str, field: str) -> None:
        self.source = os.path.abspath(value) if value == "." or value.startswith("./") else value
        if value == ".." or value.startswith("../"):
            self.source = os.path.abspath(value)

    def _set_target(self, key: str, value: str, field: str) -> None:
        self.target = value

    def _set_read_only(self, key: str, value: str, field: str) -> None:
        self.read_only = _boolean(key, value)

    def _set_no_copy(self, key: str, value: str, field: str) -> None:
        self.no_copy = _boolean(key, value)

    def _set_create(self, key: str, value: str, field: str) -> None:
        self.create = _boolean(key, value)

    def _set_non_recursive(self, key: str, value: str, field: str) -> None:
        self.recursion = "disabled" if _boolean(key, value) else ""

    def _set_recursion(self, key: str, value: str, field: str) -> None:
        if value not in ("enabled", "disabled", "writable", "readonly"):
            raise ValueError(
                f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", '
                'or "readonly")'
            )
        self.recursion = value

    def _set_propagation(self, key: str, value: str, field: str) -> None:
        pass  # kept in values

    def _set_ignored(self, key: str, value: str, field: str) -> None:
        pass

    def _set_label(self, key: str, value: str, field: str) -> None:
        name, _, content = value.partition("=")
        self.labels[name] = content

    def _set_size(self, key: str, value: str, field: str) -> None:
        try:
            self.size = parse_size(value)
        except ValueError:
            raise ValueError(f"invalid value for {key}: {value}") from None

    def _set_mode(self, key: str, value: str, field: str) -> None:
        try:
            self.mode = _octal(value)
        except ValueError:
            raise ValueError(f"invalid value for {key}: {value}") from None

    def _set_absent(self, key: str, value: str, field: str) -> None:
        if key == "volume-driver" and value == "local":
            return
        raise InvalidArgument(
            f'invalid mount config for type "{self.type}": {key} is not supported'
        )

    def mount(self) -> Mount:
        if not self.target:
            raise ValueError("target is required")
        for kind in ("bind", "volume", "image", "tmpfs"):
            if kind != self.type and any(key.startswith(f"{kind}-") for key in self.values):
                raise ValueError(f"cannot mix '{kind}-*' options with mount type '{self.type}'")
        self._check_recursion()
        prefix = f'invalid mount config for type "{self.type}": '
        if self.type not in ("bind", "volume", "tmpfs"):
            raise InvalidArgument(f"{prefix}mount type unknown", hint="known: bind, volume, tmpfs")
        target = _target(self.target, prefix)
        self._check_source(prefix)
        propagation = self.values.get("bind-propagation") or "rprivate"
        if propagation not in PROPAGATIONS:
            raise InvalidArgument(f"{prefix}invalid propagation mode: {propagation}")
        return Mount(
            type=self.type,
            source=os.path.normpath(self.source) if self.type == "bind" else self.source,
            target=target,
            read_only=self.read_only,
            create_source=self.create,
            propagation=propagation,
            recursive=self.recursion != "disabled",
            no_copy=self.no_copy,
            tmpfs_size=self.size,
            tmpfs_mode=self.mode,
            labels=self.labels,
        )

    def _check_recursion(self) -> None:
        if self.recursion == "readonly" and not self.read_only:
            raise ValueError(
                "option 'bind-recursive=readonly' requires 'readonly' to be specified in "
                "conjunction"
            )
        if self.recursion == "writable":
            raise InvalidArgument(
                "bind-recursive=writable is not supported",
                hint="a read-only bind is read-only with all that is mounted below it",
            )

    def _check_source(self, prefix: str) -> None:
        if self.type == "bind" and not self.source:
            raise InvalidArgument(f"{prefix}field Source must not be empty")
        if self.type == "bind" and not self.source.startswith("/"):
            raise InvalidArgument(
                f"{prefix}invalid mount path: '{self.source}' mount path must be absolute"
            )
        if self.type == "tmpfs" and self.source:
            raise InvalidArgument(f"{prefix}field Source must not be specified")
        if "\0" in self.source:
            raise InvalidArgument(f"{prefix}the source holds a NUL character")


_KEYS = {
    "type": "type",
    "source": "source",
    "src": "source",
    "target": "target",
    "dst": "target",
    "destination": "target",
    "readonly": "read_only",
    "ro": "read_only",
    "consistency": "ignored",
    "bind-propagation": "propagation",
    "bind-nonrecursive": "non_recursive",
    "bind-recursive": "recursion",
    "bind-create-src": "create",
    "volume-nocopy": "no_copy",
    "volume-label": "label",
    "volume-driver": "absent",
    "volume-opt": "absent",
    "volume-subpath": "absent",
    "image-subpath": "absent",
    "tmpfs-size": "size",
    "tmpfs-mode": "mode",
}


def _boolean(key: str, value: str) -> bool:
    try:
        return gotext.parse_bool(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None


def csv_fields(text: str) -> list[str]:
    """The first record of a CSV text, with the errors of Go's encoding/csv.

    Raises:
        ValueError
    """
    text = text.lstrip("\n")
    if not text:
        raise ValueError("EOF")
    found: list[str] = []
    index = 0
    while True:
        if text[index : index + 1] == '"':
            field, index = _quoted_field(text, index)
        else:
            end = min((place for place in (text.find(",", index), text.find("\n", index))
                       if place >= 0), default=len(text))  # fmt: skip
            field = text[index:end]
            if '"' in field:
                column = len(text[: index + field.index('"')].encode(errors="replace")) + 1
                raise ValueError(
                    f'parse error on line 1, column {column}: bare " in non-quoted-field'
                )
            index = end
        found.append(field)
        if text[index : index + 1] != ",":
            return found
        index += 1


def _quote_error(column: int) -> ValueError:
    return ValueError(
        f'parse error on line 1, column {column + 1}: extraneous or missing " in quoted-field'
    )


def _quoted_field(text: str, index: int) -> tuple[str, int]:
    parts: list[str] = []
    index += 1
    while True:
        end = text.find('"', index)
        if end < 0:
            column = len(text.encode(errors="replace"))
            raise _quote_error(column)
        parts.append(text[index:end])
        following = text[end + 1 : end + 2]
        if following == '"':
            parts.append('"')
            index = end + 2
            continue
        if following not in ("", ",", "\n"):
            column = len(text[:end].encode(errors="replace"))
            raise _quote_error(column)
        return "".join(parts), end + 1
