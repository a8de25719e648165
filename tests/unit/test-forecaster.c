/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The whole forecaster on the synthetic bursts of tests/lib: trained once on 200 s recorded on 1
 * vCPU, then measured on fresh seconds, also with capacity that grows before each burst as it does
 * under Foresee.
 */
#include "forecast/fore-forecaster.h"

#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "forecast/fore-lstm.h"
#include "tests/lib/synthetic-bursts.h"

#define RECORD_S 200
#define LIVE_S   300

static ForeModel *train_on(uint64_t seed, unsigned seconds, const ForeTrainConfig *config)
{
    SyntheticConfig process = {.seed = seed, .n = seconds};
    g_autoptr(Synthetic) s = synthetic_new(&process);
    ForeWindow window = {.samples = s->samples, .n = s->n, .step_ns = FORE_NS_PER_S};
    g_autoptr(GError) error = NULL;
    ForeModel *model = fore_model_train(&window, 1, config, NULL, NULL, &error);

    g_assert_no_error(error);
    return model;
}

static ForeModel *shared_model(void)
{
    static ForeModel *model;
    ForeTrainConfig config = {.seed = 1};

    if (model == NULL) {
        model = train_on(1000, RECORD_S, &config);
    }
    return model;
}

static void assert_proper(const ForeForecast *fc)
{
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        for (unsigned h = 0; h < FORE_N_HORIZON; h++) {
            for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
                double point = fc->point[r][h][k], peak = fc->peak[r][h][k];

                g_assert_true(isfinite(point) && point >= 0.0);
                g_assert_true(isfinite(peak) && peak >= 0.0);
                g_assert_true(k == 0 || point >= fc->point[r][h][k - 1]);
                g_assert_true(k == 0 || peak >= fc->peak[r][h][k - 1]);
                g_assert_true(h == 0 || peak >= fc->peak[r][h - 1][k]);
            }
        }
    }
}

typedef struct {
    SyntheticVerdict verdict;
    ForeForecastHealth health;
} Trial;

static void run_live(ForeModel *model, const SyntheticConfig *config, Trial *ret)
{
    g_autoptr(Synthetic) s = synthetic_new(config);
    g_autoptr(ForeForecaster) fc = fore_forecaster_new(model, FORE_NS_PER_S);
    g_autofree double *p95_5 = g_new0(double, s->n);
    g_autofree double *p95_3 = g_new0(double, s->n);

    for (unsigned t = 0; t < s->n; t++) {
        ForeForecast forecast;

        fore_forecaster_step(fc, &s->samples[t], &forecast);
        g_assert_true(forecast.valid);
        g_assert_cmpuint(forecast.mono_ns, ==, s->samples[t].mono_ns);
        assert_proper(&forecast);
        p95_3[t] = forecast.peak[FORE_RES_VCPU][2][FORE_Q95];
        p95_5[t] = forecast.peak[FORE_RES_VCPU][3][FORE_Q95];
    }
    synthetic_judge(s, p95_5, p95_3, &ret->verdict);
    fore_forecaster_health(fc, &ret->health);
    g_test_message("led %u of %u bursts, false alarms %.0f of %.0f idle s, idle P95 %.2f vCPU, "
                   "falls back in %.1f s; loss/last value vcpu %.3f/%.3f mem %.3f/%.3f; "
                   "coverage %.3f %.3f",
                   ret->verdict.led, ret->verdict.bursts, ret->verdict.false_alarms,
                   ret->verdict.idle_steps, ret->verdict.idle_p95, ret->verdict.fall_back_s,
                   ret->health.loss[0], ret->health.baseline_loss[0], ret->health.loss[1],
                   ret->health.baseline_loss[1], ret->health.coverage95[0],
                   ret->health.coverage95[1]);
}

/*
 * Tolerances: of about ten bursts one may come too suddenly (a preparation of 2.5 s leaves no 2 s
 * of lead), 5 % of idle seconds may look like the end of idleness, and a P95 of 300 steps whose
 * misses come in runs has a standard error near 0.03.
 */
