/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib/gstdio.h>
#include <string.h>

#include "common/fore-error.h"
#include "profile/fore-store-db.h"
#include "profile/fore-store.h"

static const uint8_t key[FORE_STORE_KEY_BYTES] = {7};

typedef struct {
    char *dir, *path;
    ForeStore *store;
} Place;

static void place_setup(Place *place, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    place->dir = g_dir_make_tmp("fore-anomaly-XXXXXX", &error);
    g_assert_no_error(error);
    place->path = g_build_filename(place->dir, "history.db", NULL);
    place->store = fore_store_open(place->path, key, &error);
    g_assert_no_error(error);
}

static void place_teardown(Place *place, gconstpointer data)
{
    fore_store_close(place->store);
    g_unlink(place->path);
    g_assert_cmpint(g_rmdir(place->dir), ==, 0);
    g_free(place->path);
    g_free(place->dir);
}

static int64_t put(Place *place, int64_t id, const char *vm, int64_t from_ms, double score)
{
    g_autoptr(GError) error = NULL;
    ForeStoreAnomaly a = {.id = id,
                          .vm = vm,
                          .source = "guest",
                          .metric = "cpu_busy",
                          .from_ms = from_ms,
                          .to_ms = from_ms + 240000,
                          .score = score,
                          .reason = "cpu above P99.9 for 4 min while system-call mix unchanged"};
    int64_t row = 0;

    fore_store_anomaly_put(place->store, &a, &row, &error);
    g_assert_no_error(error);
    return row;
}

static void tell(const ForeStoreAnomaly *a, gpointer text)
{
    g_assert_cmpstr(a->source, ==, "guest");
    g_assert_cmpstr(a->metric, ==, "cpu_busy");
    g_assert_nonnull(strstr(a->reason, "P99.9"));
    g_string_append_printf(text, "%s@%d-%d=%.2f ", a->vm, (int)(a->from_ms / 1000),
                           (int)(a->to_ms / 1000), a->score);
}

static void assert_found(Place *place, const char *vm, int64_t from_s, int64_t to_s, double score,
                         unsigned limit, const char *want)
{
    g_autoptr(GString) text = g_string_new("");
    g_autoptr(GError) error = NULL;

    fore_store_each_anomaly(place->store, vm, from_s * 1000, to_s * 1000, score, limit, tell, text,
                            &error);
    g_assert_no_error(error);
    g_assert_cmpstr(text->str, ==, want);
}

static void test_range(Place *place, gconstpointer data)
{
    int64_t row;

    put(place, 0, "web", 1000000, 0.5);
    row = put(place, 0, "db", 2000000, 0.9);
    put(place, 0, "web", 3000000, 0.7);
    assert_found(place, NULL, 0, 9999, 0, 100,
                 "web@1000-1240=0.50 db@2000-2240=0.90 "
                 "web@3000-3240=0.70 ");
    assert_found(place, NULL, 0, 9999, 0.6, 100, "db@2000-2240=0.90 web@3000-3240=0.70 ");
    assert_found(place, "web", 0, 9999, 0, 100, "web@1000-1240=0.50 web@3000-3240=0.70 ");
    assert_found(place, NULL, 1001, 2000, 0, 100, "db@2000-2240=0.90 ");
    assert_found(place, NULL, 0, 9999, 0, 1, "web@1000-1240=0.50 ");
    g_assert_cmpint(put(place, row, "db", 2000000, 0.95), ==, row); /* it grew: no second row */
    assert_found(place, "db", 0, 9999, 0, 100, "db@2000-2240=0.95 ");
}

static void test_refused(Place *place, gconstpointer data)
{
    g_autofree char *longest = g_strnfill(FORE_STORE_REASON_MAX + 1, 'x');
    const ForeStoreAnomaly good = {
        .vm = "web", .source = "guest", .metric = "m", .to_ms = 1, .score = 1, .reason = "r"};
    ForeStoreAnomaly bad[] = {good, good, good, good, good};

    bad[0].vm = "../x";
    bad[1].score = 1.5;
    bad[2].score = -0.0 / 0.0;
    bad[3].from_ms = 2;
    bad[4].reason = longest;
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        int want = i == 4 ? FORE_ERROR_LIMIT : FORE_ERROR_INVALID;
        g_autoptr(GError) error = NULL;

        g_assert_false(fore_store_anomaly_put(place->store, &bad[i], NULL, &error));
        g_assert_error(error, FORE_ERROR, want);
    }
}

/* "Show me the anomalies of last night" is one range of one index: no scan, no sort. */
static void test_plan(Place *place, gconstpointer data)
{
    static const struct {
        ForeSql which;
        const char *plan;
    } cases[] = {
        {FORE_SQL_ANOMALIES, "SEARCH anomaly USING INDEX anomaly_time (t0>? AND t0<?);"},
        {FORE_SQL_ANOMALIES_OF,
         "SEARCH anomaly USING INDEX anomaly_vm_time (vm=? AND t0>? AND t0<?);"},
    };
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeDb) db = NULL;

    g_clear_pointer(&place->store, fore_store_close);
    db = fore_db_open(place->path, key, &error);
    g_assert_no_error(error);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *sql =
            g_strconcat("EXPLAIN QUERY PLAN ", fore_db_sql(cases[i].which), NULL);
        g_autoptr(GString) plan = g_string_new("");
        sqlite3_stmt *stmt = NULL;

        g_assert_cmpint(sqlite3_prepare_v2(fore_db_handle(db), sql, -1, &stmt, NULL), ==,
                        SQLITE_OK);
        while (sqlite3_step(stmt) == SQLITE_ROW) {
            g_string_append_printf(plan, "%s;", (const char *)sqlite3_column_text(stmt, 3));
        }
        sqlite3_finalize(stmt);
        g_test_message("%s", plan->str);
        g_assert_cmpstr(plan->str, ==, cases[i].plan);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/profile/store-anomaly/found-by-time-score-and-vm", Place, NULL, place_setup,
               test_range, place_teardown);
    g_test_add("/profile/store-anomaly/nonsense-is-refused", Place, NULL, place_setup, test_refused,
               place_teardown);
    g_test_add("/profile/store-anomaly/a-night-is-one-index-range", Place, NULL, place_setup,
               test_plan, place_teardown);
    return g_test_run();
}
