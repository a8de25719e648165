/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The forecasters that an operator has without us, and that ours must beat: last value, and the
 * same time one season ago, each with the quantiles of its own recent residuals.
 */
#include "forecast/fore-score.h"

#define FORE_BASELINE_MAX_SEASON 4096 /* steps */
#define FORE_BASELINE_RESIDUALS  256  /* of each group that are remembered */

typedef struct ForeBaseline ForeBaseline;

/** fore_baseline_new: @season: steps of one season, 0..FORE_BASELINE_MAX_SEASON; 0 is last value */
ForeBaseline *fore_baseline_new(unsigned season);
void fore_baseline_free(ForeBaseline *base);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeBaseline, fore_baseline_free)

/**
 * fore_baseline_step: one step's demand in, one forecast out; residuals of older forecasts are
 * learned
 * @demand: vCPUs, bytes; NAN unknown: the last known value stands
 * @ret_q: (out caller-allocates): [FORE_N_GROUP][FORE_N_QUANTILE], rising, >= 0; NAN for a resource
 *         never seen
 */
void fore_baseline_step(ForeBaseline *base, const double demand[FORE_RES_N],
                        double ret_q[][FORE_N_QUANTILE]);
