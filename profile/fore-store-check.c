/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Damage.  What a reader finds damaged is counted and named, and the row is moved to the table
 * `quarantine` with its bytes, when that can be written: the rest stays readable, the range becomes
 * a gap.  A row whose page fails its HMAC cannot be moved; it stays and is skipped each time.
 *
 * Verification goes row by row, so that it can be done in steps between two samples; a whole one
 * also asks SQLite and SQLCipher, which read every page in one go.
 */
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "profile/fore-store-priv.h"

bool fore_store_is_damage(const GError *error)
{
    return g_error_matches(error, FORE_ERROR, FORE_ERROR_UNTRUSTED);
}

static bool distrust(ForeStore *store, const char *what, GError **error)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                "store '%s': integrity: %s; 'foresee store verify' lists it, what is left can be "
                "exported",
                fore_db_path(store->db), what);
    return false;
}

/* --- quarantine --- */

/* Runs @which for the row @id. Returns: the statement on its row, or NULL when it cannot be read */
static sqlite3_stmt *row_of(ForeStore *store, ForeSql which, int64_t id)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, which, NULL);

    if (stmt != NULL) {
        sqlite3_bind_int64(stmt, 1, id);
        if (fore_db_next(store->db, stmt, "reading what is damaged", NULL) == 1) {
            return stmt;
        }
    }
    return NULL;
}

typedef struct {
    char what[200];
    int64_t t0, t1, n;
    GBytes *body; /* NULL: cannot be read */
} Broken;

static void note(ForeStore *store, const Broken *broken, bool page)
{
    store->damaged++;
    g_snprintf(store->damage, sizeof(store->damage), "%.100s: %s", broken->what,
               page ? "a page cannot be read (changed, or a bad disk)" : "it does not decode");
}

/* Moves it there, in a transaction of its own or in the running one. */
static void move_away(ForeStore *store, const Broken *b, ForeSql drop, int64_t id, int64_t id_to)
{
    bool own = sqlite3_get_autocommit(fore_db_handle(store->db)) != 0;
    sqlite3_stmt *stmt;
    gsize size = 0;
    bool ok;

    if (own && !fore_db_begin(store->db, NULL)) {
        return; /* the disk is away: it stays where it is, and is skipped again */
    }
    stmt = fore_db_ready(store->db, FORE_SQL_QUARANTINE, NULL);
    ok = stmt != NULL;
    if (ok) {
        sqlite3_bind_text(stmt, 1, b->what, -1, SQLITE_STATIC);
        sqlite3_bind_int64(stmt, 2, b->t0);
        sqlite3_bind_int64(stmt, 3, b->t1);
        sqlite3_bind_int64(stmt, 4, b->n);
        sqlite3_bind_blob(stmt, 5, g_bytes_get_data(b->body, &size), (int)size, SQLITE_STATIC);
        ok = fore_db_run(store->db, stmt, "moving a damaged chunk", NULL);
    }
    stmt = ok ? fore_db_ready(store->db, drop, NULL) : NULL;
    if (stmt != NULL) {
        sqlite3_bind_int64(stmt, 1, id);
        if (drop == FORE_SQL_CHUNK_DROP) {
            sqlite3_bind_int64(stmt, 2, id_to);
        }
        ok = fore_db_run(store->db, stmt, "moving a damaged chunk", NULL);
    }
    if (own && ok) {
        (void)fore_db_commit(store->db, NULL);
    } else if (own) {
        fore_db_rollback(store->db);
    }
}

static void name_vm(ForeStore *store, int64_t vm_id, char *ret, size_t size)
{
    sqlite3_stmt *stmt = NULL;

    g_snprintf(ret, size, "VM %" G_GINT64_FORMAT, vm_id);
    if (sqlite3_prepare_v2(fore_db_handle(store->db), "SELECT name FROM vm WHERE id=?1", -1, &stmt,
                           NULL) == SQLITE_OK) {
        sqlite3_bind_int64(stmt, 1, vm_id);
        if (sqlite3_step(stmt) == SQLITE_ROW) {
            g_snprintf(ret, size, "VM '%s'", (const char *)sqlite3_column_text(stmt, 0));
        }
    }
    sqlite3_finalize(stmt);
}

