/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Series out: as they came and by tier, from the disk and from what memory holds. */
#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "profile/fore-store-priv.h"

bool fore_store_series_id(ForeStore *store, int64_t vm_id, const char *source, const char *metric,
                          bool add, int64_t *ret_id, GError **error)
{
    static const ForeSql steps[] = {FORE_SQL_SERIES_ID, FORE_SQL_SERIES_ADD, FORE_SQL_SERIES_ID};

    *ret_id = 0;
    for (size_t i = 0; i < (add ? G_N_ELEMENTS(steps) : 1) && *ret_id == 0; i++) {
        sqlite3_stmt *stmt = fore_db_ready(store->db, steps[i], error);
        int got;

        if (stmt == NULL) {
            return false;
        }
        sqlite3_bind_int64(stmt, 1, vm_id);
        sqlite3_bind_text(stmt, 2, source, -1, SQLITE_STATIC);
        sqlite3_bind_text(stmt, 3, metric, -1, SQLITE_STATIC);
        got = fore_db_next(store->db, stmt, "looking a series up", error);
        if (got == 1) {
            *ret_id = sqlite3_column_int64(stmt, 0);
            sqlite3_reset(stmt);
        }
        if (got < 0) {
            return false;
        }
    }
    return true;
}

/* Returns: FORE_FIELD_N when no live field has these names */
static ForeField field_of(const char *source, const char *metric)
{
    for (unsigned f = 0; f < FORE_FIELD_N; f++) {
        if (strcmp(metric, fore_field_names[f]) == 0 &&
            strcmp(source, fore_store_field_source(f)) == 0) {
            return f;
        }
    }
    return FORE_FIELD_N;
}

/* Row of the series; 0: the disk does not know it */
static bool find_row(ForeStore *store, const char *vm, const char *source, const char *metric,
                     int64_t *ret_id, GError **error)
{
    int64_t vm_id = 0;

    *ret_id = 0;
    return fore_store_vm_id(store, vm, &vm_id, error) &&
           (vm_id == 0 || fore_store_series_id(store, vm_id, source, metric, false, ret_id, error));
}

/* Returns: (transfer full) ids of the parts of @width_ms that touch the range, or NULL */
static GArray *list_parts(ForeStore *store, int64_t series_id, int64_t width_ms, int64_t from_ms,
                          int64_t to_ms, GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_PARTS, error);
    g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(int64_t));
    int got;

    if (stmt == NULL) {
        return NULL;
    }
    sqlite3_bind_int64(stmt, 1, series_id);
    sqlite3_bind_int64(stmt, 2, width_ms);
    sqlite3_bind_int64(stmt, 3, from_ms);
    sqlite3_bind_int64(stmt, 4, to_ms);
    while ((got = fore_db_next(store->db, stmt, "listing chunks", error)) == 1) {
        int64_t id = sqlite3_column_int64(stmt, 0);

        g_array_append_val(ids, id);
    }
    return got == 0 ? g_steal_pointer(&ids) : NULL;
}

static bool too_many(ForeStore *store, guint n, GError **error)
{
    if (n <= FORE_STORE_WINDOW_MAX) {
        return false;
    }
    g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                "store '%s': more than %d samples; ask for a shorter time", fore_db_path(store->db),
                FORE_STORE_WINDOW_MAX);
    return true;
}

/* --- as they came --- */

static bool read_line(ForeStore *store, const char *vm, const char *source, const char *metric,
                      int64_t from_ms, int64_t to_ms, GArray *out, GError **error)
{
    const ForeLine *line = fore_store_find_line(store, vm, source, metric);
    g_autoptr(GArray) ids = NULL;
    int64_t id = 0;

    if (!find_row(store, vm, source, metric, &id, error) ||
        (ids = list_parts(store, id, 0, from_ms, to_ms, error)) == NULL) {
        return false;
    }
    for (guint i = 0; i < ids->len; i++) {
        int64_t part = g_array_index(ids, int64_t, i);

        if (line != NULL && part == line->done.part_id) {
            continue; /* memory has all of it */
        }
        if (fore_store_read_part(store, part, out, error) < 0 || too_many(store, out->len, error)) {
            return false;
        }
    }
    for (size_t i = 0; line != NULL && i < line->n; i++) {
        ForeSeriesPoint p = {line->t_ms[i], line->value[i]};

        g_array_append_val(out, p);
    }
    return true;
}

