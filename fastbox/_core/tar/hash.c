#include "hash.h"

#include <openssl/evp.h>

int hash_init(struct hash *hash) {
  hash->context = EVP_MD_CTX_new();
  if (!hash->context) return -1;
  return EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL) == 1 ? 0 : -1;
}

int hash_update(struct hash *hash, const void *data, size_t length) {
  return EVP_DigestUpdate(hash->context, data, length) == 1 ? 0 : -1;
}

int hash_hex(struct hash *hash, char hex[65]) {
  static const char digits[] = "0123456789abcdef";
  unsigned char raw[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  if (EVP_DigestFinal_ex(hash->context, raw, &length) != 1 || length != 32) return -1;
  for (int i = 0; i < 32; i++) {
    hex[2 * i] = digits[raw[i] >> 4];
    hex[2 * i + 1] = digits[raw[i] & 15];
  }
  hex[64] = 0;
  return 0;
}

void hash_free(struct hash *hash) {
  EVP_MD_CTX_free(hash->context);
  hash->context = NULL;
}
