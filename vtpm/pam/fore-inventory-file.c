/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A nonce is random for every save: 2^32 saves of one key are within the bound of NIST SP 800-38D
 * section 8.3 for random 96-bit nonces, more than a save a second for a century.
 */
#include "vtpm/pam/fore-inventory-file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "vtpm/tpm/fore-tpm.h"

#define MAGIC      "FOREINV1"
#define MAGIC_SIZE 8
#define NONCE_SIZE 12
#define TAG_SIZE   16
#define SEALED_MAX 4096

G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_CIPHER_CTX, EVP_CIPHER_CTX_free)

static bool set_errno_error(GError **error, const char *doing, const char *path)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot %s '%s': %s", doing, path,
                g_strerror(errno));
    return false;
}

static bool write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, bytes, size);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        bytes += n;
        size -= (size_t)n;
    }
    return true;
}

static bool sync_folder_of(const char *path)
{
    g_autofree char *dir = g_path_get_dirname(path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0) {
        close(fd);
    }
    return good;
}

bool fore_file_replace(const char *path, const void *bytes, size_t size, bool *ret_replaced,
                       GError **error)
{
    g_autofree char *fresh = g_strconcat(path, ".new", NULL);
    int fd;
    bool good;

    if (ret_replaced != NULL) {
        *ret_replaced = false;
    }
    unlink(fresh);
    fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return set_errno_error(error, "write", fresh);
    }
    good = write_all(fd, bytes, size) && fsync(fd) == 0;
    good = close(fd) == 0 && good;
    if (!good) {
        set_errno_error(error, "write", fresh);
        unlink(fresh);
        return false;
    }
    if (rename(fresh, path) != 0) {
        set_errno_error(error, "replace", path);
        unlink(fresh);
        return false;
    }
    if (ret_replaced != NULL) {
        *ret_replaced = true;
    }
    /* The new file is in place; a folder that does not sync now may show the old one after a power
     * cut. */
    return sync_folder_of(path) || set_errno_error(error, "sync the folder of", path);
}

/* --- key --- */

static bool key_from_tpm(const char *path, const char *tcti, bool create, guint8 *ret,
                         GError **error)
{
    g_autoptr(ForeTpm) tpm = fore_tpm_open(tcti, error);
    g_autoptr(GBytes) blob = NULL;
    g_autoptr(GBytes) secret = NULL;
    g_autofree char *text = NULL;
    gsize size;

    if (tpm == NULL) {
        return false;
    }
    if (create) {
        g_autoptr(GBytes) fresh = g_bytes_new(ret, FORE_INVENTORY_KEY_SIZE);
        return fore_tpm_seal(tpm, fresh, &blob, error) &&
               fore_file_replace(path, g_bytes_get_data(blob, NULL), g_bytes_get_size(blob), NULL,
                                 error);
    }
    if (!g_file_get_contents(path, &text, &size, error)) {
        return false;
    }
    if (size > SEALED_MAX) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED, "'%s' is no sealed key", path);
        return false;
    }
    blob = g_bytes_new(text, size);
    if (!fore_tpm_unseal(tpm, blob, &secret, error)) {
        g_prefix_error(error, "'%s' does not open with the TPM '%s': ", path, tcti);
        return false;
    }
    if (g_bytes_get_size(secret) != FORE_INVENTORY_KEY_SIZE) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED, "'%s' holds no 32-byte key", path);
        return false;
    }
    memcpy(ret, g_bytes_get_data(secret, NULL), FORE_INVENTORY_KEY_SIZE);
    return true;
}

static bool key_from_file(const char *path, guint8 *ret, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    ssize_t n;

    if (fd < 0) {
        return set_errno_error(error, "open", path);
    }
    n = fstat(fd, &st) == 0 ? read(fd, ret, FORE_INVENTORY_KEY_SIZE) : -1;
    close(fd);
    if (n != FORE_INVENTORY_KEY_SIZE || st.st_size != FORE_INVENTORY_KEY_SIZE) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED, "'%s' holds no 32-byte key", path);
        return false;
    }
    if ((st.st_mode & 077) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "'%s' may be read by others (mode %03o); chmod 600 it", path,
                    (unsigned)(st.st_mode & 0777));
        return false;
    }
    return true;
}

