/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which certificates vouch for an EK. */
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "common/fore-error.h"
#include "tests/lib/fore-test-key.h"
#include "tests/lib/fore-test-swtpm.h"
#include "vtpm/attest/fore-ekcert.h"
#include "vtpm/tpm/fore-tpm.h"

#define NOW  1790000000 /* 2026-09-21 */
#define DAY  86400
#define YEAR (365 * DAY)

static ForeTestKey root_key, ca_key, ek_rsa, ek_ecc;
static X509 *root, *ca;

/* What a certificate says.  Extensions are "value" as in openssl.cnf; NULL: absent. */
typedef struct {
    const char *subject, *constraints, *usage, *extended, *alt, *aki, *extra, *ski, *aia, *crl,
        *pol;
    long version, serial;
    int64_t from_s, to_s;
    const EVP_MD *md;
    bool no_issuer;
} Cert;

static Cert good_cert(void)
{
    return (Cert){
        .subject = "an EK",
        .constraints = "critical,CA:FALSE",
        .usage = "critical,keyEncipherment",
        .extended = "2.23.133.8.1",
        .alt = "DNS:tpm.example",
        .aki = "issuer:always",
        .version = 2,
        .serial = 77,
        .from_s = NOW - DAY,
        .to_s = NOW + YEAR,
        .md = EVP_sha256(),
    };
}

static void add_extension(X509 *cert, X509V3_CTX *ctx, int nid, const char *value)
{
    X509_EXTENSION *ext = value != NULL ? X509V3_EXT_conf_nid(NULL, ctx, nid, value) : NULL;

    g_assert_true(value == NULL || ext != NULL);
    if (ext != NULL) {
        g_assert_cmpint(X509_add_ext(cert, ext, -1), ==, 1);
        X509_EXTENSION_free(ext);
    }
}

static X509 *make(const Cert *c, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key)
{
    X509 *cert = X509_new();
    X509V3_CTX ctx;
    X509_NAME *name = X509_get_subject_name(cert);

    X509_set_version(cert, c->version);
    ASN1_INTEGER_set_int64(X509_get_serialNumber(cert), c->serial);
    if (c->subject != NULL) {
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)c->subject, -1, -1,
                                   0);
    }
    if (!c->no_issuer) {
        X509_set_issuer_name(cert, issuer != NULL ? X509_get_subject_name(issuer) : name);
    }
    ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)c->from_s);
    ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)c->to_s);
    X509_set_pubkey(cert, key);
    X509V3_set_ctx(&ctx, issuer != NULL ? issuer : cert, cert, NULL, NULL, 0);
    X509V3_set_ctx_nodb(&ctx);
    add_extension(cert, &ctx, NID_basic_constraints, c->constraints);
    add_extension(cert, &ctx, NID_key_usage, c->usage);
    add_extension(cert, &ctx, NID_ext_key_usage, c->extended);
    add_extension(cert, &ctx, NID_subject_alt_name, c->alt);
    add_extension(cert, &ctx, NID_authority_key_identifier, c->aki);
    add_extension(cert, &ctx, NID_netscape_comment, c->extra);
    add_extension(cert, &ctx, NID_subject_key_identifier, c->ski);
    add_extension(cert, &ctx, NID_info_access, c->aia);
    add_extension(cert, &ctx, NID_crl_distribution_points, c->crl);
    add_extension(cert, &ctx, NID_certificate_policies, c->pol);
    g_assert_cmpint(X509_sign(cert, issuer_key, c->md), >, 0);
    return cert;
}

static GBytes *der_of(X509 *cert)
{
    uint8_t *der = NULL;
    int n = i2d_X509(cert, &der);
    GBytes *bytes = g_bytes_new(der, (gsize)n);

    OPENSSL_free(der);
    return bytes;
}

static char *pem_of(X509 *one, X509 *two, X509_CRL *crl)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL, *copy;
    long n;

    PEM_write_bio_X509(bio, one);
    if (two != NULL) {
        PEM_write_bio_X509(bio, two);
    }
    if (crl != NULL) {
        PEM_write_bio_X509_CRL(bio, crl);
    }
    n = BIO_get_mem_data(bio, &text);
    copy = g_strndup(text, (gsize)n);
    BIO_free(bio);
    return copy;
}

