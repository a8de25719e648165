/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp-agent/fore-view.h"

#include <unistd.h>

#define FINAL_ENTRIES 50 /* finished ledger entries that are shown */

static double seconds_since(uint64_t then_ns)
{
    return (double)((uint64_t)g_get_monotonic_time() * 1000 - then_ns) / FORE_NS_PER_S;
}

static json_t *view_capacity(const ForeVm *vm)
{
    ForeCapacity c;

    fore_vm_capacity(vm, &c);
    return json_pack(
        "{s:I,s:I,s:I,s:I,s:I,s:I}", "vcpus-requested", (json_int_t)c.vcpus_requested,
        "vcpus-plugged", (json_int_t)c.vcpus_plugged, "vcpus-online", (json_int_t)c.vcpus_online,
        "memory-requested", (json_int_t)c.mem_requested_bytes, "memory-plugged",
        (json_int_t)c.mem_plugged_bytes, "memory-online", (json_int_t)c.mem_online_bytes);
}

static json_t *view_source(bool ok, const char *reason, uint64_t records)
{
    return json_pack("{s:b,s:s,s:I}", "ok", (int)ok, "reason", reason, "records",
                     (json_int_t)records);
}

static json_t *view_usage(const ForeVm *vm)
{
    json_t *usage = json_object();

    for (unsigned f = 0; f < FORE_FIELD_N; f++) {
        if (FORE_HAS(&vm->sample, f)) {
            json_object_set_new(usage, fore_field_names[f], json_real(vm->sample.value[f]));
        }
    }
    return usage;
}

static json_t *view_policy(const ForeVm *vm)
{
    json_t *policy = json_object();

    for (const char *const *key = fore_policy_keys(); *key != NULL; key++) {
        g_autofree char *value = fore_policy_get(&vm->policy, *key);
        json_object_set_new(policy, *key, json_string(value));
    }
    return policy;
}

static json_t *view_health(const ForeVm *vm)
{
    ForeForecastHealth h;
    json_t *health;

    fore_forecaster_health(vm->forecaster, &h);
    health = json_pack("{s:i,s:b,s:s}", "scored", (int)h.scored, "demoted", (int)h.demoted,
                       "behind", h.behind != NULL ? h.behind : "");
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        json_t *members = json_object();

        for (unsigned m = 0; m < FORE_FORECAST_MEMBERS; m++) {
            if (h.member[r][m] > 0.0) {
                json_object_set_new(members, fore_forecast_member_name(m),
                                    json_real(h.member[r][m]));
            }
        }
        json_object_set_new(health, fore_resource_names[r],
                            json_pack("{s:f,s:f,s:f,s:f,s:o}", "loss", h.loss[r], "baseline-loss",
                                      h.baseline_loss[r], "seasonal-loss", h.seasonal_loss[r],
                                      "coverage95", h.coverage95[r], "members", members));
    }
    return health;
}

static const char *vm_state(const ForeVm *vm)
{
    if (!fore_qmp_is_up(vm->qmp)) {
        return "unreachable";
    }
    if (!fore_qmp_truth(vm->qmp)->running) {
        return "stopped";
    }
    if (vm->distrusted) {
        return "distrusted";
    }
    return vm->report.have ? "ok" : "blind";
}

json_t *fore_view_vm(const ForeVm *vm)
{
    json_t *sources = json_pack(
        "{s:o,s:o,s:o}", "qmp", view_source(fore_qmp_is_up(vm->qmp), fore_qmp_reason(vm->qmp), 0),
        "page", view_source(vm->page != NULL, vm->page_reason, vm->page_records), "sea",
        view_source(fore_link_is_up(vm->sea), fore_link_reason(vm->sea), vm->report.records));
    /* For who reads the page directly. */
    json_object_set_new(json_object_get(sources, "page"), "path", json_string(vm->page_path));
    json_t *pathway = json_array(), *kvm = fore_stats_view(&vm->stats);

    for (char **node = vm->pathway; *node != NULL; node++) {
        json_array_append_new(pathway, json_string(*node));
    }
    json_t *view =
        json_pack("{s:s,s:s,s:s,s:s,s:o,s:o,s:o,s:o,s:o,s:o}", "name", vm->name, "uuid", vm->uuid,
                  "mode", fore_mode_names[vm->policy.mode], "state", vm_state(vm), "capacity",
                  view_capacity(vm), "sources", sources, "usage", view_usage(vm), "policy",
                  view_policy(vm), "forecaster", view_health(vm), "pathway", pathway);
    /* only under KVM */
    if (kvm != NULL) {
        json_object_set_new(view, "kvm", kvm);
    }
    return view;
}

static json_t *view_table(const double (*t)[FORE_N_QUANTILE])
{
    json_t *rows = json_array();

    for (unsigned h = 0; h < FORE_N_HORIZON; h++) {
        json_t *row = json_array();
        for (unsigned q = 0; q < FORE_N_QUANTILE; q++) {
            json_array_append_new(row, json_real(t[h][q]));
        }
        json_array_append_new(rows, row);
    }
    return rows;
}

