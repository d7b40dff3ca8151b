# cython: language_level=3, autotestdict=False
"""bpf(2), as much of it as the device filter of a cgroup needs. See bpf.pyi for the contracts."""

from libc.errno cimport errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

cdef extern from *:
    """
    #include <linux/bpf.h>
    #include <sys/syscall.h>
    #include <unistd.h>

    #ifndef BPF_F_REPLACE
    #define BPF_F_REPLACE (1U << 2)
    #endif

    static int fb_bpf(int cmd, union bpf_attr *attr)
    {
        return (int)syscall(__NR_bpf, cmd, attr, sizeof(*attr));
    }

    static int fb_prog_load(const void *insns, uint32_t count, char *log, uint32_t log_size)
    {
        static const char license[] = "Apache-2.0";
        union bpf_attr attr;
        memset(&attr, 0, sizeof(attr));
        attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
        attr.insns = (uint64_t)(uintptr_t)insns;
        attr.insn_cnt = count;
        attr.license = (uint64_t)(uintptr_t)license;
        memcpy(attr.prog_name, "fastbox_devices", 15);
        if (log) {
            attr.log_buf = (uint64_t)(uintptr_t)log;
            attr.log_size = log_size;
            attr.log_level = 1;
        }
        /* The kernel makes the descriptor close-on-exec by itself. */
        return fb_bpf(BPF_PROG_LOAD, &attr);
    }

    static int fb_prog_attach(int cgroup, int prog, int old)
    {
        union bpf_attr attr;
        memset(&attr, 0, sizeof(attr));
        attr.target_fd = (uint32_t)cgroup;
        attr.attach_bpf_fd = (uint32_t)prog;
        attr.attach_type = BPF_CGROUP_DEVICE;
        attr.attach_flags = BPF_F_ALLOW_MULTI;
        if (old >= 0) {
            attr.attach_flags |= BPF_F_REPLACE;
            attr.replace_bpf_fd = (uint32_t)old;
        }
        return fb_bpf(BPF_PROG_ATTACH, &attr);
    }

    static int fb_prog_detach(int cgroup, int prog)
    {
        union bpf_attr attr;
        memset(&attr, 0, sizeof(attr));
        attr.target_fd = (uint32_t)cgroup;
        attr.attach_bpf_fd = (uint32_t)prog;
        attr.attach_type = BPF_CGROUP_DEVICE;
        return fb_bpf(BPF_PROG_DETACH, &attr);
    }

    static int fb_prog_query(int cgroup, uint32_t *ids, uint32_t *count)
    {
        union bpf_attr attr;
        memset(&attr, 0, sizeof(attr));
        attr.query.target_fd = (uint32_t)cgroup;
        attr.query.attach_type = BPF_CGROUP_DEVICE;
        attr.query.prog_ids = (uint64_t)(uintptr_t)ids;
        attr.query.prog_cnt = *count;
        int r = fb_bpf(BPF_PROG_QUERY, &attr);
        *count = attr.query.prog_cnt;
        return r;
    }

    static int fb_prog_by_id(uint32_t id)
    {
        union bpf_attr attr;
        memset(&attr, 0, sizeof(attr));
        attr.prog_id = id;
        return fb_bpf(BPF_PROG_GET_FD_BY_ID, &attr);
    }
    """
    int fb_prog_load(const void *insns, uint32_t count, char *log, uint32_t log_size) nogil
    int fb_prog_attach(int cgroup, int prog, int old) nogil
    int fb_prog_detach(int cgroup, int prog) nogil
    int fb_prog_query(int cgroup, uint32_t *ids, uint32_t *count) nogil
    int fb_prog_by_id(uint32_t id) nogil

# The kernel's own bound of programs on one cgroup (BPF_CGROUP_MAX_PROGS).
cdef enum:
    MAX_PROGRAMS = 64


cdef object _error(str what):
    import os

    cdef int number = errno
    return OSError(number, f"bpf({what}): {os.strerror(number)}")


def load(bytes insns not None):
    cdef const char *code = insns
    cdef Py_ssize_t size = len(insns)
    cdef int fd
    if size == 0 or size % 8 or size > 8 * 4096:
        raise ValueError("a BPF program is 1 to 4096 instructions of 8 bytes")
    with nogil:
        fd = fb_prog_load(code, <uint32_t>(size // 8), NULL, 0)
    if fd < 0:
        raise _error("PROG_LOAD")
    return fd


def verify(bytes insns not None):
    cdef const char *code = insns
    cdef Py_ssize_t size = len(insns)
    cdef bytearray log = bytearray(65536)
    cdef char *text = log
    cdef int fd
    fd = fb_prog_load(code, <uint32_t>(size // 8), text, 65536)
    if fd >= 0:
        import os

        os.close(fd)
    return log.split(b"\0", 1)[0].decode("utf-8", "replace")


def attach(int cgroup_fd, int prog_fd, int replace=-1):
    cdef int r
    with nogil:
        r = fb_prog_attach(cgroup_fd, prog_fd, replace)
    if r < 0:
        raise _error("PROG_ATTACH")


def detach(int cgroup_fd, int prog_fd):
    cdef int r
    with nogil:
        r = fb_prog_detach(cgroup_fd, prog_fd)
    if r < 0:
        raise _error("PROG_DETACH")


def query(int cgroup_fd):
    cdef uint32_t ids[MAX_PROGRAMS]
    cdef uint32_t count = MAX_PROGRAMS
    cdef uint32_t i
    memset(ids, 0, sizeof(ids))
    if fb_prog_query(cgroup_fd, ids, &count) < 0:
        raise _error("PROG_QUERY")
    return [ids[i] for i in range(count)]


def open_id(uint32_t prog_id):
    cdef int fd = fb_prog_by_id(prog_id)
    if fd < 0:
        raise _error("PROG_GET_FD_BY_ID")
    return fd
