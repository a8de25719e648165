/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-score.h"

#include <math.h>

void fore_truth_init(ForeTruth *truth)
{
    truth->count = 0;
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        for (unsigned k = 0; k < FORE_TRUTH_RING; k++) {
            truth->demand[r][k] = NAN;
        }
    }
}

void fore_truth_push(ForeTruth *truth, const double demand[FORE_RES_N])
{
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        truth->demand[r][truth->count % FORE_TRUTH_RING] = demand[r];
    }
    truth->count++;
}

double fore_truth_get(const ForeTruth *truth, ForeResource res, ForeKind kind, unsigned h)
{
    unsigned steps = fore_horizons[h];
    double peak = 0.0;

    /* the forecast itself was issued one step before the first of these */
    if (truth->count <= steps) {
        return NAN;
    }
    if (kind == FORE_KIND_POINT) {
        return truth->demand[res][(truth->count - 1) % FORE_TRUTH_RING];
    }
    for (unsigned k = 0; k < steps; k++) {
        double y = truth->demand[res][(truth->count - 1 - k) % FORE_TRUTH_RING];

        if (!isfinite(y)) {
            return NAN;
        }
        peak = MAX(peak, y);
    }
    return peak;
}

void fore_score_add(ForeScore *score, const double *q, double y)
{
    double loss = 0.0;

    for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
        loss += fore_quantile_pinball(q[k], y, fore_quantiles[k]);
    }
    if (!isfinite(loss)) {
        return;
    }
    score->loss += loss / FORE_N_QUANTILE;
    score->truth += fabs(y);
    score->n++;
    score->covered += y <= q[FORE_Q95] ? 1 : 0;
}

void fore_score_merge(ForeScore *score, const ForeScore *other)
{
    score->loss += other->loss;
    score->truth += other->truth;
    score->n += other->n;
    score->covered += other->covered;
}

double fore_score_wql(const ForeScore *score)
{
    return score->truth > 0.0 ? 2.0 * score->loss / score->truth : 0.0;
}

double fore_score_coverage95(const ForeScore *score)
{
    return score->n > 0 ? (double)score->covered / score->n : 1.0;
}
