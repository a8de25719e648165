/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works: the thread takes jobs from one queue and puts them, done, into another; a source in
 * the owner's context hands those back one at a time.  A plain thread rather than a GTask: GIO and
 * the six libraries behind it would be 1.5 MiB and eight measured files in every guest, for this.
 */
#include "guest-agent/fore-sea-worker.h"

struct ForeSeaWorker {
    GThread *thread; /* NULL before the first job */
    GSource *source;
    GMutex lock; /* of what follows */
    GCond changed;
    GQueue waiting, finished;
    bool quit;
};

typedef struct {
    GSource source;
    ForeSeaWorker *worker;
} WorkerSource;

static gboolean dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    ForeSeaWorker *worker = ((WorkerSource *)source)->worker;
    ForeSeaJob *job;

    g_mutex_lock(&worker->lock);
    job = g_queue_pop_head(&worker->finished);
    g_source_set_ready_time(source, g_queue_is_empty(&worker->finished) ? -1 : 0);
    g_mutex_unlock(&worker->lock);
    if (job) {
        job->done(job, true); /* last: it may free the worker */
    }
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = {.dispatch = dispatch};

ForeSeaWorker *fore_sea_worker_new(GMainContext *context)
{
    ForeSeaWorker *worker = g_new0(ForeSeaWorker, 1);

    g_mutex_init(&worker->lock);
    g_cond_init(&worker->changed);
    worker->source = g_source_new(&source_funcs, sizeof(WorkerSource));
    ((WorkerSource *)worker->source)->worker = worker;
    g_source_attach(worker->source, context);
    return worker;
}

static gpointer run_jobs(gpointer data)
{
    ForeSeaWorker *worker = data;

    g_mutex_lock(&worker->lock);
    while (!worker->quit) {
        ForeSeaJob *job = g_queue_pop_head(&worker->waiting);
        if (!job) {
            g_cond_wait(&worker->changed, &worker->lock);
            continue;
        }
        g_mutex_unlock(&worker->lock);
        job->run(job);
        g_mutex_lock(&worker->lock);
        g_queue_push_tail(&worker->finished, job);
        g_source_set_ready_time(worker->source, 0);
    }
    g_mutex_unlock(&worker->lock);
    return NULL;
}

bool fore_sea_worker_push(ForeSeaWorker *worker, ForeSeaJob *job)
{
    bool room;

    g_mutex_lock(&worker->lock);
    room = g_queue_get_length(&worker->waiting) < FORE_SEA_JOBS_MAX;
    if (room) {
        g_queue_push_tail(&worker->waiting, job);
        g_cond_signal(&worker->changed);
    }
    g_mutex_unlock(&worker->lock);
    if (room && !worker->thread) {
        worker->thread = g_thread_new("sea-worker", run_jobs, worker);
    }
    return room;
}

void fore_sea_worker_free(ForeSeaWorker *worker)
{
    ForeSeaJob *job;

    if (!worker) {
        return;
    }
    g_mutex_lock(&worker->lock);
    worker->quit = true;
    g_cond_signal(&worker->changed);
    g_mutex_unlock(&worker->lock);
    if (worker->thread) {
        g_thread_join(worker->thread);
    }
    g_source_destroy(worker->source);
    g_source_unref(worker->source);
    while ((job = g_queue_pop_head(&worker->finished)) ||
           (job = g_queue_pop_head(&worker->waiting))) {
        job->done(job, false);
    }
    g_mutex_clear(&worker->lock);
    g_cond_clear(&worker->changed);
    g_free(worker);
}
