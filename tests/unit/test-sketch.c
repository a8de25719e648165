/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "profile/fore-tier.h"

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Sign, and a size of many decades: what a sketch finds hardest */
static double wild(GRand *rand)
{
    double v = pow(10, g_rand_double_range(rand, -6, 9));

    return g_rand_int_range(rand, 0, 10) == 0 ? 0 : g_rand_boolean(rand) ? v : -v;
}

static void assert_quantiles(const ForeSketch *s, double *v, size_t n)
{
    static const double q[] = {0, 0.01, 0.25, 0.5, 0.75, 0.95, 0.999, 1};

    qsort(v, n, sizeof(*v), ascending);
    for (size_t i = 0; i < G_N_ELEMENTS(q); i++) {
        double want = v[(size_t)(q[i] * (double)(n - 1))];
        double got = fore_sketch_quantile(s, q[i]);

        /* 1e-9: rounding of logarithms beside the error that the sketch states */
        g_assert_cmpfloat(fabs(got - want), <=, (fore_sketch_error(s) + 1e-9) * fabs(want));
    }
}

static void test_error(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);

    for (int round = 0; round < 200; round++) {
        size_t n = (size_t)g_rand_int_range(rand, 1, 2000);
        g_autofree double *v = g_new(double, n);
        ForeSketch s;

        fore_sketch_init(&s, (unsigned)g_rand_int_range(rand, FORE_SKETCH_LEAST, 65));
        for (size_t i = 0; i < n; i++) {
            v[i] = round % 2 ? wild(rand) : 100 + g_rand_double(rand);
            fore_sketch_add(&s, v[i]);
        }
        g_assert_cmpuint(s.n, ==, n);
        g_assert_cmpuint(s.used, <=, s.limit);
        assert_quantiles(&s, v, n);
        if (round % 2 == 0) { /* a range of 1 % needs no collapse */
            g_assert_cmpfloat_with_epsilon(fore_sketch_error(&s), FORE_SKETCH_ERROR, 1e-12);
        }
    }
}

/* Merged in any order it says what one sketch of all says. */
static void test_merge(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(2);

    for (int round = 0; round < 100; round++) {
        ForeSketch all, part[5], left, right;
        g_autofree double *v = g_new(double, 500);

        fore_sketch_init(&all, 32);
        fore_sketch_init(&left, 32);
        fore_sketch_init(&right, 32);
        for (int p = 0; p < 5; p++) {
            fore_sketch_init(&part[p], 32);
        }
        for (int i = 0; i < 500; i++) {
            int p = g_rand_int_range(rand, 0, 5);

            v[i] = p == 0 ? 5 : wild(rand); /* parts of different levels */
            fore_sketch_add(&all, v[i]);
            fore_sketch_add(&part[p], v[i]);
        }
        for (int p = 0; p < 5; p++) {
            fore_sketch_merge(&left, &part[p]);
            fore_sketch_merge(&right, &part[4 - p]);
        }
        g_assert_cmpuint(left.level, ==, all.level);
        g_assert_cmpmem(left.bucket, left.used * sizeof(left.bucket[0]), all.bucket,
                        all.used * sizeof(all.bucket[0]));
        g_assert_cmpmem(right.bucket, right.used * sizeof(right.bucket[0]), all.bucket,
                        all.used * sizeof(all.bucket[0]));
        assert_quantiles(&left, v, 500);
    }
}

static void test_extremes(void)
{
    static const double v[] = {DBL_MAX, -DBL_MAX, DBL_MIN,  -DBL_MIN, DBL_MIN / 4, 0,
                               1,       -1,       1 + 1e-9, 1e308,    1e-307,      3};
    ForeSketch s;

    fore_sketch_init(&s, FORE_SKETCH_LEAST);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < G_N_ELEMENTS(v); i++) {
            fore_sketch_add(&s, v[i]);
        }
    }
    g_assert_cmpuint(s.used, <=, FORE_SKETCH_LEAST);
    g_assert_cmpfloat(fore_sketch_error(&s), <=, 1);
    for (double q = 0; q <= 1; q += 0.01) {
        g_assert_true(isfinite(fore_sketch_quantile(&s, q)));
    }
    fore_sketch_init(&s, FORE_SKETCH_LEAST);
    g_assert_true(isnan(fore_sketch_quantile(&s, 0.5)));
}

