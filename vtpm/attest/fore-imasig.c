/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * File signatures: struct signature_v2_hdr (security/integrity/integrity.h): type, version 2, hash
 * algorithm (enum hash_algo of include/uapi/linux/hash_info.h), big-endian key id and length, then
 * RSA PKCS#1 v1.5 or DER ECDSA over the file's digest.  A key's id is the last four bytes of its
 * certificate's subject key identifier, or of the SHA-1 over its bits where there is no
 * certificate; that is a name to look it up by, the signature decides.
 */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "vtpm/attest/fore-imalog-internal.h"
#include "vtpm/attest/fore-public.h"

#define TYPE_IMA_DIGSIG      0x03 /* EVM_IMA_XATTR_DIGSIG */
#define TYPE_PORTABLE_DIGSIG 0x05 /* EVM_XATTR_PORTABLE_DIGSIG: over metadata, not content */
#define VERSION              2
#define MAX_KEY              16384 /* bytes */
#define MAX_TRIES            8     /* keys of one id */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIO, BIO_free_all)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509, X509_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509_PUBKEY, X509_PUBKEY_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_PKEY, EVP_PKEY_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_PKEY_CTX, EVP_PKEY_CTX_free)

void fore_ima_key_free(gpointer data)
{
    ForeImaKey *key = data;

    if (key != NULL) {
        EVP_PKEY_free(key->pkey);
        g_free(key);
    }
}

static bool strong(EVP_PKEY *pkey)
{
    return (EVP_PKEY_is_a(pkey, "RSA") && EVP_PKEY_get_bits(pkey) >= 2048) ||
           (EVP_PKEY_is_a(pkey, "EC") && EVP_PKEY_get_bits(pkey) >= 256);
}

/* Last four bytes of the SHA-1 over the subject's public key bits. */
static bool id_of_bits(EVP_PKEY *pkey, uint8_t ret[4])
{
    X509_PUBKEY *raw = NULL;
    g_autoptr(X509_PUBKEY) pub = NULL;
    const uint8_t *bits;
    int size;
    uint8_t digest[20];

    if (X509_PUBKEY_set(&raw, pkey) != 1) {
        return false;
    }
    pub = raw;
    if (X509_PUBKEY_get0_param(NULL, &bits, &size, NULL, pub) != 1 ||
        EVP_Digest(bits, (size_t)size, digest, NULL, EVP_sha1(), NULL) != 1) {
        return false;
    }
    memcpy(ret, digest + 16, 4);
    return true;
}

static ForeImaKey *key_of(EVP_PKEY *pkey, X509 *cert)
{
    const ASN1_OCTET_STRING *ski = cert != NULL ? X509_get0_subject_key_id(cert) : NULL;
    ForeImaKey *key;

    if (pkey == NULL || !strong(pkey)) {
        return NULL;
    }
    key = g_new0(ForeImaKey, 1);
    key->pkey = EVP_PKEY_up_ref(pkey) == 1 ? pkey : NULL;
    if (key->pkey == NULL || !id_of_bits(pkey, key->ids[0])) {
        fore_ima_key_free(key);
        return NULL;
    }
    memcpy(key->ids[1], key->ids[0], 4);
    if (ski != NULL && ASN1_STRING_length(ski) >= 4) {
        memcpy(key->ids[1], ASN1_STRING_get0_data(ski) + ASN1_STRING_length(ski) - 4, 4);
    }
    return key;
}

ForeImaKey *fore_ima_key_new(const void *data, size_t size)
{
    const uint8_t *at = data;
    g_autoptr(BIO) bio = NULL, again = NULL;
    g_autoptr(X509) cert = NULL;
    g_autoptr(EVP_PKEY) bare = NULL;
    ForeImaKey *key;

    if (size == 0 || size > MAX_KEY) {
        return NULL;
    }
    cert = d2i_X509(NULL, &at, (long)size);
    if (cert != NULL && at != (const uint8_t *)data + size) {
        return NULL;
    }
    ERR_clear_error();
    if (cert == NULL && g_strstr_len(data, (gssize)size, "-----BEGIN ") == NULL) {
        return NULL; /* not worth waking the decoders */
    }
    if (cert == NULL) {
        bio = BIO_new_mem_buf(data, (int)size);
        cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    }
    if (cert == NULL) {
        again = BIO_new_mem_buf(data, (int)size);
        bare = PEM_read_bio_PUBKEY(again, NULL, NULL, NULL);
    }
    key = key_of(cert != NULL ? X509_get0_pubkey(cert) : bare, cert);
    ERR_clear_error();
    return key;
}

