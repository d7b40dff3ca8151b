/* Checking a plan and resolving its offsets to pointers, before any clone. */
#include "plan.h"
#include "sys.h"

static int range_ok(const struct fb_plan *plan, uint32_t offset, uint64_t count, size_t item) {
  return offset % 4 == 0 && count <= plan->size / item && offset <= plan->size - count * item;
}

static int string_ok(const struct fb_plan *plan, uint32_t offset) {
  return offset == 0 || (offset >= sizeof *plan && offset < plan->size &&
                         memchr((const char *)plan + offset, 0, plan->size - offset) != NULL);
}

static int strings_ok(const struct fb_plan *plan, uint32_t offset, uint32_t count) {
  if (!range_ok(plan, offset, count, 4)) return 0;
  const uint32_t *items = (const uint32_t *)((const char *)plan + offset);
  for (uint32_t i = 0; i < count; i++)
    if (items[i] == 0 || !string_ok(plan, items[i])) return 0;
  return 1;
}

static int plan_ok(const struct fb_plan *plan, size_t length) {
  if (length < sizeof *plan || plan->magic != FB_PLAN_MAGIC || plan->size != length) return 0;
  if (((const char *)plan)[length - 1] != 0) return 0;
  if (plan->ops % 8 || !range_ok(plan, plan->ops, plan->nops, sizeof(struct fb_op))) return 0;
  if (!plan->argc || !strings_ok(plan, plan->argv, plan->argc)) return 0;
  if (!strings_ok(plan, plan->envp, plan->envc)) return 0;
  if (!string_ok(plan, plan->cwd) || !string_ok(plan, plan->user_name)) return 0;
  if (!string_ok(plan, plan->group_name) || plan->nslots > FB_MAX_SLOTS) return 0;
  if (plan->ngroups > FB_MAX_GROUPS ||
      !range_ok(plan, plan->groups, plan->ngroups, sizeof(struct fb_group)))
    return 0;
  if (plan->seccomp % 8 || plan->seccomp_count > 0xffff ||
      !range_ok(plan, plan->seccomp, plan->seccomp_count, 8))
    return 0;
  const struct fb_group *groups = (const struct fb_group *)((const char *)plan + plan->groups);
  for (uint32_t i = 0; i < plan->ngroups; i++)
    if (!string_ok(plan, groups[i].name)) return 0;
  const struct fb_op *ops = (const struct fb_op *)((const char *)plan + plan->ops);
  for (uint32_t i = 0; i < plan->nops; i++) {
    const struct fb_op *op = &ops[i];
    if (!string_ok(plan, op->a) || !string_ok(plan, op->b) || !string_ok(plan, op->c)) return 0;
    if (op->kind == FB_OP_NETLINK &&
        (op->y < sizeof *plan || op->z > plan->size || op->y > plan->size - op->z))
      return 0;
    if ((op->kind == FB_OP_TREE || op->kind == FB_OP_ATTACH) && op->slot >= plan->nslots) return 0;
  }
  return 1;
}

size_t fb_context_size(const void *buffer, size_t length) {
  const struct fb_plan *plan = buffer;
  if (length < sizeof *plan) return 0;
  if (plan->argc > length || plan->envc > length || plan->nslots > FB_MAX_SLOTS) return 0;
  return ((size_t)plan->argc + plan->envc + 4) * sizeof(char *) + plan->nslots * sizeof(int);
}

int fb_context_init(struct fb_context *context, const void *buffer, size_t length, void *memory) {
  const struct fb_plan *plan = buffer;
  if (!plan_ok(plan, length)) {
    errno = EINVAL;
    return -1;
  }
  char **pointers = memory;
  memset(context, 0, sizeof *context);
  context->plan = plan;
  context->ops = (const struct fb_op *)((const char *)plan + plan->ops);
  context->argv = pointers;
  const uint32_t *argv = (const uint32_t *)((const char *)plan + plan->argv);
  for (uint32_t i = 0; i < plan->argc; i++) *pointers++ = (char *)fb_string(plan, argv[i]);
  *pointers++ = NULL;
  context->envp = pointers;
  context->envc = plan->envc;
  const uint32_t *envp = (const uint32_t *)((const char *)plan + plan->envp);
  for (uint32_t i = 0; i < plan->envc; i++) *pointers++ = (char *)fb_string(plan, envp[i]);
  *pointers++ = NULL;
  *pointers++ = NULL;
  context->slots = (int *)pointers;
  for (uint32_t i = 0; i < plan->nslots; i++) context->slots[i] = -1;
  context->stdio[0] = context->stdio[1] = context->stdio[2] = -1;
  context->helper_fd = context->error_fd = context->mask_fd = -1;
  context->console_fd = context->names_fd = context->wait_fd = -1;
  return 0;
}
