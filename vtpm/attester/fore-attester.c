/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Commands wait in one line; one worker thread does what stands first, because the
 * TPM does one thing at a time, and blocks.  When a question for a quote comes first, every other
 * such question that waits and asks for the same PCRs is answered by the same quote: a discrete TPM
 * signs only a few times a second.  What is done comes back as an idle source of the main context,
 * which alone touches wires and calls.  A call outlives its peer (then the answer goes nowhere).
 * Jobs and peers are bounded, so a PAM that misbehaves cannot fill memory, and strangers who only
 * hold connections open do not keep the PAM out.
 */
#include "vtpm/attester/fore-attester.h"

#include <errno.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "common/fore-error.h"
#include "common/fore-wire.h"
#include "vtpm/attester/fore-attester-tpm.h"
#include "vtpm/host/fore-accept.h"

#define MAX_PEERS      32
#define MAX_PEERS_NEW  16     /* of these, still without a proved key */
#define MAX_JOBS       256    /* that wait: more would be late anyway */
#define MAX_PER_SECOND 1000.0 /* a log comes in chunks */

typedef struct {
    ForeAttester *attester;
    ForeWire *wire;
    bool known; /* TLS has proved that it is the PAM */
} Peer;

typedef enum { JOB_INFO, JOB_ACTIVATE, JOB_QUOTE, JOB_LOG } JobKind;

typedef struct {
    ForeCall *call;
    JobKind kind;
    json_t *arguments;             /* own copy: the worker's alone while it runs */
    ForeAttesterQuestion question; /* JOB_QUOTE */
} Job;

/* What the worker does at a time: one job, or all questions that one quote answers. */
typedef struct {
    ForeAttester *attester;
    GPtrArray *jobs; /* Job, at least one */
    json_t *ret;     /* for each of them */
    GError *error;
} Task;

struct ForeAttester {
    GMainContext *context;
    const ForeAttesterConfig *config;
    ForeIdentity *identity;
    const char *pins[2];
    int fd;
    ForeAccept acceptor;
    GSource *accept;
    GPtrArray *peers;       /* Peer */
    ForeAttesterLogs *logs; /* the worker's */
    GQueue waiting;         /* Job */
    bool busy;              /* the worker has a task */
    GThreadPool *pool;
    GAsyncQueue *done; /* Task, at most one */
    gint stopping;     /* atomic: what the worker has not begun is not begun any more */
};

static const struct {
    const char *name;
    JobKind kind;
} commands[] = {
    {"attester-info", JOB_INFO},
    {"attester-activate", JOB_ACTIVATE},
    {"attester-quote", JOB_QUOTE},
    {"attester-get-log", JOB_LOG},
};

/* --- tasks --- */

static void job_free(gpointer data)
{
    Job *job = data;

    json_decref(job->arguments);
    g_free(job);
}

static void task_free(Task *task)
{
    g_ptr_array_unref(task->jobs);
    json_decref(task->ret);
    g_clear_error(&task->error);
    g_free(task);
}

static void answer(Task *task)
{
    for (guint i = 0; i < task->jobs->len; i++) {
        Job *job = task->jobs->pdata[i];

        if (task->ret != NULL) {
            fore_call_return(job->call, json_incref(task->ret));
        } else {
            g_message("%s: %s", fore_call_command(job->call), task->error->message);
            fore_call_fail(job->call, task->error);
        }
    }
    task_free(task);
}

static json_t *quote_all(const ForeAttester *attester, const GPtrArray *jobs, GError **error)
{
    ForeAttesterQuestion questions[FORE_BATCH_MAX];

    for (guint i = 0; i < jobs->len; i++) {
        questions[i] = ((const Job *)jobs->pdata[i])->question;
    }
    return fore_attester_quote(attester->config, attester->logs, questions, jobs->len, error);
}

