/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Quotes that must be refused, each with its own reason.  Most are signed well by a software key,
 * so that what is tested is the check behind the signature; then real ones from an emulator, bit by
 * bit; then vectors that public verifiers stumbled over.
 */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <string.h>
#include <time.h>

#include "common/fore-bytes.h"
#include "tests/lib/fore-test-key.h"
#include "tests/lib/fore-test-swtpm.h"
#include "vtpm/attest/fore-ak.h"
#include "vtpm/attest/fore-quote.h"
#include "vtpm/tpm/fore-tpm.h"

#define MASK 0x00ffu

static ForeTestKey p256, p384, rsa;
static const uint8_t nonce[32] = "nonce nonce nonce nonce nonce 42";
static uint8_t pcrs[24][32];

typedef struct {
    uint32_t magic;
    uint16_t type;
    uint64_t clock_ms, firmware;
    uint32_t reset, restart;
    uint8_t safe;
    unsigned n_banks;
    struct {
        uint16_t hash;
        uint8_t size;
        uint32_t mask;
    } bank[3];
    GBytes *signer; /* NULL: as a primary key of the endorsement hierarchy */
    bool trailing;
} Spec;

static Spec good(void)
{
    return (Spec){
        .magic = 0xff544347,
        .type = 0x8018,
        .clock_ms = 1000,
        .firmware = 7,
        .reset = 3,
        .restart = 1,
        .safe = 1,
        .n_banks = 1,
        .bank[0] = {FORE_ALG_SHA256, 3, MASK},
    };
}

static void put_bytes(GByteArray *out, GBytes *b)
{
    fore_put_be16(out, (uint16_t)g_bytes_get_size(b));
    g_byte_array_append(out, g_bytes_get_data(b, NULL), (guint)g_bytes_get_size(b));
}

static GBytes *digest_of(uint32_t mask, uint16_t hash)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t out[64];
    unsigned n = 0;

    EVP_DigestInit_ex(ctx, fore_public_md(hash), NULL);
    for (unsigned i = 0; i < 24; i++) {
        if (mask >> i & 1) {
            EVP_DigestUpdate(ctx, pcrs[i], 32);
        }
    }
    EVP_DigestFinal_ex(ctx, out, &n);
    EVP_MD_CTX_free(ctx);
    return g_bytes_new(out, n);
}

static GBytes *build(const Spec *s, const ForeTestKey *key)
{
    GByteArray *out = g_byte_array_new();
    g_autoptr(GBytes) public = fore_test_key_public(key);
    g_autoptr(GBytes) signer = fore_ak_qualified_name(public, NULL);
    g_autoptr(GBytes) extra = g_bytes_new(nonce, sizeof(nonce));
    g_autoptr(GBytes) digest = digest_of(
        s->bank[0].mask, key->hash == FORE_ALG_SHA384 ? FORE_ALG_SHA384 : FORE_ALG_SHA256);

    fore_put_be32(out, s->magic);
    fore_put_be16(out, s->type);
    put_bytes(out, s->signer != NULL ? s->signer : signer);
    put_bytes(out, extra);
    fore_put_be64(out, s->clock_ms);
    fore_put_be32(out, s->reset);
    fore_put_be32(out, s->restart);
    fore_put_u8(out, s->safe);
    fore_put_be64(out, s->firmware);
    fore_put_be32(out, s->n_banks);
    for (unsigned i = 0; i < MIN(s->n_banks, 3); i++) {
        fore_put_be16(out, s->bank[i].hash);
        fore_put_u8(out, s->bank[i].size);
        for (unsigned k = 0; k < s->bank[i].size; k++) {
            fore_put_u8(out, k < 4 ? (uint8_t)(s->bank[i].mask >> (8 * k)) : 0);
        }
    }
    put_bytes(out, digest);
    if (s->trailing) {
        fore_put_u8(out, 0);
    }
    return g_byte_array_free_to_bytes(out);
}

typedef struct {
    ForeQuoteExpect expect;
    GBytes *public, *extra;
} Asked;

static Asked ask(const ForeTestKey *key)
{
    Asked a = {.public = fore_test_key_public(key), .extra = g_bytes_new(nonce, sizeof(nonce))};

    a.expect =
        (ForeQuoteExpect){.ak_public = a.public, .extra = a.extra, .pcr_mask = MASK, .pcrs = pcrs};
    return a;
}

static void asked_done(Asked *a)
{
    g_bytes_unref(a->public);
    g_bytes_unref(a->extra);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Asked, asked_done)

static void assert_reason(ForeQuoteReason got, ForeQuoteReason want)
{
    g_assert_cmpstr(fore_quote_reason_name(got), ==, fore_quote_reason_name(want));
}

static void assert_spec(const Spec *s, const ForeTestKey *key, ForeQuoteReason want)
{
    g_auto(Asked) a = ask(key);
    g_autoptr(GBytes) attest = build(s, key);
    g_autoptr(GBytes) sig = fore_test_key_sign(key, attest);

    assert_reason(fore_quote_verify(&a.expect, attest, sig, NULL), want);
}

