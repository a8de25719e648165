/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Triggers are collected and looked at once a second: only under enforce, only with
 * a PAM and a connected guest, never beside a question of a plan (that answer is as fresh).  What
 * the guest can cause at will is asked for at most every EVIDENCE_GAP_NS, so that it cannot make
 * the TPMs of its pathway busy.  No answer counts as no: the gate then holds, and the next growth
 * asks for itself.
 */
#include "qmp-agent/fore-reattest.h"

#include "qmp-agent/fore-attest.h"

#define EVIDENCE_GAP_NS (5 * FORE_NS_PER_S)

static const char *const trigger_names[] = {"age", "session", "evidence"};
G_STATIC_ASSERT(G_N_ELEMENTS(trigger_names) == FORE_REATTEST_N);

void fore_reattest_want(ForeVm *vm, ForeReattestTrigger trigger)
{
    if (vm->verdict != NULL) { /* what was never attested has nothing that could be void */
        vm->reattest.wanted |= 1u << trigger;
    }
}

void fore_reattest_granted(ForeVm *vm, const ForeGrantRef *ref)
{
    vm->reattest.proved_ns = ref->verdict_ns;
    vm->reattest.lifetime_ns =
        ref->expires_ns > ref->verdict_ns ? ref->expires_ns - ref->verdict_ns : 0;
}

void fore_reattest_judge(ForeVm *vm, const ForeGrantRef *ref, const json_t *answer)
{
    g_autofree ForeEvent *event = g_new0(ForeEvent, 1);

    if (answer != NULL) {
        json_decref(vm->verdict);
        vm->verdict = json_deep_copy(answer);
        vm->verdict_ns = ref->verdict_ns;
    }
    if (ref->affirmed) {
        vm->reattest.proved_ns = ref->verdict_ns;
    }
    event->kind = FORE_EVENT_PROOF;
    event->verdict = *ref;
    fore_vm_feed(vm, event);
}

static void tell(ForeVm *vm, const ForeGrantRef *ref, unsigned triggers)
{
    json_t *names = json_array();

    for (unsigned i = 0; i < FORE_REATTEST_N; i++) {
        if (triggers >> i & 1u) {
            json_array_append_new(names, json_string(trigger_names[i]));
        }
    }
    /* age alone comes by the clock and says nothing new while it is yes */
    fore_agent_emit(vm->agent, vm, "VERDICT",
                    json_pack("{s:i,s:b,s:s,s:o}", "plan", 0, "affirmed", (int)ref->affirmed,
                              "reason", ref->reason, "triggers", names),
                    !ref->affirmed);
}

static void on_reattested(ForeVm *vm, const ForeGrantRef *ref, const json_t *answer, gpointer data)
{
    if (vm == NULL) {
        return; /* removed meanwhile */
    }
    vm->reattest.running = false;
    tell(vm, ref, GPOINTER_TO_UINT(data));
    fore_reattest_judge(vm, ref, answer);
}

static bool is_due(const ForeVm *vm, uint64_t now_ns)
{
    const ForeReattest *r = &vm->reattest;

    if (r->wanted & ~(1u << FORE_REATTEST_EVIDENCE)) {
        return true;
    }
    return r->wanted != 0 && now_ns >= r->asked_ns + EVIDENCE_GAP_NS;
}

void fore_reattest_step(ForeVm *vm, uint64_t now_ns)
{
    ForeReattest *r = &vm->reattest;
    uint64_t period_ns = MIN(r->lifetime_ns, vm->policy.max_verdict_age_ns) / 2;
    ForePlan nothing = {0}; /* a verdict, no grant */
    unsigned triggers;

    if (vm->policy.mode != FORE_MODE_ENFORCE || fore_agent_pam(vm->agent) == NULL) {
        r->wanted = 0;
        return;
    }
    if (fore_loop_is_granted(vm->loop, now_ns) && now_ns >= r->proved_ns + period_ns) {
        r->wanted |= 1u << FORE_REATTEST_AGE;
    }
    if (r->running || vm->attests != NULL || !fore_link_is_up(vm->sea) || !is_due(vm, now_ns)) {
        return;
    }
    triggers = r->wanted;
    r->wanted = 0;
    r->running = true;
    r->asked_ns = now_ns;
    fore_attest_start(vm, &nothing, on_reattested, GUINT_TO_POINTER(triggers));
}
