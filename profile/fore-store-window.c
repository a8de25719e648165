/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Samples out: spans from the disk, then what only the ring has.  A sample is taken from the disk
 * when it is there (seq < done.flushed) and from the ring otherwise, so none comes twice; when
 * nothing that left the ring can be inside the window, the disk is not asked at all.
 */
#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "profile/fore-store-priv.h"

/* Fills in one field of the samples of @span.  @out: [span->n] */
static bool decode_field(sqlite3_stmt *stmt, const ForeSpan *span, ForeSample *out)
{
    int64_t field = sqlite3_column_int64(stmt, 0) - span->id * FORE_DB_FIELDS;
    const void *blob = sqlite3_column_blob(stmt, 1);
    size_t size = fore_store_unseal(blob, (size_t)sqlite3_column_bytes(stmt, 1)), n = 0;
    double v[FORE_CHUNK_MAX];

    if (size == 0 || !fore_chunk_unpack_values(blob, size, v, &n, NULL) || n != span->n) {
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

/* @out: [span->n], zeroed.  Returns: 1, 0 a page is damaged, -1 @error; a damaged chunk is left out
 */
static int read_fields(ForeStore *store, const ForeSpan *span, ForeSample *out, GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_CHUNKS, error);
    g_autoptr(GError) why = NULL;
    int64_t bad[FORE_DB_FIELDS];
    unsigned n_bad = 0;
    int got;

    if (stmt == NULL) {
        return -1;
    }
    sqlite3_bind_int64(stmt, 1, span->id * FORE_DB_FIELDS);
    sqlite3_bind_int64(stmt, 2, span->id * FORE_DB_FIELDS + FORE_DB_FIELDS - 1);
    while ((got = fore_db_next(store->db, stmt, "reading chunks", &why)) == 1) {
        if (!decode_field(stmt, span, out)) {
            bad[n_bad++] = sqlite3_column_int64(stmt, 0); /* at most one of each field */
        }
    }
    for (unsigned i = 0; i < n_bad; i++) {
        fore_store_damage_span(store, span->id, bad[i], false);
    }
    if (got < 0 && !fore_store_is_damage(why)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return -1;
    }
    return got == 0;
}

/* The row that @stmt stands on */
static bool take_times(sqlite3_stmt *stmt, ForeSpan *ret)
{
    int64_t *const into[] = {ret->wall_ms, ret->mono_ns};
    size_t n[2] = {0, 0};

    for (int i = 0; i < 2; i++) {
        const void *blob = sqlite3_column_blob(stmt, i);
        size_t size = fore_store_unseal(blob, (size_t)sqlite3_column_bytes(stmt, i));

        if (size == 0 || !fore_chunk_unpack_times(blob, size, into[i], &n[i], NULL)) {
            return false;
        }
    }
    ret->n = n[0];
    return n[0] == n[1];
}

int fore_store_read_span(ForeStore *store, int64_t id, ForeSpan *span, GArray *out, GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_SPAN_GET, error);
    g_autoptr(GError) why = NULL;
    guint first = out->len;
    ForeSample *s;
    int got, fields;

    if (stmt == NULL) {
        return -1;
    }
    sqlite3_bind_int64(stmt, 1, id);
    got = fore_db_next(store->db, stmt, "reading a span", &why);
    if (got == 1) {
        bool ok = take_times(stmt, span);

        sqlite3_reset(stmt);
        if (!ok) {
            fore_store_damage_span(store, id, 0, false);
            return 0;
        }
    }
    if (got < 0 && !fore_store_is_damage(why)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return -1;
    }
    if (got != 1) {
        if (got < 0) {
            fore_db_recover(store->db);
            fore_store_damage_span(store, id, 0, true);
            fore_db_recover(store->db);
        }
        return 0;
    }
    span->id = id;
    g_array_set_size(out, first + (guint)span->n); /* zeroed: the array was made to clear */
    s = &g_array_index(out, ForeSample, first);
    fields = read_fields(store, span, s, error);
    if (fields <= 0) {
        g_array_set_size(out, first);
        if (fields == 0) {
            fore_db_recover(store->db);
            fore_store_damage_span(store, id, 0, true);
        }
        return fields;
    }
    for (size_t i = 0; i < span->n; i++) {
        s[i].wall_ms = span->wall_ms[i];
        s[i].mono_ns = (uint64_t)span->mono_ns[i];
    }
    return 1;
}

static bool read_span(ForeStore *store, int64_t id, ForeSpan *span, int64_t from_ms, int64_t to_ms,
                      GArray *out, GError **error)
{
    guint keep = out->len, first = keep;

    if (fore_store_read_span(store, id, span, out, error) < 0) {
        return false;
    }
    for (guint i = first; i < out->len; i++) {
        ForeSample s = g_array_index(out, ForeSample, i);

        if (s.wall_ms >= from_ms && s.wall_ms <= to_ms) {
            if (keep != i) {
                g_array_index(out, ForeSample, keep) = s;
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

static bool read_disk(ForeStore *store, int64_t vm_id, int64_t from_ms, int64_t to_ms, GArray *out,
                      GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_SPANS, error);
    g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(int64_t));
    g_autofree ForeSpan *span = g_new(ForeSpan, 1);
    int got;

    if (stmt == NULL) {
        return false;
    }
    sqlite3_bind_int64(stmt, 1, vm_id);
    sqlite3_bind_int64(stmt, 2, from_ms);
    sqlite3_bind_int64(stmt, 3, to_ms);
    while ((got = fore_db_next(store->db, stmt, "listing spans", error)) == 1) {
        int64_t id = sqlite3_column_int64(stmt, 0);

        g_array_append_val(ids, id);
    }
    /* Each by itself: one that is damaged does not keep the others from being read. */
    for (guint i = 0; got == 0 && i < ids->len; i++) {
        if (!read_span(store, g_array_index(ids, int64_t, i), span, from_ms, to_ms, out, error)) {
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
