/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everything about a vTPM that does not run.  The host TPM is opened for each step and closed
 * again: an emulator serves one client at a time, and supervisors live as long as their VMs.
 */
#include "vtpm/host/fore-vtpm.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "common/fore-flow.h"
#include "vtpm/host/fore-vtpm-priv.h"

#define MAX_BLOB       4096
#define MAX_STATE_FILE (4 * 1024 * 1024)
#define MAX_STATES     64
#define STATE_PREFIX   "tpm2-" /* the state proper: not the log and lock beside it */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_MD_CTX, EVP_MD_CTX_free)

static const char *const state_names[] = {
    [FORE_VTPM_STOPPED] = "stopped",
    [FORE_VTPM_RUNNING] = "running",
    [FORE_VTPM_REFUSED] = "refused",
    [FORE_VTPM_LIBVIRT] = "libvirt",
};

const char *fore_vtpm_state_name(ForeVtpmState state)
{
    g_assert(state < G_N_ELEMENTS(state_names));
    return state_names[state];
}

void fore_vtpm_paths_init(ForeVtpmPaths *p, const ForeVtpmHost *host, const char *uuid)
{
    p->dir = g_build_filename(host->dir, uuid, NULL);
    p->state = g_build_filename(p->dir, "state", NULL);
    p->key = g_build_filename(p->dir, "key.sealed", NULL);
    p->ek = g_build_filename(p->dir, "ek.pub", NULL);
    p->lock = g_build_filename(p->dir, "lock", NULL);
    p->socket = fore_vtpm_socket(host, uuid);
}

void fore_vtpm_paths_done(ForeVtpmPaths *p)
{
    g_free(p->dir);
    g_free(p->state);
    g_free(p->key);
    g_free(p->ek);
    g_free(p->lock);
    g_free(p->socket);
}

char *fore_vtpm_socket(const ForeVtpmHost *host, const char *uuid)
{
    return g_strdup_printf("%s/%s.sock", host->run_dir, uuid);
}

static bool check_host(const ForeVtpmHost *host, const char *uuid, GError **error)
{
    if (!fore_uuid_is_valid(uuid)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "'%s' is no VM UUID: give lower-case 8-4-4-4-12", uuid);
        return false;
    }
    if (!g_path_is_absolute(host->dir) || !g_path_is_absolute(host->run_dir)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "directories '%s' and '%s' must be absolute", host->dir, host->run_dir);
        return false;
    }
    if (g_mkdir_with_parents(host->dir, 0700) != 0 ||
        g_mkdir_with_parents(host->run_dir, 0755) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot make '%s' or '%s': %s",
                    host->dir, host->run_dir, g_strerror(errno));
        return false;
    }
    return true;
}

int fore_vtpm_lock(const ForeVtpmPaths *p, const char *uuid, GError **error)
{
    g_autofree char *pid = g_strdup_printf("%d\n", (int)getpid());
    int fd = open(p->lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0) {
        g_set_error(error, FORE_ERROR,
                    errno == ENOENT ? FORE_ERROR_NOT_FOUND : FORE_ERROR_UNAVAILABLE,
                    "VM %s has no vTPM here ('%s': %s); make it with: foresee-vtpm create %s", uuid,
                    p->lock, g_strerror(errno), uuid);
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_EXISTS,
                    "the vTPM of VM %s is running; stop it with: foresee-vtpm stop %s", uuid, uuid);
        close(fd);
        return -1;
    }
    if (ftruncate(fd, 0) != 0 || write(fd, pid, strlen(pid)) != (ssize_t)strlen(pid)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot write '%s': %s", p->lock,
                    g_strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}

bool fore_vtpm_is_running(const ForeVtpmHost *host, const char *uuid)
{
    g_auto(ForeVtpmPaths) p = {0};
    bool held;
    int fd;

    fore_vtpm_paths_init(&p, host, uuid);
    fd = open(p.lock, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    held = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0;
    if (fd >= 0) {
        close(fd);
    }
    return held;
}

static gint by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static GPtrArray *state_files(const char *dir, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) why = NULL;
    g_autoptr(GDir) d = g_dir_open(dir, 0, &why);
    const char *name;

    if (d == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND, "vTPM state: %s", why->message);
        return NULL;
    }
    while ((name = g_dir_read_name(d)) != NULL && names->len < MAX_STATES) {
        if (g_str_has_prefix(name, STATE_PREFIX)) {
            g_ptr_array_add(names, g_strdup(name));
        }
    }
    if (names->len == 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND, "no vTPM state in '%s'", dir);
        return NULL;
    }
    g_ptr_array_sort(names, by_text);
    return g_steal_pointer(&names);
}

