/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works
 *
 * A new key means new bytes of every page.  They are written to a second file, FILE.rekey, which is
 * attached to the connection: a few rows a step, so that samples and the ledger are written between
 * two steps as ever.  SQLite's update hook tells which rows changed meanwhile; each step copies
 * those again.  When nothing is left, the small tables without row numbers are copied as a whole,
 * the second file is synced, and renamed over the first.  Its key opens the file from then on.
 *
 * At every point one file is whole and one key opens it: FILE.rekey is dropped when it is found at
 * the beginning, and the log of the old file is gone (its pages are in the file) before the rename.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "profile/fore-store-priv.h"

/* Tables with row numbers, in the order they are copied */
static const char *const tables[] = {"vm",   "series", "span",    "chunk",
                                     "part", "event",  "anomaly", "quarantine"};
/* and those without, or small: copied at the end */
static const char *const small_tables[] = {"record", "total", "tier_total"};
#define N_TABLES G_N_ELEMENTS(tables)

struct ForeRekey {
    char *path;
    uint8_t key[FORE_STORE_KEY_BYTES];
    size_t table;  /* being copied; N_TABLES: all are */
    int64_t after; /* row of it */
    uint64_t copied, rows;
    GHashTable *changed[N_TABLES]; /* int64 rows that changed since the copy began */
};

void (*fore_store_rekey_point)(const char *point);

static void at_point(const char *point)
{
    if (fore_store_rekey_point != NULL) {
        fore_store_rekey_point(point);
    }
}

static void rekey_free(ForeStore *store)
{
    struct ForeRekey *r = store->rekey;

    if (r == NULL) {
        return;
    }
    if (fore_db_handle(store->db) != NULL) {
        sqlite3_update_hook(fore_db_handle(store->db), NULL, NULL);
    }
    for (size_t i = 0; i < N_TABLES; i++) {
        g_hash_table_unref(r->changed[i]);
    }
    explicit_bzero(r->key, sizeof(r->key));
    g_free(r->path);
    g_free(r);
    store->rekey = NULL;
}

/* --- SQL with a table's name in it --- */

