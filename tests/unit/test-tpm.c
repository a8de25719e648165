/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TPM commands against a software TPM of our own. */
#include <signal.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "tests/lib/fore-test-swtpm.h"
#include "vtpm/tpm/fore-tpm.h"

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
    g_autoptr(GError) error = NULL;
    unsigned objects = 99, sessions = 99;

    fore_tpm_loaded(tpm, &objects, &sessions, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(objects, ==, 0);
    g_assert_cmpuint(sessions, ==, 0);
}

static void test_keys_and_cert(void)
{
    g_autoptr(ForeTpm) tpm = open_tpm();
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) ek = NULL, cert = NULL, ak = NULL, name = NULL, ak2 = NULL, name2 = NULL;
    const uint8_t *der;
    gsize n = 0;

    g_assert_true(fore_tpm_is_software(tpm));
    fore_tpm_ek(tpm, &ek, &cert, &error);
    g_assert_no_error(error);
    der = g_bytes_get_data(cert, &n);
    g_assert_cmpuint(n, ==, 4 + (der[2] << 8 | der[3]));
    fore_tpm_ak(tpm, &ak, &name, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(g_bytes_get_size(name), ==, 34);
    assert_nothing_loaded(tpm);

    g_clear_pointer(&tpm, fore_tpm_close);
    tpm = open_tpm();
    fore_tpm_ak(tpm, &ak2, &name2, &error);
    g_assert_no_error(error);
    g_assert_true(g_bytes_equal(ak, ak2));
    g_assert_true(g_bytes_equal(name, name2));
}

