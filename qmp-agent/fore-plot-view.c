/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Forecasts are not stored: the recorded samples are run once more through a fresh forecaster with
 * the weights of now, which takes 5 us each, after a stretch before them from which it finds its
 * level and its widths.  Each forecast knows only what came before it.
 */
#include "qmp-agent/fore-plot-view.h"

#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "forecast/fore-score.h"
#include "qmp-agent/fore-vm.h"

#define WARM_UP_S 600
#define MAX_S     3600
#define ANOMALIES 200 /* in one answer */

typedef struct {
    ForeForecaster *fc;
    ForeResource res;
    unsigned h;      /* index of the horizon */
    int64_t from_ms; /* what comes before is for warming up */
    ForeForecast issued[FORE_MAX_HORIZON + 1];
    uint64_t n;
    json_t *time, *actual, *low, *mid, *high;
} Replay;

static void add(json_t *list, double v)
{
    json_array_append_new(list, isfinite(v) ? json_real(v) : json_null());
}

static void replay_step(Replay *rp, const ForeSample *sample)
{
    static const ForeField fields[FORE_RES_N] = {FORE_FIELD_DEMAND_VCPU, FORE_FIELD_DEMAND_MEM};
    ForeField field = fields[rp->res];
    unsigned ahead = fore_horizons[rp->h], size = FORE_MAX_HORIZON + 1;
    const ForeForecast *then = &rp->issued[(rp->n + size - ahead) % size];
    bool known = rp->n >= ahead && then->valid;
    const double *q = then->point[rp->res][rp->h];

    if (sample->wall_ms >= rp->from_ms) {
        json_array_append_new(rp->time, json_integer(sample->wall_ms));
        add(rp->actual, FORE_HAS(sample, field) ? sample->value[field] : (double)NAN);
        add(rp->low, known ? q[FORE_Q05] : (double)NAN);
        add(rp->mid, known ? q[FORE_Q50] : (double)NAN);
        add(rp->high, known ? q[FORE_Q95] : (double)NAN);
    }
    fore_forecaster_step(rp->fc, sample, &rp->issued[rp->n % size]);
    rp->n++;
}

/* Samples on a grid of one second; a gap is time that passes, but not for ever. */
static void replay(Replay *rp, const GArray *samples)
{
    int64_t last_ms = 0;

    for (guint i = 0; i < samples->len; i++) {
        const ForeSample *s = &g_array_index(samples, ForeSample, i);
        int64_t missing = i > 0 ? (s->wall_ms - last_ms + 500) / 1000 - 1 : 0;

        for (int64_t k = 0; k < CLAMP(missing, 0, MAX_S); k++) {
            ForeSample gap = {.wall_ms = last_ms + 1000 * (k + 1)};

            replay_step(rp, &gap);
        }
        replay_step(rp, s);
        last_ms = s->wall_ms;
    }
}

static void add_anomaly(const ForeStoreAnomaly *a, gpointer data)
{
    json_array_append_new(data,
                          json_pack("{s:I,s:I,s:f,s:s}", "from-ms", (json_int_t)a->from_ms, "to-ms",
                                    (json_int_t)a->to_ms, "score", a->score, "reason", a->reason));
}

static bool take_args(const json_t *args, const char **ret_name, Replay *rp, int64_t *ret_seconds,
                      GError **error)
{
    const char *resource = "vcpu";
    int64_t ahead = 5;

    if (!fore_json_get_string(args, "name", ret_name, error) ||
        (json_object_get(args, "resource") != NULL &&
         !fore_json_get_string(args, "resource", &resource, error)) ||
        (json_object_get(args, "seconds") != NULL &&
         !fore_json_get_int(args, "seconds", 2, MAX_S, ret_seconds, error)) ||
        (json_object_get(args, "ahead") != NULL &&
         !fore_json_get_int(args, "ahead", 1, FORE_MAX_HORIZON, &ahead, error))) {
        return false;
    }
    while (rp->res < FORE_RES_N && strcmp(resource, fore_resource_names[rp->res]) != 0) {
        rp->res++;
    }
    while (rp->h < FORE_N_HORIZON && fore_horizons[rp->h] != ahead) {
        rp->h++;
    }
    if (rp->res == FORE_RES_N || rp->h == FORE_N_HORIZON) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    rp->res == FORE_RES_N ? "'resource' is '%s'; it must be vcpu or mem"
                                          : "'ahead' must be 1, 2, 3, 5, 8 or 12 (resource '%s')",
                    resource);
        return false;
    }
    return true;
}

json_t *fore_view_history(ForeAgent *agent, const json_t *args, GError **error)
{
    g_autofree Replay *rp = g_new0(Replay, 1);
    g_autoptr(ForeForecaster) fc = NULL;
    g_autoptr(GArray) samples = NULL;
    g_autoptr(json_t) anomalies = json_array();
    int64_t seconds = 600, to_ms = g_get_real_time() / 1000;
    const char *name = NULL;

    if (!take_args(args, &name, rp, &seconds, error) ||
        fore_agent_find(agent, name, error) == NULL) {
        return NULL;
    }
    rp->from_ms = to_ms - 1000 * seconds;
    samples = fore_store_window(fore_agent_store(agent), name, rp->from_ms - 1000 * WARM_UP_S,
                                to_ms + 1000, error);
    if (samples == NULL ||
        !fore_store_each_anomaly(fore_agent_store(agent), name, rp->from_ms, to_ms, 0.0, ANOMALIES,
                                 add_anomaly, anomalies, error)) {
        return NULL;
    }
    rp->fc = fc = fore_forecaster_new(fore_agent_model(agent), FORE_NS_PER_S);
    rp->time = json_array();
    rp->actual = json_array();
    rp->low = json_array();
    rp->mid = json_array();
    rp->high = json_array();
    replay(rp, samples);
    return json_pack("{s:s,s:s,s:s,s:i,s:o,s:o,s:o,s:o,s:o,s:O}", "name", name, "resource",
                     fore_resource_names[rp->res], "unit",
                     rp->res == FORE_RES_MEM ? "bytes" : "vCPUs", "ahead-s",
                     (int)fore_horizons[rp->h], "time-ms", rp->time, "actual", rp->actual, "low",
                     rp->low, "median", rp->mid, "high", rp->high, "anomalies", anomalies);
}
