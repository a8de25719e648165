/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Built in double precision (dep_forecast_double), so that finite differences mean something: with
 * a step of 1e-5 the truncation error of a central difference is near 1e-10 and its rounding error
 * near 1e-11.
 */
#include <math.h>
#include <string.h>

#include "forecast/fore-adam.h"
#include "forecast/fore-quantile.h"

#define STEPS  6
#define BATCH  3
#define GROUPS 2

static const ForeLstmShape small = {
    .n_in = 5, .n_skip = 2, .n_hidden = 4, .n_out = GROUPS * FORE_N_QUANTILE};

typedef struct {
    ForeLstmTape *tape;
    size_t n;
    ForeReal *params, *grad;
    ForeReal c0[BATCH * 4], h0[BATCH * 4]; /* state before step 0, not zero */
    ForeReal target[STEPS * BATCH * GROUPS], weight[STEPS * BATCH * GROUPS];
    ForeReal dy[STEPS * BATCH * GROUPS * FORE_N_QUANTILE];
} Fixture;

static void fixture_init(Fixture *fx, uint64_t seed)
{
    ForeRandom rng = {.state = seed};

    fx->tape = fore_lstm_tape_new(&small, STEPS, BATCH);
    fx->n = fore_lstm_layout(&small).n;
    fx->params = g_new0(ForeReal, fx->n);
    fx->grad = g_new0(ForeReal, fx->n);
    for (size_t i = 0; i < fx->n; i++) {
        fx->params[i] = 0.5 * fore_random_normal(&rng);
    }
    for (size_t i = 0; i < STEPS * BATCH * small.n_in; i++) {
        fx->tape->x[i] = fore_random_normal(&rng);
    }
    for (size_t i = 0; i < BATCH * 4; i++) {
        fx->c0[i] = 0.5 * fore_random_normal(&rng);
        fx->h0[i] = 0.5 * fore_random_normal(&rng);
    }
    for (size_t i = 0; i < STEPS * BATCH * GROUPS; i++) {
        fx->target[i] = 2.0 * fore_random_normal(&rng);
        fx->weight[i] = i % 5 == 4 ? 0 : 1;
    }
}

static void fixture_done(Fixture *fx)
{
    fore_lstm_tape_free(fx->tape);
    g_free(fx->params);
    g_free(fx->grad);
}

static double loss_of(Fixture *fx, ForeReal *ret_dy)
{
    memcpy(fx->tape->c, fx->c0, sizeof(fx->c0));
    memcpy(fx->tape->h, fx->h0, sizeof(fx->h0));
    fore_lstm_forward(fx->tape, fx->params, STEPS);
    return fore_quantile_loss(fx->tape->y, fx->target, fx->weight, STEPS * BATCH * GROUPS, 1.0,
                              ret_dy);
}

/* Every parameter: recurrent, input, output, skip, biases; through time, head and pinball loss at
 * once. */
static void test_gradient(void)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        const double eps = 1e-5;
        Fixture fx;

        fixture_init(&fx, seed);
        (void)loss_of(&fx, fx.dy);
        fore_lstm_backward(fx.tape, fx.params, STEPS, fx.dy, fx.grad);
        for (size_t i = 0; i < fx.n; i++) {
            ForeReal was = fx.params[i];
            double up, down, numeric;

            fx.params[i] = was + eps;
            up = loss_of(&fx, NULL);
            fx.params[i] = was - eps;
            down = loss_of(&fx, NULL);
            fx.params[i] = was;
            numeric = (up - down) / (2.0 * eps);
            g_assert_cmpfloat_with_epsilon(fx.grad[i], numeric, 1e-7 * (1.0 + fabs(numeric)));
        }
        fixture_done(&fx);
    }
}

