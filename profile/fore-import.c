/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "profile/fore-import.h"

#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "common/fore-flow.h"
#include "common/fore-json.h"

#define MAX_SECONDS 253402300800.0 /* year 10000 */
#define MAX_LABELS  64

static bool refuse(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

static bool refuse(GError **error, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, FORE_ERROR, FORE_ERROR_INVALID, text);
    return false;
}

void fore_import_name(const char *text, char *ret)
{
    size_t n = strlen(text);
    guint hash = g_str_hash(text);

    g_strlcpy(ret, n > 0 ? text : "_", FORE_NAME_MAX + 1);
    if (n > FORE_NAME_MAX) {
        g_snprintf(ret + FORE_NAME_MAX - 9, 10, "_%08x", hash);
    }
    for (char *c = ret; *c != '\0'; c++) {
        if (!g_ascii_isalnum(*c) && strchr("._-", *c) == NULL) {
            *c = '_';
        }
    }
    if (ret[0] == '.' || ret[0] == '-') {
        ret[0] = '_';
    }
}

/* A number that fills @text. Returns: false: it is none */
static bool number(const char *text, double *ret)
{
    char *end = NULL;

    *ret = g_ascii_strtod(text, &end);
    return end != text && *end == '\0';
}

/* --- CSV --- */

struct ForeImportCsv {
    ForeImportFn fn;
    gpointer data;
    GString *line; /* the one that has no end yet */
    uint64_t number;
    unsigned columns; /* 0: no heading yet */
    char metric[FORE_IMPORT_COLUMNS][FORE_NAME_MAX + 1];
};

ForeImportCsv *fore_import_csv_new(ForeImportFn fn, gpointer data)
{
    ForeImportCsv *csv = g_new0(ForeImportCsv, 1);

    csv->fn = fn;
    csv->data = data;
    csv->line = g_string_new("");
    return csv;
}

void fore_import_csv_free(ForeImportCsv *csv)
{
    if (csv != NULL) {
        g_string_free(csv->line, TRUE);
        g_free(csv);
    }
}

static bool take_heading(ForeImportCsv *csv, char **cell, GError **error)
{
    if (strcmp(cell[0], "timestamp_s") != 0) {
        return refuse(error, "line 1: the first column is '%.40s'; it must be timestamp_s",
                      cell[0]);
    }
    for (unsigned i = 1; cell[i] != NULL; i++) {
        if (i > FORE_IMPORT_COLUMNS || cell[i][0] == '\0') {
            return refuse(error, "line 1: column %u: at most %d columns, each with a name", i + 1,
                          FORE_IMPORT_COLUMNS + 1);
        }
        fore_import_name(cell[i], csv->metric[i - 1]);
        for (unsigned k = 0; k + 1 < i; k++) {
            if (strcmp(csv->metric[k], csv->metric[i - 1]) == 0) {
                return refuse(error, "line 1: two columns are named '%s'", csv->metric[k]);
            }
        }
        csv->columns = i;
    }
    return csv->columns > 0 || refuse(error, "line 1: no column beside timestamp_s");
}

static bool take_row(ForeImportCsv *csv, char **cell, GError **error)
{
    double seconds, v;

    if (!number(cell[0], &seconds) || !(fabs(seconds) < MAX_SECONDS)) {
        return refuse(error, "line %" G_GUINT64_FORMAT ": '%.40s' is no time in seconds",
                      csv->number, cell[0]);
    }
    for (unsigned i = 1; cell[i] != NULL; i++) {
        if (i > csv->columns) {
            return refuse(error, "line %" G_GUINT64_FORMAT ": more cells than the heading has (%u)",
                          csv->number, csv->columns + 1);
        }
        if (cell[i][0] == '\0') {
            continue; /* a gap */
        }
        if (!number(cell[i], &v)) {
            return refuse(error, "line %" G_GUINT64_FORMAT ", %s: '%.40s' is no number",
                          csv->number, csv->metric[i - 1], cell[i]);
        }
        if (isfinite(v) &&
            !csv->fn(NULL, csv->metric[i - 1], llrint(seconds * 1000), v, csv->data, error)) {
            return false;
        }
    }
    return true;
}

static bool take_line(ForeImportCsv *csv, GError **error)
{
    g_auto(GStrv) cell = NULL;

    csv->number++;
    if (strlen(csv->line->str) != csv->line->len) {
        return refuse(error, "line %" G_GUINT64_FORMAT ": a zero byte; this is no CSV",
                      csv->number);
    }
    if (csv->line->len > 0 && csv->line->str[csv->line->len - 1] == '\r') {
        g_string_truncate(csv->line, csv->line->len - 1);
    }
    if (csv->line->len == 0) {
        return true;
    }
    cell = g_strsplit(csv->line->str, ",", FORE_IMPORT_COLUMNS + 3);
    return csv->columns == 0 ? take_heading(csv, cell, error) : take_row(csv, cell, error);
}

bool fore_import_csv_feed(ForeImportCsv *csv, const char *bytes, size_t size, GError **error)
{
    while (size > 0) {
        const char *end = memchr(bytes, '\n', size);
        size_t take = end != NULL ? (size_t)(end - bytes) : size;

        if (csv->line->len + take > FORE_IMPORT_LINE) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                        "line %" G_GUINT64_FORMAT ": more than %d bytes; this is no CSV",
                        csv->number + 1, FORE_IMPORT_LINE);
            return false;
        }
        g_string_append_len(csv->line, bytes, (gssize)take);
        if (end == NULL) {
            return true;
        }
        if (!take_line(csv, error)) {
            return false;
        }
        g_string_truncate(csv->line, 0);
        bytes += take + 1;
        size -= take + 1;
    }
    return true;
}

