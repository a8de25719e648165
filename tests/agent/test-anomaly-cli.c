/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * foresee anomaly: score as a stream and over folders, list against a real foreseed, and the
 * benchmark corpora where they are at hand ($FORE_SHARED, or ../shared beside the sources).
 */
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "profile/fore-store.h"
#include "tests/agent/test-foreseed-fixture.h"

static char *out, *err; /* of the newest run */

static int run(const char *const *argv, const char *input)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GSubprocess) p =
        g_subprocess_newv(argv,
                          G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE |
                              G_SUBPROCESS_FLAGS_STDERR_PIPE,
                          &error);

    g_assert_no_error(error);
    g_clear_pointer(&out, g_free);
    g_clear_pointer(&err, g_free);
    g_subprocess_communicate_utf8(p, input, NULL, &out, &err, &error);
    g_assert_no_error(error);
    g_assert_true(g_subprocess_get_if_exited(p));
    return g_subprocess_get_exit_status(p);
}

static int score(const char *input)
{
    const char *const argv[] = {
        g_getenv("FORE_FORESEE"), "anomaly", "score", "--in", "-", "--out", "-", "--explain", NULL};

    return run(argv, input);
}

static void test_stream(void)
{
    const char *const argv[] = {g_getenv("FORE_FORESEE"), "anomaly", "score", "--in", "-", NULL};
    g_autoptr(GError) error = NULL;
    g_autoptr(GSubprocess) p = g_subprocess_newv(
        argv, G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE, &error);
    GOutputStream *to = g_subprocess_get_stdin_pipe(p);
    g_autoptr(GDataInputStream) from = g_data_input_stream_new(g_subprocess_get_stdout_pipe(p));
    g_autofree char *head = NULL;

    g_assert_no_error(error);
    g_assert_true(g_output_stream_write_all(to, "timestamp,value\n", 16, NULL, NULL, &error));
    head = g_data_input_stream_read_line(from, NULL, NULL, &error);
    g_assert_cmpstr(head, ==, "timestamp,value,anomaly_score");
    for (int i = 0; i < 200; i++) { /* each answer comes before the next question */
        g_autofree char *line =
            g_strdup_printf("2014-01-01 00:%02d:%02d,%d.50\n", i / 60, i % 60, i);
        g_autofree char *answer = NULL;
        g_assert_true(g_output_stream_write_all(to, line, strlen(line), NULL, NULL, &error));
        answer = g_data_input_stream_read_line(from, NULL, NULL, &error);
        g_assert_no_error(error);
        line[strlen(line) - 1] = ','; /* stamp and value letter for letter, then the score */
        g_assert_true(g_str_has_prefix(answer, line));
    }
    g_assert_true(g_output_stream_close(to, NULL, &error));
    g_assert_true(g_subprocess_wait_check(p, NULL, &error));
}

static void test_bad_input(void)
{
    g_autofree char *wide = g_strnfill(5000, '7');
    g_autofree char *wide_file = g_strdup_printf("timestamp,value\n5,%s\n", wide);

    g_assert_cmpint(score("timestamp,value\n5,1\n6,abc\n"), ==, 1);
    g_assert_nonnull(strstr(err, "standard input: line 3: \"abc\" is no value"));
    g_assert_nonnull(strstr(out, "\n5,1,0.0")); /* what was good is there */
    g_assert_cmpint(score("5,1\n"), ==, 1);
    g_assert_nonnull(strstr(err, "line 1: \"5,1\" is no head"));
    g_assert_cmpint(score(""), ==, 1);
    g_assert_cmpint(score(wide_file), ==, 1);
    g_assert_nonnull(strstr(err, "line 2: a line is longer than"));
    g_assert_cmpint(score("timestamp,value\r\n5,\r\n6,NaN\n\n7,1"), ==, 0);
    g_assert_cmpstr(out, ==,
                    "timestamp,value,anomaly_score,reason\n5,,0.00000000,\"\"\n"
                    "6,NaN,0.00000000,\"\"\n7,1,0.00000000,\"\"\n");
}

