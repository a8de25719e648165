/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>
#include <string.h>

#include "forecast/fore-features.h"
#include "tests/lib/synthetic-bursts.h"

static ForeReal mask_of(const ForeReal *x, ForeFeature f)
{
    return x[FORE_FEATURE_N + f];
}

static Synthetic *recording(unsigned n)
{
    SyntheticConfig config = {.seed = 42, .n = n};

    return synthetic_new(&config);
}

static void fit_one(const Synthetic *s, ForeFeatureNorm *norm)
{
    ForeWindow w = {.samples = s->samples, .n = s->n, .step_ns = FORE_NS_PER_S};

    fore_features_fit(&w, 1, norm);
    g_assert_true(fore_features_norm_is_valid(norm));
}

static void test_normal(void)
{
    g_autoptr(Synthetic) s = recording(600);
    ForeFeatureNorm norm;
    ForeFeatureState state;
    double sum[FORE_FEATURE_N] = {0}, squares[FORE_FEATURE_N] = {0};

    fit_one(s, &norm);
    fore_feature_state_init(&state);
    for (unsigned t = 0; t < s->n; t++) {
        ForeReal x[FORE_FEATURE_N_IN];
        double scale[FORE_RES_N];

        fore_features_step(&norm, &state, &s->samples[t], x, scale);
        for (unsigned f = 0; f < FORE_FEATURE_N; f++) {
            sum[f] += (double)x[f];
            squares[f] += (double)x[f] * (double)x[f];
        }
    }
    for (unsigned f = 0; f < FORE_FEATURE_N; f++) {
        /* single precision inputs of order 1 summed 600 times */
        g_assert_cmpfloat_with_epsilon(sum[f] / s->n, 0.0, 1e-4);
        if (norm.sd[f] > 0.0) {
            g_assert_cmpfloat_with_epsilon(squares[f] / s->n, 1.0, 1e-3);
        }
    }
}

static void test_missing(void)
{
    g_autoptr(Synthetic) s = recording(200);
    ForeFeatureNorm norm;

    fit_one(s, &norm);
    for (unsigned f = 0; f < FORE_FIELD_N; f++) {
        ForeFeatureState state;
        ForeReal with[FORE_FEATURE_N_IN], without[FORE_FEATURE_N_IN];
        double scale[FORE_RES_N];
        ForeSample sample = s->samples[100];

        fore_feature_state_init(&state);
        fore_features_step(&norm, &state, &sample, with, scale);
        sample.valid &= ~(1u << f);
        fore_feature_state_init(&state);
        fore_features_step(&norm, &state, &sample, without, scale);
        for (unsigned k = 0; k < FORE_FEATURE_N; k++) {
            if (mask_of(without, (ForeFeature)k) == 0) {
                g_assert_cmpfloat((double)without[k], ==, 0.0);
            } else {
                g_assert_cmpfloat((double)mask_of(with, (ForeFeature)k), ==, 1.0);
            }
        }
    }
}

/* Not finite, negative or absurd values are "not measured", and the level of the VM stays clean. */
static void test_hostile(void)
{
    static const double poison[] = {NAN, INFINITY, -INFINITY, -1.0, 1e19, 1e300};
    g_autoptr(Synthetic) s = recording(200);
    ForeFeatureNorm norm;
    ForeFeatureState state, clean;

    fit_one(s, &norm);
    fore_feature_state_init(&state);
    fore_feature_state_init(&clean);
    for (unsigned f = 0; f < FORE_FIELD_N; f++) {
        for (unsigned i = 0; i < G_N_ELEMENTS(poison); i++) {
            ForeSample bad = s->samples[50], gap = s->samples[50];
            ForeReal x[FORE_FEATURE_N_IN], y[FORE_FEATURE_N_IN];
            double scale[FORE_RES_N];

            bad.value[f] = poison[i];
            gap.valid &= ~(1u << f);
            fore_features_step(&norm, &state, &bad, x, scale);
            fore_features_step(&norm, &clean, &gap, y, scale);
            g_assert_cmpmem(x, sizeof(x), y, sizeof(y));
            g_assert_cmpmem(&state, sizeof(state), &clean, sizeof(clean));
        }
    }
}

