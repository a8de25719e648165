/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The loop of one VM, event by event.  Random sequences and the closed loop are in test-loop-sim.c.
 */
#include <math.h>
#include <string.h>

#include "control/fore-loop.h"

#define S   FORE_NS_PER_S
#define MIB (G_GUINT64_CONSTANT(1) << 20)

typedef struct {
    ForeLedger *ledger;
    ForeLoop *loop;
    ForePolicy policy;
    ForeCapacity cap; /* what QEMU and guest have */
    uint64_t now;
    bool swapping, invalid;
    ForeForecast forecast; /* of the next tick */
    ForeActions out;       /* of the newest event */
    ForeEvent event;
} Rig;

static void rig_init(Rig *rig)
{
    memset(rig, 0, sizeof *rig);
    fore_policy_init(&rig->policy);
    rig->policy.mode = FORE_MODE_ENFORCE;
    rig->policy.max_vcpus = 4;
    rig->policy.base_mem_bytes = 512 * MIB;
    rig->policy.max_mem_bytes = 1536 * MIB;
    rig->policy.shrink_hold_ns = 8 * S;
    rig->policy.utilisation[FORE_RES_VCPU] = rig->policy.utilisation[FORE_RES_MEM] = 1;
    rig->ledger = fore_ledger_new(16, 8192.0 * MIB);
    g_assert_true(fore_ledger_set_base(rig->ledger, "vm", 1, 512.0 * MIB, NULL));
    rig->loop = fore_loop_new("vm", &rig->policy, rig->ledger);
    rig->cap = (ForeCapacity){1, 1, 1, 512 * MIB, 512 * MIB, 512 * MIB};
    rig->now = 1000 * S;
}

static void rig_done(Rig *rig)
{
    fore_loop_free(rig->loop);
    fore_ledger_free(rig->ledger);
}

static void feed(Rig *rig)
{
    fore_loop_step(rig->loop, &rig->event, rig->now, &rig->out);
    memset(&rig->event, 0, sizeof rig->event);
    for (int r = 0; r < FORE_RES_N; r++) {
        g_assert_cmpfloat(fore_ledger_promised(rig->ledger, r), <=,
                          fore_ledger_capacity(rig->ledger, r) + 1);
    }
}

/* One second passes, then a report of this demand (vCPUs, MiB). */
static void tick(Rig *rig, double vcpus, double mib)
{
    ForeUsage *u = &rig->event.usage;

    rig->now += S;
    rig->event.kind = FORE_EVENT_TICK;
    u->mono_ns = rig->now;
    u->valid = !rig->invalid;
    u->swapping = rig->swapping;
    u->demand[FORE_RES_VCPU] = u->used[FORE_RES_VCPU] = vcpus;
    u->demand[FORE_RES_MEM] = u->used[FORE_RES_MEM] = mib * (double)MIB;
    u->capacity = rig->cap;
    rig->event.forecast = rig->forecast;
    feed(rig);
}

static void ticks(Rig *rig, unsigned n, double vcpus, double mib)
{
    while (n-- > 0) {
        tick(rig, vcpus, mib);
        g_assert_cmpuint(rig->out.n, ==, 0);
    }
}

/* A forecast of constant demand, given at the next tick. */
static void predict(Rig *rig, double vcpus, double mib)
{
    rig->forecast.valid = true;
    rig->forecast.demoted = false;
    rig->forecast.mono_ns = rig->now + S;
    rig->forecast.step_ns = S;
    for (int h = 0; h < FORE_N_HORIZON; h++) {
        for (int q = 0; q < FORE_N_QUANTILE; q++) {
            double spread = 0.9 + 0.025 * q;
            rig->forecast.point[FORE_RES_VCPU][h][q] = vcpus * spread;
            rig->forecast.peak[FORE_RES_VCPU][h][q] = vcpus * spread;
            rig->forecast.point[FORE_RES_MEM][h][q] = mib * (double)MIB * spread;
            rig->forecast.peak[FORE_RES_MEM][h][q] = mib * (double)MIB * spread;
        }
    }
}

static const ForeAction *find(const Rig *rig, ForeActionKind kind)
{
    for (unsigned i = 0; i < rig->out.n; i++) {
        if (rig->out.items[i].kind == kind) {
            return &rig->out.items[i];
        }
    }
    return NULL;
}

static void expect_none(const Rig *rig, ForeActionKind kind)
{
    const ForeAction *action = find(rig, kind);

    g_assert_null(action);
}

static const ForePlan *expect(const Rig *rig, ForeActionKind kind)
{
    const ForeAction *action = find(rig, kind);

    g_assert_nonnull(action);
    for (unsigned i = 0; i < rig->out.n; i++) { /* the journal comes before what it is about */
        if (rig->out.items[i].kind == FORE_ACTION_JOURNAL &&
            rig->out.items[i].entry.plan_id == action->plan.id) {
            g_assert_true(&rig->out.items[i] < action);
        }
    }
    return &action->plan;
}

static void expect_note(const Rig *rig, const char *prefix)
{
    for (unsigned i = 0; i < rig->out.n; i++) {
        if (rig->out.items[i].kind == FORE_ACTION_NOTE &&
            g_str_has_prefix(rig->out.items[i].note, prefix)) {
            return;
        }
    }
    g_error("no note '%s'", prefix);
}

static void expect_journal(const Rig *rig, ForeResource resource, ForeLedgerState state)
{
    for (unsigned i = 0; i < rig->out.n; i++) {
        const ForeAction *a = &rig->out.items[i];
        if (a->kind == FORE_ACTION_JOURNAL && a->entry.resource == resource &&
            a->entry.state == state) {
            return;
        }
    }
    g_error("no journal of %s as %s", fore_resource_names[resource],
            fore_ledger_state_names[state]);
}

static void verdict(Rig *rig, ForePlan plan, bool affirmed, const char *reason)
{
    ForeGrantRef *v = &rig->event.verdict;

    rig->event.kind = FORE_EVENT_VERDICT;
    v->plan_id = plan.id;
    v->affirmed = affirmed;
    v->vcpus = plan.vcpus;
    v->mem_bytes = plan.mem_bytes;
    v->verdict_ns = rig->now;
    v->expires_ns = rig->now + 60 * S;
    g_strlcpy(v->reason, reason, sizeof v->reason);
    feed(rig);
}

