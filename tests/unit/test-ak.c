/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which keys may be enrolled. */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "tests/lib/fore-test-key.h"
#include "vtpm/attest/fore-ak.h"

static ForeTestKey p256;

static void assert_ak(GBytes *public, GBytes *name, ForeAkReason want)
{
    g_assert_cmpstr(fore_ak_reason_name(fore_ak_check(public, name)), ==,
                    fore_ak_reason_name(want));
}

static void assert_key(const ForeTestKey *key, ForeAkReason want)
{
    g_autoptr(GBytes) public = fore_test_key_public(key);

    assert_ak(public, NULL, want);
}

/* 19, 37 */
static void test_attributes(void)
{
    static const struct {
        uint32_t flip;
        ForeAkReason want;
    } cases[] = {
        {0, FORE_AK_OK},
        {FORE_OBJECT_NO_DA, FORE_AK_OK},
        {FORE_OBJECT_ST_CLEAR, FORE_AK_OK},
        {FORE_OBJECT_FIXED_TPM, FORE_AK_ATTRIBUTES},
        {FORE_OBJECT_FIXED_PARENT, FORE_AK_ATTRIBUTES},
        {FORE_OBJECT_SENSITIVE_DATA_ORIGIN, FORE_AK_ATTRIBUTES},
        {FORE_OBJECT_USER_WITH_AUTH, FORE_AK_ATTRIBUTES},
        {FORE_OBJECT_RESTRICTED, FORE_AK_ATTRIBUTES},
        {FORE_OBJECT_DECRYPT, FORE_AK_ATTRIBUTES},
        {FORE_OBJECT_SIGN, FORE_AK_ATTRIBUTES},
        {FORE_OBJECT_ENCRYPTED_DUPLICATION, FORE_AK_ATTRIBUTES},
        {1u << 0, FORE_AK_ATTRIBUTES},  /* reserved */
        {1u << 19, FORE_AK_ATTRIBUTES}, /* x509sign: signs more than attestations */
        {1u << 31, FORE_AK_ATTRIBUTES},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        ForeTestKey key = p256;

        key.attributes ^= cases[i].flip;
        assert_key(&key, cases[i].want);
    }
}

static void test_schemes(void)
{
    static const struct {
        const char *what;
        uint16_t scheme, hash;
        ForeAkReason want;
    } cases[] = {
        {"P-256", FORE_ALG_ECDSA, FORE_ALG_SHA256, FORE_AK_OK},
        {"P-384", FORE_ALG_ECDSA, FORE_ALG_SHA384, FORE_AK_OK},
        {"P-256", FORE_ALG_ECDSA, FORE_ALG_SHA1, FORE_AK_SCHEME},
        {"P-256", FORE_ALG_ECDSA, FORE_ALG_SHA512, FORE_AK_SCHEME},
        {"P-256", FORE_ALG_NULL, 0, FORE_AK_SCHEME},
        {"P-256", FORE_ALG_RSASSA, FORE_ALG_SHA256, FORE_AK_SCHEME},
        {"P-256", 0x001c, FORE_ALG_SHA256, FORE_AK_MALFORMED}, /* ECSchnorr */
        {"P-256", 0x001a, FORE_ALG_SHA256, FORE_AK_MALFORMED}, /* ECDAA */
        {"RSA-2048", FORE_ALG_RSASSA, FORE_ALG_SHA256, FORE_AK_OK},
        {"RSA-2048", FORE_ALG_RSAPSS, FORE_ALG_SHA384, FORE_AK_OK},
        {"RSA-2048", FORE_ALG_ECDSA, FORE_ALG_SHA256, FORE_AK_SCHEME},
        {"RSA-2048", 0x0015, FORE_ALG_SHA256, FORE_AK_MALFORMED}, /* RSAES */
        {"RSA-1024", FORE_ALG_RSASSA, FORE_ALG_SHA256, FORE_AK_KEY_WEAK},
        {"P-224", FORE_ALG_ECDSA, FORE_ALG_SHA256, FORE_AK_KEY_WEAK},
        {"P-521", FORE_ALG_ECDSA, FORE_ALG_SHA384, FORE_AK_KEY_WEAK},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(ForeTestKey) key = {0};

        fore_test_key_init(&key, cases[i].what, cases[i].scheme, cases[i].hash);
        assert_key(&key, cases[i].want);
    }
}

