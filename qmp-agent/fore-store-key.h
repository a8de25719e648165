/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The store's key: 32 random bytes, kept wrapped: sealed to the host TPM, or encrypted to an RSA
 * key in a PKCS#11 token, or (without either) in a file of the operator's.
 *
 * While it is changed there are two, the second in PATH.next; exactly one opens the store, and
 * fore_store_key_open() finds out which.
 */
#include "profile/fore-store.h"
#include "qmp-agent/fore-config.h"

/**
 * fore_store_key_get: unwrap it, or make and wrap it on the first start; blocks for TPM or token
 * @ret_key: [FORE_STORE_KEY_BYTES]; the caller wipes it
 * Errors: FORE_ERROR_UNAVAILABLE (TPM, token, file), FORE_ERROR_UNTRUSTED (wrapped by another),
 *         FORE_ERROR_INVALID (key file is not 64 hex digits)
 */
bool fore_store_key_get(const ForeConfig *config, uint8_t ret_key[FORE_STORE_KEY_BYTES],
                        GError **error);

/**
 * fore_store_key_open: open the store at @path with whichever key fits, and forget the other
 * Errors: as above and fore_store_open(); FORE_ERROR_UNTRUSTED: there is a store but no key
 */
ForeStore *fore_store_key_open(const ForeConfig *config, const char *path, GError **error);

/** fore_store_key_prepare: a new random key, wrapped and durable in PATH.next; blocks
 * @ret_key: [FORE_STORE_KEY_BYTES]; the caller wipes it */
bool fore_store_key_prepare(const ForeConfig *config, uint8_t ret_key[FORE_STORE_KEY_BYTES],
                            GError **error);
/** fore_store_key_settle: the change has ended; @changed: the store has the new key */
bool fore_store_key_settle(const ForeConfig *config, bool changed, GError **error);
