/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Online conformal correction of the quantiles of one VM, one number per resource, kind, horizon
 * and quantile: memory does not grow with time.
 *
 * Gibbs and Candes, "Adaptive conformal inference under distribution shift", NeurIPS 2021, equation
 * 2: after each truth the level moves by gamma (miss - alpha), which drives the long-run share of
 * misses to alpha whatever the distribution does, as long as the level is not at its bound.
 */
#include "forecast/fore-quantile.h"

#define FORE_CALIBRATION_MIN  (-1.0) /* the quantile falls to the next lower one */
#define FORE_CALIBRATION_WIDE 1.5    /* the quantile's distance from the median grows by 150 % */
#define FORE_CALIBRATION_MAX  3.0    /* and the quantile itself by another 150 % */

typedef struct {
    double level[FORE_N_GROUP][FORE_N_QUANTILE]; /* MIN..MAX; 0 leaves the quantile alone */
    double miss[FORE_N_GROUP]; /* running median of |truth - median forecast|, unit of the truth */
} ForeCalibration;

void fore_calibration_init(ForeCalibration *cal);
/**
 * fore_calibration_set_prior: start from what other VMs needed
 * @level: [FORE_N_GROUP][FORE_N_QUANTILE], MIN..MAX
 */
void fore_calibration_set_prior(ForeCalibration *cal, const double level[][FORE_N_QUANTILE]);
/** fore_calibration_apply: @q: (inout): [FORE_N_GROUP][FORE_N_QUANTILE], rising; rising after */
void fore_calibration_apply(const ForeCalibration *cal, double q[][FORE_N_QUANTILE]);
/**
 * fore_calibration_observe: a truth has come
 * @group: FORE_GROUP(); @q: [FORE_N_QUANTILE] the corrected forecast issued then; @y: truth, NAN is
 * ignored
 */
void fore_calibration_observe(ForeCalibration *cal, unsigned group, const double *q, double y);
