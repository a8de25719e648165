/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The whole loop of the real foreseed, its QEMU, guest and PAM scripted: growth in its order,
 * release in its order, and every "no" on the way. */
#include <string.h>

#include "tests/agent/test-foreseed-peers.h"

static int64_t capacity_of(ForeseedTest *t, const char *key)
{
    g_autoptr(json_t) vm = foreseed_test_vm(t, "web1");

    return json_integer_value(json_object_get(json_object_get(vm, "capacity"), key));
}

/* Two more steps of the loop: what was going to happen has happened. */
static void steps(Rig *rig, unsigned n)
{
    while (n-- > 0) {
        foreseed_test_event(rig->t, "FORECAST", "name", "web1");
    }
}

static void wait_vcpus(Rig *rig, unsigned vcpus)
{
    WAIT_FOR(rig->t, test_sea_vcpus(rig->sea) == vcpus);
}

static void assert_nothing_plugged(const Rig *rig)
{
    g_assert_cmpint(rig_index(rig, "qmp:device_add", 0), ==, -1);
    g_assert_cmpint(rig_index(rig, "qmp:qom-set", 0), ==, -1);
    g_assert_cmpuint(fore_test_qmp_vcpus(rig->qmp), ==, 1);
    g_assert_cmpuint(fore_test_qmp_requested(rig->qmp), ==, 0);
}

/* States of the newest entry of @resource, as LEDGER events told them. */
static void wait_ledger(Rig *rig, const char *resource, const char *state)
{
    for (;;) {
        const json_t *entry = foreseed_test_event(rig->t, "LEDGER", "state", state);
        if (g_strcmp0(json_string_value(json_object_get(entry, "resource")), resource) == 0) {
            return;
        }
    }
}

/* --- growth --- */

static void test_growth_in_order(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    const json_t *event;

    test_sea_load(rig->sea, 3, 3, 100 * RIG_MIB); /* three tasks want a CPU */
    event = foreseed_test_event(rig->t, "GRANT", "name", "web1");
    g_assert_cmpint(json_integer_value(json_object_get(event, "vcpus")), ==, 4);
    wait_ledger(rig, "vcpu", "online");
    wait_vcpus(rig, 4);
    rig_assert_order(rig, RIG_ORDER("pam:begin", "sea:sea-attest", "pam:finish", "sea:sea-grant",
                                    "qmp:device_add", "qmp:device_add", "qmp:device_add"));
    g_assert_cmpuint(fore_test_qmp_added(rig->qmp), ==, 3);
    g_assert_cmpint(capacity_of(rig->t, "vcpus-online"), ==, 4);
    /* what the PAM was told: the plan's totals, the evidence, and the key of the guest's channel */
    g_assert_cmpint(json_integer_value(json_object_get(rig->pam->finish, "vcpus")), ==, 4);
    g_assert_cmpstr(json_string_value(json_object_get(rig->pam->finish, "channel-pin")), ==,
                    fore_identity_pin(rig->sea->server.identity));
    g_assert_true(json_is_object(json_object_get(rig->pam->finish, "evidence")));
    event = foreseed_test_event(rig->t, "CAPACITY", "name", "web1");
    g_assert_cmpint(json_integer_value(json_object_get(event, "vcpus-online")), ==, 4);
}

static void test_memory_growth(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);

    test_sea_load(rig->sea, 0.1, 0, 480 * RIG_MIB); /* 32 MiB are left of 512 */
    wait_ledger(rig, "mem", "online");
    rig_assert_order(rig, RIG_ORDER("sea:sea-grant", "qmp:qom-set"));
    g_assert_cmpuint(fore_test_qmp_vmem(rig->qmp), >=, 128 * RIG_MIB);
    g_assert_cmpuint(fore_test_qmp_vmem(rig->qmp) % (128 * RIG_MIB), ==, 0);
    g_assert_cmpuint(fore_test_qmp_added(rig->qmp), ==, 0);
}

static void test_limits_hold(void)
{
    g_autoptr(Rig) rig = rig_new("max-vcpus=2,max-memory=640MiB");

    test_sea_load(rig->sea, 40, 40, 511 * RIG_MIB);
    wait_ledger(rig, "vcpu", "online");
    WAIT_FOR(rig->t, fore_test_qmp_vmem(rig->qmp) == 128 * RIG_MIB);
    test_sea_load(rig->sea, 400, 400, 639 * RIG_MIB);
    steps(rig, 3);
    g_assert_cmpuint(fore_test_qmp_vcpus(rig->qmp), ==, 2);
    g_assert_cmpuint(fore_test_qmp_requested(rig->qmp), ==, 128 * RIG_MIB);
}

