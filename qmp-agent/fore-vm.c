/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Once a second fore_vm_observe() makes one sample out of three views: the SEA's
 * newest report, the difference of two copies of the profile page, and QEMU's own count of what is
 * plugged. The guest's report is used only within what the page allows: a guest that claims more
 * busy vCPUs than its vCPU threads were out of idle, five samples in a row, is distrusted, and the
 * host's view counts. The sample goes to the store and the forecaster; usage and forecast go to the
 * loop; its actions go to fore-act.c.
 */
#include "qmp-agent/fore-vm.h"

#include <math.h>
#include <string.h>

#include "common/fore-error.h"
#include "common/fore-page-sample.h"
#include "qmp-agent/fore-anomaly-view.h"
#include "qmp-agent/fore-enrol.h"

#define DISTRUST_AFTER 5
#define SEA_RATE       20.0 /* messages a second that a guest may send */
#define MAX_VCPUS      4096
#define LOG_BURST      60.0 /* logged events that a guest may cause at once, and then */
#define LOG_EVERY_S    60.0 /* one in so many seconds */
#define STEP_NS        FORE_NS_PER_S
#define SEA_SILENT_NS  (6 * FORE_NS_PER_S) /* a SEA that was restarted cannot hang up: we do */

/* --- the SEA --- */

typedef struct {
    const char *key;
    ForeField field;
    double max;
} ReportKey;

static const ReportKey report_keys[] = {
    {"cpu-busy", FORE_FIELD_CPU_BUSY, MAX_VCPUS},
    {"runnable", FORE_FIELD_RUNNABLE, 1e6},
    {"psi-cpu", FORE_FIELD_PSI_CPU, 1},
    {"psi-mem", FORE_FIELD_PSI_MEM, 1},
    {"mem-used", FORE_FIELD_MEM_USED, 1e15},
    {"mem-available", FORE_FIELD_MEM_AVAILABLE, 1e15},
    {"mem-total", FORE_FIELD_MEM_TOTAL, 1e15},
    {"swap-out", FORE_FIELD_SWAP_OUT, 1e9},
    {"vcpus-online", FORE_FIELD_ONLINE_VCPUS, MAX_VCPUS},
};

/* May one more event that the guest can cause at will enter the log?  The log keeps a bounded
 * number of events of all VMs: one guest must not push the others' out. */
static bool may_log(ForeVm *vm)
{
    gint64 now_us = g_get_monotonic_time();
    double earned = (double)(now_us - vm->log_at_us) / G_USEC_PER_SEC / LOG_EVERY_S;

    vm->log_left = vm->log_at_us != 0 ? MIN(vm->log_left + earned, LOG_BURST) : LOG_BURST;
    vm->log_at_us = now_us;
    if (vm->log_left < 1) {
        return false;
    }
    vm->log_left -= 1;
    return true;
}

static void refuse_report(ForeVm *vm, const char *why)
{
    fore_agent_emit(vm->agent, vm, "INTRUSION", json_pack("{s:s}", "reason", why), may_log(vm));
    fore_link_reset(vm->sea, why);
}

/* Demand is counted as capacity is: with what the guest's kernel keeps for itself.  Measured only
 * while neither number moves, because a block that has just come online is in one of them first. */
static void measure_hidden(ForeVm *vm)
{
    double total = vm->report.value[FORE_FIELD_MEM_TOTAL];

    if (!(vm->report.valid & 1u << FORE_FIELD_MEM_TOTAL) || !vm->guest.have) {
        return;
    }
    if (vm->grow == NULL && total == vm->mem_total_was &&
        vm->guest.mem_online_bytes == vm->mem_online_was) {
        vm->mem_hidden = MAX((double)vm->guest.mem_online_bytes - total, 0);
    }
    vm->mem_total_was = total;
    vm->mem_online_was = vm->guest.mem_online_bytes;
}

