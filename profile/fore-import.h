/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * Series from elsewhere: CSV ("timestamp_s,cpu_cores,mem_bytes,...": seconds, a column a metric, an
 * empty cell is a gap) and the answer of Prometheus' range query.  Both are hostile bytes: bounded,
 * and nothing is told after the first error.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FORE_IMPORT_LINE    65536                           /* bytes of a CSV line */
#define FORE_IMPORT_COLUMNS 64                              /* metrics of a CSV file */
#define FORE_IMPORT_JSON    (G_GUINT64_CONSTANT(256) << 20) /* bytes of a Prometheus answer */
#define FORE_IMPORT_SERIES  16384                           /* in one */

/** ForeImportFn: one value; @vm is NULL in CSV.  Returns: false with @error to stop */
typedef bool (*ForeImportFn)(const char *vm, const char *metric, int64_t t_ms, double value,
                             gpointer data, GError **error);

/** fore_import_name: @text as a name (fore_name_is_valid): others become '_', cut with a checksum
 * when too long.  @ret: (out caller-allocates): [FORE_NAME_MAX + 1] */
void fore_import_name(const char *text, char *ret);

typedef struct ForeImportCsv ForeImportCsv;
ForeImportCsv *fore_import_csv_new(ForeImportFn fn, gpointer data);
void fore_import_csv_free(ForeImportCsv *csv);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ForeImportCsv, fore_import_csv_free)
/**
 * fore_import_csv_feed: the next @size bytes of the file, cut anywhere
 * Errors: FORE_ERROR_INVALID (names line, column and text), FORE_ERROR_LIMIT; those of the callback
 */
bool fore_import_csv_feed(ForeImportCsv *csv, const char *bytes, size_t size, GError **error);
/** fore_import_csv_end: the last line may have no newline */
bool fore_import_csv_end(ForeImportCsv *csv, GError **error);

/**
 * fore_import_prometheus: {"status": "success", "data": {"resultType": "matrix", "result": [...]}}
 * @vm_label: label whose value names the VM, e.g. "domain"
 * @fallback_vm: for series without it; NULL: that is an error
 * The metric is __name__ and, where there are more labels, ".LABEL_VALUE" of each; NaN and infinite
 * values are gaps.
 * Errors: FORE_ERROR_INVALID, FORE_ERROR_LIMIT; those of the callback
 */
bool fore_import_prometheus(const char *text, size_t size, const char *vm_label,
                            const char *fallback_vm, ForeImportFn fn, gpointer data,
                            GError **error);
