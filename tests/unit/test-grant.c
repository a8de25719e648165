/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/x509.h>
#include <string.h>
#if __has_include(<jose/jws.h>)
#include <jose/jws.h>
#include <jose/openssl.h>
#define HAVE_JOSE 1
#else
#define HAVE_JOSE 0
#endif

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "vtpm/attest/fore-grant.h"
#include "vtpm/attest/fore-jws.h"

#define VM  "6f1d4c1e-0a52-4a8e-9d57-2f3c8b1a7e40"
#define AK  "000b00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define NOW 1750000000

static EVP_PKEY *pam, *stranger;

static ForeGrant good(void)
{
    ForeGrant g = {
        .vm_uuid = VM,
        .ak_name = AK,
        .id = "0b5f3d55-53f7-4f0e-8a43-9a4b8c1f2d10",
        .vcpus = 4,
        .mem_bytes = G_GUINT64_CONSTANT(2) << 30,
        .seq = 8,
        .issued_s = NOW - 2,
        .expires_s = NOW + 58,
        .n_nodes = 2,
        .nodes = {"hv1", "switch.a"},
    };

    memset(g.evidence, 'e', 64);
    return g;
}

static ForeGrantExpect expect(void)
{
    return (ForeGrantExpect){
        .pam_key = pam, .vm_uuid = VM, .ak_name = AK, .last_seq = 7, .now_s = NOW};
}

static char *sign(const ForeGrant *g)
{
    g_autoptr(GError) error = NULL;
    char *jws = fore_grant_sign(g, pam, &error);

    g_assert_no_error(error);
    return jws;
}

static void assert_reason(const char *jws, const ForeGrantExpect *e, ForeGrantReason want)
{
    ForeGrant got;
    ForeGrantReason reason;

    memset(&got, 0x5a, sizeof(got));
    reason = fore_grant_verify(jws, e, &got);
    g_assert_cmpstr(fore_grant_reason_name(reason), ==, fore_grant_reason_name(want));
    if (want != FORE_GRANT_OK) {
        g_assert_cmphex(((uint8_t *)&got)[0], ==, 0x5a); /* untouched */
    }
}

static void test_round_trip(void)
{
    ForeGrant g = good(), got = {0};
    ForeGrantExpect e = expect();
    g_autofree char *jws = sign(&g);

    g_assert_cmpint(fore_grant_verify(jws, &e, &got), ==, FORE_GRANT_OK);
    g_assert_cmpmem(&got, sizeof(got), &g, sizeof(g));
}

static void test_claims(void)
{
    static const struct {
        int64_t now_s;
        uint64_t last_seq;
        const char *vm, *ak;
        ForeGrantReason want;
    } cases[] = {
        {NOW, 7, "6f1d4c1e-0a52-4a8e-9d57-2f3c8b1a7e41", AK, FORE_GRANT_VM},
        {NOW, 7, VM, "000b", FORE_GRANT_AK},
        {NOW, 8, VM, AK, FORE_GRANT_SEQUENCE},
        {NOW, G_MAXUINT64, VM, AK, FORE_GRANT_SEQUENCE},
        {NOW + 58 + 29, 7, VM, AK, FORE_GRANT_OK},
        {NOW + 58 + 30, 7, VM, AK, FORE_GRANT_EXPIRED},
        {G_MAXINT64, 7, VM, AK, FORE_GRANT_EXPIRED},
        {NOW - 2 - 30, 7, VM, AK, FORE_GRANT_OK},
        {NOW - 2 - 31, 7, VM, AK, FORE_GRANT_NOT_YET},
        {G_MININT64, 7, VM, AK, FORE_GRANT_NOT_YET},
    };
    ForeGrant g = good();
    g_autofree char *jws = sign(&g);

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        ForeGrantExpect e = expect();

        e.now_s = cases[i].now_s;
        e.last_seq = cases[i].last_seq;
        e.vm_uuid = cases[i].vm;
        e.ak_name = cases[i].ak;
        assert_reason(jws, &e, cases[i].want);
    }
}

static void test_stranger(void)
{
    ForeGrant g = good();
    ForeGrantExpect e = expect();
    g_autofree char *jws = sign(&g);

    e.pam_key = stranger;
    assert_reason(jws, &e, FORE_GRANT_SIGNATURE);
    e.pam_key = NULL;
    assert_reason(jws, &e, FORE_GRANT_SIGNATURE);
}