json_t *fore_view_forecast(const ForeVm *vm)
{
    const ForeForecast *f = &vm->forecast;
    json_t *horizons = json_array(), *quantiles = json_array();
    json_t *point = json_object(), *peak = json_object();

    for (unsigned h = 0; h < FORE_N_HORIZON; h++) {
        json_array_append_new(horizons, json_integer(fore_horizons[h]));
    }
    for (unsigned q = 0; q < FORE_N_QUANTILE; q++) {
        json_array_append_new(quantiles, json_real(fore_quantiles[q]));
    }
    for (unsigned r = 0; f->valid && r < FORE_RES_N; r++) {
        json_object_set_new(point, fore_resource_names[r], view_table(f->point[r]));
        json_object_set_new(peak, fore_resource_names[r], view_table(f->peak[r]));
    }
    return json_pack("{s:s,s:b,s:b,s:f,s:f,s:o,s:o,s:o,s:o,s:o}", "name", vm->name, "valid",
                     (int)f->valid, "demoted", (int)f->demoted, "age-s",
                     f->valid ? seconds_since(f->mono_ns) : 0.0, "step-s",
                     (double)f->step_ns / FORE_NS_PER_S, "horizons", horizons, "quantiles",
                     quantiles, "point", point, "peak", peak, "health", view_health(vm));
}

json_t *fore_view_explain(const ForeVm *vm)
{
    ForeExplain e;
    json_t *out;

    fore_loop_explain(vm->loop, &e);
    out = json_pack("{s:s,s:f,s:f,s:b,s:b,s:s}", "name", vm->name, "age-s",
                    e.mono_ns > 0 ? seconds_since(e.mono_ns) : -1.0, "lead-s", e.lead_s,
                    "forecast-used", (int)e.forecast_used, "reattest", (int)e.reattest, "decision",
                    e.verdict);
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        json_object_set_new(out, fore_resource_names[r],
                            json_pack("{s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:f}", "actual",
                                      e.actual[r], "predicted", e.predicted[r], "error", e.error[r],
                                      "p", e.p[r], "i", e.i[r], "d", e.d[r], "adjustment",
                                      e.adjustment[r], "forecast", e.forecast_term[r], "reactive",
                                      e.reactive_term[r], "target", e.target[r]));
    }
    return out;
}

json_t *fore_view_ledger(ForeAgent *agent, const char *vm)
{
    const ForeLedger *ledger = fore_agent_ledger(agent);
    g_autoptr(GArray) list = fore_ledger_list(ledger, vm, FINAL_ENTRIES);
    json_t *entries = json_array(), *promised = json_object(), *capacity = json_object();

    for (guint i = 0; i < list->len; i++) {
        const ForeLedgerEntry *e = &g_array_index(list, ForeLedgerEntry, i);
        double age = seconds_since((uint64_t)e->since_mono_ns);
        json_array_append_new(
            entries, json_pack("{s:I,s:s,s:s,s:s,s:f,s:f,s:I,s:f,s:s}", "id", (json_int_t)e->id,
                               "vm", e->vm, "resource", fore_resource_names[e->resource], "state",
                               fore_ledger_state_names[e->state], "from", e->from, "to", e->to,
                               "plan", (json_int_t)e->plan_id, "age-s", age, "reason", e->reason));
    }
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        json_object_set_new(promised, fore_resource_names[r],
                            json_real(fore_ledger_promised(ledger, r)));
        json_object_set_new(capacity, fore_resource_names[r],
                            json_real(fore_ledger_capacity(ledger, r)));
    }
    return json_pack("{s:o,s:o,s:o}", "entries", entries, "promised", promised, "capacity",
                     capacity);
}

json_t *fore_view_attestation(const ForeVm *vm)
{
    json_t *out;

    if (vm->verdict == NULL) {
        return json_pack("{s:s,s:s}", "name", vm->name, "verdict", "none");
    }
    out = json_deep_copy(vm->verdict);
    json_object_set_new(out, "name", json_string(vm->name));
    json_object_set_new(out, "age-s", json_real(seconds_since(vm->verdict_ns)));
    return out;
}

json_t *fore_view_status(ForeAgent *agent)
{
    ForeStoreHealth s;
    ForeLink *pam = fore_agent_pam(agent);
    ForeModel *model = fore_agent_model(agent);
    g_autofree char *facts = model != NULL ? fore_model_describe(model) : g_strdup("");
    g_autoptr(GList) vms = fore_agent_vms(agent);

    fore_store_health(fore_agent_store(agent), &s);
    return json_pack(
        "{s:s,s:f,s:i,s:i,s:s,s:{s:b,s:s,s:I,s:I,s:I,s:I},s:{s:b,s:b,s:s},s:{s:b,s:b,s:s}}",
        "version", FORE_VERSION, "uptime-s", seconds_since(fore_agent_started_ns(agent)), "pid",
        (int)getpid(), "vms", (int)g_list_length(vms), "pin",
        fore_identity_pin(fore_agent_identity(agent)), "store", "ok", (int)s.disk_ok, "reason",
        s.reason, "samples", (json_int_t)s.samples, "chunks", (json_int_t)s.chunks, "bytes",
        (json_int_t)s.bytes, "lost-samples", (json_int_t)s.lost_samples, "model", "trained",
        model != NULL, "training", (int)fore_agent_is_training(agent), "facts", facts, "pam",
        "configured", pam != NULL, "ok", pam != NULL && fore_link_is_up(pam), "reason",
        pam != NULL ? fore_link_reason(pam) : "pam-address is not set");
}
