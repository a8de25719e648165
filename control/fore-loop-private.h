/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Inside of the loop: fore-loop.c decides, fore-loop-plan.c carries one decision through. */
#include "control/fore-gate.h"
#include "control/fore-loop.h"
#include "control/fore-pid.h"
#include "control/fore-target.h"

#define FORE_LOOP_PAST  16 /* forecasts kept, to be compared with what came */
#define FORE_LOOP_LEADS 32 /* measured lead times kept */

/* Where the one plan of a VM stands, and so what is awaited. */
typedef enum {
    FORE_PLAN_NONE,
    FORE_PLAN_ATTEST,  /* VERDICT */
    FORE_PLAN_PLUG,    /* PLUGGED */
    FORE_PLAN_ONLINE,  /* ONLINE */
    FORE_PLAN_RELEASE, /* RELEASED */
    FORE_PLAN_N
} ForePlanPhase;

/* In the order of the enum: what is awaited, for messages. */
extern const char *const fore_plan_phase_names[FORE_PLAN_N];

/* Failures of one direction in a row put the next attempt off, 5 s doubling to 5 min. */
typedef struct {
    unsigned failures;
    uint64_t until_ns;
} ForeBackoff;

/* What one tick found. */
typedef struct {
    const ForeUsage *usage;
    const ForeForecast *forecast; /* NULL: there is none that may be used */
    double dt_s;                  /* since the last usage; 0: the first, or the same again */
    double online[FORE_RES_N];    /* what growth is measured against */
    double left[FORE_RES_N];      /* what a release is measured against (memory: plugged too) */
    double wanted[FORE_RES_N];    /* by the target, on the grid */
    double calm[FORE_RES_N];      /* the same, up to the longest horizon of the forecast */
} ForeTick;

/* How much less was wanted lately: the most that was wanted in the newest shrink-hold, in slots of
 * a 16th of it, so that the window ends at most one slot late and never early. */
#define FORE_SLACK_SLOTS 16
typedef struct {
    uint64_t since_ns; /* less than what there is has been wanted since; 0: it is not */
    uint64_t slot[FORE_SLACK_SLOTS + 2]; /* which slot this place holds, counted from time 0 */
    double peak[FORE_SLACK_SLOTS + 2];
} ForeSlack;

struct ForeLoop {
    char vm[FORE_NAME_MAX + 1];
    ForePolicy policy;
    ForeLedger *ledger;
    uint64_t now_ns;
    bool frozen;
    bool swapping;
    bool must_hold; /* the newest answer of the PAM said so: no relief, whatever the policy here */
    ForeCapacity capacity;
    bool capacity_known;
    bool synced; /* entries that were open at start have been settled by truth */

    ForeForecast past[FORE_LOOP_PAST]; /* ring, newest at past_head - 1 */
    unsigned past_head, past_n;
    ForePid pid[FORE_RES_N];
    uint64_t last_tick_ns; /* usage.mono_ns of the last tick that fed the PID */

    ForeGate gate;
    ForePlan plan;
    ForePlanPhase phase;
    uint64_t entry[FORE_RES_N]; /* ledger entries of the plan, 0: none */
    uint64_t asked_ns;          /* the plan began */
    uint64_t deadline_ns;       /* of the phase */
    bool plan_failed;           /* some entry of the plan did */
    uint64_t truth_after_ns; /* older reports do not know what was sent last: no proof of absence */

    ForeBackoff grow_backoff, release_backoff;
    uint64_t grown_ns[FORE_RES_N]; /* newest growth came online; 0: never */
    ForeSlack slack[FORE_RES_N];
    double leads_s[FORE_LOOP_LEADS]; /* ring of measured ask-to-online times */
    unsigned leads_head, leads_n;
    uint64_t step_ns; /* of the newest forecast */

    ForeExplain explain;
    char advice[160];        /* newest recommendation, so that it is noted once */
    const char *no_forecast; /* why the newest forecast is not used, NULL: it is */
    char room[160];          /* newest want of room, likewise */
};

/* --- fore-loop-plan.c --- */
void fore_plan_note(ForeActions *out, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Text of a change, "vcpu 1 -> 3, mem 512 MiB -> 768 MiB"; resources with from == to are left out.
 */
void fore_plan_describe(const double from[FORE_RES_N], const double to[FORE_RES_N], char *ret,
                        size_t size);
/* Begin to grow to @to where it differs from @from (current). Fills explain.verdict. */
void fore_plan_grow(ForeLoop *loop, const double from[FORE_RES_N], const double to[FORE_RES_N],
                    bool reattest, ForeActions *out);
void fore_plan_release(ForeLoop *loop, const double from[FORE_RES_N], const double to[FORE_RES_N],
                       ForeActions *out);
void fore_plan_on_verdict(ForeLoop *loop, const ForeGrantRef *verdict, ForeActions *out);
void fore_plan_on_plugged(ForeLoop *loop, const ForeEvent *event, ForeActions *out);
void fore_plan_on_online(ForeLoop *loop, const ForeEvent *event, ForeActions *out);
void fore_plan_on_released(ForeLoop *loop, const ForeEvent *event, ForeActions *out);
/* The answer to what is awaited did not come in time, or came unheard (capacity shows it). */
void fore_plan_on_time(ForeLoop *loop, ForeActions *out);
void fore_plan_on_truth(ForeLoop *loop, ForeActions *out);
/* Give up a plan that nothing was sent for yet (ATTEST phase). */
void fore_plan_cancel(ForeLoop *loop, const char *reason, ForeActions *out);
/* Settle by loop->capacity every open entry that nobody answers for; void what was proved. */
void fore_plan_resync(ForeLoop *loop, ForeActions *out);
/* What the VM is charged by the truth: what is plugged or online, and memory that QEMU was asked
 * for. */
double fore_plan_charge(const ForeCapacity *capacity, ForeResource resource);
/* What is left to give back: online vCPUs; memory that is online or plugged. */
double fore_plan_left(const ForeCapacity *capacity, ForeResource resource);
double fore_plan_online(const ForeCapacity *capacity, ForeResource resource);
