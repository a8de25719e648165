/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  Goal: the same pattern gives the same numbers for a VM of any size, and still does
 * after Foresee has changed that size.
 *
 * Level.  Demand is divided by the VM's mean demand; log rates have the VM's mean log rate
 * subtracted.  The mean is a prior learned in training, counted as `strength` samples, and the VM's
 * own samples.  Where the recorded windows agree (one VM, or a fleet of equals) the prior is strong
 * and the level stands still; where they differ it is weak and a new VM finds its own within a
 * minute.  This is the usual shrinkage of a group mean: strength = variance within a window /
 * variance between windows.
 *
 * Guard.  A model is recorded while the VM has its small capacity and used while it has a larger
 * one.  Busy time, idle share, run queue, pressure and the rate of executed code all change with
 * that although the workload did not.  So they are masked when the number of online vCPUs (or
 * MemTotal) is one that training never saw.  Ratios of counters do not depend on capacity and stay;
 * so do demand (censoring undone) and system calls, which are what a preparation looks like.
 *
 * Calendar.  The time of day means nothing to a model that has seen half a day: it would take the
 * hour for the cause.  It is masked until the history spans two days, the weekend until two weeks.
 *
 * A feature that never varied in training says nothing and is always masked.
 */
#include "forecast/fore-features.h"

#include <math.h>
#include <string.h>

#define MAX_VALUE    1e18   /* above this a counter or a size is nonsense */
#define LEVEL_MEMORY 3600.0 /* samples after which old ones are forgotten */
#define LEVEL_WEAK   30.0   /* samples a prior counts for at least */
#define RANGE_SLACK  0.5    /* standard deviations beyond the range of training that are believed */
#define INPUT_LIMIT  10.0   /* standard deviations */

const char *const fore_feature_names[FORE_FEATURE_N] = {
    "demand_vcpu",     "demand_mem",  "cpu_busy",    "mem_used",          "insns",
    "loads",           "stores",      "syscalls",    "syscalls_per_insn", "loads_per_insn",
    "stores_per_insn", "idle",        "runnable",    "psi_cpu",           "psi_mem",
    "online_vcpus",    "psi_io",      "uptime",      "mix_simd",          "mix_string",
    "syscall_file",    "syscall_net", "space_top",   "switches_per_insn", "working_set",
    "signature_a",     "signature_b", "signature_c", "next_in",           "reserved_vcpu",
    "reserved_mem",    "day_sin",     "day_cos",     "weekend",
};

#define BIT(f)       (UINT64_C(1) << FORE_FEATURE_##f)
#define HAS(mask, f) (((mask) >> (f)&1u) != 0)
#define GUARD_CPU                                                                                  \
    (BIT(CPU_BUSY) | BIT(INSNS) | BIT(LOADS) | BIT(STORES) | BIT(IDLE) | BIT(RUNNABLE) |           \
     BIT(PSI_CPU) | BIT(ONLINE_VCPUS))
#define GUARD_MEM (BIT(MEM_USED) | BIT(PSI_MEM))
#define DEMANDS   (BIT(DEMAND_VCPU) | BIT(DEMAND_MEM))
#define DEEP                                                                                       \
    (BIT(MIX_SIMD) | BIT(MIX_STRING) | BIT(SYSCALL_FILE) | BIT(SYSCALL_NET) | BIT(SPACE_TOP) |     \
     BIT(SWITCHES_PER_INSN) | BIT(WORKING_SET) | BIT(SIGNATURE_A) | BIT(SIGNATURE_B) |             \
     BIT(SIGNATURE_C))
#define ANNOUNCED (BIT(NEXT_IN) | BIT(RESERVED_VCPU) | BIT(RESERVED_MEM))
#define CALENDAR  (BIT(DAY_SIN) | BIT(DAY_COS) | BIT(WEEKEND))

#define DAY_MS  INT64_C(86400000)
#define WEEK_MS (7 * DAY_MS)

/* Scale-free values of one sample, before the constants of training are applied. */
typedef struct {
    double value[FORE_FEATURE_N];
    uint64_t has;
} RawFeatures;

static bool field(const ForeSample *s, ForeField f, double *ret)
{
    double v = s->value[f];

    if (!FORE_HAS(s, f) || !isfinite(v) || v < 0.0 || v > MAX_VALUE) {
        return false;
    }
    *ret = v;
    return true;
}

