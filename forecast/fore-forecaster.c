/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Each step: the sample's demand is the truth for forecasts issued 1 to 12 steps
 * ago; these are scored, the calibration and the baseline learn from them; then the sample goes
 * through the LSTM, whose state is all it keeps of the past; its quantiles, corrected for coverage,
 * join those of the classical members (fore-ensemble), and the mixture goes out.
 *
 * Invariants of a forecast that is valid: every number finite, none negative, quantiles rise, a
 * peak does not fall with its horizon, and nothing exceeds LIMIT times the highest demand that
 * training or the last samples knew.  What is missing is masked on the way in, so a gap or a NaN
 * leaves no trace in the state beyond the step it stands for.
 *
 * Demotion is decided in fore-judge.c: ours beside last value and the same time yesterday.
 *
 * Many VMs: what each does alone (scores, features, calibration) is done for one after the other;
 * the network runs for all of a model at once.  The memory of one VM is about 0.85 MiB, most of it
 * what the classical members of the mixture remember (fore-ensemble).
 */
#include <math.h>
#include <string.h>

#include "forecast/fore-baseline.h"
#include "forecast/fore-calibration.h"
#include "forecast/fore-ensemble.h"
#include "forecast/fore-judge.h"
#include "forecast/fore-mixture.h"
#include "forecast/fore-model.h"

#define KEPT_SAMPLES 120
#define KEPT_BLOCK   12 /* samples whose highest demand is kept as one */
#define N_KEPT_BLOCK (KEPT_SAMPLES / KEPT_BLOCK)
#define LIMIT        1.5 /* times the highest demand known */
#define MAX_SILENCE  12  /* steps without a demand after which there is no forecast */
#define DAY_NS       (86400 * FORE_NS_PER_S)
#define DAY_BINS     1440
#define AT_ONCE      256 /* VMs in one matrix product: its operands stay in the L2 cache */

G_STATIC_ASSERT(KEPT_SAMPLES % KEPT_BLOCK == 0);

typedef double Quantiles[FORE_N_GROUP][FORE_N_QUANTILE];

typedef float Issued[FORE_N_GROUP][FORE_N_QUANTILE];

struct ForeForecaster {
    ForeModel *model; /* NULL: none yet */
    uint64_t step_ns;
    ForeSample kept[KEPT_SAMPLES];            /* ring, newest at (count - 1) % KEPT_SAMPLES */
    double highest[FORE_RES_N][N_KEPT_BLOCK]; /* demand of the kept, by block of the ring */
    uint64_t count;                           /* samples seen */
    unsigned silence;                         /* steps since the last known demand */

    ForeFeatureState features;
    ForeReal *h, *c, *scratch; /* sized by the model */
    bool has_state;            /* a demand has been seen by this model */

    ForeTruth truth;
    ForeCalibration calibration;
    ForeBaseline *rival[FORE_RIVAL_N];
    ForeEnsemble *ensemble;          /* from the first sample on */
    Issued issued[FORE_MAX_HORIZON]; /* by count % FORE_MAX_HORIZON; NAN: none */
    /* before it was mixed: what its calibration learns from */
    Issued issued_lstm[FORE_MAX_HORIZON];
    Issued issued_rival[FORE_RIVAL_N][FORE_MAX_HORIZON];
    ForeJudge judge;
};

static void fill_nan(Issued q)
{
    for (unsigned g = 0; g < FORE_N_GROUP; g++) {
        for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
            q[g][k] = NAN;
        }
    }
}

static void keep_issued(const Quantiles q, Issued ret)
{
    for (unsigned g = 0; g < FORE_N_GROUP; g++) {
        for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
            ret[g][k] = (float)q[g][k];
        }
    }
}

/* The same time yesterday, by the minute; NULL when the step does not divide a minute. */
static ForeBaseline *yesterday(uint64_t step_ns)
{
    ForeBaselineConfig config = {.strict = true, .peaks_only = true};

    if (step_ns < FORE_NS_PER_S || DAY_NS % step_ns != 0) {
        return NULL;
    }
    config.season = (unsigned)(DAY_NS / step_ns);
    config.bin = MAX(config.season / DAY_BINS, 1);
    return config.season % config.bin == 0 ? fore_baseline_new_with(&config) : NULL;
}

