/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-split.h"

#include <math.h>
#include <string.h>

#include "common/fore-error.h"

#define MAX_LINE    4096
#define MAX_COLUMNS 32
#define MAX_VALUE   1e18

const char *const fore_split_metric_names[FORE_SERIES_METRICS] = {"cpu_cores", "mem_bytes",
                                                                  "net_rx_bps", "net_tx_bps"};

void fore_trace_free(ForeTrace *trace)
{
    if (trace == NULL) {
        return;
    }
    for (unsigned i = 0; i < FORE_SERIES_METRICS; i++) {
        g_free(trace->value[i]);
    }
    g_free(trace->name);
    g_free(trace->file);
    g_free(trace);
}

/* Text as lines of fields, without copying more than a line. */
typedef struct {
    const char *at, *end;
    unsigned line;
    char buffer[MAX_LINE];
    char *field[MAX_COLUMNS];
    unsigned n_field;
} Lines;

static bool refuse(const Lines *in, const char *what, GError **error)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "line %u: %s", in->line, what);
    return false;
}

/* The next line cut at @separator. Returns: false at the end, or with @error set. */
static bool next_line(Lines *in, char separator, GError **error)
{
    const char *stop;
    size_t n;

    if (in->at >= in->end) {
        return false;
    }
    in->line++;
    stop = memchr(in->at, '\n', (size_t)(in->end - in->at));
    stop = stop != NULL ? stop : in->end;
    n = (size_t)(stop - in->at);
    if (n >= MAX_LINE || memchr(in->at, '\0', n) != NULL) {
        return refuse(in, "longer than 4095 bytes, or holds a NUL", error);
    }
    memcpy(in->buffer, in->at, n);
    in->at = stop < in->end ? stop + 1 : in->end;
    n -= n > 0 && in->buffer[n - 1] == '\r';
    in->buffer[n] = '\0';
    in->n_field = 0;
    for (char *f = in->buffer; f != NULL;) {
        char *cut = strchr(f, separator);

        if (in->n_field == MAX_COLUMNS) {
            return refuse(in, "more than 32 columns", error);
        }
        in->field[in->n_field++] = f;
        if (cut != NULL) {
            *cut = '\0';
        }
        f = cut != NULL ? cut + 1 : NULL;
    }
    return true;
}

static bool parse_integer(const char *text, int64_t low, int64_t high, int64_t *ret)
{
    char *end;

    *ret = g_ascii_strtoll(text, &end, 10);
    return end != text && *end == '\0' && *ret >= low && *ret <= high;
}

static bool is_name(const char *text)
{
    size_t n = strlen(text);

    for (size_t i = 0; i < n; i++) {
        if (!g_ascii_isgraph(text[i]) || strchr(",\"", text[i]) != NULL) {
            return false;
        }
    }
    return n > 0 && n <= 200;
}

static bool is_inside(const char *path)
{
    g_auto(GStrv) part = g_strsplit(path, "/", -1);

    return is_name(path) && path[0] != '/' && !g_strv_contains((const char *const *)part, "..");
}

/* Columns of the index that are needed. */
enum { COL_SERIES, COL_FILE, COL_STEP, COL_GRID, COL_FIRST, COL_TEST, COL_STRIDE, COL_N };

static bool find_columns(const Lines *in, unsigned at[COL_N], GError **error)
{
    static const char *const names[COL_N] = {"series",  "file",   "step_s", "grid",
                                             "t_first", "t_test", "stride"};

    for (unsigned c = 0; c < COL_N; c++) {
        at[c] = MAX_COLUMNS;
        for (unsigned i = 0; i < in->n_field; i++) {
            at[c] = g_str_equal(in->field[i], names[c]) ? i : at[c];
        }
        if (at[c] == MAX_COLUMNS) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "line 1: no column '%s'", names[c]);
            return false;
        }
    }
    return true;
}

