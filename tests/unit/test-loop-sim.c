/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The loop against a fake host.  First random events on three VMs that share one small ledger,
 * watched by a checker of its own; then the same events again, bit for bit; then bursts of demand
 * with a forecast that sees them coming and without.
 */
#include <math.h>
#include <string.h>

#include "control/fore-loop.h"

#define S       FORE_NS_PER_S
#define MIB     (G_GUINT64_CONSTANT(1) << 20)
#define N_VMS   3
#define N_STEPS 6000
#define BASE    (512 * MIB)

/* --- random events, watched --- */

typedef struct {
    bool pending; /* a GROW or RELEASE was received and not yet answered */
    bool release;
    ForePlan plan;
    uint64_t until_ns; /* the actuator gives up by itself before the loop does */
} Order;

typedef struct {
    char name[8];
    ForeLoop *loop;
    ForePolicy policy;
    ForeCapacity cap; /* the truth */
    Order order;
    bool frozen;
    /* the checker's own notes */
    uint64_t asked_plan, asked_ns; /* the question that is open; 0: none */
    ForePlan asked;
    bool proven; /* an affirmed answer to the open question was delivered in time */
    ForeGrantRef proof;
} Vm;

typedef struct {
    unsigned vm;
    uint64_t now_ns;
    ForeEvent event;
} Record;

typedef struct {
    GRand *rand;
    ForeLedger *ledger;
    Vm vms[N_VMS];
    uint64_t now;
    GArray *records; /* Record */
    GByteArray *log; /* actions, as bytes */
    unsigned grows, releases, attests, denied, journals;
} World;

static void world_vm(World *w, unsigned i)
{
    Vm *vm = &w->vms[i];

    memset(vm, 0, sizeof *vm);
    g_snprintf(vm->name, sizeof vm->name, "vm%u", i);
    fore_policy_init(&vm->policy);
    vm->policy.mode = FORE_MODE_ENFORCE;
    vm->policy.max_vcpus = 5;
    vm->policy.base_mem_bytes = BASE;
    vm->policy.max_mem_bytes = 1536 * MIB;
    vm->policy.shrink_hold_ns = 6 * S;
    vm->policy.relieve_memory = i == 1;
    vm->policy.reattest_threshold[FORE_RES_VCPU] = 0.3;
    vm->cap = (ForeCapacity){1, 1, 1, BASE, BASE, BASE};
    g_assert_true(fore_ledger_set_base(w->ledger, vm->name, 1, BASE, NULL));
    vm->loop = fore_loop_new(vm->name, &vm->policy, w->ledger);
}

static World *world_new(unsigned seed)
{
    World *w = g_new0(World, 1);

    w->rand = g_rand_new_with_seed(seed);
    w->ledger = fore_ledger_new(8, 3072.0 * MIB); /* less than three times the maximum */
    w->now = 50 * S;
    w->records = g_array_new(FALSE, TRUE, sizeof(Record));
    w->log = g_byte_array_new();
    for (unsigned i = 0; i < N_VMS; i++) {
        world_vm(w, i);
    }
    return w;
}

static void world_free(World *w)
{
    for (unsigned i = 0; i < N_VMS; i++) {
        fore_loop_free(w->vms[i].loop);
    }
    fore_ledger_free(w->ledger);
    g_array_unref(w->records);
    g_byte_array_unref(w->log);
    g_rand_free(w->rand);
    g_free(w);
}

static unsigned dice(World *w, unsigned n)
{
    return (unsigned)g_rand_int_range(w->rand, 0, (gint32)n);
}

static void check_grow(World *w, Vm *vm, const ForeEvent *event, const ForePlan *plan)
{
    const ForeGrantRef *p = &vm->proof;

    g_assert_true(vm->proven);
    g_assert_cmpuint(plan->vcpus, <=, p->vcpus);
    g_assert_cmpuint(plan->mem_bytes, <=, p->mem_bytes);
    g_assert_cmpuint(w->now, <=, p->verdict_ns + vm->policy.max_verdict_age_ns);
    g_assert_cmpuint(w->now, <, p->expires_ns);
    g_assert_cmpuint(plan->vcpus, <=, vm->policy.max_vcpus);
    g_assert_cmpint(vm->policy.mode, ==, FORE_MODE_ENFORCE);
    g_assert_false(vm->frozen);
    g_assert_false(vm->order.pending);
    if (plan->reattest) { /* then only by the answer itself */
        g_assert_cmpint(event->kind, ==, FORE_EVENT_VERDICT);
        g_assert_cmpuint(p->verdict_ns, >=, vm->asked_ns);
    }
    w->grows++;
}