static void assert_useful(const Trial *trial)
{
    g_assert_cmpuint(trial->verdict.bursts, >=, 8);
    g_assert_cmpuint(trial->verdict.led + 1, >=, trial->verdict.bursts);
    g_assert_cmpfloat(trial->verdict.false_alarms, <=, 0.05 * trial->verdict.idle_steps);
    g_assert_cmpfloat(trial->verdict.idle_p95, <, 0.7);
    g_assert_cmpfloat(trial->verdict.fall_back_s, <=, 4.0);
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        g_assert_cmpfloat(trial->health.loss[r], <, 0.85 * trial->health.baseline_loss[r]);
        g_assert_cmpfloat(trial->health.coverage95[r], >=, 0.87);
    }
    g_assert_false(trial->health.demoted);
}

static void test_as_recorded(void)
{
    SyntheticConfig config = {.seed = 1007, .n = LIVE_S};
    Trial trial;

    run_live(shared_model(), &config, &trial);
    assert_useful(&trial);
    g_assert_cmpfloat(trial.health.loss[0], <, 0.6 * trial.health.baseline_loss[0]);
}

static void test_elastic(void)
{
    const double ahead[] = {5.0, 3.0, 1.0, 0.0};

    for (unsigned i = 0; i < G_N_ELEMENTS(ahead); i++) {
        SyntheticConfig config = {
            .seed = 2007 + i, .n = LIVE_S, .elastic = true, .ahead_s = ahead[i]};
        Trial trial;

        run_live(shared_model(), &config, &trial);
        assert_useful(&trial);
    }
}

/* Work that is done by three CPUs ends sooner than it did on one. */
static void test_shorter_bursts(void)
{
    SyntheticConfig config = {
        .seed = 3007, .n = LIVE_S, .elastic = true, .ahead_s = 3.0, .burst_factor = 0.5};
    Trial trial;

    run_live(shared_model(), &config, &trial);
    assert_useful(&trial);
}

/* Not a lucky seed: other recordings, of 180 s, and other starting weights. */
static void test_other_recordings(void)
{
    for (unsigned seed = 2; seed <= 4; seed++) {
        ForeTrainConfig train = {.seed = seed};
        SyntheticConfig config = {
            .seed = 1000 * seed + 7, .n = LIVE_S, .elastic = true, .ahead_s = 3.0};
        g_autoptr(ForeModel) model = train_on(1000 * seed, 180, &train);
        Trial trial;

        run_live(model, &config, &trial);
        assert_useful(&trial);
    }
}

/* Over an hour the share of covered truths is what was promised. */
static void test_long_coverage(void)
{
    SyntheticConfig config = {.seed = 77, .n = 3600, .elastic = true, .ahead_s = 3.0};
    g_autoptr(Synthetic) s = synthetic_new(&config);
    g_autoptr(ForeForecaster) fc = fore_forecaster_new(shared_model(), FORE_NS_PER_S);
    double covered[FORE_RES_N] = {0};
    unsigned windows = 0;

    for (unsigned t = 0; t < s->n; t++) {
        ForeForecast forecast;

        fore_forecaster_step(fc, &s->samples[t], &forecast);
        if (t >= 600 && t % 300 == 0) {
            ForeForecastHealth health;

            fore_forecaster_health(fc, &health);
            g_assert_false(health.demoted);
            covered[0] += health.coverage95[0];
            covered[1] += health.coverage95[1];
            windows++;
        }
    }
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        g_test_message("coverage of P95, %s: %.3f", fore_resource_names[r], covered[r] / windows);
        /* 3000 steps in runs of about 10: standard error near 0.013; the bounds of the correction
         * let memory stay over-covered */
        g_assert_cmpfloat(covered[r] / windows, >=, 0.925);
        g_assert_cmpfloat(covered[r] / windows, <=, 0.99);
    }
}

/* The plugin may be absent: then nothing announces a burst, but the forecast stays sane and honest.
 */