static void result(Rig *rig, ForeEventKind kind, uint64_t id, bool ok, const char *reason)
{
    rig->event.kind = kind;
    rig->event.entry_id = id;
    rig->event.ok = ok;
    rig->event.capacity = rig->cap;
    g_strlcpy(rig->event.reason, reason, sizeof rig->event.reason);
    feed(rig);
}

static void set_plugged(Rig *rig, unsigned vcpus, uint64_t mib)
{
    rig->cap.vcpus_plugged = rig->cap.vcpus_requested = vcpus;
    rig->cap.mem_plugged_bytes = rig->cap.mem_requested_bytes = mib * MIB;
}

static void set_all(Rig *rig, unsigned vcpus, uint64_t mib)
{
    set_plugged(rig, vcpus, mib);
    rig->cap.vcpus_online = vcpus;
    rig->cap.mem_online_bytes = mib * MIB;
}

/* Demand comes, and the whole way to online goes well. */
static void grow(Rig *rig, double vcpus, double mib)
{
    ForePlan plan;

    tick(rig, vcpus, mib);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    verdict(rig, plan, true, "");
    expect(rig, FORE_ACTION_GROW);
    set_plugged(rig, plan.vcpus, plan.mem_bytes / MIB);
    result(rig, FORE_EVENT_PLUGGED, plan.id, true, "");
    set_all(rig, plan.vcpus, plan.mem_bytes / MIB);
    result(rig, FORE_EVENT_ONLINE, plan.id, true, "");
}

static ForeExplain explain(const Rig *rig)
{
    ForeExplain x;

    fore_loop_explain(rig->loop, &x);
    return x;
}

/* --- growth --- */

static void test_growth(Rig *rig)
{
    ForePlan plan;

    ticks(rig, 1, 0.5, 100);
    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    g_assert_cmpuint(plan.vcpus, ==, 3);
    g_assert_cmpuint(plan.mem_bytes, ==, 512 * MIB);
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_ATTESTING);
    expect_none(rig, FORE_ACTION_GROW);
    g_assert_cmpfloat(fore_ledger_promised(rig->ledger, FORE_RES_VCPU), ==, 3);
    tick(rig, 2.5, 100); /* one plan at a time */
    g_assert_cmpuint(rig->out.n, ==, 0);

    verdict(rig, plan, true, "");
    g_assert_cmpuint(expect(rig, FORE_ACTION_GROW)->vcpus, ==, 3);
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_PLUGGING);
    set_plugged(rig, 3, 512);
    result(rig, FORE_EVENT_PLUGGED, plan.id, true, "");
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_ONLINING);
    set_all(rig, 3, 512);
    result(rig, FORE_EVENT_ONLINE, plan.id, true, "");
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_ONLINE);
    g_assert_cmpuint(fore_loop_capacity(rig->loop)->vcpus_online, ==, 3);
    ticks(rig, 3, 2.5, 100);
}

static void test_both_resources(Rig *rig)
{
    ForePlan plan;
    ForeActions *out = &rig->out;
    uint64_t ids[FORE_RES_N] = {0};

    tick(rig, 2.5, 600);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    g_assert_cmpuint(plan.vcpus, ==, 3);
    g_assert_cmpuint(plan.mem_bytes, ==, 640 * MIB);
    for (unsigned i = 0; i < out->n; i++) {
        if (out->items[i].kind == FORE_ACTION_JOURNAL) {
            ids[out->items[i].entry.resource] = out->items[i].entry.id;
            g_assert_cmpuint(out->items[i].entry.plan_id, ==, plan.id);
        }
    }
    verdict(rig, plan, true, "");
    /* Answers may come one entry at a time. */
    set_plugged(rig, 3, 512);
    result(rig, FORE_EVENT_PLUGGED, ids[FORE_RES_VCPU], true, "");
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_ONLINING);
    rig->cap.vcpus_online = 3;
    result(rig, FORE_EVENT_ONLINE, ids[FORE_RES_VCPU], true, "");
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_ONLINE);
    set_plugged(rig, 3, 640);
    result(rig, FORE_EVENT_PLUGGED, ids[FORE_RES_MEM], true, "");
    set_all(rig, 3, 640);
    result(rig, FORE_EVENT_ONLINE, ids[FORE_RES_MEM], true, "");
    expect_journal(rig, FORE_RES_MEM, FORE_LEDGER_ONLINE);
    ticks(rig, 2, 2.5, 600);
}

static void test_forecast_leads(Rig *rig)
{
    ForeExplain x;

    predict(rig, 3, 100);
    tick(rig, 0.5, 100);
    g_assert_cmpuint(expect(rig, FORE_ACTION_ATTEST)->vcpus, ==, 3);
    x = explain(rig);
    g_assert_true(x.forecast_used);
    g_assert_cmpfloat_with_epsilon(x.forecast_term[FORE_RES_VCPU], 3, 1e-9);
    g_assert_cmpfloat(x.reactive_term[FORE_RES_VCPU], ==, 0.5);
    g_assert_cmpfloat(x.lead_s, ==, 2);
}

static void no_growth_on_forecast(Rig *rig)
{
    tick(rig, 0.5, 100);
    expect_none(rig, FORE_ACTION_ATTEST);
    g_assert_false(explain(rig).forecast_used);
    /* The reactive rule goes on. */
    predict(rig, 3, 100);
    rig->forecast.valid = false;
    tick(rig, 1.5, 100);
    g_assert_cmpuint(expect(rig, FORE_ACTION_ATTEST)->vcpus, ==, 2);
}

static void test_forecast_invalid(Rig *rig)
{
    predict(rig, 3, 100);
    rig->forecast.valid = false;
    no_growth_on_forecast(rig);
}

static void test_forecast_demoted(Rig *rig)
{
    predict(rig, 3, 100);
    rig->forecast.demoted = true;
    no_growth_on_forecast(rig);
    predict(rig, 0.1, 100);
    tick(rig, 0.1, 100);
    expect_note(rig, "forecast: used");
}