static void test_use(void)
{
    static const char *const wrong[][6] = {{"anomaly"},
                                           {"anomaly", "score"},
                                           {"anomaly", "dance"},
                                           {"anomaly", "score", "x.csv"},
                                           {"anomaly", "score", "--in", "a", "--dir", "b"},
                                           {"anomaly", "list", "a", "b"},
                                           {"anomaly", "list", "--since", "yesterday"},
                                           {"anomaly", "list", "--min-score", "2"},
                                           {"anomaly", "list", "--last-night", "--since", "2h"}};

    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        const char *argv[8] = {g_getenv("FORE_FORESEE")};
        memcpy(argv + 1, wrong[i], sizeof wrong[i]);
        g_assert_cmpint(run(argv, NULL), ==, 2);
        g_assert_nonnull(strstr(err, "see 'foresee --help'"));
    }
}

/* --- folders --- */

static int score_dir(const char *in, const char *to)
{
    const char *const argv[] = {
        g_getenv("FORE_FORESEE"), "anomaly", "score", "--dir", in, "--out-dir", to, NULL};

    return run(argv, NULL);
}

static void put(const char *dir, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autofree char *folder = g_path_get_dirname(path);
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
    g_file_set_contents(path, text, -1, &error);
    g_assert_no_error(error);
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *member = g_build_filename(path, name, NULL);
        remove_tree(member);
    }
    g_remove(path);
}

static void test_folder(void)
{
    g_autofree char *dir = g_dir_make_tmp("fore-anomaly-XXXXXX", NULL);
    g_autofree char *in = g_build_filename(dir, "in", NULL);
    g_autofree char *to = g_build_filename(dir, "to", NULL);
    g_autofree char *deep = g_build_filename(to, "a/b/x.csv", NULL);
    g_autofree char *inside = g_build_filename(in, "scores", NULL);
    g_autofree char *same = g_build_filename(in, "a/b/x.csv", NULL);
    const char *const over[] = {
        g_getenv("FORE_FORESEE"), "anomaly", "score", "--in", same, "--out", same, NULL};

    put(in, "a/b/x.csv", "timestamp,value\n1,2\n");
    put(in, "a/notes.txt", "not a series");
    g_assert_cmpint(score_dir(in, to), ==, 0);
    g_assert_true(g_file_test(deep, G_FILE_TEST_IS_REGULAR));
    put(in, "bad.csv", "nonsense\n");
    g_assert_cmpint(score_dir(in, to), ==, 1);
    g_assert_nonnull(strstr(err, "bad.csv: line 1: "));
    g_assert_cmpint(score_dir(in, inside), ==, 2);
    g_assert_cmpint(run(over, NULL), ==, 1);
    g_assert_nonnull(strstr(err, "is the input"));
    remove_tree(dir);
}

/* --- the daemon's list --- */

/* As the fixture's key file has it */
static void read_key(const ForeseedTest *t, uint8_t key[FORE_STORE_KEY_BYTES])
{
    g_autofree char *path = foreseed_test_path(t, "key"), *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    for (unsigned i = 0; i < FORE_STORE_KEY_BYTES; i++) {
        key[i] = (uint8_t)(g_ascii_xdigit_value(text[2 * i]) * 16 +
                           g_ascii_xdigit_value(text[2 * i + 1]));
    }
}

static void store_anomaly(ForeStore *store, const char *vm, int64_t age_ms, double of)
{
    int64_t now_ms = g_get_real_time() / 1000;
    const ForeStoreAnomaly a = {.vm = vm,
                                .source = "minute",
                                .metric = "demand_vcpu",
                                .from_ms = now_ms - age_ms,
                                .to_ms = now_ms - age_ms + 240000,
                                .score = of,
                                .reason = "demand_vcpu above P99.9 for 4 min"};
    g_autoptr(GError) error = NULL;

    fore_store_anomaly_put(store, &a, NULL, &error);
    g_assert_no_error(error);
}

