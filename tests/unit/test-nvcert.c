/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sealing to PCRs, and heads of logs as a TPM keeps and certifies them: a software TPM of our own
 * states, vtpm/attest judges. */
#include <openssl/sha.h>
#include <string.h>

#include "common/fore-error.h"
#include "tests/lib/fore-test-swtpm.h"
#include "vtpm/attest/fore-nvcert.h"
#include "vtpm/tpm/fore-tpm.h"

#define INDEX FORE_TPM_LAUNCH_INDEX

static ForeTestSwtpm *emulator;

static ForeTpm *open_tpm(void)
{
    g_autoptr(GError) error = NULL;
    ForeTpm *tpm = fore_tpm_open(fore_test_swtpm_tcti(emulator), &error);

    g_assert_no_error(error);
    return tpm;
}

static void assert_nothing_loaded(ForeTpm *tpm)
{
    unsigned objects = 99, sessions = 99;

    g_assert_true(fore_tpm_loaded(tpm, &objects, &sessions, NULL));
    g_assert_cmpuint(objects + sessions, ==, 0);
}

static void test_seal_to_pcrs(void)
{
    g_autoptr(ForeTpm) tpm = open_tpm();
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) secret = g_bytes_new_static("0123456789abcdef", 16), blob = NULL,
                      again = NULL, lost = NULL;
    const uint8_t digest[32] = {1};

    fore_tpm_seal_to(tpm, secret, 1u << 7 | 1u << 14, &blob, &error);
    g_assert_no_error(error);
    fore_tpm_unseal(tpm, blob, &again, &error);
    g_assert_no_error(error);
    g_assert_true(g_bytes_equal(secret, again));
    assert_nothing_loaded(tpm);

    g_assert_true(fore_tpm_pcr_extend(tpm, 14, digest, NULL));
    g_assert_false(fore_tpm_unseal(tpm, blob, &lost, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED);
    g_assert_nonnull(strstr(error->message, "PCRs of mask 0x004080"));
    assert_nothing_loaded(tpm);
}

static void test_seal_mask_is_bound(void)
{
    g_autoptr(ForeTpm) tpm = open_tpm();
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) secret = g_bytes_new_static("0123456789abcdef", 16), blob = NULL, lost = NULL;
    gsize n = 0;

    g_assert_true(fore_tpm_seal_to(tpm, secret, 1u << 7, &blob, NULL));
    for (unsigned byte = 0; byte < 5; byte++) { /* version and mask */
        g_autofree uint8_t *copy = g_memdup2(g_bytes_get_data(blob, &n), g_bytes_get_size(blob));
        g_autoptr(GBytes) changed = NULL;

        copy[byte] ^= 0x02;
        changed = g_bytes_new(copy, g_bytes_get_size(blob));
        g_assert_false(fore_tpm_unseal(tpm, changed, &lost, &error));
        g_assert_nonnull(error);
        g_clear_error(&error);
    }
    assert_nothing_loaded(tpm);
}

static void fold(uint8_t head[32], const uint8_t entry[32])
{
    uint8_t both[64];

    memcpy(both, head, 32);
    memcpy(both + 32, entry, 32);
    SHA256(both, sizeof(both), head);
}

static ForeNvcertExpect expect_of(ForeTpm *tpm, GBytes *extra)
{
    ForeNvcertExpect e = {.extra = extra, .index = INDEX, .by_boot = true};

    g_assert_true(fore_tpm_ak(tpm, &e.ak_public, NULL, NULL));
    return e;
}

