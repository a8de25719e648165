/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * What was learned over all series: the LSTM with its head (fore-net) and one boosted forest a
 * target and level (fore-forest).  Immutable once made, counted, shared by threads.
 *
 * File (little-endian, no padding; floats are their IEEE 754 bits):
 *   8   magic "FORESERM"
 *   u32 version (1)
 *   u32 number of features of a step, u32 number of members: must be this build's
 *   u32 number of targets, then for each: u32 lag, u32 1 for a peak
 *   u32 number of levels, then for each: f64
 *   u32 hidden, u32 number of parameters, then for each: f32
 *   for each target and level, a forest: u32 features, u32 trees, f32 base, then for each tree:
 *       u32 nodes, then for each: u16 feature, u16 left child, f32 value
 *   u64 rows seen, u64 seed, f64 loss of the network in training
 *   32  SHA-256 of everything before it
 * The checksum finds damage, not malice.
 */
#include "forecast/fore-forest.h"
#include "forecast/fore-net.h"

#define FORE_SERIES_MODEL_MAX_SIZE (64u << 20) /* bytes */

typedef struct {
    gatomicrefcount ref;
    ForeNetShape shape;
    ForeTarget target[FORE_SERIES_MAX_TARGET];
    double level[FORE_SERIES_MAX_LEVEL];
    ForeReal *params;                     /* [fore_net_layout(shape).n] */
    ForeForest *forest[FORE_NET_MAX_OUT]; /* [n_target * n_level] */
    uint64_t rows, seed;
    double loss;
} ForeSeriesModel;

ForeSeriesModel *fore_series_model_ref(ForeSeriesModel *model);
void fore_series_model_unref(ForeSeriesModel *model);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeSeriesModel, fore_series_model_unref)

/** fore_series_model_fits: trained for these targets and levels */
bool fore_series_model_fits(const ForeSeriesModel *model, const ForeSeriesConfig *config);
GBytes *fore_series_model_encode(const ForeSeriesModel *model);
/** fore_series_model_decode: Errors: FORE_ERROR_INVALID: damage, another build's features, NaN or
 * infinity, a tree that does not end (message says which) */
ForeSeriesModel *fore_series_model_decode(const void *data, size_t size, GError **error);

/** fore_series_model_forest_features: how many inputs a forest has for @n_level levels */
unsigned fore_series_model_forest_features(unsigned n_level);
/**
 * fore_series_model_forest_input: the inputs of the forests of one target
 * @x: [FORE_SERIES_N_FEATURE]; @e: [FORE_MEMBER_N][n_level]: opinions on this target
 * @ret: (out caller-allocates): [forest_features]: @x, @e, mean and median over members
 */
void fore_series_model_forest_input(const float *x, const float *e, unsigned n_level, float *ret);
/**
 * fore_series_model_forest: quantiles of one target by the forests, scale free
 * @ret_q: (out caller-allocates): [n_level], rising
 */
void fore_series_model_forest(const ForeSeriesModel *model, unsigned target, const float *x,
                              const float *e, double *ret_q);
