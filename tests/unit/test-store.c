/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "profile/fore-ring.h"
#include "profile/fore-store-db.h"
#include "profile/fore-store.h"

static const uint8_t key[FORE_STORE_KEY_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8};
#define T0_MS INT64_C(1700000000000)

typedef struct {
    char *dir;
    char *path;
} Place;

static void place_setup(Place *place, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    place->dir = g_dir_make_tmp("fore-store-XXXXXX", &error);
    g_assert_no_error(error);
    place->path = g_build_filename(place->dir, "history.db", NULL);
}

static void place_teardown(Place *place, gconstpointer data)
{
    static const char *const endings[] = {"", "-wal", "-shm", ".away"};

    for (size_t i = 0; i < G_N_ELEMENTS(endings); i++) {
        g_autofree char *path = g_strconcat(place->path, endings[i], NULL);
        g_unlink(path);
    }
    g_assert_cmpint(g_rmdir(place->dir), ==, 0);
    g_free(place->path);
    g_free(place->dir);
}

static ForeStore *must_open(const char *path)
{
    g_autoptr(GError) error = NULL;
    ForeStore *store = fore_store_open(path, key, &error);

    g_assert_no_error(error);
    return store;
}

/* Second @i of a VM: every field but RUNNABLE each third time */
static ForeSample second(uint64_t i)
{
    ForeSample s = {.mono_ns = (i + 100) * FORE_NS_PER_S + i % 1000,
                    .wall_ms = T0_MS + (int64_t)i * 1000 + (int64_t)(i % 3)};

    for (unsigned f = 0; f < FORE_FIELD_N; f++) {
        if (f != FORE_FIELD_RUNNABLE || i % 3 != 0) {
            s.value[f] = f == 0 ? sin((double)i) : (double)(i * 100 + f) / 100;
            s.valid |= 1u << f;
        }
    }
    return s;
}

static void assert_second(const ForeSample *s, uint64_t i)
{
    ForeSample want = second(i);

    g_assert_cmpuint(s->mono_ns, ==, want.mono_ns);
    g_assert_cmpint(s->wall_ms, ==, want.wall_ms);
    g_assert_cmphex(s->valid, ==, want.valid);
    g_assert_cmpmem(s->value, sizeof(s->value), want.value, sizeof(want.value));
}

static void append(ForeStore *store, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++) {
        ForeSample s = second(i);
        fore_store_append(store, "vm1", &s);
    }
}

/* The window holds exactly the seconds @from up to before @to. */
static void assert_window(ForeStore *store, uint64_t from, uint64_t to)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) w = fore_store_window(store, "vm1", T0_MS + (int64_t)from * 1000,
                                            T0_MS + (int64_t)to * 1000 - 1, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(w->len, ==, to - from);
    for (uint64_t i = from; i < to; i++) {
        assert_second(&g_array_index(w, ForeSample, i - from), i);
    }
}

static void assert_verifies(ForeStore *store)
{
    g_autoptr(GError) error = NULL;

    fore_store_verify(store, &error);
    g_assert_no_error(error);
}

static void assert_refused(const char *path, const uint8_t *with, int code, const char *words)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ForeStore) store = fore_store_open(path, with, &error);

    g_assert_null(store);
    g_assert_error(error, FORE_ERROR, code);
    g_assert_nonnull(strstr(error->message, words));
}

