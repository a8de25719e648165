/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "profile/fore-pattern.h"

/* Sum of 12 uniforms less 6: mean 0, deviation 1, within 6 */
static double normal(GRand *rand)
{
    double sum = -6;

    for (int i = 0; i < 12; i++) {
        sum += g_rand_double(rand);
    }
    return sum;
}

/* A web server: requests come and go over the hours; each costs CPU, calls and bytes both ways. */
static void web(GRand *rand, int i, double ret[FORE_PATTERN_N])
{
    double load = 200 * (1.2 + sin(i / 500.0)) * exp(0.3 * normal(rand));
    double insns;

    ret[FORE_PATTERN_VCPU] = load * 0.004 * exp(0.1 * normal(rand)) + 0.02;
    insns = ret[FORE_PATTERN_VCPU] * 2e9;
    ret[FORE_PATTERN_NET_RX] = load * 8e3 * exp(0.2 * normal(rand));
    ret[FORE_PATTERN_NET_TX] = load * 1e5 * exp(0.3 * normal(rand));
    ret[FORE_PATTERN_INSNS] = insns;
    ret[FORE_PATTERN_LOADS] = insns * 0.31 * exp(0.03 * normal(rand));
    ret[FORE_PATTERN_STORES] = insns * 0.14 * exp(0.03 * normal(rand));
    ret[FORE_PATTERN_SYSCALLS] = load * 40 * exp(0.1 * normal(rand)) + 30;
}

static ForePattern *settled(GRand *rand)
{
    ForePattern *p = fore_pattern_new();
    unsigned alarms = 0;

    for (int i = 0; i < 10000; i++) {
        double in[FORE_PATTERN_N], score;
        web(rand, i, in);
        score = fore_pattern_score(p, in);
        g_assert_cmpfloat(score, >=, 0);
        g_assert_cmpfloat(score, <, 1);
        alarms += score >= FORE_PATTERN_ALARM;
    }
    /* Three usages, 10,000 samples each: TELL is 4.5 decades, and a smoothed value is an alarm for
     * the few samples that it stays. */
    g_assert_cmpuint(alarms, <=, 10);
    return p;
}

static void test_surge(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    g_autoptr(ForePattern) p = settled(rand);

    for (int i = 0; i < 300; i++) {
        double in[FORE_PATTERN_N];
        web(rand, 700, in);
        for (unsigned f = 0; f < FORE_PATTERN_N; f++) {
            in[f] *= 3; /* thrice the requests */
        }
        g_assert_cmpfloat(fore_pattern_score(p, in), <, FORE_PATTERN_ALARM);
    }
}

static int alarm_after(ForePattern *p, GRand *rand, void (*change)(double *), char *reason,
                       size_t size)
{
    for (int i = 0; i < 60; i++) {
        double in[FORE_PATTERN_N];
        web(rand, i, in);
        change(in);
        if (fore_pattern_score(p, in) >= FORE_PATTERN_ALARM) {
            fore_pattern_reason(p, reason, size);
            g_test_message("after %d samples: %s", i + 1, reason);
            return i + 1;
        }
    }
    return -1;
}

/* Three more vCPUs of integer arithmetic: few loads, no system calls */
static void mine(double *in)
{
    in[FORE_PATTERN_VCPU] += 3;
    in[FORE_PATTERN_INSNS] += 9e9;
    in[FORE_PATTERN_LOADS] += 9e9 * 0.12;
    in[FORE_PATTERN_STORES] += 9e9 * 0.05;
}

static void test_miner(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(2);
    g_autoptr(ForePattern) p = settled(rand);
    char reason[200] = "";
    int after = alarm_after(p, rand, mine, reason, sizeof reason);

    g_assert_cmpint(after, >, 0);
    g_assert_cmpint(after, <=, 20);
    g_assert_true(g_str_has_prefix(reason, "vcpu is "));
    g_assert_nonnull(strstr(reason, "the system calls are as usual"));
}

