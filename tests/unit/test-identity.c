/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib/gstdio.h>
#include <openssl/pem.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "common/fore-identity.h"

typedef struct {
    char *dir, *path;
} Place;

static void set_up(Place *p, gconstpointer data)
{
    g_autoptr(GError) err = NULL;

    p->dir = g_dir_make_tmp("foresee-identity-XXXXXX", &err);
    g_assert_no_error(err);
    p->path = g_build_filename(p->dir, "key.pem", NULL);
}

static void tear_down(Place *p, gconstpointer data)
{
    g_chmod(p->dir, 0700);
    g_unlink(p->path);
    g_assert_cmpint(g_rmdir(p->dir), ==, 0); /* nothing else was left behind */
    g_free(p->path);
    g_free(p->dir);
}

static ForeIdentity *load(const char *path)
{
    g_autoptr(GError) err = NULL;
    ForeIdentity *id = fore_identity_load_or_create(path, "test", &err);

    g_assert_no_error(err);
    return id;
}

static void assert_refused(const char *path, ForeErrorCode code)
{
    g_autoptr(GError) err = NULL;

    g_assert_null(fore_identity_load_or_create(path, "test", &err));
    g_assert_error(err, FORE_ERROR, (int)code);
    g_assert_nonnull(strstr(err->message, path));
}

static void test_made_once(Place *p, gconstpointer data)
{
    g_autoptr(ForeIdentity) first = load(p->path);
    g_autoptr(ForeIdentity) second = load(p->path);
    struct stat st;

    g_assert_cmpstr(fore_identity_pin(first), ==, fore_identity_pin(second));
    g_assert_cmpint(stat(p->path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0600);
}

static void test_pin(Place *p, gconstpointer data)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(ForeIdentity) a = fore_identity_new("a", &err);
    g_autoptr(ForeIdentity) b = fore_identity_new("a", &err);
    g_autofree char *again = fore_key_pin(fore_identity_key(a));
    g_autofree char *of_cert = fore_key_pin(X509_get0_pubkey(fore_identity_cert(a)));

    g_assert_cmpuint(strlen(fore_identity_pin(a)), ==, FORE_PIN_HEX);
    g_assert_cmpuint(strspn(fore_identity_pin(a), "0123456789abcdef"), ==, FORE_PIN_HEX);
    g_assert_cmpstr(fore_identity_pin(a), ==, again);
    g_assert_cmpstr(fore_identity_pin(a), ==, of_cert); /* what a peer sees in TLS */
    g_assert_cmpstr(fore_identity_pin(a), !=, fore_identity_pin(b));
    g_assert_cmpint(X509_verify(fore_identity_cert(a), fore_identity_key(a)), ==, 1);
}

/* A file that is there and is not a key is never replaced: it may be the only copy of one. */
static void test_damaged_file_stays(Place *p, gconstpointer data)
{
    static const char *const bad[] = {
        "", "garbage\n", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"};

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *text = NULL;
        g_assert_true(g_file_set_contents(p->path, bad[i], -1, NULL));
        assert_refused(p->path, FORE_ERROR_INVALID);
        g_assert_true(g_file_get_contents(p->path, &text, NULL, NULL));
        g_assert_cmpstr(text, ==, bad[i]);
    }
}

static void test_other_keys(Place *p, gconstpointer data)
{
    EVP_PKEY *keys[] = {EVP_EC_gen("P-384"), EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")};

    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++) {
        FILE *file = fopen(p->path, "w");
        g_assert_nonnull(keys[i]);
        g_assert_cmpint(PEM_write_PrivateKey(file, keys[i], NULL, NULL, 0, NULL, NULL), ==, 1);
        fclose(file);
        assert_refused(p->path, FORE_ERROR_INVALID);
        EVP_PKEY_free(keys[i]);
    }
}

static void test_cannot_write(Place *p, gconstpointer data)
{
    g_autofree char *nowhere = g_build_filename(p->dir, "missing", "key.pem", NULL);

    assert_refused(nowhere, FORE_ERROR_UNAVAILABLE);
}

/* A link in the place of the key could point at another's file. */
static void test_link_is_not_followed(Place *p, gconstpointer data)
{
    g_autofree char *target = g_build_filename(p->dir, "target", NULL);

    g_assert_true(g_file_set_contents(target, "precious", -1, NULL));
    g_assert_cmpint(symlink(target, p->path), ==, 0);
    assert_refused(p->path, FORE_ERROR_UNAVAILABLE);
    g_unlink(target);
}

/* A crash while writing leaves "key.pem.new"; it must not be taken and must not be in the way. */
static void test_leftover(Place *p, gconstpointer data)
{
    g_autofree char *leftover = g_strconcat(p->path, ".new", NULL);
    g_autoptr(ForeIdentity) id = NULL;

    g_assert_true(g_file_set_contents(leftover, "half a key", -1, NULL));
    id = load(p->path);
    g_assert_nonnull(id);
    g_assert_false(g_file_test(leftover, G_FILE_TEST_EXISTS));
}

static void test_public_key(Place *p, gconstpointer data)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(ForeIdentity) id = fore_identity_new("a", &err);
    g_autofree char *pin = NULL;
    EVP_PKEY *key;

    g_assert_true(fore_key_save_public(fore_identity_key(id), p->path, &err));
    key = fore_key_load_public(p->path, &err);
    g_assert_no_error(err);
    pin = fore_key_pin(key);
    EVP_PKEY_free(key);
    g_assert_cmpstr(pin, ==, fore_identity_pin(id));
    assert_refused(p->path, FORE_ERROR_INVALID); /* a public key is no identity */
    g_assert_true(g_file_set_contents(p->path, "no key", -1, NULL));
    g_assert_null(fore_key_load_public(p->path, &err));
    g_assert_error(err, FORE_ERROR, FORE_ERROR_INVALID);
    g_clear_error(&err);
    g_unlink(p->path);
    g_assert_null(fore_key_load_public(p->path, &err));
    g_assert_error(err, FORE_ERROR, FORE_ERROR_NOT_FOUND);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(claim, fn) g_test_add("/common/identity/" claim, Place, NULL, set_up, fn, tear_down)
    ADD("is-made-once", test_made_once);
    ADD("pin-is-of-the-key", test_pin);
    ADD("damaged-file-is-never-replaced", test_damaged_file_stays);
    ADD("other-kinds-of-key-are-refused", test_other_keys);
    ADD("unwritable-place-is-named", test_cannot_write);
    ADD("link-is-not-followed", test_link_is_not_followed);
    ADD("leftover-of-a-crash-is-cleared", test_leftover);
    ADD("public-key-comes-back", test_public_key);
    return g_test_run();
}