static void test_forecast_stale(Rig *rig)
{
    predict(rig, 3, 100);
    rig->forecast.mono_ns -= rig->policy.max_usage_age_ns + 1;
    no_growth_on_forecast(rig);
}

static void test_forecast_absurd(Rig *rig)
{
    predict(rig, 3, 100);
    rig->forecast.peak[FORE_RES_MEM][3][2] = NAN;
    no_growth_on_forecast(rig);
}

static void test_forecaster_reactive(Rig *rig)
{
    rig->policy.forecaster = FORE_FORECASTER_REACTIVE;
    rig->event.kind = FORE_EVENT_POLICY;
    rig->event.policy = rig->policy;
    feed(rig);
    predict(rig, 3, 100);
    no_growth_on_forecast(rig);
}

/* predicted is what an earlier forecast said for now; error and adjustment follow from it. */
static void test_error(Rig *rig)
{
    ForeExplain x;

    predict(rig, 1, 100); /* for the tick after the next */
    tick(rig, 0.9, 100);
    predict(rig, 1, 100);
    tick(rig, 0.95, 100);
    x = explain(rig);
    g_assert_cmpfloat_with_epsilon(x.predicted[FORE_RES_VCPU], 0.925, 1e-9); /* P50 */
    g_assert_cmpfloat_with_epsilon(x.error[FORE_RES_VCPU], 0.025, 1e-9);
    g_assert_cmpfloat(x.adjustment[FORE_RES_VCPU], ==, 0); /* within the deadband */
    predict(rig, 1, 100);
    tick(rig, 1.925, 100);
    x = explain(rig);
    g_assert_cmpfloat_with_epsilon(x.error[FORE_RES_VCPU], 1, 1e-9);
    g_assert_cmpfloat_with_epsilon(x.p[FORE_RES_VCPU], 0.25, 1e-9);
    g_assert_cmpfloat_with_epsilon(x.i[FORE_RES_VCPU], 0.02, 1e-9);
    g_assert_cmpfloat_with_epsilon(x.adjustment[FORE_RES_VCPU], 0.27, 1e-9);
    g_assert_cmpfloat_with_epsilon(x.target[FORE_RES_VCPU], 1.925, 1e-9); /* reactive is more */
}

static void test_reattest(Rig *rig)
{
    rig->policy.reattest_threshold[FORE_RES_VCPU] = 0.2;
    rig->event.kind = FORE_EVENT_POLICY;
    rig->event.policy = rig->policy;
    feed(rig);
    predict(rig, 1, 100);
    tick(rig, 0.9, 100);
    predict(rig, 1, 100);
    tick(rig, 1.925, 100); /* adjustment 0.27 */
    g_assert_true(expect(rig, FORE_ACTION_ATTEST)->reattest);
    g_assert_true(explain(rig).reattest);
}

static void test_grant_in_hand(Rig *rig)
{
    ForePlan plan;

    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    rig->event.verdict.vcpus = 0;
    verdict(rig, plan, true, "");
    result(rig, FORE_EVENT_PLUGGED, plan.id, false, "qmp: GenericError"); /* still 1 plugged */
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_FAILED);
    expect_note(rig, "failed: vcpu 1 -> 3: qmp: GenericError");
    g_assert_cmpfloat(fore_ledger_charge(rig->ledger, "vm", FORE_RES_VCPU), ==, 1);
    ticks(rig, 4, 2.5, 100); /* backs off 5 s */
    tick(rig, 2.5, 100);
    expect_none(rig, FORE_ACTION_ATTEST);
    g_assert_cmpuint(expect(rig, FORE_ACTION_GROW)->vcpus, ==, 3);
}

static void test_grant_in_hand_too_old(Rig *rig)
{
    ForePlan plan;

    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    verdict(rig, plan, true, "");
    result(rig, FORE_EVENT_PLUGGED, plan.id, false, "qmp: GenericError");
    ticks(rig, 4, 0.5, 100);
    ticks(rig, 7, 0.5, 100);
    tick(rig, 2.5, 100); /* 12 s after the verdict */
    expect_none(rig, FORE_ACTION_GROW);
    expect(rig, FORE_ACTION_ATTEST);
}

static void test_failed_proof(Rig *rig)
{
    ForePlan plan;

    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    verdict(rig, plan, true, "");
    result(rig, FORE_EVENT_PLUGGED, plan.id, false, "qmp: GenericError");
    g_assert_true(fore_loop_is_granted(rig->loop, rig->now));
    rig->event.kind = FORE_EVENT_PROOF;
    rig->event.verdict = (ForeGrantRef){.verdict_ns = rig->now, .reason = "guest:ima-unlisted"};
    feed(rig);
    expect_note(rig, "denied: guest:ima-unlisted; the grant is void");
    g_assert_false(fore_loop_is_granted(rig->loop, rig->now));
    ticks(rig, 4, 2.5, 100);
    tick(rig, 2.5, 100); /* within what was granted: not any more */
    expect_none(rig, FORE_ACTION_GROW);
    expect_none(rig, FORE_ACTION_RELEASE); /* what is online stays */
}

/* The longest of the measured ask-to-online times and one step. */
static void test_lead(Rig *rig)
{
    ForePlan plan;

    predict(rig, 2, 100);
    tick(rig, 1.9, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    rig->now += 3 * S;
    verdict(rig, plan, true, "");
    rig->now += 2 * S;
    set_all(rig, 2, 512);
    result(rig, FORE_EVENT_ONLINE, plan.id, true, ""); /* PLUGGED was lost: ONLINE says more */
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_ONLINE);
    tick(rig, 1.9, 100);
    g_assert_cmpfloat_with_epsilon(explain(rig).lead_s, 6, 1e-9);
}

static void test_online_by_truth(Rig *rig)
{
    ForePlan plan;

    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    verdict(rig, plan, true, "");
    set_all(rig, 3, 512); /* both events were lost; the next report shows it */
    tick(rig, 2.5, 100);
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_ONLINE);
}

static void test_cooldown(Rig *rig)
{
    rig->policy.cooldown_ns = 5 * S;
    rig->event.kind = FORE_EVENT_POLICY;
    rig->event.policy = rig->policy;
    feed(rig);
    grow(rig, 1.5, 100);
    ticks(rig, 4, 2.5, 100);
    tick(rig, 2.5, 100);
    expect(rig, FORE_ACTION_ATTEST);
}

