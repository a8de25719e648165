/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  adjust() below is the loop, top to bottom: actual usage, predicted usage, error,
 * adjustment, re-attest when past a threshold, allocate or release, wait.  The other events carry a
 * plan that adjust() made through attestation and plugging (fore-loop-plan.c).
 *
 * Invariants: GROW leaves here only through an open gate (fore-gate.h) and with room reserved in
 * the ledger; RELEASE only after a whole hold of fresh reports that all asked for less, from a
 * guest that neither swaps nor is frozen.  Missing, stale or absurd numbers change nothing.  No
 * clock, no I/O, no randomness, sums in a fixed order: the same events give the same actions, bit
 * for bit.
 */
#include "control/fore-loop.h"

#include <math.h>
#include <string.h>

#include "control/fore-loop-private.h"

#define FUTURE_NS                                                                                  \
    FORE_NS_PER_S    /* a report may be ahead of now by this: it was read after now was */
#define PID_GAP    5 /* steps without a report after which the PID starts afresh */
#define SECONDS(x) ((double)(x) / FORE_NS_PER_S)

static const char none_yet[] = "there is no forecast";

ForeLoop *fore_loop_new(const char *vm, const ForePolicy *policy, ForeLedger *ledger)
{
    ForeLoop *loop = g_new0(ForeLoop, 1);

    g_assert(fore_name_is_valid(vm) && ledger);
    g_strlcpy(loop->vm, vm, sizeof loop->vm);
    loop->policy = *policy;
    loop->ledger = ledger;
    loop->step_ns = FORE_NS_PER_S;
    loop->no_forecast = none_yet;
    fore_gate_init(&loop->gate);
    return loop;
}

void fore_loop_free(ForeLoop *loop)
{
    g_free(loop);
}

void fore_loop_explain(const ForeLoop *loop, ForeExplain *ret)
{
    *ret = loop->explain;
}

const ForeCapacity *fore_loop_capacity(const ForeLoop *loop)
{
    return &loop->capacity;
}

bool fore_loop_is_granted(const ForeLoop *loop, uint64_t now_ns)
{
    return fore_gate_may_commit(&loop->gate, 0, 0, now_ns);
}

static void say(ForeLoop *loop, const char *text)
{
    g_strlcpy(loop->explain.verdict, text, sizeof loop->explain.verdict);
}

/* --- actual usage --- */

static bool is_fresh(const ForeLoop *loop, uint64_t mono_ns)
{
    return mono_ns <= loop->now_ns + FUTURE_NS &&
           (mono_ns >= loop->now_ns || loop->now_ns - mono_ns <= loop->policy.max_usage_age_ns);
}

static void forget_slack(ForeLoop *loop)
{
    memset(loop->slack, 0, sizeof loop->slack);
}

static bool read_actual(ForeLoop *loop, const ForeUsage *usage, ForeTick *tick, ForeActions *out)
{
    ForeCapacity *c = &loop->capacity;

    if (!usage->valid || !is_fresh(loop, usage->mono_ns) || !fore_target_usage_is_sane(usage)) {
        return false;
    }
    *c = usage->capacity;
    /* A guest does not own what QEMU does not know of, whatever it claims. */
    c->vcpus_online = MIN(c->vcpus_online, c->vcpus_plugged);
    c->mem_online_bytes = MIN(c->mem_online_bytes, c->mem_plugged_bytes);
    loop->capacity_known = true;
    loop->swapping = usage->swapping;
    tick->usage = usage;
    tick->dt_s = usage->mono_ns > loop->last_tick_ns && loop->last_tick_ns
                     ? SECONDS(usage->mono_ns - loop->last_tick_ns)
                     : 0;
    loop->last_tick_ns = MAX(loop->last_tick_ns, usage->mono_ns);
    if (!loop->synced) {
        fore_plan_resync(loop, out);
        loop->synced = true;
    }
    if (usage->mono_ns > loop->truth_after_ns) {
        for (int r = 0; r < FORE_RES_N; r++) {
            fore_ledger_sync(loop->ledger, loop->vm, r, fore_plan_charge(c, r));
        }
        fore_plan_on_truth(loop, out);
    }
    for (int r = 0; r < FORE_RES_N; r++) {
        loop->explain.actual[r] = usage->demand[r];
        tick->online[r] = fore_plan_online(c, r);
        tick->left[r] = fore_plan_left(c, r);
    }
    return true;
}

