/* Slots of fixed tables. Those that were used before are taken first, so that a table has no more
 * pages in memory than it ever had things at a time. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "net.h"

void *net_table(size_t size) {
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) _exit(125);
  return memory;
}

static void unlink_slot(struct net_slot *slot) {
  slot->prev->next = slot->next;
  slot->next->prev = slot->prev;
}

static void append(struct net_slot *head, struct net_slot *slot) {
  slot->prev = head->prev;
  slot->next = head;
  head->prev->next = slot;
  head->prev = slot;
}

void net_pool_open(struct net_pool *pool, size_t size, unsigned limit) {
  memset(pool, 0, sizeof *pool);
  pool->size = (size + 15) & ~(size_t)15;
  pool->limit = limit;
  pool->slots = net_table(pool->size * limit);
  pool->live.prev = pool->live.next = &pool->live;
  pool->free.prev = pool->free.next = &pool->free;
}

void *net_pool_take(struct net_pool *pool, int64_t deadline) {
  static uint32_t generation;
  struct net_slot *slot = pool->free.prev; /* the last one given back: its pages are warm */
  if (slot != &pool->free)
    unlink_slot(slot);
  else if (pool->touched < pool->limit)
    slot = (struct net_slot *)(pool->slots + pool->size * pool->touched++);
  else
    return NULL;
  if (++generation == 0) generation = 1;
  slot->generation = generation;
  slot->deadline = deadline;
  append(&pool->live, slot);
  pool->live_count++;
  return slot;
}

void net_pool_give(struct net_pool *pool, void *given) {
  struct net_slot *slot = given;
  unlink_slot(slot);
  slot->generation = 0;
  append(&pool->free, slot);
  pool->live_count--;
}

void net_pool_touch(struct net_pool *pool, void *touched, int64_t deadline) {
  struct net_slot *slot = touched;
  unlink_slot(slot);
  slot->deadline = deadline;
  append(&pool->live, slot);
}

void *net_pool_oldest(struct net_pool *pool) {
  return pool->live.next == &pool->live ? NULL : pool->live.next;
}

void *net_pool_at(struct net_pool *pool, unsigned index, uint32_t generation) {
  if (index >= pool->touched) return NULL;
  struct net_slot *slot = (struct net_slot *)(pool->slots + pool->size * index);
  return slot->generation == generation ? slot : NULL;
}

unsigned net_pool_index(const struct net_pool *pool, const void *slot) {
  return (unsigned)((size_t)((const char *)slot - pool->slots) / pool->size);
}
