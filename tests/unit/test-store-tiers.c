/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "profile/fore-chunk.h"
#include "profile/fore-store-db.h"
#include "profile/fore-store.h"

static const uint8_t key[FORE_STORE_KEY_BYTES] = {3};
#define T0_MS INT64_C(1700000100000) /* a multiple of 5 min */
#define DAY   INT64_C(86400)

typedef struct {
    char *dir, *path;
} Place;

static void place_setup(Place *place, gconstpointer data)
{
    place->dir = g_dir_make_tmp("fore-tiers-XXXXXX", NULL);
    g_assert_nonnull(place->dir);
    place->path = g_build_filename(place->dir, "history.db", NULL);
}

static void place_teardown(Place *place, gconstpointer data)
{
    g_autofree char *wal = g_strconcat(place->path, "-wal", NULL);

    g_unlink(wal);
    g_unlink(place->path);
    g_assert_cmpint(g_rmdir(place->dir), ==, 0);
    g_free(place->path);
    g_free(place->dir);
}

static ForeStore *must_open(const Place *place)
{
    g_autoptr(GError) error = NULL;
    ForeStore *store = fore_store_open(place->path, key, &error);

    g_assert_no_error(error);
    return store;
}

static double value_at(int64_t second)
{
    return (double)((second * second) % 97) / 4;
}

static void append(ForeStore *store, int64_t from_s, int64_t to_s)
{
    for (int64_t i = from_s; i < to_s; i++) {
        ForeSample s = {.mono_ns = (uint64_t)(i + 1000) * FORE_NS_PER_S,
                        .wall_ms = T0_MS + i * 1000,
                        .valid = 1u << FORE_FIELD_CPU_BUSY};

        s.value[FORE_FIELD_CPU_BUSY] = value_at(i);
        fore_store_append(store, "vm1", &s);
    }
}

/* Every point of the tier from @from_s on is that of the seconds it stands for, up to @to_s. */
static void assert_tier(ForeStore *store, unsigned tier, int64_t width_s, int64_t from_s,
                        int64_t to_s)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) points = fore_store_tier_read(store, "vm1", "guest", "cpu_busy", tier,
                                                    T0_MS + from_s * 1000, INT64_MAX, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(points->len, ==, (to_s - from_s + width_s - 1) / width_s);
    for (guint i = 0; i < points->len; i++) {
        const ForeTierPoint *p = &g_array_index(points, ForeTierPoint, i);
        int64_t begin = from_s + (int64_t)i * width_s, end = MIN(begin + width_s, to_s);
        double sum = 0, low = INFINITY, high = -INFINITY;

        for (int64_t s = begin; s < end; s++) {
            sum += value_at(s);
            low = fmin(low, value_at(s));
            high = fmax(high, value_at(s));
        }
        g_assert_cmpint(p->t_ms, ==, T0_MS + begin * 1000);
        g_assert_cmpuint(p->n, ==, end - begin);
        g_assert_cmpfloat(p->min, ==, low);
        g_assert_cmpfloat(p->max, ==, high);
        /* 24 significant bits */
        g_assert_cmpfloat_with_epsilon(p->mean, sum / (double)(end - begin), 2e-6);
    }
}

static void test_rolls_up(Place *place, gconstpointer data)
{
    ForeStore *store = must_open(place);

    append(store, 0, 3 * 3600 + 77);
    assert_tier(store, 0, 10, 0, 3 * 3600 + 77);
    assert_tier(store, 1, 300, 0, 3 * 3600 + 77);
    fore_store_close(store);
    store = must_open(place);
    assert_tier(store, 0, 10, 0, 3 * 3600 + 77);
    assert_tier(store, 1, 300, 0, 3 * 3600 + 77);
    fore_store_close(store);
}

