/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Measurements of a device that must be refused; a device of our own signs whatever is asked for.
 */
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "tests/lib/fore-test-key.h"
#include "vtpm/attest/fore-spdm.h"

#define NOW 1750000000

static EVP_PKEY *root_key, *mid_key, *leaf_key;
static GBytes *root, *mid, *leaf, *plain_leaf, *value;
static const uint8_t nonce[32] = "thirty-two bytes of device nonce";

static GBytes *make_cert(const char *cn, EVP_PKEY *key, const char *issuer, EVP_PKEY *issuer_key,
                         bool fwid)
{
    X509 *cert = X509_new();
    X509_EXTENSION *ext;
    X509_NAME *name = X509_NAME_new();
    uint8_t *der = NULL;
    GBytes *ret;
    int size;

    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 7);
    ASN1_TIME_set(X509_getm_notBefore(cert), NOW - 100);
    ASN1_TIME_set(X509_getm_notAfter(cert), NOW + 100);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const uint8_t *)cn,
                               -1, -1, 0);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)issuer, -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509_set_pubkey(cert, key);
    ext = X509V3_EXT_conf_nid(NULL, NULL, fwid ? NID_key_usage : NID_basic_constraints,
                              fwid ? "critical,digitalSignature" : "critical,CA:TRUE");
    X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
    if (fwid) {
        ASN1_OBJECT *oid = OBJ_txt2obj("2.23.133.5.4.1", 1);
        ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();

        ASN1_OCTET_STRING_set(octets, (const uint8_t *)"\x30\x00", 2);
        ext = X509_EXTENSION_create_by_OBJ(NULL, oid, 0, octets);
        X509_add_ext(cert, ext, -1);
        X509_EXTENSION_free(ext);
        ASN1_OCTET_STRING_free(octets);
        ASN1_OBJECT_free(oid);
    }
    g_assert_cmpint(X509_sign(cert, issuer_key, EVP_sha384()), >, 0);
    size = i2d_X509(cert, &der);
    ret = g_bytes_new(der, (gsize)size);
    OPENSSL_free(der);
    X509_NAME_free(name);
    X509_free(cert);
    return ret;
}

static void set_up(void)
{
    root_key = EVP_EC_gen("P-384");
    mid_key = EVP_EC_gen("P-384");
    leaf_key = EVP_EC_gen("P-384");
    root = make_cert("root", root_key, "root", root_key, false);
    mid = make_cert("mid", mid_key, "root", root_key, false);
    leaf = make_cert("leaf", leaf_key, "mid", mid_key, true);
    plain_leaf = make_cert("leaf", leaf_key, "mid", mid_key, false);
    value = g_bytes_new("four", 4);
}

/* Blocks 1 to @n, each of the value "four"; unsigned. */
static GByteArray *exchange_of(unsigned n)
{
    GByteArray *x = g_byte_array_new();
    static const uint8_t device_nonce[32] = {3};

    g_byte_array_append(x, (const uint8_t *)"\x11\xe0\x01\xff", 4);
    g_byte_array_append(x, nonce, 32);
    fore_put_u8(x, 0);
    g_byte_array_append(x, (const uint8_t *)"\x11\x60\x00\x00", 4);
    fore_put_u8(x, (uint8_t)n);
    fore_put_le16(x, (uint16_t)(n * 11));
    fore_put_u8(x, 0);
    for (unsigned i = 1; i <= n; i++) {
        fore_put_u8(x, (uint8_t)i);
        fore_put_u8(x, 1);
        fore_put_le16(x, 7);
        fore_put_u8(x, 1);
        fore_put_le16(x, 4);
        g_byte_array_append(x, (const uint8_t *)"four", 4);
    }
    g_byte_array_append(x, device_nonce, 32);
    fore_put_le16(x, 0);
    return x;
}

static GBytes *sign(GByteArray *x, EVP_PKEY *key)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t der[128], raw[96];
    const uint8_t *at = der;
    size_t size = sizeof(der);
    ECDSA_SIG *sig;

    EVP_DigestSignInit(ctx, NULL, EVP_sha384(), NULL, key);
    g_assert_cmpint(EVP_DigestSign(ctx, der, &size, x->data, x->len), ==, 1);
    sig = d2i_ECDSA_SIG(NULL, &at, (long)size);
    BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, 48);
    BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + 48, 48);
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(ctx);
    g_byte_array_append(x, raw, sizeof(raw));
    return g_byte_array_free_to_bytes(x);
}

static ForeSpdmReason judge(GBytes *exchange, GBytes *const *chain, size_t n, uint8_t index,
                            const uint8_t *want)
{
    ForeSpdmMeasurement listed = {.index = index, .value = value};
    ForeSpdmPolicy policy = {
        .root = root, .now_s = NOW, .measurements = &listed, .n_measurements = 1};

    return fore_spdm_judge(exchange, chain, n, &policy, want);
}

