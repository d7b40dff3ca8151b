"""bpf(2), as much of it as the device filter of a cgroup needs (BPF_PROG_TYPE_CGROUP_DEVICE)."""

def load(insns: bytes) -> int:
    """Load a program (8 bytes per instruction); a close-on-exec descriptor.

    Raises:
        OSError: EPERM without CAP_SYS_ADMIN or CAP_BPF, ENOSYS or EINVAL without CONFIG_CGROUP_BPF,
            EACCES or EINVAL when the verifier refused it (see ``verify``).
        ValueError: not a whole number of instructions, or more than 4096.
    """

def verify(insns: bytes) -> str:
    """The verifier's log for a program; for tests and bug reports."""

def attach(cgroup_fd: int, prog_fd: int, replace: int = -1) -> None:
    """Attach to a v2 cgroup directory with BPF_F_ALLOW_MULTI.

    Args:
        replace: descriptor of the attached program whose place it takes in one step
            (BPF_F_REPLACE, Linux 5.6), so that no instant is without a filter.

    Raises:
        OSError: EBUSY or EPERM when a parent cgroup forbids it, EINVAL on a v1 directory.
    """

def detach(cgroup_fd: int, prog_fd: int) -> None:
    """Take a program off a cgroup. Raises OSError (ENOENT: it was not attached)."""

def query(cgroup_fd: int) -> list[int]:
    """Ids of the device programs attached to the cgroup itself, in the order attached."""

def open_id(prog_id: int) -> int:
    """A close-on-exec descriptor of a loaded program by id. Raises OSError (ENOENT: gone)."""
