/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-forest.h"

#include <math.h>

#include "forecast/fore-random.h"

#define N 4000

static const ForeForestConfig config = {
    .level = 0.9, .n_tree = 60, .n_leaf = 8, .min_rows = 40, .rate = 0.1, .share = 0.6, .seed = 1};

/* y uniform on 0..1 where x0 <= 0, on 0..10 elsewhere; x1 is noise. */
static void make_rows(float *x, float *y)
{
    ForeRandom rng = {.state = 9};

    for (unsigned i = 0; i < N; i++) {
        x[2 * i] = (float)fore_random_normal(&rng);
        x[2 * i + 1] = (float)fore_random_normal(&rng);
        y[i] = (float)(fore_random_unit(&rng) * (x[2 * i] <= 0.0f ? 1.0 : 10.0));
    }
}

/* The 0.9 quantile of 2000 uniform numbers strays by 0.007 of their range; the forest sees a random
 * 60 % a tree and stops at 60 steps of 0.1, so three times that plus what 0.9^60 leaves. */
static void test_quantile(void)
{
    g_autofree float *x = g_new(float, 2 * N), *y = g_new(float, N);
    g_autoptr(ForeBinned) binned = NULL;
    g_autoptr(ForeForest) forest = NULL;
    const float low[] = {-1.0f, 0.0f}, high[] = {1.0f, 0.0f};

    make_rows(x, y);
    binned = fore_binned_new(x, N, 2);
    forest = fore_forest_fit(binned, y, &config);
    g_assert_true(fore_forest_is_valid(forest));
    g_assert_cmpfloat(fabs(fore_forest_predict(forest, low) - 0.9), <, 0.06);
    g_assert_cmpfloat(fabs(fore_forest_predict(forest, high) - 9.0), <, 0.4);
}

static void test_same(void)
{
    g_autofree float *x = g_new(float, 2 * N), *y = g_new(float, N);
    g_autoptr(ForeBinned) binned = NULL;
    g_autoptr(ForeForest) a = NULL, b = NULL;

    make_rows(x, y);
    binned = fore_binned_new(x, N, 2);
    a = fore_forest_fit(binned, y, &config);
    b = fore_forest_fit(binned, y, &config);
    g_assert_cmpmem(a->node, a->root[60] * sizeof(*a->node), b->node,
                    b->root[60] * sizeof(*b->node));
}

static void test_constant(void)
{
    g_autofree float *x = g_new0(float, 2 * N), *y = g_new(float, N);
    g_autoptr(ForeBinned) binned = NULL;
    g_autoptr(ForeForest) forest = NULL;

    for (unsigned i = 0; i < N; i++) {
        y[i] = 3.0f;
    }
    binned = fore_binned_new(x, N, 2);
    forest = fore_forest_fit(binned, y, &config);
    g_assert_cmpfloat(fore_forest_predict(forest, x), ==, 3.0);
}

static void test_refuses(void)
{
    ForeTreeNode node[] = {{.feature = 0, .left = 1, .value = 0.0f},
                           {.feature = FORE_FOREST_LEAF, .value = 1.0f},
                           {.feature = FORE_FOREST_LEAF, .value = 2.0f}};
    uint32_t root[] = {0, 3};
    ForeForest forest = {.n_feature = 1, .n_tree = 1, .root = root, .node = node};

    g_assert_true(fore_forest_is_valid(&forest));
    node[0].left = 0; /* a walk would never end */
    g_assert_false(fore_forest_is_valid(&forest));
    node[0].left = 2; /* right child outside the tree */
    g_assert_false(fore_forest_is_valid(&forest));
    node[0].left = 1;
    node[0].feature = 1;
    g_assert_false(fore_forest_is_valid(&forest));
    node[0].feature = 0;
    node[1].value = NAN;
    g_assert_false(fore_forest_is_valid(&forest));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/forecast/forest/finds-the-quantile-of-each-side", test_quantile);
    g_test_add_func("/forecast/forest/same-seed-same-forest", test_same);
    g_test_add_func("/forecast/forest/constant-stays-exact", test_constant);
    g_test_add_func("/forecast/forest/refuses-trees-that-do-not-end", test_refuses);
    return g_test_run();
}
