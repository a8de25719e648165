/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Each VM has, per resource, `held`: what it is known to have.  At most one entry
 * per VM and resource is open.  The charge of a VM is held, or an open growth's `to` when that is
 * more; the promise is the sum of charges, and plan() refuses what would take it past capacity.  So
 * a promise falls only on evidence: a release that was confirmed, or truth re-read from QEMU and
 * guest.  A growth that fails after QEMU was told is charged in full until that truth comes, for
 * its effect is unknown.
 *
 * VMs and entries are arrays in order of arrival, so that sums (and thereby replays) are
 * bit-identical. A host has some hundreds of VMs: linear search is what is meant.
 */
#include "control/fore-ledger.h"

#include <math.h>
#include <string.h>

#include "common/fore-error.h"

#define MAX_FINAL 512 /* final entries kept in memory */
#define MAX_TOTAL                                                                                  \
    ((double)(G_GUINT64_CONSTANT(1) << 50)) /* 1 PiB, or as many vCPUs: absurd above */
#define EPSILON 1e-6

const char *const fore_ledger_state_names[] = {
    "planned",  "attesting", "granted",   "reserved", "plugging", "plugged",
    "onlining", "online",    "releasing", "released", "failed",
};
G_STATIC_ASSERT(G_N_ELEMENTS(fore_ledger_state_names) == FORE_LEDGER_N);

#define TO(state) (1u << FORE_LEDGER_##state)
static const unsigned transitions[FORE_LEDGER_N] = {
    [FORE_LEDGER_PLANNED] = TO(ATTESTING) | TO(GRANTED) | TO(RELEASING) | TO(FAILED),
    [FORE_LEDGER_ATTESTING] = TO(GRANTED) | TO(FAILED),
    [FORE_LEDGER_GRANTED] = TO(RESERVED) | TO(FAILED),
    [FORE_LEDGER_RESERVED] = TO(PLUGGING) | TO(FAILED),
    [FORE_LEDGER_PLUGGING] = TO(PLUGGED) | TO(FAILED),
    [FORE_LEDGER_PLUGGED] = TO(ONLINING) | TO(FAILED),
    [FORE_LEDGER_ONLINING] = TO(ONLINE) | TO(FAILED),
    [FORE_LEDGER_RELEASING] = TO(RELEASED) | TO(FAILED),
    /* ONLINE, RELEASED and FAILED are final */
};

typedef struct {
    char name[FORE_NAME_MAX + 1];
    double base[FORE_RES_N], held[FORE_RES_N];
    uint64_t held_id[FORE_RES_N]; /* the entry that says so; 0: base or truth */
} Vm;

struct ForeLedger {
    double capacity[FORE_RES_N];
    GPtrArray *vms;  /* Vm, in order of arrival */
    GArray *entries; /* ForeLedgerEntry, by id */
    uint64_t last_id;
};

ForeLedger *fore_ledger_new(double vcpus, double mem_bytes)
{
    ForeLedger *ledger = g_new0(ForeLedger, 1);

    g_assert(isfinite(vcpus) && vcpus >= 0 && isfinite(mem_bytes) && mem_bytes >= 0);
    ledger->capacity[FORE_RES_VCPU] = vcpus;
    ledger->capacity[FORE_RES_MEM] = mem_bytes;
    ledger->vms = g_ptr_array_new_with_free_func(g_free);
    ledger->entries = g_array_new(FALSE, TRUE, sizeof(ForeLedgerEntry));
    return ledger;
}

void fore_ledger_free(ForeLedger *ledger)
{
    if (!ledger) {
        return;
    }
    g_ptr_array_unref(ledger->vms);
    g_array_unref(ledger->entries);
    g_free(ledger);
}

bool fore_ledger_transition_allowed(ForeLedgerState from, ForeLedgerState to)
{
    g_return_val_if_fail(from < FORE_LEDGER_N && to < FORE_LEDGER_N, false);
    return (transitions[from] >> to) & 1u;
}

bool fore_ledger_state_is_final(ForeLedgerState state)
{
    g_return_val_if_fail(state < FORE_LEDGER_N, true);
    return transitions[state] == 0;
}

static bool is_amount(double value)
{
    return isfinite(value) && value >= 0 && value <= MAX_TOTAL;
}

static bool is_growth(const ForeLedgerEntry *entry)
{
    return entry->to > entry->from;
}

static Vm *find_vm(const ForeLedger *ledger, const char *name)
{
    for (guint i = 0; i < ledger->vms->len; i++) {
        Vm *vm = g_ptr_array_index(ledger->vms, i);
        if (strcmp(vm->name, name) == 0) {
            return vm;
        }
    }
    return NULL;
}

