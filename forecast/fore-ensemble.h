/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The live mixture of one VM: what its LSTM says joins the classical members (last value,
 * smoothing, autoregression, yesterday, analogues ...) as one guest of fore-mixture; each carries
 * the weight that it earned on this very VM, resource, horizon and quantile.  Each brings a
 * correction for coverage of its own (the LSTM fore-calibration, a point the quantiles of its
 * errors); a second one behind them reacts twice to a change and stays too wide for long.
 *
 * Pure: no I/O, no clock.  Memory is fixed at creation: about 0.35 MiB a resource.
 */
#include "forecast/fore-forecaster.h"
#include "forecast/fore-quantile.h"

typedef struct ForeEnsemble ForeEnsemble;

/**
 * fore_ensemble_new
 * @step_ns: length of a step; below a second it counts as one (only seasons depend on it)
 * @wall_ms: time of the first step, UTC milliseconds since 1970
 */
ForeEnsemble *fore_ensemble_new(uint64_t step_ns, int64_t wall_ms);
void fore_ensemble_free(ForeEnsemble *ensemble);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeEnsemble, fore_ensemble_free)

/* What training knows of a VM like this one, of one resource, own unit. */
typedef struct {
    double highest; /* demand; no bound is below it; 0: nothing is known */
    double loss;    /* mean pinball loss of a forecast; 0: nothing is known */
} ForeExpectation;

/** fore_ensemble_restart: other weights speak from now on: what was earned is forgotten, what the
 * classical members remember of demand is not */
void fore_ensemble_restart(ForeEnsemble *ensemble);
/** fore_ensemble_watch: demand of a step without a forecast: [FORE_RES_N], NAN unknown */
void fore_ensemble_watch(ForeEnsemble *ensemble, const double *demand);
/**
 * fore_ensemble_step: demand of a step, and what is to come
 * @demand: [FORE_RES_N]; NAN unknown
 * @expected: [FORE_RES_N]
 * @q: (inout): [FORE_N_GROUP][FORE_N_QUANTILE], in: what the LSTM says; out: the mixture; left as
 * it is for a resource that was never seen
 */
void fore_ensemble_step(ForeEnsemble *ensemble, const double *demand,
                        const ForeExpectation *expected, double q[][FORE_N_QUANTILE]);
/** fore_ensemble_members: @ret: [FORE_FORECAST_MEMBERS] weight of each member, sums to 1 */
void fore_ensemble_members(const ForeEnsemble *ensemble, ForeResource res, double *ret);
