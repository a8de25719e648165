/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  A command becomes a job of the one worker thread; its answer comes back as an idle
 * source of the main context, which alone touches wires and calls.  A call outlives its peer (then
 * the answer goes nowhere). Jobs and peers are bounded, so a PAM that misbehaves cannot fill
 * memory.
 */
#include "vtpm/attester/fore-attester.h"

#include <errno.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "common/fore-wire.h"
#include "vtpm/attester/fore-attester-tpm.h"

#define MAX_PEERS      16
#define MAX_JOBS       64 /* a quote of a discrete TPM takes 0.2 s: more would be late anyway */
#define MAX_PER_SECOND 200

struct ForeAttester {
    GMainContext *context;
    const ForeAttesterConfig *config;
    ForeIdentity *identity;
    const char *pins[2];
    int fd;
    GSource *accept;
    GPtrArray *peers; /* ForeWire, borrowed here, freed in on_closed or with us */
    GThreadPool *pool;
    GAsyncQueue *done; /* Job */
    unsigned jobs;     /* given to the worker and not yet answered */
    gint stopping;     /* atomic: what the worker has not begun is not begun any more */
};

typedef json_t *(*Work)(const ForeAttesterConfig *, const json_t *arguments, GError **error);

typedef struct {
    ForeAttester *attester;
    ForeCall *call;
    Work work;
    json_t *arguments; /* own copy: the worker's alone while it runs */
    json_t *ret;
    GError *error;
} Job;

static json_t *do_info(const ForeAttesterConfig *config, const json_t *arguments, GError **error)
{
    return fore_attester_info(config, error);
}

static const struct {
    const char *name;
    Work work;
} commands[] = {
    {"attester-info", do_info},
    {"attester-activate", fore_attester_activate},
    {"attester-quote", fore_attester_quote},
};

static void answer(Job *job)
{
    job->attester->jobs--;
    if (job->ret != NULL) {
        fore_call_return(job->call, job->ret);
    } else {
        g_message("%s: %s", fore_call_command(job->call), job->error->message);
        fore_call_fail(job->call, job->error);
    }
    g_clear_error(&job->error);
    json_decref(job->arguments);
    g_free(job);
}

static gboolean on_job_done(gpointer data)
{
    ForeAttester *attester = data;
    Job *job = g_async_queue_try_pop(attester->done);

    if (job != NULL) {
        answer(job);
    }
    return G_SOURCE_REMOVE;
}

/* In the worker thread. */
static void run_job(gpointer data, gpointer user_data)
{
    Job *job = data;
    ForeAttester *attester = user_data;
    GSource *source;

    if (g_atomic_int_get(&attester->stopping)) {
        job->error = g_error_new(FORE_ERROR, FORE_ERROR_CLOSED, "the attester stops");
    } else {
        job->ret = job->work(attester->config, job->arguments, &job->error);
    }
    g_async_queue_push(attester->done, job);
    source = g_idle_source_new();
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, on_job_done, attester, NULL);
    g_source_attach(source, attester->context);
    g_source_unref(source);
}

static Work find_work(const char *command)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, command) == 0) {
            return commands[i].work;
        }
    }
    return NULL;
}

static void refuse(ForeCall *call, ForeErrorCode code, const char *why)
{
    g_autoptr(GError) error =
        g_error_new(FORE_ERROR, code, "'%.64s': %s", fore_call_command(call), why);

    fore_call_fail(call, error);
}

static void on_command(ForeWire *wire, ForeCall *call, gpointer data)
{
    ForeAttester *attester = data;
    Work work = find_work(fore_call_command(call));
    Job *job;

    if (work == NULL) {
        refuse(call, FORE_ERROR_NOT_FOUND, "no such command; see foresee-attester(8)");
        return;
    }
    if (attester->jobs >= MAX_JOBS) {
        refuse(call, FORE_ERROR_LIMIT, "the TPM is too far behind; ask again later");
        return;
    }
    job = g_new0(Job, 1);
    job->attester = attester;
    job->call = call;
    job->work = work;
    job->arguments = json_deep_copy(fore_call_arguments(call));
    attester->jobs++;
    g_thread_pool_push(attester->pool, job, NULL);
}

