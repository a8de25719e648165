/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-adam.h"

#include <math.h>

#define BETA1   0.9
#define BETA2   0.99
#define EPSILON 1e-8

ForeAdam *fore_adam_new(size_t n)
{
    ForeAdam *adam = g_new0(ForeAdam, 1);

    adam->n = n;
    adam->m = g_new0(ForeReal, n);
    adam->v = g_new0(ForeReal, n);
    adam->mean = g_new0(ForeReal, n);
    adam->decay = 1e-3;
    adam->clip = 1.0;
    adam->averaging = 0.98;
    return adam;
}

void fore_adam_free(ForeAdam *adam)
{
    if (adam == NULL) {
        return;
    }
    g_free(adam->m);
    g_free(adam->v);
    g_free(adam->mean);
    g_free(adam);
}

bool fore_adam_step(ForeAdam *adam, ForeReal *params, ForeReal *grad, double rate)
{
    double norm2 = 0.0;
    double scale, bias1, bias2, keep;

    for (size_t i = 0; i < adam->n; i++) {
        norm2 += (double)grad[i] * (double)grad[i];
    }
    if (!isfinite(norm2)) {
        return false;
    }
    adam->t++;
    scale = norm2 > adam->clip * adam->clip ? adam->clip / sqrt(norm2) : 1.0;
    bias1 = 1.0 - pow(BETA1, (double)adam->t);
    bias2 = 1.0 - pow(BETA2, (double)adam->t);
    /* a young average is a plain mean, so that the random start is forgotten at once */
    keep = MIN(adam->averaging, 1.0 - 1.0 / (double)adam->t);
    for (size_t i = 0; i < adam->n; i++) {
        double g = (double)grad[i] * scale;
        double m = BETA1 * (double)adam->m[i] + (1.0 - BETA1) * g;
        double v = BETA2 * (double)adam->v[i] + (1.0 - BETA2) * g * g;
        double p = (double)params[i];

        adam->m[i] = (ForeReal)m;
        adam->v[i] = (ForeReal)v;
        p -= rate * ((m / bias1) / (sqrt(v / bias2) + EPSILON) + adam->decay * p);
        params[i] = (ForeReal)p;
        adam->mean[i] = (ForeReal)(keep * (double)adam->mean[i] + (1.0 - keep) * p);
    }
    return true;
}
