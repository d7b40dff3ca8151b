"""The unpacked layers: each is what its blob unpacks to, and its metadata say so."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from typing import TYPE_CHECKING

import msgspec

from .. import atomic, graphdriver, locks
from ..container import init_layer
from ..errors import ArchiveError, FastboxError, StoreError
from ..image import pending, trash
from ..image.layers import NAME_LENGTH, LayerInfo, boot_id, layer_name
from ..image.unpack import space_for_layer
from ..oci import digest as digests
from . import trees
from .problems import Known, Problem, shown

if TYPE_CHECKING:
    from .._core.tar import Extracted
    from .problems import Look

PARALLEL = 2
_SLACK = 2_000_000_000  # ns by which the clock of files may be behind
_DAY = 24 * 3600.0


class Verified(msgspec.Struct):
    """What comparing a layer with its blob has shown.

    Attributes:
        difference: the first one; ``""``: none.
        staging: what the blob unpacks to, should it be needed.
        unverifiable: why there is no result. full: because the disk has no space for it.
    """

    difference: str = ""
    staging: str = ""
    info: LayerInfo | None = None
    unverifiable: str = ""
    full: bool = False


def check(look: Look, users: dict[str, list[str]]) -> None:
    """Look at all layers.

    Args:
        users: directory name -> names of the containers that are made of it.
    """
    from concurrent.futures import ThreadPoolExecutor, as_completed

    _Init(look).check()
    places = []
    aliased: set[str] = set()
    there = _there(look)
    for name in sorted({*there, *look.layers, *users}):
        place = Place(look, name, users.get(name, []), aliased)
        if place.is_wanted or name in there:
            places.append(place)
        if place.real != name and place.has_work:
            aliased.add(place.real)
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="check") as pool:
        futures = {pool.submit(place.verify): place for place in places if place.has_work}
        try:
            for place in places:
                if not place.has_work:
                    place.judge(Verified())
            for future in as_completed(futures):
                futures[future].judge(future.result())
        except BaseException:
            for future in futures:
                future.cancel()
            raise
    look.counted("layer", len(there))


def _there(look: Look) -> list[str]:
    """Names of what is in the directory, strangers reported."""
    names = []
    directory = look.images.layers.directory
    for name in look.images.layers.names():
        if len(name) == NAME_LENGTH and digests.is_hex(name):
            names.append(name)
            continue
        path = os.path.join(directory, name)
        problem = look.found("leftover", shown(path), "it is no layer")
        look.mend(problem, lambda path=path: _set_aside(look, path))  # type: ignore[misc]
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        # (Half made by a process that was killed; a live one takes a moment.)
        if name.startswith(init_layer.NAME + ".") and _age(path) > _DAY:
            problem = look.found("leftover", path, "left by a killed process")
            look.mend(problem, lambda path=path: _set_aside(look, path))  # type: ignore[misc]
    return names


class Place:
    """The directory of one layer, its metadata, and what is known of it.

    Args:
        users: names of the containers that are made of it.
        aliased: directories that are looked at under another name.
    """

    def __init__(self, look: Look, name: str, users: list[str], aliased: set[str]) -> None:
        self._look = look
        self._store = look.images
        self.name = name
        self.users = users
        self._aliased = aliased
        self.path = os.path.join(self._store.layers.directory, name)
        self.meta_path = os.path.join(self._store.layers.meta, f"{name}.json")
        self.known: Known | None = look.layers.get(name)
        self.real = name  # the directory that it leads to, if it is one of a commit
        self.wrong = self._what_is_wrong()
        self.meta, self.meta_wrong = self._read_meta()

    @property
    def is_there(self) -> bool:
        return os.path.lexists(self.path)

    @property
    def is_wanted(self) -> bool:
        return bool(self.users or self.known)

    @property
    def has_work(self) -> bool:
        """Whether there is something to compare, or to unpack for a repair."""
        if self.known is None or not self.known.blobs:
            return False
        if self.is_there and not self.wrong:
            return True
        return self._look.repair and bool(self.wrong or self.users)

    # looking ------------------------------------------------------------------------------------
    def _what_is_wrong(self) -> str:
        """With the directory itself, not with what is in it."""
        try:
            mode = os.lstat(self.path).st_mode
        except FileNotFoundError:
            return ""
        if stat.S_ISDIR(mode):
            return ""
        if stat.S_ISLNK(mode):
            target = os.readlink(self.path)
            plain = len(target) == NAME_LENGTH and digests.is_hex(target)
            beside = os.path.join(self._store.layers.directory, target)
            # A committed layer that was packed since: its true name leads to its first one.
            if plain and not os.path.islink(beside) and os.path.isdir(beside):
                self.real = target
                return ""
            return f"it is a symbolic link to {shown(target)}"
        return "it is not a directory"

    def _read_meta(self) -> tuple[LayerInfo | None, str]:
        """(the metadata, what is wrong with them)"""
        try:
            mode = os.lstat(self.meta_path).st_mode
        except FileNotFoundError:
            return None, f"{self.meta_path} is missing" if self.is_there else ""
        if not stat.S_ISREG(mode):
            return None, f"{self.meta_path} is not a regular file"
        try:
            with open(self.meta_path, "rb") as file:
                info = msgspec.json.decode(file.read(1 << 16), type=LayerInfo)
            if layer_name(info.diff_id) != self.name:
                return None, f"{self.meta_path} is about {shown(info.diff_id)}"
        except (OSError, msgspec.MsgspecError, ValueError, FastboxError) as error:
            return None, f"{self.meta_path} is damaged: {error}"
        if self.known is not None and info.diff_id != self.known.diff_id:
            return None, f"{self.meta_path} is about {info.diff_id}"
        return info, ""

    def verify(self) -> Verified:
        """Unpack the blob, and compare; the caller holds a lease."""
        assert self.known is not None
        since = time.time_ns() - _SLACK
        staging = ""
        try:
            staging = self._store.stage_layer()
            done = self._unpack(self.known.blobs[0], staging)
            if done.diff_id != self.known.diff_id:
                return Verified(
                    unverifiable=f"its blob unpacks to {done.diff_id}, the images that have it"
                    f" ({', '.join(self.known.images)}) say {self.known.diff_id}"
                )
            info = LayerInfo(
                diff_id=done.diff_id,
                size=done.unpacked_size,
                entries=done.entries,
                opaque=done.opaque_root,
            )
            difference = ""
            if self.is_there and not self.wrong:
                difference = self._difference(staging, since)
            if self._look.repair and (difference or self.wrong or not self.is_there):
                result = Verified(difference=difference, staging=staging, info=info)
                staging = ""
                return result
            return Verified(difference=difference, info=info)
        except (ArchiveError, StoreError) as error:
            if _is_full(error):
                return Verified(
                    unverifiable="it cannot be verified: there is no space to unpack its blob",
                    full=True,
                )
            return Verified(unverifiable=f"its blob cannot be unpacked: {error.message}")
        finally:
            if staging:
                with contextlib.suppress(StoreError):
                    self._store.discard_layer(staging)

    def _unpack(self, blob: str, staging: str) -> Extracted:
        from .._core import tar

        path = self._store.blob_path(blob)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(f"{path}: {(error.strerror or '').lower()}") from error
        try:
            return tar.extract(
                fd,
                staging,
                whiteouts=graphdriver.whiteouts(self._store.driver),
                max_bytes=space_for_layer(self._store),
            )
        finally:
            os.close(fd)

    def _difference(self, staging: str, since: int) -> str:
        try:
            return trees.difference(staging, os.path.realpath(self.path), since)
        except OSError as error:
            return f"it cannot be read: {(error.strerror or '').lower()}"

    # judging ------------------------------------------------------------------------------------
    def judge(self, result: Verified) -> None:
        """Note what is wrong, and put it right."""
        try:
            self._judge(result)
        finally:
            if result.staging:
                with contextlib.suppress(StoreError):
                    self._store.discard_layer(result.staging)

    def _judge(self, result: Verified) -> None:
        text = self.wrong or result.difference
        if not self.is_there and self.users:
            text = "it is missing"
        if result.unverifiable and (self.is_there or self.users):
            problem = self._found("layer", result.unverifiable)
            problem.harmless = result.full and self.is_there and not self.wrong
        if text:
            problem = self._found("layer", text)
            if not result.staging and self._look.repair:
                self._cannot(problem)
            else:
                self._look.mend(problem, lambda: self._replace(result))
        elif not self.is_there:
            self._absent()
        elif result.full or not result.unverifiable:
            self._judge_meta(result)
            self._judge_age()

    def _found(self, kind: str, text: str) -> Problem:
        problem = self._look.found(kind, self.path, text, self._hint())
        if self.users:
            problem.text += f" (of container {', '.join(self.users)})"
        return problem

    def _hint(self) -> str:
        if self.known is not None and self.known.blobs:
            return ""
        if self.known is not None and not self.known.pending:
            from .blobs import again

            return again(self.known.images)
        if self.users:
            return f"`fastbox rm {self.users[0]}` removes the container"
        return ""

    def _cannot(self, problem: Problem) -> None:
        problem.text += "; not repaired: there is no blob to unpack"
        if not self.is_wanted:
            self._look.mend(problem, lambda: _set_aside(self._look, self.path))

    def _absent(self) -> None:
        """Nothing there, and nothing that has to be; but damaged metadata are in the way of
        unpacking it."""
        if self.meta_wrong:
            problem = self._found("metadata", self.meta_wrong)
            self._look.mend(problem, lambda: _set_aside(self._look, self.meta_path))

    def _judge_meta(self, result: Verified) -> None:
        wrong = self.meta_wrong
        if not wrong and self.meta is not None and result.info is not None:
            wrong = self._other_facts(self.meta, result.info)
        if wrong and (self.is_wanted or not wrong.endswith("is missing")):
            # (Metadata without anybody who wants the layer: garbage.)
            problem = self._found("metadata", wrong)
            problem.hint = ""
            self._look.mend(problem, lambda: self._write_meta(result.info))
        verifiable = self.known or result.unverifiable or self.name in self._aliased
        if result.info is None and self.users and not verifiable:
            problem = self._found("layer", "it cannot be verified: no image in the store has it")
            problem.harmless, problem.hint = True, ""

    def _judge_age(self) -> None:
        """A commit's layer is on the disk some time after it was made."""
        meta = self.meta
        if meta is None or not meta.pending or meta.boot in ("", boot_id()):
            return
        text = "made by a commit, it may be damaged: the machine was restarted before it was known"
        problem = self._found("layer", f"{text} to be on the disk")
        problem.hint = "commit the container again, or `fastbox system check --repair` takes it"
        self._look.mend(problem, self._adopt)

    def _adopt(self) -> None:
        layers = self._store.layers
        pending.adopt(layers, self.name)
        pending.settle(layers, [self.name])

    def _other_facts(self, meta: LayerInfo, true: LayerInfo) -> str:
        if os.path.islink(self.path):
            return ""  # of a committed layer: counted when it was committed
        for field in ("size", "entries", "opaque"):
            said, found = getattr(meta, field), getattr(true, field)
            if said != found:
                return f"{self.meta_path} says {field} {said} instead of {found}"
        return ""

    # repairing ----------------------------------------------------------------------------------
    def _replace(self, result: Verified) -> str | None:
        """Put what the blob unpacks to in the directory's place. Whoever has it mounted would lose
        their files, so not while a container that is made of it runs."""
        assert result.info is not None
        with self._look.alone() as mine, contextlib.ExitStack() as held:
            if not mine:
                return "other fastbox commands are at work, try again"
            busy = self._lock_users(held)
            if busy:
                return busy
            place = os.path.join(self._store.layers.directory, self.real)
            trash.move(place, self._store.trash)
            if self.real == self.name:
                self._write_meta(result.info)
            os.rename(result.staging, place)
        result.staging = ""
        self._store.layers.settle([result.info.diff_id])
        return None

    def _lock_users(self, held: contextlib.ExitStack) -> str:
        """Keep the containers of this layer from being started; why that cannot be."""
        store = self._look.containers
        for container_id in store.ids():
            with contextlib.suppress(FileNotFoundError):
                try:
                    record = store.load_record(container_id)
                    if not self._is_of(record.layers):
                        continue
                    held.enter_context(locks.lock(store.directory(container_id), blocking=False))
                    if store.state(record).status.is_up:
                        return f"container {record.name} runs, stop it first"
                except BlockingIOError:
                    return f"container {record.name} is being started or changed, try again"
                except FastboxError:
                    continue  # damaged: it cannot be started
        return ""

    def _is_of(self, layers: list[str]) -> bool:
        return self.name in layers or self.real in layers

    def _write_meta(self, info: LayerInfo | None) -> str | None:
        """From what its blob has told, else from what the directory tells."""
        if info is None:
            info = self._counted()
        if os.path.lexists(self.meta_path):
            trash.move(self.meta_path, self._store.trash)
        if info is None:
            if self.is_wanted:  # a commit's layer, and no image has it under this name
                self._adopt()
            return None
        info.boot = boot_id()
        atomic.write(self.meta_path, msgspec.json.encode(info), sync=False)
        self._store.layers.settle([info.diff_id])
        return None

    def _counted(self) -> LayerInfo | None:
        if self.known is None:
            return None
        from ..container.sizes import size_of_tree

        entries = _entries_of(self.path)
        opaque = False
        with contextlib.suppress(OSError):
            opaque = os.getxattr(self.path, "trusted.overlay.opaque") == b"y"
        return LayerInfo(
            diff_id=self.known.diff_id,
            size=size_of_tree(self.path),
            entries=entries,
            opaque=opaque,
            pending=self.known.pending,
        )