/* --- predicted usage --- */

/* The newest earlier forecast whose first step ends where this report does, or NULL. */
static const ForeForecast *find_past(const ForeLoop *loop, uint64_t mono_ns)
{
    for (unsigned i = 0; i < loop->past_n; i++) {
        unsigned at = (loop->past_head + FORE_LOOP_PAST - 1 - i) % FORE_LOOP_PAST;
        const ForeForecast *past = &loop->past[at];
        uint64_t meant_ns = past->mono_ns + fore_horizons[0] * past->step_ns;
        uint64_t off_ns = meant_ns > mono_ns ? meant_ns - mono_ns : mono_ns - meant_ns;
        if (off_ns <= past->step_ns / 2) {
            return past;
        }
    }
    return NULL;
}

static const char *judge_forecast(const ForeLoop *loop, const ForeForecast *forecast)
{
    if (!forecast->valid) {
        return none_yet;
    }
    if (!fore_target_forecast_is_sane(forecast)) {
        return "the forecast holds absurd numbers";
    }
    if (!is_fresh(loop, forecast->mono_ns)) {
        return "the forecast is stale";
    }
    if (forecast->demoted) {
        return "the forecaster is demoted: behind its baseline";
    }
    if (loop->policy.forecaster == FORE_FORECASTER_REACTIVE) {
        return "policy says forecaster=reactive";
    }
    return NULL;
}

/* Fills explain.predicted; keeps @forecast for later.  Returns: something was predicted for now */
static bool read_predicted(ForeLoop *loop, const ForeForecast *forecast, ForeTick *tick,
                           ForeActions *out)
{
    const char *reason = judge_forecast(loop, forecast);
    const ForeForecast *past = find_past(loop, tick->usage->mono_ns);

    for (int r = 0; past && r < FORE_RES_N; r++) {
        loop->explain.predicted[r] = past->point[r][0][FORE_Q50];
    }
    if (forecast->valid && fore_target_forecast_is_sane(forecast)) {
        loop->step_ns = forecast->step_ns;
        loop->past[loop->past_head] = *forecast;
        loop->past_head = (loop->past_head + 1) % FORE_LOOP_PAST;
        loop->past_n = MIN(loop->past_n + 1, FORE_LOOP_PAST);
    }
    if (reason != loop->no_forecast && loop->policy.mode != FORE_MODE_OBSERVE) {
        fore_plan_note(
            out, reason ? "forecast: %s, the reactive rule decides alone" : "forecast: used%s",
            reason ? reason : "");
    }
    loop->no_forecast = reason;
    tick->forecast = reason ? NULL : forecast;
    loop->explain.forecast_used = reason == NULL;
    return past != NULL;
}

/* --- error and adjustment --- */

static void form_adjustment(ForeLoop *loop, const ForeTick *tick, bool predicted)
{
    ForeExplain *x = &loop->explain;
    double gap_s = PID_GAP * SECONDS(loop->step_ns);

    for (int r = 0; r < FORE_RES_N; r++) {
        const ForePolicy *policy = &loop->policy;
        double range = fore_target_ceiling(policy, r) - fore_target_floor(policy, r);
        double limit = MAX(range / 2, fore_target_unit(r)) * policy->utilisation[r];
        ForePidTerms terms;
        x->error[r] = predicted ? x->actual[r] - x->predicted[r] : 0;
        if (!tick->forecast || tick->dt_s > gap_s) {
            fore_pid_reset(&loop->pid[r]);
        }
        if (!tick->forecast || !predicted || tick->dt_s <= 0) {
            continue;
        }
        fore_pid_step(&loop->pid[r], &policy->pid[r], x->error[r], x->actual[r],
                      MIN(tick->dt_s, gap_s), policy->deadband[r], limit, &terms);
        x->p[r] = terms.p;
        x->i[r] = terms.i;
        x->d[r] = terms.d;
        x->adjustment[r] = terms.output;
    }
}

