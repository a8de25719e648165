/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works
 *
 * A sample goes into the ring of its VM.  When a VM has 60 samples that are not on disk, or 60 s
 * have passed since the last write, all VMs are written in one transaction (one fsync).  Samples
 * are written as spans: a row with the time columns, and a chunk for each field that has values.  A
 * span keeps growing, its rows being replaced, up to SPAN_SAMPLES: so a write every minute costs
 * little and yet chunks get long enough to compress.  What is in memory moves on (done = next) only
 * after the commit.
 *
 * Invariants: samples with seq < done.flushed are on disk, the others are in the ring or counted in
 * lost_samples; a growing span lies within the ring.  After a disk error nothing moves on; a new
 * attempt is made with the first sample that comes RETRY_NS later, as told by the samples' own
 * clock.
 *
 * Left out: bounding the age of what is kept (a wall clock that jumps must not delete history).
 */
#include "profile/fore-store.h"

#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "profile/fore-chunk.h"
#include "profile/fore-store-priv.h"

#define FLUSH_SAMPLES 60
#define FLUSH_NS      (60 * FORE_NS_PER_S)
#define RETRY_NS      (5 * FORE_NS_PER_S)
#define SPAN_SAMPLES  240

G_STATIC_ASSERT(SPAN_SAMPLES < FORE_RING_SAMPLES && SPAN_SAMPLES <= FORE_CHUNK_MAX);
G_STATIC_ASSERT(FORE_FIELD_N <= FORE_DB_FIELDS);

static void series_free(gpointer data)
{
    ForeSeries *s = data;

    fore_ring_free(s->ring);
    g_free(s->name);
    g_free(s);
}

ForeStore *fore_store_open(const char *path, const uint8_t *key, GError **error)
{
    ForeDb *db = fore_db_open(path, key, error);
    ForeStore *store;

    if (db == NULL) {
        return NULL;
    }
    store = g_new0(ForeStore, 1);
    store->db = db;
    store->series = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, series_free);
    store->disk_ok = true;
    return store;
}

void fore_store_close(ForeStore *store)
{
    if (store == NULL) {
        return;
    }
    (void)fore_store_flush(store, NULL); /* a last attempt; health has told of failures before */
    fore_db_close(store->db);
    g_hash_table_unref(store->series);
    g_free(store);
}

void fore_store_note(ForeStore *store, const GError *why)
{
    if (why == NULL) {
        if (!store->disk_ok) {
            store->reason[0] = '\0';
        }
        store->disk_ok = true;
    } else {
        store->disk_ok = false;
        g_strlcpy(store->reason, why->message, sizeof(store->reason));
    }
}

bool fore_store_ready(ForeStore *store, GError **error)
{
    bool renewed = false;
    GHashTableIter iter;
    gpointer value;

    if (!fore_db_renew(store->db, &renewed, error)) {
        return false;
    }
    if (renewed) {
        g_hash_table_iter_init(&iter, store->series);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
            ForeSeries *s = value;

            s->done = (ForeProgress){.flushed = fore_ring_first(s->ring)};
        }
        store->disk_ok = true;
        g_snprintf(store->reason, sizeof(store->reason),
                   "the file was gone; a new one was started and has what memory held");
    }
    return true;
}

/* --- writing --- */

static void bind_blob(sqlite3_stmt *stmt, int at, const GByteArray *blob)
{
    sqlite3_bind_blob(stmt, at, blob->data, (int)blob->len, SQLITE_STATIC);
}

bool fore_store_vm_id(ForeStore *store, const char *name, int64_t *ret_id, GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_VM_ID, error);
    int got;

    *ret_id = 0;
    if (stmt == NULL) {
        return false;
    }
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    got = fore_db_next(store->db, stmt, "looking a VM up", error);
    if (got == 1) {
        *ret_id = sqlite3_column_int64(stmt, 0);
        sqlite3_reset(stmt);
    }
    return got >= 0;
}

static bool find_or_add_vm(ForeStore *store, const char *name, int64_t *ret_id, GError **error)
{
    sqlite3_stmt *stmt;

    if (!fore_store_vm_id(store, name, ret_id, error)) {
        return false;
    }
    if (*ret_id != 0) {
        return true;
    }
    stmt = fore_db_ready(store->db, FORE_SQL_VM_ADD, error);
    if (stmt == NULL) {
        return false;
    }
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    return fore_db_run(store->db, stmt, "adding a VM", error) &&
           fore_store_vm_id(store, name, ret_id, error);
}

/* Writes the row of the span; p->span_id 0: a new one, and set.  Adds to @bytes. */
static bool write_times(ForeStore *store, ForeProgress *p, const ForeSample *const *s, size_t n,
                        int64_t *bytes, GError **error)
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
    bind_blob(stmt, at + 3, wall);
    bind_blob(stmt, at + 4, mono);
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
    bind_blob(stmt, 2, body);
    *chunks += 1;
    *bytes += body->len;
    return fore_db_run(store->db, stmt, "writing a chunk", error);
}

