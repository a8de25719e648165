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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent/seams/reason-of-the-pam-is-cut-safely", test_reason_of_the_pam);
    g_test_add_func("/agent/seams/refusal-of-qemu-is-cut-safely", test_refusal_of_qemu);
    g_test_add_func("/agent/seams/resumed-unheard-is-not-frozen", test_resumed_unheard);
    g_test_add_func("/agent/seams/found-stopped-is-frozen", test_found_stopped);
    g_test_add_func("/agent/seams/attest-asks-for-no-grant", test_attest_asks_for_no_grant);
    return g_test_run();
}
