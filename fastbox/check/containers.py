"""The containers: what their records name is there."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

import msgspec

from ..container import names
from ..container.files import read_file
from ..errors import FastboxError, InvalidArgument, NotFound, StoreError
from .problems import Problem, shown

if TYPE_CHECKING:
    from ..container.record import ContainerRecord
    from .problems import Look

_FOLDERS = ("upper", "work")


def users_of_layers(look: Look) -> dict[str, list[str]]:
    """Layer directory -> names of the containers that are made of it."""
    found: dict[str, list[str]] = {}
    for container_id in look.containers.ids():
        with contextlib.suppress(FastboxError, OSError):
            record = look.containers.load_record(container_id)
            for name in record.layers:
                if is_layer(name):
                    found.setdefault(name, []).append(record.name)
    return found


def is_layer(name: str) -> bool:
    """Whether a record may name this layer: nothing that leads out of the directory of layers."""
    return bool(name) and not name.startswith(".") and "/" not in name and "\0" not in name


def check(look: Look) -> None:
    """Look at all containers, and at all names."""
    ids = look.containers.ids()
    for container_id in ids:
        if not list(_problems(look, container_id)):
            continue
        # Somebody may be at work on it, so once more when nobody is.
        with contextlib.suppress(NotFound, FileNotFoundError):
            with look.containers.locked(container_id):
                for problem in _problems(look, container_id):
                    look.problems.append(problem)
                    _mend(look, container_id, problem)
    look.counted("container", len(ids))
    _names(look)


def _problems(look: Look, container_id: str) -> list[Problem]:
    directory = look.containers.directory(container_id)
    if os.path.islink(directory):
        return [Problem(kind="container", what=container_id, text="it is a symbolic link")]
    try:
        record = look.containers.load_record(container_id)
    except NotFound:
        return []  # half made: swept by the next command
    except StoreError as error:
        hint = f"`fastbox rm -f {container_id[:12]}` removes it"
        text = error.message.removeprefix("reading ")
        return [Problem(kind="container", what=container_id[:12], text=text, hint=hint)]
    except OSError as error:
        text = f"{error.filename}: {(error.strerror or '').lower()}"
        return [Problem(kind="container", what=container_id[:12], text=text)]
    if record.id != container_id:
        text = f"its record is about {shown(record.id)}"
        return [Problem(kind="container", what=container_id[:12], text=text)]
    found = [*_of_files(look, record), *_of_record(look, record)]
    if look.containers.id_of_name(record.name) != container_id and _is_name(record.name):
        text = f"its name is not kept for it: {look.containers.names}/{record.name}"
        found.append(Problem(kind="name", what=record.name, text=text))
    return found


def _of_files(look: Look, record: ContainerRecord) -> list[Problem]:
    """What is wrong in its directory."""
    found = []
    directory = look.containers.directory(record.id)

    def add(text: str, hint: str = "") -> None:
        found.append(Problem(kind="container", what=record.name, text=text, hint=hint))

    for name in _FOLDERS:
        path = f"{directory}/{name}"
        try:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                add(f"{path} is not a directory")
        except FileNotFoundError:
            add(f"{path} is missing")
    bundle = look.containers.bundle(record)
    again = "remove the container and create it again"
    try:
        data = read_file(f"{bundle}/config.json")
        if data is None and bundle == directory:  # else the next start makes it
            add(f"{bundle}/config.json is missing", again)
        elif data is not None and not isinstance(msgspec.json.decode(data), dict):
            add(f"{bundle}/config.json is damaged", again)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        add(f"{bundle}/config.json is damaged: {error}", again)
    return found


def _of_record(look: Look, record: ContainerRecord) -> list[Problem]:
    """What its record names and is not there (layers are looked at with the others)."""
    found = []
    for name in record.layers:
        if not is_layer(name):
            text = f"its record names the layer {shown(name)}"
            found.append(Problem(kind="container", what=record.name, text=text))
    for mount in record.mounts:
        if mount.type != "volume" or not mount.name or _is_volume(look, mount.name):
            continue
        found.append(
            Problem(
                kind="container",
                what=record.name,
                text=f"its volume {shown(mount.name)} is missing",
                hint=f"`fastbox volume create {shown(mount.name)}` makes an empty one",
            )
        )
    return found


def _is_name(name: str) -> bool:
    try:
        names.check(name)
    except InvalidArgument:
        return False
    return True


def _is_volume(look: Look, name: str) -> bool:
    try:
        look.volumes.get(name)
    except NotFound:
        return False
    except StoreError:
        pass  # reported with the volumes
    return True


def _mend(look: Look, container_id: str, problem: Problem) -> None:
    """The caller holds the container's lock."""
    if problem.kind == "name":
        look.mend(problem, lambda: _take_name(look, container_id, problem.what))
    elif problem.text.endswith("/work is missing"):
        look.mend(problem, lambda: _make_work(look, container_id))
    elif not problem.hint:
        problem.hint = f"`fastbox rm -f {container_id[:12]}` removes it"


def _take_name(look: Look, container_id: str, name: str) -> str | None:
    path = f"{look.containers.names}/{name}"
    if os.path.lexists(path) and not os.path.islink(path):
        from ..image import trash

        trash.move(path, look.containers.trash)
    holder = look.containers.id_of_name(name)
    if holder == container_id:
        return None
    if holder is None and os.path.islink(path):
        os.unlink(path)  # it leads nowhere
    if holder is not None:
        return f"container {holder[:12]} has it; `fastbox rename` gives this one another"
    look.containers.reserve_name(name, container_id)
    return None


def _make_work(look: Look, container_id: str) -> None:
    os.mkdir(f"{look.containers.directory(container_id)}/work", 0o700)


def _names(look: Look) -> None:
    """Names that are kept for no container are swept; what is no link at all is in the way."""
    for name in os.listdir(look.containers.names):
        path = f"{look.containers.names}/{name}"
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISLNK(os.lstat(path).st_mode) and names.is_id(os.readlink(path)):
                continue
            problem = look.found("name", shown(name), f"{shown(path)} does not name a container")
            look.mend(problem, lambda path=path: _drop(look, path))  # type: ignore[misc]


def _drop(look: Look, path: str) -> str | None:
    from ..image import trash

    trash.move(path, look.containers.trash)
    return None
