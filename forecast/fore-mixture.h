/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The forecast of one VM: the classical members of every metric (fore-series), the models over all
 * series when there are any (fore-series-model: an LSTM with carried state, and boosted trees),
 * guests that the caller brings, combined online by how well each has done on this very metric,
 * target and quantile (fore-aggregate), then corrected so that quantiles cover what they say
 * (fore-conformal).
 *
 * One step in, one set of quantiles a metric out.  Memory is fixed at creation (about 0.9 MiB a
 * metric with window 2016, 0.35 MiB with 256).  Pure: no I/O, no clock.  One owner per mixture; the
 * model may be shared between threads.
 */
#include "forecast/fore-aggregate.h"
#include "forecast/fore-series-model.h"
#include "forecast/fore-series.h"

#define FORE_MIXTURE_MAX_GUEST 4

/* Members of the mixture, in this order: the classical ones, the models, the guests. */
enum {
    FORE_MIXTURE_LSTM = FORE_MEMBER_N,
    FORE_MIXTURE_FOREST,
    FORE_MIXTURE_GUEST,
    FORE_MIXTURE_MAX_MEMBER = FORE_MIXTURE_GUEST + FORE_MIXTURE_MAX_GUEST
};
G_STATIC_ASSERT((int)FORE_MIXTURE_MAX_MEMBER <= FORE_AGGREGATE_MAX_MEMBER);

typedef struct {
    ForeSeriesConfig series; /* what is asked for; its @metric is not used */
    unsigned metrics;        /* bit mask of the metrics this VM has, at least one */
    unsigned n_guest;        /* 0..FORE_MIXTURE_MAX_GUEST */
    /* belief in each guest before it was seen, > 0; the model's forests have 1, its LSTM 0.4 */
    double guest_prior[FORE_MIXTURE_MAX_GUEST];
    bool uncorrected; /* no correction for coverage: the guests bring their own */
    uint32_t without; /* bit mask of members left out (ablation); at least one must remain */
} ForeMixtureConfig;

typedef struct ForeMixture ForeMixture;

/**
 * fore_mixture_new: @model (nullable): reference taken; members LSTM and FOREST are left out when
 * it is NULL or was trained for other targets or levels (see fore_series_model_fits)
 */
ForeMixture *fore_mixture_new(const ForeMixtureConfig *config, ForeSeriesModel *model);
void fore_mixture_free(ForeMixture *mixture);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeMixture, fore_mixture_free)

/**
 * fore_mixture_step: the samples of the next step
 * @value: [FORE_SERIES_METRICS] by metric, own unit; NAN (or negative, or absurd) is a gap
 * @guest: (nullable): [FORE_SERIES_METRICS][n_guest][n_target][n_level], own unit; a guest with a
 * NAN in it says nothing this step and its weight is shared by the others
 * @ret: (nullable) (out caller-allocates): [FORE_SERIES_METRICS][n_target][n_level], own unit, >=
 * 0, rising in the level, at most 1.5 times the highest value seen of that metric; metrics that the
 * VM lacks or has not shown yet are NAN. NULL: learn only in the classical members (cheap; to catch
 * up with a long history)
 */
void fore_mixture_step(ForeMixture *mixture, const double *value, const double *guest, double *ret);

/**
 * fore_mixture_expect: what is known of @metric from elsewhere (training), own unit
 * @highest: forecasts are bounded by 1.5 times this or the highest seen, whichever is more
 * @loss: pinball loss, summed, that even a good member has; how much worse another one does is
 * judged beside it, so that a calm hour decides nothing.  0: only what was seen counts
 */
void fore_mixture_expect(ForeMixture *mixture, unsigned metric, double highest, double loss);
/** fore_mixture_restart: a guest is somebody else now: forgets weights, coverage and forecasts that
 * wait; what the classical members know of the past stays */
void fore_mixture_restart(ForeMixture *mixture);

typedef struct {
    uint64_t scored;                        /* forecasts whose truth has come */
    double loss;                            /* discounted mean pinball loss over its level */
    double loss_last;                       /* the same of the last value with its errors */
    double loss_season;                     /* the same of yesterday (of the cycle without days) */
    double coverage;                        /* discounted share of truths <= the highest level */
    double weight[FORE_MIXTURE_MAX_MEMBER]; /* mean over targets and levels, sums to 1 */
} ForeMixtureHealth;
/** fore_mixture_health: how it does on @metric (one the VM has) */
void fore_mixture_health(const ForeMixture *mixture, unsigned metric, ForeMixtureHealth *ret);
/** fore_mixture_member_name: "analogue", "lstm", "forest", "guest-0", ... */
const char *fore_mixture_member_name(unsigned member);
