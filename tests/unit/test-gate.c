/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The gate of attestation: every pair of state and event, and what each answer does. */
#include <string.h>

#include "control/fore-gate.h"

#define S   FORE_NS_PER_S
#define MEM (G_GUINT64_CONSTANT(512) << 20)

/* Written down a second time on purpose, by name: the table under test must not be its own oracle.
 */
static const char *expected[FORE_GATE_N][FORE_GATE_EV_N] = {
    /* ask,     affirm,   deny,     late,     expire,   relief,   reset */
    {"asking", "closed", "closed", "closed", "closed", "asking", "closed"}, /* closed */
    {"asking", "open", "held", "held", "asking", "asking", "closed"},       /* asking */
    {"asking", "open", "held", "open", "closed", "asking", "closed"},       /* open */
    {"held", "held", "held", "held", "closed", "asking", "held"},           /* held */
};

static void test_pairs(void)
{
    for (int s = 0; s < FORE_GATE_N; s++) {
        for (int e = 0; e < FORE_GATE_EV_N; e++) {
            g_test_message("%s + %s", fore_gate_state_names[s], fore_gate_event_names[e]);
            g_assert_cmpstr(fore_gate_state_names[fore_gate_next(s, e)], ==, expected[s][e]);
        }
    }
}

static ForePolicy policy_of(void)
{
    ForePolicy policy;

    fore_policy_init(&policy);
    policy.denial_hold_ns = 10 * S;
    policy.max_verdict_age_ns = 10 * S;
    return policy;
}

static const ForePlan plan = {.id = 7, .vcpus = 3, .mem_bytes = MEM};

static ForeGrantRef yes_at(uint64_t ns)
{
    return (ForeGrantRef){.plan_id = 7,
                          .affirmed = true,
                          .vcpus = 3,
                          .mem_bytes = MEM,
                          .verdict_ns = ns,
                          .expires_ns = ns + 60 * S};
}

static void test_fresh_proof_opens(void)
{
    ForePolicy policy = policy_of();
    ForeGate gate;
    ForeGrantRef yes = yes_at(101 * S);

    fore_gate_init(&gate);
    g_assert_false(fore_gate_may_commit(&gate, 1, 0, 100 * S));
    g_assert_true(fore_gate_ask(&gate, &policy, false, 100 * S));
    g_assert_false(fore_gate_ask(&gate, &policy, false, 100 * S));
    g_assert_true(fore_gate_answer(&gate, &policy, &plan, &yes, 102 * S));
    g_assert_true(fore_gate_may_commit(&gate, 3, MEM, 102 * S));
    g_assert_false(fore_gate_may_commit(&gate, 4, MEM, 102 * S));
    g_assert_false(fore_gate_may_commit(&gate, 3, MEM + 1, 102 * S));
    g_assert_true(fore_gate_may_commit(&gate, 3, MEM, 111 * S));
    g_assert_false(fore_gate_may_commit(&gate, 3, MEM, 111 * S + 1)); /* older than its maximum */
    fore_gate_tick(&gate, 112 * S);
    g_assert_cmpint(gate.state, ==, FORE_GATE_CLOSED);
}

static void test_late_proof(void)
{
    ForePolicy policy = policy_of();
    ForeGate gate;
    ForeGrantRef yes = yes_at(111 * S);

    fore_gate_init(&gate);
    g_assert_false(fore_gate_answer(&gate, &policy, &plan, &yes, 111 * S)); /* nobody asked */
    g_assert_cmpint(gate.state, ==, FORE_GATE_CLOSED);
    fore_gate_ask(&gate, &policy, false, 100 * S);
    fore_gate_late(&gate, &policy, 110 * S);
    g_assert_cmpint(gate.state, ==, FORE_GATE_HELD);
    g_assert_false(fore_gate_answer(&gate, &policy, &plan, &yes, 111 * S));
    g_assert_cmpint(gate.state, ==, FORE_GATE_HELD);
    g_assert_false(fore_gate_may_commit(&gate, 1, 0, 111 * S));
}

static void expect_denied(ForeGrantRef answer, const ForePlan *p, uint64_t now, const char *reason)
{
    ForePolicy policy = policy_of();
    ForeGate gate;

    fore_gate_init(&gate);
    fore_gate_ask(&gate, &policy, false, 100 * S);
    g_assert_false(fore_gate_answer(&gate, &policy, p, &answer, now));
    g_assert_cmpint(gate.state, ==, FORE_GATE_HELD);
    g_assert_cmpstr(gate.reason, ==, reason);
    g_assert_false(fore_gate_may_commit(&gate, 1, 0, now));
}

