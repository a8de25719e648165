/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "forecast/fore-backtest.h"

#include <math.h>
#include <string.h>

typedef struct {
    GString *text;
    ForeBacktestReport report; /* sums over the series of the trace */
} Result;

typedef struct {
    GPtrArray *traces;
    ForeSeriesModel *model;
    const ForeBacktestConfig *config;
    ForeBacktestProgress progress;
    gpointer data;
    GMutex lock;
    guint done;
    gint stopped;
    Result *result; /* [traces->len] */
} Job;

void fore_backtest_series_default(ForeSeriesConfig *ret)
{
    *ret = (ForeSeriesConfig){.n_target = 4,
                              .n_level = 3,
                              .target = {{1, false}, {6, false}, {12, false}, {12, true}},
                              .level = {0.5, 0.9, 0.95},
                              .step_s = 300,
                              .window = FORE_SERIES_MAX_WINDOW};
}

static void write_origin(const Job *job, const ForeTrace *trace, size_t k, const double *said,
                         Result *result)
{
    const ForeSeriesConfig *c = &job->config->series;
    int64_t time = trace->first_s + (int64_t)(k * trace->step_s);
    size_t n_out = (size_t)c->n_target * c->n_level;
    char number[G_ASCII_DTOSTR_BUF_SIZE], level[G_ASCII_DTOSTR_BUF_SIZE];

    for (unsigned m = 0; m < FORE_SERIES_METRICS; m++) {
        for (size_t i = 0; trace->metrics >> m & 1 && i < n_out; i++) {
            const ForeTarget *target = &c->target[i / c->n_level];
            double v = said[m * n_out + i];

            /* nothing was seen of this series yet: nothing is what we know of its demand */
            g_ascii_formatd(number, sizeof(number), "%.9g", isnan(v) ? 0.0 : v);
            g_ascii_formatd(level, sizeof(level), "%g", c->level[i % c->n_level]);
            g_string_append_printf(result->text, "%s:%s,%" G_GINT64_FORMAT ",%s%u,%s,%s\n",
                                   trace->name, fore_split_metric_names[m], time,
                                   target->peak ? "max" : "", target->lag, level, number);
        }
        result->report.forecasts += trace->metrics >> m & 1;
    }
}

/* One series counts at most tenfold; two that are both nothing tie. */
static double log_ratio(double loss, double last)
{
    const double least = 1e-300;

    return CLAMP(log((loss + least) / (last + least)), -G_LN10, G_LN10);
}

static void add_health(const ForeMixture *mixture, const ForeTrace *trace,
                       ForeBacktestReport *report)
{
    for (unsigned m = 0; m < FORE_SERIES_METRICS; m++) {
        ForeMixtureHealth health;

        if (!(trace->metrics >> m & 1)) {
            continue;
        }
        fore_mixture_health(mixture, m, &health);
        report->series++;
        report->coverage += health.coverage;
        report->loss += log_ratio(health.loss, health.loss_last);
        report->loss_season += log_ratio(health.loss_season, health.loss_last);
        report->behind += health.loss > 1.02 * MIN(health.loss_last, health.loss_season);
        for (unsigned i = 0; i < FORE_MIXTURE_MAX_MEMBER; i++) {
            report->weight[i] += health.weight[i];
        }
    }
}

static void run_trace(gpointer item, gpointer user)
{
    Job *job = user;
    guint number = GPOINTER_TO_UINT(item) - 1;
    const ForeTrace *trace = g_ptr_array_index(job->traces, number);
    const ForeSeriesConfig *c = &job->config->series;
    Result *result = &job->result[number];
    ForeMixtureConfig config = {
        .series = *c, .metrics = trace->metrics, .without = job->config->without};
    size_t warm = trace->n_before > job->config->warm ? trace->n_before - job->config->warm : 0;
    size_t origin = trace->n_before > 0 ? trace->n_before - 1 : 0;
    double said[FORE_SERIES_METRICS * FORE_NET_MAX_OUT];

    result->text = g_string_new(NULL);
    if (trace->metrics != 0 && !g_atomic_int_get(&job->stopped)) {
        g_autoptr(ForeMixture) mixture = NULL;

        config.series.step_s = trace->step_s;
        config.series.epoch_s = trace->first_s;
        mixture = fore_mixture_new(&config, job->model);
        for (size_t k = 0; k + FORE_SERIES_MAX_LAG < trace->n; k++) {
            double value[FORE_SERIES_METRICS];

            for (unsigned m = 0; m < FORE_SERIES_METRICS; m++) {
                value[m] = trace->value[m] != NULL ? trace->value[m][k] : NAN;
            }
            fore_mixture_step(mixture, value, NULL, k >= warm ? said : NULL);
            if (k == origin) {
                write_origin(job, trace, k, said, result);
                origin += trace->stride;
            }
        }
        add_health(mixture, trace, &result->report);
    }
    g_mutex_lock(&job->lock);
    job->done++;
    if (job->progress != NULL && !job->progress((double)job->done / job->traces->len, job->data)) {
        g_atomic_int_set(&job->stopped, 1);
    }
    g_mutex_unlock(&job->lock);
}

static void add_report(ForeBacktestReport *to, const ForeBacktestReport *from)
{
    to->forecasts += from->forecasts;
    to->series += from->series;
    to->behind += from->behind;
    to->coverage += from->coverage;
    to->loss += from->loss;
    to->loss_season += from->loss_season;
    for (unsigned i = 0; i < FORE_MIXTURE_MAX_MEMBER; i++) {
        to->weight[i] += from->weight[i];
    }
}

static void divide_report(ForeBacktestReport *r)
{
    double by = 1.0 / MAX(r->series, 1);

    r->coverage *= by;
    r->loss = exp(r->loss * by);
    r->loss_season = exp(r->loss_season * by);
    for (unsigned i = 0; i < FORE_MIXTURE_MAX_MEMBER; i++) {
        r->weight[i] *= by;
    }
}

bool fore_backtest_run(GPtrArray *traces, ForeSeriesModel *model, const ForeBacktestConfig *config,
                       ForeBacktestProgress progress,
                       bool (*write)(const char *text, size_t size, gpointer data), gpointer data,
                       ForeBacktestReport *ret_report)
{
    Job job = {
        .traces = traces, .model = model, .config = config, .progress = progress, .data = data};
    GThreadPool *pool = g_thread_pool_new(run_trace, &job, (gint)config->threads, TRUE, NULL);
    bool ok = true;

    memset(ret_report, 0, sizeof(*ret_report));
    job.result = g_new0(Result, traces->len);
    g_mutex_init(&job.lock);
    for (guint i = 0; i < traces->len; i++) {
        g_thread_pool_push(pool, GUINT_TO_POINTER(i + 1), NULL);
    }
    g_thread_pool_free(pool, FALSE, TRUE);
    for (guint i = 0; i < traces->len; i++) {
        GString *text = job.result[i].text;

        ok = ok && !job.stopped && write(text->str, text->len, data);
        add_report(ret_report, &job.result[i].report);
        g_string_free(text, TRUE);
    }
    divide_report(ret_report);
    g_free(job.result);
    g_mutex_clear(&job.lock);
    return ok;
}
