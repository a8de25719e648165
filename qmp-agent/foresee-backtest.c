/* SPDX-License-Identifier: GPL-2.0-or-later */
/* foresee backtest, foresee train --data: the forecaster over recorded traces; needs no daemon. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/fore-error.h"
#include "forecast/fore-backtest.h"
#include "forecast/fore-series-train.h"
#include "qmp-agent/foresee-cli.h"
#include "qmp-agent/foresee-split.h"

typedef struct {
    char *split, *train, *model, *save_model, *out;
    gchar **without;
    gint hidden, epochs, trees, threads, warm;
    gint64 seed;
    gboolean json, quiet;
} Options;

static void options_clear(Options *o)
{
    g_free(o->split);
    g_free(o->train);
    g_free(o->model);
    g_free(o->save_model);
    g_free(o->out);
    g_strfreev(o->without);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

static int failed(const GError *error)
{
    fprintf(stderr, "foresee: %s\n", error->message);
    return CLI_FAILED;
}

static bool show_training(double done, const char *what, double loss, gpointer data)
{
    g_autofree char *text =
        isnan(loss) ? g_strdup(what) : g_strdup_printf("%s, loss %.4f", what, loss);

    fore_cli_bar_show(data, done, text);
    return true;
}

static ForeSeriesModel *train(const Options *o, GPtrArray *traces, GError **error)
{
    ForeCliBar bar = {.title = "train", .quiet = o->quiet};
    ForeSeriesTrainConfig config = {.hidden = (unsigned)o->hidden,
                                    .epochs = (unsigned)o->epochs,
                                    .n_tree = (unsigned)o->trees,
                                    .seed = (uint64_t)o->seed,
                                    .threads = (unsigned)o->threads};

    fore_backtest_series_default(&config.series);
    return fore_series_train(traces, &config, show_training, &bar, error);
}

static bool save_model(const ForeSeriesModel *model, const char *path, GError **error)
{
    g_autoptr(GBytes) bytes = fore_series_model_encode(model);

    return g_file_set_contents(path, g_bytes_get_data(bytes, NULL), (gssize)g_bytes_get_size(bytes),
                               error);
}

static ForeSeriesModel *load_model(const char *path, GError **error)
{
    g_autoptr(GBytes) bytes = fore_cli_file_read(path, FORE_SERIES_MODEL_MAX_SIZE, error);
    ForeSeriesModel *model;

    if (bytes == NULL) {
        return NULL;
    }
    model = fore_series_model_decode(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), error);
    if (model == NULL) {
        g_prefix_error(error, "%s: ", path);
    }
    return model;
}

/* A model from where the options say: a file, another folder, or this one's own past. */
static ForeSeriesModel *get_model(const Options *o, GPtrArray *traces, GError **error)
{
    g_autoptr(GPtrArray) other = NULL;

    if (o->model != NULL) {
        return load_model(o->model, error);
    }
    if (o->train != NULL) {
        other = fore_cli_split_load(o->train, error);
        if (other == NULL) {
            return NULL;
        }
    }
    return train(o, other != NULL ? other : traces, error);
}

typedef struct {
    ForeCliBar bar;
    ForeCliOutput output;
    GError *error;
} Run;

static bool show_backtest(double done, gpointer data)
{
    Run *run = data;

    fore_cli_bar_show(&run->bar, done, "forecast");
    return true;
}

static bool write_text(const char *text, size_t size, gpointer data)
{
    Run *run = data;

    return g_output_stream_write_all(run->output.stream, text, size, NULL, NULL, &run->error);
}

static bool parse_without(gchar **names, uint32_t *ret, const char **ret_unknown)
{
    uint32_t all = (1u << FORE_MIXTURE_GUEST) - 1;

    *ret = 0;
    for (; names != NULL && *names != NULL; names++) {
        bool only = g_str_has_prefix(*names, "all-but-");
        const char *name = *names + (only ? strlen("all-but-") : 0);
        unsigned m = 0;

        while (m < FORE_MIXTURE_GUEST && strcmp(name, fore_mixture_member_name(m)) != 0) {
            m++;
        }
        if (m == FORE_MIXTURE_GUEST) {
            *ret_unknown = *names;
            return false;
        }
        *ret |= only ? all & ~(1u << m) : 1u << m;
    }
    *ret_unknown = "everything";
    return *ret != all;
}

