/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * The anomalies of one VM as they come: fore-anomaly.h by the second, fore-detect.h by the minute,
 * fore-pattern.h on usage and execution together, gathered into episodes.  Pure: no I/O, no clock;
 * fixed memory; fed once a sample.
 */
#include <glib.h>
#include <stdbool.h>

#include "common/fore-flow.h"

#define FORE_WATCH_QUIET_MS                                                                        \
    (5 * 60 * 1000) /* an episode ends after so long without a sign of it                          \
                     */

/* An unusual stretch.  At most one is open for each source and metric. */
typedef struct {
    const char *source; /* "second", "minute" or "pattern" */
    const char *metric; /* a name of fore_field_names; "" for the pattern, which is over several */
    bool open;
    int64_t from_ms, to_ms; /* UTC ms; first and newest sign of it */
    double score;           /* 0..1, the highest so far */
    char reason[256];       /* of that score, UTF-8 */
    int64_t id;             /* the caller's, 0 at first: where it is recorded */
} ForeWatchEpisode;

/**
 * ForeWatchFn: @episode opened (open, from_ms == to_ms) or ended (not open)
 * It may set @episode->id; all else is borrowed.
 */
typedef void (*ForeWatchFn)(ForeWatchEpisode *episode, gpointer data);

typedef struct ForeWatch ForeWatch;

/** fore_watch_new: a VM without a past (transfer full) */
ForeWatch *fore_watch_new(void);
void fore_watch_free(ForeWatch *w);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeWatch, fore_watch_free)

/**
 * fore_watch_step: judge one sample
 * @sample: mono_ns grows from one call to the next; missing fields are gaps
 * @net_bps: [2] bits per second in and out, NAN where not measured; or NULL
 * @fn: called for each episode that opens or ends
 */
void fore_watch_step(ForeWatch *w, const ForeSample *sample, const double *net_bps, ForeWatchFn fn,
                     gpointer data);

/** fore_watch_is_odd: is any episode open? */
bool fore_watch_is_odd(const ForeWatch *w);
/** fore_watch_flush: end what is open (the VM goes away, the daemon stops) */
void fore_watch_flush(ForeWatch *w, ForeWatchFn fn, gpointer data);
