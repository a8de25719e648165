/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/fore-page-rates.h"

#include <string.h>

#include "common/fore-error.h"

#define MAX_EVENTS_PER_S 1e12 /* no host translates or runs more */
/* The kernel accounts run time in ticks on some hosts, and clocks of two calls differ a little:
 * within this, time is cut to what can be, past it the page is distrusted. */
#define TIME_SLACK_NS (50.0 * 1000 * 1000)

/* The counters of a block, as an array: from idle_ns to the end. */
#define FIRST_COUNTER (offsetof(ForePageVcpu, idle_ns) / sizeof(uint64_t))
#define N_WORDS       (sizeof(ForePageVcpu) / sizeof(uint64_t))

static const uint64_t *words_of(const void *part)
{
    return part;
}

static bool vcpu_is_reset(const ForePageVcpu *prev, const ForePageVcpu *cur)
{
    const uint64_t *p = words_of(prev), *c = words_of(cur);

    for (size_t i = FIRST_COUNTER; i < N_WORDS; i++) {
        if (c[i] < p[i]) {
            return true;
        }
    }
    return cur->updated_ns < prev->updated_ns;
}

bool fore_page_is_reset(const ForePageSnapshot *prev, const ForePageSnapshot *cur)
{
    if (memcmp(prev->boot_id, cur->boot_id, FORE_PAGE_BOOT_ID) != 0 ||
        prev->n_vcpus != cur->n_vcpus) {
        return true;
    }
    for (unsigned i = 0; i < cur->n_vcpus; i++) {
        if (vcpu_is_reset(&prev->vcpu[i], &cur->vcpu[i])) {
            return true;
        }
    }
    for (unsigned i = 0; i < FORE_PAGE_SYSCALLS; i++) {
        if (cur->vm.syscall_number[i] < prev->vm.syscall_number[i]) {
            return true;
        }
    }
    return false;
}

static bool is_plugged(const ForePageVcpu *v)
{
    return v->state == FORE_PAGE_VCPU_RUNNING || v->state == FORE_PAGE_VCPU_IDLE;
}

/* --- one vCPU --- */

/* Nanoseconds that the difference of @prev and @cur covers; 0: nothing new. */
static double covered_ns(const ForePageVcpu *prev, const ForePageVcpu *cur)
{
    uint64_t from = MAX(prev->updated_ns, MIN(cur->plugged_ns, cur->updated_ns));

    return (double)(cur->updated_ns - from);
}

static double idle_total_ns(const ForePageVcpu *v)
{
    return (double)v->idle_ns +
           (v->state == FORE_PAGE_VCPU_IDLE ? (double)(v->updated_ns - v->idle_since_ns) : 0);
}

/* @d: the differences of all words of two blocks, without those of the stamps. */
static void subtract(const ForePageVcpu *prev, const ForePageVcpu *cur, double *d)
{
    const uint64_t *p = words_of(prev), *c = words_of(cur);

    for (size_t i = 0; i < N_WORDS; i++) {
        d[i] = i < FIRST_COUNTER ? 0 : (double)(c[i] - p[i]);
    }
}

#define WORD(member) (offsetof(ForePageVcpu, member) / sizeof(uint64_t))

/* Time counters are shares, not numbers of events, and judged by a check of their own. */
static bool is_time(size_t word)
{
    return word == WORD(idle_ns) || word == WORD(run_ns) || word == WORD(wait_ns) ||
           word == WORD(halt_poll_ns) || word == WORD(halt_wait_ns);
}

static void check_time(double ns, double covered, const char *what, unsigned index, GError **error)
{
    if (ns > 1.01 * covered + TIME_SLACK_NS) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                    "profile page claims %.3f s %s time for vCPU %u in %.3f s: distrust the VM",
                    ns / 1e9, what, index, covered / 1e9);
    }
}

/* Adds vCPU @index to @sums: events per second, and nanoseconds; false with UNTRUSTED.  A vCPU that
 * is not plugged any more adds its last events, but no time. */
static bool add_vcpu(const ForePageSnapshot *prev, const ForePageSnapshot *cur, unsigned index,
                     double *sums, double *seconds, GError **error)
{
    const ForePageVcpu *p = &prev->vcpu[index], *c = &cur->vcpu[index];
    double ns = covered_ns(p, c), d[N_WORDS];
    g_autoptr(GError) impossible = NULL;

    if (ns <= 0) {
        return true;
    }
    subtract(p, c, d);
    d[WORD(idle_ns)] = MAX(idle_total_ns(c) - idle_total_ns(p), 0);
    check_time(d[WORD(idle_ns)], ns, "idle", index, &impossible);
    if (impossible == NULL) {
        check_time(d[WORD(run_ns)], ns, "run", index, &impossible);
    }
    if (impossible != NULL) {
        g_propagate_error(error, g_steal_pointer(&impossible));
        return false;
    }
    d[WORD(idle_ns)] = MIN(d[WORD(idle_ns)], ns);
    d[WORD(run_ns)] = MIN(d[WORD(run_ns)], ns);
    for (size_t i = FIRST_COUNTER; i < N_WORDS; i++) {
        if (!is_time(i)) {
            sums[i] += d[i] / ns * 1e9;
        } else if (is_plugged(c)) {
            sums[i] += d[i];
        }
    }
    *seconds += is_plugged(c) ? ns / 1e9 : 0;
    return true;
}

/* --- rates of one or all --- */

