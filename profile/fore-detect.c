/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works
 *
 * A value is looked at in eleven ways (views): the value itself, its distance from a short
 * smoothing, the mean of the last 32, the spread of the last 16, how long it has stood still, its
 * distance from what this time of day brought before, and how far the recent course is from the
 * most similar course of the past (nearest neighbour over all lags up to PAST).  Each view's
 * quantity is ranked in its own past (fore-tail.h), so a view is calibrated by the series itself:
 * a bursty series needs a larger burst.  Rarities in decades are combined as WEIGHT times the
 * cube root of the sum of cubes: between the largest alone and their sum.  No view has a weight of
 * its own; docs/forecasting.md says how the set was chosen and what each view brings.
 *
 * From TELL decades on it is an alarm.  After one, the next HOLD values alarm only when they are
 * rarer than the last by GROW: one incident is told once.
 *
 * The course is compared with an exponentially weighted mean of saturating absolute differences:
 * for lag L, S_L = (1 - w) S_L + w d(x[t], x[t - L]), so a window of any length costs one update a
 * lag and nothing drifts.  Lags below two window lengths are too close to be "the past", and a
 * lag counts once it has been followed for as long.
 */
#include "profile/fore-detect.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "profile/fore-tail.h"

#define PAST        1024 /* values compared with, and the scale's base */
#define SCALE_LEAST 30   /* values before a scale is believed */
#define PAST_LEAST  300  /* values before a course is compared */
#define MEAN_LEN    32
#define SPREAD_LEN  16
#define N_COURSE    2
#define SLOTS       96 /* of a day */
#define DAY_S       86400.0
#define WEIGHT      0.35
#define TELL        1.3
#define GROW        0.3
#define HOLD        100
#define VALUE_MAX   1e30
#define QUICK       0.35 /* weight of the newest value in the short smoothing */

typedef enum {
    VIEW_LOW,       /* -value */
    VIEW_FALL,      /* short smoothing - value */
    VIEW_MEAN_HIGH, /* mean of the last MEAN_LEN */
    VIEW_MEAN_LOW,
    VIEW_SPREAD, /* standard deviation of the last SPREAD_LEN */
    VIEW_CALM,   /* -log of the same */
    VIEW_COURSE, /* distance to the nearest course, short; then long */
    VIEW_COURSE_LONG,
    VIEW_SEASON_HIGH, /* value - what this time of day brought */
    VIEW_SEASON_LOW,
    VIEW_STILL, /* log(1 + values that did not change) */
    VIEW_N
} View;
G_STATIC_ASSERT(VIEW_COURSE_LONG - VIEW_COURSE + 1 == N_COURSE);
G_STATIC_ASSERT(PAST_LEAST > 2 * 48 && PAST_LEAST < PAST); /* else no lag would be left */

static const struct {
    float weight;     /* of the newest difference */
    unsigned nearest; /* smallest lag that counts as the past */
} courses[N_COURSE] = {{1 / 6.0f, 12}, {1 / 24.0f, 48}};

struct ForeDetect {
    uint64_t n; /* values learned */
    ForeTail tail[VIEW_N];
    float past[PAST];             /* newest first */
    float sorted[PAST];           /* the same, rising */
    float course[N_COURSE][PAST]; /* [lag - 1] */
    double quick;                 /* short smoothing */
    double last;
    double still; /* values that equalled the one before */
    struct {
        float mean[SLOTS];
        uint8_t days[SLOTS]; /* learned, saturating */
        int slot;            /* that @sum and @count belong to; -1: none yet */
        double sum, count;
    } day;
    /* the alarm */
    double told;    /* evidence of the last */
    unsigned since; /* values since */
    /* the last judgement */
    double rarity[VIEW_N], quantity[VIEW_N], evidence, value, time_s;
    double odd_from_s; /* since when the evidence has stayed over half of TELL; NAN: it does not */
};

ForeDetect *fore_detect_new(void)
{
    ForeDetect *d = g_new0(ForeDetect, 1);

    d->day.slot = -1;
    d->since = HOLD + 1;
    d->odd_from_s = (double)NAN;
    return d;
}

void fore_detect_free(ForeDetect *d)
{
    g_free(d);
}

size_t fore_detect_bytes(void)
{
    return sizeof(ForeDetect);
}

static unsigned n_past(const ForeDetect *d)
{
    return (unsigned)MIN(d->n, PAST);
}

/* --- the past --- */

