"""The blobs: each is the content that its name is the digest of."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from ..image.content import hash_fd
from ..oci import digest as digests
from .problems import shown

if TYPE_CHECKING:
    from .problems import Look

PARALLEL = 3


class Blobs:
    """The blobs of a store, hashed.

    Attributes:
        wrong: digest -> what is wrong with it, of those that are here and not whole.
        users: digest -> names of the images that need it; filled by who looks at the images.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self.wrong: dict[str, str] = {}
        self.users: dict[str, list[str]] = {}
        self._whole: dict[str, int] = {}

    def hash_all(self) -> None:
        """Read every blob."""
        from concurrent.futures import ThreadPoolExecutor

        store = self._look.images.blobs
        names = []
        for name in sorted(_names(store.directory)):
            if digests.is_digest(f"sha256:{name}"):
                names.append(f"sha256:{name}")
            elif not name.startswith((".", "oci-put-blob")):  # being written
                self._stranger(os.path.join(store.directory, name))
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="check") as pool:
            for digest, (size, wrong) in zip(names, pool.map(self._examine, names), strict=True):
                if wrong:
                    self.wrong[digest] = wrong
                elif size >= 0:
                    self._whole[digest] = size
        self._look.counted("blob", len(names))

    def _examine(self, digest: str) -> tuple[int, str]:
        """(size, what is wrong); the size is -1 if it is gone."""
        path = self._look.images.blob_path(digest)
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode):
                return 0, f"{path} is not a regular file"
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if hash_fd(fd) != digest:
                    return 0, f"{path} does not match its digest"
                return os.fstat(fd).st_size, ""
            finally:
                os.close(fd)
        except FileNotFoundError:
            return -1, ""
        except OSError as error:
            return 0, f"{path} cannot be read: {(error.strerror or '').lower()}"

    def _stranger(self, path: str) -> None:
        look = self._look
        problem = look.found("leftover", shown(path), "it is no blob")
        look.mend(problem, lambda: _set_aside(look, path))

    def size(self, digest: str) -> int | None:
        """Bytes of a blob that is here and whole."""
        if digest in self.wrong:
            return None
        if digest not in self._whole:  # stored since
            size, wrong = self._examine(digest)
            if wrong:
                self.wrong[digest] = wrong
            if wrong or size < 0:
                return None
            self._whole[digest] = size
        return self._whole[digest]

    def need(self, digest: str, image: str) -> None:
        """Note that an image needs a blob."""
        names = self.users.setdefault(digest, [])
        if image not in names:
            names.append(image)

    def report(self) -> None:
        """Note the damaged ones; a repair sets them aside, so that a pull fetches them anew."""
        look = self._look
        for digest, wrong in sorted(self.wrong.items()):
            users = self.users.get(digest, [])
            problem = look.found("blob", digest, wrong, again(users))
            if users:
                problem.text += f" (of {', '.join(users)})"
            if not look.repair:
                if not users:
                    problem.hint = "`fastbox system check --repair` removes it; nothing needs it"
                continue
            look.mend(problem, lambda digest=digest: self._remove(digest))  # type: ignore[misc]
            if problem.repaired and users:
                problem.repaired = False
                problem.text += "; it was set aside"
                problem.hint = again(users)

    def _remove(self, digest: str) -> str | None:
        with self._look.images.locked():
            if self._examine(digest)[1]:
                self._look.images.blobs.remove(digest)
        return None


def again(images: list[str]) -> str:
    """The hint for what only a registry has."""
    if not images:
        return ""
    names = [n for n in images if (":" in n or "@" in n) and not n.startswith("sha256:")]
    if not names:
        return f"`fastbox rmi {images[0]}` removes the image"
    return f"`fastbox pull {names[0]}` brings it again"


def _set_aside(look: Look, path: str) -> str | None:
    from ..image import trash

    trash.move(path, look.images.trash)
    return None


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
