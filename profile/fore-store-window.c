/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Samples out: spans from the disk, then what only the ring has.  A sample is taken from the disk
 * when it is there (seq < done.flushed) and from the ring otherwise, so none comes twice; when
 * nothing that left the ring can be inside the window, the disk is not asked at all.
 */
#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "profile/fore-chunk.h"
#include "profile/fore-store-priv.h"

typedef struct {
    int64_t id;
    size_t n;
    int64_t wall_ms[FORE_CHUNK_MAX];
    int64_t mono_ns[FORE_CHUNK_MAX];
} Span;

static bool contradiction(ForeStore *store, const char *what, int64_t span, GError **error)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                "store '%s': integrity: span %" G_GINT64_FORMAT
                ": %s; move the file away and restore it",
                fore_db_path(store->db), span, what);
    return false;
}

/* Fills in one field of the samples of @span.  @out: [span->n] */
static bool decode_field(sqlite3_stmt *stmt, const Span *span, ForeSample *out)
{
    int64_t field = sqlite3_column_int64(stmt, 0) - span->id * FORE_DB_FIELDS;
    double v[FORE_CHUNK_MAX];
    size_t n = 0;

    if (!fore_chunk_unpack_values(sqlite3_column_blob(stmt, 1),
                                  (size_t)sqlite3_column_bytes(stmt, 1), v, &n, NULL) ||
        n != span->n) {
        return false;
    }
    for (size_t i = 0; field < FORE_FIELD_N && i < n;
         i++) { /* a later version may know more fields */
        if (!isnan(v[i])) {
            out[i].value[field] = v[i];
            out[i].valid |= 1u << field;
        }
    }
    return true;
}

/* @out: [span->n], zeroed */
static bool read_fields(ForeStore *store, const Span *span, ForeSample *out, GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_CHUNKS, error);
    int got;

    if (stmt == NULL) {
        return false;
    }
    sqlite3_bind_int64(stmt, 1, span->id * FORE_DB_FIELDS);
    sqlite3_bind_int64(stmt, 2, span->id * FORE_DB_FIELDS + FORE_DB_FIELDS - 1);
    while ((got = fore_db_next(store->db, stmt, "reading chunks", error)) == 1) {
        if (!decode_field(stmt, span, out)) {
            sqlite3_reset(stmt);
            return contradiction(store, "a chunk does not decode", span->id, error);
        }
    }
    return got == 0;
}

static bool read_span(ForeStore *store, const Span *span, int64_t from_ms, int64_t to_ms,
                      GArray *out, GError **error)
{
    guint first = out->len, keep = first;
    ForeSample *s;

    g_array_set_size(out, first + (guint)span->n); /* zeroed: the array was made to clear */
    s = &g_array_index(out, ForeSample, first);
    if (!read_fields(store, span, s, error)) {
        return false;
    }
    for (size_t i = 0; i < span->n; i++) {
        s[i].wall_ms = span->wall_ms[i];
        s[i].mono_ns = (uint64_t)span->mono_ns[i];
        if (s[i].wall_ms >= from_ms && s[i].wall_ms <= to_ms) {
            if (keep != first + i) {
                g_array_index(out, ForeSample, keep) = s[i];
            }
            keep++;
        }
    }
    g_array_set_size(out, keep);
    if (out->len > FORE_STORE_WINDOW_MAX) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "store '%s': a window of more than %d samples; ask for a shorter one",
                    fore_db_path(store->db), FORE_STORE_WINDOW_MAX);
        return false;
    }
    return true;
}

/* The row that @stmt stands on */
static bool take_span(ForeStore *store, sqlite3_stmt *stmt, Span *ret, GError **error)
{
    size_t n_mono = 0;

    ret->id = sqlite3_column_int64(stmt, 0);
    if (!fore_chunk_unpack_times(sqlite3_column_blob(stmt, 1),
                                 (size_t)sqlite3_column_bytes(stmt, 1), ret->wall_ms, &ret->n,
                                 NULL) ||
        !fore_chunk_unpack_times(sqlite3_column_blob(stmt, 2),
                                 (size_t)sqlite3_column_bytes(stmt, 2), ret->mono_ns, &n_mono,
                                 NULL) ||
        n_mono != ret->n) {
        return contradiction(store, "a time column does not decode", ret->id, error);
    }
    return true;
}

