/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * What every statement of a TPM has in common (TPMS_ATTEST + TPMT_SIGNATURE), whatever it states:
 * used by fore-quote.c and fore-nvcert.c.
 */
#include "common/fore-bytes.h"
#include "vtpm/attest/fore-public.h"
#include "vtpm/attest/fore-quote.h"

/* TPMS_ATTEST up to the part that depends on its type; pointers into the caller's bytes. */
typedef struct {
    const uint8_t *signer, *extra;
    size_t signer_size, extra_size;
    ForeTpmClock clock;
    uint64_t firmware;
} ForeAttestHead;

/**
 * fore_attest_head: size, magic, type, layout
 * @want_type: TPM_ST_ATTEST_*
 * @ret_rest: (out caller-allocates): what is specific to the type, not yet read
 */
ForeQuoteReason fore_attest_head(GBytes *bytes, uint16_t want_type, ForeAttestHead *ret,
                                 ForeCursor *ret_rest);
/**
 * fore_attest_signature: layout, key, scheme, hash, and whether it verifies
 * @ret_key: (out caller-allocates): the AK as it was read, once for all that follows; written, with
 * the TPM_ALG_ID of the scheme's hash in its scheme_hash, on FORE_QUOTE_OK only
 */
ForeQuoteReason fore_attest_signature(GBytes *ak_public, GBytes *attest, GBytes *signature,
                                      ForePublic *ret_key);
/** fore_attest_judge_head: nonce and signer; @extra NULL refuses; @signer: see ForeQuoteExpect */
ForeQuoteReason fore_attest_judge_head(const ForeAttestHead *head, const ForePublic *ak,
                                       GBytes *extra, GBytes *signer);
