/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Three readers (attest, signature, key) turn bytes into structs and trust nothing;
 * the key says which scheme, hash and lengths the signature must have; OpenSSL says whether it
 * holds; and only then is the content compared with what was asked for.  tpm2-tss's unmarshalling
 * is not used: it takes a wrong magic and trailing bytes.
 *
 * Clauses are of TPM 2.0 Library Part 2, rev 1.59: TPMS_ATTEST 10.12.12, TPMS_CLOCK_INFO 10.11.1,
 * TPMS_QUOTE_INFO 10.12.1, TPML_PCR_SELECTION 10.9.7, TPMT_SIGNATURE 11.3.4.
 */
#include "vtpm/attest/fore-quote.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "vtpm/attest/fore-ak.h"
#include "vtpm/attest/fore-public.h"

#define GENERATED_VALUE 0xff544347u /* TPM_GENERATED_VALUE, 6.2 */
#define ST_ATTEST_QUOTE 0x8018      /* 6.9 */
#define MAX_BANKS       16          /* HASH_COUNT of any TPM is below it */
#define MAX_SELECT      4           /* bytes of a PCR bit map */
#define EVIDENCE_PCRS   0x0000ffffu /* PCR 16 to 23 can be reset by whoever runs there */
#define N_PCRS          24

G_DEFINE_AUTOPTR_CLEANUP_FUNC(ECDSA_SIG, ECDSA_SIG_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_MD_CTX, EVP_MD_CTX_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIGNUM, BN_free)

static const char *const names[] = {
    [FORE_QUOTE_OK] = "ok",
    [FORE_QUOTE_ATTEST_MALFORMED] = "attest-malformed",
    [FORE_QUOTE_MAGIC] = "bad-magic",
    [FORE_QUOTE_TYPE] = "not-a-quote",
    [FORE_QUOTE_SIGNATURE_MALFORMED] = "signature-malformed",
    [FORE_QUOTE_SIGNATURE_SCHEME] = "signature-scheme",
    [FORE_QUOTE_HASH_WEAK] = "hash-weak",
    [FORE_QUOTE_HASH_MISMATCH] = "hash-mismatch",
    [FORE_QUOTE_KEY_WEAK] = "key-weak",
    [FORE_QUOTE_KEY_INVALID] = "key-invalid",
    [FORE_QUOTE_SIGNATURE] = "bad-signature",
    [FORE_QUOTE_NONCE] = "nonce-mismatch",
    [FORE_QUOTE_PCR_SELECTION] = "pcr-selection-mismatch",
    [FORE_QUOTE_PCR_BANK] = "pcr-bank",
    [FORE_QUOTE_PCR_DIGEST] = "pcr-digest-mismatch",
    [FORE_QUOTE_PCR_VALUE] = "pcr-value-mismatch",
    [FORE_QUOTE_SIGNER] = "signer-mismatch",
    [FORE_QUOTE_CLOCK_BACKWARDS] = "clock-backwards",
    [FORE_QUOTE_CLOCK_UNSAFE] = "clock-unsafe",
    [FORE_QUOTE_FIRMWARE] = "firmware-old",
};
G_STATIC_ASSERT(G_N_ELEMENTS(names) == FORE_QUOTE_N);

const char *fore_quote_reason_name(ForeQuoteReason reason)
{
    g_assert(reason < FORE_QUOTE_N);
    return names[reason];
}

typedef struct {
    uint16_t hash;
    uint32_t mask;
} Bank;

/* TPMS_ATTEST; pointers into the caller's bytes. */
typedef struct {
    const uint8_t *signer, *extra, *digest;
    size_t signer_size, extra_size, digest_size;
    ForeTpmClock clock;
    uint64_t firmware;
    uint32_t n_banks;
    Bank banks[MAX_BANKS];
} Attest;

static bool read_banks(ForeCursor *cur, Attest *a)
{
    a->n_banks = fore_cursor_be32(cur);
    if (a->n_banks > MAX_BANKS) {
        return false;
    }
    for (uint32_t i = 0; i < a->n_banks; i++) {
        uint8_t size;
        const uint8_t *select;

        a->banks[i].hash = fore_cursor_be16(cur);
        size = fore_cursor_u8(cur);
        if (size > MAX_SELECT) {
            return false;
        }
        select = fore_cursor_take(cur, size);
        for (unsigned k = 0; select != NULL && k < size; k++) {
            a->banks[i].mask |= (uint32_t)select[k] << (8 * k);
        }
    }
    return fore_cursor_ok(cur);
}

