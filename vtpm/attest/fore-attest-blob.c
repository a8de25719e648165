/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Three readers (head, signature, key) turn bytes into structs and trust nothing;
 * the key says which scheme, hash and lengths the signature must have; OpenSSL says whether it
 * holds.  tpm2-tss's unmarshalling is not used: it takes a wrong magic and trailing bytes.
 *
 * Clauses are of TPM 2.0 Library Part 2, rev 1.59: TPMS_ATTEST 10.12.12, TPMS_CLOCK_INFO 10.11.1,
 * TPMT_SIGNATURE 11.3.4.
 */
#include "vtpm/attest/fore-attest-blob.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/rsa.h>

#include "vtpm/attest/fore-ak.h"
#include "vtpm/attest/fore-public.h"

#define GENERATED_VALUE 0xff544347u /* TPM_GENERATED_VALUE, 6.2 */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(ECDSA_SIG, ECDSA_SIG_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_MD_CTX, EVP_MD_CTX_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIGNUM, BN_free)

ForeQuoteReason fore_attest_head(GBytes *bytes, uint16_t want_type, ForeAttestHead *ret,
                                 ForeCursor *ret_rest)
{
    ForeAttestHead head = {0};
    ForeCursor cur;
    uint32_t magic;
    uint16_t type;
    uint8_t safe;

    if (bytes == NULL || g_bytes_get_size(bytes) > FORE_QUOTE_MAX_ATTEST) {
        return FORE_QUOTE_ATTEST_MALFORMED;
    }
    fore_cursor_init(&cur, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    magic = fore_cursor_be32(&cur);
    type = fore_cursor_be16(&cur);
    if (!fore_cursor_ok(&cur)) {
        return FORE_QUOTE_ATTEST_MALFORMED;
    }
    if (magic != GENERATED_VALUE) {
        return FORE_QUOTE_MAGIC;
    }
    if (type != want_type) {
        return FORE_QUOTE_TYPE;
    }
    head.signer = fore_cursor_sized16(&cur, &head.signer_size);
    head.extra = fore_cursor_sized16(&cur, &head.extra_size);
    head.clock.clock_ms = fore_cursor_be64(&cur);
    head.clock.reset_count = fore_cursor_be32(&cur);
    head.clock.restart_count = fore_cursor_be32(&cur);
    safe = fore_cursor_u8(&cur);
    head.clock.safe = safe == 1;
    head.firmware = fore_cursor_be64(&cur);
    if (!fore_cursor_ok(&cur) || safe > 1) {
        return FORE_QUOTE_ATTEST_MALFORMED;
    }
    *ret = head;
    *ret_rest = cur;
    return FORE_QUOTE_OK;
}

/* TPMT_SIGNATURE; for RSA @s is NULL. */
typedef struct {
    uint16_t scheme, hash;
    const uint8_t *r, *s;
    size_t r_size, s_size;
} Signature;

static ForeQuoteReason read_signature(GBytes *bytes, Signature *ret)
{
    Signature sig = {0};
    ForeCursor cur;

    if (bytes == NULL || g_bytes_get_size(bytes) > FORE_QUOTE_MAX_SIGNATURE) {
        return FORE_QUOTE_SIGNATURE_MALFORMED;
    }
    fore_cursor_init(&cur, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    sig.scheme = fore_cursor_be16(&cur);
    if (!fore_cursor_ok(&cur)) {
        return FORE_QUOTE_SIGNATURE_MALFORMED;
    }
    if (sig.scheme != FORE_ALG_RSASSA && sig.scheme != FORE_ALG_RSAPSS &&
        sig.scheme != FORE_ALG_ECDSA) {
        return FORE_QUOTE_SIGNATURE_SCHEME;
    }
    sig.hash = fore_cursor_be16(&cur);
    sig.r = fore_cursor_sized16(&cur, &sig.r_size);
    if (sig.scheme == FORE_ALG_ECDSA) {
        sig.s = fore_cursor_sized16(&cur, &sig.s_size);
    }
    if (!fore_cursor_finished(&cur) || sig.r_size == 0 || (sig.s != NULL && sig.s_size == 0)) {
        return FORE_QUOTE_SIGNATURE_MALFORMED;
    }
    *ret = sig;
    return FORE_QUOTE_OK;
}

static ForeQuoteReason read_key(GBytes *ak_public, ForePublic *ret)
{
    switch (fore_public_init(ret, ak_public)) {
    case FORE_PUBLIC_OK:
        break;
    case FORE_PUBLIC_WEAK:
        return FORE_QUOTE_KEY_WEAK;
    default:
        return FORE_QUOTE_KEY_INVALID;
    }
    /* Enrolment judged it already; a record that changed since must not slip through. */
    return fore_ak_judge(ret, NULL) == FORE_AK_OK ? FORE_QUOTE_OK : FORE_QUOTE_KEY_INVALID;
}

static ForeQuoteReason fit(const Signature *sig, const ForePublic *key)
{
    if (sig->scheme != key->scheme) {
        return FORE_QUOTE_SIGNATURE_SCHEME;
    }
    if (sig->hash == FORE_ALG_SHA1) {
        return FORE_QUOTE_HASH_WEAK;
    }
    return sig->hash == key->scheme_hash ? FORE_QUOTE_OK : FORE_QUOTE_HASH_MISMATCH;
}

/* 1 .. n-1, and not longer than n */
static bool in_order(const BIGNUM *v, size_t size, const BIGNUM *order)
{
    return size <= (size_t)BN_num_bytes(order) && !BN_is_zero(v) && BN_cmp(v, order) < 0;
}

/* r and s as DER, the form that OpenSSL takes; -1 when one is out of range. */
static int ecdsa_der(const Signature *sig, EVP_PKEY *key, uint8_t **ret_der)
{
    g_autoptr(BIGNUM) order = NULL, r = NULL, s = NULL;
    g_autoptr(ECDSA_SIG) both = ECDSA_SIG_new();

    if (EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_EC_ORDER, &order) != 1) {
        return -1;
    }
    r = BN_bin2bn(sig->r, (int)sig->r_size, NULL);
    s = BN_bin2bn(sig->s, (int)sig->s_size, NULL);
    if (both == NULL || r == NULL || s == NULL || !in_order(r, sig->r_size, order) ||
        !in_order(s, sig->s_size, order) || ECDSA_SIG_set0(both, r, s) != 1) {
        return -1;
    }
    r = s = NULL; /* now owned by @both */
    return i2d_ECDSA_SIG(both, ret_der);
}

static bool verify(const Signature *sig, const ForePublic *key, GBytes *attest)
{
    g_autoptr(EVP_MD_CTX) ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx = NULL; /* owned by @ctx */
    const EVP_MD *md = fore_public_md(sig->hash);
    uint8_t *der = NULL;
    const uint8_t *bytes = sig->r;
    int der_size = 0;
    size_t size = sig->r_size;
    bool good;

    if (md == NULL || ctx == NULL || EVP_DigestVerifyInit(ctx, &pctx, md, NULL, key->key) != 1) {
        return false;
    }
    if (sig->scheme == FORE_ALG_ECDSA) {
        der_size = ecdsa_der(sig, key->key, &der);
        if (der_size <= 0) {
            return false;
        }
        bytes = der;
        size = (size_t)der_size;
    } else if (size != key->bits / 8) {
        return false;
    }
    /* Part 1, B.7: the salt is as long as fits or as the digest, by the TPM's revision. */
    good = sig->scheme != FORE_ALG_RSAPSS ||
           (EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
            EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_AUTO) == 1);
    good = good && EVP_DigestVerify(ctx, bytes, size, g_bytes_get_data(attest, NULL),
                                    g_bytes_get_size(attest)) == 1;
    OPENSSL_free(der);
    return good;
}