ForeForecaster *fore_forecaster_new(ForeModel *model, uint64_t step_ns)
{
    ForeForecaster *fc = g_new0(ForeForecaster, 1);
    ForeBaselineConfig last = {.peaks_only = true};

    fc->step_ns = step_ns;
    fc->rival[FORE_RIVAL_LAST] = fore_baseline_new_with(&last);
    fc->rival[FORE_RIVAL_SEASON] = yesterday(step_ns);
    fore_truth_init(&fc->truth);
    for (unsigned k = 0; k < FORE_MAX_HORIZON; k++) {
        for (unsigned i = 0; i < FORE_RIVAL_N; i++) {
            fill_nan(fc->issued_rival[i][k]);
        }
    }
    fore_forecaster_set_model(fc, model);
    return fc;
}

void fore_forecaster_free(ForeForecaster *fc)
{
    if (fc == NULL) {
        return;
    }
    fore_model_unref(fc->model);
    for (unsigned i = 0; i < FORE_RIVAL_N; i++) {
        fore_baseline_free(fc->rival[i]);
    }
    fore_ensemble_free(fc->ensemble);
    g_free(fc->h);
    g_free(fc->c);
    g_free(fc->scratch);
    g_free(fc);
}

static void keep_sample(ForeForecaster *fc, const ForeSample *sample, const double demand[])
{
    unsigned at = (unsigned)(fc->count % KEPT_SAMPLES);

    fc->kept[at] = *sample;
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        double *top = &fc->highest[r][at / KEPT_BLOCK];

        *top = fmax(at % KEPT_BLOCK == 0 ? NAN : *top, demand[r]); /* fmax ignores NAN */
    }
    fc->count++;
}

/* Highest demand that this VM is known for: in training, at its scale, or in the samples kept. */
static double highest_known(const ForeForecaster *fc, ForeResource res, double scale)
{
    const ForeFeatureNorm *norm = &fc->model->norm;
    double top = scale * (norm->mean[res] + norm->hi[res] * norm->sd[res]);

    for (unsigned i = 0; i < N_KEPT_BLOCK; i++) {
        top = fmax(top, fc->highest[res][i]);
    }
    return top;
}

/* What the network says, in units; false when a number is not finite. */
static bool quantiles_of(const ForeReal *raw, const double scale[FORE_RES_N], Quantiles ret_q)
{
    ForeReal y[FORE_MODEL_N_OUT];
    double sum = 0.0;

    fore_quantile_from_raw(raw, FORE_N_GROUP, y);
    for (unsigned g = 0; g < FORE_N_GROUP; g++) {
        double unit = scale[g / (FORE_KIND_N * FORE_N_HORIZON)];

        for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
            ret_q[g][k] = unit * (double)y[g * FORE_N_QUANTILE + k];
            sum += ret_q[g][k];
        }
    }
    return isfinite(sum);
}

static void bound(const ForeForecaster *fc, const double scale[FORE_RES_N], Quantiles q)
{
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        double top = LIMIT * highest_known(fc, (ForeResource)r, scale[r]);

        for (unsigned i = 0; i < FORE_KIND_N * FORE_N_HORIZON; i++) {
            double *at = q[FORE_GROUP(r, 0, 0) + i];
            bool longer = i > FORE_N_HORIZON; /* a peak with a shorter one before it */

            for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
                at[k] = CLAMP(at[k], 0.0, top);
                if (longer) {
                    at[k] = MAX(at[k], q[FORE_GROUP(r, 0, 0) + i - 1][k]);
                }
            }
        }
    }
}

static void rebuild_state(ForeForecaster *fc)
{
    uint64_t n = MIN(fc->count, KEPT_SAMPLES);

    memset(fc->h, 0, fc->model->shape.n_hidden * sizeof(ForeReal));
    memset(fc->c, 0, fc->model->shape.n_hidden * sizeof(ForeReal));
    fore_feature_state_init(&fc->features);
    fc->has_state = false;
    for (uint64_t i = fc->count - n; i < fc->count; i++) {
        const ForeSample *sample = &fc->kept[i % KEPT_SAMPLES];
        double demand[FORE_RES_N], scale[FORE_RES_N];
        ForeReal x[FORE_FEATURE_N_IN], y[FORE_MODEL_N_OUT];

        fore_features_step(&fc->model->norm, &fc->features, sample, x, scale);
        fore_lstm_step(&fc->model->shape, fc->model->params, x, fc->h, fc->c, fc->scratch, y);
        fore_features_demand(sample, demand);
        fc->has_state |= isfinite(demand[FORE_RES_VCPU]) || isfinite(demand[FORE_RES_MEM]);
    }
}