static ForeQuoteReason read_attest(GBytes *bytes, Attest *ret)
{
    Attest a = {0};
    ForeCursor cur;
    uint32_t magic;
    uint16_t type;
    uint8_t safe;

    if (bytes == NULL || g_bytes_get_size(bytes) > FORE_QUOTE_MAX_ATTEST) {
        return FORE_QUOTE_ATTEST_MALFORMED;
    }
    fore_cursor_init(&cur, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    magic = fore_cursor_be32(&cur);
    type = fore_cursor_be16(&cur);
    if (!fore_cursor_ok(&cur)) {
        return FORE_QUOTE_ATTEST_MALFORMED;
    }
    if (magic != GENERATED_VALUE) {
        return FORE_QUOTE_MAGIC;
    }
    if (type != ST_ATTEST_QUOTE) {
        return FORE_QUOTE_TYPE;
    }
    a.signer = fore_cursor_sized16(&cur, &a.signer_size);
    a.extra = fore_cursor_sized16(&cur, &a.extra_size);
    a.clock.clock_ms = fore_cursor_be64(&cur);
    a.clock.reset_count = fore_cursor_be32(&cur);
    a.clock.restart_count = fore_cursor_be32(&cur);
    safe = fore_cursor_u8(&cur);
    a.clock.safe = safe == 1;
    a.firmware = fore_cursor_be64(&cur);
    if (!read_banks(&cur, &a)) {
        return FORE_QUOTE_ATTEST_MALFORMED;
    }
    a.digest = fore_cursor_sized16(&cur, &a.digest_size);
    if (!fore_cursor_finished(&cur) || safe > 1) {
        return FORE_QUOTE_ATTEST_MALFORMED;
    }
    *ret = a;
    return FORE_QUOTE_OK;
}

/* TPMT_SIGNATURE; for RSA @s is NULL. */
typedef struct {
    uint16_t scheme, hash;
    const uint8_t *r, *s;
    size_t r_size, s_size;
} Signature;

static ForeQuoteReason read_signature(GBytes *bytes, Signature *ret)
{
    Signature sig = {0};
    ForeCursor cur;

    if (bytes == NULL || g_bytes_get_size(bytes) > FORE_QUOTE_MAX_SIGNATURE) {
        return FORE_QUOTE_SIGNATURE_MALFORMED;
    }
    fore_cursor_init(&cur, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    sig.scheme = fore_cursor_be16(&cur);
    if (!fore_cursor_ok(&cur)) {
        return FORE_QUOTE_SIGNATURE_MALFORMED;
    }
    if (sig.scheme != FORE_ALG_RSASSA && sig.scheme != FORE_ALG_RSAPSS &&
        sig.scheme != FORE_ALG_ECDSA) {
        return FORE_QUOTE_SIGNATURE_SCHEME;
    }
    sig.hash = fore_cursor_be16(&cur);
    sig.r = fore_cursor_sized16(&cur, &sig.r_size);
    if (sig.scheme == FORE_ALG_ECDSA) {
        sig.s = fore_cursor_sized16(&cur, &sig.s_size);
    }
    if (!fore_cursor_finished(&cur) || sig.r_size == 0 || (sig.s != NULL && sig.s_size == 0)) {
        return FORE_QUOTE_SIGNATURE_MALFORMED;
    }
    *ret = sig;
    return FORE_QUOTE_OK;
}

static ForeQuoteReason read_key(GBytes *ak_public, ForePublic *ret)
{
    /* Enrolment judged it already; a record that changed since must not slip through. */
    switch (fore_ak_check(ak_public, NULL)) {
    case FORE_AK_OK:
        break;
    case FORE_AK_KEY_WEAK:
        return FORE_QUOTE_KEY_WEAK;
    default:
        return FORE_QUOTE_KEY_INVALID;
    }
    return fore_public_init(ret, ak_public) == FORE_PUBLIC_OK ? FORE_QUOTE_OK
                                                              : FORE_QUOTE_KEY_INVALID;
}

static ForeQuoteReason fit(const Signature *sig, const ForePublic *key)
{
    if (sig->scheme != key->scheme) {
        return FORE_QUOTE_SIGNATURE_SCHEME;
    }
    if (sig->hash == FORE_ALG_SHA1) {
        return FORE_QUOTE_HASH_WEAK;
    }
    return sig->hash == key->scheme_hash ? FORE_QUOTE_OK : FORE_QUOTE_HASH_MISMATCH;
}

/* 1 .. n-1, and not longer than n */
static bool in_order(const BIGNUM *v, size_t size, const BIGNUM *order)
{
    return size <= (size_t)BN_num_bytes(order) && !BN_is_zero(v) && BN_cmp(v, order) < 0;
}

/* r and s as DER, the form that OpenSSL takes; -1 when one is out of range. */
static int ecdsa_der(const Signature *sig, EVP_PKEY *key, uint8_t **ret_der)
{
    g_autoptr(BIGNUM) order = NULL, r = NULL, s = NULL;
    g_autoptr(ECDSA_SIG) both = ECDSA_SIG_new();

    if (EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_EC_ORDER, &order) != 1) {
        return -1;
    }
    r = BN_bin2bn(sig->r, (int)sig->r_size, NULL);
    s = BN_bin2bn(sig->s, (int)sig->s_size, NULL);
    if (both == NULL || r == NULL || s == NULL || !in_order(r, sig->r_size, order) ||
        !in_order(s, sig->s_size, order) || ECDSA_SIG_set0(both, r, s) != 1) {
        return -1;
    }
    r = s = NULL; /* now owned by @both */
    return i2d_ECDSA_SIG(both, ret_der);
}

static bool verify(const Signature *sig, const ForePublic *key, GBytes *attest)
{
    g_autoptr(EVP_MD_CTX) ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx = NULL; /* owned by @ctx */
    const EVP_MD *md = fore_public_md(sig->hash);
    uint8_t *der = NULL;
    const uint8_t *bytes = sig->r;
    int der_size = 0;
    size_t size = sig->r_size;
    bool good;

    if (md == NULL || ctx == NULL || EVP_DigestVerifyInit(ctx, &pctx, md, NULL, key->key) != 1) {
        return false;
    }
    if (sig->scheme == FORE_ALG_ECDSA) {
        der_size = ecdsa_der(sig, key->key, &der);
        if (der_size <= 0) {
            return false;
        }
        bytes = der;
        size = (size_t)der_size;
    } else if (size != key->bits / 8) {
        return false;
    }
    /* Part 1, B.7: the salt is as long as fits or as the digest, by the TPM's revision. */
    good = sig->scheme != FORE_ALG_RSAPSS ||
           (EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
            EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_AUTO) == 1);
    good = good && EVP_DigestVerify(ctx, bytes, size, g_bytes_get_data(attest, NULL),
                                    g_bytes_get_size(attest)) == 1;
    OPENSSL_free(der);
    return good;
}

