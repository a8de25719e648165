/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  A push stores the sample, lets every member learn from the truths that have just
 * become known (a value one step ahead after one step, a peak of 12 after 12), then has every
 * member forecast again.  The past is a ring of 2048 samples: 7 days of 5-minute samples, 34
 * minutes of 1-second ones.  Seasons longer than the ring are not seen here; the calendar features
 * of the models over all series are what is left of them then.
 */
#include "forecast/fore-series.h"

#include <string.h>

#include "forecast/fore-series-private.h"

#define MAX_VALUE 1e18

const char *const fore_member_names[FORE_MEMBER_N] = {
    [FORE_MEMBER_LAST] = "last",
    [FORE_MEMBER_EWMA_FAST] = "ewma-0.5",
    [FORE_MEMBER_EWMA] = "ewma-0.2",
    [FORE_MEMBER_EWMA_SLOW] = "ewma-0.05",
    [FORE_MEMBER_AR] = "ar",
    [FORE_MEMBER_DAYS] = "days",
    [FORE_MEMBER_CYCLE] = "cycle",
    [FORE_MEMBER_YESTERDAY] = "yesterday",
    [FORE_MEMBER_SHORT] = "seen-36",
    [FORE_MEMBER_MIDDLE] = "seen-288",
    [FORE_MEMBER_LONG] = "seen-2016",
    [FORE_MEMBER_SAME_TIME] = "same-time",
    [FORE_MEMBER_SAME_PHASE] = "same-phase",
    [FORE_MEMBER_ANALOGUE] = "analogue",
    [FORE_MEMBER_ANALOGUE_MOVED] = "analogue-moved",
};

bool fore_series_config_is_valid(const ForeSeriesConfig *c)
{
    bool ok = c->n_target >= 1 && c->n_target <= FORE_SERIES_MAX_TARGET && c->n_level >= 1 &&
              c->n_level <= FORE_SERIES_MAX_LEVEL && c->step_s >= 1 && c->step_s <= 86400 &&
              c->window >= 16 && c->window <= FORE_SERIES_MAX_WINDOW &&
              c->metric < FORE_SERIES_METRICS && ABS(c->epoch_s) < (INT64_C(1) << 40);

    for (unsigned t = 0; ok && t < c->n_target; t++) {
        ok = c->target[t].lag >= 1 && c->target[t].lag <= FORE_SERIES_MAX_LAG;
    }
    for (unsigned q = 0; ok && q < c->n_level; q++) {
        ok = c->level[q] > (q > 0 ? c->level[q - 1] : 0.0) && c->level[q] < 1.0;
    }
    return ok;
}

/* Hours for steps of minutes, minutes for steps of seconds. */
static int64_t cycle_of(uint32_t step_s)
{
    int64_t cycle = step_s < 5 ? 60 / step_s : 3600 / step_s;

    return CLAMP(cycle, 4, MAX_CYCLE);
}

ForeSeries *fore_series_new(const ForeSeriesConfig *config)
{
    static const unsigned keep[3] = {36, 288, 2016};
    ForeSeries *s = g_new0(ForeSeries, 1);

    g_assert(fore_series_config_is_valid(config));
    s->config = *config;
    s->t0 = config->epoch_s;
    s->k = -1;
    s->day = 86400 / config->step_s;
    if (86400 % config->step_s != 0 || s->day > FORE_SERIES_RING - 3 * FORE_SERIES_MAX_LAG ||
        s->day < 2 * FORE_SERIES_MAX_LAG) {
        s->day = 0;
    }
    s->cycle = cycle_of(config->step_s);
    s->truth = g_new0(float, (size_t)config->n_target *FORE_SERIES_RING);
    s->forecast = g_new0(double, (size_t)FORE_MEMBER_N * config->n_target * config->n_level);
    for (unsigned t = 0; t < config->n_target; t++) {
        for (unsigned m = 0; m < FORE_MEMBER_N_POINT; m++) {
            fore_window_init(&s->error[m][t], config->window);
        }
        for (unsigned w = 0; w < 3 && config->target[t].peak; w++) {
            fore_window_init(&s->seen[w][1 + t], MIN(keep[w], config->window));
        }
    }
    for (unsigned w = 0; w < 3; w++) {
        fore_window_init(&s->seen[w][0], MIN(keep[w], config->window));
    }
    return s;
}

void fore_series_free(ForeSeries *s)
{
    if (s == NULL) {
        return;
    }
    for (unsigned t = 0; t <= FORE_SERIES_MAX_TARGET; t++) {
        for (unsigned m = 0; t < FORE_SERIES_MAX_TARGET && m < FORE_MEMBER_N_POINT; m++) {
            fore_window_done(&s->error[m][t]);
        }
        for (unsigned w = 0; w < 3; w++) {
            fore_window_done(&s->seen[w][t]);
        }
    }
    g_free(s->truth);
    g_free(s->forecast);
    g_free(s);
}

double fore_series_past(const ForeSeries *s, unsigned t, int64_t origin)
{
    const ForeTarget *target = &s->config.target[t];
    double high = value_at(s, origin + target->lag);

    for (unsigned j = 1; target->peak && j < target->lag; j++) {
        high = MAX(high, value_at(s, origin + j));
    }
    return high;
}

double fore_series_season(const ForeSeries *s, unsigned t, int64_t days)
{
    int64_t origin = s->k - days * s->day;

    if (s->day == 0 || !is_remembered(s, origin)) {
        return NAN;
    }
    return fore_series_past(s, t, origin);
}

