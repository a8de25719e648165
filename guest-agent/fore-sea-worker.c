/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest-agent/fore-sea-worker.h"

#include <gio/gio.h>

struct ForeSeaWorker {
    gatomicrefcount refs; /* the owner, and the task that is under way */
    GMainContext *context;
    GQueue waiting;
    ForeSeaJob *current; /* NULL: no task under way */
    bool dead;
    GMutex lock; /* of in_thread */
    GCond left;
    bool in_thread;
};

static void start_next(ForeSeaWorker *worker);

static void worker_unref(gpointer data)
{
    ForeSeaWorker *worker = data;

    if (!g_atomic_ref_count_dec(&worker->refs)) {
        return;
    }
    g_main_context_unref(worker->context);
    g_mutex_clear(&worker->lock);
    g_cond_clear(&worker->left);
    g_free(worker);
}

ForeSeaWorker *fore_sea_worker_new(GMainContext *context)
{
    ForeSeaWorker *worker = g_new0(ForeSeaWorker, 1);

    g_atomic_ref_count_init(&worker->refs);
    worker->context =
        context ? g_main_context_ref(context) : g_main_context_ref(g_main_context_default());
    g_mutex_init(&worker->lock);
    g_cond_init(&worker->left);
    return worker;
}

static void run_in_thread(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    ForeSeaWorker *worker = data;

    worker->current->run(worker->current);
    g_mutex_lock(&worker->lock);
    worker->in_thread = false;
    g_cond_signal(&worker->left);
    g_mutex_unlock(&worker->lock);
    g_task_return_boolean(task, TRUE);
}

static void on_ran(GObject *source, GAsyncResult *result, gpointer data)
{
    ForeSeaWorker *worker = g_task_get_task_data(G_TASK(result));
    ForeSeaJob *job;

    if (worker->dead) { /* fore_sea_worker_free() has ended the job */
        return;
    }
    job = g_steal_pointer(&worker->current);
    start_next(worker);
    job->done(job, true); /* last: it may free the worker */
}

static void start_next(ForeSeaWorker *worker)
{
    g_autoptr(GTask) task = NULL;

    if (worker->current || g_queue_is_empty(&worker->waiting)) {
        return;
    }
    worker->current = g_queue_pop_head(&worker->waiting);
    worker->in_thread = true;
    g_atomic_ref_count_inc(&worker->refs);
    /* A task calls back in the thread-default context of where it was made. */
    g_main_context_push_thread_default(worker->context);
    task = g_task_new(NULL, NULL, on_ran, NULL);
    g_main_context_pop_thread_default(worker->context);
    g_task_set_task_data(task, worker, worker_unref);
    g_task_run_in_thread(task, run_in_thread);
}

bool fore_sea_worker_push(ForeSeaWorker *worker, ForeSeaJob *job)
{
    if (g_queue_get_length(&worker->waiting) >= FORE_SEA_JOBS_MAX) {
        return false;
    }
    g_queue_push_tail(&worker->waiting, job);
    start_next(worker);
    return true;
}

void fore_sea_worker_free(ForeSeaWorker *worker)
{
    ForeSeaJob *job;

    if (!worker) {
        return;
    }
    worker->dead = true;
    g_mutex_lock(&worker->lock);
    while (worker->in_thread) {
        g_cond_wait(&worker->left, &worker->lock);
    }
    g_mutex_unlock(&worker->lock);
    job = g_steal_pointer(&worker->current);
    if (job) {
        job->done(job, false);
    }
    while ((job = g_queue_pop_head(&worker->waiting))) {
        job->done(job, false);
    }
    worker_unref(worker);
}
