/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Quotes that others made, and public areas.  What is expected of a quote is its nonce and signer
 * as they stand in it, so that the verdict is about the rest; each is then refused for another
 * nonce.
 */
#include <jansson.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "tests/lib/fore-test-key.h"
#include "tests/unit/vectors.h"
#include "vtpm/attest/fore-ak.h"
#include "vtpm/attest/fore-jws.h"
#include "vtpm/attest/fore-quote.h"

static const uint8_t zeros[24][32];

static void assert_quote(GBytes *ak, GBytes *attest, GBytes *sig, uint32_t mask,
                         ForeQuoteReason want)
{
    g_autoptr(GBytes) other = g_bytes_new_static("another nonce", 13);
    const uint8_t *bytes = g_bytes_get_data(attest, NULL);
    gsize n = (gsize)bytes[6] << 8 | bytes[7];
    g_autoptr(GBytes) signer = g_bytes_new_from_bytes(attest, 8, n);
    g_autoptr(GBytes) extra =
        g_bytes_new_from_bytes(attest, 10 + n, (gsize)bytes[8 + n] << 8 | bytes[9 + n]);
    ForeQuoteExpect e = {
        .ak_public = ak, .extra = extra, .signer = signer, .pcr_mask = mask, .pcrs = zeros};

    g_assert_cmpstr(fore_quote_reason_name(fore_quote_verify(&e, attest, sig, NULL)), ==,
                    fore_quote_reason_name(want));
    e.extra = other;
    g_assert_cmpint(fore_quote_verify(&e, attest, sig, NULL), !=, FORE_QUOTE_OK);
}

typedef struct {
    const char *ak, *sig;
    uint32_t mask;
    ForeQuoteReason want;
} Quote;

/* TPM2B_PUBLIC of an AK around a key in PEM or SubjectPublicKeyInfo */
static GBytes *ak_of(GBytes *key)
{
    const uint8_t *at = g_bytes_get_data(key, NULL);
    gsize n = g_bytes_get_size(key);
    BIO *bio = BIO_new_mem_buf(at, (int)n);
    g_auto(ForeTestKey) ak = {.scheme = FORE_ALG_RSASSA,
                              .hash = FORE_ALG_SHA256,
                              .name_alg = FORE_ALG_SHA256,
                              .attributes = FORE_TEST_AK_ATTRIBUTES};

    if (at[0] == 0 || at[0] == 1) {
        BIO_free(bio);
        return g_bytes_ref(key); /* is one */
    }
    ak.pkey =
        at[0] == '-' ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : d2i_PUBKEY(NULL, &at, (long)n);
    BIO_free(bio);
    g_assert_nonnull(ak.pkey);
    return fore_test_key_public(&ak);
}

static void check_quote(const ForeVector *vector, GBytes *attest)
{
    const Quote *q = vector->param;
    g_autoptr(GBytes) key = fore_test_vector(q->ak);
    g_autoptr(GBytes) sig = key != NULL ? fore_test_vector(q->sig) : NULL;
    g_autoptr(GBytes) ak = sig != NULL ? ak_of(key) : NULL;

    if (ak != NULL) {
        assert_quote(ak, attest, sig, q->mask, q->want);
    }
}

static GBytes *b64(const char *text)
{
    gsize n = 0;
    guchar *data = g_base64_decode(text, &n);

    return g_bytes_new_take(data, n);
}

/* r, then quote, signature and PCRs in base64, with colons between; its key is not in it, and it is
 * refused before one would be needed: any RSA key does */
static void check_colons(const ForeVector *vector, GBytes *bytes)
{
    g_autofree char *text = g_strndup(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    g_auto(GStrv) parts = g_strsplit(g_strstrip(text), ":", 3);
    g_autoptr(GBytes) attest = b64(parts[0] + 1), sig = b64(parts[1]);
    g_autoptr(GBytes) ak = fore_test_vector("generated-swtpm/ak.pub");

    assert_quote(ak, attest, sig, 1u << 15, FORE_QUOTE_HASH_WEAK);
}

/* All 24 PCRs in one quote, 16 to 23 among them: the signature holds, the selection is none of ours
 */
static void check_plain_json(const ForeVector *vector, GBytes *bytes)
{
    g_autoptr(json_t) root =
        json_loadb(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), 0, NULL);
    const char *key = NULL, *message = NULL, *signature = NULL;
    g_autoptr(GBytes) spki = NULL, ak = NULL, attest = NULL, sig = NULL;

    g_assert_cmpint(json_unpack(root, "{s:s, s:{s:s, s:s}}", "ak_public", &key, "tpm_quote",
                                "message", &message, "signature", &signature),
                    ==, 0);
    spki = b64(key);
    ak = ak_of(spki);
    attest = b64(message);
    sig = b64(signature);
    assert_quote(ak, attest, sig, 0xffff, FORE_QUOTE_PCR_SELECTION);
}

static void check_ak(const ForeVector *vector, GBytes *bytes)
{
    g_assert_cmpstr(fore_ak_reason_name(fore_ak_check(bytes, NULL)), ==, vector->param);
}

