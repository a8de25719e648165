/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest agent as its host sees it: reports, evidence, grants, release. */
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "guest-agent/fore-sea-evidence.h"
#include "tests/agent/test-sea-fixture.h"
#include "vtpm/attest/fore-jws.h"
#include "vtpm/attest/fore-pathway.h"

static ForeTestSwtpm *tpm; /* one for all: manufacturing takes a second */

static void assert_cpu(SeaTest *t, unsigned n, const char *want)
{
    g_autofree char *is = fore_test_sysfs_cpu(t->sysfs, n);

    g_assert_cmpstr(is, ==, want);
}

static void assert_block(SeaTest *t, unsigned n, const char *want)
{
    g_autofree char *is = fore_test_sysfs_block(t->sysfs, n);

    g_assert_cmpstr(is, ==, want);
}

/* Waits for the CAPACITY event that shows this many CPUs and blocks online. */
static json_t *wait_online(ForeClient *client, unsigned vcpus, unsigned blocks)
{
    for (;;) {
        g_autoptr(json_t) data = sea_test_event(client, "CAPACITY");

        if (sea_test_int(data, "vcpus-online") == vcpus &&
            sea_test_int(data, "memory-online-bytes") == (int64_t)(blocks * SEA_TEST_BLOCK)) {
            return json_incref(data);
        }
    }
}

static bool skip_without_tpm(void)
{
    if (!tpm) {
        g_test_skip(fore_test_swtpm_missing());
    }
    return !tpm;
}

static void usage_is_reported(void)
{
    g_autoptr(SeaTest) t = sea_test_new(NULL, NULL);
    g_autoptr(ForeClient) client = sea_test_connect(t);
    int64_t last = 0;

    for (unsigned i = 0; i < 5; i++) {
        g_autoptr(json_t) usage = sea_test_event(client, "USAGE");
        g_assert_cmpint(sea_test_int(usage, "seq"), ==, last + 1);
        last = sea_test_int(usage, "seq");
        g_assert_cmpint(sea_test_int(usage, "interval-ms"), >=, 50);
        g_assert_cmpint(sea_test_int(usage, "vcpus-online"), ==, 1);
        g_assert_cmpint(sea_test_int(usage, "mem-total"), >, sea_test_int(usage, "mem-used"));
        g_assert_cmpfloat(json_real_value(json_object_get(usage, "cpu-busy")), >=, 0);
    }
}

static void interval_is_bounded(void)
{
    g_autoptr(SeaTest) t = sea_test_new(NULL, NULL);
    g_autoptr(ForeClient) client = sea_test_connect(t);
    g_autoptr(json_t) ret =
        sea_test_call(client, "sea-interval", json_pack("{s:i}", "milliseconds", 150));

    g_assert_cmpuint(json_object_size(ret), ==, 0);
    g_free(sea_test_refused(client, "sea-interval", json_pack("{s:i}", "milliseconds", 99),
                            FORE_ERROR_INVALID));
    g_free(sea_test_refused(client, "sea-nonsense", NULL, FORE_ERROR_UNSUPPORTED));
}

static void no_grant_stays_offline(void)
{
    g_autoptr(SeaTest) t = sea_test_new(NULL, NULL);
    g_autoptr(ForeClient) client = sea_test_connect(t);
    g_autoptr(json_t) first = sea_test_event(client, "CAPACITY");
    g_autoptr(json_t) second = NULL;
    g_autofree char *auto_online =
        fore_test_sysfs_get(t->sysfs, "devices/system/memory/auto_online_blocks");
    const json_t *held = json_object_get(first, "ungranted");

    g_assert_cmpint(sea_test_int(held, "vcpus"), ==, 2);
    g_assert_cmpint(sea_test_int(held, "memory-blocks"), ==, 2);
    g_assert_cmpint(sea_test_int(first, "vcpus-granted"), ==, 1);
    fore_test_sysfs_add_cpu(t->sysfs);
    second = sea_test_event(client, "CAPACITY");
    g_assert_cmpint(sea_test_int(json_object_get(second, "ungranted"), "vcpus"), ==, 3);
    assert_cpu(t, 1, "0");
    assert_cpu(t, 3, "0");
    assert_block(t, 4, "offline");
    g_assert_cmpstr(auto_online, ==, "offline");
}

static void without_tpm(void)
{
    g_autoptr(SeaTest) t = sea_test_new(NULL, NULL);
    g_autoptr(ForeClient) client = sea_test_connect(t);
    g_autoptr(json_t) capacity = NULL;

    g_free(sea_test_refused(client, "sea-info", NULL, FORE_ERROR_UNAVAILABLE));
    json_decref(sea_test_event(client, "USAGE")); /* reports go on */
    capacity = sea_test_call(client, "sea-capacity", NULL);
    g_assert_cmpint(sea_test_int(capacity, "vcpus-present"), ==, 3);
}

