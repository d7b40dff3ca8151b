/* The native helper: one static binary with eight modes, chosen by argv[0]. */
#ifndef FASTBOX_MONITOR_H
#define FASTBOX_MONITOR_H

#include <stdint.h>
#include <sys/types.h>

int monitor_main(int argc, char **argv, char **envp); /* parent of a container's init */
int init_main(int argc, char **argv, char **envp);    /* --init: PID 1 in the container */
int exec_main(int argc, char **argv, char **envp);    /* the last step before the command */
int wait_main(int argc, char **argv, char **envp);    /* PID 1 of a prepared container */
int enter_main(int argc, char **argv, char **envp);   /* exec: joins a running container */
int idle_main(int argc, char **argv, char **envp);    /* PID 1 of a box (fastbox/sandbox) */
int serve_main(int argc, char **argv, char **envp);   /* many execs into one box, after another */
int net_main(int argc, char **argv, char **envp);     /* names and published ports (net/net.h) */

/* pass.c: descriptors that were sent over a socket (flags: of recvmsg); -1 where there is none. */
int receive_fd(int socket, int flags);
void receive_fds(int socket, int flags, int *fds, int count); /* up to 2 */

/* waiting.c: the monitor of a prepared container, until it is taken and its command runs. Flags of
 * the taken one replace *flags. Returns 0, or that it is to be thrown away, and init has ended: -1,
 * or -2 if it had been taken. */
int await_take(const char **flags);
/* Tell the one who took it how it went; errno of what failed, or 0. */
void answer_take(int failed);

/* record.c: small files written whole, and what they say. */
/* What state.json says of processes, looked up ahead of record_state; else that does it itself. */
void look_up_state(pid_t pid);
/* Returns 0, or -1 with errno: nobody could find the container. */
int record_state(int directory, const char *run, pid_t pid);
/* Take the room that the exit record will need, while the disk still has some. */
void reserve_exit(int directory);
struct exit_record {
  int code, signal, oom;
  uint64_t dropped;
  int client_error; /* errno of a write to the attached client, 0: none */
};
/* The record as JSON, with the time of the call; returns its length. */
int format_exit(char *text, size_t size, const char *run, const struct exit_record *record);
/* Writes it to the file `exit` in `directory`. */
void record_exit(int directory, const char *run, const struct exit_record *record);
uint64_t process_start_time(pid_t pid);
/* "2026-01-02T03:04:05.123456789Z" into buffer[32]; returns its length. */
int format_time(char *buffer);

/* What waitpid tells of a child that has made its parent its tracer (PTRACE_TRACEME), which we are not:
 * it has not ended, and goes on untraced. 0: it has ended. */
int is_traced(pid_t pid, int status);

#endif
