/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  A batch of augmented streams (fore-train-set.c) runs through the LSTM in chunks;
 * the gradient is truncated at a chunk's start, the state is not.  After each epoch the averaged
 * weights are run over every window without augmentation, and the loss on its last part decides
 * what is kept and when to stop.  When the history is short that last part is too precious to be
 * left out: training then goes on for a few epochs at a low rate on all of it.
 *
 * Resumable: all of a trainer's state at the end of an epoch fits in a checkpoint
 * (fore-checkpoint.c); training that goes on from one ends in the same weights bit for bit.
 *
 * Deterministic: the same windows, configuration and build give the same weights bit for bit.  No
 * globals, so it may run in any thread; it holds about 30 MB and never blocks.
 */
#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "forecast/fore-baseline.h"
#include "forecast/fore-calibration.h"
#include "forecast/fore-trainer.h"

#define MIN_SAMPLES    60 /* fewer cannot hold a pattern and its validation */
#define DEFAULT_HIDDEN 32
#define PASSES         12 /* times an epoch shows each step of a short history */
#define MAX_UPDATES    64 /* of one epoch */
#define RATE_FIRST     6e-3
#define RATE_LAST      6e-4
#define RATE_REFIT     1e-3
#define REFIT_EPOCHS   10
#define REFIT_SAMPLES  2000  /* a history shorter than this is also learned to its end */
#define VALIDATION_MAX 4096  /* steps of one window that are validated; the last ones */
#define PRIOR_STEPS    500.0 /* steps that no need for another width counts for */
#define WARM_UP        256   /* steps run before them so that the state is right */

void fore_trainer_free(ForeTrainer *tr)
{
    if (tr == NULL) {
        return;
    }
    for (unsigned b = 0; b < FORE_TRAIN_BATCH; b++) {
        fore_train_stream_done(&tr->streams[b]);
    }
    fore_train_set_free(tr->set);
    fore_lstm_tape_free(tr->tape);
    fore_lstm_tape_free(tr->check);
    fore_adam_free(tr->adam);
    g_free(tr->params);
    g_free(tr->best);
    g_free(tr->grad);
    g_free(tr->dy);
    g_free(tr->target);
    g_free(tr->weight);
    g_free(tr);
}

