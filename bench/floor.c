/* What a container costs on this kernel when nothing but the system calls is paid for: new
 * namespaces, an overlay root, Docker's default mounts, devices, masks, capabilities and cgroup
 * (with its device program), exec, wait, and all of it removed. Bare C, no library, no decisions:
 * the measure that an engine is held against. Prints the nanoseconds of each run, one per line.
 *
 *   floor [-n RUNS] [-s FILTER] [-c CGROUP_PARENT] -l LAYERS_DIR -d LOWER[:LOWER…] -w WORKDIR \
 *         COMMAND [ARG…]
 *
 * FILTER is a file of struct sock_filter. The names of the lower directories are relative to
 * LAYERS_DIR, top first. CGROUP_PARENT is a directory of the cgroup v2 hierarchy.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

#define CHECK(call) \
  do {              \
    if ((call) < 0) die(#call); \
  } while (0)

static const char *layers, *lowers, *workdir, *cgroup_parent;
static struct sock_fprog filter;
static char **command;

static void die(const char *what) {
  fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
  _exit(125);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static const struct {
  const char *name;
  unsigned major, minor;
} devices[] = {{"null", 1, 3}, {"zero", 1, 5},   {"full", 1, 7},
               {"tty", 5, 0},  {"random", 1, 8}, {"urandom", 1, 9}};

/* Docker's device rules: the six above, the terminals, mknod of anything, nothing else. */
static int load_device_program(void) {
  static const struct {
    int major, minor; /* minor -1: all */
  } allowed[] = {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}, {136, -1}};
  struct bpf_insn p[64];
  int n = 0;
#define OP(...) p[n++] = (struct bpf_insn){__VA_ARGS__}
  OP(.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2, .src_reg = 1, .off = 0); /* access << 16 | type */
  OP(.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 4, .src_reg = 1, .off = 4);
  OP(.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 5, .src_reg = 1, .off = 8);
  OP(.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 3, .src_reg = 2);
  OP(.code = BPF_ALU64 | BPF_RSH | BPF_K, .dst_reg = 3, .imm = 16);
  OP(.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1);
  OP(.code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = 3, .off = 1, .imm = BPF_DEVCG_ACC_MKNOD);
  OP(.code = BPF_JMP | BPF_EXIT);
  OP(.code = BPF_ALU64 | BPF_AND | BPF_K, .dst_reg = 2, .imm = 0xffff);
  int deny = n;
  OP(.code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = 2, .imm = BPF_DEVCG_DEV_CHAR);
  for (unsigned i = 0; i < sizeof allowed / sizeof *allowed; i++) {
    int any = allowed[i].minor < 0;
    OP(.code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = 4, .off = any ? 1 : 2, .imm = allowed[i].major);
    if (!any) OP(.code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = 5, .off = 1, .imm = allowed[i].minor);
    OP(.code = BPF_JMP | BPF_EXIT);
  }
  p[deny].off = (int16_t)(n - deny - 1);
  OP(.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0);
  OP(.code = BPF_JMP | BPF_EXIT);
#undef OP
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  attr.insns = (uint64_t)(uintptr_t)p;
  attr.insn_cnt = (uint32_t)n;
  attr.license = (uint64_t)(uintptr_t) "Apache-2.0";
  return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr);
}

static void restrict_devices(int cgroup) {
  int program = load_device_program();
  CHECK(program);
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.target_fd = (uint32_t)cgroup;
  attr.attach_bpf_fd = (uint32_t)program;
  attr.attach_type = BPF_CGROUP_DEVICE;
  attr.attach_flags = BPF_F_ALLOW_MULTI;
  CHECK(syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof attr));
  close(program);
}

static void mount_device_tree(void) {
  CHECK(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
  for (unsigned i = 0; i < sizeof devices / sizeof *devices; i++) {
    char path[32];
    snprintf(path, sizeof path, "dev/%s", devices[i].name);
    CHECK(mknod(path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)));
  }
  CHECK(mkdir("dev/pts", 0755));
  CHECK(mkdir("dev/shm", 01777));
  CHECK(mkdir("dev/mqueue", 0755));
  CHECK(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
              "newinstance,ptmxmode=0666,mode=0620,gid=5"));
  CHECK(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
              "mode=1777,size=65536k"));
  CHECK(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
  CHECK(symlink("/proc/self/fd", "dev/fd"));
  CHECK(symlink("/proc/self/fd/0", "dev/stdin"));
  CHECK(symlink("/proc/self/fd/1", "dev/stdout"));
  CHECK(symlink("/proc/self/fd/2", "dev/stderr"));
  CHECK(symlink("pts/ptmx", "dev/ptmx"));
  CHECK(symlink("/proc/kcore", "dev/core"));
}

