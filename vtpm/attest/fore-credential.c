/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works (TPM 2.0 Library Part 1, rev 1.59):
 *   seed: random bytes, RSA-OAEP to the EK with label "IDENTITY" (B.10.3), or KDFe over an ECDH
 * with an ephemeral key (C.6.3) encIdentity = AES-CFB(KDFa(seed, "STORAGE", name), iv 0,
 * TPM2B(secret))        (24.4) outerHMAC   = HMAC(KDFa(seed, "INTEGRITY"), encIdentity || name)
 * (24.5) with the EK's name hash throughout.  KDFa is SP 800-108 counter mode (11.4.10.2): labels
 * with their terminating NUL, a 32-bit counter from 1 and the length in bits.  KDFe is SP 800-56A
 * (11.4.10.3).
 */
#include "vtpm/attest/fore-credential.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "vtpm/attest/fore-public.h"

#define MAX_SEED 64

G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_PKEY, EVP_PKEY_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_PKEY_CTX, EVP_PKEY_CTX_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_CIPHER_CTX, EVP_CIPHER_CTX_free)

typedef struct {
    const uint8_t *data;
    size_t size;
} Span;

/* One block is enough: no key here is longer than its hash. */
static bool kdf_a(const EVP_MD *md, Span key, const char *label, Span context, unsigned bits,
                  uint8_t ret[EVP_MAX_MD_SIZE])
{
    g_autoptr(GByteArray) text = g_byte_array_new();
    unsigned size = 0;

    g_assert(bits / 8 <= (unsigned)EVP_MD_get_size(md));
    fore_put_be32(text, 1);
    g_byte_array_append(text, (const uint8_t *)label, (guint)strlen(label) + 1);
    g_byte_array_append(text, context.data, (guint)context.size);
    fore_put_be32(text, bits);
    return HMAC(md, key.data, (int)key.size, text->data, text->len, ret, &size) != NULL;
}

static bool kdf_e(const EVP_MD *md, Span z, Span x_ephemeral, Span x_static,
                  uint8_t ret[EVP_MAX_MD_SIZE])
{
    g_autoptr(GByteArray) text = g_byte_array_new();
    bool ok;

    fore_put_be32(text, 1);
    g_byte_array_append(text, z.data, (guint)z.size);
    g_byte_array_append(text, (const uint8_t *)"IDENTITY", sizeof("IDENTITY"));
    g_byte_array_append(text, x_ephemeral.data, (guint)x_ephemeral.size);
    g_byte_array_append(text, x_static.data, (guint)x_static.size);
    ok = EVP_Digest(text->data, text->len, ret, NULL, md, NULL) == 1;
    OPENSSL_cleanse(text->data, text->len);
    return ok;
}

static bool cfb(const uint8_t *key, unsigned bits, GByteArray *text)
{
    static const uint8_t iv[16];
    g_autoptr(EVP_CIPHER_CTX) ctx = EVP_CIPHER_CTX_new();
    const EVP_CIPHER *cipher = bits == 256 ? EVP_aes_256_cfb128() : EVP_aes_128_cfb128();
    int n = 0;

    return ctx != NULL && EVP_EncryptInit_ex(ctx, cipher, NULL, key, iv) == 1 &&
           EVP_EncryptUpdate(ctx, text->data, &n, text->data, (int)text->len) == 1 &&
           n == (int)text->len;
}

