/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the store's key is kept, and which of two opens it when a change was interrupted. */
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fore-error.h"
#include "qmp-agent/fore-store-key.h"
#include "tests/lib/fore-test-token.h"

typedef struct {
    char *dir, *db, *key;
    ForeConfig *config;
} Place;

static void place_setup(Place *p, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL, *conf = NULL;

    p->dir = g_dir_make_tmp("fore-key-XXXXXX", NULL);
    p->db = g_build_filename(p->dir, "store.db", NULL);
    p->key = g_build_filename(p->dir, "key", NULL);
    conf = g_build_filename(p->dir, "conf", NULL);
    text = g_strdup_printf("[foreseed]\nstate-dir=%s\ntcti=\nstore-key-file=%s\n", p->dir, p->key);
    g_assert_true(g_file_set_contents(conf, text, -1, NULL));
    g_assert_true(g_file_set_contents(p->key,
                                      "00112233445566778899aabbccddeeff"
                                      "00112233445566778899aabbccddeeff\n",
                                      -1, NULL));
    p->config = fore_config_load(conf, &error);
    g_assert_no_error(error);
}

static void place_teardown(Place *p, gconstpointer data)
{
    const char *argv[] = {"rm", "-rf", p->dir, NULL};
    g_autoptr(GSubprocess) rm = g_subprocess_newv(argv, 0, NULL);

    g_assert_true(g_subprocess_wait_check(rm, NULL, NULL));
    fore_config_free(p->config);
    g_free(p->dir);
    g_free(p->db);
    g_free(p->key);
}

static ForeStore *must_open(Place *p)
{
    g_autoptr(GError) error = NULL;
    ForeStore *store = fore_store_key_open(p->config, p->db, &error);

    g_assert_no_error(error);
    return store;
}

static void change(ForeStore *store, const uint8_t *key)
{
    bool done = false;

    g_assert_true(fore_store_rekey_begin(store, key, NULL));
    while (!done) {
        g_assert_true(fore_store_rekey_step(store, 100, &done, NULL));
    }
}

/* A change ends at any of its points: the next start finds the key that opens the store. */
static void test_interrupted(Place *p, gconstpointer data)
{
    g_autofree char *next = g_strconcat(p->key, ".next", NULL);

    for (int stage = 0; stage < 4; stage++) {
        g_autoptr(ForeStore) store = must_open(p);
        g_autofree char *name = g_strdup_printf("stage%d", stage);
        uint8_t key[FORE_STORE_KEY_BYTES];
        struct stat st;

        g_assert_true(fore_store_put(store, "vm", name, "{}", NULL));
        g_assert_true(fore_store_key_prepare(p->config, key, NULL)); /* 0: and no more */
        g_assert_cmpint(stat(next, &st), ==, 0);
        g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
        if (stage == 1) {
            bool done = false;

            g_assert_true(fore_store_rekey_begin(store, key, NULL));
            g_assert_true(fore_store_rekey_step(store, 1, &done, NULL));
        } else if (stage >= 2) {
            change(store, key);
        }
        if (stage == 3) {
            g_assert_true(fore_store_key_settle(p->config, true, NULL));
        }
        g_clear_pointer(&store, fore_store_close);
        store = must_open(p);
        g_assert_false(g_file_test(next, G_FILE_TEST_EXISTS));
        g_clear_pointer(&store, fore_store_close);
        store = must_open(p); /* and it stays so */
    }
}

static void test_file_refused(Place *p, gconstpointer data)
{
    static const char *const texts[] = {"", "12", "zz112233445566778899aabbccddeeff", NULL};
    g_autoptr(ForeStore) store = must_open(p);

    g_clear_pointer(&store, fore_store_close);
    for (size_t i = 0; texts[i] != NULL; i++) {
        g_autoptr(GError) error = NULL;

        g_assert_true(g_file_set_contents(p->key, texts[i], -1, NULL));
        g_assert_null(fore_store_key_open(p->config, p->db, &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    }
}

/* --- a token --- */

static void run(const char *const *argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GSubprocess) process =
        g_subprocess_newv(argv, G_SUBPROCESS_FLAGS_STDOUT_SILENCE, &error);

    g_assert_no_error(error);
    g_assert_true(g_subprocess_wait_check(process, NULL, &error));
    g_assert_no_error(error);
}

static void add_rsa(const Place *p)
{
    g_autofree char *pem = g_build_filename(p->dir, "rsa.pem", NULL);
    const char *argv[] = {"softhsm2-util", "--import", pem,  "--token", "foresee", "--label",
                          "wrap",          "--id",     "77", "--pin",   "1234",    NULL};
    EVP_PKEY *key = EVP_RSA_gen(2048);
    FILE *file = fopen(pem, "w");

    g_assert_cmpint(PEM_write_PKCS8PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), ==, 1);
    fclose(file);
    EVP_PKEY_free(key);
    run(argv);
}

