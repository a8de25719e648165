/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  A few minutes of one VM hold a handful of events, so each pass over them is made a
 * little different, in the ways in which the next event will differ from the recorded ones:
 *  - it starts anywhere, with a fresh state, as a VM that was just added does;
 *  - time is warped: now and then a step is repeated or left out, so phases vary in length;
 *  - inputs get a small noise, and counters a constant offset per pass;
 *  - the features that follow the capacity, and more rarely those of the profile page, go away for
 * stretches. The network therefore learns forecasts that need neither, and uses them when they are
 * there. Targets follow the warped time.  The warp fades out with the length of the history: a long
 * one has the variety itself, and its seasons must not be blurred.
 */
#include "forecast/fore-train-set.h"

#include <math.h>
#include <string.h>

#include "forecast/fore-score.h"

#define MIN_PASS       30    /* steps that a pass has at least, when the window does */
#define WARP           0.06  /* share of steps repeated, and left out, in a short history */
#define WARP_HISTORY   600.0 /* steps that count as short */
#define NOISE          0.08  /* standard deviations, each step */
#define DEMAND_NOISE   0.02
#define OFFSET         0.15 /* standard deviations, each pass */
#define TOGGLE         0.04 /* chance a step that a group comes or goes */
#define DROP_CAPACITY  0.6  /* share of time without the features that follow capacity */
#define DROP_PROFILE   0.1
#define DROP_DEEP      0.2
#define DROP_ANNOUNCED 0.3

size_t fore_train_set_count(const ForeWindow *windows, size_t n)
{
    size_t usable = 0;

    for (size_t w = 0; w < n; w++) {
        for (size_t i = 0; i < windows[w].n; i++) {
            double demand[FORE_RES_N];

            fore_features_demand(&windows[w].samples[i], demand);
            usable += isfinite(demand[FORE_RES_VCPU]) || isfinite(demand[FORE_RES_MEM]) ? 1 : 0;
        }
    }
    return usable;
}

static void window_init(ForeTrainWindow *tw, const ForeWindow *w, const ForeFeatureNorm *norm,
                        double share)
{
    ForeFeatureState state;

    fore_feature_state_init(&state);
    tw->n = w->n;
    tw->n_train = w->n - (size_t)(share * (double)w->n);
    tw->x = g_new0(ForeReal, w->n * FORE_FEATURE_N_IN);
    tw->demand = g_new0(double, w->n *FORE_RES_N);
    tw->scale = g_new0(double, w->n *FORE_RES_N);
    for (size_t i = 0; i < w->n; i++) {
        fore_features_step(norm, &state, &w->samples[i], tw->x + i * FORE_FEATURE_N_IN,
                           tw->scale + i * FORE_RES_N);
        fore_features_demand(&w->samples[i], tw->demand + i * FORE_RES_N);
    }
}

ForeTrainSet *fore_train_set_new(const ForeWindow *windows, size_t n, const ForeFeatureNorm *norm,
                                 double share)
{
    ForeTrainSet *set = g_new0(ForeTrainSet, 1);

    set->windows = g_new0(ForeTrainWindow, n);
    set->n_windows = n;
    set->usable = fore_train_set_count(windows, n);
    for (size_t w = 0; w < n; w++) {
        window_init(&set->windows[w], &windows[w], norm, share);
        set->n_train += set->windows[w].n_train;
    }
    return set;
}

void fore_train_set_free(ForeTrainSet *set)
{
    if (set == NULL) {
        return;
    }
    for (size_t w = 0; w < set->n_windows; w++) {
        g_free(set->windows[w].x);
        g_free(set->windows[w].demand);
        g_free(set->windows[w].scale);
    }
    g_free(set->windows);
    g_free(set);
}

/* Demand @ahead steps on in this stream; NAN past its end, at @end of the window, or in a gap. */
static double ahead_of(const ForeTrainWindow *w, const uint32_t *steps, size_t n, size_t at,
                       size_t end, unsigned res)
{
    if (at >= n || steps[at] >= end) {
        return NAN;
    }
    return w->demand[(size_t)steps[at] * FORE_RES_N + res];
}

void fore_train_set_targets(const ForeTrainWindow *window, const uint32_t *steps, size_t n,
                            size_t at, size_t end, ForeReal *ret_target, ForeReal *ret_weight)
{
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        double scale = window->scale[(size_t)steps[at] * FORE_RES_N + r];
        double y[FORE_KIND_N][FORE_MAX_HORIZON + 1] = {{0}}; /* by steps ahead */

        for (unsigned k = 1; k <= FORE_MAX_HORIZON; k++) {
            double v = ahead_of(window, steps, n, at + k, end, r);
            double before = y[FORE_KIND_PEAK][k - 1];

            y[FORE_KIND_POINT][k] = v;
            /* one unknown step makes every peak that spans it unknown */
            y[FORE_KIND_PEAK][k] = isfinite(v) && isfinite(before) ? MAX(v, before) : NAN;
        }
        for (unsigned i = 0; i < FORE_KIND_N * FORE_N_HORIZON; i++) {
            double v = y[i / FORE_N_HORIZON][fore_horizons[i % FORE_N_HORIZON]];
            unsigned g = FORE_GROUP(r, 0, 0) + i;

            ret_target[g] = isfinite(v) ? (ForeReal)(v / scale) : 0;
            ret_weight[g] = isfinite(v) ? 1 : 0;
        }
    }
}

