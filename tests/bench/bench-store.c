/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The store against one row a sample and against RRDtool, in the same run and on the same data: the
 * public traces
 * ($FORE_SHARED/traces/forecast, the argument, or ../shared beside the sources).  A sample here is
 * one value of one column.  Plain SQLite is the same library without a key.  Prints JSON; see
 * tools/bench.
 */
#include <dlfcn.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "profile/fore-store-db.h"
#include "profile/fore-store.h"

#define ROUNDS      5
#define SPEED_VALUE 400000 /* values in the speed rounds */

static const uint8_t key[FORE_STORE_KEY_BYTES] = {42};
static const char raw_key[] = "x'2a00000000000000000000000000000000000000000000000000000000000000'";

typedef struct {
    char *name;
    GArray *samples; /* ForeSample */
    size_t values;
} Trace;

static void trace_free(gpointer data)
{
    Trace *t = data;

    g_array_unref(t->samples);
    g_free(t->name);
    g_free(t);
}

static double now(void)
{
    return (double)g_get_monotonic_time() / 1e6;
}

/* --- the traces --- */

static void add_line(Trace *t, const char *line)
{
    g_auto(GStrv) cell = g_strsplit(line, ",", 8);
    ForeSample s = {.wall_ms = (int64_t)(g_ascii_strtod(cell[0], NULL) * 1000)};

    s.mono_ns = (uint64_t)s.wall_ms * 1000000;
    for (unsigned f = 0; f < 4 && cell[1] != NULL && cell[f + 1] != NULL; f++) {
        if (cell[f + 1][0] != '\0') {
            s.value[f] = g_ascii_strtod(cell[f + 1], NULL); /* any four fields will do */
            s.valid |= 1u << f;
            t->values++;
        }
        if (cell[f + 2] == NULL) {
            break;
        }
    }
    g_array_append_val(t->samples, s);
}

static Trace *load(const char *path, unsigned number)
{
    g_autoptr(GFile) file = g_file_new_for_path(path);
    g_autoptr(GFileInputStream) raw = g_file_read(file, NULL, NULL);
    g_autoptr(GZlibDecompressor) gunzip = g_zlib_decompressor_new(G_ZLIB_COMPRESSOR_FORMAT_GZIP);
    g_autoptr(GInputStream) plain = NULL;
    g_autoptr(GDataInputStream) lines = NULL;
    Trace *t = g_new0(Trace, 1);
    bool head = true;
    char *line;

    t->name = g_strdup_printf("vm%04u", number);
    t->samples = g_array_new(FALSE, FALSE, sizeof(ForeSample));
    if (raw == NULL) {
        return t;
    }
    plain = g_converter_input_stream_new(G_INPUT_STREAM(raw), G_CONVERTER(gunzip));
    lines = g_data_input_stream_new(plain);
    while ((line = g_data_input_stream_read_line(lines, NULL, NULL, NULL)) != NULL) {
        if (!head) {
            add_line(t, line);
        }
        head = false;
        g_free(line);
    }
    return t;
}

static void load_folder(GPtrArray *traces, const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        if (g_file_test(child, G_FILE_TEST_IS_DIR)) {
            load_folder(traces, child);
        } else if (g_str_has_suffix(name, ".csv.gz")) {
            g_ptr_array_add(traces, load(child, traces->len));
        }
    }
}

/* --- the two sides --- */

static void must(int rc, sqlite3 *db)
{
    if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW) {
        g_error("bench-store: %s", sqlite3_errmsg(db));
    }
}

static sqlite3 *rows_open(const char *path, bool encrypted)
{
    sqlite3 *db = NULL;

    must(sqlite3_open(path, &db), db);
    if (encrypted) {
        must(sqlite3_key(db, raw_key, (int)strlen(raw_key)), db);
    }
    must(sqlite3_exec(
             db,
             "PRAGMA locking_mode=EXCLUSIVE;PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;"
             "PRAGMA cache_size=-65536;"
             "CREATE TABLE IF NOT EXISTS s(vm INTEGER, field INTEGER, t INTEGER, v REAL,"
             " PRIMARY KEY(vm,field,t)) WITHOUT ROWID",
             NULL, NULL, NULL),
         db);
    return db;
}

