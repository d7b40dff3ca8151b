# cython: language_level=3, cdivision=True
# cython: linetrace=False, profile=False, binding=False
"""Starting processes in containers: a thin wrapper around launch/*.c, which does the work without
the GIL. Knows nothing of images, JSON or the command line."""

from libc.errno cimport errno
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

import os
import fcntl as _fcntl


cdef extern from "launch/plan.h" nogil:
    struct fb_error:
        uint32_t step
        int32_t index
        int32_t error
        uint32_t where
    struct fb_plan:
        uint32_t nops
    struct fb_context:
        const fb_plan *plan
        int stdio[3]
        int helper_fd
        int error_fd
        int console_fd
        int names_fd
        int wait_fd
        uint64_t *times
    enum: FB_T_CALL, FB_T_MONITOR, FB_T_INIT, FB_T_OPS, FB_T_USER, FB_T_STDIO, FB_T_CWD
    enum: FB_T_CONFINED, FB_T_HELPER, FB_T_EXEC, FB_T_SPAWNED, FB_T_RETURN, FB_T_END
    size_t fb_context_size(const void *buffer, size_t length)
    int fb_context_init(fb_context *context, const void *buffer, size_t length, void *memory)
    enum: FB_PLAN_MAGIC
    enum: FB_OP_CGROUP_JOIN, FB_OP_UNSHARE, FB_OP_PROPAGATION, FB_OP_OVERLAY, FB_OP_TREE
    enum: FB_OP_PIVOT, FB_OP_FSMOUNT, FB_OP_ATTACH, FB_OP_MKNOD, FB_OP_SYMLINK, FB_OP_MASK
    enum: FB_OP_READONLY, FB_OP_SYSCTL, FB_OP_LOOPBACK, FB_OP_HOSTNAME, FB_OP_DOMAINNAME
    enum: FB_OP_MKDIR, FB_OP_ROOT_READONLY, FB_OP_PROC_WRITE, FB_OP_RLIMIT
    enum: FB_OP_CONSOLE, FB_OP_NETLINK, FB_OP_NAMES, FB_OP_JOIN
    enum: FB_STEP_CLONE, FB_STEP_USER, FB_STEP_GROUP, FB_STEP_STDIO, FB_STEP_KEYRING, FB_STEP_CWD
    enum: FB_STEP_CAPS, FB_STEP_SETID, FB_STEP_SECCOMP, FB_STEP_EXEC, FB_STEP_MONITOR
    enum: FB_STEP_SETNS, FB_STEP_PLAN, FB_STEP_TTY
    enum: FB_F_DIR, FB_F_FILE, FB_F_NOFOLLOW, FB_F_RECURSIVE, FB_F_USER, FB_F_OPTIONAL
    enum: FB_F_HOST
    enum: FB_P_NO_NEW_PRIVS, FB_P_KEYRING, FB_P_SET_HOME, FB_P_INIT, FB_P_USER_NAME, FB_P_GROUP
    enum: FB_P_DETACH, FB_P_TTY, FB_P_WAIT

cdef extern from "launch/start.h" nogil:
    enum: FB_FD_PIDFD, FB_FD_OUT, FB_FD_END, FB_HELPER_FDS
    enum: FB_WHERE_STATE, FB_WHERE_ENDED
    struct fb_start_t "fb_start":
        fb_context *context
        int cgroup_fd
        const char *monitor_path
        char **monitor_argv
        char **monitor_envp
        int *fds
        const int *ports
        int nports
        fb_error error
        int pid
        int monitor_pid
    int fb_start(fb_start_t *start)
    int fb_spawn_helper(int helper_fd, char **argv, char **envp, const int *fds, int nfds)

cdef extern from "launch/overlay.h" nogil:
    int fb_overlay_view(const char *directory, const char *target, const char *options,
                        int read_only)