static GBytes *column_bytes(sqlite3_stmt *stmt, int column)
{
    return g_bytes_new(sqlite3_column_blob(stmt, column),
                       (gsize)sqlite3_column_bytes(stmt, column));
}

void fore_store_damage_span(ForeStore *store, int64_t span, int64_t chunk, bool page)
{
    Broken b = {.what = ""};
    sqlite3_stmt *stmt = row_of(store, FORE_SQL_SPAN_GET, span);
    char vm[100] = "a VM";

    if (stmt != NULL) {
        b.n = sqlite3_column_int64(stmt, 2);
        b.t0 = sqlite3_column_int64(stmt, 3);
        b.t1 = sqlite3_column_int64(stmt, 4);
        name_vm(store, sqlite3_column_int64(stmt, 5), vm, sizeof(vm));
        b.body = chunk == 0 ? column_bytes(stmt, 0) : NULL;
        sqlite3_reset(stmt);
    }
    if (chunk == 0) {
        g_snprintf(b.what, sizeof(b.what), "%s, span %" G_GINT64_FORMAT, vm, span);
    } else {
        int64_t field = chunk % FORE_DB_FIELDS;

        g_snprintf(b.what, sizeof(b.what), "%s, %s, span %" G_GINT64_FORMAT, vm,
                   field < FORE_FIELD_N ? fore_field_names[field] : "a field", span);
        stmt = row_of(store, FORE_SQL_CHUNK_GET, chunk);
        if (stmt != NULL) {
            b.body = column_bytes(stmt, 0);
            sqlite3_reset(stmt);
        }
    }
    note(store, &b, page);
    if (b.body != NULL && !page && chunk != 0) {
        move_away(store, &b, FORE_SQL_CHUNK_DROP, chunk, chunk);
    } else if (b.body != NULL && !page) {
        move_away(store, &b, FORE_SQL_SPAN_DROP, span, 0);
    }
    g_clear_pointer(&b.body, g_bytes_unref);
}

void fore_store_damage_part(ForeStore *store, int64_t part, bool page)
{
    sqlite3_stmt *stmt = row_of(store, FORE_SQL_PART_GET, part);
    Broken b = {.what = ""};

    g_snprintf(b.what, sizeof(b.what), "part %" G_GINT64_FORMAT, part);
    if (stmt != NULL) {
        b.n = sqlite3_column_int64(stmt, 1);
        b.t0 = sqlite3_column_int64(stmt, 2);
        b.t1 = sqlite3_column_int64(stmt, 3);
        g_snprintf(b.what, sizeof(b.what),
                   "series %" G_GINT64_FORMAT ", part %" G_GINT64_FORMAT " of %" G_GINT64_FORMAT
                   " s",
                   (int64_t)sqlite3_column_int64(stmt, 4), part,
                   (int64_t)sqlite3_column_int64(stmt, 5) / 1000);
        b.body = column_bytes(stmt, 0);
        sqlite3_reset(stmt);
    }
    note(store, &b, page);
    if (b.body != NULL && !page) {
        move_away(store, &b, FORE_SQL_PART_DROP, part, 0);
    }
    g_clear_pointer(&b.body, g_bytes_unref);
}

bool fore_store_each_damage(ForeStore *store, ForeStoreDamage fn, gpointer data, GError **error)
{
    sqlite3_stmt *stmt = fore_db_ready(store->db, FORE_SQL_QUARANTINED, error);
    int got;

    if (stmt == NULL) {
        return false;
    }
    while ((got = fore_db_next(store->db, stmt, "listing the quarantine", error)) == 1) {
        fn((const char *)sqlite3_column_text(stmt, 0), sqlite3_column_int64(stmt, 1),
           sqlite3_column_int64(stmt, 2), sqlite3_column_int64(stmt, 3),
           sqlite3_column_int64(stmt, 4), data);
    }
    return got == 0;
}

/* --- a file that cannot be written to --- */

typedef struct {
    char *kind, *key, *json;
} Record;

