/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee store, as a person and a script see it: on a file, and through a foreseed that runs. */
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>

#include "common/fore-json.h"
#include "profile/fore-store.h"

typedef struct {
    char *dir, *db, *key, *csv, *conf, *address;
    GSubprocess *daemon;
} Place;

static char *in_dir(const Place *p, const char *name)
{
    return g_build_filename(p->dir, name, NULL);
}

static char *make_csv(void)
{
    GString *text = g_string_new("timestamp_s,cpu_cores,mem_bytes\n");

    for (int i = 0; i < 3000; i++) {
        g_string_append_printf(text, "%d,%g,%s\n", 1700000000 + i, (double)(i * i % 97) / 100,
                               i % 10 == 0 ? "" : "1048576");
    }
    return g_string_free(text, FALSE);
}

static void place_setup(Place *p, gconstpointer data)
{
    g_autofree char *text = make_csv(), *conf = NULL;

    p->dir = g_dir_make_tmp("fore-cli-XXXXXX", NULL);
    p->db = in_dir(p, "store.db");
    p->key = in_dir(p, "key");
    p->csv = in_dir(p, "web.csv");
    p->conf = in_dir(p, "conf");
    p->address = g_strdup_printf("unix:%s/ctl", p->dir);
    conf = g_strdup_printf("[foreseed]\nstate-dir=%s\ntcti=\nstore-key-file=%s\ncontrol=%s\n",
                           p->dir, p->key, p->address);
    g_assert_true(g_file_set_contents(p->conf, conf, -1, NULL));
    g_assert_true(g_file_set_contents(p->csv, text, -1, NULL));
    g_assert_true(g_file_set_contents(p->key,
                                      "00112233445566778899aabbccddeeff"
                                      "00112233445566778899aabbccddeeff\n",
                                      -1, NULL));
}

