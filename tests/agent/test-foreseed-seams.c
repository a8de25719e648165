/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where foreseed meets its peers at a bad moment: their words are cut, their events are missed,
 * their VM goes away, their log is full. */
#include <string.h>

#include "tests/agent/test-foreseed-peers.h"

/* 90 letters of two bytes each: a bound that counts bytes cuts one of them in half. */
static char *two_byte_letters(void)
{
    GString *text = g_string_new("x");

    for (unsigned i = 0; i < 90; i++) {
        g_string_append(text, "é");
    }
    return g_string_free(text, FALSE);
}

static void test_reason_of_the_pam(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    g_autofree char *text = two_byte_letters();
    const json_t *event;

    for (unsigned skip = 0; skip < 2; skip++) { /* one of the two cuts a letter */
        rig->pam->reason = text + 1 - skip;
        test_sea_load(rig->sea, 1, 3, 100 * RIG_MIB);
        event = foreseed_test_event(rig->t, "VERDICT", "name", "web1");
        g_assert_true(
            g_str_has_prefix(json_string_value(json_object_get(event, "reason")), "guest:"));
    }
    foreseed_test_event(rig->t, "DENIED", "name", "web1");
}

static void test_refusal_of_qemu(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    g_autofree char *text = two_byte_letters();

    fore_test_qmp_refuse(rig->qmp, "device_add", text);
    test_sea_load(rig->sea, 1, 3, 100 * RIG_MIB);
    foreseed_test_event(rig->t, "LEDGER", "state", "failed");
    fore_test_qmp_refuse(rig->qmp, "device_add", text + 1);
    foreseed_test_event(rig->t, "LEDGER", "state", "failed");
    WAIT_FOR(rig->t, test_sea_vcpus(rig->sea) == 4);
}

/* RESUME comes while nobody listens: the VM must not stay frozen for good. */
static void test_resumed_unheard(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    const json_t *note;

    fore_test_qmp_run(rig->qmp, false);
    fore_test_qmp_event(rig->qmp, "STOP", NULL);
    do {
        note = foreseed_test_event(rig->t, "NOTE", "name", "web1");
    } while (!g_str_has_prefix(json_string_value(json_object_get(note, "reason")), "frozen"));
    fore_test_qmp_listen(rig->qmp, false);
    foreseed_test_wait_state(rig->t, "web1", "unreachable");
    fore_test_qmp_run(rig->qmp, true);
    fore_test_qmp_listen(rig->qmp, true);
    foreseed_test_wait_state(rig->t, "web1", "ok");
    test_sea_load(rig->sea, 1, 3, 100 * RIG_MIB);
    WAIT_FOR(rig->t, test_sea_vcpus(rig->sea) == 4);
}

/* A VM that is stopped when foreseed finds it. */
static void test_found_stopped(void)
{
    g_autoptr(Rig) rig = rig_new(NULL);
    const json_t *note;

    fore_test_qmp_run(rig->qmp, false); /* and its STOP event is lost */
    fore_test_qmp_drop(rig->qmp);
    do {
        note = foreseed_test_event(rig->t, "NOTE", "name", "web1");
    } while (!g_str_has_prefix(json_string_value(json_object_get(note, "reason")), "frozen"));
}

/* A grant that nobody uses moves the PAM's number away from the SEA's counter. */
static void test_attest_asks_for_no_grant(void)
{
    g_autoptr(Rig) rig = rig_new("mode=observe");
    g_autoptr(json_t) answer =
        foreseed_test_call(rig->t, "attest", json_pack("{s:s}", "name", "web1"));

    g_assert_cmpstr(json_string_value(json_object_get(answer, "verdict")), ==, "affirming");
    g_assert_true(json_is_object(json_object_get(rig->pam->finish, "evidence")));
    g_assert_null(json_object_get(rig->pam->finish, "vcpus"));
    g_assert_null(json_object_get(rig->pam->finish, "memory-bytes"));
}

