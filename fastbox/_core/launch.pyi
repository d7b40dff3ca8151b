import os
from collections.abc import Sequence

MAGIC: int
OP_CGROUP_JOIN: int
OP_UNSHARE: int
OP_PROPAGATION: int
OP_OVERLAY: int
OP_TREE: int
OP_PIVOT: int
OP_FSMOUNT: int
OP_ATTACH: int
OP_MKNOD: int
OP_SYMLINK: int
OP_MASK: int
OP_READONLY: int
OP_SYSCTL: int
OP_LOOPBACK: int
OP_HOSTNAME: int
OP_DOMAINNAME: int
OP_MKDIR: int
OP_ROOT_READONLY: int
OP_PROC_WRITE: int
OP_RLIMIT: int
OP_CONSOLE: int
OP_NETLINK: int
OP_NAMES: int
OP_JOIN: int
STEP_CLONE: int
STEP_USER: int
STEP_GROUP: int
STEP_STDIO: int
STEP_KEYRING: int
STEP_CWD: int
STEP_CAPS: int
STEP_SETID: int
STEP_SECCOMP: int
STEP_EXEC: int
STEP_MONITOR: int
STEP_SETNS: int
STEP_PLAN: int
STEP_TTY: int
P_WAIT: int
F_DIR: int
F_FILE: int
F_NOFOLLOW: int
F_RECURSIVE: int
F_USER: int
F_OPTIONAL: int
F_HOST: int
P_NO_NEW_PRIVS: int
P_KEYRING: int
P_SET_HOME: int
P_INIT: int
P_USER_NAME: int
P_GROUP: int
P_DETACH: int
P_TTY: int
T_CALL: int
T_MONITOR: int
T_INIT: int
T_OPS: int
T_USER: int
T_STDIO: int
T_CWD: int
T_CONFINED: int
T_HELPER: int
T_EXEC: int
T_SPAWNED: int
WHERE_STATE: int
WHERE_ENDED: int
T_RETURN: int
T_END: int
ERROR_SIZE: int

class StepError(Exception):
    step: int
    index: int
    errno: int
    where: int
    def __init__(self, step: int, index: int, errno: int, where: int) -> None: ...

def check_plan(data: bytes) -> None: ...
def start(
    plan: bytes,
    *,
    stdio: Sequence[int],
    monitor_path: bytes,
    monitor_argv: Sequence[bytes],
    monitor_fds: Sequence[int],
    helper_fd: int = -1,
    cgroup_fd: int = -1,
    console_fd: int = -1,
    names_fd: int = -1,
    wait_fd: int = -1,
    ports: Sequence[int] = (),
    times: list[int] | None = None,
) -> tuple[int, int]: ...
def spawn_helper(helper_fd: int, argv: Sequence[bytes], fds: Sequence[int]) -> int: ...
def wait_helper(pid: int) -> int: ...
def overlay_view(
    directory: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: str,
    *,
    read_only: bool = True,
) -> int: ...
