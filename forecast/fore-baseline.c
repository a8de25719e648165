/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-baseline.h"

#include <math.h>
#include <string.h>

/* The last FORE_BASELINE_RESIDUALS values, both in order of arrival and sorted. */
typedef struct {
    float ring[FORE_BASELINE_RESIDUALS];
    float sorted[FORE_BASELINE_RESIDUALS];
    unsigned n, at;
} Residuals;

struct ForeBaseline {
    unsigned season;
    ForeTruth truth;
    double last[FORE_RES_N];
    uint64_t count;                                /* steps seen */
    double *history[FORE_RES_N];                   /* [season] ring; NULL for last value */
    double issued[FORE_MAX_HORIZON][FORE_N_GROUP]; /* central forecasts of the last steps */
    Residuals residuals[FORE_N_GROUP];
};

/* Index of the first sorted value that is not below @v. */
static unsigned lower_bound(const Residuals *r, float v)
{
    unsigned lo = 0, hi = r->n;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;

        if (r->sorted[mid] < v) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static void residuals_add(Residuals *r, float v)
{
    unsigned at;

    if (r->n == FORE_BASELINE_RESIDUALS) {
        at = lower_bound(r, r->ring[r->at]);
        r->n--;
        memmove(r->sorted + at, r->sorted + at + 1, (r->n - at) * sizeof(float));
    }
    at = lower_bound(r, v);
    memmove(r->sorted + at + 1, r->sorted + at, (r->n - at) * sizeof(float));
    r->sorted[at] = v;
    r->n++;
    r->ring[r->at] = v;
    r->at = (r->at + 1) % FORE_BASELINE_RESIDUALS;
}

/* Linear between order statistics (type 7 of Hyndman and Fan, The American Statistician 50(4),
 * 1996). */
static double residuals_quantile(const Residuals *r, double tau)
{
    double at = tau * (r->n > 0 ? r->n - 1 : 0);
    unsigned i = (unsigned)at;

    if (r->n == 0) {
        return 0.0;
    }
    if (i + 1 >= r->n) {
        return (double)r->sorted[r->n - 1];
    }
    return (double)r->sorted[i] + (at - i) * ((double)r->sorted[i + 1] - (double)r->sorted[i]);
}

ForeBaseline *fore_baseline_new(unsigned season)
{
    ForeBaseline *base = g_new0(ForeBaseline, 1);

    g_assert(season <= FORE_BASELINE_MAX_SEASON);
    base->season = season;
    fore_truth_init(&base->truth);
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        base->last[r] = NAN;
        base->history[r] = season > 0 ? g_new(double, season) : NULL;
        for (unsigned i = 0; i < season; i++) {
            base->history[r][i] = NAN;
        }
    }
    for (unsigned k = 0; k < FORE_MAX_HORIZON; k++) {
        for (unsigned g = 0; g < FORE_N_GROUP; g++) {
            base->issued[k][g] = NAN;
        }
    }
    return base;
}

void fore_baseline_free(ForeBaseline *base)
{
    if (base == NULL) {
        return;
    }
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        g_free(base->history[r]);
    }
    g_free(base);
}

static void learn(ForeBaseline *base, const double demand[FORE_RES_N])
{
    fore_truth_push(&base->truth, demand);
    for (unsigned g = 0; g < FORE_N_GROUP; g++) {
        unsigned h = g % FORE_N_HORIZON;
        ForeKind kind = (ForeKind)(g / FORE_N_HORIZON % FORE_KIND_N);
        ForeResource res = (ForeResource)(g / (FORE_N_HORIZON * FORE_KIND_N));
        double y = fore_truth_get(&base->truth, res, kind, h);
        uint64_t then = base->count + FORE_MAX_HORIZON - fore_horizons[h];
        double residual = y - base->issued[then % FORE_MAX_HORIZON][g];

        if (isfinite(residual)) {
            residuals_add(&base->residuals[g], (float)residual);
        }
    }
}

/* Central forecast of demand @ahead steps after the newest (1..FORE_MAX_HORIZON). */
static double central(const ForeBaseline *base, ForeResource res, unsigned ahead)
{
    double y = NAN;

    if (base->season > 0) {
        /* the newest is at (count - 1) % season, so one season before newest + ahead is ahead later
         */
        y = base->history[res][(base->count - 1 + ahead) % base->season];
    }
    return isfinite(y) ? y : base->last[res];
}

void fore_baseline_step(ForeBaseline *base, const double demand[FORE_RES_N],
                        double ret_q[][FORE_N_QUANTILE])
{
    learn(base, demand);
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        base->last[r] = isfinite(demand[r]) ? demand[r] : base->last[r];
        if (base->season > 0) {
            base->history[r][base->count % base->season] = demand[r];
        }
    }
    base->count++;
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        double peak = NAN;
        unsigned done = 0;

        for (unsigned h = 0; h < FORE_N_HORIZON; h++) {
            double now = central(base, (ForeResource)r, fore_horizons[h]);

            while (done < fore_horizons[h]) {
                peak = fmax(peak, central(base, (ForeResource)r, ++done));
            }
            for (unsigned kind = 0; kind < FORE_KIND_N; kind++) {
                unsigned g = FORE_GROUP(r, kind, h);
                double mid = kind == FORE_KIND_PEAK ? peak : now;

                base->issued[(base->count - 1) % FORE_MAX_HORIZON][g] = mid;
                for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
                    double q = mid + residuals_quantile(&base->residuals[g], fore_quantiles[k]);

                    ret_q[g][k] = q < 0.0 ? 0.0 : q;
                }
            }
        }
    }
}