static void test_limits(Rig *rig)
{
    tick(rig, 50, 8000);
    g_assert_cmpuint(expect(rig, FORE_ACTION_ATTEST)->vcpus, ==, 4);
    g_assert_cmpuint(expect(rig, FORE_ACTION_ATTEST)->mem_bytes, ==, 1536 * MIB);
}

static void test_room(Rig *rig)
{
    g_assert_true(fore_ledger_set_base(rig->ledger, "other", 14, 7168.0 * MIB, NULL));
    tick(rig, 4, 1024);
    expect_note(rig, "no-room: ");
    g_assert_cmpuint(expect(rig, FORE_ACTION_ATTEST)->vcpus, ==, 2); /* what there is */
    g_assert_cmpuint(expect(rig, FORE_ACTION_ATTEST)->mem_bytes, ==, 1024 * MIB);
}

static void test_no_room(Rig *rig)
{
    g_assert_true(fore_ledger_set_base(rig->ledger, "other", 15, 1.0, NULL));
    tick(rig, 4, 100);
    expect_note(rig, "no-room: ");
    expect_none(rig, FORE_ACTION_ATTEST);
    ticks(rig, 3, 4, 100); /* said once */
}

/* --- refusals --- */

static void test_denied(Rig *rig)
{
    ForePlan plan;
    ForeActions *out = &rig->out;

    grow(rig, 1.5, 100);
    ticks(rig, 2, 1.5, 100);
    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    verdict(rig, plan, false, "guest:pcr-mismatch");
    g_assert_cmpuint(out->n, ==, 2);
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_FAILED);
    g_assert_cmpstr(out->items[0].entry.reason, ==, "guest:pcr-mismatch");
    expect_note(rig, "denied: guest:pcr-mismatch; wanted vcpu 2 -> 3");
    g_assert_cmpfloat(fore_ledger_charge(rig->ledger, "vm", FORE_RES_VCPU), ==, 2);
    /* Held for 10 s, then 20: no question, no growth, and nothing shrinks although refused. */
    ticks(rig, 9, 2.5, 100);
    g_assert_nonnull(strstr(explain(rig).verdict, "guest:pcr-mismatch"));
    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    verdict(rig, plan, false, "guest:pcr-mismatch");
    ticks(rig, 19, 2.5, 100);
    tick(rig, 2.5, 100);
    expect(rig, FORE_ACTION_ATTEST);
}

static void test_late(Rig *rig)
{
    ForePlan plan;

    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    ticks(rig, 9, 2.5, 100);
    rig->now += S; /* the deadline passes, and only then the answer comes */
    verdict(rig, plan, true, "");
    expect_none(rig, FORE_ACTION_GROW);
    expect_note(rig, "denied: control:verdict-late");
    expect_note(rig, "late: ");
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_FAILED);
    verdict(rig, plan, true, "");
    expect_none(rig, FORE_ACTION_GROW);
}

static void test_unasked_verdict(Rig *rig)
{
    ForePlan plan = {.id = 1, .vcpus = 4, .mem_bytes = 1024 * MIB};

    tick(rig, 0.5, 100);
    verdict(rig, plan, true, "");
    expect_none(rig, FORE_ACTION_GROW);
    tick(rig, 2.5, 100); /* it did not open the gate either */
    expect_none(rig, FORE_ACTION_GROW);
    expect(rig, FORE_ACTION_ATTEST);
}

static void bad_verdict(Rig *rig, int which)
{
    ForeGrantRef *v = &rig->event.verdict;
    ForePlan plan;

    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    rig->event.kind = FORE_EVENT_VERDICT;
    *v = (ForeGrantRef){.plan_id = plan.id,
                        .affirmed = true,
                        .vcpus = plan.vcpus - (which == 0),
                        .mem_bytes = plan.mem_bytes - (which == 1),
                        .verdict_ns = rig->now - (which == 2 ? 11 * S : 0) + (which == 3 ? 1 : 0),
                        .expires_ns = rig->now + (which == 4 ? 0 : S)};
    feed(rig);
    expect_none(rig, FORE_ACTION_GROW);
    expect_note(rig, "denied: control:");
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_FAILED);
}

static void test_bad_verdicts(Rig *rig)
{
    for (int which = 0; which < 5; which++) {
        rig_done(rig);
        rig_init(rig);
        bad_verdict(rig, which);
    }
}

static void test_relief(Rig *rig)
{
    ForePlan plan;

    rig->policy.relieve_memory = true;
    rig->event.kind = FORE_EVENT_POLICY;
    rig->event.policy = rig->policy;
    feed(rig);
    for (int i = 0; i < 2; i++) { /* denied twice: held for 20 s */
        tick(rig, 2.5, 600);
        plan = *expect(rig, FORE_ACTION_ATTEST);
        verdict(rig, plan, false, "no");
        ticks(rig, 9, 2.5, 600);
    }
    rig->swapping = true;
    tick(rig, 2.5, 600);
    plan = *expect(rig, FORE_ACTION_ATTEST); /* asks for memory alone, and not without proof */
    g_assert_cmpuint(plan.vcpus, ==, 1);
    g_assert_cmpuint(plan.mem_bytes, ==, 640 * MIB);
    expect_none(rig, FORE_ACTION_GROW);
}

/* The stricter of the two policies wins: what the signed one says came with the refusal. */
static void test_no_relief(Rig *rig)
{
    ForePlan plan;

    rig->policy.relieve_memory = true;
    rig->event.kind = FORE_EVENT_POLICY;
    rig->event.policy = rig->policy;
    feed(rig);
    for (int i = 0; i < 2; i++) {
        tick(rig, 2.5, 600);
        plan = *expect(rig, FORE_ACTION_ATTEST);
        rig->event.verdict.must_hold = true;
        verdict(rig, plan, false, "no");
        ticks(rig, 9, 2.5, 600);
    }
    rig->swapping = true;
    tick(rig, 2.5, 600);
    expect_none(rig, FORE_ACTION_ATTEST);
}