static void take_report(ForeVm *vm, const json_t *ev)
{
    ForeReport report = {.have = true, .at_ns = (uint64_t)g_get_monotonic_time() * 1000};
    int64_t seq = 0;

    if (!fore_json_get_int(ev, "seq", 1, INT64_MAX, &seq, NULL)) {
        refuse_report(vm, "sea:report-without-sequence");
        return;
    }
    if (vm->report.have && (uint64_t)seq <= vm->report.seq) {
        refuse_report(vm, "sea:report-replayed");
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(report_keys); i++) {
        const ReportKey *k = &report_keys[i];
        if (json_object_get(ev, k->key) == NULL) {
            continue;
        }
        if (!fore_json_get_real(ev, k->key, 0, k->max, &report.value[k->field], NULL)) {
            refuse_report(vm, "sea:report-out-of-bounds");
            return;
        }
        report.valid |= 1u << k->field;
    }
    report.seq = (uint64_t)seq;
    report.records = vm->report.records + 1;
    vm->report = report;
    measure_hidden(vm);
}

static void take_capacity(ForeVm *vm, const json_t *ev)
{
    const json_t *held = json_object_get(ev, "ungranted");
    int64_t vcpus = 0, mem = 0, held_vcpus = 0, held_blocks = 0;
    unsigned was = vm->guest.vcpus_ungranted + vm->guest.blocks_ungranted;

    if (!fore_json_get_int(ev, "vcpus-online", 1, MAX_VCPUS, &vcpus, NULL) ||
        !fore_json_get_int(ev, "memory-online-bytes", 0, INT64_MAX, &mem, NULL)) {
        refuse_report(vm, "sea:capacity-out-of-bounds");
        return;
    }
    fore_json_get_int(held, "vcpus", 0, MAX_VCPUS, &held_vcpus, NULL);
    fore_json_get_int(held, "memory-blocks", 0, INT32_MAX, &held_blocks, NULL);
    vm->guest = (ForeGuestCapacity){true, (unsigned)vcpus, (uint64_t)mem, (unsigned)held_vcpus,
                                    (unsigned)held_blocks};
    if (held_vcpus + held_blocks > was && vm->grow == NULL) {
        fore_agent_emit(vm->agent, vm, "UNGRANTED",
                        json_pack("{s:I,s:I}", "vcpus", (json_int_t)held_vcpus, "memory-blocks",
                                  (json_int_t)held_blocks),
                        may_log(vm));
    }
    fore_act_guest_changed(vm);
}

static void on_capacity_reply(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    ForeVm *vm = data;
    ForeEvent event = {.kind = FORE_EVENT_CAPACITY};

    if (ret == NULL) {
        return;
    }
    take_capacity(vm, ret);
    if (vm->guest.have && fore_qmp_is_up(vm->qmp)) {
        fore_vm_capacity(vm, &event.capacity);
        event.usage.capacity = event.capacity;
        fore_vm_feed(vm, &event);
    }
}

static void source_event(ForeVm *vm, const char *source, bool ok, const char *reason)
{
    fore_agent_emit(vm->agent, vm, "SOURCE",
                    json_pack("{s:s,s:b,s:s}", "source", source, "ok", ok, "reason", reason),
                    may_log(vm));
}

static void on_sea_up(ForeLink *link, gpointer data)
{
    ForeVm *vm = data;

    /* A new session: the guest may have rebooted, its sequence starts again. */
    vm->sea_heard_ns = (uint64_t)g_get_monotonic_time() * 1000;
    vm->report.have = false;
    vm->guest.have = false;
    source_event(vm, "sea", true, "");
    fore_reattest_want(vm, FORE_REATTEST_SESSION);
    fore_link_execute(link, "sea-capacity", NULL, 2000, on_capacity_reply, vm);
}

static void on_sea_down(ForeLink *link, const GError *why, gpointer data)
{
    ForeVm *vm = data;

    if (vm->report.have || vm->guest.have) {
        source_event(vm, "sea", false, fore_link_reason(link));
    }
    vm->report.have = false;
    vm->guest.have = false;
}