static bool same(const uint8_t *data, size_t size, GBytes *want)
{
    return g_bytes_get_size(want) == size && size > 0 &&
           CRYPTO_memcmp(data, g_bytes_get_data(want, NULL), size) == 0;
}

static bool signer_fits(const ForeQuoteExpect *expect, const Attest *a)
{
    g_autoptr(GBytes) own = NULL;

    if (expect->signer == NULL) {
        own = fore_ak_qualified_name(expect->ak_public, NULL);
    }
    return (expect->signer != NULL || own != NULL) &&
           same(a->signer, a->signer_size, expect->signer != NULL ? expect->signer : own);
}

static ForeQuoteReason judge_selection(const ForeQuoteExpect *expect, const Attest *a)
{
    if (expect->pcr_mask == 0 || (expect->pcr_mask & ~EVIDENCE_PCRS) != 0 || a->n_banks == 0) {
        return FORE_QUOTE_PCR_SELECTION;
    }
    /* Any bank beside the one that was asked for: a duplicate, an inactive or a weaker one. */
    if (a->n_banks != 1) {
        return FORE_QUOTE_PCR_BANK;
    }
    if (a->banks[0].hash == FORE_ALG_SHA1) {
        return FORE_QUOTE_HASH_WEAK;
    }
    if (a->banks[0].hash != FORE_ALG_SHA256) {
        return FORE_QUOTE_PCR_BANK;
    }
    return a->banks[0].mask == expect->pcr_mask ? FORE_QUOTE_OK : FORE_QUOTE_PCR_SELECTION;
}