static void test_round_trip(Place *place, gconstpointer data)
{
    g_autoptr(ForeStore) store = must_open(place->path);
    ForeStoreHealth health;
    struct stat st;

    /* more than the ring, and not a multiple of a span */
    append(store, 0, 2000);
    assert_window(store, 0, 2000);
    assert_window(store, 700, 1234);
    assert_window(store, 1990, 2000);
    g_clear_pointer(&store, fore_store_close);

    store = must_open(place->path);
    assert_window(store, 0, 2000);
    append(store, 2000, 2500);
    assert_window(store, 0, 2500);
    assert_window(store, 1950, 2050);
    assert_verifies(store);
    g_assert_true(fore_store_flush(store, NULL));
    fore_store_health(store, &health);
    g_assert_true(health.disk_ok);
    g_assert_cmpuint(health.samples, ==, 2500);
    g_assert_cmpuint(health.lost_samples, ==, 0);
    g_assert_cmpuint(health.chunks, >=, 16 * 10);
    g_assert_cmpuint(health.bytes, >, 0);
    g_assert_cmpint(stat(place->path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
}

static void test_many_vms(Place *place, gconstpointer data)
{
    g_autoptr(ForeStore) store = must_open(place->path);
    g_auto(GStrv) names = NULL;
    g_autoptr(GArray) none = NULL;

    for (uint64_t i = 0; i < 300; i++) {
        for (int v = 0; v < 3; v++) {
            static const char *const vms[] = {"web", "db", "batch"};
            ForeSample s = second(i);

            s.value[1] = v;
            s.valid |= 2;
            fore_store_append(store, vms[v], &s);
        }
    }
    g_clear_pointer(&store, fore_store_close);
    store = must_open(place->path);
    names = fore_store_vms(store, NULL);
    g_assert_cmpuint(g_strv_length(names), ==, 3);
    g_assert_cmpstr(names[0], ==, "batch");
    g_assert_cmpstr(names[2], ==, "web");
    for (int v = 0; v < 3; v++) {
        g_autoptr(GArray) w = fore_store_window(store,
                                                v == 0   ? "web"
                                                : v == 1 ? "db"
                                                         : "batch",
                                                0, INT64_MAX, NULL);
        g_assert_cmpuint(w->len, ==, 300);
        g_assert_cmpfloat(g_array_index(w, ForeSample, 299).value[1], ==, v);
    }
    none = fore_store_window(store, "nobody", 0, INT64_MAX, NULL);
    g_assert_cmpuint(none->len, ==, 0);
}

static void test_gap(Place *place, gconstpointer data)
{
    g_autoptr(ForeStore) store = must_open(place->path);
    g_autoptr(GArray) w = NULL;

    append(store, 0, 100);
    append(store, 400, 500);
    g_clear_pointer(&store, fore_store_close);
    store = must_open(place->path);
    w = fore_store_window(store, "vm1", 0, INT64_MAX, NULL);
    g_assert_cmpuint(w->len, ==, 200);
    assert_second(&g_array_index(w, ForeSample, 99), 99);
    assert_second(&g_array_index(w, ForeSample, 100), 400);
    assert_window(store, 0, 100);
    g_clear_pointer(&w, g_array_unref);
    w = fore_store_window(store, "vm1", T0_MS + 150000, T0_MS + 350000, NULL);
    g_assert_cmpuint(w->len, ==, 0);
}

static void test_not_a_number(Place *place, gconstpointer data)
{
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    g_autoptr(ForeStore) store = must_open(place->path);

    for (int i = 0; i < 3; i++) {
        ForeSample s = second((uint64_t)i);

        s.value[FORE_FIELD_CPU_BUSY] = bad[i];
        fore_store_append(store, "vm1", &s);
    }
    for (int from_disk = 0; from_disk < 2; from_disk++) {
        g_autoptr(GArray) w = fore_store_window(store, "vm1", 0, INT64_MAX, NULL);

        g_assert_cmpuint(w->len, ==, 3);
        for (guint i = 0; i < 3; i++) {
            const ForeSample *s = &g_array_index(w, ForeSample, i);

            g_assert_false(FORE_HAS(s, FORE_FIELD_CPU_BUSY));
            g_assert_cmpfloat(s->value[FORE_FIELD_CPU_BUSY], ==, 0);
            g_assert_true(FORE_HAS(s, FORE_FIELD_MEM_USED));
        }
        g_clear_pointer(&store, fore_store_close);
        store = must_open(place->path);
    }
}

static void test_clock_back(Place *place, gconstpointer data)
{
    g_autoptr(ForeStore) store = must_open(place->path);
    g_autoptr(GArray) w = NULL;

    for (uint64_t i = 0; i < 1500; i++) { /* the wall clock is set back ten minutes at 1000 */
        ForeSample s = second(i);

        s.wall_ms -= i >= 1000 ? 600000 : 0;
        fore_store_append(store, "vm1", &s);
    }
    w = fore_store_window(store, "vm1", 0, INT64_MAX, NULL);
    g_assert_cmpuint(w->len, ==, 1500);
    for (guint i = 1; i < w->len; i++) {
        g_assert_cmpint(g_array_index(w, ForeSample, i - 1).wall_ms, <=,
                        g_array_index(w, ForeSample, i).wall_ms);
    }
    /* seconds 400..899 came twice by the wall clock */
    g_clear_pointer(&w, g_array_unref);
    w = fore_store_window(store, "vm1", T0_MS + 500000, T0_MS + 599999, NULL);
    g_assert_cmpuint(w->len, ==, 200);
}

static void test_import(Place *place, gconstpointer data)
{
    g_autofree ForeSample *s = g_new(ForeSample, 5000);
    g_autoptr(ForeStore) store = must_open(place->path);
    g_autoptr(GError) error = NULL;

    for (uint64_t i = 0; i < 5000; i++) {
        s[i] = second(i);
    }
    g_assert_true(fore_store_import(store, "vm1", s, 5000, &error));
    append(store, 5000, 5010);
    assert_window(store, 0, 5010);
    g_assert_false(fore_store_import(store, "../x", s, 1, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    assert_verifies(store);
}

static void collect(const char *k, const char *json, gpointer text)
{
    g_string_append_printf(text, "%s=%s;", k, json);
}

static void test_records(Place *place, gconstpointer data)
{
    g_autoptr(ForeStore) store = must_open(place->path);
    g_autoptr(GString) text = g_string_new("");
    g_autofree char *huge = g_strnfill((1u << 20) + 1, 'x');
    g_autoptr(GError) error = NULL;

    g_assert_true(fore_store_put(store, "ledger", "b", "{\"n\":1}", NULL));
    g_assert_true(fore_store_put(store, "ledger", "a", "{\"n\":2}", NULL));
    g_assert_true(fore_store_put(store, "ledger", "b", "{\"n\":3}", NULL));
    g_assert_true(fore_store_put(store, "vm", "b", "{}", NULL));
    g_assert_true(fore_store_put(store, "vm", "gone", "{}", NULL));
    g_assert_true(fore_store_delete(store, "vm", "gone", NULL));
    g_assert_true(fore_store_delete(store, "vm", "never-was", NULL));
    g_assert_false(fore_store_put(store, "vm", "huge", huge, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_LIMIT);
    g_clear_pointer(&store, fore_store_close);
    store = must_open(place->path);
    g_assert_true(fore_store_each(store, "ledger", collect, text, NULL));
    g_assert_true(fore_store_each(store, "vm", collect, text, NULL));
    g_assert_cmpstr(text->str, ==, "a={\"n\":2};b={\"n\":3};b={};");
}

static void collect_event(int64_t id, int64_t wall_ms, const char *vm, const char *json,
                          gpointer text)
{
    g_string_append_printf(text, "%d %d %s %s;", (int)id, (int)wall_ms, vm ? vm : "-", json);
}

static void test_events(Place *place, gconstpointer data)
{
    g_autoptr(ForeStore) store = must_open(place->path);
    g_autoptr(GString) text = g_string_new("");

    g_assert_true(fore_store_event(store, 10, "vm1", "{}", NULL));
    g_assert_true(fore_store_event(store, 20, NULL, "[]", NULL));
    g_assert_true(fore_store_event(store, 15, "vm2", "1", NULL));
    g_assert_true(fore_store_each_event(store, 0, 2, collect_event, text, NULL));
    g_assert_true(fore_store_each_event(store, 2, 100, collect_event, text, NULL));
    g_assert_cmpstr(text->str, ==, "1 10 vm1 {};2 20 - [];3 15 vm2 1;");
}

static void test_event_bound(Place *place, gconstpointer data)
{
    g_autoptr(ForeDb) db = fore_db_open(place->path, key, NULL);
    g_autoptr(ForeStore) store = NULL;
    g_autoptr(GString) text = g_string_new("");

    g_assert_nonnull(db);
    g_assert_cmpint(
        sqlite3_exec(fore_db_handle(db),
                     "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT "
                     "100007) INSERT INTO event(wall_ms,json) SELECT i,'{}' FROM n",
                     NULL, NULL, NULL),
        ==, SQLITE_OK);
    g_clear_pointer(&db, fore_db_close);
    store = must_open(place->path);
    g_assert_true(fore_store_event(store, 5, "vm", "{}", NULL));
    g_assert_true(fore_store_each_event(store, 0, 1, collect_event, text, NULL));
    g_assert_cmpstr(text->str, ==, "9 9 - {};"); /* 100,008 events, the newest 100,000 kept */
}

static void test_wrong_key(Place *place, gconstpointer data)
{
    static const uint8_t other[FORE_STORE_KEY_BYTES] = {9};
    ForeStore *store = must_open(place->path);
    g_autofree char *text = NULL;
    gsize size = 0;

    append(store, 0, 100);
    g_assert_true(fore_store_put(store, "vm", "secretive-name", "{}", NULL));
    fore_store_close(store);
    assert_refused(place->path, other, FORE_ERROR_UNTRUSTED, "the key does not fit");
    /* and nothing readable lies on disk */
    g_assert_true(g_file_get_contents(place->path, &text, &size, NULL));
    g_assert_null(memmem(text, size, "secretive-name", 14));
    g_assert_null(memmem(text, size, "SQLite", 6));
    store = must_open(place->path);
    assert_window(store, 0, 100);
    fore_store_close(store);
}

static void flip_bit(const char *path, off_t at)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(pread(fd, &byte, 1, at), ==, 1);
    byte ^= 0x10;
    g_assert_cmpint(pwrite(fd, &byte, 1, at), ==, 1);
    close(fd);
}

static void test_flipped_bit(Place *place, gconstpointer data)
{
    ForeStore *store = must_open(place->path);
    unsigned by_open = 0, by_verify = 0;
    struct stat st;

    append(store, 0, 3000);
    fore_store_close(store);
    g_assert_cmpint(stat(place->path, &st), ==, 0);
    g_assert_cmpint(st.st_size, >, 5 * 16384);
    for (off_t page = 0; page < st.st_size; page += 16384) {
        g_autoptr(GError) error = NULL;
        g_autoptr(ForeStore) again = NULL;

        flip_bit(place->path, page + 2000);
        again = fore_store_open(place->path, key, &error);
        if (again == NULL) {
            by_open++;
        } else {
            by_verify++;
            g_assert_false(fore_store_verify(again, &error));
            g_assert_nonnull(strstr(error->message, "integrity"));
        }
        g_assert_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED);
        g_clear_pointer(&again, fore_store_close);
        flip_bit(place->path, page + 2000);
    }
    g_assert_cmpuint(by_open, >=, 1); /* the first page */
    g_assert_cmpuint(by_verify, >=, 5);
    store = must_open(place->path);
    assert_verifies(store);
    fore_store_close(store);
}

/* A damaged page makes a gap, named in the health; what else there is reads on, and is right. */
static void test_flipped_read(Place *place, gconstpointer data)
{
    ForeStore *store = must_open(place->path);
    unsigned refused = 0, in_part = 0;
    struct stat st;

    append(store, 0, 3000);
    fore_store_close(store);
    g_assert_cmpint(stat(place->path, &st), ==, 0);
    for (off_t page = 16384; page < st.st_size; page += 16384) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GArray) w = NULL;
        ForeStoreHealth health;

        flip_bit(place->path, page + 100);
        store = fore_store_open(place->path, key, NULL);
        w = store != NULL ? fore_store_window(store, "vm1", 0, INT64_MAX, &error) : NULL;
        if (w == NULL) { /* what tells where things are is damaged itself */
            refused++;
            if (store != NULL) {
                g_assert_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED);
            }
        } else {
            fore_store_health(store, &health);
            g_assert_cmpuint(health.damaged > 0, ==, w->len < 3000);
            g_test_message("page %d: %u samples, %s", (int)(page / 16384), w->len, health.damage);
            in_part += w->len > 0 && w->len < 3000;
            for (guint i = 0; i < w->len; i++) {
                const ForeSample *s = &g_array_index(w, ForeSample, i);

                assert_second(s, (uint64_t)(s->wall_ms - T0_MS) / 1000);
            }
        }
        fore_store_close(store);
        flip_bit(place->path, page + 100);
    }
    g_assert_cmpuint(in_part, >=, 3);
    g_assert_cmpuint(refused, >=, 1);
}

