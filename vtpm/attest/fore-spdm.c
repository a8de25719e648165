/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The signature covers request and response together (DSP0274 1.1, 10.11.1, L1), so the verifier's
 * nonce lies in what was signed.  The leaf must be a DICE certificate: one that says which firmware
 * its key belongs to; the key of a device's intermediate signs certificates, not evidence.
 */
#include "vtpm/attest/fore-spdm.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "common/fore-bytes.h"

#define SPDM_1_1         0x11
#define GET_MEASUREMENTS 0xe0
#define MEASUREMENTS     0x60
#define WANT_SIGNATURE   0x01
#define ALL_INDICES      0xff
#define SIGNATURE_SIZE   96 /* r and s, big-endian */
#define MAX_CERT         8192
#define OID_FWID         "2.23.133.5.4.1" /* tcg-dice-fwid (TCG DICE Attestation, 6.1) */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509, X509_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509_STORE, X509_STORE_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509_STORE_CTX, X509_STORE_CTX_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ECDSA_SIG, ECDSA_SIG_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_MD_CTX, EVP_MD_CTX_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ASN1_OBJECT, ASN1_OBJECT_free)

static const char *const names[] = {
    [FORE_SPDM_OK] = "ok",
    [FORE_SPDM_MALFORMED] = "spdm-malformed",
    [FORE_SPDM_VERSION] = "spdm-version",
    [FORE_SPDM_REQUEST] = "spdm-request",
    [FORE_SPDM_NONCE] = "spdm-nonce-mismatch",
    [FORE_SPDM_CERT] = "spdm-cert",
    [FORE_SPDM_CHAIN] = "spdm-chain",
    [FORE_SPDM_EXPIRED] = "spdm-cert-expired",
    [FORE_SPDM_SIGNATURE] = "spdm-bad-signature",
    [FORE_SPDM_MISSING] = "spdm-measurement-missing",
    [FORE_SPDM_MISMATCH] = "spdm-measurement-mismatch",
    [FORE_SPDM_POLICY] = "spdm-bad-policy",
};
G_STATIC_ASSERT(G_N_ELEMENTS(names) == FORE_SPDM_N);

const char *fore_spdm_reason_name(ForeSpdmReason reason)
{
    g_assert(reason < FORE_SPDM_N);
    return names[reason];
}

typedef struct {
    const uint8_t *nonce, *record, *signature;
    size_t record_size, signed_size;
    unsigned n_blocks;
} Exchange;

static ForeSpdmReason read_request(ForeCursor *cur, Exchange *e)
{
    uint8_t version = fore_cursor_u8(cur), code = fore_cursor_u8(cur);
    uint8_t attributes = fore_cursor_u8(cur), operation = fore_cursor_u8(cur);

    e->nonce = fore_cursor_take(cur, 32);
    (void)fore_cursor_u8(cur); /* slot */
    if (!fore_cursor_ok(cur)) {
        return FORE_SPDM_MALFORMED;
    }
    if (version != SPDM_1_1) {
        return FORE_SPDM_VERSION;
    }
    return code == GET_MEASUREMENTS && attributes == WANT_SIGNATURE && operation == ALL_INDICES
               ? FORE_SPDM_OK
               : FORE_SPDM_REQUEST;
}

static ForeSpdmReason read_response(ForeCursor *cur, Exchange *e)
{
    uint8_t version = fore_cursor_u8(cur), code = fore_cursor_u8(cur);
    const uint8_t *size;

    (void)fore_cursor_le16(cur); /* reserved, slot */
    e->n_blocks = fore_cursor_u8(cur);
    size = fore_cursor_take(cur, 3);
    if (size == NULL || version != SPDM_1_1 || code != MEASUREMENTS) {
        return FORE_SPDM_MALFORMED;
    }
    e->record_size = size[0] | (size_t)size[1] << 8 | (size_t)size[2] << 16;
    e->record = fore_cursor_take(cur, e->record_size);
    (void)fore_cursor_take(cur, 32);                    /* the device's nonce */
    (void)fore_cursor_take(cur, fore_cursor_le16(cur)); /* opaque data */
    e->signature = fore_cursor_take(cur, SIGNATURE_SIZE);
    return fore_cursor_finished(cur) ? FORE_SPDM_OK : FORE_SPDM_MALFORMED;
}

