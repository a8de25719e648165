/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "common/fore-error.h"
#include "common/fore-flow.h"
#include "profile/fore-import.h"

static bool tell(const char *vm, const char *metric, int64_t t_ms, double value, gpointer text,
                 GError **error)
{
    g_string_append_printf(text, "%s/%s@%d=%g ", vm != NULL ? vm : "-", metric, (int)t_ms, value);
    return true;
}

/* Fed @step bytes at a time */
static char *csv(const char *bytes, size_t size, size_t step, GError **error)
{
    g_autoptr(GString) text = g_string_new("");
    g_autoptr(ForeImportCsv) import = fore_import_csv_new(tell, text);
    bool ok = true;

    for (size_t at = 0; ok && at < size; at += step) {
        ok = fore_import_csv_feed(import, bytes + at, MIN(step, size - at), error);
    }
    ok = ok && fore_import_csv_end(import, error);
    return ok ? g_strdup(text->str) : NULL;
}

static void test_csv(void)
{
    static const char text[] = "timestamp_s,cpu_cores,net rx/bps\r\n"
                               "10,0.5,7\n"
                               "20.5,,8\n\n"
                               "30,nan,inf\n"
                               "40,1e3,-0";

    for (size_t step = 1; step < sizeof(text); step++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *got = csv(text, sizeof(text) - 1, step, &error);

        g_assert_no_error(error);
        g_assert_cmpstr(got, ==,
                        "-/cpu_cores@10000=0.5 -/net_rx_bps@10000=7 -/net_rx_bps@20500=8 "
                        "-/cpu_cores@40000=1000 -/net_rx_bps@40000=-0 ");
    }
}

static void test_csv_refused(void)
{
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"", "empty"},
        {"time,cpu\n1,2\n", "must be timestamp_s"},
        {"timestamp_s\n1\n", "no column beside"},
        {"timestamp_s,a,a\n", "two columns"},
        {"timestamp_s,a,a!,a_\n", "two columns"}, /* the same once they are names */
        {"timestamp_s,a\nx,2\n", "line 2: 'x' is no time"},
        {"timestamp_s,a\n1,2\n2,3x\n", "line 3, a: '3x' is no number"},
        {"timestamp_s,a\n1,2,3\n", "more cells"},
        {"timestamp_s,a\n1e99,2\n", "no time"},
        {"timestamp_s,a\nnan,2\n", "no time"},
    };
    g_autofree char *huge = g_strnfill(FORE_IMPORT_LINE + 1, '1');
    g_autoptr(GError) long_line = NULL, zero = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(csv(cases[i].text, strlen(cases[i].text), 7, &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
        g_assert_nonnull(strstr(error->message, cases[i].words));
    }
    g_assert_null(csv(huge, FORE_IMPORT_LINE + 1, 1000, &long_line));
    g_assert_error(long_line, FORE_ERROR, FORE_ERROR_LIMIT);
    g_assert_null(csv("timestamp_s,a\n1\0,2\n", 19, 19, &zero));
    g_assert_error(zero, FORE_ERROR, FORE_ERROR_INVALID);
}

static char *prometheus(const char *json, const char *fallback, GError **error)
{
    g_autoptr(GString) text = g_string_new("");

    return fore_import_prometheus(json, strlen(json), "domain", fallback, tell, text, error)
               ? g_strdup(text->str)
               : NULL;
}

#define ANSWER(series)                                                                             \
    "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[" series "]}}"

static void test_prometheus(void)
{
    static const char text[] =
        ANSWER("{\"metric\":{\"__name__\":\"up\",\"domain\":\"web\",\"job\":\"x\"},"
               "\"values\":[[1435781430.781,\"1\"],[1435781445,\"NaN\"],[1435781460,\"+Inf\"]]},"
               "{\"metric\":{\"__name__\":\"cpu\",\"mode\":\"idle\",\"cpu\":\"0\"},"
               "\"values\":[[1,\"0.25\"]]}");
    g_autoptr(GError) error = NULL;
    g_autofree char *got = prometheus(text, "host", &error);

    g_assert_no_error(error);
    g_assert_nonnull(strstr(got, "web/up@"));
    g_assert_nonnull(strstr(got, "host/cpu.cpu_0.mode_idle@1000=0.25"));
    g_assert_null(strstr(got, "nan"));
    g_assert_null(strstr(got, "inf"));
}

static void test_prometheus_refused(void)
{
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"{\"status\":\"error\"}", "no answer of a successful range query"},
        {"{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[]}}", "'vector'"},
        {ANSWER("{\"metric\":{},\"values\":[[1,\"1\"]]}"), "--vm-label"},
        {ANSWER("{\"metric\":{\"domain\":\"a\"},\"values\":[[1,1]]}"), "[SECONDS,"},
        {ANSWER("{\"metric\":{\"domain\":\"a\"},\"values\":[[1,\"x\"]]}"), "[SECONDS,"},
        {ANSWER("{\"metric\":{\"domain\":\"a\"},\"values\":[[1e99,\"1\"]]}"), "[SECONDS,"},
        {ANSWER("{\"metric\":{\"domain\":\"a\"},\"value\":[1,\"1\"]}"), "query_range"},
        {ANSWER("{\"metric\":{\"domain\":\"a\",\"x\":1},\"values\":[]}"), "no text"},
        {ANSWER("{\"metric\":{\"domain\":\"a\"},\"values\":[]},"
                "{\"metric\":{\"domain\":\"a\"},\"values\":[]}"),
         "two series"},
        {"[", "JSON"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(prometheus(cases[i].text, NULL, &error));
        g_assert_nonnull(error);
        g_test_message("%s", error->message);
        g_assert_true(i + 1 == G_N_ELEMENTS(cases) ||
                      strstr(error->message, cases[i].words) != NULL);
    }
}

static void test_names(void)
{
    g_autofree char *a = g_strnfill(100, 'a'), *b = g_strdup_printf("%sb", a);
    char x[FORE_NAME_MAX + 1], y[FORE_NAME_MAX + 1];

    fore_import_name("../\xff etc", x);
    g_assert_true(fore_name_is_valid(x));
    fore_import_name("", x);
    g_assert_true(fore_name_is_valid(x));
    fore_import_name(a, x);
    fore_import_name(b, y);
    g_assert_true(fore_name_is_valid(x) && fore_name_is_valid(y));
    g_assert_cmpstr(x, !=, y); /* what is cut stays apart */
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/profile/import/csv-cut-anywhere-is-the-same", test_csv);
    g_test_add_func("/profile/import/bad-csv-says-where", test_csv_refused);
    g_test_add_func("/profile/import/prometheus-ranges-are-taken", test_prometheus);
    g_test_add_func("/profile/import/other-answers-are-refused", test_prometheus_refused);
    g_test_add_func("/profile/import/any-text-becomes-a-name", test_names);
    return g_test_run();
}
