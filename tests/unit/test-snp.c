/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SNP reports that must be refused.  A vendor CA of our own signs whatever is asked for, so that
 * what is tested lies behind the signature; real reports are among the vectors.
 */
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "tests/lib/fore-test-key.h"
#include "vtpm/attest/fore-snp.h"

#define NOW 1750000000
#define DAY G_GINT64_CONSTANT(86400)

static EVP_PKEY *ark_key, *ask_key, *chip_key, *other_key;
static X509 *ark, *ask, *asvk;
static ForeSnpRoots *roots;
static const uint8_t measurement[48] = {7};
static const uint8_t report_data[64] = {9};

/* --- certificates --- */

static void set_name(X509_NAME *name, const char *cn)
{
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)cn, -1, -1, 0);
}

static X509 *bare(const char *cn, EVP_PKEY *key, X509 *issuer, int64_t from, int64_t to)
{
    X509 *cert = X509_new();

    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 0); /* as AMD does it */
    ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)from);
    ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)to);
    set_name(X509_get_subject_name(cert), cn);
    X509_set_issuer_name(cert, X509_get_subject_name(issuer != NULL ? issuer : cert));
    X509_set_pubkey(cert, key);
    return cert;
}

static X509 *sign_cert(X509 *cert, EVP_PKEY *key)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx = NULL;

    EVP_DigestSignInit(ctx, &pctx, EVP_sha384(), NULL, key);
    EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING);
    g_assert_cmpint(X509_sign_ctx(cert, ctx), >, 0);
    EVP_MD_CTX_free(ctx);
    return cert;
}

static X509 *make_ca(const char *cn, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key)
{
    X509 *cert = bare(cn, key, issuer, NOW - 1000 * DAY, NOW + 9000 * DAY);
    X509_EXTENSION *ext =
        X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");

    X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
    return sign_cert(cert, issuer_key);
}

static void put_ext(X509 *cert, const char *suffix, const void *data, int size)
{
    g_autofree char *oid = g_strconcat("1.3.6.1.4.1.3704.1.", suffix, NULL);
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    X509_EXTENSION *ext;

    ASN1_OCTET_STRING_set(value, data, size);
    ext = X509_EXTENSION_create_by_OBJ(NULL, object, 0, value);
    X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
    ASN1_OCTET_STRING_free(value);
    ASN1_OBJECT_free(object);
}

static void put_spl(X509 *cert, const char *suffix, uint8_t value)
{
    uint8_t der[4] = {2, 1, value};

    if (value >= 0x80) {
        memcpy(der, (uint8_t[]){2, 2, 0, value}, 4);
    }
    put_ext(cert, suffix, der, value >= 0x80 ? 4 : 3);
}

typedef struct {
    bool vlek, no_hwid, ca;
    const char *product, *subject, *issuer_cn, *skip; /* NULL: as they should be */
    EVP_PKEY *key, *issuer_key;
    int64_t from, to;
    uint8_t spl[4]; /* boot loader, TEE, SNP, microcode */
    uint8_t hwid_size;
} Chip;

static Chip good_chip(void)
{
    return (Chip){.from = NOW - DAY, .to = NOW + DAY, .spl = {3, 0, 8, 115}, .hwid_size = 64};
}

static GBytes *chip_cert(const Chip *c)
{
    static const char *const suffixes[] = {"3.1", "3.2", "3.3", "3.8"};
    const char *product = c->product != NULL ? c->product : "Milan-B0";
    X509 *cert = bare(c->subject != NULL ? c->subject
                      : c->vlek          ? "SEV-VLEK"
                                         : "SEV-VCEK",
                      c->key != NULL ? c->key : chip_key, c->vlek ? asvk : ask, c->from, c->to);
    uint8_t hwid[64], text[32], *der = NULL;
    GBytes *ret;
    int size;

    memset(hwid, 0xc1, sizeof(hwid));
    text[0] = 0x16;
    text[1] = (uint8_t)strlen(product);
    memcpy(text + 2, product, strlen(product));
    put_ext(cert, "2", text, (int)strlen(product) + 2);
    for (unsigned i = 0; i < 4; i++) {
        if (g_strcmp0(c->skip, suffixes[i]) != 0) {
            put_spl(cert, suffixes[i], c->spl[i]);
        }
    }
    if (c->vlek) {
        put_ext(cert, "5",
                "\x16\x03"
                "csp",
                5);
    } else if (!c->no_hwid) {
        put_ext(cert, "4", hwid, c->hwid_size);
    }
    if (c->issuer_cn != NULL) {
        X509_NAME *name = X509_NAME_new();

        set_name(name, c->issuer_cn);
        X509_set_issuer_name(cert, name);
        X509_NAME_free(name);
    }
    if (c->ca) {
        X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "CA:TRUE");

        X509_add_ext(cert, ext, -1);
        X509_EXTENSION_free(ext);
    }
    sign_cert(cert, c->issuer_key != NULL ? c->issuer_key : ask_key);
    size = i2d_X509(cert, &der);
    ret = g_bytes_new(der, (gsize)size);
    OPENSSL_free(der);
    X509_free(cert);
    return ret;
}

