/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-backtest.h"

#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "forecast/fore-series-train.h"

#define STEPS  200
#define BEFORE 150

static ForeTrace *some_trace(unsigned number)
{
    ForeTrace *trace = g_new0(ForeTrace, 1);
    ForeRandom rng = {.state = number};

    trace->name = g_strdup_printf("lab/vm%u", number);
    trace->file = g_strdup("x");
    trace->step_s = 300;
    trace->n = STEPS;
    trace->n_before = BEFORE;
    trace->stride = 7;
    trace->metrics = 3;
    for (unsigned m = 0; m < 2; m++) {
        trace->value[m] = g_new(double, STEPS);
        for (unsigned k = 0; k < STEPS; k++) {
            trace->value[m][k] =
                (number + 1.0) * (2.0 + sin(k / 6.0 + m) + 0.2 * fore_random_normal(&rng));
        }
    }
    trace->value[0][40] = NAN;
    return trace;
}

static GPtrArray *some_traces(void)
{
    GPtrArray *traces =
        g_ptr_array_new_with_free_func((GDestroyNotify)(void (*)(void))fore_trace_free);

    for (unsigned i = 0; i < 4; i++) {
        g_ptr_array_add(traces, some_trace(i));
    }
    return traces;
}

static ForeSeriesModel *small_model(GPtrArray *traces, unsigned threads)
{
    ForeSeriesTrainConfig config = {.hidden = 4,
                                    .epochs = 1,
                                    .updates = 3,
                                    .n_tree = 3,
                                    .rows = 20000,
                                    .seed = 3,
                                    .threads = threads};
    g_autoptr(GError) error = NULL;
    ForeSeriesModel *model;

    fore_backtest_series_default(&config.series);
    model = fore_series_train(traces, &config, NULL, NULL, &error);
    g_assert_no_error(error);
    return model;
}

static bool keep_text(const char *text, size_t size, gpointer data)
{
    g_string_append_len(data, text, (gssize)size);
    return true;
}

static char *forecast(GPtrArray *traces, ForeSeriesModel *model, unsigned threads)
{
    ForeBacktestConfig config = {.warm = 60, .threads = threads};
    GString *text = g_string_new(NULL);
    ForeBacktestReport report;

    fore_backtest_series_default(&config.series);
    g_assert_true(fore_backtest_run(traces, model, &config, NULL, keep_text, text, &report));
    g_assert_cmpuint(report.series, ==, 2 * traces->len);
    return g_string_free(text, FALSE);
}

static GBytes *encoded(GPtrArray *traces, unsigned threads)
{
    g_autoptr(ForeSeriesModel) model = small_model(traces, threads);

    return fore_series_model_encode(model);
}

static void test_threads(void)
{
    g_autoptr(GPtrArray) traces = some_traces();
    g_autoptr(GBytes) one = encoded(traces, 1), three = encoded(traces, 3);
    g_autoptr(ForeSeriesModel) model =
        fore_series_model_decode(g_bytes_get_data(one, NULL), g_bytes_get_size(one), NULL);
    g_autofree char *a = forecast(traces, model, 1), *b = forecast(traces, model, 3);

    g_assert_true(g_bytes_equal(one, three));
    g_assert_cmpstr(a, ==, b);
    g_assert_nonnull(strstr(a, "lab/vm0:cpu_cores,44700,max12,0.95,"));
}

/* Nothing that comes after a forecast may change it: neither through the members nor the models. */
static void test_causal(void)
{
    g_autoptr(GPtrArray) traces = some_traces();
    g_autoptr(ForeSeriesModel) model = small_model(traces, 2);
    g_autofree char *before = forecast(traces, model, 2), *after = NULL;
    g_autoptr(ForeSeriesModel) again = NULL;
    g_autoptr(GBytes) x = NULL, y = NULL;
    size_t n;

    for (guint i = 0; i < traces->len; i++) {
        ForeTrace *trace = g_ptr_array_index(traces, i);

        for (unsigned m = 0; m < 2; m++) {
            for (unsigned k = BEFORE; k < STEPS; k++) {
                trace->value[m][k] = 1000.0 * k;
            }
        }
    }
    again = small_model(traces, 2);
    x = fore_series_model_encode(model);
    y = fore_series_model_encode(again);
    g_assert_true(g_bytes_equal(x, y));
    after = forecast(traces, model, 2);
    /* the first origin (149 * 300 s) of the first trace: two series of twelve lines */
    n = (size_t)(strstr(before, ",46800,") - before);
    n = (size_t)(g_strrstr_len(before, (gssize)n, "\n") - before);
    g_assert_cmpuint(n, >, 600);
    g_assert_cmpmem(before, n, after, n);
}