static void test_hostile_reason(Rig *rig)
{
    ForePlan plan;

    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    verdict(rig, plan, false, "\033[2Jx%s%n");
    expect_note(rig, "denied: ?[2Jx%s%n;");
}

/* --- modes --- */

static void set_mode(Rig *rig, ForeMode mode)
{
    rig->policy.mode = mode;
    rig->event.kind = FORE_EVENT_POLICY;
    rig->event.policy = rig->policy;
    feed(rig);
}

static void test_observe(Rig *rig)
{
    set_mode(rig, FORE_MODE_OBSERVE);
    predict(rig, 3, 900);
    ticks(rig, 30, 3, 900);
    g_assert_cmpfloat(explain(rig).actual[FORE_RES_VCPU], ==, 3);
}

static void test_recommend(Rig *rig)
{
    set_mode(rig, FORE_MODE_RECOMMEND);
    tick(rig, 2.5, 600);
    expect_note(rig, "would grow vcpu 1 -> 3, mem 512 MiB -> 640 MiB");
    for (int i = 0; i < 30; i++) {
        tick(rig, 2.5, 600);
        g_assert_cmpuint(rig->out.n, ==, 0); /* said once */
    }
    g_assert_cmpfloat(fore_ledger_promised(rig->ledger, FORE_RES_VCPU), ==, 1);
}

static void test_mode_change_cancels(Rig *rig)
{
    ForePlan plan;

    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    set_mode(rig, FORE_MODE_RECOMMEND);
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_FAILED);
    verdict(rig, plan, true, "");
    expect_none(rig, FORE_ACTION_GROW);
}

static void test_bad_policy(Rig *rig)
{
    rig->event.kind = FORE_EVENT_POLICY;
    rig->event.policy = rig->policy;
    rig->event.policy.min_vcpus = 9;
    feed(rig);
    expect_note(rig, "policy: refused: ");
    tick(rig, 2.5, 100);
    g_assert_cmpuint(expect(rig, FORE_ACTION_ATTEST)->vcpus, ==, 3);
}

/* --- release --- */

static void test_shrink(Rig *rig)
{
    ForePlan plan;

    grow(rig, 3, 1000);
    ticks(rig, 5, 3, 1000);
    ticks(rig, 4, 0.5, 100);
    ticks(rig, 1, 1.5, 600); /* the most that was wanted in the hold is what stays */
    ticks(rig, 3, 0.5, 100);
    tick(rig, 0.5, 100);
    plan = *expect(rig, FORE_ACTION_RELEASE);
    g_assert_cmpuint(plan.vcpus, ==, 2);
    g_assert_cmpuint(plan.mem_bytes, ==, 640 * MIB);
    expect_journal(rig, FORE_RES_MEM, FORE_LEDGER_RELEASING);
    g_assert_cmpfloat(fore_ledger_charge(rig->ledger, "vm", FORE_RES_VCPU), ==, 3);
    set_all(rig, 2, 640);
    result(rig, FORE_EVENT_RELEASED, plan.id, true, "");
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_RELEASED);
    expect_journal(rig, FORE_RES_MEM, FORE_LEDGER_RELEASED);
    g_assert_cmpfloat(fore_ledger_charge(rig->ledger, "vm", FORE_RES_VCPU), ==, 2);
    /* The hold slides: the rest goes once that peak is a hold ago, not a whole hold after the
     * release. */
    ticks(rig, 4, 0.5, 100);
    tick(rig, 0.5, 100);
    plan = *expect(rig, FORE_ACTION_RELEASE);
    g_assert_cmpuint(plan.vcpus, ==, 1);
    g_assert_cmpuint(plan.mem_bytes, ==, 512 * MIB); /* base is never given back */
    set_all(rig, 1, 512);
    result(rig, FORE_EVENT_RELEASED, plan.id, true, "");
    ticks(rig, 40, 0, 0);
}

/* A forecast that sees nothing coming releases after a quarter of the hold; one that does, after
 * all of it. */
static void test_shrink_foreseen(Rig *rig)
{
    ForePlan plan;

    grow(rig, 3, 1000);
    ticks(rig, 5, 3, 1000);
    for (unsigned i = 0; i < 2; i++) {
        predict(rig, 0.4, 90);
        tick(rig, 0.4, 90);
        expect_none(rig, FORE_ACTION_RELEASE);
    }
    predict(rig, 0.4, 90);
    tick(rig, 0.4, 90);
    plan = *expect(rig, FORE_ACTION_RELEASE);
    g_assert_cmpuint(plan.vcpus, ==, 1);
}

static void test_shrink_unforeseen(Rig *rig)
{
    ForePlan plan;

    grow(rig, 3, 1000);
    ticks(rig, 5, 3, 1000);
    for (unsigned i = 0; i < 9; i++) {
        predict(rig, 0.4, 90);
        for (unsigned q = 0; q < FORE_N_QUANTILE; q++) { /* back within the longest horizon */
            rig->forecast.peak[FORE_RES_VCPU][FORE_N_HORIZON - 1][q] = 2.6;
            rig->forecast.peak[FORE_RES_MEM][FORE_N_HORIZON - 1][q] = 1000.0 * MIB;
        }
        tick(rig, 0.4, 90);
        if (i < 8) {
            expect_none(rig, FORE_ACTION_RELEASE);
        }
    }
    plan = *expect(rig, FORE_ACTION_RELEASE);
    g_assert_cmpuint(plan.vcpus, ==, 1);
}

static void test_shrink_in_recommend(Rig *rig)
{
    set_all(rig, 3, 512);
    set_mode(rig, FORE_MODE_RECOMMEND);
    ticks(rig, 8, 0.5, 100);
    tick(rig, 0.5, 100);
    expect_note(rig, "would release vcpu 3 -> 1");
    expect_none(rig, FORE_ACTION_RELEASE);
}

static void test_missing_data(Rig *rig)
{
    set_all(rig, 3, 512);
    ticks(rig, 6, 0.5, 100);
    rig->invalid = true;
    ticks(rig, 60, 0.5, 100);
    rig->invalid = false;
    ticks(rig, 8, 0.5, 100); /* a gap starts the hold afresh */
    tick(rig, 0.5, 100);
    expect(rig, FORE_ACTION_RELEASE);
}