static bool read_field(ForeStore *store, const char *vm, ForeField field, int64_t from_ms,
                       int64_t to_ms, GArray *out, GError **error)
{
    g_autoptr(GArray) window = fore_store_window(store, vm, from_ms, to_ms, error);

    for (guint i = 0; window != NULL && i < window->len; i++) {
        const ForeSample *s = &g_array_index(window, ForeSample, i);

        if (FORE_HAS(s, field)) {
            ForeSeriesPoint p = {s->wall_ms, s->value[field]};

            g_array_append_val(out, p);
        }
    }
    return window != NULL;
}

static int by_time(const void *a, const void *b)
{
    const ForeSeriesPoint *x = a, *y = b;

    return (x->t_ms > y->t_ms) - (x->t_ms < y->t_ms);
}

GArray *fore_store_series_read(ForeStore *store, const char *vm, const char *source,
                               const char *metric, int64_t from_ms, int64_t to_ms, GError **error)
{
    g_autoptr(GArray) out = g_array_new(FALSE, FALSE, sizeof(ForeSeriesPoint));
    ForeField field = field_of(source, metric);
    guint keep = 0;

    if (!read_line(store, vm, source, metric, from_ms, to_ms, out, error) ||
        (field < FORE_FIELD_N && !read_field(store, vm, field, from_ms, to_ms, out, error))) {
        return NULL;
    }
    for (guint i = 0; i < out->len; i++) {
        ForeSeriesPoint p = g_array_index(out, ForeSeriesPoint, i);

        if (p.t_ms >= from_ms && p.t_ms <= to_ms) {
            g_array_index(out, ForeSeriesPoint, keep++) = p;
        }
    }
    g_array_set_size(out, keep);
    g_array_sort(out, by_time); /* a merge sort: stable, and quick on what is sorted */
    return g_steal_pointer(&out);
}

/* --- tiers --- */

typedef struct {
    GArray *out; /* ForeTierPoint */
    int64_t from_ms, to_ms;
} Collect;

static void collect(const ForeTierPoint *point, gpointer data)
{
    Collect *c = data;

    if (point->t_ms >= c->from_ms && point->t_ms <= c->to_ms) {
        g_array_append_vals(c->out, point, 1);
    }
}

/* Returns: 1, 0 damaged, -1 error */
static int read_block(ForeStore *store, int64_t id, Collect *c, GError **error)
{
    g_autofree ForeTierPoint *points = g_new(ForeTierPoint, FORE_TIER_BLOCK);
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_PART_GET, error);
    g_autoptr(GError) why = NULL;
    bool ok = false;
    size_t n = 0;
    int got;

    if (stmt == NULL) {
        return -1;
    }
    sqlite3_bind_int64(stmt, 1, id);
    got = fore_db_next(store->db, stmt, "reading a tier", &why);
    if (got == 1) {
        const void *blob = sqlite3_column_blob(stmt, 0);
        size_t size = fore_store_unseal(blob, (size_t)sqlite3_column_bytes(stmt, 0));

        ok = size > 0 && fore_tier_unpack(blob, size, points, &n, NULL) &&
             (int64_t)n == sqlite3_column_int64(stmt, 1);
        sqlite3_reset(stmt);
    }
    if (got < 0 && !fore_store_is_damage(why)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return -1;
    }
    if (why != NULL) {
        fore_db_recover(store->db);
    }
    if (got != 0 && !ok) {
        fore_store_damage_part(store, id, why != NULL);
    }
    for (size_t i = 0; ok && i < n; i++) {
        collect(&points[i], c);
    }
    return ok;
}

static int by_start(const void *a, const void *b)
{
    const ForeTierPoint *x = a, *y = b;

    return (x->t_ms > y->t_ms) - (x->t_ms < y->t_ms);
}

/* Points of one interval come from several blocks when the clock was set back, or a series was
 * imported beside a live one. */
static void merge_equal(GArray *points)
{
    guint keep = 0;

    g_array_sort(points, by_start);
    for (guint i = 0; i < points->len; i++) {
        ForeTierPoint *p = &g_array_index(points, ForeTierPoint, i);

        if (keep > 0 && g_array_index(points, ForeTierPoint, keep - 1).t_ms == p->t_ms) {
            fore_tier_point_merge(&g_array_index(points, ForeTierPoint, keep - 1), p);
        } else {
            if (keep != i) {
                g_array_index(points, ForeTierPoint, keep) = *p;
            }
            keep++;
        }
    }
    g_array_set_size(points, keep);
}