static int compare_reals(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* How far ahead to look: the 95th percentile of measured ask-to-online times and one step. */
static uint64_t lead_ns(const ForeLoop *loop)
{
    double sorted[FORE_LOOP_LEADS];
    unsigned n = loop->leads_n;
    uint64_t learned;

    if (n == 0) {
        return loop->policy.lead_min_ns;
    }
    memcpy(sorted, loop->leads_s, n * sizeof sorted[0]);
    qsort(sorted, n, sizeof sorted[0], compare_reals);
    learned = (uint64_t)(sorted[(unsigned)ceil(0.95 * n) - 1] * FORE_NS_PER_S) + loop->step_ns;
    return MAX(loop->policy.lead_min_ns, learned);
}

static void form_target(ForeLoop *loop, ForeTick *tick)
{
    ForeExplain *x = &loop->explain;
    uint64_t lead = lead_ns(loop);
    unsigned q = MIN(loop->policy.quantile, FORE_N_QUANTILE - 1);
    unsigned h = 0;
    bool covered;

    x->lead_s = SECONDS(lead);
    if (tick->forecast) {
        h = fore_target_horizon(tick->forecast, lead, loop->now_ns, &covered);
    }
    for (int r = 0; r < FORE_RES_N; r++) {
        x->forecast_term[r] = tick->forecast ? tick->forecast->peak[r][h][q] : 0;
        x->reactive_term[r] = fore_target_reactive(x->actual[r]);
        x->target[r] =
            fore_target_combine(x->forecast_term[r], x->adjustment[r], x->reactive_term[r]);
        tick->wanted[r] = fore_target_capacity(&loop->policy, r, x->target[r]);
        tick->calm[r] = tick->wanted[r];
        if (tick->forecast) {
            double far = tick->forecast->peak[r][FORE_N_HORIZON - 1][q];
            double most = fore_target_combine(far, x->adjustment[r], x->reactive_term[r]);
            tick->calm[r] = MAX(tick->wanted[r], fore_target_capacity(&loop->policy, r, most));
        }
    }
}

/* --- allocate or release --- */

static uint64_t slot_ns(const ForeLoop *loop)
{
    return MAX(loop->policy.shrink_hold_ns / FORE_SLACK_SLOTS, 1);
}

static void note_wanted(const ForeLoop *loop, ForeSlack *slack, double wanted)
{
    uint64_t slot = loop->now_ns / slot_ns(loop);
    unsigned at = slot % G_N_ELEMENTS(slack->slot);

    slack->peak[at] = slack->slot[at] == slot ? MAX(slack->peak[at], wanted) : wanted;
    slack->slot[at] = slot;
}

/* The most that was wanted in the newest @slots of FORE_SLACK_SLOTS of a shrink-hold. */
static double most_wanted(const ForeLoop *loop, const ForeSlack *slack, unsigned slots)
{
    uint64_t slot = loop->now_ns / slot_ns(loop);
    double most = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(slack->slot); i++) {
        if (slack->slot[i] + slots >= slot) {
            most = MAX(most, slack->peak[i]);
        }
    }
    return most;
}

/* Remember since when, and down to what, each resource could shrink. */
static void watch_slack(ForeLoop *loop, const ForeTick *tick)
{
    for (int r = 0; r < FORE_RES_N; r++) {
        ForeSlack *slack = &loop->slack[r];
        bool below = tick->wanted[r] <= tick->left[r] - fore_target_unit(r) / 2;
        if (!below || loop->swapping || loop->frozen) {
            memset(slack, 0, sizeof *slack);
            continue;
        }
        slack->since_ns = slack->since_ns ? slack->since_ns : MAX(loop->now_ns, 1);
        note_wanted(loop, slack, tick->wanted[r]);
    }
}

/* Totals to grow to; @ret_to equals online where nothing grows.  Returns: something does */
static bool find_growth(const ForeLoop *loop, const ForeTick *tick, double ret_to[FORE_RES_N])
{
    bool any = false;

    for (int r = 0; r < FORE_RES_N; r++) {
        bool cool =
            loop->grown_ns[r] && loop->now_ns - loop->grown_ns[r] < loop->policy.cooldown_ns;
        bool more = tick->wanted[r] >= tick->online[r] + fore_target_unit(r) / 2;
        ret_to[r] = more && !cool ? tick->wanted[r] : tick->online[r];
        any |= more && !cool;
    }
    return any;
}

/*
 * Without a forecast only a whole hold tells that demand will not be back at once.  One that is
 * used and sees nothing up to its longest horizon tells it sooner: then a quarter of the hold is
 * enough.
 */
