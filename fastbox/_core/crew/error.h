/* What ended a job: what the Cython wrappers see of a crew. */
#ifndef FASTBOX_CREW_ERROR_H
#define FASTBOX_CREW_ERROR_H

#include <limits.h>

struct fb_error {
  int step;             /* 0: there is none. The numbers are the job's own. */
  int err;              /* errno, or 0 */
  const char *why;      /* static text, or NULL */
  char entry[PATH_MAX]; /* name of the entry it was about, or ""; cut where it is longer */
};

#endif