static void test_pcrs(void)
{
    g_autoptr(ForeTpm) tpm = open_tpm();
    g_autoptr(GError) error = NULL;
    static uint8_t before[FORE_TPM_PCRS][32], after[FORE_TPM_PCRS][32];
    uint8_t digest[32] = {1, 2, 3};
    uint8_t joined[64], want[32];
    gsize n = 32;
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);

    fore_tpm_pcr_read(tpm, 0xffffff, before, &error);
    g_assert_no_error(error);
    g_assert_cmphex(before[17][0], ==, 0xff);
    fore_tpm_pcr_extend(tpm, 11, digest, &error);
    g_assert_no_error(error);
    fore_tpm_pcr_read(tpm, 0xffffff, after, &error);
    g_assert_no_error(error);
    memcpy(joined, before[11], 32);
    memcpy(joined + 32, digest, 32);
    g_checksum_update(sum, joined, 64);
    g_checksum_get_digest(sum, want, &n);
    g_assert_cmpmem(after[11], 32, want, 32);
    g_assert_cmpmem(after[12], 32, before[12], 32);
    g_assert_false(fore_tpm_pcr_read(tpm, 0, after, NULL));
    g_assert_false(fore_tpm_pcr_read(tpm, 1u << 24, after, NULL));
    g_assert_false(fore_tpm_pcr_extend(tpm, 24, digest, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
}

static void test_quotes_do_not_leak(void)
{
    g_autoptr(ForeTpm) tpm = open_tpm();
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) extra = g_bytes_new_static("0123456789abcdef0123456789abcdef", 32);
    g_autoptr(GBytes) blank = g_bytes_new_static("", 0);
    g_autoptr(GBytes) big = g_bytes_new_take(g_malloc0(65), 65);
    g_autoptr(GBytes) attest = NULL, sig = NULL;
    const int n_quotes = g_test_slow() ? 100000 : 300; /* -m slow: tools/test --full */

    for (int i = 0; i < n_quotes; i++) {
        g_autoptr(GBytes) a = NULL, s = NULL;
        fore_tpm_quote(tpm, extra, 0x00ff, &a, &s, &error);
        g_assert_no_error(error);
    }
    assert_nothing_loaded(tpm);
    g_assert_true(fore_tpm_quote(tpm, blank, 1, &attest, &sig, NULL));
    g_assert_false(fore_tpm_quote(tpm, big, 1, &attest, &sig, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    g_assert_false(fore_tpm_quote(tpm, extra, 0, &attest, &sig, NULL));
}

static void test_seal(void)
{
    g_autoptr(ForeTpm) tpm = open_tpm();
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) secret = g_bytes_new_static("the store's key: 32 bytes or so.", 32);
    g_autoptr(GBytes) blob = NULL, plain = NULL, empty = g_bytes_new_static("", 0);
    gsize n = 0;
    const uint8_t *bytes;

    fore_tpm_seal(tpm, secret, &blob, &error);
    g_assert_no_error(error);
    fore_tpm_unseal(tpm, blob, &plain, &error);
    g_assert_no_error(error);
    g_assert_true(g_bytes_equal(plain, secret));
    assert_nothing_loaded(tpm);

    bytes = g_bytes_get_data(blob, &n);
    for (gsize i = 0; i < n; i += 7) {
        g_autofree uint8_t *bad = g_memdup2(bytes, n);
        g_autoptr(GBytes) damaged = NULL, got = NULL;
        g_autoptr(GError) why = NULL;

        bad[i] ^= 0x10;
        damaged = g_bytes_new(bad, n);
        g_assert_false(fore_tpm_unseal(tpm, damaged, &got, &why));
        g_assert_error(why, FORE_ERROR, FORE_ERROR_UNTRUSTED);
    }
    g_assert_false(fore_tpm_unseal(tpm, empty, &plain, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED);
    assert_nothing_loaded(tpm);
    g_assert_false(fore_tpm_seal(tpm, empty, &blob, NULL));
}

static void test_seal_is_bound(void)
{
    g_autoptr(ForeTpm) tpm = open_tpm();
    g_autoptr(ForeTestSwtpm) second = fore_test_swtpm_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeTpm) other = fore_tpm_open(fore_test_swtpm_tcti(second), &error);
    g_autoptr(GBytes) secret = g_bytes_new_static("0123456789abcdef", 16);
    g_autoptr(GBytes) blob = NULL, plain = NULL;

    g_assert_no_error(error);
    fore_tpm_seal(tpm, secret, &blob, &error);
    g_assert_no_error(error);
    g_assert_false(fore_tpm_unseal(other, blob, &plain, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED);
    assert_nothing_loaded(other);
}

static void test_counter(void)
{
    g_autoptr(ForeTpm) tpm = open_tpm();
    g_autoptr(GError) error = NULL;
    uint64_t first = 0, value = 0;

    fore_tpm_counter(tpm, FORE_TPM_SEQ_INDEX, &first, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(first, >, 0);
    fore_tpm_counter_raise(tpm, FORE_TPM_SEQ_INDEX, first + 5, &error);
    g_assert_no_error(error);
    fore_tpm_counter_raise(tpm, FORE_TPM_SEQ_INDEX, first, &error); /* never back */
    g_assert_no_error(error);
    fore_tpm_counter(tpm, FORE_TPM_SEQ_INDEX, &value, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(value, ==, first + 5);
    g_assert_false(fore_tpm_counter_raise(tpm, FORE_TPM_SEQ_INDEX, value + 1025, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_LIMIT);
    assert_nothing_loaded(tpm);
}

static void test_counter_survives_restart(void)
{
    g_autoptr(ForeTpm) tpm = open_tpm();
    g_autoptr(GError) error = NULL;
    uint64_t before = 0, after = 0;

    fore_tpm_counter(tpm, FORE_TPM_SEQ_INDEX, &before, &error);
    g_assert_no_error(error);
    g_clear_pointer(&tpm, fore_tpm_close);
    fore_test_swtpm_restart(emulator);
    tpm = open_tpm();
    fore_tpm_counter(tpm, FORE_TPM_SEQ_INDEX, &after, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(after, ==, before);
}

static gpointer open_in_thread(gpointer unused)
{
    return open_tpm();
}

static void test_busy(void)
{
    ForeTpm *holder = open_tpm();
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeTpm) tpm = NULL;
    g_autoptr(GBytes) extra = g_bytes_new_static("n", 1);
    GThread *thread;
    gint64 start = g_get_monotonic_time();

    tpm = fore_tpm_open(fore_test_swtpm_tcti(emulator), &error);
    g_assert_null(tpm);
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
    g_assert_nonnull(strstr(error->message, "another client"));
    g_assert_cmpint(g_get_monotonic_time() - start, <, 4 * G_USEC_PER_SEC);

    /* The next one queues while the holder works, and is served as soon as it lets go. */
    thread = g_thread_new("next", open_in_thread, NULL);
    for (int i = 0; i < 50; i++) {
        g_autoptr(GBytes) a = NULL, s = NULL;
        g_assert_true(fore_tpm_quote(holder, extra, 1, &a, &s, NULL));
    }
    fore_tpm_close(holder);
    tpm = g_thread_join(thread);
    g_assert_nonnull(tpm);
}

static void test_stopped(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeTpm) tpm = NULL;
    int pid = fore_test_swtpm_pid(emulator);

    kill(pid, SIGSTOP);
    tpm = fore_tpm_open(fore_test_swtpm_tcti(emulator), &error);
    kill(pid, SIGCONT);
    g_assert_null(tpm);
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
}

static void test_missing(void)
{
    static const struct {
        const char *tcti;
        ForeErrorCode code;
    } cases[] = {
        {"swtpm:path=/nonexistent/tpm", FORE_ERROR_UNAVAILABLE},
        {"device:/dev/tpm-of-nobody", FORE_ERROR_NOT_FOUND},
        {"swtpm:", FORE_ERROR_INVALID},
        {"swtpm:port=70000", FORE_ERROR_INVALID},
        {"swtpm:host=example.org,port=1", FORE_ERROR_INVALID},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(fore_tpm_open(cases[i].tcti, &error));
        g_assert_error(error, FORE_ERROR, (int)cases[i].code);
        g_test_message("%s", error->message);
    }
}

static void test_dies_in_use(void)
{
    g_autoptr(ForeTpm) tpm = open_tpm();
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) extra = g_bytes_new_static("n", 1), attest = NULL, sig = NULL;

    fore_test_swtpm_stop(emulator);
    g_assert_false(fore_tpm_quote(tpm, extra, 1, &attest, &sig, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
    fore_test_swtpm_restart(emulator);
}

#define ADD(path, fn) g_test_add_func("/tpm/" path, fn)

static void skip_all(void)
{
    g_autofree char *why = g_strdup_printf("%s is not installed", fore_test_swtpm_missing());
    g_test_skip(why);
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    if (fore_test_swtpm_missing() != NULL) {
        ADD("needs-swtpm", skip_all);
        return g_test_run();
    }
    emulator = fore_test_swtpm_new();
    ADD("keys-stay-and-certificate-is-whole", test_keys_and_cert);
    ADD("pcrs-read-and-extend", test_pcrs);
    g_test_add_func("/attest/attack/93-quotes-leak-no-handle", test_quotes_do_not_leak);
    ADD("sealed-secret-comes-back-or-is-refused", test_seal);
    ADD("sealed-secret-is-bound-to-its-tpm", test_seal_is_bound);
    ADD("counter-only-grows", test_counter);
    ADD("counter-survives-a-restart", test_counter_survives_restart);
    ADD("busy-tpm-is-waited-for-and-then-named", test_busy);
    ADD("stopped-tpm-does-not-hang", test_stopped);
    ADD("missing-tpm-is-named", test_missing);
    ADD("tpm-that-dies-in-use-is-an-error", test_dies_in_use);
    rc = g_test_run();
    fore_test_swtpm_free(emulator);
    return rc;
}