static int by_value(gconstpointer a, gconstpointer b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* Quantiles of all targets of one group: what a forecaster that knows nothing else should say. */
static void start_at_marginals(ForeTrainer *tr)
{
    ForeLstmLayout at = fore_lstm_layout(&tr->shape);
    g_autoptr(GArray) values = g_array_new(FALSE, FALSE, sizeof(double));

    for (unsigned r = 0; r < FORE_RES_N; r++) {
        double q[FORE_N_QUANTILE] = {0};

        g_array_set_size(values, 0);
        for (size_t w = 0; w < tr->set->n_windows; w++) {
            const ForeTrainWindow *tw = &tr->set->windows[w];

            for (size_t i = 0; i < tw->n_train; i++) {
                double y = tw->demand[i * FORE_RES_N + r] / tw->scale[i * FORE_RES_N + r];

                if (isfinite(y)) {
                    g_array_append_val(values, y);
                }
            }
        }
        g_array_sort(values, by_value);
        for (unsigned k = 0; k < FORE_N_QUANTILE && values->len > 0; k++) {
            q[k] = g_array_index(values, double, (guint)(fore_quantiles[k] * (values->len - 1)));
        }
        for (unsigned i = 0; i < FORE_KIND_N * FORE_N_HORIZON; i++) {
            fore_quantile_to_raw(q, tr->params + at.bo +
                                        (size_t)(FORE_GROUP(r, 0, 0) + i) * FORE_N_QUANTILE);
        }
    }
}

ForeTrainer *fore_trainer_new(const ForeWindow *windows, size_t n, const ForeFeatureNorm *norm,
                              const ForeTrainConfig *config)
{
    ForeTrainer *tr = g_new0(ForeTrainer, 1);
    ForeRandom rng = {.state = config->seed};
    double share = config->validation_share > 0.0 ? config->validation_share : 0.2;
    size_t rows = FORE_TRAIN_CHUNK * FORE_TRAIN_BATCH;

    tr->config = *config;
    tr->config.hidden = config->hidden > 0 ? config->hidden : DEFAULT_HIDDEN;
    tr->config.max_epochs = config->max_epochs > 0 ? config->max_epochs : 200;
    tr->config.patience = config->patience > 0 ? config->patience : 25;
    tr->config.validation_share = MIN(share, 0.5);
    tr->best_loss = INFINITY;
    tr->facts.seed = config->seed;
    tr->shape = fore_model_shape(tr->config.hidden);
    tr->n_params = fore_lstm_layout(&tr->shape).n;
    tr->set = fore_train_set_new(windows, n, norm, tr->config.validation_share);
    tr->facts.samples = tr->set->usable;
    tr->tape = fore_lstm_tape_new(&tr->shape, FORE_TRAIN_CHUNK, FORE_TRAIN_BATCH);
    tr->check = fore_lstm_tape_new(&tr->shape, FORE_TRAIN_CHUNK, 1);
    tr->adam = fore_adam_new(tr->n_params);
    tr->params = g_new0(ForeReal, tr->n_params);
    tr->best = g_new0(ForeReal, tr->n_params);
    tr->grad = g_new0(ForeReal, tr->n_params);
    tr->dy = g_new0(ForeReal, rows * FORE_MODEL_N_OUT);
    tr->target = g_new0(ForeReal, rows * FORE_N_GROUP);
    tr->weight = g_new0(ForeReal, rows * FORE_N_GROUP);
    fore_lstm_init(&tr->shape, &rng, tr->params);
    start_at_marginals(tr);
    for (unsigned b = 0; b < FORE_TRAIN_BATCH; b++) {
        fore_train_stream_init(&tr->streams[b], fore_random_u64(&rng));
    }
    fore_checkpoint_fingerprint(windows, n, &tr->config, tr->fingerprint);
    tr->updates = (unsigned)CLAMP(PASSES * tr->set->n_train / rows, 1, MAX_UPDATES);
    return tr;
}

static void fill_chunk(ForeTrainer *tr)
{
    for (unsigned b = 0; b < FORE_TRAIN_BATCH; b++) {
        ForeTrainStream *stream = &tr->streams[b];

        if (fore_train_stream_ended(stream)) {
            fore_train_stream_restart(stream, tr->set);
            fore_lstm_tape_reset(tr->tape, b);
        }
        for (unsigned t = 0; t < FORE_TRAIN_CHUNK; t++) {
            size_t row = (size_t)t * FORE_TRAIN_BATCH + b;

            fore_train_stream_next(stream, tr->tape->x + row * FORE_FEATURE_N_IN,
                                   tr->target + row * FORE_N_GROUP,
                                   tr->weight + row * FORE_N_GROUP);
        }
    }
}

static double sum_of(const ForeReal *v, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++) {
        sum += (double)v[i];
    }
    return sum;
}

/* One update; returns the mean loss of its chunk, NAN when there was nothing to learn. */
static double train_chunk(ForeTrainer *tr, double rate)
{
    size_t n_groups = (size_t)FORE_TRAIN_CHUNK * FORE_TRAIN_BATCH * FORE_N_GROUP;
    double known, loss;

    fill_chunk(tr);
    known = sum_of(tr->weight, n_groups);
    fore_lstm_forward(tr->tape, tr->params, FORE_TRAIN_CHUNK);
    if (known <= 0.0) {
        fore_lstm_tape_carry(tr->tape, FORE_TRAIN_CHUNK);
        return NAN;
    }
    loss = fore_quantile_loss(tr->tape->y, tr->target, tr->weight, n_groups, 1.0 / known, tr->dy);
    memset(tr->grad, 0, tr->n_params * sizeof(ForeReal));
    fore_lstm_backward(tr->tape, tr->params, FORE_TRAIN_CHUNK, tr->dy, tr->grad);
    fore_lstm_tape_carry(tr->tape, FORE_TRAIN_CHUNK);
    if (!fore_adam_step(tr->adam, tr->params, tr->grad, rate)) {
        return NAN;
    }
    return loss / (known * FORE_N_QUANTILE);
}

