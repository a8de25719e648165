/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * ForeSample -> the input vector of the LSTM: scale free, and with a mask beside each value, so
 * that "not measured" differs from zero.  The constants are learned in training and travel with the
 * weights; the only thing carried per VM is its level (mean demand, mean log rate of each counter).
 *
 * Features that move when capacity moves (busy, idle, run queue, rates of executed code, ...) are
 * masked as soon as the VM has a capacity that the training never saw: see "guard" in the .c.
 */
#include "common/fore-flow.h"
#include "forecast/fore-lstm.h"

typedef enum {
    FORE_FEATURE_DEMAND_VCPU, /* demand / mean demand; these two also reach the output layer
                                 directly */
    FORE_FEATURE_DEMAND_MEM,
    FORE_FEATURE_CPU_BUSY, /* / mean demand */
    FORE_FEATURE_MEM_USED,
    FORE_FEATURE_INSNS, /* log(1 + rate) - mean log rate */
    FORE_FEATURE_LOADS,
    FORE_FEATURE_STORES,
    FORE_FEATURE_SYSCALLS,
    FORE_FEATURE_SYSCALLS_PER_INSN, /* differences of the logarithms above */
    FORE_FEATURE_LOADS_PER_INSN,
    FORE_FEATURE_STORES_PER_INSN,
    FORE_FEATURE_IDLE,     /* 0..1 */
    FORE_FEATURE_RUNNABLE, /* / mean vCPU demand */
    FORE_FEATURE_PSI_CPU,  /* 0..1 */
    FORE_FEATURE_PSI_MEM,
    FORE_FEATURE_ONLINE_VCPUS, /* log(1 + vCPUs) */
    FORE_FEATURE_PSI_IO,       /* 0..1 */
    FORE_FEATURE_UPTIME,       /* log(1 + seconds) */
    FORE_FEATURE_MIX_SIMD,     /* 0..1, as the next four */
    FORE_FEATURE_MIX_STRING,
    FORE_FEATURE_SYSCALL_FILE,
    FORE_FEATURE_SYSCALL_NET,
    FORE_FEATURE_SPACE_TOP,
    FORE_FEATURE_SWITCHES_PER_INSN, /* difference of logarithms */
    FORE_FEATURE_WORKING_SET,       /* / mean memory demand */
    FORE_FEATURE_SIGNATURE_A,       /* 0..1 */
    FORE_FEATURE_SIGNATURE_B,
    FORE_FEATURE_SIGNATURE_C,
    FORE_FEATURE_NEXT_IN,       /* log(1 + seconds) */
    FORE_FEATURE_RESERVED_VCPU, /* / mean vCPU demand */
    FORE_FEATURE_RESERVED_MEM,  /* / mean memory demand */
    FORE_FEATURE_DAY_SIN,       /* of the time of day, UTC; known once training spans two days */
    FORE_FEATURE_DAY_COS,
    FORE_FEATURE_WEEKEND, /* 0 or 1; known once training spans two weeks */
    FORE_FEATURE_N
} ForeFeature;
extern const char *const fore_feature_names[FORE_FEATURE_N];

#define FORE_FEATURE_N_SKIP 2                    /* inputs that reach the output layer directly */
#define FORE_FEATURE_N_IN   (2 * FORE_FEATURE_N) /* values, then masks (1 = measured) */

/* What a VM is like on average; the two demands come first, indexed by ForeResource. */
typedef enum {
    FORE_LEVEL_VCPU,  /* vCPUs */
    FORE_LEVEL_MEM,   /* bytes */
    FORE_LEVEL_INSNS, /* log(1 + per second), as the next three */
    FORE_LEVEL_LOADS,
    FORE_LEVEL_STORES,
    FORE_LEVEL_SYSCALLS,
    FORE_LEVEL_N
} ForeLevel;
G_STATIC_ASSERT((int)FORE_LEVEL_MEM == (int)FORE_RES_MEM);

/* Learned in training; plain doubles so that the weights file can hold it as one array. */
typedef struct {
    double mean[FORE_FEATURE_N],
        sd[FORE_FEATURE_N]; /* of the scale-free value; sd 0: never varied, masked */
    double lo[FORE_FEATURE_N], hi[FORE_FEATURE_N]; /* range seen, in standard deviations */
    double level[FORE_LEVEL_N];                    /* prior of the level of a VM */
    double strength[FORE_LEVEL_N];                 /* samples that the prior counts for, > 0 */
    double online_lo, online_hi; /* vCPUs online in training; lo > hi: not measured */
    double total_lo, total_hi;   /* bytes of MemTotal, likewise */
} ForeFeatureNorm;
#define FORE_FEATURE_NORM_DOUBLES (sizeof(ForeFeatureNorm) / sizeof(double))

/* Carried per VM. */
typedef struct {
    double sum[FORE_LEVEL_N], n[FORE_LEVEL_N];
} ForeFeatureState;

void fore_feature_state_init(ForeFeatureState *state);

/**
 * fore_features_step: one sample to one input vector; the level of the VM is updated first
 * @sample: of this step; hostile values (not finite, negative, above 1e18) count as not measured
 * @ret_x: (out caller-allocates): [FORE_FEATURE_N_IN], every value within -10..10
 * @ret_scale: (out caller-allocates): [FORE_RES_N] mean demand: vCPUs, bytes; > 0
 */
void fore_features_step(const ForeFeatureNorm *norm, ForeFeatureState *state,
                        const ForeSample *sample, ForeReal *ret_x, double *ret_scale);

/** fore_features_demand: demand of a sample: vCPUs, bytes; NAN where unknown */
void fore_features_demand(const ForeSample *sample, double ret_demand[FORE_RES_N]);

/**
 * fore_features_fit: learn the constants
 * @windows: [n], at least one usable sample of demand in all
 */
void fore_features_fit(const ForeWindow *windows, size_t n, ForeFeatureNorm *ret_norm);
/** fore_features_norm_is_valid: finite, sd >= 0, strength and demand levels > 0 */
bool fore_features_norm_is_valid(const ForeFeatureNorm *norm);

/* Groups of features that come and go together; training drops them to learn to do without. */
typedef enum {
    FORE_GROUP_CAPACITY,  /* moves with the capacity: may not be relied on */
    FORE_GROUP_PROFILE,   /* from the profile page: absent when the plugin is */
    FORE_GROUP_DEEP,      /* of it, what only the levels standard and full have */
    FORE_GROUP_ANNOUNCED, /* from an application in the guest, which may fall silent */
    FORE_GROUP_N
} ForeFeatureGroup;
G_STATIC_ASSERT(FORE_FEATURE_N <= 64);
/** fore_features_group: bit mask of ForeFeature; the demands are in no group */
uint64_t fore_features_group(ForeFeatureGroup group);
