/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "forecast/fore-baseline.h"
#include "forecast/fore-score.h"

static void test_truth(void)
{
    ForeTruth truth;

    fore_truth_init(&truth);
    for (unsigned t = 0; t < 40; t++) {
        double demand[FORE_RES_N] = {t % 7, 100.0 - t};

        fore_truth_push(&truth, demand);
        for (unsigned h = 0; h < FORE_N_HORIZON; h++) {
            unsigned steps = fore_horizons[h];
            double point = fore_truth_get(&truth, FORE_RES_VCPU, FORE_KIND_POINT, h);
            double peak = fore_truth_get(&truth, FORE_RES_VCPU, FORE_KIND_PEAK, h);
            double expected = 0.0;

            if (t < steps) {
                g_assert_true(isnan(point) && isnan(peak));
                continue;
            }
            for (unsigned k = 0; k < steps; k++) {
                expected = MAX(expected, (t - k) % 7);
            }
            g_assert_cmpfloat(point, ==, t % 7);
            g_assert_cmpfloat(peak, ==, expected);
            g_assert_cmpfloat(fore_truth_get(&truth, FORE_RES_MEM, FORE_KIND_PEAK, h), ==,
                              101.0 - t + (steps - 1) - 1.0);
        }
    }
}

static void test_truth_gap(void)
{
    ForeTruth truth;

    fore_truth_init(&truth);
    for (unsigned t = 0; t < 30; t++) {
        double demand[FORE_RES_N] = {t == 20 ? NAN : 1.0, 1.0};

        fore_truth_push(&truth, demand);
        for (unsigned h = 0; h < FORE_N_HORIZON; h++) {
            bool spans = t >= 20 && t < 20 + fore_horizons[h];

            if (t < fore_horizons[h]) {
                continue;
            }
            g_assert_true(isnan(fore_truth_get(&truth, FORE_RES_VCPU, FORE_KIND_POINT, h)) ==
                          (t == 20));
            g_assert_true(isnan(fore_truth_get(&truth, FORE_RES_VCPU, FORE_KIND_PEAK, h)) == spans);
            g_assert_false(isnan(fore_truth_get(&truth, FORE_RES_MEM, FORE_KIND_PEAK, h)));
        }
    }
}

static void test_wql(void)
{
    ForeScore score = {0}, both = {0};
    const double q[FORE_N_QUANTILE] = {1.0, 2.0, 3.0, 4.0, 5.0};

    g_assert_cmpfloat(fore_score_wql(&score), ==, 0.0);
    fore_score_add(&score, q, 3.0);
    /* by hand: .05*2 + .5*1 + 0 + .1*1 + .05*2 = 0.8, over 5 quantiles, twice, over 3 */
    g_assert_cmpfloat_with_epsilon(fore_score_wql(&score), 2.0 * 0.8 / 5.0 / 3.0, 1e-12);
    g_assert_cmpfloat(fore_score_coverage95(&score), ==, 1.0);
    fore_score_add(&score, q, 6.0);
    g_assert_cmpfloat(fore_score_coverage95(&score), ==, 0.5);
    fore_score_add(&score, q, NAN);
    g_assert_cmpuint(score.n, ==, 2);
    fore_score_merge(&both, &score);
    fore_score_merge(&both, &score);
    g_assert_cmpfloat_with_epsilon(fore_score_wql(&both), fore_score_wql(&score), 1e-12);
}

static void assert_proper(double q[][FORE_N_QUANTILE])
{
    for (unsigned g = 0; g < FORE_N_GROUP; g++) {
        for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
            g_assert_true(isfinite(q[g][k]) && q[g][k] >= 0.0);
            g_assert_true(k == 0 || q[g][k] >= q[g][k - 1]);
        }
    }
}

static void test_last_value(void)
{
    g_autoptr(ForeBaseline) base = fore_baseline_new(0);
    double q[FORE_N_GROUP][FORE_N_QUANTILE];
    ForeRandom rng = {.state = 1};
    ForeScore score = {0};
    double was[FORE_N_QUANTILE] = {0};

    for (unsigned t = 0; t < 3000; t++) {
        double demand[FORE_RES_N] = {10.0 + fore_random_normal(&rng), 5e8};

        if (t > 300) {
            fore_score_add(&score, was, demand[0]);
        }
        fore_baseline_step(base, demand, q);
        assert_proper(q);
        memcpy(was, q[FORE_GROUP(FORE_RES_VCPU, FORE_KIND_POINT, 0)], sizeof(was));
    }
    /* 2700 scored: the standard error of a share of 0.95 is 0.004 */
    g_assert_cmpfloat_with_epsilon(fore_score_coverage95(&score), 0.95, 0.015);
    g_assert_cmpfloat(q[FORE_GROUP(FORE_RES_MEM, FORE_KIND_PEAK, 5)][FORE_Q95], ==, 5e8);
}

/* A series that repeats is forecast exactly, peaks included, from its second season on. */
static void test_seasonal(void)
{
    const unsigned seasons[] = {1, 5, 12, 24, 60};

    for (unsigned i = 0; i < G_N_ELEMENTS(seasons); i++) {
        unsigned m = seasons[i];
        g_autoptr(ForeBaseline) base = fore_baseline_new(m);
        double q[FORE_N_GROUP][FORE_N_QUANTILE];

        for (unsigned t = 0; t < 5 * m + 600; t++) {
            double demand[FORE_RES_N] = {t % m, 1e6 * (t % m * t % m)};

            fore_baseline_step(base, demand, q);
            if (t < 4 * m + 500) {
                continue;
            }
            for (unsigned h = 0; h < FORE_N_HORIZON; h++) {
                unsigned peak = 0;

                for (unsigned k = 1; k <= fore_horizons[h]; k++) {
                    peak = MAX(peak, (t + k) % m);
                }
                g_assert_cmpfloat(q[FORE_GROUP(0, FORE_KIND_POINT, h)][FORE_Q50], ==,
                                  (t + fore_horizons[h]) % m);
                g_assert_cmpfloat(q[FORE_GROUP(0, FORE_KIND_PEAK, h)][FORE_Q95], ==, peak);
            }
        }
    }
}

static void test_baseline_gap(void)
{
    g_autoptr(ForeBaseline) base = fore_baseline_new(0);
    double q[FORE_N_GROUP][FORE_N_QUANTILE];
    double gap[FORE_RES_N] = {NAN, NAN};
    double demand[FORE_RES_N] = {2.0, 1e9};

    fore_baseline_step(base, gap, q);
    g_assert_true(isnan(q[0][0]));
    fore_baseline_step(base, demand, q);
    assert_proper(q);
    for (unsigned t = 0; t < 30; t++) {
        fore_baseline_step(base, gap, q);
        assert_proper(q);
        g_assert_cmpfloat(q[0][FORE_Q50], ==, 2.0);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/forecast/score/truth-arrives-when-its-horizon-has-passed", test_truth);
    g_test_add_func("/forecast/score/a-gap-hides-the-peaks-that-span-it", test_truth_gap);
    g_test_add_func("/forecast/score/quantile-loss-matches-a-hand-computed-one", test_wql);
    g_test_add_func("/forecast/baseline/last-value-covers-what-it-should", test_last_value);
    g_test_add_func("/forecast/baseline/a-season-is-forecast-exactly", test_seasonal);
    g_test_add_func("/forecast/baseline/a-gap-keeps-the-last-value", test_baseline_gap);
    return g_test_run();
}