static void test_bounded(void)
{
    g_autoptr(Synthetic) s = recording(200);
    ForeFeatureNorm norm;
    ForeFeatureState state;
    ForeRandom rng = {.state = 3};

    fit_one(s, &norm);
    fore_feature_state_init(&state);
    for (unsigned t = 0; t < 20000; t++) {
        ForeSample sample = {.valid = (uint32_t)fore_random_u64(&rng)};
        ForeReal x[FORE_FEATURE_N_IN];
        double scale[FORE_RES_N];

        for (unsigned f = 0; f < FORE_FIELD_N; f++) {
            sample.value[f] = exp(80.0 * fore_random_unit(&rng) - 35.0);
        }
        fore_features_step(&norm, &state, &sample, x, scale);
        for (unsigned i = 0; i < FORE_FEATURE_N_IN; i++) {
            g_assert_true(x[i] >= -10 && x[i] <= 10);
        }
        g_assert_true(scale[0] > 0.0 && isfinite(scale[0]) && scale[1] > 0.0 && isfinite(scale[1]));
    }
}

/* A VM eight times as large gives the same inputs once both are what the model was fitted to. */
static void test_scale_free(void)
{
    static const ForeField sizes[] = {
        FORE_FIELD_CPU_BUSY,   FORE_FIELD_RUNNABLE,  FORE_FIELD_DEMAND_VCPU, FORE_FIELD_MEM_USED,
        FORE_FIELD_DEMAND_MEM, FORE_FIELD_MEM_TOTAL, FORE_FIELD_INSNS,       FORE_FIELD_LOADS,
        FORE_FIELD_STORES,     FORE_FIELD_SYSCALLS};
    g_autoptr(Synthetic) s = recording(300);
    g_autofree ForeSample *large = g_memdup2(s->samples, s->n * sizeof(ForeSample));
    ForeWindow ws = {.samples = s->samples, .n = s->n}, wl = {.samples = large, .n = s->n};
    ForeFeatureNorm norm_s, norm_l;
    ForeFeatureState state_s, state_l;

    for (unsigned t = 0; t < s->n; t++) {
        for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
            large[t].value[sizes[i]] *= 8.0;
        }
    }
    fore_features_fit(&ws, 1, &norm_s);
    fore_features_fit(&wl, 1, &norm_l);
    fore_feature_state_init(&state_s);
    fore_feature_state_init(&state_l);
    for (unsigned t = 0; t < s->n; t++) {
        ForeReal x[FORE_FEATURE_N_IN], y[FORE_FEATURE_N_IN];
        double scale_s[FORE_RES_N], scale_l[FORE_RES_N];

        fore_features_step(&norm_s, &state_s, &s->samples[t], x, scale_s);
        fore_features_step(&norm_l, &state_l, &large[t], y, scale_l);
        g_assert_cmpfloat_with_epsilon(scale_l[0] / scale_s[0], 8.0, 1e-9);
        for (unsigned i = 0; i < FORE_FEATURE_N_IN; i++) {
            /* log(1 + r) is scale free up to 1/r: the least rate here is about 60 a second */
            g_assert_cmpfloat_with_epsilon((double)x[i], (double)y[i], 0.02);
        }
    }
}

static void test_guard(void)
{
    g_autoptr(Synthetic) s = recording(200);
    ForeFeatureNorm norm;
    ForeFeatureState state;
    ForeReal x[FORE_FEATURE_N_IN];
    double scale[FORE_RES_N];
    ForeSample sample = s->samples[60];
    uint64_t coupled = fore_features_group(FORE_GROUP_CAPACITY);

    fit_one(s, &norm);
    fore_feature_state_init(&state);
    fore_features_step(&norm, &state, &sample, x, scale);
    g_assert_cmpfloat((double)mask_of(x, FORE_FEATURE_CPU_BUSY), ==, 1.0);
    sample.value[FORE_FIELD_ONLINE_VCPUS] = 3.0;
    sample.value[FORE_FIELD_MEM_TOTAL] *= 2.0;
    fore_features_step(&norm, &state, &sample, x, scale);
    for (unsigned f = 0; f < FORE_FEATURE_N; f++) {
        if ((coupled >> f & 1) != 0) {
            g_assert_cmpfloat((double)mask_of(x, (ForeFeature)f), ==, 0.0);
        }
    }
    g_assert_cmpfloat((double)mask_of(x, FORE_FEATURE_DEMAND_VCPU), ==, 1.0);
    g_assert_cmpfloat((double)mask_of(x, FORE_FEATURE_SYSCALLS), ==, 1.0);
    g_assert_cmpfloat((double)mask_of(x, FORE_FEATURE_SYSCALLS_PER_INSN), ==, 1.0);
}

