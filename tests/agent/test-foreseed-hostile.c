/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foreseed between sources that vanish, lie or hang, and its own sudden death. */
#include <string.h>

#include "tests/agent/test-foreseed-peers.h"

static void steps(Rig *rig, unsigned n)
{
    while (n-- > 0) {
        foreseed_test_event(rig->t, "FORECAST", "name", "web1");
    }
}

static json_t *source_of(ForeseedTest *t, const char *name, const char *source)
{
    g_autoptr(json_t) vm = foreseed_test_vm(t, name);

    return json_incref(json_object_get(json_object_get(vm, "sources"), source));
}

static double promised(Rig *rig, const char *resource)
{
    g_autoptr(json_t) ledger = foreseed_test_call(rig->t, "query-ledger", NULL);

    return json_number_value(json_object_get(json_object_get(ledger, "promised"), resource));
}

/* Ledger entries that are not final. */
static unsigned open_entries(Rig *rig)
{
    g_autoptr(json_t) ledger = foreseed_test_call(rig->t, "query-ledger", NULL);
    unsigned n = 0;
    size_t i;
    json_t *entry;

    json_array_foreach (json_object_get(ledger, "entries"), i, entry) {
        const char *state = json_string_value(json_object_get(entry, "state"));
        n += strcmp(state, "online") != 0 && strcmp(state, "released") != 0 &&
             strcmp(state, "failed") != 0;
    }
    return n;
}

/* --- sources that vanish --- */

static void test_qmp_gone(void)
{
    g_autoptr(Rig) rig = rig_new("mode=observe");
    g_autofree char *path = foreseed_test_path(rig->t, "web2.qmp");
    g_autofree char *sea_path = foreseed_test_path(rig->t, "web2.sea");
    g_autoptr(ForeTestQmp) qmp = fore_test_qmp_new(rig->t->context, path, 2, NULL, NULL);
    TestSea *sea = test_sea_new(rig->t->context, sea_path, qmp, rig->timeline);
    g_autoptr(json_t) source = NULL;

    foreseed_test_add(rig->t, "web2", "6f2b1a54-0c3d-4e5f-8a9b-0c1d2e3f4a5c", NULL);
    foreseed_test_wait_state(rig->t, "web2", "ok");
    fore_test_qmp_listen(rig->qmp, false);
    foreseed_test_event(rig->t, "SOURCE", "source", "qmp");
    foreseed_test_wait_state(rig->t, "web1", "unreachable");
    source = source_of(rig->t, "web1", "qmp");
    g_assert_false(json_is_true(json_object_get(source, "ok")));
    g_assert_cmpstr(json_string_value(json_object_get(source, "reason")), !=, "");
    WAIT_FOR(rig->t, fore_test_qmp_has_client(qmp));
    foreseed_test_wait_state(rig->t, "web2", "ok"); /* the others go on */
    fore_test_qmp_listen(rig->qmp, true);
    foreseed_test_wait_state(rig->t, "web1", "ok");
    foreseed_test_do(rig->t, "vm-remove", json_pack("{s:s}", "name", "web2"));
    test_sea_free(sea);
}

static void test_sea_gone(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    g_autoptr(json_t) source = NULL;

    test_sea_load(rig->sea, 3, 3, 100 * RIG_MIB);
    WAIT_FOR(rig->t, test_sea_vcpus(rig->sea) == 4);
    foreseed_test_event(rig->t, "CAPACITY", "name", "web1");
    test_sea_load(rig->sea, 0.1, 0, 100 * RIG_MIB);
    test_sea_listen(rig->sea, false);
    foreseed_test_event(rig->t, "SOURCE", "source", "sea");
    foreseed_test_wait_state(rig->t, "web1", "blind");
    source = source_of(rig->t, "web1", "sea");
    g_assert_cmpstr(json_string_value(json_object_get(source, "reason")), !=, "");
    steps(rig, 4); /* shrink-hold is 1 s: missing data never shrinks a VM */
    g_assert_cmpuint(rig_count(rig, "sea:sea-release"), ==, 0);
    g_assert_cmpuint(fore_test_qmp_vcpus(rig->qmp), ==, 4);
    test_sea_listen(rig->sea, true);
    foreseed_test_wait_state(rig->t, "web1", "ok");
}

static void test_stopped_guest(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);

    fore_test_qmp_event(rig->qmp, "STOP", NULL);
    steps(rig, 1);
    test_sea_load(rig->sea, 3, 3, 100 * RIG_MIB);
    steps(rig, 3);
    g_assert_cmpuint(fore_test_qmp_added(rig->qmp), ==, 0); /* frozen */
    fore_test_qmp_event(rig->qmp, "RESUME", NULL);
    WAIT_FOR(rig->t, test_sea_vcpus(rig->sea) == 4);
}

/* --- sources that lie --- */