static void rows_put(sqlite3 *db, sqlite3_stmt *stmt, unsigned vm, const ForeSample *s)
{
    for (unsigned f = 0; f < 4; f++) {
        if (FORE_HAS(s, f)) {
            sqlite3_bind_int64(stmt, 1, vm);
            sqlite3_bind_int64(stmt, 2, f);
            sqlite3_bind_int64(stmt, 3, s->wall_ms);
            sqlite3_bind_double(stmt, 4, s->value[f]);
            must(sqlite3_step(stmt), db);
            sqlite3_reset(stmt);
        }
    }
}

static guint longest(const GPtrArray *traces, unsigned n_traces)
{
    guint n = 0;

    for (unsigned i = 0; i < n_traces; i++) {
        n = MAX(n, ((const Trace *)traces->pdata[i])->samples->len);
    }
    return n;
}

/* @batch: UINT_MAX: a VM after the other, a transaction each; else all VMs side by side, so many
 * samples of each in a transaction */
static void rows_write(sqlite3 *db, const GPtrArray *traces, unsigned n_traces, unsigned batch)
{
    bool bulk = batch == UINT_MAX;
    guint rounds = bulk ? n_traces : longest(traces, n_traces);
    sqlite3_stmt *stmt = NULL;

    must(sqlite3_prepare_v2(db, "INSERT INTO s VALUES(?1,?2,?3,?4)", -1, &stmt, NULL), db);
    must(sqlite3_exec(db, "BEGIN", NULL, NULL, NULL), db);
    for (guint j = 0; j < rounds; j++) {
        const Trace *whole = bulk ? traces->pdata[j] : NULL;

        for (guint i = 0; i < (bulk ? whole->samples->len : n_traces); i++) {
            const Trace *t = bulk ? whole : traces->pdata[i];
            guint at = bulk ? i : j;

            if (at < t->samples->len) {
                rows_put(db, stmt, bulk ? j : i, &g_array_index(t->samples, ForeSample, at));
            }
        }
        if (bulk || (j + 1) % batch == 0) {
            must(sqlite3_exec(db, "COMMIT;BEGIN", NULL, NULL, NULL), db);
        }
    }
    must(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), db);
    sqlite3_finalize(stmt);
}

static double rows_scan(sqlite3 *db, unsigned n_traces)
{
    sqlite3_stmt *stmt = NULL;
    double sum = 0;

    must(sqlite3_prepare_v2(db,
                            "SELECT t,v FROM s WHERE vm=?1 AND field=?2 AND t BETWEEN ?3 AND ?4",
                            -1, &stmt, NULL),
         db);
    for (unsigned i = 0; i < n_traces * 4; i++) {
        sqlite3_bind_int64(stmt, 1, i / 4);
        sqlite3_bind_int64(stmt, 2, i % 4);
        sqlite3_bind_int64(stmt, 3, 0);
        sqlite3_bind_int64(stmt, 4, INT64_MAX);
        while (sqlite3_step(stmt) == SQLITE_ROW) {
            sum += sqlite3_column_double(stmt, 1) + (double)(sqlite3_column_int64(stmt, 0) & 1);
        }
        sqlite3_reset(stmt);
    }
    sqlite3_finalize(stmt);
    return sum;
}

/* --- RRDtool, loaded when it is installed: librrd.so.8 of package librrd8 --- */

typedef double RrdValue; /* rrd_value_t */
static struct {
    int (*create)(const char *file, unsigned long step, time_t last, int argc, const char **argv);
    int (*update)(const char *file, const char *template, int argc, const char **argv);
    int (*fetch)(const char *file, const char *cf, time_t *start, time_t *end, unsigned long *step,
                 unsigned long *n, char ***names, RrdValue **data);
    void (*freemem)(void *mem);
} rrd;