void fore_features_demand(const ForeSample *sample, double ret_demand[FORE_RES_N])
{
    static const ForeField fields[FORE_RES_N] = {FORE_FIELD_DEMAND_VCPU, FORE_FIELD_DEMAND_MEM};

    for (unsigned r = 0; r < FORE_RES_N; r++) {
        ret_demand[r] = NAN;
        (void)field(sample, fields[r], &ret_demand[r]);
    }
}

uint64_t fore_features_group(ForeFeatureGroup group)
{
    switch (group) {
    case FORE_GROUP_CAPACITY:
        return GUARD_CPU | GUARD_MEM;
    case FORE_GROUP_PROFILE:
        return BIT(INSNS) | BIT(LOADS) | BIT(STORES) | BIT(SYSCALLS) | BIT(SYSCALLS_PER_INSN) |
               BIT(LOADS_PER_INSN) | BIT(STORES_PER_INSN) | BIT(IDLE) | DEEP;
    case FORE_GROUP_DEEP:
        return DEEP;
    case FORE_GROUP_ANNOUNCED:
        return ANNOUNCED;
    default:
        return 0;
    }
}

void fore_feature_state_init(ForeFeatureState *state)
{
    memset(state, 0, sizeof(*state));
}

/* The quantities whose mean is the level of a VM; false where the sample does not have them. */
static bool level_value(const ForeSample *s, ForeLevel level, double *ret)
{
    static const ForeField fields[FORE_LEVEL_N] = {
        [FORE_LEVEL_VCPU] = FORE_FIELD_DEMAND_VCPU, [FORE_LEVEL_MEM] = FORE_FIELD_DEMAND_MEM,
        [FORE_LEVEL_INSNS] = FORE_FIELD_INSNS,      [FORE_LEVEL_LOADS] = FORE_FIELD_LOADS,
        [FORE_LEVEL_STORES] = FORE_FIELD_STORES,    [FORE_LEVEL_SYSCALLS] = FORE_FIELD_SYSCALLS,
    };
    double v;

    if (!field(s, fields[level], &v)) {
        return false;
    }
    *ret = level >= FORE_LEVEL_INSNS ? log1p(v) : v;
    return true;
}

static double level_floor(ForeLevel level)
{
    return level == FORE_LEVEL_VCPU ? 0.01 : level == FORE_LEVEL_MEM ? 1024.0 * 1024.0 : 0.0;
}

static double level_now(const ForeFeatureNorm *norm, const ForeFeatureState *state, ForeLevel level)
{
    double sum = norm->strength[level] * norm->level[level] + state->sum[level];

    return MAX(sum / (norm->strength[level] + state->n[level]), level_floor(level));
}

static void levels_update(ForeFeatureState *state, const ForeSample *sample)
{
    for (unsigned l = 0; l < FORE_LEVEL_N; l++) {
        double v;

        if (!level_value(sample, (ForeLevel)l, &v)) {
            continue;
        }
        if (state->n[l] >= LEVEL_MEMORY) {
            state->sum[l] *= 1.0 - 1.0 / LEVEL_MEMORY;
            state->n[l] -= 1.0;
        }
        state->sum[l] += v;
        state->n[l] += 1.0;
    }
}

static void put(RawFeatures *raw, ForeFeature f, double value)
{
    raw->value[f] = value;
    raw->has |= UINT64_C(1) << f;
}

static void put_rates(const ForeSample *s, const double *level, RawFeatures *raw)
{
    static const ForeFeature ratios[] = {FORE_FEATURE_LOADS_PER_INSN, FORE_FEATURE_STORES_PER_INSN,
                                         FORE_FEATURE_SYSCALLS_PER_INSN};
    double v, insns;

    for (unsigned l = FORE_LEVEL_INSNS; l < FORE_LEVEL_N; l++) {
        if (level_value(s, (ForeLevel)l, &v)) {
            put(raw, (ForeFeature)(FORE_FEATURE_INSNS + (l - FORE_LEVEL_INSNS)), v - level[l]);
        }
    }
    if (field(s, FORE_FIELD_SPACE_SWITCHES, &v) && level_value(s, FORE_LEVEL_INSNS, &insns)) {
        put(raw, FORE_FEATURE_SWITCHES_PER_INSN, log1p(v) - insns);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(ratios); i++) {
        ForeFeature rate = (ForeFeature)(FORE_FEATURE_LOADS + i);

        if ((raw->has & BIT(INSNS)) != 0 && HAS(raw->has, rate)) {
            put(raw, ratios[i], raw->value[rate] - raw->value[FORE_FEATURE_INSNS]);
        }
    }
}

