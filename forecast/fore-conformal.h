/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Coverage as promised: after each truth a quantile moves a little away from the median when it was
 * exceeded, a little towards it when it was not, so that in the long run it is exceeded exactly as
 * often as it says, whatever the process does.
 * Adaptive conformal inference: Gibbs and Candes, NeurIPS 2021, equation 2; here on the distance
 * from the median instead of on the level.
 */
#include <glib.h>

#include "forecast/fore-series.h"

typedef struct {
    double stretch[FORE_SERIES_MAX_TARGET][FORE_SERIES_MAX_LEVEL]; /* share of the distance */
} ForeConformal;

/**
 * fore_conformal_apply: stretch one target's quantiles about the median
 * @z: (inout): [n_level], rising; rising afterwards
 * @median: index of the level nearest to 0.5
 */
void fore_conformal_apply(const ForeConformal *conf, unsigned target, unsigned n_level,
                          unsigned median, double *z);
/** fore_conformal_learn: @exceeded: the truth was above quantile @level of @target, which says that
 * this happens with probability 1 - @tau */
void fore_conformal_learn(ForeConformal *conf, unsigned target, unsigned level, double tau,
                          gboolean exceeded);