void fore_train_stream_init(ForeTrainStream *stream, uint64_t seed)
{
    memset(stream, 0, sizeof(*stream));
    stream->rng.state = seed;
    stream->keep_dropped[FORE_GROUP_CAPACITY] = DROP_CAPACITY;
    stream->keep_dropped[FORE_GROUP_PROFILE] = DROP_PROFILE;
    stream->keep_dropped[FORE_GROUP_DEEP] = DROP_DEEP;
    stream->keep_dropped[FORE_GROUP_ANNOUNCED] = DROP_ANNOUNCED;
}

void fore_train_stream_room(ForeTrainStream *stream)
{
    if (stream->steps == NULL) {
        stream->steps = g_new(uint32_t, FORE_TRAIN_MAX_PASS);
    }
}

void fore_train_stream_done(ForeTrainStream *stream)
{
    g_clear_pointer(&stream->steps, g_free);
}

bool fore_train_stream_ended(const ForeTrainStream *stream)
{
    return stream->at >= stream->n;
}

/* A window, each as likely as it is long, and a place in its training part to start at. */
static size_t pick_start(ForeTrainStream *stream, const ForeTrainSet *set)
{
    uint64_t at = fore_random_below(&stream->rng, set->n_train);
    size_t w = 0;
    size_t n;

    while (at >= set->windows[w].n_train) {
        at -= set->windows[w].n_train;
        w++;
    }
    stream->window = &set->windows[w];
    n = stream->window->n_train;
    return n > MIN_PASS ? fore_random_below(&stream->rng, n - MIN_PASS) : 0;
}

void fore_train_stream_restart(ForeTrainStream *stream, const ForeTrainSet *set)
{
    size_t step = pick_start(stream, set);
    double warp = WARP * MIN(1.0, WARP_HISTORY / (double)set->n_train);

    fore_train_stream_room(stream);
    stream->n = stream->at = 0;
    while (step < stream->window->n_train && stream->n < FORE_TRAIN_MAX_PASS) {
        double u = fore_random_unit(&stream->rng);

        stream->steps[stream->n++] = (uint32_t)step;
        step += u < warp ? 0 : u < 2.0 * warp ? 2 : 1;
    }
    for (unsigned f = 0; f < FORE_FEATURE_N; f++) {
        bool demand = f < FORE_FEATURE_N_SKIP;

        stream->offset[f] = demand ? 0 : (ForeReal)(OFFSET * fore_random_normal(&stream->rng));
    }
    for (unsigned g = 0; g < FORE_GROUP_N; g++) {
        stream->dropped[g] = fore_random_unit(&stream->rng) < stream->keep_dropped[g];
    }
}

/* Which features are away at this step; groups come and go as a two-state chain. */
static uint64_t dropped_now(ForeTrainStream *stream)
{
    uint64_t away = 0;

    for (unsigned g = 0; g < FORE_GROUP_N; g++) {
        double share = stream->keep_dropped[g];
        double p = 2.0 * TOGGLE * (stream->dropped[g] ? 1.0 - share : share);

        if (fore_random_unit(&stream->rng) < p) {
            stream->dropped[g] = !stream->dropped[g];
        }
        away |= stream->dropped[g] ? fore_features_group((ForeFeatureGroup)g) : 0;
    }
    return away;
}

void fore_train_stream_next(ForeTrainStream *stream, ForeReal *ret_x, ForeReal *ret_target,
                            ForeReal *ret_weight)
{
    const ForeReal *x;
    uint64_t away;

    if (fore_train_stream_ended(stream)) {
        memset(ret_x, 0, FORE_FEATURE_N_IN * sizeof(ForeReal));
        memset(ret_target, 0, FORE_N_GROUP * sizeof(ForeReal));
        memset(ret_weight, 0, FORE_N_GROUP * sizeof(ForeReal));
        return;
    }
    away = dropped_now(stream);
    x = stream->window->x + (size_t)stream->steps[stream->at] * FORE_FEATURE_N_IN;
    for (unsigned f = 0; f < FORE_FEATURE_N; f++) {
        bool has = x[FORE_FEATURE_N + f] > 0 && (away >> f & 1) == 0;
        double sd = f < FORE_FEATURE_N_SKIP ? DEMAND_NOISE : NOISE;
        ForeReal noise = (ForeReal)(sd * fore_random_normal(&stream->rng));

        ret_x[f] = has ? x[f] + stream->offset[f] + noise : 0;
        ret_x[FORE_FEATURE_N + f] = has ? 1 : 0;
    }
    fore_train_set_targets(stream->window, stream->steps, stream->n, stream->at,
                           stream->window->n_train, ret_target, ret_weight);
    stream->at++;
}
