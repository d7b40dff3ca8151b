"""Containers for tests: images with hostile content, commands with their output, static programs,
and a *canary*: a directory of the host that must not change whatever a container does."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from fastbox.container.config import ContainerConfig

from .images import BUSYBOX_CHANGES, archive

if TYPE_CHECKING:
    from fastbox.container.record import Container
    from fastbox.engine import Engine


class Output(NamedTuple):
    """What a command in a container did."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def run(
    engine: Engine, image: str, *command: str, stdin: int | None = None, **config: Any
) -> Output:
    """``run --rm``: create, start attached, wait. Without a network, unless it is given."""
    config.setdefault("auto_remove", True)
    config.setdefault("network", "none")
    made = engine.create(ContainerConfig(image=image, command=list(command), **config))
    with _files() as (out, err):
        try:
            code = engine.run_attached(made.id, stdin=stdin, stdout=out, stderr=err)
        except BaseException:
            with contextlib.suppress(Exception):
                engine.remove(made.id, force=True, volumes=True)
            raise
        return Output(code, _text(out), _text(err))


def web(engine: Engine, image: str, state: str = "created", **config: Any) -> str:
    """Id of a container called web that is created, running, paused or stopped; it sleeps unless
    told what to do."""
    config.setdefault("command", ["sleep", "1000"])
    box = engine.create(ContainerConfig(image=image, name="web", stop_timeout=0, **config))
    if state != "created":
        engine.start(box.id)
    if state == "paused":
        engine.pause(box.id)
    if state == "stopped":
        engine.stop(box.id)
    return box.id


def start(engine: Engine, image: str, *command: str, **config: Any) -> Container:
    """A detached container without a network, unless one is given; it sleeps unless told what to
    do."""
    config.setdefault("network", "none")
    words = list(command) or ["sleep", "1000"]
    made = engine.create(ContainerConfig(image=image, command=words, **config))
    return engine.start(made.id)


def execute(engine: Engine, container: Container, *command: str, **options: Any) -> Output:
    """``exec`` with its output."""
    with _files() as (out, err):
        code = engine.exec(container.id, list(command), stdout=out, stderr=err, **options)
        return Output(code, _text(out), _text(err))


@contextlib.contextmanager
def _files() -> Iterator[tuple[int, int]]:
    out, err = os.memfd_create("out"), os.memfd_create("err")
    try:
        yield out, err
    finally:
        os.close(out)
        os.close(err)


def _text(fd: int) -> str:
    return os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")


# ---- images ----------------------------------------------------------------------------------


def entry(kind: bytes, *, mode: int = 0o755, link: str = "", size: int = 0) -> tarfile.TarInfo:
    """An archive member of an unusual type."""
    info = tarfile.TarInfo()
    info.type, info.mode, info.linkname, info.size = kind, mode, link, size
    return info


def link(target: str) -> tarfile.TarInfo:
    return entry(tarfile.SYMTYPE, link=target)


def directory(mode: int = 0o755) -> tarfile.TarInfo:
    return entry(tarfile.DIRTYPE, mode=mode)


def fifo() -> tarfile.TarInfo:
    return entry(tarfile.FIFOTYPE, mode=0o666)


def device(major: int, minor: int) -> tarfile.TarInfo:
    info = entry(tarfile.CHRTYPE, mode=0o666)
    info.devmajor, info.devminor = major, minor
    return info


def image(
    engine: Engine,
    name: str,
    content: dict[str, tarfile.TarInfo | bytes],
    changes: list[str] | None = None,
) -> str:
    """Import a busybox image in which ``content`` replaces or adds entries (bytes: an executable
    file); what lay below a replaced directory is left out."""
    memory = io.BytesIO()
    with (
        tarfile.open(archive("busybox")) as base,
        tarfile.open(fileobj=memory, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for member in base:
            if not any(f"{member.name}/".startswith(f"{path}/") for path in content):
                tar.addfile(member, base.extractfile(member) if member.isfile() else None)
        for path, what in content.items():
            data = what if isinstance(what, bytes) else b""
            info = entry(tarfile.REGTYPE, size=len(data)) if isinstance(what, bytes) else what
            info.name = path
            tar.addfile(info, io.BytesIO(data))
    memory.seek(0)
    engine.import_image(memory, name, changes=[*BUSYBOX_CHANGES, *(changes or [])])
    return name


# ---- programs --------------------------------------------------------------------------------


def compile_static(source: str, directory: str) -> bytes:
    """A static program for containers, from C."""
    path = os.path.join(directory, hashlib.sha256(source.encode()).hexdigest()[:16])
    if not os.path.exists(path):
        with open(path + ".c", "w") as file:
            file.write(source)
        compiler = shutil.which("musl-gcc") or "cc"
        command = [compiler, "-static", "-Os", "-s", "-w", "-o", path, path + ".c"]
        subprocess.run(command, check=True)
    with open(path, "rb") as binary:
        return binary.read()


# ---- the host --------------------------------------------------------------------------------


class Canary:
    """A directory tree of the host with names that engines have been led to write to."""

    FILES = ("f", "ptmx", "hosts", "hostname", "resolv.conf", "passwd", "null", "console", "shm/x")

    def __init__(self, path: str) -> None:
        self.path = path
        for name in self.FILES:
            os.makedirs(os.path.dirname(os.path.join(path, name)), exist_ok=True)
            with open(os.path.join(path, name), "w") as file:
                file.write(f"canary {name}\n")
            os.chmod(os.path.join(path, name), 0o640)
        self.before = self.snapshot()

    def snapshot(self) -> dict[str, tuple[object, ...]]:
        """Content, inode, mode, owner and times of everything."""
        found: dict[str, tuple[object, ...]] = {}
        for base, names, files in os.walk(self.path):
            for path in [base, *(os.path.join(base, name) for name in names + files)]:
                info = os.lstat(path)
                content = b""
                if stat.S_ISREG(info.st_mode):
                    with open(path, "rb") as file:
                        content = file.read()
                found[path] = (
                    hashlib.sha256(content).hexdigest(),
                    info.st_ino,
                    info.st_mode,
                    info.st_uid,
                    info.st_gid,
                    info.st_mtime_ns,
                    info.st_ctime_ns,
                )
        return found

    def check(self) -> None:
        assert self.snapshot() == self.before
