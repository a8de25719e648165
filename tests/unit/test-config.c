/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foreseed's configuration, and that all who list its keys and the policy's list the same. */
#include <glib/gstdio.h>
#include <string.h>

#include "common/fore-error.h"
#include "qmp-agent/fore-config.h"

#define PIN "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

static const char *const keys[] = {
    "control", "state-dir",  "tcti",          "store-key-file", "pam-address",
    "pam-pin", "overcommit", "reserve-vcpus", "reserve-memory", "attest-timeout-ms"};

/* @text as a file's content; NULL path: all defaults */
static ForeConfig *load(const char *text, GError **error)
{
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("foreseed-conf-XXXXXX", &path, NULL);
    ForeConfig *config;

    g_assert_cmpint(fd, >=, 0);
    g_close(fd, NULL);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    config = fore_config_load(path, error);
    if (config == NULL && error != NULL) {
        g_assert_nonnull(strstr((*error)->message, path)); /* which file */
    }
    g_unlink(path);
    return config;
}

static void assert_refused(const char *text, const char *says)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(ForeConfig) config = load(text, &err);

    g_assert_null(config);
    g_test_message("%s", err->message);
    g_assert_error(err, FORE_ERROR, FORE_ERROR_INVALID);
    g_assert_nonnull(strstr(err->message, says));
}

static void test_defaults(void)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(ForeConfig) none = fore_config_load(NULL, &err);
    g_autoptr(ForeConfig) empty = load("[foreseed]\n", &err);
    const ForeConfig *both[] = {none, empty};

    g_assert_no_error(err);
    for (unsigned i = 0; i < G_N_ELEMENTS(both); i++) {
        g_assert_cmpstr(both[i]->control, ==, "unix:/run/foresee/foreseed.sock");
        g_assert_cmpstr(both[i]->state_dir, ==, "/var/lib/foresee");
        g_assert_cmpstr(both[i]->tcti, ==, "device:/dev/tpmrm0");
        g_assert_cmpstr(both[i]->pam_address, ==, ""); /* nothing is ever granted */
        g_assert_cmpfloat(both[i]->overcommit, ==, 2);
        g_assert_cmpuint(both[i]->reserve_mem_bytes, ==, 1u << 30);
        g_assert_cmpuint(both[i]->attest_timeout_ms, ==, 8000);
    }
}

static void test_all_keys(void)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(ForeConfig) c = load("# comment\n[foreseed]\ncontrol=unix:/c\nstate-dir=/s\ntcti=t\n"
                                   "store-key-file=/k\npam-address=unix:/p\npam-pin=" PIN
                                   "\novercommit=1.5\nreserve-vcpus=0.5\nreserve-memory=7\n"
                                   "attest-timeout-ms=100\n",
                                   &err);

    g_assert_no_error(err);
    g_assert_cmpstr(c->control, ==, "unix:/c");
    g_assert_cmpstr(c->state_dir, ==, "/s");
    g_assert_cmpstr(c->tcti, ==, "t");
    g_assert_cmpstr(c->store_key_file, ==, "/k");
    g_assert_cmpstr(c->pam_address, ==, "unix:/p");
    g_assert_cmpstr(c->pam_pin, ==, PIN);
    g_assert_cmpfloat(c->overcommit, ==, 1.5);
    g_assert_cmpfloat(c->reserve_vcpus, ==, 0.5);
    g_assert_cmpuint(c->reserve_mem_bytes, ==, 7);
    g_assert_cmpuint(c->attest_timeout_ms, ==, 100);
}

static void test_refused(void)
{
    assert_refused("[foreseed\n", "");
    assert_refused("control=x\n", "");
    assert_refused("[foreseed]\nControl=x\n", "unknown key 'Control'; known: control");
    assert_refused("[foreseed]\n[vm]\n", "unknown section [vm]");
    assert_refused("[foreseed]\novercommit=0\n", "overcommit = '0': must be a number 0.1..64");
    assert_refused("[foreseed]\novercommit=2x\n", "overcommit");
    assert_refused("[foreseed]\novercommit=nan\n", "overcommit");
    assert_refused("[foreseed]\nreserve-vcpus=-1\n", "reserve-vcpus");
    assert_refused("[foreseed]\nreserve-memory=1e30\n", "reserve-memory");
    assert_refused("[foreseed]\nattest-timeout-ms=99\n", "attest-timeout-ms");
    assert_refused("[foreseed]\npam-address=unix:/p\n", "foresee-pam --print-pin");
    assert_refused("[foreseed]\npam-address=unix:/p\npam-pin=" PIN "0\n", "pam-pin");
    assert_refused("[foreseed]\npam-address=unix:/p\npam-pin=zz70bf18a086007016e948b04aed3b82103a36"
                   "bea41755b6cddfaf10ace3c6ef\n",
                   "pam-pin");
    assert_refused("[foreseed]\ntcti=\n", "never kept unencrypted");
}

