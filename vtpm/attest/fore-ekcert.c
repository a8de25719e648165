/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Order of judgement: bytes, then the certificate by itself, then the key, then the chain; so that
 * the expensive part is reached only by what could pass.  OpenSSL's own path validation does the
 * chain; what the EK profile asks beyond it is checked here.  A SET in wrong order (a Nuvoton
 * series) is accepted: the signature covers the bytes as they are, and OpenSSL keeps them.
 */
#include "vtpm/attest/fore-ekcert.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "common/fore-error.h"
#include "vtpm/attest/fore-public.h"

#define MAX_BUNDLE  (4u << 20)
#define MAX_BLOCKS  1024
#define MAX_DEPTH   6
#define EKU_EK_CERT "2.23.133.8.1" /* tcg-kp-EKCertificate, EK Credential Profile 3.2.16 */

struct ForeAnchors {
    X509_STORE *store;
};

static const char *const names[] = {
    [FORE_EKCERT_OK] = "ok",
    [FORE_EKCERT_MALFORMED] = "ekcert-malformed",
    [FORE_EKCERT_PROFILE] = "ekcert-profile",
    [FORE_EKCERT_IS_CA] = "ekcert-is-ca",
    [FORE_EKCERT_USAGE] = "ekcert-usage",
    [FORE_EKCERT_EK] = "ek-unfit",
    [FORE_EKCERT_KEY] = "ekcert-other-key",
    [FORE_EKCERT_UNKNOWN_CA] = "ekcert-unknown-ca",
    [FORE_EKCERT_CHAIN] = "ekcert-chain",
    [FORE_EKCERT_EXPIRED] = "ekcert-expired",
    [FORE_EKCERT_NOT_YET] = "ekcert-not-yet-valid",
    [FORE_EKCERT_WEAK] = "ekcert-weak",
    [FORE_EKCERT_REVOKED] = "ekcert-revoked",
    [FORE_EKCERT_NO_CRL] = "ekcert-no-crl",
};
G_STATIC_ASSERT(G_N_ELEMENTS(names) == FORE_EKCERT_N);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509, X509_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509_CRL, X509_CRL_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509_STORE_CTX, X509_STORE_CTX_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIO, BIO_free_all)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CERTIFICATEPOLICIES, CERTIFICATEPOLICIES_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EXTENDED_KEY_USAGE, EXTENDED_KEY_USAGE_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BASIC_CONSTRAINTS, BASIC_CONSTRAINTS_free)

const char *fore_ekcert_reason_name(ForeEkcertReason reason)
{
    g_assert(reason < FORE_EKCERT_N);
    return names[reason];
}

/* 1: added, 0: neither certificate nor CRL, -1: does not parse */
static int add_block(X509_STORE *store, const char *name, const uint8_t *data, long size)
{
    const uint8_t *at = data;

    if (strcmp(name, PEM_STRING_X509) == 0 || strcmp(name, PEM_STRING_X509_OLD) == 0) {
        g_autoptr(X509) cert = d2i_X509(NULL, &at, size);
        return cert != NULL && at == data + size && X509_STORE_add_cert(store, cert) == 1 ? 1 : -1;
    }
    if (strcmp(name, PEM_STRING_X509_CRL) == 0) {
        g_autoptr(X509_CRL) crl = d2i_X509_CRL(NULL, &at, size);
        return crl != NULL && at == data + size && X509_STORE_add_crl(store, crl) == 1 ? 0 : -1;
    }
    return -1;
}

