/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A P-256 key that signs grants and verdicts, and where it lives: in a PKCS#11 token, in a TPM, or,
 * when somebody insists, in a file.  Blocking; one caller at a time.  There is no fallback from one
 * place to another: a key that does not sign is an error.
 */
#include <glib.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum { FORE_KEY_PKCS11, FORE_KEY_TPM, FORE_KEY_FILE, FORE_KEY_KIND_N } ForeKeyKind;
extern const char *const fore_key_kind_names[FORE_KEY_KIND_N]; /* "pkcs11", "tpm", "file" */

typedef struct {
    /* "pkcs11:..." (RFC 7512; "?pin-source=file:PATH" gives the PIN), "tpm[:NAME]" or
     * "file[:NAME]": in the state folder, signing-key[-NAME].tpm or .pem, made when missing */
    const char *where;
    const char *state_dir;
    const char *pkcs11_module; /* shared object of the token; NULL: as OpenSSL is configured */
    const char *tcti;          /* of the TPM; NULL with "tpm" is an error */
    bool allow_file;           /* "file" is an error without */
} ForeKeyConfig;

typedef struct ForeKey ForeKey;

/** fore_key_kind: of a "where"; FORE_KEY_KIND_N when it is none */
ForeKeyKind fore_key_kind(const char *where);

/**
 * fore_key_open
 * Errors: FORE_ERROR_INVALID (config, not a P-256 key), FORE_ERROR_NOT_FOUND (no such key in the
 * token), FORE_ERROR_UNAVAILABLE (token or TPM away, PIN wrong or locked)
 */
ForeKey *fore_key_open(const ForeKeyConfig *config, GError **error);
void fore_key_free(ForeKey *key); /* NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeKey, fore_key_free)

ForeKeyKind fore_key_kind_of(const ForeKey *key);
EVP_PKEY *fore_key_public(const ForeKey *key); /* in memory of its own; borrowed */
const char *fore_key_id(const ForeKey *key);   /* fore_jws_key_id() */

/**
 * fore_key_sign: ForeJwsSigner; @data: ForeKey.  What the token or TPM returns is verified with
 * the public key before it is given out
 * Errors: FORE_ERROR_UNAVAILABLE (gone, locked, does not sign)
 */
bool fore_key_sign(const void *bytes, size_t size, uint8_t ret_raw[64], gpointer data,
                   GError **error);
