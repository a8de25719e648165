/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The Adjuster of one VM: events in, actions out, no I/O and no clock.  In this order: actual
 * usage, predicted usage, error, adjustment, re-attest when the adjustment passes a threshold,
 * allocate or release, wait.  The same events replay to the same actions bit for bit.
 */
#include "common/fore-flow.h"
#include "control/fore-ledger.h"
#include "control/fore-policy.h"

typedef struct ForeLoop ForeLoop;

typedef enum {
    FORE_EVENT_TICK,     /* one step: usage and forecast (either may be invalid) */
    FORE_EVENT_VERDICT,  /* the PAM's answer, or its absence, for a plan */
    FORE_EVENT_PLUGGED,  /* an actuator's result for a ledger entry */
    FORE_EVENT_ONLINE,   /* the guest brought it online (or could not) */
    FORE_EVENT_RELEASED, /* the guest gave it back (or could not, or only in part) */
    FORE_EVENT_CAPACITY, /* truth re-read from QEMU and guest (start, reconnect, reset) */
    FORE_EVENT_POLICY,   /* the operator changed policy or mode */
    FORE_EVENT_PROOF,    /* a verdict that no plan asked for: no voids what is granted */
    FORE_EVENT_FREEZE,   /* migration or stop: no resize until thawed */
    FORE_EVENT_N
} ForeEventKind;

typedef struct {
    ForeEventKind kind;
    ForeUsage usage;       /* TICK, CAPACITY (capacity only) */
    ForeForecast forecast; /* TICK */
    ForeGrantRef verdict;  /* VERDICT, PROOF */
    uint64_t entry_id;     /* PLUGGED, ONLINE, RELEASED: ledger entry */
    bool ok;               /* PLUGGED, ONLINE, RELEASED; FREEZE: true = frozen */
    ForeCapacity capacity; /* PLUGGED, ONLINE, RELEASED: what there is now */
    char reason[96];       /* when !ok */
    ForePolicy policy;     /* POLICY */
} ForeEvent;

typedef enum {
    FORE_ACTION_JOURNAL, /* first of all: write this ledger entry to disk before what follows */
    FORE_ACTION_ATTEST,  /* ask the PAM for a grant of plan (answer: VERDICT) */
    FORE_ACTION_GROW, /* give the grant to the SEA, plug up to plan's totals (PLUGGED, then ONLINE)
                       */
    FORE_ACTION_RELEASE, /* SEA takes offline, then shrink to plan's totals (answer: RELEASED) */
    FORE_ACTION_NOTE     /* tell the operator: denied, held, demoted ... */
} ForeActionKind;

typedef struct {
    ForeActionKind kind;
    ForePlan plan;         /* ATTEST, GROW, RELEASE */
    ForeLedgerEntry entry; /* JOURNAL */
    char note[160];        /* NOTE: "CODE: text" */
} ForeAction;

#define FORE_ACTIONS_MAX 16
typedef struct {
    ForeAction items[FORE_ACTIONS_MAX];
    unsigned n;
} ForeActions;

/* The terms of the newest decision, for `foresee explain`. */
typedef struct {
    uint64_t mono_ns;
    double actual[FORE_RES_N], predicted[FORE_RES_N], error[FORE_RES_N];
    double p[FORE_RES_N], i[FORE_RES_N], d[FORE_RES_N], adjustment[FORE_RES_N];
    double forecast_term[FORE_RES_N], reactive_term[FORE_RES_N], target[FORE_RES_N];
    double lead_s;
    bool forecast_used, reattest;
    char verdict[160]; /* what was decided and why, one sentence */
} ForeExplain;

/*
 * For those who carry actions out:
 * - plan.id of ATTEST, GROW and RELEASE names the plan; entries of its resources share it as their
 *   plan_id.  Answers carry either that plan id (all entries of the plan) or the id of one entry.
 * - capacity in PLUGGED, ONLINE and RELEASED decides what was reached; leave it all zero only when
 * it is not known, then ok is believed.  A growth succeeded when vcpus_online and mem_online_bytes
 * (and for PLUGGED: *_plugged*) reach the plan's totals.
 * - A GROW may come without an ATTEST of the same plan id: it lies within the totals of the newest
 *   grant, which is still fresh and which the SEA already has.
 * - Send FORE_EVENT_CAPACITY whenever QEMU or the SEA was (re)connected or the guest was reset:
 * entries from before a restart are adopted or rolled back to what there is, a question to the PAM
 * is withdrawn, and what was proved before is void.  A GROW or RELEASE under way is still owed its
 * answer.
 * - VERDICT with affirmed == false is also the answer for "the PAM cannot be reached".
 * - Note codes: "denied", "late", "no-room", "failed", "partial", "adopted", "rolled-back", "would"
 *   (recommend mode; no colon), "forecast", "policy", "capacity", "frozen", "thawed".
 */

/**
 * fore_loop_new: one VM's loop
 * @vm: name, for ledger entries    @ledger: the host's, shared by all loops, outlives this
 */
ForeLoop *fore_loop_new(const char *vm, const ForePolicy *policy, ForeLedger *ledger);
void fore_loop_free(ForeLoop *loop);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeLoop, fore_loop_free)

/**
 * fore_loop_step: the one pure call
 * @now_ns: monotonic; never before an earlier call's (a step back is treated as no time passing)
 * @ret_actions: overwritten; to be carried out in order
 */
void fore_loop_step(ForeLoop *loop, const ForeEvent *event, uint64_t now_ns,
                    ForeActions *ret_actions);

void fore_loop_explain(const ForeLoop *loop, ForeExplain *ret);
/** fore_loop_is_granted: a grant is open: growth within its totals would need no new proof */
bool fore_loop_is_granted(const ForeLoop *loop, uint64_t now_ns);
/** fore_loop_capacity: what the loop believes there is */
const ForeCapacity *fore_loop_capacity(const ForeLoop *loop);
