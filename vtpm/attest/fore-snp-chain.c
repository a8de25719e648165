/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VCEK and VLEK certificates: AMD 57230 (VCEK certificate and KDS interface), tables 8 to 10.  The
 * store holds self-signed ARKs of the operator's bundle and nothing else; ASK and ASVK, whoever
 * sends them, are only links.  AMD issues revocation lists for what an ARK signed, none for single
 * chips, so that is what can be asked for.
 */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "common/fore-error.h"
#include "vtpm/attest/fore-snp-internal.h"

#define MAX_BUNDLE (64u << 10)
#define MAX_BLOCKS 64
#define MAX_CERT   8192
#define MAX_LINKS  8
#define OID        "1.3.6.1.4.1.3704.1."

G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509, X509_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509_CRL, X509_CRL_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509_STORE_CTX, X509_STORE_CTX_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIO, BIO_free_all)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ASN1_OBJECT, ASN1_OBJECT_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ASN1_INTEGER, ASN1_INTEGER_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ASN1_IA5STRING, ASN1_IA5STRING_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ASN1_OCTET_STRING, ASN1_OCTET_STRING_free)

struct ForeSnpRoots {
    X509_STORE *store;
    GPtrArray *links; /* X509: ASK, ASVK of the bundle */
    GPtrArray *crls;  /* X509_CRL */
};

/* --- the pinned roots --- */

static void free_cert(gpointer cert)
{
    X509_free(cert);
}

static void free_crl(gpointer crl)
{
    X509_CRL_free(crl);
}

/* 1: an ARK, 0: something else of use, -1: does not parse */
static int add_block(ForeSnpRoots *roots, const char *name, const uint8_t *data, long size)
{
    const uint8_t *at = data;

    if (strcmp(name, PEM_STRING_X509) == 0) {
        g_autoptr(X509) cert = d2i_X509(NULL, &at, size);

        if (cert == NULL || at != data + size) {
            return -1;
        }
        if (X509_self_signed(cert, 1) == 1) {
            return X509_STORE_add_cert(roots->store, cert) == 1 ? 1 : -1;
        }
        g_ptr_array_add(roots->links, g_steal_pointer(&cert));
        return 0;
    }
    if (strcmp(name, PEM_STRING_X509_CRL) == 0) {
        g_autoptr(X509_CRL) crl = d2i_X509_CRL(NULL, &at, size);

        if (crl == NULL || at != data + size) {
            return -1;
        }
        g_ptr_array_add(roots->crls, g_steal_pointer(&crl));
        return 0;
    }
    return -1;
}

ForeSnpRoots *fore_snp_roots_new(const char *pem, size_t size, GError **error)
{
    g_autoptr(ForeSnpRoots) roots = g_new0(ForeSnpRoots, 1);
    g_autoptr(BIO) bio = NULL;
    unsigned n = 0, n_roots = 0;
    char *name = NULL, *header = NULL;
    uint8_t *data = NULL;
    long n_data = 0;
    int added = 0;

    if (size > MAX_BUNDLE) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "AMD roots of %zu bytes: at most %u are read", size, MAX_BUNDLE);
        return NULL;
    }
    roots->store = X509_STORE_new();
    roots->links = g_ptr_array_new_with_free_func(free_cert);
    roots->crls = g_ptr_array_new_with_free_func(free_crl);
    bio = BIO_new_mem_buf(pem, (int)size);
    while (added >= 0 && n < MAX_BLOCKS && PEM_read_bio(bio, &name, &header, &data, &n_data) == 1) {
        added = add_block(roots, name, data, n_data);
        n_roots += added == 1;
        n++;
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(data);
    }
    ERR_clear_error();
    if (added < 0 || n_roots == 0 || n == MAX_BLOCKS) {
        g_set_error(error, FORE_ERROR, n == MAX_BLOCKS ? FORE_ERROR_LIMIT : FORE_ERROR_INVALID,
                    "AMD roots: block %u does not parse, or no self-signed ARK among them; give "
                    "the ask_ark PEM of your processor",
                    n);
        return NULL;
    }
    return g_steal_pointer(&roots);
}

void fore_snp_roots_free(ForeSnpRoots *roots)
{
    if (roots != NULL) {
        X509_STORE_free(roots->store);
        g_clear_pointer(&roots->links, g_ptr_array_unref);
        g_clear_pointer(&roots->crls, g_ptr_array_unref);
        g_free(roots);
    }
}

/* --- the certificate --- */

static X509 *parse(GBytes *der)
{
    gsize size = 0;
    const uint8_t *data = der != NULL ? g_bytes_get_data(der, &size) : NULL;
    const uint8_t *at = data;
    g_autoptr(X509) cert =
        data != NULL && size <= MAX_CERT ? d2i_X509(NULL, &at, (long)size) : NULL;

    ERR_clear_error();
    return cert != NULL && at == data + size ? g_steal_pointer(&cert) : NULL;
}