static json_t *report_json(const ForeBacktestReport *r, const ForeSeriesModel *model)
{
    json_t *members = json_object();

    for (unsigned m = 0; m < FORE_MIXTURE_GUEST; m++) {
        json_object_set_new(members, fore_mixture_member_name(m), json_real(r->weight[m]));
    }
    return json_pack("{s:I, s:i, s:f, s:f, s:f, s:i, s:{s:i, s:I, s:I, s:f}, s:o}", "forecasts",
                     (json_int_t)r->forecasts, "series", (int)r->series, "coverage-95", r->coverage,
                     "loss-against-last-value", r->loss, "seasonal-loss-against-last-value",
                     r->loss_season, "series-behind", (int)r->behind, "model", "hidden",
                     (int)model->shape.hidden, "rows", (json_int_t)model->rows, "seed",
                     (json_int_t)model->seed, "training-loss", model->loss, "weights", members);
}

static void print_report(const ForeBacktestReport *r)
{
    printf("%" G_GUINT64_FORMAT " forecasts of %u series; loss %.3f of the last value's (season "
           "%.3f), P95 covers %.1f %%; behind last value or season at the end: %u series\n",
           r->forecasts, r->series, r->loss, r->loss_season, 100.0 * r->coverage, r->behind);
    printf("weights:");
    for (unsigned m = 0; m < FORE_MIXTURE_GUEST; m++) {
        printf(" %s %.3f", fore_mixture_member_name(m), r->weight[m]);
    }
    printf("\n");
}

static int run_backtest(const Options *o, GPtrArray *traces, ForeSeriesModel *model,
                        uint32_t without)
{
    static const char head[] = "series,t0,horizon,quantile,value\n";
    Run run = {.bar = {.title = "backtest", .quiet = o->quiet}};
    ForeBacktestConfig config = {
        .without = without, .warm = (size_t)o->warm, .threads = (unsigned)o->threads};
    ForeBacktestReport report;
    g_autoptr(GError) error = NULL;
    bool ok;

    fore_backtest_series_default(&config.series);
    if (!fore_cli_output_open(&run.output, o->out, &error)) {
        g_prefix_error(&error, "%s: ", o->out);
        return failed(error);
    }
    ok = write_text(head, strlen(head), &run) &&
         fore_backtest_run(traces, model, &config, show_backtest, write_text, &run, &report);
    ok = fore_cli_output_close(&run.output, ok, run.error == NULL ? &run.error : NULL) && ok;
    if (!ok) {
        fprintf(stderr, "foresee: %s: %s\n", o->out,
                run.error != NULL ? run.error->message : "not written");
        g_clear_error(&run.error);
        return CLI_FAILED;
    }
    if (o->json) {
        g_autoptr(json_t) json = report_json(&report, model);

        fore_cli_print_json(json);
    } else {
        print_report(&report);
    }
    return CLI_OK;
}

static const char *check_options(const Options *o)
{
    if (o->hidden < 0 || o->hidden > FORE_LSTM_MAX_HIDDEN) {
        return "--hidden must be 1..512";
    }
    if (o->epochs < 0 || o->epochs > 10000 || o->trees < 0 || o->trees > FORE_FOREST_MAX_TREE) {
        return "--epochs must be 1..10000, --trees 1..1000";
    }
    if (o->threads < 1 || o->threads > 256 || o->warm < 0 || o->seed < 0) {
        return "--threads must be 1..256, --warm and --seed not negative";
    }
    return NULL;
}