static void test_recommend_and_observe_do_nothing(void)
{
    g_autoptr(Rig) rig = rig_new("mode=recommend");
    const json_t *note;

    test_sea_load(rig->sea, 3, 3, 100 * RIG_MIB);
    do {
        note = foreseed_test_event(rig->t, "NOTE", "name", "web1");
    } while (!g_str_has_prefix(json_string_value(json_object_get(note, "reason")), "would grow"));
    rig_policy(rig, "mode=observe");
    steps(rig, 2);
    g_assert_cmpuint(rig->timeline->len, ==, 0); /* neither PAM nor SEA nor QEMU was asked */
}

/* --- release --- */

static void test_release_in_order(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    unsigned from;

    test_sea_load(rig->sea, 3, 3, 480 * RIG_MIB);
    wait_vcpus(rig, 4);
    WAIT_FOR(rig->t, fore_test_qmp_vmem(rig->qmp) > 0);
    foreseed_test_event(rig->t, "CAPACITY", "name", "web1");
    from = rig->timeline->len;
    test_sea_load(rig->sea, 0.1, 0, 100 * RIG_MIB);
    wait_ledger(rig, "mem", "released");
    /* the guest gives its vCPUs and blocks back first, then QEMU takes the memory */
    g_assert_cmpint(rig_index(rig, "sea:sea-release", from), >=, 0);
    g_assert_cmpint(rig_index(rig, "qmp:qom-set", from), >,
                    rig_index(rig, "sea:sea-release", from));
    g_assert_cmpuint(fore_test_qmp_requested(rig->qmp), ==, 0);
    g_assert_cmpuint(test_sea_vcpus(rig->sea), ==, 1);
    /* vCPUs stay plugged, offline: under TCG each plug uses up a context for good */
    g_assert_cmpuint(fore_test_qmp_vcpus(rig->qmp), ==, 4);
    from = rig->timeline->len;
    test_sea_load(rig->sea, 3, 3, 100 * RIG_MIB);
    wait_vcpus(rig, 4);
    g_assert_cmpint(rig_index(rig, "pam:finish", from), >=, 0); /* by a new grant */
    g_assert_cmpuint(fore_test_qmp_added(rig->qmp), ==, 3);     /* and nothing is plugged again */
}

static void test_swapping_guest_is_never_shrunk(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);

    test_sea_load(rig->sea, 3, 3, 100 * RIG_MIB);
    wait_vcpus(rig, 4);
    foreseed_test_event(rig->t, "CAPACITY", "name", "web1");
    rig->sea->psi_mem = 0.5;
    test_sea_load(rig->sea, 0.1, 0, 100 * RIG_MIB);
    steps(rig, 4); /* shrink-hold is 1 s */
    g_assert_cmpint(rig_index(rig, "sea:sea-release", 0), ==, -1);
    rig->sea->psi_mem = 0;
    wait_vcpus(rig, 1);
}

/* --- no --- */

static void test_contraindicated(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    const json_t *event;

    rig->pam->reason = "pcr-mismatch";
    test_sea_load(rig->sea, 3, 3, 480 * RIG_MIB);
    for (unsigned i = 0; i < 2; i++) { /* asked again after its hold, denied again */
        event = foreseed_test_event(rig->t, "DENIED", "name", "web1");
        g_assert_nonnull(
            strstr(json_string_value(json_object_get(event, "reason")), "guest:pcr-mismatch"));
        g_assert_nonnull(
            strstr(json_string_value(json_object_get(event, "reason")), "vcpu 1 -> 4"));
    }
    g_assert_cmpint(rig_index(rig, "sea:sea-grant", 0), ==, -1);
    assert_nothing_plugged(rig);
    g_assert_cmpuint(foreseed_test_count(rig->t, "GRANT"), ==, 0);
    rig->pam->reason = NULL; /* healed: the next attempt passes */
    wait_vcpus(rig, 4);
}

static void test_affirmed_without_grant(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);

    rig->pam->no_grant = true;
    test_sea_load(rig->sea, 3, 3, 100 * RIG_MIB);
    foreseed_test_event(rig->t, "DENIED", "name", "web1");
    assert_nothing_plugged(rig);
}

static void test_expired_grant(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);

    rig->pam->lifetime_s = -5;
    test_sea_load(rig->sea, 3, 3, 100 * RIG_MIB);
    foreseed_test_event(rig->t, "DENIED", "name", "web1");
    assert_nothing_plugged(rig);
}