static double share(double ns, double seconds)
{
    return MIN(ns / 1e9 / seconds, 1);
}

static void fill_shares(const double *sums, ForePageRates *ret)
{
    double total = 0;

    ret->idle = share(sums[WORD(idle_ns)], ret->seconds);
    ret->run = share(sums[WORD(run_ns)], ret->seconds);
    ret->wait = share(sums[WORD(wait_ns)], ret->seconds);
    ret->halt_poll = share(sums[WORD(halt_poll_ns)], ret->seconds);
    ret->halt_wait = share(sums[WORD(halt_wait_ns)], ret->seconds);
    for (unsigned i = 0; i < FORE_PAGE_SIGNATURE; i++) {
        total += sums[WORD(signature) + i];
    }
    for (unsigned i = 0; i < FORE_PAGE_SIGNATURE && total > 0; i++) {
        ret->signature[i] = sums[WORD(signature) + i] / total;
    }
}

static void fill_rates(const double *rate, ForePageRates *ret)
{
    ret->insns = rate[WORD(insns)];
    ret->blocks = rate[WORD(blocks)];
    ret->loads = rate[WORD(loads)];
    ret->stores = rate[WORD(stores)];
    ret->syscalls = rate[WORD(syscalls)];
    ret->mmio = rate[WORD(mmio)];
    ret->space_switches = rate[WORD(space_switches)];
    ret->resumes = rate[WORD(resumes)];
    ret->cycles = rate[WORD(cycles)];
    ret->exits = rate[WORD(exits)];
    memcpy(ret->branch, rate + WORD(branch), sizeof(ret->branch));
    memcpy(ret->mix, rate + WORD(mix), sizeof(ret->mix));
    memcpy(ret->exit, rate + WORD(exit), sizeof(ret->exit));
}

static bool check_rates(const double *rate, GError **error)
{
    for (size_t i = FIRST_COUNTER; i < N_WORDS; i++) {
        if (!is_time(i) && !(rate[i] >= 0 && rate[i] <= MAX_EVENTS_PER_S)) {
            g_set_error(error, FORE_ERROR, FORE_ERROR_UNTRUSTED,
                        "profile page claims %g events per second in the counter at %zu of its "
                        "blocks, over %g is impossible: distrust the VM",
                        rate[i], i * sizeof(uint64_t), MAX_EVENTS_PER_S);
            return false;
        }
    }
    return true;
}

static bool rates_of(const ForePageSnapshot *prev, const ForePageSnapshot *cur, unsigned from,
                     unsigned to, ForePageRates *ret, GError **error)
{
    double sums[N_WORDS] = {0};
    ForePageRates rates = {.valid = prev->valid & cur->valid};

    if (fore_page_is_reset(prev, cur)) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "counters on the profile page were reset (QEMU started anew?): rates resume "
                    "with the next reading");
        return false;
    }
    for (unsigned i = from; i < to; i++) {
        if (!add_vcpu(prev, cur, i, sums, &rates.seconds, error)) {
            return false;
        }
    }
    if (rates.seconds <= 0) {
        g_set_error(error, FORE_ERROR, FORE_ERROR_UNAVAILABLE,
                    "nothing was published on the profile page between two readings (too close to "
                    "each other, or QEMU hangs or is dead): read later");
        return false;
    }
    if (!check_rates(sums, error)) {
        return false;
    }
    fill_rates(sums, &rates);
    fill_shares(sums, &rates);
    *ret = rates;
    return true;
}

bool fore_page_rates(const ForePageSnapshot *prev, const ForePageSnapshot *cur, ForePageRates *ret,
                     GError **error)
{
    return rates_of(prev, cur, 0, MIN(cur->n_vcpus, FORE_PAGE_MAX_VCPUS), ret, error);
}

bool fore_page_vcpu_rates(const ForePageSnapshot *prev, const ForePageSnapshot *cur, unsigned index,
                          ForePageRates *ret, GError **error)
{
    g_assert(index < FORE_PAGE_MAX_VCPUS);
    return rates_of(prev, cur, index, index + 1, ret, error);
}

static void set_field(ForeSample *sample, ForeField field, const ForePageRates *rates, uint64_t bit,
                      double value)
{
    if ((rates->valid & bit) != 0) {
        sample->value[field] = value;
        sample->valid |= 1u << field;
    }
}

bool fore_page_delta(const ForePageSnapshot *prev, const ForePageSnapshot *cur, ForeSample *sample,
                     GError **error)
{
    ForePageRates r;

    sample->valid &= ~(1u << FORE_FIELD_INSNS | 1u << FORE_FIELD_LOADS | 1u << FORE_FIELD_STORES |
                       1u << FORE_FIELD_SYSCALLS | 1u << FORE_FIELD_IDLE);
    if (!fore_page_rates(prev, cur, &r, error)) {
        return false;
    }
    set_field(sample, FORE_FIELD_INSNS, &r, FORE_PAGE_HAS_INSNS, r.insns);
    set_field(sample, FORE_FIELD_LOADS, &r, FORE_PAGE_HAS_LOADS, r.loads);
    set_field(sample, FORE_FIELD_STORES, &r, FORE_PAGE_HAS_STORES, r.stores);
    set_field(sample, FORE_FIELD_SYSCALLS, &r, FORE_PAGE_HAS_SYSCALLS, r.syscalls);
    set_field(sample, FORE_FIELD_IDLE, &r, FORE_PAGE_HAS_IDLE, r.idle);
    return true;
}
