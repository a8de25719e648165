/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/lib/fore-test-key.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

#include "common/fore-bytes.h"

void fore_test_key_init(ForeTestKey *key, const char *what, uint16_t scheme, uint16_t hash)
{
    *key = (ForeTestKey){
        .scheme = scheme,
        .hash = hash,
        .name_alg = FORE_ALG_SHA256,
        .attributes = FORE_TEST_AK_ATTRIBUTES,
    };
    key->pkey = g_str_has_prefix(what, "RSA-")
                    ? EVP_RSA_gen((unsigned)g_ascii_strtoull(what + 4, NULL, 10))
                    : EVP_EC_gen(what);
    g_assert_nonnull(key->pkey);
}

void fore_test_key_done(ForeTestKey *key)
{
    EVP_PKEY_free(key->pkey);
    key->pkey = NULL;
}

static void put_sized(GByteArray *out, const void *data, gsize n)
{
    fore_put_be16(out, (uint16_t)n);
    g_byte_array_append(out, data, (guint)n);
}

static void put_rsa(GByteArray *out, const ForeTestKey *key)
{
    BIGNUM *n = NULL, *e = NULL;
    uint8_t bytes[1024];
    int size;

    g_assert_cmpint(EVP_PKEY_get_bn_param(key->pkey, OSSL_PKEY_PARAM_RSA_N, &n), ==, 1);
    g_assert_cmpint(EVP_PKEY_get_bn_param(key->pkey, OSSL_PKEY_PARAM_RSA_E, &e), ==, 1);
    size = BN_bn2bin(n, bytes);
    fore_put_be16(out, (uint16_t)BN_num_bits(n));
    fore_put_be32(out, (uint32_t)BN_get_word(e));
    put_sized(out, bytes, (gsize)size);
    BN_free(n);
    BN_free(e);
}

static uint16_t curve_of(size_t coord)
{
    return coord == 28 ? 2 : coord == 32 ? FORE_CURVE_P256 : coord == 48 ? FORE_CURVE_P384 : 5;
}

static void put_ecc(GByteArray *out, const ForeTestKey *key)
{
    uint8_t point[200];
    size_t size = 0, coord;

    g_assert_cmpint(EVP_PKEY_get_octet_string_param(key->pkey, OSSL_PKEY_PARAM_PUB_KEY, point,
                                                    sizeof(point), &size),
                    ==, 1);
    coord = (size - 1) / 2;
    fore_put_be16(out, curve_of(coord));
    fore_put_be16(out, FORE_ALG_NULL); /* kdf */
    put_sized(out, point + 1, coord);
    put_sized(out, point + 1 + coord, coord);
}

static GBytes *wrap(GByteArray *area)
{
    GByteArray *out = g_byte_array_new();

    put_sized(out, area->data, area->len);
    g_byte_array_unref(area);
    return g_byte_array_free_to_bytes(out);
}

GBytes *fore_test_key_public(const ForeTestKey *key)
{
    GByteArray *area = g_byte_array_new();
    bool rsa = EVP_PKEY_is_a(key->pkey, "RSA");

    fore_put_be16(area, rsa ? FORE_ALG_RSA : FORE_ALG_ECC);
    fore_put_be16(area, key->name_alg);
    fore_put_be32(area, key->attributes);
    fore_put_be16(area, 0);             /* authPolicy */
    fore_put_be16(area, FORE_ALG_NULL); /* symmetric */
    fore_put_be16(area, key->scheme);
    if (key->scheme != FORE_ALG_NULL) {
        fore_put_be16(area, key->hash);
    }
    if (rsa) {
        put_rsa(area, key);
    } else {
        put_ecc(area, key);
    }
    return wrap(area);
}

GBytes *fore_test_key_ek_public(const ForeTestKey *key)
{
    static const uint8_t policy_a[32] = {0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8,
                                         0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
                                         0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64,
                                         0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa};
    GByteArray *area = g_byte_array_new();
    bool rsa = EVP_PKEY_is_a(key->pkey, "RSA");

    fore_put_be16(area, rsa ? FORE_ALG_RSA : FORE_ALG_ECC);
    fore_put_be16(area, FORE_ALG_SHA256);
    fore_put_be32(area, FORE_TEST_EK_ATTRIBUTES);
    put_sized(area, policy_a, sizeof(policy_a));
    fore_put_be16(area, FORE_ALG_AES);
    fore_put_be16(area, 128);
    fore_put_be16(area, FORE_ALG_CFB);
    fore_put_be16(area, FORE_ALG_NULL);
    if (rsa) {
        put_rsa(area, key);
    } else {
        put_ecc(area, key);
    }
    return wrap(area);
}

static const EVP_MD *md_of(uint16_t hash)
{
    return hash == FORE_ALG_SHA1 ? EVP_sha1() : fore_public_md(hash);
}

GBytes *fore_test_key_sign(const ForeTestKey *key, GBytes *text)
{
    GByteArray *out = g_byte_array_new();
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx = NULL;
    uint8_t bytes[1024];
    size_t n = sizeof(bytes);

    g_assert_cmpint(EVP_DigestSignInit(ctx, &pctx, md_of(key->hash), NULL, key->pkey), ==, 1);
    if (key->scheme == FORE_ALG_RSAPSS) {
        EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING);
    }
    g_assert_cmpint(
        EVP_DigestSign(ctx, bytes, &n, g_bytes_get_data(text, NULL), g_bytes_get_size(text)), ==,
        1);
    fore_put_be16(out, key->scheme);
    fore_put_be16(out, key->hash);
    if (EVP_PKEY_is_a(key->pkey, "RSA")) {
        put_sized(out, bytes, n);
    } else {
        const uint8_t *at = bytes;
        ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long)n);
        int coord = (EVP_PKEY_get_bits(key->pkey) + 7) / 8;
        uint8_t v[66];

        BN_bn2binpad(ECDSA_SIG_get0_r(sig), v, coord);
        put_sized(out, v, (gsize)coord);
        BN_bn2binpad(ECDSA_SIG_get0_s(sig), v, coord);
        put_sized(out, v, (gsize)coord);
        ECDSA_SIG_free(sig);
    }
    EVP_MD_CTX_free(ctx);
    return g_byte_array_free_to_bytes(out);
}

GBytes *fore_test_replace(GBytes *bytes, gsize at, const void *data, gsize n)
{
    gsize size = 0;
    const void *from = g_bytes_get_data(bytes, &size);
    uint8_t *copy = g_memdup2(from, size);

    g_assert_cmpuint(at + n, <=, size);
    memcpy(copy + at, data, n);
    return g_bytes_new_take(copy, size);
}

GBytes *fore_test_vector(const char *name)
{
    const char *shared = g_getenv("FORE_SHARED");
    g_autofree char *root = shared != NULL ? g_strdup(shared) : g_strdup(FORE_TEST_SHARED);
    g_autofree char *path = g_build_filename(root, "vectors", name, NULL);
    char *text = NULL;
    gsize size = 0;

    if (!g_file_get_contents(path, &text, &size, NULL)) {
        g_autofree char *why =
            g_strdup_printf("shared vector %s is missing (set FORE_SHARED)", name);
        g_test_skip(why);
        return NULL;
    }
    return g_bytes_new_take(text, size);
}
