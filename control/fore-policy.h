/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * What the operator allows one VM: limits, gains, times.  Parsed from key=value by name.  Memory
 * amounts are totals, base included; they are rounded to base + n x FORE_MEM_BLOCK (minimum up,
 * maximum down).
 */
#include "common/fore-flow.h"

typedef enum { FORE_MODE_OBSERVE, FORE_MODE_RECOMMEND, FORE_MODE_ENFORCE } ForeMode;
extern const char *const fore_mode_names[3]; /* "observe", "recommend", "enforce" */
typedef enum { FORE_FORECASTER_LSTM, FORE_FORECASTER_REACTIVE } ForeForecasterKind;

typedef struct {
    double kp, ki, kd;         /* unit-free; kd acts on the measurement */
    double gain_up, gain_down; /* factor on the output by sign of the error */
} ForePidGains;

typedef struct {
    ForeMode mode;
    ForeForecasterKind forecaster; /* reactive: forecasts are shown but never used */
    unsigned min_vcpus, max_vcpus;
    uint64_t min_mem_bytes, max_mem_bytes; /* multiples of FORE_MEM_BLOCK above the base */
    uint64_t base_mem_bytes;               /* the VM's boot memory: never given back */
    unsigned quantile;                     /* FORE_Q50..FORE_Q95 */
    double utilisation[FORE_RES_N];        /* target share of capacity in use, 0.3..1 */
    double
        reattest_threshold[FORE_RES_N]; /* adjustment above this asks the PAM anew: vCPUs, bytes */
    ForePidGains pid[FORE_RES_N];
    double deadband[FORE_RES_N]; /* |error| below this is no error: vCPUs, bytes */
    uint64_t lead_min_ns;        /* floor of the lead time that the loop learns */
    uint64_t shrink_hold_ns; /* demand must stay below for so long before anything is released */
    uint64_t cooldown_ns;    /* between two growths of one resource */
    uint64_t
        denial_hold_ns; /* after a refusal no growth is asked for so long (doubles, max 5 min) */
    uint64_t max_verdict_age_ns; /* a verdict older than this gives nothing */
    uint64_t max_usage_age_ns;   /* a report older than this is missing data */
    bool relieve_memory;         /* on-attest-failure: hold (false) or relieve-memory (true) */
} ForePolicy;

/** fore_policy_init: safe defaults: recommend, 1 vCPU, no memory above base, P95, 60 s shrink hold
 */
void fore_policy_init(ForePolicy *policy);
/**
 * fore_policy_set: one setting, e.g. "max-vcpus" "4", "max-memory" "2GiB", "mode" "enforce",
 * "shrink-hold" "8s", "forecaster" "reactive", "on-attest-failure" "relieve-memory"
 * Errors: FORE_ERROR_NOT_FOUND (unknown key, lists the known), FORE_ERROR_INVALID (value, with
 * range)
 */
bool fore_policy_set(ForePolicy *policy, const char *key, const char *value, GError **error);
/** fore_policy_check: limits agree with each other. Errors: FORE_ERROR_INVALID naming both */
bool fore_policy_check(const ForePolicy *policy, GError **error);
/** fore_policy_get: the value of @key as text that fore_policy_set takes (transfer full), or NULL
 */
char *fore_policy_get(const ForePolicy *policy, const char *key);
/** fore_policy_keys: NULL-terminated static list of all keys */
const char *const *fore_policy_keys(void);
