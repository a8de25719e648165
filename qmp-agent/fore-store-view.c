/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp-agent/fore-store-view.h"

#include <math.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fore-error.h"
#include "qmp-agent/fore-store-key.h"

#define READ_MAX   20000 /* points in one answer or one question */
#define STEP_MS    5     /* between two steps of a job */
#define STEP_ROWS  64
#define STEP_PAGES 64

typedef enum { JOB_NONE, JOB_VERIFY, JOB_VACUUM, JOB_REKEY } JobKind;
static const char *const job_names[] = {"none", "verify", "vacuum", "rekey"};

struct ForeStoreView {
    GMainContext *context;
    ForeStore *store;
    const ForeConfig *config;
    bool alone;
    JobKind job;     /* the newest */
    GSource *source; /* of the running job, or NULL */
    bool ok, expire;
    double progress;
    char text[400];
    uint64_t dropped;
    ForeStoreCheck *check;
    /* a new key on its way */
    GThread *thread;
    gint prepared; /* atomic */
    GError *why;   /* of the thread */
    uint8_t key[FORE_STORE_KEY_BYTES];
    bool copying;
};

ForeStoreView *fore_store_view_new(GMainContext *context, ForeStore *store,
                                   const ForeConfig *config, bool alone)
{
    ForeStoreView *v = g_new0(ForeStoreView, 1);

    v->context = g_main_context_ref(context);
    v->store = store;
    v->config = config;
    v->alone = alone;
    return v;
}

/* --- jobs --- */

static void stop_source(ForeStoreView *v)
{
    if (v->source != NULL) {
        g_source_destroy(v->source);
        g_clear_pointer(&v->source, g_source_unref);
    }
}

static void end_key(ForeStoreView *v)
{
    if (v->thread != NULL) {
        g_thread_join(g_steal_pointer(&v->thread));
    }
    g_clear_error(&v->why);
    OPENSSL_cleanse(v->key, sizeof(v->key));
    v->copying = false;
    g_atomic_int_set(&v->prepared, 0);
}

static void end_job(ForeStoreView *v, bool ok, const char *text)
{
    stop_source(v);
    g_clear_pointer(&v->check, fore_store_check_free);
    end_key(v);
    v->ok = ok;
    v->progress = ok ? 1 : v->progress;
    g_strlcpy(v->text, text, sizeof(v->text));
}

void fore_store_view_free(ForeStoreView *v)
{
    if (v == NULL) {
        return;
    }
    if (v->source != NULL && v->job == JOB_REKEY) {
        if (v->copying) {
            fore_store_rekey_cancel(v->store);
        }
        end_key(v);
        (void)fore_store_key_settle(v->config, false, NULL); /* else the next start does */
    }
    end_job(v, false, "ended");
    g_main_context_unref(v->context);
    g_free(v);
}

static void step_verify(ForeStoreView *v)
{
    g_autoptr(GError) error = NULL;
    uint64_t rows = 0, bad = 0;
    ForeStoreHealth health;
    bool done = false;

    if (!fore_store_check_step(v->store, v->check, STEP_ROWS, &done, &error)) {
        end_job(v, false, error->message);
        return;
    }
    fore_store_check_result(v->check, &rows, &bad);
    fore_store_health(v->store, &health);
    v->progress = MIN(0.99, (double)rows / (double)(health.chunks + 1));
    if (done) {
        g_autofree char *text =
            bad == 0 ? g_strdup_printf("all %" G_GUINT64_FORMAT " chunks decode", rows)
                     : g_strdup_printf("%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                                       " chunks were damaged and are in quarantine now; newest: %s",
                                       bad, rows, health.damage);
        end_job(v, bad == 0, text);
    }
}

static void step_vacuum(ForeStoreView *v)
{
    g_autoptr(GError) error = NULL;
    uint64_t dropped = 0, left = 0;

    if (v->expire) {
        if (!fore_store_expire(v->store, g_get_real_time() / 1000, &dropped, &error)) {
            end_job(v, false, error->message);
        }
        v->dropped += dropped;
        v->expire = dropped > 0 && v->source != NULL;
    } else if (!fore_store_vacuum_step(v->store, STEP_PAGES, &left, &error)) {
        end_job(v, false, error->message);
    } else if (left == 0) {
        g_autofree char *text = g_strdup_printf(
            "%" G_GUINT64_FORMAT " chunks were too old and are gone; no page is free", v->dropped);
        end_job(v, true, text);
    }
}