void fore_forecaster_set_model(ForeForecaster *fc, ForeModel *model)
{
    ForeModel *old = fc->model;

    fc->model = model != NULL ? fore_model_ref(model) : NULL;
    fore_model_unref(old);
    g_clear_pointer(&fc->h, g_free);
    g_clear_pointer(&fc->c, g_free);
    g_clear_pointer(&fc->scratch, g_free);
    fore_calibration_init(&fc->calibration);
    for (unsigned k = 0; k < FORE_MAX_HORIZON; k++) {
        fill_nan(fc->issued[k]);
        fill_nan(fc->issued_lstm[k]);
    }
    if (fc->ensemble != NULL) {
        fore_ensemble_restart(fc->ensemble);
    }
    /* another model is judged anew */
    fore_judge_init(&fc->judge);
    if (fc->model != NULL) {
        fore_calibration_set_prior(&fc->calibration, fc->model->prior);
        fc->h = g_new0(ForeReal, fc->model->shape.n_hidden);
        fc->c = g_new0(ForeReal, fc->model->shape.n_hidden);
        fc->scratch = g_new0(ForeReal, 5 * (size_t)fc->model->shape.n_hidden);
        rebuild_state(fc);
    }
}

/* The truths that have come with this step meet the forecasts that were issued for them. */
static void score_and_learn(ForeForecaster *fc, const double demand[FORE_RES_N])
{
    ForeJudgeStep now[FORE_RES_N] = {{0}};
    unsigned scored = 0;

    fore_truth_push(&fc->truth, demand);
    for (unsigned g = 0; g < FORE_N_GROUP; g++) {
        unsigned h = g % FORE_N_HORIZON;
        ForeKind kind = (ForeKind)(g / FORE_N_HORIZON % FORE_KIND_N);
        ForeResource res = (ForeResource)(g / (FORE_N_HORIZON * FORE_KIND_N));
        double y = fore_truth_get(&fc->truth, res, kind, h);
        uint64_t then = (fc->count + FORE_MAX_HORIZON - fore_horizons[h]) % FORE_MAX_HORIZON;
        double lstm[FORE_N_QUANTILE], ours[FORE_N_QUANTILE], rivals[FORE_RIVAL_N][FORE_N_QUANTILE];

        if (!isfinite(y) || !isfinite(fc->issued[then][g][0])) {
            continue;
        }
        for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
            lstm[k] = (double)fc->issued_lstm[then][g][k];
            ours[k] = (double)fc->issued[then][g][k];
            for (unsigned i = 0; i < FORE_RIVAL_N; i++) {
                rivals[i][k] = (double)fc->issued_rival[i][then][g][k];
            }
        }
        fore_calibration_observe(&fc->calibration, g, lstm, y);
        if (kind == FORE_KIND_PEAK && isfinite(rivals[FORE_RIVAL_LAST][0])) {
            fore_judge_score(now, res, ours, rivals, y);
            scored++;
        }
    }
    if (scored > 0) {
        fore_judge_step(&fc->judge, now);
    }
}

static void write_forecast(const Quantiles q, ForeForecast *ret)
{
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        for (unsigned h = 0; h < FORE_N_HORIZON; h++) {
            memcpy(ret->point[r][h], q[FORE_GROUP(r, FORE_KIND_POINT, h)], sizeof(q[0]));
            memcpy(ret->peak[r][h], q[FORE_GROUP(r, FORE_KIND_PEAK, h)], sizeof(q[0]));
        }
    }
}

/*
 * First half of a step: truths, rivals, features.
 * @ret_x: [FORE_FEATURE_N_IN]; written, as @ret_scale is, when there is a model
 */
