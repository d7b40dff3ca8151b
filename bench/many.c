/* So many copies of a command at a time, for a while: how many ended well, and in how long. In C,
 * since an interpreter that starts processes would be what is measured.
 *
 *   many -j AT_ONCE -t MILLISECONDS COMMAND [ARG...]
 *
 * A "{}" in an argument becomes a number that no other copy has, a "{s}" one below AT_ONCE that no
 * other copy has that runs at the same time (one of them in an argument, once). No copy is started
 * when the time is over; those that run are waited for, and count. Prints their number and the
 * nanoseconds from the first start to the last end. The first copy that fails ends it: what that
 * wrote to standard error is there, and the status is 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { MOST_ARGUMENTS = 256, LONGEST_ARGUMENT = 4096, MOST_AT_ONCE = 1024 };

static posix_spawn_file_actions_t actions;
static pid_t running[MOST_AT_ONCE]; /* by slot; 0: free */

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* Replace the first "{}" or "{s}"; what has none is used as it is. */
static char *numbered(char *word, int number, int slot, char *room) {
    char *unique = strstr(word, "{}"), *shared = strstr(word, "{s}");
    char *place = unique ? unique : shared;
    if (!place)
        return word;
    snprintf(room, LONGEST_ARGUMENT, "%.*s%d%s", (int)(place - word), word, unique ? number : slot,
             place + (unique ? 2 : 3));
    return room;
}

static void start(char **command, int number, int slot) {
    static char rooms[MOST_ARGUMENTS][LONGEST_ARGUMENT];
    char *words[MOST_ARGUMENTS + 1];
    int count = 0;
    for (; command[count] && count < MOST_ARGUMENTS; count++)
        words[count] = numbered(command[count], number, slot, rooms[count]);
    words[count] = NULL;
    errno = posix_spawnp(&running[slot], words[0], &actions, NULL, words, environ);
    if (errno)
        die(words[0]);
}

/* Wait for a copy; the slot that it had. */
static int expect_success(void) {
    int status, slot = 0;
    pid_t pid;
    do
        pid = wait(&status);
    while (pid < 0 && errno == EINTR);
    if (pid < 0)
        die("wait");
    if (status) {
        fprintf(stderr, "a copy ended with %s %d\n", WIFSIGNALED(status) ? "signal" : "status",
                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        exit(1);
    }
    while (running[slot] != pid)
        slot++;
    running[slot] = 0;
    return slot;
}

int main(int argc, char **argv) {
    int at_once = 1, option, started = 0, ended = 0;
    int64_t milliseconds = 1000, begin;
    while ((option = getopt(argc, argv, "+j:t:")) != -1) {
        if (option == 'j')
            at_once = atoi(optarg);
        else if (option == 't')
            milliseconds = atoll(optarg);
        else
            return 2;
    }
    if (optind == argc || at_once < 1 || at_once > MOST_AT_ONCE) {
        fputs("many -j AT_ONCE -t MILLISECONDS COMMAND [ARG...]\n", stderr);
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    begin = now();
    for (; started < at_once; started++)
        start(argv + optind, started, started);
    while (ended < started) {
        int slot = expect_success();
        ended++;
        if (now() - begin < milliseconds * 1000000)
            start(argv + optind, started++, slot);
    }
    printf("%d %lld\n", ended, (long long)(now() - begin));
    return 0;
}