static json_t *work(const ForeAttester *attester, const GPtrArray *jobs, GError **error)
{
    const Job *first = jobs->pdata[0];

    switch (first->kind) {
    case JOB_INFO:
        return fore_attester_info(attester->config, error);
    case JOB_ACTIVATE:
        return fore_attester_activate(attester->config, first->arguments, error);
    case JOB_QUOTE:
        return quote_all(attester, jobs, error);
    default:
        return fore_attester_logs_chunk(attester->logs, first->arguments, error);
    }
}

static void start_next(ForeAttester *attester);

static gboolean on_task_done(gpointer data)
{
    ForeAttester *attester = data;
    Task *task = g_async_queue_try_pop(attester->done);

    if (task != NULL) {
        attester->busy = false;
        answer(task);
        start_next(attester);
    }
    return G_SOURCE_REMOVE;
}

/* In the worker thread. */
static void run_task(gpointer data, gpointer user_data)
{
    Task *task = data;
    ForeAttester *attester = user_data;
    GSource *source;

    if (g_atomic_int_get(&attester->stopping)) {
        task->error = g_error_new(FORE_ERROR, FORE_ERROR_CLOSED, "the attester stops");
    } else {
        task->ret = work(attester, task->jobs, &task->error);
    }
    g_async_queue_push(attester->done, task);
    source = g_idle_source_new();
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, on_task_done, attester, NULL);
    g_source_attach(source, attester->context);
    g_source_unref(source);
}

/* Moves every waiting question of the same PCRs to @jobs. */
static void join_batch(ForeAttester *attester, GPtrArray *jobs, uint32_t mask)
{
    GList *next;

    for (GList *l = attester->waiting.head; l != NULL && jobs->len < FORE_BATCH_MAX; l = next) {
        Job *job = l->data;

        next = l->next;
        if (job->kind == JOB_QUOTE && job->question.mask == mask) {
            g_ptr_array_add(jobs, job);
            g_queue_delete_link(&attester->waiting, l);
        }
    }
}

static void start_next(ForeAttester *attester)
{
    Job *first = attester->busy ? NULL : g_queue_pop_head(&attester->waiting);
    Task *task;

    if (first == NULL) {
        return;
    }
    task = g_new0(Task, 1);
    task->attester = attester;
    task->jobs = g_ptr_array_new_with_free_func(job_free);
    g_ptr_array_add(task->jobs, first);
    if (first->kind == JOB_QUOTE) {
        join_batch(attester, task->jobs, first->question.mask);
    }
    attester->busy = true;
    g_thread_pool_push(attester->pool, task, NULL);
}

/* --- peers --- */

static void refuse(ForeCall *call, ForeErrorCode code, const char *why)
{
    g_autoptr(GError) error =
        g_error_new(FORE_ERROR, code, "'%.64s': %s", fore_call_command(call), why);

    fore_call_fail(call, error);
}

static bool find_kind(const char *command, JobKind *ret)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, command) == 0) {
            *ret = commands[i].kind;
            return true;
        }
    }
    return false;
}

static void on_command(ForeWire *wire, ForeCall *call, gpointer data)
{
    ForeAttester *attester = ((Peer *)data)->attester;
    g_autoptr(GError) error = NULL;
    ForeAttesterQuestion question = {.mask = 0};
    JobKind kind;
    Job *job;

    if (!find_kind(fore_call_command(call), &kind)) {
        refuse(call, FORE_ERROR_NOT_FOUND, "no such command; see foresee-attester(8)");
        return;
    }
    if (g_queue_get_length(&attester->waiting) >= MAX_JOBS) {
        refuse(call, FORE_ERROR_LIMIT, "the TPM is too far behind; ask again later");
        return;
    }
    /* read now, so that a malformed question cannot spoil the batch of others */
    if (kind == JOB_QUOTE &&
        !fore_attester_question(attester->config, fore_call_arguments(call), &question, &error)) {
        fore_call_fail(call, error);
        return;
    }
    job = g_new0(Job, 1);
    job->call = call;
    job->kind = kind;
    job->question = question;
    job->arguments = json_deep_copy(fore_call_arguments(call));
    g_queue_push_tail(&attester->waiting, job);
    start_next(attester);
}

