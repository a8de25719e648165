/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Carries out what the loop decided, in its order: the journal first, then attest, grow, release.
 *
 * Growth, one plan at a time: the grant goes to the SEA (without its yes nothing is plugged); then
 * vCPUs and memory are plugged side by side; what QEMU shows is PLUGGED, what the SEA reports
 * online is ONLINE.  Release: the SEA takes vCPUs offline first; memory leaves by virtio-mem, whose
 * driver takes its blocks offline itself.  vCPUs stay plugged but offline: under TCG each plug uses
 * up a context for good (docs/decisions), and bringing one online again is the quickest growth
 * there is.
 */
#include <string.h>

#include "common/fore-bytes.h"
#include "common/fore-error.h"
#include "qmp-agent/fore-attest.h"
#include "qmp-agent/fore-vm.h"

/* Together below the loop's own deadlines (15 s to plug, 30 s online, 60 s to release). */
#define GRANT_MS       3000
#define GROW_VMEM_MS   9000
#define ONLINE_MS      15000
#define RELEASE_MS     15000
#define SHRINK_VMEM_MS 40000
#define ASK_AGAIN_MS   100
#define DISK_ENTRIES   5000 /* finished ledger entries that stay on disk, about */

typedef struct ForeGrow {
    ForeVm *vm;
    ForePlan plan;
    bool release;
    unsigned busy; /* parts that are still under way */
    bool plugged[FORE_RES_N], online[FORE_RES_N], failed[FORE_RES_N];
    GSource *poll;
    gint64 deadline_us; /* for online */
} ForeGrow;

static void feed_entry(ForeVm *vm, ForeEventKind kind, ForeResource resource, bool ok,
                       const char *reason)
{
    ForeEvent event = {.kind = kind, .ok = ok, .entry_id = vm->entry_of[resource]};

    if (event.entry_id == 0) {
        return; /* the plan does not change this resource */
    }
    fore_vm_capacity(vm, &event.capacity);
    g_strlcpy(event.reason, reason != NULL ? reason : "", sizeof event.reason);
    fore_text_plain(event.reason);
    fore_vm_feed(vm, &event);
}

static void grow_free(ForeGrow *grow)
{
    if (grow->poll != NULL) {
        g_source_destroy(grow->poll);
        g_source_unref(grow->poll);
    }
    if (grow->vm->grow == grow) {
        grow->vm->grow = NULL;
    }
    g_free(grow);
}

static void tell_capacity(ForeVm *vm)
{
    ForeCapacity c;

    fore_vm_capacity(vm, &c);
    fore_agent_emit(
        vm->agent, vm, "CAPACITY",
        json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "vcpus-requested", (json_int_t)c.vcpus_requested,
                  "vcpus-plugged", (json_int_t)c.vcpus_plugged, "vcpus-online",
                  (json_int_t)c.vcpus_online, "memory-requested", (json_int_t)c.mem_requested_bytes,
                  "memory-plugged", (json_int_t)c.mem_plugged_bytes, "memory-online",
                  (json_int_t)c.mem_online_bytes),
        true);
}

/* --- growth: online --- */

static bool is_online(const ForeVm *vm, const ForePlan *plan, ForeResource resource)
{
    if (!vm->guest.have) {
        return false;
    }
    return resource == FORE_RES_VCPU ? vm->guest.vcpus_online >= plan->vcpus
                                     : vm->guest.mem_online_bytes >= plan->mem_bytes;
}

/* Ends the growth when every resource of the plan is online or has failed. */
static void settle_online(ForeGrow *grow, bool late)
{
    ForeVm *vm = grow->vm;
    bool open = false;

    for (unsigned r = 0; r < FORE_RES_N; r++) {
        if (vm->entry_of[r] == 0 || grow->online[r] || grow->failed[r]) {
            continue;
        }
        if (grow->plugged[r] && is_online(vm, &grow->plan, r)) {
            grow->online[r] = true;
            feed_entry(vm, FORE_EVENT_ONLINE, r, true, NULL);
        } else if (late) {
            grow->failed[r] = true;
            feed_entry(vm, FORE_EVENT_ONLINE, r, false, "guest:plugged-offline");
        } else {
            open = true;
        }
        if (vm->grow != grow) {
            return; /* an answer of the loop began something else */
        }
    }
    if (!open) {
        grow_free(grow);
        tell_capacity(vm);
    }
}