/* Neither lost nor doubled, wherever the program ended */
static void test_restarts(Place *place, gconstpointer data)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(4);
    int64_t at = 0;

    while (at < 5 * 3600) {
        int64_t next = at + g_rand_int_range(rand, 1, 1500);
        ForeStore *store = must_open(place);

        append(store, at, next);
        fore_store_close(store);
        at = next;
    }
    {
        g_autoptr(ForeStore) store = must_open(place);

        assert_tier(store, 0, 10, 0, at);
        assert_tier(store, 1, 300, 0, at);
    }
}

typedef struct {
    ForeRunning running;
    unsigned n;
} Found;

static void find(const ForeSeriesInfo *info, gpointer data)
{
    Found *found = data;

    g_assert_cmpstr(info->vm, ==, "vm1");
    if (strcmp(info->metric, "cpu_busy") == 0) {
        g_assert_cmpstr(info->source, ==, "guest");
        found->running = info->running;
        found->n++;
    }
}

static void test_running(Place *place, gconstpointer data)
{
    double sum = 0, squares = 0, n = 2000;

    for (int64_t i = 0; i < 2000; i++) {
        sum += value_at(i);
        squares += value_at(i) * value_at(i);
    }
    for (int64_t at = 0; at < 2000; at += 400) {
        g_autoptr(ForeStore) store = must_open(place);

        append(store, at, at + 400);
    }
    for (int live = 0; live < 2; live++) {
        g_autoptr(ForeStore) store = must_open(place);
        Found found = {.n = 0};

        g_assert_true(fore_store_each_series(store, NULL, find, &found, NULL));
        g_assert_cmpuint(found.n, ==, 1);
        g_assert_cmpuint(found.running.n, ==, 2000);
        /* a sum of 2,000 doubles in another order */
        g_assert_cmpfloat_with_epsilon(found.running.mean, sum / n, 1e-9);
        g_assert_cmpfloat_with_epsilon(fore_running_sd(&found.running),
                                       sqrt(squares / n - sum / n * sum / n), 1e-6);
        g_assert_cmpint(found.running.first_ms, ==, T0_MS);
        g_assert_cmpint(found.running.last_ms, ==, T0_MS + 1999000);
        g_assert_cmpfloat(found.running.last, ==, value_at(1999));
    }
}

static guint raw_count(ForeStore *store)
{
    g_autoptr(GArray) w = fore_store_window(store, "vm1", INT64_MIN, INT64_MAX, NULL);

    g_assert_nonnull(w);
    return w->len;
}

static void test_retention(Place *place, gconstpointer data)
{
    g_autoptr(ForeStore) store = must_open(place);
    uint64_t dropped = 1, steps = 0;
    ForeStoreHealth health;
    int64_t end = 20 * 3600;

    append(store, 0, end);
    g_assert_true(fore_store_flush(store, NULL));
    g_assert_cmpuint(raw_count(store), ==, end);
    /* two days later: raw samples go, but those that a tier has only in part */
    while (dropped > 0) {
        g_assert_true(fore_store_expire(store, T0_MS + (end + 2 * DAY) * 1000, &dropped, NULL));
        g_assert_cmpuint(dropped, <=, 64); /* a bounded step */
        steps++;
    }
    g_assert_cmpuint(steps, >, 4);
    g_assert_cmpuint(raw_count(store), <, 3 * 3600);
    g_assert_cmpuint(raw_count(store), >, 0);
    assert_tier(store, 0, 10, 0, end);
    assert_tier(store, 1, 300, 0, end);
    fore_store_health(store, &health);
    g_assert_cmpuint(health.samples, ==, raw_count(store));
    /* ten days later: 10 s gone but the last blocks in memory, 5 min there */
    for (dropped = 1; dropped > 0;) {
        g_assert_true(fore_store_expire(store, T0_MS + (end + 10 * DAY) * 1000, &dropped, NULL));
    }
    assert_tier(store, 1, 300, 0, end);
    {
        g_autoptr(GArray) fine =
            fore_store_tier_read(store, "vm1", "guest", "cpu_busy", 0, 0, INT64_MAX, NULL);

        g_assert_cmpuint(fine->len, <, 3 * 360);
    }
    g_assert_true(fore_store_verify(store, NULL));
}

