/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Layout, Part 2: TPM2B_PUBLIC is size || TPMT_PUBLIC; TPMT_PUBLIC (12.2.4) is type, nameAlg,
 * objectAttributes, authPolicy, parameters (12.2.3.5 RSA, 12.2.3.6 ECC), unique.  The name (Part 1,
 * 16) is nameAlg || H(TPMT_PUBLIC), so it is computed over the very bytes that were parsed.
 */
#include "vtpm/attest/fore-public.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <string.h>

#include "common/fore-bytes.h"

#define MAX_RSA_BITS 4096

static const char *const names[] = {
    [FORE_PUBLIC_OK] = "ok",
    [FORE_PUBLIC_MALFORMED] = "key-malformed",
    [FORE_PUBLIC_NAME_ALG] = "key-name-algorithm",
    [FORE_PUBLIC_WEAK] = "key-weak",
    [FORE_PUBLIC_INVALID] = "key-invalid",
};
G_STATIC_ASSERT(G_N_ELEMENTS(names) == FORE_PUBLIC_N);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(OSSL_PARAM_BLD, OSSL_PARAM_BLD_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OSSL_PARAM, OSSL_PARAM_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_PKEY_CTX, EVP_PKEY_CTX_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIGNUM, BN_free)

const char *fore_public_reason_name(ForePublicReason reason)
{
    g_assert(reason < FORE_PUBLIC_N);
    return names[reason];
}

const EVP_MD *fore_public_md(uint16_t alg)
{
    switch (alg) {
    case FORE_ALG_SHA256:
        return EVP_sha256();
    case FORE_ALG_SHA384:
        return EVP_sha384();
    case FORE_ALG_SHA512:
        return EVP_sha512();
    default:
        return NULL;
    }
}

static EVP_PKEY *key_from_params(const char *type, OSSL_PARAM_BLD *build)
{
    g_autoptr(OSSL_PARAM) params = OSSL_PARAM_BLD_to_param(build);
    g_autoptr(EVP_PKEY_CTX) ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    EVP_PKEY *key = NULL;

    if (params == NULL || ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1) {
        return NULL;
    }
    return key;
}

/* Powers of 65537 modulo each small prime: a key of the flawed library is one modulo all of them
 * (Nemec et al., The Return of Coppersmith's Attack, 2017, 2.2). */
bool fore_public_is_roca(const uint8_t *modulus, size_t size)
{
    static const uint8_t primes[] = {
        3,  5,  7,  11, 13, 17,  19,  23,  29,  31,  37,  41,  43,  47,  53,  59,  61,  67,  71,
        73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167};

    for (unsigned i = 0; i < G_N_ELEMENTS(primes); i++) {
        unsigned p = primes[i], rest = 0, power = 1;
        bool found = false;

        for (size_t k = 0; k < size; k++) {
            rest = (rest << 8 | modulus[k]) % p;
        }
        for (unsigned k = 0; k < p && !found; k++) {
            found = power == rest;
            power = power * (65537u % p) % p;
        }
        if (!found) {
            return false;
        }
    }
    return true;
}

static ForePublicReason make_rsa(ForePublic *pub, uint32_t exponent, const uint8_t *n, size_t size)
{
    g_autoptr(OSSL_PARAM_BLD) build = OSSL_PARAM_BLD_new();
    g_autoptr(BIGNUM) modulus = NULL, e = NULL;

    if (pub->bits < 2048 || pub->bits > MAX_RSA_BITS || pub->bits % 8 != 0 ||
        (exponent != 0 && exponent != 65537)) { /* 0 stands for 65537: Part 2, 12.2.3.5 */
        return FORE_PUBLIC_WEAK;
    }
    if (size != pub->bits / 8 || (n[0] & 0x80) == 0 || (n[size - 1] & 1) == 0) {
        return FORE_PUBLIC_INVALID;
    }
    if (fore_public_is_roca(n, size)) {
        return FORE_PUBLIC_WEAK;
    }
    modulus = BN_bin2bn(n, (int)size, NULL);
    e = BN_new();
    if (build == NULL || modulus == NULL || e == NULL || BN_set_word(e, 65537) != 1 ||
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, modulus) != 1 ||
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) != 1) {
        return FORE_PUBLIC_INVALID;
    }
    pub->key = key_from_params("RSA", build);
    return pub->key != NULL ? FORE_PUBLIC_OK : FORE_PUBLIC_INVALID;
}

/* OpenSSL checks that both coordinates are below p and that the point is on the curve; the point at
 * infinity has no such encoding. */
static ForePublicReason make_ecc(ForePublic *pub, const uint8_t *x, size_t x_size, const uint8_t *y,
                                 size_t y_size)
{
    g_autoptr(OSSL_PARAM_BLD) build = OSSL_PARAM_BLD_new();
    uint8_t point[1 + 2 * 48] = {4};
    size_t coord = pub->curve == FORE_CURVE_P256 ? 32 : 48;
    const char *group = pub->curve == FORE_CURVE_P256 ? "P-256" : "P-384";

    if (pub->curve != FORE_CURVE_P256 && pub->curve != FORE_CURVE_P384) {
        return FORE_PUBLIC_WEAK;
    }
    /* Part 2, 11.2.5.1: a coordinate has the length of the curve's, zeros included. */
    if (x_size != coord || y_size != coord) {
        return FORE_PUBLIC_INVALID;
    }
    pub->bits = (unsigned)(8 * coord);
    memcpy(point + 1, x, coord);
    memcpy(point + 1 + coord, y, coord);
    if (build == NULL ||
        OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, group, 0) != 1 ||
        OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * coord) !=
            1) {
        return FORE_PUBLIC_INVALID;
    }
    pub->key = key_from_params("EC", build);
    return pub->key != NULL ? FORE_PUBLIC_OK : FORE_PUBLIC_INVALID;
}

