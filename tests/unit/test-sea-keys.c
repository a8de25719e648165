/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whose grants the guest takes: the next key is known by a grant of the present one alone. */
#include <glib/gstdio.h>
#include <openssl/ec.h>
#include <openssl/x509.h>
#include <string.h>

#include "guest-agent/fore-sea-keys.h"

#define UUID "6f2b1a54-0c3d-4e5f-8a9b-0c1d2e3f4a5b"
#define AK                                                                                         \
    "000b"                                                                                         \
    "1111111111111111111111111111111111111111111111111111111111111111"
#define NOW_S 1700000000

typedef struct {
    char *dir;
    EVP_PKEY *first, *second, *third;
    ForeSeaKeys *keys;
    uint64_t seq;
} Rig;

static Rig *rig_new(void)
{
    Rig *rig = g_new0(Rig, 1);

    rig->dir = g_dir_make_tmp("fore-sea-keys-XXXXXX", NULL);
    rig->first = EVP_EC_gen("P-256");
    rig->second = EVP_EC_gen("P-256");
    rig->third = EVP_EC_gen("P-256");
    rig->keys = fore_sea_keys_new(rig->first, rig->dir);
    return rig;
}

static void rig_free(Rig *rig)
{
    g_autofree char *path = g_build_filename(rig->dir, "pam-keys.json", NULL);

    fore_sea_keys_free(rig->keys);
    EVP_PKEY_free(rig->first);
    EVP_PKEY_free(rig->second);
    EVP_PKEY_free(rig->third);
    g_unlink(path);
    g_assert_cmpint(g_rmdir(rig->dir), ==, 0);
    g_free(rig->dir);
    g_free(rig);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Rig, rig_free)

/* A grant of @signer, that names @next as the key to come, offered as the agent does. */
static ForeGrantReason offer(Rig *rig, EVP_PKEY *signer, EVP_PKEY *next)
{
    ForeGrantExpect expect = {.vm_uuid = UUID, .ak_name = AK, .now_s = NOW_S, .last_seq = rig->seq};
    ForeGrant grant = {.vm_uuid = UUID,
                       .ak_name = AK,
                       .id = "7b6f0c1e-2d3a-4b5c-8d7e-9f0a1b2c3d4e",
                       .vcpus = 2,
                       .mem_bytes = 1 << 30,
                       .seq = rig->seq + 1,
                       .issued_s = NOW_S,
                       .expires_s = NOW_S + 60};
    g_autoptr(GError) error = NULL;
    g_autofree char *jws = NULL;
    EVP_PKEY *by = NULL;
    uint8_t *der = grant.next;
    ForeGrantReason reason;
    ForeGrant got;

    memset(grant.evidence, 'a', 64);
    if (next != NULL) {
        grant.next_size = (size_t)i2d_PUBKEY(next, &der);
    }
    jws = fore_grant_sign(&grant, signer, &error);
    g_assert_no_error(error);
    reason = fore_sea_keys_verify(rig->keys, jws, &expect, &got, &by);
    if (reason == FORE_GRANT_OK) {
        rig->seq = got.seq;
        fore_sea_keys_accepted(rig->keys, &got, by);
    }
    return reason;
}

static void restart(Rig *rig, EVP_PKEY *pinned)
{
    fore_sea_keys_free(rig->keys);
    rig->keys = fore_sea_keys_new(pinned, rig->dir);
}

static void test_unknown_next(void)
{
    g_autoptr(Rig) rig = rig_new();
    g_autofree char *id = g_strdup(fore_sea_keys_id(rig->keys));

    g_assert_cmpint(offer(rig, rig->second, NULL), ==, FORE_GRANT_SIGNATURE);
    g_assert_cmpint(offer(rig, rig->second, rig->second), ==, FORE_GRANT_SIGNATURE); /* by itself */
    g_assert_cmpint(offer(rig, rig->third, rig->second), ==, FORE_GRANT_SIGNATURE);
    g_assert_cmpint(offer(rig, rig->second, NULL), ==, FORE_GRANT_SIGNATURE);
    g_assert_cmpstr(fore_sea_keys_id(rig->keys), ==, id);
    g_assert_cmpint(offer(rig, rig->first, NULL), ==, FORE_GRANT_OK);
}

static void test_overlap(void)
{
    g_autoptr(Rig) rig = rig_new();
    g_autofree char *id = g_strdup(fore_sea_keys_id(rig->keys));

    g_assert_cmpint(offer(rig, rig->first, rig->second), ==, FORE_GRANT_OK);
    g_assert_cmpstr(fore_sea_keys_id(rig->keys), !=, id);
    g_assert_cmpint(offer(rig, rig->first, rig->second), ==, FORE_GRANT_OK); /* both, for now */
    restart(rig, rig->first);
    g_assert_cmpint(offer(rig, rig->second, NULL), ==, FORE_GRANT_OK);
    g_assert_cmpint(offer(rig, rig->first, NULL), ==, FORE_GRANT_SIGNATURE); /* retired */
    restart(rig, rig->first);                                                /* and stays so */
    g_assert_cmpint(offer(rig, rig->first, rig->third), ==, FORE_GRANT_SIGNATURE);
    g_assert_cmpint(offer(rig, rig->second, NULL), ==, FORE_GRANT_OK);
}

static void test_new_pin(void)
{
    g_autoptr(Rig) rig = rig_new();

    g_assert_cmpint(offer(rig, rig->first, rig->second), ==, FORE_GRANT_OK);
    restart(rig, rig->third);
    g_assert_cmpint(offer(rig, rig->second, NULL), ==, FORE_GRANT_SIGNATURE);
    g_assert_cmpint(offer(rig, rig->first, NULL), ==, FORE_GRANT_SIGNATURE);
    g_assert_cmpint(offer(rig, rig->third, NULL), ==, FORE_GRANT_OK);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/guest-agent/sea-keys/only-the-present-key-names-the-next", test_unknown_next);
    g_test_add_func("/guest-agent/sea-keys/the-next-keys-first-grant-retires-the-old",
                    test_overlap);
    g_test_add_func("/guest-agent/sea-keys/another-pin-forgets-what-was-learnt", test_new_pin);
    return g_test_run();
}