static void place_teardown(Place *p, gconstpointer data)
{
    const char *argv[] = {"rm", "-rf", p->dir, NULL};
    g_autoptr(GSubprocess) rm = NULL;
    char **texts[] = {&p->dir, &p->db, &p->key, &p->csv, &p->conf, &p->address};

    if (p->daemon != NULL) {
        g_subprocess_send_signal(p->daemon, SIGTERM);
        g_assert_true(g_subprocess_wait(p->daemon, NULL, NULL));
        g_clear_object(&p->daemon);
    }
    rm = g_subprocess_newv(argv, 0, NULL);
    g_assert_true(g_subprocess_wait_check(rm, NULL, NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_free(*texts[i]);
    }
}

/* Runs foresee [--socket of the daemon] store WORDS [--db ...]; @want: exit code.
 * Returns: (transfer full) stdout and stderr */
static char *store(const Place *p, int want, const char *words)
{
    g_autofree char *where =
        p->daemon != NULL ? g_strdup("") : g_strdup_printf(" --db %s --key-file %s", p->db, p->key);
    g_autofree char *line =
        g_strdup_printf("%s --socket %s %s%s", g_getenv("FORE_FORESEE"), p->address, words, where);
    g_auto(GStrv) argv = g_strsplit(line, " ", -1);
    g_autoptr(GError) error = NULL;
    g_autoptr(GSubprocess) process =
        g_subprocess_newv((const char *const *)argv,
                          G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_MERGE, &error);
    char *out = NULL;

    g_assert_no_error(error);
    g_assert_true(g_subprocess_communicate_utf8(process, NULL, NULL, &out, NULL, &error));
    g_test_message("%s\n%s", words, out);
    g_assert_true(g_subprocess_get_if_exited(process));
    g_assert_cmpint(g_subprocess_get_exit_status(process), ==, want);
    return out;
}

static void assert_says(const Place *p, int want, const char *words, const char *part)
{
    g_autofree char *out = store(p, want, words);

    g_assert_nonnull(strstr(out, part));
}

static void round_trip(const Place *p)
{
    g_autofree char *import = g_strdup_printf("store import %s", p->csv);
    g_autofree char *back = in_dir(p, "back.csv"), *was = NULL, *is = NULL;
    g_autofree char *export = g_strdup_printf("store export --vm web -o %s", back);
    g_autofree char *nothing = NULL;

    assert_says(p, 0, import, "1 files, 5700 values");
    nothing = store(p, 0, export);
    g_assert_true(g_file_get_contents(p->csv, &was, NULL, NULL));
    g_assert_true(g_file_get_contents(back, &is, NULL, NULL));
    g_assert_true(strcmp(is, was) == 0);
    assert_says(p, 0, "store export --vm web --source import --metric cpu_cores --tier 2",
                "\n1700000100,300,0,");
    assert_says(p, 0, "store stats", "cpu_cores                  3000");
    assert_says(p, 0, "--json store stats --vm web", "\"metric\": \"mem_bytes\"");
    assert_says(p, 0, "store verify", "chunks decode");
    assert_says(p, 0, "store vacuum", "no page is free");
}

static void rekey(const Place *p)
{
    g_autofree char *before = NULL, *after = NULL;

    g_assert_true(g_file_get_contents(p->key, &before, NULL, NULL));
    assert_says(p, 0, "store rekey", "the store has a new key");
    g_assert_true(g_file_get_contents(p->key, &after, NULL, NULL));
    g_assert_cmpstr(before, !=, after);
    assert_says(p, 0, "store stats", "cpu_cores                  3000");
}

static void test_file(Place *p, gconstpointer data)
{
    g_autofree char *bad = in_dir(p, "bad.csv");
    g_autofree char *words = g_strdup_printf("store import %s", bad);

    assert_says(p, 1, "store stats", "no store");
    round_trip(p);
    rekey(p);
    assert_says(p, 0, "store verify --full", "the file is whole");
    assert_says(p, 1, "store export --vm nobody", "no such series");
    assert_says(p, 2, "store export", "needs --vm");
    assert_says(p, 2, "store import", "one file or more");
    assert_says(p, 2, "store frobnicate", "unknown command");
    g_assert_true(g_file_set_contents(bad, "timestamp_s,a\n1,2\nx,3\n", -1, NULL));
    assert_says(p, 1, words, "bad.csv: line 3: 'x' is no time");
    g_assert_true(g_file_set_contents(p->key,
                                      "00112233445566778899aabbccddeeff"
                                      "00112233445566778899aabbccddeeff",
                                      -1, NULL));
    assert_says(p, 1, "store stats", "the key does not fit");
}

static void start_daemon(Place *p)
{
    g_autofree char *line = NULL;
    g_autoptr(GDataInputStream) said = NULL;

    p->daemon = g_subprocess_new(G_SUBPROCESS_FLAGS_STDERR_PIPE, NULL, g_getenv("FORE_FORESEED"),
                                 "--config", p->conf, NULL);
    g_assert_nonnull(p->daemon);
    said = g_data_input_stream_new(g_subprocess_get_stderr_pipe(p->daemon));
    g_filter_input_stream_set_close_base_stream(G_FILTER_INPUT_STREAM(said), FALSE);
    line = g_data_input_stream_read_line(said, NULL, NULL, NULL);
    g_assert_nonnull(line);
    g_assert_nonnull(strstr(line, "ready on"));
}

static void test_daemon(Place *p, gconstpointer data)
{
    start_daemon(p);
    round_trip(p);
    rekey(p);
    assert_says(p, 1, "store verify --full", "stop it and use --db");
    /* the file is the daemon's alone */
    {
        g_autofree char *words =
            g_strdup_printf("store stats --db %s --key-file %s", p->db, p->key);

        assert_says(p, 1, words, "already in use");
    }
    g_subprocess_send_signal(p->daemon, SIGKILL);
    g_assert_true(g_subprocess_wait(p->daemon, NULL, NULL));
    g_clear_object(&p->daemon);
    assert_says(p, 0, "store verify --full", "the file is whole");
    assert_says(p, 0, "store stats", "cpu_cores                  3000");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/agent/store-cli/a-file-is-looked-at-without-a-daemon", Place, NULL, place_setup,
               test_file, place_teardown);
    g_test_add("/agent/store-cli/the-same-through-foreseed-which-is-then-killed", Place, NULL,
               place_setup, test_daemon, place_teardown);
    return g_test_run();
}
