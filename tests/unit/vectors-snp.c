/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Real SNP reports with their chains, at the time when they were made. */
#include <jansson.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "tests/lib/fore-test-key.h"
#include "tests/unit/vectors.h"
#include "vtpm/attest/fore-public.h"
#include "vtpm/attest/fore-snp.h"

#define THEN  1740000000 /* 2025-02-19 */
#define TODAY 1790000000 /* 2026-09-21 */
#define DIR   "trustee/snp/"
#define GO    "go-sev-guest/"

typedef struct {
    GBytes *report, *cert;
    ForeSnpRoots *roots;
    ForeSnpReport parsed;
    ForeSnpPolicy policy;
    ForeSnpEvidence evidence;
    ForeSnpExpect expect;
} Case;

static void assert_reason(ForeSnpReason got, ForeSnpReason want)
{
    g_assert_cmpstr(fore_snp_reason_name(got), ==, fore_snp_reason_name(want));
}

static ForeSnpRoots *roots_of(const char *name)
{
    g_autoptr(GBytes) pem = fore_test_vector(name);
    g_autoptr(GError) error = NULL;
    ForeSnpRoots *roots =
        fore_snp_roots_new(g_bytes_get_data(pem, NULL), g_bytes_get_size(pem), &error);

    g_assert_no_error(error);
    return roots;
}

/* Everything as the report has it: what is left to judge is cryptography and defaults. */
static void case_init(Case *c, GBytes *report, GBytes *cert, const char *roots)
{
    memset(c, 0, sizeof(*c));
    c->report = g_bytes_ref(report);
    c->cert = g_bytes_ref(cert);
    c->roots = roots_of(roots);
    assert_reason(fore_snp_report_init(&c->parsed, report), FORE_SNP_OK);
    c->policy = (ForeSnpPolicy){
        .roots = c->roots,
        .now_s = THEN,
        .signing_key = c->parsed.signing_key,
        .vmpl = c->parsed.vmpl,
        .allow_smt = true,
        .measurements = (const uint8_t(*)[48])c->parsed.measurement,
        .n_measurements = 1,
        .minimum = c->parsed.reported,
    };
    c->evidence = (ForeSnpEvidence){.report = report, .cert = cert};
    c->expect = (ForeSnpExpect){.report_data = c->parsed.report_data};
}

static void case_done(Case *c)
{
    g_bytes_unref(c->report);
    g_bytes_unref(c->cert);
    fore_snp_roots_free(c->roots);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Case, case_done)

static void assert_case(Case *c, ForeSnpReason want)
{
    assert_reason(fore_snp_judge(&c->evidence, &c->policy, &c->expect, NULL), want);
}

static void assert_no_bit_flips(Case *c)
{
    gsize size = g_bytes_get_size(c->report);

    for (gsize bit = 0; bit < 8 * size; bit += 37) {
        uint8_t byte = ((const uint8_t *)g_bytes_get_data(c->report, NULL))[bit / 8] ^
                       (uint8_t)(1u << bit % 8);
        g_autoptr(GBytes) flipped = fore_test_replace(c->report, bit / 8, &byte, 1);

        c->evidence.report = flipped;
        g_assert_cmpint(fore_snp_judge(&c->evidence, &c->policy, &c->expect, NULL), !=,
                        FORE_SNP_OK);
    }
    c->evidence.report = c->report;
}

