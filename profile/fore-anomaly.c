/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works
 *
 * An exponentially weighted mean and variance say what is usual.  A value's residual is
 * standardised with them before they learn from it; a short exponentially weighted mean of the
 * residuals follows the recent past, so that a lasting small shift counts like a short large one
 * (after the anomaly likelihood of Ahmad and others, Neurocomputing 262, 2017, section 3.2).  Of
 * independent standard normal residuals that short mean has variance w / (2 - w) for weight w; the
 * score is the logarithm of the two-sided normal tail of whichever is rarer, the value alone or the
 * short mean, 1e-10 being 1.
 *
 * Learning clips a residual at CLIP deviations: one wild value neither hides the next nor moves the
 * mean far, and a new level is still learned in a few half-lives.
 */
#include "profile/fore-anomaly.h"

#include <glib.h>
#include <math.h>
#include <stdio.h>

#define CLIP         4.0
#define TAIL_DECADES 10.0 /* decades of probability from score 0 to score 1 */

void fore_anomaly_init(ForeAnomaly *a, const ForeAnomalyConfig *config)
{
    g_assert(config->half_life > 0 && config->short_life > 0 && config->floor_scale > 0);
    *a = (ForeAnomaly){.config = *config};
}

static double weight_of(double half_life)
{
    return 1.0 - exp2(-1.0 / half_life);
}

/* Score of |z| standard deviations: 0 at 0, 1 from 1e-10 on */
static double tail_score(double z)
{
    double p = erfc(fabs(z) / M_SQRT2);

    if (!(p > 0)) {
        return 1.0;
    }
    return CLAMP(-log10(p) / TAIL_DECADES, 0.0, 1.0);
}

static void learn(ForeAnomaly *a, double value, double sd)
{
    /* Until the window is full all values count alike: 1/n instead of the steady weight. */
    double w = fmax(weight_of(a->config.half_life), 1.0 / (double)(a->n + 1));
    double diff = value - a->mean;

    if (a->n >= a->config.warm_up) {
        diff = CLAMP(diff, -CLIP * sd, CLIP * sd);
    }
    a->mean += w * diff;
    a->var = (1.0 - w) * (a->var + w * diff * diff);
    a->n++;
}

double fore_anomaly_score(ForeAnomaly *a, double value)
{
    double w = weight_of(a->config.short_life);
    double sd, z, alone, lasting;
    bool warm = a->n >= a->config.warm_up && a->n > 0;

    if (!isfinite(value) || fabs(value) > 1e150) { /* squares must stay finite */
        return 0.0;
    }
    sd = fmax(sqrt(a->var), a->config.floor_scale);
    z = a->n > 0 ? (value - a->mean) / sd : 0.0;
    a->last_value = value;
    a->last_mean = a->mean;
    a->last_sd = sd;
    learn(a, value, sd);
    if (!warm) {
        return 0.0;
    }
    a->recent += w * (CLAMP(z, -CLIP, CLIP) - a->recent);
    alone = tail_score(z);
    lasting = tail_score(a->recent / sqrt(w / (2.0 - w)));
    return fmax(alone, lasting);
}

void fore_anomaly_reason(const ForeAnomaly *a, const char *what, char *ret, size_t size)
{
    double z = a->last_sd > 0 ? (a->last_value - a->last_mean) / a->last_sd : 0.0;
    double recent =
        a->recent / sqrt(weight_of(a->config.short_life) / (2.0 - weight_of(a->config.short_life)));

    if (fabs(recent) > fabs(z)) {
        snprintf(ret, size, "%s has been %s its usual %.3g for a while (now %.3g, %.1f deviations)",
                 what, recent > 0 ? "above" : "below", a->last_mean, a->last_value, fabs(recent));
    } else {
        snprintf(ret, size, "%s is %.3g, %.1f deviations %s its usual %.3g", what, a->last_value,
                 fabs(z), z >= 0 ? "above" : "below", a->last_mean);
    }
}