/* One sample a year ahead deletes nothing; two days of an even clock do. */
static void test_clock_jump(Place *place, gconstpointer data)
{
    g_autoptr(ForeStore) store = must_open(place);
    ForeSample s = {.valid = 1};

    append(store, 0, 4 * 3600);
    for (int i = 0; i < 300; i++) {
        s.mono_ns = (uint64_t)(4 * 3600 + 1000 + i) * FORE_NS_PER_S;
        s.wall_ms = T0_MS + (365 * DAY + i) * 1000;
        fore_store_append(store, "vm1", &s);
    }
    g_assert_true(fore_store_flush(store, NULL));
    g_assert_cmpuint(raw_count(store), ==, 4 * 3600 + 300);
    append(store, 4 * 3600 + 300, 8 * 3600);
    append(store, 2 * DAY, 2 * DAY + 2 * 3600);
    g_assert_cmpuint(raw_count(store), <, 4 * 3600 + 300);
}

static void test_tiers_text(void)
{
    static const char *const bad[] = {"",
                                      "1s:1d",
                                      "1s:1d 10s:7d",
                                      "1s:1d 10s:7d 5min:13mo x",
                                      "1s:1d 10s:7d 5min:1h",
                                      "10s:1d 10s:7d 5min:13mo",
                                      "1s:1h 10s:7d 5min:13mo",
                                      "1s:nan 10s:7d 5min:13mo",
                                      "1s:-1d 10s:7d 5min:13mo",
                                      "1s:1e99y 10s:7d 5min:13mo"};
    ForeStoreTiers t;

    g_assert_true(fore_store_tiers_parse(FORE_STORE_TIERS_DEFAULT, &t, NULL));
    g_assert_cmpint(t.raw_keep_ms, ==, DAY * 1000);
    g_assert_cmpint(t.tier[0].width_ms, ==, 10000);
    g_assert_cmpint(t.tier[1].width_ms, ==, 300000);
    g_assert_cmpint(t.tier[1].keep_ms / 1000 / DAY, ==, 395);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(fore_store_tiers_parse(bad[i], &t, &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    }
}

/* --- series of any name --- */

static void assert_line(ForeStore *store, int64_t n, int64_t step_ms)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) p =
        fore_store_series_read(store, "web", "prometheus", "load1", 0, INT64_MAX, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(p->len, ==, n);
    for (guint i = 0; i < p->len; i++) {
        g_assert_cmpint(g_array_index(p, ForeSeriesPoint, i).t_ms, ==, T0_MS + i * step_ms);
        g_assert_cmpfloat(g_array_index(p, ForeSeriesPoint, i).value, ==, value_at(i));
    }
}