static void check_vcek(const ForeVector *vector, GBytes *report)
{
    g_autoptr(GBytes) cert = fore_test_vector(DIR "test-vcek.der");
    g_autoptr(GBytes) vlek = fore_test_vector(DIR "test-vlek.der");
    g_auto(Case) c = {0};

    case_init(&c, report, cert, DIR "milan_ask_ark_asvk.pem");
    assert_case(&c, FORE_SNP_OK);
    assert_no_bit_flips(&c);
    c.policy.now_s = TODAY;
    assert_case(&c, FORE_SNP_OK);
    c.policy.now_s = G_GINT64_CONSTANT(1900000000); /* 2030-03-17 */
    assert_case(&c, FORE_SNP_EXPIRED);
    c.policy.now_s = 1600000000; /* 2020 */
    assert_case(&c, FORE_SNP_NOT_YET);
    c.policy.now_s = THEN;
    c.policy.allow_smt = false;
    assert_case(&c, FORE_SNP_POLICY_SMT);
    c.policy.allow_smt = true;
    c.policy.minimum.microcode++; /* CURRENT has it, REPORTED does not */
    g_assert_cmpuint(c.parsed.current.microcode, >=, c.policy.minimum.microcode);
    assert_case(&c, FORE_SNP_TCB);
    c.policy.minimum.microcode--;
    c.policy.require_crl = true;
    assert_case(&c, FORE_SNP_NO_CRL);
    c.policy.require_crl = false;
    c.evidence.cert = vlek;
    assert_case(&c, FORE_SNP_SIGNING_KEY);
    c.evidence.cert = cert;
    fore_snp_roots_free(c.roots);
    c.policy.roots = c.roots = roots_of(DIR "genoa_ask_ark_asvk.pem");
    assert_case(&c, FORE_SNP_CHAIN);
}

static void check_vlek(const ForeVector *vector, GBytes *report)
{
    g_autoptr(GBytes) cert = fore_test_vector(DIR "test-vlek.der");
    g_autoptr(GBytes) vcek = fore_test_vector(DIR "test-vcek.der");
    g_auto(Case) c = {0};

    case_init(&c, report, cert, DIR "milan_ask_ark_asvk.pem");
    assert_case(&c, FORE_SNP_OK);
    assert_no_bit_flips(&c);
    c.policy.now_s = TODAY;
    assert_case(&c, FORE_SNP_EXPIRED);
    c.policy.now_s = THEN;
    c.policy.vmpl = 0;
    assert_case(&c, FORE_SNP_VMPL);
    c.policy.vmpl = 1;
    c.policy.signing_key = FORE_SNP_VCEK;
    assert_case(&c, FORE_SNP_SIGNING_KEY);
    c.evidence.cert = vcek;
    assert_case(&c, FORE_SNP_SIGNING_KEY);
    c.policy.signing_key = FORE_SNP_VLEK;
    assert_case(&c, FORE_SNP_SIGNING_KEY);
}

static void check_debug(const ForeVector *vector, GBytes *report)
{
    g_autoptr(GBytes) cert = fore_test_vector(GO "vcek.testcer");
    g_auto(Case) c = {0};

    case_init(&c, report, cert, GO "milan.testcer");
    assert_case(&c, FORE_SNP_POLICY_DEBUG);
    c.policy.allow_debug = true;
    assert_case(&c, FORE_SNP_OK);
}

/* What does not sign the report, or is not signed by AMD. */
static void check_bad_cert(const ForeVector *vector, GBytes *cert)
{
    g_autoptr(GBytes) report = fore_test_vector(DIR "test-report.bin");
    g_auto(Case) c = {0};

    case_init(&c, report, cert, DIR "milan_ask_ark_asvk.pem");
    assert_reason(fore_snp_judge(&c.evidence, &c.policy, &c.expect, NULL),
                  *(const ForeSnpReason *)vector->param);
}

static void check_roots(const ForeVector *vector, GBytes *pem)
{
    g_autoptr(ForeSnpRoots) roots = roots_of(vector->name);

    g_assert_nonnull(roots);
}

/* --- paravisor --- */

static GBytes *pem_der(GBytes *pem)
{
    BIO *bio = BIO_new_mem_buf(g_bytes_get_data(pem, NULL), (int)g_bytes_get_size(pem));
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    uint8_t *der = NULL;
    int size = i2d_X509(cert, &der);
    GBytes *ret = g_bytes_new(der, (gsize)size);

    OPENSSL_free(der);
    X509_free(cert);
    BIO_free(bio);
    return ret;
}