/* Every character changed to its neighbour, every truncation. */
static void test_mutations(void)
{
    static const char b64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    ForeGrant g = good(), got;
    ForeGrantExpect e = expect();
    g_autofree char *jws = sign(&g);
    size_t n = strlen(jws);

    for (size_t i = 0; i < n; i++) {
        g_autofree char *bad = g_strdup(jws);
        const char *at = strchr(b64, bad[i]);

        bad[i] = at != NULL ? b64[(size_t)(at - b64 + 1) % 64] : 'A';
        g_assert_cmpint(fore_grant_verify(bad, &e, &got), !=, FORE_GRANT_OK);
        bad[i] = '\0';
        g_assert_cmpint(fore_grant_verify(bad, &e, &got), !=, FORE_GRANT_OK);
    }
}

/* A token of our own making: @header and @claims as text, signed by @key or carrying @raw. */
static char *forge(const char *header, const char *claims, EVP_PKEY *key, GBytes *raw)
{
    g_autofree char *h = fore_b64_encode(header, strlen(header));
    g_autofree char *c = fore_b64_encode(claims, strlen(claims));
    g_autofree char *s = NULL;
    g_autofree char *input = NULL;
    char *token;

    g_strdelimit(h, "=", '\0');
    g_strdelimit(c, "=", '\0');
    g_strdelimit(h, "+", '-');
    g_strdelimit(c, "+", '-');
    g_strdelimit(h, "/", '_');
    g_strdelimit(c, "/", '_');
    input = g_strconcat(h, ".", c, NULL);
    if (key != NULL) {
        uint8_t der[128], out[64];
        const uint8_t *at = der;
        size_t n = sizeof(der);
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        ECDSA_SIG *sig;

        g_assert_cmpint(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key), ==, 1);
        g_assert_cmpint(EVP_DigestSign(ctx, der, &n, (uint8_t *)input, strlen(input)), ==, 1);
        sig = d2i_ECDSA_SIG(NULL, &at, (long)n);
        BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, 32);
        BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + 32, 32);
        s = fore_b64_encode(out, 64);
        ECDSA_SIG_free(sig);
        EVP_MD_CTX_free(ctx);
    } else {
        s = fore_b64_encode(g_bytes_get_data(raw, NULL), g_bytes_get_size(raw));
    }
    g_strdelimit(s, "+", '-');
    g_strdelimit(s, "/", '_');
    g_strdelimit(s, "=", '\0');
    token = g_strconcat(input, ".", s, NULL);
    return token;
}

#define CLAIMS(extra)                                                                              \
    "{\"iss\":\"foresee-pam\",\"jti\":\"0b5f3d55-53f7-4f0e-8a43-9a4b8c1f2d10\",\"sub\":\"" VM      \
    "\",\"ak\":\"" AK "\",\"evd\":"                                                                \
    "\"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\",\"iat\":1750000000,"     \
    "\"exp\":1750000060" extra "}"
#define HEADER "{\"alg\":\"ES256\",\"typ\":\"foresee-grant+jwt\"}"
#define REST   ",\"vcpus\":4,\"mem\":1073741824,\"seq\":9,\"nodes\":[]"

static void test_algorithms(void)
{
    static const struct {
        const char *header;
        ForeGrantReason want;
    } cases[] = {
        {HEADER, FORE_GRANT_OK},
        {"{\"alg\":\"none\",\"typ\":\"foresee-grant+jwt\"}", FORE_GRANT_ALGORITHM},
        {"{\"alg\":\"HS256\",\"typ\":\"foresee-grant+jwt\"}", FORE_GRANT_ALGORITHM},
        {"{\"alg\":\"es256\",\"typ\":\"foresee-grant+jwt\"}", FORE_GRANT_ALGORITHM},
        {"{\"alg\":\"RS256\",\"typ\":\"foresee-grant+jwt\"}", FORE_GRANT_ALGORITHM},
        {"{\"alg\":[\"ES256\"],\"typ\":\"foresee-grant+jwt\"}", FORE_GRANT_ALGORITHM},
        {"{\"typ\":\"foresee-grant+jwt\"}", FORE_GRANT_ALGORITHM},
        {"{\"alg\":\"ES256\",\"typ\":\"foresee-grant+jwt\",\"crit\":[\"b64\"]}",
         FORE_GRANT_ALGORITHM},
        {"{\"alg\":\"ES256\",\"typ\":\"JWT\"}", FORE_GRANT_MALFORMED},
        {"{\"alg\":\"ES256\"}", FORE_GRANT_MALFORMED},
        {"{\"alg\":\"ES256\",\"alg\":\"none\",\"typ\":\"foresee-grant+jwt\"}",
         FORE_GRANT_MALFORMED},
        {"[]", FORE_GRANT_MALFORMED},
    };
    ForeGrantExpect e = expect();

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *token = forge(cases[i].header, CLAIMS(REST), pam, NULL);

        assert_reason(token, &e, cases[i].want);
    }
}

