/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The life of a software TPM, and its state at rest. */
#include <errno.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "tests/lib/fore-test-swtpm.h"
#include "vtpm/host/fore-swtpm.h"
#include "vtpm/tpm/fore-tpm.h"

#define VM "6f1d4c1e-0a52-4a8e-9d57-2f3c8b1a7e40"

typedef struct {
    char *dir, *state, *ca, *socket;
    GBytes *key;
    ForeSwtpmConfig config;
} Box;

static void box_init(Box *b, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    guint8 key[FORE_SWTPM_KEY_BYTES];

    for (unsigned i = 0; i < sizeof(key); i++) {
        key[i] = (guint8)g_random_int();
    }
    b->dir = g_dir_make_tmp("foresee-test-swtpm-XXXXXX", &error);
    g_assert_no_error(error);
    b->state = g_build_filename(b->dir, "state", NULL);
    b->ca = g_build_filename(b->dir, "ca", NULL);
    b->socket = g_build_filename(b->dir, "tpm", NULL);
    b->key = g_bytes_new(key, sizeof(key));
    b->config =
        (ForeSwtpmConfig){.state_dir = b->state, .vm_uuid = VM, .key = b->key, .ca_dir = b->ca};
}

static void box_done(Box *b, gconstpointer unused)
{
    fore_test_remove_tree(b->dir);
    g_bytes_unref(b->key);
    g_free(b->dir);
    g_free(b->state);
    g_free(b->ca);
    g_free(b->socket);
}

static void manufacture(Box *b)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(fore_swtpm_is_manufactured(b->state));
    fore_swtpm_manufacture(&b->config, &error);
    g_assert_no_error(error);
    g_assert_true(fore_swtpm_is_manufactured(b->state));
}

static ForeSwtpm *start(Box *b, ForeSwtpmUse use)
{
    g_autoptr(GError) error = NULL;
    ForeSwtpm *s = fore_swtpm_start(&b->config, use, b->socket, true, &error);

    g_assert_no_error(error);
    g_assert_true(fore_swtpm_is_alive(s));
    return s;
}

static void assert_start_fails(Box *b, int code)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeSwtpm) s =
        fore_swtpm_start(&b->config, FORE_SWTPM_FOR_TSS, b->socket, true, &error);

    g_assert_null(s);
    g_assert_error(error, FORE_ERROR, code);
    g_test_message("%s", error->message);
}

static void test_life(Box *b, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeSwtpm) s = NULL;
    g_autoptr(ForeTpm) tpm = NULL;
    g_autoptr(GBytes) before = NULL, after = NULL;
    g_autofree char *pid_file = g_strconcat(b->socket, ".pid", NULL);

    assert_start_fails(b, FORE_ERROR_NOT_FOUND);
    manufacture(b);
    g_assert_false(fore_swtpm_manufacture(&b->config, &error)); /* never over an existing TPM */
    g_assert_error(error, FORE_ERROR, FORE_ERROR_EXISTS);
    g_clear_error(&error);

    s = start(b, FORE_SWTPM_FOR_TSS);
    g_assert_cmpstr(fore_swtpm_socket(s), ==, b->socket);
    tpm = fore_tpm_open(fore_swtpm_tcti(s), &error);
    g_assert_no_error(error);
    g_assert_true(fore_tpm_ak(tpm, &before, NULL, NULL));
    g_clear_pointer(&tpm, fore_tpm_close);
    fore_swtpm_stop(s);
    g_assert_false(fore_swtpm_is_alive(s));
    g_assert_cmpint(fore_swtpm_pid(s), ==, 0);
    fore_swtpm_stop(s); /* twice is harmless */
    g_clear_pointer(&s, fore_swtpm_free);
    g_assert_cmpint(access(b->socket, F_OK), !=, 0);
    g_assert_cmpint(access(pid_file, F_OK), !=, 0);

    s = start(b, FORE_SWTPM_FOR_TSS); /* the same TPM again */
    tpm = fore_tpm_open(fore_swtpm_tcti(s), &error);
    g_assert_no_error(error);
    g_assert_true(fore_tpm_ak(tpm, &after, NULL, NULL));
    g_assert_true(g_bytes_equal(before, after));
}

