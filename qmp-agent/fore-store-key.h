/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The store's key: 32 random bytes, sealed to the host TPM (or, without one, in an operator's
 * file). */
#include "profile/fore-store.h"
#include "qmp-agent/fore-config.h"

/**
 * fore_store_key_get: unseal it, or make and seal it on the first start; blocks for the TPM
 * @ret_key: [FORE_STORE_KEY_BYTES]; the caller wipes it
 * Errors: FORE_ERROR_UNAVAILABLE (TPM, file), FORE_ERROR_UNTRUSTED (sealed by another TPM),
 *         FORE_ERROR_INVALID (key file is not 64 hex digits)
 */
bool fore_store_key_get(const ForeConfig *config, uint8_t ret_key[FORE_STORE_KEY_BYTES],
                        GError **error);
