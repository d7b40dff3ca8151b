/* sha256 through libcrypto, which uses the CPU's instructions for it. */
#ifndef FASTBOX_TAR_HASH_H
#define FASTBOX_TAR_HASH_H

#include <stddef.h>

struct hash {
  void *context;
};

int hash_init(struct hash *hash); /* 0, or -1 when libcrypto refuses */
int hash_update(struct hash *hash, const void *data, size_t length);
int hash_hex(struct hash *hash, char hex[65]);
void hash_free(struct hash *hash);

#endif