static void check_release(World *w, Vm *vm, const ForeEvent *event, const ForePlan *plan)
{
    const ForeUsage *u = &event->usage;

    g_assert_cmpint(event->kind, ==, FORE_EVENT_TICK);
    g_assert_true(u->valid && !u->swapping && !vm->frozen && !vm->order.pending);
    g_assert_true(isfinite(u->demand[0]) && isfinite(u->demand[1]));
    g_assert_cmpfloat(u->demand[0], >=, 0);
    g_assert_cmpuint(w->now - u->mono_ns, <=, vm->policy.max_usage_age_ns);
    g_assert_cmpuint(plan->vcpus, >=, vm->policy.min_vcpus);
    g_assert_cmpuint(plan->mem_bytes, >=, BASE);
    g_assert_cmpfloat(plan->vcpus, >=, MIN(u->demand[FORE_RES_VCPU], vm->policy.max_vcpus) - 0.1);
    w->releases++;
}

static void check_actions(World *w, Vm *vm, const ForeEvent *event, const ForeActions *out)
{
    for (unsigned i = 0; i < out->n; i++) {
        const ForeAction *a = &out->items[i];
        switch (a->kind) {
        case FORE_ACTION_JOURNAL:
            w->journals++;
            g_assert_cmpstr(a->entry.vm, ==, vm->name);
            break;
        case FORE_ACTION_ATTEST:
            g_assert_false(vm->order.pending);
            vm->asked_plan = a->plan.id;
            vm->asked_ns = w->now;
            vm->asked = a->plan;
            vm->proven = false;
            w->attests++;
            break;
        case FORE_ACTION_GROW:
            check_grow(w, vm, event, &a->plan);
            vm->order = (Order){true, false, a->plan, w->now + 14 * S};
            break;
        case FORE_ACTION_RELEASE:
            check_release(w, vm, event, &a->plan);
            vm->order = (Order){true, true, a->plan, w->now + 59 * S};
            break;
        case FORE_ACTION_NOTE:
            w->denied += g_str_has_prefix(a->note, "denied");
            break;
        }
    }
}

static void check_promises(World *w)
{
    double there[FORE_RES_N] = {0};

    for (unsigned i = 0; i < N_VMS; i++) {
        there[FORE_RES_VCPU] += w->vms[i].cap.vcpus_plugged;
        there[FORE_RES_MEM] += (double)w->vms[i].cap.mem_plugged_bytes;
    }
    for (int r = 0; r < FORE_RES_N; r++) {
        g_assert_cmpfloat(fore_ledger_promised(w->ledger, r), <=,
                          fore_ledger_capacity(w->ledger, r) + 1e-3);
        /* Not only the books: what really is plugged fits, and is in the books. */
        g_assert_cmpfloat(there[r], <=, fore_ledger_promised(w->ledger, r) + 1e-3);
    }
}

static void step(World *w, unsigned i, const ForeEvent *event)
{
    Record record;
    ForeActions *out = g_new0(ForeActions, 1);

    memset(&record, 0, sizeof record);
    record.vm = i;
    record.now_ns = w->now;
    record.event = *event;
    g_array_append_val(w->records, record);
    fore_loop_step(w->vms[i].loop, event, w->now, out);
    g_byte_array_append(w->log, (const guint8 *)&out->n, sizeof out->n);
    g_byte_array_append(w->log, (const guint8 *)out->items, (guint)(out->n * sizeof(ForeAction)));
    check_actions(w, &w->vms[i], event, out);
    check_promises(w);
    g_free(out);
}