ForeAnchors *fore_anchors_new(const char *pem, gsize size, GError **error)
{
    g_autoptr(ForeAnchors) anchors = g_new0(ForeAnchors, 1);
    g_autoptr(BIO) bio = NULL;
    unsigned n = 0, n_certs = 0;
    char *name = NULL, *header = NULL;
    uint8_t *data = NULL;
    long n_data = 0;
    int added = 0;

    if (size > MAX_BUNDLE) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "CA bundle of %" G_GSIZE_FORMAT " bytes: at most %u are read", size,
                    MAX_BUNDLE);
        return NULL;
    }
    anchors->store = X509_STORE_new();
    bio = BIO_new_mem_buf(pem, (int)size);
    while (added >= 0 && n < MAX_BLOCKS && PEM_read_bio(bio, &name, &header, &data, &n_data) == 1) {
        added = add_block(anchors->store, name, data, n_data);
        n_certs += added == 1;
        n++;
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(data);
    }
    ERR_clear_error();
    if (added < 0 || n_certs == 0 || n == MAX_BLOCKS) {
        g_set_error(error, FORE_ERROR, n == MAX_BLOCKS ? FORE_ERROR_LIMIT : FORE_ERROR_INVALID,
                    "CA bundle: block %u is not a certificate or revocation list, or there is no "
                    "certificate, or more than %d blocks; give a PEM bundle",
                    n, MAX_BLOCKS);
        return NULL;
    }
    return g_steal_pointer(&anchors);
}

void fore_anchors_free(ForeAnchors *anchors)
{
    if (anchors != NULL) {
        X509_STORE_free(anchors->store);
        g_free(anchors);
    }
}

/* Exactly one certificate in DER.  Encoding it again shows BER in what OpenSSL does not keep as is.
 */
static X509 *parse(GBytes *der)
{
    gsize size = 0;
    const uint8_t *data = der != NULL ? g_bytes_get_data(der, &size) : NULL;
    const uint8_t *at = data;
    g_autoptr(X509) cert = NULL;
    uint8_t *again = NULL;
    int n = -1;
    bool same;

    if (data == NULL || size > FORE_EKCERT_MAX) {
        return NULL;
    }
    cert = d2i_X509(NULL, &at, (long)size);
    if (cert != NULL && at == data + size) {
        n = i2d_X509(cert, &again);
    }
    same = n == (int)size && memcmp(again, data, size) == 0;
    OPENSSL_free(again);
    ERR_clear_error();
    return same ? g_steal_pointer(&cert) : NULL;
}

/* -1: absent, 0: not critical, 1: critical, 2: occurs twice */
static int criticality(const X509 *cert, int nid)
{
    int at = X509_get_ext_by_NID(cert, nid, -1);

    if (at < 0) {
        return -1;
    }
    if (X509_get_ext_by_NID(cert, nid, at) >= 0) {
        return 2;
    }
    return X509_EXTENSION_get_critical(X509_get_ext(cert, at)) ? 1 : 0;
}

static bool serial_fits(const X509 *cert)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    bool nonzero = false;

    for (int i = 0; i < ASN1_STRING_length(serial); i++) {
        nonzero = nonzero || ASN1_STRING_get0_data(serial)[i] != 0;
    }
    return nonzero && ASN1_STRING_type(serial) == V_ASN1_INTEGER && /* else V_ASN1_NEG_INTEGER */
           ASN1_STRING_length(serial) <= 20;
}

/* RFC 5280 4.2.1.4: absent, or at least one policy. */
static bool policies_fit(const X509 *cert)
{
    g_autoptr(CERTIFICATEPOLICIES) policies =
        X509_get_ext_d2i(cert, NID_certificate_policies, NULL, NULL);

    return criticality(cert, NID_certificate_policies) < 0 ||
           (policies != NULL && sk_POLICYINFO_num(policies) > 0);
}