static void on_sea_event(ForeLink *link, const char *event, const json_t *ev_data, gpointer data)
{
    ForeVm *vm = data;

    vm->sea_heard_ns = (uint64_t)g_get_monotonic_time() * 1000;
    if (strcmp(event, "USAGE") == 0) {
        take_report(vm, ev_data);
    } else if (strcmp(event, "CAPACITY") == 0) {
        take_capacity(vm, ev_data);
    } else if (strcmp(event, "EVIDENCE_CHANGED") == 0) {
        fore_reattest_want(vm, FORE_REATTEST_EVIDENCE);
    }
}

/* --- QEMU --- */

static void know_base(ForeVm *vm)
{
    const ForeQmpTruth *truth = fore_qmp_truth(vm->qmp);
    ForeEvent event = {.kind = FORE_EVENT_POLICY};
    g_autoptr(GError) why = NULL;

    vm->policy.base_mem_bytes = truth->base_bytes;
    if (!vm->base_known && !fore_ledger_set_base(fore_agent_ledger(vm->agent), vm->name, 1,
                                                 (double)truth->base_bytes, &why)) {
        fore_agent_emit(vm->agent, vm, "DENIED", json_pack("{s:s}", "reason", why->message), true);
    }
    vm->base_known = true;
    event.policy = vm->policy;
    fore_vm_feed(vm, &event);
}

static void on_qmp_up(ForeQmp *qmp, gpointer data)
{
    ForeVm *vm = data;
    ForeEvent event = {.kind = FORE_EVENT_FREEZE, .ok = !fore_qmp_truth(qmp)->running};

    source_event(vm, "qmp", true, "");
    fore_stats_reset(&vm->stats);
    vm->qmp_told = true;
    vm->ended = false;
    know_base(vm);
    fore_vm_feed(vm, &event); /* STOP or RESUME may have come while nobody listened */
    if (fore_link_is_up(vm->sea)) {
        fore_link_execute(vm->sea, "sea-capacity", NULL, 2000, on_capacity_reply, vm);
    }
}

static void on_qmp_down(ForeQmp *qmp, const GError *why, gpointer data)
{
    ForeVm *vm = data;

    fore_stats_reset(&vm->stats);
    if (vm->qmp_told) {
        source_event(vm, "qmp", false, fore_qmp_reason(qmp));
        vm->qmp_told = false;
    }
    /* Nobody listens on the monitor any more: QEMU has ended, and its promises with it.  A mere
     * loss of the connection (any other code) releases nothing. */
    if (!vm->ended && g_error_matches(why, FORE_ERROR, FORE_ERROR_NOT_FOUND)) {
        fore_ledger_remove_vm(fore_agent_ledger(vm->agent), vm->name);
        vm->ended = true;
        vm->base_known = false;
        vm->guest.have = false;
        fore_agent_emit(vm->agent, vm, "ENDED", json_object(), true);
    }
}

static void on_qmp_event(ForeQmp *qmp, const char *name, const json_t *ev_data, gpointer data)
{
    ForeVm *vm = data;
    ForeEvent event = {.kind = FORE_EVENT_FREEZE};

    if (strcmp(name, "STOP") == 0 || strcmp(name, "RESUME") == 0) {
        event.ok = strcmp(name, "STOP") == 0;
        fore_vm_feed(vm, &event);
    } else if (strcmp(name, "RESET") == 0) {
        /* Its agent cannot hang up any more; with the new session it is judged anew. */
        fore_link_reset(vm->sea, "the guest was reset");
    }
}

/* --- the profile page --- */

static void close_page(ForeVm *vm, const GError *why)
{
    g_clear_pointer(&vm->page, fore_page_free);
    vm->page_have_previous = false;
    g_free(vm->page_reason);
    vm->page_reason = g_strdup(why != NULL ? why->message : "");
}