static void test_good(void)
{
    Spec s = good();
    g_auto(Asked) a = ask(&p256);
    g_autoptr(GBytes) attest = build(&s, &p256);
    g_autoptr(GBytes) sig = fore_test_key_sign(&p256, attest);
    ForeQuoteInfo info = {0};

    assert_reason(fore_quote_verify(&a.expect, attest, sig, &info), FORE_QUOTE_OK);
    g_assert_cmpuint(info.clock.clock_ms, ==, 1000);
    g_assert_cmpuint(info.clock.reset_count, ==, 3);
    g_assert_cmpuint(info.firmware, ==, 7);
    g_assert_false(info.rebooted);
    assert_spec(&s, &p384, FORE_QUOTE_OK); /* pcrDigest with SHA-384 */
    assert_spec(&s, &rsa, FORE_QUOTE_OK);
    s.bank[0].size = 1; /* the same PCRs in a shorter and a longer map */
    assert_spec(&s, &p256, FORE_QUOTE_OK);
    s.bank[0].size = 4;
    assert_spec(&s, &p256, FORE_QUOTE_OK);
}

/* Digest longer than the group's order is truncated on the right: P-256 with SHA-384. */
static void test_pss_and_truncation(void)
{
    g_auto(ForeTestKey) odd = {0};
    g_auto(ForeTestKey) pss = {0};
    Spec s = good();

    fore_test_key_init(&odd, "P-256", FORE_ALG_ECDSA, FORE_ALG_SHA384);
    fore_test_key_init(&pss, "RSA-2048", FORE_ALG_RSAPSS, FORE_ALG_SHA256);
    assert_spec(&s, &odd, FORE_QUOTE_OK);
    assert_spec(&s, &pss, FORE_QUOTE_OK);
}

/* 1 */
static void test_magic(void)
{
    static const uint32_t magics[] = {0xdeadbeef, 0xff544348, 0x475453ff, 0, 0xffffffff};

    for (unsigned i = 0; i < G_N_ELEMENTS(magics); i++) {
        Spec s = good();

        s.magic = magics[i];
        assert_spec(&s, &p256, FORE_QUOTE_MAGIC);
    }
}

/* 3: certificates of NV (2 has a test with a real one), creation, time, audit, and what never was
 */
static void test_type(void)
{
    static const uint16_t types[] = {0x8014, 0x8015, 0x8016, 0x8017, 0x8019,
                                     0x801a, 0x801c, 0x0000, 0xffff};

    for (unsigned i = 0; i < G_N_ELEMENTS(types); i++) {
        Spec s = good();

        s.type = types[i];
        assert_spec(&s, &p256, FORE_QUOTE_TYPE);
    }
}

/* 4 to 9, 96: what the signed selection says, and the reason of its refusal */
typedef struct {
    const char *path;
    unsigned n_banks;
    struct {
        uint16_t hash;
        uint32_t mask;
    } bank[2];
    ForeQuoteReason want;
} Selection;

static const Selection selections[] = {
    {"/attest/attack/4-other-pcrs-relabelled",
     1,
     {{FORE_ALG_SHA256, 0x810000}},
     FORE_QUOTE_PCR_SELECTION},
    {"/attest/attack/5-subset-of-the-selection",
     1,
     {{FORE_ALG_SHA256, 0x007f}},
     FORE_QUOTE_PCR_SELECTION},
    {"/attest/attack/5-no-pcr-at-all", 1, {{FORE_ALG_SHA256, 0}}, FORE_QUOTE_PCR_SELECTION},
    {"/attest/attack/5-no-bank-at-all", 0, {{FORE_ALG_SHA256, MASK}}, FORE_QUOTE_PCR_SELECTION},
    {"/attest/attack/6-superset-of-the-selection",
     1,
     {{FORE_ALG_SHA256, 0x01ff}},
     FORE_QUOTE_PCR_SELECTION},
    {"/attest/attack/6-one-bank-twice",
     2,
     {{FORE_ALG_SHA256, MASK}, {FORE_ALG_SHA256, MASK}},
     FORE_QUOTE_PCR_BANK},
    {"/attest/attack/7-inactive-bank", 1, {{FORE_ALG_SHA512, 0}}, FORE_QUOTE_PCR_BANK},
    {"/attest/attack/7-bank-that-was-not-asked", 1, {{FORE_ALG_SHA384, MASK}}, FORE_QUOTE_PCR_BANK},
    {"/attest/attack/7-unknown-bank", 1, {{0x0012, MASK}}, FORE_QUOTE_PCR_BANK},
    {"/attest/attack/8-sha1-bank", 1, {{FORE_ALG_SHA1, MASK}}, FORE_QUOTE_HASH_WEAK},
    {"/attest/attack/9-strong-bank-emptied-beside-sha1",
     2,
     {{FORE_ALG_SHA256, 0}, {FORE_ALG_SHA1, MASK}},
     FORE_QUOTE_PCR_BANK},
    {"/attest/attack/96-with-resettable-pcrs",
     1,
     {{FORE_ALG_SHA256, 0x8100ff}},
     FORE_QUOTE_PCR_SELECTION},
};

static void test_selection(gconstpointer data)
{
    const Selection *c = data;
    Spec s = good();

    s.n_banks = c->n_banks;
    for (unsigned i = 0; i < G_N_ELEMENTS(c->bank); i++) {
        s.bank[i].hash = c->bank[i].hash;
        s.bank[i].size = 3;
        s.bank[i].mask = c->bank[i].mask;
    }
    assert_spec(&s, &p256, c->want);
}

static void test_masks_never_asked(void)
{
    static const uint32_t masks[] = {0, 1u << 16, 1u << 23, 0x8100ff, 1u << 24, 1u << 31};

    for (unsigned i = 0; i < G_N_ELEMENTS(masks); i++) {
        g_auto(Asked) a = ask(&p256);
        Spec s = good();
        g_autoptr(GBytes) attest = NULL, sig = NULL;

        s.bank[0].mask = a.expect.pcr_mask = masks[i];
        s.bank[0].size = 4;
        attest = build(&s, &p256);
        sig = fore_test_key_sign(&p256, attest);
        assert_reason(fore_quote_verify(&a.expect, attest, sig, NULL), FORE_QUOTE_PCR_SELECTION);
    }
}

