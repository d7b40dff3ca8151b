/* The last step of a start: replaces itself with the container's command, in the container and with
 * nothing but the container's own rights. It is there so that /proc/self/exe is this sealed copy, and
 * not Python, while the kernel looks up the command and its interpreters (CVE-2019-5736).
 *
 * fds: 0-2 the command's streams, 3 errors. argv: 0 "fastbox-exec", then the command. */
#include <errno.h>
#include <fcntl.h>

#include "../launch/plan.h"
#include "monitor.h"

#define FD_ERROR 3

int exec_main(int argc, char **argv, char **envp) {
  struct fb_error error = {FB_STEP_EXEC, -1, EINVAL, 0};
  if (argc > 1 && fcntl(FD_ERROR, F_SETFD, FD_CLOEXEC) == 0) fb_exec(argv + 1, envp, &error);
  fb_report(FD_ERROR, &error);
}