static GString *pem_of(X509 *const *certs, unsigned n)
{
    BIO *bio = BIO_new(BIO_s_mem());
    GString *ret;
    char *text;
    long size;

    for (unsigned i = 0; i < n; i++) {
        PEM_write_bio_X509(bio, certs[i]);
    }
    size = BIO_get_mem_data(bio, &text);
    ret = g_string_new_len(text, size);
    BIO_free(bio);
    return ret;
}

static void set_up(void)
{
    g_autoptr(GString) pem = NULL;

    ark_key = EVP_RSA_gen(2048);
    ask_key = EVP_RSA_gen(2048); /* signs as ASK and as ASVK */
    chip_key = EVP_EC_gen("P-384");
    other_key = EVP_EC_gen("P-384");
    ark = make_ca("ARK-Milan", ark_key, NULL, ark_key);
    ask = make_ca("SEV-Milan", ask_key, ark, ark_key);
    asvk = make_ca("SEV-VLEK-Milan", ask_key, ark, ark_key);
    pem = pem_of((X509 *[]){ask, ark, asvk}, 3);
    roots = fore_snp_roots_new(pem->str, pem->len, NULL);
    g_assert_nonnull(roots);
}

/* --- reports --- */

static GByteArray *good_report(void)
{
    GByteArray *r = g_byte_array_new();

    g_byte_array_set_size(r, FORE_SNP_REPORT_SIZE);
    memset(r->data, 0, r->len);
    r->data[0] = 2;                                   /* version */
    r->data[8] = 0x1f;                                /* ABI minor */
    r->data[10] = 0x03;                               /* SMT, reserved one */
    r->data[0x34] = 1;                                /* ECDSA P-384 */
    memcpy(r->data + 0x38, "\3\0\0\0\0\0\x8\x80", 8); /* CURRENT: newer microcode */
    r->data[0x40] = 1;                                /* SMT on */
    memcpy(r->data + 0x50, report_data, 64);
    memcpy(r->data + 0x90, measurement, 48);
    memcpy(r->data + 0x180, "\3\0\0\0\0\0\x8\x73", 8);  /* REPORTED */
    memset(r->data + 0x1a0, 0xc1, 64);                  /* chip */
    memcpy(r->data + 0x1e0, "\3\0\0\0\0\0\x8\x73", 8);  /* COMMITTED */
    memcpy(r->data + 0x1e8, "\4\x34\1\0\4\x34\1\0", 8); /* versions */
    memcpy(r->data + 0x1f0, "\3\0\0\0\0\0\x8\x73", 8);  /* LAUNCH */
    return r;
}

static void sign_report(GByteArray *r, EVP_PKEY *key)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t der[128];
    const uint8_t *at = der;
    size_t size = sizeof(der);
    ECDSA_SIG *sig;

    EVP_DigestSignInit(ctx, NULL, EVP_sha384(), NULL, key);
    g_assert_cmpint(EVP_DigestSign(ctx, der, &size, r->data, 0x2a0), ==, 1);
    sig = d2i_ECDSA_SIG(NULL, &at, (long)size);
    BN_bn2lebinpad(ECDSA_SIG_get0_r(sig), r->data + 0x2a0, 72);
    BN_bn2lebinpad(ECDSA_SIG_get0_s(sig), r->data + 0x2a0 + 72, 72);
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(ctx);
}

typedef struct {
    ForeSnpPolicy policy;
    ForeSnpExpect expect;
    Chip chip;
    GByteArray *report;
} Case;

