/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * TPM2_MakeCredential without a TPM (Part 1, 24 and annexes B.10 and C.6): encrypts a secret so
 * that only a TPM that holds both this EK and an object of this name can read it.  Who returns the
 * secret has proved that the AK lives beside the EK.
 */
#include <glib.h>
#include <stdbool.h>

#define FORE_CREDENTIAL_SECRET 32 /* bytes; enough for a challenge, fits every EK's name hash */

/**
 * fore_credential_make
 * @ek_public: TPM2B_PUBLIC of the EK, RSA or ECC, already judged by fore_ekcert_verify()
 * @ak_name: nameAlg || digest of the AK, see fore_ak_name()
 * @secret: 1..FORE_CREDENTIAL_SECRET bytes, fresh from a random generator
 * @ret_blob: TPM2B_ID_OBJECT  @ret_secret: TPM2B_ENCRYPTED_SECRET, as fore_tpm_activate() takes
 * them Errors: FORE_ERROR_INVALID (EK or name do not fit), FORE_ERROR_FAILED (OpenSSL)
 */
bool fore_credential_make(GBytes *ek_public, GBytes *ak_name, GBytes *secret, GBytes **ret_blob,
                          GBytes **ret_secret, GError **error);

/** fore_credential_make_seeded: the half that follows the seed, for known-answer tests
 *  @seed: as long as the EK's name hash  Returns: TPM2B_ID_OBJECT (transfer full) or NULL */
GBytes *fore_credential_make_seeded(GBytes *ek_public, GBytes *ak_name, GBytes *secret,
                                    const guint8 *seed, gsize seed_size);
