/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A forecast beside what came, as an SVG picture: pure, numbers in, text out. */
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

#define FORE_PLOT_MAX 100000 /* points */

typedef struct {
    const char *title;              /* UTF-8; shown as it is */
    const char *unit;               /* of the values; "bytes" is shown in KiB, MiB, ... */
    const char *ahead;              /* what the forecast is: "5 s ahead" */
    size_t n;                       /* 2..FORE_PLOT_MAX */
    const double *time_s;           /* [n] seconds since 1970 UTC, rising */
    const double *actual;           /* [n] NAN: a gap */
    const double *low, *mid, *high; /* [n] P5, median and P95 that were forecast for that time */
    const double *anomaly;          /* (nullable): [n] score 0..1, NAN: none */
    double anomaly_from;            /* scores from here on are marked */
} ForePlot;

/** fore_plot_svg: Returns: (transfer full): a whole SVG document, the same for the same numbers */
char *fore_plot_svg(const ForePlot *plot);