static void test_log(void)
{
    g_autoptr(ForeTpm) tpm = open_tpm();
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) extra = g_bytes_new_static("nonce-of-this-question-32-bytes!", 32),
                      attest = NULL, signature = NULL;
    const uint8_t one[32] = {1}, two[32] = {2};
    uint8_t want[32] = {0}, got[32] = {9}, head[32] = {9};
    ForeNvcertExpect e;

    g_assert_false(fore_tpm_log_head(tpm, INDEX, FORE_TPM_LOG_BOOT, got, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND);
    g_clear_error(&error);
    fore_tpm_log_extend(tpm, INDEX, FORE_TPM_LOG_BOOT, one, &error);
    g_assert_no_error(error);
    fold(want, one);
    fore_tpm_log_extend(tpm, INDEX, FORE_TPM_LOG_BOOT, two, &error);
    g_assert_no_error(error);
    fold(want, two);
    fore_tpm_log_head(tpm, INDEX, FORE_TPM_LOG_BOOT, got, &error);
    g_assert_no_error(error);
    g_assert_cmpmem(got, 32, want, 32);
    fore_tpm_log_certify(tpm, INDEX, FORE_TPM_LOG_BOOT, extra, &attest, &signature, &error);
    g_assert_no_error(error);
    assert_nothing_loaded(tpm);

    e = expect_of(tpm, extra);
    g_assert_cmpint(fore_nvcert_verify(&e, attest, signature, head, NULL, NULL), ==,
                    FORE_NVCERT_OK);
    g_assert_cmpmem(head, 32, want, 32);
    g_bytes_unref(e.ak_public);
    /* another life: another index in its place */
    g_assert_false(fore_tpm_log_extend(tpm, INDEX, FORE_TPM_LOG_FOREVER, one, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_EXISTS);
}

static void test_boot_starts_anew(void)
{
    g_autoptr(ForeTpm) tpm = open_tpm();
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) extra = g_bytes_new_static("n", 1), attest = NULL, signature = NULL;
    const uint8_t one[32] = {1}, zeros[32] = {0};
    uint8_t got[32] = {9}, kept[32] = {0};

    g_assert_true(fore_tpm_log_extend(tpm, INDEX, FORE_TPM_LOG_BOOT, one, NULL));
    g_assert_true(fore_tpm_log_extend(tpm, FORE_TPM_AUDIT_INDEX, FORE_TPM_LOG_FOREVER, one, NULL));
    fold(kept, one);
    g_clear_pointer(&tpm, fore_tpm_close);
    fore_test_swtpm_restart(emulator);
    tpm = open_tpm();
    g_assert_true(fore_tpm_log_head(tpm, INDEX, FORE_TPM_LOG_BOOT, got, NULL));
    g_assert_cmpmem(got, 32, zeros, 32);
    g_assert_false(
        fore_tpm_log_certify(tpm, INDEX, FORE_TPM_LOG_BOOT, extra, &attest, &signature, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND);
    g_assert_true(fore_tpm_log_head(tpm, FORE_TPM_AUDIT_INDEX, FORE_TPM_LOG_FOREVER, got, NULL));
    g_assert_cmpmem(got, 32, kept, 32);
}

typedef struct {
    ForeNvcertExpect expect;
    GBytes *attest, *signature;
} Statement;

static void assert_refused(const Statement *s, ForeNvcertReason reason, ForeQuoteReason why)
{
    uint8_t head[32];
    ForeQuoteReason got = FORE_QUOTE_OK;

    g_assert_cmpint(fore_nvcert_verify(&s->expect, s->attest, s->signature, head, NULL, &got), ==,
                    reason);
    g_assert_cmpint(got, ==, why);
}

static Statement statement(ForeTpm *tpm, GBytes *extra)
{
    const uint8_t one[32] = {1};
    Statement s = {.expect = expect_of(tpm, extra)};

    g_assert_true(fore_tpm_log_extend(tpm, INDEX, FORE_TPM_LOG_BOOT, one, NULL));
    g_assert_true(
        fore_tpm_log_certify(tpm, INDEX, FORE_TPM_LOG_BOOT, extra, &s.attest, &s.signature, NULL));
    return s;
}

static void statement_done(Statement *s)
{
    g_bytes_unref(s->expect.ak_public);
    g_bytes_unref(s->attest);
    g_bytes_unref(s->signature);
}

static void test_refusals(void)
{
    g_autoptr(ForeTpm) tpm = open_tpm();
    g_autoptr(GBytes) extra = g_bytes_new_static("nonce", 5),
                      other = g_bytes_new_static("nonc3", 5), quote = NULL, quote_signature = NULL;
    Statement s = statement(tpm, extra), t = s;

    t.expect.extra = other;
    assert_refused(&t, FORE_NVCERT_STATEMENT, FORE_QUOTE_NONCE);
    t = s;
    t.expect.index = FORE_TPM_AUDIT_INDEX;
    assert_refused(&t, FORE_NVCERT_INDEX, FORE_QUOTE_OK);
    t = s;
    t.expect.by_boot = false;
    assert_refused(&t, FORE_NVCERT_INDEX, FORE_QUOTE_OK);
    /* a quote is no certificate of an index, and the reverse */
    g_assert_true(fore_tpm_quote(tpm, extra, 1u << 7, &quote, &quote_signature, NULL));
    t = s;
    t.attest = quote;
    t.signature = quote_signature;
    assert_refused(&t, FORE_NVCERT_STATEMENT, FORE_QUOTE_TYPE);
    t = s;
    t.attest = NULL;
    assert_refused(&t, FORE_NVCERT_STATEMENT, FORE_QUOTE_ATTEST_MALFORMED);
    statement_done(&s);
}

static void test_attack_2(void)
{
    g_autoptr(ForeTpm) tpm = open_tpm();
    g_autoptr(GBytes) extra = g_bytes_new_static("nonce", 5);
    Statement s = statement(tpm, extra);
    uint8_t pcrs[24][32] = {{0}};
    ForeQuoteExpect e = {.ak_public = s.expect.ak_public,
                         .extra = extra,
                         .pcr_mask = 1,
                         .pcrs = (const uint8_t(*)[32])pcrs};

    g_assert_cmpint(fore_quote_verify(&e, s.attest, s.signature, NULL), ==, FORE_QUOTE_TYPE);
    statement_done(&s);
}

static void test_mutations(void)
{
    g_autoptr(ForeTpm) tpm = open_tpm();
    g_autoptr(GBytes) extra = g_bytes_new_static("nonce", 5);
    Statement s = statement(tpm, extra);
    gsize n = 0;
    const uint8_t *good = g_bytes_get_data(s.attest, &n);
    g_autofree uint8_t *copy = g_memdup2(good, n);
    uint8_t head[32];

    for (gsize i = 0; i < n; i++) {
        g_autoptr(GBytes) flipped = NULL, cut = g_bytes_new(good, i);

        copy[i] ^= (uint8_t)(1u << (i % 8));
        flipped = g_bytes_new(copy, n);
        copy[i] = good[i];
        g_assert_cmpint(fore_nvcert_verify(&s.expect, flipped, s.signature, head, NULL, NULL), !=,
                        FORE_NVCERT_OK);
        g_assert_cmpint(fore_nvcert_verify(&s.expect, cut, s.signature, head, NULL, NULL), !=,
                        FORE_NVCERT_OK);
    }
    statement_done(&s);
}

static void test_skip(void)
{
    g_autofree char *why = g_strdup_printf("%s is missing", fore_test_swtpm_missing());

    g_test_skip(why);
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    if (fore_test_swtpm_missing() != NULL) {
        g_test_add_func("/attest/nvcert/needs-swtpm", test_skip);
        return g_test_run();
    }
    emulator = fore_test_swtpm_new();
    g_test_add_func("/tpm/log/head-is-extended-and-certified", test_log);
    g_test_add_func("/tpm/log/a-boot-starts-it-anew", test_boot_starts_anew);
    g_test_add_func("/tpm/seal/pcrs-that-moved-keep-the-secret", test_seal_to_pcrs);
    g_test_add_func("/tpm/seal/mask-is-part-of-what-is-sealed", test_seal_mask_is_bound);
    g_test_add_func("/attest/nvcert/other-nonce-index-life-and-type-are-refused", test_refusals);
    g_test_add_func("/attest/nvcert/every-flipped-byte-and-cut-is-refused", test_mutations);
    g_test_add_func("/attest/attack/2-nv-certificate-as-a-quote", test_attack_2);
    rc = g_test_run();
    fore_test_swtpm_free(emulator);
    return rc;
}
