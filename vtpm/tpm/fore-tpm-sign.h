/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A signing key that a TPM made and that cannot leave it, kept as a blob that only it can load. */
#include <glib.h>
#include <stdbool.h>

#include "vtpm/tpm/fore-tpm.h"

/** fore_tpm_sign_create: P-256, ECDSA-SHA256, fixedTPM, fixedParent, under the SRK
 *  @ret_blob: (transfer full) public and wrapped private part */
bool fore_tpm_sign_create(ForeTpm *tpm, GBytes **ret_blob, GError **error);
/** fore_tpm_sign_public: the key's point, from the blob alone
 *  Errors: FORE_ERROR_UNTRUSTED (damaged, or no such key) */
bool fore_tpm_sign_public(GBytes *blob, uint8_t ret_x[32], uint8_t ret_y[32], GError **error);
/** fore_tpm_sign: @digest by the key in @blob; @ret_raw: r and s, big-endian
 *  Errors: FORE_ERROR_UNTRUSTED (another TPM's blob, or damaged), and what the TPM says */
bool fore_tpm_sign(ForeTpm *tpm, GBytes *blob, const uint8_t digest[32], uint8_t ret_raw[64],
                   GError **error);