static void random_forecast(World *w, ForeForecast *f)
{
    f->valid = dice(w, 8) != 0;
    f->demoted = dice(w, 20) == 0;
    f->mono_ns = w->now - dice(w, 8) * S;
    f->step_ns = S;
    for (int h = 0; h < FORE_N_HORIZON; h++) {
        for (int q = 0; q < FORE_N_QUANTILE; q++) {
            for (int r = 0; r < FORE_RES_N; r++) {
                double unit = r == FORE_RES_VCPU ? 1 : 300.0 * MIB;
                f->point[r][h][q] = f->peak[r][h][q] = g_rand_double_range(w->rand, 0, 5) * unit;
            }
        }
    }
    if (dice(w, 30) == 0) {
        f->peak[dice(w, FORE_RES_N)][dice(w, 6)][dice(w, 5)] = dice(w, 2) ? NAN : -1;
    }
}

static void random_tick(World *w, unsigned i)
{
    Vm *vm = &w->vms[i];
    ForeEvent event = {.kind = FORE_EVENT_TICK};
    ForeUsage *u = &event.usage;
    bool busy = (w->now / (40 * S) + i) % 2 == 0; /* long enough quiet for releases */

    u->valid = dice(w, 25) != 0;
    u->mono_ns = w->now - (dice(w, 40) == 0 ? 9 * S : 0);
    u->swapping = dice(w, 60) == 0;
    u->demand[FORE_RES_VCPU] = busy ? g_rand_double_range(w->rand, 0, 6) : 0.4;
    u->demand[FORE_RES_MEM] = (double)MIB * (busy ? g_rand_double_range(w->rand, 50, 1500) : 80);
    if (dice(w, 40) == 0) {
        u->demand[dice(w, FORE_RES_N)] = dice(w, 2) ? NAN : -3;
    }
    u->capacity = vm->cap;
    if (busy) {
        random_forecast(w, &event.forecast);
    }
    step(w, i, &event);
}

static void random_verdict(World *w, unsigned i)
{
    Vm *vm = &w->vms[i];
    ForeEvent event = {.kind = FORE_EVENT_VERDICT};
    ForeGrantRef *v = &event.verdict;

    *v = (ForeGrantRef){.plan_id = vm->asked_plan,
                        .affirmed = dice(w, 4) != 0,
                        .vcpus = vm->asked.vcpus,
                        .mem_bytes = vm->asked.mem_bytes,
                        .verdict_ns = w->now - dice(w, 2) * dice(w, 13) * S,
                        .expires_ns = w->now + dice(w, 60) * S,
                        .reason = "guest:pcr-mismatch"};
    v->vcpus -= dice(w, 12) == 0;
    v->mem_bytes += dice(w, 12) == 0 ? 128 * MIB : 0;
    v->verdict_ns += dice(w, 12) == 0 ? S : 0;
    v->plan_id -= dice(w, 10) == 0;
    if (v->plan_id == vm->asked_plan && vm->asked_plan && v->affirmed &&
        w->now - vm->asked_ns < 10 * S && v->verdict_ns <= w->now) {
        vm->proven = true;
        vm->proof = *v;
    } else if (v->plan_id == vm->asked_plan) {
        vm->proven = false;
    }
    step(w, i, &event);
    if (v->plan_id == vm->asked_plan) {
        vm->asked_plan = 0;
    }
}

/* The actuator does what was ordered, in part, or not, and says so, or not. */
static void random_plant(World *w, unsigned i)
{
    Vm *vm = &w->vms[i];
    ForeEvent event = {.entry_id = vm->order.plan.id, .ok = dice(w, 4) != 0, .reason = "x"};
    ForeCapacity *c = &vm->cap;
    unsigned luck = dice(w, 6);

    if (!vm->order.pending) {
        return;
    }
    if (vm->order.release) {
        event.kind = FORE_EVENT_RELEASED;
        if (luck > 1) {
            c->vcpus_online = MIN(c->vcpus_online, vm->order.plan.vcpus);
            c->vcpus_plugged = luck == 2 ? c->vcpus_plugged : c->vcpus_online;
            c->mem_online_bytes = MIN(c->mem_online_bytes, vm->order.plan.mem_bytes);
            c->mem_plugged_bytes =
                MIN(c->mem_plugged_bytes, c->mem_online_bytes + (luck == 3 ? 64 * MIB : 0));
            c->mem_requested_bytes = c->mem_plugged_bytes;
        }
    } else if (c->vcpus_plugged < vm->order.plan.vcpus ||
               c->mem_plugged_bytes < vm->order.plan.mem_bytes) {
        event.kind = FORE_EVENT_PLUGGED;
        if (luck > 0) {
            c->vcpus_plugged = MAX(c->vcpus_plugged, vm->order.plan.vcpus - (luck == 1));
            c->mem_plugged_bytes = MAX(c->mem_plugged_bytes, vm->order.plan.mem_bytes);
        }
        step(w, i,
             &(ForeEvent){.kind = FORE_EVENT_PLUGGED,
                          .entry_id = event.entry_id,
                          .ok = event.ok,
                          .capacity = *c});
        vm->order.pending = luck > 1;
        return;
    } else {
        event.kind = FORE_EVENT_ONLINE;
        c->vcpus_online = luck == 0 ? c->vcpus_online : c->vcpus_plugged;
        c->mem_online_bytes = luck == 1 ? c->mem_online_bytes : c->mem_plugged_bytes;
    }
    vm->order.pending = false;
    if (luck == 5 && dice(w, 3) == 0) {
        return; /* done, and the answer got lost */
    }
    if (dice(w, 10) != 0) {
        event.capacity = *c;
    } else {
        event.ok = false; /* an actuator that cannot look does not say yes */
    }
    step(w, i, &event);
}

