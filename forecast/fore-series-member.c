/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The members: points first, each widened by the quantiles of its own past errors, then quantiles
 * of what was seen.  A member that has nothing to say yet (no day, no cycle, no similar moment)
 * repeats a humbler one, so that every slot always holds a forecast.
 */
#include <string.h>

#include "forecast/fore-series-private.h"

static double *slot(ForeSeries *s, unsigned member, unsigned t)
{
    const ForeSeriesConfig *c = &s->config;

    return s->forecast + ((size_t)member * c->n_target + t) * c->n_level;
}

static void copy_slot(ForeSeries *s, unsigned to, unsigned from, unsigned t)
{
    memcpy(slot(s, to, t), slot(s, from, t), s->config.n_level * sizeof(double));
}

static void fill_slot(ForeSeries *s, unsigned member, unsigned t, const float *sorted, unsigned n)
{
    double *q = slot(s, member, t);

    for (unsigned i = 0; i < s->config.n_level; i++) {
        q[i] = fore_window_sorted_quantile(sorted, n, s->config.level[i]);
    }
}

static double days_point(const ForeSeries *s, unsigned t)
{
    double sum = 0.0;
    unsigned n = 0;

    for (int64_t d = 1; d <= DAYS; d++) {
        double v = fore_series_season(s, t, d);

        if (!isnan(v)) {
            sum += v;
            n++;
        }
    }
    return n > 0 ? sum / n : s->ewma[2];
}

static double cycle_point(const ForeSeries *s, unsigned t)
{
    const ForeTarget *target = &s->config.target[t];
    int64_t now = ((s->t0 / s->config.step_s + s->k) % s->cycle + s->cycle) % s->cycle;
    double high = -INFINITY;

    if (s->k < 2 * s->cycle) {
        return s->ewma[1];
    }
    for (unsigned j = target->peak ? 1 : target->lag; j <= target->lag; j++) {
        high = MAX(high, s->profile[(now + j) % s->cycle]);
    }
    return high;
}

static void make_points(ForeSeries *s)
{
    double(*at)[FORE_SERIES_MAX_TARGET] = s->point[s->k % ORIGINS];

    for (unsigned t = 0; t < s->config.n_target; t++) {
        double day = fore_series_season(s, t, 1);

        at[FORE_MEMBER_LAST][t] = s->last;
        at[FORE_MEMBER_EWMA_FAST][t] = s->ewma[0];
        at[FORE_MEMBER_EWMA][t] = s->ewma[1];
        at[FORE_MEMBER_EWMA_SLOW][t] = s->ewma[2];
        at[FORE_MEMBER_DAYS][t] = days_point(s, t);
        at[FORE_MEMBER_CYCLE][t] = cycle_point(s, t);
        at[FORE_MEMBER_YESTERDAY][t] =
            isnan(day) ? s->ewma[1] : day + 0.5 * (s->last - value_at(s, s->k - s->day));
    }
    fore_series_ar_point(s, at[FORE_MEMBER_AR]);
}

/* Same time of day, two steps around it, a week back. */
static void same_time(ForeSeries *s, unsigned t)
{
    float v[SAME_TIME_N];
    unsigned n = 0;

    for (int64_t d = 1; s->day > 0 && d <= DAYS; d++) {
        for (int64_t e = -2; e <= 2; e++) {
            int64_t origin = s->k - d * s->day + e;

            if (is_remembered(s, origin)) {
                v[n++] = (float)fore_series_past(s, t, origin);
            }
        }
    }
    if (n < 5) {
        copy_slot(s, FORE_MEMBER_SAME_TIME, FORE_MEMBER_MIDDLE, t);
        return;
    }
    fore_window_sort(v, n);
    fill_slot(s, FORE_MEMBER_SAME_TIME, t, v, n);
}

static void same_phase(ForeSeries *s, unsigned t)
{
    int64_t every = s->cycle < FORE_SERIES_MAX_LAG
                        ? s->cycle * ((FORE_SERIES_MAX_LAG + s->cycle - 1) / s->cycle)
                        : s->cycle;
    float v[CYCLES];
    unsigned n = 0;

    for (int64_t d = 1; d <= CYCLES && is_remembered(s, s->k - d * every); d++) {
        v[n++] = (float)fore_series_past(s, t, s->k - d * every);
    }
    if (n < 5) {
        copy_slot(s, FORE_MEMBER_SAME_PHASE, FORE_MEMBER_SHORT, t);
        return;
    }
    fore_window_sort(v, n);
    fill_slot(s, FORE_MEMBER_SAME_PHASE, t, v, n);
}

static void widen_points(ForeSeries *s, unsigned t)
{
    for (unsigned m = 0; m < FORE_MEMBER_N_POINT; m++) {
        const ForeWindowed *error = &s->error[m][t];
        double point = s->point[s->k % ORIGINS][m][t];
        double *q = slot(s, m, t);

        for (unsigned i = 0; i < s->config.n_level; i++) {
            double by = error->n >= 4 ? fore_window_quantile(error, s->config.level[i]) : 0.0;

            q[i] = MAX(point + by, 0.0);
        }
    }
}

static void quote_seen(ForeSeries *s, unsigned t)
{
    bool peak = s->config.target[t].peak;

    for (unsigned w = 0; w < 3; w++) {
        const ForeWindowed *seen = &s->seen[w][peak ? 1 + t : 0];

        if (seen->n > 0) {
            fill_slot(s, FORE_MEMBER_SHORT + w, t, seen->sorted, seen->n);
        } else {
            copy_slot(s, FORE_MEMBER_SHORT + w, FORE_MEMBER_LAST, t);
        }
    }
}

void fore_series_members(ForeSeries *s)
{
    make_points(s);
    for (unsigned t = 0; t < s->config.n_target; t++) {
        widen_points(s, t);
        quote_seen(s, t);
        same_time(s, t);
        same_phase(s, t);
    }
    fore_series_analogue(s);
}
