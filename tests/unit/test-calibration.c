/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>

#include "forecast/fore-calibration.h"
#include "forecast/fore-score.h"

/* Standard normal quantiles at fore_quantiles. */
static const double normal_q[FORE_N_QUANTILE] = {-1.644854, 0.0, 0.674490, 1.281552, 1.644854};

static void forecast_with_spread(double mean, double spread, double q[][FORE_N_QUANTILE])
{
    for (unsigned g = 0; g < FORE_N_GROUP; g++) {
        for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
            q[g][k] = mean + spread * normal_q[k];
        }
    }
}

/* Coverage over the last two thirds of 9000 steps, truth of spread 1, forecasts of spread @claimed.
 */
static void coverage(double claimed, double *ret_95, double *ret_05)
{
    ForeCalibration cal;
    ForeRandom rng = {.state = 5};
    ForeScore score = {0};
    unsigned below = 0;

    fore_calibration_init(&cal);
    for (unsigned t = 0; t < 9000; t++) {
        double q[FORE_N_GROUP][FORE_N_QUANTILE];
        double y = 100.0 + fore_random_normal(&rng);

        forecast_with_spread(100.0, claimed, q);
        fore_calibration_apply(&cal, q);
        if (t >= 3000) {
            fore_score_add(&score, q[3], y);
            below += y < q[3][FORE_Q05] ? 1 : 0;
        }
        fore_calibration_observe(&cal, 3, q[3], y);
    }
    *ret_95 = fore_score_coverage95(&score);
    *ret_05 = below / 6000.0;
}

static void test_coverage(void)
{
    /* too narrow by half, right, too wide by a fifth: all within what the bounds can mend */
    const double claimed[] = {0.5, 1.0, 1.2};

    for (unsigned i = 0; i < G_N_ELEMENTS(claimed); i++) {
        double q95, q05;

        coverage(claimed[i], &q95, &q05);
        /* 6000 scored: standard error 0.003; the recursion itself pulls it closer */
        g_assert_cmpfloat_with_epsilon(q95, 0.95, 0.01);
        g_assert_cmpfloat_with_epsilon(q05, 0.05, 0.01);
    }
}

static void test_change(void)
{
    ForeCalibration cal;
    ForeRandom rng = {.state = 6};
    ForeScore after = {0};

    fore_calibration_init(&cal);
    for (unsigned t = 0; t < 2000; t++) {
        double q[FORE_N_GROUP][FORE_N_QUANTILE];
        double y = 100.0 + (t < 1000 ? 1.0 : 2.0) * fore_random_normal(&rng);

        forecast_with_spread(100.0, 1.0, q);
        fore_calibration_apply(&cal, q);
        if (t >= 1200) {
            fore_score_add(&after, q[0], y);
        }
        fore_calibration_observe(&cal, 0, q[0], y);
    }
    /* 800 scored: standard error 0.008 */
    g_assert_cmpfloat_with_epsilon(fore_score_coverage95(&after), 0.95, 0.025);
}

static void test_bounds(void)
{
    ForeCalibration cal;
    double q[FORE_N_GROUP][FORE_N_QUANTILE];

    fore_calibration_init(&cal);
    for (unsigned t = 0; t < 5000; t++) {
        forecast_with_spread(1.0, 0.1, q);
        fore_calibration_apply(&cal, q);
        /* three misses of every ten that nothing announced, the rest on the spot */
        fore_calibration_observe(&cal, 0, q[0], t % 10 < 3 ? 1e9 : 1.0 + 1e-9);
        fore_calibration_observe(&cal, 1, q[1], 1.0);
        fore_calibration_observe(&cal, 2, q[2], NAN);
    }
    forecast_with_spread(1.0, 0.1, q);
    fore_calibration_apply(&cal, q);
    /* bursts that cannot be covered widen to the bound, no further */
    g_assert_cmpfloat_with_epsilon(q[0][FORE_Q95], 2.5 * (1.0 + 2.5 * 0.1644854), 0.05);
    /* endless hits narrow to the next lower quantile, no further, and never below the median */
    g_assert_cmpfloat(q[1][FORE_Q95], >=, q[1][FORE_Q50]);
    g_assert_cmpfloat_with_epsilon(q[1][FORE_Q95], 1.0 + 0.1281552, 1e-9);
    g_assert_cmpfloat(cal.level[2][FORE_Q95], ==, 0.0);
}

