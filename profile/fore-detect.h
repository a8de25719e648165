/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Is this value unusual for its series?  One streaming detector for any series: no parameter, no
 * unit, no I/O and no clock; a score depends on the values up to it only, and the memory of a
 * series is fixed.  For values a second to an hour apart that have a past of hours or days; what
 * must be seen within seconds of a start is fore-anomaly.h's.
 */
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

#define FORE_DETECT_ALARM 0.5 /* scores from here on are alarms, below they are not */

typedef struct ForeDetect ForeDetect;

/** fore_detect_new: a series without a past (transfer full); fore_detect_bytes() large */
ForeDetect *fore_detect_new(void);
void fore_detect_free(ForeDetect *d);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeDetect, fore_detect_free)

/**
 * fore_detect_score: judge @value by its past, then learn from it
 * @time_s: of the value, seconds since any midnight (UTC or local) before it; not finite: the
 *     time of day is unknown and plays no part
 * @value: in the series' unit; not finite or beyond 1e30: a gap, nothing is learned
 * Returns: 0 (usual) .. below 1; from FORE_DETECT_ALARM on an alarm.  An incident alarms when it
 *     is seen and again when it grows, not for as long as it lasts.
 */
double fore_detect_score(ForeDetect *d, double time_s, double value);

/**
 * fore_detect_reason: why the last value was scored so, in words
 * @what: name of the series, e.g. "cpu"   @ret: (out caller-allocates): [size], NUL-terminated
 */
void fore_detect_reason(const ForeDetect *d, const char *what, char *ret, size_t size);

/** fore_detect_bytes: memory of one series, whatever it has seen */
size_t fore_detect_bytes(void);