/* A file goes out at 200 Mbit/s in large writes: hardly a call, nothing comes in */
static void exfiltrate(double *in)
{
    in[FORE_PATTERN_NET_TX] += 2e8;
    in[FORE_PATTERN_SYSCALLS] += 400;
    in[FORE_PATTERN_VCPU] += 0.1;
    in[FORE_PATTERN_INSNS] += 2e8;
    in[FORE_PATTERN_LOADS] += 6e7;
    in[FORE_PATTERN_STORES] += 3e7;
}

static void test_exfiltration(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(3);
    g_autoptr(ForePattern) p = settled(rand);
    char reason[200] = "";
    int after = alarm_after(p, rand, exfiltrate, reason, sizeof reason);

    g_assert_cmpint(after, >, 0);
    g_assert_cmpint(after, <=, 20);
    g_assert_true(g_str_has_prefix(reason, "net_tx is "));
}

static void test_unlearned(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(4);
    g_autoptr(ForePattern) p = settled(rand);
    unsigned early = 0, late = 0;

    for (int i = 0; i < 6000; i++) {
        double in[FORE_PATTERN_N];
        bool alarm;
        web(rand, i, in);
        mine(in);
        alarm = fore_pattern_score(p, in) >= FORE_PATTERN_ALARM;
        early += alarm && i >= 50 && i < 650;
        late += alarm && i >= 5000;
    }
    g_assert_cmpuint(early, >, 500); /* of 600: it goes on to be told */
    g_assert_cmpuint(late, <, 20);   /* of 1000: what stays becomes usual */
}

static void test_gap(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(5);
    g_autoptr(ForePattern) p = settled(rand);
    const double none[] = {NAN, INFINITY, -INFINITY, -1, 1e300};
    double in[FORE_PATTERN_N];

    for (unsigned i = 0; i < G_N_ELEMENTS(none); i++) {
        for (unsigned f = 0; f < FORE_PATTERN_N; f++) {
            in[f] = none[i];
        }
        g_assert_cmpfloat(fore_pattern_score(p, in), ==, 0);
    }
    /* without the network the vCPUs are still judged */
    for (int i = 0; i < 60; i++) {
        web(rand, i, in);
        in[FORE_PATTERN_NET_RX] = in[FORE_PATTERN_NET_TX] = (double)NAN;
        if (i >= 30) {
            mine(in);
        }
        if (fore_pattern_score(p, in) >= FORE_PATTERN_ALARM) {
            g_assert_cmpint(i, >=, 30);
            return;
        }
    }
    g_assert_not_reached();
}

static void test_usage_alone(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(6);
    g_autoptr(ForePattern) p = fore_pattern_new();

    /* no execution pattern: nothing can be said to be unexplained */
    for (int i = 0; i < 2000; i++) {
        double in[FORE_PATTERN_N];
        web(rand, i, in);
        for (unsigned f = FORE_PATTERN_INSNS; f < FORE_PATTERN_N; f++) {
            in[f] = (double)NAN;
        }
        if (i > 1900) {
            mine(in);
        }
        in[FORE_PATTERN_INSNS] = (double)NAN;
        in[FORE_PATTERN_SYSCALLS] = (double)NAN;
        g_assert_cmpfloat(fore_pattern_score(p, in), ==, 0);
    }
}

static void test_constant(void)
{
    g_autoptr(ForePattern) p = fore_pattern_new();
    double in[FORE_PATTERN_N] = {0};

    for (int i = 0; i < 3000; i++) {
        double score = fore_pattern_score(p, in);
        g_assert_true(isfinite(score));
        g_assert_cmpfloat(score, <, FORE_PATTERN_ALARM);
    }
    g_assert_cmpuint(fore_pattern_bytes(), <, 8192);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/profile/pattern/surge-is-explained", test_surge);
    g_test_add_func("/profile/pattern/miner-is-told", test_miner);
    g_test_add_func("/profile/pattern/exfiltration-is-told", test_exfiltration);
    g_test_add_func("/profile/pattern/alarm-is-not-learned-at-once", test_unlearned);
    g_test_add_func("/profile/pattern/missing-field-is-no-zero", test_gap);
    g_test_add_func("/profile/pattern/usage-without-pattern-is-not-judged", test_usage_alone);
    g_test_add_func("/profile/pattern/constant-stays-quiet", test_constant);
    return g_test_run();
}
