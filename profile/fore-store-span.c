/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Samples of VMs to disk: spans, the live one growing, and whole histories at once. */
#include <math.h>

#include "common/fore-error.h"
#include "profile/fore-store-priv.h"

G_STATIC_ASSERT(FORE_SPAN_SAMPLES < FORE_RING_SAMPLES && FORE_SPAN_SAMPLES <= FORE_CHUNK_MAX);
G_STATIC_ASSERT(FORE_FIELD_N <= FORE_DB_FIELDS);

#define IMPORT_SAMPLES 480 /* of a span: what comes at once need not stay short */

static void bind_sealed(sqlite3_stmt *stmt, int at, GByteArray *blob)
{
    fore_store_seal(blob);
    sqlite3_bind_blob(stmt, at, blob->data, (int)blob->len, SQLITE_STATIC);
}

/* Writes the row of the span; p->span_id 0: a new one, and set.  @seq: -1: none.  Adds to @bytes.
 */
static bool write_times(ForeStore *store, ForeProgress *p, int64_t seq, const ForeSample *const *s,
                        size_t n, int64_t *bytes, GError **error)
{
    int64_t wall_ms[FORE_CHUNK_MAX], mono_ns[FORE_CHUNK_MAX], t0 = INT64_MAX, t1 = INT64_MIN;
    bool fresh = p->span_id == 0;
    sqlite3_stmt *stmt =
        fore_db_ready(store->db, fresh ? FORE_SQL_SPAN_ADD : FORE_SQL_SPAN_SET, error);
    g_autoptr(GByteArray) wall = NULL;
    g_autoptr(GByteArray) mono = NULL;
    int at = fresh ? 2 : 1;

    if (stmt == NULL) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        wall_ms[i] = s[i]->wall_ms;
        mono_ns[i] = (int64_t)s[i]->mono_ns;
        t0 = MIN(t0, wall_ms[i]);
        t1 = MAX(t1, wall_ms[i]);
    }
    wall = fore_chunk_pack_times(wall_ms, n);
    mono = fore_chunk_pack_times(mono_ns, n);
    sqlite3_bind_int64(stmt, fresh ? 1 : 6, fresh ? p->vm_id : p->span_id);
    sqlite3_bind_int64(stmt, at, t0);
    sqlite3_bind_int64(stmt, at + 1, t1);
    sqlite3_bind_int64(stmt, at + 2, (int64_t)n);
    bind_sealed(stmt, at + 3, wall);
    bind_sealed(stmt, at + 4, mono);
    if (fresh && seq >= 0) {
        sqlite3_bind_int64(stmt, 7, seq);
    }
    if (!fore_db_run(store->db, stmt, "writing a span", error)) {
        return false;
    }
    if (fresh) {
        p->span_id = sqlite3_last_insert_rowid(fore_db_handle(store->db));
    }
    *bytes += wall->len + mono->len;
    return true;
}

/* Writes one field of the span, if it has any value.  Adds to @chunks and @bytes. */
static bool write_field(ForeStore *store, const ForeProgress *p, ForeField field,
                        const ForeSample *const *s, size_t n, int64_t *chunks, int64_t *bytes,
                        GError **error)
{
    g_autoptr(GByteArray) body = NULL;
    double v[FORE_CHUNK_MAX];
    sqlite3_stmt *stmt;

    for (size_t i = 0; i < n; i++) {
        bool usable = FORE_HAS(s[i], field) && isfinite(s[i]->value[field]);

        v[i] = usable ? s[i]->value[field] : NAN;
    }
    body = fore_chunk_pack_values(v, n);
    if (body == NULL) {
        return true;
    }
    stmt = fore_db_ready(store->db, FORE_SQL_CHUNK_SET, error);
    if (stmt == NULL) {
        return false;
    }
    sqlite3_bind_int64(stmt, 1, p->span_id * FORE_DB_FIELDS + field);
    bind_sealed(stmt, 2, body);
    *chunks += 1;
    *bytes += body->len;
    return fore_db_run(store->db, stmt, "writing a chunk", error);
}

/* @s: [n], all samples of the span; @n_before: how many of them the disk had */
static bool write_span(ForeStore *store, ForeProgress *p, int64_t seq, const ForeSample *const *s,
                       size_t n, size_t n_before, GError **error)
{
    int64_t chunks = 0, bytes = 0;
    sqlite3_stmt *stmt;

    if (!write_times(store, p, seq, s, n, &bytes, error)) {
        return false;
    }
    for (unsigned field = 0; field < FORE_FIELD_N; field++) {
        if (!write_field(store, p, field, s, n, &chunks, &bytes, error)) {
            return false;
        }
    }
    stmt = fore_db_ready(store->db, FORE_SQL_TOTAL_ADD, error);
    if (stmt == NULL) {
        return false;
    }
    sqlite3_bind_int64(stmt, 1, (int64_t)(n - n_before));
    sqlite3_bind_int64(stmt, 2, chunks - p->span_chunks);
    sqlite3_bind_int64(stmt, 3, bytes - p->span_bytes);
    p->span_chunks = chunks;
    p->span_bytes = bytes;
    return fore_db_run(store->db, stmt, "counting", error);
}

