/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The thread owns copies of the windows and touches nothing else; progress and end cross over as
 * idle sources on the loop's context.  Two callbacks in flight never outlive the job: free joins
 * the thread and destroys them.
 */
#include "qmp-agent/fore-train-job.h"

#include <string.h>
#include <unistd.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"

/* What is learned from.  An hour less than the store keeps every second, so that a resumed training
 * finds the same samples. */
#define HISTORY_MS (23 * 3600 * INT64_C(1000))

#define PURPOSE       "checkpoint"
#define VERSION       1
#define CHECKPOINT_US (2 * G_USEC_PER_SEC) /* between two of them */

struct ForeTrainJob {
    GMainContext *context;
    GThread *thread;
    GPtrArray *histories; /* GArray of ForeSample */
    GArray *windows;      /* ForeWindow */
    ForeTrainConfig config;
    ForeTrainTell tell;
    ForeTrainDone done;
    gpointer data;
    char *name; /* NULL: all */
    int64_t from_ms, to_ms;
    char *checkpoint;
    EVP_PKEY *key;
    GBytes *resumed; /* what config.resume points into */
    unsigned first_epoch;
    gint64 written_us;
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

/*
 * The file: within the envelope of common/fore-signed.h, little-endian:
 *   u32 version; u8 length of the VM's name (0: all), name; i64 from, to (UTC milliseconds);
 *   u64 seed; u32 most epochs; then the checkpoint of the trainer
 * Best effort: a full disk costs the progress, not the training.
 */
static void write_checkpoint(ForeTrainJob *job, const ForeTrainer *trainer)
{
    g_autoptr(GBytes) state = fore_train_checkpoint(trainer);
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GBytes) file = NULL;
    size_t len = job->name != NULL ? strlen(job->name) : 0;

    fore_put_le32(out, VERSION);
    fore_put_u8(out, (uint8_t)len);
    g_byte_array_append(out, (const guint8 *)(len > 0 ? job->name : ""), (guint)len);
    fore_put_le64(out, (uint64_t)job->from_ms);
    fore_put_le64(out, (uint64_t)job->to_ms);
    fore_put_le64(out, job->config.seed);
    fore_put_le32(out, job->config.max_epochs);
    g_byte_array_append(out, g_bytes_get_data(state, NULL), (guint)g_bytes_get_size(state));
    file = fore_signed_wrap(job->key, PURPOSE, out->data, out->len, NULL);
    if (file != NULL) {
        (void)g_file_set_contents_full(job->checkpoint, g_bytes_get_data(file, NULL),
                                       (gssize)g_bytes_get_size(file),
                                       G_FILE_SET_CONTENTS_CONSISTENT, 0600, NULL);
    }
}

static bool parse_checkpoint(ForeTrainJob *job, GBytes *inside, GError **error)
{
    gsize size = 0;
    const uint8_t *data = g_bytes_get_data(inside, &size), *name;
    ForeCursor cur;
    uint32_t version;
    size_t len;

    fore_cursor_init(&cur, data, size);
    version = fore_cursor_le32(&cur);
    len = fore_cursor_u8(&cur);
    name = fore_cursor_take(&cur, len);
    job->from_ms = (int64_t)fore_cursor_le64(&cur);
    job->to_ms = (int64_t)fore_cursor_le64(&cur);
    job->config.seed = fore_cursor_le64(&cur);
    job->config.max_epochs = fore_cursor_le32(&cur);
    if (!fore_cursor_ok(&cur) || version != VERSION || len > FORE_NAME_MAX ||
        job->from_ms > job->to_ms) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "the checkpoint is of another build; train without --resume");
        return false;
    }
    g_free(job->name);
    job->name = len > 0 ? g_strndup((const char *)name, len) : NULL;
    job->resumed = g_bytes_ref(inside);
    job->config.resume = data + (size - cur.left);
    job->config.resume_size = cur.left;
    return true;
}

static bool read_checkpoint(ForeTrainJob *job, GError **error)
{
    g_autoptr(GBytes) inside = NULL;
    g_autoptr(GError) why = NULL;
    g_autofree char *data = NULL;
    gsize size = 0;

    if (!g_file_get_contents(job->checkpoint, &data, &size, &why)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND,
                    "there is no interrupted training to resume; train without --resume");
        return false;
    }
    inside = fore_signed_open(job->key, PURPOSE, data, size, error);
    if (inside == NULL) {
        g_prefix_error(error, "'%s': ", job->checkpoint);
        return false;
    }
    return parse_checkpoint(job, inside, error);
}

static bool on_epoch(const ForeTrainProgress *progress, gpointer data)
{
    ForeTrainJob *job = data;
    gint64 now_us = g_get_monotonic_time();
    double elapsed = (double)(now_us - job->started_us) / G_USEC_PER_SEC;
    unsigned done;

    if (job->written_us == 0 || now_us - job->written_us > CHECKPOINT_US) {
        write_checkpoint(job, progress->trainer);
        job->written_us = now_us;
    }
    job->first_epoch = job->first_epoch == 0 ? progress->epoch : job->first_epoch;
    done = progress->epoch - job->first_epoch + 1;
    g_mutex_lock(&job->lock);
    job->progress = *progress;
    job->progress.eta_s = elapsed / done * (progress->max_epochs - progress->epoch);
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

    if (model != NULL && g_atomic_int_get(&job->stop) == 0) {
        unlink(job->checkpoint);
    }
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

/* What the store has of the window; flushed first, so that a resumed training finds it too. */
static bool read_history(ForeTrainJob *job, ForeStore *store, GError **error)
{
    g_auto(GStrv) all = job->name == NULL ? fore_store_vms(store, error) : NULL;
    const char *one[] = {job->name, NULL};
    const char *const *names = job->name != NULL ? one : (const char *const *)all;

    if (names == NULL) {
        return false;
    }
    for (; *names != NULL; names++) {
        g_autoptr(GArray) samples =
            fore_store_window(store, *names, job->from_ms, job->to_ms, error);
        ForeWindow window = {.step_ns = FORE_NS_PER_S};
        GArray *grid;
        if (samples == NULL) {
            return false;
        }
        if (samples->len == 0) {
            continue; /* a VM that has come since is no part of it */
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

ForeTrainJob *fore_train_job_new(GMainContext *context, ForeStore *store,
                                 const ForeTrainOrder *order, ForeTrainTell tell,
                                 ForeTrainDone done, gpointer data, GError **error)
{
    ForeTrainJob *job = g_new0(ForeTrainJob, 1);

    job->context = g_main_context_ref(context);
    job->histories = g_ptr_array_new_with_free_func((GDestroyNotify)g_array_unref);
    job->windows = g_array_new(FALSE, TRUE, sizeof(ForeWindow));
    job->config = order->config;
    job->name = g_strdup(order->name);
    job->checkpoint = g_strdup(order->checkpoint);
    job->key = order->key;
    job->to_ms = g_get_real_time() / 1000;
    job->from_ms = job->to_ms - HISTORY_MS;
    job->tell = tell;
    job->done = done;
    job->data = data;
    job->started_us = g_get_monotonic_time();
    g_mutex_init(&job->lock);
    (void)fore_store_flush(store, NULL); /* when the disk is away, memory has the samples */
    if ((order->resume && !read_checkpoint(job, error)) || !read_history(job, store, error)) {
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
    g_clear_pointer(&job->resumed, g_bytes_unref);
    g_free(job->name);
    g_free(job->checkpoint);
    g_array_unref(job->windows);
    g_ptr_array_unref(job->histories);
    g_main_context_unref(job->context);
    g_free(job);
}