static void count(const char *k, const char *json, gpointer n)
{
    (*(unsigned *)n)++;
}

/* A page that every write needs: the file is moved aside, the ledger and what memory has go on. */
static void test_set_aside(Place *place, gconstpointer data)
{
    g_autoptr(GDir) dir = NULL;
    unsigned n = 0, aside = 0;
    const char *name;
    struct stat st;
    off_t size;

    {
        g_autoptr(ForeStore) store = must_open(place->path);

        append(store, 0, 300);
        g_assert_true(fore_store_put(store, "ledger", "a", "{}", NULL));
    }
    g_assert_cmpint(stat(place->path, &st), ==, 0);
    size = st.st_size;
    for (off_t page = 16384; page < size && aside == 0; page += 16384) {
        g_autoptr(ForeStore) store = NULL;
        g_autoptr(GArray) w = NULL;
        ForeStoreHealth health;

        flip_bit(place->path, page + 100);
        store = fore_store_open(place->path, key, NULL);
        if (store != NULL) {
            append(store, 300, 400);
            (void)fore_store_flush(store, NULL);
            fore_store_health(store, &health);
            if (strstr(health.reason, "a new file was begun") != NULL) {
                aside++;
                g_assert_true(health.disk_ok);
                w = fore_store_window(store, "vm1", T0_MS + 300000, INT64_MAX, NULL);
                g_assert_cmpuint(w->len, ==, 100);
                g_assert_true(fore_store_each(store, "ledger", count, &n, NULL));
                break;
            }
        }
        g_clear_pointer(&store, fore_store_close);
        flip_bit(place->path, page + 100);
    }
    g_assert_cmpuint(aside, ==, 1);
    g_assert_cmpuint(n, <=, 1); /* unless the page was the ledger's own */
    dir = g_dir_open(place->dir, 0, NULL);
    for (n = 0; (name = g_dir_read_name(dir)) != NULL;) {
        if (strstr(name, ".damaged-") != NULL) {
            g_autofree char *path = g_build_filename(place->dir, name, NULL);

            n++;
            g_unlink(path);
        }
    }
    g_assert_cmpuint(n, ==, 1);
    {
        g_autoptr(ForeStore) store = must_open(place->path);

        assert_verifies(store);
    }
}

