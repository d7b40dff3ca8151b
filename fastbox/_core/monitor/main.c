/* fastbox-monitor, -init, -idle, -exec, -enter, -serve, -wait, -net: see monitor.h. */
#include <string.h>
#include <unistd.h>

#include "monitor.h"

int main(int argc, char **argv, char **envp) {
  const char *name = argc > 0 ? argv[0] : "";
  const char *slash = strrchr(name, '/');
  if (slash) name = slash + 1;
  if (strcmp(name, "fastbox-exec") == 0) return exec_main(argc, argv, envp);
  if (strcmp(name, "fastbox-init") == 0) return init_main(argc, argv, envp);
  if (strcmp(name, "fastbox-idle") == 0) return idle_main(argc, argv, envp);
  if (strcmp(name, "fastbox-serve") == 0) return serve_main(argc, argv, envp);
  if (strcmp(name, "fastbox-wait") == 0) return wait_main(argc, argv, envp);
  if (strcmp(name, "fastbox-enter") == 0) return enter_main(argc, argv, envp);
  if (strcmp(name, "fastbox-net") == 0) return net_main(argc, argv, envp);
  if (strcmp(name, "fastbox-monitor") == 0 && argc > 1) return monitor_main(argc, argv, envp);
  static const char text[] = "fastbox-monitor: started by fastbox, not by hand\n";
  return write(2, text, sizeof text - 1) < 0 ? 125 : 125;
}