static Case case_new(void)
{
    return (Case){
        .policy = {.roots = roots,
                   .now_s = NOW,
                   .minimum = {0, 3, 0, 8, 115},
                   .allow_smt = true,
                   .measurements = &measurement,
                   .n_measurements = 1},
        .expect = {.report_data = report_data},
        .chip = good_chip(),
        .report = good_report(),
    };
}

static void case_done(Case *c)
{
    g_byte_array_unref(c->report);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Case, case_done)

static ForeSnpReason judge(Case *c)
{
    g_autoptr(GBytes) cert = chip_cert(&c->chip);
    g_autoptr(GBytes) report = NULL;
    ForeSnpEvidence evidence = {.cert = cert};

    sign_report(c->report, chip_key);
    report = g_bytes_new(c->report->data, c->report->len);
    evidence.report = report;
    return fore_snp_judge(&evidence, &c->policy, &c->expect, NULL);
}

static void assert_case(Case *c, ForeSnpReason want)
{
    g_assert_cmpstr(fore_snp_reason_name(judge(c)), ==, fore_snp_reason_name(want));
}

/* One byte of the report, signed anew. */
static void assert_byte(unsigned at, uint8_t value, ForeSnpReason want)
{
    g_auto(Case) c = case_new();

    c.report->data[at] = value;
    assert_case(&c, want);
}

static void test_good(void)
{
    g_auto(Case) c = case_new();

    assert_case(&c, FORE_SNP_OK);
    c.report->data[0] = 3;
    c.report->data[0x188] = 0x19;
    c.report->data[0x189] = 1;
    assert_case(&c, FORE_SNP_OK);
    c.report->data[0] = 5;
    c.report->data[0x1f8] = 1; /* mitigation vector */
    assert_case(&c, FORE_SNP_OK);
}

/* --- 76, 77 --- */

static void test_other_key(void)
{
    g_auto(Case) c = case_new();

    c.chip.key = other_key; /* a certificate of another chip */
    assert_case(&c, FORE_SNP_SIGNATURE);
}

static void test_vlek(void)
{
    g_auto(Case) c = case_new();

    c.chip.vlek = true; /* VLEK offered for a VCEK's report */
    assert_case(&c, FORE_SNP_SIGNING_KEY);
    c.report->data[0x48] = 1 << 2; /* the report says VLEK, policy wants VCEK */
    assert_case(&c, FORE_SNP_SIGNING_KEY);
    c.policy.signing_key = FORE_SNP_VLEK;
    assert_case(&c, FORE_SNP_OK);
    c.chip.vlek = false;
    assert_case(&c, FORE_SNP_SIGNING_KEY);
    c.report->data[0x48] = 7 << 2; /* signed by nobody */
    c.policy.signing_key = FORE_SNP_UNSIGNED;
    assert_case(&c, FORE_SNP_SIGNING_KEY);
}

static void test_self_made_chain(void)
{
    EVP_PKEY *evil_key = EVP_RSA_gen(2048);
    X509 *evil_ark = make_ca("ARK-Milan", evil_key, NULL, evil_key);
    X509 *evil_ask = make_ca("SEV-Milan", evil_key, evil_ark, evil_key);
    X509 *sent[2] = {evil_ask, evil_ark};
    GBytes *der[2];
    g_auto(Case) c = case_new();
    g_autoptr(GBytes) cert = NULL, report = NULL;
    ForeSnpEvidence evidence = {.intermediates = der, .n_intermediates = 2};

    for (unsigned i = 0; i < 2; i++) {
        uint8_t *bytes = NULL;
        int size = i2d_X509(sent[i], &bytes);

        der[i] = g_bytes_new(bytes, (gsize)size);
        OPENSSL_free(bytes);
    }
    c.chip.issuer_key = evil_key;
    cert = chip_cert(&c.chip);
    sign_report(c.report, chip_key);
    report = g_bytes_new(c.report->data, c.report->len);
    evidence.cert = cert;
    evidence.report = report;
    g_assert_cmpint(fore_snp_judge(&evidence, &c.policy, &c.expect, NULL), ==, FORE_SNP_CHAIN);
    for (unsigned i = 0; i < 2; i++) {
        X509_free(sent[i]);
        g_bytes_unref(der[i]);
    }
    EVP_PKEY_free(evil_key);
}