MAGIC = FB_PLAN_MAGIC
OP_CGROUP_JOIN = FB_OP_CGROUP_JOIN
OP_UNSHARE = FB_OP_UNSHARE
OP_PROPAGATION = FB_OP_PROPAGATION
OP_OVERLAY = FB_OP_OVERLAY
OP_TREE = FB_OP_TREE
OP_PIVOT = FB_OP_PIVOT
OP_FSMOUNT = FB_OP_FSMOUNT
OP_ATTACH = FB_OP_ATTACH
OP_MKNOD = FB_OP_MKNOD
OP_SYMLINK = FB_OP_SYMLINK
OP_MASK = FB_OP_MASK
OP_READONLY = FB_OP_READONLY
OP_SYSCTL = FB_OP_SYSCTL
OP_LOOPBACK = FB_OP_LOOPBACK
OP_HOSTNAME = FB_OP_HOSTNAME
OP_DOMAINNAME = FB_OP_DOMAINNAME
OP_MKDIR = FB_OP_MKDIR
OP_ROOT_READONLY = FB_OP_ROOT_READONLY
OP_PROC_WRITE = FB_OP_PROC_WRITE
OP_RLIMIT = FB_OP_RLIMIT
OP_CONSOLE = FB_OP_CONSOLE
OP_NETLINK = FB_OP_NETLINK
OP_NAMES = FB_OP_NAMES
OP_JOIN = FB_OP_JOIN
STEP_CLONE = FB_STEP_CLONE
STEP_USER = FB_STEP_USER
STEP_GROUP = FB_STEP_GROUP
STEP_STDIO = FB_STEP_STDIO
STEP_KEYRING = FB_STEP_KEYRING
STEP_CWD = FB_STEP_CWD
STEP_CAPS = FB_STEP_CAPS
STEP_SETID = FB_STEP_SETID
STEP_SECCOMP = FB_STEP_SECCOMP
STEP_EXEC = FB_STEP_EXEC
STEP_MONITOR = FB_STEP_MONITOR
STEP_SETNS = FB_STEP_SETNS
STEP_PLAN = FB_STEP_PLAN
STEP_TTY = FB_STEP_TTY
F_DIR = FB_F_DIR
F_FILE = FB_F_FILE
F_NOFOLLOW = FB_F_NOFOLLOW
F_RECURSIVE = FB_F_RECURSIVE
F_USER = FB_F_USER
F_OPTIONAL = FB_F_OPTIONAL
F_HOST = FB_F_HOST
P_NO_NEW_PRIVS = FB_P_NO_NEW_PRIVS
P_KEYRING = FB_P_KEYRING
P_SET_HOME = FB_P_SET_HOME
P_INIT = FB_P_INIT
P_USER_NAME = FB_P_USER_NAME
P_GROUP = FB_P_GROUP
P_DETACH = FB_P_DETACH
P_TTY = FB_P_TTY
P_WAIT = FB_P_WAIT
T_CALL = FB_T_CALL
T_MONITOR = FB_T_MONITOR
T_INIT = FB_T_INIT
T_OPS = FB_T_OPS
T_USER = FB_T_USER
T_STDIO = FB_T_STDIO
T_CWD = FB_T_CWD
T_CONFINED = FB_T_CONFINED
T_HELPER = FB_T_HELPER
T_EXEC = FB_T_EXEC
T_SPAWNED = FB_T_SPAWNED
WHERE_STATE = FB_WHERE_STATE
WHERE_ENDED = FB_WHERE_ENDED
T_RETURN = FB_T_RETURN
T_END = FB_T_END
ERROR_SIZE = sizeof(fb_error)


class StepError(Exception):
    """A step failed: ``step`` (OP_* or STEP_*), ``index`` of the operation or -1, ``errno``."""

    def __init__(self, step, index, errno, where):
        super().__init__(f"step {step} (operation {index}, call {where}): {os.strerror(errno)}")
        self.step = step
        self.index = index
        self.errno = errno
        self.where = where


