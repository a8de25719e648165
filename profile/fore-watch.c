/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works
 *
 * Three clocks.  Each second a value is held against its exponentially weighted past: that tells a
 * break within a second or two, and knows an hour.  The mean of each minute goes through the
 * detector of many views, which knows days and the time of day.  Means of PATTERN_S seconds of all
 * usage and counters go through the regression.  Each of these has at most one episode open: it
 * opens at its alarm, is carried on by weaker signs, and ends after FORE_WATCH_QUIET_MS without
 * one, so a guest that provokes alarms at will causes two records in that time, not one a second.
 */
#include "profile/fore-watch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "profile/fore-anomaly.h"
#include "profile/fore-detect.h"
#include "profile/fore-pattern.h"

#define NS_PER_S  G_GUINT64_CONSTANT(1000000000)
#define MINUTE_S  60
#define PATTERN_S 5

/* What opens an episode and what carries it on */
typedef struct {
    double opens, carries;
} Bounds;
static const Bounds second_bounds = {0.8, 0.4};
static const Bounds minute_bounds = {FORE_DETECT_ALARM, 0.15}; /* half the alarm's evidence */
static const Bounds pattern_bounds = {FORE_PATTERN_ALARM, 0.35};

/* Half-life and warm-up in seconds; below the last number a deviation is no deviation. */
static const struct {
    ForeField field;
    ForeAnomalyConfig config;
} watched[] = {
    {FORE_FIELD_DEMAND_VCPU, {600, 3, 120, 0.25}},
    {FORE_FIELD_DEMAND_MEM, {600, 3, 120, 64.0 * (1 << 20)}},
    {FORE_FIELD_SYSCALLS, {600, 3, 120, 200}},
};
#define N_WATCHED G_N_ELEMENTS(watched)

/* The mean of what came within one bin of time */
typedef struct {
    double sum;
    unsigned n;
} Mean;

struct ForeWatch {
    struct {
        ForeAnomaly anomaly;
        ForeDetect *detect;
        Mean mean;
        ForeWatchEpisode second, minute;
    } series[N_WATCHED];
    ForePattern *pattern;
    Mean mean[FORE_PATTERN_N];
    ForeWatchEpisode unexplained;
    uint64_t minute, slot; /* bins under way: mono_ns over their length */
    bool begun;
};

ForeWatch *fore_watch_new(void)
{
    ForeWatch *w = g_new0(ForeWatch, 1);

    for (unsigned i = 0; i < N_WATCHED; i++) {
        const char *metric = fore_field_names[watched[i].field];
        fore_anomaly_init(&w->series[i].anomaly, &watched[i].config);
        w->series[i].detect = fore_detect_new();
        w->series[i].second = (ForeWatchEpisode){.source = "second", .metric = metric};
        w->series[i].minute = (ForeWatchEpisode){.source = "minute", .metric = metric};
    }
    w->pattern = fore_pattern_new();
    w->unexplained = (ForeWatchEpisode){.source = "pattern", .metric = ""};
    return w;
}

void fore_watch_free(ForeWatch *w)
{
    if (w == NULL) {
        return;
    }
    for (unsigned i = 0; i < N_WATCHED; i++) {
        fore_detect_free(w->series[i].detect);
    }
    fore_pattern_free(w->pattern);
    g_free(w);
}

static void mean_add(Mean *m, double value)
{
    if (isfinite(value)) {
        m->sum += value;
        m->n++;
    }
}

/* NAN when fewer than a third of the bin's seconds had a value.  Empties it */
static double mean_take(Mean *m, unsigned seconds)
{
    double mean = 3 * m->n >= seconds ? m->sum / m->n : (double)NAN;

    *m = (Mean){0};
    return mean;
}

/* --- episodes --- */

static void end_when_quiet(ForeWatchEpisode *e, int64_t now_ms, ForeWatchFn fn, gpointer data)
{
    /* a clock that was set back ends it too: else it might stay open for years */
    if (e->open && (now_ms - e->to_ms > FORE_WATCH_QUIET_MS || now_ms < e->from_ms)) {
        e->open = false;
        fn(e, data);
        e->id = 0;
    }
}

/* Returns: @score is the highest so far, and wants a reason */
static bool sign(ForeWatchEpisode *e, double score, const Bounds *bounds, int64_t now_ms)
{
    if (e->open && score >= bounds->carries) {
        e->to_ms = MAX(now_ms, e->from_ms);
    }
    if (score < bounds->opens || (e->open && score <= e->score)) {
        return false;
    }
    e->score = score;
    return true;
}

/* After the reason is written */
static void open_up(ForeWatchEpisode *e, int64_t now_ms, ForeWatchFn fn, gpointer data)
{
    if (!e->open) {
        e->open = true;
        e->from_ms = e->to_ms = now_ms;
        fn(e, data);
    }
}