static bool rrd_load(void)
{
    static void *lib; /* for the life of the program */

    lib = dlopen("librrd.so.8", RTLD_NOW);
    if (lib == NULL) {
        return false;
    }
    *(void **)&rrd.create = dlsym(lib, "rrd_create_r");
    *(void **)&rrd.update = dlsym(lib, "rrd_update_r");
    *(void **)&rrd.fetch = dlsym(lib, "rrd_fetch_r");
    *(void **)&rrd.freemem = dlsym(lib, "rrd_freemem");
    return rrd.create != NULL && rrd.update != NULL && rrd.fetch != NULL && rrd.freemem != NULL;
}

#define RRD_EPOCH 1000000000 /* traces may count from 0; a multiple of every step below */

/* The commonest distance of two samples: the first that comes twice */
static long step_of(const Trace *t)
{
    long before = 0;

    for (guint i = 1; i < t->samples->len; i++) {
        long step = (long)((g_array_index(t->samples, ForeSample, i).wall_ms -
                            g_array_index(t->samples, ForeSample, i - 1).wall_ms) /
                           1000);

        if (step > 0 && step == before) {
            return step;
        }
        before = step;
    }
    return 1;
}

static long rrd_time(const Trace *t, guint i, long step)
{
    long s = (long)(g_array_index(t->samples, ForeSample, i).wall_ms / 1000);

    return (s + RRD_EPOCH) / step * step;
}

static void rrd_make(const Trace *t, const char *file, long step)
{
    long first = rrd_time(t, 0, step), last = rrd_time(t, t->samples->len - 1, step);
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);

    for (unsigned f = 0; f < 4; f++) {
        g_ptr_array_add(argv, g_strdup_printf("DS:f%u:GAUGE:%ld:U:U", f, step));
    }
    g_ptr_array_add(argv, g_strdup_printf("RRA:LAST:0.5:1:%ld", (last - first) / step + 2));
    g_assert_cmpint(rrd.create(file, (unsigned long)step, first - step, (int)argv->len,
                               (const char **)argv->pdata),
                    ==, 0);
}

static char *rrd_line(const ForeSample *s, long at)
{
    g_autoptr(GString) line = g_string_new("");

    g_string_append_printf(line, "%ld", at);
    for (unsigned f = 0; f < 4; f++) {
        if (FORE_HAS(s, f)) {
            g_string_append_printf(line, ":%.17g", s->value[f]);
        } else {
            g_string_append(line, ":U");
        }
    }
    return g_string_free(g_steal_pointer(&line), FALSE);
}

/* @batch: samples an update */
static void rrd_write(const Trace *t, const char *file, unsigned batch)
{
    long step = step_of(t), before = 0;
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);

    rrd_make(t, file, step);
    for (guint i = 0; i < t->samples->len; i++) {
        long at = rrd_time(t, i, step);

        if (at > before) { /* it takes rising times only */
            g_ptr_array_add(lines, rrd_line(&g_array_index(t->samples, ForeSample, i), at));
            before = at;
        }
        if (lines->len >= MIN(batch, 10000u) || i + 1 == t->samples->len) {
            g_assert_cmpint(rrd.update(file, NULL, (int)lines->len, (const char **)lines->pdata),
                            ==, 0);
            g_ptr_array_set_size(lines, 0);
        }
    }
}

static double rrd_scan(const Trace *t, const char *file)
{
    unsigned long step = (unsigned long)step_of(t), n = 0;
    time_t start = rrd_time(t, 0, (long)step) - (long)step;
    time_t end = rrd_time(t, t->samples->len - 1, (long)step);
    char **names = NULL;
    RrdValue *data = NULL;
    double sum = 0;
    size_t rows;

    g_assert_cmpint(rrd.fetch(file, "LAST", &start, &end, &step, &n, &names, &data), ==, 0);
    rows = (size_t)(end - start) / step + 1;
    for (size_t i = 0; i < rows * n; i++) {
        sum += isnan(data[i]) ? 0 : data[i];
    }
    for (unsigned long i = 0; i < n; i++) {
        rrd.freemem(names[i]);
    }
    rrd.freemem(names);
    rrd.freemem(data);
    return sum;
}

static ForeStore *ours_open(const char *path)
{
    g_autoptr(GError) error = NULL;
    ForeStore *store = fore_store_open(path, key, &error);

    if (store == NULL) {
        g_error("bench-store: %s", error->message);
    }
    return store;
}