static ForeAnchors *anchors_of(X509 *one, X509 *two, X509_CRL *crl)
{
    g_autofree char *pem = pem_of(one, two, crl);
    g_autoptr(GError) error = NULL;
    ForeAnchors *anchors = fore_anchors_new(pem, strlen(pem), &error);

    g_assert_no_error(error);
    return anchors;
}

static void assert_reason(ForeEkcertReason got, ForeEkcertReason want)
{
    g_assert_cmpstr(fore_ekcert_reason_name(got), ==, fore_ekcert_reason_name(want));
}

static ForeEkcertReason judge(GBytes *der, const ForeTestKey *ek, const ForeAnchors *anchors,
                              int64_t now_s)
{
    g_autoptr(GBytes) public = fore_test_key_ek_public(ek);
    ForeEkcertPolicy policy = {.anchors = anchors, .now_s = now_s, .allow_missing_crl = true};

    return fore_ekcert_verify(der, public, &policy);
}

static void assert_cert(const Cert *c, const ForeTestKey *ek, ForeEkcertReason want)
{
    g_autoptr(ForeAnchors) anchors = anchors_of(root, ca, NULL);
    X509 *cert = make(c, ek->pkey, ca, ca_key.pkey);
    g_autoptr(GBytes) der = der_of(cert);

    assert_reason(judge(der, ek, anchors, NOW), want);
    X509_free(cert);
}

static void test_good(void)
{
    Cert c = good_cert();
    g_autoptr(ForeAnchors) pinned = anchors_of(ca, NULL, NULL); /* no root: pinned as it is */
    X509 *cert = make(&c, ek_rsa.pkey, ca, ca_key.pkey);
    g_autoptr(GBytes) der = der_of(cert);
    g_autofree char *name = fore_ekcert_common_name(der);

    assert_cert(&c, &ek_rsa, FORE_EKCERT_OK);
    assert_reason(judge(der, &ek_rsa, pinned, NOW), FORE_EKCERT_OK);
    g_assert_cmpstr(name, ==, "an EK");
    c.usage = "critical,keyAgreement";
    assert_cert(&c, &ek_ecc, FORE_EKCERT_OK);
    c = good_cert();
    c.subject = NULL; /* as vendors do: the name sits in a critical alternative name */
    c.alt = "critical,DNS:tpm.example";
    assert_cert(&c, &ek_rsa, FORE_EKCERT_OK);
    X509_free(cert);
}

/* 39 */
static void test_other_key(void)
{
    Cert c = good_cert();
    g_autoptr(ForeAnchors) anchors = anchors_of(root, ca, NULL);
    X509 *cert = make(&c, ek_rsa.pkey, ca, ca_key.pkey);
    g_autoptr(GBytes) der = der_of(cert);
    g_autoptr(GBytes) ak = NULL, blank = g_bytes_new_static("", 0);
    ForeTestKey as_ak = ek_rsa;
    ForeEkcertPolicy policy = {.anchors = anchors, .now_s = NOW, .allow_missing_crl = true};

    assert_reason(judge(der, &ek_ecc, anchors, NOW), FORE_EKCERT_KEY);
    as_ak.scheme = FORE_ALG_RSASSA;
    as_ak.hash = FORE_ALG_SHA256;
    ak = fore_test_key_public(&as_ak);
    /* The right modulus in a template that is none of the TCG's */
    assert_reason(fore_ekcert_verify(der, ak, &policy), FORE_EKCERT_EK);
    assert_reason(fore_ekcert_verify(der, blank, &policy), FORE_EKCERT_EK);
    assert_reason(fore_ekcert_verify(der, NULL, &policy), FORE_EKCERT_EK);
    X509_free(cert);
}