static bool exec(ForeStore *store, const char *doing, GError **error, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

static bool exec(ForeStore *store, const char *doing, GError **error, const char *format, ...)
{
    g_autofree char *sql = NULL;
    va_list args;
    int rc;

    va_start(args, format);
    sql = g_strdup_vprintf(format, args);
    va_end(args);
    rc = sqlite3_exec(fore_db_handle(store->db), sql, NULL, NULL, NULL);
    return rc == SQLITE_OK || fore_db_fail(store->db, rc, doing, error);
}

static bool ask(ForeStore *store, int64_t *ret, GError **error, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

/* The one integer of a query; NULL is 0 */
static bool ask(ForeStore *store, int64_t *ret, GError **error, const char *format, ...)
{
    g_autofree char *sql = NULL;
    sqlite3_stmt *stmt = NULL;
    va_list args;
    int rc;

    va_start(args, format);
    sql = g_strdup_vprintf(format, args);
    va_end(args);
    rc = sqlite3_prepare_v2(fore_db_handle(store->db), sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(stmt);
    }
    if (rc == SQLITE_ROW) {
        *ret = sqlite3_column_int64(stmt, 0);
    }
    sqlite3_finalize(stmt);
    return rc == SQLITE_ROW || fore_db_fail(store->db, rc, "changing the key", error);
}

/* --- beginning --- */

static void on_update(void *data, int op, const char *db, const char *table, sqlite3_int64 row)
{
    struct ForeRekey *r = data;
    int64_t id = row;

    for (size_t i = 0; strcmp(db, "main") == 0 && i < N_TABLES; i++) {
        if (strcmp(table, tables[i]) == 0) {
            g_hash_table_add(r->changed[i], g_memdup2(&id, sizeof(id)));
            return;
        }
    }
}

static void remove_left(const char *path)
{
    static const char *const endings[] = {"", "-wal", "-shm"};

    for (size_t i = 0; i < G_N_ELEMENTS(endings); i++) {
        g_autofree char *name = g_strconcat(path, endings[i], NULL);

        (void)g_unlink(name);
    }
}

void fore_store_rekey_sweep(const char *store_path)
{
    g_autofree char *path = g_strconcat(store_path, ".rekey", NULL);

    remove_left(path);
}

static bool attach(ForeStore *store, GError **error)
{
    struct ForeRekey *r = store->rekey;
    g_autoptr(ForeDb) fresh = fore_db_open(r->path, r->key, error);
    g_autofree char *hex = NULL;
    bool ok;

    if (fresh == NULL) {
        return false;
    }
    g_clear_pointer(&fresh, fore_db_close); /* with its tables, and alone */
    hex = g_malloc0(2 * FORE_STORE_KEY_BYTES + 1);
    for (int i = 0; i < FORE_STORE_KEY_BYTES; i++) {
        g_snprintf(hex + 2 * i, 3, "%02x", r->key[i]);
    }
    ok = fore_db_attach(store->db, r->path, hex, error);
    explicit_bzero(hex, 2 * FORE_STORE_KEY_BYTES);
    /* Its triggers would count and bound a second time what was counted when it came. */
    return ok && exec(store, "changing the key", error,
                      "PRAGMA next.synchronous=OFF; DROP TRIGGER next.event_bound;"
                      "DROP TRIGGER next.anomaly_bound; DROP TRIGGER next.quarantine_bound;"
                      "DROP TRIGGER next.span_gone; DROP TRIGGER next.chunk_gone;"
                      "DROP TRIGGER next.part_new; DROP TRIGGER next.part_grown;"
                      "DROP TRIGGER next.part_gone");
}

bool fore_store_rekey_begin(ForeStore *store, const uint8_t *new_key, GError **error)
{
    struct ForeRekey *r;

    if (store->rekey != NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_EXISTS,
                    "store '%s': its key is being changed already; wait until that has ended",
                    fore_db_path(store->db));
        return false;
    }
    if (!fore_store_ready(store, error)) {
        return false;
    }
    r = store->rekey = g_new0(struct ForeRekey, 1);
    r->path = g_strconcat(fore_db_path(store->db), ".rekey", NULL);
    memcpy(r->key, new_key, FORE_STORE_KEY_BYTES);
    for (size_t i = 0; i < N_TABLES; i++) {
        r->changed[i] = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    }
    remove_left(r->path);
    if (!attach(store, error)) {
        fore_store_rekey_cancel(store);
        return false;
    }
    for (size_t i = 0; i < N_TABLES; i++) { /* for the progress only */
        int64_t n = 0;

        (void)ask(store, &n, NULL, "SELECT max(rowid)-min(rowid)+1 FROM main.%s", tables[i]);
        r->rows += (uint64_t)MAX(n, 0);
    }
    sqlite3_update_hook(fore_db_handle(store->db), on_update, r);
    at_point("begun");
    return true;
}

void fore_store_rekey_cancel(ForeStore *store)
{
    g_autofree char *path = store->rekey != NULL ? g_strdup(store->rekey->path) : NULL;

    if (path == NULL) {
        return;
    }
    if (fore_db_handle(store->db) != NULL) {
        (void)sqlite3_exec(fore_db_handle(store->db), "DETACH next", NULL, NULL, NULL);
    }
    rekey_free(store);
    remove_left(path);
}

/* --- copying --- */

static void next_table(struct ForeRekey *r)
{
    r->table++;
    r->after = 0;
}

/* The next rows of the table whose turn it is.  Rows that come behind them count as changed. */
static bool copy_some(ForeStore *store, unsigned rows, GError **error)
{
    struct ForeRekey *r = store->rekey;
    const char *table = tables[r->table];
    int64_t last = 0;

    if (!ask(store, &last, error,
             "SELECT max(r) FROM (SELECT rowid AS r FROM main.%s WHERE rowid>%" G_GINT64_FORMAT
             " ORDER BY rowid LIMIT %u)",
             table, r->after, rows)) {
        return false;
    }
    if (last == 0) { /* rows are numbered from 1 */
        next_table(r);
        return true;
    }
    if (!exec(store, "changing the key", error,
              "INSERT OR REPLACE INTO next.%s SELECT * FROM main.%s WHERE rowid>%" G_GINT64_FORMAT
              " AND rowid<=%" G_GINT64_FORMAT,
              table, table, r->after, last)) {
        return false;
    }
    r->copied += (uint64_t)(last - r->after);
    r->after = last;
    if (sqlite3_changes(fore_db_handle(store->db)) < (int)rows) {
        next_table(r); /* that was all of it */
    }
    return true;
}

static bool copy_changed(ForeStore *store, GError **error)
{
    struct ForeRekey *r = store->rekey;

    for (size_t i = 0; i < N_TABLES; i++) {
        GHashTableIter iter;
        gpointer key;

        g_hash_table_iter_init(&iter, r->changed[i]);
        while (g_hash_table_iter_next(&iter, &key, NULL)) {
            int64_t row = *(const int64_t *)key;

            if (!exec(store, "changing the key", error,
                      "DELETE FROM next.%s WHERE rowid=%" G_GINT64_FORMAT
                      ";INSERT INTO next.%s SELECT * FROM main.%s WHERE rowid=%" G_GINT64_FORMAT,
                      tables[i], row, tables[i], tables[i], row)) {
                return false;
            }
        }
    }
    return true;
}

static bool copy_small(ForeStore *store, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(small_tables); i++) {
        if (!exec(store, "changing the key", error,
                  "DELETE FROM next.%s; INSERT INTO next.%s SELECT * FROM main.%s", small_tables[i],
                  small_tables[i], small_tables[i])) {
            return false;
        }
    }
    /* AUTOINCREMENT: numbers are never used again */
    return exec(store, "changing the key", error,
                "DELETE FROM next.sqlite_sequence;"
                "INSERT INTO next.sqlite_sequence SELECT * FROM main.sqlite_sequence");
}