bool fore_vtpm_digest(const char *state_dir, uint8_t ret[32], GError **error)
{
    g_autoptr(GPtrArray) names = state_files(state_dir, error);
    g_autoptr(EVP_MD_CTX) ctx = EVP_MD_CTX_new();
    bool ok = names != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1;

    for (guint i = 0; ok && i < names->len; i++) {
        const char *name = g_ptr_array_index(names, i);
        g_autofree char *path = g_build_filename(state_dir, name, NULL), *data = NULL;
        g_autoptr(GError) why = NULL;
        gsize size = 0;
        uint64_t be;

        if (!g_file_get_contents(path, &data, &size, &why) || size > MAX_STATE_FILE) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "vTPM state '%s': %s", path,
                        why != NULL ? why->message : "too long to be one");
            return false;
        }
        be = GUINT64_TO_BE(size);
        ok = EVP_DigestUpdate(ctx, name, strlen(name) + 1) == 1 &&
             EVP_DigestUpdate(ctx, &be, sizeof(be)) == 1 && EVP_DigestUpdate(ctx, data, size) == 1;
    }
    return ok && EVP_DigestFinal_ex(ctx, ret, NULL) == 1;
}

GBytes *fore_vtpm_key(ForeTpm *tpm, const ForeVtpmPaths *p, GError **error)
{
    g_autofree char *data = NULL;
    g_autoptr(GError) why = NULL;
    g_autoptr(GBytes) blob = NULL;
    GBytes *key = NULL;
    gsize size = 0;

    if (!g_file_get_contents(p->key, &data, &size, &why) || size > MAX_BLOB) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND, "key of a vTPM: %s",
                    why != NULL ? why->message : "too long to be one");
        return NULL;
    }
    blob = g_bytes_new_take(g_steal_pointer(&data), size);
    if (!fore_tpm_unseal(tpm, blob, &key, error)) {
        g_prefix_error(error, "key of a vTPM '%s': ", p->key);
        return NULL;
    }
    return key;
}

static bool seal_key(ForeTpm *tpm, const ForeVtpmHost *host, const ForeVtpmPaths *p, GBytes *key,
                     GError **error)
{
    g_autoptr(GBytes) blob = NULL;
    g_autoptr(GError) why = NULL;
    gsize size = 0;
    const void *data;

    if (!fore_tpm_seal_to(tpm, key, host->pcr_mask, &blob, error)) {
        return false;
    }
    data = g_bytes_get_data(blob, &size);
    if (!g_file_set_contents_full(p->key, data, (gssize)size,
                                  G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
                                  0600, &why)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "key of a vTPM: %s", why->message);
        return false;
    }
    return true;
}

static bool put_generation(const ForeVtpmHost *host, ForeTpm *tpm, const ForeVtpmPaths *p,
                           const char *uuid, bool running, GError **error)
{
    g_autoptr(ForeGenerations) g = fore_generations_open(host->dir, tpm, error);
    ForeGeneration before = {0}, now = {.running = running};
    bool known;

    if (g == NULL || !fore_vtpm_digest(p->state, now.digest, error)) {
        return false;
    }
    known = fore_generations_get(g, uuid, &before);
    now.changes = before.changes + 1;
    now.changed_ms = g_get_real_time() / 1000;
    if (known && memcmp(before.digest, now.digest, sizeof(now.digest)) == 0) {
        now.changes = before.changes;
        now.changed_ms = before.changed_ms;
        if (before.running == running) {
            return true; /* nothing to wear the TPM's memory for */
        }
    }
    return fore_generations_put(g, uuid, &now, error);
}

bool fore_vtpm_record(const ForeVtpmHost *host, const ForeVtpmPaths *p, const char *uuid,
                      bool running, GError **error)
{
    g_autoptr(ForeTpm) tpm = fore_tpm_open(host->tcti, error);

    return tpm != NULL && put_generation(host, tpm, p, uuid, running, error);
}

bool fore_vtpm_admit(const ForeVtpmHost *host, ForeTpm *tpm, const ForeVtpmPaths *p,
                     const char *uuid, GError **error)
{
    g_autoptr(ForeGenerations) g = fore_generations_open(host->dir, tpm, error);
    ForeGeneration last;
    uint8_t now[32];

    if (g == NULL || !fore_vtpm_digest(p->state, now, error)) {
        return false;
    }
    if (!fore_generations_get(g, uuid, &last)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "the generation ledger knows no vTPM of VM %s: its state came from elsewhere; "
                    "if you know why: foresee-vtpm accept %s",
                    uuid, uuid);
        return false;
    }
    if (CRYPTO_memcmp(now, last.digest, sizeof(now)) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "the vTPM state of VM %s is not the one that it had last: rolled back, copied "
                    "or damaged; restore the newest, or if you know why: foresee-vtpm accept %s",
                    uuid, uuid);
        return false;
    }
    last.running = true;
    return fore_generations_put(g, uuid, &last, error);
}