/* The AK of the runtime data as a TPM would show it. */
static GBytes *ak_of(GBytes *var_data)
{
    json_t *json =
        json_loadb(g_bytes_get_data(var_data, NULL), g_bytes_get_size(var_data), 0, NULL);
    const char *text =
        json_string_value(json_object_get(json_array_get(json_object_get(json, "keys"), 0), "n"));
    g_autofree char *padded = g_strconcat(text, strlen(text) % 4 == 2 ? "==" : "", NULL);
    g_autoptr(GBytes) n = NULL;
    GByteArray *out = g_byte_array_new();
    static const uint16_t head[] = {
        FORE_ALG_RSA,    FORE_ALG_SHA256, 0x0005, 0x0072, 0, FORE_ALG_NULL,
        FORE_ALG_RSASSA, FORE_ALG_SHA256, 2048,   0,      0};

    g_strdelimit(padded, "-", '+');
    g_strdelimit(padded, "_", '/');
    n = fore_b64_decode(padded, 512);
    g_assert_cmpuint(g_bytes_get_size(n), ==, 256);
    fore_put_be16(out, (uint16_t)(sizeof(head) + 2 + 256));
    for (unsigned i = 0; i < G_N_ELEMENTS(head); i++) {
        fore_put_be16(out, head[i]);
    }
    fore_put_be16(out, 256);
    g_byte_array_append(out, g_bytes_get_data(n, NULL), 256);
    json_decref(json);
    return g_byte_array_free_to_bytes(out);
}

static void assert_bound(Case *c, GBytes *var_data)
{
    g_autoptr(GBytes) ak = ak_of(var_data);
    g_autoptr(GBytes) other = NULL;
    uint8_t byte = 'x';

    c->evidence.var_data = var_data;
    c->expect = (ForeSnpExpect){.ak_public = ak};
    assert_case(c, FORE_SNP_OK);
    other = fore_test_replace(ak, g_bytes_get_size(ak) - 9, &byte, 1);
    c->expect.ak_public = other;
    assert_case(c, FORE_SNP_AK);
    c->expect.ak_public = NULL;
    assert_case(c, FORE_SNP_AK);
    c->expect.ak_public = ak;
    for (gsize i = 0; i < g_bytes_get_size(var_data); i += 97) {
        g_autoptr(GBytes) edited = NULL;

        byte = ((const uint8_t *)g_bytes_get_data(var_data, NULL))[i] ^ 1;
        edited = fore_test_replace(var_data, i, &byte, 1);
        c->evidence.var_data = edited;
        assert_case(c, FORE_SNP_REPORT_DATA);
    }
    c->evidence.var_data = var_data;
}

static void assert_hcl(GBytes *hcl, GBytes *cert, const char *roots)
{
    g_autoptr(GBytes) report = NULL, var_data = NULL;
    g_auto(Case) c = {0};

    assert_reason(fore_snp_split_hcl(hcl, &report, &var_data), FORE_SNP_OK);
    case_init(&c, report, cert, roots);
    c.policy.allow_provisional = false;
    assert_bound(&c, var_data);
    for (gsize n = 0; n < g_bytes_get_size(hcl); n += 13) {
        g_autoptr(GBytes) cut = g_bytes_new_from_bytes(hcl, 0, n);
        GBytes *a, *b;

        if (n < 32 + 1184 + 20 + g_bytes_get_size(var_data)) {
            assert_reason(fore_snp_split_hcl(cut, &a, &b), FORE_SNP_RUNTIME_DATA);
        }
    }
}

static void check_hcl(const ForeVector *vector, GBytes *hcl)
{
    g_autoptr(GBytes) pem = fore_test_vector("trustee/az-snp-vtpm/vcek.pem");
    g_autoptr(GBytes) cert = pem_der(pem);

    assert_hcl(hcl, cert, DIR "milan_ask_ark_asvk.pem");
}