/* 38 */
static void test_name(void)
{
    g_autoptr(GBytes) public = fore_test_key_public(&p256);
    g_autoptr(GBytes) name = fore_ak_name(public);
    g_autofree char *hex = fore_ak_name_hex(public);
    g_autoptr(GBytes) shorter = g_bytes_new_from_bytes(name, 0, 33);
    g_autoptr(GBytes) blank = g_bytes_new_static("", 0);
    const uint8_t last = ((const uint8_t *)g_bytes_get_data(name, NULL))[33] ^ 1;
    g_autoptr(GBytes) other = fore_test_replace(name, 33, &last, 1);
    g_autoptr(GBytes) other_alg = fore_test_replace(name, 1, "\x0c", 1);
    GByteArray *longer = g_byte_array_new();
    g_autoptr(GBytes) with_tail = NULL;
    ForeTestKey sha384 = p256, sha1 = p256;
    g_autoptr(GBytes) sha384_public = NULL, sha384_name = NULL;

    g_byte_array_append(longer, g_bytes_get_data(name, NULL), 34);
    fore_put_u8(longer, 0);
    with_tail = g_byte_array_free_to_bytes(longer);
    g_assert_cmpuint(strlen(hex), ==, 68);
    g_assert_true(g_str_has_prefix(hex, "000b"));
    assert_ak(public, name, FORE_AK_OK);
    assert_ak(public, shorter, FORE_AK_NAME);
    assert_ak(public, blank, FORE_AK_NAME);
    assert_ak(public, other, FORE_AK_NAME);
    assert_ak(public, other_alg, FORE_AK_NAME);
    assert_ak(public, with_tail, FORE_AK_NAME);
    assert_ak(public, public, FORE_AK_NAME);

    sha384.name_alg = FORE_ALG_SHA384;
    sha384_public = fore_test_key_public(&sha384);
    sha384_name = fore_ak_name(sha384_public);
    g_assert_cmpuint(g_bytes_get_size(sha384_name), ==, 50);
    assert_ak(sha384_public, sha384_name, FORE_AK_OK);
    sha1.name_alg = FORE_ALG_SHA1;
    assert_key(&sha1, FORE_AK_NAME_ALG);
    sha1.name_alg = FORE_ALG_NULL;
    assert_key(&sha1, FORE_AK_NAME_ALG);
}

/* 12, 14, 16 */
static void test_layout(void)
{
    g_autoptr(GBytes) public = fore_test_key_public(&p256);
    g_autoptr(GBytes) blank = g_bytes_new_static("", 0);
    g_autoptr(GBytes) big = g_bytes_new_take(g_malloc0(FORE_PUBLIC_MAX + 1), FORE_PUBLIC_MAX + 1);
    g_autoptr(GBytes) type = fore_test_replace(public, 2, "\x00\x08", 2); /* keyed hash */
    g_autoptr(GBytes) size = fore_test_replace(public, 0, "\xff\xff", 2);
    g_autoptr(GBytes) policy = fore_test_replace(public, 10, "\xff\xff", 2);
    gsize n = g_bytes_get_size(public);
    GByteArray *longer = g_byte_array_new();
    g_autoptr(GBytes) with_tail = NULL;

    g_byte_array_append(longer, g_bytes_get_data(public, NULL), (guint)n);
    fore_put_u8(longer, 0);
    with_tail = g_byte_array_free_to_bytes(longer);
    assert_ak(NULL, NULL, FORE_AK_MALFORMED);
    assert_ak(blank, NULL, FORE_AK_MALFORMED);
    assert_ak(big, NULL, FORE_AK_MALFORMED);
    assert_ak(type, NULL, FORE_AK_MALFORMED);
    assert_ak(size, NULL, FORE_AK_MALFORMED);
    assert_ak(policy, NULL, FORE_AK_MALFORMED);
    assert_ak(with_tail, NULL, FORE_AK_MALFORMED);
    for (gsize i = 0; i < n; i++) {
        g_autoptr(GBytes) cut = g_bytes_new_from_bytes(public, 0, i);
        assert_ak(cut, NULL, FORE_AK_MALFORMED);
    }
}