static void test_cert_profile(void)
{
    static const Chip bad[] = {
        {.subject = "SEV-CEK"},
        {.product = "Rome"},
        {.product = "Milano"},
        {.product = "Genoa"},
        {.no_hwid = true},
        {.hwid_size = 63},
        {.issuer_cn = "SEV-Genoa"},
        {.skip = "3.1"},
        {.skip = "3.8"},
        {.ca = true},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_auto(Case) c = case_new();

        c.chip = bad[i];
        c.chip.from = NOW - DAY;
        c.chip.to = NOW + DAY;
        memcpy(c.chip.spl, (uint8_t[]){3, 0, 8, 115}, 4);
        c.chip.hwid_size = bad[i].hwid_size != 0 ? bad[i].hwid_size : 64;
        assert_case(&c, FORE_SNP_CERT_PROFILE);
    }
    {
        g_auto(Case) c = case_new();
        EVP_PKEY *p256 = EVP_EC_gen("P-256");

        c.chip.key = p256;
        assert_case(&c, FORE_SNP_CERT_PROFILE);
        EVP_PKEY_free(p256);
    }
}

static void test_roots(void)
{
    g_autoptr(GString) no_root = pem_of((X509 *[]){ask, asvk}, 2);

    g_assert_null(fore_snp_roots_new(no_root->str, no_root->len, NULL));
    g_assert_null(fore_snp_roots_new("", 0, NULL));
    g_assert_null(fore_snp_roots_new("-----BEGIN X-----\nAAAA\n-----END X-----\n", 39, NULL));
}

/* --- 78, 79, 80 --- */

static void test_debug(void)
{
    assert_byte(10, 0x0b, FORE_SNP_POLICY_DEBUG);
}

static void test_vmpl(void)
{
    for (uint8_t vmpl = 1; vmpl < 5; vmpl++) {
        g_auto(Case) c = case_new();

        c.report->data[0x30] = vmpl;
        assert_case(&c, FORE_SNP_VMPL);
        c.policy.vmpl = vmpl;
        assert_case(&c, vmpl <= 3 ? FORE_SNP_OK : FORE_SNP_BAD_POLICY);
    }
}

static void test_report_data(void)
{
    for (unsigned i = 0; i < 64; i++) { /* nonce and key: all 64 bytes count */
        assert_byte(0x50 + i, 0x77, FORE_SNP_REPORT_DATA);
    }
    {
        g_auto(Case) c = case_new();

        c.expect.report_data = NULL; /* nothing to bind to */
        assert_case(&c, FORE_SNP_REPORT_DATA);
    }
}

/* --- 81 --- */

static void test_tcb_component(void)
{
    /* REPORTED: boot loader 3, TEE 0, SNP 8, microcode 115.  As one number it is far above. */
    static const ForeSnpTcb above[] = {
        {1, 3, 0, 8, 115}, {0, 4, 0, 8, 115}, {0, 3, 1, 8, 115},
        {0, 3, 0, 9, 115}, {0, 3, 0, 8, 116}, {0, 4, 0, 0, 0},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(above); i++) {
        g_auto(Case) c = case_new();

        c.policy.minimum = above[i];
        assert_case(&c, FORE_SNP_TCB);
    }
}

/* CURRENT is newer than what is asked for, REPORTED is not; then COMMITTED and LAUNCH lag. */
static void test_tcb_reported(void)
{
    g_auto(Case) c = case_new();

    c.policy.minimum.microcode = 0x80;
    assert_case(&c, FORE_SNP_TCB);
    c.policy.minimum.microcode = 115;
    c.report->data[0x1f7] = 114;
    assert_case(&c, FORE_SNP_TCB);
    c.report->data[0x1f7] = 115;
    c.report->data[0x1e7] = 114;
    assert_case(&c, FORE_SNP_TCB);
}

static void test_cert_tcb(void)
{
    for (unsigned i = 0; i < 4; i++) {
        g_auto(Case) c = case_new();

        c.chip.spl[i]++;
        assert_case(&c, FORE_SNP_CERT_TCB);
    }
}

static void test_chip(void)
{
    g_auto(Case) c = case_new();
    uint8_t pinned[64];

    memset(pinned, 0xc1, sizeof(pinned));
    c.policy.chip_id = pinned;
    assert_case(&c, FORE_SNP_OK);
    pinned[63] = 0;
    assert_case(&c, FORE_SNP_CHIP);
    assert_byte(0x1a0, 0, FORE_SNP_CHIP);
    c.policy.chip_id = NULL;
    memset(c.report->data + 0x1a0, 0, 64);
    assert_case(&c, FORE_SNP_CHIP);
    assert_byte(0x48, 2, FORE_SNP_CHIP); /* masked */
}

