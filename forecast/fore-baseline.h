/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The forecasters that an operator has without us, and that ours must beat: last value, and the
 * same time one season ago, each with the quantiles of its own recent residuals.
 */
#include "forecast/fore-score.h"

#define FORE_BASELINE_MAX_SEASON 86400 /* steps */
#define FORE_BASELINE_MAX_BINS   4096  /* of a season */
#define FORE_BASELINE_RESIDUALS  128   /* of each group that are remembered */

typedef struct ForeBaseline ForeBaseline;

typedef struct {
    unsigned season; /* steps of one season, 0..FORE_BASELINE_MAX_SEASON; 0 is last value */
    unsigned bin;    /* steps of which only the mean is kept; 0 and 1: every step; divides season */
    bool strict;     /* NAN, not the last value, for as long as there was no season */
    bool peaks_only; /* forecasts of points are NAN: half the work and the memory */
} ForeBaselineConfig;
ForeBaseline *fore_baseline_new_with(const ForeBaselineConfig *config);
/** fore_baseline_new: @season as above, every step kept, last value before there was a season */
ForeBaseline *fore_baseline_new(unsigned season);
void fore_baseline_free(ForeBaseline *base);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeBaseline, fore_baseline_free)

/**
 * fore_baseline_step: one step's demand in, one forecast out; residuals of older forecasts are
 * learned
 * @demand: vCPUs, bytes; NAN unknown: the last known value stands
 * @ret_q: (out caller-allocates): [FORE_N_GROUP][FORE_N_QUANTILE], rising, >= 0; NAN for a resource
 *         never seen; untouched when false is returned
 * Returns: false when it is strict and there was no season yet
 */
bool fore_baseline_step(ForeBaseline *base, const double demand[FORE_RES_N],
                        double ret_q[][FORE_N_QUANTILE]);