static void end_rekey(ForeStoreView *v, bool changed, const char *text)
{
    g_autoptr(GError) error = NULL;
    bool settled = fore_store_key_settle(v->config, changed, &error);

    end_job(v, changed && settled, settled ? text : error->message);
}

static void step_rekey(ForeStoreView *v)
{
    g_autoptr(GError) error = NULL;
    bool done = false;

    if (g_atomic_int_get(&v->prepared) == 0) {
        return; /* TPM or token are at it */
    }
    if (v->why != NULL) {
        end_rekey(v, false, v->why->message);
        return;
    }
    if (!v->copying) {
        v->copying = fore_store_rekey_begin(v->store, v->key, &error);
        if (!v->copying) {
            end_rekey(v, false, error->message);
        }
        return;
    }
    if (!fore_store_rekey_step(v->store, STEP_ROWS, &done, &error)) {
        end_rekey(v, false, error->message);
        return;
    }
    v->progress = fore_store_rekey_progress(v->store);
    if (done) {
        end_rekey(v, true, "the store has a new key");
    }
}

static gboolean on_step(gpointer data)
{
    ForeStoreView *v = data;

    switch (v->job) {
    case JOB_VERIFY:
        step_verify(v);
        break;
    case JOB_VACUUM:
        step_vacuum(v);
        break;
    default:
        step_rekey(v);
        break;
    }
    return G_SOURCE_CONTINUE; /* a job that has ended has destroyed the source */
}

static gpointer prepare_key(gpointer data)
{
    ForeStoreView *v = data;

    (void)fore_store_key_prepare(v->config, v->key, &v->why);
    g_atomic_int_set(&v->prepared, 1);
    return NULL;
}

static bool start_job(ForeStoreView *v, JobKind job, GError **error)
{
    if (v->source != NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_EXISTS,
                    "the store is busy with '%s'; wait until that has ended", job_names[v->job]);
        return false;
    }
    v->job = job;
    v->ok = false;
    v->progress = 0;
    v->dropped = 0;
    v->text[0] = '\0';
    if (job == JOB_VERIFY) {
        v->check = fore_store_check_new();
    } else if (job == JOB_REKEY) {
        g_atomic_int_set(&v->prepared, 0);
        v->thread = g_thread_new("new-key", prepare_key, v);
    }
    v->source = g_timeout_source_new(STEP_MS);
    g_source_set_callback(v->source, on_step, v, NULL);
    g_source_attach(v->source, v->context);
    return true;
}

typedef bool (*Handler)(ForeStoreView *view, const json_t *args, json_t **ret, GError **error);

static bool do_verify(ForeStoreView *v, const json_t *args, json_t **ret, GError **error)
{
    if (!json_is_true(json_object_get(args, "full"))) {
        return start_job(v, JOB_VERIFY, error);
    }
    if (!v->alone) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "a whole verification would stop foreseed meanwhile; stop it and use --db, or "
                    "leave --full out");
        return false;
    }
    v->job = JOB_VERIFY;
    v->ok = fore_store_verify(v->store, error);
    v->progress = 1;
    g_strlcpy(v->text, "the file is whole: every page, every index, every chunk", sizeof(v->text));
    return v->ok;
}

static bool do_vacuum(ForeStoreView *v, const json_t *args, json_t **ret, GError **error)
{
    if (!start_job(v, JOB_VACUUM, error)) {
        return false;
    }
    v->expire = json_is_true(json_object_get(args, "expire"));
    return true;
}

static bool do_rekey(ForeStoreView *v, const json_t *args, json_t **ret, GError **error)
{
    if (v->config == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "where the key is kept is not known here; give --config, or a --key-file");
        return false;
    }
    return start_job(v, JOB_REKEY, error);
}

static bool do_query_job(ForeStoreView *v, const json_t *args, json_t **ret, GError **error)
{
    *ret = json_pack("{s:s,s:b,s:b,s:f,s:s}", "job", job_names[v->job], "running",
                     v->source != NULL, "ok", (int)v->ok, "progress", v->progress, "text", v->text);
    return true;
}

