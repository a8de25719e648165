/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Judges a TPM quote (TPMS_ATTEST + TPMT_SIGNATURE, TPM 2.0 Library Part 2 rev 1.59) against what
 * was asked for.  Pure, fails closed; each refusal has a reason of its own.
 */
#include <glib.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum {
    FORE_QUOTE_OK,
    FORE_QUOTE_ATTEST_MALFORMED, /* short, oversized field, trailing bytes */
    FORE_QUOTE_MAGIC,            /* not TPM_GENERATED_VALUE */
    FORE_QUOTE_TYPE,             /* not TPM_ST_ATTEST_QUOTE */
    FORE_QUOTE_SIGNATURE_MALFORMED,
    FORE_QUOTE_SIGNATURE_SCHEME, /* algorithm does not fit the key, or RSAES, HMAC... */
    FORE_QUOTE_HASH_WEAK,        /* SHA-1, in signature or PCR bank */
    FORE_QUOTE_HASH_MISMATCH,    /* other hash than expected for the key */
    FORE_QUOTE_KEY_WEAK,         /* RSA < 2048, exponent, curve */
    FORE_QUOTE_KEY_INVALID,      /* point not on curve, coordinate length... */
    FORE_QUOTE_SIGNATURE,        /* does not verify */
    FORE_QUOTE_NONCE,            /* extraData is not what was asked for */
    FORE_QUOTE_PCR_SELECTION,    /* signed selection is not the one asked for */
    FORE_QUOTE_PCR_BANK,         /* duplicate, inactive or unknown bank */
    FORE_QUOTE_PCR_DIGEST,       /* values do not hash to the signed digest */
    FORE_QUOTE_PCR_VALUE,        /* values are not the reference values */
    FORE_QUOTE_SIGNER,           /* qualifiedSigner is not the enrolled key's */
    FORE_QUOTE_CLOCK_BACKWARDS,  /* resetCount, restartCount, clock went back */
    FORE_QUOTE_CLOCK_UNSAFE,     /* safe == 0 for longer than settling allows */
    FORE_QUOTE_FIRMWARE,         /* firmwareVersion below minimum */
    FORE_QUOTE_N
} ForeQuoteReason;
/** fore_quote_reason_name: stable name, e.g. "pcr-digest-mismatch" */
const char *fore_quote_reason_name(ForeQuoteReason reason);

#define FORE_QUOTE_MAX_ATTEST    2304
#define FORE_QUOTE_MAX_SIGNATURE 1024

typedef struct {
    uint64_t clock_ms;
    uint32_t reset_count, restart_count;
    bool safe;
    uint64_t
        unsafe_since_ms; /* while not safe: clock_ms of the first such quote since that reset or
                            restart; keep it with the rest, it bounds how long "settling" lasts */
} ForeTpmClock;
#define FORE_QUOTE_SETTLING_MS 10000

typedef struct {
    GBytes *ak_public; /* enrolled TPM2B_PUBLIC, already judged by fore_ak_check() */
    GBytes *extra;     /* expected extraData, exact */
    uint32_t pcr_mask; /* SHA-256 bank, exactly these PCRs; never 16..23 */
    const uint8_t (
        *pcrs)[32]; /* [24] values that the node reported (recomputed from its log later) */
    const ForeTpmClock *last; /* clock of the last accepted quote, or NULL */
    GBytes *signer;        /* expected qualifiedSigner, see fore_ak_qualified_name(); NULL: the AK
                              must be a primary key of the endorsement hierarchy, as
                              fore_tpm_ak() makes it */
    uint64_t min_firmware; /* lowest firmwareVersion; 0: any */
} ForeQuoteExpect;

typedef struct {
    ForeTpmClock clock;
    uint64_t firmware;
    bool rebooted; /* accepted, but resetCount or restartCount moved: everything must be judged anew
                    */
} ForeQuoteInfo;

/**
 * fore_quote_verify: the first reason that applies, in this order: size, magic, type, rest of the
 * layout, signature's layout, key, scheme, hash, signature; only what was signed is then judged:
 * nonce, signer, PCR selection, PCR digest, firmware, clock
 * @attest, @signature: bytes from the node, any content
 * @ret: written on FORE_QUOTE_OK only; may be NULL
 */
ForeQuoteReason fore_quote_verify(const ForeQuoteExpect *expect, GBytes *attest, GBytes *signature,
                                  ForeQuoteInfo *ret);