static void test_constant(void)
{
    g_autoptr(Synthetic) s = recording(200);
    ForeFeatureNorm norm;

    fit_one(s, &norm);
    g_assert_cmpfloat(norm.sd[FORE_FEATURE_ONLINE_VCPUS], ==, 0.0);
    g_assert_cmpfloat(norm.sd[FORE_FEATURE_PSI_MEM], ==, 0.0);
    g_assert_cmpfloat(norm.sd[FORE_FEATURE_SYSCALLS], >, 0.0);
}

/* Many unlike VMs make a weak prior, so that a new one finds its own scale within a minute. */
static void test_prior(void)
{
    ForeSample samples[4][100] = {0};
    ForeWindow windows[4];
    ForeFeatureNorm one, many;
    ForeFeatureState state;
    double scale[FORE_RES_N];
    ForeReal x[FORE_FEATURE_N_IN];

    for (unsigned w = 0; w < 4; w++) {
        windows[w] = (ForeWindow){.samples = samples[w], .n = 100};
        for (unsigned t = 0; t < 100; t++) {
            synthetic_set(&samples[w][t], FORE_FIELD_DEMAND_VCPU,
                          pow(4.0, w) * (1.0 + 0.1 * (t % 3)));
        }
    }
    fore_features_fit(windows, 1, &one);
    fore_features_fit(windows, 4, &many);
    fore_feature_state_init(&state);
    for (unsigned t = 0; t < 60; t++) {
        fore_features_step(&one, &state, &samples[3][t], x, scale);
    }
    g_assert_cmpfloat(scale[0], <, 3.0);
    fore_feature_state_init(&state);
    for (unsigned t = 0; t < 60; t++) {
        fore_features_step(&many, &state, &samples[3][t], x, scale);
    }
    g_assert_cmpfloat(scale[0], >, 45.0);
}

/* @days of a VM, one sample an hour, its demand a wave of the day. */
static void fit_days(unsigned days, ForeFeatureNorm *ret)
{
    g_autofree ForeSample *samples = g_new0(ForeSample, 24 * days + 1);
    ForeWindow window = {.samples = samples, .n = 24 * days + 1};

    for (unsigned i = 0; i < window.n; i++) {
        samples[i].wall_ms = INT64_C(1700000000000) + INT64_C(3600000) * i;
        samples[i].valid = 1u << FORE_FIELD_DEMAND_VCPU;
        samples[i].value[FORE_FIELD_DEMAND_VCPU] = 1.0 + i % 24 / 24.0;
    }
    fore_features_fit(&window, 1, ret);
}

static void test_calendar(void)
{
    static const struct {
        unsigned days;
        bool day, week;
    } cases[] = {{1, false, false}, {2, true, false}, {13, true, false}, {14, true, true}};

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        ForeFeatureNorm norm;
        ForeFeatureState state;
        ForeSample s = {.wall_ms = INT64_C(1700000000000), .valid = 0};
        ForeReal x[FORE_FEATURE_N_IN];
        double scale[FORE_RES_N];

        fit_days(cases[i].days, &norm);
        g_assert_true(fore_features_norm_is_valid(&norm));
        fore_feature_state_init(&state);
        fore_features_step(&norm, &state, &s, x, scale);
        g_assert_true((x[FORE_FEATURE_N + FORE_FEATURE_DAY_SIN] > 0) == cases[i].day);
        g_assert_true((x[FORE_FEATURE_N + FORE_FEATURE_DAY_COS] > 0) == cases[i].day);
        g_assert_true((x[FORE_FEATURE_N + FORE_FEATURE_WEEKEND] > 0) == cases[i].week);
        s.wall_ms = 0; /* not known: masked, not midnight */
        fore_features_step(&norm, &state, &s, x, scale);
        g_assert_true(x[FORE_FEATURE_N + FORE_FEATURE_DAY_COS] == 0);
    }
}

