/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a model over all series sees of one.  All scale free: differences are in units of the
 * series' own typical change, then asinh, which is linear for small ones and a logarithm for
 * spikes.
 */
#include "forecast/fore-series-private.h"

#define LIMIT 10.0f

typedef struct {
    const ForeSeries *s;
    float *x;
    unsigned n;
} Writer;

static void put(Writer *w, double v)
{
    float f = (float)v;

    w->x[w->n++] = isfinite(f) ? CLAMP(f, -LIMIT, LIMIT) : 0.0f;
}

/* A value in its own unit, against now. */
static void put_value(Writer *w, double v)
{
    put(w, isnan(v) ? 0.0 : asinh((v - w->s->last) / w->s->scale));
}

static void put_lags(Writer *w)
{
    static const int lags[] = {1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13, 17, 23, 24, 35, 36, 47, 59, 71};

    for (unsigned i = 0; i < G_N_ELEMENTS(lags); i++) {
        put_value(w, value_at(w->s, w->s->k - lags[i]));
    }
}

/* Mean, highest, lowest and spread of growing windows, in one pass. */
static void put_windows(Writer *w)
{
    static const int windows[] = {6, 12, 36, 72, 288};
    const ForeSeries *s = w->s;
    double sum = 0.0, square = 0.0, high = -INFINITY, low = INFINITY;
    int64_t j = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(windows); i++) {
        int64_t n = MIN(windows[i], s->k + 1);
        double mean;

        for (; j < n; j++) {
            double v = value_at(s, s->k - j);

            sum += v - s->last;
            square += (v - s->last) * (v - s->last);
            high = MAX(high, v);
            low = MIN(low, v);
        }
        mean = sum / (double)n;
        put_value(w, s->last + mean);
        put_value(w, high);
        put_value(w, low);
        put(w, asinh(sqrt(MAX(square / (double)n - mean * mean, 0.0)) / s->scale));
    }
}

static void put_seasons(Writer *w)
{
    const ForeSeries *s = w->s;
    unsigned last = s->config.n_target - 1;

    for (unsigned i = 0; i < 4; i++) {
        put_value(w, fore_series_season(s, i * last / 3, 1));
        put_value(w, fore_series_season(s, i * last / 3, DAYS));
    }
    put(w, s->day == 0 ? 0 : (s->k >= s->day) + (s->k >= DAYS * s->day));
}

/* How long since it changed, how often it stands still, how often and when it was high. */
static void put_rhythm(Writer *w)
{
    const ForeSeries *s = w->s;
    int64_t still = 0, equal = 0, above = 0, since = -1;
    int64_t n = MIN(STAT_STEPS, s->k + 1);
    bool same = true;

    for (int64_t j = 0; j < 72 && j < s->k; j++) {
        bool equals = value_at(s, s->k - j) == value_at(s, s->k - j - 1);

        same = same && equals;
        still += same;
        equal += equals && j < 36;
    }
    for (int64_t j = 0; j < n; j++) {
        if (value_at(s, s->k - j) > s->mean + 2.0 * s->scale) {
            above++;
            since = since < 0 ? j : since;
        }
    }
    put(w, log1p((double)still));
    put(w, (double)equal / 36.0);
    put(w, (double)above / (double)n);
    put(w, since < 0 ? 6.0 : log1p((double)since));
}

static void put_calendar(Writer *w)
{
    const ForeSeries *s = w->s;
    int64_t now = s->t0 + s->k * s->config.step_s;
    double day = 2.0 * G_PI * (double)(((now % 86400) + 86400) % 86400) / 86400.0;
    double hour = 2.0 * G_PI * (double)(((now % 3600) + 3600) % 3600) / 3600.0;

    put(w, sin(day));
    put(w, cos(day));
    put(w, sin(hour));
    put(w, cos(hour));
    /* day 0 of the epoch was a Thursday */
    put(w, ((now / 86400 + 3) % 7 + 7) % 7 >= 5);
    put(w, log10((double)s->config.step_s) - 2.0);
    put(w, log1p((double)s->k) / 8.0);
    for (unsigned i = 0; i < FORE_SERIES_METRICS; i++) {
        put(w, s->config.metric == i);
    }
}

static void put_companions(Writer *w, ForeSeries *const *companions)
{
    for (unsigned i = 0; i < FORE_SERIES_METRICS; i++) {
        const ForeSeries *c = companions != NULL ? companions[i] : NULL;

        if (c == NULL || c == w->s || !c->ready) {
            put(w, 0.0);
            put(w, 0.0);
            put(w, 0.0);
            continue;
        }
        put(w, asinh((c->last - value_at(c, c->k - 1)) / c->scale));
        put(w, asinh((c->last - c->mean) / c->scale));
        put(w, 1.0);
    }
}

void fore_series_features(const ForeSeries *s, ForeSeries *const *companions,
                          float ret_x[FORE_SERIES_N_FEATURE])
{
    Writer w = {.s = s, .x = ret_x};

    put(&w, asinh((s->last - value_at(s, s->k - 1)) / s->scale));
    put(&w, asinh(s->last / (s->mean + s->scale)));
    put(&w, log(s->scale / (s->mean + s->scale) + 1e-4));
    put(&w, asinh((s->mean - s->last) / s->scale));
    put_lags(&w);
    put_windows(&w);
    put_seasons(&w);
    put_rhythm(&w);
    put_calendar(&w);
    put_companions(&w, companions);
    g_assert(w.n == FORE_SERIES_N_FEATURE);
}

void fore_series_opinions(const ForeSeries *s, float *ret_e)
{
    const ForeSeriesConfig *c = &s->config;

    for (unsigned t = 0; t < c->n_target; t++) {
        for (unsigned m = 0; m < FORE_MEMBER_N; m++) {
            for (unsigned q = 0; q < c->n_level; q++) {
                double v = s->forecast[((size_t)m * c->n_target + t) * c->n_level + q];
                float e = asinhf((float)((v - s->last) / s->scale));

                *ret_e++ = isfinite(e) ? CLAMP(e, -LIMIT, LIMIT) : 0.0f;
            }
        }
    }
}
