/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/fore-identity.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"

/* The certificate only carries the key; peers pin the key, so its dates and names decide nothing.
 */
#define CERT_LIFETIME_S (100L * 365 * 24 * 3600)

struct ForeIdentity {
    EVP_PKEY *key;
    X509 *cert;
    char *pin;
};

void fore_identity_free(ForeIdentity *id)
{
    if (id == NULL) {
        return;
    }
    EVP_PKEY_free(id->key);
    X509_free(id->cert);
    g_free(id->pin);
    g_free(id);
}

static void set_openssl_error(GError **error, ForeErrorCode code, const char *what)
{
    unsigned long e = ERR_get_error();
    char text[160] = "no detail";

    if (e != 0) {
        ERR_error_string_n(e, text, sizeof text);
    }
    ERR_clear_error();
    g_set_error(error, FORE_ERROR, code, "%s: %s", what, text);
}

char *fore_key_pin(EVP_PKEY *key)
{
    unsigned char *der = NULL;
    unsigned char digest[32];
    unsigned size = 0;
    int n = i2d_PUBKEY(key, &der);

    g_assert(n > 0);
    g_assert(EVP_Digest(der, (size_t)n, digest, &size, EVP_sha256(), NULL) == 1);
    OPENSSL_free(der);
    return fore_hex_encode(digest, size);
}

static X509 *self_signed(EVP_PKEY *key, const char *name)
{
    X509 *cert = X509_new();
    uint64_t serial = 0;
    X509_NAME *subject;
    bool ok;

    if (cert == NULL || RAND_bytes((unsigned char *)&serial, sizeof serial) != 1) {
        X509_free(cert);
        return NULL;
    }
    subject = X509_get_subject_name(cert);
    ok = X509_set_version(cert, 2) == 1 &&
         ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), (serial >> 1) + 1) == 1 &&
         X509_gmtime_adj(X509_getm_notBefore(cert), -24L * 3600) != NULL &&
         X509_gmtime_adj(X509_getm_notAfter(cert), CERT_LIFETIME_S) != NULL &&
         X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1,
                                    -1, 0) == 1 &&
         X509_set_issuer_name(cert, subject) == 1 && X509_set_pubkey(cert, key) == 1 &&
         X509_sign(cert, key, EVP_sha256()) > 0;
    if (!ok) {
        X509_free(cert);
        return NULL;
    }
    return cert;
}

/* Takes over @key. */
static ForeIdentity *from_key(EVP_PKEY *key, const char *name, GError **error)
{
    g_autoptr(ForeIdentity) id = g_new0(ForeIdentity, 1);

    id->key = key;
    id->cert = self_signed(key, name);
    if (id->cert == NULL) {
        set_openssl_error(error, FORE_ERROR_FAILED, "cannot make a certificate");
        return NULL;
    }
    id->pin = fore_key_pin(key);
    return g_steal_pointer(&id);
}

ForeIdentity *fore_identity_new(const char *name, GError **error)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");

    if (key == NULL) {
        set_openssl_error(error, FORE_ERROR_FAILED, "cannot make a P-256 key");
        return NULL;
    }
    return from_key(key, name, error);
}

static FILE *open_file(const char *path, int flags, mode_t mode, GError **error)
{
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, mode);
    FILE *file = fd >= 0 ? fdopen(fd, (flags & O_ACCMODE) == O_RDONLY ? "r" : "w") : NULL;

    if (file == NULL) {
        int saved = errno;
        if (fd >= 0) {
            close(fd);
        }
        g_set_error(error, FORE_ERROR,
                    saved == ENOENT && (flags & O_ACCMODE) == O_RDONLY ? FORE_ERROR_NOT_FOUND
                                                                       : FORE_ERROR_UNAVAILABLE,
                    "cannot open '%s': %s", path, g_strerror(saved));
    }
    return file;
}

static ForeIdentity *load(const char *path, const char *name, GError **error)
{
    FILE *file = open_file(path, O_RDONLY, 0, error);
    EVP_PKEY *key;
    char group[32] = "";

    if (file == NULL) {
        return NULL;
    }
    key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    fclose(file);
    if (key == NULL || EVP_PKEY_get_group_name(key, group, sizeof group, NULL) != 1 ||
        g_strcmp0(group, "prime256v1") != 0) {
        EVP_PKEY_free(key);
        ERR_clear_error();
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "'%s' holds no P-256 private key in PEM; move it away to have one made", path);
        return NULL;
    }
    return from_key(key, name, error);
}

static bool save(const ForeIdentity *id, const char *path, GError **error)
{
    g_autofree char *tmp = g_strdup_printf("%s.new", path);
    FILE *file;
    bool ok;

    if (g_unlink(tmp) != 0 && errno != ENOENT) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot replace '%s': %s", tmp,
                    g_strerror(errno));
        return false;
    }
    file = open_file(tmp, O_WRONLY | O_CREAT | O_EXCL, 0600, error);
    if (file == NULL) {
        return false;
    }
    ok = PEM_write_PrivateKey(file, id->key, NULL, NULL, 0, NULL, NULL) == 1;
    ok = fflush(file) == 0 && fsync(fileno(file)) == 0 && ok;
    ok = fclose(file) == 0 && ok;
    if (!ok || rename(tmp, path) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot write '%s': %s", path,
                    g_strerror(errno));
        g_unlink(tmp);
        return false;
    }
    return true;
}

ForeIdentity *fore_identity_load_or_create(const char *path, const char *name, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(ForeIdentity) id = load(path, name, &why);

    if (id != NULL) {
        return g_steal_pointer(&id);
    }
    if (!g_error_matches(why, FORE_ERROR, FORE_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    id = fore_identity_new(name, error);
    if (id == NULL || !save(id, path, error)) {
        return NULL;
    }
    return g_steal_pointer(&id);
}

const char *fore_identity_pin(const ForeIdentity *id)
{
    return id->pin;
}

EVP_PKEY *fore_identity_key(const ForeIdentity *id)
{
    return id->key;
}

X509 *fore_identity_cert(const ForeIdentity *id)
{
    return id->cert;
}

EVP_PKEY *fore_key_load_public(const char *path, GError **error)
{
    FILE *file = open_file(path, O_RDONLY, 0, error);
    EVP_PKEY *key;

    if (file == NULL) {
        return NULL;
    }
    key = PEM_read_PUBKEY(file, NULL, NULL, NULL);
    fclose(file);
    if (key == NULL) {
        ERR_clear_error();
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "'%s' holds no public key in PEM", path);
    }
    return key;
}

gboolean fore_key_save_public(EVP_PKEY *key, const char *path, GError **error)
{
    FILE *file = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0644, error);
    bool ok;

    if (file == NULL) {
        return FALSE;
    }
    ok = PEM_write_PUBKEY(file, key) == 1;
    if (fclose(file) != 0 || !ok) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot write '%s': %s", path,
                    g_strerror(errno));
        return FALSE;
    }
    return TRUE;
}