/* The EK, asked of the new TPM itself once; its public part goes beside the state. */
static bool learn_ek(const ForeSwtpmConfig *config, const ForeVtpmPaths *p, GError **error)
{
    g_autofree char *socket = g_strconcat(p->socket, ".new", NULL);
    g_autoptr(ForeSwtpm) swtpm = fore_swtpm_start(config, FORE_SWTPM_FOR_TSS, socket, true, error);
    g_autoptr(ForeTpm) tpm = swtpm != NULL ? fore_tpm_open(fore_swtpm_tcti(swtpm), error) : NULL;
    g_autoptr(GBytes) ek = NULL;
    g_autoptr(GError) why = NULL;
    gsize size = 0;
    const void *data;

    if (tpm == NULL || !fore_tpm_ek(tpm, &ek, NULL, error)) {
        return false;
    }
    data = g_bytes_get_data(ek, &size);
    if (!g_file_set_contents_full(p->ek, data, (gssize)size, G_FILE_SET_CONTENTS_DURABLE, 0644,
                                  &why)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "EK of a vTPM: %s", why->message);
        return false;
    }
    g_clear_pointer(&tpm, fore_tpm_close);
    return true;
}

static void remove_files(const ForeVtpmPaths *p)
{
    g_autoptr(GDir) d = g_dir_open(p->state, 0, NULL);
    const char *name;

    g_unlink(p->key); /* without it, what is left is noise */
    while (d != NULL && (name = g_dir_read_name(d)) != NULL) {
        g_autofree char *path = g_build_filename(p->state, name, NULL);
        g_unlink(path);
    }
    g_rmdir(p->state);
    g_unlink(p->ek);
    g_unlink(p->lock);
    g_rmdir(p->dir);
}

static bool make(const ForeVtpmHost *host, const ForeVtpmPaths *p, const char *uuid, GError **error)
{
    uint8_t bytes[FORE_SWTPM_KEY_BYTES];
    g_autoptr(GBytes) key = NULL;
    g_autoptr(ForeTpm) tpm = fore_tpm_open(host->tcti, error);
    ForeSwtpmConfig config = {.state_dir = p->state, .vm_uuid = uuid, .ca_dir = host->ca_dir};

    if (tpm == NULL) {
        g_prefix_error(error, "host TPM: ");
        return false;
    }
    if (RAND_bytes(bytes, sizeof(bytes)) != 1) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "no random bytes for a key");
        return false;
    }
    key = g_bytes_new(bytes, sizeof(bytes));
    OPENSSL_cleanse(bytes, sizeof(bytes));
    config.key = key;
    return seal_key(tpm, host, p, key, error) && fore_swtpm_manufacture(&config, error) &&
           learn_ek(&config, p, error) && put_generation(host, tpm, p, uuid, false, error);
}

bool fore_vtpm_create(const ForeVtpmHost *host, const char *uuid, GError **error)
{
    g_auto(ForeVtpmPaths) p = {0};
    int lock;
    bool ok;

    if (!check_host(host, uuid, error)) {
        return false;
    }
    fore_vtpm_paths_init(&p, host, uuid);
    if (g_mkdir(p.dir, 0700) != 0) {
        g_set_error(error, FORE_ERROR, errno == EEXIST ? FORE_ERROR_EXISTS : FORE_ERROR_UNAVAILABLE,
                    "cannot make '%s' for the vTPM of VM %s: %s", p.dir, uuid, g_strerror(errno));
        return false;
    }
    lock = fore_vtpm_lock(&p, uuid, error);
    ok = lock >= 0 && make(host, &p, uuid, error);
    if (!ok) {
        remove_files(&p);
    }
    if (lock >= 0) {
        close(lock);
    }
    return ok;
}

/* Runs @fn with the vTPM's lock held, so that it does not run meanwhile. */
static bool at_rest(const ForeVtpmHost *host, const char *uuid,
                    bool (*fn)(const ForeVtpmHost *host, ForeTpm *tpm, const ForeVtpmPaths *p,
                               const char *uuid, GError **error),
                    GError **error)
{
    g_auto(ForeVtpmPaths) p = {0};
    g_autoptr(ForeTpm) tpm = NULL;
    bool ok;
    int lock;

    if (!check_host(host, uuid, error)) {
        return false;
    }
    fore_vtpm_paths_init(&p, host, uuid);
    lock = fore_vtpm_lock(&p, uuid, error);
    if (lock < 0) {
        return false;
    }
    tpm = fore_tpm_open(host->tcti, error);
    ok = tpm != NULL && fn(host, tpm, &p, uuid, error);
    close(lock);
    return ok;
}

