/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Demand of one VM as a distribution: the LSTM with carried state, its online calibration, and the
 * baseline it must beat.  Pure: no I/O, no clock (weights come as bytes).
 */
#include "common/fore-flow.h"

typedef struct ForeModel ForeModel;           /* weights, shared by all VMs, immutable, counted */
typedef struct ForeForecaster ForeForecaster; /* state of one VM */

ForeModel *fore_model_ref(ForeModel *model);
void fore_model_unref(ForeModel *model);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeModel, fore_model_unref)
/**
 * fore_model_decode: weights file (format in forecast/fore-weights.h): versioned, SHA-256 checksum
 * Errors: FORE_ERROR_INVALID: checksum, NaN or infinite weight, shape, feature list or horizons
 * that are not this build's (message says which)
 */
ForeModel *fore_model_decode(const void *data, size_t size, GError **error);
GBytes *fore_model_encode(const ForeModel *model);
/** fore_model_describe: JSON-ready facts: hidden size, trained samples, loss (transfer full, "k=v
 * ...") */
char *fore_model_describe(const ForeModel *model);

typedef struct {
    unsigned hidden;     /* LSTM cells; 0 means 32 */
    unsigned max_epochs; /* 0 means 200 */
    unsigned patience;   /* epochs without a better validation loss before stopping; 0 means 25 */
    uint64_t seed;
    double validation_share; /* last part of the history kept for validation; 0 means 0.2 */
    const void *resume;      /* checkpoint to go on from; NULL: from the start */
    size_t resume_size;      /* bytes */
} ForeTrainConfig;
typedef struct ForeTrainer ForeTrainer; /* training under way */
typedef struct {
    unsigned epoch, max_epochs;
    double loss, validation_loss, best_validation_loss;
    double naive_validation_loss; /* quantile loss of last-value on the same part, same unit */
    double eta_s;                 /* estimated from @elapsed_s the caller measures; -1 unknown */
    const ForeTrainer *trainer;   /* for fore_train_checkpoint(), within the callback only */
} ForeTrainProgress;
/**
 * fore_train_checkpoint: all that training needs to go on after this epoch; the layout is in
 * fore-checkpoint.c.  Trained on from here, with the same windows and settings, it ends in the same
 * weights bit for bit.
 * Returns: (transfer full)
 */
GBytes *fore_train_checkpoint(const ForeTrainer *trainer);
/** ForeTrainStep: called after each epoch; false stops training (best weights so far are kept) */
typedef bool (*ForeTrainStep)(const ForeTrainProgress *progress, gpointer data);
/**
 * fore_model_train: back-propagation through time on recorded windows
 * @windows: [n] histories (of any VMs), each on its own time axis
 * Errors: FORE_ERROR_INVALID (fewer than 60 usable samples in all; says how many there are; or a
 * checkpoint that is damaged or belongs to another history or other settings)
 */
ForeModel *fore_model_train(const ForeWindow *windows, size_t n, const ForeTrainConfig *config,
                            ForeTrainStep step, gpointer data, GError **error);

/** fore_forecaster_new: fresh state; @model NULL: no forecast until fore_forecaster_set_model() */
ForeForecaster *fore_forecaster_new(ForeModel *model, uint64_t step_ns);
void fore_forecaster_free(ForeForecaster *fc);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeForecaster, fore_forecaster_free)
/** fore_forecaster_set_model: swap weights live; state is rebuilt from the last 120 samples kept */
void fore_forecaster_set_model(ForeForecaster *fc, ForeModel *model);
/**
 * fore_forecaster_step: one sample in, one forecast out; carries state, never re-runs the window
 * @sample: of this step; valid == 0 for a gap (state advances, nothing is learned)
 */
void fore_forecaster_step(ForeForecaster *fc, const ForeSample *sample, ForeForecast *ret);

/**
 * fore_forecaster_step_many: fore_forecaster_step() of @n VMs; those with the same model go through
 * its network as one matrix product
 * @fc, @samples: [n]; @ret: (out caller-allocates): [n]
 */
void fore_forecaster_step_many(ForeForecaster *const *fc, const ForeSample *const *samples,
                               ForeForecast *const *ret, size_t n);

/* Members of the live mixture, by number; fore_forecast_member_name() names them. */
#define FORE_FORECAST_MEMBERS 18
/** fore_forecast_member_name: "last", "ar", "analogue", ... and "lstm" */
const char *fore_forecast_member_name(unsigned member);

/* How it has done lately (last 300 scored steps). */
typedef struct {
    unsigned scored;         /* forecasts whose truth has come */
    double loss[FORE_RES_N]; /* mean quantile loss over mean demand, of the peak forecasts */
    double baseline_loss[FORE_RES_N]; /* the same of last-value with residual quantiles */
    double coverage95[FORE_RES_N];    /* share of truths <= P95 of the peak forecast */
    double seasonal_loss[FORE_RES_N]; /* the same of yesterday; 0 until there was one */
    bool demoted;
    double member[FORE_RES_N][FORE_FORECAST_MEMBERS]; /* weight in the mixture, sums to 1 */
    const char *behind; /* whom it fell behind when demoted: "last-value", "seasonal-naive" */
} ForeForecastHealth;
void fore_forecaster_health(const ForeForecaster *fc, ForeForecastHealth *ret);
