/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/fore-gate.h"

#include <string.h>

#define MAX_HOLD_NS (300 * FORE_NS_PER_S)

const char *const fore_gate_state_names[] = {"closed", "asking", "open", "held"};
G_STATIC_ASSERT(G_N_ELEMENTS(fore_gate_state_names) == FORE_GATE_N);
const char *const fore_gate_event_names[] = {"ask",    "affirm", "deny", "late",
                                             "expire", "relief", "reset"};
G_STATIC_ASSERT(G_N_ELEMENTS(fore_gate_event_names) == FORE_GATE_EV_N);

#define C FORE_GATE_CLOSED
#define A FORE_GATE_ASKING
#define O FORE_GATE_OPEN
#define H FORE_GATE_HELD
/* A hold survives RESET: a guest that was refused does not get round it by rebooting. */
static const ForeGateState table[FORE_GATE_N][FORE_GATE_EV_N] = {
    /*                    ASK AFFIRM DENY LATE EXPIRE RELIEF RESET */
    [FORE_GATE_CLOSED] = {A, C, C, C, C, A, C},
    [FORE_GATE_ASKING] = {A, O, H, H, A, A, C},
    [FORE_GATE_OPEN] = {A, O, H, O, C, A, C},
    [FORE_GATE_HELD] = {H, H, H, H, C, A, H},
};
#undef C
#undef A
#undef O
#undef H

ForeGateState fore_gate_next(ForeGateState state, ForeGateEvent event)
{
    g_return_val_if_fail(state < FORE_GATE_N && event < FORE_GATE_EV_N, FORE_GATE_CLOSED);
    return table[state][event];
}

void fore_gate_init(ForeGate *gate)
{
    memset(gate, 0, sizeof *gate);
}

static void enter(ForeGate *gate, ForeGateEvent event)
{
    gate->state = fore_gate_next(gate->state, event);
    if (gate->state != FORE_GATE_OPEN) {
        gate->vcpus = 0;
        gate->mem_bytes = 0;
    }
}

void fore_gate_tick(ForeGate *gate, uint64_t now_ns)
{
    if ((gate->state == FORE_GATE_OPEN || gate->state == FORE_GATE_HELD) &&
        now_ns >= gate->until_ns) {
        enter(gate, FORE_GATE_EV_EXPIRE);
    }
}

bool fore_gate_may_ask(const ForeGate *gate, const ForePolicy *policy, bool relief, uint64_t now_ns)
{
    if (gate->state != FORE_GATE_HELD) {
        return gate->state != FORE_GATE_ASKING;
    }
    return now_ns >= gate->until_ns ||
           (relief && now_ns - gate->denied_ns >= policy->denial_hold_ns);
}

bool fore_gate_ask(ForeGate *gate, const ForePolicy *policy, bool relief, uint64_t now_ns)
{
    fore_gate_tick(gate, now_ns);
    if (!fore_gate_may_ask(gate, policy, relief, now_ns)) {
        return false;
    }
    enter(gate, gate->state == FORE_GATE_HELD ? FORE_GATE_EV_RELIEF : FORE_GATE_EV_ASK);
    gate->asked_ns = now_ns;
    return true;
}

static void refuse(ForeGate *gate, const ForePolicy *policy, ForeGateEvent event,
                   const char *reason, uint64_t now_ns)
{
    uint64_t hold = MIN(policy->denial_hold_ns, MAX_HOLD_NS);

    for (unsigned i = 0; i < gate->denials && hold < MAX_HOLD_NS; i++) {
        hold = MIN(hold * 2, MAX_HOLD_NS);
    }
    gate->denials++;
    gate->denied_ns = now_ns;
    gate->until_ns = now_ns + hold;
    g_strlcpy(gate->reason, reason, sizeof gate->reason);
    enter(gate, event);
}

