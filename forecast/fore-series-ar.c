/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ridge regression of every target on 14 lags, three smoothed levels, the mean, and the seasons,
 * all as asinh(difference from now / scale): a spike then bends the fit by its logarithm, not by
 * its square.  The sums of products are decayed and kept, so a refit is one Cholesky factor (28 x
 * 28) every 12 steps, whatever the length of the past.
 */
#include <string.h>

#include "forecast/fore-series-private.h"

#define REFIT_STEPS 12
#define FORGETTING  (1.0 - 1.0 / 4000.0)
#define RIDGE       0.02 /* relative to each regressor's own sum of squares */
#define RIDGE_FLAT  2.0  /* as if so many samples of size 1 had said zero */

static void regressors(const ForeSeries *s, double x[N_AR])
{
    double cycle[2], day[3];
    double now = s->last;
    unsigned n = 0;
    unsigned last = s->config.n_target - 1;
    int64_t phase = ((s->t0 / s->config.step_s + s->k) % s->cycle + s->cycle) % s->cycle;

    for (int64_t j = 1; j <= 14; j++) {
        x[n++] = value_at(s, s->k - j);
    }
    for (unsigned i = 0; i < 3; i++) {
        x[n++] = s->ewma[i];
    }
    x[n++] = s->mean;
    for (unsigned i = 0; i < 3; i++) {
        day[i] = fore_series_season(s, i * last / 2, 1);
        x[n++] = isnan(day[i]) ? s->ewma[2] : day[i];
    }
    for (unsigned i = 0; i < 3; i++) {
        x[n++] = s->point[s->k % ORIGINS][FORE_MEMBER_DAYS][i * last / 2];
    }
    for (unsigned i = 0; i < 2; i++) {
        cycle[i] = s->k < s->cycle ? s->ewma[1] : s->profile[(phase + 1 + 5 * i) % s->cycle];
        x[n++] = cycle[i];
    }
    x[n++] =
        s->day > 0 && is_remembered(s, s->k - s->day) ? value_at(s, s->k - s->day) : s->ewma[2];
    for (unsigned i = 0; i < n; i++) {
        x[i] = asinh((x[i] - now) / s->scale);
    }
    x[n++] = 1.0;
    g_assert(n == N_AR);
}

/* @ridged: lower half, replaced by its Cholesky factor. */
static void factor(double a[N_AR][N_AR])
{
    for (unsigned i = 0; i < N_AR; i++) {
        for (unsigned j = 0; j <= i; j++) {
            double v = a[i][j];

            for (unsigned k = 0; k < j; k++) {
                v -= a[i][k] * a[j][k];
            }
            a[i][j] = i == j ? sqrt(MAX(v, 1e-9)) : v / a[j][j];
        }
    }
}

static void solve(const double l[N_AR][N_AR], const double *b, double *x)
{
    double z[N_AR] = {0.0};

    for (unsigned i = 0; i < N_AR; i++) {
        double v = b[i];

        for (unsigned k = 0; k < i; k++) {
            v -= l[i][k] * z[k];
        }
        z[i] = v / l[i][i];
    }
    for (unsigned i = N_AR; i-- > 0;) {
        double v = z[i];

        for (unsigned k = i + 1; k < N_AR; k++) {
            v -= l[k][i] * x[k];
        }
        x[i] = v / l[i][i];
    }
}

static void refit(ForeSeries *s)
{
    double l[N_AR][N_AR];

    for (unsigned i = 0; i < N_AR; i++) {
        memcpy(l[i], s->ar.gram[i], sizeof(l[i]));
        l[i][i] += RIDGE * l[i][i] + RIDGE_FLAT;
    }
    factor(l);
    for (unsigned t = 0; t < s->config.n_target; t++) {
        solve(l, s->ar.moment[t], s->ar.weight[t]);
    }
    s->ar.fitted = true;
}

void fore_series_ar_learn(ForeSeries *s)
{
    int64_t origin = s->k - FORE_SERIES_MAX_LAG;
    const double *x = s->ar.x[origin % ORIGINS];
    double scale = s->ar.scale[origin % ORIGINS];

    if (s->usable[origin & RING_MASK]) {
        for (unsigned i = 0; i < N_AR; i++) {
            for (unsigned j = 0; j <= i; j++) {
                s->ar.gram[i][j] = FORGETTING * s->ar.gram[i][j] + x[i] * x[j];
            }
        }
        for (unsigned t = 0; t < s->config.n_target; t++) {
            double truth = (double)s->truth[t * FORE_SERIES_RING + (origin & RING_MASK)];
            double y = asinh((truth - value_at(s, origin)) / scale);

            for (unsigned i = 0; i < N_AR; i++) {
                s->ar.moment[t][i] = FORGETTING * s->ar.moment[t][i] + y * x[i];
            }
        }
    }
    if (s->k % REFIT_STEPS == 0 && s->k >= 2 * FORE_SERIES_MAX_LAG) {
        refit(s);
    }
}

void fore_series_ar_point(ForeSeries *s, double *ret_point)
{
    double *x = s->ar.x[s->k % ORIGINS];

    regressors(s, x);
    s->ar.scale[s->k % ORIGINS] = s->scale;
    for (unsigned t = 0; t < s->config.n_target; t++) {
        double y = 0.0;

        for (unsigned i = 0; s->ar.fitted && i < N_AR; i++) {
            y += s->ar.weight[t][i] * x[i];
        }
        /* nothing goes beyond twice what was ever seen, whatever the fit says */
        ret_point[t] = CLAMP(s->last + sinh(CLAMP(y, -20.0, 20.0)) * s->scale, 0.0, 2.0 * s->peak);
    }
}