static void test_without_profile(void)
{
    const uint32_t profile = 1u << FORE_FIELD_INSNS | 1u << FORE_FIELD_LOADS |
                             1u << FORE_FIELD_STORES | 1u << FORE_FIELD_SYSCALLS |
                             1u << FORE_FIELD_IDLE;
    SyntheticConfig config = {.seed = 1007, .n = LIVE_S};
    g_autoptr(Synthetic) s = synthetic_new(&config);
    g_autoptr(ForeForecaster) fc = fore_forecaster_new(shared_model(), FORE_NS_PER_S);
    ForeForecastHealth health;

    for (unsigned t = 0; t < s->n; t++) {
        ForeForecast forecast;

        s->samples[t].valid &= ~profile;
        fore_forecaster_step(fc, &s->samples[t], &forecast);
        assert_proper(&forecast);
    }
    fore_forecaster_health(fc, &health);
    /* no worse than last value with its residuals, by more than what 300 steps can tell */
    g_assert_cmpfloat(health.loss[0], <, 1.1 * health.baseline_loss[0]);
}

static GBytes *trained_bytes(uint64_t seed)
{
    ForeTrainConfig config = {.seed = seed, .max_epochs = 6};
    g_autoptr(ForeModel) model = train_on(5, 120, &config);

    return fore_model_encode(model);
}

static gpointer train_in_thread(gpointer data)
{
    return trained_bytes(GPOINTER_TO_UINT(data));
}

static void test_deterministic(void)
{
    GThread *a = g_thread_new("a", train_in_thread, GUINT_TO_POINTER(11));
    GThread *b = g_thread_new("b", train_in_thread, GUINT_TO_POINTER(12));
    g_autoptr(GBytes) first = g_thread_join(a);
    g_autoptr(GBytes) other = g_thread_join(b);
    g_autoptr(GBytes) again = trained_bytes(11);

    g_assert_true(g_bytes_equal(first, again));
    g_assert_false(g_bytes_equal(first, other));
}

/* Both forecasters see the same samples from @from on; every number must be the same, bit for bit.
 */
static void assert_same_forecasts(ForeForecaster *a, ForeForecaster *b, const Synthetic *s,
                                  unsigned from)
{
    for (unsigned t = from; t < s->n; t++) {
        ForeForecast x, y;

        fore_forecaster_step(a, &s->samples[t], &x);
        fore_forecaster_step(b, &s->samples[t], &y);
        g_assert_cmpmem(&x, sizeof(x), &y, sizeof(y));
    }
}

static void test_checkpoint(void)
{
    SyntheticConfig config = {.seed = 1007, .n = 200};
    g_autoptr(Synthetic) s = synthetic_new(&config);
    g_autoptr(GBytes) file = fore_model_encode(shared_model());
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeModel) loaded =
        fore_model_decode(g_bytes_get_data(file, NULL), g_bytes_get_size(file), &error);
    g_autoptr(ForeForecaster) a = fore_forecaster_new(shared_model(), FORE_NS_PER_S);
    g_autoptr(ForeForecaster) b = NULL;

    g_assert_no_error(error);
    b = fore_forecaster_new(loaded, FORE_NS_PER_S);
    assert_same_forecasts(a, b, s, 0);
}

/*
 * The state that is carried is the state that re-running the window gives.  Compared by the
 * medians, which the calibration leaves alone: it starts anew with a model.  So does what the
 * members of the mixture have earned, which moves a median by less than 5 % of a burst.
 */