/* Sure and wrong: the forecaster claims to know, the truth spreads; then it spreads by ten times.
 */
static void test_sure_and_wrong(void)
{
    ForeCalibration cal;
    ForeRandom rng = {.state = 12};
    ForeScore before = {0}, after = {0};

    fore_calibration_init(&cal);
    for (unsigned t = 0; t < 6000; t++) {
        double q[FORE_N_GROUP][FORE_N_QUANTILE];
        double y = 100.0 + (t < 3000 ? 1.0 : 10.0) * fore_random_normal(&rng);

        forecast_with_spread(100.0, 1e-6, q);
        fore_calibration_apply(&cal, q);
        if (t >= 500) {
            /* 100 steps are let go after the change */
            fore_score_add(t < 3000 ? &before : t >= 3100 ? &after : &(ForeScore){0}, q[7], y);
        }
        fore_calibration_observe(&cal, 7, q[7], y);
    }
    /* 2500 scored: standard error 0.0044 */
    g_assert_cmpfloat_with_epsilon(fore_score_coverage95(&before), 0.95, 0.01);
    g_assert_cmpfloat_with_epsilon(fore_score_coverage95(&after), 0.95, 0.01);
}

/* A workload that has doubled: no distance from the median is right at both its levels. */
static void test_doubled(void)
{
    ForeCalibration cal;
    ForeRandom rng = {.state = 13};
    ForeScore after = {0};

    fore_calibration_init(&cal);
    for (unsigned t = 0; t < 6000; t++) {
        double q[FORE_N_GROUP][FORE_N_QUANTILE];
        double mean = t / 13 % 3 == 0 ? 30.0 : 1.0;
        double y = 2.0 * mean * (1.0 + 0.1 * fore_random_normal(&rng));

        forecast_with_spread(mean, 0.02 * mean, q);
        fore_calibration_apply(&cal, q);
        if (t >= 1000) {
            fore_score_add(&after, q[1], y);
        }
        fore_calibration_observe(&cal, 1, q[1], y);
    }
    g_assert_cmpfloat_with_epsilon(fore_score_coverage95(&after), 0.95, 0.01);
}

static void test_never_cross(void)
{
    ForeRandom rng = {.state = 8};
    ForeCalibration cal = {0};

    for (unsigned i = 0; i < 3000; i++) {
        double q[FORE_N_GROUP][FORE_N_QUANTILE];

        for (unsigned g = 0; g < FORE_N_GROUP; g++) {
            double v = 10.0 * fore_random_unit(&rng);

            for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
                cal.miss[g] = fore_random_unit(&rng);
                v += fore_random_unit(&rng) < 0.3 ? 0.0 : fore_random_unit(&rng);
                q[g][k] = v;
                cal.level[g][k] =
                    k == FORE_Q50
                        ? 0.0
                        : FORE_CALIBRATION_MIN + (FORE_CALIBRATION_MAX - FORE_CALIBRATION_MIN) *
                                                     fore_random_unit(&rng);
            }
        }
        fore_calibration_apply(&cal, q);
        for (unsigned g = 0; g < FORE_N_GROUP; g++) {
            for (unsigned k = 1; k < FORE_N_QUANTILE; k++) {
                g_assert_cmpfloat(q[g][k], >=, q[g][k - 1]);
            }
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/forecast/calibration/covers-whatever-the-model-claims", test_coverage);
    g_test_add_func("/forecast/calibration/covers-again-after-a-change", test_change);
    g_test_add_func("/forecast/calibration/correction-is-bounded", test_bounds);
    g_test_add_func("/forecast/calibration/covers-what-has-doubled", test_doubled);
    g_test_add_func("/forecast/calibration/covers-for-one-that-is-sure-and-wrong",
                    test_sure_and_wrong);
    g_test_add_func("/forecast/calibration/quantiles-never-cross", test_never_cross);
    return g_test_run();
}