static void step_begin(ForeForecaster *fc, const ForeSample *sample, ForeForecast *ret,
                       ForeReal *ret_x, double ret_scale[FORE_RES_N])
{
    unsigned slot = (unsigned)(fc->count % FORE_MAX_HORIZON);
    double demand[FORE_RES_N];
    bool known;

    memset(ret, 0, sizeof(*ret));
    ret->mono_ns = sample->mono_ns;
    ret->step_ns = fc->step_ns;
    fore_features_demand(sample, demand);
    known = isfinite(demand[FORE_RES_VCPU]) || isfinite(demand[FORE_RES_MEM]);
    score_and_learn(fc, demand);
    for (unsigned i = 0; i < FORE_RIVAL_N; i++) {
        Quantiles q;

        if (fc->rival[i] != NULL && fore_baseline_step(fc->rival[i], demand, q)) {
            keep_issued(q, fc->issued_rival[i][slot]);
        }
    }
    fill_nan(fc->issued[slot]);
    fill_nan(fc->issued_lstm[slot]);
    if (fc->ensemble == NULL) {
        fc->ensemble = fore_ensemble_new(fc->step_ns, sample->wall_ms);
    }
    keep_sample(fc, sample, demand);
    fc->silence = known ? 0 : fc->silence + 1;
    fc->has_state |= known && fc->model != NULL;
    if (fc->model != NULL) {
        fore_features_step(&fc->model->norm, &fc->features, sample, ret_x, ret_scale);
    }
}

/* The LSTM's quantiles become those of the mixture. */
static void mix(ForeForecaster *fc, const double scale[FORE_RES_N], Quantiles q)
{
    double demand[FORE_RES_N];
    ForeExpectation expected[FORE_RES_N];

    fore_features_demand(&fc->kept[(fc->count - 1) % KEPT_SAMPLES], demand);
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        expected[r].highest = highest_known(fc, (ForeResource)r, scale[r]);
        expected[r].loss = scale[r] * fc->model->facts.validation_loss;
    }
    fore_ensemble_step(fc->ensemble, demand, expected, q);
}

/* Without a forecast the classical members still learn. */
static void watch(ForeForecaster *fc)
{
    double demand[FORE_RES_N];

    fore_features_demand(&fc->kept[(fc->count - 1) % KEPT_SAMPLES], demand);
    fore_ensemble_watch(fc->ensemble, demand);
}

/* Second half, when there is a model: @raw: [FORE_MODEL_N_OUT] of the network. */
static void step_end(ForeForecaster *fc, const ForeReal *raw, const double scale[FORE_RES_N],
                     ForeForecast *ret)
{
    unsigned slot = (unsigned)((fc->count - 1) % FORE_MAX_HORIZON);
    Quantiles q;

    if (!quantiles_of(raw, scale, q) || !fc->has_state || fc->silence > MAX_SILENCE) {
        watch(fc);
        return;
    }
    fore_calibration_apply(&fc->calibration, q);
    bound(fc, scale, q);
    keep_issued(q, fc->issued_lstm[slot]);
    mix(fc, scale, q);
    bound(fc, scale, q);
    keep_issued(q, fc->issued[slot]);
    write_forecast(q, ret);
    ret->valid = true;
    ret->demoted = fc->judge.demoted;
}

void fore_forecaster_step(ForeForecaster *fc, const ForeSample *sample, ForeForecast *ret)
{
    ForeReal x[FORE_FEATURE_N_IN], raw[FORE_MODEL_N_OUT];
    double scale[FORE_RES_N];

    step_begin(fc, sample, ret, x, scale);
    if (fc->model != NULL) {
        fore_lstm_step(&fc->model->shape, fc->model->params, x, fc->h, fc->c, fc->scratch, raw);
        step_end(fc, raw, scale, ret);
    } else {
        watch(fc);
    }
}

const char *fore_forecast_member_name(unsigned member)
{
    return member == FORE_MIXTURE_GUEST ? "lstm" : fore_mixture_member_name(member);
}

/* What one product needs, rows of up to AT_ONCE VMs of one model. */
typedef struct {
    ForeReal *x, *h, *c, *scratch, *raw;
    size_t member[AT_ONCE]; /* index of each row */
    double scale[AT_ONCE][FORE_RES_N];
    unsigned n;
} Batch;