static void read_page(ForeVm *vm, ForeSample *sample)
{
    g_autoptr(GError) why = NULL;
    ForePageSnapshot *swap;

    if (vm->page == NULL) {
        vm->page = fore_page_open(vm->page_path, vm->uuid, &why);
        if (vm->page == NULL) {
            close_page(vm, why);
            return;
        }
    }
    if (!fore_page_read(vm->page, vm->page_now, &why)) {
        if (g_error_matches(why, FORE_ERROR, FORE_ERROR_INVALID) ||
            g_error_matches(why, FORE_ERROR, FORE_ERROR_UNTRUSTED)) {
            fore_agent_emit(vm->agent, vm, "INTRUSION", json_pack("{s:s}", "reason", why->message),
                            may_log(vm));
        }
        if (!g_error_matches(why, FORE_ERROR, FORE_ERROR_UNAVAILABLE)) {
            close_page(vm, why);
        }
        return;
    }
    g_free(vm->page_reason);
    vm->page_reason = g_strdup("");
    vm->page_records++;
    if (vm->page_have_previous && !fore_page_delta(vm->page_previous, vm->page_now, sample, &why) &&
        g_error_matches(why, FORE_ERROR, FORE_ERROR_UNTRUSTED)) {
        fore_agent_emit(vm->agent, vm, "INTRUSION", json_pack("{s:s}", "reason", why->message),
                        may_log(vm));
    }
    if (vm->page_have_previous) {
        fore_page_sample(vm->page_previous, vm->page_now, sample);
    }
    swap = vm->page_previous;
    vm->page_previous = vm->page_now;
    vm->page_now = swap;
    vm->page_have_previous = true;
}

/* --- one step --- */

void fore_vm_capacity(const ForeVm *vm, ForeCapacity *ret)
{
    const ForeQmpTruth *truth = fore_qmp_truth(vm->qmp);

    memset(ret, 0, sizeof *ret);
    ret->vcpus_plugged = truth->vcpus_plugged;
    ret->mem_plugged_bytes = truth->base_bytes + truth->vmem_bytes;
    ret->vcpus_online = vm->guest.have ? MIN(vm->guest.vcpus_online, truth->vcpus_plugged) : 0;
    ret->mem_online_bytes =
        vm->guest.have ? MIN(vm->guest.mem_online_bytes, ret->mem_plugged_bytes) : 0;
    ret->vcpus_requested = MAX(vm->requested.vcpus_requested, ret->vcpus_online);
    ret->mem_requested_bytes = truth->base_bytes + truth->vmem_requested;
}

/* The guest may not claim more busy vCPUs than were out of idle in QEMU, plus measuring noise. */
static void check_against_host(ForeVm *vm, ForeSample *s)
{
    double host, claimed;

    if (!FORE_HAS(s, FORE_FIELD_IDLE) || !FORE_HAS(s, FORE_FIELD_CPU_BUSY)) {
        return;
    }
    host = fore_qmp_truth(vm->qmp)->vcpus_plugged * (1 - s->value[FORE_FIELD_IDLE]);
    claimed = s->value[FORE_FIELD_CPU_BUSY];
    vm->distrust = claimed > host + MAX(0.5, 0.3 * host) ? vm->distrust + 1 : 0;
    if (vm->distrust == DISTRUST_AFTER) {
        vm->distrusted = true;
        fore_agent_emit(vm->agent, vm, "INTRUSION",
                        json_pack("{s:s,s:f,s:f}", "reason", "sea:claims-more-than-the-host-saw",
                                  "claimed-vcpus", claimed, "seen-vcpus", host),
                        may_log(vm));
    } else if (vm->distrust == 0) {
        vm->distrusted = false;
    }
    if (vm->distrusted) {
        s->value[FORE_FIELD_CPU_BUSY] = host;
        s->valid &= ~(1u << FORE_FIELD_RUNNABLE | 1u << FORE_FIELD_PSI_CPU);
    }
}