static Vm *add_vm(ForeLedger *ledger, const char *name)
{
    Vm *vm = g_new0(Vm, 1);

    g_strlcpy(vm->name, name, sizeof vm->name);
    g_ptr_array_add(ledger->vms, vm);
    return vm;
}

static ForeLedgerEntry *find_entry(const ForeLedger *ledger, uint64_t id)
{
    for (guint i = ledger->entries->len; i > 0; i--) {
        ForeLedgerEntry *entry = &g_array_index(ledger->entries, ForeLedgerEntry, i - 1);
        if (entry->id == id) {
            return entry;
        }
    }
    return NULL;
}

static ForeLedgerEntry *find_open(const ForeLedger *ledger, const char *vm, ForeResource resource)
{
    for (guint i = ledger->entries->len; i > 0; i--) {
        ForeLedgerEntry *entry = &g_array_index(ledger->entries, ForeLedgerEntry, i - 1);
        if (entry->resource == resource && !fore_ledger_state_is_final(entry->state) &&
            strcmp(entry->vm, vm) == 0) {
            return entry;
        }
    }
    return NULL;
}

static double charge_of(const ForeLedger *ledger, const Vm *vm, ForeResource resource)
{
    const ForeLedgerEntry *open = find_open(ledger, vm->name, resource);

    return open ? MAX(vm->held[resource], open->to) : vm->held[resource];
}

double fore_ledger_promised(const ForeLedger *ledger, ForeResource resource)
{
    double sum = 0;

    for (guint i = 0; i < ledger->vms->len; i++) {
        sum += charge_of(ledger, g_ptr_array_index(ledger->vms, i), resource);
    }
    return sum;
}

double fore_ledger_capacity(const ForeLedger *ledger, ForeResource resource)
{
    return ledger->capacity[resource];
}

double fore_ledger_charge(const ForeLedger *ledger, const char *name, ForeResource resource)
{
    const Vm *vm = find_vm(ledger, name);

    return vm ? charge_of(ledger, vm, resource) : 0;
}

double fore_ledger_room(const ForeLedger *ledger, const char *name, ForeResource resource)
{
    const Vm *vm = find_vm(ledger, name);

    if (!vm) {
        return 0;
    }
    double own = charge_of(ledger, vm, resource);
    double left = ledger->capacity[resource] - fore_ledger_promised(ledger, resource);
    return MAX(own + left, 0);
}

bool fore_ledger_set_base(ForeLedger *ledger, const char *name, double vcpus, double mem_bytes,
                          GError **error)
{
    const double base[FORE_RES_N] = {[FORE_RES_VCPU] = vcpus, [FORE_RES_MEM] = mem_bytes};
    Vm *vm;

    if (!fore_name_is_valid(name) || !is_amount(vcpus) || !is_amount(mem_bytes)) {
        g_set_error(
            error, FORE_ERROR, FORE_ERROR_INVALID,
            "ledger: VM '%s' with a base of %g vCPUs and %g bytes is not acceptable; give a "
            "valid name and amounts",
            name, vcpus, mem_bytes);
        return false;
    }
    vm = find_vm(ledger, name);
    for (int r = 0; r < FORE_RES_N; r++) {
        double own = vm ? charge_of(ledger, vm, r) : 0;
        double others = fore_ledger_promised(ledger, r) - own;
        if (base[r] > own && others + base[r] > ledger->capacity[r] + EPSILON) {
            g_set_error(
                error, FORE_ERROR, FORE_ERROR_LIMIT,
                "ledger: VM '%s' needs %.15g of %s but %.15g of %.15g are promised to others; "
                "shrink another VM or lower the host's reserve",
                name, base[r], fore_resource_names[r], others, ledger->capacity[r]);
            return false;
        }
    }
    vm = vm ? vm : add_vm(ledger, name);
    for (int r = 0; r < FORE_RES_N; r++) {
        vm->base[r] = base[r];
        vm->held[r] = MAX(vm->held[r], base[r]);
    }
    return true;
}

void fore_ledger_remove_vm(ForeLedger *ledger, const char *name)
{
    Vm *vm = find_vm(ledger, name);

    for (guint i = ledger->entries->len; i > 0; i--) {
        if (strcmp(g_array_index(ledger->entries, ForeLedgerEntry, i - 1).vm, name) == 0) {
            g_array_remove_index(ledger->entries, i - 1);
        }
    }
    if (vm) {
        g_ptr_array_remove(ledger->vms, vm);
    }
}

/* The newest entries matter; forget final ones beyond MAX_FINAL, oldest first. */
static void prune(ForeLedger *ledger)
{
    guint i = 0;

    if (ledger->entries->len < 2 * MAX_FINAL) {
        return;
    }
    while (i < ledger->entries->len && ledger->entries->len > MAX_FINAL) {
        if (fore_ledger_state_is_final(g_array_index(ledger->entries, ForeLedgerEntry, i).state)) {
            g_array_remove_index(ledger->entries, i);
        } else {
            i++;
        }
    }
}

