/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-judge.h"

#include <math.h>

#include "forecast/fore-baseline.h"

/* One step: ours is off by @ours, the rivals by @last and @season (NAN: silent), of a truth of 10.
 */
static void step(ForeJudge *judge, double ours, double last, double season)
{
    ForeJudgeStep now[FORE_RES_N] = {{0}};
    double q[FORE_N_QUANTILE], rivals[FORE_RIVAL_N][FORE_N_QUANTILE];

    for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
        q[k] = 10.0 + ours;
        rivals[FORE_RIVAL_LAST][k] = 10.0 + last;
        rivals[FORE_RIVAL_SEASON][k] = 10.0 + season;
    }
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        fore_judge_score(now, (ForeResource)r, q, rivals, 10.0);
    }
    fore_judge_step(judge, now);
}

static void steps(ForeJudge *judge, unsigned n, double ours, double last, double season)
{
    for (unsigned i = 0; i < n; i++) {
        step(judge, ours, last, season);
    }
}

static void test_season(void)
{
    g_autofree ForeJudge *judge = g_new(ForeJudge, 1);

    fore_judge_init(judge);
    steps(judge, 400, 1.0, 2.0, NAN); /* yesterday is not known yet */
    g_assert_false(judge->demoted);
    g_assert_cmpfloat(fore_judge_wql(judge, FORE_RES_MEM, FORE_RIVAL_SEASON), ==, 0.0);
    steps(judge, 400, 1.0, 2.0, 0.5);
    g_assert_true(judge->demoted);
    g_assert_cmpstr(fore_rival_names[judge->behind], ==, "seasonal-naive");
    /* pinball of an error e above the truth is (1 - tau) e, mean over the five levels 0.37 e */
    g_assert_cmpfloat_with_epsilon(fore_judge_wql(judge, FORE_RES_VCPU, FORE_RIVAL_SEASON),
                                   2.0 * 0.37 * 0.5 / 10.0, 1e-6);
    steps(judge, 400, 0.1, 2.0, 0.5); /* earns its way back */
    g_assert_false(judge->demoted);
}

static void test_last(void)
{
    g_autofree ForeJudge *judge = g_new(ForeJudge, 1);

    fore_judge_init(judge);
    steps(judge, 119, 2.0, 1.0, 9.0);
    g_assert_false(judge->demoted); /* too early to tell */
    step(judge, 2.0, 1.0, 9.0);
    g_assert_true(judge->demoted);
    g_assert_cmpstr(fore_rival_names[judge->behind], ==, "last-value");
}

/* Between the thresholds nothing changes, from either side. */
static void test_no_flapping(void)
{
    g_autofree ForeJudge *judge = g_new(ForeJudge, 1);

    fore_judge_init(judge);
    steps(judge, 400, 1.05, 1.0, NAN);
    g_assert_false(judge->demoted);
    steps(judge, 400, 1.2, 1.0, NAN);
    g_assert_true(judge->demoted);
    steps(judge, 400, 1.05, 1.0, NAN);
    g_assert_true(judge->demoted);
}

static void test_not_finite(void)
{
    g_autofree ForeJudge *judge = g_new(ForeJudge, 1);

    fore_judge_init(judge);
    steps(judge, 1000, NAN, 1.0, 1.0);
    g_assert_false(judge->demoted);
    g_assert_cmpfloat(fore_judge_wql(judge, FORE_RES_VCPU, -1), ==, 0.0);
    g_assert_cmpfloat(fore_judge_coverage95(judge, FORE_RES_VCPU), ==, 1.0);
}

/* A day of 100 steps in bins of 10: silent on the first, then the bins of the day before. */
static void test_yesterday(void)
{
    ForeBaselineConfig config = {.season = 100, .bin = 10, .strict = true, .peaks_only = true};
    g_autoptr(ForeBaseline) base = fore_baseline_new_with(&config);

    for (unsigned t = 0; t < 300; t++) {
        double demand[FORE_RES_N] = {(t / 10) % 10, 1e9};
        double q[FORE_N_GROUP][FORE_N_QUANTILE];
        unsigned peak = FORE_GROUP(FORE_RES_VCPU, FORE_KIND_PEAK, 0); /* the next step */

        if (!fore_baseline_step(base, demand, q)) {
            g_assert_cmpuint(t, <, 99);
            continue;
        }
        g_assert_true(isnan(q[FORE_GROUP(FORE_RES_VCPU, FORE_KIND_POINT, 0)][0]));
        g_assert_true(isnan(q[peak][0]) == (t < 99));
        if (t >= 99) {
            g_assert_cmpfloat(q[peak][FORE_Q50], ==, (t + 1) / 10 % 10);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/forecast/judge/falls-behind-yesterday-and-comes-back", test_season);
    g_test_add_func("/forecast/judge/falls-behind-last-value", test_last);
    g_test_add_func("/forecast/judge/never-flaps", test_no_flapping);
    g_test_add_func("/forecast/judge/what-is-not-finite-counts-not", test_not_finite);
    g_test_add_func("/forecast/baseline/yesterday-by-bins", test_yesterday);
    return g_test_run();
}
