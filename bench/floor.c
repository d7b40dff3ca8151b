/* What a container costs on this kernel when nothing but the system calls is paid for: new
 * namespaces, an overlay root, Docker's default mounts, devices, masks, capabilities and cgroup
 * (with its device program), exec, wait, and all of it removed. Bare C, no library, no decisions:
 * the measure that an engine is held against. Prints two numbers of nanoseconds for each run, one
 * run per line: from nothing to the instant of exec, and the whole life.
 *
 *   floor [-n RUNS] [-s FILTER] [-c CGROUP_PARENT] [-b BRIDGE] -l LAYERS_DIR -d LOWER[:LOWER…] \
 *         -w WORKDIR COMMAND [ARG…]
 *
 * FILTER is a file of struct sock_filter. The names of the lower directories are relative to
 * LAYERS_DIR, top first. CGROUP_PARENT is a directory of the cgroup v2 hierarchy. With BRIDGE, each
 * container gets a veth pair whose other end is a port of it, an address and a default route.
 */
#include "common.h"

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/keyctl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/veth.h>
#include <net/if.h>
#include <net/route.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

static const char *layers, *lowers, *workdir, *cgroup_parent, *bridge;
static char **command;

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

/* ---- the network, with -b ---------------------------------------------------------------- */

struct message {
  struct nlmsghdr head;
  struct ifinfomsg link;
  char attributes[256];
};

static struct rtattr *put(struct message *m, int type, const void *data, size_t size) {
  struct rtattr *a = (struct rtattr *)((char *)m + NLMSG_ALIGN(m->head.nlmsg_len));
  a->rta_type = (unsigned short)type;
  a->rta_len = (unsigned short)RTA_LENGTH(size);
  if (size) memcpy(RTA_DATA(a), data, size);
  m->head.nlmsg_len = NLMSG_ALIGN(m->head.nlmsg_len) + RTA_ALIGN(a->rta_len);
  return a;
}

static void end(struct message *m, struct rtattr *a) {
  a->rta_len = (unsigned short)((char *)m + m->head.nlmsg_len - (char *)a);
}

/* A veth pair in one message: one end a port of the bridge and up, the other is eth0 of the
 * container. It goes when the container's network namespace does. */
static void make_veth(pid_t pid, int number) {
  struct message m = {.head = {.nlmsg_len = NLMSG_LENGTH(sizeof m.link),
                               .nlmsg_type = RTM_NEWLINK,
                               .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK},
                      .link = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP}};
  struct ifinfomsg other = {0};
  struct { struct nlmsghdr head; int error; char rest[600]; } reply;
  unsigned master = if_nametoindex(bridge), namespace = (unsigned)pid;
  char name[IFNAMSIZ];
  snprintf(name, sizeof name, "fl%x-%x", (unsigned)getpid() & 0xffffff, (unsigned)number & 0xfff);
  if (!master) die(bridge);
  put(&m, IFLA_IFNAME, name, strlen(name) + 1);
  put(&m, IFLA_MASTER, &master, sizeof master);
  struct rtattr *info = put(&m, IFLA_LINKINFO, NULL, 0);
  put(&m, IFLA_INFO_KIND, "veth", 4);
  struct rtattr *data = put(&m, IFLA_INFO_DATA, NULL, 0);
  struct rtattr *peer = put(&m, VETH_INFO_PEER, &other, sizeof other);
  put(&m, IFLA_IFNAME, "eth0", 5);
  put(&m, IFLA_NET_NS_PID, &namespace, sizeof namespace);
  end(&m, peer);
  end(&m, data);
  end(&m, info);
  int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  CHECK(s);
  CHECK(send(s, &m, m.head.nlmsg_len, 0));
  CHECK(recv(s, &reply, sizeof reply, 0));
  if (reply.error) {
    errno = -reply.error;
    die("veth");
  }
  close(s);
}

static struct sockaddr address(const char *text) {
  struct sockaddr_in in = {.sin_family = AF_INET};
  struct sockaddr out;
  inet_pton(AF_INET, text, &in.sin_addr);
  memcpy(&out, &in, sizeof out);
  return out;
}

static void eth0_up(int number) {
  struct ifreq request = {0};
  struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
  char own[INET_ADDRSTRLEN];
  snprintf(own, sizeof own, "10.254.%d.2", number & 0xff);
  int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  CHECK(s);
  strcpy(request.ifr_name, "eth0");
  request.ifr_addr = address(own);
  CHECK(ioctl(s, SIOCSIFADDR, &request));
  request.ifr_netmask = address("255.255.0.0");
  CHECK(ioctl(s, SIOCSIFNETMASK, &request));
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  CHECK(ioctl(s, SIOCSIFFLAGS, &request));
  route.rt_gateway = address("10.254.0.1");
  route.rt_dst = route.rt_genmask = address("0.0.0.0");
  CHECK(ioctl(s, SIOCADDRT, &route));
  close(s);
}

static void write_sysctl(const char *path, const char *value) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  CHECK(fd);
  CHECK(write(fd, value, strlen(value)));
  close(fd);
}

/* linked: end of a pipe that is closed when the veth is there, or -1. */
static void container(int linked, int number) {
  char none;
  mount_root();
  write_sysctl("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
  write_sysctl("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
  mask_paths();
  loopback_up();
  if (linked >= 0) {
    CHECK(read(linked, &none, 1));
    eth0_up(number);
  }
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

/* Wait until a pipe's other end is closed; in a child's hands that is its exec. */
static void wait_closed(int fd) {
  char none;
  CHECK(read(fd, &none, 1));
  close(fd);
}

/* Returns the nanoseconds until exec. */
static uint64_t run_once(int number) {
  uint64_t start = now(), executed;
  int alive[2], linked[2] = {-1, -1};
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
  CHECK(pipe2(alive, O_CLOEXEC));
  if (bridge) CHECK(pipe2(linked, O_CLOEXEC));
  long pid = syscall(SYS_clone3, &args, sizeof args);
  CHECK(pid);
  if (pid == 0) {
    close(linked[1]);
    container(linked[0], number);
  }
  if (bridge) {
    make_veth((pid_t)pid, number);
    close(linked[0]);
    close(linked[1]);
  }
  close(alive[1]);
  wait_closed(alive[0]);
  executed = now() - start;
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
  return executed;
}

int main(int argc, char **argv) {
  int runs = 1, option;
  while ((option = getopt(argc, argv, "+n:s:c:b:l:d:w:")) != -1) switch (option) {
      case 'n': runs = atoi(optarg); break;
      case 's': read_filter(optarg); break;
      case 'c': cgroup_parent = optarg; break;
      case 'b': bridge = optarg; break;
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
    uint64_t executed = run_once(i);
    printf("%llu %llu\n", (unsigned long long)executed, (unsigned long long)(now() - start));
  }
  return 0;
}