static double train_epoch(ForeTrainer *tr, double rate)
{
    double loss = 0.0;
    unsigned n = 0;

    for (unsigned u = 0; u < tr->updates; u++) {
        double chunk = train_chunk(tr, rate);

        if (isfinite(chunk)) {
            loss += chunk;
            n++;
        }
    }
    return n > 0 ? loss / n : 0.0;
}

/* First step of a window that is scored in validation. */
static size_t first_scored(const ForeTrainWindow *tw)
{
    return MAX(tw->n_train, tw->n > VALIDATION_MAX ? tw->n - VALIDATION_MAX : 0);
}

/* Pinball loss of @params on the validation part of one window, added to @loss and @known. */
static void validate_window(ForeTrainer *tr, const ForeReal *params, const ForeTrainWindow *tw,
                            const uint32_t *steps, double *loss, double *known)
{
    size_t first = first_scored(tw);
    size_t at = first > WARM_UP ? first - WARM_UP : 0;
    ForeReal target[FORE_N_GROUP], weight[FORE_N_GROUP];

    fore_lstm_tape_reset(tr->check, 0);
    while (at < tw->n) {
        unsigned n = (unsigned)MIN(FORE_TRAIN_CHUNK, tw->n - at);

        memcpy(tr->check->x, tw->x + at * FORE_FEATURE_N_IN,
               (size_t)n * FORE_FEATURE_N_IN * sizeof(ForeReal));
        fore_lstm_forward(tr->check, params, n);
        for (unsigned t = 0; t < n; t++) {
            if (at + t >= first) {
                fore_train_set_targets(tw, steps, tw->n, at + t, tw->n, target, weight);
                *loss += fore_quantile_loss(tr->check->y + (size_t)t * FORE_MODEL_N_OUT, target,
                                            weight, FORE_N_GROUP, 0.0, NULL);
                *known += sum_of(weight, FORE_N_GROUP);
            }
        }
        fore_lstm_tape_carry(tr->check, n);
        at += n;
    }
}

/* The identity order of the steps of the longest window. */
static uint32_t *plain_steps(const ForeTrainSet *set)
{
    size_t n = 0;
    uint32_t *steps;

    for (size_t w = 0; w < set->n_windows; w++) {
        n = MAX(n, set->windows[w].n);
    }
    steps = g_new(uint32_t, n);
    for (size_t i = 0; i < n; i++) {
        steps[i] = (uint32_t)i;
    }
    return steps;
}

static double validate(ForeTrainer *tr, const ForeReal *params)
{
    g_autofree uint32_t *steps = plain_steps(tr->set);
    double loss = 0.0, known = 0.0;

    for (size_t w = 0; w < tr->set->n_windows; w++) {
        validate_window(tr, params, &tr->set->windows[w], steps, &loss, &known);
    }
    return known > 0.0 ? loss / (known * FORE_N_QUANTILE) : 0.0;
}