/* Each field of a sample is a feature of its own, alone; one that is away is masked, not zero. */
static void test_each_field(void)
{
    static const struct {
        ForeField field;
        ForeFeature feature;
    } pairs[] = {
        {FORE_FIELD_PSI_IO, FORE_FEATURE_PSI_IO},
        {FORE_FIELD_UPTIME, FORE_FEATURE_UPTIME},
        {FORE_FIELD_MIX_SIMD, FORE_FEATURE_MIX_SIMD},
        {FORE_FIELD_MIX_STRING, FORE_FEATURE_MIX_STRING},
        {FORE_FIELD_SYSCALL_FILE, FORE_FEATURE_SYSCALL_FILE},
        {FORE_FIELD_SYSCALL_NET, FORE_FEATURE_SYSCALL_NET},
        {FORE_FIELD_SPACE_TOP, FORE_FEATURE_SPACE_TOP},
        {FORE_FIELD_WORKING_SET, FORE_FEATURE_WORKING_SET},
        {FORE_FIELD_SIGNATURE_A, FORE_FEATURE_SIGNATURE_A},
        {FORE_FIELD_SIGNATURE_B, FORE_FEATURE_SIGNATURE_B},
        {FORE_FIELD_SIGNATURE_C, FORE_FEATURE_SIGNATURE_C},
        {FORE_FIELD_NEXT_IN, FORE_FEATURE_NEXT_IN},
        {FORE_FIELD_RESERVED_VCPU, FORE_FEATURE_RESERVED_VCPU},
        {FORE_FIELD_RESERVED_MEM, FORE_FEATURE_RESERVED_MEM},
    };
    ForeSample samples[40] = {{0}};
    ForeWindow window = {.samples = samples, .n = 40};
    ForeFeatureNorm norm;
    ForeFeatureState state;
    ForeReal x[FORE_FEATURE_N_IN];
    double scale[FORE_RES_N];

    for (unsigned t = 0; t < 40; t++) {
        samples[t].valid = UINT32_MAX >> (32 - FORE_FIELD_N);
        for (unsigned f = 0; f < FORE_FIELD_N; f++) {
            samples[t].value[f] = 0.5 + (t * (f % 6 + 1)) % 7;
        }
    }
    fore_features_fit(&window, 1, &norm);
    fore_feature_state_init(&state);
    for (unsigned i = 0; i < G_N_ELEMENTS(pairs); i++) {
        for (unsigned gone = 0; gone < G_N_ELEMENTS(pairs); gone++) {
            ForeSample s = samples[5];

            s.valid &= ~(1u << pairs[gone].field);
            fore_features_step(&norm, &state, &s, x, scale);
            g_assert_true((x[FORE_FEATURE_N + pairs[i].feature] > 0) == (gone != i));
            g_assert_true(gone != i || x[pairs[i].feature] == 0);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/forecast/features/inputs-are-centred-and-of-unit-spread", test_normal);
    g_test_add_func("/forecast/features/missing-is-masked-not-zero", test_missing);
    g_test_add_func("/forecast/features/hostile-values-count-as-missing", test_hostile);
    g_test_add_func("/forecast/features/inputs-are-bounded", test_bounded);
    g_test_add_func("/forecast/features/a-larger-vm-looks-the-same", test_scale_free);
    g_test_add_func("/forecast/features/unseen-capacity-masks-what-follows-it", test_guard);
    g_test_add_func("/forecast/features/what-never-varied-is-masked", test_constant);
    g_test_add_func("/forecast/features/unlike-vms-make-a-weak-prior", test_prior);
    g_test_add_func("/forecast/features/calendar-waits-for-days-and-weeks", test_calendar);
    g_test_add_func("/forecast/features/each-field-stands-alone", test_each_field);
    return g_test_run();
}
