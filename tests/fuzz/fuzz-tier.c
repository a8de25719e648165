/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A block of a tier from hostile bytes: whatever it accepts keeps what every reader relies on. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "profile/fore-rollup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_point(const ForeTierPoint *p)
{
    ForeTierPoint sum;
    double before = -INFINITY;

    g_assert(p->n >= 1 && p->min <= p->mean && p->mean <= p->max);
    for (double q = 0; q <= 1; q += 0.125) {
        double v = fore_tier_point_quantile(p, q);

        g_assert(v >= p->min && v <= p->max && v >= before);
        before = v;
    }
    fore_tier_point_init(&sum, 0);
    fore_tier_point_merge(&sum, p);
    fore_tier_point_merge(&sum, p);
    fore_tier_point_add(&sum, p->min);
    g_assert(isfinite(sum.mean) && sum.sketch.used <= FORE_TIER_BUCKETS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ForeTierPoint *points = g_new(ForeTierPoint, FORE_TIER_BLOCK);
    ForeRunning running[4];
    size_t n = 0;

    if (fore_tier_unpack(data, size, points, &n, NULL)) {
        for (size_t i = 0; i < n; i++) {
            check_point(&points[i]);
        }
    }
    (void)fore_running_unpack(data, size, running, 4);
    g_free(points);
    return 0;
}