static void test_second_process(Place *place, gconstpointer data)
{
    g_autoptr(ForeStore) store = must_open(place->path);
    int status;
    pid_t pid;

    append(store, 0, 100);
    pid = fork();
    if (pid == 0) {
        g_autoptr(GError) error = NULL;
        bool right = fore_store_open(place->path, key, &error) == NULL &&
                     g_error_matches(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE) &&
                     strstr(error->message, "already in use") != NULL;
        _exit(right ? 0 : 1);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_refused(place->path, key, FORE_ERROR_UNAVAILABLE, "already in use");
    g_assert_true(fore_store_flush(store, NULL));
}

static void test_newer_schema(Place *place, gconstpointer data)
{
    g_autoptr(ForeDb) db = fore_db_open(place->path, key, NULL);

    g_assert_nonnull(db);
    g_assert_cmpint(sqlite3_exec(fore_db_handle(db), "PRAGMA user_version=99", NULL, NULL, NULL),
                    ==, SQLITE_OK);
    g_clear_pointer(&db, fore_db_close);
    assert_refused(place->path, key, FORE_ERROR_INVALID, "schema version 99");
}

static void test_no_folder(Place *place, gconstpointer data)
{
    g_autofree char *path = g_build_filename(place->dir, "no", "such", "history.db", NULL);

    assert_refused(path, key, FORE_ERROR_UNAVAILABLE, "cannot create");
    g_assert_true(g_file_set_contents(place->path, "this is no database, only text", -1, NULL));
    assert_refused(place->path, key, FORE_ERROR_UNTRUSTED, "file was changed");
}

/* Appends until the store says that the disk is away; returns the next second. */
static uint64_t append_until(ForeStore *store, uint64_t from, bool disk_ok)
{
    ForeStoreHealth health;

    for (uint64_t i = from; i < from + 100000; i++) {
        append(store, i, i + 1);
        fore_store_health(store, &health);
        if (health.disk_ok == disk_ok) {
            return i + 1;
        }
    }
    g_assert_not_reached();
}

static void assert_away(ForeStore *store, const char *words)
{
    g_autoptr(GError) error = NULL;
    ForeStoreHealth health;

    fore_store_health(store, &health);
    g_assert_false(health.disk_ok);
    g_assert_nonnull(strstr(health.reason, words));
    g_assert_false(fore_store_flush(store, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
}

static void fill(const char *path)
{
    static const char zeros[4096];
    int fd = open(path, O_WRONLY | O_CREAT, 0600);

    while (write(fd, zeros, sizeof(zeros)) > 0) {
    }
    close(fd);
}

static void test_full_disk(Place *place, gconstpointer data)
{
    g_autofree char *path = g_build_filename(place->dir, "history.db", NULL);
    g_autofree char *ballast = g_build_filename(place->dir, "ballast", NULL);
    g_autoptr(GError) error = NULL;
    ForeStoreHealth health;
    ForeStore *store;
    uint64_t at, full;

    if (mount("tmpfs", place->dir, "tmpfs", 0, "size=4m") != 0) {
        g_test_skip("needs: permission to mount a tmpfs");
        return;
    }
    store = must_open(path);
    append(store, 0, 600);
    fill(ballast);
    full = append_until(store, 600, false);
    assert_away(store, "the disk is full");
    g_assert_false(fore_store_put(store, "ledger", "x", "{}", &error) &&
                   fore_store_put(store, "ledger", "y", "{}", &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE);
    at = full + 500; /* less than the ring: nothing may be missing afterwards */
    append(store, full, at);
    assert_window(store, full - 100, at);
    g_assert_cmpint(g_unlink(ballast), ==, 0);
    at = append_until(store, at, true);
    fore_store_health(store, &health);
    g_assert_cmpuint(health.lost_samples, ==, 0);
    assert_window(store, 0, at);
    g_assert_true(fore_store_flush(store, NULL));
    g_clear_pointer(&store, fore_store_close);
    store = must_open(path);
    assert_window(store, 0, at);
    assert_verifies(store);
    fore_store_close(store);
    g_assert_cmpint(umount(place->dir), ==, 0);
}

static void test_full_from_start(Place *place, gconstpointer data)
{
    g_autofree char *ballast = g_build_filename(place->dir, "ballast", NULL);

    if (mount("tmpfs", place->dir, "tmpfs", 0, "size=64k") != 0) {
        g_test_skip("needs: permission to mount a tmpfs");
        return;
    }
    fill(ballast);
    assert_refused(place->path, key, FORE_ERROR_UNAVAILABLE, "the disk is full");
    g_assert_cmpint(umount(place->dir), ==, 0);
}

static void test_read_only(Place *place, gconstpointer data)
{
    ForeStore *store;

    if (mount("tmpfs", place->dir, "tmpfs", 0, "size=4m") != 0) {
        g_test_skip("needs: permission to mount a tmpfs");
        return;
    }
    store = must_open(place->path);
    append(store, 0, 100);
    fore_store_close(store);
    g_assert_cmpint(mount("tmpfs", place->dir, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL), ==, 0);
    assert_refused(place->path, key, FORE_ERROR_UNAVAILABLE, "read-only");
    g_assert_cmpint(umount(place->dir), ==, 0);
}

/* A file size limit makes writes fail with EFBIG, which SQLite reports as an I/O error. */
static void test_io_error(Place *place, gconstpointer data)
{
    struct rlimit was, small;
    ForeStore *store = must_open(place->path);
    ForeStoreHealth health;
    uint64_t at;

    signal(SIGXFSZ, SIG_IGN);
    append(store, 0, 300);
    g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &was), ==, 0);
    small = (struct rlimit){.rlim_cur = 8192, .rlim_max = was.rlim_max};
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &small), ==, 0);
    at = append_until(store, 300, false);
    assert_away(store, "input/output error");
    append(store, at, at + 2000); /* more than the ring holds */
    at += 2000;
    fore_store_health(store, &health);
    g_assert_cmpuint(health.lost_samples, >, 1000);
    assert_window(store, at - 900, at);
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &was), ==, 0);
    at = append_until(store, at, true);
    fore_store_health(store, &health);
    assert_window(store, at - 900, at);
    g_assert_true(fore_store_flush(store, NULL));
    g_clear_pointer(&store, fore_store_close);
    store = must_open(place->path);
    {
        g_autoptr(GArray) w = fore_store_window(store, "vm1", 0, INT64_MAX, NULL);
        g_assert_cmpuint(w->len + health.lost_samples, ==, at); /* each on disk or counted */
    }
    assert_verifies(store);
    fore_store_close(store);
}

