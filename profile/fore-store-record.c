/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records, events, health and verification.  Each write is a transaction of its own
 * (synchronous=FULL). */
#include <string.h>

#include "common/fore-error.h"
#include "profile/fore-chunk.h"
#include "profile/fore-store-priv.h"

#define MAX_TEXT (1u << 20) /* bytes of a record or an event */
#define MAX_NAME 255        /* bytes of a kind or key */

static bool check_text(ForeStore *store, const char *kind, const char *key, const char *json,
                       GError **error)
{
    if (strlen(kind) > MAX_NAME || strlen(key) > MAX_NAME || strlen(json) > MAX_TEXT) {
        g_set_error(
            error, FORE_ERROR, FORE_ERROR_LIMIT,
            "store '%s': record %.40s '%.40s' is too long; at most %u bytes of text and %u of "
            "name",
            fore_db_path(store->db), kind, key, MAX_TEXT, MAX_NAME);
        return false;
    }
    return true;
}

/* A statement ready for a write to a file that is still at its path */
static sqlite3_stmt *ready_to_write(ForeStore *store, ForeSql which, GError **error)
{
    return fore_store_ready(store, error) ? fore_db_ready(store->db, which, error) : NULL;
}

bool fore_store_run_write(ForeStore *store, sqlite3_stmt *stmt, const char *doing, GError **error)
{
    g_autoptr(GError) why = NULL;
    bool ok = fore_db_run(store->db, stmt, doing, &why);

    if (ok) {
        if (!store->disk_ok) {
            /* That samples can be written as well, only a flush shows; without new samples none
             * would ever come. */
            (void)fore_store_flush(store, NULL);
        }
        return true;
    }
    if (g_error_matches(why, FORE_ERROR, FORE_ERROR_UNAVAILABLE)) {
        fore_store_note(store, why);
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool fore_store_put(ForeStore *store, const char *kind, const char *key, const char *json,
                    GError **error)
{
    sqlite3_stmt *stmt;

    if (!check_text(store, kind, key, json, error)) {
        return false;
    }
    stmt = ready_to_write(store, FORE_SQL_PUT, error);
    if (stmt == NULL) {
        return false;
    }
    sqlite3_bind_text(stmt, 1, kind, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, key, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 3, json, -1, SQLITE_STATIC);
    return fore_store_run_write(store, stmt, "writing a record", error);
}

bool fore_store_delete(ForeStore *store, const char *kind, const char *key, GError **error)
{
    sqlite3_stmt *stmt = ready_to_write(store, FORE_SQL_DELETE, error);

    if (stmt == NULL) {
        return false;
    }
    sqlite3_bind_text(stmt, 1, kind, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, key, -1, SQLITE_STATIC);
    return fore_store_run_write(store, stmt, "deleting a record", error);
}

bool fore_store_each(ForeStore *store, const char *kind, ForeStoreRecord fn, gpointer data,
                     GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_EACH, error);
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
    int got;

    if (stmt == NULL) {
        return false;
    }
    sqlite3_bind_text(stmt, 1, kind, -1, SQLITE_STATIC);
    while ((got = fore_db_next(store->db, stmt, "reading records", error)) == 1) {
        g_ptr_array_add(texts, g_strdup((const char *)sqlite3_column_text(stmt, 0)));
        g_ptr_array_add(texts, g_strdup((const char *)sqlite3_column_text(stmt, 1)));
    }
    if (got < 0) {
        return false;
    }
    /* After the read, so that @fn may write, delete or read again. */
    for (guint i = 0; i + 1 < texts->len; i += 2) {
        fn(texts->pdata[i], texts->pdata[i + 1], data);
    }
    return true;
}

bool fore_store_event(ForeStore *store, int64_t wall_ms, const char *vm, const char *json,
                      GError **error)
{
    sqlite3_stmt *stmt;

    if (!check_text(store, "event", vm != NULL ? vm : "", json, error)) {
        return false;
    }
    stmt = ready_to_write(store, FORE_SQL_EVENT_ADD, error);
    if (stmt == NULL) {
        return false;
    }
    sqlite3_bind_int64(stmt, 1, wall_ms);
    sqlite3_bind_text(stmt, 2, vm, -1, SQLITE_STATIC); /* NULL: of no VM */
    sqlite3_bind_text(stmt, 3, json, -1, SQLITE_STATIC);
    return fore_store_run_write(store, stmt, "writing an event",
                                error); /* a trigger keeps the bound */
}

typedef struct {
    int64_t id, wall_ms;
    char *vm, *json;
} Event;

static void event_free(gpointer data)
{
    Event *ev = data;

    g_free(ev->vm);
    g_free(ev->json);
    g_free(ev);
}

bool fore_store_each_event(ForeStore *store, int64_t after_id, unsigned limit, ForeStoreEvent fn,
                           gpointer data, GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_EVENTS, error);
    g_autoptr(GPtrArray) events = g_ptr_array_new_with_free_func(event_free);
    int got;

    if (stmt == NULL) {
        return false;
    }
    sqlite3_bind_int64(stmt, 1, after_id);
    sqlite3_bind_int64(stmt, 2, limit);
    while ((got = fore_db_next(store->db, stmt, "reading events", error)) == 1) {
        Event *ev = g_new0(Event, 1);

        ev->id = sqlite3_column_int64(stmt, 0);
        ev->wall_ms = sqlite3_column_int64(stmt, 1);
        ev->vm = g_strdup((const char *)sqlite3_column_text(stmt, 2));
        ev->json = g_strdup((const char *)sqlite3_column_text(stmt, 3));
        g_ptr_array_add(events, ev);
    }
    if (got < 0) {
        return false;
    }
    for (guint i = 0; i < events->len; i++) {
        Event *ev = events->pdata[i];

        fn(ev->id, ev->wall_ms, ev->vm, ev->json, data);
    }
    return true;
}

