/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Each step: the sample's demand is the truth for forecasts issued 1 to 12 steps
 * ago; these are scored, the calibration and the baseline learn from them; then the sample goes
 * through the LSTM, whose state is all it keeps of the past, and the corrected quantiles go out.
 *
 * Invariants of a forecast that is valid: every number finite, none negative, quantiles rise, a
 * peak does not fall with its horizon, and nothing exceeds LIMIT times the highest demand that
 * training or the last samples knew.  What is missing is masked on the way in, so a gap or a NaN
 * leaves no trace in the state beyond the step it stands for.
 *
 * Demotion.  The loss of the peak forecasts and their coverage are compared with the baseline's
 * over the last SCORE_STEPS steps.  Behind by DEMOTE, or under-covering without a clear lead in
 * loss: demoted; back when ahead again.  The two thresholds differ so that it does not flap.
 */
#include <math.h>
#include <string.h>

#include "forecast/fore-baseline.h"
#include "forecast/fore-calibration.h"
#include "forecast/fore-model.h"

#define KEPT_SAMPLES 120
#define SCORE_STEPS  300
#define LIMIT        1.5   /* times the highest demand known */
#define MAX_SILENCE  12    /* steps without a demand after which there is no forecast */
#define JUDGE_STEPS  120   /* scored steps before a verdict */
#define LEAST_LOSS   0.005 /* of demand: nobody need be better than that */
#define DEMOTE_LOSS  1.10  /* times the baseline's loss */
#define RETURN_LOSS  1.00
#define DEMOTE_COVER 0.80 /* of the P95 of the peaks */
#define RETURN_COVER 0.88
/* The quantile loss is a proper score and has the P95 in it.  A forecaster that wins by so much is
 * not behind because its P95 is too low for a while, as on a host that has become busier:
 * calibration mends that, and the reactive rule stands below it all the time. */
#define CLEARLY_BETTER 0.85
#define NOT_CLEARLY    0.95 /* no longer clearly better: coverage counts again */

typedef double Quantiles[FORE_N_GROUP][FORE_N_QUANTILE];

/* One scored step of one resource. */
typedef struct {
    ForeScore ours[FORE_RES_N], baseline[FORE_RES_N];
} ScoredStep;

struct ForeForecaster {
    ForeModel *model; /* NULL: none yet */
    uint64_t step_ns;
    ForeSample kept[KEPT_SAMPLES]; /* ring, newest at (count - 1) % KEPT_SAMPLES */
    uint64_t count;                /* samples seen */
    unsigned silence;              /* steps since the last known demand */

    ForeFeatureState features;
    ForeReal *h, *c, *scratch; /* sized by the model */
    bool has_state;            /* a demand has been seen by this model */

    ForeTruth truth;
    ForeCalibration calibration;
    ForeBaseline *baseline;
    Quantiles issued[FORE_MAX_HORIZON]; /* by count % FORE_MAX_HORIZON; NAN: none */
    Quantiles issued_baseline[FORE_MAX_HORIZON];

    ScoredStep scored[SCORE_STEPS];
    uint64_t n_scored;
    bool demoted;
};

static void fill_nan(Quantiles q)
{
    for (unsigned g = 0; g < FORE_N_GROUP; g++) {
        for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
            q[g][k] = NAN;
        }
    }
}

ForeForecaster *fore_forecaster_new(ForeModel *model, uint64_t step_ns)
{
    ForeForecaster *fc = g_new0(ForeForecaster, 1);

    fc->step_ns = step_ns;
    fc->baseline = fore_baseline_new(0);
    fore_truth_init(&fc->truth);
    for (unsigned k = 0; k < FORE_MAX_HORIZON; k++) {
        fill_nan(fc->issued_baseline[k]);
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
    fore_baseline_free(fc->baseline);
    g_free(fc->h);
    g_free(fc->c);
    g_free(fc->scratch);
    g_free(fc);
}

/* Highest demand that this VM is known for: in training, at its scale, or in the samples kept. */
static double highest_known(const ForeForecaster *fc, ForeResource res, double scale)
{
    const ForeFeatureNorm *norm = &fc->model->norm;
    double top = scale * (norm->mean[res] + norm->hi[res] * norm->sd[res]);
    uint64_t n = MIN(fc->count, KEPT_SAMPLES);

    for (uint64_t i = 0; i < n; i++) {
        double demand[FORE_RES_N];

        fore_features_demand(&fc->kept[i], demand);
        top = fmax(top, demand[res]); /* fmax ignores NAN */
    }
    return top;
}

/* Raw quantiles of one step of the network, in units; false when a number is not finite. */
static bool run_network(ForeForecaster *fc, const ForeSample *sample, double scale[FORE_RES_N],
                        Quantiles ret_q)
{
    ForeReal x[FORE_FEATURE_N_IN];
    ForeReal y[FORE_MODEL_N_OUT];
    double sum = 0.0;

    fore_features_step(&fc->model->norm, &fc->features, sample, x, scale);
    fore_lstm_step(&fc->model->shape, fc->model->params, x, fc->h, fc->c, fc->scratch, y);
    fore_quantile_from_raw(y, FORE_N_GROUP, y);
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
        Quantiles q;

        (void)run_network(fc, sample, scale, q);
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
    }
    /* another model is judged anew */
    fc->n_scored = 0;
    fc->demoted = false;
    if (fc->model != NULL) {
        fc->h = g_new0(ForeReal, fc->model->shape.n_hidden);
        fc->c = g_new0(ForeReal, fc->model->shape.n_hidden);
        fc->scratch = g_new0(ForeReal, 5 * (size_t)fc->model->shape.n_hidden);
        rebuild_state(fc);
    }
}