static int list(const ForeseedTest *t, const char *a, const char *b, const char *c)
{
    const char *const argv[] = {
        g_getenv("FORE_FORESEE"), "--socket", t->control, "anomaly", "list", a, b, c, NULL};
    g_autoptr(GError) error = NULL;
    g_autoptr(GSubprocess) p = g_subprocess_newv(
        argv, G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE, &error);

    g_assert_no_error(error);
    g_clear_pointer(&out, g_free);
    g_clear_pointer(&err, g_free);
    g_subprocess_communicate_utf8(p, NULL, NULL, &out, &err, &error);
    g_assert_no_error(error);
    return g_subprocess_get_exit_status(p);
}

static unsigned lines_of(const char *text)
{
    unsigned n = 0;

    for (; *text != '\0'; text++) {
        n += *text == '\n';
    }
    return n;
}

static void test_list(void)
{
    g_autoptr(ForeseedTest) t = foreseed_test_new(NULL);
    g_autofree char *state = foreseed_test_path(t, "state");
    g_autofree char *path = g_build_filename(state, "store.db", NULL);
    uint8_t key[FORE_STORE_KEY_BYTES];
    g_autoptr(GError) error = NULL;
    ForeStore *store;

    g_assert_cmpint(list(t, NULL, NULL, NULL), ==, 3); /* nobody answers */
    read_key(t, key);
    g_assert_cmpint(g_mkdir_with_parents(state, 0700), ==, 0);
    store = fore_store_open(path, key, &error);
    g_assert_no_error(error);
    store_anomaly(store, "web1", 3 * G_GINT64_CONSTANT(86400000), 0.9);
    store_anomaly(store, "web1", 3600000, 0.6);
    store_anomaly(store, "db1", 1800000, 0.95);
    fore_store_close(store);
    foreseed_test_start(t);

    g_assert_cmpint(list(t, NULL, NULL, NULL), ==, 0);
    g_assert_cmpuint(lines_of(out), ==, 3);
    g_assert_nonnull(strstr(out, "above P99.9 for 4 min"));
    g_assert_cmpint(list(t, "web1", NULL, NULL), ==, 0);
    g_assert_cmpuint(lines_of(out), ==, 2);
    g_assert_cmpint(list(t, "--since=2h", NULL, NULL), ==, 0);
    g_assert_cmpuint(lines_of(out), ==, 2);
    g_assert_cmpint(list(t, "--since=2h", "--min-score=0.8", NULL), ==, 0);
    g_assert_cmpuint(lines_of(out), ==, 1);
    g_assert_nonnull(strstr(out, "db1"));
    g_assert_cmpint(list(t, "--until=1970-01-02", NULL, NULL), ==, 0);
    g_assert_cmpstr(out, ==, "no anomalies in that time\n");
    g_assert_cmpint(list(t, "--last-night", NULL, NULL), ==, 0);
    foreseed_test_refused(t, "query-anomalies", json_pack("{s:f}", "min-score", 7.0),
                          FORE_ERROR_INVALID, "min-score");
    foreseed_test_refused(t, "query-anomalies", json_pack("{s:i}", "limit", 0), FORE_ERROR_INVALID,
                          "limit");
}

/* --- the corpora --- */

static char *shared_path(const char *name)
{
    const char *from_env = g_getenv("FORE_SHARED"), *source = g_getenv("FORE_SOURCE");

    return from_env != NULL ? g_build_filename(from_env, name, NULL)
                            : g_build_filename(source, "..", "shared", name, NULL);
}

static void unpack_file(const char *from, const char *to)
{
    g_autoptr(GFile) in = g_file_new_for_path(from), dest = g_file_new_for_path(to);
    g_autoptr(GConverter) gunzip =
        G_CONVERTER(g_zlib_decompressor_new(G_ZLIB_COMPRESSOR_FORMAT_GZIP));
    g_autoptr(GError) error = NULL;
    g_autoptr(GFileInputStream) raw = g_file_read(in, NULL, &error);
    g_autoptr(GInputStream) plain = NULL;
    g_autoptr(GFileOutputStream) target = NULL;

    g_assert_no_error(error);
    plain = g_converter_input_stream_new(G_INPUT_STREAM(raw), gunzip);
    target = g_file_replace(dest, NULL, FALSE, G_FILE_CREATE_NONE, NULL, &error);
    g_assert_no_error(error);
    g_output_stream_splice(G_OUTPUT_STREAM(target), plain, G_OUTPUT_STREAM_SPLICE_CLOSE_TARGET,
                           NULL, &error);
    g_assert_no_error(error);
}