static void ours_import(ForeStore *store, const GPtrArray *traces, unsigned n_traces)
{
    for (unsigned i = 0; i < n_traces; i++) {
        const Trace *t = traces->pdata[i];
        g_autoptr(GError) error = NULL;

        if (!fore_store_import(store, t->name, &g_array_index(t->samples, ForeSample, 0),
                               t->samples->len, &error)) {
            g_error("bench-store: %s", error->message);
        }
    }
}

/* As the daemon does it: a sample of each VM a second, written each minute */
static void ours_append(ForeStore *store, const GPtrArray *traces, unsigned n_traces)
{
    guint rounds = longest(traces, n_traces);

    for (guint j = 0; j < rounds; j++) {
        for (unsigned i = 0; i < n_traces; i++) {
            const Trace *t = traces->pdata[i];

            if (j < t->samples->len) {
                ForeSample s = g_array_index(t->samples, ForeSample, j);

                s.mono_ns = j * FORE_NS_PER_S;
                s.wall_ms = 1700000000000 + (int64_t)j * 1000;
                fore_store_append(store, t->name, &s);
            }
        }
    }
    g_assert_true(fore_store_flush(store, NULL));
}

static double ours_scan(ForeStore *store, const GPtrArray *traces, unsigned n_traces)
{
    double sum = 0;

    for (unsigned i = 0; i < n_traces; i++) {
        const Trace *t = traces->pdata[i];
        g_autoptr(GArray) w = fore_store_window(store, t->name, 0, INT64_MAX, NULL);

        g_assert_nonnull(w);
        for (guint j = 0; j < w->len; j++) {
            const ForeSample *s = &g_array_index(w, ForeSample, j);

            for (unsigned f = 0; f < 4; f++) {
                sum += FORE_HAS(s, f) ? s->value[f] + (double)(s->wall_ms & 1) : 0;
            }
        }
    }
    return sum;
}

/* --- measuring --- */

static bool write_all(int fd, const void *data, size_t size)
{
    return write(fd, data, size) == (ssize_t)size; /* a pipe takes this much at once */
}

static double file_bytes(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (double)st.st_size : 0;
}

static void forget(const char *path)
{
    g_autofree char *wal = g_strconcat(path, "-wal", NULL);

    g_unlink(path);
    g_unlink(wal);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *v)
{
    qsort(v, ROUNDS, sizeof(*v), ascending);
    return v[ROUNDS / 2];
}

static bool first_row = true;

static void print_row(const char *what, const char *unit, double ours, double anchor, double ratio,
                      double spread)
{
    printf("%s\n  {\"what\": \"%s\", \"unit\": \"%s\", \"ours\": %.6g, \"anchor\": %.6g, "
           "\"ratio\": %.4g, \"spread\": %.3g}",
           first_row ? "" : ",", what, unit, ours, anchor, ratio, spread);
    first_row = false;
}

/* @ours, @anchor: [ROUNDS] seconds for @values, measured in pairs */
static void print_rate(const char *what, double *ours, double *anchor, size_t values)
{
    double ratio[ROUNDS], mid;

    for (int i = 0; i < ROUNDS; i++) {
        ratio[i] = anchor[i] / ours[i];
    }
    mid = median(ratio); /* sorts */
    print_row(what, "samples/s", (double)values / median(ours), (double)values / median(anchor),
              mid, (ratio[ROUNDS - 1] - ratio[0]) / mid);
}

/* What one measurement works on, and what it found.  Each runs in a process of its own: our store
 * turns cipher_memory_security on, which is for the whole process and would slow the other side
 * down. */
typedef struct {
    const GPtrArray *traces;
    unsigned n; /* of the traces */
    const char *path;
    bool encrypted; /* rows only */
    unsigned batch; /* rows: samples a transaction; ours: UINT_MAX import, else append */
} Task;

typedef struct {
    double seconds, sum, file_bytes, payload_bytes;
} Found;