static void test_state(void)
{
    SyntheticConfig config = {.seed = 1007, .n = 140};
    g_autoptr(Synthetic) s = synthetic_new(&config);
    g_autoptr(ForeForecaster) carried = fore_forecaster_new(shared_model(), FORE_NS_PER_S);
    g_autoptr(ForeForecaster) rebuilt = fore_forecaster_new(NULL, FORE_NS_PER_S);

    for (unsigned t = 0; t < s->n; t++) {
        ForeForecast x, y;

        fore_forecaster_step(carried, &s->samples[t], &x);
        fore_forecaster_step(rebuilt, &s->samples[t], &y);
        g_assert_true(x.valid);
        g_assert_true(y.valid == (t >= 100));
        if (t == 99) {
            fore_forecaster_set_model(rebuilt, shared_model());
        }
        for (unsigned i = 0; y.valid && i < FORE_RES_N * FORE_N_HORIZON; i++) {
            unsigned r = i / FORE_N_HORIZON, h = i % FORE_N_HORIZON;

            double most = r == FORE_RES_VCPU ? 2.9 : 560.0 * (1 << 20); /* of a burst */

            g_assert_cmpfloat_with_epsilon(x.point[r][h][FORE_Q50], y.point[r][h][FORE_Q50],
                                           0.05 * most);
            g_assert_cmpfloat_with_epsilon(x.peak[r][h][FORE_Q50], y.peak[r][h][FORE_Q50],
                                           0.05 * most);
        }
    }
}

/*
 * A VM that was never seen: the first forecast stands on what training knows of its kind, so its
 * band is neither a point nor everything, and covers what comes.  Over 40 new VMs, 10 steps each:
 * 0.80 allows for runs of misses, as bursts of 10 s fill the whole of what one of them shows.
 */
static void test_cold_start(void)
{
    unsigned covered = 0, truths = 0;

    for (unsigned vm = 0; vm < 40; vm++) {
        SyntheticConfig config = {.seed = 9000 + vm, .n = 24};
        g_autoptr(Synthetic) s = synthetic_new(&config);
        g_autoptr(ForeForecaster) fc = fore_forecaster_new(shared_model(), FORE_NS_PER_S);

        for (unsigned t = 0; t < 10; t++) {
            ForeForecast f;
            double low, high, truth = s->samples[t + 5].value[FORE_FIELD_DEMAND_VCPU];

            fore_forecaster_step(fc, &s->samples[t], &f);
            g_assert_true(f.valid);
            low = f.point[FORE_RES_VCPU][3][FORE_Q05];
            high = f.point[FORE_RES_VCPU][3][FORE_Q95];
            g_assert_cmpfloat(high - low, >, 0.02);
            g_assert_cmpfloat(high, <, 6.0);
            covered += truth <= high;
            truths++;
        }
    }
    g_test_message("a new VM's P95 covers %u of %u", covered, truths);
    g_assert_cmpfloat(covered, >=, 0.80 * truths);
}

/*
 * Work that the model was never shown, an even load that changes its level every 40 s: the
 * classical members take the weight over, and the mixture loses less than the LSTM's share of it
 * alone would.
 */
static void test_takes_over(void)
{
    g_autoptr(ForeForecaster) fc = fore_forecaster_new(shared_model(), FORE_NS_PER_S);
    ForeForecastHealth before, after;
    double sum = 0.0;

    for (unsigned t = 0; t < 900; t++) {
        ForeSample sample = {.mono_ns = (t + 1) * FORE_NS_PER_S, .wall_ms = (int64_t)t * 1000};
        ForeForecast f;

        sample.valid = 1u << FORE_FIELD_DEMAND_VCPU | 1u << FORE_FIELD_DEMAND_MEM;
        sample.value[FORE_FIELD_DEMAND_VCPU] = 0.3 + 0.2 * (t / 40 * 7 % 5);
        sample.value[FORE_FIELD_DEMAND_MEM] = 300.0 * (1 << 20);
        fore_forecaster_step(fc, &sample, &f);
        if (t == 0) {
            fore_forecaster_health(fc, &before);
        }
    }
    fore_forecaster_health(fc, &after);
    for (unsigned m = 0; m < FORE_FORECAST_MEMBERS; m++) {
        sum += after.member[FORE_RES_VCPU][m];
    }
    g_test_message("the LSTM's weight: %.3f, then %.3f; loss %.3f, last value %.3f",
                   before.member[FORE_RES_VCPU][FORE_FORECAST_MEMBERS - 1],
                   after.member[FORE_RES_VCPU][FORE_FORECAST_MEMBERS - 1],
                   after.loss[FORE_RES_VCPU], after.baseline_loss[FORE_RES_VCPU]);
    g_assert_cmpfloat_with_epsilon(sum, 1.0, 1e-9);
    g_assert_cmpstr(fore_forecast_member_name(FORE_FORECAST_MEMBERS - 1), ==, "lstm");
    g_assert_cmpfloat(before.member[FORE_RES_VCPU][FORE_FORECAST_MEMBERS - 1], >, 0.9);
    g_assert_cmpfloat(after.member[FORE_RES_VCPU][FORE_FORECAST_MEMBERS - 1], <, 0.5);
    g_assert_cmpfloat(after.loss[FORE_RES_VCPU], <, 1.5 * after.baseline_loss[FORE_RES_VCPU]);
}