/* 10 */
static void test_values(void)
{
    Spec s = good();
    g_auto(Asked) a = ask(&p256);
    g_autoptr(GBytes) attest = build(&s, &p256);
    g_autoptr(GBytes) sig = fore_test_key_sign(&p256, attest);
    g_autoptr(GBytes) other = g_bytes_new_static("x", 1), none = g_bytes_new_static("", 0);
    uint8_t copy[24][32];

    memcpy(copy, pcrs, sizeof(copy));
    a.expect.pcrs = copy;
    copy[7][31] ^= 1;
    assert_reason(fore_quote_verify(&a.expect, attest, sig, NULL), FORE_QUOTE_PCR_DIGEST);
    copy[7][31] ^= 1;
    copy[8][0] ^= 1; /* not in the mask: nothing is said of it */
    assert_reason(fore_quote_verify(&a.expect, attest, sig, NULL), FORE_QUOTE_OK);
    a.expect.pcrs = NULL;
    assert_reason(fore_quote_verify(&a.expect, attest, sig, NULL), FORE_QUOTE_PCR_DIGEST);
    a.expect.pcrs = copy;
    a.expect.extra = other;
    assert_reason(fore_quote_verify(&a.expect, attest, sig, NULL), FORE_QUOTE_NONCE);
    a.expect.extra = none;
    assert_reason(fore_quote_verify(&a.expect, attest, sig, NULL), FORE_QUOTE_NONCE);
    a.expect.extra = NULL;
    assert_reason(fore_quote_verify(&a.expect, attest, sig, NULL), FORE_QUOTE_NONCE);
}

static void test_order_of_pcrs(void)
{
    Spec s = good();
    g_auto(Asked) a = ask(&p256);
    g_autoptr(GBytes) attest = build(&s, &p256);
    g_autoptr(GBytes) sig = fore_test_key_sign(&p256, attest);
    uint8_t swapped[24][32];

    memcpy(swapped, pcrs, sizeof(swapped));
    memcpy(swapped[0], pcrs[1], 32);
    memcpy(swapped[1], pcrs[0], 32);
    a.expect.pcrs = swapped;
    assert_reason(fore_quote_verify(&a.expect, attest, sig, NULL), FORE_QUOTE_PCR_DIGEST);
}

/* 11 */
static void test_scheme(void)
{
    Spec s = good();
    g_auto(Asked) ec = ask(&p256);
    g_auto(Asked) r = ask(&rsa);
    g_autoptr(GBytes) attest = build(&s, &p256);
    g_autoptr(GBytes) ec_sig = fore_test_key_sign(&p256, attest);
    g_autoptr(GBytes) rsa_sig = fore_test_key_sign(&rsa, attest);
    static const uint16_t algs[] = {
        0x0000, 0x0005 /* HMAC */, 0x0015 /* RSAES */, 0x0010, 0x001a, 0x001c, 0xffff};

    assert_reason(fore_quote_verify(&ec.expect, attest, rsa_sig, NULL),
                  FORE_QUOTE_SIGNATURE_SCHEME);
    assert_reason(fore_quote_verify(&r.expect, attest, ec_sig, NULL), FORE_QUOTE_SIGNATURE_SCHEME);
    for (unsigned i = 0; i < G_N_ELEMENTS(algs); i++) {
        uint8_t alg[2] = {(uint8_t)(algs[i] >> 8), (uint8_t)algs[i]};
        g_autoptr(GBytes) bad = fore_test_replace(ec_sig, 0, alg, 2);
        assert_reason(fore_quote_verify(&ec.expect, attest, bad, NULL),
                      FORE_QUOTE_SIGNATURE_SCHEME);
    }
}

static void assert_signed_with(uint16_t hash, ForeQuoteReason want)
{
    Spec s = good();
    g_auto(Asked) a = ask(&p256);
    g_autoptr(GBytes) attest = build(&s, &p256), sig = NULL;
    ForeTestKey other = p256;

    other.hash = hash;
    sig = fore_test_key_sign(&other, attest);
    assert_reason(fore_quote_verify(&a.expect, attest, sig, NULL), want);
}

static void test_sha1_signature(void)
{
    assert_signed_with(FORE_ALG_SHA1, FORE_QUOTE_HASH_WEAK);
}

/* 13 */
static void test_other_hash(void)
{
    assert_signed_with(FORE_ALG_SHA384, FORE_QUOTE_HASH_MISMATCH);
    assert_signed_with(FORE_ALG_SHA512, FORE_QUOTE_HASH_MISMATCH);
}

/* 12, 14: the enrolled record itself is bad */
static void test_bad_record(void)
{
    Spec s = good();
    g_auto(Asked) a = ask(&p256);
    g_autoptr(GBytes) attest = build(&s, &p256);
    g_autoptr(GBytes) sig = fore_test_key_sign(&p256, attest);
    g_autoptr(GBytes) shortened = g_bytes_new_from_bytes(a.public, 0, 40);
    g_autoptr(GBytes) off_curve = fore_test_replace(a.public, 30, "\x01\x02\x03", 3);
    ForeTestKey loose = p256;
    g_autoptr(GBytes) loose_public = NULL;

    a.expect.ak_public = NULL;
    assert_reason(fore_quote_verify(&a.expect, attest, sig, NULL), FORE_QUOTE_KEY_INVALID);
    a.expect.ak_public = shortened;
    assert_reason(fore_quote_verify(&a.expect, attest, sig, NULL), FORE_QUOTE_KEY_INVALID);
    a.expect.ak_public = off_curve;
    assert_reason(fore_quote_verify(&a.expect, attest, sig, NULL), FORE_QUOTE_KEY_INVALID);
    loose.attributes &= ~FORE_OBJECT_RESTRICTED;
    loose_public = fore_test_key_public(&loose);
    a.expect.ak_public = loose_public;
    assert_reason(fore_quote_verify(&a.expect, attest, sig, NULL), FORE_QUOTE_KEY_INVALID);
}

