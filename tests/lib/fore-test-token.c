/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/lib/fore-test-token.h"

#include <gio/gio.h>
#include <glib/gstdio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#define PIN "1234"

static const char *const modules[] = {"/usr/lib/softhsm/libsofthsm2.so",
                                      "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"};
static const char *const providers[] = {"/usr/lib/x86_64-linux-gnu/ossl-modules/pkcs11.so",
                                        "/usr/lib/aarch64-linux-gnu/ossl-modules/pkcs11.so"};

struct ForeTestToken {
    char *dir, *tokens, *away;
    GHashTable *labels;
};

static const char *first_of(const char *const *paths, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (g_file_test(paths[i], G_FILE_TEST_EXISTS)) {
            return paths[i];
        }
    }
    return NULL;
}

const char *fore_test_token_module(void)
{
    return first_of(modules, G_N_ELEMENTS(modules));
}

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

const char *fore_test_token_missing(void)
{
    g_autofree char *util = g_find_program_in_path("softhsm2-util");

#if SANITIZED
    return "a build without AddressSanitizer (the pkcs11 provider needs RTLD_DEEPBIND)";
#endif
    if (fore_test_token_module() == NULL || util == NULL) {
        return "softhsm2";
    }
    return first_of(providers, G_N_ELEMENTS(providers)) == NULL ? "pkcs11-provider" : NULL;
}

static void run(const char *const *argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GSubprocess) process =
        g_subprocess_newv(argv, G_SUBPROCESS_FLAGS_STDOUT_SILENCE, &error);

    g_assert_no_error(error);
    g_assert_true(g_subprocess_wait_check(process, NULL, &error));
    g_assert_no_error(error);
}

ForeTestToken *fore_test_token_new(void)
{
    ForeTestToken *token = g_new0(ForeTestToken, 1);
    g_autofree char *conf = NULL, *text = NULL;
    static const char *const init[] = {
        "softhsm2-util", "--init-token", "--free", "--label", "foresee", "--pin", PIN,
        "--so-pin",      "12345678",     NULL};

    token->dir = g_dir_make_tmp("foresee-token-XXXXXX", NULL);
    token->tokens = g_build_filename(token->dir, "tokens", NULL);
    token->away = g_build_filename(token->dir, "away", NULL);
    token->labels = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    conf = g_build_filename(token->dir, "softhsm2.conf", NULL);
    text = g_strdup_printf("directories.tokendir = %s\nobjectstore.backend = file\n"
                           "log.level = ERROR\n",
                           token->tokens);
    g_assert_cmpint(g_mkdir(token->tokens, 0700), ==, 0);
    g_assert_true(g_file_set_contents(conf, text, -1, NULL));
    g_setenv("SOFTHSM2_CONF", conf, TRUE);
    run(init);
    return token;
}

void fore_test_token_free(ForeTestToken *token)
{
    const char *argv[] = {"rm", "-rf", token->dir, NULL};

    run(argv);
    g_hash_table_unref(token->labels);
    g_free(token->dir);
    g_free(token->tokens);
    g_free(token->away);
    g_free(token);
}

/* softhsm2-util takes PKCS#8. */
static void make_key(ForeTestToken *token, const char *label)
{
    g_autofree char *path = g_build_filename(token->dir, "key.pem", NULL);
    g_autofree char *id = g_strdup_printf("%02x", 0x10 + g_hash_table_size(token->labels));
    const char *argv[] = {"softhsm2-util", "--import", path, "--token", "foresee", "--label",
                          label,           "--id",     id,   "--pin",   PIN,       NULL};
    EVP_PKEY *key = EVP_EC_gen("P-256");
    FILE *file = fopen(path, "w");

    g_assert_true(PEM_write_PKCS8PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(file);
    EVP_PKEY_free(key);
    run(argv);
    g_unlink(path);
    g_hash_table_add(token->labels, g_strdup(label));
}

static char *uri(ForeTestToken *token, const char *label, const char *pin)
{
    g_autofree char *file = g_strdup_printf("%s/pin-%s", token->dir, pin);

    if (!g_hash_table_contains(token->labels, label)) {
        make_key(token, label);
    }
    g_assert_true(g_file_set_contents(file, pin, -1, NULL));
    return g_strdup_printf("pkcs11:token=foresee;object=%s?pin-source=file:%s", label, file);
}

char *fore_test_token_uri(ForeTestToken *token, const char *label)
{
    return uri(token, label, PIN);
}

char *fore_test_token_bad_uri(ForeTestToken *token, const char *label)
{
    return uri(token, label, "4321");
}

void fore_test_token_remove(ForeTestToken *token)
{
    g_assert_cmpint(g_rename(token->tokens, token->away), ==, 0);
}

void fore_test_token_insert(ForeTestToken *token)
{
    g_assert_cmpint(g_rename(token->away, token->tokens), ==, 0);
}