/* --- 82 --- */

static void test_reserved(void)
{
    static const struct {
        unsigned from, to;
    } zero[] = {{0x4a, 0x50}, {0x188, 0x1a0}, {0x1eb, 0x1ec}, {0x1ef, 0x1f0}, {0x1f8, 0x2a0},
                {0x3a, 0x3e}, {0x182, 0x186}, {0x1e2, 0x1e6}, {0x1f2, 0x1f6}};

    for (unsigned i = 0; i < G_N_ELEMENTS(zero); i++) {
        for (unsigned at = zero[i].from; at < zero[i].to; at++) {
            assert_byte(at, 1, FORE_SNP_MALFORMED);
        }
    }
    assert_byte(0x48, 0x20, FORE_SNP_MALFORMED);
    assert_byte(0x330, 1, FORE_SNP_MALFORMED); /* behind the signature */
    assert_byte(0x49f, 1, FORE_SNP_MALFORMED);
    assert_byte(0, 1, FORE_SNP_VERSION);
    assert_byte(0, 6, FORE_SNP_VERSION);
    assert_byte(0, 3, FORE_SNP_VERSION); /* version 3 names its product */
    assert_byte(0x34, 0, FORE_SNP_SIGNATURE_ALGO);
    assert_byte(0x34, 2, FORE_SNP_SIGNATURE_ALGO);
    assert_byte(10, 0x01, FORE_SNP_POLICY_RESERVED); /* the bit that must be one */
    assert_byte(11, 0x04, FORE_SNP_POLICY_RESERVED); /* bit 26 */
    assert_byte(15, 0x80, FORE_SNP_POLICY_RESERVED);
    assert_byte(0x40, 0x41, FORE_SNP_PLATFORM); /* bit 6 */
    assert_byte(0x41, 1, FORE_SNP_PLATFORM);
    assert_byte(0x47, 0x80, FORE_SNP_PLATFORM);
}

static void test_product(void)
{
    static const struct {
        uint8_t family, model;
        ForeSnpReason reason;
    } cases[] = {
        {0x19, 0x01, FORE_SNP_OK},      {0x19, 0x11, FORE_SNP_VERSION},
        {0x19, 0xa0, FORE_SNP_VERSION}, {0x1a, 0x02, FORE_SNP_CERT_TCB},
        {0x17, 0x31, FORE_SNP_VERSION}, {0, 0, FORE_SNP_VERSION},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(Case) c = case_new();

        c.report->data[0] = 3;
        c.report->data[0x188] = cases[i].family;
        c.report->data[0x189] = cases[i].model;
        if (cases[i].family == 0x1a) { /* Turin lays its TCB out otherwise: reserved bytes */
            assert_case(&c, FORE_SNP_MALFORMED);
        } else {
            assert_case(&c, cases[i].reason);
        }
    }
}

static void test_sizes(void)
{
    g_auto(Case) c = case_new();
    ForeSnpReport r;

    for (guint n = 0; n < FORE_SNP_REPORT_SIZE + 2; n++) {
        g_autoptr(GBytes) cut = NULL;

        if (n == FORE_SNP_REPORT_SIZE) {
            continue;
        }
        g_byte_array_set_size(c.report, MAX(n, c.report->len));
        cut = g_bytes_new(c.report->data, n);
        g_assert_cmpint(fore_snp_report_init(&r, cut), ==, FORE_SNP_MALFORMED);
    }
    g_assert_cmpint(fore_snp_report_init(&r, NULL), ==, FORE_SNP_MALFORMED);
}

/* --- 83 --- */

static void test_provisional(void)
{
    static const unsigned changed[] = {0x1e8, 0x1e9, 0x1ea, 0x38, 0x3e};

    for (unsigned i = 0; i < G_N_ELEMENTS(changed); i++) {
        g_auto(Case) c = case_new();

        c.report->data[changed[i]]++; /* CURRENT is ahead of COMMITTED */
        assert_case(&c, FORE_SNP_PROVISIONAL);
        c.policy.allow_provisional = true;
        assert_case(&c, FORE_SNP_OK);
    }
    assert_byte(0x3f, 1, FORE_SNP_PROVISIONAL); /* CURRENT below COMMITTED: cannot be */
}

