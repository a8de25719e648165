/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Whose grants are taken.  The configuration pins one key of the PAM.  A grant that the present key
 * signed may name the next one; from the first grant that the next key signed, the old one is no
 * key of ours any more.  What was learnt is kept in the state folder where there is one, and is
 * forgotten when another key is pinned.  Used by the worker only.
 */
#include <glib.h>
#include <openssl/evp.h>
#include <stdbool.h>

#include "common/fore-identity.h"
#include "vtpm/attest/fore-grant.h"

typedef struct ForeSeaKeys ForeSeaKeys;

/** fore_sea_keys_new: @pinned: P-256, a reference is taken   @state_dir: may be unwritable */
ForeSeaKeys *fore_sea_keys_new(EVP_PKEY *pinned, const char *state_dir);
void fore_sea_keys_free(ForeSeaKeys *keys); /* NULL allowed */
/** fore_sea_keys_id: of the newest key that is known: hex SHA-256 of its SubjectPublicKeyInfo */
const char *fore_sea_keys_id(const ForeSeaKeys *keys);
/** fore_sea_keys_verify: fore_grant_verify() with the keys that count; @expect->pam_key is ignored
 *  @ret_key: which of them signed (borrowed), on FORE_GRANT_OK */
ForeGrantReason fore_sea_keys_verify(const ForeSeaKeys *keys, const char *jws,
                                     const ForeGrantExpect *expect, ForeGrant *ret,
                                     EVP_PKEY **ret_key);
/** fore_sea_keys_accepted: @grant of @signer was accepted, and its number is burnt: learn and
 *  retire */
void fore_sea_keys_accepted(ForeSeaKeys *keys, const ForeGrant *grant, EVP_PKEY *signer);
