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
    ForeBaselineConfig config;
    unsigned n_bins; /* one more than a season has: the newest is not yet full */
    ForeTruth truth;
    double last[FORE_RES_N];
    uint64_t count;              /* steps seen */
    double *history[FORE_RES_N]; /* [n_bins] ring of means; NULL for last value */
    double sum[FORE_RES_N];      /* of the newest bin */
    unsigned n[FORE_RES_N];
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

ForeBaseline *fore_baseline_new_with(const ForeBaselineConfig *config)
{
    ForeBaseline *base = g_new0(ForeBaseline, 1);
    unsigned bin = MAX(config->bin, 1);

    g_assert(config->season <= FORE_BASELINE_MAX_SEASON && config->season % bin == 0 &&
             config->season / bin <= FORE_BASELINE_MAX_BINS);
    base->config = *config;
    base->config.bin = bin;
    base->n_bins = config->season / bin + 1;
    fore_truth_init(&base->truth);
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        base->last[r] = NAN;
        base->history[r] = config->season > 0 ? g_new(double, base->n_bins) : NULL;
        for (unsigned i = 0; config->season > 0 && i < base->n_bins; i++) {
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

ForeBaseline *fore_baseline_new(unsigned season)
{
    ForeBaselineConfig config = {.season = season};

    return fore_baseline_new_with(&config);
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
        uint64_t then = base->count + FORE_MAX_HORIZON - fore_horizons[h];
        double issued = base->issued[then % FORE_MAX_HORIZON][g];
        double residual;

        if (!isfinite(issued)) {
            continue;
        }
        residual = fore_truth_get(&base->truth, res, kind, h) - issued;
        if (isfinite(residual)) {
            residuals_add(&base->residuals[g], (float)residual);
        }
    }
}

/* Central forecast of demand @ahead steps after the newest (1..FORE_MAX_HORIZON). */
static double central(const ForeBaseline *base, ForeResource res, unsigned ahead)
{
    uint64_t at = base->count - 1 + ahead; /* counted from the first step */
    unsigned season = base->config.season;
    double y = NAN;

    while (season > 0 && at >= season && at > base->count - 1) { /* a season may be short */
        at -= season;
    }
    if (season > 0 && at <= base->count - 1) {
        y = base->history[res][at / base->config.bin % base->n_bins];
    }
    return isfinite(y) || base->config.strict ? y : base->last[res];
}

static void remember(ForeBaseline *base, const double demand[FORE_RES_N])
{
    uint64_t bin = base->count / base->config.bin;
    bool first = base->count % base->config.bin == 0;

    for (unsigned r = 0; r < FORE_RES_N; r++) {
        base->last[r] = isfinite(demand[r]) ? demand[r] : base->last[r];
        if (base->config.season == 0) {
            continue;
        }
        base->sum[r] = first ? 0.0 : base->sum[r];
        base->n[r] = first ? 0 : base->n[r];
        if (isfinite(demand[r])) {
            base->sum[r] += demand[r];
            base->n[r]++;
        }
        base->history[r][bin % base->n_bins] = base->n[r] > 0 ? base->sum[r] / base->n[r] : NAN;
    }
    base->count++;
}

static void issue(ForeBaseline *base, unsigned group, double mid, double *ret_q)
{
    base->issued[(base->count - 1) % FORE_MAX_HORIZON][group] = mid;
    for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
        double q = !isfinite(mid)
                       ? NAN
                       : mid + residuals_quantile(&base->residuals[group], fore_quantiles[k]);

        ret_q[k] = q < 0.0 ? 0.0 : q;
    }
}

bool fore_baseline_step(ForeBaseline *base, const double demand[FORE_RES_N],
                        double ret_q[][FORE_N_QUANTILE])
{
    learn(base, demand);
    remember(base, demand);
    if (base->config.strict && base->count + FORE_MAX_HORIZON < base->config.season) {
        return false;
    }
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        double peak = NAN;
        unsigned done = 0;

        for (unsigned h = 0; h < FORE_N_HORIZON; h++) {
            unsigned point = FORE_GROUP(r, FORE_KIND_POINT, h);
            bool wanted = !base->config.peaks_only;

            while (done < fore_horizons[h]) {
                peak = fmax(peak, central(base, (ForeResource)r, ++done));
            }
            issue(base, FORE_GROUP(r, FORE_KIND_PEAK, h), peak,
                  ret_q[FORE_GROUP(r, FORE_KIND_PEAK, h)]);
            issue(base, point, wanted ? central(base, (ForeResource)r, fore_horizons[h]) : NAN,
                  ret_q[point]);
        }
    }
    return true;
}
