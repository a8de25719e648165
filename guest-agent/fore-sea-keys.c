/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest-agent/fore-sea-keys.h"

#include <openssl/x509.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-json.h"
#include "vtpm/attest/fore-jws.h"

#define STATE_MAX 4096

struct ForeSeaKeys {
    char *path;
    char pinned[FORE_PIN_HEX + 1]; /* id of the configured key */
    EVP_PKEY *present, *next;      /* next: NULL while none is known */
    char id[FORE_PIN_HEX + 1];
};

static GBytes *der_of(EVP_PKEY *key)
{
    uint8_t *der = NULL;
    int size = key != NULL ? i2d_PUBKEY(key, &der) : 0;
    GBytes *bytes = g_bytes_new(der, size > 0 ? (gsize)size : 0);

    OPENSSL_free(der);
    return bytes;
}

static EVP_PKEY *read_key(const json_t *state, const char *name)
{
    g_autoptr(GBytes) der = NULL;

    if (!fore_json_get_bytes(state, name, FORE_GRANT_MAX_KEY, &der, NULL)) {
        return NULL;
    }
    return fore_grant_parse_key(g_bytes_get_data(der, NULL), g_bytes_get_size(der));
}

static void settle(ForeSeaKeys *keys)
{
    fore_jws_key_id(keys->next != NULL ? keys->next : keys->present, keys->id);
}

static void load(ForeSeaKeys *keys)
{
    static const ForeJsonLimits limits = {STATE_MAX, 2, 8, 512};
    g_autofree char *text = NULL;
    g_autoptr(json_t) state = NULL;
    const char *pinned;
    EVP_PKEY *present;
    gsize size;

    if (!g_file_get_contents(keys->path, &text, &size, NULL) || size > STATE_MAX) {
        return;
    }
    state = fore_json_parse(text, size, &limits, NULL);
    if (state == NULL || !fore_json_get_string(state, "pinned", &pinned, NULL) ||
        strcmp(pinned, keys->pinned) != 0) {
        return; /* learnt under another key */
    }
    present = read_key(state, "present");
    if (present != NULL) {
        EVP_PKEY_free(keys->present);
        keys->present = present;
        keys->next = read_key(state, "next");
    }
}

/* An initramfs has nowhere to keep it; then it is learnt anew with the next grant. */
static void save(const ForeSeaKeys *keys)
{
    g_autoptr(GBytes) present = der_of(keys->present);
    g_autoptr(GBytes) next = der_of(keys->next);
    g_autoptr(json_t) state = json_pack("{s:s, s:o, s:o}", "pinned", keys->pinned, "present",
                                        fore_json_bytes(present), "next", fore_json_bytes(next));
    g_autofree char *text = fore_json_dump_line(state);

    g_file_set_contents_full(keys->path, text, -1,
                             G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600,
                             NULL);
}

ForeSeaKeys *fore_sea_keys_new(EVP_PKEY *pinned, const char *state_dir)
{
    ForeSeaKeys *keys = g_new0(ForeSeaKeys, 1);

    keys->path = g_build_filename(state_dir, "pam-keys.json", NULL);
    EVP_PKEY_up_ref(pinned);
    keys->present = pinned;
    fore_jws_key_id(pinned, keys->pinned);
    load(keys);
    settle(keys);
    return keys;
}

void fore_sea_keys_free(ForeSeaKeys *keys)
{
    if (keys == NULL) {
        return;
    }
    EVP_PKEY_free(keys->present);
    EVP_PKEY_free(keys->next);
    g_free(keys->path);
    g_free(keys);
}

const char *fore_sea_keys_id(const ForeSeaKeys *keys)
{
    return keys->id;
}

ForeGrantReason fore_sea_keys_verify(const ForeSeaKeys *keys, const char *jws,
                                     const ForeGrantExpect *expect, ForeGrant *ret,
                                     EVP_PKEY **ret_key)
{
    EVP_PKEY *const known[] = {keys->present, keys->next};
    ForeGrantReason reason = FORE_GRANT_SIGNATURE;

    for (unsigned i = 0; i < G_N_ELEMENTS(known) && reason == FORE_GRANT_SIGNATURE; i++) {
        ForeGrantExpect with = *expect;

        with.pam_key = known[i];
        *ret_key = known[i];
        if (known[i] != NULL) {
            reason = fore_grant_verify(jws, &with, ret);
        }
    }
    return reason;
}

void fore_sea_keys_accepted(ForeSeaKeys *keys, const ForeGrant *grant, EVP_PKEY *signer)
{
    EVP_PKEY *next =
        grant->next_size > 0 ? fore_grant_parse_key(grant->next, grant->next_size) : NULL;
    bool change = false;

    if (signer == keys->next) {
        EVP_PKEY_free(keys->present);
        keys->present = g_steal_pointer(&keys->next);
        change = true;
    }
    if (next != NULL && (keys->next == NULL || EVP_PKEY_eq(next, keys->next) != 1) &&
        EVP_PKEY_eq(next, keys->present) != 1) {
        EVP_PKEY_free(keys->next);
        keys->next = g_steal_pointer(&next);
        change = true;
    }
    EVP_PKEY_free(next);
    if (change) {
        settle(keys);
        save(keys);
    }
}