/* 15 */
static GBytes *ecdsa_signature(const uint8_t *r, gsize n_r, const uint8_t *s, gsize n_s)
{
    GByteArray *out = g_byte_array_new();

    fore_put_be16(out, FORE_ALG_ECDSA);
    fore_put_be16(out, FORE_ALG_SHA256);
    fore_put_be16(out, (uint16_t)n_r);
    g_byte_array_append(out, r, (guint)n_r);
    fore_put_be16(out, (uint16_t)n_s);
    g_byte_array_append(out, s, (guint)n_s);
    return g_byte_array_free_to_bytes(out);
}

static void test_ecdsa_range(void)
{
    Spec spec = good();
    g_auto(Asked) a = ask(&p256);
    g_autoptr(GBytes) attest = build(&spec, &p256);
    g_autoptr(GBytes) sig = fore_test_key_sign(&p256, attest);
    const uint8_t *bytes = g_bytes_get_data(sig, NULL);
    const uint8_t *r = bytes + 6, *s = bytes + 40;
    BIGNUM *order = NULL, *sum = BN_new(), *bn_s = BN_bin2bn(s, 32, NULL);
    uint8_t n[33] = {0}, longer[33] = {0}, zero[32] = {0}, ones[48];
    uint8_t s_plus_n[33];

    EVP_PKEY_get_bn_param(p256.pkey, OSSL_PKEY_PARAM_EC_ORDER, &order);
    BN_bn2binpad(order, n, 32);
    BN_add(sum, bn_s, order);
    BN_bn2binpad(sum, s_plus_n, 33);
    memset(ones, 0xff, sizeof(ones));
    memcpy(longer + 1, s, 32);
    {
        const struct {
            const uint8_t *r;
            gsize n_r;
            const uint8_t *s;
            gsize n_s;
            ForeQuoteReason want;
        } cases[] = {
            {r, 32, s, 32, FORE_QUOTE_OK},
            {zero, 32, s, 32, FORE_QUOTE_SIGNATURE},
            {r, 32, zero, 32, FORE_QUOTE_SIGNATURE},
            {n, 32, s, 32, FORE_QUOTE_SIGNATURE},
            {r, 32, n, 32, FORE_QUOTE_SIGNATURE},
            {ones, 32, s, 32, FORE_QUOTE_SIGNATURE},
            {r, 32, s_plus_n, 33, FORE_QUOTE_SIGNATURE}, /* the same s, modulo n */
            {r, 32, longer, 33, FORE_QUOTE_SIGNATURE},   /* the same s, a zero before it */
            {ones, 48, ones, 48, FORE_QUOTE_SIGNATURE},
            {r, 0, s, 32, FORE_QUOTE_SIGNATURE_MALFORMED},
            {r, 32, s, 0, FORE_QUOTE_SIGNATURE_MALFORMED},
            {r, 31, s, 32, FORE_QUOTE_SIGNATURE},
            {s, 32, r, 32, FORE_QUOTE_SIGNATURE},
        };
        for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
            g_autoptr(GBytes) made =
                ecdsa_signature(cases[i].r, cases[i].n_r, cases[i].s, cases[i].n_s);
            assert_reason(fore_quote_verify(&a.expect, attest, made, NULL), cases[i].want);
        }
    }
    BN_free(order);
    BN_free(sum);
    BN_free(bn_s);
}

/* 16 */
static void test_layout(void)
{
    Spec s = good();
    g_auto(Asked) a = ask(&p256);
    g_autoptr(GBytes) attest = build(&s, &p256);
    g_autoptr(GBytes) sig = fore_test_key_sign(&p256, attest);
    g_autoptr(GBytes) huge_name = fore_test_replace(attest, 6, "\xff\xff", 2);
    g_autoptr(GBytes) big =
        g_bytes_new_take(g_malloc0(FORE_QUOTE_MAX_ATTEST + 1), FORE_QUOTE_MAX_ATTEST + 1);
    g_autoptr(GBytes) huge_r = fore_test_replace(sig, 4, "\xff\xff", 2);
    gsize n = g_bytes_get_size(attest);
    static const uint32_t counts[] = {17, 16, 2, 0xffffffff, 0x80000000};

    assert_reason(fore_quote_verify(&a.expect, huge_name, sig, NULL), FORE_QUOTE_ATTEST_MALFORMED);
    assert_reason(fore_quote_verify(&a.expect, big, sig, NULL), FORE_QUOTE_ATTEST_MALFORMED);
    assert_reason(fore_quote_verify(&a.expect, NULL, sig, NULL), FORE_QUOTE_ATTEST_MALFORMED);
    assert_reason(fore_quote_verify(&a.expect, attest, big, NULL), FORE_QUOTE_SIGNATURE_MALFORMED);
    assert_reason(fore_quote_verify(&a.expect, attest, NULL, NULL), FORE_QUOTE_SIGNATURE_MALFORMED);
    assert_reason(fore_quote_verify(&a.expect, attest, huge_r, NULL),
                  FORE_QUOTE_SIGNATURE_MALFORMED);
    for (gsize i = 0; i < n; i++) {
        g_autoptr(GBytes) cut = g_bytes_new_from_bytes(attest, 0, i);
        assert_reason(fore_quote_verify(&a.expect, cut, sig, NULL), FORE_QUOTE_ATTEST_MALFORMED);
    }
    for (gsize i = 0; i < g_bytes_get_size(sig); i++) {
        g_autoptr(GBytes) cut = g_bytes_new_from_bytes(sig, 0, i);
        assert_reason(fore_quote_verify(&a.expect, attest, cut, NULL),
                      FORE_QUOTE_SIGNATURE_MALFORMED);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(counts); i++) {
        s = good();
        s.n_banks = counts[i];
        if (counts[i] != 2) {
            assert_spec(&s, &p256, FORE_QUOTE_ATTEST_MALFORMED);
        }
    }
    s = good();
    s.trailing = true;
    assert_spec(&s, &p256, FORE_QUOTE_ATTEST_MALFORMED);
    s = good();
    s.bank[0].size = 5;
    assert_spec(&s, &p256, FORE_QUOTE_ATTEST_MALFORMED);
    s = good();
    s.safe = 2; /* TPMI_YES_NO */
    assert_spec(&s, &p256, FORE_QUOTE_ATTEST_MALFORMED);
}

