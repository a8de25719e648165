/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lists are walked once, front to back, with sizes checked against what is left before anything is
 * copied; nothing here recurses.  A list of a type that is not understood is an error: skipping it
 * would forbid less than the operator asked for.
 */
#include "vtpm/attest/fore-efi.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"

#define MAX_NAME 1024  /* characters of a variable's name */
#define MAX_CERT 16384 /* bytes */

/* GUIDs as they lie in memory.  UEFI 2.10, 3.3, 32.4.1 and 32.6.1 */
static const uint8_t guid_global[16] = {0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11,
                                        0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c};
static const uint8_t guid_security[16] = {0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45,
                                          0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f};
static const uint8_t guid_sha256[16] = {0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40,
                                        0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28};
static const uint8_t guid_x509[16] = {0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a,
                                      0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72};
static const uint8_t guid_x509_sha256[16] = {0x92, 0xa4, 0xd2, 0x3b, 0xc0, 0x96, 0x79, 0x40,
                                             0xb4, 0x20, 0xfc, 0xf9, 0x8e, 0xf1, 0x03, 0xed};
static const uint8_t guid_pkcs7[16] = {0x9d, 0xd2, 0xaf, 0x4a, 0xdf, 0x68, 0xee, 0x49,
                                       0x8a, 0xa9, 0x34, 0x7d, 0x37, 0x56, 0x65, 0xa7};

G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509, X509_free)

struct ForeDbx {
    GHashTable *digests; /* set of 32 bytes: images */
    GHashTable *certs;   /* set of 32 bytes: SHA-256 of the whole certificate */
    GHashTable *tbs;     /* set of 32 bytes: SHA-256 of the to-be-signed part */
};

bool fore_efi_variable_init(ForeEfiVariable *ret, const uint8_t *data, size_t size)
{
    ForeEfiVariable var = {0};
    ForeCursor cur;
    uint64_t chars, bytes;

    fore_cursor_init(&cur, data, size);
    var.guid = fore_cursor_take(&cur, 16);
    chars = fore_cursor_le64(&cur);
    bytes = fore_cursor_le64(&cur);
    if (!fore_cursor_ok(&cur) || chars > MAX_NAME || bytes > size) {
        return false;
    }
    var.name_chars = (size_t)chars;
    var.name = fore_cursor_take(&cur, var.name_chars * 2);
    var.size = (size_t)bytes;
    var.data = fore_cursor_take(&cur, var.size);
    if (!fore_cursor_ok(&cur)) {
        return false;
    }
    var.tail = cur.left;
    *ret = var;
    return true;
}

bool fore_efi_variable_is(const ForeEfiVariable *var, const char *name)
{
    const uint8_t *guid = g_str_has_prefix(name, "db") ? guid_security : guid_global;

    if (strlen(name) != var->name_chars || memcmp(var->guid, guid, 16) != 0) {
        return false;
    }
    for (size_t i = 0; i < var->name_chars; i++) {
        if (var->name[2 * i] != (uint8_t)name[i] || var->name[2 * i + 1] != 0) {
            return false;
        }
    }
    return true;
}

/* --- the forbidden list --- */

static guint digest_hash(gconstpointer key)
{
    guint v;

    memcpy(&v, key, sizeof(v));
    return v;
}

static gboolean digest_equal(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, 32) == 0;
}

static GHashTable *set_new(void)
{
    return g_hash_table_new_full(digest_hash, digest_equal, g_free, NULL);
}

ForeDbx *fore_dbx_new(void)
{
    ForeDbx *dbx = g_new0(ForeDbx, 1);

    dbx->digests = set_new();
    dbx->certs = set_new();
    dbx->tbs = set_new();
    return dbx;
}

void fore_dbx_free(ForeDbx *dbx)
{
    if (dbx != NULL) {
        g_hash_table_unref(dbx->digests);
        g_hash_table_unref(dbx->certs);
        g_hash_table_unref(dbx->tbs);
        g_free(dbx);
    }
}

size_t fore_dbx_size(const ForeDbx *dbx)
{
    return dbx == NULL ? 0
                       : g_hash_table_size(dbx->digests) + g_hash_table_size(dbx->certs) +
                             g_hash_table_size(dbx->tbs);
}

static bool add(const ForeDbx *dbx, GHashTable *set, const uint8_t digest[32], GError **error)
{
    if (fore_dbx_size(dbx) >= FORE_DBX_MAX_ENTRIES) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "forbidden list: more than %u entries; leave out superseded ones",
                    FORE_DBX_MAX_ENTRIES);
        return false;
    }
    g_hash_table_add(set, g_memdup2(digest, 32));
    return true;
}

bool fore_dbx_add_digest(ForeDbx *dbx, const uint8_t digest[32], GError **error)
{
    return add(dbx, dbx->digests, digest, error);
}

static void sha256(const uint8_t *data, size_t size, uint8_t ret[32])
{
    g_assert(EVP_Digest(data, size, ret, NULL, EVP_sha256(), NULL) == 1);
}

static X509 *parse_cert(const uint8_t *der, size_t size)
{
    const uint8_t *at = der;
    g_autoptr(X509) cert = size <= MAX_CERT ? d2i_X509(NULL, &at, (long)size) : NULL;

    ERR_clear_error();
    return cert != NULL && at == der + size ? g_steal_pointer(&cert) : NULL;
}

