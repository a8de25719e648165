/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp-agent/fore-store-key.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "vtpm/tpm/fore-tpm.h"

#define MAX_BLOB 4096

static bool take_key(GBytes *secret, const char *where, uint8_t *ret_key, GError **error)
{
    if (g_bytes_get_size(secret) != FORE_STORE_KEY_BYTES) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "%s holds %zu bytes; the store's key has %d", where, g_bytes_get_size(secret),
                    FORE_STORE_KEY_BYTES);
        return false;
    }
    memcpy(ret_key, g_bytes_get_data(secret, NULL), FORE_STORE_KEY_BYTES);
    return true;
}

static bool from_file(const char *path, uint8_t *ret_key, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GBytes) key = NULL;

    if (!g_file_get_contents(path, &text, NULL, error)) {
        g_prefix_error(error, "store-key-file: ");
        return false;
    }
    key = fore_hex_decode(g_strstrip(text), FORE_STORE_KEY_BYTES);
    OPENSSL_cleanse(text, strlen(text));
    if (key == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "store-key-file '%s' must hold %d hex digits, as 'openssl rand -hex %d' prints",
                    path, 2 * FORE_STORE_KEY_BYTES, FORE_STORE_KEY_BYTES);
        return false;
    }
    return take_key(key, path, ret_key, error);
}

static bool make_and_seal(ForeTpm *tpm, const char *path, uint8_t *ret_key, GError **error)
{
    g_autoptr(GBytes) secret = NULL, blob = NULL;

    if (RAND_bytes(ret_key, FORE_STORE_KEY_BYTES) != 1) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "no random bytes for the store's key");
        return false;
    }
    secret = g_bytes_new(ret_key, FORE_STORE_KEY_BYTES);
    if (!fore_tpm_seal(tpm, secret, &blob, error)) {
        g_prefix_error(error, "cannot seal the store's key to the TPM: ");
        return false;
    }
    if (!g_file_set_contents_full(
            path, g_bytes_get_data(blob, NULL), (gssize)g_bytes_get_size(blob),
            G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600, error)) {
        g_prefix_error(error, "cannot write the sealed key: ");
        return false;
    }
    return true;
}

bool fore_store_key_get(const ForeConfig *config, uint8_t ret_key[FORE_STORE_KEY_BYTES],
                        GError **error)
{
    g_autofree char *path = g_build_filename(config->state_dir, "store.key.sealed", NULL);
    g_autofree char *data = NULL;
    gsize size = 0;
    g_autoptr(ForeTpm) tpm = NULL;
    g_autoptr(GBytes) blob = NULL, secret = NULL;

    if (config->store_key_file[0] != '\0') {
        return from_file(config->store_key_file, ret_key, error);
    }
    tpm = fore_tpm_open(config->tcti, error);
    if (tpm == NULL) {
        g_prefix_error(error, "host TPM '%s' (needed to unseal the store's key): ", config->tcti);
        return false;
    }
    if (!g_file_test(path, G_FILE_TEST_EXISTS)) {
        return make_and_seal(tpm, path, ret_key, error);
    }
    if (!g_file_get_contents(path, &data, &size, error)) {
        return false;
    }
    if (size > MAX_BLOB) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "'%s' has %zu bytes; at most %d are taken", path, size, MAX_BLOB);
        return false;
    }
    blob = g_bytes_new(data, size);
    if (!fore_tpm_unseal(tpm, blob, &secret, error)) {
        g_prefix_error(error, "cannot unseal '%s' (was it made by another TPM?): ", path);
        return false;
    }
    return take_key(secret, path, ret_key, error);
}