static void test_absurd_data(Rig *rig)
{
    const double bad[] = {NAN, INFINITY, -1, 1e18};

    set_all(rig, 3, 512);
    for (int i = 0; i < 40; i++) {
        tick(rig, bad[i % 4], 100);
        g_assert_cmpuint(rig->out.n, ==, 0);
    }
    g_assert_nonnull(strstr(explain(rig).verdict, "no trusted usage"));
}

static void test_stale_report(Rig *rig)
{
    set_all(rig, 3, 512);
    for (int i = 0; i < 40; i++) {
        rig->now += 20 * S; /* tick() stamps now + 1 s; then make it old */
        rig->event.kind = FORE_EVENT_TICK;
        rig->event.usage = (ForeUsage){
            .valid = true, .mono_ns = rig->now - 6 * S, .demand = {0.5, 1e8}, .capacity = rig->cap};
        feed(rig);
        g_assert_cmpuint(rig->out.n, ==, 0);
    }
}

static void test_swapping(Rig *rig)
{
    set_all(rig, 3, 1024);
    rig->swapping = true;
    ticks(rig, 60, 0.5, 100);
    rig->swapping = false;
    ticks(rig, 8, 0.5, 100);
    tick(rig, 0.5, 100);
    expect(rig, FORE_ACTION_RELEASE);
}

static void test_partial_release(Rig *rig)
{
    ForePlan plan;

    set_all(rig, 1, 1024);
    ticks(rig, 8, 0.5, 100);
    tick(rig, 0.5, 100);
    plan = *expect(rig, FORE_ACTION_RELEASE);
    set_plugged(rig, 1, 700);
    rig->cap.mem_online_bytes = 700 * MIB;
    result(rig, FORE_EVENT_RELEASED, plan.id, false, "blocks are pinned");
    expect_journal(rig, FORE_RES_MEM, FORE_LEDGER_RELEASED);
    expect_note(rig, "partial: mem 1024 MiB -> 700 MiB: blocks are pinned");
    g_assert_cmpfloat(fore_ledger_charge(rig->ledger, "vm", FORE_RES_MEM), ==, 700.0 * MIB);
    ticks(rig, 8, 0.5, 100);
    tick(rig, 0.5, 100);
    plan = *expect(rig, FORE_ACTION_RELEASE);
    result(rig, FORE_EVENT_RELEASED, plan.id, false, "blocks are pinned");
    expect_journal(rig, FORE_RES_MEM, FORE_LEDGER_FAILED);
    expect_note(rig, "failed: mem 700 MiB -> 512 MiB: blocks are pinned");
    g_assert_cmpfloat(fore_ledger_charge(rig->ledger, "vm", FORE_RES_MEM), ==, 700.0 * MIB);
}

/* QEMU may keep a vCPU that the guest took offline: released, and still charged. */
static void test_offline_vcpu(Rig *rig)
{
    ForePlan plan;

    set_all(rig, 3, 512);
    ticks(rig, 8, 0.5, 100);
    tick(rig, 0.5, 100);
    plan = *expect(rig, FORE_ACTION_RELEASE);
    rig->cap.vcpus_online = 1;
    result(rig, FORE_EVENT_RELEASED, plan.id, true, "");
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_RELEASED);
    g_assert_cmpfloat(fore_ledger_charge(rig->ledger, "vm", FORE_RES_VCPU), ==, 3);
    ticks(rig, 20, 0.5, 100);
    tick(rig, 2.5, 100); /* and grows again without new room, with new proof */
    plan = *expect(rig, FORE_ACTION_ATTEST);
    g_assert_cmpuint(plan.vcpus, ==, 3);
}

/* Memory that was plugged and never came online is taken back. */
static void test_plugged_offline_memory(Rig *rig)
{
    rig->cap.mem_plugged_bytes = rig->cap.mem_requested_bytes = 768 * MIB;
    ticks(rig, 8, 0.5, 100);
    tick(rig, 0.5, 100);
    g_assert_cmpuint(expect(rig, FORE_ACTION_RELEASE)->mem_bytes, ==, 512 * MIB);
}

/* --- deadlines --- */

static void pass(Rig *rig, unsigned seconds)
{
    rig->now += (seconds - 1) * S;
    rig->invalid = true;
    tick(rig, 0, 0);
    rig->invalid = false;
}

static void test_plug_deadline(Rig *rig)
{
    ForePlan plan;

    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    verdict(rig, plan, true, "");
    pass(rig, 14);
    g_assert_cmpuint(rig->out.n, ==, 0);
    pass(rig, 1);
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_FAILED);
    expect_note(rig, "failed: vcpu 1 -> 3: QEMU did not answer");
    g_assert_cmpfloat(fore_ledger_charge(rig->ledger, "vm", FORE_RES_VCPU), ==, 3);
    result(rig, FORE_EVENT_PLUGGED, plan.id, true, ""); /* too late */
    g_assert_cmpuint(rig->out.n, ==, 0);
    tick(rig, 0.5, 100); /* a newer report shows that nothing was plugged */
    g_assert_cmpfloat(fore_ledger_charge(rig->ledger, "vm", FORE_RES_VCPU), ==, 1);
}

static void test_online_deadline(Rig *rig)
{
    ForePlan plan;

    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    verdict(rig, plan, true, "");
    set_plugged(rig, 3, 512);
    result(rig, FORE_EVENT_PLUGGED, plan.id, true, "");
    pass(rig, 29);
    g_assert_cmpuint(rig->out.n, ==, 0);
    pass(rig, 1);
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_FAILED);
    tick(rig, 0.5, 100);
    g_assert_cmpfloat(fore_ledger_charge(rig->ledger, "vm", FORE_RES_VCPU), ==, 3); /* plugged */
}

static void test_release_deadline(Rig *rig)
{
    set_all(rig, 3, 512);
    ticks(rig, 8, 0.5, 100);
    tick(rig, 0.5, 100);
    expect(rig, FORE_ACTION_RELEASE);
    pass(rig, 59);
    g_assert_cmpuint(rig->out.n, ==, 0);
    pass(rig, 1);
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_FAILED);
    g_assert_cmpfloat(fore_ledger_charge(rig->ledger, "vm", FORE_RES_VCPU), ==, 3);
}