static bool may_release(const ForeLoop *loop, const ForeTick *tick, ForeResource r, double *ret_to)
{
    const ForeSlack *slack = &loop->slack[r];
    double limit = tick->left[r] - fore_target_unit(r) / 2;
    uint64_t hold_ns = loop->policy.shrink_hold_ns;
    uint64_t below_ns = slack->since_ns ? loop->now_ns - slack->since_ns : 0;
    double whole = most_wanted(loop, slack, FORE_SLACK_SLOTS);
    double quarter = MAX(most_wanted(loop, slack, FORE_SLACK_SLOTS / 4), tick->calm[r]);

    if (!slack->since_ns) {
        return false;
    }
    if (tick->forecast && below_ns >= hold_ns / 4 && quarter <= limit) {
        *ret_to = quarter;
        return true;
    }
    *ret_to = whole;
    return below_ns >= hold_ns && whole <= limit;
}

static bool find_release(const ForeLoop *loop, const ForeTick *tick, double ret_to[FORE_RES_N])
{
    bool any = false;

    /* A release under way would keep a growth waiting: not while anything wants more. */
    for (int r = 0; r < FORE_RES_N; r++) {
        if (tick->wanted[r] >= tick->online[r] + fore_target_unit(r) / 2) {
            return false;
        }
    }

    for (int r = 0; r < FORE_RES_N; r++) {
        double most;
        bool ready = may_release(loop, tick, r, &most);
        ret_to[r] = ready ? most : tick->left[r];
        any |= ready;
    }
    return any;
}

/* The adjustment of a resource that grows is so large that no proof in hand will do. */
static bool must_reattest(const ForeLoop *loop, const ForeTick *tick, const double to[FORE_RES_N])
{
    for (int r = 0; r < FORE_RES_N; r++) {
        if (to[r] > tick->online[r] &&
            fabs(loop->explain.adjustment[r]) > loop->policy.reattest_threshold[r]) {
            return true;
        }
    }
    return false;
}

static void recommend(ForeLoop *loop, const char *verb, const double from[FORE_RES_N],
                      const double to[FORE_RES_N], ForeActions *out)
{
    char change[100], text[160] = "recommend: nothing to change";

    if (verb) {
        fore_plan_describe(from, to, change, sizeof change);
        g_snprintf(text, sizeof text, "would %s %s", verb, change);
        if (strcmp(text, loop->advice) != 0) {
            fore_plan_note(out, "%s", text);
        }
    }
    g_strlcpy(loop->advice, verb ? text : "", sizeof loop->advice);
    say(loop, text);
}

static void wait(ForeLoop *loop, const char *what, uint64_t until_ns)
{
    g_snprintf(loop->explain.verdict, sizeof loop->explain.verdict, "wait: %s, %.1f s left", what,
               until_ns > loop->now_ns ? SECONDS(until_ns - loop->now_ns) : 0.0);
}

/* Allocate or release, or say what is waited for. */
static void decide(ForeLoop *loop, const ForeTick *tick, ForeActions *out)
{
    double grow_to[FORE_RES_N], release_to[FORE_RES_N];
    bool grow = find_growth(loop, tick, grow_to);
    bool release = !grow && find_release(loop, tick, release_to);

    loop->explain.reattest = grow && must_reattest(loop, tick, grow_to);
    if (loop->policy.mode == FORE_MODE_OBSERVE) {
        say(loop, "observe: recorded, nothing is planned");
    } else if (loop->policy.mode == FORE_MODE_RECOMMEND) {
        recommend(loop,
                  grow      ? "grow"
                  : release ? "release"
                            : NULL,
                  grow ? tick->online : tick->left, grow ? grow_to : release_to, out);
    } else if (loop->frozen) {
        say(loop, "frozen: no resize until thawed");
    } else if (loop->phase != FORE_PLAN_NONE) {
        wait(loop, fore_plan_phase_names[loop->phase], loop->deadline_ns);
    } else if (grow && loop->now_ns < loop->grow_backoff.until_ns) {
        wait(loop, "the last growth failed", loop->grow_backoff.until_ns);
    } else if (grow) {
        fore_plan_grow(loop, tick->online, grow_to, loop->explain.reattest, out);
    } else if (release && loop->now_ns < loop->release_backoff.until_ns) {
        wait(loop, "the last release failed", loop->release_backoff.until_ns);
    } else if (release) {
        fore_plan_release(loop, tick->left, release_to, out);
    } else {
        say(loop, "steady: capacity fits the target");
    }
}