static void grant_brings_online(void)
{
    g_autoptr(SeaTest) t = NULL;
    g_autoptr(ForeClient) client = NULL;
    g_autoptr(json_t) ret = NULL, online = NULL, later = NULL;
    ForeGrant grant;

    if (skip_without_tpm()) {
        return;
    }
    t = sea_test_new(tpm, NULL);
    client = sea_test_connect(t);
    grant = sea_test_grant(client);
    grant.vcpus = 4; /* one more than there is yet */
    grant.mem_bytes = 5 * SEA_TEST_BLOCK;
    ret = sea_test_call(client, "sea-grant", sea_test_signed(&grant, t->pam));
    g_assert_cmpint(sea_test_int(ret, "vcpus"), ==, 4);
    g_assert_cmpint(sea_test_int(ret, "memory-bytes"), ==, (int64_t)grant.mem_bytes);
    g_assert_cmpint(sea_test_int(ret, "seq"), ==, (int64_t)grant.seq);
    online = wait_online(client, 3, 5);
    assert_cpu(t, 1, "1");
    assert_cpu(t, 2, "1");
    assert_block(t, 4, "online_movable");
    assert_block(t, 5, "offline");
    g_assert_cmpint(sea_test_int(json_object_get(online, "ungranted"), "vcpus"), ==, 0);
    g_assert_cmpint(sea_test_int(json_object_get(online, "ungranted"), "memory-blocks"), ==, 1);
    fore_test_sysfs_add_cpu(t->sysfs); /* the device comes after its grant */
    fore_test_sysfs_add_cpu(t->sysfs);
    later = wait_online(client, 4, 5);
    assert_cpu(t, 3, "1");
    assert_cpu(t, 4, "0");
}

typedef struct {
    const char *reason;
    void (*spoil)(ForeGrant *grant);
} BadGrant;

static void spoil_vm(ForeGrant *g)
{
    g->vm_uuid[0] = 'a';
}

static void spoil_ak(ForeGrant *g)
{
    g->ak_name[10] = g->ak_name[10] == '0' ? '1' : '0';
}

static void spoil_expiry(ForeGrant *g)
{
    g->issued_s -= 1000;
    g->expires_s -= 1000;
}

static void spoil_start(ForeGrant *g)
{
    g->issued_s += 1000;
    g->expires_s += 1000;
}

static void spoil_sequence(ForeGrant *g)
{
    g->seq--;
}

static void spoil_amount(ForeGrant *g)
{
    g->vcpus = 9; /* the machine can have 8 */
}

static const BadGrant bad_grants[] = {
    {"other-vm", spoil_vm},         {"other-ak", spoil_ak},           {"expired", spoil_expiry},
    {"not-yet-valid", spoil_start}, {"old-sequence", spoil_sequence}, {"bad-amount", spoil_amount},
};

static void bad_grants_are_refused(void)
{
    g_autoptr(SeaTest) t = NULL;
    g_autoptr(ForeClient) client = NULL;
    g_autoptr(json_t) after = NULL;
    g_autofree char *forged = NULL, *garbage = NULL;
    ForeGrant good;

    if (skip_without_tpm()) {
        return;
    }
    t = sea_test_new(tpm, NULL);
    client = sea_test_connect(t);
    good = sea_test_grant(client);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad_grants); i++) {
        g_autofree char *message = NULL;
        ForeGrant grant = good;
        bad_grants[i].spoil(&grant);
        message = sea_test_refused(client, "sea-grant", sea_test_signed(&grant, t->pam),
                                   FORE_ERROR_UNTRUSTED);
        g_assert_nonnull(strstr(message, bad_grants[i].reason));
    }
    forged = sea_test_refused(client, "sea-grant", sea_test_signed(&good, t->host),
                              FORE_ERROR_UNTRUSTED);
    g_assert_nonnull(strstr(forged, "bad-signature"));
    garbage = sea_test_refused(client, "sea-grant", json_pack("{s:s}", "grant", "a.b.c"),
                               FORE_ERROR_UNTRUSTED);
    g_assert_nonnull(strstr(garbage, "malformed"));
    after = sea_test_call(client, "sea-capacity", NULL);
    g_assert_cmpint(sea_test_int(after, "vcpus-granted"), ==, 1);
    assert_cpu(t, 1, "0");
    assert_cpu(t, 2, "0");
    assert_block(t, 4, "offline");
    good.seq = sea_test_grant(client).seq; /* nothing above has used up the number */
    g_assert_cmpuint(good.seq, ==, sea_test_grant(client).seq);
}