/* A report that breaks a rule: the event says which, the session ends, and a new one is used. */
static void assert_intrusion(Rig *rig, json_t *report, const char *reason)
{
    unsigned sessions = rig->sea->sessions;

    test_sea_usage(rig->sea, report);
    foreseed_test_event(rig->t, "INTRUSION", "reason", reason);
    WAIT_FOR(rig->t, rig->sea->sessions > sessions);
    foreseed_test_wait_state(rig->t, "web1", "ok");
}

static json_t *lie(Rig *rig, const char *key, json_t *value)
{
    json_t *report = test_sea_report(rig->sea);

    json_object_set_new(report, key, value);
    return report;
}

static void test_replayed_report(void)
{
    g_autoptr(Rig) rig = rig_new("mode=observe");
    json_t *old = test_sea_report(rig->sea);

    test_sea_usage(rig->sea, json_incref(old));
    assert_intrusion(rig, old, "sea:report-replayed");
}

static void test_absurd_reports(void)
{
    g_autoptr(Rig) rig = rig_new("mode=observe");

    assert_intrusion(rig, lie(rig, "cpu-busy", json_integer(5000)), "sea:report-out-of-bounds");
    assert_intrusion(rig, lie(rig, "mem-used", json_real(-1)), "sea:report-out-of-bounds");
    assert_intrusion(rig, lie(rig, "psi-mem", json_real(1.5)), "sea:report-out-of-bounds");
    assert_intrusion(rig, lie(rig, "runnable", json_string("all")), "sea:report-out-of-bounds");
    assert_intrusion(rig, lie(rig, "seq", json_null()), "sea:report-without-sequence");
}

static void test_absurd_capacity(void)
{
    g_autoptr(Rig) rig = rig_new("mode=observe");
    unsigned sessions = rig->sea->sessions;

    fore_wire_event(rig->sea->server.wire, "CAPACITY",
                    json_pack("{s:i,s:i}", "vcpus-online", 0, "memory-online-bytes", 5));
    foreseed_test_event(rig->t, "INTRUSION", "reason", "sea:capacity-out-of-bounds");
    WAIT_FOR(rig->t, rig->sea->sessions > sessions);
}

/* A guest cannot own what QEMU does not know of. */
static void test_boasting_guest(void)
{
    g_autoptr(Rig) rig = rig_new("mode=observe");
    g_autoptr(json_t) vm = NULL;

    fore_wire_event(rig->sea->server.wire, "CAPACITY",
                    json_pack("{s:i,s:I}", "vcpus-online", 64, "memory-online-bytes",
                              (json_int_t)(100 * FORE_TEST_QMP_BASE)));
    steps(rig, 1);
    vm = foreseed_test_vm(rig->t, "web1");
    g_assert_cmpint(
        json_integer_value(json_object_get(json_object_get(vm, "capacity"), "vcpus-online")), ==,
        1);
    g_assert_cmpint(
        json_integer_value(json_object_get(json_object_get(vm, "capacity"), "memory-online")), ==,
        (json_int_t)FORE_TEST_QMP_BASE);
}

/* --- peers that hang --- */

/* The session is reset while the SEA owes an answer: the plan must end, and the next one run. */
static void test_reset_while_a_grant_is_out(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    json_t *old;

    test_sea_load(rig->sea, 3, 3, 100 * RIG_MIB);
    WAIT_FOR(rig->t, rig_index(rig, "pam:finish", 0) >= 0);
    rig->sea->mute = true; /* sea-grant is on its way: it is kept unanswered */
    WAIT_FOR(rig->t, rig->sea->kept->len > 0);
    old = lie(rig, "seq", json_integer(1));
    rig->sea->mute = false;
    assert_intrusion(rig, old, "sea:report-replayed");
    WAIT_FOR(rig->t, test_sea_vcpus(rig->sea) == 4);
}

static void on_ignored(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    *(GError **)data = error != NULL ? g_error_copy(error) : NULL;
}

/* The VM is removed while a peer owes the answer that its attestation waits for. */
static void remove_while_attesting(const char *pam_mute, bool sea_mute)
{
    g_autoptr(Rig) rig = rig_new("mode=observe");
    g_autoptr(GError) error = NULL;

    rig->pam->mute = pam_mute;
    rig->sea->mute = sea_mute;
    fore_link_execute(rig->t->link, "attest", json_pack("{s:s}", "name", "web1"), 30000, on_ignored,
                      &error);
    WAIT_FOR(rig->t, rig->pam->kept->len + rig->sea->kept->len > 0);
    foreseed_test_do(rig->t, "vm-remove", json_pack("{s:s}", "name", "web1"));
    WAIT_FOR(rig->t, error != NULL || rig->t->exited);
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
    foreseed_test_do(rig->t, "query-status", NULL); /* it is still there */
    foreseed_test_add(rig->t, "web1", RIG_UUID, NULL);
}

static void test_removed_while_attesting(void)
{
    remove_while_attesting("begin", false);
    remove_while_attesting("finish", false);
    remove_while_attesting(NULL, true);
}