/* None of ours, whichever way it is offered. */
static void check_foreign(const ForeVector *vector, GBytes *bytes)
{
    g_autofree char *text = g_strndup(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    g_auto(ForeTestKey) key = {0};
    g_autoptr(GBytes) ak = NULL;
    g_autoptr(json_t) claims = NULL;
    ForeQuoteExpect e = {.extra = bytes, .pcr_mask = 1, .pcrs = zeros};

    fore_test_key_init(&key, "P-256", FORE_ALG_ECDSA, FORE_ALG_SHA256);
    e.ak_public = ak = fore_test_key_public(&key);
    g_assert_cmpint(fore_quote_verify(&e, bytes, bytes, NULL), !=, FORE_QUOTE_OK);
    g_assert_cmpint(fore_ak_check(bytes, NULL), ==, FORE_AK_MALFORMED);
    g_assert_cmpint(fore_jws_verify(text, 65536, "JWT", key.pkey, &claims), ==, FORE_JWS_MALFORMED);
}

#define GEN "generated-swtpm/"
#define KL  "keylime/quote/"
static const Quote q1623 = {GEN "ak.pub", GEN "q1623.sig", 0x0081, FORE_QUOTE_PCR_SELECTION},
                   inactive = {GEN "ak.pub", GEN "q-inactive-bank.sig", 0x0081,
                               FORE_QUOTE_PCR_BANK},
                   badmagic = {GEN "softkey.pem", GEN "badmagic.sig", 0x0081, FORE_QUOTE_MAGIC},
                   softkey = {GEN "ak.pub", GEN "softkey.sig", 0x0081, FORE_QUOTE_SIGNATURE},
                   nvcertify = {GEN "ak.pub", GEN "nvcertify.sig", 0x0081, FORE_QUOTE_TYPE},
                   clone1 = {GEN "clone-ak.pub", GEN "clone1.sig", 7, FORE_QUOTE_OK},
                   clone2 = {GEN "clone-ak.pub", GEN "clone2.sig", 7, FORE_QUOTE_OK},
                   keylime = {KL "akpub.pem", KL "quotesig.out", 0x8000, FORE_QUOTE_PCR_SELECTION},
                   checkquote = {KL "checkquote-ak.pem", KL "checkquote-sigblob.bin", 0x8000,
                                 FORE_QUOTE_PCR_SELECTION};

const ForeVector fore_vectors_quote[] = {
    {GEN "q1623.msg", check_quote, &q1623},
    {GEN "q-inactive-bank.msg", check_quote, &inactive},
    {GEN "badmagic.msg", check_quote, &badmagic},
    {GEN "softkey.msg", check_quote, &softkey},
    {GEN "nvcertify.msg", check_quote, &nvcertify},
    {GEN "clone1.msg", check_quote, &clone1},
    {GEN "clone2.msg", check_quote, &clone2},
    {GEN "ak.pub", check_ak, "ok"},
    {GEN "clone-ak.pub", check_ak, "ok"},
    {GEN "ek.pub", check_ak, "ak-attributes"},
    {KL "quote.out", check_quote, &keylime},
    {KL "checkquote-quoteblob.bin", check_quote, &checkquote},
    {KL "ak.pub", check_ak, "ok"},
    {KL "ek.pub", check_ak, "ak-attributes"},
    {KL "ak.name", check_foreign, NULL},
    {KL "mkcred.out", check_foreign, NULL},
    {KL "actcred.out", NULL, NULL},
    {KL "akpub.pem", NULL, NULL},
    {KL "ekpub.pem", NULL, NULL},
    {KL "checkquote-ak.pem", NULL, NULL},
    {KL "quotesig.out", NULL, NULL},
    {KL "checkquote-sigblob.bin", NULL, NULL},
    {KL "quotepcr.out", check_foreign, NULL}, /* values: only of use once the selection is */
    {KL "checkquote-pcrblob.bin", check_foreign, NULL},
    {KL "iak_idevid_chain.pem", NULL, NULL},
    {"rust-keylime/quote/test-quote.txt", check_colons, NULL},
    {"trustee/tpm_evidence.json", check_plain_json, NULL},
    /* no DSSE envelope and no JWK is a token of ours; TDX is not judged */
    {"keylime/dsse/runtime-policy-test-signed.json", check_foreign, NULL},
    {"keylime/dsse/runtime-policy-test-signed-bad.json", check_foreign, NULL},
    {"keylime/dsse/runtime-policy-test.json", check_foreign, NULL},
    {"keylime/dsse/runtime-policy-pubkey.pub", NULL, NULL},
    {"trustee/jwk/*-jwk.json", check_foreign, NULL},
    {"trustee/jwk/*-trust.pem", check_foreign, NULL},
    {"trustee/tdx/*", check_foreign, NULL},
    {"trustee/az-tdx-vtpm/*", check_foreign, NULL},
};
const unsigned fore_n_vectors_quote = G_N_ELEMENTS(fore_vectors_quote);