static void test_sea_refuses(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);

    rig->sea->refuses_grants = true;
    test_sea_load(rig->sea, 3, 3, 100 * RIG_MIB);
    wait_ledger(rig, "vcpu", "failed");
    g_assert_cmpint(rig_index(rig, "sea:sea-grant", 0), >=, 0);
    steps(rig, 1);
    assert_nothing_plugged(rig);
}

static void assert_silent_pam(const char *command)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    const json_t *event;

    rig->pam->mute = command;
    test_sea_load(rig->sea, 3, 3, 100 * RIG_MIB);
    event = foreseed_test_event(rig->t, "DENIED", "name", "web1");
    g_assert_nonnull(strstr(json_string_value(json_object_get(event, "reason")), "pam:timeout"));
    assert_nothing_plugged(rig);
}

static void test_silent_pam(void)
{
    assert_silent_pam("begin");
    assert_silent_pam("finish");
}

static void test_absent_pam(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    const json_t *event;

    test_pam_listen(rig->pam, false);
    foreseed_test_event(rig->t, "SOURCE", "source", "pam");
    test_sea_load(rig->sea, 3, 3, 100 * RIG_MIB);
    event = foreseed_test_event(rig->t, "DENIED", "name", "web1");
    g_assert_nonnull(strstr(json_string_value(json_object_get(event, "reason")), "pam:"));
    assert_nothing_plugged(rig);
    test_pam_listen(rig->pam, true);
    wait_vcpus(rig, 4);
}

/* A guest that does not quote is reported to the PAM as silent: its record says so too. */
static void test_silent_guest(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);

    rig->sea->mute = true;
    rig->pam->reason = "silent";
    test_sea_load(rig->sea, 3, 3, 100 * RIG_MIB);
    foreseed_test_event(rig->t, "DENIED", "name", "web1");
    g_assert_true(json_is_null(json_object_get(rig->pam->finish, "evidence")));
    assert_nothing_plugged(rig);
}

static void test_attest_on_demand(void)
{
    g_autoptr(Rig) rig = rig_new("mode=observe");
    g_autoptr(json_t) good = NULL, bad = NULL, last = NULL;

    good = foreseed_test_call(rig->t, "attest", json_pack("{s:s}", "name", "web1"));
    g_assert_cmpstr(json_string_value(json_object_get(good, "verdict")), ==, "affirming");
    g_assert_null(json_object_get(rig->pam->finish, "vcpus")); /* a verdict alone */
    rig->pam->reason = "ima-unknown-file";
    bad = foreseed_test_call(rig->t, "attest", json_pack("{s:s}", "name", "web1"));
    g_assert_cmpstr(json_string_value(json_object_get(bad, "verdict")), ==, "contraindicated");
    last = foreseed_test_call(rig->t, "query-attestation", json_pack("{s:s}", "name", "web1"));
    g_assert_cmpstr(json_string_value(json_object_get(last, "verdict")), ==, "contraindicated");
    rig->pam->mute = "finish";
    foreseed_test_refused(rig->t, "attest", json_pack("{s:s}", "name", "web1"),
                          FORE_ERROR_UNAVAILABLE, "pam:timeout");
    assert_nothing_plugged(rig);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent/loop/growth-goes-in-its-order", test_growth_in_order);
    g_test_add_func("/agent/loop/memory-grows-in-blocks", test_memory_growth);
    g_test_add_func("/agent/loop/limits-hold", test_limits_hold);
    g_test_add_func("/agent/loop/recommend-and-observe-do-nothing",
                    test_recommend_and_observe_do_nothing);
    g_test_add_func("/agent/loop/release-goes-in-its-order", test_release_in_order);
    g_test_add_func("/agent/loop/swapping-guest-is-never-shrunk",
                    test_swapping_guest_is_never_shrunk);
    g_test_add_func("/agent/loop/contraindicated-is-denied-with-its-reason", test_contraindicated);
    g_test_add_func("/agent/loop/affirmed-without-grant-is-denied", test_affirmed_without_grant);
    g_test_add_func("/agent/loop/expired-grant-is-denied", test_expired_grant);
    g_test_add_func("/agent/loop/nothing-is-plugged-when-the-sea-refuses", test_sea_refuses);
    g_test_add_func("/agent/loop/silent-pam-is-a-denial", test_silent_pam);
    g_test_add_func("/agent/loop/absent-pam-is-a-denial", test_absent_pam);
    g_test_add_func("/agent/loop/silent-guest-is-told-to-the-pam", test_silent_guest);
    g_test_add_func("/agent/loop/attest-on-demand-answers-the-verdict", test_attest_on_demand);
    return g_test_run();
}
