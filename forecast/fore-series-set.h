/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The training set of fore-series-train: stretches of consecutive steps, each step with its
 * features, the members' opinions and what came, as 16-bit fixed point.
 */
#include "forecast/fore-series-train.h"

#define FORE_SERIES_SET_UNIT 3000.0f /* steps of the fixed point in 1; reaches +-10 */

typedef struct {
    size_t from;     /* first row */
    uint32_t n;      /* rows */
    uint32_t series; /* number of the series, counted over all traces */
} ForeSpan;

typedef struct {
    unsigned n_e, n_target;
    size_t n_row;
    int16_t *x;    /* [n_row][FORE_SERIES_N_FEATURE] */
    int16_t *e;    /* [n_row][n_e] */
    float *y;      /* [n_row][n_target]: asinh((truth - last) / scale); NAN unknown */
    float *weight; /* [n_row]: scale at the row over the usual 6-step change of its series, 0..10 */
    GArray *span;  /* ForeSpan, by series */
    GArray *first; /* uint32_t [n_series + 1]: first span of each series */
    double *chance; /* [n_series], rising to 1: which series a uniform number in 0..1 picks */
    unsigned n_series;
} ForeSeriesSet;

/** fore_series_set_new: @tick: called once a trace, from any thread, one call at a time; false
 * stops Returns: NULL when stopped or when nothing is usable (n_row would be 0) */
ForeSeriesSet *fore_series_set_new(GPtrArray *traces, const ForeSeriesTrainConfig *config,
                                   bool (*tick)(gpointer data), gpointer data);
void fore_series_set_free(ForeSeriesSet *set);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeSeriesSet, fore_series_set_free)

/** fore_series_set_pick: a stretch of @n rows of one series at random
 * Returns: its first row, or SIZE_MAX when the series that was picked has none so long */
size_t fore_series_set_pick(const ForeSeriesSet *set, ForeRandom *rng, unsigned n);