/* Bytes as an array of numbers, or base64url. */
static GBytes *json_bytes(const json_t *value)
{
    GByteArray *out = g_byte_array_new();
    json_t *one;
    size_t i;

    if (json_is_array(value)) {
        json_array_foreach (value, i, one) {
            fore_put_u8(out, (uint8_t)json_integer_value(one));
        }
        return g_byte_array_free_to_bytes(out);
    }
    g_byte_array_unref(out);
    if (g_str_has_prefix(json_string_value(value), "-----")) {
        g_autoptr(GBytes) pem = g_bytes_new(json_string_value(value), json_string_length(value));

        return pem_der(pem);
    } else {
        g_autofree char *text = g_strconcat(
            json_string_value(value), &"==="[3 - (4 - json_string_length(value) % 4) % 4], NULL);

        g_strdelimit(text, "-", '+');
        g_strdelimit(text, "_", '/');
        return fore_b64_decode(text, 1u << 16);
    }
}

static void check_az(const ForeVector *vector, GBytes *bytes)
{
    json_t *json = json_loadb(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), 0, NULL);
    const json_t *report = json_object_get(json, "report");
    g_autoptr(GBytes) hcl =
        json_bytes(report != NULL ? report : json_object_get(json, "hcl_report"));
    g_autoptr(GBytes) cert = json_bytes(json_object_get(json, "vcek"));

    assert_hcl(hcl, cert, vector->param);
    json_decref(json);
}

static const ForeSnpReason chain = FORE_SNP_CHAIN;

#define ROOTS(name)                                                                                \
    {                                                                                              \
        name, check_roots, NULL                                                                    \
    }
#define AZ "trustee/az-snp-vtpm/"

const ForeVector fore_vectors_snp[] = {
    {DIR "test-report.bin", check_vcek, NULL},
    {DIR "test-vlek-report.bin", check_vlek, NULL},
    {DIR "test-vcek-invalid-legacy.der", check_bad_cert, &chain},
    {DIR "test-vcek-invalid-new.der", check_bad_cert, &chain},
    {DIR "test-vcek.der", NULL, NULL},
    {DIR "test-vlek.der", NULL, NULL},
    ROOTS(DIR "milan_ask_ark_asvk.pem"),
    ROOTS(DIR "genoa_ask_ark_asvk.pem"),
    ROOTS(DIR "turin_ask_ark_asvk.pem"),
    {GO "attestation.bin", check_debug, NULL},
    {GO "vcek.testcer", NULL, NULL},
    ROOTS(GO "milan.testcer"),
    ROOTS(GO "milanvlek.testcer"),
    ROOTS(GO "trust/ask_ark_genoa.pem"),
    ROOTS(GO "trust/ask_ark_genoa_vlek.pem"),
    ROOTS(GO "trust/ask_ark_milan.pem"),
    ROOTS(GO "trust/ask_ark_milan_vlek.pem"),
    ROOTS(GO "trust/ask_ark_turin_vcek.pem"),
    ROOTS(GO "trust/ask_ark_turin_vlek.pem"),
    {AZ "hcl-report.bin", check_hcl, NULL},
    {AZ "evidence-genoa.json", check_az, DIR "genoa_ask_ark_asvk.pem"},
    {AZ "evidence-v0.json", check_az, DIR "milan_ask_ark_asvk.pem"},
    {AZ "evidence-v1.json", check_az, DIR "milan_ask_ark_asvk.pem"},
    {AZ "evidence-v2.json", check_az, DIR "milan_ask_ark_asvk.pem"},
    {AZ "vcek.pem", NULL, NULL},
    {AZ "vcek-genoa.pem", NULL, NULL},
    /* the quotes beside them */
    {AZ "quote.bin", NULL, NULL},
    {AZ "tpm-quote-v1.json", NULL, NULL},
    {AZ "tpm-quote.msg", NULL, NULL},
    {AZ "tpm-quote.sig", NULL, NULL},
};
const unsigned fore_n_vectors_snp = G_N_ELEMENTS(fore_vectors_snp);
