/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works
 *
 * Six quantities on a log scale: three usages (vCPUs, bits in, bits out) and three of the pattern
 * (system calls per second, loads and stores per instruction).  Their mean and covariance are
 * followed with exponential weights.  Each usage is then regressed on all the other five: what is
 * left over, smoothed over a few samples, is the usage that neither the pattern nor the other
 * usages explain.  Only the upper side counts: it is ranked in its own past (fore-tail.h), so that
 * a VM whose usage never followed its pattern needs a larger surprise.  Twice the load with twice
 * the calls leaves nothing over; twice the load with the calls of before leaves all of it.
 *
 * Instructions themselves explain nothing here: they follow the vCPUs whatever runs.
 *
 * While it is an alarm nothing is learned, for HELD_MAX samples at most: a new program that stays
 * becomes usual after that.  Learning clips each quantity at CLIP deviations, and a regression is
 * asked no further out than that either.  Fields that are missing are
 * left out of the regression (the covariance of the rest), not taken as zero.
 */
#include "profile/fore-pattern.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "profile/fore-tail.h"

#define LIFE     4096  /* samples, time constant of means and covariances */
#define LEAST    300   /* samples before a relation is believed */
#define CLIP     4.0   /* deviations */
#define RIDGE    0.003 /* variance added to each predictor, log units squared: about 5 % */
#define GRAIN    0.05  /* log units: differences of 5 % mean nothing */
#define SMOOTH   0.3   /* weight of the newest residual */
#define TELL     4.5   /* decades of rarity that are an alarm */
#define HELD_MAX 900   /* samples that an alarm is not learned from */
#define LARGEST  1e18

typedef enum { DIM_VCPU, DIM_RX, DIM_TX, DIM_CALLS, DIM_LOADS, DIM_STORES, DIM_N } Dim;
#define N_USAGE 3

static const struct {
    const char *name, *unit;
    double floor; /* below it the quantity counts as nothing; its own unit */
} dims[DIM_N] = {{"vcpu", "", 0.05},         {"net_rx", " bit/s", 1e4}, {"net_tx", " bit/s", 1e4},
                 {"system calls", "/s", 50}, {"loads", "", 0.01},       {"stores", "", 0.01}};

struct ForePattern {
    double n[DIM_N]; /* samples that had it */
    double mean[DIM_N], cov[DIM_N][DIM_N];
    double left[N_USAGE]; /* smoothed residual */
    ForeTail tail[N_USAGE];
    unsigned held[N_USAGE]; /* samples that it has been an alarm, one after the other */
    /* the last judgement */
    double now[DIM_N], expected[N_USAGE], rarity[N_USAGE];
};

ForePattern *fore_pattern_new(void)
{
    return g_new0(ForePattern, 1);
}

void fore_pattern_free(ForePattern *p)
{
    g_free(p);
}

size_t fore_pattern_bytes(void)
{
    return sizeof(ForePattern);
}

static bool measured(double value)
{
    return value >= 0 && value <= LARGEST;
}

static double to_log(Dim d, double value)
{
    return measured(value) ? log(value + dims[d].floor) : (double)NAN;
}

static void read_dims(const double in[FORE_PATTERN_N], double ret_z[DIM_N])
{
    bool runs = measured(in[FORE_PATTERN_INSNS]) && in[FORE_PATTERN_INSNS] > 0;

    ret_z[DIM_VCPU] = to_log(DIM_VCPU, in[FORE_PATTERN_VCPU]);
    ret_z[DIM_RX] = to_log(DIM_RX, in[FORE_PATTERN_NET_RX]);
    ret_z[DIM_TX] = to_log(DIM_TX, in[FORE_PATTERN_NET_TX]);
    ret_z[DIM_CALLS] = to_log(DIM_CALLS, in[FORE_PATTERN_SYSCALLS]);
    ret_z[DIM_LOADS] = ret_z[DIM_STORES] = (double)NAN;
    if (runs) {
        ret_z[DIM_LOADS] = to_log(DIM_LOADS, in[FORE_PATTERN_LOADS] / in[FORE_PATTERN_INSNS]);
        ret_z[DIM_STORES] = to_log(DIM_STORES, in[FORE_PATTERN_STORES] / in[FORE_PATTERN_INSNS]);
    }
}

static double clipped(const ForePattern *p, Dim d, double z)
{
    double bound = CLIP * sqrt(p->cov[d][d] + RIDGE);

    return CLAMP(z - p->mean[d], -bound, bound);
}

/* --- regression --- */

/* Solve (A + RIDGE) x = b, A symmetric, by Cholesky.  Returns: false when A is not positive */
static bool solve(unsigned n, double a[DIM_N][DIM_N], double x[DIM_N])
{
    for (unsigned i = 0; i < n; i++) {
        for (unsigned j = 0; j <= i; j++) {
            double sum = a[i][j] + (i == j ? RIDGE : 0);
            for (unsigned k = 0; k < j; k++) {
                sum -= a[i][k] * a[j][k];
            }
            if (i == j && !(sum > 0)) {
                return false;
            }
            a[i][j] = i == j ? sqrt(sum) : sum / a[j][j];
        }
    }
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < i; k++) {
            x[i] -= a[i][k] * x[k];
        }
        x[i] /= a[i][i];
    }
    for (unsigned i = n; i-- > 0;) {
        for (unsigned k = i + 1; k < n; k++) {
            x[i] -= a[k][i] * x[k];
        }
        x[i] /= a[i][i];
    }
    return true;
}

