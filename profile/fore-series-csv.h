/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * One line of a `timestamp,value` file, the form of the Numenta Anomaly Benchmark.  Pure text: what
 * is read keeps pointing into the line, so that it can be written again letter for letter.
 */
#include <glib.h>
#include <stdbool.h>

#define FORE_SERIES_LINE_MAX 1024 /* bytes of a line without its end */

typedef struct {
    const char *stamp, *text; /* the two cells, as written; into the line, not NUL-terminated */
    size_t stamp_len, text_len;
    double time_s; /* seconds since 1970 UTC */
    double value;  /* NAN: empty, "nan" or "null": a gap */
} ForeSeriesLine;

/**
 * fore_series_head_check: is @line the head of such a file?
 * @line: NUL-terminated, without the end of the line; further columns may follow the first two
 * Errors: FORE_ERROR_INVALID
 */
bool fore_series_head_check(const char *line, GError **error);

/**
 * fore_series_line_parse: one line of data
 * @line: as above; stays borrowed by @ret
 * Stamps: "YYYY-MM-DD HH:MM[:SS[.fraction]]" with ' ' or 'T' between and perhaps a 'Z', or seconds.
 * Columns after the second are passed over.
 * Errors: FORE_ERROR_INVALID, naming what it found and what belongs there
 */
bool fore_series_line_parse(const char *line, ForeSeriesLine *ret, GError **error);