static void make_sample(ForeVm *vm, uint64_t now_ns, ForeSample *s)
{
    double vcpus = 0, mem = 0;
    unsigned got;

    memset(s, 0, sizeof *s);
    s->mono_ns = now_ns;
    s->wall_ms = g_get_real_time() / 1000;
    if (vm->report.have && now_ns - MIN(vm->report.at_ns, now_ns) <= FORE_USAGE_MAX_AGE_NS) {
        s->valid = vm->report.valid;
        memcpy(s->value, vm->report.value, sizeof s->value);
    }
    read_page(vm, s);
    check_against_host(vm, s);
    got = fore_usage_demand(s, &vcpus, &mem);
    if (got & 1u) {
        s->value[FORE_FIELD_DEMAND_VCPU] = vcpus;
        s->valid |= 1u << FORE_FIELD_DEMAND_VCPU;
    }
    if (got & 2u) {
        s->value[FORE_FIELD_DEMAND_MEM] = mem + vm->mem_hidden;
        s->valid |= 1u << FORE_FIELD_DEMAND_MEM;
    }
}

static void make_usage(const ForeVm *vm, const ForeSample *s, ForeUsage *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->mono_ns = s->mono_ns;
    ret->valid = FORE_HAS(s, FORE_FIELD_DEMAND_VCPU) && FORE_HAS(s, FORE_FIELD_DEMAND_MEM) &&
                 fore_qmp_is_up(vm->qmp) && vm->guest.have;
    ret->demand[FORE_RES_VCPU] = s->value[FORE_FIELD_DEMAND_VCPU];
    ret->demand[FORE_RES_MEM] = s->value[FORE_FIELD_DEMAND_MEM];
    ret->used[FORE_RES_VCPU] = s->value[FORE_FIELD_CPU_BUSY];
    ret->used[FORE_RES_MEM] = s->value[FORE_FIELD_MEM_USED];
    ret->swapping = (FORE_HAS(s, FORE_FIELD_SWAP_OUT) && s->value[FORE_FIELD_SWAP_OUT] > 0) ||
                    (FORE_HAS(s, FORE_FIELD_PSI_MEM) && s->value[FORE_FIELD_PSI_MEM] > 0.1);
    fore_vm_capacity(vm, &ret->capacity);
}

static void tell_forecast(ForeVm *vm)
{
    ForeExplain why;
    json_t *ev;

    fore_loop_explain(vm->loop, &why);
    ev = json_pack("{s:b,s:b,s:f,s:{s:f,s:f,s:f},s:{s:f,s:f,s:f},s:f}", "valid", vm->forecast.valid,
                   "demoted", vm->forecast.demoted, "lead-s", why.lead_s, "vcpu", "demand",
                   vm->sample.value[FORE_FIELD_DEMAND_VCPU], "p50",
                   vm->forecast.peak[FORE_RES_VCPU][2][FORE_Q50], "p95",
                   vm->forecast.peak[FORE_RES_VCPU][2][FORE_Q95], "mem", "demand",
                   vm->sample.value[FORE_FIELD_DEMAND_MEM], "p50",
                   vm->forecast.peak[FORE_RES_MEM][2][FORE_Q50], "p95",
                   vm->forecast.peak[FORE_RES_MEM][2][FORE_Q95], "mono-s",
                   (double)vm->sample.mono_ns / FORE_NS_PER_S);
    fore_agent_emit(vm->agent, vm, "FORECAST", ev, false);
}

void fore_vm_feed(ForeVm *vm, const ForeEvent *event)
{
    g_autofree ForeActions *actions = g_new0(ForeActions, 1);

    fore_loop_step(vm->loop, event, (uint64_t)g_get_monotonic_time() * 1000, actions);
    fore_act_run(vm, actions);
}