static bool read_disk(ForeStore *store, int64_t vm_id, int64_t from_ms, int64_t to_ms, GArray *out,
                      GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_SPANS, error);
    g_autofree Span *span = g_new(Span, 1);
    int got;

    if (stmt == NULL) {
        return false;
    }
    sqlite3_bind_int64(stmt, 1, vm_id);
    sqlite3_bind_int64(stmt, 2, from_ms);
    sqlite3_bind_int64(stmt, 3, to_ms);
    while ((got = fore_db_next(store->db, stmt, "reading spans", error)) == 1) {
        if (!take_span(store, stmt, span, error) ||
            !read_span(store, span, from_ms, to_ms, out, error)) {
            sqlite3_reset(stmt);
            return false;
        }
    }
    return got == 0;
}

static void read_ring(const ForeRing *ring, uint64_t from_seq, int64_t from_ms, int64_t to_ms,
                      GArray *out)
{
    uint64_t seq = MAX(from_seq, fore_ring_first(ring));

    for (; seq < fore_ring_next(ring); seq++) {
        ForeSample s = *fore_ring_at(ring, seq);

        for (unsigned field = 0; field < FORE_FIELD_N; field++) {
            if (!FORE_HAS(&s, field) || !isfinite(s.value[field])) {
                s.valid &= ~(1u << field); /* as it will come from the disk */
                s.value[field] = 0;
            }
        }
        if (s.wall_ms >= from_ms && s.wall_ms <= to_ms) {
            g_array_append_val(out, s);
        }
    }
}

static int by_wall(const void *a, const void *b)
{
    const ForeSample *x = a, *y = b;

    return (x->wall_ms > y->wall_ms) - (x->wall_ms < y->wall_ms);
}

static void sort_when_needed(GArray *out)
{
    for (guint i = 1; i < out->len; i++) {
        if (g_array_index(out, ForeSample, i - 1).wall_ms >
            g_array_index(out, ForeSample, i).wall_ms) {
            g_array_sort(out, by_wall); /* stable: ties stay in order of arrival */
            return;
        }
    }
}

GArray *fore_store_window(ForeStore *store, const char *vm, int64_t from_ms, int64_t to_ms,
                          GError **error)
{
    g_autoptr(GArray) out = g_array_new(FALSE, TRUE, sizeof(ForeSample));
    const ForeSeries *s = g_hash_table_lookup(store->series, vm);
    g_autoptr(GError) why = NULL;
    bool from_disk = s == NULL || from_ms <= s->older_ms;
    int64_t id = 0;

    if (from_disk && (!fore_store_vm_id(store, vm, &id, &why) ||
                      (id != 0 && !read_disk(store, id, from_ms, to_ms, out, &why)))) {
        if (!g_error_matches(why, FORE_ERROR, FORE_ERROR_UNAVAILABLE) || s == NULL) {
            g_propagate_error(error, g_steal_pointer(&why));
            return NULL;
        }
        fore_store_note(store, why); /* the disk is away: what memory has must do */
        g_array_set_size(out, 0);
        from_disk = false;
    }
    if (s != NULL) {
        read_ring(s->ring, from_disk ? s->done.flushed : 0, from_ms, to_ms, out);
    }
    sort_when_needed(out);
    return g_steal_pointer(&out);
}

char **fore_store_vms(ForeStore *store, GError **error)
{
    g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_VMS, error);
    GPtrArray *list;
    GList *sorted;
    GHashTableIter iter;
    gpointer key;
    int got;

    if (stmt == NULL) {
        return NULL;
    }
    while ((got = fore_db_next(store->db, stmt, "listing VMs", error)) == 1) {
        g_hash_table_add(names, g_strdup((const char *)sqlite3_column_text(stmt, 0)));
    }
    if (got < 0) {
        return NULL;
    }
    g_hash_table_iter_init(&iter, store->series);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        g_hash_table_add(names, g_strdup(key));
    }
    sorted = g_list_sort(g_hash_table_get_keys(names), (GCompareFunc)strcmp);
    list = g_ptr_array_new();
    for (GList *l = sorted; l != NULL; l = l->next) {
        g_ptr_array_add(list, g_strdup(l->data));
    }
    g_list_free(sorted);
    g_ptr_array_add(list, NULL);
    return (char **)g_ptr_array_free(list, FALSE);
}