static void random_rest(World *w, unsigned i)
{
    Vm *vm = &w->vms[i];
    ForeEvent event = {0};

    switch (dice(w, 5)) {
    case 0:
        event.kind = FORE_EVENT_FREEZE;
        event.ok = vm->frozen = !vm->frozen && dice(w, 3) == 0;
        break;
    case 1:
        event.kind = FORE_EVENT_CAPACITY;
        event.usage.capacity = vm->cap;
        break;
    case 2:
        event.kind = FORE_EVENT_POLICY;
        vm->policy.mode = dice(w, 4) == 0 ? FORE_MODE_RECOMMEND : FORE_MODE_ENFORCE;
        event.policy = vm->policy;
        break;
    default: /* an answer to something that nobody asked */
        event.kind = FORE_EVENT_PLUGGED + dice(w, 3);
        event.entry_id = dice(w, 1000);
        event.ok = true;
        event.capacity = vm->cap;
        if (vm->order.pending) {
            return;
        }
        break;
    }
    if (event.kind != FORE_EVENT_PLUGGED) {
        vm->proven &=
            event.kind == FORE_EVENT_POLICY || (event.kind == FORE_EVENT_FREEZE && !event.ok);
    }
    step(w, i, &event);
}

static World *run_random(unsigned seed)
{
    World *w = world_new(seed);

    for (unsigned n = 0; n < N_STEPS; n++) {
        unsigned i = dice(w, N_VMS);
        Vm *vm = &w->vms[i];
        w->now += dice(w, 5) ? dice(w, 1000) * 1000000 : 0;
        if (dice(w, 400) == 0) {
            w->now += 20 * S; /* the daemon was stopped for a while */
        }
        if (vm->order.pending && w->now >= vm->order.until_ns) {
            vm->order.pending = false;
        }
        switch (dice(w, 12)) {
        case 0:
        case 1:
        case 2:
            if (vm->asked_plan) {
                random_verdict(w, i);
            }
            break;
        case 3:
        case 4:
        case 5:
            random_plant(w, i);
            break;
        case 6:
            if (dice(w, 6) == 0) {
                random_rest(w, i);
            }
            break;
        default:
            random_tick(w, i);
            break;
        }
    }
    return w;
}

static void test_properties(void)
{
    unsigned grows = 0, releases = 0, denied = 0, attests = 0;

    for (unsigned seed = 1; seed <= 12; seed++) {
        World *w = run_random(seed);
        grows += w->grows;
        releases += w->releases;
        denied += w->denied;
        attests += w->attests;
        world_free(w);
    }
    g_test_message("%u questions, %u growths, %u releases, %u denials", attests, grows, releases,
                   denied);
    g_assert_cmpuint(grows, >, 100); /* the walk did reach what it is about */
    g_assert_cmpuint(releases, >, 50);
    g_assert_cmpuint(denied, >, 100);
}