static void test_trailing_signature_bytes(void)
{
    Spec s = good();
    g_auto(Asked) a = ask(&p256);
    g_autoptr(GBytes) attest = build(&s, &p256);
    g_autoptr(GBytes) sig = fore_test_key_sign(&p256, attest);
    GByteArray *more = g_byte_array_new();
    g_autoptr(GBytes) longer = NULL;

    g_byte_array_append(more, g_bytes_get_data(sig, NULL), (guint)g_bytes_get_size(sig));
    fore_put_u8(more, 0);
    longer = g_byte_array_free_to_bytes(more);
    assert_reason(fore_quote_verify(&a.expect, attest, longer, NULL),
                  FORE_QUOTE_SIGNATURE_MALFORMED);
}

/* 18 */
static void test_other_ak(void)
{
    g_auto(ForeTestKey) other = {0};
    Spec s = good();
    g_auto(Asked) a = ask(&p256);
    g_autoptr(GBytes) attest = build(&s, &p256), by_other = NULL;

    fore_test_key_init(&other, "P-256", FORE_ALG_ECDSA, FORE_ALG_SHA256);
    by_other = fore_test_key_sign(&other, attest);
    assert_reason(fore_quote_verify(&a.expect, attest, by_other, NULL), FORE_QUOTE_SIGNATURE);
}

/* 20 */
static void test_signer(void)
{
    g_auto(ForeTestKey) ek = {0};
    Spec s = good();
    g_auto(Asked) a = ask(&p256);
    g_autoptr(GBytes) ek_public = NULL, child = NULL, attest = NULL, sig = NULL;
    g_autoptr(GBytes) owner = g_bytes_new_static("\x40\0\0\x01", 4);

    fore_test_key_init(&ek, "P-256", FORE_ALG_NULL, 0);
    ek_public = fore_test_key_ek_public(&ek);
    child = fore_ak_qualified_name(a.public, ek_public);
    s.signer = child; /* an AK below the EK where a primary one is pinned */
    assert_spec(&s, &p256, FORE_QUOTE_SIGNER);
    attest = build(&s, &p256);
    sig = fore_test_key_sign(&p256, attest);
    a.expect.signer = child;
    assert_reason(fore_quote_verify(&a.expect, attest, sig, NULL), FORE_QUOTE_OK);
    s.signer = owner;
    assert_spec(&s, &p256, FORE_QUOTE_SIGNER);
}

static ForeQuoteReason at_clock(const ForeTpmClock *last, ForeTpmClock now, ForeQuoteInfo *info)
{
    Spec s = good();
    g_auto(Asked) a = ask(&p256);
    g_autoptr(GBytes) attest = NULL, sig = NULL;

    s.clock_ms = now.clock_ms;
    s.reset = now.reset_count;
    s.restart = now.restart_count;
    s.safe = now.safe;
    attest = build(&s, &p256);
    sig = fore_test_key_sign(&p256, attest);
    a.expect.last = last;
    return fore_quote_verify(&a.expect, attest, sig, info);
}

/* 88 */
static void test_clock(void)
{
    static const ForeTpmClock last = {5000, 9, 2, true, 0};
    static const struct {
        ForeTpmClock now;
        ForeQuoteReason want;
        bool rebooted;
    } cases[] = {
        {{5001, 9, 2, true, 0}, FORE_QUOTE_OK, false},
        {{5000, 9, 2, true, 0}, FORE_QUOTE_CLOCK_BACKWARDS, false},
        {{4999, 9, 2, true, 0}, FORE_QUOTE_CLOCK_BACKWARDS, false},
        {{9999, 9, 1, true, 0}, FORE_QUOTE_CLOCK_BACKWARDS, false},
        {{9999, 8, 9, true, 0}, FORE_QUOTE_CLOCK_BACKWARDS, false},
        {{10, 10, 0, true, 0}, FORE_QUOTE_OK, true},
        {{10, 10, 0, false, 0}, FORE_QUOTE_OK, true},
        {{5001, 9, 3, true, 0}, FORE_QUOTE_OK, true},
        {{5001, 9, 2, false, 0}, FORE_QUOTE_CLOCK_UNSAFE, false}, /* safe never turns to no */
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        ForeQuoteInfo info = {0};

        assert_reason(at_clock(&last, cases[i].now, &info), cases[i].want);
        g_assert_cmpint(info.rebooted, ==, cases[i].rebooted);
    }
}