static ForeTierPoint random_point(GRand *rand, int64_t t_ms)
{
    int n = g_rand_int_range(rand, 1, 300);
    ForeTierPoint p;

    fore_tier_point_init(&p, t_ms);
    while (n-- > 0) {
        fore_tier_point_add(&p, g_rand_int_range(rand, 0, 4) == 0 ? 7.25 : wild(rand));
    }
    return p;
}

static void test_block(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(3);
    g_autofree ForeTierPoint *p = g_new(ForeTierPoint, FORE_TIER_BLOCK);
    g_autofree ForeTierPoint *back = g_new(ForeTierPoint, FORE_TIER_BLOCK);

    for (int round = 0; round < 50; round++) {
        size_t n = (size_t)g_rand_int_range(rand, 1, FORE_TIER_BLOCK + 1), got = 0;
        g_autoptr(ForeTierBlock) block = fore_tier_block_new();
        g_autoptr(GByteArray) bytes = NULL;
        g_autoptr(GError) error = NULL;

        for (size_t i = 0; i < n; i++) {
            p[i] = random_point(rand, (int64_t)i * 10000 - 50000);
            fore_tier_block_add(block, &p[i]);
        }
        bytes = fore_tier_block_pack(block);
        fore_tier_unpack(bytes->data, bytes->len, back, &got, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(got, ==, n);
        for (size_t i = 0; i < n; i++) {
            g_assert_cmpint(back[i].t_ms, ==, p[i].t_ms);
            g_assert_cmpuint(back[i].n, ==, p[i].n);
            g_assert_cmpfloat(back[i].min, ==, p[i].min);
            g_assert_cmpfloat(back[i].max, ==, p[i].max);
            /* 24 significant bits */
            g_assert_cmpfloat(fabs(back[i].mean - p[i].mean), <=, 6e-8 * fabs(p[i].mean));
            g_assert_cmpfloat(fore_tier_point_quantile(&back[i], 0.5), ==,
                              fore_tier_point_quantile(&p[i], 0.5));
        }
        for (guint cut = 0; cut < bytes->len; cut++) { /* cut short: refused, wherever */
            g_assert_false(fore_tier_unpack(bytes->data, cut, back, &got, NULL));
        }
    }
}

static void test_start(void)
{
    g_assert_cmpint(fore_tier_start(0, 10000), ==, 0);
    g_assert_cmpint(fore_tier_start(9999, 10000), ==, 0);
    g_assert_cmpint(fore_tier_start(-1, 10000), ==, -10000);
    g_assert_cmpint(fore_tier_start(-10000, 10000), ==, -10000);
}

static void test_crc(void)
{
    static const uint8_t zeros[32];

    g_assert_cmphex(fore_crc32c(zeros, 32), ==, 0x8a9136aa); /* RFC 3720, B.4 */
    g_assert_cmphex(fore_crc32c("123456789", 9), ==, 0xe3069283);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/profile/sketch/quantiles-are-within-the-stated-error", test_error);
    g_test_add_func("/profile/sketch/merging-in-any-order-is-the-same", test_merge);
    g_test_add_func("/profile/sketch/extremes-stay-bounded-and-finite", test_extremes);
    g_test_add_func("/profile/tier/a-block-comes-back", test_block);
    g_test_add_func("/profile/tier/intervals-begin-below", test_start);
    g_test_add_func("/profile/bits/crc32c-agrees-with-the-standard", test_crc);
    return g_test_run();
}
