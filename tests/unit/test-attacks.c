/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attacks whose defence is no single module's: answers in a weaker form than was asked for, names
 * that are nearly right, a TPM that gave up, garbage in bulk, a clock that jumps.  The numbers are
 * those of docs/attacks.md.
 */
#include <glib/gstdio.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/obj_mac.h>
#include <openssl/sha.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "guest-agent/fore-sea-grant.h"
#include "tests/lib/fore-test-key.h"
#include "tests/lib/fore-test-swtpm.h"
#include "vtpm/attest/fore-ak.h"
#include "vtpm/attest/fore-jws.h"
#include "vtpm/attest/fore-nvcert.h"
#include "vtpm/attest/fore-quote.h"
#include "vtpm/tpm/fore-tpm.h"

#define MASK 0x0003u

static const uint8_t nonce[32] = "the nonce of this very question.";
static const uint8_t pcrs[24][32];

static void put_bytes(GByteArray *out, const void *data, gsize n)
{
    fore_put_be16(out, (uint16_t)n);
    g_byte_array_append(out, data, (guint)n);
}

/* Up to what depends on the type. */
static GByteArray *attest_head(const ForeTestKey *key, uint16_t type)
{
    GByteArray *out = g_byte_array_new();
    g_autoptr(GBytes) public = fore_test_key_public(key);
    g_autoptr(GBytes) signer = fore_ak_qualified_name(public, NULL);

    fore_put_be32(out, 0xff544347);
    fore_put_be16(out, type);
    put_bytes(out, g_bytes_get_data(signer, NULL), g_bytes_get_size(signer));
    put_bytes(out, nonce, sizeof(nonce));
    fore_put_be64(out, 1000);
    fore_put_be32(out, 1);
    fore_put_be32(out, 0);
    fore_put_u8(out, 1);
    fore_put_be64(out, 7);
    return out;
}

static GBytes *quote_over(const ForeTestKey *key, uint16_t bank)
{
    GByteArray *out = attest_head(key, 0x8018);
    uint8_t digest[64];
    unsigned n = 0;

    fore_put_be32(out, 1);
    fore_put_be16(out, bank);
    fore_put_u8(out, 3);
    fore_put_u8(out, MASK);
    fore_put_be16(out, 0);
    EVP_Digest(pcrs, 64, digest, &n, fore_public_md(key->hash), NULL);
    put_bytes(out, digest, n);
    return g_byte_array_free_to_bytes(out);
}

static ForeQuoteReason answer(const ForeTestKey *enrolled, const ForeTestKey *signer, uint16_t bank)
{
    g_autoptr(GBytes) public = fore_test_key_public(enrolled);
    g_autoptr(GBytes) extra = g_bytes_new_static(nonce, sizeof(nonce));
    g_autoptr(GBytes) attest = quote_over(enrolled, bank);
    g_autoptr(GBytes) sig = fore_test_key_sign(signer, attest);
    ForeQuoteExpect e = {.ak_public = public, .extra = extra, .pcr_mask = MASK, .pcrs = pcrs};

    return fore_quote_verify(&e, attest, sig, NULL);
}

/* 28: nothing is negotiated.  The key's record says scheme and hash, the question says the bank;
 * the same private key answers in a weaker form each time. */