/* TPMT_SYM_DEF_OBJECT: AES with its key size and mode, or none */
static bool read_symmetric(ForeCursor *cur, ForePublic *pub)
{
    pub->sym_alg = fore_cursor_be16(cur);
    if (pub->sym_alg == FORE_ALG_NULL) {
        return true;
    }
    pub->sym_bits = fore_cursor_be16(cur);
    pub->sym_mode = fore_cursor_be16(cur);
    return pub->sym_alg == FORE_ALG_AES;
}

/* TPMT_RSA_SCHEME, TPMT_ECC_SCHEME: the ones with nothing but a hash, or none */
static bool read_scheme(ForeCursor *cur, ForePublic *pub)
{
    pub->scheme = fore_cursor_be16(cur);
    if (pub->scheme == FORE_ALG_NULL) {
        return true;
    }
    pub->scheme_hash = fore_cursor_be16(cur);
    return pub->scheme == FORE_ALG_RSASSA || pub->scheme == FORE_ALG_RSAPSS ||
           pub->scheme == FORE_ALG_ECDSA;
}

static ForePublicReason read_rsa(ForeCursor *cur, ForePublic *pub)
{
    uint32_t exponent;
    const uint8_t *n;
    size_t size = 0;

    if (!read_symmetric(cur, pub) || !read_scheme(cur, pub)) {
        return FORE_PUBLIC_MALFORMED;
    }
    pub->bits = fore_cursor_be16(cur);
    exponent = fore_cursor_be32(cur);
    n = fore_cursor_sized16(cur, &size);
    if (!fore_cursor_finished(cur) || size == 0) {
        return FORE_PUBLIC_MALFORMED;
    }
    return make_rsa(pub, exponent, n, size);
}

static ForePublicReason read_ecc(ForeCursor *cur, ForePublic *pub)
{
    uint16_t kdf;
    const uint8_t *x, *y;
    size_t x_size = 0, y_size = 0;

    if (!read_symmetric(cur, pub) || !read_scheme(cur, pub)) {
        return FORE_PUBLIC_MALFORMED;
    }
    pub->curve = fore_cursor_be16(cur);
    kdf = fore_cursor_be16(cur);
    x = fore_cursor_sized16(cur, &x_size);
    y = fore_cursor_sized16(cur, &y_size);
    if (!fore_cursor_finished(cur) || kdf != FORE_ALG_NULL) {
        return FORE_PUBLIC_MALFORMED;
    }
    return make_ecc(pub, x, x_size, y, y_size);
}

static bool compute_name(ForePublic *pub, const uint8_t *area, size_t size)
{
    unsigned n = 0;

    pub->name[0] = (uint8_t)(pub->name_alg >> 8);
    pub->name[1] = (uint8_t)pub->name_alg;
    if (EVP_Digest(area, size, pub->name + 2, &n, fore_public_md(pub->name_alg), NULL) != 1) {
        return false;
    }
    pub->name_size = 2 + n;
    return true;
}

static ForePublicReason read_area(ForePublic *pub, const uint8_t *area, size_t size)
{
    ForeCursor cur;
    const uint8_t *policy;

    fore_cursor_init(&cur, area, size);
    pub->type = fore_cursor_be16(&cur);
    pub->name_alg = fore_cursor_be16(&cur);
    pub->attributes = fore_cursor_be32(&cur);
    policy = fore_cursor_sized16(&cur, &pub->policy_size);
    if (!fore_cursor_ok(&cur) || pub->policy_size > sizeof(pub->policy) ||
        (pub->type != FORE_ALG_RSA && pub->type != FORE_ALG_ECC)) {
        return FORE_PUBLIC_MALFORMED;
    }
    memcpy(pub->policy, policy, pub->policy_size);
    if (fore_public_md(pub->name_alg) == NULL) {
        return FORE_PUBLIC_NAME_ALG;
    }
    if (!compute_name(pub, area, size)) {
        return FORE_PUBLIC_INVALID;
    }
    return pub->type == FORE_ALG_RSA ? read_rsa(&cur, pub) : read_ecc(&cur, pub);
}

ForePublicReason fore_public_init(ForePublic *ret, GBytes *tpm2b)
{
    ForePublic pub = {0};
    ForePublicReason reason;
    ForeCursor cur;
    const uint8_t *area;
    size_t size = 0;

    if (tpm2b == NULL || g_bytes_get_size(tpm2b) > FORE_PUBLIC_MAX) {
        return FORE_PUBLIC_MALFORMED;
    }
    fore_cursor_init(&cur, g_bytes_get_data(tpm2b, NULL), g_bytes_get_size(tpm2b));
    area = fore_cursor_sized16(&cur, &size);
    if (!fore_cursor_finished(&cur)) {
        return FORE_PUBLIC_MALFORMED;
    }
    reason = read_area(&pub, area, size);
    if (reason != FORE_PUBLIC_OK) {
        fore_public_done(&pub);
        return reason;
    }
    *ret = pub;
    return FORE_PUBLIC_OK;
}

void fore_public_done(ForePublic *pub)
{
    EVP_PKEY_free(pub->key);
    pub->key = NULL;
}