/* The program lies at the top of the build, this test two folders below. */
static void find_unwrap(void)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *dir = g_path_get_dirname(self);
    g_autofree char *top = g_strdup_printf("%s/../..", dir);
    g_autofree char *path = g_strdup_printf("%s:%s", top, g_getenv("PATH"));

    g_setenv("PATH", path, TRUE);
}

static void use_token(Place *p, const char *uri)
{
    g_free(p->config->store_key_file);
    p->config->store_key_file = g_strdup("");
    g_free(p->config->store_key_pkcs11);
    p->config->store_key_pkcs11 = g_strdup(uri);
    g_free(p->config->store_key_module);
    p->config->store_key_module = g_strdup(fore_test_token_module());
}

static void test_token(Place *p, gconstpointer data)
{
    const char *missing = fore_test_token_missing();
    g_autoptr(ForeTestToken) token = NULL;
    g_autoptr(ForeStore) store = NULL;
    g_autoptr(GError) gone = NULL, pin = NULL, ec = NULL;
    g_autofree char *ec_uri = NULL, *pin_file = NULL, *uri = NULL, *bad = NULL, *wrapped = NULL;
    uint8_t key[FORE_STORE_KEY_BYTES];

    if (missing != NULL) {
        g_autofree char *why = g_strdup_printf("needs: %s", missing);
        g_test_skip(why);
        return;
    }
    find_unwrap();
    token = fore_test_token_new();
    ec_uri = fore_test_token_uri(token, "ec");
    bad = fore_test_token_bad_uri(token, "ec");
    add_rsa(p);
    pin_file = g_strdup(strstr(ec_uri, "?"));
    uri = g_strconcat("pkcs11:token=foresee;object=wrap", pin_file, NULL);
    wrapped = g_build_filename(p->dir, "store.key.pkcs11", NULL);

    use_token(p, ec_uri); /* no RSA key: refused, and no key is made */
    g_assert_null(fore_store_key_open(p->config, p->db, &ec));
    g_assert_nonnull(strstr(ec->message, "RSA"));
    use_token(p, uri);
    store = must_open(p);
    g_assert_true(fore_store_put(store, "vm", "a", "{}", NULL));
    g_assert_true(fore_store_key_prepare(p->config, key, NULL));
    change(store, key);
    g_clear_pointer(&store, fore_store_close); /* not settled: found out by the next start */
    store = must_open(p);
    g_clear_pointer(&store, fore_store_close);

    /* The token is gone, then its PIN wrong: no store, and nothing is begun anew in plain. */
    fore_test_token_remove(token);
    g_assert_null(fore_store_key_open(p->config, p->db, &gone));
    g_assert_error(gone, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
    fore_test_token_insert(token);
    g_free(pin_file);
    pin_file = g_strconcat("pkcs11:token=foresee;object=wrap", strstr(bad, "?"), NULL);
    use_token(p, pin_file);
    g_assert_null(fore_store_key_open(p->config, p->db, &pin));
    g_assert_error(pin, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
    use_token(p, uri);
    store = must_open(p);
    g_clear_pointer(&store, fore_store_close);
    {
        g_autoptr(GError) lost = NULL; /* a store whose key is lost is not begun anew */

        g_assert_cmpint(g_unlink(wrapped), ==, 0);
        g_assert_null(fore_store_key_open(p->config, p->db, &lost));
        g_assert_error(lost, FORE_ERROR, FORE_ERROR_UNTRUSTED);
        g_assert_false(g_file_test(wrapped, G_FILE_TEST_EXISTS));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/agent/store-key/an-interrupted-change-is-sorted-out", Place, NULL, place_setup,
               test_interrupted, place_teardown);
    g_test_add("/agent/store-key/a-bad-key-file-is-refused", Place, NULL, place_setup,
               test_file_refused, place_teardown);
    g_test_add("/agent/store-key/a-token-wraps-it-and-fails-closed", Place, NULL, place_setup,
               test_token, place_teardown);
    return g_test_run();
}