static void test_gradient_adds(void)
{
    Fixture fx;
    g_autofree ForeReal *once = NULL;

    fixture_init(&fx, 9);
    (void)loss_of(&fx, fx.dy);
    fore_lstm_backward(fx.tape, fx.params, STEPS, fx.dy, fx.grad);
    once = g_memdup2(fx.grad, fx.n * sizeof(ForeReal));
    (void)loss_of(&fx, fx.dy);
    fore_lstm_backward(fx.tape, fx.params, STEPS, fx.dy, fx.grad);
    for (size_t i = 0; i < fx.n; i++) {
        g_assert_cmpfloat_with_epsilon(fx.grad[i], 2.0 * once[i], 1e-12 * (1.0 + fabs(once[i])));
    }
    fixture_done(&fx);
}

/* The live path (one step, matrix times vector) and the training path (batched) are the same
 * network. */
static void test_step_is_forward(void)
{
    Fixture fx;
    ForeReal scratch[5 * 4], y[GROUPS * FORE_N_QUANTILE];

    fixture_init(&fx, 3);
    (void)loss_of(&fx, NULL);
    for (unsigned b = 0; b < BATCH; b++) {
        ForeReal *h = fx.h0 + b * 4, *c = fx.c0 + b * 4;

        for (unsigned t = 0; t < STEPS; t++) {
            size_t row = (size_t)t * BATCH + b;

            fore_lstm_step(&small, fx.params, fx.tape->x + row * small.n_in, h, c, scratch, y);
            for (unsigned k = 0; k < small.n_out; k++) {
                g_assert_cmpfloat_with_epsilon(y[k], fx.tape->y[row * small.n_out + k], 1e-12);
            }
        }
    }
    fixture_done(&fx);
}

/* Many VMs as one product, and each alone. */
static void test_step_batch(void)
{
    ForeReal scratch[STEPS * 5 * 4], y[STEPS * GROUPS * FORE_N_QUANTILE];
    Fixture fx;

    fixture_init(&fx, 6);
    for (unsigned t = 0; t < STEPS; t++) {
        ForeReal h[BATCH * 4], c[BATCH * 4];
        const ForeReal *x = fx.tape->x + (size_t)t * BATCH * small.n_in;

        memcpy(h, fx.h0, sizeof(h));
        memcpy(c, fx.c0, sizeof(c));
        fore_lstm_step_batch(&small, fx.params, BATCH, x, fx.h0, fx.c0, scratch, y);
        for (unsigned b = 0; b < BATCH; b++) {
            ForeReal one[GROUPS * FORE_N_QUANTILE];

            fore_lstm_step(&small, fx.params, x + b * small.n_in, h + b * 4, c + b * 4, scratch,
                           one);
            for (unsigned k = 0; k < small.n_out; k++) {
                g_assert_cmpfloat_with_epsilon(one[k], y[b * small.n_out + k], 1e-12);
            }
        }
    }
    fixture_done(&fx);
}

/* Outputs from a later step on: as if the loss of the earlier ones were nothing. */
static void test_from(void)
{
    const unsigned first = 4;
    const size_t before = (size_t)first * BATCH * GROUPS;
    g_autofree ForeReal *whole = NULL;
    Fixture fx;

    fixture_init(&fx, 8);
    memset(fx.weight, 0, before * sizeof(ForeReal));
    (void)loss_of(&fx, fx.dy);
    fore_lstm_backward(fx.tape, fx.params, STEPS, fx.dy, fx.grad);
    whole = g_memdup2(fx.grad, fx.n * sizeof(ForeReal));
    memset(fx.grad, 0, fx.n * sizeof(ForeReal));
    for (size_t i = 0; i < before * FORE_N_QUANTILE; i++) {
        fx.tape->y[i] = fx.dy[i] = NAN; /* not to be read, nor written */
    }
    memcpy(fx.tape->c, fx.c0, sizeof(fx.c0));
    memcpy(fx.tape->h, fx.h0, sizeof(fx.h0));
    fore_lstm_forward_from(fx.tape, fx.params, STEPS, first);
    g_assert_true(isnan(fx.tape->y[before * FORE_N_QUANTILE - 1]));
    fore_lstm_backward_from(fx.tape, fx.params, STEPS, first, fx.dy, fx.grad);
    for (size_t i = 0; i < fx.n; i++) {
        g_assert_cmpfloat_with_epsilon(fx.grad[i], whole[i], 1e-12 * (1.0 + fabs(whole[i])));
    }
    fixture_done(&fx);
}