static void run_ours(const Task *task, bool write, Found *ret)
{
    ForeStore *store = ours_open(task->path);
    double start = now();
    ForeStoreHealth health;

    if (write) {
        (task->batch == UINT_MAX ? ours_import : ours_append)(store, task->traces, task->n);
    } else {
        ret->sum = ours_scan(store, task->traces, task->n);
    }
    ret->seconds = now() - start;
    fore_store_health(store, &health);
    ret->payload_bytes = (double)health.bytes;
    fore_store_close(store);
    ret->file_bytes = file_bytes(task->path);
}

static void run_rows(const Task *task, bool write, Found *ret)
{
    sqlite3 *db = rows_open(task->path, task->encrypted);
    double start = now();

    if (write) {
        rows_write(db, task->traces, task->n, task->batch);
    } else {
        ret->sum = rows_scan(db, task->n);
    }
    ret->seconds = now() - start;
    sqlite3_close(db);
    ret->file_bytes = file_bytes(task->path);
}

/* A file a trace, in the folder task->path */
static void run_rrd(const Task *task, bool write, Found *ret)
{
    double start = now();

    for (unsigned i = 0; i < task->n; i++) {
        g_autofree char *file = g_strdup_printf("%s/%u.rrd", task->path, i);

        if (write) {
            rrd_write(task->traces->pdata[i], file, task->batch);
        } else {
            ret->sum += rrd_scan(task->traces->pdata[i], file);
        }
        ret->file_bytes += file_bytes(file);
    }
    ret->seconds = now() - start;
}

static void forget_rrd(const Task *task)
{
    for (unsigned i = 0; i < task->n; i++) {
        g_autofree char *file = g_strdup_printf("%s/%u.rrd", task->path, i);

        g_unlink(file);
    }
}

static Found in_child(void (*run)(const Task *, bool, Found *), const Task *task, bool write)
{
    Found found = {0};
    int fds[2], status;
    pid_t pid;

    g_assert_cmpint(pipe(fds), ==, 0);
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        run(task, write, &found);
        _exit(write_all(fds[1], &found, sizeof(found)) ? 0 : 1);
    }
    close(fds[1]);
    g_assert_cmpint(read(fds[0], &found, sizeof(found)), ==, sizeof(found));
    close(fds[0]);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
    return found;
}

static void bench_bytes(const GPtrArray *traces, const char *dir, size_t values)
{
    g_autofree char *path = g_build_filename(dir, "bytes.db", NULL);
    Task task = {.traces = traces, .n = traces->len, .path = path, .batch = UINT_MAX};
    double n = (double)values;
    Found ours = in_child(run_ours, &task, true), plain, cipher;

    forget(path);
    plain = in_child(run_rows, &task, true);
    forget(path);
    task.encrypted = true;
    cipher = in_child(run_rows, &task, true);
    forget(path);
    print_row("bytes-per-sample", "file bytes", ours.file_bytes / n, plain.file_bytes / n,
              ours.file_bytes / plain.file_bytes, 0);
    print_row("bytes-per-sample-vs-sqlcipher-rows", "file bytes", ours.file_bytes / n,
              cipher.file_bytes / n, ours.file_bytes / cipher.file_bytes, 0);
    print_row("payload-bytes-per-sample", "bytes of columns; anchor: int64 and double",
              ours.payload_bytes / n, 16, ours.payload_bytes / n / 16, 0);
}