static bool do_remove(const ForeVtpmHost *host, ForeTpm *tpm, const ForeVtpmPaths *p,
                      const char *uuid, GError **error)
{
    g_autoptr(ForeGenerations) g = fore_generations_open(host->dir, tpm, error);

    if (g == NULL || !fore_generations_remove(g, uuid, error)) {
        return false;
    }
    remove_files(p);
    return true;
}

static bool do_accept(const ForeVtpmHost *host, ForeTpm *tpm, const ForeVtpmPaths *p,
                      const char *uuid, GError **error)
{
    return put_generation(host, tpm, p, uuid, false, error);
}

static bool do_reseal(const ForeVtpmHost *host, ForeTpm *tpm, const ForeVtpmPaths *p,
                      const char *uuid, GError **error)
{
    g_autoptr(GBytes) key = fore_vtpm_key(tpm, p, error);

    return key != NULL && seal_key(tpm, host, p, key, error);
}

bool fore_vtpm_remove(const ForeVtpmHost *host, const char *uuid, GError **error)
{
    return at_rest(host, uuid, do_remove, error);
}

bool fore_vtpm_accept(const ForeVtpmHost *host, const char *uuid, GError **error)
{
    return at_rest(host, uuid, do_accept, error);
}

bool fore_vtpm_reseal(const ForeVtpmHost *host, const char *uuid, GError **error)
{
    return at_rest(host, uuid, do_reseal, error);
}

bool fore_vtpm_ek_digest(const ForeVtpmHost *host, const char *uuid, uint8_t ret[32],
                         GError **error)
{
    g_auto(ForeVtpmPaths) p = {0};
    g_autofree char *data = NULL;
    g_autoptr(GError) why = NULL;
    gsize size = 0;

    fore_vtpm_paths_init(&p, host, uuid);
    if (!g_file_get_contents(p.ek, &data, &size, &why)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND, "EK of the vTPM of VM %s: %s", uuid,
                    why->message);
        return false;
    }
    SHA256((const uint8_t *)data, size, ret);
    return true;
}

void fore_vtpm_info_free(gpointer info)
{
    ForeVtpmInfo *i = info;

    g_free(i->path);
    g_free(i);
}

typedef struct {
    const ForeVtpmHost *host;
    GPtrArray *list;
} Listing;

static void list_ours(const char *uuid, const ForeGeneration *generation, gpointer data)
{
    Listing *l = data;
    g_auto(ForeVtpmPaths) p = {0};
    ForeVtpmInfo *info = g_new0(ForeVtpmInfo, 1);
    uint8_t now[32];

    fore_vtpm_paths_init(&p, l->host, uuid);
    g_strlcpy(info->uuid, uuid, sizeof(info->uuid));
    info->path = g_strdup(p.state);
    info->changes = generation->changes;
    info->changed_ms = generation->changed_ms;
    if (fore_vtpm_is_running(l->host, uuid)) {
        info->state = FORE_VTPM_RUNNING;
    } else if (!fore_vtpm_digest(p.state, now, NULL) ||
               memcmp(now, generation->digest, sizeof(now)) != 0) {
        info->state = FORE_VTPM_REFUSED;
    }
    g_ptr_array_add(l->list, info);
}

static void list_libvirt(const char *dir, GPtrArray *list)
{
    g_autoptr(GDir) d = g_dir_open(dir, 0, NULL);
    const char *name;

    while (d != NULL && (name = g_dir_read_name(d)) != NULL) {
        g_autofree char *state = g_build_filename(dir, name, "tpm2", NULL);

        if (fore_uuid_is_valid(name) && g_file_test(state, G_FILE_TEST_IS_DIR)) {
            ForeVtpmInfo *info = g_new0(ForeVtpmInfo, 1);

            g_strlcpy(info->uuid, name, sizeof(info->uuid));
            info->state = FORE_VTPM_LIBVIRT;
            info->path = g_steal_pointer(&state);
            g_ptr_array_add(list, info);
        }
    }
}

GPtrArray *fore_vtpm_list(const ForeVtpmHost *host, const char *libvirt_dir, GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(fore_vtpm_info_free);
    Listing l = {host, list};

    if (g_file_test(host->dir, G_FILE_TEST_IS_DIR)) {
        g_autoptr(ForeTpm) tpm = fore_tpm_open(host->tcti, error);
        g_autoptr(ForeGenerations) g =
            tpm != NULL ? fore_generations_open(host->dir, tpm, error) : NULL;

        if (g == NULL) {
            return NULL;
        }
        fore_generations_each(g, list_ours, &l);
    }
    if (libvirt_dir != NULL) {
        list_libvirt(libvirt_dir, list);
    }
    return g_steal_pointer(&list);
}
