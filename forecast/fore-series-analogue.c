/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Analogues: the moments of the past that looked most like this one, and what followed them.  The
 * answer is made of values that really occurred, so a series that jumps between a few levels gets
 * exactly these levels.  Similarity is the weighted sum of absolute differences of eight numbers;
 * an older moment must be a little more similar to count the same.
 */
#include <string.h>

#include "forecast/fore-series-private.h"

#define AGE_COST    2e-5f /* scales a step */
#define MIN_MOMENTS 16

static void remember_context(ForeSeries *s)
{
    double day = s->day > 0 ? s->point[s->k % ORIGINS][FORE_MEMBER_YESTERDAY][0] : NAN;
    double next = fore_series_season(s, 0, 1);
    const double(*point)[FORE_SERIES_MAX_TARGET] = s->point[s->k % ORIGINS];
    unsigned mid = s->config.n_target > 1 ? 1 : 0;
    double c[N_CONTEXT] = {
        s->last,
        value_at(s, s->k - 1),
        (s->last + value_at(s, s->k - 1) + value_at(s, s->k - 2)) / 3.0,
        s->ewma[1],
        s->ewma[2],
        isnan(day) || isnan(next) ? s->ewma[2] : next,
        point[FORE_MEMBER_CYCLE][0],
        point[FORE_MEMBER_CYCLE][mid],
    };

    for (unsigned i = 0; i < N_CONTEXT; i++) {
        s->context[i][s->k & RING_MASK] = (float)c[i];
    }
}

/* Distances of @n moments from ring place @from on, without wrapping. */
static void distances(const ForeSeries *s, size_t from, size_t n, float *restrict ret)
{
    static const float weight[N_CONTEXT] = {1.0f, 0.6f, 0.6f, 0.5f, 0.3f, 0.4f, 0.4f, 0.3f};

    memset(ret, 0, n * sizeof(float));
    for (unsigned i = 0; i < N_CONTEXT; i++) {
        const float *restrict c = s->context[i] + from;
        float now = s->context[i][s->k & RING_MASK];
        float w = weight[i];

        for (size_t j = 0; j < n; j++) {
            ret[j] += w * fabsf(now - c[j]);
        }
    }
}

typedef struct {
    float distance;
    uint32_t place; /* in the ring */
} Moment;

/* Moves the @k smallest of @m to its front (Hoare's selection). */
static void select_nearest(Moment *m, int n, int k)
{
    int lo = 0, hi = n - 1;

    while (lo < hi) {
        float pivot = m[lo + (hi - lo) / 2].distance;
        int i = lo, j = hi;

        while (i <= j) {
            while (m[i].distance < pivot) {
                i++;
            }
            while (m[j].distance > pivot) {
                j--;
            }
            if (i <= j) {
                Moment swap = m[i];

                m[i++] = m[j];
                m[j--] = swap;
            }
        }
        if (k - 1 <= j) {
            hi = j;
        } else if (k - 1 >= i) {
            lo = i;
        } else {
            return;
        }
    }
}

/* Returns: how many usable moments there are, at most FORE_SERIES_MAX_WINDOW. */
static int gather(const ForeSeries *s, Moment *ret)
{
    float d[FORE_SERIES_RING];
    int64_t newest = s->k - FORE_SERIES_MAX_LAG;
    int64_t oldest = MAX(s->k - (int64_t)s->config.window, 0);
    int64_t k = oldest;
    int n = 0;

    while (k <= newest) {
        size_t from = (size_t)(k & RING_MASK);
        size_t run = MIN((size_t)(newest - k + 1), FORE_SERIES_RING - from);

        distances(s, from, run, d);
        for (size_t j = 0; j < run; j++) {
            if (s->usable[from + j]) {
                float age = (float)(s->k - k - (int64_t)j);

                ret[n].distance = d[j] + AGE_COST * age * (float)s->scale;
                ret[n++].place = (uint32_t)(from + j);
            }
        }
        k += (int64_t)run;
    }
    return n;
}

static void quantiles_of(ForeSeries *s, unsigned member, unsigned t, float *v, unsigned n)
{
    const ForeSeriesConfig *c = &s->config;
    double *q = s->forecast + ((size_t)member * c->n_target + t) * c->n_level;

    fore_window_sort(v, n);
    for (unsigned i = 0; i < c->n_level; i++) {
        q[i] = MAX(fore_window_sorted_quantile(v, n, c->level[i]), 0.0);
    }
}

void fore_series_analogue(ForeSeries *s)
{
    const size_t row = (size_t)s->config.n_target * s->config.n_level;
    Moment moment[FORE_SERIES_MAX_WINDOW + 1];
    float v[MAX_ANALOGUE], moved[MAX_ANALOGUE];
    int n, k;

    remember_context(s);
    n = gather(s, moment);
    if (n < MIN_MOMENTS) {
        memcpy(s->forecast + FORE_MEMBER_ANALOGUE * row, s->forecast, row * sizeof(double));
        memcpy(s->forecast + FORE_MEMBER_ANALOGUE_MOVED * row, s->forecast, row * sizeof(double));
        return;
    }
    k = n < 60 ? (n + 1) / 2 : MIN(30 + n / 60, MAX_ANALOGUE);
    select_nearest(moment, n, k);
    for (unsigned t = 0; t < s->config.n_target; t++) {
        const float *truth = s->truth + (size_t)t * FORE_SERIES_RING;

        for (int i = 0; i < k; i++) {
            v[i] = truth[moment[i].place];
            moved[i] = (float)(s->last + ((double)v[i] - s->y[moment[i].place]));
        }
        quantiles_of(s, FORE_MEMBER_ANALOGUE, t, v, (unsigned)k);
        quantiles_of(s, FORE_MEMBER_ANALOGUE_MOVED, t, moved, (unsigned)k);
    }
}
