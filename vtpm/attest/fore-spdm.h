/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Measurements of a device over SPDM 1.1 (DMTF DSP0274 1.1.x, 10.11): one signed GET_MEASUREMENTS
 * exchange, and the device's chain to a pinned root.  ECDSA P-384 with SHA-384.  Verification only.
 * Pure: the time is an argument.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_SPDM_MAX       (64u << 10) /* bytes of an exchange */
#define FORE_SPDM_MAX_CHAIN 8

typedef enum {
    FORE_SPDM_OK,
    FORE_SPDM_MALFORMED,
    FORE_SPDM_VERSION, /* not 1.1 */
    FORE_SPDM_REQUEST, /* not a request for signed measurements of all indices */
    FORE_SPDM_NONCE,   /* the request carries another nonce */
    FORE_SPDM_CERT,    /* a certificate does not parse, or the first one cannot sign evidence */
    FORE_SPDM_CHAIN,   /* no path to the pinned root */
    FORE_SPDM_EXPIRED,
    FORE_SPDM_SIGNATURE,
    FORE_SPDM_MISSING,  /* an index that policy lists is not in the answer */
    FORE_SPDM_MISMATCH, /* it has another value */
    FORE_SPDM_POLICY,   /* no root, or nothing listed */
    FORE_SPDM_N
} ForeSpdmReason;
const char *fore_spdm_reason_name(ForeSpdmReason reason); /* "spdm-nonce-mismatch", ... */

typedef struct {
    uint8_t index; /* 1..254 */
    GBytes *value; /* DMTF measurement value, exact */
} ForeSpdmMeasurement;

typedef struct {
    GBytes *root; /* DER, pinned */
    int64_t now_s;
    const ForeSpdmMeasurement *measurements; /* at least one */
    size_t n_measurements;
} ForeSpdmPolicy;

/**
 * fore_spdm_judge
 * @exchange: request, then response with its signature, as on the wire
 * @chain: DER, leaf first; a root among them is no anchor
 * @nonce: [32] that the request must carry
 */
ForeSpdmReason fore_spdm_judge(GBytes *exchange, GBytes *const *chain, size_t n_chain,
                               const ForeSpdmPolicy *policy, const uint8_t nonce[32]);
/** fore_spdm_measurement: value of @index in an exchange, unjudged; (transfer full) or NULL */
GBytes *fore_spdm_measurement(GBytes *exchange, uint8_t index);