/* TPM2B_PUBLIC of an ECC AK with coordinates of our choice */
static GBytes *ecc_public(uint16_t curve, const uint8_t *x, gsize n_x, const uint8_t *y, gsize n_y)
{
    GByteArray *out = g_byte_array_new();

    fore_put_be16(out, (uint16_t)(2 + 2 + 4 + 2 + 2 + 4 + 2 + 2 + 2 + n_x + 2 + n_y));
    fore_put_be16(out, FORE_ALG_ECC);
    fore_put_be16(out, FORE_ALG_SHA256);
    fore_put_be32(out, FORE_TEST_AK_ATTRIBUTES);
    fore_put_be16(out, 0);
    fore_put_be16(out, FORE_ALG_NULL);
    fore_put_be16(out, FORE_ALG_ECDSA);
    fore_put_be16(out, FORE_ALG_SHA256);
    fore_put_be16(out, curve);
    fore_put_be16(out, FORE_ALG_NULL);
    fore_put_be16(out, (uint16_t)n_x);
    g_byte_array_append(out, x, (guint)n_x);
    fore_put_be16(out, (uint16_t)n_y);
    g_byte_array_append(out, y, (guint)n_y);
    return g_byte_array_free_to_bytes(out);
}

/* 14 */
static void test_points(void)
{
    static const uint8_t zeros[48], ones[48] = {[0 ... 47] = 0xff};
    uint8_t point[65], bad[32], stretched[33] = {0};
    size_t n = 0;
    const uint8_t *x = point + 1, *y = point + 33;

    EVP_PKEY_get_octet_string_param(p256.pkey, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point), &n);
    memcpy(bad, y, 32);
    bad[31] ^= 1;
    memcpy(stretched + 1, x, 32);
    {
        const struct {
            uint16_t curve;
            const uint8_t *x;
            gsize n_x;
            const uint8_t *y;
            gsize n_y;
            ForeAkReason want;
        } cases[] = {
            {FORE_CURVE_P256, x, 32, y, 32, FORE_AK_OK},
            {FORE_CURVE_P256, x, 32, bad, 32, FORE_AK_KEY_INVALID},
            {FORE_CURVE_P256, zeros, 32, zeros, 32,
             FORE_AK_KEY_INVALID},                                   /* infinity, as some say */
            {FORE_CURVE_P256, ones, 32, y, 32, FORE_AK_KEY_INVALID}, /* x >= p */
            {FORE_CURVE_P256, x, 0, y, 0, FORE_AK_KEY_INVALID},
            {FORE_CURVE_P256, x, 31, y, 32, FORE_AK_KEY_INVALID},
            {FORE_CURVE_P256, stretched, 33, y, 32, FORE_AK_KEY_INVALID},
            {FORE_CURVE_P384, x, 32, y, 32, FORE_AK_KEY_INVALID},
            {FORE_CURVE_P384, ones, 48, ones, 48, FORE_AK_KEY_INVALID},
            {0x0001, x, 24, y, 24, FORE_AK_KEY_WEAK}, /* P-192 */
            {0x0002, x, 28, y, 28, FORE_AK_KEY_WEAK}, /* P-224 */
            {0x0005, x, 32, y, 32, FORE_AK_KEY_WEAK}, /* P-521 */
            {0x0010, x, 32, y, 32, FORE_AK_KEY_WEAK}, /* BN-256 */
            {0x0020, x, 32, y, 32, FORE_AK_KEY_WEAK}, /* SM2 */
            {0xffff, x, 32, y, 32, FORE_AK_KEY_WEAK},
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
            g_autoptr(GBytes) public =
                ecc_public(cases[i].curve, cases[i].x, cases[i].n_x, cases[i].y, cases[i].n_y);
            assert_ak(public, NULL, cases[i].want);
        }
    }
}

/* 14: offsets in the public area of an RSA AK: bits at 18, exponent at 20, modulus at 26 */
static void test_rsa(void)
{
    g_auto(ForeTestKey) key = {0};
    g_autoptr(GBytes) public = NULL;
    static const struct {
        gsize at;
        const char *bytes;
        gsize n;
        ForeAkReason want;
    } cases[] = {
        {20, "\0\0\0\0", 4, FORE_AK_OK}, /* the default: 65537 */
        {20, "\0\0\0\x03", 4, FORE_AK_KEY_WEAK},
        {20, "\0\0\0\x01", 4, FORE_AK_KEY_WEAK},
        {20, "\0\x01\0\x02", 4, FORE_AK_KEY_WEAK},
        {18, "\x04\x00", 2, FORE_AK_KEY_WEAK},
        {18, "\x0c\x00", 2, FORE_AK_KEY_INVALID}, /* says 3072 */
        {18, "\x08\x01", 2, FORE_AK_KEY_WEAK},
        {18, "\xff\xf8", 2, FORE_AK_KEY_WEAK},
        {26, "\x00", 1, FORE_AK_KEY_INVALID},       /* shorter than it says */
        {26 + 255, "\x00", 1, FORE_AK_KEY_INVALID}, /* even */
    };

    fore_test_key_init(&key, "RSA-2048", FORE_ALG_RSASSA, FORE_ALG_SHA256);
    public = fore_test_key_public(&key);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GBytes) bad = fore_test_replace(public, cases[i].at, cases[i].bytes, cases[i].n);
        assert_ak(bad, NULL, cases[i].want);
    }
}

