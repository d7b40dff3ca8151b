/* Two files or directories that swap their places. */
#ifndef FASTBOX_TREE_EXCHANGE_H
#define FASTBOX_TREE_EXCHANGE_H

/* renameat2(2) with RENAME_EXCHANGE: one step, so whoever looks finds both. Returns 0 or -1 with
 * errno. */
int fb_exchange(const char *one, const char *other);

#endif