static void test_insufficient_proofs(void)
{
    ForeGrantRef a = yes_at(100 * S);
    ForePlan anew = plan;

    a.affirmed = false;
    g_strlcpy(a.reason, "guest:pcr-mismatch", sizeof a.reason);
    expect_denied(a, &plan, 101 * S, "guest:pcr-mismatch");
    a.reason[0] = 0;
    expect_denied(a, &plan, 101 * S, "control:no-reason-given");
    expect_denied(yes_at(90 * S), &plan, 101 * S, "control:verdict-too-old");
    expect_denied(yes_at(102 * S), &plan, 101 * S, "control:verdict-from-the-future");
    a = yes_at(100 * S);
    a.expires_ns = 101 * S;
    expect_denied(a, &plan, 101 * S, "control:verdict-expired");
    a = yes_at(100 * S);
    a.vcpus = 2;
    expect_denied(a, &plan, 101 * S, "control:grant-too-small");
    a = yes_at(100 * S);
    a.mem_bytes--;
    expect_denied(a, &plan, 101 * S, "control:grant-too-small");
    anew.reattest = true;
    expect_denied(yes_at(99 * S), &anew, 101 * S, "control:verdict-before-question");
}

static void test_other_plan(void)
{
    ForePolicy policy = policy_of();
    ForeGate gate;
    ForeGrantRef other = yes_at(100 * S);

    other.plan_id = 6;
    fore_gate_init(&gate);
    fore_gate_ask(&gate, &policy, false, 100 * S);
    g_assert_false(fore_gate_answer(&gate, &policy, &plan, &other, 101 * S));
    g_assert_cmpint(gate.state, ==, FORE_GATE_ASKING); /* still waits for its own */
}

/* 10, 20, 40, 80, 160, 300, 300 s; an affirmation starts afresh. */
static void test_hold_doubles(void)
{
    static const unsigned holds[] = {10, 20, 40, 80, 160, 300, 300};
    ForePolicy policy = policy_of();
    ForeGrantRef no = {.plan_id = 7, .reason = "no"}, yes;
    uint64_t now = 100 * S;
    ForeGate gate;

    fore_gate_init(&gate);
    for (size_t i = 0; i < G_N_ELEMENTS(holds); i++) {
        g_assert_true(fore_gate_ask(&gate, &policy, false, now));
        fore_gate_answer(&gate, &policy, &plan, &no, now);
        g_assert_cmpuint(gate.until_ns - now, ==, holds[i] * S);
        g_assert_false(fore_gate_ask(&gate, &policy, false, gate.until_ns - 1));
        now = gate.until_ns;
    }
    g_assert_true(fore_gate_ask(&gate, &policy, false, now));
    yes = yes_at(now);
    g_assert_true(fore_gate_answer(&gate, &policy, &plan, &yes, now));
    g_assert_true(fore_gate_ask(&gate, &policy, false, now));
    fore_gate_answer(&gate, &policy, &plan, &no, now);
    g_assert_cmpuint(gate.until_ns - now, ==, 10 * S);
}

static void test_relief(void)
{
    ForePolicy policy = policy_of();
    ForeGrantRef no = {.plan_id = 7, .reason = "no"};
    ForeGate gate;

    fore_gate_init(&gate);
    for (int i = 0; i < 3; i++) {
        fore_gate_ask(&gate, &policy, false, gate.until_ns);
        fore_gate_answer(&gate, &policy, &plan, &no, gate.until_ns);
    }
    g_assert_cmpuint(gate.until_ns - gate.denied_ns, ==, 40 * S);
    g_assert_false(fore_gate_ask(&gate, &policy, true, gate.denied_ns + 10 * S - 1));
    g_assert_true(fore_gate_ask(&gate, &policy, true, gate.denied_ns + 10 * S));
}

static void test_reset(void)
{
    ForePolicy policy = policy_of();
    ForeGrantRef yes = yes_at(100 * S), no = {.plan_id = 7, .reason = "no"};
    ForeGate gate;

    fore_gate_init(&gate);
    fore_gate_ask(&gate, &policy, false, 100 * S);
    fore_gate_answer(&gate, &policy, &plan, &yes, 100 * S);
    fore_gate_reset(&gate);
    g_assert_false(fore_gate_may_commit(&gate, 1, 0, 100 * S));
    fore_gate_ask(&gate, &policy, false, 100 * S);
    fore_gate_answer(&gate, &policy, &plan, &no, 100 * S);
    fore_gate_reset(&gate);
    g_assert_cmpint(gate.state, ==, FORE_GATE_HELD); /* a reboot is no way round a refusal */
}

