/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "profile/fore-detect.h"
#include "profile/fore-series-csv.h"
#include "profile/fore-tail.h"

#define STEP 300.0

static double normal(GRand *rand)
{
    double sum = -6;

    for (int i = 0; i < 12; i++) {
        sum += g_rand_double(rand);
    }
    return sum;
}

/* A day's wave with noise, 5-minute steps */
static double usual(GRand *rand, int i)
{
    return 10 + 3 * sin(i * 2 * G_PI / 288) + 0.3 * normal(rand);
}

static void fill(double *x, int n, unsigned seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);

    for (int i = 0; i < n; i++) {
        x[i] = usual(rand, i);
    }
}

static unsigned run(const double *x, int n, double *ret_score)
{
    g_autoptr(ForeDetect) d = fore_detect_new();
    unsigned alarms = 0;

    for (int i = 0; i < n; i++) {
        ret_score[i] = fore_detect_score(d, i * STEP, x[i]);
        g_assert_cmpfloat(ret_score[i], >=, 0);
        g_assert_cmpfloat(ret_score[i], <, 1);
        alarms += ret_score[i] >= FORE_DETECT_ALARM;
    }
    return alarms;
}

#define N 4000

static void test_prefix(void)
{
    static double x[N], whole[N], half[N];

    fill(x, N, 1);
    x[3000] = 1e9;
    run(x, N, whole);
    for (int i = N / 2; i < N; i++) {
        x[i] = -1e9; /* the future differs */
    }
    run(x, N, half);
    for (int i = 0; i < N / 2; i++) {
        g_assert_cmpfloat(whole[i], ==, half[i]);
    }
}

static void test_quiet(void)
{
    static double x[N], score[N];

    fill(x, N, 2);
    /* Stationary noise still brings a rarest course of the day now and then: at most two a day */
    g_assert_cmpuint(run(x, N, score), <=, 2 * N / 288);
}

/* Is there an alarm within @within of @at? */
static bool alarms_at(const double *score, int at, int within)
{
    for (int i = at; i < at + within; i++) {
        if (score[i] >= FORE_DETECT_ALARM) {
            return true;
        }
    }
    return false;
}

static void test_incidents(void)
{
    static double x[N], score[N];

    fill(x, N, 3);
    x[1500] = 40; /* a spike */
    for (int i = 2000; i < 2100; i++) {
        x[i] = x[1999]; /* stands still */
    }
    for (int i = 2600; i < 2700; i++) {
        x[i] = 0.1; /* falls to next to nothing */
    }
    for (int i = 3300; i < N; i++) {
        x[i] += 12; /* a new level */
    }
    run(x, N, score);
    g_assert_true(alarms_at(score, 1500, 10));
    g_assert_true(alarms_at(score, 2000, 20));
    g_assert_true(alarms_at(score, 2600, 5));
    g_assert_true(alarms_at(score, 3300, 10));
}

/* What any night brings at noon: no value that was not seen before */
static void test_time_of_day(void)
{
    static double x[N], score[N];
    const int noon = 288 * 11 + 72; /* the top of the wave */

    fill(x, N, 4);
    for (int i = 0; i < 40; i++) {
        x[noon + i] = x[noon + i - 144];
    }
    run(x, N, score);
    g_assert_true(alarms_at(score, noon, 20));
}

static void test_scale(void)
{
    static double x[N], y[N], a[N], b[N];

    fill(x, N, 5);
    x[2500] = 60;
    for (int i = 0; i < N; i++) {
        y[i] = ldexp(x[i], 30);
    }
    run(x, N, a);
    run(y, N, b);
    for (int i = 0; i < N; i++) {
        /* by a power of two all but the logarithm of VIEW_CALM is exact; that one is a float */
        g_assert_cmpfloat_with_epsilon(a[i], b[i], 1e-3);
    }
}

static void test_gap(void)
{
    static double x[N];
    g_autoptr(ForeDetect) with = fore_detect_new(), without = fore_detect_new();
    const double gaps[] = {NAN, INFINITY, -INFINITY, 1e31, -1e300};

    fill(x, N, 6);
    for (int i = 0; i < N; i++) {
        g_assert_cmpfloat(fore_detect_score(with, i * STEP, gaps[i % 5]), ==, 0);
        g_assert_cmpfloat(fore_detect_score(with, i * STEP, x[i]), ==,
                          fore_detect_score(without, i * STEP, x[i]));
    }
}

static void test_extremes(void)
{
    const double values[] = {0, -0.0, 1e30, -1e30, 1e-300, -1e-30, 5e-324, 1};
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    g_autoptr(ForeDetect) d = fore_detect_new();
    char reason[40];

    for (int i = 0; i < 20000; i++) {
        double time = i % 7 == 0 ? (double)NAN : ldexp(g_rand_double(rand) - 0.5, i % 900);
        double value = i / 1000 % 3 == 0 ? 0 : values[g_rand_int_range(rand, 0, 8)];
        double score = fore_detect_score(d, time, value);
        g_assert_true(score >= 0 && score < 1);
        fore_detect_reason(d, "series", reason, sizeof reason);
        g_assert_cmpuint(strlen(reason), <, sizeof reason);
    }
    g_assert_cmpuint(fore_detect_bytes(), <, 32768);
}