/* --- the end --- */

static bool fail_errno(const char *path, const char *doing, GError **error)
{
    g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "store '%s': cannot %s: %s", path, doing,
                g_strerror(errno));
    return false;
}

static bool sync_path(const char *path, int flags, GError **error)
{
    int fd = open(path, flags | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;

    if (!ok) {
        fail_errno(path, "sync it", error);
    }
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

/* Gives the second file its triggers back, writes it out and makes sure that it opens. */
static bool settle_next(ForeStore *store, GError **error)
{
    struct ForeRekey *r = store->rekey;
    g_autoptr(GString) triggers = g_string_new("");
    g_autoptr(ForeDb) next = NULL;
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(fore_db_handle(store->db),
                                "SELECT sql FROM main.sqlite_schema WHERE type='trigger'", -1,
                                &stmt, NULL);

    while (rc == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW) {
        g_string_append_printf(triggers, "%s;", (const char *)sqlite3_column_text(stmt, 0));
    }
    sqlite3_finalize(stmt);
    if (rc != SQLITE_OK) {
        return fore_db_fail(store->db, rc, "changing the key", error);
    }
    if (!exec(store, "changing the key", error, "DETACH next")) {
        return false;
    }
    next = fore_db_open(r->path, r->key, error);
    if (next == NULL) {
        return false;
    }
    rc = sqlite3_exec(fore_db_handle(next), triggers->str, NULL, NULL, NULL);
    if (rc != SQLITE_OK) {
        return fore_db_fail(next, rc, "changing the key", error);
    }
    g_clear_pointer(&next, fore_db_close); /* its log goes into the file */
    return sync_path(r->path, O_RDWR, error);
}

static bool finish(ForeStore *store, GError **error)
{
    struct ForeRekey *r = store->rekey;
    g_autofree char *wal = g_strconcat(fore_db_path(store->db), "-wal", NULL);
    g_autofree char *folder = g_path_get_dirname(fore_db_path(store->db));
    struct stat st;

    if (!settle_next(store, error)) {
        return false;
    }
    at_point("settled");
    sqlite3_update_hook(fore_db_handle(store->db), NULL, NULL);
    fore_db_suspend(store->db);
    at_point("closed");
    /* A log that is left would be played into the new file, which it does not belong to. */
    if (stat(wal, &st) == 0 && st.st_size > 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "store '%s': its log could not be written out; is the disk full?",
                    fore_db_path(store->db));
        return false;
    }
    if (rename(r->path, fore_db_path(store->db)) != 0) {
        return fail_errno(fore_db_path(store->db), "replace it", error);
    }
    at_point("renamed");
    fore_db_set_key(store->db, r->key);
    rekey_free(store);
    return sync_path(folder, O_RDONLY | O_DIRECTORY, error) && fore_db_resume(store->db, error);
}

bool fore_store_rekey_step(ForeStore *store, unsigned rows, bool *ret_done, GError **error)
{
    struct ForeRekey *r = store->rekey;
    bool last;

    g_assert(r != NULL);
    *ret_done = false;
    if (!fore_store_ready(store, error) || !fore_db_begin(store->db, error)) {
        return false;
    }
    if (store->rekey == NULL) { /* the file had been taken away: another one now */
        fore_db_rollback(store->db);
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "store '%s': the file was replaced while its key was changed; begin again",
                    fore_db_path(store->db));
        return false;
    }
    last = r->table == N_TABLES;
    if ((!last && !copy_some(store, rows, error)) || !copy_changed(store, error) ||
        (last && !copy_small(store, error)) || !fore_db_commit(store->db, error)) {
        fore_db_rollback(store->db);
        fore_store_rekey_cancel(store);
        return false;
    }
    for (size_t i = 0; i < N_TABLES; i++) {
        g_hash_table_remove_all(r->changed[i]);
    }
    at_point("copied");
    if (!last) {
        return true;
    }
    if (!finish(store, error)) {
        fore_store_rekey_cancel(store);
        (void)fore_db_resume(store->db, NULL); /* fore_store_ready() says why, if not */
        return false;
    }
    *ret_done = true;
    return true;
}

double fore_store_rekey_progress(const ForeStore *store)
{
    const struct ForeRekey *r = store->rekey;

    return r == NULL || r->rows == 0 ? 0 : MIN(0.99, (double)r->copied / (double)r->rows);
}