/* Time of day and week, UTC; 1970 began on a Thursday, so 3 days later is a Sunday. */
static void put_calendar(int64_t wall_ms, RawFeatures *raw)
{
    double turn;

    if (wall_ms <= 0) {
        return;
    }
    turn = 2.0 * G_PI * (double)(wall_ms % DAY_MS) / (double)DAY_MS;
    put(raw, FORE_FEATURE_DAY_SIN, sin(turn));
    put(raw, FORE_FEATURE_DAY_COS, cos(turn));
    put(raw, FORE_FEATURE_WEEKEND, (wall_ms / DAY_MS + 3) % 7 >= 5 ? 1.0 : 0.0);
}

static void raw_features(const ForeSample *s, const double *level, RawFeatures *raw)
{
    static const struct {
        ForeField from;
        ForeFeature to;
        int level; /* divided by it; -1: as it is */
    } plain[] = {
        {FORE_FIELD_DEMAND_VCPU, FORE_FEATURE_DEMAND_VCPU, FORE_LEVEL_VCPU},
        {FORE_FIELD_DEMAND_MEM, FORE_FEATURE_DEMAND_MEM, FORE_LEVEL_MEM},
        {FORE_FIELD_CPU_BUSY, FORE_FEATURE_CPU_BUSY, FORE_LEVEL_VCPU},
        {FORE_FIELD_MEM_USED, FORE_FEATURE_MEM_USED, FORE_LEVEL_MEM},
        {FORE_FIELD_RUNNABLE, FORE_FEATURE_RUNNABLE, FORE_LEVEL_VCPU},
        {FORE_FIELD_IDLE, FORE_FEATURE_IDLE, -1},
        {FORE_FIELD_PSI_CPU, FORE_FEATURE_PSI_CPU, -1},
        {FORE_FIELD_PSI_MEM, FORE_FEATURE_PSI_MEM, -1},
        {FORE_FIELD_PSI_IO, FORE_FEATURE_PSI_IO, -1},
        {FORE_FIELD_MIX_SIMD, FORE_FEATURE_MIX_SIMD, -1},
        {FORE_FIELD_MIX_STRING, FORE_FEATURE_MIX_STRING, -1},
        {FORE_FIELD_SYSCALL_FILE, FORE_FEATURE_SYSCALL_FILE, -1},
        {FORE_FIELD_SYSCALL_NET, FORE_FEATURE_SYSCALL_NET, -1},
        {FORE_FIELD_SPACE_TOP, FORE_FEATURE_SPACE_TOP, -1},
        {FORE_FIELD_WORKING_SET, FORE_FEATURE_WORKING_SET, FORE_LEVEL_MEM},
        {FORE_FIELD_SIGNATURE_A, FORE_FEATURE_SIGNATURE_A, -1},
        {FORE_FIELD_SIGNATURE_B, FORE_FEATURE_SIGNATURE_B, -1},
        {FORE_FIELD_SIGNATURE_C, FORE_FEATURE_SIGNATURE_C, -1},
        {FORE_FIELD_RESERVED_VCPU, FORE_FEATURE_RESERVED_VCPU, FORE_LEVEL_VCPU},
        {FORE_FIELD_RESERVED_MEM, FORE_FEATURE_RESERVED_MEM, FORE_LEVEL_MEM},
    };
    static const struct {
        ForeField from;
        ForeFeature to;
    } logs[] = {
        {FORE_FIELD_ONLINE_VCPUS, FORE_FEATURE_ONLINE_VCPUS},
        {FORE_FIELD_UPTIME, FORE_FEATURE_UPTIME},
        {FORE_FIELD_NEXT_IN, FORE_FEATURE_NEXT_IN},
    };
    double v;

    raw->has = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(plain); i++) {
        if (field(s, plain[i].from, &v)) {
            put(raw, plain[i].to, plain[i].level < 0 ? v : v / level[plain[i].level]);
        }
    }
    put_rates(s, level, raw);
    for (unsigned i = 0; i < G_N_ELEMENTS(logs); i++) {
        if (field(s, logs[i].from, &v)) {
            put(raw, logs[i].to, log1p(v));
        }
    }
    put_calendar(s->wall_ms, raw);
}

