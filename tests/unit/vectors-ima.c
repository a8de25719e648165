/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IMA lists of other verifiers.  They come without the PCRs of their boot, so a judged row is put
 * behind a boot_aggregate of ours; the row's own aggregate is refused by itself.
 */
#include <string.h>

#include "common/fore-bytes.h"
#include "tests/lib/fore-test-key.h"
#include "tests/lib/fore-test-log.h"
#include "tests/unit/vectors.h"
#include "vtpm/attest/fore-imalog.h"
#include "vtpm/attest/fore-public.h"

#define DIR "keylime/ima/"

typedef struct {
    ForeImaReason replay; /* of the file as it is */
    unsigned entries;     /* read until then */
    const char *policy;   /* JSON of the vectors, or NULL: lists an unrelated file */
    const char *keys[2];  /* PEM files, or NULL */
    ForeImaReason judged; /* of its entries, without boot_aggregate, behind ours */
} Want;

static void assert_reason(ForeImaReason got, ForeImaReason want)
{
    g_assert_cmpstr(fore_ima_reason_name(got), ==, fore_ima_reason_name(want));
}

/* The digests of such a policy stand as "path": ["hex"], one a line; that is enough here. */
static void load_policy(ForeImaPolicy *policy, const char *name)
{
    g_autoptr(GBytes) bytes = fore_test_vector(name);
    g_autofree char *text = g_strndup(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    g_auto(GStrv) words = g_strsplit(text, "\"", -1);
    const char *path = NULL;

    for (unsigned i = 1; words[0] != NULL && words[i] != NULL; i++) {
        g_autoptr(GBytes) digest = fore_hex_decode(words[i], 32);

        if (words[i][0] == '/' || words[i][0] == '.') {
            path = words[i];
        } else if (digest != NULL && g_bytes_get_size(digest) == 32 && path != NULL) {
            const uint8_t *data = g_bytes_get_data(digest, NULL);

            g_assert_true(path[0] == '/'
                              ? fore_ima_policy_allow(policy, path, data, 32, NULL)
                              : fore_ima_policy_allow_buffer(policy, path, data, 32, NULL));
        }
    }
}

static ForeImaPolicy *policy_of(const Want *want)
{
    ForeImaPolicy *policy = fore_ima_policy_new();
    static const uint8_t other[32] = {1};

    g_assert_true(fore_ima_policy_allow(policy, "/other", other, 32, NULL));
    if (want->policy != NULL) {
        load_policy(policy, want->policy);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(want->keys) && want->keys[i] != NULL; i++) {
        g_autoptr(GBytes) pem = fore_test_vector(want->keys[i]);

        g_assert_true(fore_ima_policy_add_key(policy, g_bytes_get_data(pem, NULL),
                                              g_bytes_get_size(pem), NULL));
    }
    return policy;
}

/* Our boot_aggregate, then every line that is not one. */
static GByteArray *behind_ours(GBytes *bytes, const uint8_t (*pcrs)[32])
{
    GByteArray *list = g_byte_array_new();
    g_autofree char *text = g_strndup(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    fore_test_ima_start(list, pcrs, true);
    for (unsigned i = 0; lines[i] != NULL && lines[i][0] != '\0'; i++) {
        if (strstr(lines[i], " boot_aggregate") == NULL) {
            g_byte_array_append(list, (const uint8_t *)lines[i], (guint)strlen(lines[i]));
            g_byte_array_append(list, (const uint8_t *)"\n", 1);
        }
    }
    return list;
}

static ForeImaReason judge(GBytes *bytes, const ForeImaPolicy *policy, const uint8_t (*pcrs)[32],
                           ForeImaResult *ret)
{
    g_autoptr(ForeImaState) state = fore_ima_state_new();
    ForeImaSlice slice = {.bytes = bytes};

    return fore_ima_judge(state, policy, &slice, pcrs, ret);
}

static void assert_cuts(GBytes *bytes, const ForeImaPolicy *policy, const uint8_t (*pcrs)[32])
{
    ForeImaResult result;

    for (gsize n = 0; n < g_bytes_get_size(bytes); n++) {
        g_autoptr(GBytes) cut = g_bytes_new_from_bytes(bytes, 0, n);
        ForeImaReason reason = judge(cut, policy, pcrs, &result);

        g_assert_true(reason != FORE_IMA_OK || n == g_bytes_get_size(bytes) - 1); /* newline */
    }
}

static void check_list(const ForeVector *vector, GBytes *bytes)
{
    const Want *want = vector->param;
    g_autoptr(ForeImaPolicy) policy = policy_of(want);
    g_autoptr(GByteArray) list = NULL;
    g_autoptr(GBytes) ours = NULL;
    uint8_t pcrs[24][32] = {{7}};
    ForeImaResult result;

    assert_reason(fore_ima_replay(bytes, FORE_ALG_SHA256, pcrs[10], &result), want->replay);
    g_assert_cmpuint(result.entries, ==, want->entries);
    if (want->replay != FORE_IMA_OK) {
        g_assert_cmpint(judge(bytes, policy, (const uint8_t(*)[32])pcrs, &result), !=, FORE_IMA_OK);
        return;
    }
    assert_reason(judge(bytes, policy, (const uint8_t(*)[32])pcrs, &result),
                  FORE_IMA_BOOT_AGGREGATE);
    list = behind_ours(bytes, (const uint8_t(*)[32])pcrs);
    fore_test_ima_proved(list, pcrs);
    ours = fore_test_bytes(list);
    assert_reason(judge(ours, policy, (const uint8_t(*)[32])pcrs, &result), want->judged);
    if (list->len < 4096) {
        assert_cuts(ours, policy, (const uint8_t(*)[32])pcrs);
    }
}

/* A whole machine: the SHA-1 bank is known, its files have SHA-1 digests only. */
static void check_machine(const ForeVector *vector, GBytes *bytes)
{
    uint8_t pcr[20];
    ForeImaResult result;
    g_autofree char *hex = NULL;

    check_list(vector, bytes);
    assert_reason(fore_ima_replay(bytes, FORE_ALG_SHA1, pcr, &result), FORE_IMA_OK);
    hex = fore_hex_encode(pcr, sizeof(pcr));
    g_assert_cmpstr(hex, ==, "82231c67a69da98dc5b3aa10f6343d33109225fc");
}

static void check_signatures(const ForeVector *vector, GBytes *bytes)
{
    static const Want variants[] = {
        {FORE_IMA_OK,
         2,
         NULL,
         {DIR "keys/rsa2048pub.pem", DIR "keys/secp256k1-pub.pem"},
         FORE_IMA_OK},
        {FORE_IMA_OK, 2, NULL, {DIR "keys/rsa2048pub.pem"}, FORE_IMA_SIGNATURE_KEY},
        {FORE_IMA_OK, 2, NULL, {DIR "keys/secp256k1-pub.pem"}, FORE_IMA_SIGNATURE_KEY},
        {FORE_IMA_OK, 2, NULL, {NULL}, FORE_IMA_SIGNATURE_KEY},
        /* listed with other digests: a good signature does not help */
        {FORE_IMA_OK,
         2,
         DIR "RUNTIME_POLICY_WRONG.json",
         {DIR "keys/rsa2048pub.pem", DIR "keys/secp256k1-pub.pem"},
         FORE_IMA_DIGEST_MISMATCH},
        {FORE_IMA_OK,
         2,
         DIR "RUNTIME_POLICY_TEST.json",
         {DIR "keys/rsa2048pub.pem", DIR "keys/secp256k1-pub.pem"},
         FORE_IMA_OK},
        /* listed, and no keyring that could say otherwise */
        {FORE_IMA_OK, 2, DIR "RUNTIME_POLICY_TEST.json", {NULL}, FORE_IMA_OK},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(variants); i++) {
        ForeVector one = {vector->name, check_list, &variants[i]};

        check_list(&one, bytes);
    }
}

/* its signature was cut after the hash was made */
static const Want bad_signature = {FORE_IMA_TEMPLATE_HASH, 1, NULL, {NULL}, FORE_IMA_OK};
static const Want keyrings = {FORE_IMA_OK, 1, DIR "RUNTIME_POLICY_TEST.json", {NULL}, FORE_IMA_OK};
static const Want measurements = {
    FORE_IMA_OK, 3, DIR "RUNTIME_POLICY_TEST.json", {NULL}, FORE_IMA_OK};
static const Want sha1 = {FORE_IMA_OK, 2, NULL, {NULL}, FORE_IMA_HASH_ALGORITHM};
static const Want unlisted = {FORE_IMA_OK, 2, NULL, {NULL}, FORE_IMA_UNLISTED};
static const Want no_recompute = {FORE_IMA_TEMPLATE_HASH, 2, NULL, {NULL}, FORE_IMA_OK};
static const Want machine = {FORE_IMA_OK, 826, NULL, {NULL}, FORE_IMA_HASH_ALGORITHM};
static const Want one = {FORE_IMA_OK, 1, NULL, {NULL}, FORE_IMA_OK};
static const Want invalid = {FORE_IMA_MALFORMED, 0, NULL, {NULL}, FORE_IMA_OK};

const ForeVector fore_vectors_ima[] = {
    {DIR "BAD_SIGNATURES.txt", check_list, &bad_signature},
    {DIR "KEYRINGS.txt", check_list, &keyrings},
    {DIR "MEASUREMENTS.txt", check_list, &measurements},
    {DIR "SIGNATURES.txt", check_signatures, NULL},
    {DIR "RUNTIME_POLICY_TEST.json", NULL, NULL},
    {DIR "RUNTIME_POLICY_WITH_VERIFICATION_KEYS.json", NULL, NULL},
    {DIR "RUNTIME_POLICY_WRONG.json", NULL, NULL},
    {DIR "keys/rsa2048pub.pem", NULL, NULL},
    {DIR "keys/secp256k1-pub.pem", NULL, NULL},
    {DIR "ima-log-sha1", check_list, &sha1},
    {DIR "ima-log-sha256", check_list, &unlisted},
    {DIR "ima-log-sha384", check_list, &unlisted},
    {DIR "ima-log-sha512", check_list, &unlisted},
    {DIR "ima-log-sm3_256", check_list, &no_recompute},
    {DIR "ima-log-unknown", check_list, &no_recompute},
    {"rust-keylime/ima/ascii_runtime_measurements", check_machine, &machine},
    {"rust-keylime/ima/ima_log.txt", check_list, &one},
    {"rust-keylime/ima/invalid_ima_log.txt", check_list, &invalid},
};
const unsigned fore_n_vectors_ima = G_N_ELEMENTS(fore_vectors_ima);
