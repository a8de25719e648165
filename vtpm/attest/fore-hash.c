/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/attest/fore-hash.h"

#include <openssl/err.h>

#include "vtpm/attest/fore-public.h"

static const struct {
    uint16_t alg, size;
    const char *name;
} algs[] = {
    {FORE_ALG_SHA1, 20, "SHA1"},
    {FORE_ALG_SHA256, 32, "SHA2-256"},
    {FORE_ALG_SHA384, 48, "SHA2-384"},
    {FORE_ALG_SHA512, 64, "SHA2-512"},
    {0x0012, 32, "SM3"},
};

size_t fore_hash_digest_size(uint16_t alg)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(algs); i++) {
        if (algs[i].alg == alg) {
            return algs[i].size;
        }
    }
    return 0;
}

bool fore_hash_init(ForeHash *hash, uint16_t alg)
{
    *hash = (ForeHash){.size = fore_hash_digest_size(alg)};
    for (unsigned i = 0; i < G_N_ELEMENTS(algs); i++) {
        if (algs[i].alg == alg) {
            hash->md = EVP_MD_fetch(NULL, algs[i].name, NULL);
        }
    }
    hash->ctx = hash->md != NULL ? EVP_MD_CTX_new() : NULL;
    if (hash->ctx == NULL || EVP_DigestInit_ex2(hash->ctx, hash->md, NULL) != 1) {
        ERR_clear_error();
        fore_hash_done(hash);
        return false;
    }
    return true;
}

void fore_hash_done(ForeHash *hash)
{
    EVP_MD_CTX_free(hash->ctx);
    EVP_MD_free(hash->md);
    *hash = (ForeHash){0};
}

void fore_hash_of(ForeHash *hash, const void *a, size_t a_size, const void *b, size_t b_size,
                  uint8_t *ret)
{
    bool good = EVP_DigestInit_ex2(hash->ctx, hash->md, NULL) == 1 &&
                EVP_DigestUpdate(hash->ctx, a, a_size) == 1 &&
                (b_size == 0 || EVP_DigestUpdate(hash->ctx, b, b_size) == 1) &&
                EVP_DigestFinal_ex(hash->ctx, ret, NULL) == 1;

    g_assert(good); /* a fetched digest over memory does not fail */
}

void fore_hash_extend(ForeHash *hash, uint8_t *pcr, const uint8_t *digest)
{
    fore_hash_of(hash, pcr, hash->size, digest, hash->size, pcr);
}