static void peer_free(gpointer data)
{
    Peer *peer = data;

    fore_wire_free(peer->wire);
    g_free(peer);
}

static void on_ready(ForeWire *wire, gpointer data)
{
    ((Peer *)data)->known = true;
}

static void on_closed(ForeWire *wire, const GError *why, gpointer data)
{
    Peer *peer = data;

    if (why != NULL && !g_error_matches(why, FORE_ERROR, FORE_ERROR_CLOSED)) {
        g_message("peer dropped: %s", why->message);
    }
    g_ptr_array_remove_fast(peer->attester->peers, peer); /* frees it */
}

static const ForeWireOps wire_ops = {
    .on_ready = on_ready, .on_command = on_command, .on_closed = on_closed};

static bool has_room(const ForeAttester *attester)
{
    unsigned strangers = 0;

    for (guint i = 0; i < attester->peers->len; i++) {
        strangers += !((const Peer *)attester->peers->pdata[i])->known;
    }
    return attester->peers->len < MAX_PEERS && strangers < MAX_PEERS_NEW;
}

static gboolean on_accept(gint fd, GIOCondition condition, gpointer data)
{
    ForeAttester *attester = data;
    ForeChannelConfig channel = {
        .mode = FORE_CHANNEL_TLS_SERVER,
        .identity = attester->identity,
        .pins = attester->pins,
    };
    ForeWireConfig wire = {.json = fore_json_limits_guest, .max_per_second = MAX_PER_SECOND};
    int peer_fd = fore_accept(&attester->acceptor, fd);
    Peer *peer;

    if (peer_fd < 0) {
        return G_SOURCE_CONTINUE;
    }
    if (!has_room(attester)) {
        close(peer_fd);
        return G_SOURCE_CONTINUE;
    }
    peer = g_new0(Peer, 1);
    peer->attester = attester;
    g_ptr_array_add(attester->peers, peer);
    peer->wire = fore_wire_new(attester->context, peer_fd, &channel, FORE_WIRE_SERVER, &wire,
                               &wire_ops, peer);
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

static ForeAttesterLogs *logs_new(const ForeAttesterConfig *config)
{
    const char *const paths[FORE_ATTESTER_LOG_N] = {
        [FORE_ATTESTER_FIRMWARE] = config->firmware_log,
        [FORE_ATTESTER_IMA] = config->ima_log,
        [FORE_ATTESTER_LAUNCH] = config->launch_log,
    };

    return fore_attester_logs_new(paths);
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
    attester->peers = g_ptr_array_new_with_free_func(peer_free);
    attester->logs = logs_new(config);
    g_queue_init(&attester->waiting);
    fore_accept_init(&attester->acceptor);
    attester->done = g_async_queue_new();
    attester->pool = g_thread_pool_new(run_task, attester, 1, TRUE, NULL);
    attester->accept = g_unix_fd_source_new(fd, G_IO_IN);
    g_source_set_callback(attester->accept, G_SOURCE_FUNC(on_accept), attester, NULL);
    g_source_attach(attester->accept, context);
    return attester;
}

/* What no idle source took, and what was never begun: their calls must be freed as well. */
static void drain(ForeAttester *attester)
{
    g_autoptr(GError) stops = g_error_new(FORE_ERROR, FORE_ERROR_CLOSED, "the attester stops");
    Task *task;
    Job *job;

    while ((task = g_async_queue_try_pop(attester->done)) != NULL) {
        answer(task);
    }
    while ((job = g_queue_pop_head(&attester->waiting)) != NULL) {
        fore_call_fail(job->call, stops);
        job_free(job);
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
    fore_attester_logs_free(attester->logs);
    fore_accept_done(&attester->acceptor);
    g_main_context_unref(attester->context);
    g_free(attester);
}