bool fore_import_csv_end(ForeImportCsv *csv, GError **error)
{
    if (csv->line->len > 0 && !take_line(csv, error)) {
        return false;
    }
    return csv->columns > 0 || refuse(error, "the file is empty; want timestamp_s,METRIC,...");
}

/* --- Prometheus --- */

typedef struct {
    const char *vm_label, *fallback_vm;
    ForeImportFn fn;
    gpointer data;
    GHashTable *seen; /* "vm metric" */
} Prometheus;

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Name of the metric from all labels but the VM's */
static bool name_series(const Prometheus *p, const json_t *labels, char *ret_vm, char *ret_metric,
                        GError **error)
{
    g_autoptr(GPtrArray) rest = g_ptr_array_new_with_free_func(g_free);
    const char *vm = json_string_value(json_object_get(labels, p->vm_label));
    const char *name = json_string_value(json_object_get(labels, "__name__"));
    g_autoptr(GString) metric = g_string_new(name != NULL ? name : "value");
    const char *key;
    json_t *value;

    vm = vm != NULL ? vm : p->fallback_vm;
    if (vm == NULL) {
        return refuse(error,
                      "series '%.60s' has no label '%.60s' that names its VM; name the label "
                      "with --vm-label or the VM with --vm",
                      metric->str, p->vm_label);
    }
    if (json_object_size(labels) > MAX_LABELS) {
        return refuse(error, "series '%.60s' has more than %d labels", metric->str, MAX_LABELS);
    }
    json_object_foreach ((json_t *)labels, key, value) {
        if (!json_is_string(value)) {
            return refuse(error, "series '%.60s': label '%.60s' is no text", metric->str, key);
        }
        if (strcmp(key, "__name__") != 0 && strcmp(key, p->vm_label) != 0 &&
            strcmp(key, "job") != 0) {
            g_ptr_array_add(rest, g_strdup_printf(".%s_%s", key, json_string_value(value)));
        }
    }
    g_ptr_array_sort(rest, by_text);
    for (guint i = 0; i < rest->len; i++) {
        g_string_append(metric, rest->pdata[i]);
    }
    fore_import_name(vm, ret_vm);
    fore_import_name(metric->str, ret_metric);
    return true;
}

static bool take_value(const Prometheus *p, const char *vm, const char *metric, const json_t *pair,
                       GError **error)
{
    const json_t *time = json_array_get(pair, 0);
    const char *text = json_string_value(json_array_get(pair, 1));
    double v;

    if (json_array_size(pair) != 2 || !json_is_number(time) ||
        !(fabs(json_number_value(time)) < MAX_SECONDS) || text == NULL || !number(text, &v)) {
        return refuse(error, "'%s' of '%s': a value must be [SECONDS, \"NUMBER\"]", metric, vm);
    }
    return !isfinite(v) ||
           p->fn(vm, metric, llrint(json_number_value(time) * 1000), v, p->data, error);
}

static bool take_series(Prometheus *p, const json_t *series, GError **error)
{
    char vm[FORE_NAME_MAX + 1], metric[FORE_NAME_MAX + 1];
    const json_t *values = json_object_get(series, "values");

    if (!json_is_object(json_object_get(series, "metric")) || !json_is_array(values)) {
        return refuse(error, "a result must have 'metric' and 'values' (query_range, not query)");
    }
    if (!name_series(p, json_object_get(series, "metric"), vm, metric, error)) {
        return false;
    }
    if (!g_hash_table_add(p->seen, g_strjoin(" ", vm, metric, NULL))) {
        return refuse(error, "two series would both be '%s' of '%s'; narrow the query", metric, vm);
    }
    for (size_t i = 0; i < json_array_size(values); i++) {
        if (!take_value(p, vm, metric, json_array_get(values, i), error)) {
            return false;
        }
    }
    return true;
}

bool fore_import_prometheus(const char *text, size_t size, const char *vm_label,
                            const char *fallback_vm, ForeImportFn fn, gpointer data, GError **error)
{
    static const ForeJsonLimits limits = {
        .max_bytes = FORE_IMPORT_JSON, .max_depth = 8, .max_items = 32u << 20, .max_string = 4096};
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    Prometheus p = {vm_label, fallback_vm, fn, data, seen};
    g_autoptr(json_t) whole = fore_json_parse(text, size, &limits, error);
    const json_t *inner = json_object_get(whole, "data"),
                 *result = json_object_get(inner, "result");
    const char *type = json_string_value(json_object_get(inner, "resultType"));

    if (whole == NULL) {
        return false;
    }
    if (g_strcmp0(json_string_value(json_object_get(whole, "status")), "success") != 0 ||
        g_strcmp0(type, "matrix") != 0 || !json_is_array(result)) {
        return refuse(error,
                      "no answer of a successful range query (resultType '%.20s'; want "
                      "'matrix', from /api/v1/query_range)",
                      type != NULL ? type : "none");
    }
    if (json_array_size(result) > FORE_IMPORT_SERIES) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT, "%zu series; at most %d at once",
                    json_array_size(result), FORE_IMPORT_SERIES);
        return false;
    }
    for (size_t i = 0; i < json_array_size(result); i++) {
        if (!take_series(&p, json_array_get(result, i), error)) {
            return false;
        }
    }
    return true;
}
