/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Verdicts that no plan asked for: what brings one about, and what a "no" takes away. */
#include <string.h>

#include "tests/agent/test-foreseed-peers.h"

/* The grant for four vCPUs is in hand and everything of it is online. */
static Rig *grown(const char *policy)
{
    Rig *rig = rig_new(policy);
    const json_t *event;

    test_sea_load(rig->sea, 3, 3, 100 * RIG_MIB);
    do {
        event = foreseed_test_event(rig->t, "LEDGER", "state", "online");
    } while (g_strcmp0(json_string_value(json_object_get(event, "resource")), "vcpu") != 0);
    return rig;
}

static bool has_trigger(const json_t *event, const char *trigger)
{
    json_t *name;
    size_t i;

    json_array_foreach (json_object_get(event, "triggers"), i, name) {
        if (g_strcmp0(json_string_value(name), trigger) == 0) {
            return true;
        }
    }
    return false;
}

/* The next verdict that @trigger brought about. */
static const json_t *reattested(Rig *rig, const char *trigger, bool affirmed)
{
    const json_t *event;

    do {
        event = foreseed_test_event(rig->t, "VERDICT", "name", "web1");
    } while (!has_trigger(event, trigger));
    g_assert_true(json_is_true(json_object_get(event, "affirmed")) == affirmed);
    return event;
}

/* The grant is void, with the reason; nothing is taken away from the guest. */
static void assert_voided(Rig *rig, const char *reason)
{
    const json_t *event = foreseed_test_event(rig->t, "DENIED", "name", "web1");
    const char *text = json_string_value(json_object_get(event, "reason"));

    g_assert_nonnull(strstr(text, reason));
    g_assert_nonnull(strstr(text, "the grant is void"));
    g_assert_cmpuint(test_sea_vcpus(rig->sea), ==, 4);
    g_assert_cmpint(rig_index(rig, "sea:sea-release", 0), ==, -1);
}

static void test_age(void)
{
    g_autoptr(Rig) rig = grown("max-verdict-age=4s");

    reattested(rig, "age", true);
    g_assert_null(json_object_get(rig->pam->finish, "vcpus")); /* a verdict alone */
    reattested(rig, "age", true); /* and again: the first one renewed what is granted */
    rig->pam->reason = "pcr-value-mismatch";
    reattested(rig, "age", false);
    assert_voided(rig, "guest:pcr-value-mismatch");
}

static void test_silent_pam(void)
{
    g_autoptr(Rig) rig = grown("max-verdict-age=10s"); /* ample time for what times out */

    rig->pam->mute = "finish";
    reattested(rig, "age", false);
    assert_voided(rig, "pam:timeout");
}

static void test_age_needs_a_grant(void)
{
    g_autoptr(Rig) rig = rig_new("max-verdict-age=1s");

    for (unsigned i = 0; i < 4; i++) {
        foreseed_test_event(rig->t, "FORECAST", "name", "web1");
    }
    g_assert_cmpint(rig_index(rig, "pam:begin", 0), ==, -1);
}

static void test_session(void)
{
    g_autoptr(Rig) rig = grown("max-verdict-age=1h");

    test_sea_listen(rig->sea, false);
    foreseed_test_event(rig->t, "SOURCE", "source", "sea");
    test_sea_listen(rig->sea, true);
    reattested(rig, "session", true);
}

static void test_reset(void)
{
    g_autoptr(Rig) rig = grown("max-verdict-age=1h");
    unsigned sessions = rig->sea->sessions;

    fore_test_qmp_event(rig->qmp, "RESET", NULL);
    reattested(rig, "session", true);
    g_assert_cmpuint(rig->sea->sessions, >, sessions);
}

static void test_evidence(void)
{
    g_autoptr(Rig) rig = grown("max-verdict-age=1h");
    unsigned asked;

    rig->pam->reason = "ima-unlisted";
    fore_wire_event(rig->sea->server.wire, "EVIDENCE_CHANGED",
                    json_pack("{s:i}", "pcr-updates", 9));
    reattested(rig, "evidence", false);
    assert_voided(rig, "guest:ima-unlisted");
    /* a guest that cries on does not keep its pathway's TPMs busy: at most one in 5 s */
    asked = rig_count(rig, "pam:begin");
    for (unsigned i = 0; i < 3; i++) {
        fore_wire_event(rig->sea->server.wire, "EVIDENCE_CHANGED",
                        json_pack("{s:i}", "pcr-updates", 10 + (int)i));
        foreseed_test_event(rig->t, "FORECAST", "name", "web1");
    }
    g_assert_cmpuint(rig_count(rig, "pam:begin"), ==, asked);
}

static void test_operator(void)
{
    g_autoptr(Rig) rig = grown("max-verdict-age=1h");
    g_autoptr(json_t) bad = NULL;

    rig->pam->reason = "sticky-failure";
    bad = foreseed_test_call(rig->t, "attest", json_pack("{s:s}", "name", "web1"));
    g_assert_cmpstr(json_string_value(json_object_get(bad, "verdict")), ==, "contraindicated");
    assert_voided(rig, "guest:sticky-failure");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent/reattest/age-asks-again-and-a-no-voids-the-grant", test_age);
    g_test_add_func("/agent/reattest/silence-voids-the-grant", test_silent_pam);
    g_test_add_func("/agent/reattest/age-alone-asks-for-nothing-ungranted", test_age_needs_a_grant);
    g_test_add_func("/agent/reattest/a-new-session-asks-again", test_session);
    g_test_add_func("/agent/reattest/a-reset-ends-the-session", test_reset);
    g_test_add_func("/agent/reattest/changed-evidence-asks-at-once-and-not-often", test_evidence);
    g_test_add_func("/agent/reattest/an-operators-no-voids-the-grant", test_operator);
    return g_test_run();
}