static void mount_root(void) {
  char options[16384], target[4096];
  snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lowers,
           workdir, workdir);
  snprintf(target, sizeof target, "%s/merged", workdir);
  CHECK(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
  CHECK(chdir(layers));
  CHECK(mount("overlay", target, "overlay", 0, options));
  CHECK(chdir(target));
  CHECK(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
  mount_device_tree();
  unsigned long sealed = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  CHECK(mount("sysfs", "sys", "sysfs", sealed, NULL));
  if (cgroup_parent) CHECK(mount("cgroup", "sys/fs/cgroup", "cgroup2", sealed, NULL));
  static const char *const files[] = {"hosts", "hostname", "resolv.conf"};
  for (int i = 0; i < 3; i++) {
    char source[4200], path[32];
    snprintf(source, sizeof source, "%s/%s", workdir, files[i]);
    snprintf(path, sizeof path, "etc/%s", files[i]);
    CHECK(mount(source, path, NULL, MS_BIND, NULL));
  }
  CHECK(syscall(SYS_pivot_root, ".", "."));
  CHECK(umount2(".", MNT_DETACH));
  CHECK(chdir("/"));
}

static void mask_paths(void) {
  static const char *const masked[] = {
      "/proc/acpi",       "/proc/asound",      "/proc/interrupts",  "/proc/kcore",
      "/proc/keys",       "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
      "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
      "/sys/firmware",    "/sys/fs/selinux",   "/sys/kernel/debug", "/sys/kernel/security"};
  static const char *const readonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                         "/proc/sysrq-trigger"};
  for (unsigned i = 0; i < sizeof masked / sizeof *masked; i++) {
    if (mount("/dev/null", masked[i], NULL, MS_BIND, NULL) == 0 || errno == ENOENT) continue;
    CHECK(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, "size=0k"));
  }
  for (unsigned i = 0; i < sizeof readonly / sizeof *readonly; i++) {
    if (mount(readonly[i], readonly[i], NULL, MS_BIND | MS_REC, NULL) < 0) continue;
    CHECK(mount(NULL, readonly[i], NULL,
                MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
  }
}

static void loopback_up(void) {
  struct ifreq request = {0};
  int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  CHECK(s);
  strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  CHECK(ioctl(s, SIOCSIFFLAGS, &request));
  close(s);
}

static void write_sysctl(const char *path, const char *value) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  CHECK(fd);
  CHECK(write(fd, value, strlen(value)));
  close(fd);
}

static void drop_capabilities(void) {
  const uint64_t keep = 0xa80425fb; /* Docker's fourteen */
  for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
    if (!(keep >> cap & 1)) CHECK(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0));
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{(uint32_t)keep, (uint32_t)keep, 0}, {0, 0, 0}};
  CHECK(syscall(SYS_capset, &header, data));
}

static void container(void) {
  mount_root();
  write_sysctl("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
  write_sysctl("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
  mask_paths();
  loopback_up();
  CHECK(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "floor"));
  CHECK(sethostname("floor", 5));
  CHECK(setsid());
  CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
  if (filter.len) /* before the capabilities go: a filter without no_new_privs needs CAP_SYS_ADMIN */
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter));
  drop_capabilities();
  execv(command[0], command);
  die(command[0]);
}

static void run_once(int number) {
  char upper[4200], work[4200], merged[4200], inner[4200], group[4200];
  snprintf(upper, sizeof upper, "%s/upper", workdir);
  snprintf(work, sizeof work, "%s/work", workdir);
  snprintf(merged, sizeof merged, "%s/merged", workdir);
  snprintf(inner, sizeof inner, "%s/work/work", workdir);
  CHECK(mkdir(upper, 0755));
  CHECK(mkdir(work, 0700));
  CHECK(mkdir(merged, 0700));
  struct clone_args args;
  memset(&args, 0, sizeof args);
  args.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET |
               CLONE_NEWCGROUP;
  args.exit_signal = SIGCHLD;
  int cgroup = -1;
  if (cgroup_parent) {
    snprintf(group, sizeof group, "%s/floor-%d-%d", cgroup_parent, (int)getpid(), number);
    CHECK(mkdir(group, 0755));
    CHECK(cgroup = open(group, O_DIRECTORY | O_RDONLY | O_CLOEXEC));
    restrict_devices(cgroup);
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = (uint64_t)cgroup;
  }
  long pid = syscall(SYS_clone3, &args, sizeof args);
  CHECK(pid);
  if (pid == 0) container();
  int status;
  CHECK(waitpid((pid_t)pid, &status, 0));
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    fprintf(stderr, "floor: the command ended with wait status %d\n", status);
    exit(1);
  }
  if (cgroup_parent) {
    close(cgroup);
    while (rmdir(group) < 0)
      if (errno != EBUSY) die("rmdir cgroup");
  }
  rmdir(inner);
  CHECK(rmdir(work));
  CHECK(rmdir(upper));
  CHECK(rmdir(merged));
}

static void read_filter(const char *path) {
  struct stat st;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &st) < 0) die(path);
  filter.filter = malloc((size_t)st.st_size);
  if (!filter.filter || read(fd, filter.filter, (size_t)st.st_size) != st.st_size) die(path);
  filter.len = (unsigned short)((size_t)st.st_size / sizeof(struct sock_filter));
  close(fd);
}

int main(int argc, char **argv) {
  int runs = 1, option;
  while ((option = getopt(argc, argv, "+n:s:c:l:d:w:")) != -1) switch (option) {
      case 'n': runs = atoi(optarg); break;
      case 's': read_filter(optarg); break;
      case 'c': cgroup_parent = optarg; break;
      case 'l': layers = optarg; break;
      case 'd': lowers = optarg; break;
      case 'w': workdir = optarg; break;
      default: return 2;
    }
  command = argv + optind;
  if (!layers || !lowers || !workdir || !*command) {
    fprintf(stderr, "floor: -l, -d, -w and a command are needed\n");
    return 2;
  }
  for (int i = 0; i < runs; i++) {
    uint64_t start = now();
    run_once(i);
    printf("%llu\n", (unsigned long long)(now() - start));
  }
  return 0;
}