static void test_missing_file(void)
{
    g_autoptr(GError) err = NULL;

    g_assert_null(fore_config_load("/nonexistent/foreseed.conf", &err));
    g_assert_error(err, FORE_ERROR, FORE_ERROR_NOT_FOUND);
    g_assert_nonnull(strstr(err->message, "/nonexistent/foreseed.conf"));
}

static char *source_text(const char *name)
{
    g_autofree char *path = g_build_filename(FORE_TEST_SOURCE, name, NULL);
    g_autoptr(GError) err = NULL;
    char *text = NULL;

    g_file_get_contents(path, &text, NULL, &err);
    g_assert_no_error(err);
    return text;
}

/* roff writes '-' as '\-' */
static char *manual_text(void)
{
    g_autofree char *text = source_text("docs/man/foreseed.8");
    g_auto(GStrv) parts = g_strsplit(text, "\\-", -1);

    return g_strjoinv("-", parts);
}

static void assert_lists(const char *where, const char *text, const char *key)
{
    g_autofree char *assignment = g_strconcat(key, "=", NULL);

    if (strstr(text, assignment) == NULL) {
        g_error("%s does not list '%s'", where, key);
    }
}

static void test_documented(void)
{
    g_autofree char *manual = manual_text();
    g_autofree char *example = source_text("data/examples/foreseed.conf");
    g_autofree char *completion = source_text("data/bash-completion/foresee");

    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_autofree char *line = g_strdup_printf("[foreseed]\n%s=\x01\n", keys[i]);
        g_autoptr(GError) err = NULL;
        g_autoptr(ForeConfig) c = load(line, &err);
        g_assert_true(c != NULL || strstr(err->message, "unknown key") == NULL);
        assert_lists("foreseed.8", manual, keys[i]);
        assert_lists("the example", example, keys[i]);
    }
    for (const char *const *key = fore_policy_keys(); *key != NULL; key++) {
        assert_lists("foreseed.8", manual, *key);
        assert_lists("the completion", completion, *key);
    }
}

/* The example says what the defaults are. */
static void test_example(void)
{
    g_autofree char *text = source_text("data/examples/foreseed.conf");
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autoptr(GString) active = g_string_new(NULL);
    g_autoptr(GError) err = NULL;
    g_autoptr(ForeConfig) as_it_is = NULL, example = NULL, preset = fore_config_load(NULL, NULL);

    for (char **line = lines; *line != NULL; line++) {
        bool setting =
            (*line)[0] == '#' && g_ascii_isalpha((*line)[1]) && !g_str_has_prefix(*line, "#pam-");
        g_string_append_printf(active, "%s\n", setting ? *line + 1 : *line);
    }
    as_it_is = load(text, &err);
    g_assert_no_error(err);
    example = load(active->str, &err);
    g_assert_no_error(err);
    g_assert_cmpstr(example->control, ==, preset->control);
    g_assert_cmpstr(example->state_dir, ==, preset->state_dir);
    g_assert_cmpstr(example->tcti, ==, preset->tcti);
    g_assert_cmpfloat(example->overcommit, ==, preset->overcommit);
    g_assert_cmpfloat(example->reserve_vcpus, ==, preset->reserve_vcpus);
    g_assert_cmpuint(example->reserve_mem_bytes, ==, preset->reserve_mem_bytes);
    g_assert_cmpuint(example->attest_timeout_ms, ==, preset->attest_timeout_ms);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent/config/no-file-is-all-defaults", test_defaults);
    g_test_add_func("/agent/config/every-key-is-read", test_all_keys);
    g_test_add_func("/agent/config/wrong-keys-and-values-are-named", test_refused);
    g_test_add_func("/agent/config/missing-file-is-named", test_missing_file);
    g_test_add_func("/agent/config/manual-example-completion-list-every-key", test_documented);
    g_test_add_func("/agent/config/example-shows-the-defaults", test_example);
    return g_test_run();
}