#define MANY 300 /* more than go into one product */

/*
 * Many VMs as one product, some of another model and some of none, beside the same ones alone.
 * The sums of a product are ordered differently than those of one VM: 1e-4 of a quantile of order 1
 * allows for a hundred steps of that.
 */
static void test_many(void)
{
    SyntheticConfig config = {.seed = 1007, .n = 60};
    ForeTrainConfig train = {.seed = 3, .max_epochs = 2, .hidden = 9};
    g_autoptr(Synthetic) s = synthetic_new(&config);
    g_autoptr(ForeModel) other = train_on(5, 120, &train);
    static ForeForecaster *many[MANY], *alone[MANY];
    static ForeForecast got[MANY], want;
    static ForeForecast *ret[MANY];
    const ForeSample *samples[MANY];

    for (unsigned i = 0; i < MANY; i++) {
        ForeModel *model = i % 7 == 3 ? NULL : i % 5 == 2 ? other : shared_model();

        many[i] = fore_forecaster_new(model, FORE_NS_PER_S);
        alone[i] = fore_forecaster_new(model, FORE_NS_PER_S);
        ret[i] = &got[i];
    }
    for (unsigned t = 0; t < 40; t++) {
        for (unsigned i = 0; i < MANY; i++) {
            samples[i] = &s->samples[(t + i) % 60];
        }
        fore_forecaster_step_many(many, samples, ret, MANY);
        for (unsigned i = 0; i < MANY; i++) {
            fore_forecaster_step(alone[i], samples[i], &want);
            g_assert_true(got[i].valid == want.valid && got[i].mono_ns == want.mono_ns);
            g_assert_true(want.valid == (i % 7 != 3));
            for (unsigned h = 0; h < FORE_N_HORIZON; h++) {
                g_assert_cmpfloat_with_epsilon(got[i].peak[FORE_RES_VCPU][h][FORE_Q50],
                                               want.peak[FORE_RES_VCPU][h][FORE_Q50], 1e-4);
            }
        }
    }
    for (unsigned i = 0; i < MANY; i++) {
        fore_forecaster_free(many[i]);
        fore_forecaster_free(alone[i]);
    }
}

/*
 * The workload becomes another one in the middle: twice the demand, and noise that the model never
 * saw.  100 steps are let go; of the 600 after them the P95 of all peaks and points of vCPUs covers
 * what it says.  Errors of one origin go together: about 60 independent ones a horizon, so 0.03.
 */
static void test_coverage_after_change(void)
{
    SyntheticConfig config = {.seed = 1007, .n = 1400};
    g_autoptr(Synthetic) s = synthetic_new(&config);
    g_autoptr(ForeForecaster) fc = fore_forecaster_new(shared_model(), FORE_NS_PER_S);
    static double p95[1400][FORE_N_HORIZON];
    ForeRandom rng = {.state = 31};
    double covered = 0.0, n = 0.0;

    for (unsigned t = 0; t < s->n; t++) {
        ForeSample sample = s->samples[t];
        ForeForecast forecast;

        if (t >= 700) {
            double was = sample.value[FORE_FIELD_DEMAND_VCPU];

            synthetic_set(&sample, FORE_FIELD_DEMAND_VCPU,
                          2.0 * was + 0.3 * fabs(fore_random_normal(&rng)));
        }
        fore_forecaster_step(fc, &sample, &forecast);
        for (unsigned h = 0; h < FORE_N_HORIZON; h++) {
            p95[t][h] = forecast.point[FORE_RES_VCPU][h][FORE_Q95];
            if (t >= 800) {
                covered += sample.value[FORE_FIELD_DEMAND_VCPU] <= p95[t - fore_horizons[h]][h];
                n += 1.0;
            }
        }
    }
    g_test_message("coverage of P95 of points after a change: %.3f", covered / n);
    g_assert_cmpfloat_with_epsilon(covered / n, 0.95, 0.03);
}