/* One value at most for each index; @ret_value NULL when @index does not occur. */
static ForeSpdmReason find(const Exchange *e, uint8_t index, const uint8_t **ret_value,
                           size_t *ret_size)
{
    ForeCursor cur;

    *ret_value = NULL;
    fore_cursor_init(&cur, e->record, e->record_size);
    for (unsigned i = 0; i < e->n_blocks; i++) {
        uint8_t at = fore_cursor_u8(&cur), specification = fore_cursor_u8(&cur);
        uint16_t block = fore_cursor_le16(&cur), size;
        const uint8_t *value;

        (void)fore_cursor_u8(&cur); /* type */
        size = fore_cursor_le16(&cur);
        value = fore_cursor_take(&cur, size);
        if (!fore_cursor_ok(&cur) || specification != 1 || block != size + 3u ||
            (at == index && *ret_value != NULL)) {
            return FORE_SPDM_MALFORMED;
        }
        if (at == index) {
            *ret_value = value;
            *ret_size = size;
        }
    }
    return fore_cursor_finished(&cur) ? FORE_SPDM_OK : FORE_SPDM_MALFORMED;
}

static ForeSpdmReason read_exchange(GBytes *bytes, Exchange *ret)
{
    Exchange e = {0};
    ForeSpdmReason reason;
    const uint8_t *value;
    size_t value_size;
    ForeCursor cur;
    gsize size = 0;
    const uint8_t *data = bytes != NULL ? g_bytes_get_data(bytes, &size) : NULL;

    if (size > FORE_SPDM_MAX) {
        return FORE_SPDM_MALFORMED;
    }
    fore_cursor_init(&cur, data, size);
    reason = read_request(&cur, &e);
    if (reason == FORE_SPDM_OK) {
        reason = read_response(&cur, &e);
    }
    if (reason == FORE_SPDM_OK) {
        reason = find(&e, 0, &value, &value_size); /* the whole record reads */
    }
    e.signed_size = size - SIGNATURE_SIZE;
    if (reason == FORE_SPDM_OK) {
        *ret = e;
    }
    return reason;
}

static X509 *parse(GBytes *der)
{
    gsize size = 0;
    const uint8_t *data = der != NULL ? g_bytes_get_data(der, &size) : NULL;
    const uint8_t *at = data;
    g_autoptr(X509) cert = size > 0 && size <= MAX_CERT ? d2i_X509(NULL, &at, (long)size) : NULL;

    ERR_clear_error();
    return cert != NULL && at == data + size ? g_steal_pointer(&cert) : NULL;
}

static bool can_sign_evidence(X509 *leaf)
{
    g_autoptr(ASN1_OBJECT) fwid = OBJ_txt2obj(OID_FWID, 1);
    EVP_PKEY *key = X509_get0_pubkey(leaf);
    char group[32] = "";

    return key != NULL && EVP_PKEY_is_a(key, "EC") &&
           EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) == 1 &&
           strcmp(group, "secp384r1") == 0 && X509_get_ext_by_OBJ(leaf, fwid, -1) >= 0 &&
           (X509_get_key_usage(leaf) & KU_DIGITAL_SIGNATURE) != 0;
}

static ForeSpdmReason verify_path(X509_STORE *store, X509 *leaf, STACK_OF(X509) * links,
                                  int64_t now_s)
{
    g_autoptr(X509_STORE_CTX) ctx = X509_STORE_CTX_new();
    X509_VERIFY_PARAM *param;
    int error;

    if (ctx == NULL || X509_STORE_CTX_init(ctx, store, leaf, links) != 1) {
        return FORE_SPDM_CHAIN;
    }
    param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_time(param, (time_t)now_s);
    X509_VERIFY_PARAM_set_depth(param, FORE_SPDM_MAX_CHAIN);
    X509_VERIFY_PARAM_set_auth_level(param, 2);
    error = X509_verify_cert(ctx) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(ctx);
    if (error == X509_V_ERR_CERT_HAS_EXPIRED || error == X509_V_ERR_CERT_NOT_YET_VALID) {
        return FORE_SPDM_EXPIRED;
    }
    return error == X509_V_OK && sk_X509_num(X509_STORE_CTX_get0_chain(ctx)) > 1 ? FORE_SPDM_OK
                                                                                 : FORE_SPDM_CHAIN;
}

