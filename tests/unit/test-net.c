/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-net.h"

#include <math.h>

#define STEPS 3
#define BATCH 2

static const ForeNetShape shape = {.hidden = 3, .n_target = 2, .n_level = 3};
static const double level[] = {0.5, 0.9, 0.95};

static ForeNetBatch *some_batch(ForeRandom *rng)
{
    ForeNetBatch *b = fore_net_batch_new(&shape, STEPS, BATCH);

    for (size_t i = 0; i < b->rows * FORE_SERIES_N_FEATURE; i++) {
        b->tape->x[i] = fore_random_normal(rng);
    }
    for (size_t i = 0; i < b->rows * b->at.n_e; i++) {
        b->e[i] = fore_random_normal(rng);
    }
    for (size_t i = 0; i < b->rows * shape.n_target; i++) {
        b->target[i] = 2.0 * fore_random_normal(rng);
        b->weight[i] = i % 4 == 3 ? 0.0 : 0.2 + fore_random_unit(rng);
    }
    return b;
}

/* Double precision, central differences with step 1e-6: their error is about 1e-12 / 1e-6 from
 * rounding and 1e-12 from curvature, so 1e-5 of the largest gradient leaves a factor of ten. The
 * loss has kinks (pinball, relu); at these seeded points none lies within a step. */
static void test_gradient(void)
{
    ForeRandom rng = {.state = 3};
    g_autoptr(ForeNetBatch) b = some_batch(&rng);
    size_t n = b->at.n;
    g_autofree ForeReal *params = g_new(ForeReal, n);
    g_autofree ForeReal *grad = g_new0(ForeReal, n);
    double largest = 0.0;

    fore_net_init(&shape, &rng, params);
    fore_net_batch_loss(b, params, level, 0.0, &rng, grad);
    for (size_t i = 0; i < n; i++) {
        largest = MAX(largest, fabs(grad[i]));
    }
    g_assert_cmpfloat(largest, >, 1e-3);
    for (size_t i = 0; i < n; i += 13) {
        double at = params[i], up, down;

        params[i] = at + 1e-6;
        up = fore_net_batch_loss(b, params, level, 0.0, &rng, NULL);
        params[i] = at - 1e-6;
        down = fore_net_batch_loss(b, params, level, 0.0, &rng, NULL);
        params[i] = at;
        g_assert_cmpfloat(fabs((up - down) / 2e-6 - grad[i]), <, 1e-5 * MAX(largest, 1.0));
    }
}

static void test_step_is_batch(void)
{
    ForeRandom rng = {.state = 5};
    g_autoptr(ForeNetBatch) b = some_batch(&rng);
    g_autofree ForeReal *params = g_new(ForeReal, b->at.n);
    ForeReal h[3] = {0}, c[3] = {0}, q[6];

    fore_net_init(&shape, &rng, params);
    fore_net_batch_loss(b, params, level, 0.0, &rng, NULL);
    for (unsigned t = 0; t < STEPS; t++) {
        size_t row = (size_t)t * BATCH;

        fore_net_step(&shape, params, b->tape->x + row * FORE_SERIES_N_FEATURE,
                      b->e + row * b->at.n_e, h, c, q);
        for (unsigned i = 0; i < shape.n_target; i++) {
            /* the same sums in another order */
            g_assert_cmpfloat(fabs(q[i * 3] - b->v[row * 6 + i * 3]), <, 1e-10);
        }
    }
}

static void test_never_cross(void)
{
    ForeRandom rng = {.state = 7};
    ForeNetLayout at = fore_net_layout(&shape);
    g_autofree ForeReal *params = g_new(ForeReal, at.n);
    ForeReal h[3] = {0}, c[3] = {0}, q[6], x[FORE_SERIES_N_FEATURE];
    g_autofree ForeReal *e = g_new(ForeReal, at.n_e);

    for (size_t i = 0; i < at.n; i++) {
        params[i] = 10.0 * fore_random_normal(&rng);
    }
    for (unsigned t = 0; t < 200; t++) {
        for (unsigned i = 0; i < FORE_SERIES_N_FEATURE; i++) {
            x[i] = 20.0 * fore_random_unit(&rng) - 10.0;
        }
        for (unsigned i = 0; i < at.n_e; i++) {
            e[i] = 20.0 * fore_random_unit(&rng) - 10.0;
        }
        fore_net_step(&shape, params, x, e, h, c, q);
        for (unsigned i = 0; i < 6; i++) {
            g_assert_true(fabs(q[i]) <= 20.0 && (i % 3 == 0 || q[i] >= q[i - 1]));
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/forecast/net/gradient-is-that-of-the-loss", test_gradient);
    g_test_add_func("/forecast/net/a-step-gives-what-the-batch-gives", test_step_is_batch);
    g_test_add_func("/forecast/net/quantiles-never-cross", test_never_cross);
    return g_test_run();
}