void fore_vm_observe(ForeVm *vm, uint64_t now_ns)
{
    if (fore_link_is_up(vm->sea) && now_ns > vm->sea_heard_ns + SEA_SILENT_NS) {
        fore_link_reset(vm->sea, "the SEA says nothing");
    }
    if (vm->grow == NULL) { /* what is under way looks for itself */
        fore_qmp_check(vm->qmp);
    }
    if (fore_qmp_is_up(vm->qmp)) {
        fore_stats_poll(&vm->stats, fore_qmp_link(vm->qmp), now_ns);
    }
    make_sample(vm, now_ns, &vm->sample);
    fore_reattest_step(vm, now_ns);
    if (vm->sample.valid != 0) {
        fore_store_append(fore_agent_store(vm->agent), vm->name, &vm->sample);
    }
    fore_anomaly_step(vm);
}

void fore_vm_decide(ForeVm *vm)
{
    g_autofree ForeEvent *event = g_new0(ForeEvent, 1);

    event->kind = FORE_EVENT_TICK;
    make_usage(vm, &vm->sample, &event->usage);
    event->forecast = vm->forecast;
    fore_vm_feed(vm, event);
    tell_forecast(vm);
}

/* --- life --- */

static bool take_name(const json_t *record, const char *key, const char *fallback, char **where,
                      GError **error)
{
    const char *text = fallback;

    if (json_object_get(record, key) != NULL && !fore_json_get_string(record, key, &text, error)) {
        return false;
    }
    if (text == NULL) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "'%s' is missing", key);
        return false;
    }
    *where = g_strdup(text);
    return true;
}

static bool take_pathway(const json_t *record, char ***where, GError **error)
{
    json_t *list = NULL, *item;
    g_autoptr(GPtrArray) nodes = g_ptr_array_new_with_free_func(g_free);
    size_t i;

    if (json_object_get(record, "pathway") != NULL &&
        !fore_json_get_array(record, "pathway", 16, &list, error)) {
        return false;
    }
    json_array_foreach (list, i, item) {
        if (!fore_name_is_valid(json_string_value(item))) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "'pathway' entry %zu is no node id",
                        i);
            return false;
        }
        g_ptr_array_add(nodes, g_strdup(json_string_value(item)));
    }
    g_ptr_array_add(nodes, NULL);
    *where = (char **)g_ptr_array_steal(nodes, NULL);
    return true;
}

static bool read_record(ForeVm *vm, const json_t *record, GError **error)
{
    const json_t *policy = json_object_get(record, "policy");

    if (!take_name(record, "name", NULL, &vm->name, error) ||
        !take_name(record, "uuid", NULL, &vm->uuid, error) ||
        !take_name(record, "qmp", NULL, &vm->qmp_path, error) ||
        !take_name(record, "page", NULL, &vm->page_path, error) ||
        !take_name(record, "sea", NULL, &vm->sea_path, error) ||
        !take_name(record, "vmem-device", "vmem0", &vm->vmem_device, error) ||
        !take_pathway(record, &vm->pathway, error)) {
        return false;
    }
    if (!fore_name_is_valid(vm->name) || !fore_name_is_valid(vm->vmem_device)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "name '%s' or vmem-device '%s': 1..%d of letters, digits, '.', '_', '-'",
                    vm->name, vm->vmem_device, FORE_NAME_MAX);
        return false;
    }
    if (!fore_uuid_is_valid(vm->uuid)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "uuid '%s' is not in the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx, lower case",
                    vm->uuid);
        return false;
    }
    return policy == NULL || fore_vm_set_policy(vm, policy, error);
}

bool fore_vm_set_policy(ForeVm *vm, const json_t *settings, GError **error)
{
    ForePolicy policy = vm->policy;
    ForeEvent event = {.kind = FORE_EVENT_POLICY};
    const char *key;
    json_t *value;

    if (!json_is_object(settings)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "'policy' is not an object");
        return false;
    }
    json_object_foreach ((json_t *)settings, key, value) {
        g_autofree char *number =
            json_is_integer(value)
                ? g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(value))
                : NULL;
        const char *text = number != NULL ? number : json_string_value(value);
        if (text == NULL || !fore_policy_set(&policy, key, text, error)) {
            if (text == NULL) {
                g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID, "policy '%s' is not text", key);
            }
            return false;
        }
    }
    if (!fore_policy_check(&policy, error)) {
        return false;
    }
    vm->policy = policy;
    if (vm->loop != NULL) {
        event.policy = policy;
        fore_vm_feed(vm, &event);
    }
    return true;
}