static void test_reason(void)
{
    static double x[N];
    g_autoptr(ForeDetect) d = fore_detect_new();
    char reason[200];
    bool lasted = false;

    fill(x, N, 8);
    for (int i = 0; i < 3000; i++) {
        fore_detect_score(d, i * STEP, x[i]);
    }
    for (int i = 0; i < 40 && !lasted; i++) {
        fore_detect_score(d, (3000 + i) * STEP, 30 + 0.01 * i);
        fore_detect_reason(d, "cpu", reason, sizeof reason);
        g_test_message("%s", reason);
        lasted = strstr(reason, "cpu ") != NULL && strstr(reason, " min") != NULL;
    }
    g_assert_true(lasted);
}

/* --- tail --- */

static void test_tail_rank(void)
{
    ForeTail tail = {0};

    for (int i = 0; i < 999; i++) {
        fore_tail_add(&tail, (float)(i * 7 % 999));
    }
    /* of 999 values ten are at least 989 */
    g_assert_cmpfloat_with_epsilon(fore_tail_rarity(&tail, 989, 0), log10(1000.0 / 11), 1e-9);
    g_assert_cmpfloat(fore_tail_rarity(&tail, 500, 0), ==, 0);
    g_assert_cmpfloat(fore_tail_rarity(&tail, 1100, 0), >, 3);
    g_assert_cmpfloat(fore_tail_rarity(&tail, 1e30f, 0), <=, FORE_TAIL_MAX);
}

static void test_tail_forgets(void)
{
    ForeTail tail = {0};

    fore_tail_add(&tail, 1000);
    for (int i = 0; i < 3 * 4032; i++) {
        fore_tail_add(&tail, (float)(i % 10));
    }
    g_assert_cmpfloat(fore_tail_rarity(&tail, 50, 1), >, 3);
    g_assert_cmpuint(fore_tail_count(&tail), <=, 2 * 4032);
}

/* --- text --- */

static void test_line(void)
{
    static const struct {
        const char *text;
        double time_s, value;
    } good[] = {{"1970-01-01 00:00:00,1.5", 0, 1.5},
                {"2013-08-20T15:05:00.250000Z, -3e2 ", 1377011100.25, -300},
                {"2016-02-29 23:59,7,more,columns", 1456790340, 7},
                {"1377011100,0", 1377011100, 0}};
    ForeSeriesLine l;

    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_true(fore_series_line_parse(good[i].text, &l, &error));
        g_assert_no_error(error);
        g_assert_cmpfloat(l.time_s, ==, good[i].time_s);
        g_assert_cmpfloat(l.value, ==, good[i].value);
    }
    g_assert_true(fore_series_line_parse("1970-01-01 00:00:00,", &l, NULL));
    g_assert_true(isnan(l.value));
    g_assert_true(fore_series_line_parse("5,NaN", &l, NULL));
    g_assert_true(isnan(l.value));
}

static void test_bad_line(void)
{
    static const char *const bad[] = {"",
                                      "1",
                                      ",",
                                      "yesterday,1",
                                      "2015-02-29 00:00:00,1",
                                      "2015-13-01 00:00:00,1",
                                      "2015-01-01 24:00:00,1",
                                      "2015-01-01 00:00:00x,1",
                                      "2015-01-01,1",
                                      "nan,1",
                                      "5,inf",
                                      "5,1e999",
                                      "5,1 2",
                                      "5,0x10",
                                      "5,\"1\""};
    ForeSeriesLine l;

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(fore_series_line_parse(bad[i], &l, &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    }
    g_assert_true(fore_series_head_check("timestamp,value", NULL));
    g_assert_true(fore_series_head_check("timestamp,value,label", NULL));
    g_assert_false(fore_series_head_check("value,timestamp", NULL));
    g_assert_false(fore_series_head_check("", NULL));
    g_assert_false(fore_series_head_check("timestamp", NULL));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/profile/detect/score-depends-on-the-past-only", test_prefix);
    g_test_add_func("/profile/detect/noise-is-rarely-an-alarm", test_quiet);
    g_test_add_func("/profile/detect/incidents-are-told", test_incidents);
    g_test_add_func("/profile/detect/usual-value-at-an-unusual-hour-is-told", test_time_of_day);
    g_test_add_func("/profile/detect/unit-plays-no-part", test_scale);
    g_test_add_func("/profile/detect/gap-never-spreads", test_gap);
    g_test_add_func("/profile/detect/extremes-stay-bounded", test_extremes);
    g_test_add_func("/profile/detect/reason-says-how-long", test_reason);
    g_test_add_func("/profile/tail/rank-is-exact-at-the-top", test_tail_rank);
    g_test_add_func("/profile/tail/old-values-are-forgotten", test_tail_forgets);
    g_test_add_func("/profile/series-csv/line-is-read", test_line);
    g_test_add_func("/profile/series-csv/bad-line-is-refused", test_bad_line);
    return g_test_run();
}