static void bench_speed(const GPtrArray *traces, const char *dir, bool encrypted)
{
    static const char *const names[2][3] = {
        {"ingest-vs-sqlite-rows", "append-vs-sqlite-rows", "scan-vs-sqlite-rows"},
        {"ingest-vs-sqlcipher-rows", "append-vs-sqlcipher-rows", "scan-vs-sqlcipher-rows"}};
    g_autofree char *a = g_build_filename(dir, "ours.db", NULL);
    g_autofree char *b = g_build_filename(dir, "rows.db", NULL);
    Task ours = {.traces = traces, .path = a}, rows = {.traces = traces, .path = b};
    double t[2][3][ROUNDS]; /* ours, rows; import, append, scan */
    size_t values = 0;

    while (ours.n < traces->len && values < SPEED_VALUE) {
        values += ((const Trace *)traces->pdata[ours.n++])->values;
    }
    rows.n = ours.n;
    rows.encrypted = encrypted;
    for (int round = 0; round < ROUNDS; round++) {
        Found x, y;

        ours.batch = rows.batch = UINT_MAX;
        t[0][0][round] = in_child(run_ours, &ours, true).seconds;
        t[1][0][round] = in_child(run_rows, &rows, true).seconds;
        x = in_child(run_ours, &ours, false);
        y = in_child(run_rows, &rows, false);
        g_assert_true(fabs(x.sum - y.sum) <= 1e-9 * fabs(y.sum)); /* both read all of it */
        t[0][2][round] = x.seconds;
        t[1][2][round] = y.seconds;
        forget(a);
        forget(b);
        ours.batch = rows.batch = 60;
        t[0][1][round] = in_child(run_ours, &ours, true).seconds;
        t[1][1][round] = in_child(run_rows, &rows, true).seconds;
        forget(a);
        forget(b);
    }
    for (int i = 0; i < 3; i++) {
        print_rate(names[encrypted][i], t[0][i], t[1][i], values);
    }
}

static void bench_rrd(const GPtrArray *traces, const char *dir)
{
    g_autofree char *a = g_build_filename(dir, "ours.db", NULL);
    Task ours = {.traces = traces, .path = a}, theirs = {.traces = traces, .path = dir};
    double t[2][3][ROUNDS];
    size_t values = 0;
    Found x = {0}, y = {0};

    while (ours.n < traces->len && values < SPEED_VALUE) {
        values += ((const Trace *)traces->pdata[ours.n++])->values;
    }
    theirs.n = ours.n;
    for (int round = 0; round < ROUNDS; round++) {
        ours.batch = theirs.batch = UINT_MAX;
        x = in_child(run_ours, &ours, true);
        y = in_child(run_rrd, &theirs, true);
        t[0][0][round] = x.seconds;
        t[1][0][round] = y.seconds;
        t[0][2][round] = in_child(run_ours, &ours, false).seconds;
        t[1][2][round] = in_child(run_rrd, &theirs, false).seconds;
        forget(a);
        forget_rrd(&theirs);
        ours.batch = theirs.batch = 60;
        t[0][1][round] = in_child(run_ours, &ours, true).seconds;
        t[1][1][round] = in_child(run_rrd, &theirs, true).seconds;
        forget(a);
        forget_rrd(&theirs);
    }
    print_row("bytes-per-sample-vs-rrdtool", "file bytes", x.file_bytes / (double)values,
              y.file_bytes / (double)values, x.file_bytes / y.file_bytes, 0);
    print_rate("ingest-vs-rrdtool", t[0][0], t[1][0], values);
    print_rate("append-vs-rrdtool", t[0][1], t[1][1], values);
    print_rate("scan-vs-rrdtool", t[0][2], t[1][2], values);
}

int main(int argc, char **argv)
{
    g_autoptr(GPtrArray) traces = g_ptr_array_new_with_free_func(trace_free);
    const char *shared = g_getenv("FORE_SHARED");
    g_autofree char *folder = argc > 1 ? g_strdup(argv[1])
                                       : g_build_filename(shared != NULL ? shared : "../shared",
                                                          "traces", "forecast", NULL);
    g_autofree char *dir = g_dir_make_tmp("bench-store-XXXXXX", NULL);
    size_t values = 0;

    load_folder(traces, folder);
    for (guint i = 0; i < traces->len; i++) {
        values += ((const Trace *)traces->pdata[i])->values;
    }
    if (values == 0 || dir == NULL) {
        fprintf(stderr, "bench-store: no *.csv.gz traces in '%s'; give the folder as argument\n",
                folder);
        return 77;
    }
    printf("{\"name\": \"store\", \"rows\": [");
    bench_bytes(traces, dir, values);
    bench_speed(traces, dir, false);
    bench_speed(traces, dir, true);
    if (rrd_load()) {
        bench_rrd(traces, dir);
    } else {
        fprintf(stderr, "bench-store: rows of RRDtool left out: librrd8 is not installed\n");
    }
    printf("\n]}\n");
    g_rmdir(dir);
    return 0;
}