static void test_replay(void)
{
    World *w = run_random(77);
    World *again = world_new(1);
    g_autofree ForeActions *out = g_new0(ForeActions, 1);

    for (guint n = 0; n < w->records->len; n++) {
        const Record *r = &g_array_index(w->records, Record, n);
        memset(out, 0xa5, sizeof *out); /* what was in the caller's memory does not show */
        fore_loop_step(again->vms[r->vm].loop, &r->event, r->now_ns, out);
        g_byte_array_append(again->log, (const guint8 *)&out->n, sizeof out->n);
        g_byte_array_append(again->log, (const guint8 *)out->items,
                            (guint)(out->n * sizeof(ForeAction)));
    }
    g_assert_cmpuint(w->journals, >, 50);
    g_assert_cmpuint(w->log->len, ==, again->log->len);
    g_assert_true(memcmp(w->log->data, again->log->data, w->log->len) == 0);
    for (int r = 0; r < FORE_RES_N; r++) {
        g_assert_cmpfloat(fore_ledger_promised(w->ledger, r), ==,
                          fore_ledger_promised(again->ledger, r));
    }
    world_free(again);
    world_free(w);
}

/* --- the closed loop --- */

/* Times of the fake plant, in the order of what hot-plug and attestation cost on a real one. */
#define ATTEST_NS (400 * S / 1000)
#define PLUG_NS   (300 * S / 1000)
#define ONLINE_NS (500 * S / 1000)
#define STEP_NS   (100 * S / 1000) /* of the simulation; usage comes each second */
#define N_BURSTS  6
#define PERIOD    45 /* seconds between bursts */
#define BURST     12 /* seconds of a burst */
#define QUIET     0.4
#define LOUD      2.6

typedef struct {
    double lead_s[N_BURSTS]; /* burst starts - capacity is online; negative: late */
    double under_s, slack_vcpu_s;
} Outcome;

static double demand_at(uint64_t ns)
{
    return (ns / S) % PERIOD >= PERIOD - BURST ? LOUD : QUIET;
}

static uint64_t burst_start(unsigned k)
{
    return (k * PERIOD + PERIOD - BURST) * S;
}

/* Sees the coming demand with a band of 10 %, as a trained forecaster does. */
static void oracle(uint64_t now, ForeForecast *f)
{
    memset(f, 0, sizeof *f);
    f->valid = true;
    f->mono_ns = now;
    f->step_ns = S;
    for (int h = 0; h < FORE_N_HORIZON; h++) {
        double peak = 0;
        for (unsigned s = 1; s <= fore_horizons[h]; s++) {
            peak = MAX(peak, demand_at(now + s * S));
        }
        for (int q = 0; q < FORE_N_QUANTILE; q++) {
            double spread = 1 + 0.1 * (fore_quantiles[q] - 0.5);
            f->point[FORE_RES_VCPU][h][q] = demand_at(now + fore_horizons[h] * S) * spread;
            f->peak[FORE_RES_VCPU][h][q] = peak * spread;
            f->point[FORE_RES_MEM][h][q] = f->peak[FORE_RES_MEM][h][q] = 100.0 * MIB;
        }
    }
}

typedef struct {
    ForeLoop *loop;
    ForeCapacity cap;
    ForePlan plan;
    ForeEventKind next; /* what the plant does when due */
    uint64_t due_ns;    /* 0: idle */
} Plant;

static void plant_take(Plant *p, const ForeActions *out, uint64_t now)
{
    for (unsigned i = 0; i < out->n; i++) {
        const ForeAction *a = &out->items[i];
        if (a->kind != FORE_ACTION_JOURNAL && a->kind != FORE_ACTION_NOTE) {
            g_assert_cmpuint(p->due_ns, ==, 0);
            p->plan = a->plan;
            p->next = a->kind == FORE_ACTION_ATTEST ? FORE_EVENT_VERDICT
                      : a->kind == FORE_ACTION_GROW ? FORE_EVENT_PLUGGED
                                                    : FORE_EVENT_RELEASED;
            p->due_ns = now + (p->next == FORE_EVENT_VERDICT ? ATTEST_NS : PLUG_NS);
        }
    }
}