static void record_free(gpointer data)
{
    Record *r = data;

    g_free(r->kind);
    g_free(r->key);
    g_free(r->json);
    g_free(r);
}

/* As many as can be read before a damaged page comes */
static GPtrArray *save_records(ForeStore *store)
{
    GPtrArray *records = g_ptr_array_new_with_free_func(record_free);
    sqlite3_stmt *stmt = NULL;

    fore_db_recover(store->db);
    if (fore_db_handle(store->db) != NULL &&
        sqlite3_prepare_v2(fore_db_handle(store->db), "SELECT kind,key,json FROM record", -1, &stmt,
                           NULL) == SQLITE_OK) {
        while (sqlite3_step(stmt) == SQLITE_ROW) {
            Record *r = g_new0(Record, 1);

            r->kind = g_strdup((const char *)sqlite3_column_text(stmt, 0));
            r->key = g_strdup((const char *)sqlite3_column_text(stmt, 1));
            r->json = g_strdup((const char *)sqlite3_column_text(stmt, 2));
            g_ptr_array_add(records, r);
        }
    }
    sqlite3_finalize(stmt);
    return records;
}

bool fore_store_set_aside(ForeStore *store, const char *why)
{
    const char *path = fore_db_path(store->db);
    g_autoptr(GPtrArray) records = save_records(store);
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *time = g_date_time_format(now, "%Y%m%dT%H%M%S");
    g_autofree char *aside = g_strdup_printf("%s.damaged-%s", path, time);
    g_autofree char *wal = g_strconcat(path, "-wal", NULL);
    g_autofree char *aside_wal = g_strconcat(aside, "-wal", NULL);
    g_autofree char *base = g_path_get_basename(aside);
    bool ok = true;

    fore_db_suspend(store->db);
    if (g_file_test(aside, G_FILE_TEST_EXISTS) || g_rename(path, aside) != 0) {
        return false;
    }
    if (g_file_test(wal, G_FILE_TEST_EXISTS)) {
        ok = g_rename(wal, aside_wal) == 0; /* a log must not meet another file */
    }
    ok = ok && fore_store_ready(store, NULL);
    for (guint i = 0; ok && i < records->len; i++) {
        const Record *r = records->pdata[i];

        ok = fore_store_put(store, r->kind, r->key, r->json, NULL);
    }
    store->damaged++;
    g_snprintf(store->damage, sizeof(store->damage), "the file was damaged and is now '%.60s'",
               base);
    g_snprintf(store->reason, sizeof(store->reason),
               "a new file was begun; the old one was damaged and is now '%.60s'", base);
    return ok;
}

/* --- verification --- */

enum { STAGE_SPANS, STAGE_CHUNKS, STAGE_PARTS, STAGE_DONE };

struct ForeStoreCheck {
    int stage;
    int64_t after; /* row of the stage */
    uint64_t rows, bad;
};

ForeStoreCheck *fore_store_check_new(void)
{
    return g_new0(ForeStoreCheck, 1);
}

void fore_store_check_free(ForeStoreCheck *check)
{
    g_free(check);
}

static bool times_are_good(sqlite3_stmt *stmt, int column, int64_t n)
{
    int64_t t[FORE_CHUNK_MAX];
    const void *blob = sqlite3_column_blob(stmt, column);
    size_t size = fore_store_unseal(blob, (size_t)sqlite3_column_bytes(stmt, column)), got = 0;

    return size > 0 && fore_chunk_unpack_times(blob, size, t, &got, NULL) && (int64_t)got == n;
}

static bool chunk_is_good(sqlite3_stmt *stmt)
{
    double v[FORE_CHUNK_MAX];
    const void *blob = sqlite3_column_blob(stmt, 1);
    size_t size = fore_store_unseal(blob, (size_t)sqlite3_column_bytes(stmt, 1)), got = 0;

    return size > 0 && fore_chunk_unpack_values(blob, size, v, &got, NULL) &&
           sqlite3_column_type(stmt, 2) != SQLITE_NULL &&
           (int64_t)got == sqlite3_column_int64(stmt, 2);
}