static void test_downgrade(void)
{
    static const struct {
        const char *key;
        uint16_t scheme, hash, answer_scheme, answer_hash, bank;
        ForeQuoteReason want;
    } cases[] = {
        {"P-384", FORE_ALG_ECDSA, FORE_ALG_SHA384, FORE_ALG_ECDSA, FORE_ALG_SHA384, FORE_ALG_SHA256,
         FORE_QUOTE_OK},
        {"P-384", FORE_ALG_ECDSA, FORE_ALG_SHA384, FORE_ALG_ECDSA, FORE_ALG_SHA256, FORE_ALG_SHA256,
         FORE_QUOTE_HASH_MISMATCH},
        {"P-256", FORE_ALG_ECDSA, FORE_ALG_SHA256, FORE_ALG_ECDSA, FORE_ALG_SHA1, FORE_ALG_SHA256,
         FORE_QUOTE_HASH_WEAK},
        {"P-256", FORE_ALG_ECDSA, FORE_ALG_SHA256, FORE_ALG_ECDSA, FORE_ALG_SHA256, FORE_ALG_SHA1,
         FORE_QUOTE_HASH_WEAK},
        {"RSA-2048", FORE_ALG_RSAPSS, FORE_ALG_SHA256, FORE_ALG_RSAPSS, FORE_ALG_SHA256,
         FORE_ALG_SHA256, FORE_QUOTE_OK},
        {"RSA-2048", FORE_ALG_RSAPSS, FORE_ALG_SHA256, FORE_ALG_RSASSA, FORE_ALG_SHA256,
         FORE_ALG_SHA256, FORE_QUOTE_SIGNATURE_SCHEME},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(ForeTestKey) key = {0};
        ForeTestKey weaker;

        fore_test_key_init(&key, cases[i].key, cases[i].scheme, cases[i].hash);
        weaker = key;
        weaker.scheme = cases[i].answer_scheme;
        weaker.hash = cases[i].answer_hash;
        g_assert_cmpstr(fore_quote_reason_name(answer(&key, &weaker, cases[i].bank)), ==,
                        fore_quote_reason_name(cases[i].want));
    }
}

/* TPM2B_PUBLIC of an ECC AK with coordinates of our choice */
static ForeAkReason check_point(uint16_t curve, const uint8_t *x, gsize n_x, const uint8_t *y,
                                gsize n_y)
{
    g_autoptr(GByteArray) area = g_byte_array_new();
    GByteArray *out = g_byte_array_new();
    g_autoptr(GBytes) public = NULL;

    fore_put_be16(area, FORE_ALG_ECC);
    fore_put_be16(area, FORE_ALG_SHA256);
    fore_put_be32(area, FORE_TEST_AK_ATTRIBUTES);
    fore_put_be16(area, 0);
    fore_put_be16(area, FORE_ALG_NULL);
    fore_put_be16(area, FORE_ALG_ECDSA);
    fore_put_be16(area, FORE_ALG_SHA256);
    fore_put_be16(area, curve);
    fore_put_be16(area, FORE_ALG_NULL);
    put_bytes(area, x, n_x);
    put_bytes(area, y, n_y);
    put_bytes(out, area->data, area->len);
    public = g_byte_array_free_to_bytes(out);
    return fore_ak_check(public, NULL);
}

/* 14: a point with x below 2^224 has a second spelling of 32 bytes, x + p.  It is on the curve for
 * whoever reduces before he checks, and a second name for one key.  x = 5 is on P-256. */
static void test_second_spelling(void)
{
    EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
    EC_POINT *point = EC_POINT_new(group);
    BIGNUM *p = BN_new(), *x = BN_new(), *y = BN_new();
    uint8_t bytes_x[32], bytes_y[32], other_x[32], prime[32];

    g_assert_cmpint(EC_GROUP_get_curve(group, p, NULL, NULL, NULL), ==, 1);
    BN_set_word(x, 5);
    g_assert_cmpint(EC_POINT_set_compressed_coordinates(group, point, x, 0, NULL), ==, 1);
    g_assert_cmpint(EC_POINT_get_affine_coordinates(group, point, x, y, NULL), ==, 1);
    BN_bn2binpad(x, bytes_x, 32);
    BN_bn2binpad(y, bytes_y, 32);
    BN_bn2binpad(p, prime, 32);
    BN_add(x, x, p);
    g_assert_cmpint(BN_bn2binpad(x, other_x, 32), ==, 32);
    g_assert_cmpint(check_point(FORE_CURVE_P256, bytes_x, 32, bytes_y, 32), ==, FORE_AK_OK);
    g_assert_cmpint(check_point(FORE_CURVE_P256, other_x, 32, bytes_y, 32), ==,
                    FORE_AK_KEY_INVALID);
    g_assert_cmpint(check_point(FORE_CURVE_P256, bytes_x, 32, prime, 32), ==, FORE_AK_KEY_INVALID);
    g_assert_cmpint(check_point(FORE_CURVE_P256, prime, 32, bytes_y, 32), ==, FORE_AK_KEY_INVALID);
    BN_free(p);
    BN_free(x);
    BN_free(y);
    EC_POINT_free(point);
    EC_GROUP_free(group);
}

