/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  The level of an upper quantile says where between its neighbours it is placed.
 * Negative: on the line to the next lower quantile, so a forecast that is sure of a burst (both at
 * burst level) does not lose it to earlier over-coverage.  Positive: away from the median, in units
 * of its own distance, so an idle VM with narrow quantiles is widened by little in vCPUs while an
 * uncertain one is widened by much.  A forecaster that is sure and wrong has no distance to widen:
 * there the unit is twice the median of its own recent errors, which a change of behaviour moves
 * within a minute and a few bursts do not.  Where even that falls short, as when a workload has
 * doubled, the quantile grows as a whole.  The lowest quantile mirrors this.  The median is left
 * alone: its bias is the model's to learn.
 *
 * Bounds: a miss that no widening can buy back (a burst nobody announced) must not inflate
 * everything else.
 */
#include "forecast/fore-calibration.h"

#include <math.h>
#include <string.h>

#define GAMMA    0.04
#define MISS_GO  1.05 /* the running median of errors moves by so much a step */
#define MISS_MIN 1e-6 /* of the median: from nothing no factor leads anywhere */
#define MISSES   2.0  /* medians of errors that one level counts for at least */

void fore_calibration_init(ForeCalibration *cal)
{
    memset(cal, 0, sizeof(*cal));
}

void fore_calibration_set_prior(ForeCalibration *cal, const double level[][FORE_N_QUANTILE])
{
    for (unsigned g = 0; g < FORE_N_GROUP; g++) {
        for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
            cal->level[g][k] = CLAMP(level[g][k], FORE_CALIBRATION_MIN, FORE_CALIBRATION_MAX);
        }
    }
}

/* How far out a quantile lies, beside the outermost: normal distances, in units of that of the P95
 */
static const double tail[FORE_N_QUANTILE] = {-1.0, 0.0, 0.41, 0.78, 1.0};

/*
 * Running median of |@y - median|: up when the newest is above, down when it is below, by a
 * constant factor.  It starts at what the forecaster claims of itself.
 */
static double followed(double median, const double *q, double y)
{
    double least = MISS_MIN * fabs(q[FORE_Q50]);
    double error = fabs(y - q[FORE_Q50]);

    if (median <= 0.0) {
        return MAX(q[FORE_Q75] - q[FORE_Q50], least);
    }
    return MAX(error > median ? median * MISS_GO : median / MISS_GO, least);
}

static double corrected(const double *q, unsigned k, double level, double miss)
{
    bool low = k < FORE_Q50;
    double inner = low ? q[k + 1] : q[k - 1];
    double away = q[k] - q[FORE_Q50];
    double unit = MISSES * miss * fabs(tail[k]);
    double wide;

    if (level < 0.0) {
        return q[k] + level * (q[k] - inner);
    }
    wide = MIN(level, FORE_CALIBRATION_WIDE);
    wide = q[k] + wide * (low ? MIN(away, -unit) : MAX(away, unit));
    if (level > FORE_CALIBRATION_WIDE) {
        double more = level - FORE_CALIBRATION_WIDE;

        wide = low ? wide / (1.0 + more) : wide * (1.0 + more);
    }
    return wide;
}
void fore_calibration_apply(const ForeCalibration *cal, double q[][FORE_N_QUANTILE])
{
    for (unsigned g = 0; g < FORE_N_GROUP; g++) {
        double was[FORE_N_QUANTILE];

        memcpy(was, q[g], sizeof(was));
        for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
            if (k != FORE_Q50) {
                q[g][k] = corrected(was, k, cal->level[g][k], cal->miss[g]);
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
    cal->miss[group] = followed(cal->miss[group], q, y);
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
