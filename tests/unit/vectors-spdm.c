/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Signed measurements of a real device, and chains that lack a part. */
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "tests/lib/fore-test-key.h"
#include "tests/unit/vectors.h"
#include "vtpm/attest/fore-spdm.h"

#define DIR "trustee/nvidia-spdm/"
#define NOW 1750000000

static GPtrArray *chain_of(const char *name)
{
    GPtrArray *chain = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_autoptr(GBytes) pem = fore_test_vector(name);
    BIO *bio = BIO_new_mem_buf(g_bytes_get_data(pem, NULL), (int)g_bytes_get_size(pem));
    X509 *cert;

    while ((cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        uint8_t *der = NULL;
        int size = i2d_X509(cert, &der);

        g_ptr_array_add(chain, g_bytes_new(der, (gsize)size));
        OPENSSL_free(der);
        X509_free(cert);
    }
    BIO_free(bio);
    return chain;
}

static void assert_judged(GBytes *report, const char *chain_name, ForeSpdmReason want)
{
    g_autofree char *hex = g_strndup(g_bytes_get_data(report, NULL), g_bytes_get_size(report));
    g_autoptr(GBytes) exchange = fore_hex_decode(g_strstrip(hex), FORE_SPDM_MAX);
    g_autoptr(GPtrArray) root = chain_of(DIR "nvidia_device_root.pem");
    g_autoptr(GPtrArray) chain = chain_of(chain_name);
    g_autoptr(GBytes) value = fore_spdm_measurement(exchange, 2);
    ForeSpdmMeasurement listed = {.index = 2, .value = value};
    ForeSpdmPolicy policy = {
        .root = root->pdata[0], .now_s = NOW, .measurements = &listed, .n_measurements = 1};
    const uint8_t *nonce = (const uint8_t *)g_bytes_get_data(exchange, NULL) + 4;

    g_assert_nonnull(value);
    g_assert_cmpstr(fore_spdm_reason_name(fore_spdm_judge(exchange, (GBytes *const *)chain->pdata,
                                                          chain->len, &policy, nonce)),
                    ==, fore_spdm_reason_name(want));
}

static void check_report(const ForeVector *vector, GBytes *report)
{
    assert_judged(report, vector->param, FORE_SPDM_OK);
}

/* Its text carries one zero byte too many: refused so, accepted without. */
static void check_padded(const ForeVector *vector, GBytes *report)
{
    g_autofree char *hex = g_strndup(g_bytes_get_data(report, NULL), g_bytes_get_size(report));
    g_autoptr(GBytes) padded = fore_hex_decode(g_strstrip(hex), FORE_SPDM_MAX);
    g_autoptr(GBytes) trimmed = NULL;

    g_assert_true(g_str_has_suffix(hex, "00"));
    g_assert_null(fore_spdm_measurement(padded, 2));
    trimmed = g_bytes_new(hex, strlen(hex) - 2);
    assert_judged(trimmed, vector->param, FORE_SPDM_OK);
}

typedef struct {
    ForeSpdmReason reason;
} Want;

static void check_chain(const ForeVector *vector, GBytes *pem)
{
    g_autoptr(GBytes) report = fore_test_vector(DIR "hopperAttestationReport.txt");
    const Want *want = vector->param;

    assert_judged(report, vector->name, want->reason);
}

static const Want whole = {FORE_SPDM_OK}, no_path = {FORE_SPDM_CHAIN}, no_signer = {FORE_SPDM_CERT};
static const Want other_device = {FORE_SPDM_SIGNATURE};

const ForeVector fore_vectors_spdm[] = {
    {DIR "hopperAttestationReport.txt", check_report, DIR "hopper_cert_chain_case1.txt"},
    {DIR "hopper_coco_report1.txt", check_padded, DIR "hopper_coco_certs1.txt"},
    {DIR "hopper_cert_chain_case1.txt", check_chain, &whole},
    {DIR "hopper_cert_chain_case2.txt", check_chain, &no_signer},
    {DIR "hopper_cert_chain_case3.txt", check_chain, &no_path},
    {DIR "hopper_cert_chain_case4.txt", check_chain, &no_signer},
    {DIR "hopper_coco_certs1.txt", check_chain, &other_device},
    {DIR "hopperAttestationReport-claims.txt", NULL, NULL},
    {DIR "hopper_signing_cert.pem", NULL, NULL},
    {DIR "nvidia_device_root.pem", NULL, NULL},
};
const unsigned fore_n_vectors_spdm = G_N_ELEMENTS(fore_vectors_spdm);
