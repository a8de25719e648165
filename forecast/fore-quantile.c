/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-quantile.h"

#include <math.h>

#include "forecast/fore-kernel.h"

G_STATIC_ASSERT(FORE_KERNEL_QUANTILES == FORE_N_QUANTILE);

#define AT_ONCE 64 /* groups */

void fore_quantile_from_raw(const ForeReal *raw, size_t n_groups, ForeReal *ret_q)
{
    ForeReal up[AT_ONCE * FORE_N_QUANTILE];

    for (size_t at = 0; at < n_groups; at += AT_ONCE) {
        size_t n = MIN(AT_ONCE, n_groups - at);
        const ForeReal *z = raw + at * FORE_N_QUANTILE;
        ForeReal *q = ret_q + at * FORE_N_QUANTILE;

        fore_kernel()->softplus(n * FORE_N_QUANTILE, z, up);
        for (size_t g = 0; g < n * FORE_N_QUANTILE; g += FORE_N_QUANTILE) {
            q[g] = z[g];
            for (unsigned k = 1; k < FORE_N_QUANTILE; k++) {
                q[g + k] = q[g + k - 1] + up[g + k];
            }
        }
    }
}

void fore_quantile_to_raw(const double *q, ForeReal *ret_raw)
{
    ret_raw[0] = (ForeReal)q[0];
    for (unsigned k = 1; k < FORE_N_QUANTILE; k++) {
        double gap = MAX(q[k] - q[k - 1], 1e-3);

        ret_raw[k] = (ForeReal)(gap > 20.0 ? gap : log(expm1(gap)));
    }
}

double fore_quantile_pinball(double q, double y, double tau)
{
    return y >= q ? tau * (y - q) : (tau - 1.0) * (y - q);
}

double fore_quantile_loss(const ForeReal *raw, const ForeReal *target, const ForeReal *weight,
                          size_t n_groups, double grad_factor, ForeReal *ret_grad)
{
    return fore_kernel()->quantile_loss(n_groups, fore_quantiles, raw, target, weight, grad_factor,
                                        ret_grad);
}
