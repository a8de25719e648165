/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Verdicts that no plan asked for, of VMs under enforce: when the one at hand grows old, when the
 * guest's session is new (it rebooted, or its agent was replaced), when its agent tells that what
 * it measures has changed.  A verdict that is not yes voids the grant in hand.
 */
#include "common/fore-flow.h"
#include "common/fore-json.h"

struct ForeVm;

typedef enum {
    FORE_REATTEST_AGE,      /* half the time that a verdict is good for has passed */
    FORE_REATTEST_SESSION,  /* the guest's agent connected anew */
    FORE_REATTEST_EVIDENCE, /* PCRs or measurement list moved */
    FORE_REATTEST_N
} ForeReattestTrigger;

/* Part of ForeVm; all zeros at first. */
typedef struct {
    unsigned wanted;      /* bit FORE_REATTEST_x */
    bool running;         /* one at a time */
    uint64_t asked_ns;    /* the newest began */
    uint64_t proved_ns;   /* newest verdict that said yes */
    uint64_t lifetime_ns; /* from the newest grant's verdict to its end */
} ForeReattest;

/** fore_reattest_want: @trigger happened; asked for with the next steps */
void fore_reattest_want(struct ForeVm *vm, ForeReattestTrigger trigger);
/** fore_reattest_granted: @ref, a yes with a grant, came */
void fore_reattest_granted(struct ForeVm *vm, const ForeGrantRef *ref);
/** fore_reattest_step: once a second */
void fore_reattest_step(struct ForeVm *vm, uint64_t now_ns);
/** fore_reattest_judge: remember a verdict that no plan asked for, and what follows from it
 * @answer: of the PAM, or NULL */
void fore_reattest_judge(struct ForeVm *vm, const ForeGrantRef *ref, const json_t *answer);
