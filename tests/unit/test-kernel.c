/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each kind of kernel that this CPU runs, against libm in double precision and against the plain
 * kind.  Tolerances: single precision has 6e-8; a formula of ten operations on values of order 1
 * may lose a few of these.
 */
#include "forecast/fore-kernel.h"

#include <math.h>
#include <string.h>

#include "common/fore-flow.h"

#define N_HIDDEN 37 /* no multiple of any vector */
#define N_ROWS   5
#define N_CELLS  ((size_t)N_HIDDEN * N_ROWS)

static void fill(ForeRandom *rng, ForeReal *at, size_t n, double sd)
{
    for (size_t i = 0; i < n; i++) {
        at[i] = (ForeReal)(sd * fore_random_normal(rng));
    }
}

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static void test_softplus(void)
{
    for (unsigned i = 0; fore_kernel_nth(i) != NULL; i++) {
        for (double z = -120.0; z < 120.0; z += 0.0137) {
            ForeReal in = (ForeReal)z, out;
            double want = (z > 0.0 ? z : 0.0) + log1p(exp(-fabs((double)in)));

            fore_kernel_nth(i)->softplus(1, &in, &out);
            /* relative: far below 0 the value is e^z, whose exponent has an error of 87 * 6e-8 */
            g_assert_cmpfloat_with_epsilon((double)out, want, 1e-37 + 1e-5 * want);
        }
    }
}

static void test_cell_forward(void)
{
    for (unsigned i = 0; fore_kernel_nth(i) != NULL; i++) {
        ForeRandom rng = {.state = 3};
        ForeReal bias[4 * N_HIDDEN], gates[4 * N_CELLS], a[4 * N_CELLS];
        ForeReal c_prev[N_CELLS], c[N_CELLS], tc[N_CELLS], h[N_CELLS];

        fill(&rng, bias, 4 * N_HIDDEN, 1.0);
        fill(&rng, gates, 4 * N_CELLS, 4.0);
        fill(&rng, c_prev, N_CELLS, 1.0);
        memcpy(a, gates, sizeof(a));
        fore_kernel_nth(i)->cell_forward(N_HIDDEN, N_ROWS, bias, gates, c_prev, c, tc, h);
        for (size_t j = 0; j < N_CELLS; j++) {
            const ForeReal *at = a + j / N_HIDDEN * 4 * N_HIDDEN + j % N_HIDDEN;
            const ForeReal *b = bias + j % N_HIDDEN;
            double in = sigmoid((double)at[0] + (double)b[0]);
            double forget = sigmoid((double)at[N_HIDDEN] + (double)b[N_HIDDEN]);
            double g = tanh((double)at[2 * N_HIDDEN] + (double)b[2 * N_HIDDEN]);
            double out = sigmoid((double)at[3 * N_HIDDEN] + (double)b[3 * N_HIDDEN]);
            double state = forget * (double)c_prev[j] + in * g;

            g_assert_cmpfloat_with_epsilon((double)c[j], state, 2e-6);
            g_assert_cmpfloat_with_epsilon((double)tc[j], tanh(state), 2e-6);
            g_assert_cmpfloat_with_epsilon((double)h[j], out * tanh(state), 2e-6);
        }
    }
}

/* The kinds differ only by fused multiply-add. */
static void test_kinds_agree(void)
{
    unsigned plain = 0;
    ForeRandom rng = {.state = 9};
    ForeReal gates[4 * N_CELLS], c_prev[N_CELLS], tc[N_CELLS], dh[N_CELLS], dc[N_CELLS];

    while (fore_kernel_nth(plain + 1) != NULL) {
        plain++;
    }
    fill(&rng, gates, 4 * N_CELLS, 0.5);
    fill(&rng, c_prev, N_CELLS, 1.0);
    fill(&rng, tc, N_CELLS, 0.5);
    fill(&rng, dh, N_CELLS, 1.0);
    fill(&rng, dc, N_CELLS, 1.0);
    for (unsigned i = 0; i < plain; i++) {
        ForeReal g[2][4 * N_CELLS], d[2][N_CELLS], sum[2][4 * N_HIDDEN] = {{0}};

        for (unsigned k = 0; k < 2; k++) {
            ForeKernelBack at = {g[k], c_prev, tc, dh, d[k], sum[k]};

            memcpy(g[k], gates, sizeof(gates));
            memcpy(d[k], dc, sizeof(dc));
            fore_kernel_nth(k == 0 ? i : plain)->cell_backward(N_HIDDEN, N_ROWS, &at);
        }
        for (size_t j = 0; j < 4 * N_CELLS; j++) {
            g_assert_cmpfloat_with_epsilon((double)g[0][j], (double)g[1][j], 1e-5);
        }
        for (size_t j = 0; j < N_CELLS; j++) {
            g_assert_cmpfloat_with_epsilon((double)d[0][j], (double)d[1][j], 1e-5);
        }
        for (size_t j = 0; j < 4 * N_HIDDEN; j++) {
            g_assert_cmpfloat_with_epsilon((double)sum[0][j], (double)sum[1][j], 1e-4);
        }
    }
}

/* Sizes around the block of the kernel; the last groups are as good as the first. */
static void test_quantile_loss(void)
{
    static const size_t sizes[] = {1, 63, 64, 65, 200};

    for (unsigned i = 0; fore_kernel_nth(i) != NULL; i++) {
        for (unsigned s = 0; s < G_N_ELEMENTS(sizes); s++) {
            ForeRandom rng = {.state = s + 1};
            ForeReal raw[200 * FORE_N_QUANTILE], grad[200 * FORE_N_QUANTILE], y[200], w[200];
            double want = 0.0, loss;

            fill(&rng, raw, sizes[s] * FORE_N_QUANTILE, 2.0);
            fill(&rng, y, sizes[s], 3.0);
            for (size_t g = 0; g < sizes[s]; g++) {
                double q = 0.0;

                w[g] = g % 7 == 6 ? 0 : (ForeReal)0.5;
                for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
                    double z = (double)raw[g * FORE_N_QUANTILE + k], e;

                    q += k == 0 ? z : (z > 0.0 ? z : 0.0) + log1p(exp(-fabs(z)));
                    e = (double)y[g] - q;
                    want += (double)w[g] *
                            (e < 0.0 ? (fore_quantiles[k] - 1.0) * e : fore_quantiles[k] * e);
                }
                y[g] = w[g] > 0 ? y[g] : (ForeReal)NAN;
            }
            loss =
                fore_kernel_nth(i)->quantile_loss(sizes[s], fore_quantiles, raw, y, w, 1.0, grad);
            g_assert_cmpfloat_with_epsilon(loss, want, 1e-5 * (1.0 + want));
            for (size_t k = 0; k < sizes[s] * FORE_N_QUANTILE; k++) {
                g_assert_true(w[k / FORE_N_QUANTILE] > 0 ? isfinite(grad[k]) : grad[k] == 0);
            }
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_message("this CPU runs: %s", fore_kernel()->name);
    g_test_add_func("/forecast/kernel/softplus-is-that-of-libm", test_softplus);
    g_test_add_func("/forecast/kernel/cells-follow-the-formulas", test_cell_forward);
    g_test_add_func("/forecast/kernel/all-kinds-agree", test_kinds_agree);
    g_test_add_func("/forecast/kernel/pinball-of-any-number-of-groups", test_quantile_loss);
    return g_test_run();
}