/* The classic: HMAC with the public key as the secret. */
static void test_hmac_with_public_key(void)
{
    ForeGrantExpect e = expect();
    uint8_t *spki = NULL, mac[32];
    int n = i2d_PUBKEY(pam, &spki);
    g_autofree char *h = fore_b64_encode(HEADER, strlen(HEADER));
    g_autoptr(GBytes) raw = NULL;
    g_autofree char *token = NULL;

    g_assert_nonnull(HMAC(EVP_sha256(), spki, n, (uint8_t *)h, strlen(h), mac, NULL));
    raw = g_bytes_new(mac, sizeof(mac));
    token = forge("{\"alg\":\"HS256\",\"typ\":\"foresee-grant+jwt\"}", CLAIMS(REST), NULL, raw);
    assert_reason(token, &e, FORE_GRANT_ALGORITHM);
    OPENSSL_free(spki);
}

static void test_signature_values(void)
{
    static const struct {
        uint8_t fill;
        gsize size;
    } cases[] = {{0x00, 64}, {0xff, 64}, {0x01, 63}, {0x01, 65}, {0x01, 0}, {0x30, 72}};
    ForeGrantExpect e = expect();

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree uint8_t *bytes = g_malloc0(72);
        g_autoptr(GBytes) raw = NULL;
        g_autofree char *token = NULL;
        ForeGrant got;

        memset(bytes, cases[i].fill, cases[i].size);
        raw = g_bytes_new(bytes, cases[i].size);
        token = forge(HEADER, CLAIMS(REST), NULL, raw);
        g_assert_cmpint(fore_grant_verify(token, &e, &got), !=, FORE_GRANT_OK);
    }
}

/* Signed by the PAM's own key, and still not a grant. */
static void test_signed_nonsense(void)
{
    static const struct {
        const char *claims;
        ForeGrantReason want;
    } cases[] = {
        {CLAIMS(REST ",\"max\":1"), FORE_GRANT_MALFORMED}, /* unknown claim */
        {CLAIMS(",\"vcpus\":4,\"mem\":1073741824,\"seq\":9"), FORE_GRANT_MALFORMED},
        {CLAIMS(",\"vcpus\":\"4\",\"mem\":1073741824,\"seq\":9,\"nodes\":[]"),
         FORE_GRANT_MALFORMED},
        {CLAIMS(",\"vcpus\":4.5,\"mem\":1073741824,\"seq\":9,\"nodes\":[]"), FORE_GRANT_MALFORMED},
        {CLAIMS(",\"vcpus\":4,\"mem\":1073741824,\"seq\":9,\"nodes\":[\"../x\"]"),
         FORE_GRANT_MALFORMED},
        {CLAIMS(",\"vcpus\":4,\"mem\":1073741824,\"seq\":9,\"nodes\":[1]"), FORE_GRANT_MALFORMED},
        {CLAIMS(",\"vcpus\":4,\"mem\":1073741824,\"seq\":0,\"nodes\":[]"), FORE_GRANT_MALFORMED},
        {CLAIMS(",\"vcpus\":0,\"mem\":1073741824,\"seq\":9,\"nodes\":[]"), FORE_GRANT_AMOUNT},
        {CLAIMS(",\"vcpus\":-4,\"mem\":1073741824,\"seq\":9,\"nodes\":[]"), FORE_GRANT_AMOUNT},
        {CLAIMS(",\"vcpus\":4294967300,\"mem\":1,\"seq\":9,\"nodes\":[]"), FORE_GRANT_AMOUNT},
        {CLAIMS(",\"vcpus\":4,\"mem\":-1,\"seq\":9,\"nodes\":[]"), FORE_GRANT_AMOUNT},
        {CLAIMS(",\"vcpus\":4,\"mem\":0,\"seq\":9,\"nodes\":[]"), FORE_GRANT_AMOUNT},
        {"{}", FORE_GRANT_MALFORMED},
        {"[1]", FORE_GRANT_MALFORMED},
        {"{", FORE_GRANT_MALFORMED},
    };
    ForeGrantExpect e = expect();

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *token = forge(HEADER, cases[i].claims, pam, NULL);

        assert_reason(token, &e, cases[i].want);
    }
}