bool fore_ledger_restore(ForeLedger *ledger, const ForeLedgerEntry *entry, GError **error)
{
    guint at = ledger->entries->len;
    Vm *vm;

    if (entry->id == 0 || entry->id >= G_MAXINT64 || entry->plan_id >= G_MAXINT64 ||
        (unsigned)entry->state >= FORE_LEDGER_N || (unsigned)entry->resource >= FORE_RES_N ||
        !memchr(entry->vm, 0, sizeof entry->vm) || !fore_name_is_valid(entry->vm) ||
        !memchr(entry->reason, 0, sizeof entry->reason) || !is_amount(entry->from) ||
        !is_amount(entry->to)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "ledger: entry %" G_GUINT64_FORMAT " on disk is malformed; it is left out",
                    entry->id);
        return false;
    }
    if (find_entry(ledger, entry->id) || (!fore_ledger_state_is_final(entry->state) &&
                                          find_open(ledger, entry->vm, entry->resource))) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_EXISTS,
                    "ledger: entry %" G_GUINT64_FORMAT " of VM '%s' is a second one for %s; it is "
                    "left out",
                    entry->id, entry->vm, fore_resource_names[entry->resource]);
        return false;
    }
    vm = find_vm(ledger, entry->vm);
    vm = vm ? vm : add_vm(ledger, entry->vm);
    if (entry->state == FORE_LEDGER_ONLINE || entry->state == FORE_LEDGER_RELEASED) {
        if (entry->id > vm->held_id[entry->resource]) {
            vm->held_id[entry->resource] = entry->id;
            vm->held[entry->resource] = MAX(entry->to, vm->base[entry->resource]);
        }
    } else if (entry->state == FORE_LEDGER_RELEASING) {
        vm->held[entry->resource] = MAX(vm->held[entry->resource], entry->from);
    }
    while (at > 0 && g_array_index(ledger->entries, ForeLedgerEntry, at - 1).id > entry->id) {
        at--;
    }
    g_array_insert_val(ledger->entries, at, *entry);
    ledger->last_id = MAX(ledger->last_id, MAX(entry->id, entry->plan_id));
    return true;
}

GArray *fore_ledger_list(const ForeLedger *ledger, const char *vm, unsigned n_final)
{
    GArray *list = g_array_new(FALSE, TRUE, sizeof(ForeLedgerEntry));
    unsigned taken = 0;

    for (guint i = ledger->entries->len; i > 0; i--) {
        const ForeLedgerEntry *entry = &g_array_index(ledger->entries, ForeLedgerEntry, i - 1);
        bool final = fore_ledger_state_is_final(entry->state);
        if ((vm && strcmp(entry->vm, vm) != 0) || (final && taken >= n_final)) {
            continue;
        }
        taken += final ? 1 : 0;
        g_array_prepend_val(list, *entry);
    }
    return list;
}

bool fore_ledger_get(const ForeLedger *ledger, uint64_t id, ForeLedgerEntry *ret)
{
    const ForeLedgerEntry *entry = find_entry(ledger, id);

    if (entry && ret) {
        *ret = *entry;
    }
    return entry != NULL;
}

uint64_t fore_ledger_next_id(ForeLedger *ledger)
{
    return ++ledger->last_id;
}

static bool check_plan(ForeLedger *ledger, const char *name, ForeResource resource, double from,
                       double to, GError **error)
{
    const Vm *vm = find_vm(ledger, name);
    const ForeLedgerEntry *open = find_open(ledger, name, resource);

    if (!is_amount(from) || !is_amount(to) || from == to) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_INVALID,
                    "ledger: a change of %s of VM '%s' from %g to %g is none",
                    fore_resource_names[resource], name, from, to);
        return false;
    }
    if (!vm) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_NOT_FOUND,
                    "ledger: no VM named '%s'; tell its base size first", name);
        return false;
    }
    if (open) {
        g_set_error(
            error, FORE_ERROR, FORE_ERROR_EXISTS,
            "ledger: entry %" G_GUINT64_FORMAT " for %s of VM '%s' is still %s; wait for it",
            open->id, fore_resource_names[resource], name, fore_ledger_state_names[open->state]);
        return false;
    }
    if (to > from && to > vm->held[resource] &&
        to > fore_ledger_room(ledger, name, resource) + EPSILON) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_LIMIT,
                    "ledger: %s of VM '%s' may grow to %.15g, not to %.15g: %.15g of %.15g are "
                    "promised; shrink another VM or lower the host's reserve",
                    fore_resource_names[resource], name, fore_ledger_room(ledger, name, resource),
                    to, fore_ledger_promised(ledger, resource), ledger->capacity[resource]);
        return false;
    }
    return true;
}