/* 89: polled each second, so that no single step is long */
static void test_settling(void)
{
    ForeQuoteInfo info = {0};
    ForeTpmClock now = {1000, 9, 0, false, 0};
    ForeQuoteReason reason = at_clock(NULL, now, &info);

    assert_reason(reason, FORE_QUOTE_OK);
    for (unsigned second = 1; second <= 10; second++) {
        ForeTpmClock last = info.clock;

        now.clock_ms = 1000 + second * 1000;
        assert_reason(at_clock(&last, now, &info), FORE_QUOTE_OK);
    }
    now.clock_ms = 11001;
    assert_reason(at_clock(&info.clock, now, NULL), FORE_QUOTE_CLOCK_UNSAFE);
    now.safe = true;
    assert_reason(at_clock(&info.clock, now, NULL), FORE_QUOTE_OK);
}

static void test_firmware(void)
{
    Spec s = good();
    g_auto(Asked) a = ask(&p256);
    g_autoptr(GBytes) attest = build(&s, &p256);
    g_autoptr(GBytes) sig = fore_test_key_sign(&p256, attest);

    a.expect.min_firmware = 7;
    assert_reason(fore_quote_verify(&a.expect, attest, sig, NULL), FORE_QUOTE_OK);
    a.expect.min_firmware = 8;
    assert_reason(fore_quote_verify(&a.expect, attest, sig, NULL), FORE_QUOTE_FIRMWARE);
}

/* ---- vectors ---- */

/* qualifiedSigner as it stands in a TPMS_ATTEST */
static GBytes *signer_of(GBytes *attest)
{
    const uint8_t *bytes = g_bytes_get_data(attest, NULL);

    return g_bytes_new(bytes + 8, (gsize)bytes[6] << 8 | bytes[7]);
}

static ForeQuoteReason vector_reason(const char *ak, const char *name, const char *extra,
                                     gsize extra_size, uint32_t mask, const ForeTpmClock *last,
                                     ForeQuoteInfo *info)
{
    static uint8_t zeros[24][32];
    g_autofree char *msg = g_strconcat("generated-swtpm/", name, ".msg", NULL);
    g_autofree char *sgn = g_strconcat("generated-swtpm/", name, ".sig", NULL);
    g_autoptr(GBytes) public = fore_test_vector(ak);
    g_autoptr(GBytes) attest = public != NULL ? fore_test_vector(msg) : NULL;
    g_autoptr(GBytes) sig = attest != NULL ? fore_test_vector(sgn) : NULL;
    g_autoptr(GBytes) nonce_bytes = g_bytes_new(extra, extra_size);
    g_autoptr(GBytes) signer = NULL;
    ForeQuoteExpect e = {
        .ak_public = public, .extra = nonce_bytes, .pcr_mask = mask, .pcrs = zeros, .last = last};

    if (sig == NULL) {
        return FORE_QUOTE_N; /* skipped */
    }
    e.signer = signer = signer_of(attest);
    return fore_quote_verify(&e, attest, sig, info);
}

static void test_vectors_swtpm(void)
{
    static const struct {
        const char *name;
        uint32_t mask;
        ForeQuoteReason want;
    } cases[] = {
        {"q1623", 0x0081, FORE_QUOTE_PCR_SELECTION},   /* relabelled blob asks for 0,7 */
        {"q1623", 0x810000, FORE_QUOTE_PCR_SELECTION}, /* and what it is is no evidence */
        {"q-inactive-bank", 0x0081, FORE_QUOTE_PCR_BANK}, {"badmagic", 0x0081, FORE_QUOTE_MAGIC},
        {"nvcertify", 0x0081, FORE_QUOTE_TYPE},           {"softkey", 0x0081, FORE_QUOTE_SIGNATURE},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        ForeQuoteReason got = vector_reason("generated-swtpm/ak.pub", cases[i].name, "abcdefgh", 8,
                                            cases[i].mask, NULL, NULL);
        if (got == FORE_QUOTE_N) {
            return;
        }
        g_test_message("%s", cases[i].name);
        assert_reason(got, cases[i].want);
    }
}

/* 87: two live copies of one state: the second's counters fall behind */
static void test_vectors_clone(void)
{
    ForeQuoteInfo one = {0}, two = {0};
    const char *ak = "generated-swtpm/clone-ak.pub";
    ForeQuoteReason got = vector_reason(ak, "clone1", "\xaa\xbb", 2, 7, NULL, &one);

    if (got == FORE_QUOTE_N) {
        return;
    }
    assert_reason(got, FORE_QUOTE_OK);
    assert_reason(vector_reason(ak, "clone2", "\xcc\xdd", 2, 7, NULL, &two), FORE_QUOTE_OK);
    g_assert_cmpuint(one.clock.reset_count, ==, 9);
    g_assert_cmpuint(two.clock.reset_count, ==, 3);
    assert_reason(vector_reason(ak, "clone2", "\xcc\xdd", 2, 7, &one.clock, NULL),
                  FORE_QUOTE_CLOCK_BACKWARDS);
}

