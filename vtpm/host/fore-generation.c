/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Order of a change: the file with version n + 1 is made durable, then the counter is raised to
 * n + 1.  A crash in between leaves a file one ahead of the counter: that is our own unfinished
 * step, and opening finishes it.  Any other difference is somebody else's.
 */
#include "vtpm/host/fore-generation.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "common/fore-flow.h"
#include "common/fore-json.h"

#define KEY_BYTES    32
#define LOCK_MS      10000
#define MAX_FILE     (2 * 1024 * 1024)
#define MAX_KEY_FILE 4096
#define FORMAT       1

struct ForeGenerations {
    ForeTpm *tpm; /* borrowed */
    char *path, *key_path;
    int lock;
    uint8_t key[KEY_BYTES];
    uint64_t version;
    GTree *vms; /* uuid -> ForeGeneration */
};

static gint by_name(gconstpointer a, gconstpointer b, gpointer unused)
{
    return strcmp(a, b);
}

static bool take_lock(ForeGenerations *g, const char *dir, GError **error)
{
    g_autofree char *path = g_build_filename(dir, "generations.lock", NULL);
    gint64 until = g_get_monotonic_time() + LOCK_MS * 1000;

    g->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (g->lock < 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot open '%s': %s", path,
                    g_strerror(errno));
        return false;
    }
    while (flock(g->lock, LOCK_EX | LOCK_NB) != 0) {
        if (g_get_monotonic_time() > until) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_TIMEOUT,
                        "another process has held '%s' for %d s; see: fuser %s", path,
                        LOCK_MS / 1000, path);
            return false;
        }
        g_usleep(5000);
    }
    return true;
}

static GBytes *read_file(const char *path, gsize max, GError **error)
{
    g_autofree char *data = NULL;
    gsize size = 0;
    g_autoptr(GError) why = NULL;

    if (!g_file_get_contents(path, &data, &size, &why) || size > max) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED, "generation ledger: %s",
                    why != NULL ? why->message : "a file is too long");
        return NULL;
    }
    return g_bytes_new_take(g_steal_pointer(&data), size);
}

static bool write_file(const char *path, const void *data, gsize size, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (!g_file_set_contents_full(path, data, (gssize)size,
                                  G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
                                  0600, &why)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "generation ledger: %s",
                    why->message);
        return false;
    }
    return true;
}

static bool make_key(ForeGenerations *g, GError **error)
{
    g_autoptr(GBytes) secret = NULL, blob = NULL;
    gsize size = 0;
    const void *data;

    if (RAND_bytes(g->key, KEY_BYTES) != 1) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "no random bytes for a key");
        return false;
    }
    secret = g_bytes_new(g->key, KEY_BYTES);
    if (!fore_tpm_seal(g->tpm, secret, &blob, error)) {
        return false;
    }
    data = g_bytes_get_data(blob, &size);
    return write_file(g->key_path, data, size, error);
}

static bool read_key(ForeGenerations *g, GError **error)
{
    g_autoptr(GBytes) blob = read_file(g->key_path, MAX_KEY_FILE, error), secret = NULL;

    if (blob == NULL || !fore_tpm_unseal(g->tpm, blob, &secret, error)) {
        g_prefix_error(error, "key of the generation ledger '%s': ", g->key_path);
        return false;
    }
    if (g_bytes_get_size(secret) != KEY_BYTES) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED, "'%s' seals %zu bytes instead of %d",
                    g->key_path, g_bytes_get_size(secret), KEY_BYTES);
        return false;
    }
    memcpy(g->key, g_bytes_get_data(secret, NULL), KEY_BYTES);
    return true;
}

static char *mac_of(const ForeGenerations *g, const json_t *body)
{
    g_autofree char *text = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned size = 0;

    HMAC(EVP_sha256(), g->key, KEY_BYTES, (const uint8_t *)text, strlen(text), mac, &size);
    return fore_hex_encode(mac, size);
}

