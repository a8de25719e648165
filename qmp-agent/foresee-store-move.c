/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee store export and import.  Files are read here, not in the daemon. */
#include <errno.h>
#include <gio/gio.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/fore-error.h"
#include "common/fore-flow.h"
#include "profile/fore-import.h"
#include "qmp-agent/foresee-store.h"

#define BATCH 4000 /* points in one question */

static int fail(const GError *error)
{
    fprintf(stderr, "foresee: %s\n", error->message);
    return CLI_FAILED;
}

/* --- export --- */

static bool parse_time(const char *text, int64_t *ret_ms)
{
    g_autoptr(GTimeZone) utc = g_time_zone_new_utc();
    g_autoptr(GDateTime) time = g_date_time_new_from_iso8601(text, utc);
    char *end = NULL;
    double s;

    if (time != NULL) {
        *ret_ms = g_date_time_to_unix(time) * 1000 + g_date_time_get_microsecond(time) / 1000;
        return true;
    }
    s = g_ascii_strtod(text, &end);
    *ret_ms = (int64_t)(s * 1000);
    return end != text && *end == '\0' && fabs(s) < 1e12;
}

typedef struct {
    GPtrArray *names; /* "source metric"; a column each */
    GHashTable *rows; /* int64 t -> double [names] */
} Table;

static double *row_at(Table *table, int64_t t_ms)
{
    double *row = g_hash_table_lookup(table->rows, &t_ms);

    if (row == NULL) {
        row = g_new(double, table->names->len);
        for (guint i = 0; i < table->names->len; i++) {
            row[i] = NAN;
        }
        g_hash_table_insert(table->rows, g_memdup2(&t_ms, sizeof(t_ms)), row);
    }
    return row;
}

/* One answer into a column; *from_ms: where to go on.  Returns: 1 more, 0 the end, -1 failed */
static int read_some(ForeStoreCli *s, const char *source, const char *metric, int64_t *from_ms,
                     int64_t to_ms, Table *table, guint column)
{
    g_autoptr(json_t) ret = fore_store_cli_call(
        s, "store-read",
        json_pack("{s:s,s:s,s:s,s:I,s:I}", "vm", s->vm, "source", source, "metric", metric,
                  "from-ms", (json_int_t)*from_ms, "to-ms", (json_int_t)to_ms));
    const json_t *t = json_object_get(ret, "t-ms"), *v = json_object_get(ret, "value");

    if (ret == NULL) {
        return -1;
    }
    for (size_t i = 0; i < json_array_size(t); i++) {
        int64_t at = json_integer_value(json_array_get(t, i));

        row_at(table, at)[column] = json_number_value(json_array_get(v, i));
        *from_ms = at + 1;
    }
    return json_is_true(json_object_get(ret, "more"));
}

static int by_time(const void *a, const void *b)
{
    int64_t x = **(const int64_t *const *)a, y = **(const int64_t *const *)b;

    return (x > y) - (x < y);
}

static void put_number(FILE *out, double v)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];

    g_ascii_formatd(text, sizeof(text), "%.15g", v);
    if (g_ascii_strtod(text, NULL) != v) { /* reads back to the same bits */
        g_ascii_dtostr(text, sizeof(text), v);
    }
    fputs(text, out);
}

static bool write_table(Table *table, FILE *out)
{
    g_autofree gpointer *times = NULL;
    guint n = 0;

    fputs("timestamp_s", out);
    for (guint i = 0; i < table->names->len; i++) {
        fprintf(out, ",%s", strchr(table->names->pdata[i], ' ') + 1);
    }
    fputc('\n', out);
    times = g_hash_table_get_keys_as_array(table->rows, &n);
    qsort(times, n, sizeof(times[0]), by_time);
    for (guint i = 0; i < n; i++) {
        const double *row = g_hash_table_lookup(table->rows, times[i]);

        put_number(out, (double)*(const int64_t *)times[i] / 1000);
        for (guint c = 0; c < table->names->len; c++) {
            fputc(',', out);
            if (!isnan(row[c])) {
                put_number(out, row[c]);
            }
        }
        fputc('\n', out);
    }
    return fflush(out) == 0 && ferror(out) == 0;
}

static int write_out(ForeStoreCli *s, Table *table)
{
    FILE *out = s->out != NULL ? fopen(s->out, "we") : stdout;
    bool ok = out != NULL && write_table(table, out);

    if (s->out != NULL && out != NULL) {
        ok = fclose(out) == 0 && ok;
    }
    if (!ok) {
        fprintf(stderr, "foresee: cannot write '%s': %s\n", s->out != NULL ? s->out : "the output",
                g_strerror(errno));
        return CLI_FAILED;
    }
    return CLI_OK;
}