bool fore_ledger_plan(ForeLedger *ledger, const char *vm, ForeResource resource, uint64_t plan_id,
                      double from, double to, uint64_t now_ns, ForeLedgerEntry *ret, GError **error)
{
    ForeLedgerEntry entry;

    if (!check_plan(ledger, vm, resource, from, to, error)) {
        return false;
    }
    memset(&entry, 0, sizeof entry); /* padding too: entries are compared and replayed as bytes */
    entry.id = fore_ledger_next_id(ledger);
    g_strlcpy(entry.vm, vm, sizeof entry.vm);
    entry.resource = resource;
    entry.state = FORE_LEDGER_PLANNED;
    entry.from = from;
    entry.to = to;
    entry.plan_id = plan_id;
    entry.since_mono_ns = (int64_t)now_ns;
    g_array_append_val(ledger->entries, entry);
    prune(ledger);
    if (ret) {
        *ret = entry;
    }
    return true;
}

/* Take effect of a state just entered on what the VM is known to hold. */
static void apply(ForeLedger *ledger, const ForeLedgerEntry *entry, ForeLedgerState old)
{
    Vm *vm = find_vm(ledger, entry->vm);
    double *held = vm ? &vm->held[entry->resource] : NULL;

    if (!vm) {
        return;
    }
    if (entry->state == FORE_LEDGER_ONLINE || entry->state == FORE_LEDGER_RELEASED) {
        *held = entry->to;
        vm->held_id[entry->resource] = entry->id;
    } else if (entry->state == FORE_LEDGER_FAILED && old >= FORE_LEDGER_PLUGGING &&
               old <= FORE_LEDGER_ONLINING) {
        *held = MAX(*held, entry->to); /* QEMU was told: the effect is unknown */
    }
}

bool fore_ledger_move(ForeLedger *ledger, uint64_t id, ForeLedgerState to, const char *reason,
                      uint64_t now_ns, ForeLedgerEntry *ret)
{
    ForeLedgerEntry *entry = find_entry(ledger, id);

    if (!entry || (unsigned)to >= FORE_LEDGER_N ||
        !fore_ledger_transition_allowed(entry->state, to)) {
        return false;
    }
    /* The table does not know directions: a growth is never RELEASING, a release never attested. */
    if ((to == FORE_LEDGER_RELEASING && is_growth(entry)) ||
        (!is_growth(entry) && (to == FORE_LEDGER_ATTESTING || to == FORE_LEDGER_GRANTED))) {
        return false;
    }
    ForeLedgerState old = entry->state;
    entry->state = to;
    entry->since_mono_ns = (int64_t)now_ns;
    memset(entry->reason, 0, sizeof entry->reason);
    g_strlcpy(entry->reason, reason ? reason : "", sizeof entry->reason);
    apply(ledger, entry, old);
    if (ret) {
        *ret = *entry;
    }
    return true;
}

bool fore_ledger_settle(ForeLedger *ledger, uint64_t id, ForeLedgerState state, double to,
                        double charge, const char *reason, uint64_t now_ns, ForeLedgerEntry *ret)
{
    ForeLedgerEntry *entry = find_entry(ledger, id);
    bool reached = state == FORE_LEDGER_ONLINE || state == FORE_LEDGER_RELEASED;

    if (!entry || fore_ledger_state_is_final(entry->state) || !is_amount(to) ||
        !is_amount(charge) || (!reached && state != FORE_LEDGER_FAILED) ||
        (reached && is_growth(entry) != (state == FORE_LEDGER_ONLINE)) ||
        (reached && entry->state < FORE_LEDGER_PLUGGING)) {
        return false;
    }
    /* On the way to ONLINE the states follow each other: PLUGGING, PLUGGED, ONLINING. */
    while (state == FORE_LEDGER_ONLINE && entry->state < FORE_LEDGER_ONLINING) {
        if (!fore_ledger_move(ledger, id, entry->state + 1, NULL, now_ns, NULL)) {
            return false;
        }
    }
    if (!fore_ledger_move(ledger, id, state, reason, now_ns, NULL)) {
        return false;
    }
    if (reached) {
        entry->to = to;
    }
    fore_ledger_sync(ledger, entry->vm, entry->resource, charge);
    if (ret) {
        *ret = *entry;
    }
    return true;
}

void fore_ledger_sync(ForeLedger *ledger, const char *name, ForeResource resource, double charge)
{
    Vm *vm = find_vm(ledger, name);

    if (vm && is_amount(charge)) {
        vm->held[resource] = charge;
    }
}