/* The value of AMD's extension @suffix, which must occur once; NULL otherwise. */
static const ASN1_OCTET_STRING *extension(const X509 *cert, const char *suffix)
{
    g_autofree char *oid = g_strconcat(OID, suffix, NULL);
    g_autoptr(ASN1_OBJECT) object = OBJ_txt2obj(oid, 1);
    int at = object != NULL ? X509_get_ext_by_OBJ(cert, object, -1) : -1;

    if (at < 0 || X509_get_ext_by_OBJ(cert, object, at) >= 0) {
        return NULL;
    }
    return X509_EXTENSION_get_data(X509_get_ext(cert, at));
}

static bool has_extension(const X509 *cert, const char *suffix)
{
    return extension(cert, suffix) != NULL;
}

/* An INTEGER from 0 to 255. */
static bool read_spl(const X509 *cert, const char *suffix, uint8_t *ret)
{
    const ASN1_OCTET_STRING *value = extension(cert, suffix);
    const uint8_t *at = value != NULL ? ASN1_STRING_get0_data(value) : NULL;
    const uint8_t *end = value != NULL ? at + ASN1_STRING_length(value) : NULL;
    g_autoptr(ASN1_INTEGER) number =
        value != NULL ? d2i_ASN1_INTEGER(NULL, &at, ASN1_STRING_length(value)) : NULL;
    uint64_t v = 0;

    if (number == NULL || at != end || ASN1_INTEGER_get_uint64(&v, number) != 1 || v > 255) {
        return false;
    }
    *ret = (uint8_t)v;
    return true;
}

static const char *const product_names[] = {"Milan", "Genoa", "Turin"};
G_STATIC_ASSERT(G_N_ELEMENTS(product_names) == FORE_SNP_PRODUCT_N);

/* "Milan-B0", "Genoa": the part before the stepping. */
static bool read_product(const X509 *cert, ForeSnpProduct *ret)
{
    const ASN1_OCTET_STRING *value = extension(cert, "2");
    const uint8_t *at = value != NULL ? ASN1_STRING_get0_data(value) : NULL;
    g_autoptr(ASN1_IA5STRING) text =
        value != NULL ? d2i_ASN1_IA5STRING(NULL, &at, ASN1_STRING_length(value)) : NULL;

    for (unsigned i = 0; text != NULL && i < FORE_SNP_PRODUCT_N; i++) {
        size_t n = strlen(product_names[i]), size = (size_t)ASN1_STRING_length(text);
        const uint8_t *name = ASN1_STRING_get0_data(text);

        if (size >= n && memcmp(name, product_names[i], n) == 0 && (size == n || name[n] == '-')) {
            *ret = (ForeSnpProduct)i;
            return true;
        }
    }
    return false;
}

/* Raw bytes, or an OCTET STRING around them; 64, on Turin 8. */
static bool read_hwid(const X509 *cert, ForeSnpProduct product, uint8_t ret[64])
{
    const ASN1_OCTET_STRING *value = extension(cert, "4");
    int want = product == FORE_SNP_TURIN ? 8 : 64;
    int size = value != NULL ? ASN1_STRING_length(value) : 0;
    const uint8_t *data = value != NULL ? ASN1_STRING_get0_data(value) : NULL;

    if (size == want + 2 && data[0] == V_ASN1_OCTET_STRING && data[1] == want) {
        data += 2;
    } else if (size != want) {
        return false;
    }
    memset(ret, 0, 64);
    memcpy(ret, data, (size_t)want);
    return true;
}

static bool named(const X509_NAME *name, const char *want)
{
    int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    const ASN1_STRING *value;

    if (at < 0 || X509_NAME_get_index_by_NID(name, NID_commonName, at) >= 0) {
        return false;
    }
    value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));
    return (size_t)ASN1_STRING_length(value) == strlen(want) &&
           memcmp(ASN1_STRING_get0_data(value), want, strlen(want)) == 0;
}

/* Serial number 0, as AMD issues them, is against RFC 5280 and accepted: the chain decides. */
static bool read_profile(X509 *cert, ForeSnpCert *ret)
{
    bool vlek = named(X509_get_subject_name(cert), "SEV-VLEK");
    EVP_PKEY *key = X509_get0_pubkey(cert);
    char group[32] = "";
    g_autofree char *issuer = NULL;

    if ((!vlek && !named(X509_get_subject_name(cert), "SEV-VCEK")) ||
        X509_get_version(cert) != X509_VERSION_3 || X509_check_ca(cert) != 0 || key == NULL ||
        !EVP_PKEY_is_a(key, "EC") ||
        EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) != 1 ||
        strcmp(group, "secp384r1") != 0 || !read_product(cert, &ret->product)) {
        return false;
    }
    issuer = g_strconcat(vlek ? "SEV-VLEK-" : "SEV-", product_names[ret->product], NULL);
    ret->kind = vlek ? FORE_SNP_VLEK : FORE_SNP_VCEK;
    ret->key = key;
    return named(X509_get_issuer_name(cert), issuer) &&
           read_spl(cert, "3.1", &ret->tcb.boot_loader) && read_spl(cert, "3.2", &ret->tcb.tee) &&
           read_spl(cert, "3.3", &ret->tcb.snp) && read_spl(cert, "3.8", &ret->tcb.microcode) &&
           (ret->product != FORE_SNP_TURIN || read_spl(cert, "3.9", &ret->tcb.fmc)) &&
           (vlek ? !has_extension(cert, "4") && has_extension(cert, "5")
                 : read_hwid(cert, ret->product, ret->hwid));
}