int fore_cli_backtest(ForeCli *cli, int argc, char **argv)
{
    g_auto(Options) o = {.threads = (gint)g_get_num_processors(), .warm = 2016, .seed = 1};
    const GOptionEntry entries[] = {
        {"split", 0, 0, G_OPTION_ARG_FILENAME, &o.split, "Folder of traces to forecast", "DIR"},
        {"out", 0, 0, G_OPTION_ARG_FILENAME, &o.out, "Where to write the forecasts", "FC.csv[.gz]"},
        {"train", 0, 0, G_OPTION_ARG_FILENAME, &o.train, "Learn from this folder instead", "DIR"},
        {"model", 0, 0, G_OPTION_ARG_FILENAME, &o.model, "Use a trained model", "FILE"},
        {"save-model", 0, 0, G_OPTION_ARG_FILENAME, &o.save_model, "Keep what was learned", "FILE"},
        {"seed", 0, 0, G_OPTION_ARG_INT64, &o.seed, "Seed of all that is random", "N"},
        {"hidden", 0, 0, G_OPTION_ARG_INT, &o.hidden, "LSTM cells (64)", "N"},
        {"epochs", 0, 0, G_OPTION_ARG_INT, &o.epochs, "Of 100 updates each (20)", "N"},
        {"trees", 0, 0, G_OPTION_ARG_INT, &o.trees, "Of each forest (150)", "N"},
        {"warm", 0, 0, G_OPTION_ARG_INT, &o.warm, "Steps over which weights settle (2016)", "N"},
        {"threads", 0, 0, G_OPTION_ARG_INT, &o.threads, "Threads; changes no result", "N"},
        {"without", 0, 0, G_OPTION_ARG_STRING_ARRAY, &o.without,
         "Leave a member out (or all-but-MEMBER); may be repeated", "MEMBER"},
        {"json", 'j', 0, G_OPTION_ARG_NONE, &o.json, "Print JSON", NULL},
        {"quiet", 'q', 0, G_OPTION_ARG_NONE, &o.quiet, "No progress bar", NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- forecast recorded traces");
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) traces = NULL;
    g_autoptr(ForeSeriesModel) model = NULL;
    const char *unknown;
    uint32_t without;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        return fore_cli_usage("%s", error->message);
    }
    o.json = o.json || cli->json;
    if (argc > 1 || o.split == NULL || o.out == NULL) {
        return fore_cli_usage("backtest needs --split DIR and --out FC.csv, and nothing else");
    }
    if (o.model != NULL && (o.train != NULL || o.save_model != NULL)) {
        return fore_cli_usage("--model excludes --train and --save-model");
    }
    if (check_options(&o) != NULL) {
        return fore_cli_usage("%s", check_options(&o));
    }
    if (!parse_without(o.without, &without, &unknown)) {
        return fore_cli_usage("--without %s: no such member, or nobody would be left", unknown);
    }
    traces = fore_cli_split_load(o.split, &error);
    if (traces == NULL) {
        return failed(error);
    }
    model = get_model(&o, traces, &error);
    if (model == NULL || (o.save_model != NULL && !save_model(model, o.save_model, &error))) {
        return failed(error);
    }
    return run_backtest(&o, traces, model, without);
}

int fore_cli_train_series(ForeCli *cli, int argc, char **argv)
{
    g_auto(Options) o = {.threads = (gint)g_get_num_processors(), .seed = 1};
    const GOptionEntry entries[] = {
        {"data", 0, 0, G_OPTION_ARG_FILENAME, &o.train, "Folder of traces to learn from", "DIR"},
        {"out", 0, 0, G_OPTION_ARG_FILENAME, &o.out, "Where to write the model", "FILE"},
        {"seed", 0, 0, G_OPTION_ARG_INT64, &o.seed, "Seed of all that is random", "N"},
        {"hidden", 0, 0, G_OPTION_ARG_INT, &o.hidden, "LSTM cells (64)", "N"},
        {"epochs", 0, 0, G_OPTION_ARG_INT, &o.epochs, "Of 100 updates each (20)", "N"},
        {"trees", 0, 0, G_OPTION_ARG_INT, &o.trees, "Of each forest (150)", "N"},
        {"threads", 0, 0, G_OPTION_ARG_INT, &o.threads, "Threads; changes no result", "N"},
        {"json", 'j', 0, G_OPTION_ARG_NONE, &o.json, "Print JSON", NULL},
        {"quiet", 'q', 0, G_OPTION_ARG_NONE, &o.quiet, "No progress bar", NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- learn from recorded traces");
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) traces = NULL;
    g_autoptr(ForeSeriesModel) model = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        return fore_cli_usage("%s", error->message);
    }
    if (argc > 1 || o.train == NULL || o.out == NULL) {
        return fore_cli_usage("train --data DIR needs --out FILE, and nothing else");
    }
    if (check_options(&o) != NULL) {
        return fore_cli_usage("%s", check_options(&o));
    }
    traces = fore_cli_split_load(o.train, &error);
    model = traces != NULL ? train(&o, traces, &error) : NULL;
    if (model == NULL || !save_model(model, o.out, &error)) {
        return failed(error);
    }
    if (o.json || cli->json) {
        g_autoptr(json_t) json =
            json_pack("{s:s, s:I, s:i, s:f}", "model", o.out, "rows", (json_int_t)model->rows,
                      "hidden", (int)model->shape.hidden, "training-loss", model->loss);

        fore_cli_print_json(json);
    } else {
        printf("%s: learned from %" G_GUINT64_FORMAT " rows, loss %.4f\n", o.out, model->rows,
               model->loss);
    }
    return CLI_OK;
}
