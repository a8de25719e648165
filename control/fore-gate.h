/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The gate of attestation of one VM: growth passes only while it is open.
 *
 *   state    what is true                                        leaves it
 *   CLOSED   no proof is at hand and none was asked for          ASK
 *   ASKING   a proof for one plan is awaited                     AFFIRM, DENY, LATE, RESET
 *   OPEN     a proof for named totals, younger than its maximum  ASK, DENY, EXPIRE, RESET
 *   HELD     refused: nobody may ask before until_ns             EXPIRE, RELIEF, RESET
 *
 * A proof that nobody waits for opens nothing: AFFIRM leaves CLOSED closed and HELD held.
 */
#include "control/fore-policy.h"

typedef enum {
    FORE_GATE_CLOSED,
    FORE_GATE_ASKING,
    FORE_GATE_OPEN,
    FORE_GATE_HELD,
    FORE_GATE_N
} ForeGateState;
extern const char *const fore_gate_state_names[FORE_GATE_N];

typedef enum {
    FORE_GATE_EV_ASK,    /* a proof is asked for */
    FORE_GATE_EV_AFFIRM, /* it came, in time, fresh and sufficient */
    FORE_GATE_EV_DENY,   /* the answer is no, or not good enough */
    FORE_GATE_EV_LATE,   /* no answer within its deadline */
    FORE_GATE_EV_EXPIRE, /* until_ns has come */
    FORE_GATE_EV_RELIEF, /* a proof is asked for although held: memory is running out */
    FORE_GATE_EV_RESET,  /* reboot, migration, freeze, policy: whatever was proved is void */
    FORE_GATE_EV_N
} ForeGateEvent;
extern const char *const fore_gate_event_names[FORE_GATE_EV_N];

/** fore_gate_next: the table */
ForeGateState fore_gate_next(ForeGateState state, ForeGateEvent event);

typedef struct {
    ForeGateState state;
    uint64_t until_ns;   /* OPEN: the proof is good until; HELD: nobody asks before */
    uint64_t asked_ns;   /* ASKING: since */
    uint64_t expires_ns; /* OPEN: of the grant itself, whatever is proved later */
    uint64_t denied_ns;  /* of the newest refusal */
    unsigned denials;    /* in a row */
    unsigned vcpus;      /* OPEN: totals that were granted */
    uint64_t mem_bytes;
    char reason[96]; /* of the newest refusal */
} ForeGate;

void fore_gate_init(ForeGate *gate);
/** fore_gate_tick: let time pass: an open or held gate closes at its until_ns */
void fore_gate_tick(ForeGate *gate, uint64_t now_ns);
/** fore_gate_may_ask: fore_gate_ask() would succeed */
bool fore_gate_may_ask(const ForeGate *gate, const ForePolicy *policy, bool relief,
                       uint64_t now_ns);
/**
 * fore_gate_ask: start waiting for a proof
 * @relief: memory is running out and policy says relieve: the hold does not double
 * Returns: false when held (or when one is awaited already); then nothing changed
 */
bool fore_gate_ask(ForeGate *gate, const ForePolicy *policy, bool relief, uint64_t now_ns);
/**
 * fore_gate_answer: judge the answer to @plan
 * Returns: true when it opened the gate: affirmed, for this plan, for at least its totals, not from
 * the future, not expired, at most policy->max_verdict_age_ns old, and (plan->reattest) not older
 * than the question.  Else the gate is held and gate->reason says why.  When nobody asked: false,
 * nothing changed.
 */
bool fore_gate_answer(ForeGate *gate, const ForePolicy *policy, const ForePlan *plan,
                      const ForeGrantRef *verdict, uint64_t now_ns);
/**
 * fore_gate_proof: a verdict that no plan asked for (age, a reboot, changed evidence, the operator)
 * @verdict: totals and plan are not looked at: a verdict alone grants nothing
 * Affirmed, it lets what is granted last longer, never past the grant's own end.  Anything else
 * voids what is granted, and holds.  A gate that is not open stays as it is: a question under way
 * has an answer of its own.
 * Returns: true when it voided something; gate->reason says why
 */
bool fore_gate_proof(ForeGate *gate, const ForePolicy *policy, const ForeGrantRef *verdict,
                     uint64_t now_ns);
/** fore_gate_late: the answer did not come */
void fore_gate_late(ForeGate *gate, const ForePolicy *policy, uint64_t now_ns);
/** fore_gate_reset: nothing that was proved holds any more; a hold stays */
void fore_gate_reset(ForeGate *gate);
/** fore_gate_may_commit: growth to these totals may be sent now */
bool fore_gate_may_commit(const ForeGate *gate, unsigned vcpus, uint64_t mem_bytes,
                          uint64_t now_ns);
/** fore_gate_shrink: totals were given back: what was granted above them is void */
void fore_gate_shrink(ForeGate *gate, unsigned vcpus, uint64_t mem_bytes);