/* --- the three clocks --- */

static double field(const ForeSample *s, ForeField f)
{
    return FORE_HAS(s, f) ? s->value[f] : (double)NAN;
}

static void step_second(ForeWatch *w, unsigned i, const ForeSample *s, ForeWatchFn fn,
                        gpointer data)
{
    ForeWatchEpisode *e = &w->series[i].second;
    double value = field(s, watched[i].field);
    double score = fore_anomaly_score(&w->series[i].anomaly, value);

    if (sign(e, score, &second_bounds, s->wall_ms)) {
        fore_anomaly_reason(&w->series[i].anomaly, e->metric, e->reason, sizeof e->reason);
        open_up(e, s->wall_ms, fn, data);
    }
}

static void step_minute(ForeWatch *w, unsigned i, int64_t now_ms, ForeWatchFn fn, gpointer data)
{
    ForeWatchEpisode *e = &w->series[i].minute;
    ForeDetect *d = w->series[i].detect;
    double value = mean_take(&w->series[i].mean, MINUTE_S);
    double score = fore_detect_score(d, (double)now_ms / 1000, value);

    if (sign(e, score, &minute_bounds, now_ms)) {
        fore_detect_reason(d, e->metric, e->reason, sizeof e->reason);
        open_up(e, now_ms, fn, data);
    }
}

static void step_pattern(ForeWatch *w, int64_t now_ms, ForeWatchFn fn, gpointer data)
{
    double in[FORE_PATTERN_N];

    for (unsigned f = 0; f < FORE_PATTERN_N; f++) {
        in[f] = mean_take(&w->mean[f], PATTERN_S);
    }
    if (sign(&w->unexplained, fore_pattern_score(w->pattern, in), &pattern_bounds, now_ms)) {
        fore_pattern_reason(w->pattern, w->unexplained.reason, sizeof w->unexplained.reason);
        open_up(&w->unexplained, now_ms, fn, data);
    }
}

static void gather(ForeWatch *w, const ForeSample *s, const double *net_bps)
{
    for (unsigned i = 0; i < N_WATCHED; i++) {
        mean_add(&w->series[i].mean, field(s, watched[i].field));
    }
    mean_add(&w->mean[FORE_PATTERN_VCPU], field(s, FORE_FIELD_DEMAND_VCPU));
    mean_add(&w->mean[FORE_PATTERN_INSNS], field(s, FORE_FIELD_INSNS));
    mean_add(&w->mean[FORE_PATTERN_LOADS], field(s, FORE_FIELD_LOADS));
    mean_add(&w->mean[FORE_PATTERN_STORES], field(s, FORE_FIELD_STORES));
    mean_add(&w->mean[FORE_PATTERN_SYSCALLS], field(s, FORE_FIELD_SYSCALLS));
    if (net_bps != NULL) {
        mean_add(&w->mean[FORE_PATTERN_NET_RX], net_bps[0]);
        mean_add(&w->mean[FORE_PATTERN_NET_TX], net_bps[1]);
    }
}

void fore_watch_step(ForeWatch *w, const ForeSample *sample, const double *net_bps, ForeWatchFn fn,
                     gpointer data)
{
    uint64_t minute = sample->mono_ns / (MINUTE_S * NS_PER_S);
    uint64_t slot = sample->mono_ns / (PATTERN_S * NS_PER_S);
    bool minute_over = w->begun && minute != w->minute, slot_over = w->begun && slot != w->slot;

    for (unsigned i = 0; i < N_WATCHED; i++) {
        end_when_quiet(&w->series[i].second, sample->wall_ms, fn, data);
        end_when_quiet(&w->series[i].minute, sample->wall_ms, fn, data);
        if (minute_over) {
            step_minute(w, i, sample->wall_ms, fn, data);
        }
        step_second(w, i, sample, fn, data);
    }
    end_when_quiet(&w->unexplained, sample->wall_ms, fn, data);
    if (slot_over) {
        step_pattern(w, sample->wall_ms, fn, data);
    }
    gather(w, sample, net_bps);
    w->minute = minute;
    w->slot = slot;
    w->begun = true;
}

bool fore_watch_is_odd(const ForeWatch *w)
{
    bool odd = w->unexplained.open;

    for (unsigned i = 0; i < N_WATCHED; i++) {
        odd = odd || w->series[i].second.open || w->series[i].minute.open;
    }
    return odd;
}

void fore_watch_flush(ForeWatch *w, ForeWatchFn fn, gpointer data)
{
    for (unsigned i = 0; i < N_WATCHED; i++) {
        end_when_quiet(&w->series[i].second, INT64_MAX / 2, fn, data);
        end_when_quiet(&w->series[i].minute, INT64_MAX / 2, fn, data);
    }
    end_when_quiet(&w->unexplained, INT64_MAX / 2, fn, data);
}