static void test_removed_while_growing(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);

    rig->sea->slow = true;
    test_sea_load(rig->sea, 3, 3, 480 * RIG_MIB);
    WAIT_FOR(rig->t, fore_test_qmp_vcpus(rig->qmp) == 4);
    foreseed_test_do(rig->t, "vm-remove", json_pack("{s:s}", "name", "web1"));
    g_assert_cmpfloat(promised(rig, "vcpu"), ==, 0);
    foreseed_test_kill(rig->t);
    foreseed_test_start(rig->t);
    g_assert_cmpfloat(promised(rig, "vcpu"), ==, 0); /* no ghost holds the host's room */
    g_assert_cmpfloat(promised(rig, "mem"), ==, 0);
}

/* --- sudden death --- */

static void test_killed_between_plug_and_online(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);

    rig->sea->slow = true;
    test_sea_load(rig->sea, 3, 3, 100 * RIG_MIB);
    foreseed_test_event(rig->t, "LEDGER", "state", "onlining");
    g_assert_cmpuint(fore_test_qmp_vcpus(rig->qmp), ==, 4);
    foreseed_test_kill(rig->t);
    rig->sea->slow = false; /* the guest had its grant and went on */
    foreseed_test_start(rig->t);
    foreseed_test_event(rig->t, "LEDGER", "state", "online");
    steps(rig, 2);
    g_assert_cmpuint(open_entries(rig), ==, 0);
    g_assert_cmpuint(fore_test_qmp_added(rig->qmp), ==, 3);
    g_assert_cmpuint(rig_count(rig, "qmp:device_add"), ==, 3); /* nothing was even tried twice */
    g_assert_cmpfloat(promised(rig, "vcpu"), ==, 4);
}

static void test_killed_while_plugging(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);

    fore_test_qmp_swallow(rig->qmp, "device_add"); /* one of three is there, unheard */
    test_sea_load(rig->sea, 3, 3, 100 * RIG_MIB);
    WAIT_FOR(rig->t, fore_test_qmp_added(rig->qmp) == 1);
    foreseed_test_kill(rig->t);
    foreseed_test_start(rig->t);
    foreseed_test_event(rig->t, "LEDGER", "state", "failed"); /* rolled back to the truth */
    WAIT_FOR(rig->t, test_sea_vcpus(rig->sea) == 4);          /* and asked for anew */
    foreseed_test_event(rig->t, "LEDGER", "state", "online");
    g_assert_cmpuint(fore_test_qmp_added(rig->qmp), ==, 3);
    g_assert_cmpuint(open_entries(rig), ==, 0);
    g_assert_cmpfloat(promised(rig, "vcpu"), ==, 4);
}

static void test_killed_while_attesting(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);

    rig->pam->mute = "finish";
    test_sea_load(rig->sea, 3, 3, 100 * RIG_MIB);
    WAIT_FOR(rig->t, rig->pam->kept->len > 0);
    foreseed_test_kill(rig->t);
    rig->pam->reason = "pcr-mismatch";
    rig->pam->mute = NULL;
    foreseed_test_start(rig->t);
    foreseed_test_event(rig->t, "LEDGER", "state", "failed"); /* never sent */
    foreseed_test_event(rig->t, "DENIED", "name", "web1");    /* what was asked for is void */
    g_assert_cmpuint(fore_test_qmp_added(rig->qmp), ==, 0);
    g_assert_cmpfloat(promised(rig, "vcpu"), ==, 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent/sources/qmp-gone-is-unreachable-and-others-work", test_qmp_gone);
    g_test_add_func("/agent/sources/sea-gone-is-blind-and-nothing-shrinks", test_sea_gone);
    g_test_add_func("/agent/sources/stopped-guest-is-not-resized", test_stopped_guest);
    g_test_add_func("/agent/hostile/replayed-report-resets-the-session", test_replayed_report);
    g_test_add_func("/agent/hostile/absurd-report-resets-the-session", test_absurd_reports);
    g_test_add_func("/agent/hostile/absurd-capacity-resets-the-session", test_absurd_capacity);
    g_test_add_func("/agent/hostile/guest-owns-no-more-than-qemu-has", test_boasting_guest);
    g_test_add_func("/agent/hostile/reset-ends-the-plan-that-waits",
                    test_reset_while_a_grant_is_out);
    g_test_add_func("/agent/hostile/removal-ends-an-attestation", test_removed_while_attesting);
    g_test_add_func("/agent/hostile/removal-while-growing-leaves-no-ghost",
                    test_removed_while_growing);
    g_test_add_func("/agent/death/between-plug-and-online", test_killed_between_plug_and_online);
    g_test_add_func("/agent/death/while-plugging", test_killed_while_plugging);
    g_test_add_func("/agent/death/while-attesting", test_killed_while_attesting);
    return g_test_run();
}
