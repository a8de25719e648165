/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A folder of recorded traces as text in memory: index.tsv (one trace a line: name, file, step,
 * times) and one CSV a trace, "timestamp_s,cpu_cores,mem_bytes,net_rx_bps,net_tx_bps" with columns
 * and rows left out where nothing was recorded.  Reading files is the caller's.  All of it is
 * hostile: sizes, counts and numbers are bounded, an error names the line.
 */
#include "forecast/fore-series.h"

#define FORE_SPLIT_MAX_TRACES  100000
#define FORE_SPLIT_MAX_SAMPLES (1u << 22)   /* of one trace */
#define FORE_SPLIT_MAX_TEXT    (256u << 20) /* bytes of one file, unpacked */

extern const char *const fore_split_metric_names[FORE_SERIES_METRICS];

typedef struct {
    char *name;                         /* "set/vm": printable, no comma, quote or newline */
    char *file;                         /* relative, without ".." */
    uint32_t step_s;                    /* 1..86400 */
    int64_t first_s;                    /* time of sample 0 */
    size_t n;                           /* samples on the grid, 1..FORE_SPLIT_MAX_SAMPLES */
    size_t n_before;                    /* samples before the test part, 0..n */
    unsigned stride;                    /* steps between forecasts of the test part, at least 1 */
    unsigned metrics;                   /* bit mask of the columns there are */
    double *value[FORE_SERIES_METRICS]; /* [n] or NULL; NAN is a gap */
} ForeTrace;

void fore_trace_free(ForeTrace *trace);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeTrace, fore_trace_free)

/**
 * fore_split_read_index: the traces that @text names, without their samples
 * Returns: (transfer full) (element-type ForeTrace): in the order of the file
 * Errors: FORE_ERROR_INVALID (line and reason)
 */
GPtrArray *fore_split_read_index(const char *text, size_t size, GError **error);
/**
 * fore_split_read_csv: the samples of @trace (once)
 * Errors: FORE_ERROR_INVALID (line and reason); @trace may then hold part of the samples
 */
bool fore_split_read_csv(ForeTrace *trace, const char *text, size_t size, GError **error);