/* 39: the right key, certified, in a template that is not the TCG's */
static void test_template(void)
{
    static const uint32_t flips[] = {0,
                                     FORE_OBJECT_USER_WITH_AUTH,
                                     FORE_OBJECT_FIXED_TPM,
                                     FORE_OBJECT_FIXED_PARENT,
                                     FORE_OBJECT_SENSITIVE_DATA_ORIGIN,
                                     FORE_OBJECT_ADMIN_WITH_POLICY,
                                     FORE_OBJECT_RESTRICTED,
                                     FORE_OBJECT_DECRYPT,
                                     FORE_OBJECT_SIGN,
                                     FORE_OBJECT_ENCRYPTED_DUPLICATION,
                                     1u << 31};
    Cert c = good_cert();
    g_autoptr(ForeAnchors) anchors = anchors_of(root, ca, NULL);
    X509 *cert = make(&c, ek_rsa.pkey, ca, ca_key.pkey);
    g_autoptr(GBytes) der = der_of(cert), public = fore_test_key_ek_public(&ek_rsa);
    ForeEkcertPolicy policy = {.anchors = anchors, .now_s = NOW, .allow_missing_crl = true};

    for (unsigned i = 0; i < G_N_ELEMENTS(flips); i++) {
        uint32_t attributes = FORE_TEST_EK_ATTRIBUTES ^ flips[i];
        uint8_t bytes[4] = {(uint8_t)(attributes >> 24), (uint8_t)(attributes >> 16),
                            (uint8_t)(attributes >> 8), (uint8_t)attributes};
        g_autoptr(GBytes) other = fore_test_replace(public, 6, bytes, 4);

        assert_reason(fore_ekcert_verify(der, other, &policy),
                      i < 2 ? FORE_EKCERT_OK : FORE_EKCERT_EK);
    }
    X509_free(cert);
}

/* 40 */
static void test_dates(void)
{
    Cert c = good_cert();
    g_autoptr(ForeAnchors) anchors = anchors_of(root, ca, NULL);
    X509 *cert = make(&c, ek_rsa.pkey, ca, ca_key.pkey);
    g_autoptr(GBytes) der = der_of(cert);

    assert_reason(judge(der, &ek_rsa, anchors, NOW + YEAR + 1), FORE_EKCERT_EXPIRED);
    assert_reason(judge(der, &ek_rsa, anchors, NOW + YEAR - 1), FORE_EKCERT_OK);
    assert_reason(judge(der, &ek_rsa, anchors, NOW - DAY - 1), FORE_EKCERT_NOT_YET);
    assert_reason(judge(der, &ek_rsa, anchors, 0), FORE_EKCERT_NOT_YET);
    X509_free(cert);
}

/* 40 */
static void test_chain(void)
{
    Cert c = good_cert(), intermediate = good_cert();
    g_auto(ForeTestKey) other_key = {0};
    g_autoptr(ForeAnchors) only_root = anchors_of(root, NULL, NULL);
    g_autoptr(ForeAnchors) ours = anchors_of(root, ca, NULL);
    g_autoptr(ForeAnchors) no_ca = NULL, other = NULL;
    X509 *cert = make(&c, ek_rsa.pkey, ca, ca_key.pkey), *bad_ca, *self;
    g_autoptr(GBytes) der = der_of(cert), self_der = NULL;
    X509 *other_root;

    assert_reason(judge(der, &ek_rsa, only_root, NOW), FORE_EKCERT_UNKNOWN_CA);
    self = make(&c, ek_rsa.pkey, NULL, ek_rsa.pkey);
    self_der = der_of(self);
    assert_reason(judge(self_der, &ek_rsa, ours, NOW), FORE_EKCERT_UNKNOWN_CA);

    /* The same name, another key: a second vendor, or vTPM anchors asked about a host's TPM */
    fore_test_key_init(&other_key, "P-256", FORE_ALG_NULL, 0);
    intermediate.subject = "CA";
    intermediate.constraints = "critical,CA:TRUE";
    intermediate.usage = "critical,keyCertSign";
    intermediate.extended = NULL;
    other_root = make(&intermediate, other_key.pkey, NULL, other_key.pkey);
    other = anchors_of(other_root, NULL, NULL);
    g_assert_cmpint(judge(der, &ek_rsa, other, NOW), !=, FORE_EKCERT_OK);

    /* An issuer that is no CA: a certified EK key that certifies */
    intermediate.constraints = "critical,CA:FALSE";
    bad_ca = make(&intermediate, ca_key.pkey, root, root_key.pkey);
    no_ca = anchors_of(root, bad_ca, NULL);
    assert_reason(judge(der, &ek_rsa, no_ca, NOW), FORE_EKCERT_CHAIN);
    X509_free(cert);
    X509_free(bad_ca);
    X509_free(self);
    X509_free(other_root);
}

