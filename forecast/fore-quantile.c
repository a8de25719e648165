/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-quantile.h"

#include <math.h>

static double softplus(double z)
{
    return z > 20.0 ? z : log1p(exp(z));
}

static double logistic(double z)
{
    return 1.0 / (1.0 + exp(-z));
}

void fore_quantile_from_raw(const ForeReal *raw, size_t n_groups, ForeReal *ret_q)
{
    for (size_t g = 0; g < n_groups; g++) {
        const ForeReal *z = raw + g * FORE_N_QUANTILE;
        ForeReal *q = ret_q + g * FORE_N_QUANTILE;

        q[0] = z[0];
        for (unsigned k = 1; k < FORE_N_QUANTILE; k++) {
            q[k] = q[k - 1] + (ForeReal)softplus((double)z[k]);
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
    double q = (double)z[0];
    double loss = 0.0;
    double tail = 0.0;

    for (unsigned k = 0; k < FORE_N_QUANTILE; k++) {
        q += k > 0 ? softplus((double)z[k]) : 0.0;
        loss += fore_quantile_pinball(q, y, fore_quantiles[k]);
        dq[k] = (y < q ? 1.0 : 0.0) - fore_quantiles[k];
    }
    if (grad != NULL) {
        /* z_k moves q_k and every quantile above it */
        for (unsigned k = FORE_N_QUANTILE; k-- > 0;) {
            tail += dq[k];
            grad[k] = (ForeReal)(factor * tail * (k > 0 ? logistic((double)z[k]) : 1.0));
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
