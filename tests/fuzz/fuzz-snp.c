/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A paravisor's blob, and a report with the certificate behind it: never accepted, since nobody has
 * the key of the pinned root. */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "vtpm/attest/fore-snp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ForeSnpRoots *pinned(void)
{
    EVP_PKEY *key = EVP_RSA_gen(2048);
    X509 *cert = X509_new();
    BIO *bio = BIO_new(BIO_s_mem());
    ForeSnpRoots *roots;
    char *text;
    long size;

    X509_set_version(cert, X509_VERSION_3);
    X509_time_adj_ex(X509_getm_notBefore(cert), -1, 0, NULL);
    X509_time_adj_ex(X509_getm_notAfter(cert), 1000, 0, NULL);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const uint8_t *)"ARK-Milan", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    X509_set_pubkey(cert, key);
    X509_sign(cert, key, EVP_sha384());
    PEM_write_bio_X509(bio, cert);
    size = BIO_get_mem_data(bio, &text);
    roots = fore_snp_roots_new(text, (size_t)size, NULL);
    g_assert(roots != NULL);
    BIO_free(bio);
    X509_free(cert);
    EVP_PKEY_free(key);
    return roots;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static ForeSnpRoots *roots;
    static const uint8_t nothing[64];
    g_autoptr(GBytes) all = g_bytes_new_static(data, size);
    g_autoptr(GBytes) report = NULL, cert = NULL, hcl_report = NULL, var_data = NULL;
    ForeSnpReport parsed;
    ForeSnpPolicy policy = {.measurements = (const uint8_t(*)[48])nothing, .n_measurements = 1};
    ForeSnpExpect expect = {.report_data = nothing};
    ForeSnpEvidence evidence = {0};
    GBytes *links[1];

    roots = roots != NULL ? roots : pinned();
    policy.roots = roots;
    policy.now_s = 1800000000; /* the same on every day */
    if (fore_snp_split_hcl(all, &hcl_report, &var_data) == FORE_SNP_OK) {
        (void)fore_snp_report_init(&parsed, hcl_report);
    }
    if (size < FORE_SNP_REPORT_SIZE) {
        (void)fore_snp_report_init(&parsed, all);
        return 0;
    }
    report = g_bytes_new_from_bytes(all, 0, FORE_SNP_REPORT_SIZE);
    cert = g_bytes_new_from_bytes(all, FORE_SNP_REPORT_SIZE, size - FORE_SNP_REPORT_SIZE);
    links[0] = cert;
    evidence = (ForeSnpEvidence){report, cert, links, 1, var_data};
    g_assert(fore_snp_judge(&evidence, &policy, &expect, NULL) != FORE_SNP_OK);
    policy.signing_key = FORE_SNP_VLEK;
    g_assert(fore_snp_judge(&evidence, &policy, &expect, NULL) != FORE_SNP_OK);
    return 0;
}