bool fore_store_write_series(ForeStore *store, ForeSeries *series, GError **error)
{
    const ForeSample *s[FORE_SPAN_SAMPLES];
    ForeProgress *p = &series->next;
    uint64_t end = fore_ring_next(series->ring);

    *p = series->done;
    p->rolled = 0;
    if (p->flushed == end) {
        return true;
    }
    if (p->vm_id == 0 && !fore_store_find_or_add_vm(store, series->name, &p->vm_id, error)) {
        return false;
    }
    if (series->rollup == NULL && !fore_store_restore(store, series, error)) {
        return false;
    }
    while (p->flushed < end) {
        size_t n;

        if (p->span_id == 0) {
            p->span_first = p->flushed;
            p->span_chunks = p->span_bytes = 0;
        }
        n = (size_t)MIN(end - p->span_first, (uint64_t)FORE_SPAN_SAMPLES);
        for (size_t i = 0; i < n; i++) {
            s[i] = fore_ring_at(series->ring, p->span_first + i);
        }
        if (!write_span(store, p, (int64_t)(series->base + p->span_first), s, n,
                        (size_t)(p->flushed - p->span_first), error)) {
            return false;
        }
        p->flushed = p->span_first + n;
        if (n == FORE_SPAN_SAMPLES) {
            p->span_id = 0;
        }
    }
    return fore_store_write_ready(store, series->rollup, p->vm_id, 0, true, series->base + end,
                                  &p->rolled, error);
}

/* --- whole histories --- */

/* A history of its own: no live sample continues it, so all of its intervals are closed. */
static bool roll_up_import(ForeStore *store, int64_t vm_id, const ForeSample *samples, size_t n,
                           GError **error)
{
    const uint64_t from[FORE_ROLLUP_TIERS] = {0, 0};
    g_autoptr(ForeRollup) rollup = fore_store_new_rollup(store, FORE_FIELD_N, from, NULL, true);
    guint written = 0;

    for (size_t i = 0; i < n; i++) {
        if (i % IMPORT_SAMPLES == 0) { /* a span, as import_all() cuts them */
            size_t take = MIN(n - i, (size_t)IMPORT_SAMPLES);
            int64_t t0 = INT64_MAX, t1 = INT64_MIN;

            for (size_t k = i; k < i + take; k++) {
                t0 = MIN(t0, samples[k].wall_ms);
                t1 = MAX(t1, samples[k].wall_ms);
            }
            fore_rollup_skip(rollup, fore_store_too_coarse(store, t0, t1, take));
            if (!fore_store_write_ready(store, rollup, vm_id, 0, false, i, &written, error)) {
                return false;
            }
            fore_rollup_written(rollup, written);
        }
        fore_store_roll_sample(rollup, i, &samples[i]);
    }
    fore_rollup_finish(rollup, n);
    return fore_store_write_ready(store, rollup, vm_id, 0, false, n, &written, error);
}

static bool import_all(ForeStore *store, const char *vm, const ForeSample *samples, size_t n,
                       GError **error)
{
    const ForeSample *s[IMPORT_SAMPLES];
    ForeProgress p = {.vm_id = 0};

    if (!fore_store_find_or_add_vm(store, vm, &p.vm_id, error)) {
        return false;
    }
    for (size_t at = 0; at < n; at += IMPORT_SAMPLES) {
        size_t take = MIN(n - at, (size_t)IMPORT_SAMPLES);

        for (size_t i = 0; i < take; i++) {
            s[i] = &samples[at + i];
        }
        p.span_id = p.span_chunks = p.span_bytes = 0;
        if (!write_span(store, &p, -1, s, take, 0, error)) {
            return false;
        }
    }
    return roll_up_import(store, p.vm_id, samples, n, error);
}

bool fore_store_import(ForeStore *store, const char *vm, const ForeSample *samples, size_t n,
                       GError **error)
{
    ForeSeries *series;

    if (!fore_name_is_valid(vm)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "cannot import samples: '%s' is no VM name; use letters, digits, '.', '_', '-'",
                    vm);
        return false;
    }
    if (!fore_store_ready(store, error) || !fore_db_begin(store->db, error)) {
        return false;
    }
    series = fore_store_series_of(store, vm);
    if (!import_all(store, vm, samples, n, error)) {
        fore_db_rollback(store->db);
        return false;
    }
    if (!fore_db_commit(store->db, error)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        series->older_ms = MAX(series->older_ms, samples[i].wall_ms);
    }
    return true;
}