/* Of a series that is too coarse for the tier, or whose chunk is not full: from what came */
static bool roll_rest(ForeStore *store, const char *vm, const char *source, const char *metric,
                      int64_t width_ms, Collect *c, GError **error)
{
    g_autoptr(GArray) raw = fore_store_series_read(
        store, vm, source, metric, c->from_ms,
        c->to_ms > INT64_MAX - width_ms ? INT64_MAX : c->to_ms + width_ms - 1, error);
    g_autoptr(GHashTable) there = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    guint n = c->out->len;
    ForeTierPoint p = {.n = 0};

    if (raw == NULL) {
        return false;
    }
    for (guint i = 0; i < n; i++) {
        g_hash_table_add(there, g_memdup2(&g_array_index(c->out, ForeTierPoint, i).t_ms, 8));
    }
    for (guint i = 0; i <= raw->len; i++) {
        const ForeSeriesPoint *s = i < raw->len ? &g_array_index(raw, ForeSeriesPoint, i) : NULL;
        int64_t start = s != NULL ? fore_tier_start(s->t_ms, width_ms) : 0;

        if (p.n > 0 && (s == NULL || p.t_ms != start)) {
            collect(&p, c);
            p.n = 0;
        }
        if (s != NULL && !g_hash_table_contains(there, &start)) {
            if (p.n == 0) {
                fore_tier_point_init(&p, start);
            }
            fore_tier_point_add(&p, s->value);
        }
    }
    return true;
}

static void collect_memory(ForeStore *store, const char *vm, const char *source, const char *metric,
                           unsigned tier, Collect *c)
{
    ForeField field = field_of(source, metric);
    const ForeSeries *s = field < FORE_FIELD_N ? g_hash_table_lookup(store->series, vm) : NULL;
    const ForeLine *line = fore_store_find_line(store, vm, source, metric);

    if (s != NULL && s->rollup != NULL) {
        fore_rollup_each(s->rollup, tier, field, collect, c);
    }
    if (line != NULL && line->rollup != NULL) {
        fore_rollup_each(line->rollup, tier, 0, collect, c);
    }
}

GArray *fore_store_tier_read(ForeStore *store, const char *vm, const char *source,
                             const char *metric, unsigned tier, int64_t from_ms, int64_t to_ms,
                             GError **error)
{
    int64_t width = store->tiers.tier[tier].width_ms, id = 0;
    g_autoptr(GArray) out = g_array_new(FALSE, FALSE, sizeof(ForeTierPoint));
    g_autoptr(GArray) ids = NULL;
    Collect c = {out, from_ms, to_ms};

    g_assert(tier < FORE_ROLLUP_TIERS);
    if (!find_row(store, vm, source, metric, &id, error)) {
        return NULL;
    }
    if (fore_name_is_valid(vm) && field_of(source, metric) < FORE_FIELD_N) {
        (void)fore_store_series_of(store, vm); /* brings the tail that is in no block to memory */
    } else if (id != 0) {
        (void)fore_store_line_of(store, vm, source, metric, NULL);
    }
    ids = list_parts(store, id, width, from_ms, to_ms, error);
    for (guint i = 0; ids != NULL && i < ids->len; i++) {
        if (read_block(store, g_array_index(ids, int64_t, i), &c, error) < 0 ||
            too_many(store, out->len, error)) {
            return NULL;
        }
    }
    if (ids == NULL) {
        return NULL;
    }
    collect_memory(store, vm, source, metric, tier, &c);
    if (!roll_rest(store, vm, source, metric, width, &c, error)) {
        return NULL;
    }
    merge_equal(out);
    return g_steal_pointer(&out);
}

/* --- what there is --- */

typedef struct {
    char *vm, *source, *metric;
    ForeRunning running;
} Known;

static void known_free(gpointer data)
{
    Known *k = data;

    g_free(k->vm);
    g_free(k->source);
    g_free(k->metric);
    g_free(k);
}

static Known *known(GHashTable *all, const char *vm, const char *source, const char *metric)
{
    g_autofree char *key = g_strjoin(" ", vm, source, metric, NULL);
    Known *k = g_hash_table_lookup(all, key);

    if (k == NULL) {
        k = g_new0(Known, 1);
        k->vm = g_strdup(vm);
        k->source = g_strdup(source);
        k->metric = g_strdup(metric);
        g_hash_table_insert(all, g_steal_pointer(&key), k);
    }
    return k;
}

