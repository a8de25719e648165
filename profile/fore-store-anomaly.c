/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Anomalies of series: a row each, indexed by when they began and how high they scored. */
#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "profile/fore-store-priv.h"

static bool check(ForeStore *store, const ForeStoreAnomaly *a, GError **error)
{
    const char *path = fore_db_path(store->db);

    if (!fore_name_is_valid(a->vm) || !fore_name_is_valid(a->source) ||
        strlen(a->metric) > FORE_NAME_MAX || !g_utf8_validate(a->metric, -1, NULL)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "store '%s': no anomaly of VM '%.64s', source '%.64s', metric '%.64s': names "
                    "are 1 to %d letters, digits, '.', '_', '-'",
                    path, a->vm, a->source, a->metric, FORE_NAME_MAX);
        return false;
    }
    if (!(a->score >= 0 && a->score <= 1) || a->from_ms > a->to_ms) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "store '%s': no anomaly of '%s' with score %g from %" G_GINT64_FORMAT
                    " to %" G_GINT64_FORMAT ": the score is 0..1 and the end is not before the "
                    "beginning",
                    path, a->vm, a->score, a->from_ms, a->to_ms);
        return false;
    }
    if (strlen(a->reason) > FORE_STORE_REASON_MAX || !g_utf8_validate(a->reason, -1, NULL)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "store '%s': the reason of an anomaly of '%s' has %zu bytes; at most %d of "
                    "UTF-8",
                    path, a->vm, strlen(a->reason), FORE_STORE_REASON_MAX);
        return false;
    }
    return true;
}

bool fore_store_anomaly_put(ForeStore *store, const ForeStoreAnomaly *a, int64_t *ret_id,
                            GError **error)
{
    sqlite3_stmt *stmt;

    if (!check(store, a, error) || !fore_store_ready(store, error)) {
        return false;
    }
    stmt = fore_db_ready(store->db, FORE_SQL_ANOMALY_PUT, error);
    if (stmt == NULL) {
        return false;
    }
    if (a->id != 0) {
        sqlite3_bind_int64(stmt, 1, a->id);
    }
    sqlite3_bind_text(stmt, 2, a->vm, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 3, a->source, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 4, a->metric, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 5, a->from_ms);
    sqlite3_bind_int64(stmt, 6, a->to_ms);
    sqlite3_bind_double(stmt, 7, a->score);
    sqlite3_bind_text(stmt, 8, a->reason, -1, SQLITE_STATIC);
    if (!fore_store_run_write(store, stmt, "writing an anomaly", error)) {
        return false;
    }
    if (ret_id != NULL) {
        *ret_id = a->id != 0 ? a->id : sqlite3_last_insert_rowid(fore_db_handle(store->db));
    }
    return true;
}

typedef struct {
    ForeStoreAnomaly a;
    char *text[4]; /* vm, source, metric, reason */
} Row;

static void row_free(gpointer data)
{
    Row *row = data;

    for (size_t i = 0; i < G_N_ELEMENTS(row->text); i++) {
        g_free(row->text[i]);
    }
    g_free(row);
}

static Row *take_row(sqlite3_stmt *stmt)
{
    static const int columns[] = {1, 2, 3, 7};
    Row *row = g_new0(Row, 1);

    for (size_t i = 0; i < G_N_ELEMENTS(columns); i++) {
        row->text[i] = g_strdup((const char *)sqlite3_column_text(stmt, columns[i]));
    }
    row->a = (ForeStoreAnomaly){
        .id = sqlite3_column_int64(stmt, 0),
        .vm = row->text[0],
        .source = row->text[1],
        .metric = row->text[2],
        .reason = row->text[3],
        .from_ms = sqlite3_column_int64(stmt, 4),
        .to_ms = sqlite3_column_int64(stmt, 5),
        .score = sqlite3_column_double(stmt, 6),
    };
    return row;
}

bool fore_store_each_anomaly(ForeStore *store, const char *vm, int64_t from_ms, int64_t to_ms,
                             double min_score, unsigned limit, ForeStoreAnomalyFn fn, gpointer data,
                             GError **error)
{
    sqlite3_stmt *stmt =
        fore_db_ready(store->db, vm != NULL ? FORE_SQL_ANOMALIES_OF : FORE_SQL_ANOMALIES, error);
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func(row_free);
    int got;

    if (stmt == NULL) {
        return false;
    }
    sqlite3_bind_int64(stmt, 1, from_ms);
    sqlite3_bind_int64(stmt, 2, to_ms);
    sqlite3_bind_double(stmt, 3, min_score);
    sqlite3_bind_int64(stmt, 4, MIN(limit, FORE_STORE_ANOMALIES_MAX));
    if (vm != NULL) {
        sqlite3_bind_text(stmt, 5, vm, -1, SQLITE_STATIC);
    }
    while ((got = fore_db_next(store->db, stmt, "reading anomalies", error)) == 1) {
        g_ptr_array_add(rows, take_row(stmt));
    }
    if (got < 0) {
        return false;
    }
    /* After the read, so that @fn may write or read again. */
    for (guint i = 0; i < rows->len; i++) {
        fn(&((Row *)rows->pdata[i])->a, data);
    }
    return true;
}
