/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  The level of an upper quantile says where between its neighbours it is placed.
 * Negative: on the line to the next lower quantile, so a forecast that is sure of a burst (both at
 * burst level) does not lose it to earlier over-coverage.  Positive: away from the median, in units
 * of its own distance, so an idle VM with narrow quantiles is widened by little in vCPUs while an
 * uncertain one is widened by much.  The lowest quantile mirrors this.  The median is left alone:
 * its bias is the model's to learn.
 *
 * Bounds: a miss that no widening can buy back (a burst nobody announced) must not inflate
 * everything else.
 */
#include "forecast/fore-calibration.h"

#include <math.h>
#include <string.h>

#define GAMMA 0.04

void fore_calibration_init(ForeCalibration *cal)
{
    memset(cal, 0, sizeof(*cal));
}

static double corrected(const double *q, unsigned k, double level)
{
    bool low = k < FORE_Q50;
    double inner = low ? q[k + 1] : q[k - 1];

    return level < 0.0 ? q[k] + level * (q[k] - inner) : q[k] + level * (q[k] - q[FORE_Q50]);
}

void fore_calibration_apply(const ForeCalibration *cal, double q[][FORE_N_QUANTILE])
{
    for (unsigned g = 0; g < FORE_N_GROUP; g++) {
        double was[FORE_N_QUANTILE];

        memcpy(was, q[g], sizeof(was));
        for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
            if (k != FORE_Q50) {
                q[g][k] = corrected(was, k, cal->level[g][k]);
            }
        }
        for (unsigned k = 1; k < FORE_N_QUANTILE; k++) {
            q[g][k] = MAX(q[g][k], q[g][k - 1]);
        }
    }
}

void fore_calibration_observe(ForeCalibration *cal, unsigned group, const double *q, double y)
{
    g_assert(group < FORE_N_GROUP);
    if (!isfinite(y)) {
        return;
    }
    for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
        bool low = k < FORE_Q50;
        double alpha = low ? fore_quantiles[k] : 1.0 - fore_quantiles[k];
        double miss = (low ? y < q[k] : y > q[k]) ? 1.0 : 0.0;
        double level = cal->level[group][k] + GAMMA * (miss - alpha);

        if (k != FORE_Q50) {
            cal->level[group][k] = CLAMP(level, FORE_CALIBRATION_MIN, FORE_CALIBRATION_MAX);
        }
    }
}
