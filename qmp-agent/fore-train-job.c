/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The thread owns copies of the windows and touches nothing else; progress and end cross over as
 * idle sources on the loop's context.  Two callbacks in flight never outlive the job: free joins
 * the thread and destroys them.
 */
#include "qmp-agent/fore-train-job.h"

#include "common/fore-error.h"

#define HISTORY_MS (24 * 3600 * INT64_C(1000)) /* what is learned from: the last day */

struct ForeTrainJob {
    GMainContext *context;
    GThread *thread;
    GPtrArray *histories; /* GArray of ForeSample */
    GArray *windows;      /* ForeWindow */
    ForeTrainConfig config;
    ForeTrainTell tell;
    ForeTrainDone done;
    gpointer data;
    gint stop; /* atomic */
    gint64 started_us;
    GMutex lock; /* guards what follows */
    ForeTrainProgress progress;
    GSource *news, *end;
    ForeModel *model;
    GError *error;
};

static gboolean on_news(gpointer data)
{
    ForeTrainJob *job = data;
    ForeTrainProgress progress;

    g_mutex_lock(&job->lock);
    progress = job->progress;
    g_clear_pointer(&job->news, g_source_unref);
    g_mutex_unlock(&job->lock);
    job->tell(&progress, job->data);
    return G_SOURCE_REMOVE;
}

static gboolean on_end(gpointer data)
{
    ForeTrainJob *job = data;

    job->done(job->model, job->error, job->data);
    return G_SOURCE_REMOVE;
}

static GSource *post(ForeTrainJob *job, GSourceFunc fn)
{
    GSource *source = g_idle_source_new();

    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, fn, job, NULL);
    g_source_attach(source, job->context);
    return source;
}

static bool on_epoch(const ForeTrainProgress *progress, gpointer data)
{
    ForeTrainJob *job = data;
    double elapsed = (double)(g_get_monotonic_time() - job->started_us) / G_USEC_PER_SEC;

    g_mutex_lock(&job->lock);
    job->progress = *progress;
    job->progress.eta_s = progress->epoch > 0
                              ? elapsed / progress->epoch * (progress->max_epochs - progress->epoch)
                              : -1;
    if (job->news == NULL) {
        job->news = post(job, on_news);
    }
    g_mutex_unlock(&job->lock);
    return g_atomic_int_get(&job->stop) == 0;
}

static gpointer run(gpointer data)
{
    ForeTrainJob *job = data;
    GError *error = NULL;
    ForeModel *model = fore_model_train((const ForeWindow *)(gpointer)job->windows->data,
                                        job->windows->len, &job->config, on_epoch, job, &error);

    g_mutex_lock(&job->lock);
    job->model = model;
    job->error = error;
    if (g_atomic_int_get(&job->stop) == 0) {
        job->end = post(job, on_end);
    }
    g_mutex_unlock(&job->lock);
    return NULL;
}

/* Samples on an even grid of 1 s; a missing second has valid == 0, a long gap is cut to 10 minutes.
 */
static GArray *even_grid(const GArray *samples)
{
    GArray *grid = g_array_new(FALSE, TRUE, sizeof(ForeSample));
    int64_t last_ms = 0;

    for (guint i = 0; i < samples->len; i++) {
        const ForeSample *s = &g_array_index(samples, ForeSample, i);
        int64_t missing = i > 0 ? (s->wall_ms - last_ms + 500) / 1000 - 1 : 0;
        for (int64_t k = 0; k < CLAMP(missing, 0, 600); k++) {
            ForeSample gap = {.wall_ms = last_ms + 1000 * (k + 1)};
            g_array_append_val(grid, gap);
        }
        g_array_append_val(grid, *s);
        last_ms = s->wall_ms;
    }
    return grid;
}

static bool read_history(ForeTrainJob *job, ForeStore *store, const char *name, GError **error)
{
    g_auto(GStrv) all = name == NULL ? fore_store_vms(store, error) : NULL;
    const char *one[] = {name, NULL};
    int64_t now_ms = g_get_real_time() / 1000;
    const char *const *names = name != NULL ? one : (const char *const *)all;

    if (names == NULL) {
        return false;
    }
    for (; *names != NULL; names++) {
        g_autoptr(GArray) samples =
            fore_store_window(store, *names, now_ms - HISTORY_MS, now_ms + 60000, error);
        ForeWindow window = {.step_ns = FORE_NS_PER_S};
        GArray *grid;
        if (samples == NULL) {
            return false;
        }
        grid = even_grid(samples);
        g_ptr_array_add(job->histories, grid);
        window.samples = (const ForeSample *)(gpointer)grid->data;
        window.n = grid->len;
        g_array_append_val(job->windows, window);
    }
    if (job->windows->len == 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "there is no history to learn from; let a VM run in observe first");
        return false;
    }
    return true;
}

ForeTrainJob *fore_train_job_new(GMainContext *context, ForeStore *store, const char *name,
                                 const ForeTrainConfig *config, ForeTrainTell tell,
                                 ForeTrainDone done, gpointer data, GError **error)
{
    ForeTrainJob *job = g_new0(ForeTrainJob, 1);

    job->context = g_main_context_ref(context);
    job->histories = g_ptr_array_new_with_free_func((GDestroyNotify)g_array_unref);
    job->windows = g_array_new(FALSE, TRUE, sizeof(ForeWindow));
    job->config = *config;
    job->tell = tell;
    job->done = done;
    job->data = data;
    job->started_us = g_get_monotonic_time();
    g_mutex_init(&job->lock);
    if (!read_history(job, store, name, error)) {
        fore_train_job_free(job);
        return NULL;
    }
    job->thread = g_thread_new("train", run, job);
    return job;
}

static void drop(GSource *source)
{
    if (source != NULL) {
        g_source_destroy(source);
        g_source_unref(source);
    }
}

void fore_train_job_free(ForeTrainJob *job)
{
    if (job == NULL) {
        return;
    }
    g_atomic_int_set(&job->stop, 1);
    if (job->thread != NULL) {
        g_thread_join(job->thread);
    }
    drop(job->news);
    drop(job->end);
    if (job->model != NULL) {
        fore_model_unref(job->model);
    }
    g_clear_error(&job->error);
    g_mutex_clear(&job->lock);
    g_array_unref(job->windows);
    g_ptr_array_unref(job->histories);
    g_main_context_unref(job->context);
    g_free(job);
}
