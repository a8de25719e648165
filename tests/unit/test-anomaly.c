/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "profile/fore-anomaly.h"

static const ForeAnomalyConfig config = {
    .half_life = 120, .short_life = 8, .warm_up = 60, .floor_scale = 0.01};

/* Sum of 12 uniforms less 6: mean 0, deviation 1, within 6 */
static double normal(GRand *rand)
{
    double sum = -6;

    for (int i = 0; i < 12; i++) {
        sum += g_rand_double(rand);
    }
    return sum;
}

static void settle(ForeAnomaly *a, GRand *rand)
{
    fore_anomaly_init(a, &config);
    for (int i = 0; i < 1000; i++) {
        fore_anomaly_score(a, 2.0 + 0.1 * normal(rand));
    }
}

static void test_quiet(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(5);
    ForeAnomaly a;
    unsigned alarms = 0;

    fore_anomaly_init(&a, &config);
    for (int i = 0; i < 10000; i++) {
        double score = fore_anomaly_score(&a, 2.0 + 0.1 * normal(rand));

        g_assert_cmpfloat(score, >=, 0);
        g_assert_cmpfloat(score, <=, 1);
        alarms += score > 0.5;
        g_assert_true(i >= 60 || score == 0);
    }
    /* 0.5 is a tail of 1e-5; the estimated deviation is off by some percent, so allow 20 in 10,000
     */
    g_assert_cmpuint(alarms, <=, 20);
}

static void test_spike(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(6);
    char reason[120];
    ForeAnomaly a;

    settle(&a, rand);
    g_assert_cmpfloat(fore_anomaly_score(&a, 4.0), >, 0.95);
    fore_anomaly_reason(&a, "demand_vcpu", reason, sizeof(reason));
    g_assert_nonnull(strstr(reason, "demand_vcpu is 4"));
    g_assert_nonnull(strstr(reason, "above"));
}

static void test_shift(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    double top = 0;
    ForeAnomaly a;

    settle(&a, rand);
    for (int i = 0; i < 40; i++) { /* two deviations: no single value is rare */
        top = fmax(top, fore_anomaly_score(&a, 2.2 + 0.1 * normal(rand)));
    }
    g_assert_cmpfloat(top, >, 0.5);
}

static void test_new_level(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(8);
    double last = 1;
    ForeAnomaly a;

    settle(&a, rand);
    for (int i = 0; i < 2000; i++) {
        last = fore_anomaly_score(&a, 6.0 + 0.1 * normal(rand));
    }
    g_assert_cmpfloat(last, <, 0.5);
}

static void test_gap(void)
{
    static const double none[] = {NAN, INFINITY, -INFINITY, 1e300};
    g_autoptr(GRand) rand = g_rand_new_with_seed(9);
    ForeAnomaly a, before;

    settle(&a, rand);
    before = a;
    for (size_t i = 0; i < G_N_ELEMENTS(none); i++) {
        g_assert_cmpfloat(fore_anomaly_score(&a, none[i]), ==, 0);
    }
    g_assert_cmpmem(&a, sizeof(a), &before, sizeof(before));
}

static void test_constant(void)
{
    ForeAnomaly a;

    fore_anomaly_init(&a, &config);
    for (int i = 0; i < 500; i++) {
        g_assert_cmpfloat(fore_anomaly_score(&a, 1.0), ==, 0);
    }
    /* within the floor: noise of the measurement, not news */
    g_assert_cmpfloat(fore_anomaly_score(&a, 1.02), <, 0.2);
    g_assert_cmpfloat(fore_anomaly_score(&a, 1.5), ==, 1.0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/profile/anomaly/noise-alone-is-quiet", test_quiet);
    g_test_add_func("/profile/anomaly/a-spike-scores-high-and-says-why", test_spike);
    g_test_add_func("/profile/anomaly/a-small-lasting-shift-is-seen", test_shift);
    g_test_add_func("/profile/anomaly/a-new-level-is-learned", test_new_level);
    g_test_add_func("/profile/anomaly/a-gap-teaches-nothing", test_gap);
    g_test_add_func("/profile/anomaly/a-constant-has-a-floor", test_constant);
    return g_test_run();
}