static void test_file_gone(Place *place, gconstpointer data)
{
    g_autofree char *away = g_strconcat(place->path, ".away", NULL);
    g_autofree char *wal = g_strconcat(place->path, "-wal", NULL);
    ForeStore *store = must_open(place->path);
    ForeStoreHealth health;

    append(store, 0, 300);
    g_assert_cmpint(g_rename(place->path, away), ==, 0);
    g_unlink(wal);
    append(store, 300, 400);
    fore_store_health(store, &health);
    g_assert_true(health.disk_ok);
    g_assert_nonnull(strstr(health.reason, "the file was gone"));
    assert_window(store, 0, 400);
    g_assert_true(fore_store_flush(store, NULL));
    fore_store_close(store);
    store = must_open(place->path);
    assert_window(store, 0, 400); /* all of it was still in memory */
    fore_store_close(store);
}

#if defined(__SANITIZE_ADDRESS__)
#define KILL_ROUNDS 15 /* each takes seconds there */
#else
#define KILL_ROUNDS 100
#endif

/* Child: ingest for ever, and tell through the pipe what was acknowledged. */
static G_GNUC_NORETURN void ingest(const char *path, uint64_t from, int fd)
{
    ForeStore *store = fore_store_open(path, key, NULL);

    for (uint64_t i = from; store != NULL; i++) {
        g_autofree char *name = g_strdup_printf("%06u", (unsigned)i);
        ForeSample s = second(i);

        if (i % 5 == 0 && !fore_store_put(store, "ledger", name, "{}", NULL)) {
            break;
        }
        fore_store_append(store, "vm1", &s);
        if (i % 7 == 0 && (!fore_store_flush(store, NULL) || write(fd, &i, sizeof(i)) < 0)) {
            break;
        }
    }
    _exit(1);
}