static void load_lines(ForeStore *store, GHashTable *all)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, all);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Known *k = value;

        if (field_of(k->source, k->metric) == FORE_FIELD_N) {
            (void)fore_store_line_of(store, k->vm, k->source, k->metric, NULL);
        }
    }
}

static bool take_rows(ForeStore *store, const char *vm, GHashTable *all, GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_SERIES_ALL, error);
    int got;

    if (stmt == NULL) {
        return false;
    }
    while ((got = fore_db_next(store->db, stmt, "listing series", error)) == 1) {
        const char *name = (const char *)sqlite3_column_text(stmt, 1);
        const void *blob = sqlite3_column_blob(stmt, 4);
        size_t size = fore_store_unseal(blob, (size_t)sqlite3_column_bytes(stmt, 4));

        if (vm == NULL || strcmp(name, vm) == 0) {
            Known *k = known(all, name, (const char *)sqlite3_column_text(stmt, 2),
                             (const char *)sqlite3_column_text(stmt, 3));

            (void)fore_running_unpack(blob, size, &k->running, 1);
        }
    }
    if (got == 0) { /* with what came after the statistics were written */
        load_lines(store, all);
    }
    return got == 0;
}

/* The live fields of VMs, and whatever memory knows better than the disk */
static void take_memory(ForeStore *store, const char *vm, GHashTable *all)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, store->lines);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const ForeLine *line = value;

        if (vm == NULL || strcmp(line->vm, vm) == 0) {
            Known *k = known(all, line->vm, line->source, line->metric);

            k->running = line->rollup != NULL ? *fore_rollup_running(line->rollup, 0)
                                              : (ForeRunning){.n = 0};
            for (size_t i = line->n - line->n % FORE_LINE_SAMPLES; i < line->n; i++) {
                fore_running_add(&k->running, line->t_ms[i], line->value[i]);
            }
        }
    }
    g_hash_table_iter_init(&iter, store->series);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const ForeSeries *s = value;

        for (unsigned f = 0; f < FORE_FIELD_N && s->rollup != NULL; f++) {
            const ForeRunning *r = fore_rollup_running(s->rollup, f);

            if (r->n > 0 && (vm == NULL || strcmp(s->name, vm) == 0)) {
                fore_running_merge(
                    &known(all, s->name, fore_store_field_source(f), fore_field_names[f])->running,
                    r);
            }
        }
    }
}

bool fore_store_each_series(ForeStore *store, const char *vm, ForeSeriesFn fn, gpointer data,
                            GError **error)
{
    g_autoptr(GHashTable) all = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, known_free);
    g_auto(GStrv) vms = fore_store_vms(store, error);
    g_autoptr(GList) keys = NULL;

    if (vms == NULL || !take_rows(store, vm, all, error)) {
        return false;
    }
    for (char **name = vms; *name != NULL; name++) {
        if (vm == NULL || strcmp(*name, vm) == 0) {
            (void)fore_store_series_of(store, *name); /* with its statistics */
        }
    }
    take_memory(store, vm, all);
    keys = g_list_sort(g_hash_table_get_keys(all), (GCompareFunc)strcmp);
    for (GList *l = keys; l != NULL; l = l->next) {
        const Known *k = g_hash_table_lookup(all, l->data);
        ForeSeriesInfo info = {k->vm, k->source, k->metric, k->running};

        fn(&info, data);
    }
    return true;
}

bool fore_store_tier_totals(ForeStore *store, ForeStoreTierTotal *ret, size_t *n, GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_TIER_TOTAL, error);
    size_t room = *n;
    int got;

    *n = 0;
    if (stmt == NULL) {
        return false;
    }
    while ((got = fore_db_next(store->db, stmt, "reading totals", error)) == 1) {
        if (*n < room) {
            ret[(*n)++] = (ForeStoreTierTotal){.width_ms = sqlite3_column_int64(stmt, 0),
                                               .points = (uint64_t)sqlite3_column_int64(stmt, 1),
                                               .blocks = (uint64_t)sqlite3_column_int64(stmt, 2),
                                               .bytes = (uint64_t)sqlite3_column_int64(stmt, 3)};
        }
    }
    return got == 0;
}