cdef class _Vector:
    """A NULL-ended char*[] whose strings live as long as this object."""

    cdef list strings
    cdef char **items

    def __cinit__(self, strings):
        self.strings = [bytes(s) for s in strings]
        self.items = <char **>malloc((len(self.strings) + 1) * sizeof(char *))
        if self.items == NULL:
            raise MemoryError
        for i, s in enumerate(self.strings):
            self.items[i] = <char *>(<bytes>s)
        self.items[len(self.strings)] = NULL

    def __dealloc__(self):
        free(self.items)


cdef class _Plan:
    """A copy of the plan's bytes and the context resolved from them."""

    cdef void *buffer
    cdef void *memory
    cdef fb_context context

    def __cinit__(self, bytes data):
        cdef size_t length = len(data)
        cdef size_t need
        self.buffer = malloc(length + 1)
        if self.buffer == NULL:
            raise MemoryError
        memcpy(self.buffer, <const char *>data, length)
        need = fb_context_size(self.buffer, length)
        self.memory = malloc(need + 1)
        if self.memory == NULL:
            raise MemoryError
        if fb_context_init(&self.context, self.buffer, length, self.memory) < 0:
            raise ValueError("not a well-formed launch plan")

    def __dealloc__(self):
        free(self.buffer)
        free(self.memory)


def check_plan(data):
    """Raise ValueError unless ``data`` is a well-formed plan."""
    _Plan(bytes(data))


def start(plan, *, stdio, monitor_path, monitor_argv, monitor_fds, helper_fd=-1, cgroup_fd=-1,
          console_fd=-1, names_fd=-1, wait_fd=-1, ports=(), times=None):
    """Start a container's init and its monitor.

    Args:
        plan: the launch plan's bytes.
        stdio: three descriptors for init, -1 for /dev/null.
        monitor_path: the native helper; monitor_argv: its arguments, where item 1 is replaced by
            init's pid.
        monitor_fds: the descriptors 4 to 16 as launch/start.h numbers them, -1 for none (8, where
            it says that it is ready, is made here); the last ones may be left out.
        helper_fd: sealed copy of the helper; the plan's argv starts with the mode in which it runs
            the command, ``fastbox-exec`` or (P_INIT) ``fastbox-init``.
        cgroup_fd: directory of the v2 cgroup to start in, or -1.
        console_fd: socket on which OP_CONSOLE hands over the terminal's master, or -1.
        names_fd: socket on which OP_NAMES hands over the name server's sockets, or -1.
        wait_fd: socket on which (P_WAIT) the helper waits for the command, or -1.
        ports: descriptors that the monitor keeps, from the number after its others on.
        times: a list that is filled, also on failure, with the instants of launch/plan.h's
            ``enum fb_time`` (CLOCK_MONOTONIC in nanoseconds; 0: it did not get there), then the
            pids of init and the monitor, -1 where there was none.

    Returns:
        (pid of init, pid of the monitor).

    Raises:
        StepError: nothing runs. With ``STEP_MONITOR``, ``where`` tells what failed in the monitor:
            ``WHERE_STATE`` (writing state.json) or ``WHERE_ENDED`` (it was killed).
    """
    cdef fb_start_t request
    cdef int *fds = request.fds
    cdef int i, result, low = max(64, FB_FD_END + len(ports))
    cdef int *kept = NULL
    cdef uint64_t *instants = NULL
    cdef int count = 0
    cdef _Plan ready = _Plan(bytes(plan))
    cdef list arguments = [bytes(a) for a in monitor_argv]
    # A buffer of our own: C writes the pid's digits into it.
    arguments[1] = bytes(bytearray(16))
    cdef _Vector argv = _Vector(arguments)
    cdef _Vector envp = _Vector([b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])
    cdef bytes path = bytes(monitor_path)
    duplicates = []

    def duplicate(fd):
        """Above all numbers that the monitor's descriptors get."""
        duplicates.append(_fcntl.fcntl(fd, _fcntl.F_DUPFD_CLOEXEC, low))
        return duplicates[-1]

    try:
        memset(&request.error, 0, sizeof(fb_error))
        request.context = &ready.context
        request.cgroup_fd = cgroup_fd
        request.monitor_path = path
        request.monitor_argv = argv.items
        request.monitor_envp = envp.items
        for i in range(FB_FD_END):
            fds[i] = -1
        for i in range(3):
            if stdio[i] >= 0:
                ready.context.stdio[i] = duplicate(stdio[i])
        for i in range(min(len(monitor_fds), FB_FD_END - FB_FD_OUT)):
            if monitor_fds[i] >= 0:
                fds[FB_FD_OUT + i] = duplicate(monitor_fds[i])
        kept = <int *>malloc((len(ports) + 1) * sizeof(int))
        if kept == NULL:
            raise MemoryError
        request.ports = kept
        request.nports = len(ports)
        for i in range(request.nports):
            kept[i] = duplicate(ports[i])
        if helper_fd >= 0:
            ready.context.helper_fd = duplicate(helper_fd)
        if console_fd >= 0:
            ready.context.console_fd = duplicate(console_fd)
        if names_fd >= 0:
            ready.context.names_fd = duplicate(names_fd)
        if wait_fd >= 0:
            ready.context.wait_fd = duplicate(wait_fd)
        if times is not None:
            count = FB_T_END + <int>ready.context.plan.nops
            ready.context.times = instants = <uint64_t *>calloc(count, sizeof(uint64_t))
            if instants == NULL:
                raise MemoryError
        with nogil:
            result = fb_start(&request)
        for i in range(count):
            times.append(instants[i])
        if times is not None:
            times += [request.pid, request.monitor_pid]
        if result < 0:
            raise StepError(request.error.step, request.error.index, request.error.error,
                            request.error.where)
        return request.pid, request.monitor_pid
    finally:
        free(kept)
        free(instants)
        for fd in duplicates:
            os.close(fd)