static void test_gap(void)
{
    SyntheticConfig config = {.seed = 1007, .n = LIVE_S};
    g_autoptr(Synthetic) s = synthetic_new(&config);
    g_autoptr(ForeForecaster) fc = fore_forecaster_new(shared_model(), FORE_NS_PER_S);
    unsigned invalid = 0;

    for (unsigned t = 0; t < s->n; t++) {
        ForeSample sample = s->samples[t];
        ForeForecast forecast;

        if (t >= 100 && t < 120) {
            sample.valid = 0;
        } else if (t % 11 == 5) {
            sample.value[t % FORE_FIELD_N] = t % 2 == 0 ? NAN : INFINITY;
        } else if (t % 17 == 3) {
            sample.value[t % FORE_FIELD_N] = t % 2 == 0 ? -1e30 : 1e300;
        }
        fore_forecaster_step(fc, &sample, &forecast);
        assert_proper(&forecast);
        invalid += forecast.valid ? 0 : 1;
    }
    /* of the gap of 20 steps the first 12 are bridged, and the first sample after it ends it */
    g_assert_cmpuint(invalid, ==, 8);
}

/* Whatever comes, no number exceeds one and a half times the highest demand known. */
static void test_bounded(void)
{
    g_autoptr(ForeForecaster) fc = fore_forecaster_new(shared_model(), FORE_NS_PER_S);
    ForeRandom rng = {.state = 4};

    for (unsigned t = 0; t < 3000; t++) {
        ForeSample sample = {.mono_ns = t, .valid = (uint32_t)fore_random_u64(&rng)};
        ForeForecast forecast;

        for (unsigned f = 0; f < FORE_FIELD_N; f++) {
            sample.value[f] = 1e6 * fore_random_unit(&rng);
        }
        sample.value[FORE_FIELD_DEMAND_VCPU] = 64.0 * fore_random_unit(&rng);
        sample.value[FORE_FIELD_DEMAND_MEM] = 1e12 * fore_random_unit(&rng);
        fore_forecaster_step(fc, &sample, &forecast);
        assert_proper(&forecast);
        g_assert_cmpfloat(forecast.peak[FORE_RES_VCPU][5][FORE_Q95], <, 64.0 * 5.0);
        g_assert_cmpfloat(forecast.peak[FORE_RES_MEM][5][FORE_Q95], <, 1e12 * 5.0);
    }
}

/* A workload that the model was not trained for: demoted, and back when its own workload returns.
 */
static void test_demotion(void)
{
    SyntheticConfig config = {.seed = 1007, .n = 900};
    g_autoptr(Synthetic) s = synthetic_new(&config);
    g_autoptr(ForeForecaster) fc = fore_forecaster_new(shared_model(), FORE_NS_PER_S);
    ForeForecastHealth health;
    ForeForecast forecast = {0};
    unsigned changes = 0;
    bool was = false;

    for (unsigned t = 0; t < 400; t++) {
        ForeSample sample = s->samples[t];

        /* steady, with the counters of bursts that never come */
        synthetic_set(&sample, FORE_FIELD_DEMAND_VCPU, 0.5);
        synthetic_set(&sample, FORE_FIELD_DEMAND_MEM, 2e8);
        fore_forecaster_step(fc, &sample, &forecast);
        changes += forecast.demoted != was ? 1 : 0;
        was = forecast.demoted;
    }
    fore_forecaster_health(fc, &health);
    g_assert_true(forecast.valid && forecast.demoted && health.demoted);
    g_assert_cmpuint(health.scored, ==, 300);
    for (unsigned t = 0; t < s->n; t++) {
        fore_forecaster_step(fc, &s->samples[t], &forecast);
        changes += forecast.demoted != was ? 1 : 0;
        was = forecast.demoted;
    }
    g_assert_false(forecast.demoted);
    g_assert_cmpuint(changes, ==, 2);
}

