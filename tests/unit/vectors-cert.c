/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Certificates of makers: a CA's may be an anchor and is never an EK's; those of EKs lead to
 * theirs. */
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdbool.h>

#include "tests/lib/fore-test-key.h"
#include "tests/unit/vectors.h"
#include "vtpm/attest/fore-ekcert.h"

#define NOW 1795600000 /* 2026-11-25 */

static X509 *read_cert(GBytes *bytes)
{
    const uint8_t *at = g_bytes_get_data(bytes, NULL);
    BIO *bio = BIO_new_mem_buf(at, (int)g_bytes_get_size(bytes));
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);

    if (cert == NULL) {
        cert = d2i_X509(NULL, &at, (long)g_bytes_get_size(bytes));
    }
    BIO_free(bio);
    return cert;
}

static ForeAnchors *anchors_of(X509 *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    ForeAnchors *anchors;
    char *pem = NULL;
    long n;

    PEM_write_bio_X509(bio, cert);
    n = BIO_get_mem_data(bio, &pem);
    anchors = fore_anchors_new(pem, (gsize)n, NULL);
    BIO_free(bio);
    return anchors;
}

/* @key: of the EK; NULL: the certificate's own */
static ForeEkcertReason judge(X509 *cert, const ForeAnchors *anchors, EVP_PKEY *key)
{
    ForeTestKey ek = {.scheme = FORE_ALG_NULL, .name_alg = FORE_ALG_SHA256};
    ForeEkcertPolicy policy = {.anchors = anchors, .now_s = NOW, .allow_missing_crl = true};
    g_autoptr(GBytes) public = NULL, der = NULL;
    uint8_t *bytes = NULL;
    int n = i2d_X509(cert, &bytes);

    der = g_bytes_new(bytes, (gsize)n);
    OPENSSL_free(bytes);
    ek.pkey = key != NULL ? key : X509_get0_pubkey(cert);
    public = fore_test_key_ek_public(&ek);
    return fore_ekcert_verify(der, public, &policy);
}

/* A CA: an anchor if OpenSSL reads it, and even with itself as the anchor never an EK's certificate
 */
static void check_ca(const ForeVector *vector, GBytes *bytes)
{
    X509 *cert = read_cert(bytes);
    g_autoptr(ForeAnchors) anchors = NULL;
    g_auto(ForeTestKey) any = {0};
    ForeEkcertReason reason;

    g_assert_nonnull(cert);
    anchors = anchors_of(cert);
    g_assert_nonnull(anchors);
    fore_test_key_init(&any, "P-256", FORE_ALG_NULL, 0); /* some curves are not even OpenSSL's */
    reason = judge(cert, anchors, any.pkey);
    g_test_message("%s", fore_ekcert_reason_name(reason));
    g_assert_true(reason == FORE_EKCERT_IS_CA || reason == FORE_EKCERT_PROFILE);
    X509_free(cert);
}

typedef struct {
    const char *ca; /* below the vectors' folder */
    const char *want;
    bool any_key; /* of a curve that no TPM2B_PUBLIC of the tests has; refused before it counts */
} Ek;

static void check_ek(const ForeVector *vector, GBytes *bytes)
{
    const Ek *ek = vector->param;
    X509 *cert = read_cert(bytes), *ca_cert;
    g_autoptr(GBytes) ca = fore_test_vector(ek->ca);
    g_autoptr(ForeAnchors) anchors = NULL;
    g_auto(ForeTestKey) any = {0};

    if (ca != NULL) {
        ca_cert = read_cert(ca);
        anchors = anchors_of(ca_cert);
        fore_test_key_init(&any, "P-256", FORE_ALG_NULL, 0);
        g_assert_cmpstr(
            fore_ekcert_reason_name(judge(cert, anchors, ek->any_key ? any.pkey : NULL)), ==,
            ek->want);
        X509_free(ca_cert);
    }
    X509_free(cert);
}

#define STORE "keylime/tpm_cert_store/"
#define GO    "go-tpm-tools/certificates/"
#define GOCA  "go-tpm-tools/ca-certs/"
static const Ek st_rsa = {STORE "STM_RSA_05I.pem", "ok"}, st_ecc = {STORE "STM_ECC_01I.pem", "ok"},
                nuvoton = {STORE "NUVO_2110.pem", "ekcert-is-ca"},
                swtpm = {"generated-swtpm/swtpm-localca-issuer.pem", "ok"},
                iak = {STORE "STM_RSA_05I.pem", "ekcert-profile", true},
                uca = {GOCA "tpm_ek_intermediate_3.crt", "ok"},
                uca_sign = {GOCA "tpm_ek_intermediate_3.crt", "ekcert-usage"},
                pca = {GOCA "gcp_ek_ak_ca_intermediate_v3.crt", "ekcert-profile"};

const ForeVector fore_vectors_cert[] = {
    {"keylime/ek-certs/st_sha256_with_rsa_der.der", check_ek, &st_rsa},
    {"keylime/ek-certs/st_ecdsa_sha256_der.der", check_ek, &st_ecc},
    {"keylime/ek-certs/nuvoton_ecdsa_sha256_der.der", check_ek, &nuvoton},
    {"keylime/ek-certs/iak_der.der", check_ek, &iak},
    {"keylime/ek-certs/idevid_der.der", check_ek, &iak},
    {"generated-swtpm/ekcert.der", check_ek, &swtpm},
    {GO "uca_tpm_*_enc_cert.pem", check_ek, &uca},
    {GO "uca_tpm_*_sign_cert.pem", check_ek, &uca_sign},
    {GO "pca_tpm_*_cert.pem", check_ek, &pca}, /* neither EK usage nor a name of the TPM */
    {STORE "*", check_ca, NULL},
    {"safeboot/certs/*", check_ca, NULL},
    {GOCA "*", check_ca, NULL},
    {"generated-swtpm/swtpm-localca-*.pem", check_ca, NULL},
};
const unsigned fore_n_vectors_cert = G_N_ELEMENTS(fore_vectors_cert);
