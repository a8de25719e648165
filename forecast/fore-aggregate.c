/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-aggregate.h"

#include <math.h>
#include <string.h>

/* Chosen on a validation part cut from before the test parts of the public traces, see
 * docs/forecasting.md. */
#define FORGETTING (1.0 - 1.0 / 600.0)
#define EAGERNESS  0.5 /* how fast a worse member loses weight */
#define NEGLIGIBLE 2e-3

void fore_aggregate_init(ForeAggregate *agg, unsigned n_slot, unsigned n_member,
                         const double *prior)
{
    g_assert(n_slot > 0 && n_member > 0 && n_member <= FORE_AGGREGATE_MAX_MEMBER);
    memset(agg, 0, sizeof(*agg));
    agg->n_slot = n_slot;
    agg->n_member = n_member;
    memcpy(agg->prior, prior, n_member * sizeof(double));
    agg->loss = g_new0(double, (size_t)n_slot *n_member);
    agg->seen = g_new0(double, n_slot);
}

void fore_aggregate_done(ForeAggregate *agg)
{
    g_clear_pointer(&agg->loss, g_free);
    g_clear_pointer(&agg->seen, g_free);
}

static bool takes_part(const ForeAggregate *agg, const bool *awake, unsigned m)
{
    return agg->prior[m] > 0.0 && (awake == NULL || awake[m]);
}

void fore_aggregate_weights(const ForeAggregate *agg, unsigned slot, const bool *awake,
                            double *ret_weight)
{
    const double *loss = agg->loss + (size_t)slot * agg->n_member;
    double best = INFINITY, sum = 0.0, kept = 0.0;
    double rate;

    for (unsigned m = 0; m < agg->n_member; m++) {
        best = takes_part(agg, awake, m) ? MIN(best, loss[m]) : best;
    }
    /* a relative regret of 1/sqrt(n) is what chance alone brings */
    rate = EAGERNESS * sqrt(agg->seen[slot]) / (best + agg->expected + 1e-300);
    for (unsigned m = 0; m < agg->n_member; m++) {
        ret_weight[m] = takes_part(agg, awake, m)
                            ? agg->prior[m] * exp(-MIN(rate * (loss[m] - best), 700.0))
                            : 0.0;
        sum += ret_weight[m];
    }
    if (!(sum > 0.0)) {
        return; /* nobody is awake: all zero, the caller falls back */
    }
    for (unsigned m = 0; m < agg->n_member; m++) {
        ret_weight[m] = ret_weight[m] < NEGLIGIBLE * sum ? 0.0 : ret_weight[m];
        kept += ret_weight[m];
    }
    for (unsigned m = 0; m < agg->n_member; m++) {
        ret_weight[m] /= kept;
    }
}

void fore_aggregate_learn(ForeAggregate *agg, unsigned slot, const double *loss, double own)
{
    double *sum = agg->loss + (size_t)slot * agg->n_member;

    for (unsigned m = 0; m < agg->n_member; m++) {
        sum[m] = FORGETTING * sum[m] + (isnan(loss[m]) ? own : loss[m]);
    }
    agg->seen[slot] = FORGETTING * agg->seen[slot] + 1.0;
}