static void on_closed(ForeWire *wire, const GError *why, gpointer data)
{
    ForeAttester *attester = data;

    if (why != NULL && !g_error_matches(why, FORE_ERROR, FORE_ERROR_CLOSED)) {
        g_message("peer dropped: %s", why->message);
    }
    g_ptr_array_remove_fast(attester->peers, wire); /* frees it */
}

static const ForeWireOps wire_ops = {.on_command = on_command, .on_closed = on_closed};

static gboolean on_accept(gint fd, GIOCondition condition, gpointer data)
{
    ForeAttester *attester = data;
    ForeChannelConfig channel = {
        .mode = FORE_CHANNEL_TLS_SERVER,
        .identity = attester->identity,
        .pins = attester->pins,
    };
    ForeWireConfig wire = {.json = fore_json_limits_guest, .max_per_second = MAX_PER_SECOND};
    int peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (peer < 0) {
        return G_SOURCE_CONTINUE;
    }
    if (attester->peers->len >= MAX_PEERS) {
        close(peer);
        return G_SOURCE_CONTINUE;
    }
    g_ptr_array_add(attester->peers, fore_wire_new(attester->context, peer, &channel,
                                                   FORE_WIRE_SERVER, &wire, &wire_ops, attester));
    return G_SOURCE_CONTINUE;
}

ForeIdentity *fore_attester_prepare(const ForeAttesterConfig *config, GError **error)
{
    g_autofree char *path = g_build_filename(config->state_dir, "attester-key.pem", NULL);

    if (g_mkdir_with_parents(config->state_dir, 0700) != 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE, "cannot make '%s': %s",
                    config->state_dir, g_strerror(errno));
        return NULL;
    }
    return fore_identity_load_or_create(path, config->id, error);
}

ForeAttester *fore_attester_new(GMainContext *context, const ForeAttesterConfig *config,
                                ForeIdentity *identity, GError **error)
{
    ForeAttester *attester;
    int fd;

    if (config->pam_pin == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "pam-pin is missing: set it to what 'foresee-pam --print-pin' shows");
        return NULL;
    }
    fd = fore_listen(config->listen, error);
    if (fd < 0) {
        return NULL;
    }
    attester = g_new0(ForeAttester, 1);
    attester->context = g_main_context_ref(context);
    attester->config = config;
    attester->identity = identity;
    attester->pins[0] = config->pam_pin;
    attester->fd = fd;
    attester->peers = g_ptr_array_new_with_free_func((GDestroyNotify)fore_wire_free);
    attester->done = g_async_queue_new();
    attester->pool = g_thread_pool_new(run_job, attester, 1, TRUE, NULL);
    attester->accept = g_unix_fd_source_new(fd, G_IO_IN);
    g_source_set_callback(attester->accept, G_SOURCE_FUNC(on_accept), attester, NULL);
    g_source_attach(attester->accept, context);
    return attester;
}

/* Answers of the worker that no idle source took; their calls must be freed as well. */
static void drain(ForeAttester *attester)
{
    Job *job;

    while ((job = g_async_queue_try_pop(attester->done)) != NULL) {
        answer(job);
    }
}

void fore_attester_free(ForeAttester *attester)
{
    GSource *source;

    if (attester == NULL) {
        return;
    }
    g_source_destroy(attester->accept);
    g_source_unref(attester->accept);
    close(attester->fd);
    g_ptr_array_unref(attester->peers);
    g_atomic_int_set(&attester->stopping, 1);
    g_thread_pool_free(attester->pool, FALSE, TRUE);
    drain(attester);
    while ((source = g_main_context_find_source_by_funcs_user_data(attester->context, &g_idle_funcs,
                                                                   attester)) != NULL) {
        g_source_destroy(source);
    }
    g_async_queue_unref(attester->done);
    g_main_context_unref(attester->context);
    g_free(attester);
}
