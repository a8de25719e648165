/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-quantile.h"

#include <math.h>

#ifdef FORE_REAL_DOUBLE
#define exp_of   exp
#define log1p_of log1p
#else
#define exp_of   expf
#define log1p_of log1pf
#endif

/* softplus(z) = log(1 + e^z), and its derivative; both from one exponential that cannot overflow */
static inline ForeReal softplus(ForeReal z, ForeReal *ret_slope)
{
    ForeReal e = exp_of(z < 0 ? z : -z);

    *ret_slope = (z < 0 ? e : 1) / (1 + e);
    return (z < 0 ? 0 : z) + log1p_of(e);
}

void fore_quantile_from_raw(const ForeReal *raw, size_t n_groups, ForeReal *ret_q)
{
    for (size_t g = 0; g < n_groups; g++) {
        const ForeReal *z = raw + g * FORE_N_QUANTILE;
        ForeReal *q = ret_q + g * FORE_N_QUANTILE;
        ForeReal slope;

        q[0] = z[0];
        for (unsigned k = 1; k < FORE_N_QUANTILE; k++) {
            q[k] = q[k - 1] + softplus(z[k], &slope);
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

/* One group; returns its loss, *grad gets d loss / d z times @factor. */
static double group_loss(const ForeReal *z, double y, double factor, ForeReal *grad)
{
    double dq[FORE_N_QUANTILE];
    ForeReal slope[FORE_N_QUANTILE] = {1};
    double q = (double)z[0];
    double loss = 0.0;
    double tail = 0.0;

    for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
        q += k > 0 ? (double)softplus(z[k], &slope[k]) : 0.0;
        loss += fore_quantile_pinball(q, y, fore_quantiles[k]);
        dq[k] = (y < q ? 1.0 : 0.0) - fore_quantiles[k];
    }
    if (grad != NULL) {
        /* z_k moves q_k and every quantile above it */
        for (unsigned k = FORE_N_QUANTILE; k-- > 0;) {
            tail += dq[k];
            grad[k] = (ForeReal)(factor * tail * (double)slope[k]);
        }
    }
    return loss;
}

double fore_quantile_loss(const ForeReal *raw, const ForeReal *target, const ForeReal *weight,
                          size_t n_groups, double grad_factor, ForeReal *ret_grad)
{
    double loss = 0.0;

    for (size_t g = 0; g < n_groups; g++) {
        double w = (double)weight[g];
        ForeReal *grad = ret_grad != NULL ? ret_grad + g * FORE_N_QUANTILE : NULL;

        if (w > 0.0) {
            loss +=
                w * group_loss(raw + g * FORE_N_QUANTILE, (double)target[g], grad_factor * w, grad);
        } else if (grad != NULL) {
            for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
                grad[k] = 0;
            }
        }
    }
    return loss;
}