static int export_raw(ForeStoreCli *s, int64_t from_ms, int64_t to_ms)
{
    g_autoptr(json_t) ret =
        fore_store_cli_call(s, "query-store-series", json_pack("{s:s}", "vm", s->vm));
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) rows = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    Table table = {names, rows};
    json_t *row;
    size_t i;

    json_array_foreach (json_object_get(ret, "series"), i, row) {
        if ((s->source == NULL || strcmp(s->source, fore_cli_text(row, "source")) == 0) &&
            (s->metric == NULL || strcmp(s->metric, fore_cli_text(row, "metric")) == 0)) {
            g_ptr_array_add(names, g_strdup_printf("%s %s", fore_cli_text(row, "source"),
                                                   fore_cli_text(row, "metric")));
        }
    }
    if (ret != NULL && names->len == 0) {
        fprintf(stderr,
                "foresee: the store has no such series of '%s'; see 'foresee store stats'\n",
                s->vm);
    }
    if (names->len == 0) {
        return CLI_FAILED;
    }
    for (guint c = 0; c < names->len; c++) {
        g_auto(GStrv) name = g_strsplit(names->pdata[c], " ", 2);
        int64_t at = from_ms;
        int more = 1;

        while (more > 0) {
            more = read_some(s, name[0], name[1], &at, to_ms, &table, c);
        }
        if (more < 0) {
            return CLI_FAILED;
        }
        fore_store_cli_bar("export", (double)(c + 1) / names->len, c + 1 == names->len);
    }
    return write_out(s, &table);
}

static int export_tier(ForeStoreCli *s, int64_t from_ms, int64_t to_ms, int tier)
{
    FILE *out = s->out != NULL ? fopen(s->out, "we") : stdout;
    bool more = true, ok = out != NULL;

    if (ok) {
        fputs("timestamp_s,n,min,mean,max,p50,p95,quantile_error\n", out);
    }
    while (ok && more) {
        g_autoptr(json_t) ret = fore_store_cli_call(
            s, "store-read",
            json_pack("{s:s,s:s,s:s,s:I,s:I,s:i}", "vm", s->vm, "source", s->source, "metric",
                      s->metric, "from-ms", (json_int_t)from_ms, "to-ms", (json_int_t)to_ms, "tier",
                      tier));
        json_t *point;
        size_t i;

        more = json_is_true(json_object_get(ret, "more"));
        ok = ret != NULL;
        json_array_foreach (json_object_get(ret, "points"), i, point) {
            from_ms = json_integer_value(json_array_get(point, 0)) + 1;
            put_number(out, (double)(from_ms - 1) / 1000);
            for (size_t k = 1; k < json_array_size(point); k++) {
                fputc(',', out);
                put_number(out, json_number_value(json_array_get(point, k)));
            }
            fputc('\n', out);
        }
    }
    ok = ok && fflush(out) == 0 && ferror(out) == 0;
    if (s->out != NULL && out != NULL) {
        ok = fclose(out) == 0 && ok;
    }
    return ok ? CLI_OK : CLI_FAILED;
}

int fore_store_cli_export(ForeStoreCli *s)
{
    int64_t from_ms = G_MININT64 / 2, to_ms = G_MAXINT64 / 2;

    if (s->vm == NULL) {
        return fore_cli_usage("store export needs --vm VM");
    }
    if ((s->from != NULL && !parse_time(s->from, &from_ms)) ||
        (s->to != NULL && !parse_time(s->to, &to_ms))) {
        return fore_cli_usage("--from and --to take 2026-11-23T04:00:00Z or seconds since 1970");
    }
    if (s->tier == NULL || strcmp(s->tier, "raw") == 0) {
        return export_raw(s, from_ms, to_ms);
    }
    if ((strcmp(s->tier, "1") != 0 && strcmp(s->tier, "2") != 0) || s->source == NULL ||
        s->metric == NULL) {
        return fore_cli_usage(
            "--tier is raw, 1 or 2; a tier is exported with --source and --metric");
    }
    return export_tier(s, from_ms, to_ms, s->tier[0] - '1');
}

/* --- import --- */

typedef struct {
    char *vm, *metric;
    json_t *t, *v;
} Batch;

typedef struct {
    ForeStoreCli *s;
    const char *vm; /* of a CSV file */
    GHashTable *batches;
    uint64_t values;
} Import;

static void batch_free(gpointer data)
{
    Batch *b = data;

    g_free(b->vm);
    g_free(b->metric);
    json_decref(b->t);
    json_decref(b->v);
    g_free(b);
}

static bool send_batch(Import *import, Batch *b, GError **error)
{
    g_autoptr(json_t) ret = NULL;
    const char *source = import->s->source != NULL ? import->s->source : "import";

    if (json_array_size(b->t) == 0) {
        return true;
    }
    ret = fore_client_call(import->s->client, "store-append",
                           json_pack("{s:s,s:s,s:s,s:O,s:O}", "vm", b->vm, "source", source,
                                     "metric", b->metric, "t-ms", b->t, "value", b->v),
                           600 * 1000, error);
    json_array_clear(b->t);
    json_array_clear(b->v);
    return ret != NULL;
}