static void replay_is_refused(void)
{
    g_autoptr(SeaTest) t = NULL;
    g_autoptr(ForeClient) client = NULL;
    g_autoptr(json_t) grant_args = NULL, first = NULL, released = NULL;
    g_autofree char *message = NULL;
    ForeGrant grant;

    if (skip_without_tpm()) {
        return;
    }
    t = sea_test_new(tpm, NULL);
    client = sea_test_connect(t);
    grant = sea_test_grant(client);
    grant_args = sea_test_signed(&grant, t->pam);
    first = sea_test_call(client, "sea-grant", json_incref(grant_args));
    released = sea_test_call(
        client, "sea-release",
        json_pack("{s:i,s:I}", "vcpus", 1, "memory-bytes", (json_int_t)(4 * SEA_TEST_BLOCK)));
    message = sea_test_refused(client, "sea-grant", json_incref(grant_args), FORE_ERROR_UNTRUSTED);
    g_assert_nonnull(strstr(message, "old-sequence"));
    assert_cpu(t, 1, "0");
}

static void release_goes_down(void)
{
    g_autoptr(SeaTest) t = NULL;
    g_autoptr(ForeClient) client = NULL;
    g_autoptr(json_t) grant_ret = NULL, up = NULL, down = NULL, capacity = NULL;
    ForeGrant grant;

    if (skip_without_tpm()) {
        return;
    }
    t = sea_test_new(tpm, "release-memory=offline\n");
    client = sea_test_connect(t);
    grant = sea_test_grant(client);
    grant_ret = sea_test_call(client, "sea-grant", sea_test_signed(&grant, t->pam));
    up = wait_online(client, 3, 6);
    down = sea_test_call(
        client, "sea-release",
        json_pack("{s:i,s:I}", "vcpus", 2, "memory-bytes", (json_int_t)(5 * SEA_TEST_BLOCK)));
    g_assert_cmpint(sea_test_int(down, "vcpus-online"), ==, 2);
    g_assert_cmpint(sea_test_int(down, "memory-online-bytes"), ==, (int64_t)(5 * SEA_TEST_BLOCK));
    assert_cpu(t, 1, "1");
    assert_cpu(t, 2, "0");
    assert_block(t, 5, "offline");
    capacity = sea_test_call(client, "sea-capacity", NULL);
    g_assert_cmpint(sea_test_int(capacity, "vcpus-granted"), ==, 2);
}

static bool contains(GBytes *hay, GBytes *needle)
{
    gsize n, m;
    const void *h = g_bytes_get_data(hay, &n), *e = g_bytes_get_data(needle, &m);

    return memmem(h, n, e, m) != NULL;
}

static void quote_binds_channel(void)
{
    g_autoptr(SeaTest) t = NULL;
    g_autoptr(ForeClient) client = NULL;
    g_autoptr(json_t) info = NULL, evidence = NULL;
    g_autoptr(GBytes) nonce = g_bytes_new("0123456789abcdef0123456789abcdef", 32);
    g_autoptr(GBytes) extra = NULL, attest = NULL;
    g_autofree char *mask = NULL, *short_nonce = NULL, *blob = NULL;
    g_autoptr(GError) err = NULL;
    char pam_key[FORE_JWS_KEY_ID + 1];

    if (skip_without_tpm()) {
        return;
    }
    t = sea_test_new(tpm, NULL);
    client = sea_test_connect(t);
    info = sea_test_call(client, "sea-info", NULL);
    evidence =
        sea_test_call(client, "sea-attest",
                      json_pack("{s:o,s:i}", "nonce", fore_json_bytes(nonce), "pcr-mask", 0x3ff));
    g_assert_true(fore_json_get_bytes(evidence, "attest", 4096, &attest, &err));
    fore_jws_key_id(fore_identity_key(t->pam), pam_key);
    g_assert_cmpstr(json_string_value(json_object_get(evidence, "pam-key")), ==, pam_key);
    extra = fore_pathway_guest_extra(
        (const uint8_t *)"0123456789abcdef0123456789abcdef",
        &(ForeGuestSays){SEA_TEST_UUID, json_string_value(json_object_get(info, "channel-pin")),
                         pam_key, (uint64_t)sea_test_int(info, "seq")});
    g_assert_true(contains(attest, extra));
    g_assert_cmpuint(json_object_size(json_object_get(evidence, "pcrs")), ==, 10);
    g_assert_true(json_is_true(json_object_get(evidence, "software-tpm")));
    g_assert_cmpint(sea_test_int(evidence, "seq"), ==, sea_test_int(info, "seq"));
    mask = sea_test_refused(
        client, "sea-attest",
        json_pack("{s:o,s:i}", "nonce", fore_json_bytes(nonce), "pcr-mask", 1 << 16),
        FORE_ERROR_INVALID);
    short_nonce = sea_test_refused(client, "sea-attest",
                                   json_pack("{s:s,s:i}", "nonce", "AAAA", "pcr-mask", 1),
                                   FORE_ERROR_INVALID);
    blob = sea_test_refused(
        client, "sea-activate",
        json_pack("{s:s,s:s}", "credential-blob", "AAAA", "encrypted-secret", "AAAA"),
        FORE_ERROR_INVALID);
}