ForeQuoteReason fore_attest_signature(GBytes *ak_public, GBytes *attest, GBytes *signature,
                                      ForePublic *ret_key)
{
    g_auto(ForePublic) key = {0};
    Signature sig;
    ForeQuoteReason reason = read_signature(signature, &sig);

    if (reason == FORE_QUOTE_OK) {
        reason = read_key(ak_public, &key);
    }
    if (reason == FORE_QUOTE_OK) {
        reason = fit(&sig, &key);
    }
    if (reason != FORE_QUOTE_OK) {
        return reason;
    }
    if (!verify(&sig, &key, attest)) {
        return FORE_QUOTE_SIGNATURE;
    }
    *ret_key = key;
    key.key = NULL; /* now the caller's */
    return FORE_QUOTE_OK;
}

static bool same(const uint8_t *data, size_t size, GBytes *want)
{
    return g_bytes_get_size(want) == size && size > 0 &&
           CRYPTO_memcmp(data, g_bytes_get_data(want, NULL), size) == 0;
}

ForeQuoteReason fore_attest_judge_head(const ForeAttestHead *head, const ForePublic *ak,
                                       GBytes *extra, GBytes *signer)
{
    g_autoptr(GBytes) own = NULL;

    if (extra == NULL || !same(head->extra, head->extra_size, extra)) {
        return FORE_QUOTE_NONCE;
    }
    if (signer == NULL) {
        signer = own = fore_ak_primary_name(ak);
    }
    return signer != NULL && same(head->signer, head->signer_size, signer) ? FORE_QUOTE_OK
                                                                           : FORE_QUOTE_SIGNER;
}
