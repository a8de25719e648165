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
 * Other series (fore-store-line.c), roll-up into tiers and retention (fore-store-tiers.c) are
 * written in the same transaction.  Retention goes by the wall clock of the samples, and only after
 * that has run with the monotonic clock for SETTLE_NS: a jump of the clock deletes nothing.
 */
#include "profile/fore-store.h"

#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "profile/fore-store-priv.h"

#define FLUSH_SAMPLES 60
#define FLUSH_NS      (60 * FORE_NS_PER_S)
#define RETRY_NS      (5 * FORE_NS_PER_S)
#define SETTLE_NS     (3600 * FORE_NS_PER_S)
#define JUMP_MS       60000

static void series_free(gpointer data)
{
    ForeSeries *s = data;

    fore_ring_free(s->ring);
    fore_rollup_free(s->rollup);
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
    fore_store_rekey_sweep(path); /* the lock is ours now: nobody is at it */
    store = g_new0(ForeStore, 1);
    store->db = db;
    store->series = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, series_free);
    store->lines = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, fore_line_free);
    store->disk_ok = true;
    (void)fore_store_tiers_parse(FORE_STORE_TIERS_DEFAULT, &store->tiers, NULL);
    return store;
}

void fore_store_close(ForeStore *store)
{
    if (store == NULL) {
        return;
    }
    fore_store_rekey_cancel(store);
    (void)fore_store_flush(store, NULL); /* a last attempt; health has told of failures before */
    fore_db_close(store->db);
    g_hash_table_unref(store->series);
    g_hash_table_unref(store->lines);
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
        fore_store_rekey_cancel(store);
        g_hash_table_iter_init(&iter, store->series);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
            ForeSeries *s = value;

            s->done = (ForeProgress){.flushed = fore_ring_first(s->ring)};
        }
        g_hash_table_iter_init(&iter, store->lines);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
            ((ForeLine *)value)->done = (ForeLineProgress){.id = 0};
        }
        store->disk_ok = true;
        g_snprintf(store->reason, sizeof(store->reason),
                   "the file was gone; a new one was started and has what memory held");
    }
    return true;
}

/* --- writing --- */

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

bool fore_store_find_or_add_vm(ForeStore *store, const char *name, int64_t *ret_id, GError **error)
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

static bool write_everything(ForeStore *store, GError **error)
{
    GHashTableIter iter;
    gpointer value;
    uint64_t dropped;

    g_hash_table_iter_init(&iter, store->series);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        if (!fore_store_write_series(store, value, error)) {
            return false;
        }
    }
    g_hash_table_iter_init(&iter, store->lines);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        if (!fore_store_write_line(store, value, error)) {
            return false;
        }
    }
    if (store->settled_ns != 0 && store->last_try_ns - store->settled_ns >= SETTLE_NS) {
        int64_t now_ms = (int64_t)(store->last_try_ns / 1000000) + store->clock_offset_ms;

        return fore_store_sweep(store, now_ms, false, &dropped, error);
    }
    return true;
}

/* What was written is written: memory moves on. */
static void move_on(ForeStore *store)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, store->series);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        ForeSeries *s = value;

        s->done = s->next;
        if (s->done.rolled > 0) {
            fore_rollup_written(s->rollup, s->done.rolled);
            s->done.rolled = 0;
        }
    }
    g_hash_table_iter_init(&iter, store->lines);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        fore_line_move_on(value);
    }
}

static bool write_all(ForeStore *store, GError **error)
{
    if (!fore_store_ready(store, error) || !fore_db_begin(store->db, error)) {
        return false;
    }
    if (!write_everything(store, error)) {
        fore_db_rollback(store->db);
        return false;
    }
    if (!fore_db_commit(store->db, error)) {
        return false;
    }
    move_on(store);
    return true;
}

bool fore_store_flush(ForeStore *store, GError **error)
{
    g_autoptr(GError) why = NULL;
    bool ok = write_all(store, &why);

    if (!ok && fore_store_is_damage(why) && store->rekey == NULL) {
        ok = fore_store_set_aside(store, why->message) && write_all(store, NULL);
        if (ok) {
            return true; /* the reason stays: somebody has to look at the old file */
        }
    }
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

ForeSeries *fore_store_series_of(ForeStore *store, const char *vm)
{
    ForeSeries *s = g_hash_table_lookup(store->series, vm);

    if (s == NULL) {
        s = g_new0(ForeSeries, 1);
        s->name = g_strdup(vm);
        s->ring = fore_ring_new(FORE_RING_SAMPLES);
        find_newest(store, s);
        (void)fore_store_restore(store, s,
                                 NULL); /* when the disk is away: before the first write */
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

static void watch_clocks(ForeStore *store, const ForeSample *sample)
{
    int64_t offset_ms = sample->wall_ms - (int64_t)(sample->mono_ns / 1000000);

    if (!store->clock_started) {
        store->clock_started = true;
        store->last_flush_ns = store->last_try_ns = sample->mono_ns;
    }
    if (store->settled_ns == 0 || offset_ms < store->clock_offset_ms - JUMP_MS ||
        offset_ms > store->clock_offset_ms + JUMP_MS) {
        store->settled_ns = MAX(sample->mono_ns, 1u);
        store->clock_offset_ms = offset_ms;
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
    watch_clocks(store, sample);
    s = fore_store_series_of(store, vm);
    if (fore_ring_next(s->ring) - fore_ring_first(s->ring) == FORE_RING_SAMPLES) {
        let_go_of_oldest(store, s);
    }
    fore_ring_push(s->ring, sample);
    if (s->rollup != NULL) {
        fore_store_roll_sample(s->rollup, s->base + fore_ring_next(s->ring) - 1, sample);
    }
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
