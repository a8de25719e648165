/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Inside of ForeModel, for the files of this folder only.  Immutable once it is handed out, so any
 * thread may read it; the count is atomic.
 */
#include "forecast/fore-features.h"
#include "forecast/fore-forecaster.h"
#include "forecast/fore-quantile.h"

#define FORE_MODEL_N_OUT (FORE_N_GROUP * FORE_N_QUANTILE)

/* How the weights came about: shown, never used. */
typedef struct {
    uint64_t samples; /* usable samples in the history */
    uint64_t seed;
    uint32_t epochs; /* of the weights that were kept */
    double loss;     /* mean pinball loss over mean demand, training part */
    double validation_loss;
    double naive_validation_loss;
} ForeModelFacts;

struct ForeModel {
    gatomicrefcount ref;
    ForeLstmShape shape;
    ForeFeatureNorm norm;
    ForeModelFacts facts;
    ForeReal *params; /* [fore_lstm_layout(shape).n] */
    double prior[FORE_N_GROUP]
                [FORE_N_QUANTILE]; /* widths that a new VM starts with (calibration) */
};

/** fore_model_shape: the shape of this build with @hidden cells (may be out of range, see
 * shape_is_valid) */
ForeLstmShape fore_model_shape(unsigned hidden);
/** fore_model_new: @params: [layout.n], copied */
ForeModel *fore_model_new(const ForeLstmShape *shape, const ForeFeatureNorm *norm,
                          const ForeModelFacts *facts, const ForeReal *params);