static void assert_chain(GBytes *const *chain, size_t n, ForeSpdmReason want)
{
    g_autoptr(GBytes) x = sign(exchange_of(3), leaf_key);

    g_assert_cmpstr(fore_spdm_reason_name(judge(x, chain, n, 2, nonce)), ==,
                    fore_spdm_reason_name(want));
}

static void test_chains(void)
{
    assert_chain((GBytes *[]){leaf, mid, root}, 3, FORE_SPDM_OK);
    assert_chain((GBytes *[]){leaf, mid}, 2, FORE_SPDM_OK);
    assert_chain((GBytes *[]){root}, 1, FORE_SPDM_CERT);            /* only the root */
    assert_chain((GBytes *[]){leaf, root}, 2, FORE_SPDM_CHAIN);     /* link missing */
    assert_chain((GBytes *[]){mid, root}, 2, FORE_SPDM_CERT);       /* signer missing */
    assert_chain((GBytes *[]){plain_leaf, mid}, 2, FORE_SPDM_CERT); /* no firmware identity */
    assert_chain(NULL, 0, FORE_SPDM_CERT);
    {
        EVP_PKEY *evil = EVP_EC_gen("P-384");
        g_autoptr(GBytes) evil_root = make_cert("root", evil, "root", evil, false);
        g_autoptr(GBytes) evil_leaf = make_cert("leaf", leaf_key, "root", evil, true);

        assert_chain((GBytes *[]){evil_leaf, evil_root}, 2, FORE_SPDM_CHAIN);
        EVP_PKEY_free(evil);
    }
}

static void test_nonce(void)
{
    g_autoptr(GBytes) x = sign(exchange_of(3), leaf_key);
    uint8_t other[32];

    memcpy(other, nonce, sizeof(other));
    other[31] ^= 1;
    g_assert_cmpint(judge(x, (GBytes *[]){leaf, mid}, 2, 1, other), ==, FORE_SPDM_NONCE);
    {
        g_autoptr(GBytes) moved = fore_test_replace(x, 4 + 31, other + 31, 1);

        g_assert_cmpint(judge(moved, (GBytes *[]){leaf, mid}, 2, 1, other), ==,
                        FORE_SPDM_SIGNATURE); /* the nonce is signed */
    }
}

static void test_measurements(void)
{
    g_autoptr(GBytes) x = sign(exchange_of(3), leaf_key);
    g_autoptr(GByteArray) changed = exchange_of(3);
    g_autoptr(GBytes) y = NULL;
    ForeSpdmPolicy nothing = {.root = root, .now_s = NOW};

    for (unsigned i = 1; i < 6; i++) {
        g_assert_cmpint(judge(x, (GBytes *[]){leaf, mid}, 2, (uint8_t)i, nonce), ==,
                        i <= 3 ? FORE_SPDM_OK : FORE_SPDM_MISSING);
    }
    changed->data[45 + 7] = 'F';
    y = sign(g_steal_pointer(&changed), leaf_key);
    g_assert_cmpint(judge(y, (GBytes *[]){leaf, mid}, 2, 1, nonce), ==, FORE_SPDM_MISMATCH);
    g_assert_cmpint(fore_spdm_judge(x, (GBytes *[]){leaf, mid}, 2, &nothing, nonce), ==,
                    FORE_SPDM_POLICY);
}

static void test_mutations(void)
{
    g_autoptr(GBytes) x = sign(exchange_of(3), leaf_key);
    gsize size = g_bytes_get_size(x);

    for (gsize at = 0; at < size; at++) {
        g_autoptr(GBytes) cut = g_bytes_new_from_bytes(x, 0, at);

        g_assert_cmpint(judge(cut, (GBytes *[]){leaf, mid}, 2, 1, nonce), !=, FORE_SPDM_OK);
        for (unsigned bit = 0; bit < 8; bit++) {
            uint8_t byte = ((const uint8_t *)g_bytes_get_data(x, NULL))[at] ^ (uint8_t)(1u << bit);
            g_autoptr(GBytes) flipped = fore_test_replace(x, at, &byte, 1);

            g_assert_cmpint(judge(flipped, (GBytes *[]){leaf, mid}, 2, 1, nonce), !=, FORE_SPDM_OK);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    set_up();
    g_test_add_func("/attest/attack/86-chains", test_chains);
    g_test_add_func("/attest/attack/86-other-nonce", test_nonce);
    g_test_add_func("/attest/attack/86-measurement-missing-or-other", test_measurements);
    g_test_add_func("/attest/spdm/every-bit-flip-and-truncation-is-refused", test_mutations);
    return g_test_run();
}