static GBytes *protect(const ForePublic *ek, Span name, Span secret, Span seed)
{
    const EVP_MD *md = fore_public_md(ek->name_alg);
    unsigned n_md = (unsigned)EVP_MD_get_size(md);
    g_autoptr(GByteArray) text = g_byte_array_new();
    g_autoptr(GByteArray) out = g_byte_array_new();
    uint8_t key[EVP_MAX_MD_SIZE], mac[EVP_MAX_MD_SIZE];
    const Span none = {(const uint8_t *)"", 0};
    bool ok;

    fore_put_be16(text, (uint16_t)secret.size);
    g_byte_array_append(text, secret.data, (guint)secret.size);
    ok = kdf_a(md, seed, "STORAGE", name, ek->sym_bits, key) && cfb(key, ek->sym_bits, text) &&
         kdf_a(md, seed, "INTEGRITY", none, 8 * n_md, key);
    fore_put_be16(out, (uint16_t)(2 + n_md + text->len));
    fore_put_be16(out, (uint16_t)n_md);
    {
        g_autoptr(GByteArray) covered = g_byte_array_new();

        g_byte_array_append(covered, text->data, text->len);
        g_byte_array_append(covered, name.data, (guint)name.size);
        ok = ok && HMAC(md, key, (int)n_md, covered->data, covered->len, mac, NULL) != NULL;
    }
    OPENSSL_cleanse(key, sizeof(key));
    if (!ok) {
        return NULL;
    }
    g_byte_array_append(out, mac, n_md);
    g_byte_array_append(out, text->data, text->len);
    return g_byte_array_free_to_bytes(g_steal_pointer(&out));
}

/* TPM2B_ENCRYPTED_SECRET of an RSA EK */
static GBytes *wrap_rsa(const ForePublic *ek, uint8_t seed[MAX_SEED], size_t seed_size)
{
    const EVP_MD *md = fore_public_md(ek->name_alg);
    g_autoptr(EVP_PKEY_CTX) ctx = EVP_PKEY_CTX_new_from_pkey(NULL, ek->key, NULL);
    g_autoptr(GByteArray) out = g_byte_array_new();
    uint8_t text[512];
    size_t size = sizeof(text);
    char *label = OPENSSL_memdup("IDENTITY", sizeof("IDENTITY"));

    if (ctx == NULL || label == NULL || RAND_bytes(seed, (int)seed_size) != 1 ||
        EVP_PKEY_encrypt_init(ctx) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) != 1 ||
        EVP_PKEY_CTX_set_rsa_oaep_md(ctx, md) != 1 || EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, md) != 1 ||
        EVP_PKEY_CTX_set0_rsa_oaep_label(ctx, label, sizeof("IDENTITY")) != 1) {
        OPENSSL_free(label);
        return NULL;
    }
    if (EVP_PKEY_encrypt(ctx, text, &size, seed, seed_size) != 1) {
        return NULL;
    }
    fore_put_be16(out, (uint16_t)size);
    g_byte_array_append(out, text, (guint)size);
    return g_byte_array_free_to_bytes(g_steal_pointer(&out));
}

/* Both coordinates of @key, each @coord bytes */
static bool get_point(EVP_PKEY *key, size_t coord, uint8_t ret[2 * 48])
{
    uint8_t point[1 + 2 * 48];
    size_t size = 0;

    if (EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point),
                                        &size) != 1 ||
        size != 1 + 2 * coord || point[0] != 4) {
        return false;
    }
    memcpy(ret, point + 1, 2 * coord);
    return true;
}

static bool agree(EVP_PKEY *own, EVP_PKEY *peer, uint8_t *z, size_t size)
{
    g_autoptr(EVP_PKEY_CTX) ctx = EVP_PKEY_CTX_new_from_pkey(NULL, own, NULL);
    size_t n = size;

    return ctx != NULL && EVP_PKEY_derive_init(ctx) == 1 &&
           EVP_PKEY_derive_set_peer(ctx, peer) == 1 && EVP_PKEY_derive(ctx, z, &n) == 1 &&
           n == size;
}

/* TPM2B_ENCRYPTED_SECRET of an ECC EK: the ephemeral TPMS_ECC_POINT */
static GBytes *wrap_ecc(const ForePublic *ek, uint8_t seed[MAX_SEED])
{
    size_t coord = ek->bits / 8;
    g_autoptr(EVP_PKEY) ephemeral = EVP_EC_gen(ek->curve == FORE_CURVE_P256 ? "P-256" : "P-384");
    g_autoptr(GByteArray) out = g_byte_array_new();
    uint8_t own[2 * 48], theirs[2 * 48], z[48], key[EVP_MAX_MD_SIZE];
    bool ok = ephemeral != NULL && get_point(ephemeral, coord, own) &&
              get_point(ek->key, coord, theirs) && agree(ephemeral, ek->key, z, coord) &&
              kdf_e(fore_public_md(ek->name_alg), (Span){z, coord}, (Span){own, coord},
                    (Span){theirs, coord}, key);

    OPENSSL_cleanse(z, sizeof(z));
    if (!ok) {
        return NULL;
    }
    memcpy(seed, key, (size_t)EVP_MD_get_size(fore_public_md(ek->name_alg)));
    OPENSSL_cleanse(key, sizeof(key));
    fore_put_be16(out, (uint16_t)(2 * (2 + coord)));
    for (unsigned i = 0; i < 2; i++) {
        fore_put_be16(out, (uint16_t)coord);
        g_byte_array_append(out, own + i * coord, (guint)coord);
    }
    return g_byte_array_free_to_bytes(g_steal_pointer(&out));
}