/* 46: a modulus of the flawed shape, 65537^a mod M plus a multiple of M, M the product of small
 * primes */
static void test_roca(void)
{
    BN_CTX *ctx = BN_CTX_new();
    BIGNUM *m = BN_new(), *n = BN_new(), *e = BN_new(), *k = BN_new();
    g_auto(ForeTestKey) key = {0};
    g_autoptr(GBytes) public = NULL, roca = NULL;
    uint8_t bytes[256];

    fore_test_key_init(&key, "RSA-2048", FORE_ALG_RSASSA, FORE_ALG_SHA256);
    public = fore_test_key_public(&key);
    BN_one(m);
    for (unsigned p = 2; p <= 167; p++) {
        bool prime = true;
        for (unsigned d = 2; d * d <= p; d++) {
            prime = prime && p % d != 0;
        }
        if (prime) {
            BN_mul_word(m, p);
        }
    }
    BN_set_word(e, 65537);
    BN_set_word(k, 1234567);
    BN_mod_exp(n, e, k, m, ctx); /* odd, as M is even */
    BN_set_word(k, 1);
    BN_lshift(k, k, 2047);
    BN_div(e, NULL, k, m, ctx);
    BN_add_word(e, 12345);
    BN_mul(e, e, m, ctx);
    BN_add(n, n, e);
    g_assert_cmpint(BN_num_bits(n), ==, 2048);
    BN_bn2binpad(n, bytes, sizeof(bytes));
    g_assert_true(fore_public_is_roca(bytes, sizeof(bytes)));
    roca = fore_test_replace(public, 26, bytes, sizeof(bytes));
    assert_ak(roca, NULL, FORE_AK_KEY_WEAK);
    assert_ak(public, NULL, FORE_AK_OK);
    BN_free(m);
    BN_free(n);
    BN_free(e);
    BN_free(k);
    BN_CTX_free(ctx);
}

/* 19: what a software key can be enrolled as */
static void test_ek_is_no_ak(void)
{
    g_autoptr(GBytes) ek = fore_test_key_ek_public(&p256);

    assert_ak(ek, NULL, FORE_AK_ATTRIBUTES);
}

static void test_vectors(void)
{
    g_autoptr(GBytes) public = fore_test_vector("keylime/quote/ak.pub");
    g_autoptr(GBytes) name = public != NULL ? fore_test_vector("keylime/quote/ak.name") : NULL;
    g_autoptr(GBytes) ek = name != NULL ? fore_test_vector("keylime/quote/ek.pub") : NULL;

    if (ek == NULL) {
        return;
    }
    assert_ak(public, name, FORE_AK_OK);
    assert_ak(ek, NULL, FORE_AK_ATTRIBUTES);
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    fore_test_key_init(&p256, "P-256", FORE_ALG_ECDSA, FORE_ALG_SHA256);
#define ADD(path, fn)    g_test_add_func("/attest/ak/" path, fn)
#define ATTACK(path, fn) g_test_add_func("/attest/attack/" path, fn)
    ATTACK("37-attributes", test_attributes);
    ADD("only-strong-schemes", test_schemes);
    ATTACK("38-name", test_name);
    ADD("odd-layouts-are-refused", test_layout);
    ATTACK("14-points-and-curves", test_points);
    ATTACK("14-rsa-size-and-exponent", test_rsa);
    ATTACK("46-roca", test_roca);
    ATTACK("19-other-keys-than-an-ak", test_ek_is_no_ak);
    ADD("vectors", test_vectors);
    rc = g_test_run();
    fore_test_key_done(&p256);
    return rc;
}