/* Why an affirmed verdict is not enough for @plan, or NULL. */
static const char *judge(const ForeGate *gate, const ForePolicy *policy, const ForePlan *plan,
                         const ForeGrantRef *verdict, uint64_t now_ns)
{
    if (verdict->verdict_ns > now_ns) {
        return "control:verdict-from-the-future";
    }
    if (now_ns - verdict->verdict_ns > policy->max_verdict_age_ns) {
        return "control:verdict-too-old";
    }
    if (verdict->expires_ns <= now_ns) {
        return "control:verdict-expired";
    }
    if (plan->reattest && verdict->verdict_ns < gate->asked_ns) {
        return "control:verdict-before-question";
    }
    if (verdict->vcpus < plan->vcpus || verdict->mem_bytes < plan->mem_bytes) {
        return "control:grant-too-small";
    }
    return NULL;
}

static uint64_t good_until(const ForeGate *gate, const ForePolicy *policy,
                           const ForeGrantRef *verdict)
{
    return MIN(gate->expires_ns, verdict->verdict_ns + policy->max_verdict_age_ns + 1);
}

bool fore_gate_answer(ForeGate *gate, const ForePolicy *policy, const ForePlan *plan,
                      const ForeGrantRef *verdict, uint64_t now_ns)
{
    const char *why;

    fore_gate_tick(gate, now_ns);
    if (gate->state != FORE_GATE_ASKING || verdict->plan_id != plan->id) {
        return false; /* late, or for something else: opens nothing */
    }
    if (!verdict->affirmed) {
        char reason[sizeof verdict->reason];
        g_strlcpy(reason, verdict->reason, sizeof reason);
        refuse(gate, policy, FORE_GATE_EV_DENY, reason[0] ? reason : "control:no-reason-given",
               now_ns);
        return false;
    }
    why = judge(gate, policy, plan, verdict, now_ns);
    if (why) {
        refuse(gate, policy, FORE_GATE_EV_DENY, why, now_ns);
        return false;
    }
    enter(gate, FORE_GATE_EV_AFFIRM);
    gate->denials = 0;
    gate->expires_ns = verdict->expires_ns;
    gate->until_ns = good_until(gate, policy, verdict);
    gate->vcpus = verdict->vcpus;
    gate->mem_bytes = verdict->mem_bytes;
    return true;
}

bool fore_gate_proof(ForeGate *gate, const ForePolicy *policy, const ForeGrantRef *verdict,
                     uint64_t now_ns)
{
    fore_gate_tick(gate, now_ns);
    if (gate->state != FORE_GATE_OPEN) {
        return false;
    }
    if (!verdict->affirmed) {
        refuse(gate, policy, FORE_GATE_EV_DENY,
               verdict->reason[0] ? verdict->reason : "control:no-reason-given", now_ns);
        return true;
    }
    if (verdict->verdict_ns <= now_ns) {
        gate->until_ns = MAX(gate->until_ns, good_until(gate, policy, verdict));
    }
    return false;
}

void fore_gate_late(ForeGate *gate, const ForePolicy *policy, uint64_t now_ns)
{
    if (gate->state == FORE_GATE_ASKING) {
        refuse(gate, policy, FORE_GATE_EV_LATE, "control:verdict-late", now_ns);
    }
}

void fore_gate_reset(ForeGate *gate)
{
    enter(gate, FORE_GATE_EV_RESET);
}

bool fore_gate_may_commit(const ForeGate *gate, unsigned vcpus, uint64_t mem_bytes, uint64_t now_ns)
{
    return gate->state == FORE_GATE_OPEN && now_ns < gate->until_ns && vcpus <= gate->vcpus &&
           mem_bytes <= gate->mem_bytes;
}

void fore_gate_shrink(ForeGate *gate, unsigned vcpus, uint64_t mem_bytes)
{
    gate->vcpus = MIN(gate->vcpus, vcpus);
    gate->mem_bytes = MIN(gate->mem_bytes, mem_bytes);
}