/* @s: [n], all samples of the span; @n_before: how many of them the disk had */
static bool write_span(ForeStore *store, ForeProgress *p, const ForeSample *const *s, size_t n,
                       size_t n_before, GError **error)
{
    int64_t chunks = 0, bytes = 0;
    sqlite3_stmt *stmt;

    if (!write_times(store, p, s, n, &bytes, error)) {
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

/* Writes what the ring of @series has and the disk has not; s->next tells how far. */
static bool write_series(ForeStore *store, ForeSeries *series, GError **error)
{
    const ForeSample *s[SPAN_SAMPLES];
    ForeProgress *p = &series->next;
    uint64_t end = fore_ring_next(series->ring);

    *p = series->done;
    if (p->flushed == end) {
        return true;
    }
    if (p->vm_id == 0 && !find_or_add_vm(store, series->name, &p->vm_id, error)) {
        return false;
    }
    while (p->flushed < end) {
        size_t n;

        if (p->span_id == 0) {
            p->span_first = p->flushed;
            p->span_chunks = p->span_bytes = 0;
        }
        n = (size_t)MIN(end - p->span_first, (uint64_t)SPAN_SAMPLES);
        for (size_t i = 0; i < n; i++) {
            s[i] = fore_ring_at(series->ring, p->span_first + i);
        }
        if (!write_span(store, p, s, n, (size_t)(p->flushed - p->span_first), error)) {
            return false;
        }
        p->flushed = p->span_first + n;
        if (n == SPAN_SAMPLES) {
            p->span_id = 0;
        }
    }
    return true;
}

static bool write_all(ForeStore *store, GError **error)
{
    GHashTableIter iter;
    gpointer value;

    if (!fore_store_ready(store, error) || !fore_db_begin(store->db, error)) {
        return false;
    }
    g_hash_table_iter_init(&iter, store->series);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        if (!write_series(store, value, error)) {
            fore_db_rollback(store->db);
            return false;
        }
    }
    if (!fore_db_commit(store->db, error)) {
        return false;
    }
    g_hash_table_iter_init(&iter, store->series);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        ((ForeSeries *)value)->done = ((ForeSeries *)value)->next;
    }
    return true;
}

bool fore_store_flush(ForeStore *store, GError **error)
{
    g_autoptr(GError) why = NULL;
    bool ok = write_all(store, &why);

    fore_store_note(store, why);
    if (!ok) {
        g_propagate_error(error, g_steal_pointer(&why));
    }
    return ok;
}

/* --- samples in --- */

static void find_newest(ForeStore *store, ForeSeries *s)
{
    sqlite3_stmt *stmt;
    int64_t id = 0;

    s->older_ms = INT64_MAX; /* until the disk says otherwise: always look there */
    if (!fore_store_vm_id(store, s->name, &id, NULL)) {
        return;
    }
    s->done.vm_id = id;
    stmt = fore_db_ready(store->db, FORE_SQL_NEWEST, NULL);
    if (stmt == NULL) {
        return;
    }
    sqlite3_bind_int64(stmt, 1, id);
    if (fore_db_next(store->db, stmt, "looking for the newest sample", NULL) == 1) {
        bool none = sqlite3_column_type(stmt, 0) == SQLITE_NULL;

        s->older_ms = none ? INT64_MIN : sqlite3_column_int64(stmt, 0);
        sqlite3_reset(stmt);
    }
}

static ForeSeries *series_of(ForeStore *store, const char *vm)
{
    ForeSeries *s = g_hash_table_lookup(store->series, vm);

    if (s == NULL) {
        s = g_new0(ForeSeries, 1);
        s->name = g_strdup(vm);
        s->ring = fore_ring_new(FORE_RING_SAMPLES);
        find_newest(store, s);
        g_hash_table_insert(store->series, s->name, s);
    }
    return s;
}

/* The oldest sample of a full ring is about to go. */
static void let_go_of_oldest(ForeStore *store, ForeSeries *s)
{
    uint64_t first = fore_ring_first(s->ring);
    const ForeSample *oldest = fore_ring_at(s->ring, first);

    s->older_ms = MAX(s->older_ms, oldest->wall_ms);
    if (s->done.span_id != 0 && s->done.span_first <= first) {
        s->done.span_id = 0; /* it cannot grow without its first sample */
    }
    if (s->done.flushed <= first) {
        s->done.flushed = first + 1;
        store->lost_samples++;
    }
}

void fore_store_append(ForeStore *store, const char *vm, const ForeSample *sample)
{
    uint64_t now = sample->mono_ns;
    ForeSeries *s;
    bool due;

    if (!fore_name_is_valid(vm)) {
        store->lost_samples++; /* names are checked where VMs are added; this one has no history */
        return;
    }
    if (!store->clock_started) {
        store->clock_started = true;
        store->last_flush_ns = store->last_try_ns = now;
    }
    s = series_of(store, vm);
    if (fore_ring_next(s->ring) - fore_ring_first(s->ring) == FORE_RING_SAMPLES) {
        let_go_of_oldest(store, s);
    }
    fore_ring_push(s->ring, sample);
    /* Unsigned: a clock that went backwards is long ago, and a write is due. */
    due = fore_ring_next(s->ring) - s->done.flushed >= FLUSH_SAMPLES ||
          now - store->last_flush_ns >= FLUSH_NS;
    if (due && (store->disk_ok || now - store->last_try_ns >= RETRY_NS)) {
        store->last_try_ns = now;
        if (fore_store_flush(store, NULL)) {
            store->last_flush_ns = now;
        }
    }
}

static bool import_all(ForeStore *store, ForeSeries *series, const ForeSample *samples, size_t n,
                       GError **error)
{
    const ForeSample *s[SPAN_SAMPLES];
    ForeProgress p = {.vm_id = 0};

    if (!find_or_add_vm(store, series->name, &p.vm_id, error)) {
        return false;
    }
    for (size_t at = 0; at < n; at += SPAN_SAMPLES) {
        size_t take = MIN(n - at, (size_t)SPAN_SAMPLES);

        for (size_t i = 0; i < take; i++) {
            s[i] = &samples[at + i];
        }
        p.span_id = p.span_chunks = p.span_bytes = 0;
        if (!write_span(store, &p, s, take, 0, error)) {
            return false;
        }
    }
    return true;
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
    series = series_of(store, vm);
    if (!import_all(store, series, samples, n, error)) {
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
