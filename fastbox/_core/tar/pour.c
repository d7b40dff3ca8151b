/* Decompressing without unpacking: the writer's part when the archive is to go on as it is. */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "job.h"

/* A pipe whose reader takes its time must not keep the job from ending. */
static int wait_writable(struct fb_job *job) {
  if (crew_poll(&job->crew, job->options.out, POLLOUT) < 0)
    return job_fail(job, FB_STEP_WRITE, errno, NULL, NULL);
  return job_stopped(job) ? -1 : 0;
}

static int pour(struct fb_job *job, const uint8_t *data, size_t length) {
  while (length) {
    if (wait_writable(job) < 0) return -1;
    ssize_t n = write(job->options.out, data, length);
    if (n < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      return job_fail(job, FB_STEP_WRITE, errno, NULL, NULL);
    }
    data += n;
    length -= (size_t)n;
  }
  return 0;
}

void pour_run(struct fb_job *job) {
  size_t length;
  const uint8_t *chunk = ring_next(&job->ring, FB_READER_WRITE, &length, 1);
  while (chunk && pour(job, chunk, length) == 0)
    chunk = ring_next(&job->ring, FB_READER_WRITE, &length, 0);
}