static void sum_scores(const ForeForecaster *fc, ScoredStep *ret)
{
    uint64_t n = MIN(fc->n_scored, SCORE_STEPS);

    memset(ret, 0, sizeof(*ret));
    for (uint64_t i = 0; i < n; i++) {
        for (unsigned r = 0; r < FORE_RES_N; r++) {
            fore_score_merge(&ret->ours[r], &fc->scored[i].ours[r]);
            fore_score_merge(&ret->baseline[r], &fc->scored[i].baseline[r]);
        }
    }
}

/* Demotes or takes back; the mean over resources of loss / baseline's loss decides, and the
 * coverage. */
static void judge(ForeForecaster *fc)
{
    ScoredStep sum;
    double ratio = 0.0, cover = 1.0;
    unsigned n = 0;

    if (fc->n_scored < JUDGE_STEPS) {
        return;
    }
    sum_scores(fc, &sum);
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        double least = LEAST_LOSS * sum.baseline[r].truth;

        if (sum.baseline[r].n > 0 && sum.baseline[r].truth > 0.0) {
            ratio += sum.ours[r].loss / MAX(sum.baseline[r].loss, least);
            cover = MIN(cover, fore_score_coverage95(&sum.ours[r]));
            n++;
        }
    }
    if (n == 0) {
        return;
    }
    ratio /= n;
    if (fc->demoted) {
        fc->demoted = !(ratio < CLEARLY_BETTER || (ratio < RETURN_LOSS && cover > RETURN_COVER));
    } else {
        fc->demoted = ratio > DEMOTE_LOSS || (cover < DEMOTE_COVER && ratio > NOT_CLEARLY);
    }
}

/* The truths that have come with this step meet the forecasts that were issued for them. */
static void score_and_learn(ForeForecaster *fc, const double demand[FORE_RES_N])
{
    ScoredStep now = {0};
    unsigned scored = 0;

    fore_truth_push(&fc->truth, demand);
    for (unsigned g = 0; g < FORE_N_GROUP; g++) {
        unsigned h = g % FORE_N_HORIZON;
        ForeKind kind = (ForeKind)(g / FORE_N_HORIZON % FORE_KIND_N);
        ForeResource res = (ForeResource)(g / (FORE_N_HORIZON * FORE_KIND_N));
        double y = fore_truth_get(&fc->truth, res, kind, h);
        uint64_t then = (fc->count + FORE_MAX_HORIZON - fore_horizons[h]) % FORE_MAX_HORIZON;
        const double *ours = fc->issued[then][g];
        const double *theirs = fc->issued_baseline[then][g];

        if (!isfinite(y) || !isfinite(ours[0])) {
            continue;
        }
        fore_calibration_observe(&fc->calibration, g, ours, y);
        if (kind == FORE_KIND_PEAK && isfinite(theirs[0])) {
            fore_score_add(&now.ours[res], ours, y);
            fore_score_add(&now.baseline[res], theirs, y);
            scored++;
        }
    }
    if (scored > 0) {
        fc->scored[fc->n_scored++ % SCORE_STEPS] = now;
        judge(fc);
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

void fore_forecaster_step(ForeForecaster *fc, const ForeSample *sample, ForeForecast *ret)
{
    double demand[FORE_RES_N], scale[FORE_RES_N];
    unsigned slot = (unsigned)(fc->count % FORE_MAX_HORIZON);
    Quantiles q;
    bool known;

    memset(ret, 0, sizeof(*ret));
    ret->mono_ns = sample->mono_ns;
    ret->step_ns = fc->step_ns;
    fore_features_demand(sample, demand);
    known = isfinite(demand[FORE_RES_VCPU]) || isfinite(demand[FORE_RES_MEM]);
    score_and_learn(fc, demand);
    fore_baseline_step(fc->baseline, demand, fc->issued_baseline[slot]);
    fill_nan(fc->issued[slot]);
    fc->kept[fc->count % KEPT_SAMPLES] = *sample;
    fc->count++;
    fc->silence = known ? 0 : fc->silence + 1;
    if (fc->model == NULL) {
        return;
    }
    fc->has_state |= known;
    if (!run_network(fc, sample, scale, q) || !fc->has_state || fc->silence > MAX_SILENCE) {
        return;
    }
    fore_calibration_apply(&fc->calibration, q);
    bound(fc, scale, q);
    memcpy(fc->issued[slot], q, sizeof(q));
    write_forecast(q, ret);
    ret->valid = true;
    ret->demoted = fc->demoted;
}

void fore_forecaster_health(const ForeForecaster *fc, ForeForecastHealth *ret)
{
    ScoredStep sum;

    sum_scores(fc, &sum);
    memset(ret, 0, sizeof(*ret));
    ret->scored = (unsigned)MIN(fc->n_scored, SCORE_STEPS);
    ret->demoted = fc->demoted;
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        ret->loss[r] = fore_score_wql(&sum.ours[r]);
        ret->baseline_loss[r] = fore_score_wql(&sum.baseline[r]);
        ret->coverage95[r] = fore_score_coverage95(&sum.ours[r]);
    }
}