static uint64_t guarded(const ForeFeatureNorm *norm, const ForeSample *s)
{
    uint64_t mask = 0;
    double v;

    if (field(s, FORE_FIELD_ONLINE_VCPUS, &v) && norm->online_lo <= norm->online_hi &&
        (v < norm->online_lo - 0.5 || v > norm->online_hi + 0.5)) {
        mask |= GUARD_CPU;
    }
    if (field(s, FORE_FIELD_MEM_TOTAL, &v) && norm->total_lo <= norm->total_hi &&
        (v < 0.95 * norm->total_lo || v > 1.05 * norm->total_hi)) {
        mask |= GUARD_MEM;
    }
    return mask;
}

void fore_features_step(const ForeFeatureNorm *norm, ForeFeatureState *state,
                        const ForeSample *sample, ForeReal *ret_x, double *ret_scale)
{
    double level[FORE_LEVEL_N];
    RawFeatures raw = {.has = 0};
    uint64_t masked = guarded(norm, sample);

    levels_update(state, sample);
    for (unsigned l = 0; l < FORE_LEVEL_N; l++) {
        level[l] = level_now(norm, state, (ForeLevel)l);
    }
    raw_features(sample, level, &raw);
    for (unsigned f = 0; f < FORE_FEATURE_N; f++) {
        bool has = norm->sd[f] > 0.0 && HAS(raw.has & ~masked, f);
        double z = has ? (raw.value[f] - norm->mean[f]) / norm->sd[f] : 0.0;

        if (!HAS(DEMANDS, f) && has) {
            z = CLAMP(z, norm->lo[f] - RANGE_SLACK, norm->hi[f] + RANGE_SLACK);
        }
        ret_x[f] = (ForeReal)CLAMP(z, -INPUT_LIMIT, INPUT_LIMIT);
        ret_x[FORE_FEATURE_N + f] = has ? 1 : 0;
    }
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        ret_scale[r] = level[r];
    }
}

/* Mean and variance by Welford's recurrence. */
typedef struct {
    double n, mean, m2;
} Moments;

static void moments_add(Moments *m, double v)
{
    double d = v - m->mean;

    m->n += 1.0;
    m->mean += d / m->n;
    m->m2 += d * (v - m->mean);
}

static double moments_variance(const Moments *m)
{
    return m->n > 1.0 ? m->m2 / m->n : 0.0;
}

static void fit_level(const ForeWindow *windows, size_t n, ForeLevel level, ForeFeatureNorm *norm)
{
    Moments between = {0}, within = {0};
    double strength = LEVEL_MEMORY;

    for (size_t w = 0; w < n; w++) {
        Moments m = {0};
        double v;

        for (size_t i = 0; i < windows[w].n; i++) {
            if (level_value(&windows[w].samples[i], level, &v)) {
                moments_add(&m, v);
            }
        }
        if (m.n > 0.0) {
            moments_add(&between, m.mean);
            moments_add(&within, moments_variance(&m));
        }
    }
    if (moments_variance(&between) > 0.0) {
        strength = LEVEL_WEAK * within.mean / moments_variance(&between);
    }
    norm->level[level] = MAX(between.mean, level_floor(level));
    norm->strength[level] = CLAMP(strength, LEVEL_WEAK, LEVEL_MEMORY);
}

static void fit_range(const ForeWindow *windows, size_t n, ForeField f, double *lo, double *hi)
{
    *lo = 1.0;
    *hi = 0.0;
    for (size_t w = 0; w < n; w++) {
        for (size_t i = 0; i < windows[w].n; i++) {
            double v;

            if (field(&windows[w].samples[i], f, &v)) {
                *lo = *lo > *hi ? v : MIN(*lo, v);
                *hi = MAX(*hi, v);
            }
        }
    }
}

