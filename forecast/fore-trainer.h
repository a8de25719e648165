/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Inside of training, for the files of this folder only: all that a run of it knows, and its
 * checkpoint.
 */
#include "forecast/fore-adam.h"
#include "forecast/fore-model.h"
#include "forecast/fore-train-set.h"

#define FORE_TRAIN_BATCH       16
#define FORE_TRAIN_CHUNK       32 /* steps of one truncated back-propagation */
#define FORE_TRAIN_FINGERPRINT 32 /* bytes */

struct ForeTrainer {
    ForeTrainConfig config; /* defaults filled in */
    uint8_t fingerprint[FORE_TRAIN_FINGERPRINT];
    ForeLstmShape shape;
    size_t n_params;
    ForeTrainSet *set;
    ForeLstmTape *tape;  /* CHUNK steps of BATCH streams */
    ForeLstmTape *check; /* CHUNK steps of one stream */
    ForeAdam *adam;
    ForeReal *params, *best, *grad;
    ForeReal *dy;              /* [CHUNK][BATCH][FORE_MODEL_N_OUT] */
    ForeReal *target, *weight; /* [CHUNK][BATCH][FORE_N_GROUP] */
    ForeTrainStream streams[FORE_TRAIN_BATCH];
    unsigned updates; /* of one epoch */
    unsigned epoch;   /* epochs done */
    double best_loss; /* of validation, INFINITY at first */
    ForeModelFacts facts;
};

/** fore_trainer_new: before its first epoch; @norm: fitted to @windows; hidden is within bounds */
ForeTrainer *fore_trainer_new(const ForeWindow *windows, size_t n, const ForeFeatureNorm *norm,
                              const ForeTrainConfig *config);
void fore_trainer_free(ForeTrainer *tr);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeTrainer, fore_trainer_free)

/**
 * fore_checkpoint_fingerprint: SHA-256 of what decides the result: samples and settings
 * @config: defaults filled in
 */
void fore_checkpoint_fingerprint(const ForeWindow *windows, size_t n, const ForeTrainConfig *config,
                                 uint8_t ret[FORE_TRAIN_FINGERPRINT]);
/**
 * fore_checkpoint_restore: make a fresh trainer what it was when the checkpoint was taken
 * Errors: FORE_ERROR_INVALID: damage, or a checkpoint of another history, settings or build
 */
bool fore_checkpoint_restore(ForeTrainer *tr, const void *data, size_t size, GError **error);
