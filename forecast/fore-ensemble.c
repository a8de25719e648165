/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  A group of quantiles (fore-quantile.h) and a target of the mixture are numbered
 * alike within a resource, so forecasts pass between the two without being moved about.
 *
 * Belief.  The LSTM was trained on this behaviour and the others learn it only now, so it begins
 * with all but a few per cent of the weight.  An idle hour would take that away from it: where
 * nothing happens the last value is never wrong, and whoever foresees bursts pays for it in each
 * calm second.  So a loss counts beside what a forecast loses on average over a whole recording.
 */
#include "forecast/fore-ensemble.h"

#include <math.h>

#include "forecast/fore-mixture.h"

#define LSTM_PRIOR    20.0 /* the classical members have 0.45 in all */
#define WINDOW        256  /* errors that each classical member remembers */
#define SEEN_IN_TRAIN 300  /* steps whose loss training stands for */
#define N_TARGET      (FORE_KIND_N * FORE_N_HORIZON)

G_STATIC_ASSERT(N_TARGET <= FORE_SERIES_MAX_TARGET);
G_STATIC_ASSERT(FORE_N_QUANTILE <= FORE_SERIES_MAX_LEVEL);
G_STATIC_ASSERT(FORE_RES_N <= FORE_SERIES_METRICS);
G_STATIC_ASSERT(FORE_FORECAST_MEMBERS == FORE_MIXTURE_GUEST + 1);
G_STATIC_ASSERT(FORE_GROUP(1, 0, 0) - FORE_GROUP(0, 0, 0) == N_TARGET);

struct ForeEnsemble {
    ForeMixture *mixture;
};

ForeEnsemble *fore_ensemble_new(uint64_t step_ns, int64_t wall_ms)
{
    ForeEnsemble *e = g_new0(ForeEnsemble, 1);
    ForeMixtureConfig config = {
        .metrics = (1u << FORE_RES_N) - 1,
        .n_guest = 1,
        .guest_prior = {LSTM_PRIOR},
        .uncorrected = true,
        .series = {.n_target = N_TARGET, .n_level = FORE_N_QUANTILE, .window = WINDOW},
    };

    config.series.step_s = (uint32_t)CLAMP(step_ns / FORE_NS_PER_S, 1, 86400);
    config.series.epoch_s = wall_ms / 1000;
    for (unsigned kind = 0; kind < FORE_KIND_N; kind++) {
        for (unsigned h = 0; h < FORE_N_HORIZON; h++) {
            config.series.target[FORE_GROUP(0, kind, h)] =
                (ForeTarget){.lag = fore_horizons[h], .peak = kind == FORE_KIND_PEAK};
        }
    }
    for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
        config.series.level[k] = fore_quantiles[k];
    }
    e->mixture = fore_mixture_new(&config, NULL);
    return e;
}

void fore_ensemble_free(ForeEnsemble *e)
{
    if (e != NULL) {
        fore_mixture_free(e->mixture);
        g_free(e);
    }
}

void fore_ensemble_restart(ForeEnsemble *e)
{
    fore_mixture_restart(e->mixture);
}

static void by_metric(const double *demand, double ret[FORE_SERIES_METRICS])
{
    for (unsigned i = 0; i < FORE_SERIES_METRICS; i++) {
        ret[i] = i < FORE_RES_N ? demand[i] : NAN;
    }
}

void fore_ensemble_watch(ForeEnsemble *e, const double *demand)
{
    double value[FORE_SERIES_METRICS];

    by_metric(demand, value);
    fore_mixture_step(e->mixture, value, NULL, NULL);
}

void fore_ensemble_step(ForeEnsemble *e, const double *demand, const ForeExpectation *expected,
                        double q[][FORE_N_QUANTILE])
{
    double value[FORE_SERIES_METRICS];
    double guest[FORE_SERIES_METRICS][N_TARGET][FORE_N_QUANTILE];
    double mixed[FORE_SERIES_METRICS][N_TARGET][FORE_N_QUANTILE];

    by_metric(demand, value);
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        fore_mixture_expect(e->mixture, r, expected[r].highest, expected[r].loss * SEEN_IN_TRAIN);
        for (unsigned t = 0; t < N_TARGET; t++) {
            for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
                guest[r][t][k] = q[FORE_GROUP(r, 0, 0) + t][k];
            }
        }
    }
    fore_mixture_step(e->mixture, value, &guest[0][0][0], &mixed[0][0][0]);
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        for (unsigned t = 0; t < N_TARGET && isfinite(mixed[r][0][0]); t++) {
            for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
                q[FORE_GROUP(r, 0, 0) + t][k] = mixed[r][t][k];
            }
        }
    }
}

void fore_ensemble_members(const ForeEnsemble *e, ForeResource res, double *ret)
{
    ForeMixtureHealth health;

    fore_mixture_health(e->mixture, (unsigned)res, &health);
    for (unsigned m = 0; m < FORE_FORECAST_MEMBERS; m++) {
        ret[m] = health.weight[m];
    }
}
