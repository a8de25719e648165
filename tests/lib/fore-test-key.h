/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * What an attacker with a software key can make: TPM2B_PUBLIC of any attributes, and TPMT_SIGNATURE
 * over any bytes.  Lets tests reach what lies behind the signature check.
 */
#include <glib.h>
#include <openssl/evp.h>
#include <stdint.h>

#include "vtpm/attest/fore-public.h"

#define FORE_TEST_AK_ATTRIBUTES 0x00050072u /* what fore_tpm_ak() makes */
#define FORE_TEST_EK_ATTRIBUTES 0x000300b2u /* TCG template L-1 */

typedef struct {
    EVP_PKEY *pkey;
    uint16_t scheme, hash, name_alg;
    uint32_t attributes;
} ForeTestKey;

/** fore_test_key_init: @what: "P-256", "P-384", "P-521", "P-224", "RSA-2048", "RSA-1024", ...; an
 * AK */
void fore_test_key_init(ForeTestKey *key, const char *what, uint16_t scheme, uint16_t hash);
void fore_test_key_done(ForeTestKey *key);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ForeTestKey, fore_test_key_done)

/** fore_test_key_public: TPM2B_PUBLIC of an AK */
GBytes *fore_test_key_public(const ForeTestKey *key);
/** fore_test_key_ek_public: TPM2B_PUBLIC of an EK by the TCG's default template, around the same
 * key */
GBytes *fore_test_key_ek_public(const ForeTestKey *key);
/** fore_test_key_sign: TPMT_SIGNATURE over @text */
GBytes *fore_test_key_sign(const ForeTestKey *key, GBytes *text);
/** fore_test_replace: copy of @bytes with @n bytes at @at replaced */
GBytes *fore_test_replace(GBytes *bytes, gsize at, const void *data, gsize n);
/** fore_test_vector: file below the shared vectors, or NULL after g_test_skip() that names it */
GBytes *fore_test_vector(const char *name);