bool fore_dbx_add_cert(ForeDbx *dbx, const uint8_t *der, size_t size, GError **error)
{
    g_autoptr(X509) cert = parse_cert(der, size);
    uint8_t digest[32];

    if (cert == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "forbidden list: %zu bytes are no DER certificate", size);
        return false;
    }
    sha256(der, size, digest);
    return add(dbx, dbx->certs, digest, error);
}

/* One EFI_SIGNATURE_DATA without its owner. */
static bool add_signature(ForeDbx *dbx, const uint8_t *type, const uint8_t *data, size_t size,
                          GError **error)
{
    if (memcmp(type, guid_x509, 16) == 0) {
        return fore_dbx_add_cert(dbx, data, size, error);
    }
    if (memcmp(type, guid_sha256, 16) == 0 && size == 32) {
        return add(dbx, dbx->digests, data, error);
    }
    if (memcmp(type, guid_x509_sha256, 16) == 0 && size == 48) {
        return add(dbx, dbx->tbs, data, error); /* the time of revocation is not used: never ran */
    }
    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                "forbidden list: a signature type of %zu bytes that is neither SHA-256 nor X.509",
                size);
    return false;
}

static bool add_list(ForeDbx *dbx, ForeCursor *cur, size_t at, GError **error)
{
    const uint8_t *type = fore_cursor_take(cur, 16);
    uint32_t list_size = fore_cursor_le32(cur);
    uint32_t header_size = fore_cursor_le32(cur);
    uint32_t one_size = fore_cursor_le32(cur);
    size_t left;

    if (!fore_cursor_ok(cur) || list_size < 28 || list_size - 28 > cur->left ||
        header_size > list_size - 28 || one_size <= 16 ||
        (list_size - 28 - header_size) % one_size != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "forbidden list: the signature list at byte %zu has impossible sizes", at);
        return false;
    }
    (void)fore_cursor_take(cur, header_size);
    for (left = list_size - 28 - header_size; left > 0; left -= one_size) {
        const uint8_t *one = fore_cursor_take(cur, one_size);

        if (!add_signature(dbx, type, one + 16, one_size - 16, error)) {
            g_prefix_error(error, "list at byte %zu: ", at);
            return false;
        }
    }
    return true;
}

/* Bytes of an EFI_VARIABLE_AUTHENTICATION_2 at the start; 0: there is none. */
static size_t authentication_size(const uint8_t *data, size_t size)
{
    ForeCursor cur;
    uint32_t length;
    uint16_t revision, type;
    const uint8_t *guid;

    fore_cursor_init(&cur, data, size);
    (void)fore_cursor_take(&cur, 16); /* EFI_TIME */
    length = fore_cursor_le32(&cur);
    revision = fore_cursor_le16(&cur);
    type = fore_cursor_le16(&cur);
    guid = fore_cursor_take(&cur, 16);
    return fore_cursor_ok(&cur) && revision == 0x0200 && type == 0x0ef1 &&
                   memcmp(guid, guid_pkcs7, 16) == 0 && length >= 24 && length <= size - 16
               ? 16 + (size_t)length
               : 0;
}

static void move_into(GHashTable *to, GHashTable *from)
{
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init(&iter, from);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        g_hash_table_add(to, g_memdup2(key, 32));
    }
}

bool fore_dbx_add_lists(ForeDbx *dbx, const uint8_t *data, size_t size, GError **error)
{
    g_autoptr(ForeDbx) added = fore_dbx_new();
    ForeCursor cur;
    size_t head;

    if (size > FORE_DBX_MAX) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "forbidden list of %zu bytes: at most %u are read", size, FORE_DBX_MAX);
        return false;
    }
    head = authentication_size(data, size);
    fore_cursor_init(&cur, data + head, size - head);
    if (cur.left == 0) {
        g_set_error_literal(error, FORE_ERROR, FORE_ERROR_INVALID,
                            "forbidden list: there is no signature list in it");
        return false;
    }
    while (cur.left > 0) {
        if (!add_list(added, &cur, size - cur.left, error)) {
            return false;
        }
    }
    if (fore_dbx_size(dbx) + fore_dbx_size(added) > FORE_DBX_MAX_ENTRIES) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT, "forbidden list: more than %u entries",
                    FORE_DBX_MAX_ENTRIES);
        return false;
    }
    move_into(dbx->digests, added->digests);
    move_into(dbx->certs, added->certs);
    move_into(dbx->tbs, added->tbs);
    return true;
}

bool fore_dbx_has_digest(const ForeDbx *dbx, const uint8_t digest[32])
{
    return dbx != NULL && g_hash_table_contains(dbx->digests, digest);
}

bool fore_dbx_has_cert(const ForeDbx *dbx, const uint8_t *der, size_t size)
{
    g_autoptr(X509) cert = NULL;
    uint8_t digest[32];
    uint8_t *tbs = NULL;
    int n;
    bool listed;

    if (dbx == NULL) {
        return false;
    }
    sha256(der, size, digest);
    if (g_hash_table_contains(dbx->certs, digest)) {
        return true;
    }
    cert = g_hash_table_size(dbx->tbs) > 0 ? parse_cert(der, size) : NULL;
    n = cert != NULL ? i2d_re_X509_tbs(cert, &tbs) : 0;
    if (n <= 0) {
        ERR_clear_error();
        return false;
    }
    sha256(tbs, (size_t)n, digest);
    listed = g_hash_table_contains(dbx->tbs, digest);
    OPENSSL_free(tbs);
    return listed;
}