/* 14: curves that are not ours, in their right lengths and padded */
static void test_other_curves(void)
{
    static const uint8_t ones[68] = {[0 ... 67] = 1};
    static const struct {
        uint16_t curve;
        gsize size;
    } cases[] = {{0x0002, 28}, {0x0005, 65}, {0x0005, 66}, {0x0005, 68},
                 {0x0010, 32}, {0x0011, 48}, {0x0020, 32}, {0x0000, 32}};

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_assert_cmpint(check_point(cases[i].curve, ones, cases[i].size, ones, cases[i].size), ==,
                        FORE_AK_KEY_WEAK);
    }
}

/* 38: the name of the certified index, exactly and where it belongs */
static ForeNvcertReason certify(const ForeTestKey *key, GBytes *name, gsize before, gsize behind)
{
    static const uint8_t zeros[8], content[32] = {1};
    GByteArray *out = attest_head(key, 0x8014);
    gsize n = g_bytes_get_size(name);
    g_autoptr(GBytes) attest = NULL, sig = NULL, public = fore_test_key_public(key);
    g_autoptr(GBytes) extra = g_bytes_new_static(nonce, sizeof(nonce));
    ForeNvcertExpect e = {.ak_public = public, .extra = extra, .index = FORE_TPM_LAUNCH_INDEX};
    uint8_t head[32];

    fore_put_be16(out, (uint16_t)(before + n + behind));
    g_byte_array_append(out, zeros, (guint)before);
    g_byte_array_append(out, g_bytes_get_data(name, NULL), (guint)n);
    g_byte_array_append(out, zeros, (guint)behind);
    fore_put_be16(out, 0);
    put_bytes(out, content, sizeof(content));
    attest = g_byte_array_free_to_bytes(out);
    sig = fore_test_key_sign(key, attest);
    return fore_nvcert_verify(&e, attest, sig, head, NULL, NULL);
}

static void test_certified_name(void)
{
    g_auto(ForeTestKey) key = {0};
    g_autoptr(GByteArray) area = g_byte_array_new();
    uint8_t digest[34] = {0, FORE_ALG_SHA256};
    g_autoptr(GBytes) name = NULL, shorter = NULL, bare = NULL;

    fore_test_key_init(&key, "P-256", FORE_ALG_ECDSA, FORE_ALG_SHA256);
    /* TPMS_NV_PUBLIC of an index as a log has it: an extend index that owner and its own
     * authorisation write and read, that was written */
    fore_put_be32(area, FORE_TPM_LAUNCH_INDEX);
    fore_put_be16(area, FORE_ALG_SHA256);
    fore_put_be32(area, 0x22060046);
    fore_put_be16(area, 0);
    fore_put_be16(area, 32);
    SHA256(area->data, area->len, digest + 2);
    name = g_bytes_new(digest, sizeof(digest));
    shorter = g_bytes_new(digest, sizeof(digest) - 1);
    bare = g_bytes_new(digest + 2, 32);
    g_assert_cmpint(certify(&key, name, 0, 0), ==, FORE_NVCERT_OK);
    g_assert_cmpint(certify(&key, name, 0, 2), ==, FORE_NVCERT_INDEX);
    g_assert_cmpint(certify(&key, name, 2, 0), ==, FORE_NVCERT_INDEX);
    g_assert_cmpint(certify(&key, shorter, 0, 1), ==, FORE_NVCERT_INDEX);
    g_assert_cmpint(certify(&key, bare, 0, 0), ==, FORE_NVCERT_INDEX);
    g_assert_cmpint(certify(&key, bare, 2, 0), ==, FORE_NVCERT_INDEX);
}