def spawn_helper(helper_fd, argv, fds):
    """Run the static helper from ``helper_fd`` with ``fds[i]`` as descriptor i (-1: closed) and an
    empty environment; the child's pid. The child raises no SIGCHLD: wait with ``wait_helper``.

    Raises:
        OSError
    """
    cdef _Vector arguments = _Vector(argv)
    cdef _Vector environment = _Vector([])
    cdef int numbers[FB_HELPER_FDS]
    cdef int count = len(fds), i, pid, helper = helper_fd
    if count > FB_HELPER_FDS:
        raise ValueError("too many descriptors")
    for i in range(count):
        numbers[i] = fds[i]
    with nogil:
        pid = fb_spawn_helper(helper, arguments.items, environment.items, numbers, count)
    if pid < 0:
        raise OSError(errno, os.strerror(errno), "fastbox-enter")
    return pid


def wait_helper(pid):
    """Exit status (128+n if killed by signal n) of a child made by ``spawn_helper``. Blocks; a
    Python signal handler may run meanwhile."""
    _, status = os.waitpid(pid, 0x40000000)  # __WALL
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def overlay_view(directory, target, options, *, read_only=True):
    """Descriptor of the root of an overlay that no mount table shows.

    Args:
        directory: what relative lowerdirs are relative to; target: an empty directory;
        options: overlayfs mount options.

    Raises:
        OSError
    """
    cdef bytes d = os.fsencode(directory), t = os.fsencode(target), o = os.fsencode(options)
    cdef const char *pd = d
    cdef const char *pt = t
    cdef const char *po = o
    cdef int ro = read_only, fd
    with nogil:
        fd = fb_overlay_view(pd, pt, po, ro)
    if fd < 0:
        raise OSError(errno, os.strerror(errno), target)
    return fd