static void unpack(const char *from, const char *to)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDir) dir = g_dir_open(from, 0, &error);
    const char *name;

    g_assert_no_error(error);
    g_assert_cmpint(g_mkdir_with_parents(to, 0755), ==, 0);
    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *in = g_build_filename(from, name, NULL);
        g_autofree char *dest = g_build_filename(to, name, NULL);
        if (g_file_test(in, G_FILE_TEST_IS_DIR)) {
            unpack(in, dest);
        } else if (g_str_has_suffix(name, ".csv.gz")) {
            dest[strlen(dest) - 3] = '\0';
            unpack_file(in, dest);
        }
    }
}

/* Unpacks, scores, and asks the scorer.  Returns: the standard profile's score, NAN: skipped */
static double score_corpus(const char *data, const char *windows, const char *below)
{
    g_autofree char *from = shared_path(data), *labels = shared_path(windows);
    g_autofree char *tool = shared_path("tools/nab_score.py");
    g_autofree char *dir = g_dir_make_tmp("fore-nab-XXXXXX", NULL);
    g_autofree char *in = g_build_filename(dir, "in", NULL),
                    *to = g_build_filename(dir, "to", NULL);
    g_autofree char *place = below != NULL ? g_build_filename(in, below, NULL) : g_strdup(in);
    const char *const argv[] = {"/usr/bin/python3", tool, "--windows", labels,
                                "--results",        to,   NULL};
    double found = (double)NAN;

    if (!g_file_test(from, G_FILE_TEST_IS_DIR) || !g_file_test(tool, G_FILE_TEST_EXISTS) ||
        !g_file_test(argv[0], G_FILE_TEST_IS_EXECUTABLE)) {
        g_autofree char *why = g_strdup_printf("shared %s or its scorer is missing (set "
                                               "FORE_SHARED)",
                                               data);
        remove_tree(dir);
        g_test_skip(why);
        return found;
    }
    unpack(from, place);
    g_assert_cmpint(score_dir(in, to), ==, 0);
    g_assert_cmpint(run(argv, NULL), ==, 0);
    g_test_message("%s", out);
    g_assert_nonnull(strstr(out, "standard "));
    found = g_ascii_strtod(strstr(out, " score ") + strlen(" score "), NULL);
    remove_tree(dir);
    return found;
}

/* The bounds are what was asked of the detector; docs/forecasting.md has what it reaches. */
static void test_nab(void)
{
    double found =
        score_corpus("traces/anomaly/nab/data", "traces/anomaly/nab/combined_windows.json", NULL);

    if (isfinite(found)) {
        g_assert_cmpfloat(found, >=, 65);
    }
}

static void test_injected(void)
{
    double found =
        score_corpus("traces/anomaly/injected", "traces/anomaly/windows.json", "injected");

    if (isfinite(found)) {
        g_assert_cmpfloat(found, >=, 45);
    }
}

int main(int argc, char **argv)
{
    int rc;

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent/anomaly/line-is-scored-before-the-next", test_stream);
    g_test_add_func("/agent/anomaly/bad-input-names-its-line", test_bad_input);
    g_test_add_func("/agent/anomaly/wrong-use-exits-2", test_use);
    g_test_add_func("/agent/anomaly/folder-is-scored-whole", test_folder);
    g_test_add_func("/agent/anomaly/list-is-by-time-and-score", test_list);
    g_test_add_func("/agent/anomaly/nab-scores-65", test_nab);
    g_test_add_func("/agent/anomaly/injected-scores-45", test_injected);
    rc = g_test_run();
    g_free(out);
    g_free(err);
    return rc;
}