/* 92: an emulator that was told a relative folder and then left it */
static void test_failure_mode(void)
{
    g_autofree char *dir = g_dir_make_tmp("foresee-failed-XXXXXX", NULL);
    g_autofree char *socket = g_build_filename(dir, "tpm", NULL);
    g_autofree char *server = g_strconcat("type=unixio,path=", socket, NULL);
    g_autofree char *pid_file = g_build_filename(dir, "pid", NULL);
    g_autofree char *pid_option = g_strconcat("file=", pid_file, NULL);
    g_autofree char *control = g_strconcat("type=unixio,path=", dir, "/control", NULL);
    g_autofree char *state = g_build_filename(dir, "state", NULL);
    g_autofree char *tcti = g_strconcat("swtpm:path=", socket, NULL);
    g_autofree char *text = NULL;
    char *argv[] = {"swtpm",    "socket",  "--tpm2",        "--tpmstate", "dir=state",
                    "--server", server,    "--ctrl",        control,      "--pid",
                    pid_option, "--flags", "startup-clear", "--daemon",   NULL};
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeTpm) tpm = NULL;
    gint64 begun;
    int status = 0;

    if (fore_test_swtpm_missing() != NULL) {
        g_test_skip("swtpm is not installed");
        fore_test_remove_tree(dir);
        return;
    }
    g_assert_cmpint(g_mkdir(state, 0700), ==, 0);
    g_assert_true(g_spawn_sync(dir, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL,
                               &status, &error));
    g_assert_true(g_file_get_contents(pid_file, &text, NULL, &error));
    begun = g_get_monotonic_time();
    tpm = fore_tpm_open(tcti, &error);
    g_assert_null(tpm);
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
    g_assert_nonnull(strstr(error->message, "failure mode"));
    /* it is not waited for like a busy one, which takes 3 s; a loaded machine is granted 2.5 */
    g_test_message("%s (%" G_GINT64_FORMAT " us)", error->message, g_get_monotonic_time() - begun);
    kill((pid_t)g_ascii_strtoll(text, NULL, 10), SIGTERM);
    fore_test_remove_tree(dir);
}

static char *b64url(const void *data, gsize n)
{
    char *text = g_base64_encode(data, n);

    g_strdelimit(text, "=", '\0');
    g_strdelimit(text, "+", '-');
    return g_strdelimit(text, "/", '_');
}

static ForeJwsReason judge_header(const char *header, EVP_PKEY *signer, EVP_PKEY *pinned)
{
    g_autofree char *one = b64url(header, strlen(header)), *two = b64url("{}", 2), *three = NULL;
    g_autofree char *text = g_strdup_printf("%s.%s", one, two), *token = NULL;
    g_autoptr(json_t) claims = NULL;
    uint8_t raw[FORE_JWS_RAW];

    g_assert_true(fore_jws_sign_evp(text, strlen(text), raw, signer, NULL));
    three = b64url(raw, sizeof(raw));
    token = g_strdup_printf("%s.%s", text, three);
    return fore_jws_verify(token, 65536, "JWT", pinned, &claims);
}

/* 100: a token that brings its key or its chain along.  Nothing in a header is an anchor: what is
 * signed by the pinned key holds whatever stands beside, and what is signed by the key in the
 * header does not. */
static void test_key_in_header(void)
{
    static const char *const headers[] = {
        ("{\"alg\":\"ES256\",\"typ\":\"JWT\",\"jwk\":{\"kty\":\"EC\",\"crv\":\"P-256\","
         "\"x\":\"AA\",\"y\":\"AA\"}}"),
        "{\"alg\":\"ES256\",\"typ\":\"JWT\",\"x5c\":[\"MIIB\"]}",
        "{\"alg\":\"ES256\",\"typ\":\"JWT\",\"x5u\":\"http://127.0.0.1/\",\"jku\":\"file:///\"}",
        "{\"alg\":\"ES256\",\"typ\":\"JWT\",\"kid\":\"../../../../dev/zero\"}",
        "{\"alg\":\"ES256\",\"typ\":\"JWT\",\"crit\":[\"x5c\"],\"x5c\":[]}",
        "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"x5c\":[]}",
    };
    g_auto(ForeTestKey) pinned = {0};
    g_auto(ForeTestKey) stranger = {0};

    fore_test_key_init(&pinned, "P-256", FORE_ALG_ECDSA, FORE_ALG_SHA256);
    fore_test_key_init(&stranger, "P-256", FORE_ALG_ECDSA, FORE_ALG_SHA256);
    g_assert_cmpint(judge_header("{\"alg\":\"ES256\",\"typ\":\"JWT\"}", pinned.pkey, pinned.pkey),
                    ==, FORE_JWS_OK);
    for (unsigned i = 0; i < G_N_ELEMENTS(headers); i++) {
        ForeJwsReason reason = judge_header(headers[i], stranger.pkey, pinned.pkey);

        g_test_message("%s: %s", headers[i], fore_jws_reason_name(reason));
        g_assert_cmpint(reason, ==, i < 4 ? FORE_JWS_SIGNATURE : FORE_JWS_ALGORITHM);
    }
}

