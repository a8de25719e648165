/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * One metric of one VM on a regular grid, and the classical forecasters ("members") that learn from
 * it online: each gives every asked quantile of every asked target at every step.  One sample in,
 * one set of forecasts out; nothing is re-run, memory is fixed at creation.
 *
 * A target is the value @lag steps ahead, or the peak of the next @lag steps.
 * Pure: no I/O, no clock.  Not thread safe; one owner per series.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_SERIES_MAX_LAG    12 /* steps ahead */
#define FORE_SERIES_MAX_TARGET 12
#define FORE_SERIES_MAX_LEVEL  5
#define FORE_SERIES_RING       2048 /* samples remembered */
#define FORE_SERIES_MAX_WINDOW 2016 /* residuals remembered, at most */
#define FORE_SERIES_METRICS    4    /* metrics of one VM that can be companions of each other */

typedef enum {
    /* a point, with the quantiles of its own past errors */
    FORE_MEMBER_LAST,      /* the last value */
    FORE_MEMBER_EWMA_FAST, /* exponential smoothing, 0.5, 0.2, 0.05 a step */
    FORE_MEMBER_EWMA,
    FORE_MEMBER_EWMA_SLOW,
    FORE_MEMBER_AR,        /* ridge regression on lags, levels and seasons, refitted as it goes */
    FORE_MEMBER_DAYS,      /* mean of the same time of the last 7 days */
    FORE_MEMBER_CYCLE,     /* the profile of the hour (of the minute when a step is below 5 s) */
    FORE_MEMBER_YESTERDAY, /* the same time yesterday, moved half way to today's level */
    FORE_MEMBER_N_POINT,
    /* quantiles of values that were seen */
    FORE_MEMBER_SHORT = FORE_MEMBER_N_POINT, /* of the last 36 */
    FORE_MEMBER_MIDDLE,                      /* of the last 288 */
    FORE_MEMBER_LONG,                        /* of the last 2016 */
    FORE_MEMBER_SAME_TIME,                   /* of the same time of day, +-2 steps, 7 days */
    FORE_MEMBER_SAME_PHASE,                  /* of the same phase of the cycle, 24 cycles */
    FORE_MEMBER_ANALOGUE,       /* of what followed the most similar moments of the past */
    FORE_MEMBER_ANALOGUE_MOVED, /* the same, moved to today's level */
    FORE_MEMBER_N
} ForeMember;
extern const char *const fore_member_names[FORE_MEMBER_N];

typedef struct {
    unsigned lag; /* steps, 1..FORE_SERIES_MAX_LAG */
    bool peak;    /* the highest of the next @lag steps, not the value at its end */
} ForeTarget;

typedef struct {
    unsigned n_target, n_level;
    ForeTarget target[FORE_SERIES_MAX_TARGET];
    double level[FORE_SERIES_MAX_LEVEL]; /* rising, each within 0..1 */
    uint32_t step_s;                     /* length of a step, 1..86400 */
    int64_t epoch_s;                     /* time of the first sample, seconds (UTC) */
    unsigned window;                     /* errors remembered, 16..FORE_SERIES_MAX_WINDOW */
    unsigned metric;                     /* which metric it is, below FORE_SERIES_METRICS */
} ForeSeriesConfig;

typedef struct ForeSeries ForeSeries;

/** fore_series_config_is_valid: everything within the bounds above */
bool fore_series_config_is_valid(const ForeSeriesConfig *config);
ForeSeries *fore_series_new(const ForeSeriesConfig *config);
void fore_series_free(ForeSeries *series);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeSeries, fore_series_free)

/**
 * fore_series_push: the sample of the next step
 * @value: demand in its own unit; NAN, negative or above 1e18 is a gap: time passes, nothing is
 * learned, the last value stands
 */
void fore_series_push(ForeSeries *series, double value);

/** fore_series_ready: false before the first sample that is not a gap; no forecast then */
bool fore_series_ready(const ForeSeries *series);
/** fore_series_member: [n_target][n_level] of @member, own unit, >= 0, rising in the level */
const double *fore_series_member(const ForeSeries *series, unsigned member);
double fore_series_last(const ForeSeries *series);  /* the last value, own unit */
double fore_series_scale(const ForeSeries *series); /* typical change a step, own unit, > 0 */
double fore_series_peak(const ForeSeries *series);  /* the highest value ever seen, own unit */
uint64_t fore_series_age(const ForeSeries *series); /* samples since the first, gaps included */
unsigned fore_series_day(const ForeSeries *series); /* steps a day; 0: no day is remembered */

/**
 * fore_series_truth: what came of the forecast made @back steps before the newest sample
 * @back: at least the lag of the target, at most FORE_SERIES_MAX_LAG
 * Returns: own unit; NAN where gaps hide it (a peak needs three quarters of its samples)
 */
double fore_series_truth(const ForeSeries *series, unsigned target, unsigned back);

#define FORE_SERIES_N_FEATURE 79
/**
 * fore_series_features: what a model over all series may know, scale free
 * @companions: the other metrics of the VM by metric number, NULL where there is none; the entry of
 * this series itself is ignored
 * @ret_x: (out caller-allocates): each within -10..10
 */
void fore_series_features(const ForeSeries *series, ForeSeries *const *companions,
                          float ret_x[FORE_SERIES_N_FEATURE]);
/**
 * fore_series_opinions: every member's quantiles, scale free: asinh((quantile - last) / scale)
 * @ret_e: (out caller-allocates): [n_target][FORE_MEMBER_N][n_level], each within -10..10
 */
void fore_series_opinions(const ForeSeries *series, float *ret_e);
