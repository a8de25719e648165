/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Scoring of quantile forecasts, and the truth that they are scored against: as demand comes in,
 * the value of each horizon issued that many steps ago becomes known.
 */
#include "forecast/fore-quantile.h"

#define FORE_MAX_HORIZON 12 /* steps; the last of fore_horizons */
#define FORE_TRUTH_RING  16 /* a power of two above it: found without a division */

/* Demand of the last FORE_MAX_HORIZON steps of one VM; NAN where it is not known. */
typedef struct {
    double demand[FORE_RES_N][FORE_TRUTH_RING]; /* newest at (count - 1) % FORE_TRUTH_RING */
    uint64_t count;                             /* steps seen */
} ForeTruth;

void fore_truth_init(ForeTruth *truth);
/** fore_truth_push: demand of this step: vCPUs, bytes; NAN when unknown */
void fore_truth_push(ForeTruth *truth, const double demand[FORE_RES_N]);
/**
 * fore_truth_get: what the forecast issued fore_horizons[h] steps ago should have said
 * @h: index of the horizon, below FORE_N_HORIZON
 * Returns: the value @h ago for a point; the maximum since then for a peak; NAN when any part is
 * unknown
 */
double fore_truth_get(const ForeTruth *truth, ForeResource res, ForeKind kind, unsigned h);

/* Sums over scored forecasts. */
typedef struct {
    double loss;      /* mean over quantiles of the pinball loss, summed; unit of the resource */
    double truth;     /* |truth|, summed */
    unsigned n;       /* forecasts scored */
    unsigned covered; /* truths <= P95 */
} ForeScore;

/** fore_score_add: @q: [FORE_N_QUANTILE]; @y: truth; both in the resource's unit; ignored unless
 * finite */
void fore_score_add(ForeScore *score, const double *q, double y);
void fore_score_merge(ForeScore *score, const ForeScore *other);
/** fore_score_wql: weighted quantile loss 2 sum(loss) / sum(truth), unit-free (Park et al., AISTATS
 * 2022); 0 when empty */
double fore_score_wql(const ForeScore *score);
/** fore_score_coverage95: share of truths <= P95, 0..1; 1 when empty */
double fore_score_coverage95(const ForeScore *score);
