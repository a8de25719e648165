/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * How much to believe whom: exponential weights on discounted pinball losses, one set of weights
 * for each target and quantile.  Exponentially weighted average forecaster: Cesa-Bianchi and
 * Lugosi, Prediction, Learning, and Games, 2006, section 2.1; sleeping members: Freund et al., STOC
 * 1997.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_AGGREGATE_MAX_MEMBER 24

typedef struct {
    unsigned n_slot;                         /* targets times levels */
    unsigned n_member;                       /* 1..FORE_AGGREGATE_MAX_MEMBER */
    double prior[FORE_AGGREGATE_MAX_MEMBER]; /* 0: left out */
    double *loss;                            /* [n_slot][n_member] discounted sums */
    double *seen;                            /* [n_slot] discounted number of truths */
    double expected; /* loss that a good member has anyway, in the unit of the losses; 0 unknown */
} ForeAggregate;

/** fore_aggregate_init: @prior: [n_member], >= 0, at least one above 0 */
void fore_aggregate_init(ForeAggregate *agg, unsigned n_slot, unsigned n_member,
                         const double *prior);
void fore_aggregate_done(ForeAggregate *agg);
/**
 * fore_aggregate_weights: of slot @slot
 * @awake: (nullable): [n_member]: who has a forecast now
 * @ret_weight: (out caller-allocates): [n_member], >= 0, sums to 1 (all 0 when nobody is awake);
 * below 0.2 % is 0, so that an exact forecast stays exact
 */
void fore_aggregate_weights(const ForeAggregate *agg, unsigned slot, const bool *awake,
                            double *ret_weight);
/**
 * fore_aggregate_learn: one truth came
 * @loss: [n_member] pinball losses in any unit, the same unit always; NAN: was asleep, counts as
 * @own
 * @own: loss of the combination
 */
void fore_aggregate_learn(ForeAggregate *agg, unsigned slot, const double *loss, double own);
