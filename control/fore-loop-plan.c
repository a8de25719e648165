/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  A VM has at most one plan at a time.  A growth of one or both resources shares the
 * plan, its question to the PAM and its grant:
 *
 *   ATTEST -> (VERDICT) -> PLUG -> (PLUGGED) -> ONLINE -> (ONLINE) -> none
 *   RELEASE -> (RELEASED) -> none
 *
 * Every phase has a deadline; one that passes fails the entries and, where QEMU had been told,
 * leaves them charged until capacity is re-read.  What was reached is judged per entry by the
 * capacity that came with the event, not by its ok flag: ok is believed only where no capacity
 * came.
 */
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "control/fore-loop-private.h"

#define VERDICT_DEADLINE_NS (10 * FORE_NS_PER_S)
#define PLUG_DEADLINE_NS    (15 * FORE_NS_PER_S)
#define ONLINE_DEADLINE_NS  (30 * FORE_NS_PER_S)
#define RELEASE_DEADLINE_NS (60 * FORE_NS_PER_S)
#define BACKOFF_MIN_NS      (5 * FORE_NS_PER_S)
#define BACKOFF_MAX_NS      (300 * FORE_NS_PER_S)
#define MIB                 (1024.0 * 1024)

const char *const fore_plan_phase_names[] = {"nothing", "the verdict", "the plug", "the guest",
                                             "the release"};
G_STATIC_ASSERT(G_N_ELEMENTS(fore_plan_phase_names) == FORE_PLAN_N);

static ForeAction *push(ForeActions *out, ForeActionKind kind)
{
    ForeAction *action;

    g_assert(out->n < FORE_ACTIONS_MAX); /* at most 2 entries x 2 states, 2 plans and 4 notes */
    action = &out->items[out->n++];
    memset(action, 0, sizeof *action); /* padding too: actions are compared as bytes */
    action->kind = kind;
    return action;
}

void fore_plan_note(ForeActions *out, const char *format, ...)
{
    char *note = push(out, FORE_ACTION_NOTE)->note;
    va_list args;

    va_start(args, format);
    g_vsnprintf(note, sizeof out->items[0].note, format, args);
    va_end(args);
    for (char *c = note; *c; c++) { /* reasons come from peers: keep terminals safe */
        *c = g_ascii_isprint(*c) ? *c : '?';
    }
}

static void push_journal(ForeActions *out, const ForeLedgerEntry *entry)
{
    push(out, FORE_ACTION_JOURNAL)->entry = *entry;
}

static void push_plan(ForeActions *out, ForeActionKind kind, const ForePlan *plan)
{
    ForeAction *action = push(out, kind);

    action->plan.id = plan->id;
    action->plan.vcpus = plan->vcpus;
    action->plan.mem_bytes = plan->mem_bytes;
    action->plan.reattest = plan->reattest;
}

static void describe_amount(ForeResource resource, double amount, char *ret, size_t size)
{
    if (resource == FORE_RES_VCPU) {
        g_snprintf(ret, size, "%.0f", amount);
    } else {
        g_snprintf(ret, size, "%.0f MiB", amount / MIB);
    }
}

void fore_plan_describe(const double from[FORE_RES_N], const double to[FORE_RES_N], char *ret,
                        size_t size)
{
    char a[32], b[32], part[96];

    ret[0] = 0;
    for (int r = 0; r < FORE_RES_N; r++) {
        if (from[r] == to[r]) {
            continue;
        }
        describe_amount(r, from[r], a, sizeof a);
        describe_amount(r, to[r], b, sizeof b);
        g_snprintf(part, sizeof part, "%s%s %s -> %s", ret[0] ? ", " : "", fore_resource_names[r],
                   a, b);
        g_strlcat(ret, part, size);
    }
}

double fore_plan_online(const ForeCapacity *capacity, ForeResource resource)
{
    return resource == FORE_RES_VCPU ? capacity->vcpus_online : (double)capacity->mem_online_bytes;
}

static double plugged(const ForeCapacity *capacity, ForeResource resource)
{
    return resource == FORE_RES_VCPU ? capacity->vcpus_plugged
                                     : (double)capacity->mem_plugged_bytes;
}