/* 44: a CA's own certificate with the EK usage, offered as an EK's */
static void test_ca_as_ek(void)
{
    Cert intermediate = good_cert();
    g_autoptr(ForeAnchors) ours = anchors_of(root, ca, NULL);
    g_autoptr(GBytes) der = NULL;
    X509 *cert;

    intermediate.subject = "CA";
    intermediate.constraints = "critical,CA:TRUE";
    intermediate.usage = "critical,keyCertSign";
    intermediate.extended = "2.23.133.8.1";
    cert = make(&intermediate, ek_ecc.pkey, root, root_key.pkey);
    der = der_of(cert);
    assert_reason(judge(der, &ek_ecc, ours, NOW), FORE_EKCERT_IS_CA);
    X509_free(cert);
}

static void test_path_length(void)
{
    Cert c = good_cert(), sub = good_cert();
    g_auto(ForeTestKey) sub_key = {0};
    X509 *sub_ca, *cert;
    g_autoptr(ForeAnchors) anchors = NULL;
    g_autoptr(GBytes) der = NULL;

    /* Only what is in the bundle issues: a CA below it, certified by it or not, is nobody.  (Its
     * path length of 0 says the same.) */
    fore_test_key_init(&sub_key, "P-256", FORE_ALG_NULL, 0);
    sub.subject = "CA below";
    sub.constraints = "critical,CA:TRUE";
    sub.usage = "critical,keyCertSign";
    sub.extended = NULL;
    sub_ca = make(&sub, sub_key.pkey, ca, ca_key.pkey);
    cert = make(&c, ek_rsa.pkey, sub_ca, sub_key.pkey);
    der = der_of(cert);
    anchors = anchors_of(root, ca, NULL);
    assert_reason(judge(der, &ek_rsa, anchors, NOW), FORE_EKCERT_UNKNOWN_CA);

    /* Who pins the CA below has made it an anchor: what is above it is not asked any more. */
    fore_anchors_free(anchors);
    anchors = anchors_of(ca, sub_ca, NULL);
    assert_reason(judge(der, &ek_rsa, anchors, NOW), FORE_EKCERT_OK);
    X509_free(sub_ca);
    X509_free(cert);
}

