/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Recorded windows turned into what training eats: inputs, targets, and endless augmented streams
 * of them. A stream carries its state from chunk to chunk, as the live forecaster does.
 */
#include "forecast/fore-features.h"
#include "forecast/fore-quantile.h"

typedef struct {
    size_t n;       /* steps */
    size_t n_train; /* the first of them are for training, the rest for validation */
    ForeReal *x;    /* [n][FORE_FEATURE_N_IN] */
    double *demand; /* [n][FORE_RES_N], NAN unknown */
    double *scale;  /* [n][FORE_RES_N] */
} ForeTrainWindow;

typedef struct {
    ForeTrainWindow *windows;
    size_t n_windows;
    size_t n_train; /* steps for training, all windows */
    size_t usable;  /* samples with a demand, all windows */
} ForeTrainSet;

/** fore_train_set_count: samples with at least one demand */
size_t fore_train_set_count(const ForeWindow *windows, size_t n);
/**
 * fore_train_set_new: @share: last part of each window kept for validation, 0..0.5
 */
ForeTrainSet *fore_train_set_new(const ForeWindow *windows, size_t n, const ForeFeatureNorm *norm,
                                 double share);
void fore_train_set_free(ForeTrainSet *set);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeTrainSet, fore_train_set_free)

/**
 * fore_train_set_targets: what the forecast at step @steps[at] should say, in units of its scale
 * @steps: [n] indices into the window, in the order that time passes in this stream
 * @end: steps from this index of the window on are unknown
 * @ret_target, @ret_weight: (out caller-allocates): [FORE_N_GROUP]; weight 0 where the truth is not
 * known
 */
void fore_train_set_targets(const ForeTrainWindow *window, const uint32_t *steps, size_t n,
                            size_t at, size_t end, ForeReal *ret_target, ForeReal *ret_weight);

#define FORE_TRAIN_MAX_PASS 4096 /* steps of one pass at most: memory of a stream */

typedef struct {
    ForeRandom rng;
    const ForeTrainWindow *window;
    uint32_t *steps; /* [n] */
    size_t n, at;
    ForeReal offset[FORE_FEATURE_N]; /* of this pass */
    bool dropped[FORE_GROUP_N];
    double keep_dropped[FORE_GROUP_N]; /* share of time that the group is away */
} ForeTrainStream;

void fore_train_stream_init(ForeTrainStream *stream, uint64_t seed);
/** fore_train_stream_room: make room for FORE_TRAIN_MAX_PASS steps */
void fore_train_stream_room(ForeTrainStream *stream);
void fore_train_stream_done(ForeTrainStream *stream);
/** fore_train_stream_ended: the next fill begins a new pass: reset the state of the network first
 */
bool fore_train_stream_ended(const ForeTrainStream *stream);
/**
 * fore_train_stream_next: one step
 * @ret_x: [FORE_FEATURE_N_IN]; @ret_target, @ret_weight: [FORE_N_GROUP]; weights are all 0 past the
 * end
 */
void fore_train_stream_next(ForeTrainStream *stream, ForeReal *ret_x, ForeReal *ret_target,
                            ForeReal *ret_weight);
/** fore_train_stream_restart: a new pass over a random window of @set from a random offset */
void fore_train_stream_restart(ForeTrainStream *stream, const ForeTrainSet *set);