static void test_too_few(void)
{
    SyntheticConfig process = {.seed = 1, .n = 59};
    g_autoptr(Synthetic) s = synthetic_new(&process);
    ForeWindow window = {.samples = s->samples, .n = s->n, .step_ns = FORE_NS_PER_S};
    ForeTrainConfig config = {.seed = 1};
    g_autoptr(GError) error = NULL;

    g_assert_null(fore_model_train(&window, 1, &config, NULL, NULL, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    g_assert_nonnull(strstr(error->message, "59"));
    g_clear_error(&error);
    g_assert_null(fore_model_train(NULL, 0, &config, NULL, NULL, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
}

static bool stop_at_three(const ForeTrainProgress *progress, gpointer data)
{
    unsigned *calls = data;

    g_assert_cmpuint(progress->epoch, ==, ++*calls);
    g_assert_true(isfinite(progress->loss) && isfinite(progress->validation_loss));
    g_assert_cmpfloat(progress->best_validation_loss, <=, progress->validation_loss);
    g_assert_cmpfloat(progress->naive_validation_loss, >, 0.0);
    return *calls < 3;
}

static void test_progress(void)
{
    SyntheticConfig process = {.seed = 1, .n = 200};
    g_autoptr(Synthetic) s = synthetic_new(&process);
    /* pieces with gaps, one without any sample, one of a single sample */
    ForeWindow windows[] = {
        {.samples = s->samples, .n = 90, .step_ns = FORE_NS_PER_S},
        {.samples = s->samples + 90, .n = 0, .step_ns = FORE_NS_PER_S},
        {.samples = s->samples + 90, .n = 1, .step_ns = FORE_NS_PER_S},
        {.samples = s->samples + 100, .n = 100, .step_ns = FORE_NS_PER_S},
    };
    ForeTrainConfig config = {.seed = 1, .hidden = 8};
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeModel) model = NULL;
    unsigned calls = 0;

    for (unsigned t = 30; t < 36; t++) {
        s->samples[t].valid = 0;
    }
    model =
        fore_model_train(windows, G_N_ELEMENTS(windows), &config, stop_at_three, &calls, &error);
    g_assert_no_error(error);
    g_assert_nonnull(model);
    g_assert_cmpuint(calls, ==, 3);
}

/* One resource may be missing from the history altogether. */
static void test_one_resource(void)
{
    SyntheticConfig process = {.seed = 1, .n = 120};
    g_autoptr(Synthetic) s = synthetic_new(&process);
    ForeWindow window = {.samples = s->samples, .n = s->n, .step_ns = FORE_NS_PER_S};
    ForeTrainConfig config = {.seed = 1, .hidden = 4, .max_epochs = 3};
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeModel) model = NULL;
    g_autoptr(ForeForecaster) fc = NULL;

    for (unsigned t = 0; t < s->n; t++) {
        s->samples[t].valid = 1u << FORE_FIELD_DEMAND_MEM;
    }
    model = fore_model_train(&window, 1, &config, NULL, NULL, &error);
    g_assert_no_error(error);
    fc = fore_forecaster_new(model, FORE_NS_PER_S);
    for (unsigned t = 0; t < s->n; t++) {
        ForeForecast forecast;

        fore_forecaster_step(fc, &s->samples[t], &forecast);
        g_assert_true(forecast.valid);
        assert_proper(&forecast);
    }
}

/* Single precision, the fast tanh and BLAS against the formulas of fore-lstm.h in libm's double
 * precision. */
static void test_reference(void)
{
    const ForeLstmShape shape = {.n_in = 32, .n_skip = 2, .n_hidden = 32, .n_out = 7};
    ForeLstmLayout at = fore_lstm_layout(&shape);
    g_autofree ForeReal *p = g_new(ForeReal, at.n);
    ForeReal x[32], h[32] = {0}, c[32] = {0}, scratch[5 * 32], y[7];
    double hd[32] = {0}, cd[32] = {0};
    ForeRandom rng = {.state = 21};

    fore_lstm_init(&shape, &rng, p);
    for (unsigned t = 0; t < 500; t++) {
        double a[4][32];

        for (unsigned i = 0; i < 32; i++) {
            x[i] = (ForeReal)(3.0 * fore_random_normal(&rng));
        }
        fore_lstm_step(&shape, p, x, h, c, scratch, y);
        for (unsigned row = 0; row < 4 * 32; row++) {
            double sum = (double)p[at.b + row];

            for (unsigned i = 0; i < 32; i++) {
                sum += (double)p[at.wx + row * 32 + i] * (double)x[i] +
                       (double)p[at.wh + row * 32 + i] * hd[i];
            }
            a[row / 32][row % 32] = sum;
        }
        for (unsigned k = 0; k < 32; k++) {
            cd[k] = cd[k] / (1.0 + exp(-a[1][k])) + tanh(a[2][k]) / (1.0 + exp(-a[0][k]));
            hd[k] = tanh(cd[k]) / (1.0 + exp(-a[3][k]));
            /* rounding of sums of 64 products of order 1: a few 1e-6; the recursion forgets it */
            g_assert_cmpfloat_with_epsilon((double)h[k], hd[k], 3e-5);
        }
        for (unsigned k = 0; k < shape.n_out; k++) {
            double sum = (double)p[at.bo + k] + (double)p[at.ws + 2 * k] * (double)x[0] +
                         (double)p[at.ws + 2 * k + 1] * (double)x[1];

            for (unsigned i = 0; i < 32; i++) {
                sum += (double)p[at.wo + k * 32 + i] * hd[i];
            }
            g_assert_cmpfloat_with_epsilon((double)y[k], sum, 3e-5);
        }
    }
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/forecast/lstm/single-precision-matches-the-formulas", test_reference);
    g_test_add_func("/forecast/forecaster/announces-bursts-it-never-saw", test_as_recorded);
    g_test_add_func("/forecast/forecaster/still-does-once-capacity-grows", test_elastic);
    g_test_add_func("/forecast/forecaster/still-does-when-bursts-end-sooner", test_shorter_bursts);
    g_test_add_func("/forecast/forecaster/does-so-from-any-recording", test_other_recordings);
    g_test_add_func("/forecast/forecaster/p95-covers-95-percent-in-an-hour", test_long_coverage);
    g_test_add_func("/forecast/forecaster/survives-a-missing-profile-page", test_without_profile);
    g_test_add_func("/forecast/forecaster/checkpoint-forecasts-bit-for-bit", test_checkpoint);
    g_test_add_func("/forecast/forecaster/new-model-continues-from-the-kept-samples", test_state);
    g_test_add_func("/forecast/forecaster/a-new-vm-gets-an-honest-width", test_cold_start);
    g_test_add_func("/forecast/forecaster/classical-members-take-over-what-was-never-learned",
                    test_takes_over);
    g_test_add_func("/forecast/forecaster/many-vms-step-as-one", test_many);
    g_test_add_func("/forecast/forecaster/covers-again-after-a-change-of-behaviour",
                    test_coverage_after_change);
    g_test_add_func("/forecast/forecaster/nan-and-gaps-never-spread", test_gap);
    g_test_add_func("/forecast/forecaster/output-is-bounded", test_bounded);
    g_test_add_func("/forecast/forecaster/demoted-and-taken-back", test_demotion);
    g_test_add_func("/forecast/train/same-seed-same-weights-in-any-thread", test_deterministic);
    g_test_add_func("/forecast/train/too-little-history-is-refused", test_too_few);
    g_test_add_func("/forecast/train/reports-each-epoch-and-stops-when-told", test_progress);
    g_test_add_func("/forecast/train/one-resource-suffices", test_one_resource);
    rc = g_test_run();
    fore_model_unref(shared_model());
    return rc;
}