/* 43 */
static void test_profile(void)
{
    Cert c = good_cert();
    unsigned i = 0;
    struct {
        Cert cert;
        ForeEkcertReason want;
    } cases[44];

#define CASE(change, reason)                                                                       \
    c = good_cert();                                                                               \
    change;                                                                                        \
    cases[i].cert = c;                                                                             \
    cases[i++].want = (reason)
    CASE(c.version = 1, FORE_EKCERT_PROFILE);
    CASE(c.serial = 0, FORE_EKCERT_PROFILE);
    CASE(c.serial = -5, FORE_EKCERT_PROFILE);
    CASE(c.no_issuer = true, FORE_EKCERT_PROFILE);
    CASE(c.constraints = "CA:FALSE", FORE_EKCERT_PROFILE);
    CASE(c.constraints = NULL, FORE_EKCERT_PROFILE);
    CASE(c.constraints = "critical,CA:TRUE", FORE_EKCERT_IS_CA);
    CASE(c.subject = NULL, FORE_EKCERT_PROFILE);
    CASE((c.subject = NULL, c.alt = "DNS:tpm.example"), FORE_EKCERT_PROFILE);
    CASE(c.aki = "critical,issuer:always", FORE_EKCERT_PROFILE);
    CASE(c.aki = "issuer:always", FORE_EKCERT_OK);
    CASE(c.aki = NULL, FORE_EKCERT_PROFILE);
    CASE(c.alt = NULL, FORE_EKCERT_PROFILE);
    CASE((c.alt = NULL, c.aki = NULL, c.constraints = NULL), FORE_EKCERT_PROFILE);
    CASE(c.ski = "critical,DER:04:02:01:02", FORE_EKCERT_PROFILE);
    CASE(c.ski = "DER:04:02:01:02", FORE_EKCERT_OK);
    CASE(c.aia = "critical,caIssuers;URI:http://ca.example/ek", FORE_EKCERT_PROFILE);
    CASE(c.aia = "caIssuers;URI:http://ca.example/ek", FORE_EKCERT_OK);
    CASE(c.crl = "critical,URI:http://ca.example/crl", FORE_EKCERT_PROFILE);
    CASE(c.crl = "URI:http://ca.example/crl", FORE_EKCERT_OK);
    CASE(c.pol = "DER:30:00", FORE_EKCERT_PROFILE);
    CASE(c.pol = "DER:30:05:30:03:06:01:2A", FORE_EKCERT_OK);
    CASE(c.extended = "critical,2.23.133.8.1", FORE_EKCERT_PROFILE);
    CASE(c.extra = "critical,what", FORE_EKCERT_PROFILE);
    CASE(c.extra = "what", FORE_EKCERT_OK);
    CASE(c.extended = NULL, FORE_EKCERT_USAGE);
    CASE(c.extended = "serverAuth", FORE_EKCERT_USAGE);
    CASE(c.extended = "2.23.133.8.3", FORE_EKCERT_USAGE);
    CASE(c.extended = "2.23.133.8.1,serverAuth", FORE_EKCERT_OK);
    CASE(c.usage = NULL, FORE_EKCERT_USAGE);
    CASE(c.usage = "keyEncipherment", FORE_EKCERT_USAGE);
    CASE(c.usage = "critical,keyAgreement", FORE_EKCERT_USAGE);
    CASE(c.usage = "critical,digitalSignature", FORE_EKCERT_USAGE);
    CASE(c.usage = "critical,keyEncipherment,digitalSignature", FORE_EKCERT_USAGE);
    CASE(c.usage = "critical,keyEncipherment,keyCertSign", FORE_EKCERT_PROFILE);
#undef CASE
    for (unsigned k = 0; k < i; k++) {
        g_test_message("case %u", k);
        /* OpenSSL 3.5 makes any certificate with extensions a v3 one when it signs: none to judge
         * there. */
        if (k == 0) {
            X509 *v1 = make(&cases[k].cert, ek_rsa.pkey, ca, ca_key.pkey);
            bool is_v1 = X509_get_version(v1) != X509_VERSION_3;
            X509_free(v1);
            if (!is_v1) {
                continue;
            }
        }
        /* Certificate signing without CA is inconsistent: one of two reasons, by OpenSSL's view. */
        if (k == i - 1) {
            X509 *cert = make(&cases[k].cert, ek_rsa.pkey, ca, ca_key.pkey);
            g_autoptr(GBytes) der = der_of(cert);
            g_autoptr(ForeAnchors) anchors = anchors_of(root, ca, NULL);
            g_assert_cmpint(judge(der, &ek_rsa, anchors, NOW), !=, FORE_EKCERT_OK);
            X509_free(cert);
            continue;
        }
        assert_cert(&cases[k].cert, &ek_rsa, cases[k].want);
    }
}

static void test_weak(void)
{
    Cert c = good_cert();

    c.md = EVP_sha1();
    assert_cert(&c, &ek_rsa, FORE_EKCERT_WEAK);
}