/* The loss of last value with residual quantiles on the same steps, in the same unit. */
static double validate_naive(const ForeTrainSet *set)
{
    g_autofree uint32_t *steps = plain_steps(set);
    double loss = 0.0, known = 0.0;

    for (size_t w = 0; w < set->n_windows; w++) {
        const ForeTrainWindow *tw = &set->windows[w];
        g_autoptr(ForeBaseline) base = fore_baseline_new(0);

        for (size_t i = 0; i < tw->n; i++) {
            double q[FORE_N_GROUP][FORE_N_QUANTILE];
            ForeReal target[FORE_N_GROUP], weight[FORE_N_GROUP];

            fore_baseline_step(base, tw->demand + i * FORE_RES_N, q);
            if (i < first_scored(tw)) {
                continue;
            }
            fore_train_set_targets(tw, steps, tw->n, i, tw->n, target, weight);
            for (unsigned g = 0; g < FORE_N_GROUP; g++) {
                double scale = tw->scale[i * FORE_RES_N + g / (FORE_KIND_N * FORE_N_HORIZON)];

                for (unsigned k = 0; weight[g] > 0 && isfinite(q[g][0]) && k < FORE_N_QUANTILE;
                     k++) {
                    loss += fore_quantile_pinball(q[g][k] / scale, (double)target[g],
                                                  fore_quantiles[k]);
                    known += 1.0;
                }
            }
        }
    }
    return known > 0.0 ? loss / known : 0.0;
}

/* Learns the validation part as well, when the history is so short that it is missed. */
static void refit_on_all(ForeTrainer *tr)
{
    tr->set->n_train = 0;
    for (size_t w = 0; w < tr->set->n_windows; w++) {
        tr->set->windows[w].n_train = tr->set->windows[w].n;
        tr->set->n_train += tr->set->windows[w].n;
    }
    memcpy(tr->params, tr->best, tr->n_params * sizeof(ForeReal));
    fore_adam_free(tr->adam);
    tr->adam = fore_adam_new(tr->n_params);
    for (unsigned e = 0; e < REFIT_EPOCHS; e++) {
        (void)train_epoch(tr, RATE_REFIT);
    }
    memcpy(tr->best, tr->adam->mean, tr->n_params * sizeof(ForeReal));
}

static bool params_are_finite(const ForeTrainer *tr)
{
    return isfinite(sum_of(tr->best, tr->n_params));
}

/* One epoch and its validation; returns false when the caller asked to stop. */
static bool run_epoch(ForeTrainer *tr, ForeTrainStep step, gpointer data)
{
    unsigned max_epochs = tr->config.max_epochs;
    double turn = cos(G_PI * tr->epoch / max_epochs);
    double rate = RATE_LAST + 0.5 * (RATE_FIRST - RATE_LAST) * (1.0 + turn);
    ForeTrainProgress progress = {.max_epochs = max_epochs, .eta_s = -1.0, .trainer = tr};

    progress.loss = train_epoch(tr, rate);
    progress.validation_loss = validate(tr, tr->adam->mean);
    tr->epoch++;
    if (progress.validation_loss < tr->best_loss) {
        tr->best_loss = progress.validation_loss;
        memcpy(tr->best, tr->adam->mean, tr->n_params * sizeof(ForeReal));
        tr->facts.epochs = tr->epoch;
        tr->facts.loss = progress.loss;
        tr->facts.validation_loss = tr->best_loss;
    }
    progress.epoch = tr->epoch;
    progress.best_validation_loss = tr->best_loss;
    progress.naive_validation_loss = tr->facts.naive_validation_loss;
    return step == NULL || step(&progress, data);
}

static bool run_epochs(ForeTrainer *tr, ForeTrainStep step, gpointer data)
{
    tr->facts.naive_validation_loss = validate_naive(tr->set);
    while (tr->epoch < tr->config.max_epochs &&
           (tr->epoch == 0 || tr->epoch < tr->facts.epochs + tr->config.patience)) {
        if (!run_epoch(tr, step, data)) {
            return false;
        }
    }
    return true;
}