static void test_platform_policy(void)
{
    g_auto(Case) c = case_new();

    c.policy.allow_smt = false;
    assert_case(&c, FORE_SNP_POLICY_SMT);
    c.report->data[10] = 0x02; /* the guest forbids SMT, the platform has it on */
    assert_case(&c, FORE_SNP_POLICY_SMT);
    c.report->data[0x40] = 0;
    assert_case(&c, FORE_SNP_OK);
    c.policy.require_single_socket = true;
    assert_case(&c, FORE_SNP_PLATFORM);
    c.report->data[10] = 0x12;
    assert_case(&c, FORE_SNP_OK);
    c.policy.min_abi_minor = 0x20;
    assert_case(&c, FORE_SNP_POLICY_ABI);
    c.policy.min_abi_major = 1;
    c.policy.min_abi_minor = 0;
    assert_case(&c, FORE_SNP_POLICY_ABI);
    assert_byte(10, 0x07, FORE_SNP_POLICY_MIGRATION);
}

static void test_launch(void)
{
    g_auto(Case) c = case_new();
    uint8_t host_data[32] = {1};

    assert_byte(0x90, 8, FORE_SNP_MEASUREMENT);
    c.policy.min_guest_svn = 1;
    assert_case(&c, FORE_SNP_MEASUREMENT);
    c.policy.min_guest_svn = 0;
    c.policy.host_data = host_data;
    assert_case(&c, FORE_SNP_MEASUREMENT);
    c.report->data[0xc0] = 1;
    assert_case(&c, FORE_SNP_OK);
    c.policy.n_measurements = 0; /* nothing listed accepts nothing */
    assert_case(&c, FORE_SNP_BAD_POLICY);
    c.policy.n_measurements = 1;
    c.policy.roots = NULL;
    assert_case(&c, FORE_SNP_BAD_POLICY);
}

/* --- 84 --- */

static void test_expiry(void)
{
    g_auto(Case) c = case_new();

    c.policy.now_s = NOW + 2 * DAY;
    assert_case(&c, FORE_SNP_EXPIRED);
    c.policy.now_s = NOW - 2 * DAY;
    assert_case(&c, FORE_SNP_NOT_YET);
    c.policy.now_s = NOW;
    assert_case(&c, FORE_SNP_OK);
}

/* An ARK's list that names @serial, or nothing. */
static ForeSnpRoots *roots_with_crl(long serial, int64_t until)
{
    X509 *const certs[] = {ask, ark, asvk};
    g_autoptr(GString) pem = pem_of(certs, 3);
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *from = ASN1_TIME_set(NULL, NOW - DAY), *to = ASN1_TIME_set(NULL, (time_t)until);
    BIO *bio = BIO_new(BIO_s_mem());
    ForeSnpRoots *ret;
    char *text;
    long size;

    X509_CRL_set_version(crl, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(ark));
    X509_CRL_set1_lastUpdate(crl, from);
    X509_CRL_set1_nextUpdate(crl, to);
    if (serial >= 0) {
        X509_REVOKED *entry = X509_REVOKED_new();
        ASN1_INTEGER *number = ASN1_INTEGER_new();

        ASN1_INTEGER_set(number, serial);
        X509_REVOKED_set_serialNumber(entry, number);
        X509_REVOKED_set_revocationDate(entry, from);
        X509_CRL_add0_revoked(crl, entry);
        ASN1_INTEGER_free(number);
    }
    X509_CRL_sign(crl, ark_key, EVP_sha384());
    PEM_write_bio_X509_CRL(bio, crl);
    size = BIO_get_mem_data(bio, &text);
    g_string_append_len(pem, text, size);
    ret = fore_snp_roots_new(pem->str, pem->len, NULL);
    g_assert_nonnull(ret);
    BIO_free(bio);
    X509_CRL_free(crl);
    ASN1_TIME_free(from);
    ASN1_TIME_free(to);
    return ret;
}

static void test_revoked(void)
{
    static const struct {
        long serial;
        int64_t until;
        ForeSnpReason reason;
    } cases[] = {
        {-1, NOW + DAY, FORE_SNP_OK},     {-1, NOW - 1, FORE_SNP_NO_CRL},
        {0, NOW + DAY, FORE_SNP_REVOKED}, /* the ASK's serial number */
        {0, NOW - 1, FORE_SNP_REVOKED},   {5, NOW + DAY, FORE_SNP_OK},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(Case) c = case_new();
        g_autoptr(ForeSnpRoots) with = roots_with_crl(cases[i].serial, cases[i].until);

        c.policy.require_crl = true;
        assert_case(&c, FORE_SNP_NO_CRL);
        c.policy.roots = with;
        assert_case(&c, cases[i].reason);
    }
}