static void on_guest_capacity(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    ForeVm *vm = data;
    int64_t vcpus = 0, mem = 0;

    if (ret != NULL && fore_json_get_int(ret, "vcpus-online", 1, 4096, &vcpus, NULL) &&
        fore_json_get_int(ret, "memory-online-bytes", 0, INT64_MAX, &mem, NULL)) {
        vm->guest.have = true;
        vm->guest.vcpus_online = (unsigned)vcpus;
        vm->guest.mem_online_bytes = (uint64_t)mem;
        fore_act_guest_changed(vm);
    }
}

static gboolean on_online_poll(gpointer data)
{
    ForeGrow *grow = data;

    if (g_get_monotonic_time() > grow->deadline_us) {
        settle_online(grow, true);
        return G_SOURCE_REMOVE;
    }
    fore_link_execute(grow->vm->sea, "sea-capacity", NULL, 1000, on_guest_capacity, grow->vm);
    return G_SOURCE_CONTINUE;
}

void fore_act_guest_changed(ForeVm *vm)
{
    if (vm->grow != NULL && !vm->grow->release && vm->grow->busy == 0) {
        settle_online(vm->grow, false);
    }
}

/* --- growth: plug --- */

static void part_plugged(ForeGrow *grow, ForeResource resource, const GError *error)
{
    ForeVm *vm = grow->vm;

    grow->busy--;
    grow->plugged[resource] = error == NULL;
    grow->failed[resource] = error != NULL;
    feed_entry(vm, FORE_EVENT_PLUGGED, resource, error == NULL,
               error != NULL ? error->message : NULL);
    if (vm->grow != grow || grow->busy > 0) {
        return;
    }
    grow->deadline_us = g_get_monotonic_time() + ONLINE_MS * 1000;
    grow->poll = g_timeout_source_new(ASK_AGAIN_MS);
    g_source_set_callback(grow->poll, on_online_poll, grow, NULL);
    g_source_attach(grow->poll, fore_agent_context(vm->agent));
    settle_online(grow, false);
}

static void on_vcpus_plugged(ForeQmp *qmp, const GError *error, gpointer data)
{
    part_plugged(data, FORE_RES_VCPU, error);
}

static void on_mem_plugged(ForeQmp *qmp, const GError *error, gpointer data)
{
    part_plugged(data, FORE_RES_MEM, error);
}

static void fail_all(ForeGrow *grow, const char *reason)
{
    ForeVm *vm = grow->vm;

    for (unsigned r = 0; r < FORE_RES_N && vm->grow == grow; r++) {
        feed_entry(vm, grow->release ? FORE_EVENT_RELEASED : FORE_EVENT_PLUGGED, r, false, reason);
    }
    if (vm->grow == grow) {
        grow_free(grow);
    }
    tell_capacity(vm);
}

static void on_grant_taken(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    ForeVm *vm = data;
    ForeGrow *grow = vm->grow;
    uint64_t base = fore_qmp_truth(vm->qmp)->base_bytes;

    if (grow == NULL) {
        return;
    }
    if (ret == NULL) {
        g_autofree char *why = g_strdup_printf("sea:%s", error->message);
        fail_all(grow, why);
        return;
    }
    vm->grant_taken = true;
    grow->busy = (vm->entry_of[FORE_RES_VCPU] != 0) + (vm->entry_of[FORE_RES_MEM] != 0);
    if (grow->busy == 0) {
        grow_free(grow);
        return;
    }
    if (vm->entry_of[FORE_RES_MEM] != 0) {
        fore_qmp_set_vmem(vm->qmp, grow->plan.mem_bytes > base ? grow->plan.mem_bytes - base : 0,
                          GROW_VMEM_MS, on_mem_plugged, grow);
    }
    if (vm->entry_of[FORE_RES_VCPU] != 0) {
        fore_qmp_plug_vcpus(vm->qmp, grow->plan.vcpus, on_vcpus_plugged, grow);
    }
}

/* The loop gave up an earlier change whose commands still run: it asks again when they have ended.
 */
static void refuse_overlap(ForeVm *vm, ForeEventKind kind)
{
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        feed_entry(vm, kind, r, false, "foreseed:an-earlier-change-is-under-way");
    }
}