static void on_ended(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    *(GError **)data = error != NULL ? g_error_copy(error) : NULL;
}

/* Whoever enrols a VM that goes away is told so. */
static void test_removed_while_enrolling(void)
{
    g_autoptr(Rig) rig = rig_new("mode=observe");
    g_autoptr(GError) error = NULL;

    rig->sea->mute = true;
    fore_link_execute(rig->t->link, "vm-enroll",
                      json_pack("{s:s,s:[s]}", "name", "web1", "pathway", "host1"), 60000, on_ended,
                      &error);
    WAIT_FOR(rig->t, rig->sea->kept->len > 0);
    foreseed_test_do(rig->t, "vm-remove", json_pack("{s:s}", "name", "web1"));
    WAIT_FOR(rig->t, error != NULL || rig->t->exited);
    g_assert_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, "removed"));
}

/* The log keeps the newest events of all VMs: no guest may fill it alone. */
static void test_a_guest_cannot_fill_the_log(void)
{
    g_autoptr(Rig) rig = rig_new("mode=observe");
    g_autoptr(json_t) log = NULL;
    json_t *event;
    unsigned kept = 0;
    size_t i;

    for (unsigned n = 0; n < 300; n++) {
        json_t *ev = json_pack("{s:i,s:I,s:{s:i}}", "vcpus-online", 1, "memory-online-bytes",
                               (json_int_t)FORE_TEST_QMP_BASE, "ungranted", "vcpus", (int)(n % 2));
        fore_wire_event(rig->sea->server.wire, "CAPACITY", ev);
    }
    WAIT_FOR(rig->t, foreseed_test_count(rig->t, "UNGRANTED") >= 100);
    log = foreseed_test_call(rig->t, "query-events", json_pack("{s:i}", "limit", 1000));
    json_array_foreach (json_object_get(log, "events"), i, event) {
        kept += g_strcmp0(json_string_value(json_object_get(event, "event")), "UNGRANTED") == 0;
    }
    g_assert_cmpuint(kept, >, 0);
    g_assert_cmpuint(kept, <=, 61);
}

/* Without the SEA's yes nothing is plugged: also not by the next plan, on the same verdict. */
static void test_refused_grant_plugs_nothing_later(void)
{
    g_autoptr(Rig) rig = rig_new("cooldown=0s");

    rig->sea->refuses_grants = true;
    test_sea_load(rig->sea, 1, 3, 100 * RIG_MIB);
    for (unsigned i = 0; i < 3; i++) {
        foreseed_test_event(rig->t, "LEDGER", "state", "failed");
        g_assert_cmpuint(rig_count(rig, "qmp:device_add"), ==, 0);
        test_sea_load(rig->sea, 1, i % 2 ? 3 : 2, 100 * RIG_MIB);
    }
    rig->sea->refuses_grants = false;
    WAIT_FOR(rig->t, test_sea_vcpus(rig->sea) > 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent/seams/reason-of-the-pam-is-cut-safely", test_reason_of_the_pam);
    g_test_add_func("/agent/seams/refusal-of-qemu-is-cut-safely", test_refusal_of_qemu);
    g_test_add_func("/agent/seams/resumed-unheard-is-not-frozen", test_resumed_unheard);
    g_test_add_func("/agent/seams/found-stopped-is-frozen", test_found_stopped);
    g_test_add_func("/agent/seams/attest-asks-for-no-grant", test_attest_asks_for_no_grant);
    g_test_add_func("/agent/seams/removal-ends-an-enrolment", test_removed_while_enrolling);
    g_test_add_func("/agent/seams/guest-cannot-fill-the-log", test_a_guest_cannot_fill_the_log);
    g_test_add_func("/agent/seams/refused-grant-plugs-nothing-later",
                    test_refused_grant_plugs_nothing_later);
    return g_test_run();
}
