/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is of a quote only; head and signature are fore-attest-blob.c's.  The content is compared
 * with what was asked for after the signature holds.  Clauses are of TPM 2.0 Library Part 2, rev
 * 1.59: TPMS_QUOTE_INFO 10.12.1, TPML_PCR_SELECTION 10.9.7.
 */
#include "vtpm/attest/fore-quote.h"

#include <openssl/crypto.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "vtpm/attest/fore-attest-blob.h"
#include "vtpm/attest/fore-public.h"

#define ST_ATTEST_QUOTE 0x8018      /* 6.9 */
#define MAX_BANKS       16          /* HASH_COUNT of any TPM is below it */
#define MAX_SELECT      4           /* bytes of a PCR bit map */
#define EVIDENCE_PCRS   0x0000ffffu /* PCR 16 to 23 can be reset by whoever runs there */
#define N_PCRS          24

G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_MD_CTX, EVP_MD_CTX_free)

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

typedef struct {
    ForeAttestHead head;
    const uint8_t *digest;
    size_t digest_size;
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
    ForeQuoteReason reason = fore_attest_head(bytes, ST_ATTEST_QUOTE, &a.head, &cur);

    if (reason != FORE_QUOTE_OK) {
        return reason;
    }
    if (!read_banks(&cur, &a)) {
        return FORE_QUOTE_ATTEST_MALFORMED;
    }
    a.digest = fore_cursor_sized16(&cur, &a.digest_size);
    if (!fore_cursor_finished(&cur)) {
        return FORE_QUOTE_ATTEST_MALFORMED;
    }
    *ret = a;
    return FORE_QUOTE_OK;
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
static ForeQuoteReason judge_content(const ForeQuoteExpect *expect, const Attest *a,
                                     const ForePublic *key, ForeQuoteInfo *info)
{
    ForeQuoteReason reason;

    reason = fore_attest_judge_head(&a->head, key, expect->extra, expect->signer);
    if (reason != FORE_QUOTE_OK) {
        return reason;
    }
    reason = judge_selection(expect, a);
    if (reason != FORE_QUOTE_OK) {
        return reason;
    }
    if (!digest_fits(expect, a, key->scheme_hash)) {
        return FORE_QUOTE_PCR_DIGEST;
    }
    if (a->head.firmware < expect->min_firmware) {
        return FORE_QUOTE_FIRMWARE;
    }
    info->firmware = a->head.firmware;
    info->clock = a->head.clock;
    return judge_clock(expect->last, &info->clock, &info->rebooted);
}

ForeQuoteReason fore_quote_verify(const ForeQuoteExpect *expect, GBytes *attest, GBytes *signature,
                                  ForeQuoteInfo *ret)
{
    ForeQuoteInfo info = {0};
    g_auto(ForePublic) key = {0};
    Attest a;
    ForeQuoteReason reason = read_attest(attest, &a);

    if (reason == FORE_QUOTE_OK) {
        reason = fore_attest_signature(expect->ak_public, attest, signature, &key);
    }
    if (reason == FORE_QUOTE_OK) {
        reason = judge_content(expect, &a, &key, &info);
    }
    if (reason == FORE_QUOTE_OK && ret != NULL) {
        *ret = info;
    }
    return reason;
}