static void test_chunks_carry(void)
{
    Fixture fx;
    ForeReal whole[STEPS * BATCH * GROUPS * FORE_N_QUANTILE];
    size_t half = (size_t)STEPS / 2 * BATCH;

    fixture_init(&fx, 4);
    (void)loss_of(&fx, NULL);
    memcpy(whole, fx.tape->y, sizeof(whole));
    memcpy(fx.tape->c, fx.c0, sizeof(fx.c0));
    memcpy(fx.tape->h, fx.h0, sizeof(fx.h0));
    fore_lstm_forward(fx.tape, fx.params, STEPS / 2);
    fore_lstm_tape_carry(fx.tape, STEPS / 2);
    memmove(fx.tape->x, fx.tape->x + half * small.n_in, half * small.n_in * sizeof(ForeReal));
    fore_lstm_forward(fx.tape, fx.params, STEPS / 2);
    for (size_t i = 0; i < half * small.n_out; i++) {
        g_assert_cmpfloat_with_epsilon(fx.tape->y[i], whole[half * small.n_out + i], 1e-12);
    }
    fixture_done(&fx);
}

static void test_reset(void)
{
    Fixture fx;

    fixture_init(&fx, 5);
    (void)loss_of(&fx, NULL);
    fore_lstm_tape_reset(fx.tape, 1);
    for (unsigned k = 0; k < BATCH * 4; k++) {
        bool zeroed = k / 4 == 1;
        g_assert_true((fx.tape->c[k] == 0) == zeroed && (fx.tape->h[k] == 0) == zeroed);
    }
    fixture_done(&fx);
}

static void test_shape(void)
{
    ForeLstmShape s = small;

    g_assert_true(fore_lstm_shape_is_valid(&s));
    g_assert_cmpuint(fore_lstm_layout(&s).n, ==, 16 * 5 + 16 * 4 + 16 + 10 * 4 + 10 * 2 + 10);
    s.n_skip = 6;
    g_assert_false(fore_lstm_shape_is_valid(&s));
    s = small;
    s.n_hidden = FORE_LSTM_MAX_HIDDEN + 1;
    g_assert_false(fore_lstm_shape_is_valid(&s));
    s.n_hidden = 0;
    g_assert_false(fore_lstm_shape_is_valid(&s));
}

static void test_quantiles_rise(void)
{
    ForeRandom rng = {.state = 11};

    for (unsigned i = 0; i < 20000; i++) {
        ForeReal raw[FORE_N_QUANTILE], q[FORE_N_QUANTILE];

        for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
            raw[k] = 200.0 * fore_random_normal(&rng);
        }
        fore_quantile_from_raw(raw, 1, q);
        for (unsigned k = 1; k < FORE_N_QUANTILE; k++) {
            g_assert_cmpfloat(q[k], >=, q[k - 1]);
        }
    }
}

static void test_to_raw(void)
{
    const double q[FORE_N_QUANTILE] = {-1.0, 0.5, 0.5, 3.0, 40.0};
    ForeReal raw[FORE_N_QUANTILE];

    fore_quantile_to_raw(q, raw);
    fore_quantile_from_raw(raw, 1, raw);
    for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
        /* the gap of 0 was widened to 1e-3 */
        g_assert_cmpfloat_with_epsilon(raw[k], q[k] + (k >= 2 ? 1e-3 : 0.0), 1e-9);
    }
}