/* The loop of the Adjuster. */
static void adjust(ForeLoop *loop, const ForeEvent *event, ForeActions *out)
{
    ForeTick tick = {0};
    bool predicted;

    memset(&loop->explain, 0, sizeof loop->explain);
    loop->explain.mono_ns = loop->now_ns;

    /* actual usage */
    if (!read_actual(loop, &event->usage, &tick, out)) {
        forget_slack(loop); /* missing data never shrinks a VM */
        say(loop, "hold: no trusted usage report");
        return;
    }
    /* predicted usage */
    predicted = read_predicted(loop, &event->forecast, &tick, out);
    /* error, adjustment */
    form_adjustment(loop, &tick, predicted);
    form_target(loop, &tick);
    watch_slack(loop, &tick);
    /* re-attest when past a threshold, allocate or release, wait */
    decide(loop, &tick, out);
}

/* --- the other events --- */

static void on_capacity(ForeLoop *loop, const ForeEvent *event, ForeActions *out)
{
    ForeUsage probe = {.capacity = event->usage.capacity};

    if (!fore_target_usage_is_sane(&probe)) {
        probe.capacity = event->capacity;
        if (!fore_target_usage_is_sane(&probe)) {
            fore_plan_note(out, "capacity: not usable, the ledger stays as it is");
            return;
        }
    }
    loop->capacity = probe.capacity;
    loop->capacity_known = loop->synced = true;
    loop->truth_after_ns = loop->now_ns;
    forget_slack(loop);
    fore_plan_resync(loop, out);
}

static void on_policy(ForeLoop *loop, const ForeEvent *event, ForeActions *out)
{
    g_autoptr(GError) error = NULL;

    if (!fore_policy_check(&event->policy, &error)) {
        fore_plan_note(out, "policy: refused: %s", error->message);
        return;
    }
    fore_plan_cancel(loop, "the policy changed", out);
    loop->policy = event->policy;
    loop->advice[0] = 0;
    forget_slack(loop);
}

static void on_proof(ForeLoop *loop, const ForeEvent *event, ForeActions *out)
{
    if (fore_gate_proof(&loop->gate, &loop->policy, &event->verdict, loop->now_ns)) {
        fore_plan_note(out, "denied: %.80s; the grant is void, what is online stays",
                       loop->gate.reason);
    }
}

static void on_freeze(ForeLoop *loop, const ForeEvent *event, ForeActions *out)
{
    if (event->ok) {
        fore_plan_cancel(loop, "frozen", out);
        fore_gate_reset(&loop->gate); /* a proof is never carried over a migration */
    }
    if (event->ok != loop->frozen) {
        fore_plan_note(out,
                       event->ok ? "frozen: no resize until thawed" : "thawed: resizing again");
    }
    loop->frozen = event->ok;
    forget_slack(loop);
}

void fore_loop_step(ForeLoop *loop, const ForeEvent *event, uint64_t now_ns,
                    ForeActions *ret_actions)
{
    loop->now_ns = MAX(loop->now_ns, now_ns);
    ret_actions->n = 0;
    fore_gate_tick(&loop->gate, loop->now_ns);
    fore_plan_on_time(loop, ret_actions); /* first: what comes after its deadline comes too late */

    switch (event->kind) {
    case FORE_EVENT_TICK:
        adjust(loop, event, ret_actions);
        break;
    case FORE_EVENT_VERDICT:
        loop->must_hold = event->verdict.must_hold;
        fore_plan_on_verdict(loop, &event->verdict, ret_actions);
        break;
    case FORE_EVENT_PLUGGED:
        fore_plan_on_plugged(loop, event, ret_actions);
        break;
    case FORE_EVENT_ONLINE:
        fore_plan_on_online(loop, event, ret_actions);
        break;
    case FORE_EVENT_RELEASED:
        fore_plan_on_released(loop, event, ret_actions);
        if (!event->ok) {
            forget_slack(loop); /* what the guest could not give it is not asked for each second */
        }
        break;
    case FORE_EVENT_CAPACITY:
        on_capacity(loop, event, ret_actions);
        break;
    case FORE_EVENT_POLICY:
        on_policy(loop, event, ret_actions);
        break;
    case FORE_EVENT_PROOF:
        on_proof(loop, event, ret_actions);
        break;
    case FORE_EVENT_FREEZE:
        on_freeze(loop, event, ret_actions);
        break;
    case FORE_EVENT_N:
        g_assert_not_reached();
    }
}
