/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the PAM's signing key may live, and what happens when that place goes away. */
#include <glib/gstdio.h>
#include <string.h>

#include "common/fore-error.h"
#include "tests/lib/fore-test-swtpm.h"
#include "tests/lib/fore-test-token.h"
#include "vtpm/attest/fore-jws.h"
#include "vtpm/host/fore-key.h"

static char *dir;

static ForeKey *open_key(const ForeKeyConfig *config)
{
    g_autoptr(GError) error = NULL;
    ForeKey *key = fore_key_open(config, &error);

    g_assert_no_error(error);
    g_assert_nonnull(key);
    return key;
}

static void check_signs(ForeKey *key)
{
    g_autoptr(json_t) payload = json_pack("{s:i}", "n", 7);
    g_autoptr(json_t) back = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *jws = fore_jws_sign_with("test+jwt", payload, fore_key_sign, key, &error);

    g_assert_no_error(error);
    g_assert_cmpint(fore_jws_verify(jws, 4096, "test+jwt", fore_key_public(key), &back), ==,
                    FORE_JWS_OK);
}

static void check_refuses(ForeKey *key)
{
    g_autoptr(GError) error = NULL;
    uint8_t raw[64];

    g_assert_false(fore_key_sign("x", 1, raw, key, &error));
    g_test_message("%s", error->message);
    g_assert_nonnull(error);
}

static void test_file(void)
{
    ForeKeyConfig config = {.where = "file", .state_dir = dir};
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeKey) none = fore_key_open(&config, &error);
    g_autoptr(ForeKey) key = NULL, again = NULL, other = NULL;

    g_assert_null(none);
    g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    config.allow_file = true;
    key = open_key(&config);
    again = open_key(&config);
    config.where = "file:2027";
    other = open_key(&config);
    check_signs(key);
    g_assert_cmpint(fore_key_kind_of(key), ==, FORE_KEY_FILE);
    g_assert_cmpstr(fore_key_id(key), ==, fore_key_id(again));
    g_assert_cmpstr(fore_key_id(key), !=, fore_key_id(other));
}

static void test_bad_where(void)
{
    static const char *const bad[] = {"", "pkcs11", "hsm:x", "tpm:../x", "file:a/b", "tpmx"};

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        ForeKeyConfig config = {
            .where = bad[i], .state_dir = dir, .allow_file = true, .tcti = "swtpm:path=/x"};
        g_autoptr(GError) error = NULL;

        g_assert_null(fore_key_open(&config, &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    }
}

static void test_tpm(void)
{
    g_autoptr(ForeTestSwtpm) tpm = NULL;
    g_autoptr(ForeTestSwtpm) other = NULL;
    ForeKeyConfig config = {.where = "tpm", .state_dir = dir};
    g_autoptr(ForeKey) key = NULL, again = NULL, moved = NULL;

    if (fore_test_swtpm_missing() != NULL) {
        g_test_skip(fore_test_swtpm_missing());
        return;
    }
    tpm = fore_test_swtpm_new();
    config.tcti = fore_test_swtpm_tcti(tpm);
    key = open_key(&config);
    again = open_key(&config);
    g_assert_cmpstr(fore_key_id(key), ==, fore_key_id(again));
    check_signs(key);
    /* another machine's TPM does not sign with it */
    other = fore_test_swtpm_new();
    config.tcti = fore_test_swtpm_tcti(other);
    moved = open_key(&config);
    check_refuses(moved);
    fore_test_swtpm_stop(tpm);
    check_refuses(key);
    fore_test_swtpm_restart(tpm);
    check_signs(key);
}

static void test_token(void)
{
    g_autoptr(ForeTestToken) token = NULL;
    g_autofree char *uri = NULL, *bad = NULL, *absent = NULL;
    ForeKeyConfig config = {.state_dir = dir};
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeKey) key = NULL;

    if (fore_test_token_missing() != NULL) {
        g_test_skip(fore_test_token_missing());
        return;
    }
    token = fore_test_token_new();
    config.pkcs11_module = fore_test_token_module();
    uri = fore_test_token_uri(token, "grant");
    bad = fore_test_token_bad_uri(token, "grant");
    config.where = bad;
    g_assert_null(fore_key_open(&config, &error));
    g_test_message("%s", error->message);
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
    g_clear_error(&error);
    absent = g_strdup_printf("pkcs11:token=foresee;object=none%s", strchr(uri, '?'));
    config.where = absent;
    g_assert_null(fore_key_open(&config, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
    config.where = uri;
    key = open_key(&config);
    g_assert_cmpint(fore_key_kind_of(key), ==, FORE_KEY_PKCS11);
    check_signs(key);
    check_signs(key);
    fore_test_token_remove(token);
    check_refuses(key);
    fore_test_token_insert(token);
    check_signs(key);
}

int main(int argc, char **argv)
{
    int code;

    g_test_init(&argc, &argv, NULL);
    g_setenv("TSS2_LOG", "all+none", FALSE);
    dir = g_dir_make_tmp("foresee-key-XXXXXX", NULL);
    g_test_add_func("/vtpm/key/file-needs-permission", test_file);
    g_test_add_func("/vtpm/key/unknown-place-is-refused", test_bad_where);
    g_test_add_func("/vtpm/key/tpm-key-signs-in-its-tpm-only", test_tpm);
    g_test_add_func("/attest/attack/106-removed-token-does-not-sign", test_token);
    code = g_test_run();
    fore_test_remove_tree(dir);
    g_free(dir);
    return code;
}