/* --- looking --- */

static void add_damage(const char *what, int64_t from_ms, int64_t to_ms, int64_t samples,
                       int64_t found_ms, gpointer list)
{
    if (json_array_size(list) < 100) {
        json_array_append_new(list,
                              json_pack("{s:s,s:I,s:I,s:I,s:I}", "what", what, "from-ms",
                                        (json_int_t)from_ms, "to-ms", (json_int_t)to_ms, "samples",
                                        (json_int_t)samples, "found-ms", (json_int_t)found_ms));
    }
}

static bool do_stats(ForeStoreView *v, const json_t *args, json_t **ret, GError **error)
{
    json_t *tiers = json_array(), *damage = json_array();
    ForeStoreTierTotal total[16];
    size_t n = G_N_ELEMENTS(total);
    ForeStoreHealth h;

    fore_store_health(v->store, &h);
    if (!fore_store_tier_totals(v->store, total, &n, error) ||
        !fore_store_each_damage(v->store, add_damage, damage, error)) {
        json_decref(tiers);
        json_decref(damage);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(
            tiers, json_pack("{s:f,s:I,s:I,s:I}", "width-s", (double)total[i].width_ms / 1000,
                             "points", (json_int_t)total[i].points, "blocks",
                             (json_int_t)total[i].blocks, "bytes", (json_int_t)total[i].bytes));
    }
    *ret =
        json_pack("{s:b,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:s,s:o,s:o}", "ok", (int)h.disk_ok, "reason",
                  h.reason, "samples", (json_int_t)h.samples, "chunks", (json_int_t)h.chunks,
                  "bytes", (json_int_t)h.bytes, "lost-samples", (json_int_t)h.lost_samples,
                  "damaged", (json_int_t)h.damaged, "quarantined", (json_int_t)h.quarantined,
                  "damage", h.damage, "tiers", tiers, "quarantine", damage);
    return true;
}

static json_t *real(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static void add_series(const ForeSeriesInfo *info, gpointer list)
{
    const ForeRunning *r = &info->running;

    json_array_append_new(
        list, json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:o,s:o,s:o,s:o,s:o}", "vm", info->vm, "source",
                        info->source, "metric", info->metric, "samples", (json_int_t)r->n,
                        "first-ms", (json_int_t)r->first_ms, "last-ms", (json_int_t)r->last_ms,
                        "min", real(r->min), "mean", real(r->mean), "max", real(r->max), "sd",
                        real(fore_running_sd(r)), "last", real(r->last)));
}

static bool do_series(ForeStoreView *v, const json_t *args, json_t **ret, GError **error)
{
    json_t *list = json_array();

    if (!fore_store_each_series(v->store, json_string_value(json_object_get(args, "vm")),
                                add_series, list, error)) {
        json_decref(list);
        return false;
    }
    while (json_array_size(list) > 5000) { /* a line has at most 1 MiB: ask for one VM */
        json_array_remove(list, json_array_size(list) - 1);
    }
    *ret = json_pack("{s:o}", "series", list);
    return true;
}

typedef struct {
    const char *vm, *source, *metric;
    int64_t from_ms, to_ms, tier; /* tier -1: as it came */
} Range;

static bool get_names(const json_t *args, Range *ret, GError **error)
{
    return fore_json_get_string(args, "vm", &ret->vm, error) &&
           fore_json_get_string(args, "source", &ret->source, error) &&
           fore_json_get_string(args, "metric", &ret->metric, error);
}

static json_t *raw_points(ForeStoreView *v, const Range *r, GError **error)
{
    g_autoptr(GArray) p =
        fore_store_series_read(v->store, r->vm, r->source, r->metric, r->from_ms, r->to_ms, error);
    json_t *t, *values;

    if (p == NULL) {
        return NULL;
    }
    t = json_array();
    values = json_array();
    for (guint i = 0; i < MIN(p->len, (guint)READ_MAX); i++) {
        json_array_append_new(t, json_integer(g_array_index(p, ForeSeriesPoint, i).t_ms));
        json_array_append_new(values, real(g_array_index(p, ForeSeriesPoint, i).value));
    }
    return json_pack("{s:o,s:o,s:b}", "t-ms", t, "value", values, "more", p->len > READ_MAX);
}

