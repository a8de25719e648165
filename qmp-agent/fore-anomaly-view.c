/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp-agent/fore-anomaly-view.h"

#include "common/fore-error.h"

#define LIMIT_MAX 500 /* an answer stays below the 1 MiB of a line, whatever the reasons hold */

/* Returns: is it in the store now?  While the disk fails the store tells so itself (STORE). */
static bool record(ForeVm *vm, ForeWatchEpisode *e, GError **error)
{
    const ForeStoreAnomaly row = {.id = e->id,
                                  .vm = vm->name,
                                  .source = e->source,
                                  .metric = e->metric,
                                  .from_ms = e->from_ms,
                                  .to_ms = e->to_ms,
                                  .score = e->score,
                                  .reason = e->reason};

    return fore_store_anomaly_put(fore_agent_store(vm->agent), &row, &e->id, error);
}

static void on_episode(ForeWatchEpisode *e, gpointer data)
{
    ForeVm *vm = data;
    g_autoptr(GError) error = NULL;
    bool recorded = record(vm, e, &error);
    json_t *ev = json_pack("{s:s,s:s,s:f,s:I,s:I,s:s,s:b}", "source", e->source, "metric",
                           e->metric, "score", e->score, "from-ms", (json_int_t)e->from_ms, "to-ms",
                           (json_int_t)e->to_ms, "reason", e->reason, "recorded", recorded);

    if (!recorded) {
        json_object_set_new(ev, "record-error", json_string(error->message));
    }
    fore_agent_emit(vm->agent, vm, e->open ? "ANOMALY" : "ANOMALY_OVER", ev, e->open);
}

void fore_anomaly_step(ForeVm *vm)
{
    fore_watch_step(vm->watch, &vm->sample, NULL, on_episode, vm);
}

/* Not told: whoever listens learns that the VM is gone. */
static void on_end(ForeWatchEpisode *e, gpointer data)
{
    g_autoptr(GError) error = NULL;

    if (!record(data, e, &error)) {
        g_warning("%s: the end of an anomaly is not recorded: %s", ((ForeVm *)data)->name,
                  error->message);
    }
}

void fore_anomaly_end(ForeVm *vm)
{
    if (vm->watch != NULL) {
        fore_watch_flush(vm->watch, on_end, vm);
    }
}

static void add_row(const ForeStoreAnomaly *a, gpointer data)
{
    json_array_append_new(
        data, json_pack("{s:I,s:s,s:s,s:s,s:I,s:I,s:f,s:s}", "id", (json_int_t)a->id, "name", a->vm,
                        "source", a->source, "metric", a->metric, "from-ms", (json_int_t)a->from_ms,
                        "to-ms", (json_int_t)a->to_ms, "score", a->score, "reason", a->reason));
}

json_t *fore_view_anomalies(ForeAgent *agent, const json_t *args, GError **error)
{
    int64_t from = 0, to = INT64_MAX, limit = LIMIT_MAX;
    g_autoptr(json_t) rows = json_array();
    const char *name = NULL;
    double score = 0;

    if ((json_object_get(args, "name") != NULL &&
         !fore_json_get_string(args, "name", &name, error)) ||
        (json_object_get(args, "from-ms") != NULL &&
         !fore_json_get_int(args, "from-ms", 0, INT64_MAX, &from, error)) ||
        (json_object_get(args, "to-ms") != NULL &&
         !fore_json_get_int(args, "to-ms", 0, INT64_MAX, &to, error)) ||
        (json_object_get(args, "min-score") != NULL &&
         !fore_json_get_real(args, "min-score", 0, 1, &score, error)) ||
        (json_object_get(args, "limit") != NULL &&
         !fore_json_get_int(args, "limit", 1, LIMIT_MAX, &limit, error))) {
        return NULL;
    }
    /* by name in the store, not among the VMs: one that was removed keeps its past */
    if (!fore_store_each_anomaly(fore_agent_store(agent), name, from, to, score, (unsigned)limit,
                                 add_row, rows, error)) {
        return NULL;
    }
    return json_pack("{s:b,s:O}", "more", json_array_size(rows) >= (size_t)limit, "anomalies",
                     rows);
}