/* pcrDigest is made with the hash of the signing scheme (Part 3, 18.4.1). */
static bool digest_fits(const ForeQuoteExpect *expect, const Attest *a, uint16_t hash)
{
    g_autoptr(EVP_MD_CTX) ctx = EVP_MD_CTX_new();
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;

    if (expect->pcrs == NULL || ctx == NULL ||
        EVP_DigestInit_ex(ctx, fore_public_md(hash), NULL) != 1) {
        return false;
    }
    for (unsigned pcr = 0; pcr < N_PCRS; pcr++) {
        if (expect->pcr_mask >> pcr & 1u &&
            EVP_DigestUpdate(ctx, expect->pcrs[pcr], sizeof(expect->pcrs[pcr])) != 1) {
            return false;
        }
    }
    return EVP_DigestFinal_ex(ctx, digest, &size) == 1 && size == a->digest_size &&
           CRYPTO_memcmp(digest, a->digest, size) == 0;
}

static int compare(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

/* (resetCount, restartCount, clock) in lexicographic order must grow. */
static ForeQuoteReason judge_clock(const ForeTpmClock *last, ForeTpmClock *now, bool *ret_rebooted)
{
    int boot = 1, order;

    *ret_rebooted = false;
    now->unsafe_since_ms = now->safe ? 0 : now->clock_ms;
    if (last == NULL) {
        return FORE_QUOTE_OK;
    }
    boot = compare(now->reset_count, last->reset_count);
    if (boot == 0) {
        boot = compare(now->restart_count, last->restart_count);
    }
    order = boot != 0 ? boot : compare(now->clock_ms, last->clock_ms);
    if (order <= 0) {
        return FORE_QUOTE_CLOCK_BACKWARDS;
    }
    *ret_rebooted = boot > 0;
    if (now->safe || boot > 0) {
        return FORE_QUOTE_OK;
    }
    /* Within one boot, safe may become yes, never no; and soon. */
    if (last->safe) {
        return FORE_QUOTE_CLOCK_UNSAFE;
    }
    now->unsafe_since_ms = last->unsafe_since_ms != 0 ? last->unsafe_since_ms : last->clock_ms;
    return now->clock_ms - now->unsafe_since_ms <= FORE_QUOTE_SETTLING_MS ? FORE_QUOTE_OK
                                                                          : FORE_QUOTE_CLOCK_UNSAFE;
}

/* What the signature holds for. */
static ForeQuoteReason judge_content(const ForeQuoteExpect *expect, const Attest *a, uint16_t hash,
                                     ForeQuoteInfo *info)
{
    ForeQuoteReason reason;

    if (expect->extra == NULL || !same(a->extra, a->extra_size, expect->extra)) {
        return FORE_QUOTE_NONCE;
    }
    if (!signer_fits(expect, a)) {
        return FORE_QUOTE_SIGNER;
    }
    reason = judge_selection(expect, a);
    if (reason != FORE_QUOTE_OK) {
        return reason;
    }
    if (!digest_fits(expect, a, hash)) {
        return FORE_QUOTE_PCR_DIGEST;
    }
    if (a->firmware < expect->min_firmware) {
        return FORE_QUOTE_FIRMWARE;
    }
    info->firmware = a->firmware;
    info->clock = a->clock;
    return judge_clock(expect->last, &info->clock, &info->rebooted);
}

ForeQuoteReason fore_quote_verify(const ForeQuoteExpect *expect, GBytes *attest, GBytes *signature,
                                  ForeQuoteInfo *ret)
{
    g_auto(ForePublic) key = {0};
    ForeQuoteInfo info = {0};
    Attest a;
    Signature sig;
    ForeQuoteReason reason = read_attest(attest, &a);

    if (reason == FORE_QUOTE_OK) {
        reason = read_signature(signature, &sig);
    }
    if (reason == FORE_QUOTE_OK) {
        reason = read_key(expect->ak_public, &key);
    }
    if (reason == FORE_QUOTE_OK) {
        reason = fit(&sig, &key);
    }
    if (reason != FORE_QUOTE_OK) {
        return reason;
    }
    if (!verify(&sig, &key, attest)) {
        return FORE_QUOTE_SIGNATURE;
    }
    reason = judge_content(expect, &a, sig.hash, &info);
    if (reason == FORE_QUOTE_OK && ret != NULL) {
        *ret = info;
    }
    return reason;
}