static bool part_is_good(sqlite3_stmt *stmt)
{
    const void *blob = sqlite3_column_blob(stmt, 1);
    size_t size = fore_store_unseal(blob, (size_t)sqlite3_column_bytes(stmt, 1)), got = 0;
    int64_t n = sqlite3_column_int64(stmt, 2);

    if (size == 0) {
        return false;
    }
    if (sqlite3_column_int64(stmt, 3) == 0) {
        g_autoptr(GArray) out = g_array_new(FALSE, FALSE, sizeof(ForeSeriesPoint));

        return fore_store_decode_part(blob, size, n, out);
    } else {
        g_autofree ForeTierPoint *points = g_new(ForeTierPoint, FORE_TIER_BLOCK);

        return fore_tier_unpack(blob, size, points, &got, NULL) && (int64_t)got == n;
    }
}

/* The row that @stmt stands on */
static void judge(ForeStore *store, ForeStoreCheck *check, sqlite3_stmt *stmt)
{
    int64_t id = sqlite3_column_int64(stmt, 0);
    bool good;

    if (check->stage == STAGE_SPANS) {
        int64_t n = sqlite3_column_int64(stmt, 3);

        good = times_are_good(stmt, 1, n) && times_are_good(stmt, 2, n);
    } else {
        good = check->stage == STAGE_CHUNKS ? chunk_is_good(stmt) : part_is_good(stmt);
    }
    sqlite3_reset(stmt);
    check->after = id;
    check->rows++;
    if (!good) {
        check->bad++;
        if (check->stage == STAGE_PARTS) {
            fore_store_damage_part(store, id, false);
        } else if (check->stage == STAGE_CHUNKS) {
            fore_store_damage_span(store, id / FORE_DB_FIELDS, id, false);
        } else {
            fore_store_damage_span(store, id, 0, false);
        }
    }
}

bool fore_store_check_step(ForeStore *store, ForeStoreCheck *check, unsigned rows, bool *ret_done,
                           GError **error)
{
    static const ForeSql next[] = {FORE_SQL_SPAN_AFTER, FORE_SQL_CHUNK_AFTER, FORE_SQL_PART_AFTER};

    for (; rows > 0 && check->stage < STAGE_DONE; rows--) {
        sqlite3_stmt *stmt = fore_db_ready(store->db, next[check->stage], error);
        int got;

        if (stmt == NULL) {
            return false;
        }
        sqlite3_bind_int64(stmt, 1, check->after);
        got = fore_db_next(store->db, stmt, "verifying", error);
        if (got < 0) {
            return false;
        }
        if (got == 1) {
            judge(store, check, stmt);
        } else {
            check->stage++;
            check->after = 0;
        }
    }
    *ret_done = check->stage == STAGE_DONE;
    return true;
}

void fore_store_check_result(const ForeStoreCheck *check, uint64_t *ret_rows, uint64_t *ret_bad)
{
    *ret_rows = check->rows;
    *ret_bad = check->bad;
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

bool fore_store_verify(ForeStore *store, GError **error)
{
    g_autoptr(ForeStoreCheck) check = fore_store_check_new();
    bool done = false;

    if (!fore_store_ready(store, error)) {
        return false;
    }
    /* cipher_integrity_check reads the file, not the WAL: bring all pages there first. */
    (void)sqlite3_wal_checkpoint_v2(fore_db_handle(store->db), NULL, SQLITE_CHECKPOINT_TRUNCATE,
                                    NULL, NULL);
    /* The statements' snapshot is in the page cache: drop it, the disk is what is asked about. */
    (void)sqlite3_db_release_memory(fore_db_handle(store->db));
    if (!pragma_is(store, "PRAGMA cipher_integrity_check", NULL, error) ||
        !pragma_is(store, "PRAGMA integrity_check", "ok", error) ||
        !fore_store_check_step(store, check, UINT_MAX, &done, error)) {
        return false;
    }
    if (check->bad > 0) {
        g_autofree char *what = g_strdup_printf("%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                                                " chunks were damaged (newest: %s)",
                                                check->bad, check->rows, store->damage);

        return distrust(store, what, error);
    }
    return true;
}