static void test_short_online(Rig *rig)
{
    ForePlan plan;

    tick(rig, 2.5, 600);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    verdict(rig, plan, true, "");
    set_plugged(rig, 3, 640);
    result(rig, FORE_EVENT_PLUGGED, plan.id, true, "");
    rig->cap.vcpus_online = 2;
    rig->cap.mem_online_bytes = 640 * MIB;
    result(rig, FORE_EVENT_ONLINE, plan.id, true, ""); /* says ok; what there is says no */
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_FAILED);
    expect_journal(rig, FORE_RES_MEM, FORE_LEDGER_ONLINE);
}

static void test_clock_step_back(Rig *rig)
{
    ForePlan plan;

    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    rig->now -= 100 * S;
    rig->event.kind = FORE_EVENT_TICK;
    feed(rig);
    rig->now += 100 * S;
    verdict(rig, plan, true, "");
    expect(rig, FORE_ACTION_GROW);
}

/* --- freeze and truth --- */

static void freeze(Rig *rig, bool on)
{
    rig->event.kind = FORE_EVENT_FREEZE;
    rig->event.ok = on;
    feed(rig);
}

static void test_freeze(Rig *rig)
{
    ForePlan plan;

    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    freeze(rig, true);
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_FAILED);
    expect_note(rig, "frozen: ");
    verdict(rig, plan, true, "");
    expect_none(rig, FORE_ACTION_GROW);
    ticks(rig, 10, 2.5, 100);
    set_all(rig, 3, 512);
    ticks(rig, 30, 0.5, 100);
    freeze(rig, false);
    ticks(rig, 8, 0.5, 100);
    tick(rig, 0.5, 100);
    expect(rig, FORE_ACTION_RELEASE);
}

static void test_freeze_voids_the_grant(Rig *rig)
{
    ForePlan plan;

    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    verdict(rig, plan, true, "");
    result(rig, FORE_EVENT_PLUGGED, plan.id, false, "x");
    freeze(rig, true);
    freeze(rig, false);
    ticks(rig, 4, 2.5, 100);
    tick(rig, 2.5, 100);
    expect_none(rig, FORE_ACTION_GROW);
    expect(rig, FORE_ACTION_ATTEST);
}

static void capacity(Rig *rig)
{
    rig->event.kind = FORE_EVENT_CAPACITY;
    rig->event.usage.capacity = rig->cap;
    feed(rig);
}

static void test_resync_adopts(Rig *rig)
{
    ForePlan plan;

    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    verdict(rig, plan, true, "");
    set_all(rig, 3, 512);
    capacity(rig);
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_ONLINE);
    result(rig, FORE_EVENT_PLUGGED, plan.id, true, "");
    g_assert_cmpuint(rig->out.n, ==, 0);
}

/* A reconnect while the actuator is at work: its room stays reserved until it answers. */
static void test_resync_keeps_what_was_sent(Rig *rig)
{
    ForePlan plan;

    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    verdict(rig, plan, true, "");
    capacity(rig);
    g_assert_cmpuint(rig->out.n, ==, 0);
    g_assert_cmpfloat(fore_ledger_charge(rig->ledger, "vm", FORE_RES_VCPU), ==, 3);
    result(rig, FORE_EVENT_PLUGGED, plan.id, false, "qmp: closed");
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_FAILED);
    g_assert_cmpfloat(fore_ledger_charge(rig->ledger, "vm", FORE_RES_VCPU), ==, 1);
    ticks(rig, 4, 2.5, 100);
    tick(rig, 2.5, 100); /* what was proved before the reconnect does not count any more */
    expect_none(rig, FORE_ACTION_GROW);
    expect(rig, FORE_ACTION_ATTEST);
}

static void test_resync_withdraws_the_question(Rig *rig)
{
    ForePlan plan;

    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    capacity(rig);
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_FAILED);
    verdict(rig, plan, true, "");
    expect_none(rig, FORE_ACTION_GROW);
}

/* The daemon died after QEMU was told, and QEMU did not do it. */
static void test_resync_rolls_back(Rig *rig)
{
    ForeLedgerEntry entry = {
        .id = 10, .vm = "vm", .from = 1, .to = 3, .plan_id = 9, .state = FORE_LEDGER_PLUGGING};

    g_assert_true(fore_ledger_restore(rig->ledger, &entry, NULL));
    capacity(rig);
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_FAILED);
    expect_note(rig, "rolled-back: vcpu 1 -> 3");
    g_assert_cmpfloat(fore_ledger_charge(rig->ledger, "vm", FORE_RES_VCPU), ==, 1);
}

/* After a crash: entries come back from disk, truth settles them at the first report. */
static void test_restart(Rig *rig)
{
    ForeLedgerEntry grow_entry = {
        .id = 10, .vm = "vm", .from = 1, .to = 3, .plan_id = 9, .state = FORE_LEDGER_PLUGGING};
    ForeLedgerEntry mem_entry = {.id = 11,
                                 .vm = "vm",
                                 .resource = FORE_RES_MEM,
                                 .from = 512.0 * MIB,
                                 .to = 640.0 * MIB,
                                 .plan_id = 9,
                                 .state = FORE_LEDGER_ATTESTING};

    g_assert_true(fore_ledger_restore(rig->ledger, &grow_entry, NULL));
    g_assert_true(fore_ledger_restore(rig->ledger, &mem_entry, NULL));
    g_assert_cmpfloat(fore_ledger_promised(rig->ledger, FORE_RES_VCPU), ==, 3);
    set_all(rig, 3, 512);
    tick(rig, 0.5, 100);
    expect_note(rig, "adopted: vcpu 1 -> 3");
    expect_journal(rig, FORE_RES_VCPU, FORE_LEDGER_ONLINE);
    expect_journal(rig, FORE_RES_MEM, FORE_LEDGER_FAILED);
    g_assert_cmpfloat(fore_ledger_promised(rig->ledger, FORE_RES_VCPU), ==, 3);
    g_assert_cmpfloat(fore_ledger_promised(rig->ledger, FORE_RES_MEM), ==, 512.0 * MIB);
}

