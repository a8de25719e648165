/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/fore-signed.h"

#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "common/fore-identity.h"

#define MAGIC       "FORESIGN"
#define MAGIC_LEN   8
#define VERSION     1
#define PURPOSE_MAX 32
#define PIN_LEN     32
#define SIG_MAX     256 /* bytes; a P-256 signature has at most 72 */

static bool put_pin(EVP_PKEY *key, GByteArray *out)
{
    g_autofree char *pin = fore_key_pin(key);
    g_autoptr(GBytes) raw = pin != NULL ? fore_hex_decode(pin, PIN_LEN) : NULL;

    if (raw == NULL || g_bytes_get_size(raw) != PIN_LEN) {
        return false;
    }
    g_byte_array_append(out, g_bytes_get_data(raw, NULL), PIN_LEN);
    return true;
}

GBytes *fore_signed_wrap(EVP_PKEY *key, const char *purpose, const void *data, size_t size,
                         GError **error)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    size_t len = strlen(purpose), sig_len = SIG_MAX;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    uint8_t sig[SIG_MAX];
    bool ok;

    g_assert(len >= 1 && len <= PURPOSE_MAX);
    g_byte_array_append(out, (const guint8 *)MAGIC, MAGIC_LEN);
    fore_put_le32(out, VERSION);
    fore_put_u8(out, (uint8_t)len);
    g_byte_array_append(out, (const guint8 *)purpose, (guint)len);
    ok = put_pin(key, out);
    if (size > FORE_SIGNED_MAX - 1024) {
        EVP_MD_CTX_free(md);
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT, "%s: %zu bytes are too many to sign",
                    purpose, size);
        return NULL;
    }
    fore_put_le32(out, (uint32_t)size);
    g_byte_array_append(out, data, (guint)size);
    ok = ok && EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, key) == 1 &&
         EVP_DigestSign(md, sig, &sig_len, out->data, out->len) == 1;
    EVP_MD_CTX_free(md);
    if (!ok) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_FAILED,
                    "%s: the key of the host did not sign; check its private key", purpose);
        return NULL;
    }
    fore_put_le16(out, (uint16_t)sig_len);
    g_byte_array_append(out, sig, (guint)sig_len);
    return g_byte_array_free_to_bytes(g_steal_pointer(&out));
}

static GBytes *refuse(GError **error, ForeErrorCode code, const char *purpose, const char *why)
{
    g_set_error(error, FORE_ERROR, (gint)code, "signed %s: %s", purpose, why);
    return NULL;
}

static bool same_pin(EVP_PKEY *key, const uint8_t *pin)
{
    g_autoptr(GByteArray) own = g_byte_array_new();

    return put_pin(key, own) && memcmp(own->data, pin, PIN_LEN) == 0;
}

GBytes *fore_signed_open(EVP_PKEY *key, const char *purpose, const void *data, size_t size,
                         GError **error)
{
    ForeCursor cur;
    const uint8_t *magic, *name, *pin, *contents, *sig;
    uint32_t version, n;
    size_t name_len, signed_len, sig_len;
    EVP_MD_CTX *md;
    bool ok;

    fore_cursor_init(&cur, data, size);
    magic = fore_cursor_take(&cur, MAGIC_LEN);
    if (magic == NULL || memcmp(magic, MAGIC, MAGIC_LEN) != 0) {
        return refuse(error, FORE_ERROR_UNTRUSTED, purpose, "it is not signed; train on this host");
    }
    version = fore_cursor_le32(&cur);
    if (fore_cursor_ok(&cur) && version != VERSION) {
        return refuse(error, FORE_ERROR_UNSUPPORTED, purpose, "signed by a newer build");
    }
    name_len = fore_cursor_u8(&cur);
    name = fore_cursor_take(&cur, name_len);
    pin = fore_cursor_take(&cur, PIN_LEN);
    n = fore_cursor_le32(&cur);
    contents = fore_cursor_take(&cur, n);
    signed_len = size - cur.left;
    sig_len = fore_cursor_le16(&cur);
    sig = fore_cursor_take(&cur, sig_len);
    if (!fore_cursor_finished(&cur) || name == NULL || pin == NULL || contents == NULL ||
        size > FORE_SIGNED_MAX || sig_len > SIG_MAX) {
        return refuse(error, FORE_ERROR_INVALID, purpose,
                      "the file is cut short or too long; copy it again");
    }
    if (name_len != strlen(purpose) || memcmp(name, purpose, name_len) != 0) {
        return refuse(error, FORE_ERROR_UNTRUSTED, purpose, "it was signed for something else");
    }
    if (!same_pin(key, pin)) {
        return refuse(error, FORE_ERROR_UNTRUSTED, purpose,
                      "another host signed it; train on this one");
    }
    md = EVP_MD_CTX_new();
    ok = EVP_DigestVerifyInit(md, NULL, EVP_sha256(), NULL, key) == 1 &&
         EVP_DigestVerify(md, sig, sig_len, data, signed_len) == 1;
    EVP_MD_CTX_free(md);
    if (!ok) {
        return refuse(error, FORE_ERROR_UNTRUSTED, purpose,
                      "the signature does not fit; the file was changed");
    }
    return g_bytes_new(contents, n);
}