static json_t *tier_points(ForeStoreView *v, const Range *r, GError **error)
{
    g_autoptr(GArray) p = fore_store_tier_read(v->store, r->vm, r->source, r->metric,
                                               (unsigned)r->tier, r->from_ms, r->to_ms, error);
    json_t *list;

    if (p == NULL) {
        return NULL;
    }
    list = json_array();
    for (guint i = 0; i < MIN(p->len, (guint)READ_MAX / 8); i++) {
        const ForeTierPoint *q = &g_array_index(p, ForeTierPoint, i);

        json_array_append_new(list, json_pack("[I,I,o,o,o,o,o,o]", (json_int_t)q->t_ms,
                                              (json_int_t)q->n, real(q->min), real(q->mean),
                                              real(q->max), real(fore_tier_point_quantile(q, 0.5)),
                                              real(fore_tier_point_quantile(q, 0.95)),
                                              real(fore_sketch_error(&q->sketch))));
    }
    return json_pack("{s:o,s:b}", "points", list, "more", p->len > READ_MAX / 8);
}

static bool do_read(ForeStoreView *v, const json_t *args, json_t **ret, GError **error)
{
    Range r = {.from_ms = INT64_MIN, .to_ms = INT64_MAX, .tier = -1};

    if (!get_names(args, &r, error) ||
        (json_object_get(args, "from-ms") != NULL &&
         !fore_json_get_int(args, "from-ms", INT64_MIN, INT64_MAX, &r.from_ms, error)) ||
        (json_object_get(args, "to-ms") != NULL &&
         !fore_json_get_int(args, "to-ms", INT64_MIN, INT64_MAX, &r.to_ms, error)) ||
        (json_object_get(args, "tier") != NULL &&
         !fore_json_get_int(args, "tier", -1, FORE_ROLLUP_TIERS - 1, &r.tier, error))) {
        return false;
    }
    *ret = r.tier < 0 ? raw_points(v, &r, error) : tier_points(v, &r, error);
    return *ret != NULL;
}

static bool do_append(ForeStoreView *v, const json_t *args, json_t **ret, GError **error)
{
    json_t *t = NULL, *values = NULL;
    Range r = {.tier = -1};

    if (!get_names(args, &r, error) || !fore_json_get_array(args, "t-ms", READ_MAX, &t, error) ||
        !fore_json_get_array(args, "value", READ_MAX, &values, error)) {
        return false;
    }
    if (json_array_size(t) != json_array_size(values)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "'t-ms' has %zu entries and 'value' %zu; they must be as many",
                    json_array_size(t), json_array_size(values));
        return false;
    }
    for (size_t i = 0; i < json_array_size(t); i++) {
        if (!json_is_integer(json_array_get(t, i)) || !json_is_number(json_array_get(values, i))) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                        "entry %zu: 't-ms' must be integers and 'value' numbers", i);
            return false;
        }
    }
    for (size_t i = 0; i < json_array_size(t); i++) {
        if (!fore_store_series_append(v->store, r.vm, r.source, r.metric,
                                      json_integer_value(json_array_get(t, i)),
                                      json_number_value(json_array_get(values, i)), error)) {
            return false;
        }
    }
    return true;
}

static bool do_flush(ForeStoreView *v, const json_t *args, json_t **ret, GError **error)
{
    return fore_store_flush(v->store, error);
}

static const struct {
    const char *name;
    Handler handler;
} commands[] = {
    {"query-store", do_stats},         {"query-store-series", do_series},
    {"query-store-job", do_query_job}, {"store-read", do_read},
    {"store-append", do_append},       {"store-flush", do_flush},
    {"store-verify", do_verify},       {"store-vacuum", do_vacuum},
    {"store-rekey", do_rekey},
};

bool fore_store_view_call(ForeStoreView *v, ForeCall *call, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, fore_call_command(call)) == 0) {
            json_t *ret = NULL;

            if (commands[i].handler(v, fore_call_arguments(call), &ret, error)) {
                fore_call_return(call, ret);
            }
            return true;
        }
    }
    return false;
}