/* --- 85 --- */

/* Runtime data that names @ak's modulus under @kid. */
static GBytes *var_data_of(const ForeTestKey *ak, const char *kid, unsigned copies)
{
    BIGNUM *n = NULL;
    uint8_t bytes[256];
    g_autofree char *b64 = NULL;
    g_autoptr(GString) text = g_string_new("{\"keys\":[");
    gsize size;

    EVP_PKEY_get_bn_param(ak->pkey, "n", &n);
    BN_bn2binpad(n, bytes, sizeof(bytes));
    BN_free(n);
    b64 = fore_b64_encode(bytes, sizeof(bytes));
    g_strdelimit(b64, "+", '-');
    g_strdelimit(b64, "/", '_');
    b64[strcspn(b64, "=")] = '\0';
    for (unsigned i = 0; i < copies; i++) {
        g_string_append_printf(text,
                               "%s{\"kid\":\"%s\",\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"%s\"}",
                               i > 0 ? "," : "", kid, b64);
    }
    g_string_append(text, "]}");
    size = text->len;
    return g_bytes_new_take(g_string_free(g_steal_pointer(&text), FALSE), size);
}

static ForeSnpReason judge_bound(Case *c, GBytes *var_data, GBytes *ak, bool tail)
{
    g_autoptr(GBytes) cert = chip_cert(&c->chip), report = NULL;
    ForeSnpEvidence evidence = {.cert = cert, .var_data = var_data};
    ForeSnpExpect expect = {.ak_public = ak, .report_data = report_data};

    memset(c->report->data + 0x50, 0, 64);
    EVP_Digest(g_bytes_get_data(var_data, NULL), g_bytes_get_size(var_data), c->report->data + 0x50,
               NULL, EVP_sha256(), NULL);
    c->report->data[0x50 + 63] = tail;
    sign_report(c->report, chip_key);
    report = g_bytes_new(c->report->data, c->report->len);
    evidence.report = report;
    return fore_snp_judge(&evidence, &c->policy, &expect, NULL);
}

static void test_runtime_data(void)
{
    g_auto(ForeTestKey) ak = {0}, other = {0};
    g_auto(Case) c = case_new();
    g_autoptr(GBytes) public = NULL, var_data = NULL, wrong = NULL, twice = NULL, named = NULL;
    g_autoptr(GBytes) junk = g_bytes_new("not JSON", 8), empty = g_bytes_new("{\"keys\":[]}", 11);

    fore_test_key_init(&ak, "RSA-2048", FORE_ALG_RSASSA, FORE_ALG_SHA256);
    fore_test_key_init(&other, "RSA-2048", FORE_ALG_RSASSA, FORE_ALG_SHA256);
    public = fore_test_key_public(&ak);
    var_data = var_data_of(&ak, "HCLAkPub", 1);
    wrong = var_data_of(&other, "HCLAkPub", 1);
    twice = var_data_of(&ak, "HCLAkPub", 2);
    named = var_data_of(&ak, "HCLEkPub", 1);
    g_assert_cmpint(judge_bound(&c, var_data, public, false), ==, FORE_SNP_OK);
    g_assert_cmpint(judge_bound(&c, var_data, public, true), ==, FORE_SNP_REPORT_DATA);
    g_assert_cmpint(judge_bound(&c, var_data, NULL, false), ==, FORE_SNP_AK);
    g_assert_cmpint(judge_bound(&c, wrong, public, false), ==, FORE_SNP_AK);
    g_assert_cmpint(judge_bound(&c, named, public, false), ==, FORE_SNP_AK);
    g_assert_cmpint(judge_bound(&c, empty, public, false), ==, FORE_SNP_AK);
    g_assert_cmpint(judge_bound(&c, twice, public, false), ==, FORE_SNP_RUNTIME_DATA);
    g_assert_cmpint(judge_bound(&c, junk, public, false), ==, FORE_SNP_RUNTIME_DATA);
}

/* --- mutations --- */