static void logs_in_chunks(void)
{
    g_autoptr(SeaTest) t = sea_test_new(NULL, NULL);
    g_autoptr(ForeClient) client = sea_test_connect(t);
    g_autoptr(GString) log = g_string_new(NULL);
    g_autoptr(GByteArray) got = g_byte_array_new();
    g_autofree char *missing = NULL, *past = NULL;

    for (unsigned i = 0; i < 9000; i++) {
        g_string_append_printf(log, "entry %u\n", i);
    }
    fore_test_sysfs_set(t->sysfs, "kernel/security/tpm0/binary_bios_measurements", log->str);
    do {
        g_autoptr(json_t) chunk =
            sea_test_call(client, "sea-get-log",
                          json_pack("{s:s,s:i,s:i}", "log", "firmware", "offset", (int)got->len,
                                    "length", 32768));
        g_autoptr(GBytes) data = NULL;
        g_assert_true(fore_json_get_bytes(chunk, "data", 32768, &data, NULL));
        g_assert_cmpint(sea_test_int(chunk, "size"), ==, (int64_t)log->len);
        g_assert_cmpuint(g_bytes_get_size(data), >, 0);
        g_byte_array_append(got, g_bytes_get_data(data, NULL), (guint)g_bytes_get_size(data));
    } while (got->len < log->len);
    g_assert_cmpmem(got->data, got->len, log->str, log->len);
    missing =
        sea_test_refused(client, "sea-get-log",
                         json_pack("{s:s,s:i,s:i}", "log", "ima", "offset", 0, "length", 32768),
                         FORE_ERROR_NOT_FOUND);
    past = sea_test_refused(
        client, "sea-get-log",
        json_pack("{s:s,s:i,s:i}", "log", "firmware", "offset", (int)log->len + 1, "length", 1),
        FORE_ERROR_INVALID);
}

/* The TPM counts changes of its PCRs; the agent tells that the count moved, and only then. */
static void change_is_told(void)
{
    g_autoptr(SeaTest) t = NULL;
    g_autoptr(ForeClient) client = NULL;
    g_autoptr(json_t) told = NULL;
    uint8_t digest[32] = {1};
    uint32_t before = 0, after = 0;
    ForeTpm *direct;

    if (skip_without_tpm()) {
        return;
    }
    t = sea_test_new(tpm, NULL);
    client = sea_test_connect(t);
    json_decref(sea_test_call(client, "sea-info", NULL)); /* its first look came before this */
    fore_test_swtpm_restart(tpm);                         /* a TPM has one client at a time */
    direct = fore_tpm_open(fore_test_swtpm_tcti(tpm), NULL);
    g_assert_nonnull(direct);
    g_assert_true(fore_tpm_pcr_updates(direct, &before, NULL));
    g_assert_true(fore_tpm_pcr_extend(direct, 14, digest, NULL));
    g_assert_true(fore_tpm_pcr_updates(direct, &after, NULL));
    g_assert_cmpuint(after, ==, before + 1);
    fore_tpm_close(direct);
    told = sea_test_event(client, "EVIDENCE_CHANGED");
    g_assert_cmpint(sea_test_int(told, "pcr-updates"), ==, after);
}

int main(int argc, char **argv)
{
    int result;

    g_test_init(&argc, &argv, NULL);
    tpm = fore_test_swtpm_missing() ? NULL : fore_test_swtpm_new();
    g_test_add_func("/guest-agent/sea/usage-is-reported-with-growing-seq", usage_is_reported);
    g_test_add_func("/guest-agent/sea/the-interval-is-bounded", interval_is_bounded);
    g_test_add_func("/guest-agent/sea/without-a-grant-devices-stay-offline",
                    no_grant_stays_offline);
    g_test_add_func("/guest-agent/sea/without-a-tpm-it-still-reports", without_tpm);
    g_test_add_func("/guest-agent/sea/a-grant-brings-devices-online-also-later",
                    grant_brings_online);
    g_test_add_func("/guest-agent/sea/each-bad-grant-is-refused-by-name", bad_grants_are_refused);
    g_test_add_func("/guest-agent/sea/a-grant-works-once", replay_is_refused);
    g_test_add_func("/guest-agent/sea/release-goes-down-from-the-top", release_goes_down);
    g_test_add_func("/guest-agent/sea/a-quote-binds-nonce-vm-and-channel", quote_binds_channel);
    g_test_add_func("/guest-agent/sea/a-log-comes-in-chunks", logs_in_chunks);
    g_test_add_func("/guest-agent/sea/changed-pcrs-are-told", change_is_told);
    result = g_test_run();
    fore_test_swtpm_free(tpm);
    return result;
}