/* A request for memory stands in QEMU until it is met or changed; one for vCPUs does not. */
double fore_plan_charge(const ForeCapacity *capacity, ForeResource resource)
{
    double there = MAX(plugged(capacity, resource), fore_plan_online(capacity, resource));

    return resource == FORE_RES_VCPU ? there : MAX(there, (double)capacity->mem_requested_bytes);
}

/* What is left after a release: a vCPU is given back once the guest took it offline (QEMU may keep
 * an idle one), memory only once QEMU has it too. */
double fore_plan_left(const ForeCapacity *capacity, ForeResource resource)
{
    double online = fore_plan_online(capacity, resource);

    return resource == FORE_RES_VCPU ? online : MAX(online, plugged(capacity, resource));
}

/* Memory comes in blocks and is counted by the guest: half a step is no difference. */
static double tolerance(ForeResource resource)
{
    return fore_target_unit(resource) / 2;
}

/* Zeros say that QEMU, or the guest, could not be asked. */
static bool has_plugged(const ForeCapacity *capacity)
{
    return capacity->vcpus_plugged >= 1 && capacity->mem_plugged_bytes > 0;
}

static bool has_online(const ForeCapacity *capacity)
{
    return capacity->vcpus_online >= 1 && capacity->mem_online_bytes > 0;
}

static void take_capacity(ForeLoop *loop, const ForeCapacity *capacity)
{
    if (has_plugged(capacity) && has_online(capacity)) {
        loop->capacity = *capacity;
        loop->capacity_known = true;
    }
}

/* The plan's entry of @resource while it is open. */
static bool open_entry(const ForeLoop *loop, ForeResource resource, ForeLedgerEntry *ret)
{
    return loop->entry[resource] && fore_ledger_get(loop->ledger, loop->entry[resource], ret) &&
           !fore_ledger_state_is_final(ret->state);
}

static void back_off(ForeBackoff *backoff, uint64_t now_ns)
{
    uint64_t wait = BACKOFF_MIN_NS;

    for (unsigned i = 0; i < backoff->failures && wait < BACKOFF_MAX_NS; i++) {
        wait = MIN(2 * wait, BACKOFF_MAX_NS);
    }
    backoff->failures++;
    backoff->until_ns = now_ns + wait;
}

static void forget_plan(ForeLoop *loop)
{
    memset(&loop->plan, 0, sizeof loop->plan);
    memset(loop->entry, 0, sizeof loop->entry);
    loop->phase = FORE_PLAN_NONE;
    loop->plan_failed = false;
}

static void note_entry(ForeActions *out, const char *code, const ForeLedgerEntry *entry,
                       const char *reason)
{
    char a[32], b[32];

    describe_amount(entry->resource, entry->from, a, sizeof a);
    describe_amount(entry->resource, entry->to, b, sizeof b);
    fore_plan_note(out, "%s: %s %s -> %s: %s", code, fore_resource_names[entry->resource], a, b,
                   reason[0] ? reason : "no reason given");
}

/* End @entry as failed.  @capacity: truth that came with the news, or NULL: effect unknown. */
static void fail_entry(ForeLoop *loop, const ForeLedgerEntry *entry, const ForeCapacity *capacity,
                       const char *reason, ForeActions *out)
{
    ForeLedgerEntry now;
    bool done;

    if (capacity && has_plugged(capacity)) {
        done = fore_ledger_settle(loop->ledger, entry->id, FORE_LEDGER_FAILED, entry->to,
                                  fore_plan_charge(capacity, entry->resource), reason, loop->now_ns,
                                  &now);
    } else {
        done = fore_ledger_move(loop->ledger, entry->id, FORE_LEDGER_FAILED, reason, loop->now_ns,
                                &now);
        loop->truth_after_ns = loop->now_ns;
    }
    if (done) {
        push_journal(out, &now);
        loop->plan_failed = true;
    }
}

/* --- beginning --- */

