/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A process that is linked to SQLCipher must not load a PKCS#11 module: many of them bring
 * libsqlite3 along, whose symbols would be SQLCipher's.  So wrapping with a token is done by
 * foresee-unwrap, a program of its own; the key goes through two pipes.
 */
#include "qmp-agent/fore-store-key.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <string.h>
#include <unistd.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "vtpm/tpm/fore-tpm.h"

#define MAX_BLOB 4096

typedef enum { PLACE_FILE, PLACE_PKCS11, PLACE_TPM } Place;

static Place place_of(const ForeConfig *config)
{
    return config->store_key_file[0] != '\0'     ? PLACE_FILE
           : config->store_key_pkcs11[0] != '\0' ? PLACE_PKCS11
                                                 : PLACE_TPM;
}

static char *path_of(const ForeConfig *config, bool next)
{
    static const char *const names[] = {NULL, "store.key.pkcs11", "store.key.sealed"};
    Place place = place_of(config);
    g_autofree char *path = place == PLACE_FILE
                                ? g_strdup(config->store_key_file)
                                : g_build_filename(config->state_dir, names[place], NULL);

    return g_strconcat(path, next ? ".next" : "", NULL);
}

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

/* --- wrapping --- */

static char *unwrap_program(void)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *dir = g_path_get_dirname(self != NULL ? self : "/");
    g_autofree char *beside = g_build_filename(dir, "foresee-unwrap", NULL);
    g_autofree char *libexec =
        g_build_filename(dir, "..", "libexec", "foresee", "foresee-unwrap", NULL);

    if (g_file_test(beside, G_FILE_TEST_IS_EXECUTABLE)) {
        return g_steal_pointer(&beside);
    }
    return g_file_test(libexec, G_FILE_TEST_IS_EXECUTABLE)
               ? g_steal_pointer(&libexec)
               : g_find_program_in_path("foresee-unwrap");
}

/* @verb: "wrap" or "unwrap".  Returns: (transfer full) what the program answered */
static GBytes *with_token(const ForeConfig *config, const char *verb, GBytes *in, GError **error)
{
    g_autofree char *program = unwrap_program();
    g_autoptr(GSubprocess) process = NULL;
    g_autoptr(GBytes) out = NULL, said = NULL;
    g_autofree char *text = NULL;
    gsize size = 0;

    if (program == NULL) {
        g_set_error(
            error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
            "store-key-pkcs11 needs the program foresee-unwrap beside this one; install it");
        return NULL;
    }
    process = g_subprocess_new(
        G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE |
            G_SUBPROCESS_FLAGS_STDERR_PIPE,
        error, program, verb, config->store_key_pkcs11,
        config->store_key_module[0] != '\0' ? config->store_key_module : NULL, NULL);
    if (process == NULL || !g_subprocess_communicate(process, in, NULL, &out, &said, error)) {
        return NULL;
    }
    if (!g_subprocess_get_successful(process) || g_bytes_get_size(out) > MAX_BLOB) {
        const char *why = g_bytes_get_data(said, &size);

        text = fore_text_plain(g_strstrip(g_strndup(why != NULL ? why : "", MIN(size, 500))));
        g_set_error(error, FORE_ERROR,
                    g_subprocess_get_if_exited(process) &&
                            g_subprocess_get_exit_status(process) == 6
                        ? FORE_ERROR_UNTRUSTED
                        : FORE_ERROR_UNAVAILABLE,
                    "cannot %s the store's key: %s", verb, text);
        return NULL;
    }
    return g_steal_pointer(&out);
}

static GBytes *with_tpm(const ForeConfig *config, bool wrap, GBytes *in, GError **error)
{
    g_autoptr(ForeTpm) tpm = fore_tpm_open(config->tcti, error);
    GBytes *out = NULL;

    if (tpm == NULL) {
        g_prefix_error(error, "host TPM '%s' (needed for the store's key): ", config->tcti);
        return NULL;
    }
    if (!(wrap ? fore_tpm_seal : fore_tpm_unseal)(tpm, in, &out, error)) {
        g_prefix_error(error,
                       wrap ? "cannot seal the store's key to the TPM: "
                            : "cannot unseal the store's key (was it made by another TPM?): ");
        return NULL;
    }
    return out;
}

static bool write_key(const ForeConfig *config, const char *path, const uint8_t *key,
                      GError **error)
{
    g_autoptr(GBytes) secret = g_bytes_new(key, FORE_STORE_KEY_BYTES), blob = NULL;
    g_autofree char *hex = NULL;
    Place place = place_of(config);
    bool ok;

    if (place == PLACE_FILE) {
        hex = fore_hex_encode(key, FORE_STORE_KEY_BYTES);
        blob = g_bytes_new(hex, strlen(hex));
        OPENSSL_cleanse(hex, strlen(hex));
    } else {
        blob = place == PLACE_TPM ? with_tpm(config, true, secret, error)
                                  : with_token(config, "wrap", secret, error);
    }
    ok = blob != NULL &&
         g_file_set_contents_full(
             path, g_bytes_get_data(blob, NULL), (gssize)g_bytes_get_size(blob),
             G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600, error);
    if (blob != NULL && !ok) {
        g_prefix_error(error, "cannot write the store's key: ");
    }
    return ok;
}