static gboolean to_json(gpointer uuid, gpointer value, gpointer data)
{
    const ForeGeneration *v = value;
    g_autofree char *digest = fore_hex_encode(v->digest, sizeof(v->digest));

    json_object_set_new(data, uuid,
                        json_pack("{s:s,s:b,s:I,s:I}", "digest", digest, "running", v->running,
                                  "changes", (json_int_t)v->changes, "changed-ms",
                                  (json_int_t)v->changed_ms));
    return FALSE;
}

static bool save(ForeGenerations *g, uint64_t version, GError **error)
{
    json_t *vms = json_object();
    g_autoptr(json_t) body =
        json_pack("{s:i,s:I,s:o}", "format", FORMAT, "version", (json_int_t)version, "vms", vms);
    g_autofree char *mac = NULL, *text = NULL;

    g_tree_foreach(g->vms, to_json, vms);
    mac = mac_of(g, body);
    json_object_set_new(body, "mac", json_string(mac));
    text = json_dumps(body, JSON_INDENT(1) | JSON_SORT_KEYS);
    if (!write_file(g->path, text, strlen(text), error) ||
        !fore_tpm_counter_raise(g->tpm, FORE_GENERATION_INDEX, version, error)) {
        return false;
    }
    g->version = version;
    return true;
}

static bool read_vm(ForeGenerations *g, const char *uuid, json_t *item)
{
    const char *digest = NULL;
    int running = 0;
    json_int_t changes = 0, changed_ms = 0;
    g_autoptr(GBytes) bytes = NULL;
    ForeGeneration v = {0};

    if (!fore_uuid_is_valid(uuid) ||
        json_unpack(item, "{s:s,s:b,s:I,s:I!}", "digest", &digest, "running", &running, "changes",
                    &changes, "changed-ms", &changed_ms) != 0) {
        return false;
    }
    bytes = fore_hex_decode(digest, 32);
    if (bytes == NULL || g_bytes_get_size(bytes) != 32 || changes < 0) {
        return false;
    }
    memcpy(v.digest, g_bytes_get_data(bytes, NULL), 32);
    v.running = running;
    v.changes = (uint64_t)changes;
    v.changed_ms = changed_ms;
    g_tree_insert(g->vms, g_strdup(uuid), g_memdup2(&v, sizeof(v)));
    return true;
}

static bool authentic(const ForeGenerations *g, json_t *body)
{
    const char *stated = json_string_value(json_object_get(body, "mac"));
    g_autofree char *copy = g_strdup(stated), *mac = NULL;

    if (copy == NULL) {
        return false;
    }
    json_object_del(body, "mac");
    mac = mac_of(g, body);
    return strlen(copy) == strlen(mac) && CRYPTO_memcmp(copy, mac, strlen(mac)) == 0;
}

static bool read_ledger(ForeGenerations *g, GError **error)
{
    g_autoptr(GBytes) bytes = read_file(g->path, MAX_FILE, error);
    g_autoptr(json_t) body = NULL;
    json_int_t version = 0;
    int format = 0;
    json_t *vms = NULL, *item;
    const char *uuid;
    bool ok;

    if (bytes == NULL) {
        return false;
    }
    body = json_loadb(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes),
                      JSON_REJECT_DUPLICATES, NULL);
    ok = body != NULL && authentic(g, body) &&
         json_unpack(body, "{s:i,s:I,s:o!}", "format", &format, "version", &version, "vms", &vms) ==
             0 &&
         format == FORMAT && version > 0 && json_object_size(vms) <= FORE_GENERATION_MAX_VMS;
    if (ok) {
        json_object_foreach (vms, uuid, item) {
            ok = ok && read_vm(g, uuid, item);
        }
    }
    if (!ok) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "the generation ledger '%s' was changed by somebody else, or is damaged; "
                    "restore the newest copy",
                    g->path);
        return false;
    }
    g->version = (uint64_t)version;
    return true;
}