static void test_kill(Place *place, gconstpointer data)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(10);
    uint64_t from = 0;

    for (int round = 0; round < KILL_ROUNDS; round++) {
        unsigned acks = 1 + (unsigned)g_rand_int_range(rand, 0, 12), records = 0;
        g_autoptr(GArray) w = NULL;
        uint64_t acked = 0;
        int fds[2];
        pid_t pid;

        g_assert_cmpint(pipe(fds), ==, 0);
        pid = fork();
        if (pid == 0) {
            ingest(place->path, from, fds[1]);
        }
        close(fds[1]);
        while (acks-- > 0) {
            g_assert_cmpint(read(fds[0], &acked, sizeof(acked)), ==, sizeof(acked));
        }
        kill(pid, SIGKILL); /* wherever it is now */
        waitpid(pid, NULL, 0);
        while (read(fds[0], &acked, sizeof(acked)) == sizeof(acked)) {
        }
        close(fds[0]);
        {
            g_autoptr(ForeStore) store = must_open(place->path);

            assert_verifies(store);
            w = fore_store_window(store, "vm1", 0, INT64_MAX, NULL);
            g_assert_true(fore_store_each(store, "ledger", count, &records, NULL));
        }
        g_assert_cmpuint(w->len, >=, acked + 1);
        for (guint i = 0; i < w->len; i++) {
            assert_second(&g_array_index(w, ForeSample, i), i);
        }
        g_assert_cmpuint(records, >=, acked / 5 + 1);
        from = w->len;
    }
}