/* Widths that the validation part needed, window @tw; adds the levels after each truth to @sum. */
static double prior_of_window(ForeTrainer *tr, const ForeTrainWindow *tw, const uint32_t *steps,
                              double sum[][FORE_N_QUANTILE])
{
    size_t first = first_scored(tw);
    size_t at = first > WARM_UP ? first - WARM_UP : 0;
    ForeReal target[FORE_N_GROUP], weight[FORE_N_GROUP], quantile[FORE_MODEL_N_OUT];
    ForeCalibration cal;
    double n = 0.0;

    fore_calibration_init(&cal);
    fore_lstm_tape_reset(tr->check, 0);
    for (; at < tw->n; at++) {
        double q[FORE_N_GROUP][FORE_N_QUANTILE];

        memcpy(tr->check->x, tw->x + at * FORE_FEATURE_N_IN, FORE_FEATURE_N_IN * sizeof(ForeReal));
        fore_lstm_forward(tr->check, tr->best, 1);
        fore_lstm_tape_carry(tr->check, 1);
        if (at < first) {
            continue;
        }
        fore_quantile_from_raw(tr->check->y, FORE_N_GROUP, quantile);
        fore_train_set_targets(tw, steps, tw->n, at, tw->n, target, weight);
        for (unsigned i = 0; i < FORE_MODEL_N_OUT; i++) {
            q[i / FORE_N_QUANTILE][i % FORE_N_QUANTILE] = (double)quantile[i];
        }
        fore_calibration_apply(&cal, q);
        for (unsigned g = 0; g < FORE_N_GROUP; g++) {
            fore_calibration_observe(&cal, g, q[g], weight[g] > 0 ? (double)target[g] : NAN);
            for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
                sum[g][k] += cal.level[g][k];
            }
        }
        n += 1.0;
    }
    return n;
}

/* What a new VM starts from: the mean of these levels, drawn to 0 when few steps tell of them. */
static void fit_prior(ForeTrainer *tr, double ret[][FORE_N_QUANTILE])
{
    g_autofree uint32_t *steps = plain_steps(tr->set);
    double n = 0.0;

    memset(ret, 0, sizeof(double) * FORE_N_GROUP * FORE_N_QUANTILE);
    for (size_t w = 0; w < tr->set->n_windows; w++) {
        n += prior_of_window(tr, &tr->set->windows[w], steps, ret);
    }
    for (unsigned g = 0; g < FORE_N_GROUP; g++) {
        for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
            ret[g][k] /= n + PRIOR_STEPS;
        }
    }
}

ForeModel *fore_model_train(const ForeWindow *windows, size_t n, const ForeTrainConfig *config,
                            ForeTrainStep step, gpointer data, GError **error)
{
    g_autoptr(ForeTrainer) tr = NULL;
    size_t usable = fore_train_set_count(windows, n);
    unsigned hidden = config->hidden > 0 ? config->hidden : DEFAULT_HIDDEN;
    double prior[FORE_N_GROUP][FORE_N_QUANTILE];
    ForeFeatureNorm norm;
    ForeModel *model;
    bool go_on;

    if (usable < MIN_SAMPLES) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "history: %zu usable samples, training needs %d; record for longer", usable,
                    MIN_SAMPLES);
        return NULL;
    }
    if (hidden > FORE_LSTM_MAX_HIDDEN) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "hidden: %u cells, at most %d", hidden,
                    FORE_LSTM_MAX_HIDDEN);
        return NULL;
    }
    fore_features_fit(windows, n, &norm);
    tr = fore_trainer_new(windows, n, &norm, config);
    if (config->resume != NULL &&
        !fore_checkpoint_restore(tr, config->resume, config->resume_size, error)) {
        return NULL;
    }
    go_on = run_epochs(tr, step, data);
    fit_prior(tr, prior);
    if (go_on && usable < REFIT_SAMPLES) {
        refit_on_all(tr);
    }
    if (!fore_features_norm_is_valid(&norm) || !params_are_finite(tr)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "history: training did not converge to finite weights; check the samples");
        return NULL;
    }
    model = fore_model_new(&tr->shape, &norm, &tr->facts, tr->best);
    memcpy(model->prior, prior, sizeof(prior));
    return model;
}