bool fore_inventory_key(const char *dir, const char *tcti, bool may_create,
                        guint8 ret[FORE_INVENTORY_KEY_SIZE], GError **error)
{
    g_autofree char *path =
        g_build_filename(dir, tcti != NULL ? "inventory.key.sealed" : "inventory.key", NULL);
    bool create = !g_file_test(path, G_FILE_TEST_EXISTS);

    if (create && !may_create) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "'%s' is missing, and without it the inventory cannot be opened", path);
        return false;
    }
    if (create && RAND_priv_bytes(ret, FORE_INVENTORY_KEY_SIZE) != 1) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_FAILED, "no random bytes for a key");
        return false;
    }
    if (tcti != NULL) {
        return key_from_tpm(path, tcti, create, ret, error);
    }
    return create ? fore_file_replace(path, ret, FORE_INVENTORY_KEY_SIZE, NULL, error)
                  : key_from_file(path, ret, error);
}

/* --- encryption --- */

GBytes *fore_inventory_encrypt(const guint8 key[FORE_INVENTORY_KEY_SIZE], const char *text,
                               GError **error)
{
    g_autoptr(EVP_CIPHER_CTX) ctx = EVP_CIPHER_CTX_new();
    size_t size = strlen(text);
    g_autofree guint8 *out = g_malloc(MAGIC_SIZE + NONCE_SIZE + size + TAG_SIZE);
    guint8 *nonce = out + MAGIC_SIZE, *body = nonce + NONCE_SIZE;
    int n = 0, last = 0, aad = 0;

    memcpy(out, MAGIC, MAGIC_SIZE);
    if (size > FORE_INVENTORY_FILE_MAX || RAND_bytes(nonce, NONCE_SIZE) != 1 ||
        EVP_EncryptInit_ex2(ctx, EVP_aes_256_gcm(), key, nonce, NULL) != 1 ||
        EVP_EncryptUpdate(ctx, NULL, &aad, out, MAGIC_SIZE) != 1 ||
        EVP_EncryptUpdate(ctx, body, &n, (const guint8 *)text, (int)size) != 1 ||
        EVP_EncryptFinal_ex(ctx, body + n, &last) != 1 || (size_t)(n + last) != size ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_SIZE, body + size) != 1) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_FAILED, "cannot encrypt the inventory");
        return NULL;
    }
    return g_bytes_new_take(g_steal_pointer(&out), MAGIC_SIZE + NONCE_SIZE + size + TAG_SIZE);
}

char *fore_inventory_decrypt(const guint8 key[FORE_INVENTORY_KEY_SIZE], const void *bytes,
                             size_t size, GError **error)
{
    g_autoptr(EVP_CIPHER_CTX) ctx = EVP_CIPHER_CTX_new();
    const guint8 *in = bytes;
    size_t text_size = size - MAGIC_SIZE - NONCE_SIZE - TAG_SIZE;
    g_autofree guint8 *text = NULL;
    guint8 tag[TAG_SIZE];
    int n = 0, last = 0, aad = 0;

    if (size < MAGIC_SIZE + NONCE_SIZE + TAG_SIZE || text_size > FORE_INVENTORY_FILE_MAX ||
        memcmp(in, MAGIC, MAGIC_SIZE) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED, "it is no inventory of this version");
        return NULL;
    }
    text = g_malloc(text_size + 1);
    memcpy(tag, in + size - TAG_SIZE, TAG_SIZE);
    if (EVP_DecryptInit_ex2(ctx, EVP_aes_256_gcm(), key, in + MAGIC_SIZE, NULL) != 1 ||
        EVP_DecryptUpdate(ctx, NULL, &aad, in, MAGIC_SIZE) != 1 ||
        EVP_DecryptUpdate(ctx, text, &n, in + MAGIC_SIZE + NONCE_SIZE, (int)text_size) != 1 ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_SIZE, tag) != 1 ||
        EVP_DecryptFinal_ex(ctx, text + n, &last) != 1) {
        OPENSSL_cleanse(text, text_size);
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "it was changed, or the key is another one's");
        return NULL;
    }
    text[text_size] = '\0';
    return (char *)g_steal_pointer(&text);
}