static ForeSpdmReason judge_chain(GBytes *const *chain, size_t n_chain,
                                  const ForeSpdmPolicy *policy, X509 *leaf)
{
    g_autoptr(X509) root = parse(policy->root);
    g_autoptr(X509_STORE) store = X509_STORE_new();
    STACK_OF(X509) *links = sk_X509_new_null();
    ForeSpdmReason reason = root != NULL ? FORE_SPDM_OK : FORE_SPDM_POLICY;

    for (size_t i = 1; i < n_chain && reason == FORE_SPDM_OK; i++) {
        X509 *link = parse(chain[i]);

        if (link == NULL) {
            reason = FORE_SPDM_CERT;
        } else {
            sk_X509_push(links, link);
        }
    }
    if (reason == FORE_SPDM_OK && X509_STORE_add_cert(store, root) == 1) {
        reason = verify_path(store, leaf, links, policy->now_s);
    }
    sk_X509_pop_free(links, X509_free);
    ERR_clear_error();
    return reason;
}

static bool signed_by(GBytes *exchange, const Exchange *e, EVP_PKEY *key)
{
    g_autoptr(EVP_MD_CTX) ctx = EVP_MD_CTX_new();
    g_autoptr(ECDSA_SIG) sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(e->signature, SIGNATURE_SIZE / 2, NULL);
    BIGNUM *s = BN_bin2bn(e->signature + SIGNATURE_SIZE / 2, SIGNATURE_SIZE / 2, NULL);
    uint8_t *der = NULL;
    int size;
    bool good;

    if (ctx == NULL || sig == NULL || r == NULL || s == NULL || ECDSA_SIG_set0(sig, r, s) != 1) {
        BN_free(r);
        BN_free(s);
        return false;
    }
    size = i2d_ECDSA_SIG(sig, &der);
    good = size > 0 && EVP_DigestVerifyInit(ctx, NULL, EVP_sha384(), NULL, key) == 1 &&
           EVP_DigestVerify(ctx, der, (size_t)size, g_bytes_get_data(exchange, NULL),
                            e->signed_size) == 1;
    OPENSSL_free(der);
    ERR_clear_error();
    return good;
}

static ForeSpdmReason judge_values(const Exchange *e, const ForeSpdmPolicy *policy)
{
    for (size_t i = 0; i < policy->n_measurements; i++) {
        const ForeSpdmMeasurement *want = &policy->measurements[i];
        const uint8_t *value;
        size_t size = 0;
        ForeSpdmReason reason = find(e, want->index, &value, &size);

        if (reason != FORE_SPDM_OK) {
            return reason;
        }
        if (value == NULL) {
            return FORE_SPDM_MISSING;
        }
        if (size != g_bytes_get_size(want->value) ||
            memcmp(value, g_bytes_get_data(want->value, NULL), size) != 0) {
            return FORE_SPDM_MISMATCH;
        }
    }
    return FORE_SPDM_OK;
}

ForeSpdmReason fore_spdm_judge(GBytes *exchange, GBytes *const *chain, size_t n_chain,
                               const ForeSpdmPolicy *policy, const uint8_t nonce[32])
{
    g_autoptr(X509) leaf = NULL;
    ForeSpdmReason reason;
    Exchange e;

    if (policy->root == NULL || policy->n_measurements == 0) {
        return FORE_SPDM_POLICY;
    }
    reason = read_exchange(exchange, &e);
    if (reason != FORE_SPDM_OK) {
        return reason;
    }
    if (memcmp(e.nonce, nonce, 32) != 0) {
        return FORE_SPDM_NONCE;
    }
    leaf = n_chain > 0 && n_chain <= FORE_SPDM_MAX_CHAIN ? parse(chain[0]) : NULL;
    if (leaf == NULL || !can_sign_evidence(leaf)) {
        ERR_clear_error();
        return FORE_SPDM_CERT;
    }
    reason = judge_chain(chain, n_chain, policy, leaf);
    if (reason == FORE_SPDM_OK && !signed_by(exchange, &e, X509_get0_pubkey(leaf))) {
        reason = FORE_SPDM_SIGNATURE;
    }
    return reason == FORE_SPDM_OK ? judge_values(&e, policy) : reason;
}

GBytes *fore_spdm_measurement(GBytes *exchange, uint8_t index)
{
    const uint8_t *value = NULL;
    size_t size = 0;
    Exchange e;

    if (read_exchange(exchange, &e) != FORE_SPDM_OK ||
        find(&e, index, &value, &size) != FORE_SPDM_OK || value == NULL) {
        return NULL;
    }
    return g_bytes_new(value, size);
}
