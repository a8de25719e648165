/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A small service with bursts that only its execution pattern announces, one sample a second: idle
 * about 12 s, a preparation of about 6 s (many more system calls, hardly more CPU), a burst of
 * about 8 s that wants 2.6 to 3 vCPUs and 320 MiB more.  Seeded; phases begin between two samples.
 *
 * Recorded on 1 vCPU and 512 MiB the burst is censored, and demand is what fore_usage_demand()
 * makes of it. Elastic: capacity grows to 3 vCPUs and 1 GiB @ahead_s before each burst, as under
 * Foresee.
 */
#include <glib.h>
#include <math.h>
#include <string.h>

#include "common/fore-flow.h"
#include "forecast/fore-random.h"

#define SYNTHETIC_MIB       1048576.0
#define SYNTHETIC_MAX_BURST 512

typedef struct {
    uint64_t seed;
    unsigned n; /* seconds */
    bool elastic;
    double ahead_s;      /* elastic: capacity comes so long before a burst */
    double burst_factor; /* length of bursts over the usual one; 0 means 1 */
} SyntheticConfig;

typedef struct {
    unsigned n;
    ForeSample *samples;
    double *vcpu, *mem; /* [n] true demand, never censored */
    double *idle;       /* [n] share of the step that was idle, 0..1 */
    unsigned n_bursts;
    double prepare[SYNTHETIC_MAX_BURST], start[SYNTHETIC_MAX_BURST],
        end[SYNTHETIC_MAX_BURST]; /* seconds */
    double call_factor[SYNTHETIC_MAX_BURST], want[SYNTHETIC_MAX_BURST];
} Synthetic;

static inline double synthetic_noisy(ForeRandom *rng, double mean, double spread)
{
    return mean * exp(spread * fore_random_normal(rng));
}

static inline double synthetic_about(ForeRandom *rng, double mean, double sd, double least)
{
    return fmax(mean + sd * fore_random_normal(rng), least);
}

static inline void synthetic_schedule(Synthetic *s, const SyntheticConfig *config, ForeRandom *rng)
{
    double factor = config->burst_factor > 0.0 ? config->burst_factor : 1.0;
    double at = synthetic_about(rng, 12.0, 3.0, 4.0) * fore_random_unit(rng);

    while (at < s->n && s->n_bursts < SYNTHETIC_MAX_BURST) {
        unsigned b = s->n_bursts++;

        s->prepare[b] = at;
        s->start[b] = at + synthetic_about(rng, 6.0, 1.5, 2.5);
        s->end[b] = s->start[b] + factor * synthetic_about(rng, 8.0, 1.0, 5.0);
        s->call_factor[b] = 10.0 * pow(5.0, fore_random_unit(rng));
        s->want[b] = 2.6 + 0.4 * fore_random_unit(rng);
        at = s->end[b] + synthetic_about(rng, 12.0, 3.0, 4.0);
    }
}

/* Share of the second that ends at @t + 1 which lies between @from and @to. */
static inline double synthetic_overlap(unsigned t, double from, double to)
{
    return CLAMP(MIN(to, t + 1.0) - MAX(from, (double)t), 0.0, 1.0);
}

static inline void synthetic_set(ForeSample *s, ForeField f, double v)
{
    s->value[f] = v;
    s->valid |= 1u << f;
}

/* What the guest and the profile page report when the shares of the phases in this second are
 * these. */
static inline void synthetic_sample(ForeRandom *rng, ForeSample *s, double prep, double burst,
                                    double calls, double vcpu, double mem, bool large)
{
    double online = large ? 3.0 : 1.0;
    double total = (large ? 1000.0 : 480.0) * SYNTHETIC_MIB;
    double idle = 1.0 - prep - burst;
    double busy = MIN(vcpu, online * (0.97 + 0.03 * fore_random_unit(rng)));
    double work = MIN(1.0, online / 2.8);
    double insns = synthetic_noisy(rng, 2e7 * idle + 5e7 * prep + 1.2e9 * work * burst, 0.25);
    double demand_vcpu = 0.0, demand_mem = 0.0;

    synthetic_set(s, FORE_FIELD_CPU_BUSY, busy);
    synthetic_set(s, FORE_FIELD_RUNNABLE,
                  fmax(0.0, burst * 3.0 + 0.15 * (1.0 - burst) + 0.25 * fore_random_normal(rng)));
    synthetic_set(s, FORE_FIELD_PSI_CPU,
                  CLAMP(burst * (large ? 0.1 : 0.8) + 0.03 * fabs(fore_random_normal(rng)), 0, 1));
    synthetic_set(s, FORE_FIELD_PSI_MEM, 0.0);
    synthetic_set(s, FORE_FIELD_SWAP_OUT, 0.0);
    synthetic_set(s, FORE_FIELD_MEM_USED, MIN(mem, 0.97 * total));
    synthetic_set(s, FORE_FIELD_MEM_AVAILABLE, total - MIN(mem, 0.97 * total));
    synthetic_set(s, FORE_FIELD_ONLINE_VCPUS, online);
    synthetic_set(s, FORE_FIELD_MEM_TOTAL, total);
    synthetic_set(s, FORE_FIELD_INSNS, insns);
    synthetic_set(s, FORE_FIELD_LOADS,
                  synthetic_noisy(rng, insns * (0.25 * (1.0 - burst) + 0.33 * burst), 0.05));
    synthetic_set(s, FORE_FIELD_STORES, synthetic_noisy(rng, insns * 0.12, 0.05));
    synthetic_set(s, FORE_FIELD_SYSCALLS,
                  synthetic_noisy(rng, 200 * idle + 200 * calls * prep + 900 * work * burst, 0.3));
    synthetic_set(s, FORE_FIELD_IDLE, CLAMP(1.0 - busy / online, 0.0, 1.0));
    (void)fore_usage_demand(s, &demand_vcpu, &demand_mem);
    synthetic_set(s, FORE_FIELD_DEMAND_VCPU, demand_vcpu);
    synthetic_set(s, FORE_FIELD_DEMAND_MEM, demand_mem);
}