static bool is_storage_key(const ForePublic *ek)
{
    return ek->attributes & FORE_OBJECT_DECRYPT && ek->attributes & FORE_OBJECT_RESTRICTED &&
           ek->sym_alg == FORE_ALG_AES && ek->sym_mode == FORE_ALG_CFB &&
           (ek->sym_bits == 128 || ek->sym_bits == 256);
}

static bool fits(const ForePublic *ek, GBytes *ak_name, GBytes *secret, GError **error)
{
    gsize n_name = g_bytes_get_size(ak_name), n_secret = g_bytes_get_size(secret);

    if (!is_storage_key(ek)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "EK with attributes 0x%08x is not a restricted decryption key with AES-CFB; no "
                    "credential can be made for it",
                    ek->attributes);
        return false;
    }
    if (n_name < 2 + 32 || n_name > FORE_NAME_BYTES || n_secret == 0 ||
        n_secret > FORE_CREDENTIAL_SECRET) {
        g_set_error(
            error, FORE_ERROR, FORE_ERROR_INVALID,
            "AK name of %zu bytes (34 to %d) and secret of %zu (1 to %d) make no credential",
            n_name, FORE_NAME_BYTES, n_secret, FORE_CREDENTIAL_SECRET);
        return false;
    }
    return true;
}

static Span span(GBytes *bytes)
{
    gsize n = 0;
    const uint8_t *data = g_bytes_get_data(bytes, &n);

    return (Span){data, n};
}

bool fore_credential_make(GBytes *ek_public, GBytes *ak_name, GBytes *secret, GBytes **ret_blob,
                          GBytes **ret_secret, GError **error)
{
    g_auto(ForePublic) ek = {0};
    g_autoptr(GBytes) wrapped = NULL, blob = NULL;
    ForePublicReason reason = fore_public_init(&ek, ek_public);
    uint8_t seed[MAX_SEED];
    size_t seed_size;

    if (reason != FORE_PUBLIC_OK) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "EK public area of %zu bytes is refused (%s); no credential can be made for it",
                    ek_public != NULL ? g_bytes_get_size(ek_public) : 0,
                    fore_public_reason_name(reason));
        return false;
    }
    if (!fits(&ek, ak_name, secret, error)) {
        return false;
    }
    seed_size = (size_t)EVP_MD_get_size(fore_public_md(ek.name_alg));
    wrapped = ek.type == FORE_ALG_RSA ? wrap_rsa(&ek, seed, seed_size) : wrap_ecc(&ek, seed);
    if (wrapped != NULL) {
        blob = protect(&ek, span(ak_name), span(secret), (Span){seed, seed_size});
    }
    OPENSSL_cleanse(seed, sizeof(seed));
    if (blob == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_FAILED,
                    "OpenSSL made no credential for the EK; try again");
        return false;
    }
    *ret_blob = g_steal_pointer(&blob);
    *ret_secret = g_steal_pointer(&wrapped);
    return true;
}

GBytes *fore_credential_make_seeded(GBytes *ek_public, GBytes *ak_name, GBytes *secret,
                                    const guint8 *seed, gsize seed_size)
{
    g_auto(ForePublic) ek = {0};

    if (fore_public_init(&ek, ek_public) != FORE_PUBLIC_OK || !fits(&ek, ak_name, secret, NULL) ||
        seed_size != (gsize)EVP_MD_get_size(fore_public_md(ek.name_alg))) {
        return NULL;
    }
    return protect(&ek, span(ak_name), span(secret), (Span){seed, seed_size});
}
