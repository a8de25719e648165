/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records, events, health and verification.  Each write is a transaction of its own
 * (synchronous=FULL). */
#include <string.h>

#include "common/fore-error.h"
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

    *ret = (ForeStoreHealth){
        .disk_ok = store->disk_ok, .lost_samples = store->lost_samples, .damaged = store->damaged};
    g_strlcpy(ret->reason, store->reason, sizeof(ret->reason));
    g_strlcpy(ret->damage, store->damage, sizeof(ret->damage));
    if (stmt != NULL && fore_db_next(store->db, stmt, "reading totals", NULL) == 1) {
        ret->samples = (uint64_t)sqlite3_column_int64(stmt, 0);
        ret->chunks = (uint64_t)sqlite3_column_int64(stmt, 1);
        ret->bytes = (uint64_t)sqlite3_column_int64(stmt, 2);
        sqlite3_reset(stmt);
    }
    stmt = fore_db_ready(store->db, FORE_SQL_QUARANTINE_N, NULL);
    if (stmt != NULL && fore_db_next(store->db, stmt, "reading totals", NULL) == 1) {
        ret->quarantined = (uint64_t)sqlite3_column_int64(stmt, 0);
        sqlite3_reset(stmt);
    }
}

bool fore_store_vacuum_step(ForeStore *store, unsigned pages, uint64_t *ret_left, GError **error)
{
    g_autofree char *sql = g_strdup_printf("PRAGMA incremental_vacuum(%u)", pages);
    sqlite3_stmt *stmt = NULL;
    int rc;

    if (!fore_store_ready(store, error)) {
        return false;
    }
    rc = sqlite3_exec(fore_db_handle(store->db), sql, NULL, NULL, NULL);
    if (rc == SQLITE_OK) {
        rc =
            sqlite3_prepare_v2(fore_db_handle(store->db), "PRAGMA freelist_count", -1, &stmt, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(stmt);
        *ret_left = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(stmt, 0) : 0;
    }
    sqlite3_finalize(stmt);
    return rc == SQLITE_ROW || fore_db_fail(store->db, rc, "giving free pages back", error);
}