/* 42 */
static void test_encoding(void)
{
    Cert c = good_cert();
    g_autoptr(ForeAnchors) anchors = anchors_of(root, ca, NULL);
    X509 *cert = make(&c, ek_rsa.pkey, ca, ca_key.pkey);
    g_autoptr(GBytes) der = der_of(cert);
    gsize n = g_bytes_get_size(der);
    const uint8_t *bytes = g_bytes_get_data(der, NULL);
    g_autoptr(GByteArray) tail = g_byte_array_new();
    g_autoptr(GByteArray) wrapped = g_byte_array_new();
    g_autoptr(GByteArray) ber = g_byte_array_new();
    uint8_t octets[4] = {0x04, 0x82, (uint8_t)(n >> 8), (uint8_t)n};
    g_autofree char *pem = pem_of(cert, NULL, NULL);
    g_autoptr(GBytes) text = g_bytes_new(pem, strlen(pem));
    g_autoptr(GBytes) big = g_bytes_new_take(g_malloc0(FORE_EKCERT_MAX + 1), FORE_EKCERT_MAX + 1);

    g_byte_array_append(tail, bytes, (guint)n);
    g_byte_array_append(tail, (const uint8_t *)"\0", 1);
    g_byte_array_append(wrapped, octets, 4);
    g_byte_array_append(wrapped, bytes, (guint)n);
    g_byte_array_append(ber, (const uint8_t *)"\x30\x80", 2); /* indefinite length */
    g_byte_array_append(ber, bytes + 4, (guint)n - 4);
    g_byte_array_append(ber, (const uint8_t *)"\0\0", 2);
    {
        g_autoptr(GBytes) a = g_byte_array_free_to_bytes(g_steal_pointer(&tail));
        g_autoptr(GBytes) b = g_byte_array_free_to_bytes(g_steal_pointer(&wrapped));
        g_autoptr(GBytes) d = g_byte_array_free_to_bytes(g_steal_pointer(&ber));
        GBytes *const cases[] = {a, b, d, text, big, NULL};

        for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
            assert_reason(judge(cases[i], &ek_rsa, anchors, NOW), FORE_EKCERT_MALFORMED);
            g_assert_null(fore_ekcert_common_name(cases[i]));
        }
    }
    for (gsize i = 0; i < n; i++) {
        g_autoptr(GBytes) cut = g_bytes_new_from_bytes(der, 0, i);
        assert_reason(judge(cut, &ek_rsa, anchors, NOW), FORE_EKCERT_MALFORMED);
    }
    for (gsize i = 0; i < n; i++) {
        uint8_t byte = bytes[i] ^ 1;
        g_autoptr(GBytes) bad = fore_test_replace(der, i, &byte, 1);
        g_assert_cmpint(judge(bad, &ek_rsa, anchors, NOW), !=, FORE_EKCERT_OK);
    }
    X509_free(cert);
}

static X509_CRL *make_crl(X509 *issuer, EVP_PKEY *key, long revoked)
{
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *from = ASN1_TIME_set(NULL, NOW - DAY), *to = ASN1_TIME_set(NULL, NOW + DAY);

    X509_CRL_set_version(crl, 1);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer));
    X509_CRL_set1_lastUpdate(crl, from);
    X509_CRL_set1_nextUpdate(crl, to);
    if (revoked != 0) {
        X509_REVOKED *entry = X509_REVOKED_new();
        ASN1_INTEGER *serial = ASN1_INTEGER_new();

        ASN1_INTEGER_set(serial, revoked);
        X509_REVOKED_set_serialNumber(entry, serial);
        X509_REVOKED_set_revocationDate(entry, from);
        X509_CRL_add0_revoked(crl, entry);
        ASN1_INTEGER_free(serial);
    }
    g_assert_cmpint(X509_CRL_sign(crl, key, EVP_sha256()), >, 0);
    ASN1_TIME_free(from);
    ASN1_TIME_free(to);
    return crl;
}

