/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/fore-signed.h"

#include <string.h>

#include "common/fore-error.h"
#include "common/fore-identity.h"

static ForeIdentity *ours, *theirs;

static GByteArray *some_file(EVP_PKEY *key)
{
    g_autoptr(GError) error = NULL;
    GBytes *file = fore_signed_wrap(key, "weights", "contents", 8, &error);

    g_assert_no_error(error);
    return g_bytes_unref_to_array(file);
}

static void refused(const GByteArray *file, const char *purpose, ForeErrorCode code,
                    const char *because)
{
    g_autoptr(GError) error = NULL;
    GBytes *got = fore_signed_open(fore_identity_key(ours), purpose, file->data, file->len, &error);

    g_assert_null(got);
    g_assert_cmpint(error->code, ==, code);
    g_assert_nonnull(strstr(error->message, because));
}

static void test_opens(void)
{
    g_autoptr(GByteArray) file = some_file(fore_identity_key(ours));
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) got =
        fore_signed_open(fore_identity_key(ours), "weights", file->data, file->len, &error);
    g_autoptr(GBytes) empty = fore_signed_wrap(fore_identity_key(ours), "x", "", 0, &error);
    g_autoptr(GBytes) none =
        fore_signed_open(fore_identity_key(ours), "x", g_bytes_get_data(empty, NULL),
                         g_bytes_get_size(empty), &error);

    g_assert_no_error(error);
    g_assert_cmpmem(g_bytes_get_data(got, NULL), g_bytes_get_size(got), "contents", 8);
    g_assert_cmpuint(g_bytes_get_size(none), ==, 0);
}

static void test_foreign(void)
{
    g_autoptr(GByteArray) file = some_file(fore_identity_key(theirs));
    g_autoptr(GByteArray) own = some_file(fore_identity_key(ours));
    g_autoptr(GByteArray) none = g_byte_array_new();

    refused(file, "weights", FORE_ERROR_UNTRUSTED, "another host");
    refused(own, "checkpoint", FORE_ERROR_UNTRUSTED, "something else");
    g_byte_array_append(none, (const guint8 *)"FOREWGTS plain", 14);
    refused(none, "weights", FORE_ERROR_UNTRUSTED, "not signed");
    g_byte_array_set_size(none, 0);
    refused(none, "weights", FORE_ERROR_UNTRUSTED, "not signed");
    /* our pin before their signature */
    memcpy(file->data + 8 + 4 + 1 + 7, own->data + 8 + 4 + 1 + 7, 32);
    refused(file, "weights", FORE_ERROR_UNTRUSTED, "does not fit");
}

/* Every bit that is flipped and every place where the file is cut. */
static void test_damage(void)
{
    g_autoptr(GByteArray) file = some_file(fore_identity_key(ours));
    guint whole = file->len;

    for (guint i = 0; i < whole; i++) {
        g_autoptr(GBytes) got = NULL;

        file->data[i] ^= 0x04;
        got = fore_signed_open(fore_identity_key(ours), "weights", file->data, whole, NULL);
        g_assert_null(got);
        file->data[i] ^= 0x04;
        got = fore_signed_open(fore_identity_key(ours), "weights", file->data, i, NULL);
        g_assert_null(got);
    }
    g_byte_array_append(file, (const guint8 *)"x", 1);
    refused(file, "weights", FORE_ERROR_INVALID, "too long");
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    ours = fore_identity_new("ours", NULL);
    theirs = fore_identity_new("theirs", NULL);
    g_test_add_func("/common/signed/opens-what-it-signed", test_opens);
    g_test_add_func("/common/signed/refuses-another-host-and-purpose", test_foreign);
    g_test_add_func("/common/signed/refuses-any-change", test_damage);
    rc = g_test_run();
    fore_identity_free(ours);
    fore_identity_free(theirs);
    return rc;
}