void fore_snp_cert_done(ForeSnpCert *cert)
{
    g_clear_pointer(&cert->key, EVP_PKEY_free);
}

/* --- the chain --- */

static ForeSnpReason from_chain(int error)
{
    switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return FORE_SNP_EXPIRED;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return FORE_SNP_NOT_YET;
    default:
        return FORE_SNP_CHAIN;
    }
}

static bool current(const X509_CRL *crl, time_t now)
{
    const ASN1_TIME *next = X509_CRL_get0_nextUpdate(crl);

    return X509_cmp_time(X509_CRL_get0_lastUpdate(crl), &now) < 0 && next != NULL &&
           X509_cmp_time(next, &now) > 0;
}

/* Is @cert on a current list of @issuer?  A link of the chain needs one where policy wants it. */
static ForeSnpReason judge_crl(X509 *cert, X509 *issuer, const ForeSnpPolicy *policy, bool link)
{
    bool found = false;

    for (guint i = 0; i < policy->roots->crls->len; i++) {
        X509_CRL *crl = policy->roots->crls->pdata[i];
        X509_REVOKED *entry = NULL;

        if (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(issuer)) != 0 ||
            X509_CRL_verify(crl, X509_get0_pubkey(issuer)) != 1) {
            continue;
        }
        if (X509_CRL_get0_by_cert(crl, &entry, cert) == 1) {
            return FORE_SNP_REVOKED; /* also by a list that has run out */
        }
        found = found || current(crl, (time_t)policy->now_s);
    }
    return found || !link || !policy->require_crl ? FORE_SNP_OK : FORE_SNP_NO_CRL;
}

static ForeSnpReason judge_path(X509_STORE_CTX *ctx, const ForeSnpPolicy *policy)
{
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    ForeSnpReason reason = FORE_SNP_OK;
    STACK_OF(X509) * chain;

    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_CHECK_SS_SIGNATURE);
    X509_VERIFY_PARAM_set_time(param, (time_t)policy->now_s);
    X509_VERIFY_PARAM_set_depth(param, 2);
    X509_VERIFY_PARAM_set_auth_level(param, 2);
    if (X509_verify_cert(ctx) != 1) {
        return from_chain(X509_STORE_CTX_get_error(ctx));
    }
    chain = X509_STORE_CTX_get0_chain(ctx);
    if (sk_X509_num(chain) != 3) { /* VCEK, ASK, ARK */
        return FORE_SNP_CHAIN;
    }
    for (int i = 0; i < 2 && reason == FORE_SNP_OK; i++) {
        reason = judge_crl(sk_X509_value(chain, i), sk_X509_value(chain, i + 1), policy, i > 0);
    }
    return reason;
}

static ForeSnpReason judge_chain(X509 *cert, const ForeSnpEvidence *evidence,
                                 const ForeSnpPolicy *policy)
{
    g_autoptr(GPtrArray) sent = g_ptr_array_new_with_free_func(free_cert);
    g_autoptr(X509_STORE_CTX) ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *links = sk_X509_new_null();
    ForeSnpReason reason = FORE_SNP_CHAIN;

    for (guint i = 0; i < policy->roots->links->len; i++) {
        sk_X509_push(links, policy->roots->links->pdata[i]);
    }
    for (size_t i = 0; i < evidence->n_intermediates && i < MAX_LINKS; i++) {
        X509 *link = parse(evidence->intermediates[i]);

        if (link != NULL) {
            g_ptr_array_add(sent, link);
            sk_X509_push(links, link);
        }
    }
    if (ctx != NULL && X509_STORE_CTX_init(ctx, policy->roots->store, cert, links) == 1) {
        reason = judge_path(ctx, policy);
    }
    sk_X509_free(links);
    ERR_clear_error();
    return reason;
}

ForeSnpReason fore_snp_cert_judge(const ForeSnpEvidence *evidence, const ForeSnpPolicy *policy,
                                  ForeSnpCert *ret)
{
    g_autoptr(X509) cert = parse(evidence->cert);
    ForeSnpCert c = {0};
    ForeSnpReason reason;
    bool fits;

    if (cert == NULL) {
        return FORE_SNP_CERT_MALFORMED;
    }
    fits = read_profile(cert, &c);
    ERR_clear_error();
    if (!fits) {
        return FORE_SNP_CERT_PROFILE;
    }
    if (c.kind != policy->signing_key) {
        return FORE_SNP_SIGNING_KEY;
    }
    reason = judge_chain(cert, evidence, policy);
    if (reason == FORE_SNP_OK) {
        EVP_PKEY_up_ref(c.key);
        *ret = c;
    }
    return reason;
}