static void start_grow(ForeVm *vm, const ForePlan *plan)
{
    ForeGrow *grow;

    if (vm->grow != NULL) {
        refuse_overlap(vm, FORE_EVENT_PLUGGED);
        return;
    }
    grow = g_new0(ForeGrow, 1);
    grow->vm = vm;
    grow->plan = *plan;
    vm->grow = grow;
    vm->requested.vcpus_requested = plan->vcpus;
    vm->requested.mem_requested_bytes = plan->mem_bytes;
    if (vm->grant == NULL) {
        fail_all(grow, "foreseed:no-grant-in-hand");
        return;
    }
    if (vm->grant_plan != plan->id && vm->grant_taken) {
        /* Within totals granted before: the SEA holds that grant already. */
        on_grant_taken(NULL, json_null(), NULL, vm);
        return;
    }
    fore_link_execute(vm->sea, "sea-grant", json_pack("{s:s}", "grant", vm->grant), GRANT_MS,
                      on_grant_taken, vm);
}

/* --- release --- */

static void end_release(ForeGrow *grow, const char *reason)
{
    ForeVm *vm = grow->vm;
    ForePlan plan = grow->plan;
    uint64_t entries[FORE_RES_N];
    ForeCapacity c;

    memcpy(entries, vm->entry_of, sizeof entries);
    fore_vm_capacity(vm, &c);
    grow_free(grow);
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        bool ok = r == FORE_RES_VCPU ? vm->guest.have && c.vcpus_online <= plan.vcpus
                                     : c.mem_plugged_bytes <= plan.mem_bytes;
        if (entries[r] != 0) {
            vm->entry_of[r] = entries[r];
            feed_entry(vm, FORE_EVENT_RELEASED, r, ok, ok ? NULL : reason);
        }
    }
    tell_capacity(vm);
}

static void on_mem_released(ForeQmp *qmp, const GError *error, gpointer data)
{
    ForeGrow *grow = data;
    ForeVm *vm = grow->vm;

    if (vm->guest.have) {
        vm->guest.mem_online_bytes =
            MIN(vm->guest.mem_online_bytes,
                fore_qmp_truth(qmp)->base_bytes + fore_qmp_truth(qmp)->vmem_bytes);
    }
    end_release(grow, error != NULL ? error->message : NULL);
}

static void on_guest_released(ForeWire *wire, const json_t *ret, const GError *error, gpointer data)
{
    ForeVm *vm = data;
    ForeGrow *grow = vm->grow;
    uint64_t base = fore_qmp_truth(vm->qmp)->base_bytes;
    int64_t vcpus = 0;

    if (grow == NULL) {
        return;
    }
    if (ret == NULL) {
        fail_all(grow, error->message);
        return;
    }
    if (fore_json_get_int(ret, "vcpus-online", 1, 4096, &vcpus, NULL)) {
        vm->guest.vcpus_online = (unsigned)vcpus;
        vm->requested.vcpus_requested = grow->plan.vcpus;
    }
    if (vm->entry_of[FORE_RES_MEM] == 0) {
        end_release(grow, "guest:kept-vcpus");
        return;
    }
    fore_qmp_set_vmem(vm->qmp, grow->plan.mem_bytes > base ? grow->plan.mem_bytes - base : 0,
                      SHRINK_VMEM_MS, on_mem_released, grow);
}

static void start_release(ForeVm *vm, const ForePlan *plan)
{
    ForeGrow *grow;

    if (vm->grow != NULL) {
        refuse_overlap(vm, FORE_EVENT_RELEASED);
        return;
    }
    grow = g_new0(ForeGrow, 1);
    grow->vm = vm;
    grow->plan = *plan;
    grow->release = true;
    vm->grow = grow;
    fore_link_execute(vm->sea, "sea-release",
                      json_pack("{s:I,s:I}", "vcpus", (json_int_t)plan->vcpus, "memory-bytes",
                                (json_int_t)plan->mem_bytes),
                      RELEASE_MS, on_guest_released, vm);
}

/* --- attest --- */

static void remember_verdict(ForeVm *vm, const json_t *answer)
{
    if (answer == NULL) {
        return;
    }
    json_decref(vm->verdict);
    vm->verdict = json_deep_copy(answer);
    vm->verdict_ns = (uint64_t)g_get_monotonic_time() * 1000;
}