/* 41 */
static void test_revocation(void)
{
    Cert c = good_cert();
    X509 *cert = make(&c, ek_rsa.pkey, ca, ca_key.pkey);
    X509_CRL *clean = make_crl(ca, ca_key.pkey, 0), *listed = make_crl(ca, ca_key.pkey, 77);
    g_autoptr(GBytes) der = der_of(cert), public = fore_test_key_ek_public(&ek_rsa);
    g_autoptr(ForeAnchors) none = anchors_of(ca, NULL, NULL);
    g_autoptr(ForeAnchors) with_clean = anchors_of(ca, NULL, clean);
    g_autoptr(ForeAnchors) with_listed = anchors_of(ca, NULL, listed);
    const struct {
        const ForeAnchors *anchors;
        int64_t now_s;
        bool allow;
        ForeEkcertReason want;
    } cases[] = {
        {none, NOW, false, FORE_EKCERT_NO_CRL}, /* fail closed by default */
        {none, NOW, true, FORE_EKCERT_OK},
        {with_clean, NOW, true, FORE_EKCERT_OK},
        {with_listed, NOW, false, FORE_EKCERT_REVOKED},
        {with_listed, NOW, true, FORE_EKCERT_REVOKED},
        {with_clean, NOW + 2 * DAY, false, FORE_EKCERT_NO_CRL}, /* the list itself is too old */
        {with_clean, NOW + 2 * DAY, true, FORE_EKCERT_OK},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        ForeEkcertPolicy policy = {cases[i].anchors, cases[i].now_s, cases[i].allow};
        g_test_message("case %u", i);
        assert_reason(fore_ekcert_verify(der, public, &policy), cases[i].want);
    }
    X509_CRL_free(clean);
    X509_CRL_free(listed);
    X509_free(cert);
}