static void test_bit_flips(void)
{
    g_auto(Case) c = case_new();
    g_autoptr(GBytes) cert = chip_cert(&c.chip);
    ForeSnpEvidence evidence = {.cert = cert};

    sign_report(c.report, chip_key);
    for (guint bit = 0; bit < 8 * c.report->len; bit++) {
        g_autoptr(GBytes) report = NULL;

        c.report->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        report = g_bytes_new(c.report->data, c.report->len);
        c.report->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        evidence.report = report;
        g_assert_cmpint(fore_snp_judge(&evidence, &c.policy, &c.expect, NULL), !=, FORE_SNP_OK);
    }
}

static void test_cert_mutations(void)
{
    g_auto(Case) c = case_new();
    g_autoptr(GBytes) cert = chip_cert(&c.chip), report = NULL;
    gsize size;
    const uint8_t *data = g_bytes_get_data(cert, &size);
    ForeSnpEvidence evidence = {0};

    sign_report(c.report, chip_key);
    report = g_bytes_new(c.report->data, c.report->len);
    evidence.report = report;
    for (gsize at = 0; at < size; at++) {
        g_autoptr(GBytes) cut = g_bytes_new(data, at), flipped = NULL;
        uint8_t byte = data[at] ^ (uint8_t)(1u << at % 8);

        evidence.cert = cut;
        g_assert_cmpint(fore_snp_judge(&evidence, &c.policy, &c.expect, NULL), !=, FORE_SNP_OK);
        flipped = fore_test_replace(cert, at, &byte, 1);
        evidence.cert = flipped;
        g_assert_cmpint(fore_snp_judge(&evidence, &c.policy, &c.expect, NULL), !=, FORE_SNP_OK);
    }
}

static void test_missing(void)
{
    g_auto(Case) c = case_new();
    ForeSnpEvidence nothing = {0};

    g_assert_cmpint(fore_snp_judge(NULL, &c.policy, &c.expect, NULL), ==, FORE_SNP_MISSING);
    g_assert_cmpint(fore_snp_judge(&nothing, &c.policy, &c.expect, NULL), ==, FORE_SNP_MISSING);
}

static void test_names(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; i < FORE_SNP_N; i++) {
        const char *name = fore_snp_reason_name(i);

        g_assert_true(g_hash_table_add(seen, (gpointer)name));
        g_assert_true(i == 0 || g_str_has_prefix(name, "snp-"));
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*run)(void);
    } tests[] = {
        {"/attest/snp/a-good-report-is-accepted", test_good},
        {"/attest/snp/names-are-stable-and-distinct", test_names},
        {"/attest/snp/no-report-is-missing", test_missing},
        {"/attest/snp/every-bit-flip-is-refused", test_bit_flips},
        {"/attest/snp/every-cut-or-flip-of-the-certificate-is-refused", test_cert_mutations},
        {"/attest/snp/what-was-launched", test_launch},
        {"/attest/attack/76-report-of-another-key", test_other_key},
        {"/attest/attack/76-vlek-as-vcek", test_vlek},
        {"/attest/attack/77-self-made-chain", test_self_made_chain},
        {"/attest/attack/77-certificate-profile", test_cert_profile},
        {"/attest/attack/77-roots-without-an-ark", test_roots},
        {"/attest/attack/78-debug-policy", test_debug},
        {"/attest/attack/79-vmpl", test_vmpl},
        {"/attest/attack/80-report-data", test_report_data},
        {"/attest/attack/81-tcb-component-wise", test_tcb_component},
        {"/attest/attack/81-reported-not-current", test_tcb_reported},
        {"/attest/attack/81-tcb-of-the-certificate", test_cert_tcb},
        {"/attest/attack/81-chip-id", test_chip},
        {"/attest/attack/82-reserved-ranges", test_reserved},
        {"/attest/attack/82-product-fields", test_product},
        {"/attest/attack/82-sizes", test_sizes},
        {"/attest/attack/83-provisional-firmware", test_provisional},
        {"/attest/attack/83-smt-migration-abi", test_platform_policy},
        {"/attest/attack/84-expiry-at-a-pinned-time", test_expiry},
        {"/attest/attack/84-revoked-issuer", test_revoked},
        {"/attest/attack/85-ak-in-the-runtime-data", test_runtime_data},
    };

    g_test_init(&argc, &argv, NULL);
    set_up();
    for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add_func(tests[i].path, tests[i].run);
    }
    return g_test_run();
}