/* Cut @to down to what the ledger has room for; notes once what does not fit. */
static void fit_room(ForeLoop *loop, const double from[FORE_RES_N], double to[FORE_RES_N],
                     ForeActions *out)
{
    char text[160] = "";
    char want[64], got[64];

    for (int r = 0; r < FORE_RES_N; r++) {
        double room = fore_ledger_room(loop->ledger, loop->vm, r);
        double fit = fore_target_fit(&loop->policy, r, room);
        if (to[r] <= from[r] || to[r] <= room) {
            continue;
        }
        describe_amount(r, to[r], want, sizeof want);
        describe_amount(r, MAX(fit, from[r]), got, sizeof got);
        g_snprintf(text, sizeof text, "no-room: %s: wanted %s, the host's ledger has room for %s",
                   fore_resource_names[r], want, got);
        to[r] = fit > from[r] + tolerance(r) ? fit : from[r];
    }
    if (text[0] && strcmp(text, loop->room) != 0) {
        fore_plan_note(out, "%s", text);
    }
    g_strlcpy(loop->room, text, sizeof loop->room);
}

/* Ledger entries for every resource that changes.  Returns: how many */
static unsigned open_entries(ForeLoop *loop, const double from[FORE_RES_N],
                             const double to[FORE_RES_N], ForeActions *out)
{
    unsigned n = 0;

    loop->plan.id = fore_ledger_next_id(loop->ledger);
    for (int r = 0; r < FORE_RES_N; r++) {
        g_autoptr(GError) error = NULL;
        ForeLedgerEntry entry;
        loop->entry[r] = 0;
        if (from[r] == to[r]) {
            continue;
        }
        if (!fore_ledger_plan(loop->ledger, loop->vm, r, loop->plan.id, from[r], to[r],
                              loop->now_ns, &entry, &error)) {
            fore_plan_note(out, "no-room: %s", error->message);
            continue;
        }
        loop->entry[r] = entry.id;
        n++;
    }
    return n;
}

/* Move every open entry of the plan through @states (in order) and journal the last. */
static void advance(ForeLoop *loop, const ForeLedgerState *states, unsigned n, ForeActions *out)
{
    for (int r = 0; r < FORE_RES_N; r++) {
        ForeLedgerEntry entry;
        bool moved = open_entry(loop, r, &entry);
        for (unsigned i = 0; moved && i < n; i++) {
            moved = fore_ledger_move(loop->ledger, entry.id, states[i], NULL, loop->now_ns, &entry);
        }
        if (moved) {
            push_journal(out, &entry);
        }
    }
}

/* The grant is in hand: on disk first, then to the guest and QEMU. */
static void commit(ForeLoop *loop, ForeActions *out)
{
    static const ForeLedgerState path[] = {FORE_LEDGER_GRANTED, FORE_LEDGER_RESERVED,
                                           FORE_LEDGER_PLUGGING};

    g_assert(
        fore_gate_may_commit(&loop->gate, loop->plan.vcpus, loop->plan.mem_bytes, loop->now_ns));
    advance(loop, path, G_N_ELEMENTS(path), out);
    push_plan(out, FORE_ACTION_GROW, &loop->plan);
    loop->phase = FORE_PLAN_PLUG;
    loop->deadline_ns = loop->now_ns + PLUG_DEADLINE_NS;
}

static void ask(ForeLoop *loop, bool relief, ForeActions *out)
{
    static const ForeLedgerState path[] = {FORE_LEDGER_ATTESTING};

    g_assert(fore_gate_may_ask(&loop->gate, &loop->policy, relief, loop->now_ns));
    fore_gate_ask(&loop->gate, &loop->policy, relief, loop->now_ns);
    advance(loop, path, G_N_ELEMENTS(path), out);
    push_plan(out, FORE_ACTION_ATTEST, &loop->plan);
    loop->phase = FORE_PLAN_ATTEST;
    loop->deadline_ns = loop->now_ns + VERDICT_DEADLINE_NS;
}

