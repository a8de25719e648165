/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Judges a TPM2_NV_Certify of a log's head (fore_tpm_log_certify()): the AK vouches that the NV
 * index, of exactly the kind that we keep logs in, holds this value.  A quote is judged by
 * fore-quote.h, and neither is ever taken for the other.  Pure.
 */
#include "vtpm/attest/fore-quote.h"

typedef enum {
    FORE_NVCERT_OK,
    FORE_NVCERT_STATEMENT, /* head or signature: @ret_why says what of a ForeQuoteReason */
    FORE_NVCERT_INDEX,     /* another index, or one with other attributes: its name differs */
    FORE_NVCERT_CONTENT,   /* not the whole value */
    FORE_NVCERT_N
} ForeNvcertReason;
const char *fore_nvcert_reason_name(ForeNvcertReason reason); /* "nv-index", ... */

#define FORE_NVCERT_LAUNCHES 0x01800f11u /* FORE_TPM_LAUNCH_INDEX */

typedef struct {
    GBytes *ak_public; /* as in ForeQuoteExpect */
    GBytes *extra;     /* expected extraData, exact */
    GBytes *signer;    /* as in ForeQuoteExpect */
    uint32_t index;    /* FORE_TPM_LAUNCH_INDEX, ... */
    bool by_boot;      /* a log of life FORE_TPM_LOG_BOOT */
} ForeNvcertExpect;

/**
 * fore_nvcert_verify
 * @attest, @signature: bytes from the node, any content
 * @ret_head: (out caller-allocates): [32], written on FORE_NVCERT_OK only
 * @ret_clock: of the statement, likewise; may be NULL
 * @ret_why: written with FORE_NVCERT_STATEMENT; may be NULL
 */
ForeNvcertReason fore_nvcert_verify(const ForeNvcertExpect *expect, GBytes *attest,
                                    GBytes *signature, uint8_t ret_head[32],
                                    ForeTpmClock *ret_clock, ForeQuoteReason *ret_why);
