/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The TPM is opened for each signature: a software TPM serves one client at a time. */
#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <string.h>

#include "common/fore-error.h"
#include "vtpm/host/fore-key-priv.h"
#include "vtpm/tpm/fore-tpm-sign.h"

#define BLOB_MAX 4096

typedef struct {
    char *tcti;
    GBytes *blob;
} Place;

static void place_free(gpointer data)
{
    Place *place = data;

    g_free(place->tcti);
    g_clear_pointer(&place->blob, g_bytes_unref);
    g_free(place);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Place, place_free)

/* Not an EC_KEY: that API is deprecated. */
static EVP_PKEY *key_from_point(const uint8_t x[32], const uint8_t y[32])
{
    uint8_t point[65] = {4}; /* uncompressed */
    char group[] = "prime256v1";
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    EVP_PKEY *key = NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)),
        OSSL_PARAM_construct_end(),
    };

    memcpy(point + 1, x, 32);
    memcpy(point + 33, y, 32);
    if (EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1) {
        key = NULL;
    }
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static bool make(const ForeKeyConfig *config, const char *path, GError **error)
{
    g_autoptr(ForeTpm) tpm = fore_tpm_open(config->tcti, error);
    g_autoptr(GBytes) blob = NULL;
    g_autoptr(GError) why = NULL;

    if (tpm == NULL || !fore_tpm_sign_create(tpm, &blob, error)) {
        return false;
    }
    if (!g_file_set_contents_full(
            path, g_bytes_get_data(blob, NULL), (gssize)g_bytes_get_size(blob),
            G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600, &why)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "%s", why->message);
        return false;
    }
    return true;
}

static gpointer open_place(const ForeKeyConfig *config, EVP_PKEY **ret_public, GError **error)
{
    g_autofree char *path = fore_key_path(config, "tpm", error);
    g_autoptr(Place) place = g_new0(Place, 1);
    g_autoptr(GError) why = NULL;
    g_autofree char *text = NULL;
    uint8_t x[32], y[32];
    gsize size;

    if (path == NULL) {
        return NULL;
    }
    if (config->tcti == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "signing-key = %s needs tcti",
                    config->where);
        return NULL;
    }
    if (!g_file_test(path, G_FILE_TEST_EXISTS) && !make(config, path, error)) {
        return NULL;
    }
    if (!g_file_get_contents(path, &text, &size, &why) || size > BLOB_MAX) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "signing key '%s': %s", path,
                    why != NULL ? why->message : "too long");
        return NULL;
    }
    place->tcti = g_strdup(config->tcti);
    place->blob = g_bytes_new(text, size);
    if (!fore_tpm_sign_public(place->blob, x, y, error)) {
        return NULL;
    }
    *ret_public = key_from_point(x, y);
    return *ret_public != NULL ? g_steal_pointer(&place) : NULL;
}

static bool sign_place(gpointer data, const void *bytes, size_t size, uint8_t ret_raw[FORE_JWS_RAW],
                       GError **error)
{
    Place *place = data;
    g_autoptr(ForeTpm) tpm = fore_tpm_open(place->tcti, error);
    uint8_t digest[32];

    g_assert(EVP_Digest(bytes, size, digest, NULL, EVP_sha256(), NULL) == 1);
    return tpm != NULL && fore_tpm_sign(tpm, place->blob, digest, ret_raw, error);
}

const ForeKeyPlace fore_key_tpm = {open_place, sign_place, place_free};