static bool on_value(const char *vm, const char *metric, int64_t t_ms, double value, gpointer data,
                     GError **error)
{
    Import *import = data;
    const char *of = vm != NULL ? vm : import->vm;
    g_autofree char *key = g_strjoin(" ", of, metric, NULL);
    Batch *b = g_hash_table_lookup(import->batches, key);

    if (b == NULL) {
        b = g_new0(Batch, 1);
        b->vm = g_strdup(of);
        b->metric = g_strdup(metric);
        b->t = json_array();
        b->v = json_array();
        g_hash_table_insert(import->batches, g_steal_pointer(&key), b);
    }
    json_array_append_new(b->t, json_integer(t_ms));
    json_array_append_new(b->v, json_real(value));
    import->values++;
    return json_array_size(b->t) < BATCH || send_batch(import, b, error);
}

/* The stream of a file, gunzipped when its name says so.  Returns: (transfer full) or NULL */
static GInputStream *open_file(const char *path, GError **error)
{
    g_autoptr(GFile) file = g_file_new_for_path(path);
    g_autoptr(GFileInputStream) raw = g_file_read(file, NULL, error);
    g_autoptr(GZlibDecompressor) gunzip = NULL;

    if (raw == NULL || !g_str_has_suffix(path, ".gz")) {
        return (GInputStream *)g_steal_pointer(&raw);
    }
    gunzip = g_zlib_decompressor_new(G_ZLIB_COMPRESSOR_FORMAT_GZIP);
    return g_converter_input_stream_new(G_INPUT_STREAM(raw), G_CONVERTER(gunzip));
}

static bool import_csv(Import *import, GInputStream *stream, GError **error)
{
    g_autoptr(ForeImportCsv) csv = fore_import_csv_new(on_value, import);
    char bytes[65536];
    gssize n;

    while ((n = g_input_stream_read(stream, bytes, sizeof(bytes), NULL, error)) > 0) {
        if (!fore_import_csv_feed(csv, bytes, (size_t)n, error)) {
            return false;
        }
    }
    return n == 0 && fore_import_csv_end(csv, error);
}

static bool import_prometheus(Import *import, GInputStream *stream, GError **error)
{
    g_autoptr(GByteArray) text = g_byte_array_new();
    ForeStoreCli *s = import->s;
    guint8 bytes[65536];
    gssize n;

    while ((n = g_input_stream_read(stream, bytes, sizeof(bytes), NULL, error)) > 0) {
        if (text->len + (size_t)n > FORE_IMPORT_JSON) { /* also of a small .gz that grows */
            g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                        "more than %" G_GUINT64_FORMAT " bytes; ask for a shorter range",
                        FORE_IMPORT_JSON);
            return false;
        }
        g_byte_array_append(text, bytes, (guint)n);
    }
    return n == 0 && fore_import_prometheus((const char *)text->data, text->len,
                                            s->vm_label != NULL ? s->vm_label : "domain", s->vm,
                                            on_value, import, error);
}

/* "dir/web-1.csv.gz" names VM "web-1". */
static void name_of_file(const char *path, char *ret)
{
    g_autofree char *base = g_path_get_basename(path);
    char *dot = strstr(base, ".csv");

    if (dot != NULL) {
        *dot = '\0';
    }
    fore_import_name(base, ret);
}

static bool import_file(ForeStoreCli *s, const char *path, uint64_t *values, GError **error)
{
    g_autoptr(GHashTable) batches =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, batch_free);
    g_autoptr(GInputStream) stream = open_file(path, error);
    char name[FORE_NAME_MAX + 1];
    Import import = {s, s->vm != NULL ? s->vm : name, batches, 0};
    bool json =
        s->format != NULL ? strcmp(s->format, "prometheus") == 0 : strstr(path, ".json") != NULL;
    bool ok = stream != NULL;
    GHashTableIter iter;
    gpointer batch;

    name_of_file(path, name);
    ok = ok && (json ? import_prometheus : import_csv)(&import, stream, error);
    g_hash_table_iter_init(&iter, batches);
    while (ok && g_hash_table_iter_next(&iter, NULL, &batch)) {
        ok = send_batch(&import, batch, error);
    }
    *values += import.values;
    if (!ok) {
        g_prefix_error(error, "%s: ", path);
    }
    return ok;
}

int fore_store_cli_import(ForeStoreCli *s, char **files)
{
    guint n = g_strv_length(files);
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) ret = NULL;
    uint64_t values = 0;

    if (s->format != NULL && strcmp(s->format, "csv") != 0 &&
        strcmp(s->format, "prometheus") != 0) {
        return fore_cli_usage("--format is csv or prometheus, not '%s'", s->format);
    }
    for (guint i = 0; i < n; i++) {
        if (!import_file(s, files[i], &values, &error)) {
            return fail(error); /* what came before it is in the store, and is named below */
        }
        fore_store_cli_bar("import", (double)(i + 1) / n, i + 1 == n);
    }
    ret = fore_store_cli_call(s, "store-flush", NULL); /* durable when it answers */
    if (ret == NULL) {
        return CLI_FAILED;
    }
    if (s->cli->json) {
        g_autoptr(json_t) out =
            json_pack("{s:i,s:I}", "files", (int)n, "values", (json_int_t)values);
        fore_cli_print_json(out);
    } else {
        printf("%u files, %" G_GUINT64_FORMAT " values\n", n, values);
    }
    return CLI_OK;
}