static inline Synthetic *synthetic_new(const SyntheticConfig *config)
{
    Synthetic *s = g_new0(Synthetic, 1);
    ForeRandom rng = {.state = config->seed};

    s->n = config->n;
    s->samples = g_new0(ForeSample, s->n);
    s->vcpu = g_new0(double, s->n);
    s->mem = g_new0(double, s->n);
    s->idle = g_new0(double, s->n);
    synthetic_schedule(s, config, &rng);
    for (unsigned t = 0; t < s->n; t++) {
        double prep = 0.0, burst = 0.0, calls = 1.0, want = 0.0;
        bool large = false;

        for (unsigned b = 0; b < s->n_bursts; b++) {
            double p = synthetic_overlap(t, s->prepare[b], s->start[b]);
            double u = synthetic_overlap(t, s->start[b], s->end[b]);

            prep += p;
            burst += u;
            calls = p > 0.0 ? s->call_factor[b] : calls;
            want = u > 0.0 ? s->want[b] : want;
            large |= config->elastic && t + config->ahead_s >= s->start[b] && t < s->end[b] + 3.0;
        }
        s->idle[t] = 1.0 - prep - burst;
        s->vcpu[t] = synthetic_about(&rng, 0.1, 0.04, 0.01) * s->idle[t] +
                     synthetic_about(&rng, 0.2, 0.05, 0.02) * prep +
                     synthetic_about(&rng, want, 0.08, 0.1) * burst;
        if (s->idle[t] == 1.0 && fore_random_unit(&rng) < 0.03) {
            s->vcpu[t] += 0.3 * fore_random_unit(&rng); /* housekeeping */
        }
        s->mem[t] = (synthetic_about(&rng, 130.0, 2.0, 100.0) + 320.0 * burst) * SYNTHETIC_MIB;
        s->samples[t].mono_ns = (t + 1) * FORE_NS_PER_S;
        s->samples[t].wall_ms = 1700000000000 + (int64_t)(t + 1) * 1000;
        synthetic_sample(&rng, &s->samples[t], prep, burst, calls, s->vcpu[t], s->mem[t], large);
    }
    return s;
}

static inline void synthetic_free(Synthetic *s)
{
    if (s != NULL) {
        g_free(s->samples);
        g_free(s->vcpu);
        g_free(s->mem);
        g_free(s->idle);
        g_free(s);
    }
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Synthetic, synthetic_free)

/* How a forecaster fared on one Synthetic. */
typedef struct {
    unsigned bursts; /* scored: those that start at least 15 s in and end before the series does */
    unsigned led;    /* announced at least 2 s before they began */
    double lead_s[SYNTHETIC_MAX_BURST]; /* of each; 0: not announced */
    double idle_steps, false_alarms;    /* wholly idle steps more than 3 s after a burst */
    double idle_p95;                    /* mean over them of the P95 of the peak over 3 s, vCPUs */
    double fall_back_s; /* worst time from the end of a burst until that P95 < 1.5 vCPUs */
} SyntheticVerdict;

#define SYNTHETIC_ALARM 2.0 /* vCPUs: burst level */

/* @p95_5, @p95_3: [n] P95 of the peak over 5 and over 3 s, as issued at the end of each step */
static inline void synthetic_judge(const Synthetic *s, const double *p95_5, const double *p95_3,
                                   SyntheticVerdict *ret)
{
    memset(ret, 0, sizeof(*ret));
    for (unsigned b = 0; b < s->n_bursts; b++) {
        unsigned start = (unsigned)s->start[b];
        double *lead = &ret->lead_s[ret->bursts];
        unsigned back = (unsigned)ceil(s->end[b]);

        if (s->start[b] < 15.0 || s->end[b] + 12.0 > s->n) {
            continue;
        }
        for (unsigned t = start;
             t-- > 0 && p95_5[t] >= SYNTHETIC_ALARM && t + 1.0 >= s->prepare[b];) {
            *lead = s->start[b] - (t + 1.0);
        }
        while (back < s->n && p95_3[back] >= 1.5) {
            back++;
        }
        ret->fall_back_s = fmax(ret->fall_back_s, back + 1.0 - s->end[b]);
        ret->led += *lead >= 2.0 ? 1 : 0;
        ret->bursts++;
    }
    for (unsigned t = 15; t < s->n; t++) {
        bool calm = s->idle[t] == 1.0;

        for (unsigned b = 0; b < s->n_bursts; b++) {
            calm = calm && !(t >= s->start[b] && t < s->end[b] + 3.0);
        }
        if (calm) {
            ret->idle_steps += 1.0;
            ret->false_alarms += p95_3[t] >= 1.0 ? 1.0 : 0.0;
            ret->idle_p95 += p95_3[t];
        }
    }
    ret->idle_p95 /= fmax(ret->idle_steps, 1.0);
}