static void test_shapes(void)
{
    static const char *const texts[] = {"",      ".",       "..",         "...",      "a.b",
                                        "a.b.c", "a.b.c.d", "\xff.\xff.", "e30.e30.", ".e30.e30"};
    ForeGrantExpect e = expect();
    g_autofree char *big = g_strnfill(FORE_GRANT_MAX + 1, 'A');

    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        ForeGrant got;
        g_assert_cmpint(fore_grant_verify(texts[i], &e, &got), !=, FORE_GRANT_OK);
    }
    assert_reason(NULL, &e, FORE_GRANT_MALFORMED);
    assert_reason(big, &e, FORE_GRANT_MALFORMED);
}

static void test_sign_refuses(void)
{
    ForeGrant g[8];
    EVP_PKEY *p384 = EVP_EC_gen("P-384");

    for (unsigned i = 0; i < G_N_ELEMENTS(g); i++) {
        g[i] = good();
    }
    g[0].vcpus = 0;
    g[1].mem_bytes = FORE_GRANT_MAX_MEM + 1;
    g[2].seq = 0;
    g[3].vm_uuid[0] = 'X';
    g[4].expires_s = g[4].issued_s;
    g[5].expires_s = g[5].issued_s + FORE_GRANT_MAX_LIFETIME_S + 1;
    g[6].nodes[1][0] = '\0';
    g[7].n_nodes = FORE_GRANT_MAX_NODES + 1;
    for (unsigned i = 0; i < G_N_ELEMENTS(g); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(fore_grant_sign(&g[i], pam, &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    }
    g[0] = good();
    g_assert_null(fore_grant_sign(&g[0], p384, NULL));
    EVP_PKEY_free(p384);
}

/* Another implementation takes our tokens, and we take its. */
static void test_interop(void)
{
#if HAVE_JOSE
    for (unsigned i = 0; i < 50; i++) {
        ForeGrant g = good(), got;
        ForeGrantExpect e = expect();
        g_autofree char *ours = sign(&g), *theirs = NULL;
        g_auto(GStrv) part = g_strsplit(ours, ".", 3);
        g_autoptr(json_t) jwk = jose_openssl_jwk_from_EVP_PKEY(NULL, pam);
        g_autoptr(json_t) one = json_pack("{s:s s:s s:s}", "protected", part[0], "payload", part[1],
                                          "signature", part[2]);
        g_autoptr(json_t) two = json_pack("{s:s}", "payload", part[1]);
        g_autoptr(json_t) template =
            json_pack("{s:{s:s s:s}}", "protected", "alg", "ES256", "typ", "foresee-grant+jwt");

        g_assert_true(jose_jws_ver(NULL, one, NULL, jwk, true));
        g_assert_true(jose_jws_sig(NULL, two, template, jwk));
        theirs = g_strjoin(".", json_string_value(json_object_get(two, "protected")), part[1],
                           json_string_value(json_object_get(two, "signature")), NULL);
        g_assert_cmpint(fore_grant_verify(theirs, &e, &got), ==, FORE_GRANT_OK);
    }
#else
    g_test_skip("libjose-dev is not installed");
#endif
}

static void test_names(void)
{
    for (unsigned i = 0; i < FORE_GRANT_N; i++) {
        for (unsigned k = 0; k < i; k++) {
            g_assert_cmpstr(fore_grant_reason_name(i), !=, fore_grant_reason_name(k));
        }
    }
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    pam = EVP_EC_gen("P-256");
    stranger = EVP_EC_gen("P-256");
#define ADD(path, fn) g_test_add_func("/attest/grant/" path, fn)
    ADD("what-was-signed-comes-back", test_round_trip);
    ADD("each-claim-is-held-against-ours", test_claims);
    ADD("other-key-is-refused", test_stranger);
    ADD("every-changed-character-and-truncation-is-refused", test_mutations);
    ADD("only-es256-and-our-type", test_algorithms);
    ADD("hmac-with-public-key-is-refused", test_hmac_with_public_key);
    ADD("signature-out-of-range-is-refused", test_signature_values);
    ADD("signed-nonsense-is-refused", test_signed_nonsense);
    ADD("odd-shapes-are-refused", test_shapes);
    ADD("sign-refuses-what-verify-would", test_sign_refuses);
    ADD("libjose-agrees", test_interop);
    ADD("reason-names-differ", test_names);
    rc = g_test_run();
    EVP_PKEY_free(pam);
    EVP_PKEY_free(stranger);
    return rc;
}
