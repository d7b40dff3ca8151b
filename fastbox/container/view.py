"""A container's file system as a directory descriptor, to read and write by the engine.

All of it is hostile: a running container can swap any name for a link at any instant. So a path is
never resolved as a string: it is opened once, inside of the root, and then only the descriptor is
used (CVE-2018-15664, CVE-2019-10152, CVE-2026-42306).
"""

from __future__ import annotations

import errno
import os
import select
import stat
from typing import TYPE_CHECKING, Any

from .._core import launch as core
from .._core import view as core_view
from ..errors import FastboxError
from . import graph, process
from .flatten import Plan, view_plan
from .record import Container, ContainerRecord

if TYPE_CHECKING:
    from .store import ContainerStore

_MAX_LINKS = 40  # the kernel's own limit
# What the kernel makes up while it is read: no content to copy, and some of it never ends.
_KERNEL = frozenset(
    {
        0x9FA0,  # proc
        0x62656572,  # sysfs
        0x27E0EB,  # cgroup
        0x63677270,  # cgroup2
        0x1CD1,  # devpts
        0x19800202,  # mqueue
        0x73636673,  # securityfs
        0x64626720,  # debugfs
        0x74726163,  # tracefs
        0xCAFE4A11,  # bpf
        0x62656570,  # configfs
        0x42494E4D,  # binfmt_misc
        0x6165676C,  # pstore
        0xDE5E81E4,  # efivarfs
        0xF97CFF8C,  # selinuxfs
        0x6E736673,  # nsfs
        0x65735543,  # fusectl
    }
)


def is_kernels(fd: int) -> bool:
    """Whether this lies on a file system that the kernel makes up: /proc, /sys …"""
    return core_view.file_system(fd) in _KERNEL


class View:
    """The root directory of a container, with all that is mounted in it. A context manager.

    Args:
        root: its descriptor, closed with the view.
        openat2: False resolves paths name by name, as is done by itself where the kernel does not
            have that call.
    """

    def __init__(self, root: int, *, openat2: bool = True) -> None:
        self.root = root
        self._openat2 = openat2 and _has_openat2(root)

    def __enter__(self) -> View:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self.root)

    def open(self, path: str, flags: int) -> int:
        """Open as a process in the container would, if it followed no magic links; the caller
        closes the descriptor. Without O_PATH or O_DIRECTORY this may block or have effects.

        Raises:
            OSError
        """
        if self._openat2:
            return core_view.open_in_root(self.root, path, flags | os.O_CLOEXEC)
        return _walk(self.root, path, flags | os.O_CLOEXEC)

    def is_root_mount(self, fd: int) -> bool:
        """Whether ``fd`` is on the mount of the root itself, not on one below it."""
        return mount_id(fd) == mount_id(self.root)


def of_running(container: Container, *, mounts: bool = True) -> View | None:
    """What the init of a container sees; None if it does not run.

    Args:
        mounts: False leaves out what is mounted in it, so that the directories below are seen; the
            view is read-only then.

    Raises:
        FastboxError: without its mounts, the root cannot be had.
    """
    state = container.state
    if not state.status.is_up:
        return None
    pidfd = process.open_pidfd(state.pid, state.pid_starttime)
    if pidfd is None:
        return None
    try:
        root = _root_of_process(state.pid) if mounts else _bare_root_of_process(state.pid)
        # Still there: so what was opened was this process's, and not that of one with its pid.
        if _has_ended(pidfd):
            os.close(root)
            return None
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError as error:
        raise FastboxError(
            f"cannot see the files of container {container.name}: {(error.strerror or '').lower()}",
            hint="run fastbox as root" if error.errno in (errno.EPERM, errno.EACCES) else None,
        ) from error
    finally:
        os.close(pidfd)
    return View(root)


def _root_of_process(pid: int) -> int:
    return os.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _bare_root_of_process(pid: int) -> int:
    namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return core_view.root_of(namespace)
    finally:
        os.close(namespace)


def _has_ended(pidfd: int) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def of_stopped(
    store: ContainerStore,
    record: ContainerRecord,
    layers_dir: str,
    config: dict[str, Any],
    *,
    write: bool,
) -> View:
    """The files of a container that does not run, and whose lock the caller holds: two mounts of
    one upper directory would damage it.

    Args:
        config: its OCI runtime configuration.

    Raises:
        FastboxError
    """
    driver = graph.of(record)
    root = None if write else driver.readable(store, record, layers_dir)
    if root is not None:
        readable = view_plan(config, root)
        try:
            return View(core_view.mount_view(readable.data, read_only=True))
        except core.StepError as error:
            # A mount point that no start has made yet.
            if error.step != core.OP_ATTACH or error.errno != errno.EROFS:
                raise _describe(error, readable, record) from error
    # Lasting, unlike perhaps at a start: overlayfs would leave a mark behind.
    plan = view_plan(config, driver.root(store, record, layers_dir, lasting=True))
    try:
        return View(core_view.mount_view(plan.data, read_only=not write))
    except core.StepError as error:
        raise _describe(error, plan, record) from error


def _describe(error: core.StepError, plan: Plan, record: ContainerRecord) -> FastboxError:
    about = plan.about(error.index)
    return FastboxError(
        f"cannot mount the files of container {record.name}:{about and ' '}{about} "
        f"{os.strerror(error.errno).lower()}",
        hint="run fastbox as root" if error.errno == errno.EPERM else None,
    )


def mount_id(fd: int) -> str:
    """What tells the mount of an open file from others."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        for line in file:
            if line.startswith("mnt_id:"):
                return line
    return ""


def _has_openat2(root: int) -> bool:
    try:
        os.close(core_view.open_in_root(root, ".", os.O_PATH))
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return False
        raise
    return True


def _walk(root: int, path: str, flags: int) -> int:
    """openat2(RESOLVE_IN_ROOT) by hand. A name is opened before it is looked at, so what is swapped
    meanwhile does not matter; ".." goes back to the descriptor that we came from."""
    fds = [os.open(".", os.O_PATH | os.O_CLOEXEC, dir_fd=root)]
    todo = path.split("/")[::-1]
    links = 0
    try:
        while todo:
            name = todo.pop()
            if not stat.S_ISDIR(os.fstat(fds[-1]).st_mode):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            if name in ("", "."):
                continue
            if name == "..":
                if len(fds) > 1:
                    os.close(fds.pop())
                continue
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fds[-1])
            fds.append(fd)
            if not stat.S_ISLNK(os.fstat(fd).st_mode) or (not todo and flags & os.O_NOFOLLOW):
                continue
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink("", dir_fd=fd)
            os.close(fds.pop())
            while target.startswith("/") and len(fds) > 1:
                os.close(fds.pop())
            todo.extend(target.split("/")[::-1])
        return _reopen(fds[-1], path, flags)
    finally:
        for fd in fds:
            os.close(fd)


def _reopen(fd: int, path: str, flags: int) -> int:
    """The object of an O_PATH descriptor, opened as asked."""
    mode = os.fstat(fd).st_mode
    if flags & os.O_DIRECTORY and not stat.S_ISDIR(mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    if flags & os.O_PATH:
        return os.dup(fd)
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return os.open(f"/proc/self/fd/{fd}", flags & ~os.O_NOFOLLOW)