static void on_attested(ForeVm *vm, const ForeGrantRef *ref, const json_t *answer, gpointer data)
{
    ForeEvent event = {.kind = FORE_EVENT_VERDICT, .verdict = *ref};
    const char *grant = json_string_value(json_object_get(answer, "grant"));

    if (vm == NULL) {
        return; /* removed meanwhile */
    }
    remember_verdict(vm, answer);
    if (ref->affirmed) {
        g_free(vm->grant);
        vm->grant = g_strdup(grant);
        vm->grant_plan = ref->plan_id;
        vm->grant_taken = false;
        fore_reattest_granted(vm, ref);
        fore_agent_emit(vm->agent, vm, "GRANT",
                        json_pack("{s:I,s:I,s:I}", "plan", (json_int_t)ref->plan_id, "vcpus",
                                  (json_int_t)ref->vcpus, "memory-bytes",
                                  (json_int_t)ref->mem_bytes),
                        true);
    }
    fore_agent_emit(vm->agent, vm, "VERDICT",
                    json_pack("{s:I,s:b,s:s}", "plan", (json_int_t)ref->plan_id, "affirmed",
                              (int)ref->affirmed, "reason", ref->reason),
                    true);
    fore_vm_feed(vm, &event);
}

static void start_attest(ForeVm *vm, const ForePlan *plan)
{
    ForeEvent event = {.kind = FORE_EVENT_VERDICT};

    if (fore_agent_pam(vm->agent) == NULL) {
        event.verdict.plan_id = plan->id;
        g_strlcpy(event.verdict.reason, "pam:none-configured", sizeof event.verdict.reason);
        fore_vm_feed(vm, &event);
        return;
    }
    fore_attest_start(vm, plan, on_attested, NULL);
}

/* --- journal and notes --- */

static void journal(ForeVm *vm, const ForeLedgerEntry *entry)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *key = g_strdup_printf("%020" G_GUINT64_FORMAT, entry->id);
    json_t *record = json_pack("{s:I,s:s,s:s,s:s,s:f,s:f,s:I,s:f,s:s}", "id", (json_int_t)entry->id,
                               "vm", entry->vm, "resource", fore_resource_names[entry->resource],
                               "state", fore_ledger_state_names[entry->state], "from", entry->from,
                               "to", entry->to, "plan", (json_int_t)entry->plan_id, "since",
                               (double)g_get_real_time() / G_USEC_PER_SEC, "reason", entry->reason);
    g_autofree char *text = fore_json_dump_line(record);

    if (entry->state < FORE_LEDGER_ONLINE || entry->state == FORE_LEDGER_RELEASING) {
        if (vm->entry_plan != entry->plan_id) {
            memset(vm->entry_of, 0, sizeof vm->entry_of);
            vm->entry_plan = entry->plan_id;
        }
        vm->entry_of[entry->resource] = entry->id;
    }
    if (!fore_store_put(fore_agent_store(vm->agent), "ledger", key, text, &why)) {
        fore_agent_emit(vm->agent, vm, "STORE",
                        json_pack("{s:b,s:s}", "ok", 0, "reason", why->message), false);
    }
    if (entry->id > DISK_ENTRIES && fore_ledger_state_is_final(entry->state)) {
        g_autofree char *old = g_strdup_printf("%020" G_GUINT64_FORMAT, entry->id - DISK_ENTRIES);
        /* By then it is final: a VM has at most one plan open. */
        fore_store_delete(fore_agent_store(vm->agent), "ledger", old, NULL);
    }
    fore_agent_emit(vm->agent, vm, "LEDGER", record, false);
}

static void note(ForeVm *vm, const char *text)
{
    bool denied = g_str_has_prefix(text, "denied");

    fore_agent_emit(vm->agent, vm, denied ? "DENIED" : "NOTE", json_pack("{s:s}", "reason", text),
                    true);
}

void fore_act_run(ForeVm *vm, const ForeActions *actions)
{
    for (unsigned i = 0; i < actions->n; i++) {
        const ForeAction *action = &actions->items[i];
        switch (action->kind) {
        case FORE_ACTION_JOURNAL:
            journal(vm, &action->entry);
            break;
        case FORE_ACTION_ATTEST:
            start_attest(vm, &action->plan);
            break;
        case FORE_ACTION_GROW:
            start_grow(vm, &action->plan);
            break;
        case FORE_ACTION_RELEASE:
            start_release(vm, &action->plan);
            break;
        case FORE_ACTION_NOTE:
            note(vm, action->note);
            break;
        }
    }
}

void fore_act_cancel(ForeVm *vm)
{
    fore_attest_forget_vm(vm);
    if (vm->grow != NULL) {
        grow_free(vm->grow);
    }
}
