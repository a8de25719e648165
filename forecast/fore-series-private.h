/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Inside of ForeSeries, for the fore-series-*.c files only. */
#include <math.h>

#include "forecast/fore-series.h"
#include "forecast/fore-window.h"

#define RING_MASK    (FORE_SERIES_RING - 1)
#define ORIGINS      16  /* forecasts that may still wait for their truth; above MAX_LAG */
#define STAT_STEPS   288 /* steps of the running mean and scale */
#define N_AR         28  /* regressors, the last one constant */
#define N_CONTEXT    8   /* numbers that say how similar two moments are */
#define MAX_ANALOGUE 64
#define MAX_CYCLE    720
#define DAYS         7
#define CYCLES       24
#define SAME_TIME_N  (DAYS * 5)

typedef struct {
    double x[ORIGINS][N_AR]; /* regressors of the origins that wait */
    double scale[ORIGINS];   /* series->scale at the origin */
    double gram[N_AR][N_AR]; /* lower half of the decayed sum of x x' */
    double moment[FORE_SERIES_MAX_TARGET][N_AR];
    double weight[FORE_SERIES_MAX_TARGET][N_AR];
    bool fitted;
} ForeSeriesAr;

struct ForeSeries {
    ForeSeriesConfig config;
    bool ready;
    int64_t k;     /* number of the newest sample; the first is 0 */
    int64_t t0;    /* time of sample 0 */
    int64_t day;   /* steps a day; 0: not remembered that long, or a step does not divide a day */
    int64_t cycle; /* steps of the short cycle, 4..MAX_CYCLE */

    double y[FORE_SERIES_RING]; /* gaps hold the last value */
    bool known[FORE_SERIES_RING];
    float *truth; /* [n_target][RING] by origin, for origins at least MAX_LAG old */
    bool usable[FORE_SERIES_RING]; /* every truth of this origin is known */

    double last, peak, mean, scale;
    double sum_abs, sum_step; /* over STAT_STEPS */
    double ewma[3];
    double profile[MAX_CYCLE];
    uint32_t profile_n[MAX_CYCLE];

    double point[ORIGINS][FORE_MEMBER_N_POINT][FORE_SERIES_MAX_TARGET];
    ForeWindowed error[FORE_MEMBER_N_POINT][FORE_SERIES_MAX_TARGET];
    /* seen values by window (short, middle, long) and distinct target: [.][0] plain values,
     * [.][1 + target] peaks */
    ForeWindowed seen[3][1 + FORE_SERIES_MAX_TARGET];
    ForeSeriesAr ar;
    float context[N_CONTEXT][FORE_SERIES_RING];
    double *forecast; /* [FORE_MEMBER_N][n_target][n_level] */
};

/* Only for numbers at most RING - 1 older than the newest. */
static inline double value_at(const ForeSeries *s, int64_t k)
{
    return s->y[(k < 0 ? 0 : k) & RING_MASK];
}
static inline bool is_remembered(const ForeSeries *s, int64_t k)
{
    return k >= 0 && s->k - k < FORE_SERIES_RING - 2 * FORE_SERIES_MAX_LAG;
}

/** series_past: what target @t of @origin was, gaps held at the last value; origin remembered and
 * at least its lag old */
double fore_series_past(const ForeSeries *s, unsigned t, int64_t origin);
/** fore_series_season: the same time @days days earlier; NAN when not remembered */
double fore_series_season(const ForeSeries *s, unsigned t, int64_t days);

void fore_series_ar_learn(ForeSeries *s);                    /* from the origin MAX_LAG ago */
void fore_series_ar_point(ForeSeries *s, double *ret_point); /* [n_target] */
void fore_series_analogue(ForeSeries *s);                    /* fills both analogue members */
void fore_series_members(ForeSeries *s);                     /* fills all of s->forecast */