/* --- signatures --- */

typedef struct {
    uint8_t type, version, hash;
    const uint8_t *id, *bytes;
    size_t size;
} Signature;

static bool read_signature(const ForeImaEntry *entry, Signature *ret)
{
    ForeCursor cur;

    fore_cursor_init(&cur, entry->extra, entry->extra_size);
    ret->type = fore_cursor_u8(&cur);
    ret->version = fore_cursor_u8(&cur);
    ret->hash = fore_cursor_u8(&cur);
    ret->id = fore_cursor_take(&cur, 4);
    ret->bytes = fore_cursor_sized16(&cur, &ret->size);
    return fore_cursor_finished(&cur) && ret->size > 0;
}

ForeImaReason fore_ima_signature_form(const ForeImaEntry *entry, bool *ret_signs)
{
    Signature sig;

    *ret_signs = false;
    if (entry->extra_size > 0 && entry->extra[0] == TYPE_PORTABLE_DIGSIG) {
        return FORE_IMA_OK;
    }
    if (!read_signature(entry, &sig) || sig.type != TYPE_IMA_DIGSIG || sig.version != VERSION) {
        return FORE_IMA_SIGNATURE_MALFORMED;
    }
    *ret_signs = true;
    return FORE_IMA_OK;
}

/* enum hash_algo */
static const EVP_MD *md_of(uint8_t hash, uint16_t alg)
{
    if (hash == 4 && alg == FORE_ALG_SHA256) {
        return EVP_sha256();
    }
    if (hash == 5 && alg == FORE_ALG_SHA384) {
        return EVP_sha384();
    }
    return hash == 6 && alg == FORE_ALG_SHA512 ? EVP_sha512() : NULL;
}

static bool verify(EVP_PKEY *pkey, const Signature *sig, const EVP_MD *md,
                   const ForeImaEntry *entry)
{
    g_autoptr(EVP_PKEY_CTX) ctx = EVP_PKEY_CTX_new(pkey, NULL);
    bool good = ctx != NULL && EVP_PKEY_verify_init(ctx) == 1 &&
                (!EVP_PKEY_is_a(pkey, "RSA") ||
                 EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1) &&
                EVP_PKEY_CTX_set_signature_md(ctx, md) == 1 &&
                EVP_PKEY_verify(ctx, sig->bytes, sig->size, entry->digest, entry->digest_size) == 1;

    ERR_clear_error();
    return good;
}

typedef struct {
    unsigned tries;
    bool good;
} Search;

static void search(Search *s, const GPtrArray *ring, const Signature *sig, const EVP_MD *md,
                   const ForeImaEntry *entry)
{
    for (guint i = 0; ring != NULL && i < ring->len && !s->good && s->tries < MAX_TRIES; i++) {
        const ForeImaKey *key = ring->pdata[i];

        if (memcmp(key->ids[0], sig->id, 4) == 0 || memcmp(key->ids[1], sig->id, 4) == 0) {
            s->tries++;
            s->good = verify(key->pkey, sig, md, entry);
        }
    }
}

ForeImaReason fore_ima_signature_verify(const ForeImaEntry *entry, const GPtrArray *ring,
                                        const GPtrArray *learned)
{
    Search s = {0};
    Signature sig;
    const EVP_MD *md;

    if (!read_signature(entry, &sig)) {
        return FORE_IMA_SIGNATURE_MALFORMED;
    }
    md = md_of(sig.hash, entry->alg);
    if (md == NULL) {
        return FORE_IMA_SIGNATURE; /* over another digest than the measured one */
    }
    search(&s, ring, &sig, md, entry);
    search(&s, learned, &sig, md, entry);
    if (s.good) {
        return FORE_IMA_OK;
    }
    return s.tries > 0 ? FORE_IMA_SIGNATURE : FORE_IMA_SIGNATURE_KEY;
}