static void test_damage(void)
{
    g_autoptr(GPtrArray) traces = some_traces();
    g_autoptr(GBytes) bytes = encoded(traces, 2);
    gsize size;
    const uint8_t *data = g_bytes_get_data(bytes, &size);
    g_autofree uint8_t *copy = g_memdup2(data, size);

    for (size_t i = 0; i < size; i += i < 200 ? 1 : 4099) {
        g_autoptr(GError) error = NULL;

        copy[i] ^= 0x20;
        g_assert_null(fore_series_model_decode(copy, size, &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
        g_clear_error(&error);
        copy[i] ^= 0x20;
        g_assert_null(fore_series_model_decode(copy, i, &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    }
}

static void test_too_little(void)
{
    g_autoptr(GPtrArray) traces = some_traces();
    ForeSeriesTrainConfig config = {.threads = 1};
    g_autoptr(GError) error = NULL;

    fore_backtest_series_default(&config.series);
    for (guint i = 0; i < traces->len; i++) {
        ((ForeTrace *)g_ptr_array_index(traces, i))->n_before = 20;
    }
    g_assert_null(fore_series_train(traces, &config, NULL, NULL, &error));
    g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
}

#define HEAD "series\tfile\tstep_s\tgrid\tt_first\tt_test\tstride\n"

static void test_split(void)
{
    const char index[] = HEAD "lab/a\tforecast/a.csv.gz\t10\t5\t100\t130\t2\n";
    const char csv[] = "timestamp_s,mem_bytes,cpu_cores\n100,5,1\n120,,2.5\n140,7,\n";
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) traces = fore_split_read_index(index, strlen(index), &error);
    ForeTrace *trace;

    g_assert_no_error(error);
    g_assert_cmpuint(traces->len, ==, 1);
    trace = g_ptr_array_index(traces, 0);
    g_assert_cmpuint(trace->n_before, ==, 3);
    g_assert_true(fore_split_read_csv(trace, csv, strlen(csv), &error));
    g_assert_no_error(error);
    g_assert_cmpuint(trace->metrics, ==, 3);
    g_assert_cmpfloat(trace->value[0][2], ==, 2.5);
    g_assert_cmpfloat(trace->value[1][4], ==, 7.0);
    g_assert_true(isnan(trace->value[1][2]) && isnan(trace->value[0][1]));
}

static void test_split_refuses(void)
{
    static const char *const index[] = {
        "",
        "series\tfile\n",
        HEAD "a\tb\t0\t5\t0\t0\t1\n",
        HEAD "a\tb\t1\t99999999999\t0\t0\t1\n",
        HEAD "a\t../b\t1\t5\t0\t0\t1\n",
        HEAD "a\t/etc/b\t1\t5\t0\t0\t1\n",
        HEAD "a,b\tb\t1\t5\t0\t0\t1\n",
        HEAD "a\tb\t1\t5\t0\t9\t1\n",
        HEAD "a\tb\t1\t5\n",
    };
    static const char *const csv[] = {
        "",
        "time,cpu_cores\n",
        "timestamp_s,disk\n",
        "timestamp_s,cpu_cores,cpu_cores\n",
        "timestamp_s,cpu_cores\n5,1\n",
        "timestamp_s,cpu_cores\n1,1,1\n",
        "timestamp_s,cpu_cores\n1,1e999\n",
        "timestamp_s,cpu_cores\n1,one\n",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(index); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(fore_split_read_index(index[i], strlen(index[i]), &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(csv); i++) {
        const char one[] = HEAD "a\tb\t1\t5\t0\t3\t1\n";
        g_autoptr(GPtrArray) traces = fore_split_read_index(one, strlen(one), NULL);
        g_autoptr(GError) error = NULL;

        g_assert_false(
            fore_split_read_csv(g_ptr_array_index(traces, 0), csv[i], strlen(csv[i]), &error));
        g_assert_error(error, FORE_ERROR, FORE_ERROR_INVALID);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/forecast/backtest/threads-change-nothing", test_threads);
    g_test_add_func("/forecast/backtest/the-future-changes-nothing", test_causal);
    g_test_add_func("/forecast/series-model/damage-is-refused", test_damage);
    g_test_add_func("/forecast/series-train/too-little-is-refused", test_too_little);
    g_test_add_func("/forecast/split/reads-what-is-there", test_split);
    g_test_add_func("/forecast/split/refuses-what-does-not-fit", test_split_refuses);
    return g_test_run();
}