static void test_shrink(void)
{
    ForePolicy policy = policy_of();
    ForeGrantRef yes = yes_at(100 * S);
    ForeGate gate;

    fore_gate_init(&gate);
    fore_gate_ask(&gate, &policy, false, 100 * S);
    fore_gate_answer(&gate, &policy, &plan, &yes, 100 * S);
    fore_gate_shrink(&gate, 1, MEM);
    g_assert_false(fore_gate_may_commit(&gate, 3, MEM, 101 * S));
    g_assert_true(fore_gate_may_commit(&gate, 1, MEM, 101 * S));
}

static void open_gate(ForeGate *gate, const ForePolicy *policy)
{
    ForeGrantRef yes = yes_at(100 * S); /* its grant ends at 160 s */

    fore_gate_init(gate);
    fore_gate_ask(gate, policy, false, 100 * S);
    g_assert_true(fore_gate_answer(gate, policy, &plan, &yes, 100 * S));
}

static void test_proof_renews(void)
{
    ForePolicy policy = policy_of();
    ForeGrantRef again = {.affirmed = true, .verdict_ns = 105 * S};
    ForeGate gate;

    open_gate(&gate, &policy);
    g_assert_false(fore_gate_proof(&gate, &policy, &again, 105 * S));
    g_assert_true(fore_gate_may_commit(&gate, 3, MEM, 115 * S));
    g_assert_false(fore_gate_may_commit(&gate, 4, MEM, 115 * S)); /* a verdict grants nothing */
    g_assert_false(fore_gate_may_commit(&gate, 3, MEM, 115 * S + 1));
    for (uint64_t at = 110; at < 160; at += 5) {
        again.verdict_ns = at * S;
        g_assert_false(fore_gate_proof(&gate, &policy, &again, at * S));
    }
    g_assert_true(fore_gate_may_commit(&gate, 3, MEM, 160 * S - 1));
    g_assert_false(fore_gate_may_commit(&gate, 3, MEM, 160 * S)); /* the grant's own end */
    fore_gate_tick(&gate, 160 * S);
    again.verdict_ns = 161 * S;
    g_assert_false(fore_gate_proof(&gate, &policy, &again, 161 * S)); /* opens nothing */
    g_assert_cmpint(gate.state, ==, FORE_GATE_CLOSED);
}

static void test_failed_proof_voids(void)
{
    ForePolicy policy = policy_of();
    ForeGrantRef no = {.verdict_ns = 105 * S, .reason = "guest:pcr-value-mismatch"};
    ForeGate gate;

    open_gate(&gate, &policy);
    g_assert_true(fore_gate_proof(&gate, &policy, &no, 105 * S));
    g_assert_cmpint(gate.state, ==, FORE_GATE_HELD);
    g_assert_cmpstr(gate.reason, ==, "guest:pcr-value-mismatch");
    g_assert_false(fore_gate_may_commit(&gate, 1, 0, 105 * S));
    g_assert_false(fore_gate_proof(&gate, &policy, &no, 106 * S)); /* nothing is left to void */
    fore_gate_init(&gate);
    fore_gate_ask(&gate, &policy, false, 100 * S); /* its own answer decides */
    g_assert_false(fore_gate_proof(&gate, &policy, &no, 105 * S));
    g_assert_cmpint(gate.state, ==, FORE_GATE_ASKING);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/control/gate/every-pair-goes-where-it-should", test_pairs);
    g_test_add_func("/control/gate/fresh-proof-opens-for-its-totals-and-time",
                    test_fresh_proof_opens);
    g_test_add_func("/control/gate/late-proof-stays-closed", test_late_proof);
    g_test_add_func("/control/gate/insufficient-proofs-are-refused-by-name",
                    test_insufficient_proofs);
    g_test_add_func("/control/gate/proof-for-another-plan-opens-nothing", test_other_plan);
    g_test_add_func("/control/gate/refusals-hold-longer-each-time", test_hold_doubles);
    g_test_add_func("/control/gate/relief-asks-again-without-doubling", test_relief);
    g_test_add_func("/control/gate/reset-voids-proofs-and-keeps-holds", test_reset);
    g_test_add_func("/control/gate/what-was-given-back-is-no-longer-granted", test_shrink);
    g_test_add_func("/control/gate/fresh-verdict-renews-up-to-the-end-of-the-grant",
                    test_proof_renews);
    g_test_add_func("/control/gate/failed-verdict-voids-what-is-granted", test_failed_proof_voids);
    return g_test_run();
}