void fore_store_health(ForeStore *store, ForeStoreHealth *ret)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_TOTAL, NULL);

    *ret = (ForeStoreHealth){.disk_ok = store->disk_ok, .lost_samples = store->lost_samples};
    g_strlcpy(ret->reason, store->reason, sizeof(ret->reason));
    if (stmt != NULL && fore_db_next(store->db, stmt, "reading totals", NULL) == 1) {
        ret->samples = (uint64_t)sqlite3_column_int64(stmt, 0);
        ret->chunks = (uint64_t)sqlite3_column_int64(stmt, 1);
        ret->bytes = (uint64_t)sqlite3_column_int64(stmt, 2);
        sqlite3_reset(stmt);
    }
}

/* --- verification --- */

static bool distrust(ForeStore *store, const char *what, GError **error)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                "store '%s': integrity: %s; move the file away and restore it",
                fore_db_path(store->db), what);
    return false;
}

/* @good: the one answer that is well; NULL: no row is */
static bool pragma_is(ForeStore *store, const char *sql, const char *good, GError **error)
{
    sqlite3_stmt *stmt = NULL;
    bool ok = true;
    int rc = sqlite3_prepare_v2(fore_db_handle(store->db), sql, -1, &stmt, NULL);

    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(stmt);
        if (rc == SQLITE_ROW) {
            const char *text = (const char *)sqlite3_column_text(stmt, 0);

            if (good == NULL || g_strcmp0(text, good) != 0) {
                ok = distrust(store, text != NULL ? text : sql, error);
                break;
            }
        }
    }
    if (ok && rc != SQLITE_DONE) {
        ok = fore_db_fail(store->db, rc, sql, error);
    }
    sqlite3_finalize(stmt);
    return ok;
}

static bool spans_decode(ForeStore *store, GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_SPAN_ALL, error);
    g_autofree int64_t *t = g_new(int64_t, FORE_CHUNK_MAX);
    bool ok = stmt != NULL;
    int got = 0;

    while (ok && (got = fore_db_next(store->db, stmt, "reading spans", error)) == 1) {
        for (int col = 0; ok && col < 2; col++) {
            size_t n = 0;

            ok = fore_chunk_unpack_times(sqlite3_column_blob(stmt, col),
                                         (size_t)sqlite3_column_bytes(stmt, col), t, &n, NULL) &&
                 (int64_t)n == sqlite3_column_int64(stmt, 2);
        }
        if (!ok) {
            sqlite3_reset(stmt);
            return distrust(store, "a time column does not decode", error);
        }
    }
    return ok && got == 0;
}

static bool chunks_decode(ForeStore *store, GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_CHUNK_ALL, error);
    g_autofree double *v = g_new(double, FORE_CHUNK_MAX);
    bool ok = stmt != NULL;
    int got = 0;

    while (ok && (got = fore_db_next(store->db, stmt, "reading chunks", error)) == 1) {
        size_t n = 0;

        ok = fore_chunk_unpack_values(sqlite3_column_blob(stmt, 0),
                                      (size_t)sqlite3_column_bytes(stmt, 0), v, &n, NULL) &&
             (int64_t)n == sqlite3_column_int64(stmt, 1);
        if (!ok) {
            sqlite3_reset(stmt);
            return distrust(store, "a chunk does not decode or has no span", error);
        }
    }
    return ok && got == 0;
}

bool fore_store_verify(ForeStore *store, GError **error)
{
    if (!fore_store_ready(store, error)) {
        return false;
    }
    /* cipher_integrity_check reads the file, not the WAL: bring all pages there first. */
    (void)sqlite3_wal_checkpoint_v2(fore_db_handle(store->db), NULL, SQLITE_CHECKPOINT_TRUNCATE,
                                    NULL, NULL);
    /* The statements' snapshot is in the page cache: drop it, the disk is what is asked about. */
    (void)sqlite3_db_release_memory(fore_db_handle(store->db));
    return pragma_is(store, "PRAGMA cipher_integrity_check", NULL, error) &&
           pragma_is(store, "PRAGMA integrity_check", "ok", error) && spans_decode(store, error) &&
           chunks_decode(store, error);
}
