/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A P-256 key with a self-signed certificate around it: what a Foresee program shows in TLS.  Peers
 * pin the key, not the certificate: a *pin* is the lower-case hex SHA-256 of the
 * SubjectPublicKeyInfo.
 */
#include <glib.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#define FORE_PIN_HEX 64 /* characters of a pin, without the NUL */

typedef struct ForeIdentity ForeIdentity;

/** fore_identity_new: a fresh key; @name becomes the certificate's common name */
ForeIdentity *fore_identity_new(const char *name, GError **error);
/**
 * fore_identity_load_or_create: PEM private key at @path, mode 0600; made when it is missing
 * Errors: FORE_ERROR_INVALID (not a P-256 PEM key), FORE_ERROR_UNAVAILABLE (cannot read or write)
 */
ForeIdentity *fore_identity_load_or_create(const char *path, const char *name, GError **error);
void fore_identity_free(ForeIdentity *id);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeIdentity, fore_identity_free)

const char *fore_identity_pin(const ForeIdentity *id); /* 64 hex characters */
EVP_PKEY *fore_identity_key(const ForeIdentity *id);   /* borrowed */
X509 *fore_identity_cert(const ForeIdentity *id);      /* borrowed */

/** fore_key_pin: pin of any public key (transfer full) */
char *fore_key_pin(EVP_PKEY *key);
/** fore_key_load_public: PEM "PUBLIC KEY" at @path. Errors as above. (transfer full) */
EVP_PKEY *fore_key_load_public(const char *path, GError **error);
/** fore_key_save_public: writes PEM "PUBLIC KEY", mode 0644 */
gboolean fore_key_save_public(EVP_PKEY *key, const char *path, GError **error);
