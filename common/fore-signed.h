/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * An envelope around bytes that only their own host may have written: a file that was changed, or
 * that comes from another host, is refused before its contents are looked at.  Little-endian, no
 * padding:
 *
 *   8   magic "FORESIGN"
 *   u32 version (1)
 *   u8  length of the purpose (1..32), then the purpose: "weights", "checkpoint"
 *   32  SHA-256 of the signer's SubjectPublicKeyInfo
 *   u32 length of the contents, then the contents
 *   u16 length of the signature, then the signature: ECDSA with SHA-256 (FIPS 186-4), DER, over all
 *       that stands before its length; nothing follows
 *
 * The purpose is signed too: a checkpoint cannot be passed off as weights.
 */
#include <glib.h>
#include <openssl/evp.h>
#include <stdint.h>

#define FORE_SIGNED_MAX (80u << 20) /* bytes of an envelope */

/**
 * fore_signed_wrap: sign @size bytes at @data with @key (a private P-256 key)
 * Returns: (transfer full). Errors: FORE_ERROR_LIMIT (too large), FORE_ERROR_FAILED (OpenSSL)
 */
GBytes *fore_signed_wrap(EVP_PKEY *key, const char *purpose, const void *data, size_t size,
                         GError **error);
/**
 * fore_signed_open: the contents, when @key signed them for @purpose
 * @key: public half suffices
 * Errors: FORE_ERROR_UNTRUSTED (not signed, other key, other purpose, signature does not fit),
 * FORE_ERROR_INVALID (cut short or too long), FORE_ERROR_UNSUPPORTED (newer version)
 */
GBytes *fore_signed_open(EVP_PKEY *key, const char *purpose, const void *data, size_t size,
                         GError **error);