class _Init:
    """The layer on top of every container: it guards against hostile images, so it is compared
    with a new one."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._layers = look.images.layers.directory
        self._path = os.path.join(self._layers, init_layer.NAME)

    def check(self) -> None:
        if not os.path.lexists(self._path):
            return
        staging = self._look.images.stage_layer()
        try:
            since = time.time_ns() - _SLACK
            init_layer.fill(staging)
            try:
                text = "it is a symbolic link" if os.path.islink(self._path) else ""
                text = text or trees.difference(staging, self._path, since)
            except OSError as error:
                text = f"it cannot be read: {(error.strerror or '').lower()}"
            if text:
                self._look.mend(self._look.found("layer", self._path, text), self._replace)
        finally:
            self._look.images.discard_layer(staging)

    def _replace(self) -> str | None:
        store = self._look.containers
        with self._look.alone() as mine, contextlib.ExitStack() as held:
            if not mine:
                return "other fastbox commands are at work, try again"
            for container_id in store.ids():
                with contextlib.suppress(FastboxError, FileNotFoundError):
                    record = store.load_record(container_id)
                    try:
                        path = store.directory(container_id)
                        held.enter_context(locks.lock(path, blocking=False))
                    except BlockingIOError:
                        return f"container {record.name} is being started or changed, try again"
                    if store.state(record).status.is_up:
                        return f"container {record.name} runs, stop it first"
            trash.move(self._path, self._look.images.trash)
            init_layer.ensure(self._layers)
        return None


def _is_full(error: FastboxError) -> bool:
    full = getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT)
    return full or getattr(error, "step", "") == "limit"


def _entries_of(path: str) -> int:
    """Number of all that is in a tree, however deep it is."""
    from ..volume.tree import Cursor

    count = 0
    with Cursor(path) as cursor:

        def folders() -> list[str]:
            nonlocal count
            found = cursor.entries()
            count += len(found)
            return [name for name, (_, status) in found.items() if stat.S_ISDIR(status.st_mode)]

        levels = [folders()]
        while levels:
            if levels[-1]:
                cursor.down(levels[-1].pop())
                levels.append(folders())
                continue
            levels.pop()
            if levels:
                cursor.up()
    return count


def _set_aside(look: Look, path: str) -> str | None:
    trash.move(path, look.images.trash)
    return None


def _age(path: str) -> float:
    try:
        return time.time() - os.lstat(path).st_mtime
    except OSError:
        return 0.0