/* 104: what is refused is not also written out, however often; tpm2-tss would write lines of each
 */
static void test_quiet(void)
{
    g_autofree char *path = NULL;
    int file = g_file_open_tmp("foresee-quiet-XXXXXX", &path, NULL), kept = dup(STDERR_FILENO);
    struct stat st;

    g_assert_cmpint(file, >=, 0);
    fflush(stderr);
    dup2(file, STDERR_FILENO);
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t bytes[64];
        g_autoptr(GBytes) garbage = NULL, extra = g_bytes_new_static(nonce, sizeof(nonce));
        ForeQuoteExpect e = {.extra = extra, .pcr_mask = MASK, .pcrs = pcrs};

        for (unsigned k = 0; k < sizeof(bytes); k++) {
            bytes[k] = (uint8_t)g_test_rand_int();
        }
        garbage = g_bytes_new(bytes, sizeof(bytes));
        e.ak_public = garbage;
        g_assert_cmpint(fore_quote_verify(&e, garbage, garbage, NULL), !=, FORE_QUOTE_OK);
        g_assert_cmpint(fore_ak_check(garbage, NULL), !=, FORE_AK_OK);
    }
    /* and where tpm2-tss itself refuses; a missing TPM is waited for, 3 s */
    g_assert_null(fore_tpm_open("swtpm:path=/nonexistent", NULL));
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    g_assert_cmpint(fstat(file, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, 0);
    close(file);
    unlink(path);
    g_assert_cmpstr(g_getenv("TSS2_LOG"), ==, "all+none");
}

/* 107: the clock of the day a day back, and a year ahead: a grant ends when it has to, never later
 */
static void test_clock_jump(void)
{
    enum { DAY = 86400, LIFE = 60 };
    ForeSeaCapacity c = {.vcpus_online = 1, .block_bytes = 1 << 27, .blocks_online = 4};
    ForeGrant grant = {
        .vcpus = 8, .mem_bytes = (int64_t)9 << 27, .seq = 7, .expires_s = 10 * DAY + LIFE};
    int64_t end_us = (LIFE + FORE_GRANT_SKEW_S) * (int64_t)G_USEC_PER_SEC;
    ForeSeaAllowed a;

    fore_sea_allowed_init(&a, &c);
    fore_sea_allowed_grant(&a, &grant, 0, 10 * DAY);
    g_assert_false(fore_sea_allowed_expire(&a, &c, end_us - 1, 9 * DAY));
    g_assert_true(fore_sea_allowed_expire(&a, &c, end_us, 9 * DAY));
    g_assert_cmpuint(a.vcpus, ==, 1);
    fore_sea_allowed_grant(&a, &grant, 0, 10 * DAY);
    g_assert_true(fore_sea_allowed_expire(&a, &c, 1, 375 * DAY));
    g_assert_cmpuint(a.vcpus, ==, 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ATTACK(path, fn) g_test_add_func("/attest/attack/" path, fn)
    ATTACK("14-second-spelling-of-a-point", test_second_spelling);
    ATTACK("14-other-curves-in-their-lengths", test_other_curves);
    ATTACK("28-answer-in-a-weaker-form", test_downgrade);
    ATTACK("38-certified-name-in-part-or-elsewhere", test_certified_name);
    ATTACK("92-failure-mode-is-named-at-once", test_failure_mode);
    ATTACK("100-key-in-a-header-is-no-anchor", test_key_in_header);
    ATTACK("104-garbage-fills-no-log", test_quiet);
    ATTACK("107-clock-jump-prolongs-nothing", test_clock_jump);
    return g_test_run();
}