double fore_series_truth(const ForeSeries *s, unsigned t, unsigned back)
{
    const ForeTarget *target = &s->config.target[t];
    int64_t origin = s->k - back;
    unsigned known = 0;
    double high = -INFINITY;

    g_assert(back >= target->lag && back <= FORE_SERIES_MAX_LAG);
    if (origin < 0) {
        return NAN;
    }
    if (!target->peak) {
        return s->known[(origin + target->lag) & RING_MASK] ? value_at(s, origin + target->lag)
                                                            : NAN;
    }
    for (unsigned j = 1; j <= target->lag; j++) {
        if (s->known[(origin + j) & RING_MASK]) {
            high = MAX(high, value_at(s, origin + j));
            known++;
        }
    }
    return known * 4 >= target->lag * 3 ? high : NAN;
}

/* Running sums lose digits when a huge value passes through; they are made anew once a window. */
static void sums_anew(ForeSeries *s)
{
    s->sum_abs = 0.0;
    s->sum_step = 0.0;
    for (int64_t k = MAX(s->k - STAT_STEPS + 1, 0); k <= s->k; k++) {
        s->sum_abs += fabs(value_at(s, k));
        s->sum_step += fabs(value_at(s, k) - value_at(s, k - 1));
    }
}

static void update_statistics(ForeSeries *s, double v)
{
    static const double rate[3] = {0.5, 0.2, 0.05};
    double n = (double)MIN(s->k + 1, STAT_STEPS);
    int64_t gone = s->k - STAT_STEPS;

    if (s->k % STAT_STEPS == 0) {
        sums_anew(s);
    } else {
        s->sum_abs += fabs(v);
        s->sum_step += fabs(v - value_at(s, s->k - 1));
        if (gone >= 0) {
            s->sum_abs -= fabs(value_at(s, gone));
            s->sum_step -= fabs(value_at(s, gone) - value_at(s, gone - 1));
        }
    }
    s->peak = MAX(s->peak, v);
    s->mean = MAX(s->sum_abs / n, 0.0);
    s->scale = MAX(s->sum_step / n, 0.0) + 0.002 * s->mean + 1e-4 * s->peak + 1e-9;
    for (unsigned i = 0; i < G_N_ELEMENTS(rate); i++) {
        s->ewma[i] = s->k == 0 ? v : s->ewma[i] + rate[i] * (v - s->ewma[i]);
    }
}

static void update_profile(ForeSeries *s, double v)
{
    int64_t phase = ((s->t0 / s->config.step_s + s->k) % s->cycle + s->cycle) % s->cycle;
    double n = (double)++s->profile_n[phase];

    s->profile[phase] += MAX(1.0 / n, 0.2) * (v - s->profile[phase]);
}

/* Everything whose truth became known with the newest sample. */
static void learn_truths(ForeSeries *s)
{
    bool usable = s->k >= FORE_SERIES_MAX_LAG;
    int64_t oldest = s->k - FORE_SERIES_MAX_LAG;

    for (unsigned t = 0; t < s->config.n_target; t++) {
        unsigned lag = s->config.target[t].lag;
        int64_t origin = s->k - lag;
        double truth = origin >= 0 ? fore_series_truth(s, t, lag) : NAN;

        for (unsigned m = 0; !isnan(truth) && m < FORE_MEMBER_N_POINT; m++) {
            fore_window_add(&s->error[m][t], (float)(truth - s->point[origin % ORIGINS][m][t]));
        }
        for (unsigned w = 0; w < 3 && !isnan(truth) && s->config.target[t].peak; w++) {
            fore_window_add(&s->seen[w][1 + t], (float)truth);
        }
        if (oldest >= 0) {
            truth = fore_series_truth(s, t, FORE_SERIES_MAX_LAG);
            s->truth[t * FORE_SERIES_RING + (oldest & RING_MASK)] = (float)truth;
            usable = usable && !isnan(truth);
        }
    }
    if (oldest >= 0) {
        s->usable[oldest & RING_MASK] = usable;
        fore_series_ar_learn(s);
    }
}

void fore_series_push(ForeSeries *s, double value)
{
    bool known = value >= 0.0 && value <= MAX_VALUE; /* NAN compares false */

    if (!s->ready && !known) {
        s->t0 += s->config.step_s;
        return;
    }
    s->ready = true;
    s->k++;
    s->last = known ? value : s->last;
    s->y[s->k & RING_MASK] = s->last;
    s->known[s->k & RING_MASK] = known;
    s->usable[s->k & RING_MASK] = false;
    update_statistics(s, s->last);
    if (known) {
        for (unsigned w = 0; w < 3; w++) {
            fore_window_add(&s->seen[w][0], (float)value);
        }
        update_profile(s, value);
    }
    learn_truths(s);
    fore_series_members(s);
}

bool fore_series_ready(const ForeSeries *s)
{
    return s->ready;
}

const double *fore_series_member(const ForeSeries *s, unsigned member)
{
    g_assert(member < FORE_MEMBER_N);
    return s->forecast + (size_t)member * s->config.n_target * s->config.n_level;
}

double fore_series_last(const ForeSeries *s)
{
    return s->last;
}

double fore_series_scale(const ForeSeries *s)
{
    return s->scale;
}

double fore_series_peak(const ForeSeries *s)
{
    return s->peak;
}

uint64_t fore_series_age(const ForeSeries *s)
{
    return (uint64_t)(s->k + 1);
}

unsigned fore_series_day(const ForeSeries *s)
{
    return (unsigned)s->day;
}