/* The AK is a child of the EK there: the qualified name follows from both public areas. */
static void test_vectors_qualified_name(void)
{
    static const char *const sets[][3] = {
        {"generated-swtpm/ak.pub", "generated-swtpm/ek.pub", "generated-swtpm/q1623.msg"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(sets); i++) {
        g_autoptr(GBytes) ak = fore_test_vector(sets[i][0]);
        g_autoptr(GBytes) ek = ak != NULL ? fore_test_vector(sets[i][1]) : NULL;
        g_autoptr(GBytes) attest = ek != NULL ? fore_test_vector(sets[i][2]) : NULL;
        g_autoptr(GBytes) want = NULL, got = NULL;

        if (attest == NULL) {
            return;
        }
        want = signer_of(attest);
        got = fore_ak_qualified_name(ak, ek);
        g_assert_true(g_bytes_equal(want, got));
    }
}

/* ---- an emulator ---- */

typedef struct {
    ForeTpm *tpm;
    GBytes *public, *extra, *attest, *sig;
    uint8_t values[24][32];
} Live;

static bool live_init(Live *l, ForeTestSwtpm *emulator, uint32_t mask)
{
    g_autoptr(GError) error = NULL;

    *l = (Live){0};
    l->tpm = fore_tpm_open(fore_test_swtpm_tcti(emulator), &error);
    g_assert_no_error(error);
    l->extra = g_bytes_new(nonce, sizeof(nonce));
    fore_tpm_ak(l->tpm, &l->public, NULL, &error);
    g_assert_no_error(error);
    for (unsigned pcr = 0; pcr < 16; pcr += 3) {
        uint8_t digest[32] = {(uint8_t)pcr, 1};
        g_assert_true(fore_tpm_pcr_extend(l->tpm, pcr, digest, NULL));
    }
    fore_tpm_pcr_read(l->tpm, mask, l->values, &error);
    g_assert_no_error(error);
    fore_tpm_quote(l->tpm, l->extra, mask, &l->attest, &l->sig, &error);
    g_assert_no_error(error);
    return true;
}

static void live_done(Live *l)
{
    g_clear_pointer(&l->tpm, fore_tpm_close);
    g_clear_pointer(&l->public, g_bytes_unref);
    g_clear_pointer(&l->extra, g_bytes_unref);
    g_clear_pointer(&l->attest, g_bytes_unref);
    g_clear_pointer(&l->sig, g_bytes_unref);
}

static ForeQuoteExpect live_expect(const Live *l, uint32_t mask)
{
    return (ForeQuoteExpect){
        .ak_public = l->public, .extra = l->extra, .pcr_mask = mask, .pcrs = l->values};
}

static ForeTestSwtpm *emulator;

static bool need_swtpm(void)
{
    const char *missing = fore_test_swtpm_missing();

    if (missing != NULL) {
        g_autofree char *why = g_strdup_printf("%s is not installed", missing);
        g_test_skip(why);
        return false;
    }
    if (emulator == NULL) {
        emulator = fore_test_swtpm_new();
    }
    return true;
}

/* 17: 8 and more PCRs come in several TPML_DIGEST */
static void test_live_masks(void)
{
    static const uint32_t masks[] = {0x0001, 0x007f, 0x00ff, 0x01ff, 0xffff};

    if (!need_swtpm()) {
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(masks); i++) {
        Live l;
        ForeQuoteExpect e;

        live_init(&l, emulator, masks[i]);
        e = live_expect(&l, masks[i]);
        g_assert_cmpint(fore_ak_check(l.public, NULL), ==, FORE_AK_OK);
        assert_reason(fore_quote_verify(&e, l.attest, l.sig, NULL), FORE_QUOTE_OK);
        live_done(&l);
    }
}

/* 10: every bit of a real quote, its signature, its PCR values and its nonce */
static void test_live_bit_flips(void)
{
    Live l;
    ForeQuoteExpect e;
    GBytes **parts[] = {&l.attest, &l.sig, &l.extra, &l.public};

    if (!need_swtpm()) {
        return;
    }
    live_init(&l, emulator, MASK);
    e = live_expect(&l, MASK);
    for (unsigned p = 0; p < G_N_ELEMENTS(parts); p++) {
        gsize n = g_bytes_get_size(*parts[p]);

        for (gsize bit = 0; bit < 8 * n; bit++) {
            g_autoptr(GBytes) whole = g_bytes_ref(*parts[p]);
            uint8_t byte = ((const uint8_t *)g_bytes_get_data(whole, NULL))[bit / 8];
            g_autoptr(GBytes) bad = NULL;
            ForeQuoteExpect bad_e = e;

            byte ^= (uint8_t)(1u << (bit % 8));
            bad = fore_test_replace(whole, bit / 8, &byte, 1);
            bad_e.extra = p == 2 ? bad : e.extra;
            bad_e.ak_public = p == 3 ? bad : e.ak_public;
            g_assert_cmpint(
                fore_quote_verify(&bad_e, p == 0 ? bad : l.attest, p == 1 ? bad : l.sig, NULL), !=,
                FORE_QUOTE_OK);
        }
    }
    live_done(&l);
}

/* 18, 21: another node's quote, and yesterday's */
static void test_live_other_node_and_replay(void)
{
    g_autoptr(ForeTestSwtpm) second = NULL;
    Live a, b;
    ForeQuoteExpect e;
    ForeQuoteInfo info = {0};
    g_autoptr(GBytes) fresh = g_bytes_new_static("another nonce of thirty-two byte", 32);

    if (!need_swtpm()) {
        return;
    }
    second = fore_test_swtpm_new();
    live_init(&a, emulator, MASK);
    live_init(&b, second, MASK);
    e = live_expect(&a, MASK);
    assert_reason(fore_quote_verify(&e, b.attest, b.sig, NULL), FORE_QUOTE_SIGNATURE);
    assert_reason(fore_quote_verify(&e, a.attest, a.sig, &info), FORE_QUOTE_OK);
    e.last = &info.clock;
    assert_reason(fore_quote_verify(&e, a.attest, a.sig, NULL), FORE_QUOTE_CLOCK_BACKWARDS);
    e.extra = fresh;
    assert_reason(fore_quote_verify(&e, a.attest, a.sig, NULL), FORE_QUOTE_NONCE);
    live_done(&a);
    live_done(&b);
}

static void test_live_reboot(void)
{
    Live l;
    ForeQuoteExpect e;
    ForeQuoteInfo before = {0}, after = {0};

    if (!need_swtpm()) {
        return;
    }
    live_init(&l, emulator, MASK);
    e = live_expect(&l, MASK);
    assert_reason(fore_quote_verify(&e, l.attest, l.sig, &before), FORE_QUOTE_OK);
    live_done(&l);
    fore_test_swtpm_restart(emulator);
    live_init(&l, emulator, MASK);
    e = live_expect(&l, MASK);
    e.last = &before.clock;
    assert_reason(fore_quote_verify(&e, l.attest, l.sig, &after), FORE_QUOTE_OK);
    g_assert_true(after.rebooted);
    g_assert_cmpuint(after.clock.reset_count, >, before.clock.reset_count);
    live_done(&l);
}

static double cpu_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void test_cost(void)
{
    enum { N = 500 };
    Live l;
    ForeQuoteExpect e;
    double start, verify_us, client_us, wall_us;
    gint64 wall;

    if (!need_swtpm()) {
        return;
    }
    live_init(&l, emulator, MASK);
    e = live_expect(&l, MASK);
    start = cpu_us();
    for (int i = 0; i < N; i++) {
        assert_reason(fore_quote_verify(&e, l.attest, l.sig, NULL), FORE_QUOTE_OK);
    }
    verify_us = (cpu_us() - start) / N;
    start = cpu_us();
    wall = g_get_monotonic_time();
    for (int i = 0; i < N; i++) {
        g_autoptr(GBytes) a = NULL, s = NULL;
        g_assert_true(fore_tpm_quote(l.tpm, l.extra, MASK, &a, &s, NULL));
    }
    wall_us = (double)(g_get_monotonic_time() - wall) / N;
    client_us = (cpu_us() - start) / N;
    g_test_minimized_result(verify_us, "verify: %.0f us CPU", verify_us);
    g_test_minimized_result(wall_us, "quote: %.0f us elapsed, %.0f us CPU in the client", wall_us,
                            client_us);
    live_done(&l);
}

static void test_names(void)
{
    for (unsigned i = 0; i < FORE_QUOTE_N; i++) {
        for (unsigned k = 0; k < i; k++) {
            g_assert_cmpstr(fore_quote_reason_name(i), !=, fore_quote_reason_name(k));
        }
    }
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < 24; i++) {
        memset(pcrs[i], (int)i + 1, 32);
    }
    fore_test_key_init(&p256, "P-256", FORE_ALG_ECDSA, FORE_ALG_SHA256);
    fore_test_key_init(&p384, "P-384", FORE_ALG_ECDSA, FORE_ALG_SHA384);
    fore_test_key_init(&rsa, "RSA-2048", FORE_ALG_RSASSA, FORE_ALG_SHA256);
#define ADD(path, fn) g_test_add_func("/attest/quote/" path, fn)
    ADD("good-ones-are-accepted", test_good);
    ADD("pss-and-longer-digests-are-accepted", test_pss_and_truncation);
#define ATTACK(path, fn) g_test_add_func("/attest/attack/" path, fn)
    ATTACK("1-software-signed-magic", test_magic);
    ATTACK("3-statement-of-another-type", test_type);
    for (unsigned i = 0; i < G_N_ELEMENTS(selections); i++) {
        g_test_add_data_func(selections[i].path, &selections[i], test_selection);
    }
    ATTACK("8-sha1-signature", test_sha1_signature);
    ATTACK("10-values-and-nonce-that-differ", test_values);
    ATTACK("10-values-in-another-order", test_order_of_pcrs);
    ATTACK("11-signature-of-another-scheme", test_scheme);
    ATTACK("12-key-that-does-not-parse", test_bad_record);
    ATTACK("13-signature-with-another-hash", test_other_hash);
    ATTACK("15-ecdsa-values-out-of-range", test_ecdsa_range);
    ATTACK("16-odd-layouts", test_layout);
    ATTACK("16-bytes-behind-the-signature", test_trailing_signature_bytes);
    ATTACK("18-ak-of-another-key", test_other_ak);
    ATTACK("20-signer-of-another-hierarchy", test_signer);
    ATTACK("88-clock-that-goes-back", test_clock);
    ATTACK("89-clock-that-stays-unsafe", test_settling);
    ATTACK("96-resettable-pcrs-asked-for", test_masks_never_asked);
    ADD("old-firmware-is-refused", test_firmware);
    ADD("vectors/swtpm", test_vectors_swtpm);
    ATTACK("87-second-copy-of-a-live-state", test_vectors_clone);
    ADD("vectors/qualified-name", test_vectors_qualified_name);
    ATTACK("17-few-and-many-pcrs-are-accepted", test_live_masks);
    ATTACK("10-every-flipped-bit-of-a-real-quote", test_live_bit_flips);
    ATTACK("21-other-node-and-replay", test_live_other_node_and_replay);
    ATTACK("88-reboot-is-accepted-and-seen", test_live_reboot);
    if (g_test_perf()) { /* -m perf */
        ADD("live/cost", test_cost);
    }
    ADD("reason-names-differ", test_names);
    rc = g_test_run();
    fore_test_swtpm_free(emulator);
    fore_test_key_done(&p256);
    fore_test_key_done(&p384);
    fore_test_key_done(&rsa);
    return rc;
}