static void batch_init(Batch *batch, const ForeLstmShape *shape, size_t most)
{
    size_t n_h = shape->n_hidden;

    batch->n = 0;
    batch->x = g_new(ForeReal, most * FORE_FEATURE_N_IN);
    batch->h = g_new(ForeReal, most * n_h);
    batch->c = g_new(ForeReal, most * n_h);
    batch->scratch = g_new(ForeReal, most * 5 * n_h);
    batch->raw = g_new(ForeReal, most * FORE_MODEL_N_OUT);
}

static void batch_done(Batch *batch)
{
    g_free(batch->x);
    g_free(batch->h);
    g_free(batch->c);
    g_free(batch->scratch);
    g_free(batch->raw);
}

static void batch_run(Batch *batch, const ForeModel *model, ForeForecaster *const *fc,
                      ForeForecast *const *ret)
{
    size_t n_h = model->shape.n_hidden;

    if (batch->n == 0) {
        return;
    }
    fore_lstm_step_batch(&model->shape, model->params, batch->n, batch->x, batch->h, batch->c,
                         batch->scratch, batch->raw);
    for (unsigned b = 0; b < batch->n; b++) {
        size_t i = batch->member[b];

        memcpy(fc[i]->h, batch->h + b * n_h, n_h * sizeof(ForeReal));
        memcpy(fc[i]->c, batch->c + b * n_h, n_h * sizeof(ForeReal));
        step_end(fc[i], batch->raw + (size_t)b * FORE_MODEL_N_OUT, batch->scale[b], ret[i]);
    }
    batch->n = 0;
}

/* All VMs of @model among the @n, from the first one that has it. */
static void step_model(const ForeModel *model, ForeForecaster *const *fc,
                       const ForeSample *const *samples, ForeForecast *const *ret, size_t n)
{
    size_t n_h = model->shape.n_hidden;
    g_autofree Batch *batch = g_new(Batch, 1);

    batch_init(batch, &model->shape, MIN(n, AT_ONCE));
    for (size_t i = 0; i < n; i++) {
        unsigned b = batch->n;

        if (fc[i]->model != model) {
            continue;
        }
        step_begin(fc[i], samples[i], ret[i], batch->x + (size_t)b * FORE_FEATURE_N_IN,
                   batch->scale[b]);
        memcpy(batch->h + b * n_h, fc[i]->h, n_h * sizeof(ForeReal));
        memcpy(batch->c + b * n_h, fc[i]->c, n_h * sizeof(ForeReal));
        batch->member[b] = i;
        if (++batch->n == AT_ONCE) {
            batch_run(batch, model, fc, ret);
        }
    }
    batch_run(batch, model, fc, ret);
    batch_done(batch);
}

void fore_forecaster_step_many(ForeForecaster *const *fc, const ForeSample *const *samples,
                               ForeForecast *const *ret, size_t n)
{
    g_autoptr(GHashTable) done = g_hash_table_new(NULL, NULL);

    for (size_t i = 0; i < n; i++) {
        const ForeModel *model = fc[i]->model;

        if (model == NULL) {
            fore_forecaster_step(fc[i], samples[i], ret[i]);
        } else if (g_hash_table_add(done, (gpointer)model)) {
            step_model(model, fc + i, samples + i, ret + i, n - i);
        }
    }
}

void fore_forecaster_health(const ForeForecaster *fc, ForeForecastHealth *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->scored = fore_judge_scored(&fc->judge);
    ret->demoted = fc->judge.demoted;
    ret->behind = fc->judge.demoted ? fore_rival_names[fc->judge.behind] : NULL;
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        ForeResource res = (ForeResource)r;

        ret->loss[r] = fore_judge_wql(&fc->judge, res, -1);
        ret->baseline_loss[r] = fore_judge_wql(&fc->judge, res, FORE_RIVAL_LAST);
        ret->seasonal_loss[r] = fore_judge_wql(&fc->judge, res, FORE_RIVAL_SEASON);
        ret->coverage95[r] = fore_judge_coverage95(&fc->judge, res);
        if (fc->ensemble != NULL) {
            fore_ensemble_members(fc->ensemble, res, ret->member[r]);
        }
    }
}
