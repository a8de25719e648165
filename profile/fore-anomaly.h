/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * How unusual is this value?  A streaming score per series in constant memory: no I/O, no clock,
 * line n depends on lines up to n only.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    double half_life;   /* samples after which a past value counts half; > 0, e.g. 300 */
    double short_life;  /* the same for the recent residuals that are judged; 0 < it < half_life */
    unsigned warm_up;   /* samples before a score other than 0 is given */
    double floor_scale; /* smallest standard deviation believed, in the series' unit; > 0 */
} ForeAnomalyConfig;

/* Caller's storage, fixed size; treat as opaque. */
typedef struct {
    ForeAnomalyConfig config;
    uint64_t n;       /* values seen */
    double mean, var; /* of the values, slow */
    double recent;    /* of the standardised residuals, fast */
    double last_value, last_mean, last_sd;
} ForeAnomaly;

/** fore_anomaly_init: an empty series; @config is copied */
void fore_anomaly_init(ForeAnomaly *a, const ForeAnomalyConfig *config);

/**
 * fore_anomaly_score: judge @value, then learn from it
 * @value: in the series' unit; not finite: it is a gap, nothing is learned
 * Returns: 0 (usual) .. 1 (as good as never seen); log scale of the tail probability: 0.5 is 1e-5
 */
double fore_anomaly_score(ForeAnomaly *a, double value);

/**
 * fore_anomaly_reason: the last judgement in words
 * @what: name of the series, e.g. "demand_vcpu"   @ret: (out caller-allocates): [size]
 */
void fore_anomaly_reason(const ForeAnomaly *a, const char *what, char *ret, size_t size);