static void connect_sources(ForeVm *vm)
{
    static const ForeQmpOps qmp_ops = {on_qmp_up, on_qmp_down, on_qmp_event};
    static const ForeLinkOps sea_ops = {on_sea_up, on_sea_down, on_sea_event};
    ForeChannelConfig channel = {.mode = FORE_CHANNEL_TLS_CLIENT,
                                 .identity = fore_agent_identity(vm->agent),
                                 .handshake_timeout_ms = 3000};
    ForeWireConfig wire = {
        .json = fore_json_limits_guest, .greeting_timeout_ms = 5000, .max_per_second = SEA_RATE};
    g_autofree char *qmp = g_strconcat("unix:", vm->qmp_path, NULL);
    g_autofree char *sea = g_strconcat("unix:", vm->sea_path, NULL);
    GMainContext *context = fore_agent_context(vm->agent);

    vm->qmp = fore_qmp_new(context, qmp, vm->vmem_device, &qmp_ops, vm);
    vm->sea = fore_link_new(context, sea, &channel, &wire, &sea_ops, vm);
}

ForeVm *fore_vm_new(ForeAgent *agent, const json_t *record, GError **error)
{
    ForeVm *vm = g_new0(ForeVm, 1);

    vm->agent = agent;
    vm->page_reason = g_strdup("not opened yet");
    fore_policy_init(&vm->policy);
    if (!read_record(vm, record, error)) {
        fore_vm_free(vm);
        return NULL;
    }
    vm->page_previous = g_new0(ForePageSnapshot, 1);
    vm->page_now = g_new0(ForePageSnapshot, 1);
    vm->loop = fore_loop_new(vm->name, &vm->policy, fore_agent_ledger(agent));
    vm->forecaster = fore_forecaster_new(fore_agent_model(agent), STEP_NS);
    vm->watch = fore_watch_new();
    connect_sources(vm);
    return vm;
}

void fore_vm_free(ForeVm *vm)
{
    if (vm == NULL) {
        return;
    }
    fore_anomaly_end(vm);
    fore_watch_free(vm->watch);
    fore_act_cancel(vm);
    fore_enrol_forget_vm(vm);
    fore_qmp_free(vm->qmp);
    fore_link_free(vm->sea);
    fore_page_free(vm->page);
    fore_loop_free(vm->loop);
    fore_forecaster_free(vm->forecaster);
    json_decref(vm->verdict);
    g_strfreev(vm->pathway);
    g_free(vm->page_previous);
    g_free(vm->page_now);
    g_free(vm->page_reason);
    g_free(vm->grant);
    g_free(vm->name);
    g_free(vm->uuid);
    g_free(vm->qmp_path);
    g_free(vm->page_path);
    g_free(vm->sea_path);
    g_free(vm->vmem_device);
    g_free(vm);
}

json_t *fore_vm_record(const ForeVm *vm)
{
    json_t *policy = json_object(), *pathway = json_array();

    for (const char *const *key = fore_policy_keys(); *key != NULL; key++) {
        g_autofree char *value = fore_policy_get(&vm->policy, *key);
        json_object_set_new(policy, *key, json_string(value));
    }
    for (char **node = vm->pathway; *node != NULL; node++) {
        json_array_append_new(pathway, json_string(*node));
    }
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:o,s:o}", "name", vm->name, "uuid", vm->uuid, "qmp",
                     vm->qmp_path, "page", vm->page_path, "sea", vm->sea_path, "vmem-device",
                     vm->vmem_device, "policy", policy, "pathway", pathway);
}

void fore_vm_set_model(ForeVm *vm, ForeModel *model)
{
    fore_forecaster_set_model(vm->forecaster, model);
}