static void add(const char *name, void (*fn)(Place *, gconstpointer))
{
    g_test_add(name, Place, NULL, place_setup, fn, place_teardown);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("/profile/store/samples-come-back-bit-by-bit", test_round_trip);
    add("/profile/store/vms-are-kept-apart", test_many_vms);
    add("/profile/store/a-gap-stays-a-gap", test_gap);
    add("/profile/store/what-is-not-a-number-is-not-stored", test_not_a_number);
    add("/profile/store/a-clock-set-back-loses-nothing", test_clock_back);
    add("/profile/store/import-and-append-merge", test_import);
    add("/profile/store/records-replace-and-persist", test_records);
    add("/profile/store/events-are-read-in-order", test_events);
    add("/profile/store/events-are-bounded", test_event_bound);
    add("/profile/store/a-wrong-key-is-refused", test_wrong_key);
    add("/profile/store/a-flipped-bit-is-found", test_flipped_bit);
    add("/profile/store/a-flipped-bit-never-gives-wrong-samples", test_flipped_read);
    add("/profile/store/a-file-too-damaged-to-write-is-set-aside", test_set_aside);
    add("/profile/store/a-second-owner-is-refused", test_second_process);
    add("/profile/store/a-newer-schema-is-refused", test_newer_schema);
    add("/profile/store/what-cannot-be-opened-says-why", test_no_folder);
    add("/profile/store/a-full-disk-loses-nothing-within-the-ring", test_full_disk);
    add("/profile/store/a-disk-full-from-the-start-is-an-error", test_full_from_start);
    add("/profile/store/a-read-only-disk-is-an-error", test_read_only);
    add("/profile/store/an-io-error-is-survived-and-losses-counted", test_io_error);
    add("/profile/store/a-removed-file-is-started-anew", test_file_gone);
    add("/profile/store/a-kill-loses-nothing-acknowledged", test_kill);
    return g_test_run();
}