/* The constant that minimises the pinball loss over a sample is that sample's quantile. */
static void test_pinball(void)
{
    g_assert_cmpfloat_with_epsilon(fore_quantile_pinball(2.0, 5.0, 0.9), 2.7, 1e-12);
    g_assert_cmpfloat_with_epsilon(fore_quantile_pinball(5.0, 2.0, 0.9), 0.3, 1e-12);
    g_assert_cmpfloat(fore_quantile_pinball(2.0, 2.0, 0.9), ==, 0.0);
    for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
        double best = INFINITY, at = -1.0;

        for (double q = 0.0; q <= 1000.0; q += 1.0) {
            double loss = 0.0;

            for (unsigned y = 1; y < 1000; y++) {
                loss += fore_quantile_pinball(q, y, fore_quantiles[k]);
            }
            at = loss < best ? q : at;
            best = MIN(best, loss);
        }
        g_assert_cmpfloat_with_epsilon(at, 1000.0 * fore_quantiles[k], 1.0);
    }
}

static void test_masked(void)
{
    ForeReal raw[FORE_N_QUANTILE] = {1, 1, 1, 1, 1}, grad[FORE_N_QUANTILE] = {9, 9, 9, 9, 9};
    ForeReal target = NAN, weight = 0;

    g_assert_cmpfloat(fore_quantile_loss(raw, &target, &weight, 1, 1.0, grad), ==, 0.0);
    for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
        g_assert_cmpfloat(grad[k], ==, 0.0);
    }
}

static void test_adam(void)
{
    g_autoptr(ForeAdam) adam = fore_adam_new(2);
    ForeReal p[2] = {3, -2}, g[2];

    adam->decay = 0.0;
    g[0] = 0.1;
    g[1] = -0.7;
    g_assert_true(fore_adam_step(adam, p, g, 0.01));
    /* bias correction makes the first step the rate itself, whatever the gradient (Kingma and
     * Ba, 2.1) */
    g_assert_cmpfloat_with_epsilon(p[0], 2.99, 1e-6);
    g_assert_cmpfloat_with_epsilon(p[1], -1.99, 1e-6);
    for (unsigned i = 0; i < 4000; i++) {
        g[0] = 2.0 * (p[0] - 1.0);
        g[1] = 20.0 * (p[1] - 0.5);
        g_assert_true(fore_adam_step(adam, p, g, 0.01));
    }
    g_assert_cmpfloat_with_epsilon(adam->mean[0], 1.0, 1e-3);
    g_assert_cmpfloat_with_epsilon(adam->mean[1], 0.5, 1e-3);
    g[0] = NAN;
    p[0] = 7.0;
    g_assert_false(fore_adam_step(adam, p, g, 0.01));
    g_assert_cmpfloat(p[0], ==, 7.0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/forecast/lstm/gradients-match-finite-differences", test_gradient);
    g_test_add_func("/forecast/lstm/gradients-add-up", test_gradient_adds);
    g_test_add_func("/forecast/lstm/live-step-is-the-trained-network", test_step_is_forward);
    g_test_add_func("/forecast/lstm/many-vms-are-one-product", test_step_batch);
    g_test_add_func("/forecast/lstm/outputs-may-begin-late", test_from);
    g_test_add_func("/forecast/lstm/chunks-carry-the-state", test_chunks_carry);
    g_test_add_func("/forecast/lstm/reset-clears-one-stream", test_reset);
    g_test_add_func("/forecast/lstm/shapes-are-bounded", test_shape);
    g_test_add_func("/forecast/quantile/never-cross", test_quantiles_rise);
    g_test_add_func("/forecast/quantile/raw-is-the-inverse", test_to_raw);
    g_test_add_func("/forecast/quantile/pinball-is-least-at-the-quantile", test_pinball);
    g_test_add_func("/forecast/quantile/unknown-truth-teaches-nothing", test_masked);
    g_test_add_func("/forecast/adam/reaches-the-minimum-and-refuses-nan", test_adam);
    return g_test_run();
}
