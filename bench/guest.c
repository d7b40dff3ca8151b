/* The first process of a virtual machine (bench/vm.py): says that user space runs, and becomes
 * redis-server where it is told to.
 *
 *   init [redis]
 */
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MARK "!FB!"
#define ATTEMPTS 2000 /* a millisecond each: a driver finds its device a moment after it is loaded */

static void say(const char *what) { (void)!write(1, what, strlen(what)); }

static void load_modules(void) {
    char path[32];
    for (int number = 0;; number++) {
        snprintf(path, sizeof path, "/modules/%02d.ko", number);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return;
        if (syscall(SYS_finit_module, fd, "", 0) < 0)
            say("a module cannot be loaded\n");
        close(fd);
    }
}

static int set_address(int s, int request, const char *name, const char *address) {
    struct ifreq change = {0};
    struct sockaddr_in *to = (struct sockaddr_in *)&change.ifr_addr;
    strcpy(change.ifr_name, name);
    to->sin_family = AF_INET;
    inet_pton(AF_INET, address, &to->sin_addr);
    return ioctl(s, request, &change);
}

static void set_up(int s, const char *name) {
    struct ifreq change = {0};
    strcpy(change.ifr_name, name);
    change.ifr_flags = IFF_UP;
    ioctl(s, SIOCSIFFLAGS, &change);
}

/* What qemu's user-mode network gives its first guest. */
static void configure_network(void) {
    struct timespec pause = {0, 1000000};
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    set_up(s, "lo");
    for (int left = ATTEMPTS; left > 0; left--) {
        if (set_address(s, SIOCSIFADDR, "eth0", "10.0.2.15") == 0) {
            set_address(s, SIOCSIFNETMASK, "eth0", "255.255.255.0");
            set_up(s, "eth0");
            close(s);
            return;
        }
        nanosleep(&pause, NULL);
    }
    say("there is no eth0\n");
}

int main(int argc, char **argv) {
    char *redis[] = {"/usr/bin/redis-server", "--protected-mode", "no", "--save", "", NULL};
    char *env[] = {"PATH=/usr/bin", NULL};
    say(MARK);
    if (argc > 1 && strcmp(argv[1], "redis") == 0) {
        load_modules();
        configure_network();
        execve(redis[0], redis, env);
        say("redis-server cannot be started\n");
    }
    for (;;)
        pause();
}