static void say(ForeLoop *loop, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void say(ForeLoop *loop, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_vsnprintf(loop->explain.verdict, sizeof loop->explain.verdict, format, args);
    va_end(args);
}

void fore_plan_grow(ForeLoop *loop, const double from[FORE_RES_N], const double wanted[FORE_RES_N],
                    bool reattest, ForeActions *out)
{
    double to[FORE_RES_N] = {wanted[FORE_RES_VCPU], wanted[FORE_RES_MEM]};
    bool relief = loop->policy.relieve_memory && !loop->must_hold && loop->swapping &&
                  to[FORE_RES_MEM] > from[FORE_RES_MEM];
    char text[128];

    if (!fore_gate_may_ask(&loop->gate, &loop->policy, relief, loop->now_ns)) {
        say(loop, "hold: the last growth was denied (%.80s); asking again in %.0f s",
            loop->gate.reason, (double)(loop->gate.until_ns - loop->now_ns) / FORE_NS_PER_S);
        return;
    }
    if (loop->gate.state == FORE_GATE_HELD && loop->now_ns < loop->gate.until_ns) {
        to[FORE_RES_VCPU] = from[FORE_RES_VCPU]; /* relief is for memory alone */
    }
    fit_room(loop, from, to, out);
    fore_plan_describe(from, to, text, sizeof text);
    if (!text[0] || open_entries(loop, from, to, out) == 0) {
        say(loop, "hold: the host has no room to grow this VM");
        forget_plan(loop);
        return;
    }
    loop->plan.vcpus = (unsigned)(to[FORE_RES_VCPU] + 0.5);
    loop->plan.mem_bytes =
        (uint64_t)(to[FORE_RES_MEM] > from[FORE_RES_MEM]
                       ? to[FORE_RES_MEM]
                       : fore_target_fit(&loop->policy, FORE_RES_MEM, from[FORE_RES_MEM]));
    loop->plan.reattest = reattest;
    loop->plan_failed = false;
    loop->asked_ns = loop->now_ns;
    if (!reattest &&
        fore_gate_may_commit(&loop->gate, loop->plan.vcpus, loop->plan.mem_bytes, loop->now_ns)) {
        commit(loop, out);
        say(loop, "grow %s within the grant in hand", text);
    } else {
        ask(loop, relief, out);
        say(loop, "grow %s: asking for proof%s", text,
            reattest ? " anew, the adjustment passed its threshold" : "");
    }
}

void fore_plan_release(ForeLoop *loop, const double from[FORE_RES_N], const double to[FORE_RES_N],
                       ForeActions *out)
{
    static const ForeLedgerState path[] = {FORE_LEDGER_RELEASING};
    char text[128];

    fore_plan_describe(from, to, text, sizeof text);
    if (open_entries(loop, from, to, out) == 0) {
        forget_plan(loop);
        say(loop, "hold: an earlier change is still open in the ledger");
        return;
    }
    loop->plan.vcpus = (unsigned)(to[FORE_RES_VCPU] + 0.5);
    loop->plan.mem_bytes = (uint64_t)to[FORE_RES_MEM];
    loop->plan.reattest = false;
    loop->plan_failed = false;
    loop->asked_ns = loop->now_ns;
    advance(loop, path, G_N_ELEMENTS(path), out);
    push_plan(out, FORE_ACTION_RELEASE, &loop->plan);
    loop->phase = FORE_PLAN_RELEASE;
    loop->deadline_ns = loop->now_ns + RELEASE_DEADLINE_NS;
    fore_gate_shrink(&loop->gate, loop->plan.vcpus, loop->plan.mem_bytes);
    say(loop, "release %s: demand stayed below for %.0f s", text,
        (double)loop->policy.shrink_hold_ns / FORE_NS_PER_S);
}

/* --- the verdict --- */

static void describe_plan(const ForeLoop *loop, char *ret, size_t size)
{
    double from[FORE_RES_N] = {0}, to[FORE_RES_N] = {0};
    ForeLedgerEntry entry;

    for (int r = 0; r < FORE_RES_N; r++) {
        if (loop->entry[r] && fore_ledger_get(loop->ledger, loop->entry[r], &entry)) {
            from[r] = entry.from;
            to[r] = entry.to;
        }
    }
    fore_plan_describe(from, to, ret, size);
}

static void fail_all(ForeLoop *loop, const char *reason, ForeActions *out)
{
    for (int r = 0; r < FORE_RES_N; r++) {
        ForeLedgerEntry entry;
        if (open_entry(loop, r, &entry)) {
            fail_entry(loop, &entry, NULL, reason, out);
        }
    }
}

/* The gate said no: nothing shrinks, nothing grows, the operator is told. */
static void deny(ForeLoop *loop, ForeActions *out)
{
    char text[96];

    describe_plan(loop, text, sizeof text);
    fail_all(loop, loop->gate.reason, out);
    fore_plan_note(out, "denied: %.70s; wanted %.50s", loop->gate.reason, text);
    say(loop, "denied: %.80s; what is online stays", loop->gate.reason);
    forget_plan(loop);
}

void fore_plan_on_verdict(ForeLoop *loop, const ForeGrantRef *verdict, ForeActions *out)
{
    if (loop->phase != FORE_PLAN_ATTEST || verdict->plan_id != loop->plan.id) {
        fore_plan_note(out, "late: verdict for plan %" G_GUINT64_FORMAT " opens nothing",
                       verdict->plan_id);
        return;
    }
    if (fore_gate_answer(&loop->gate, &loop->policy, &loop->plan, verdict, loop->now_ns)) {
        commit(loop, out);
    } else {
        deny(loop, out);
    }
}

void fore_plan_cancel(ForeLoop *loop, const char *reason, ForeActions *out)
{
    if (loop->phase == FORE_PLAN_ATTEST) {
        fail_all(loop, reason, out);
        fore_gate_reset(&loop->gate);
        forget_plan(loop);
    }
}

/* --- results --- */

static void learn_lead(ForeLoop *loop)
{
    loop->leads_s[loop->leads_head] = (double)(loop->now_ns - loop->asked_ns) / FORE_NS_PER_S;
    loop->leads_head = (loop->leads_head + 1) % FORE_LOOP_LEADS;
    loop->leads_n = MIN(loop->leads_n + 1, FORE_LOOP_LEADS);
}

/* After some entry moved: which phase is it now, and is the plan over? */
static void conclude(ForeLoop *loop)
{
    bool plugging = false, open = false, release = loop->phase == FORE_PLAN_RELEASE;
    ForeBackoff *backoff = release ? &loop->release_backoff : &loop->grow_backoff;

    for (int r = 0; r < FORE_RES_N; r++) {
        ForeLedgerEntry entry;
        if (open_entry(loop, r, &entry)) {
            open = true;
            plugging |= entry.state == FORE_LEDGER_PLUGGING;
        }
    }
    if (open) {
        if (loop->phase == FORE_PLAN_PLUG && !plugging) {
            loop->phase = FORE_PLAN_ONLINE;
            loop->deadline_ns = loop->now_ns + ONLINE_DEADLINE_NS;
        }
        return;
    }
    if (loop->plan_failed) {
        back_off(backoff, loop->now_ns);
    } else {
        *backoff = (ForeBackoff){0};
        if (!release) {
            learn_lead(loop);
        }
    }
    forget_plan(loop);
}

/* Is @entry meant?  Events name the plan (all its entries) or one entry. */
static bool is_meant(const ForeLoop *loop, const ForeEvent *event, const ForeLedgerEntry *entry)
{
    return event->entry_id == loop->plan.id || event->entry_id == entry->id;
}

static const char *why(const ForeEvent *event, const char *otherwise)
{
    return event->reason[0] ? event->reason : otherwise;
}

void fore_plan_on_plugged(ForeLoop *loop, const ForeEvent *event, ForeActions *out)
{
    bool known = has_plugged(&event->capacity);

    if (loop->phase != FORE_PLAN_PLUG) {
        return;
    }
    take_capacity(loop, &event->capacity);
    for (int r = 0; r < FORE_RES_N; r++) {
        ForeLedgerEntry entry;
        if (!open_entry(loop, r, &entry) || entry.state != FORE_LEDGER_PLUGGING ||
            !is_meant(loop, event, &entry)) {
            continue;
        }
        if (known ? plugged(&event->capacity, r) >= entry.to - tolerance(r) : event->ok) {
            fore_ledger_move(loop->ledger, entry.id, FORE_LEDGER_PLUGGED, NULL, loop->now_ns, NULL);
            fore_ledger_move(loop->ledger, entry.id, FORE_LEDGER_ONLINING, NULL, loop->now_ns,
                             &entry);
            push_journal(out, &entry);
        } else {
            const char *reason = why(event, "QEMU has less than was asked for");
            fail_entry(loop, &entry, &event->capacity, reason, out);
            note_entry(out, "failed", &entry, reason);
        }
    }
    conclude(loop);
}

static void settle_online(ForeLoop *loop, const ForeLedgerEntry *entry, double charge,
                          ForeActions *out)
{
    ForeLedgerEntry now;

    if (fore_ledger_settle(loop->ledger, entry->id, FORE_LEDGER_ONLINE, entry->to, charge, NULL,
                           loop->now_ns, &now)) {
        push_journal(out, &now);
        loop->grown_ns[entry->resource] = loop->now_ns;
    }
}

void fore_plan_on_online(ForeLoop *loop, const ForeEvent *event, ForeActions *out)
{
    bool known = has_online(&event->capacity);

    if (loop->phase != FORE_PLAN_PLUG && loop->phase != FORE_PLAN_ONLINE) {
        return;
    }
    take_capacity(loop, &event->capacity);
    for (int r = 0; r < FORE_RES_N; r++) {
        ForeLedgerEntry entry;
        if (!open_entry(loop, r, &entry) || !is_meant(loop, event, &entry)) {
            continue;
        }
        if (known ? fore_plan_online(&event->capacity, r) >= entry.to - tolerance(r) : event->ok) {
            settle_online(loop, &entry,
                          has_plugged(&event->capacity) ? fore_plan_charge(&event->capacity, r)
                                                        : entry.to,
                          out);
        } else {
            const char *reason = why(event, "the guest brought less online than was plugged");
            fail_entry(loop, &entry, &event->capacity, reason, out);
            note_entry(out, "failed", &entry, reason);
        }
    }
    conclude(loop);
}

/* One entry of a release: all, some or nothing came back. */
static void settle_release(ForeLoop *loop, const ForeEvent *event, const ForeLedgerEntry *entry,
                           ForeActions *out)
{
    const ForeCapacity *capacity = &event->capacity;
    ForeResource r = entry->resource;
    bool known = r == FORE_RES_VCPU ? has_online(capacity) : has_plugged(capacity);
    double left = known ? fore_plan_left(capacity, r) : event->ok ? entry->to : entry->from;
    double charge = has_plugged(capacity) ? fore_plan_charge(capacity, r) : left;
    bool all = left <= entry->to + tolerance(r);
    const char *reason = why(event, "the guest needs the rest");
    ForeLedgerEntry now;

    if (!all && left > entry->from - MIN(tolerance(r), MIB)) {
        fail_entry(loop, entry, capacity, reason, out);
        note_entry(out, "failed", entry, reason);
        return;
    }
    if (fore_ledger_settle(loop->ledger, entry->id, FORE_LEDGER_RELEASED, left, charge,
                           all ? NULL : reason, loop->now_ns, &now)) {
        push_journal(out, &now);
    }
    if (!all) {
        note_entry(out, "partial", &now, reason);
        loop->plan_failed = true;
    }
}

void fore_plan_on_released(ForeLoop *loop, const ForeEvent *event, ForeActions *out)
{
    if (loop->phase != FORE_PLAN_RELEASE) {
        return;
    }
    take_capacity(loop, &event->capacity);
    for (int r = 0; r < FORE_RES_N; r++) {
        ForeLedgerEntry entry;
        if (open_entry(loop, r, &entry) && is_meant(loop, event, &entry)) {
            settle_release(loop, event, &entry, out);
        }
    }
    conclude(loop);
}

/* --- time and truth --- */

/* The ledger no longer knows the plan: its VM ended and was taken off.  Nobody is owed anything. */
static bool is_orphaned(const ForeLoop *loop)
{
    ForeLedgerEntry entry;

    for (int r = 0; r < FORE_RES_N; r++) {
        if (open_entry(loop, r, &entry)) {
            return false;
        }
    }
    return loop->phase != FORE_PLAN_NONE;
}

void fore_plan_on_time(ForeLoop *loop, ForeActions *out)
{
    static const char *const reasons[FORE_PLAN_N] = {
        [FORE_PLAN_ATTEST] = "no verdict within 10 s",
        [FORE_PLAN_PLUG] = "QEMU did not answer within 15 s",
        [FORE_PLAN_ONLINE] = "not online in the guest within 30 s",
        [FORE_PLAN_RELEASE] = "not given back within 60 s",
    };

    if (is_orphaned(loop)) {
        fore_gate_reset(&loop->gate);
        forget_plan(loop);
    }
    if (loop->phase == FORE_PLAN_NONE || loop->now_ns < loop->deadline_ns) {
        return;
    }
    if (loop->phase == FORE_PLAN_ATTEST) {
        fore_gate_late(&loop->gate, &loop->policy, loop->now_ns);
        deny(loop, out);
        return;
    }
    for (int r = 0; r < FORE_RES_N; r++) {
        ForeLedgerEntry entry;
        if (open_entry(loop, r, &entry)) {
            fail_entry(loop, &entry, NULL, reasons[loop->phase], out);
            note_entry(out, "failed", &entry, reasons[loop->phase]);
        }
    }
    conclude(loop);
}

void fore_plan_on_truth(ForeLoop *loop, ForeActions *out)
{
    ForeLedgerEntry entry;

    if (loop->phase != FORE_PLAN_PLUG && loop->phase != FORE_PLAN_ONLINE) {
        return;
    }
    for (int r = 0; r < FORE_RES_N; r++) {
        if (open_entry(loop, r, &entry) &&
            fore_plan_online(&loop->capacity, r) < entry.to - tolerance(r)) {
            return;
        }
    }
    for (int r = 0; r < FORE_RES_N; r++) {
        if (open_entry(loop, r, &entry)) {
            settle_online(loop, &entry, fore_plan_charge(&loop->capacity, r), out);
        }
    }
    conclude(loop);
}

/*
 * An entry that nobody here waits for (from before a restart) ends by what is there.  Those of a
 * plan that was sent stay open: the actuator is still at it and will answer, or the deadline will;
 * to free their room now would promise twice what may yet be plugged.
 */
static void resync_entry(ForeLoop *loop, const ForeLedgerEntry *entry, ForeActions *out)
{
    ForeResource r = entry->resource;
    bool growth = entry->to > entry->from;
    double charge = fore_plan_charge(&loop->capacity, r);
    bool there = growth ? fore_plan_online(&loop->capacity, r) >= entry->to - tolerance(r)
                        : fore_plan_left(&loop->capacity, r) <= entry->to + tolerance(r);
    ForeLedgerState end = !there   ? FORE_LEDGER_FAILED
                          : growth ? FORE_LEDGER_ONLINE
                                   : FORE_LEDGER_RELEASED;
    const char *reason = there ? "found done" : "found undone";
    ForeLedgerEntry now;

    if (entry->state < FORE_LEDGER_PLUGGING) { /* never sent: what is there has another cause */
        end = FORE_LEDGER_FAILED;
        reason = "never sent";
    }
    if (fore_ledger_settle(loop->ledger, entry->id, end, entry->to, charge, reason, loop->now_ns,
                           &now)) {
        push_journal(out, &now);
        note_entry(out, end == FORE_LEDGER_FAILED ? "rolled-back" : "adopted", entry, reason);
    }
}

void fore_plan_resync(ForeLoop *loop, ForeActions *out)
{
    g_autoptr(GArray) open = fore_ledger_list(loop->ledger, loop->vm, 0);

    fore_plan_cancel(loop, "reconnected: what was proved before is void", out);
    for (guint i = 0; i < open->len; i++) {
        const ForeLedgerEntry *entry = &g_array_index(open, ForeLedgerEntry, i);
        if (loop->phase == FORE_PLAN_NONE || entry->plan_id != loop->plan.id) {
            resync_entry(loop, entry, out);
        }
    }
    for (int r = 0; r < FORE_RES_N; r++) {
        fore_ledger_sync(loop->ledger, loop->vm, r, fore_plan_charge(&loop->capacity, r));
    }
    fore_gate_reset(&loop->gate);
    fore_plan_on_truth(loop, out);
}