static bool from_hex(const char *path, char *text, uint8_t *ret_key, GError **error)
{
    g_autoptr(GBytes) key = fore_hex_decode(g_strstrip(text), FORE_STORE_KEY_BYTES);

    OPENSSL_cleanse(text, strlen(text));
    if (key == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "store-key-file '%s' must hold %d hex digits, as 'openssl rand -hex %d' prints",
                    path, 2 * FORE_STORE_KEY_BYTES, FORE_STORE_KEY_BYTES);
        return false;
    }
    return take_key(key, path, ret_key, error);
}

static bool read_key(const ForeConfig *config, const char *path, uint8_t *ret_key, GError **error)
{
    g_autofree char *data = NULL;
    g_autoptr(GBytes) blob = NULL, secret = NULL;
    Place place = place_of(config);
    gsize size = 0;

    if (!g_file_get_contents(path, &data, &size, error)) {
        g_prefix_error(error, "%s: ", place == PLACE_FILE ? "store-key-file" : "the store's key");
        return false;
    }
    if (size > MAX_BLOB) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "'%s' has %zu bytes; at most %d are taken", path, size, MAX_BLOB);
        return false;
    }
    if (place == PLACE_FILE) {
        return from_hex(path, data, ret_key, error);
    }
    blob = g_bytes_new(data, size);
    secret = place == PLACE_TPM ? with_tpm(config, false, blob, error)
                                : with_token(config, "unwrap", blob, error);
    if (secret == NULL) {
        g_prefix_error(error, "'%s': ", path);
        return false;
    }
    return take_key(secret, path, ret_key, error);
}

static bool make_key(const ForeConfig *config, const char *path, uint8_t *ret_key, GError **error)
{
    if (RAND_bytes(ret_key, FORE_STORE_KEY_BYTES) != 1) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "no random bytes for the store's key");
        return false;
    }
    return write_key(config, path, ret_key, error);
}

bool fore_store_key_get(const ForeConfig *config, uint8_t ret_key[FORE_STORE_KEY_BYTES],
                        GError **error)
{
    g_autofree char *path = path_of(config, false);

    /* An operator's file is the operator's to make. */
    return place_of(config) != PLACE_FILE && !g_file_test(path, G_FILE_TEST_EXISTS)
               ? make_key(config, path, ret_key, error)
               : read_key(config, path, ret_key, error);
}

/* --- changing it --- */

bool fore_store_key_prepare(const ForeConfig *config, uint8_t ret_key[FORE_STORE_KEY_BYTES],
                            GError **error)
{
    g_autofree char *path = path_of(config, true);

    return make_key(config, path, ret_key, error);
}

static bool sync_folder(const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;

    if (!ok) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot sync '%s': %s", dir,
                    g_strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

bool fore_store_key_settle(const ForeConfig *config, bool changed, GError **error)
{
    g_autofree char *path = path_of(config, false), *next = path_of(config, true);

    if (changed ? rename(next, path) != 0 : unlink(next) != 0 && errno != ENOENT) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "cannot %s '%s': %s; keep both key files, the next start sorts them out",
                    changed ? "put in place" : "remove", next, g_strerror(errno));
        return false;
    }
    return sync_folder(path, error);
}

static ForeStore *open_with(const ForeConfig *config, const char *key_path, const char *path,
                            GError **error)
{
    uint8_t key[FORE_STORE_KEY_BYTES];
    ForeStore *store = NULL;

    if (read_key(config, key_path, key, error)) {
        store = fore_store_open(path, key, error);
    }
    OPENSSL_cleanse(key, sizeof(key));
    return store;
}

ForeStore *fore_store_key_open(const ForeConfig *config, const char *path, GError **error)
{
    g_autofree char *key_path = path_of(config, false), *next = path_of(config, true);
    bool there = g_file_test(key_path, G_FILE_TEST_EXISTS);
    g_autoptr(GError) why = NULL;
    uint8_t key[FORE_STORE_KEY_BYTES];
    ForeStore *store;

    if (!there && g_file_test(path, G_FILE_TEST_EXISTS) && place_of(config) != PLACE_FILE) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "there is a store '%s' but not its key '%s'; restore the key, or move the "
                    "store away to begin anew",
                    path, key_path);
        return NULL;
    }
    if (!there) { /* the first start */
        bool ok = fore_store_key_get(config, key, error);

        OPENSSL_cleanse(key, sizeof(key));
        if (!ok) {
            return NULL;
        }
    }
    store = open_with(config, key_path, path, &why);
    if (!g_file_test(next, G_FILE_TEST_EXISTS)) {
        if (store == NULL) {
            g_propagate_error(error, g_steal_pointer(&why));
        }
        return store;
    }
    /* A change of key was interrupted. */
    if (store != NULL) {
        (void)fore_store_key_settle(config, false, NULL); /* left over: it is tried again */
        return store;
    }
    if (g_error_matches(why, FORE_ERROR, FORE_ERROR_UNTRUSTED)) {
        store = open_with(config, next, path, NULL);
    }
    if (store == NULL) {
        g_propagate_error(error, g_steal_pointer(&why));
    } else {
        (void)fore_store_key_settle(config, true, NULL);
    }
    return store;
}