static ForeEkcertReason judge_profile(X509 *cert)
{
    /* EK Credential Profile 3.2, RFC 5280 4.2.1.1, 4.2.1.2, 4.2.1.13, 4.2.2.1; also: not twice */
    static const int never_critical[] = {NID_authority_key_identifier, NID_subject_key_identifier,
                                         NID_info_access, NID_crl_distribution_points,
                                         NID_ext_key_usage};
    uint32_t flags = X509_get_extension_flags(cert);
    bool no_subject = X509_NAME_entry_count(X509_get_subject_name(cert)) == 0;
    int alt_name = criticality(cert, NID_subject_alt_name);

    if (flags & EXFLAG_CA) {
        return FORE_EKCERT_IS_CA;
    }
    if (flags & EXFLAG_INVALID || X509_get_version(cert) != X509_VERSION_3 || !serial_fits(cert) ||
        X509_NAME_entry_count(X509_get_issuer_name(cert)) == 0) {
        return FORE_EKCERT_PROFILE;
    }
    /* EK Credential Profile 3.2: basic constraints critical, the TPM named in an alternative name,
     * the issuer's key named; RFC 5280 4.2.1.6: an empty subject needs a critical one. */
    if (criticality(cert, NID_basic_constraints) != 1 || alt_name < 0 || alt_name > 1 ||
        (no_subject && alt_name != 1) || criticality(cert, NID_authority_key_identifier) < 0) {
        return FORE_EKCERT_PROFILE;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(never_critical); i++) {
        if (criticality(cert, never_critical[i]) > 0) {
            return FORE_EKCERT_PROFILE;
        }
    }
    return policies_fit(cert) ? FORE_EKCERT_OK : FORE_EKCERT_PROFILE;
}

static bool has_ek_usage(const X509 *cert)
{
    g_autoptr(EXTENDED_KEY_USAGE) usage = X509_get_ext_d2i(cert, NID_ext_key_usage, NULL, NULL);

    for (int i = 0; usage != NULL && i < sk_ASN1_OBJECT_num(usage); i++) {
        char text[64] = "";

        OBJ_obj2txt(text, sizeof(text), sk_ASN1_OBJECT_value(usage, i), 1);
        if (strcmp(text, EKU_EK_CERT) == 0) {
            return true;
        }
    }
    return false;
}

/* Key usage: keyEncipherment for RSA, keyAgreement for ECC, and nothing that signs. */
static ForeEkcertReason judge_usage(X509 *cert, const ForePublic *ek)
{
    uint32_t usage = X509_get_key_usage(cert); /* all bits when absent */
    uint32_t want = ek->type == FORE_ALG_RSA ? KU_KEY_ENCIPHERMENT : KU_KEY_AGREEMENT;
    uint32_t never = KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION | KU_KEY_CERT_SIGN | KU_CRL_SIGN;

    if (!has_ek_usage(cert) || criticality(cert, NID_key_usage) != 1 || !(usage & want) ||
        (usage & never)) {
        return FORE_EKCERT_USAGE;
    }
    return FORE_EKCERT_OK;
}

/* Default templates of EK Credential Profile 2.3, B.3 and B.4: low range has PolicySecret only (A),
 * high range adds userWithAuth. */
static bool is_endorsement_key(const ForePublic *ek)
{
    const uint32_t judged = FORE_OBJECT_FIXED_TPM | FORE_OBJECT_FIXED_PARENT |
                            FORE_OBJECT_SENSITIVE_DATA_ORIGIN | FORE_OBJECT_ADMIN_WITH_POLICY |
                            FORE_OBJECT_RESTRICTED | FORE_OBJECT_DECRYPT;

    return (ek->attributes & ~FORE_OBJECT_USER_WITH_AUTH) == judged && ek->policy_size >= 32 &&
           ek->scheme == FORE_ALG_NULL && ek->sym_alg == FORE_ALG_AES &&
           ek->sym_mode == FORE_ALG_CFB;
}

static ForeEkcertReason from_chain(int error)
{
    switch (error) {
    case X509_V_OK:
        return FORE_EKCERT_OK;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_UNTRUSTED:
        return FORE_EKCERT_UNKNOWN_CA;
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return FORE_EKCERT_EXPIRED;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return FORE_EKCERT_NOT_YET;
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_CA_KEY_TOO_SMALL:
    case X509_V_ERR_CA_MD_TOO_WEAK:
        return FORE_EKCERT_WEAK;
    case X509_V_ERR_CERT_REVOKED:
        return FORE_EKCERT_REVOKED;
    case X509_V_ERR_UNABLE_TO_GET_CRL:
    case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
    case X509_V_ERR_CRL_HAS_EXPIRED:
    case X509_V_ERR_CRL_NOT_YET_VALID:
    case X509_V_ERR_CRL_SIGNATURE_FAILURE:
        return FORE_EKCERT_NO_CRL;
    case X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION:
        return FORE_EKCERT_PROFILE;
    default:
        return FORE_EKCERT_CHAIN;
    }
}