/* What the calendar may say: nothing of days before two of them were seen, or of weeks. */
static uint64_t calendar_unknown(const ForeWindow *windows, size_t n)
{
    int64_t first = INT64_MAX, last = 0;

    for (size_t w = 0; w < n; w++) {
        for (size_t i = 0; i < windows[w].n; i++) {
            int64_t ms = windows[w].samples[i].wall_ms;

            if (ms > 0) {
                first = MIN(first, ms);
                last = MAX(last, ms);
            }
        }
    }
    if (last < first || last - first < 2 * DAY_MS) {
        return CALENDAR;
    }
    return last - first < 2 * WEEK_MS ? BIT(WEEKEND) : 0;
}

void fore_features_fit(const ForeWindow *windows, size_t n, ForeFeatureNorm *ret_norm)
{
    uint64_t unknown = calendar_unknown(windows, n);
    Moments moments[FORE_FEATURE_N] = {{0}};
    double lo[FORE_FEATURE_N], hi[FORE_FEATURE_N];

    for (unsigned l = 0; l < FORE_LEVEL_N; l++) {
        fit_level(windows, n, (ForeLevel)l, ret_norm);
    }
    fit_range(windows, n, FORE_FIELD_ONLINE_VCPUS, &ret_norm->online_lo, &ret_norm->online_hi);
    fit_range(windows, n, FORE_FIELD_MEM_TOTAL, &ret_norm->total_lo, &ret_norm->total_hi);
    for (size_t w = 0; w < n; w++) {
        ForeFeatureState state;
        double level[FORE_LEVEL_N];
        RawFeatures raw = {.has = 0};

        fore_feature_state_init(&state);
        for (size_t i = 0; i < windows[w].n; i++) {
            levels_update(&state, &windows[w].samples[i]);
            for (unsigned l = 0; l < FORE_LEVEL_N; l++) {
                level[l] = level_now(ret_norm, &state, (ForeLevel)l);
            }
            raw_features(&windows[w].samples[i], level, &raw);
            for (unsigned f = 0; f < FORE_FEATURE_N; f++) {
                if (HAS(raw.has, f)) {
                    lo[f] = moments[f].n > 0.0 ? MIN(lo[f], raw.value[f]) : raw.value[f];
                    hi[f] = moments[f].n > 0.0 ? MAX(hi[f], raw.value[f]) : raw.value[f];
                    moments_add(&moments[f], raw.value[f]);
                }
            }
        }
    }
    for (unsigned f = 0; f < FORE_FEATURE_N; f++) {
        double sd = sqrt(moments_variance(&moments[f]));
        bool constant = HAS(unknown, f) || sd < 1e-9 * MAX(1.0, fabs(moments[f].mean));

        ret_norm->mean[f] = moments[f].mean;
        ret_norm->sd[f] = constant ? 0.0 : sd;
        ret_norm->lo[f] = constant ? 0.0 : (lo[f] - moments[f].mean) / sd;
        ret_norm->hi[f] = constant ? 0.0 : (hi[f] - moments[f].mean) / sd;
    }
    /* a demand that stood still in training must still be seen when it moves */
    for (unsigned r = 0; r < FORE_RES_N; r++) {
        if (moments[r].n > 0.0 && ret_norm->sd[r] < 1e-3) {
            ret_norm->sd[r] = 1e-3;
        }
    }
}

bool fore_features_norm_is_valid(const ForeFeatureNorm *norm)
{
    double all[FORE_FEATURE_NORM_DOUBLES];

    memcpy(all, norm, sizeof(all));
    for (size_t i = 0; i < FORE_FEATURE_NORM_DOUBLES; i++) {
        if (!isfinite(all[i]) || fabs(all[i]) > MAX_VALUE) {
            return false;
        }
    }
    for (unsigned f = 0; f < FORE_FEATURE_N; f++) {
        if (norm->sd[f] < 0.0 || (norm->sd[f] > 0.0 && norm->sd[f] < 1e-12) ||
            norm->lo[f] > norm->hi[f]) {
            return false;
        }
    }
    for (unsigned l = 0; l < FORE_LEVEL_N; l++) {
        if (!(norm->strength[l] > 0.0) || norm->level[l] < level_floor((ForeLevel)l)) {
            return false;
        }
    }
    return true;
}