static void test_killed_and_stopped(Box *b, gconstpointer unused)
{
    g_autoptr(ForeSwtpm) s = NULL;
    gint64 until;

    manufacture(b);
    s = start(b, FORE_SWTPM_FOR_TSS);
    kill(fore_swtpm_pid(s), SIGKILL);
    for (until = g_get_monotonic_time() + 5 * G_USEC_PER_SEC;
         fore_swtpm_is_alive(s) && g_get_monotonic_time() < until;) {
        g_thread_yield();
    }
    g_assert_false(fore_swtpm_is_alive(s));
    g_clear_pointer(&s, fore_swtpm_free);
    s = start(b, FORE_SWTPM_FOR_TSS);
    kill(fore_swtpm_pid(s), SIGSTOP);
    fore_swtpm_stop(s); /* ends also one that does not run */
    g_assert_false(fore_swtpm_is_alive(s));
}

static void test_config(Box *b, gconstpointer unused)
{
    g_autoptr(GBytes) short_key = g_bytes_new_static("0123456789abcdef", 16);
    ForeSwtpmConfig cases[7];

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        cases[i] = b->config;
    }
    cases[0].state_dir = "relative/state"; /* swtpm would go into failure mode */
    cases[1].state_dir = NULL;
    cases[2].vm_uuid = "not-a-uuid";
    cases[3].key = NULL; /* 91: no state in clear */
    cases[4].key = short_key;
    cases[5].ca_dir = "ca";
    cases[6].state_dir = "/tmp/a,mode=0777";
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(fore_swtpm_manufacture(&cases[i], &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
        g_clear_error(&error);
        g_assert_null(fore_swtpm_start(&cases[i], FORE_SWTPM_FOR_QEMU, b->socket, true, &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    }
    {
        g_autoptr(GError) error = NULL;
        g_autofree char *longest = g_strnfill(120, 'x');
        g_autofree char *path = g_strconcat("/tmp/", longest, NULL);

        g_assert_null(fore_swtpm_start(&b->config, FORE_SWTPM_FOR_TSS, path, true, &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    }
}

/* 90 */
static void test_wrong_key(Box *b, gconstpointer unused)
{
    g_autoptr(GBytes) other = g_bytes_new_static("another key of thirty-two bytes.", 32);

    manufacture(b);
    b->config.key = other;
    assert_start_fails(b, FORE_ERROR_UNTRUSTED);
    b->config.key = NULL;
    b->config.clear_state = true;
    assert_start_fails(b, FORE_ERROR_UNTRUSTED);
    b->config.key = b->key;
    fore_swtpm_free(start(b, FORE_SWTPM_FOR_TSS));
}

/* 90 */
static void test_damaged_state(Box *b, gconstpointer unused)
{
    g_autofree char *path = g_build_filename(b->state, "tpm2-00.permall", NULL), *text = NULL;
    gsize n = 0;

    manufacture(b);
    g_assert_true(g_file_get_contents(path, &text, &n, NULL));
    for (unsigned i = 1; i < 6; i++) {
        gsize at = n * i / 6;

        text[at] ^= 0x20;
        g_assert_true(g_file_set_contents(path, text, (gssize)n, NULL));
        assert_start_fails(b, FORE_ERROR_UNTRUSTED);
        text[at] ^= 0x20;
    }
    g_assert_true(g_file_set_contents(path, text, (gssize)n, NULL));
    fore_swtpm_free(start(b, FORE_SWTPM_FOR_TSS));
}

/* 91: neither the key nor the EK's certificate can be found on disk or in the arguments */
static void test_secret_at_rest(Box *b, gconstpointer unused)
{
    g_autofree char *state = g_build_filename(b->state, "tpm2-00.permall", NULL);
    g_autofree char *text = NULL, *cmdline = NULL, *proc = NULL;
    g_autofree char *hex = fore_hex_encode(g_bytes_get_data(b->key, NULL), FORE_SWTPM_KEY_BYTES);
    g_autoptr(ForeSwtpm) s = NULL;
    gsize n = 0;
    struct stat st;

    manufacture(b);
    g_assert_true(g_file_get_contents(state, &text, &n, NULL));
    g_assert_null(memmem(text, n, VM, strlen(VM))); /* the certificate's subject */
    s = start(b, FORE_SWTPM_FOR_TSS);
    proc = g_strdup_printf("/proc/%d/cmdline", fore_swtpm_pid(s));
    g_assert_true(g_file_get_contents(proc, &cmdline, &n, NULL));
    g_assert_null(memmem(cmdline, n, hex, 32));
    g_assert_cmpint(stat(b->state, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 077, ==, 0);
    g_assert_cmpint(stat(b->socket, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 077, ==, 0);
}

/* 87: one state, one instance */
static void test_second_instance(Box *b, gconstpointer unused)
{
    g_autoptr(ForeSwtpm) first = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *other = g_build_filename(b->dir, "other", NULL);

    manufacture(b);
    first = start(b, FORE_SWTPM_FOR_TSS);
    g_assert_null(fore_swtpm_start(&b->config, FORE_SWTPM_FOR_TSS, other, true, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED);
    g_assert_true(fore_swtpm_is_alive(first));
}

/* As QEMU begins: the control socket listens, answers, and the TPM ends when its client goes. */
static void test_for_qemu(Box *b, gconstpointer unused)
{
    g_autoptr(ForeSwtpm) s = NULL;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    static const uint8_t get_capability[4] = {0, 0, 0, 1}; /* CMD_GET_CAPABILITY */
    uint8_t answer[12] = {0xff};
    int fd;

    manufacture(b);
    s = start(b, FORE_SWTPM_FOR_QEMU);
    g_assert_null(fore_swtpm_tcti(s));
    g_strlcpy(addr.sun_path, b->socket, sizeof(addr.sun_path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
    g_assert_cmpint(write(fd, get_capability, 4), ==, 4);
    g_assert_cmpint(read(fd, answer, sizeof(answer)), >=, 8);
    g_assert_cmphex(answer[0], ==, 0); /* success */
    close(fd);
}

static void test_missing_program(Box *b, gconstpointer unused)
{
    g_autofree char *path = g_strdup(g_getenv("PATH"));
    g_autoptr(GError) error = NULL;

    g_setenv("PATH", b->dir, TRUE);
    g_assert_false(fore_swtpm_manufacture(&b->config, &error));
    g_setenv("PATH", path, TRUE);
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
    g_assert_nonnull(strstr(error->message, "swtpm-tools"));
    g_assert_false(fore_swtpm_is_manufactured(b->state));
}

static void test_key_file(Box *b, gconstpointer unused)
{
    g_autofree char *path = g_build_filename(b->dir, "key", NULL);
    g_autoptr(GBytes) made = NULL, again = NULL;
    g_autoptr(GError) error = NULL;
    struct stat st;

    made = fore_swtpm_key_load_or_create(path, &error);
    g_assert_no_error(error);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
    again = fore_swtpm_key_load_or_create(path, &error);
    g_assert_no_error(error);
    g_assert_true(g_bytes_equal(made, again));
    g_assert_cmpint(chmod(path, 0640), ==, 0);
    g_assert_null(fore_swtpm_key_load_or_create(path, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED);
    g_clear_error(&error);
    g_assert_cmpint(chmod(path, 0600), ==, 0);
    g_assert_cmpint(truncate(path, 31), ==, 0);
    g_assert_null(fore_swtpm_key_load_or_create(path, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    g_clear_error(&error);
    g_unlink(path);
    g_assert_cmpint(symlink("/dev/zero", path), ==, 0);
    g_assert_null(fore_swtpm_key_load_or_create(path, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
}

static void skip_all(void)
{
    g_autofree char *why = g_strdup_printf("%s is not installed", fore_test_swtpm_missing());

    g_test_skip(why);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (fore_test_swtpm_missing() != NULL) {
        g_test_add_func("/host/swtpm/needs-swtpm", skip_all);
        return g_test_run();
    }
#define ADD(path, fn)    g_test_add("/host/swtpm/" path, Box, NULL, box_init, fn, box_done)
#define ATTACK(path, fn) g_test_add("/attest/attack/" path, Box, NULL, box_init, fn, box_done)
    ADD("made-once-and-kept", test_life);
    ADD("killed-is-seen-and-stopped-is-ended", test_killed_and_stopped);
    ATTACK("91-unsafe-configuration-is-refused", test_config);
    ATTACK("90-state-under-another-key", test_wrong_key);
    ATTACK("90-damaged-state-starts-nothing", test_damaged_state);
    ATTACK("91-nothing-is-readable-at-rest", test_secret_at_rest);
    ATTACK("87-one-state-one-instance", test_second_instance);
    ADD("serves-qemu", test_for_qemu);
    ADD("missing-program-is-named", test_missing_program);
    ATTACK("91-key-file-is-private", test_key_file);
    return g_test_run();
}