static ForeEkcertReason judge_chain(X509 *cert, const ForeEkcertPolicy *policy)
{
    g_autoptr(X509_STORE_CTX) ctx = X509_STORE_CTX_new();
    X509_VERIFY_PARAM *param;
    unsigned long flags = X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_CHECK_SS_SIGNATURE;
    ForeEkcertReason reason;

    if (ctx == NULL || X509_STORE_CTX_init(ctx, policy->anchors->store, cert, NULL) != 1) {
        return FORE_EKCERT_CHAIN;
    }
    if (!policy->allow_missing_crl) {
        flags |= X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL;
    }
    param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_flags(param, flags);
    X509_VERIFY_PARAM_set_time(param, (time_t)policy->now_s);
    X509_VERIFY_PARAM_set_depth(param, MAX_DEPTH);
    X509_VERIFY_PARAM_set_auth_level(param, 2);
    if (X509_verify_cert(ctx) == 1) {
        reason = FORE_EKCERT_OK;
    } else {
        reason = from_chain(X509_STORE_CTX_get_error(ctx));
        reason = reason == FORE_EKCERT_OK ? FORE_EKCERT_CHAIN : reason;
    }
    ERR_clear_error();
    return reason;
}

/* A revoked certificate is refused also where lists are optional. */
static bool is_listed(X509 *cert, const ForeEkcertPolicy *policy)
{
    ForeEkcertPolicy strict = *policy;

    strict.allow_missing_crl = false;
    return judge_chain(cert, &strict) == FORE_EKCERT_REVOKED;
}

ForeEkcertReason fore_ekcert_verify(GBytes *der, GBytes *ek_public, const ForeEkcertPolicy *policy)
{
    g_autoptr(X509) cert = parse(der);
    g_auto(ForePublic) ek = {0};
    ForeEkcertReason reason;
    EVP_PKEY *key;

    if (cert == NULL) {
        return FORE_EKCERT_MALFORMED;
    }
    reason = judge_profile(cert);
    if (reason != FORE_EKCERT_OK) {
        return reason;
    }
    if (fore_public_init(&ek, ek_public) != FORE_PUBLIC_OK || !is_endorsement_key(&ek)) {
        return FORE_EKCERT_EK;
    }
    key = X509_get0_pubkey(cert);
    if (key == NULL || EVP_PKEY_eq(key, ek.key) != 1) {
        ERR_clear_error();
        return FORE_EKCERT_KEY;
    }
    reason = judge_usage(cert, &ek);
    if (reason != FORE_EKCERT_OK) {
        return reason;
    }
    reason = judge_chain(cert, policy);
    if (reason == FORE_EKCERT_OK && policy->allow_missing_crl && is_listed(cert, policy)) {
        return FORE_EKCERT_REVOKED;
    }
    return reason;
}

char *fore_ekcert_common_name(GBytes *der)
{
    g_autoptr(X509) cert = parse(der);
    const X509_NAME *subject = cert != NULL ? X509_get_subject_name(cert) : NULL;
    int at = subject != NULL ? X509_NAME_get_index_by_NID(subject, NID_commonName, -1) : -1;
    const ASN1_STRING *value;
    int size;

    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0) {
        return NULL;
    }
    value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
    size = ASN1_STRING_length(value);
    if (size < 1 || size > 64) {
        return NULL;
    }
    for (int i = 0; i < size; i++) {
        if (!g_ascii_isprint((char)ASN1_STRING_get0_data(value)[i])) {
            return NULL;
        }
    }
    return g_strndup((const char *)ASN1_STRING_get0_data(value), (gsize)size);
}
