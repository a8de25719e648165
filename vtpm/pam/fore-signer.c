/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  A job has two owners, the loop and the worker, and goes with the second.  Only the
 * loop calls back, so a job that was cancelled or is late is a job whose callback is gone.
 */
#include "vtpm/pam/fore-signer.h"

#include "common/fore-error.h"
#include "vtpm/attest/fore-jws.h"

struct ForeSignerJob {
    gint refs; /* atomic */
    ForeSigner *signer;
    ForeKey *key;
    const char *types[FORE_SIGNER_TOKENS];
    json_t *claims[FORE_SIGNER_TOKENS];
    char *tokens[FORE_SIGNER_TOKENS];
    GError *error;
    GSource *timer;
    ForeSignerDone done; /* NULL: cancelled, late or called */
    gpointer data;
};

struct ForeSigner {
    GMainContext *context;
    GThreadPool *pool;
    GAsyncQueue *finished; /* ForeSignerJob */
    GHashTable *waiting;   /* of the loop: jobs whose callback was not called */
    gint stopping;         /* atomic */
};

static void job_unref(ForeSignerJob *job)
{
    if (!g_atomic_int_dec_and_test(&job->refs)) {
        return;
    }
    for (unsigned i = 0; i < FORE_SIGNER_TOKENS; i++) {
        json_decref(job->claims[i]);
        g_free(job->tokens[i]);
    }
    g_clear_error(&job->error);
    g_free(job);
}

/* The loop has no more business with it. */
static void settle(ForeSignerJob *job)
{
    job->done = NULL;
    g_source_destroy(job->timer);
    g_source_unref(job->timer);
    g_hash_table_remove(job->signer->waiting, job);
    job_unref(job);
}

static void answer(ForeSignerJob *job, const GError *error)
{
    ForeSignerDone done = job->done;
    gpointer data = job->data;

    if (done != NULL) {
        g_atomic_int_inc(&job->refs);
        settle(job);
        done(error == NULL ? job->tokens : NULL, error, data);
        job_unref(job);
    }
}

static gboolean on_finished(gpointer data)
{
    ForeSigner *signer = data;
    ForeSignerJob *job = g_async_queue_try_pop(signer->finished);

    if (job != NULL) {
        answer(job, job->error);
        job_unref(job);
    }
    return G_SOURCE_REMOVE;
}

static gboolean on_late(gpointer data)
{
    ForeSignerJob *job = data;
    g_autoptr(GError) late =
        g_error_new(FORE_ERROR, FORE_ERROR_TIMEOUT, "the signing key does not answer");

    answer(job, late);
    return G_SOURCE_REMOVE;
}

/* In the worker thread. */
static void run(gpointer data, gpointer user_data)
{
    ForeSignerJob *job = data;
    ForeSigner *signer = user_data;
    GSource *source;

    for (unsigned i = 0; i < FORE_SIGNER_TOKENS && job->error == NULL; i++) {
        if (job->claims[i] != NULL && !g_atomic_int_get(&signer->stopping)) {
            job->tokens[i] = fore_jws_sign_with(job->types[i], job->claims[i], fore_key_sign,
                                                job->key, &job->error);
        }
    }
    g_async_queue_push(signer->finished, job);
    source = g_idle_source_new();
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, on_finished, signer, NULL);
    g_source_attach(source, signer->context);
    g_source_unref(source);
}

ForeSigner *fore_signer_new(GMainContext *context)
{
    ForeSigner *signer = g_new0(ForeSigner, 1);

    signer->context = g_main_context_ref(context);
    signer->finished = g_async_queue_new();
    signer->waiting = g_hash_table_new(NULL, NULL);
    signer->pool = g_thread_pool_new(run, signer, 1, TRUE, NULL);
    return signer;
}

void fore_signer_free(ForeSigner *signer)
{
    GHashTableIter iter;
    gpointer job;
    GSource *source;

    if (signer == NULL) {
        return;
    }
    g_atomic_int_set(&signer->stopping, 1);
    g_thread_pool_free(signer->pool, FALSE, TRUE);
    while ((job = g_async_queue_try_pop(signer->finished)) != NULL) {
        job_unref(job);
    }
    g_hash_table_iter_init(&iter, signer->waiting);
    while (g_hash_table_iter_next(&iter, &job, NULL)) {
        ForeSignerJob *left = job;

        g_hash_table_iter_remove(&iter);
        g_source_destroy(left->timer);
        g_source_unref(left->timer);
        job_unref(left);
    }
    while ((source = g_main_context_find_source_by_funcs_user_data(signer->context, &g_idle_funcs,
                                                                   signer)) != NULL) {
        g_source_destroy(source);
    }
    g_hash_table_unref(signer->waiting);
    g_async_queue_unref(signer->finished);
    g_main_context_unref(signer->context);
    g_free(signer);
}

ForeSignerJob *fore_signer_start(ForeSigner *signer, ForeKey *key, const char *const *types,
                                 json_t *const *claims, unsigned timeout_ms, ForeSignerDone done,
                                 gpointer data)
{
    ForeSignerJob *job = g_new0(ForeSignerJob, 1);

    job->refs = 2; /* the loop's and the worker's */
    job->signer = signer;
    job->key = key;
    job->done = done;
    job->data = data;
    for (unsigned i = 0; i < FORE_SIGNER_TOKENS; i++) {
        job->types[i] = types[i];
        job->claims[i] = claims[i];
    }
    job->timer = g_timeout_source_new(timeout_ms);
    g_source_set_callback(job->timer, on_late, job, NULL);
    g_source_attach(job->timer, signer->context);
    g_hash_table_add(signer->waiting, job);
    g_thread_pool_push(signer->pool, job, NULL);
    return job;
}

void fore_signer_cancel(ForeSignerJob *job)
{
    if (job->done != NULL) {
        settle(job);
    }
}
