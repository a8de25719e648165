/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vtpm/host/fore-key.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/x509.h>
#include <string.h>

#include "common/fore-error.h"
#include "common/fore-flow.h"
#include "common/fore-identity.h"
#include "vtpm/host/fore-key-priv.h"

const char *const fore_key_kind_names[] = {"pkcs11", "tpm", "file"};
G_STATIC_ASSERT(G_N_ELEMENTS(fore_key_kind_names) == FORE_KEY_KIND_N);

struct ForeKey {
    ForeKeyKind kind;
    const ForeKeyPlace *place;
    gpointer state; /* of the place */
    EVP_PKEY *public;
    char id[FORE_JWS_KEY_ID + 1];
};

/* --- in a file --- */

static gpointer open_file(const ForeKeyConfig *config, EVP_PKEY **ret_public, GError **error)
{
    g_autofree char *path = fore_key_path(config, "pem", error);
    ForeIdentity *identity;

    if (path == NULL) {
        return NULL;
    }
    if (!config->allow_file) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "signing-key = '%s' would be a file that whoever reads it can sign with; use a "
                    "PKCS#11 token or a TPM, or set insecure-software-key = true",
                    config->where);
        return NULL;
    }
    identity = fore_identity_load_or_create(path, "foresee-pam", error);
    *ret_public = identity != NULL ? fore_key_copy_public(fore_identity_key(identity)) : NULL;
    return identity;
}

static bool sign_file(gpointer place, const void *bytes, size_t size, uint8_t ret_raw[FORE_JWS_RAW],
                      GError **error)
{
    return fore_jws_sign_evp(bytes, size, ret_raw, fore_identity_key(place), error);
}

static void close_file(gpointer place)
{
    fore_identity_free(place);
}

static const ForeKeyPlace fore_key_file = {open_file, sign_file, close_file};

/* --- all --- */

static const ForeKeyPlace *const places[] = {&fore_key_pkcs11, &fore_key_tpm, &fore_key_file};
G_STATIC_ASSERT(G_N_ELEMENTS(places) == FORE_KEY_KIND_N);

ForeKeyKind fore_key_kind(const char *where)
{
    for (ForeKeyKind kind = 0; kind < FORE_KEY_KIND_N; kind++) {
        size_t n = strlen(fore_key_kind_names[kind]);

        if (strncmp(where, fore_key_kind_names[kind], n) == 0 &&
            (where[n] == ':' || (where[n] == '\0' && kind != FORE_KEY_PKCS11))) {
            return kind;
        }
    }
    return FORE_KEY_KIND_N;
}

char *fore_key_path(const ForeKeyConfig *config, const char *suffix, GError **error)
{
    const char *name = strchr(config->where, ':');
    g_autofree char *file = name == NULL ? g_strdup_printf("signing-key.%s", suffix)
                                         : g_strdup_printf("signing-key-%s.%s", name + 1, suffix);

    if (name != NULL && !fore_name_is_valid(name + 1)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "signing-key '%.80s': bad name",
                    config->where);
        return NULL;
    }
    return g_build_filename(config->state_dir, file, NULL);
}

EVP_PKEY *fore_key_copy_public(EVP_PKEY *key)
{
    uint8_t *der = NULL;
    int size = i2d_PUBKEY(key, &der);
    const uint8_t *at = der;
    EVP_PKEY *copy = size > 0 ? d2i_PUBKEY(NULL, &at, size) : NULL;

    OPENSSL_free(der);
    return copy;
}

ForeKey *fore_key_open(const ForeKeyConfig *config, GError **error)
{
    g_autoptr(ForeKey) key = g_new0(ForeKey, 1);

    key->kind = fore_key_kind(config->where);
    if (key->kind == FORE_KEY_KIND_N) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "signing-key = '%.80s': want pkcs11:..., tpm[:NAME] or file[:NAME]",
                    config->where);
        return NULL;
    }
    key->place = places[key->kind];
    key->state = key->place->open(config, &key->public, error);
    if (key->state == NULL) {
        return NULL;
    }
    if (!fore_jws_key_is_p256(key->public)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "signing-key '%.80s' is no P-256 key",
                    config->where);
        return NULL;
    }
    fore_jws_key_id(key->public, key->id);
    return g_steal_pointer(&key);
}

void fore_key_free(ForeKey *key)
{
    if (key == NULL) {
        return;
    }
    if (key->state != NULL) {
        key->place->close(key->state);
    }
    EVP_PKEY_free(key->public);
    g_free(key);
}

ForeKeyKind fore_key_kind_of(const ForeKey *key)
{
    return key->kind;
}

EVP_PKEY *fore_key_public(const ForeKey *key)
{
    return key->public;
}

const char *fore_key_id(const ForeKey *key)
{
    return key->id;
}

static bool holds(EVP_PKEY *public, const void *bytes, size_t size, const uint8_t raw[FORE_JWS_RAW])
{
    ECDSA_SIG *sig = ECDSA_SIG_new();
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t *der = NULL;
    int n;
    bool good;

    g_assert(ECDSA_SIG_set0(sig, BN_bin2bn(raw, 32, NULL), BN_bin2bn(raw + 32, 32, NULL)) == 1);
    n = i2d_ECDSA_SIG(sig, &der);
    good = n > 0 && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, public) == 1 &&
           EVP_DigestVerify(ctx, der, (size_t)n, bytes, size) == 1;
    OPENSSL_free(der);
    EVP_MD_CTX_free(ctx);
    ECDSA_SIG_free(sig);
    return good;
}

bool fore_key_sign(const void *bytes, size_t size, uint8_t ret_raw[64], gpointer data,
                   GError **error)
{
    ForeKey *key = data;
    uint8_t raw[FORE_JWS_RAW];

    if (!key->place->sign(key->state, bytes, size, raw, error)) {
        return false;
    }
    if (!holds(key->public, bytes, size, raw)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "the %s signing key gave a signature that does not verify",
                    fore_key_kind_names[key->kind]);
        return false;
    }
    memcpy(ret_raw, raw, sizeof(raw));
    return true;
}