static unsigned lower_bound(const float *sorted, unsigned n, float value)
{
    unsigned low = 0, high = n;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (sorted[middle] < value) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void remember(ForeDetect *d, float value)
{
    unsigned n = n_past(d), at;

    if (n == PAST) {
        at = lower_bound(d->sorted, n, d->past[PAST - 1]);
        memmove(d->sorted + at, d->sorted + at + 1, sizeof(float) * (n - at - 1));
        n--;
    }
    at = lower_bound(d->sorted, n, value);
    memmove(d->sorted + at + 1, d->sorted + at, sizeof(float) * (n - at));
    d->sorted[at] = value;
    memmove(d->past + 1, d->past, sizeof(float) * n);
    d->past[0] = value;
    d->n++;
}

static double quantile(const ForeDetect *d, double q)
{
    return d->sorted[(unsigned)(q * (n_past(d) - 1) + 0.5)];
}

/* What a difference must reach to mean something; > 0 */
static double scale_of(const ForeDetect *d)
{
    double scale = 0.25 * (quantile(d, 0.9) - quantile(d, 0.1)) +
                   0.02 * (quantile(d, 0.995) - quantile(d, 0.005)) + 1e-4 * fabs(quantile(d, 0.5));

    return fmax(scale, FLT_MIN);
}

/* --- the views --- */

/* Judge one view's quantity, then learn it. */
static void view(ForeDetect *d, View v, double quantity, double grain)
{
    d->quantity[v] = quantity;
    d->rarity[v] = fore_tail_rarity(&d->tail[v], (float)quantity, grain);
    fore_tail_add(&d->tail[v], (float)quantity);
}

/* Mean of @value and the @len - 1 before it, or of as many as there are */
static double mean_of(const ForeDetect *d, double value, unsigned len, double *ret_sd)
{
    unsigned n = MIN(len - 1, n_past(d));
    double sum = value, squares, mean;

    for (unsigned i = 0; i < n; i++) {
        sum += d->past[i];
    }
    mean = sum / (n + 1);
    squares = (value - mean) * (value - mean);
    for (unsigned i = 0; ret_sd != NULL && i < n; i++) {
        squares += (d->past[i] - mean) * (d->past[i] - mean);
    }
    if (ret_sd != NULL) {
        *ret_sd = sqrt(squares / (n + 1));
    }
    return mean;
}

static void view_level(ForeDetect *d, double value, double scale)
{
    double grain = 0.1 * scale, sd, mean;

    view(d, VIEW_LOW, -value, grain);
    view(d, VIEW_FALL, d->quick - value, grain);
    mean = mean_of(d, value, MEAN_LEN, NULL);
    view(d, VIEW_MEAN_HIGH, mean, grain);
    view(d, VIEW_MEAN_LOW, -mean, grain);
    mean_of(d, value, SPREAD_LEN, &sd);
    view(d, VIEW_SPREAD, sd, grain);
    view(d, VIEW_CALM, -log(fmax(sd + 1e-3 * scale, FLT_MIN)), 0.1);
    view(d, VIEW_STILL, log1p(d->still), 0.1);
}

static void follow_course(float *course, const float *past, unsigned n, float value, float scale,
                          float weight)
{
    for (unsigned i = 0; i < n; i++) {
        float diff = fabsf(value - past[i]);
        float part = diff / (scale + 0.1f * diff); /* 0..10 */
        course[i] += weight * (part - course[i]);
    }
}

static float smallest(const float *list, unsigned from, unsigned n)
{
    float least = list[from];

    for (unsigned i = from + 1; i < n; i++) {
        least = list[i] < least ? list[i] : least;
    }
    return least;
}

static void view_course(ForeDetect *d, float value, double scale)
{
    unsigned n = n_past(d);

    for (unsigned c = 0; c < N_COURSE; c++) {
        follow_course(d->course[c], d->past, n, value, (float)scale, courses[c].weight);
        if (d->n > PAST_LEAST) {
            unsigned followed = n < PAST ? n - courses[c].nearest : n;
            view(d, VIEW_COURSE + c, smallest(d->course[c], courses[c].nearest - 1, followed),
                 0.05);
        }
    }
}

/* A day's slot is judged by the days before, and learned when it is over. */
static void view_season(ForeDetect *d, double time_s, double value, double scale)
{
    double tod;
    int slot;

    if (!isfinite(time_s)) {
        return;
    }
    tod = fmod(time_s, DAY_S);
    slot = CLAMP((int)((tod < 0 ? tod + DAY_S : tod) / DAY_S * SLOTS), 0, SLOTS - 1);
    if (slot != d->day.slot) {
        if (d->day.slot >= 0) {
            int old = d->day.slot;
            double w = d->day.days[old] < 4 ? 1.0 / (d->day.days[old] + 1) : 0.2;
            d->day.mean[old] += (float)(w * (d->day.sum / d->day.count - d->day.mean[old]));
            d->day.days[old] = (uint8_t)MIN(d->day.days[old] + 1, 255);
        }
        d->day.slot = slot;
        d->day.sum = d->day.count = 0;
    }
    d->day.sum += value;
    d->day.count++;
    if (d->day.days[slot] > 0) {
        double over = value - d->day.mean[slot];
        view(d, VIEW_SEASON_HIGH, over, 0.1 * scale);
        view(d, VIEW_SEASON_LOW, -over, 0.1 * scale);
    }
}

/* --- the judgement --- */

static double combine(const double rarity[VIEW_N])
{
    double sum = 0;

    for (unsigned v = 0; v < VIEW_N; v++) {
        sum += rarity[v] * rarity[v] * rarity[v];
    }
    return WEIGHT * cbrt(sum);
}

/* Evidence to score: alarms in FORE_DETECT_ALARM..1, all else below */
static double tell(ForeDetect *d)
{
    double grade = 1 - exp(-d->evidence / 2);

    d->since = MIN(d->since + 1, HOLD + 1);
    if (d->evidence >= TELL && (d->since > HOLD || d->evidence > d->told + GROW)) {
        d->told = d->evidence;
        d->since = 0;
        return FORE_DETECT_ALARM + (1 - FORE_DETECT_ALARM) * grade;
    }
    return FORE_DETECT_ALARM * grade * 0.999;
}

double fore_detect_score(ForeDetect *d, double time_s, double value)
{
    double scale;

    if (!isfinite(value) || fabs(value) > VALUE_MAX) {
        return 0;
    }
    memset(d->rarity, 0, sizeof d->rarity);
    d->still = d->n > 0 && value == d->last ? d->still + 1 : 0;
    if (d->n == 0) {
        d->quick = value;
    }
    if (d->n >= SCALE_LEAST) {
        scale = scale_of(d);
        view_level(d, value, scale);
        view_course(d, (float)value, scale);
        view_season(d, time_s, value, scale);
    }
    d->evidence = combine(d->rarity);
    if (d->evidence < TELL / 2) {
        d->odd_from_s = (double)NAN;
    } else if (!isfinite(d->odd_from_s)) {
        d->odd_from_s = time_s;
    }
    d->quick += QUICK * (value - d->quick);
    d->last = d->value = value;
    d->time_s = time_s;
    remember(d, (float)value);
    return tell(d);
}

/* --- in words --- */

static View strongest(const ForeDetect *d)
{
    View best = 0;

    for (View v = 1; v < VIEW_N; v++) {
        best = d->rarity[v] > d->rarity[best] ? v : best;
    }
    return best;
}

/* " for 4 min", or nothing while it is new or the time is unknown */
static void lasting(const ForeDetect *d, char *ret, size_t size)
{
    double s = d->time_s - d->odd_from_s;

    if (!(s >= 60)) {
        ret[0] = '\0';
    } else if (s < 7200) {
        snprintf(ret, size, " for %.0f min", s / 60);
    } else {
        snprintf(ret, size, " for %.1f h", s / 3600);
    }
}

/* "above P99.9", or "higher than any of its last 4032" when the tail knows no such value */
static void rank_text(const ForeDetect *d, View v, bool high, char *ret, size_t size)
{
    double n = fore_tail_count(&d->tail[v]), share = pow(10, -d->rarity[v]);

    if (share * (n + 1) <= 1.001) {
        snprintf(ret, size, "%s than any of its last %.0f", high ? "higher" : "lower", n);
    } else {
        snprintf(ret, size, "%s P%.4g", high ? "above" : "below", 100 * (high ? 1 - share : share));
    }
}

void fore_detect_reason(const ForeDetect *d, const char *what, char *ret, size_t size)
{
    View v = strongest(d);
    char since[32], rank[64];
    double q = d->quantity[v];

    lasting(d, since, sizeof since);
    rank_text(d, v, v == VIEW_MEAN_HIGH, rank, sizeof rank);
    if (!(d->rarity[v] > 0)) {
        snprintf(ret, size, "%s is as usual (%.4g)", what, d->value);
        return;
    }
    switch (v) {
    case VIEW_LOW:
        snprintf(ret, size, "%s %s%s (%.4g, usually %.4g)", what, rank, since, d->value,
                 quantile(d, 0.5));
        return;
    case VIEW_MEAN_HIGH:
    case VIEW_MEAN_LOW:
        snprintf(ret, size, "mean %s of %d samples %s%s (%.4g, usually %.4g)", what, MEAN_LEN, rank,
                 since, v == VIEW_MEAN_HIGH ? q : -q, quantile(d, 0.5));
        return;
    case VIEW_FALL:
        snprintf(ret, size, "%s fell by %.4g to %.4g at once", what, q, d->value);
        return;
    case VIEW_SPREAD:
        snprintf(ret, size, "%s varies more than usual%s (deviation %.3g over %d samples)", what,
                 since, q, SPREAD_LEN);
        return;
    case VIEW_CALM:
        snprintf(ret, size, "%s varies less than usual%s (deviation %.3g over %d samples)", what,
                 since, exp(-q), SPREAD_LEN);
        return;
    case VIEW_COURSE:
    case VIEW_COURSE_LONG:
        snprintf(ret, size, "%s runs unlike anything in its last %u samples%s (now %.4g)", what,
                 n_past(d), since, d->value);
        return;
    case VIEW_SEASON_HIGH:
    case VIEW_SEASON_LOW:
        snprintf(ret, size, "%s is %.4g %s what this time of day brought before%s (%.4g)", what, q,
                 v == VIEW_SEASON_HIGH ? "above" : "below", since, d->value);
        return;
    case VIEW_STILL:
        snprintf(ret, size, "%s has stood at %.4g for %.0f samples", what, d->value, d->still + 1);
        return;
    case VIEW_N:
        break;
    }
    g_assert_not_reached();
}
