/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "profile/fore-store.h"

static const uint8_t old_key[FORE_STORE_KEY_BYTES] = {1}, new_key[FORE_STORE_KEY_BYTES] = {2};
#define T0_MS INT64_C(1700000100000)

typedef struct {
    char *dir, *path;
} Place;

static void place_setup(Place *place, gconstpointer data)
{
    place->dir = g_dir_make_tmp("fore-rekey-XXXXXX", NULL);
    g_assert_nonnull(place->dir);
    place->path = g_build_filename(place->dir, "history.db", NULL);
}

static void place_teardown(Place *place, gconstpointer data)
{
    static const char *const endings[] = {"", "-wal", ".rekey", ".rekey-wal"};

    for (size_t i = 0; i < G_N_ELEMENTS(endings); i++) {
        g_autofree char *path = g_strconcat(place->path, endings[i], NULL);
        g_unlink(path);
    }
    g_assert_cmpint(g_rmdir(place->dir), ==, 0);
    g_free(place->path);
    g_free(place->dir);
}

static ForeStore *must_open(const Place *place, const uint8_t *key)
{
    g_autoptr(GError) error = NULL;
    ForeStore *store = fore_store_open(place->path, key, &error);

    g_assert_no_error(error);
    return store;
}

static void append(ForeStore *store, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++) {
        ForeSample s = {
            .mono_ns = (uint64_t)(i + 1) * FORE_NS_PER_S, .wall_ms = T0_MS + i * 1000, .valid = 3};

        s.value[0] = (double)(i % 7);
        s.value[1] = (double)i / 8;
        fore_store_append(store, "vm1", &s);
    }
}

static void assert_all(ForeStore *store, int64_t n)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) w = fore_store_window(store, "vm1", 0, INT64_MAX, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(w->len, ==, n);
    for (guint i = 0; i < w->len; i++) {
        g_assert_cmpfloat(g_array_index(w, ForeSample, i).value[1], ==, (double)i / 8);
    }
    fore_store_verify(store, &error);
    g_assert_no_error(error);
}

static void count(const char *k, const char *json, gpointer n)
{
    (*(unsigned *)n)++;
}

/* Between two steps everything goes on: samples, records written, changed and deleted. */
static void test_goes_on(Place *place, gconstpointer data)
{
    g_autoptr(ForeStore) store = must_open(place, old_key);
    g_autoptr(GError) error = NULL;
    ForeStoreHealth before, after;
    unsigned steps = 0, records = 0;
    int64_t at = 4000;

    append(store, 0, at);
    g_assert_true(fore_store_rekey_begin(store, new_key, &error));
    g_assert_false(fore_store_rekey_begin(store, new_key, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_EXISTS);
    g_clear_error(&error);
    for (bool done = false; !done; steps++) {
        g_autofree char *name = g_strdup_printf("r%u", steps % 10);

        append(store, at, at + 100);
        at += 100;
        g_assert_true(fore_store_put(store, "ledger", name, "{}", NULL));
        g_assert_true(fore_store_event(store, at, "vm1", "{}", NULL));
        if (steps == 3) {
            g_assert_true(fore_store_delete(store, "ledger", "r1", NULL));
        }
        fore_store_rekey_step(store, 20, &done, &error);
        g_assert_no_error(error);
    }
    g_assert_cmpuint(steps, >, 8);
    append(store, at, at + 100);
    at += 100;
    g_assert_true(fore_store_flush(store, NULL));
    fore_store_health(store, &before);
    assert_all(store, at);
    g_clear_pointer(&store, fore_store_close);
    g_assert_null(fore_store_open(place->path, old_key, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED);
    store = must_open(place, new_key);
    assert_all(store, at);
    fore_store_health(store, &after);
    g_assert_cmpuint(after.samples, ==, (uint64_t)at);
    g_assert_cmpuint(after.chunks, ==, before.chunks);
    g_assert_true(fore_store_each(store, "ledger", count, &records, NULL));
    g_assert_cmpuint(records, ==, steps >= 12 ? 10 : steps - 1);
}

static int kill_at; /* the n-th point */

static void strike(const char *point)
{
    if (kill_at-- == 0) {
        kill(getpid(), SIGKILL);
    }
}

static G_GNUC_NORETURN void change_and_die(const Place *place, const uint8_t *key,
                                           const uint8_t *other, int64_t at, int n)
{
    ForeStore *store = must_open(place, key);
    bool done = false;

    kill_at = n;
    fore_store_rekey_point = strike;
    g_assert_true(fore_store_rekey_begin(store, other, NULL));
    while (!done) {
        append(store, at, at + 60);
        at += 60;
        g_assert_true(fore_store_flush(store, NULL));
        g_assert_true(fore_store_rekey_step(store, 25, &done, NULL));
    }
    fore_store_close(store);
    _exit(0);
}

/* Killed at each point in turn: afterwards exactly one of the two keys opens the file, and all that
 * was acknowledged is there. */
static void test_killed(Place *place, gconstpointer data)
{
    const uint8_t *key = old_key, *other = new_key;
    int64_t n_samples = 2000;
    bool ended = false;
    int changed = 0, points = 0;

    for (; !ended; points++) {
        g_autoptr(ForeStore) with_key = NULL, with_other = NULL;
        g_autoptr(GArray) w = NULL;
        int status;
        pid_t pid;

        if (points == 0) {
            g_unlink(place->path);
            with_key = must_open(place, key);
            append(with_key, 0, n_samples);
            g_clear_pointer(&with_key, fore_store_close);
        }
        pid = fork();
        if (pid == 0) {
            change_and_die(place, key, other, n_samples, points);
        }
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        ended = WIFEXITED(status);
        with_key = fore_store_open(place->path, key, NULL);
        with_other = fore_store_open(place->path, other, NULL);
        g_assert_true((with_key == NULL) != (with_other == NULL));
        w = fore_store_window(with_key != NULL ? with_key : with_other, "vm1", 0, INT64_MAX, NULL);
        g_assert_cmpuint(w->len, >=, n_samples);
        n_samples = w->len;
        assert_all(with_key != NULL ? with_key : with_other, n_samples);
        if (with_key == NULL) {
            const uint8_t *swap = key;

            key = other;
            other = swap;
            changed++;
        }
    }
    g_assert_cmpint(points, >, 8);
    g_assert_cmpint(changed, >=, 2); /* killed after the rename, and the one that ended */
}

static void test_cancel(Place *place, gconstpointer data)
{
    g_autoptr(ForeStore) store = must_open(place, old_key);
    g_autofree char *second = g_strconcat(place->path, ".rekey", NULL);
    bool done = false;

    append(store, 0, 1000);
    g_assert_true(fore_store_rekey_begin(store, new_key, NULL));
    g_assert_true(fore_store_rekey_step(store, 10, &done, NULL));
    g_assert_true(g_file_test(second, G_FILE_TEST_EXISTS));
    fore_store_rekey_cancel(store);
    g_assert_false(g_file_test(second, G_FILE_TEST_EXISTS));
    append(store, 1000, 1100);
    g_clear_pointer(&store, fore_store_close);
    store = must_open(place, old_key);
    assert_all(store, 1100);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/profile/store-rekey/all-goes-on-meanwhile", Place, NULL, place_setup, test_goes_on,
               place_teardown);
    g_test_add("/profile/store-rekey/killed-anywhere-one-key-opens-it", Place, NULL, place_setup,
               test_killed, place_teardown);
    g_test_add("/profile/store-rekey/cancelled-the-old-key-stays", Place, NULL, place_setup,
               test_cancel, place_teardown);
    return g_test_run();
}
