/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Is this public key one that only a TPM can sign quotes with?  Judged once, at enrolment, before a
 * credential is made for it; that a real TPM holds it is what activating the credential then
 * proves.
 */
#include "vtpm/attest/fore-public.h"

typedef enum {
    FORE_AK_OK,
    FORE_AK_MALFORMED,   /* TPM2B_PUBLIC does not parse, trailing bytes, other type */
    FORE_AK_NAME_ALG,    /* SHA-1 or an unknown name hash */
    FORE_AK_KEY_WEAK,    /* see FORE_PUBLIC_WEAK */
    FORE_AK_KEY_INVALID, /* see FORE_PUBLIC_INVALID */
    FORE_AK_ATTRIBUTES,  /* not exactly a restricted signing key born in and fixed to its TPM */
    FORE_AK_SCHEME,      /* scheme is not ECDSA, RSASSA or RSAPSS with SHA-256 or SHA-384 */
    FORE_AK_NAME,        /* the name that the node claims is not this key's */
    FORE_AK_N
} ForeAkReason;
const char *fore_ak_reason_name(ForeAkReason reason); /* "ak-attributes", ... */

/**
 * fore_ak_check
 * @ak_public: TPM2B_PUBLIC from the node, any content
 * @claimed_name: name that came with it, compared exactly; NULL: none came
 */
ForeAkReason fore_ak_check(GBytes *ak_public, GBytes *claimed_name);

/** fore_ak_judge: fore_ak_check() of a public area that was read already */
ForeAkReason fore_ak_judge(const ForePublic *pub, GBytes *claimed_name);
/** fore_ak_primary_name: fore_ak_qualified_name() of a primary key that was read already */
GBytes *fore_ak_primary_name(const ForePublic *pub);
/** fore_ak_name: nameAlg || digest (transfer full); NULL when @ak_public does not parse */
GBytes *fore_ak_name(GBytes *ak_public);
/** fore_ak_name_hex: the same as lower-case hex, as in claim "ak" of a grant (transfer full) */
char *fore_ak_name_hex(GBytes *ak_public);

/**
 * fore_ak_qualified_name: qualifiedSigner of quotes by @ak_public (Part 1, 16): a chain of hashes
 * from the endorsement hierarchy's handle down
 * @parent_public: the AK's parent when it is not a primary key (tpm2_createak: the EK); NULL: it is
 *                 primary, as fore_tpm_ak() makes it
 * Returns: (transfer full), NULL when a public area does not parse
 */
GBytes *fore_ak_qualified_name(GBytes *ak_public, GBytes *parent_public);