static ForeTrace *read_row(const Lines *in, const unsigned at[COL_N], GError **error)
{
    const int64_t far = INT64_C(1) << 40;
    g_autoptr(ForeTrace) trace = g_new0(ForeTrace, 1);
    int64_t step, grid, first, test, stride;

    for (unsigned c = 0; c < COL_N; c++) {
        if (at[c] >= in->n_field) {
            refuse(in, "too few columns", error);
            return NULL;
        }
    }
    if (!is_name(in->field[at[COL_SERIES]]) || !is_inside(in->field[at[COL_FILE]])) {
        refuse(in, "the name is not printable, or the file is not inside the folder", error);
        return NULL;
    }
    if (!parse_integer(in->field[at[COL_STEP]], 1, 86400, &step) ||
        !parse_integer(in->field[at[COL_GRID]], 1, FORE_SPLIT_MAX_SAMPLES, &grid) ||
        !parse_integer(in->field[at[COL_FIRST]], -far, far, &first) ||
        !parse_integer(in->field[at[COL_TEST]], -far, far, &test) ||
        !parse_integer(in->field[at[COL_STRIDE]], 1, 1 << 20, &stride) || test < first ||
        (test - first) / step > grid) {
        refuse(in, "step_s, grid, t_first, t_test or stride out of range", error);
        return NULL;
    }
    trace->name = g_strdup(in->field[at[COL_SERIES]]);
    trace->file = g_strdup(in->field[at[COL_FILE]]);
    trace->step_s = (uint32_t)step;
    trace->n = (size_t)grid;
    trace->first_s = first;
    trace->n_before = (size_t)((test - first) / step);
    trace->stride = (unsigned)stride;
    return g_steal_pointer(&trace);
}

GPtrArray *fore_split_read_index(const char *text, size_t size, GError **error)
{
    g_autoptr(GPtrArray) traces =
        g_ptr_array_new_with_free_func((GDestroyNotify)(void (*)(void))fore_trace_free);
    g_autoptr(GError) local = NULL;
    Lines in = {.at = text, .end = text + size};
    unsigned at[COL_N];

    if (!next_line(&in, '\t', error)) {
        if (error != NULL && *error == NULL) {
            refuse(&in, "empty", error);
        }
        return NULL;
    }
    if (!find_columns(&in, at, error)) {
        return NULL;
    }
    while (next_line(&in, '\t', &local)) {
        ForeTrace *trace = traces->len < FORE_SPLIT_MAX_TRACES ? read_row(&in, at, error) : NULL;

        if (trace == NULL) {
            if (traces->len >= FORE_SPLIT_MAX_TRACES) {
                refuse(&in, "more than 100000 traces", error);
            }
            return NULL;
        }
        g_ptr_array_add(traces, trace);
    }
    if (local != NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    return g_steal_pointer(&traces);
}

/* Which metric each column is; allocates their values as gaps. */
static bool read_head(Lines *in, ForeTrace *trace, int metric[MAX_COLUMNS], GError **error)
{
    if (in->n_field < 2 || !g_str_equal(in->field[0], "timestamp_s")) {
        return refuse(in, "does not begin with 'timestamp_s,'", error);
    }
    for (unsigned c = 1; c < in->n_field; c++) {
        metric[c] = -1;
        for (int m = 0; m < FORE_SERIES_METRICS; m++) {
            metric[c] = g_str_equal(in->field[c], fore_split_metric_names[m]) ? m : metric[c];
        }
        if (metric[c] < 0 || trace->value[metric[c]] != NULL) {
            return refuse(in, "a column is unknown or there twice", error);
        }
        trace->metrics |= 1u << metric[c];
        trace->value[metric[c]] = g_new(double, trace->n);
        for (size_t k = 0; k < trace->n; k++) {
            trace->value[metric[c]][k] = NAN;
        }
    }
    return true;
}

static bool read_sample(const Lines *in, ForeTrace *trace, const int metric[MAX_COLUMNS],
                        unsigned n_column, GError **error)
{
    int64_t time;
    size_t k;

    if (in->n_field > n_column ||
        !parse_integer(in->field[0], trace->first_s,
                       trace->first_s + (int64_t)(trace->n - 1) * trace->step_s, &time)) {
        return refuse(in, "too many columns, or a time outside the grid of the index", error);
    }
    k = (size_t)((time - trace->first_s) / trace->step_s);
    for (unsigned c = 1; c < in->n_field; c++) {
        char *end;
        double v;

        if (in->field[c][0] == '\0') {
            continue;
        }
        v = g_ascii_strtod(in->field[c], &end);
        if (*end != '\0' || !(fabs(v) <= MAX_VALUE)) {
            return refuse(in, "not a number, or beyond 1e18", error);
        }
        trace->value[metric[c]][k] = v;
    }
    return true;
}

bool fore_split_read_csv(ForeTrace *trace, const char *text, size_t size, GError **error)
{
    g_autoptr(GError) local = NULL;
    Lines in = {.at = text, .end = text + size};
    int metric[MAX_COLUMNS];
    unsigned n_column;

    if (!next_line(&in, ',', &local)) {
        return local != NULL ? (g_propagate_error(error, g_steal_pointer(&local)), false)
                             : refuse(&in, "empty", error);
    }
    if (!read_head(&in, trace, metric, error)) {
        return false;
    }
    n_column = in.n_field;
    while (next_line(&in, ',', &local)) {
        if (!read_sample(&in, trace, metric, n_column, error)) {
            return false;
        }
    }
    if (local != NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    return true;
}
