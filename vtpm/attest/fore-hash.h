/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * One digest algorithm, fetched once, for many small messages: a lookup by name for each of a
 * million log entries would cost more than the hashing.
 */
#include <glib.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    EVP_MD *md;
    EVP_MD_CTX *ctx;
    size_t size; /* bytes of a digest; at most 64 */
} ForeHash;

/** fore_hash_init: @alg: TPM_ALG_ID; false when it is not SHA-1, SHA-2 or SM3, or not built in */
bool fore_hash_init(ForeHash *hash, uint16_t alg);
void fore_hash_done(ForeHash *hash);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ForeHash, fore_hash_done)

/** fore_hash_of: digest of @a then @b (@b may be NULL with size 0).  @ret: [@hash->size] */
void fore_hash_of(ForeHash *hash, const void *a, size_t a_size, const void *b, size_t b_size,
                  uint8_t *ret);
/** fore_hash_extend: @pcr = H(@pcr || @digest), both of @hash->size bytes */
void fore_hash_extend(ForeHash *hash, uint8_t *pcr, const uint8_t *digest);

/** fore_hash_digest_size: bytes of a TPM_ALG_ID's digest (TPM 2.0 Part 2, 6.3); 0: unknown */
size_t fore_hash_digest_size(uint16_t alg);