static void plant_run(Plant *p, uint64_t now)
{
    g_autofree ForeActions *out = g_new0(ForeActions, 1);
    ForeEvent event = {.kind = p->next, .entry_id = p->plan.id, .ok = true};

    if (p->due_ns == 0 || now < p->due_ns) {
        return;
    }
    p->due_ns = 0;
    event.verdict = (ForeGrantRef){.plan_id = p->plan.id,
                                   .affirmed = true,
                                   .vcpus = p->plan.vcpus,
                                   .mem_bytes = p->plan.mem_bytes,
                                   .verdict_ns = now,
                                   .expires_ns = now + 60 * S};
    if (p->next == FORE_EVENT_PLUGGED || p->next == FORE_EVENT_RELEASED) {
        p->cap.vcpus_requested = p->cap.vcpus_plugged = p->plan.vcpus;
    }
    if (p->next == FORE_EVENT_ONLINE || p->next == FORE_EVENT_RELEASED) {
        p->cap.vcpus_online = p->plan.vcpus;
    }
    if (p->next == FORE_EVENT_PLUGGED) {
        p->next = FORE_EVENT_ONLINE;
        p->due_ns = now + ONLINE_NS;
    }
    event.capacity = p->cap;
    fore_loop_step(p->loop, &event, now, out);
    plant_take(p, out, now);
}

static void simulate(ForeForecasterKind kind, Outcome *ret)
{
    ForePolicy policy;
    g_autoptr(ForeLedger) ledger = fore_ledger_new(8, 4096.0 * MIB);
    g_autoptr(ForeLoop) loop = NULL;
    g_autofree ForeActions *out = g_new0(ForeActions, 1);
    Plant p = {.cap = {1, 1, 1, BASE, BASE, BASE}};

    fore_policy_init(&policy);
    policy.mode = FORE_MODE_ENFORCE;
    policy.forecaster = kind;
    policy.max_vcpus = 4;
    policy.base_mem_bytes = BASE;
    policy.shrink_hold_ns = 5 * S;
    g_assert_true(fore_ledger_set_base(ledger, "vm", 1, BASE, NULL));
    p.loop = loop = fore_loop_new("vm", &policy, ledger);
    memset(ret, 0, sizeof *ret);
    for (unsigned k = 0; k < N_BURSTS; k++) {
        ret->lead_s[k] = -BURST; /* never */
    }
    for (uint64_t now = STEP_NS; now < N_BURSTS * PERIOD * S; now += STEP_NS) {
        double demand = demand_at(now);
        unsigned k = (unsigned)(now / (PERIOD * S)), before = p.cap.vcpus_online;
        plant_run(&p, now);
        if (now % S == 0) {
            ForeEvent event = {.kind = FORE_EVENT_TICK};
            event.usage = (ForeUsage){.valid = true,
                                      .mono_ns = now,
                                      .demand = {demand_at(now - STEP_NS), 100.0 * MIB},
                                      .capacity = p.cap};
            oracle(now, &event.forecast);
            fore_loop_step(loop, &event, now, out);
            plant_take(&p, out, now);
        }
        if (before < LOUD && p.cap.vcpus_online >= LOUD) {
            ret->lead_s[k] = ((double)burst_start(k) - (double)now) / S;
        }
        ret->under_s += demand > p.cap.vcpus_online ? (double)STEP_NS / S : 0;
        ret->slack_vcpu_s += MAX(p.cap.vcpus_online - demand, 0) * STEP_NS / S;
    }
}

static void test_closed_loop(void)
{
    Outcome led, reactive;

    simulate(FORE_FORECASTER_LSTM, &led);
    simulate(FORE_FORECASTER_REACTIVE, &reactive);
    for (unsigned k = 0; k < N_BURSTS; k++) {
        g_test_message("burst %u: online %.1f s before demand, reactive %.1f s", k, led.lead_s[k],
                       reactive.lead_s[k]);
        g_assert_cmpfloat(led.lead_s[k], >, 0);
        g_assert_cmpfloat(reactive.lead_s[k], <, 0);
    }
    g_test_message("under-provisioned %.1f s, reactive %.1f s; slack %.0f and %.0f vCPU s",
                   led.under_s, reactive.under_s, led.slack_vcpu_s, reactive.slack_vcpu_s);
    g_assert_cmpfloat(led.under_s, ==, 0);
    g_assert_cmpfloat(reactive.under_s, >, N_BURSTS);
    g_assert_cmpfloat(led.slack_vcpu_s, <, 1.3 * reactive.slack_vcpu_s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/control/loop/random-events-break-no-promise", test_properties);
    g_test_add_func("/control/loop/replay-is-bit-identical", test_replay);
    g_test_add_func("/control/loop/forecast-is-online-before-the-burst-reactive-after",
                    test_closed_loop);
    return g_test_run();
}