/* The counter says whether this file is the newest there ever was. */
static bool check_version(ForeGenerations *g, GError **error)
{
    uint64_t counter = 0;

    if (!fore_tpm_counter(g->tpm, FORE_GENERATION_INDEX, &counter, error)) {
        return false;
    }
    if (g->version == counter + 1) {
        return fore_tpm_counter_raise(g->tpm, FORE_GENERATION_INDEX, g->version, error);
    }
    if (g->version != counter) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "the generation ledger '%s' has version %" G_GUINT64_FORMAT
                    " but the host TPM counted %" G_GUINT64_FORMAT
                    ": it was put back, or belongs to another TPM; restore the newest copy",
                    g->path, g->version, counter);
        return false;
    }
    return true;
}

static bool load(ForeGenerations *g, GError **error)
{
    bool file = g_file_test(g->path, G_FILE_TEST_EXISTS);
    bool key = g_file_test(g->key_path, G_FILE_TEST_EXISTS);
    uint64_t counter = 0;

    if (file && key) {
        return read_key(g, error) && read_ledger(g, error) && check_version(g, error);
    }
    if (file) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "the generation ledger '%s' has lost its key '%s'; restore it from a backup",
                    g->path, g->key_path);
        return false;
    }
    /* No VM is in a new ledger, so losing the old one lets no state start. */
    return (key ? read_key(g, error) : make_key(g, error)) &&
           fore_tpm_counter(g->tpm, FORE_GENERATION_INDEX, &counter, error) &&
           save(g, counter + 1, error);
}

ForeGenerations *fore_generations_open(const char *dir, ForeTpm *tpm, GError **error)
{
    g_autoptr(ForeGenerations) g = g_new0(ForeGenerations, 1);

    g->tpm = tpm;
    g->path = g_build_filename(dir, "generations.json", NULL);
    g->key_path = g_build_filename(dir, "generations.key.sealed", NULL);
    g->vms = g_tree_new_full(by_name, NULL, g_free, g_free);
    if (!take_lock(g, dir, error) || !load(g, error)) {
        return NULL;
    }
    return g_steal_pointer(&g);
}

void fore_generations_close(ForeGenerations *g)
{
    if (g == NULL) {
        return;
    }
    if (g->lock >= 0) {
        close(g->lock);
    }
    OPENSSL_cleanse(g->key, sizeof(g->key));
    g_tree_unref(g->vms);
    g_free(g->path);
    g_free(g->key_path);
    g_free(g);
}

bool fore_generations_get(const ForeGenerations *g, const char *uuid, ForeGeneration *ret)
{
    const ForeGeneration *v = g_tree_lookup(g->vms, uuid);

    if (v != NULL) {
        *ret = *v;
    }
    return v != NULL;
}

bool fore_generations_put(ForeGenerations *g, const char *uuid, const ForeGeneration *generation,
                          GError **error)
{
    if (g_tree_lookup(g->vms, uuid) == NULL && g_tree_nnodes(g->vms) >= FORE_GENERATION_MAX_VMS) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "the generation ledger holds %d vTPMs already; remove one first",
                    FORE_GENERATION_MAX_VMS);
        return false;
    }
    g_tree_insert(g->vms, g_strdup(uuid), g_memdup2(generation, sizeof(*generation)));
    return save(g, g->version + 1, error);
}

bool fore_generations_remove(ForeGenerations *g, const char *uuid, GError **error)
{
    return !g_tree_remove(g->vms, uuid) || save(g, g->version + 1, error);
}

typedef struct {
    ForeGenerationEach fn;
    gpointer data;
} Each;

static gboolean each(gpointer uuid, gpointer value, gpointer data)
{
    const Each *e = data;

    e->fn(uuid, value, e->data);
    return FALSE;
}

void fore_generations_each(const ForeGenerations *g, ForeGenerationEach fn, gpointer data)
{
    Each e = {fn, data};

    g_tree_foreach(g->vms, each, &e);
}