/* What @target should be, log scale, given the others.  False: too little is known */
static bool expect(const ForePattern *p, Dim target, const double z[DIM_N], double *ret)
{
    double a[DIM_N][DIM_N] = {0}, x[DIM_N] = {0};
    Dim use[DIM_N];
    unsigned n = 0;
    bool pattern = false;

    for (Dim d = 0; d < DIM_N; d++) {
        if (d != target && isfinite(z[d]) && p->n[d] >= LEAST) {
            use[n++] = d;
            pattern = pattern || d >= N_USAGE;
        }
    }
    if (!pattern || p->n[target] < LEAST) {
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        x[i] = p->cov[use[i]][target];
        for (unsigned j = 0; j < n; j++) {
            a[i][j] = p->cov[use[i]][use[j]];
        }
    }
    if (!solve(n, a, x)) {
        return false;
    }
    *ret = p->mean[target];
    for (unsigned i = 0; i < n; i++) {
        *ret += x[i] * clipped(p, use[i], z[use[i]]);
    }
    return true;
}

static void learn(ForePattern *p, const double z[DIM_N])
{
    double diff[DIM_N] = {0};

    for (Dim d = 0; d < DIM_N; d++) {
        if (isfinite(z[d])) {
            diff[d] = p->n[d] >= LEAST ? clipped(p, d, z[d]) : z[d] - p->mean[d];
            p->n[d]++;
        }
    }
    for (Dim d = 0; d < DIM_N; d++) {
        for (Dim e = 0; e <= d && isfinite(z[d]); e++) {
            if (isfinite(z[e])) {
                double w = 1 / MIN(MIN(p->n[d], p->n[e]), LIFE);
                p->cov[d][e] += w * ((1 - w) * diff[d] * diff[e] - p->cov[d][e]);
                p->cov[e][d] = p->cov[d][e];
            }
        }
    }
    for (Dim d = 0; d < DIM_N; d++) {
        if (isfinite(z[d])) {
            p->mean[d] += diff[d] / MIN(p->n[d], LIFE);
        }
    }
}

static void judge_usage(ForePattern *p, Dim u, const double z[DIM_N])
{
    double expected;

    p->rarity[u] = 0;
    p->expected[u] = (double)NAN;
    if (!isfinite(z[u]) || !expect(p, u, z, &expected)) {
        return;
    }
    p->expected[u] = expected;
    p->left[u] += SMOOTH * (z[u] - expected - p->left[u]);
    p->rarity[u] = fore_tail_rarity(&p->tail[u], (float)p->left[u], GRAIN);
    p->held[u] = p->rarity[u] >= TELL ? p->held[u] + 1 : 0;
    if (p->held[u] == 0 || p->held[u] > HELD_MAX) {
        fore_tail_add(&p->tail[u], (float)p->left[u]);
    }
}

/* --- what is told --- */

static Dim strongest(const ForePattern *p)
{
    Dim best = 0;

    for (Dim u = 1; u < N_USAGE; u++) {
        best = p->rarity[u] > p->rarity[best] ? u : best;
    }
    return best;
}

double fore_pattern_score(ForePattern *p, const double in[FORE_PATTERN_N])
{
    double z[DIM_N], most;
    bool held = false;

    read_dims(in, z);
    for (Dim u = 0; u < N_USAGE; u++) {
        judge_usage(p, u, z);
        held = held || (p->held[u] > 0 && p->held[u] <= HELD_MAX);
    }
    memcpy(p->now, z, sizeof p->now);
    if (!held) {
        learn(p, z);
    }
    most = p->rarity[strongest(p)];
    return most < TELL ? FORE_PATTERN_ALARM * 0.999 * most / TELL
                       : FORE_PATTERN_ALARM + 0.499 * (most - TELL) / (FORE_TAIL_MAX - TELL);
}

static double from_log(Dim d, double z)
{
    return fmax(exp(z) - dims[d].floor, 0);
}

void fore_pattern_reason(const ForePattern *p, char *ret, size_t size)
{
    Dim u = strongest(p);
    double z = p->now[DIM_CALLS], off;
    const char *calls = "the system calls are not known";

    if (!(p->rarity[u] > 0)) {
        snprintf(ret, size, "usage is explained by what is executed");
        return;
    }
    if (isfinite(z) && p->n[DIM_CALLS] >= LEAST) {
        off = (z - p->mean[DIM_CALLS]) / sqrt(p->cov[DIM_CALLS][DIM_CALLS] + RIDGE);
        calls = off > 2    ? "the system calls rose too"
                : off < -2 ? "the system calls fell"
                           : "the system calls are as usual";
    }
    snprintf(ret, size, "%s is %.4g%s where what is executed explains %.4g%s, while %s",
             dims[u].name, from_log(u, p->now[u]), dims[u].unit, from_log(u, p->expected[u]),
             dims[u].unit, calls);
}