static void test_line(Place *place, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    int64_t at = 0;

    for (int round = 0; round < 8; round++) {
        g_autoptr(ForeStore) store = must_open(place);

        for (int i = 0; i < 700 + round; i++, at++) {
            g_assert_true(fore_store_series_append(store, "web", "prometheus", "load1",
                                                   T0_MS + at * 1000, value_at(at), NULL));
        }
        assert_line(store, at, 1000);
    }
    {
        g_autoptr(ForeStore) store = must_open(place);
        g_autoptr(GArray) points = NULL;

        assert_line(store, at, 1000);
        points = fore_store_tier_read(store, "web", "prometheus", "load1", 1, 0, INT64_MAX, NULL);
        g_assert_cmpuint(points->len, ==, (at + 299) / 300);
        for (guint i = 0; i + 1 < points->len; i++) {
            g_assert_cmpuint(g_array_index(points, ForeTierPoint, i).n, ==, 300);
        }
        g_assert_true(fore_store_verify(store, NULL));
        g_assert_false(fore_store_series_append(store, "a b", "x", "y", 0, 0, &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    }
}

static void find_load(const ForeSeriesInfo *info, gpointer data)
{
    g_assert_cmpstr(info->metric, ==, "load1");
    *(ForeRunning *)data = info->running;
}

/* 5-minute data needs no tier of 5 minutes: it is kept as long itself. */
static void test_coarse(Place *place, gconstpointer data)
{
    g_autoptr(ForeStore) store = must_open(place);
    g_autoptr(GArray) points = NULL;
    ForeRunning running = {.n = 0};
    ForeStoreTierTotal total[4];
    size_t n = G_N_ELEMENTS(total);
    uint64_t dropped;

    for (int64_t i = 0; i < 2000; i++) {
        g_assert_true(fore_store_series_append(store, "web", "prometheus", "load1",
                                               T0_MS + i * 300000, value_at(i), NULL));
    }
    g_assert_true(fore_store_flush(store, NULL));
    g_assert_true(fore_store_expire(store, T0_MS + 300 * DAY * 1000, &dropped, NULL));
    g_assert_cmpuint(dropped, ==, 0);
    assert_line(store, 2000, 300000);
    points = fore_store_tier_read(store, "web", "prometheus", "load1", 1, 0, INT64_MAX, NULL);
    g_assert_cmpuint(points->len, ==, 2000);
    g_assert_true(fore_store_tier_totals(store, total, &n, NULL));
    g_assert_cmpuint(n, ==, 1); /* raw only */
    g_assert_cmpuint(total[0].points, ==, 2000);
    g_assert_true(fore_store_expire(store, T0_MS + 500 * DAY * 1000, &dropped, NULL));
    g_assert_cmpuint(dropped, >, 0);
    g_clear_pointer(&store, fore_store_close);
    store = must_open(place); /* the statistics outlive what they are of */
    g_assert_true(fore_store_each_series(store, NULL, find_load, &running, NULL));
    g_assert_cmpuint(running.n, ==, 2000);
}

/* --- damage --- */

static void sql(const Place *place, const char *text)
{
    g_autoptr(ForeDb) db = fore_db_open(place->path, key, NULL);

    g_assert_nonnull(db);
    g_assert_cmpint(sqlite3_exec(fore_db_handle(db), text, NULL, NULL, NULL), ==, SQLITE_OK);
}

static void name_damage(const char *what, int64_t from_ms, int64_t to_ms, int64_t samples,
                        int64_t found_ms, gpointer text)
{
    g_string_append_printf(text, "%s (%d);", what, (int)samples);
}

static void test_quarantine(Place *place, gconstpointer data)
{
    g_autoptr(ForeStore) store = must_open(place);
    g_autoptr(GString) text = g_string_new("");
    g_autoptr(GArray) w = NULL;
    g_autoptr(GError) error = NULL;
    ForeStoreHealth health;

    append(store, 0, 720);
    g_clear_pointer(&store, fore_store_close);
    /* one bit of one chunk, behind the page's HMAC */
    sql(place, "UPDATE chunk SET body=CAST(substr(body,1,20) || CASE substr(body,21,1) WHEN x'00'"
               " THEN x'01' ELSE x'00' END || substr(body,22) AS BLOB)"
               " WHERE id=(SELECT id FROM chunk ORDER BY id LIMIT 1 OFFSET 1)");
    store = must_open(place);
    w = fore_store_window(store, "vm1", 0, INT64_MAX, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(w->len, ==, 720); /* the times are there, one field of one span is not */
    for (guint i = 0; i < w->len; i++) {
        const ForeSample *s = &g_array_index(w, ForeSample, i);

        g_assert_cmpint(FORE_HAS(s, FORE_FIELD_CPU_BUSY), ==, !(i >= 240 && i < 480));
        if (FORE_HAS(s, FORE_FIELD_CPU_BUSY)) {
            g_assert_cmpfloat(s->value[FORE_FIELD_CPU_BUSY], ==, value_at(i));
        }
    }
    fore_store_health(store, &health);
    g_assert_cmpuint(health.damaged, ==, 1);
    g_assert_cmpuint(health.quarantined, ==, 1);
    g_assert_nonnull(strstr(health.damage, "VM 'vm1', cpu_busy"));
    g_assert_true(fore_store_each_damage(store, name_damage, text, NULL));
    g_assert_cmpstr(text->str, ==, "VM 'vm1', cpu_busy, span 2 (240);");
    g_assert_true(fore_store_verify(store, &error)); /* what is left is whole */
}

static void test_check_finds(Place *place, gconstpointer data)
{
    g_autoptr(ForeStore) store = must_open(place);
    g_autoptr(ForeStoreCheck) check = fore_store_check_new();
    g_autoptr(GError) error = NULL;
    uint64_t rows = 0, bad = 0;
    unsigned steps = 0;

    append(store, 0, 3 * 3600);
    g_clear_pointer(&store, fore_store_close);
    sql(place, "UPDATE part SET body=CAST(body || x'00' AS BLOB)"
               " WHERE id=(SELECT min(id) FROM part);"
               "UPDATE span SET wall=mono WHERE id=5; UPDATE span SET mono=x'00' WHERE id=6;");
    store = must_open(place);
    for (bool done = false; !done; steps++) {
        g_assert_true(fore_store_check_step(store, check, 10, &done, &error));
    }
    fore_store_check_result(check, &rows, &bad);
    g_assert_cmpuint(steps, >, 5);
    /* span 5 is a whole column of other times: nothing tells.  Span 6 and with it its chunk, a part
     */
    g_assert_cmpuint(bad, ==, 3);
    g_assert_true(fore_store_verify(store, &error));
}

static void test_upgrade(Place *place, gconstpointer data)
{
    static const char old[] =
        "DROP TABLE anomaly; DROP TABLE quarantine; DROP TABLE tier_total; DROP TABLE part;"
        "DROP TABLE series; DROP TRIGGER span_gone; DROP TRIGGER chunk_gone;"
        "ALTER TABLE span DROP COLUMN seq; ALTER TABLE vm DROP COLUMN stats;"
        "ALTER TABLE vm DROP COLUMN roll1; ALTER TABLE vm DROP COLUMN roll2;"
        "UPDATE span SET wall=substr(wall,1,length(wall)-4),mono=substr(mono,1,length(mono)-4);"
        "UPDATE chunk SET body=substr(body,1,length(body)-4); PRAGMA user_version=1";
    ForeStore *store = must_open(place);

    append(store, 0, 4000);
    fore_store_close(store);
    sql(place, old);
    store = must_open(place); /* brought up */
    g_assert_true(fore_store_verify(store, NULL));
    g_assert_cmpuint(raw_count(store), ==, 4000);
    append(store, 4000, 4100);
    assert_tier(store, 0, 10, 0, 4100);
    assert_tier(store, 1, 300, 0, 4100);
    fore_store_close(store);
}

static void add(const char *name, void (*fn)(Place *, gconstpointer))
{
    g_test_add(name, Place, NULL, place_setup, fn, place_teardown);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("/profile/store-tiers/samples-are-rolled-up", test_rolls_up);
    add("/profile/store-tiers/a-restart-loses-and-doubles-no-point", test_restarts);
    add("/profile/store-tiers/statistics-run-across-restarts", test_running);
    add("/profile/store-tiers/each-tier-is-kept-its-time", test_retention);
    add("/profile/store-tiers/a-clock-that-jumps-deletes-nothing", test_clock_jump);
    g_test_add_func("/profile/store-tiers/settings-are-checked", test_tiers_text);
    add("/profile/store-series/any-series-comes-back", test_line);
    add("/profile/store-series/coarse-data-is-its-own-tier", test_coarse);
    add("/profile/store-damage/a-flipped-chunk-is-quarantined-and-named", test_quarantine);
    add("/profile/store-damage/a-check-in-steps-finds-it", test_check_finds);
    add("/profile/store/a-file-of-version-1-is-brought-up", test_upgrade);
    return g_test_run();
}