/* QEMU ended in the middle of a growth; the agent took the VM off the ledger, then it boots again.
 */
static void test_ended_vm(Rig *rig)
{
    ForePlan plan;

    tick(rig, 2.5, 100);
    plan = *expect(rig, FORE_ACTION_ATTEST);
    verdict(rig, plan, true, "");
    fore_ledger_remove_vm(rig->ledger, "vm");
    g_assert_true(fore_ledger_set_base(rig->ledger, "vm", 1, 512.0 * MIB, NULL));
    result(rig, FORE_EVENT_PLUGGED, plan.id, true, "");
    g_assert_cmpuint(rig->out.n, ==, 0);
    tick(rig, 2.5, 100); /* neither blocked by the old plan nor let in by its proof */
    expect_none(rig, FORE_ACTION_GROW);
    expect(rig, FORE_ACTION_ATTEST);
    g_assert_cmpfloat(explain(rig).lead_s, ==, 2); /* and nothing was learned from it */
}

static void test_hand_made_change(Rig *rig)
{
    tick(rig, 0.5, 100);
    set_all(rig, 4, 512); /* the operator plugged by hand: truth is charged */
    tick(rig, 0.5, 100);
    g_assert_cmpfloat(fore_ledger_charge(rig->ledger, "vm", FORE_RES_VCPU), ==, 4);
}

static void test_lying_guest(Rig *rig)
{
    rig->cap.vcpus_online = 64; /* of 1 plugged */
    rig->cap.mem_online_bytes = 1 << 30;
    tick(rig, 0.5, 100);
    g_assert_cmpfloat(fore_ledger_charge(rig->ledger, "vm", FORE_RES_VCPU), ==, 1);
    g_assert_cmpfloat(fore_ledger_charge(rig->ledger, "vm", FORE_RES_MEM), ==, 512.0 * MIB);
    g_assert_cmpuint(fore_loop_capacity(rig->loop)->vcpus_online, ==, 1);
}

typedef struct {
    const char *name;
    void (*run)(Rig *rig);
} Case;

static const Case cases[] = {
    {"growth-goes-attest-grow-plugged-online", test_growth},
    {"two-resources-share-one-proof", test_both_resources},
    {"forecast-asks-before-demand", test_forecast_leads},
    {"no-forecast-means-reactive", test_forecast_invalid},
    {"demoted-forecast-is-not-used", test_forecast_demoted},
    {"stale-forecast-is-not-used", test_forecast_stale},
    {"absurd-forecast-is-not-used", test_forecast_absurd},
    {"policy-can-say-reactive", test_forecaster_reactive},
    {"error-is-actual-less-predicted", test_error},
    {"large-adjustment-attests-anew", test_reattest},
    {"growth-within-a-fresh-grant-needs-no-new-one", test_grant_in_hand},
    {"old-grant-needs-a-new-proof", test_grant_in_hand_too_old},
    {"failed-verdict-voids-the-grant", test_failed_proof},
    {"lead-time-is-learned", test_lead},
    {"lost-events-are-made-up-by-truth", test_online_by_truth},
    {"growths-keep-their-distance", test_cooldown},
    {"policy-limits-hold", test_limits},
    {"ledger-room-cuts-growth", test_room},
    {"no-room-is-said-once", test_no_room},
    {"denied-growth-keeps-what-there-is-and-holds", test_denied},
    {"late-verdict-grows-nothing", test_late},
    {"unasked-verdict-grows-nothing", test_unasked_verdict},
    {"insufficient-verdicts-grow-nothing", test_bad_verdicts},
    {"relief-asks-for-memory-alone", test_relief},
    {"signed-policy-forbids-relief", test_no_relief},
    {"hostile-reason-is-defused", test_hostile_reason},
    {"observe-does-nothing", test_observe},
    {"recommend-notes-and-does-nothing", test_recommend},
    {"mode-change-cancels-the-question", test_mode_change_cancels},
    {"bad-policy-is-refused", test_bad_policy},
    {"release-waits-for-its-hold-and-keeps-the-peak", test_shrink},
    {"a-forecast-of-calm-shortens-the-hold", test_shrink_foreseen},
    {"a-forecast-of-more-keeps-the-hold", test_shrink_unforeseen},
    {"release-is-recommended-too", test_shrink_in_recommend},
    {"missing-data-never-shrinks", test_missing_data},
    {"absurd-data-changes-nothing", test_absurd_data},
    {"stale-report-is-missing-data", test_stale_report},
    {"swapping-guest-is-never-shrunk", test_swapping},
    {"partial-release-is-accepted-as-truth", test_partial_release},
    {"offline-vcpu-stays-charged", test_offline_vcpu},
    {"plugged-offline-memory-is-taken-back", test_plugged_offline_memory},
    {"plug-has-a-deadline", test_plug_deadline},
    {"online-has-a-deadline", test_online_deadline},
    {"release-has-a-deadline", test_release_deadline},
    {"ok-is-not-believed-against-capacity", test_short_online},
    {"clock-step-back-is-no-time", test_clock_step_back},
    {"frozen-vm-is-not-resized", test_freeze},
    {"freeze-voids-the-grant", test_freeze_voids_the_grant},
    {"resync-adopts-what-is-there", test_resync_adopts},
    {"resync-keeps-what-was-sent", test_resync_keeps_what_was_sent},
    {"resync-withdraws-the-question", test_resync_withdraws_the_question},
    {"resync-rolls-back-what-is-not", test_resync_rolls_back},
    {"restart-settles-entries-by-truth", test_restart},
    {"ended-vm-leaves-no-plan", test_ended_vm},
    {"hand-made-changes-are-charged", test_hand_made_change},
    {"lying-guest-gains-nothing", test_lying_guest},
};

static void run_case(gconstpointer data)
{
    g_autofree Rig *rig = g_new0(Rig, 1);

    rig_init(rig);
    ((const Case *)data)->run(rig);
    rig_done(rig);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strconcat("/control/loop/", cases[i].name, NULL);
        g_test_add_data_func(path, &cases[i], run_case);
    }
    return g_test_run();
}
