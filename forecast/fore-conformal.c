/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-conformal.h"

#define RATE        0.02
#define MIN_STRETCH (-0.8) /* never onto the median: the width must be able to grow back */
#define MAX_STRETCH 2.0    /* a burst that nothing announces cannot be covered by width */

void fore_conformal_apply(const ForeConformal *conf, unsigned target, unsigned n_level,
                          unsigned median, double *z)
{
    for (unsigned k = 0; k < n_level; k++) {
        if (k != median) {
            z[k] += conf->stretch[target][k] * (z[k] - z[median]);
        }
    }
    for (unsigned k = median + 1; k < n_level; k++) {
        z[k] = MAX(z[k], z[k - 1]);
    }
    for (unsigned k = median; k-- > 0;) {
        z[k] = MIN(z[k], z[k + 1]);
    }
}

void fore_conformal_learn(ForeConformal *conf, unsigned target, unsigned level, double tau,
                          gboolean exceeded)
{
    double *s = &conf->stretch[target][level];
    double wider = (exceeded ? 1.0 : 0.0) - (1.0 - tau);

    /* below the median, wider means lower: exceeded too often is then too wide */
    *s = CLAMP(*s + (tau < 0.5 ? -RATE : RATE) * wider, MIN_STRETCH, MAX_STRETCH);
}
