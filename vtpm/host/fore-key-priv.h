/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Between fore-key.c and the places where a key may live. */
#include "vtpm/attest/fore-jws.h"
#include "vtpm/host/fore-key.h"

typedef struct {
    /* opens the key; @ret_public: (transfer full) its public half in memory */
    gpointer (*open)(const ForeKeyConfig *config, EVP_PKEY **ret_public, GError **error);
    bool (*sign)(gpointer place, const void *bytes, size_t size, uint8_t ret_raw[FORE_JWS_RAW],
                 GError **error);
    void (*close)(gpointer place);
} ForeKeyPlace;

extern const ForeKeyPlace fore_key_pkcs11, fore_key_tpm;

/** fore_key_path: STATE/signing-key[-NAME].@suffix of "tpm[:NAME]"; NULL with INVALID */
char *fore_key_path(const ForeKeyConfig *config, const char *suffix, GError **error);
/** fore_key_copy_public: into the default library context, whoever provides @key; or NULL */
EVP_PKEY *fore_key_copy_public(EVP_PKEY *key);