static void test_bundles(void)
{
    static const char *const bad[] = {
        "",
        "no PEM at all",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(fore_anchors_new(bad[i], strlen(bad[i]), &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    }
}

static void test_live(void)
{
    const char *missing = fore_test_swtpm_missing();
    g_autoptr(ForeTestSwtpm) emulator = NULL;
    g_autoptr(ForeTpm) tpm = NULL;
    g_autoptr(GBytes) ek = NULL, cert = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *pem = NULL, *name = NULL;
    g_autoptr(ForeAnchors) ours = NULL, vendors = anchors_of(root, ca, NULL);
    ForeEkcertPolicy policy = {.now_s = g_get_real_time() / G_USEC_PER_SEC + 5,
                               .allow_missing_crl = true};
    gsize n = 0;

    if (missing != NULL) {
        g_autofree char *why = g_strdup_printf("%s is not installed", missing);
        g_test_skip(why);
        return;
    }
    emulator = fore_test_swtpm_new();
    tpm = fore_tpm_open(fore_test_swtpm_tcti(emulator), &error);
    g_assert_no_error(error);
    fore_tpm_ek(tpm, &ek, &cert, &error);
    g_assert_no_error(error);
    g_assert_true(g_file_get_contents(fore_test_swtpm_ca_file(emulator), &pem, &n, NULL));
    ours = fore_anchors_new(pem, n, &error);
    g_assert_no_error(error);
    policy.anchors = ours;
    assert_reason(fore_ekcert_verify(cert, ek, &policy), FORE_EKCERT_OK);
    name = fore_ekcert_common_name(cert);
    g_assert_cmpstr(name, ==, fore_test_swtpm_uuid(emulator));
    policy.anchors = vendors; /* 45: a vTPM's certificate is nothing to a host's anchors */
    assert_reason(fore_ekcert_verify(cert, ek, &policy), FORE_EKCERT_UNKNOWN_CA);
}

/* As fore_tpm_ek() hands it on: vendors fill the rest of the NV index with 0xff. */
static GBytes *trim(GBytes *nv)
{
    const uint8_t *b = g_bytes_get_data(nv, NULL);

    return g_bytes_new_from_bytes(nv, 0, 4 + ((gsize)b[2] << 8 | b[3]));
}

/* The certificate's own key in the default template */
static void vector(const char *file, const char *bundle, int64_t now_s, ForeEkcertReason want)
{
    g_autoptr(GBytes) nv = fore_test_vector(file);
    g_autoptr(GBytes) pem = nv != NULL ? fore_test_vector(bundle) : NULL;
    g_autoptr(GBytes) der = NULL;
    g_autoptr(ForeAnchors) anchors = NULL;
    g_autoptr(GError) error = NULL;
    const uint8_t *at;
    X509 *cert;
    ForeTestKey ek = {0};

    if (pem == NULL) {
        return;
    }
    der = trim(nv);
    at = g_bytes_get_data(der, NULL);
    cert = d2i_X509(NULL, &at, (long)g_bytes_get_size(der));
    g_assert_nonnull(cert);
    ek.pkey = X509_get0_pubkey(cert);
    anchors = fore_anchors_new(g_bytes_get_data(pem, NULL), g_bytes_get_size(pem), &error);
    g_assert_no_error(error);
    g_test_message("%s", file);
    assert_reason(judge(der, &ek, anchors, now_s), want);
    if (g_bytes_get_size(nv) != g_bytes_get_size(der)) {
        assert_reason(judge(nv, &ek, anchors, now_s), FORE_EKCERT_MALFORMED);
    }
    X509_free(cert);
}

static void test_vectors(void)
{
#define ST    "keylime/ek-certs/st_sha256_with_rsa_der.der"
#define STEC  "keylime/ek-certs/st_ecdsa_sha256_der.der"
#define STORE "keylime/tpm_cert_store/"
    vector(ST, STORE "STM_RSA_05I.pem", NOW, FORE_EKCERT_OK);
    vector(ST, STORE "STM_RSA_04I.pem", NOW, FORE_EKCERT_UNKNOWN_CA);
    vector(ST, STORE "STM_RSA_05I.pem", 1900000000, FORE_EKCERT_EXPIRED);
    vector(STEC, STORE "STM_ECC_01I.pem", NOW, FORE_EKCERT_OK);
    vector("keylime/ek-certs/nuvoton_ecdsa_sha256_der.der", STORE "NUVO_2110.pem", NOW,
           FORE_EKCERT_IS_CA); /* named an EK's, and is a CA's own */
    vector("generated-swtpm/ekcert.der", STORE "STM_RSA_05I.pem", 1795600000,
           FORE_EKCERT_UNKNOWN_CA);
    vector("generated-swtpm/ekcert.der", "generated-swtpm/swtpm-localca-issuer.pem", 1795600000,
           FORE_EKCERT_OK);
}

static void make_cas(void)
{
    Cert c = good_cert();

    c.extended = NULL;
    c.subject = "root";
    c.constraints = "critical,CA:TRUE";
    c.usage = "critical,keyCertSign,cRLSign";
    c.from_s = NOW - YEAR;
    c.to_s = NOW + 10 * (int64_t)YEAR;
    root = make(&c, root_key.pkey, NULL, root_key.pkey);
    c.subject = "CA";
    c.constraints = "critical,CA:TRUE,pathlen:0";
    ca = make(&c, ca_key.pkey, root, root_key.pkey);
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    fore_test_key_init(&root_key, "P-256", FORE_ALG_NULL, 0);
    fore_test_key_init(&ca_key, "P-256", FORE_ALG_NULL, 0);
    fore_test_key_init(&ek_rsa, "RSA-2048", FORE_ALG_NULL, 0);
    fore_test_key_init(&ek_ecc, "P-256", FORE_ALG_NULL, 0);
    make_cas();
#define ADD(path, fn)    g_test_add_func("/attest/ekcert/" path, fn)
#define ATTACK(path, fn) g_test_add_func("/attest/attack/" path, fn)
    ATTACK("44-ca-certificate-offered-as-an-eks", test_ca_as_ek);
    ADD("good-ones-are-accepted", test_good);
    ATTACK("39-certificate-of-another-key", test_other_key);
    ATTACK("39-key-in-another-template", test_template);
    ATTACK("40-expired-and-not-yet-valid", test_dates);
    ATTACK("40-unknown-self-signed-and-unfit-issuers", test_chain);
    ATTACK("40-path-length", test_path_length);
    ATTACK("43-profile", test_profile);
    ADD("sha1-is-refused", test_weak);
    ATTACK("42-not-one-der-certificate", test_encoding);
    ATTACK("41-revoked-or-without-a-list", test_revocation);
    ADD("bad-bundles-are-refused", test_bundles);
    ATTACK("45-vtpm-certificate-offered-as-a-hosts", test_live);
    ADD("vectors", test_vectors);
    rc = g_test_run();
    X509_free(root);
    X509_free(ca);
    fore_test_key_done(&root_key);
    fore_test_key_done(&ca_key);
    fore_test_key_done(&ek_rsa);
    fore_test_key_done(&ek_ecc);
    return rc;
}
