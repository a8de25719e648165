/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The PID against closed forms.  Tolerance 1e-9: sums of at most 1000 terms of order 1 in double.
 */
#include <math.h>

#include "control/fore-pid.h"

#define NEAR(a, b) g_assert_cmpfloat_with_epsilon((a), (b), 1e-9)

static const ForePidGains unit = {.kp = 1, .ki = 0, .kd = 0, .gain_up = 1, .gain_down = 1};

static void test_p(void)
{
    ForePid pid = {0};
    ForePidTerms t;
    ForePidGains g = unit;

    g.kp = 0.25;
    fore_pid_step(&pid, &g, 2, 5, 1, 0, 100, &t);
    NEAR(t.output, 0.5);
    fore_pid_step(&pid, &g, -4, 5, 1, 0, 100, &t);
    NEAR(t.output, -1);
}

/* A constant error e gives I = ki e n dt after n steps. */
static void test_i(void)
{
    ForePid pid = {0};
    ForePidTerms t;
    ForePidGains g = unit;

    g.kp = 0;
    g.ki = 0.02;
    for (int n = 1; n <= 1000; n++) {
        fore_pid_step(&pid, &g, 1.5, 3, 0.5, 0, 1e6, &t);
        NEAR(t.i, 0.02 * 1.5 * 0.5 * n);
    }
}

/* The integral of the error depends on time, not on how often it is asked. */
static void test_i_is_independent_of_the_step(void)
{
    ForePid coarse = {0}, fine = {0};
    ForePidTerms a, b;
    ForePidGains g = unit;

    g.ki = 0.1;
    fore_pid_step(&coarse, &g, 2, 2, 1, 0, 100, &a);
    for (int n = 0; n < 10; n++) {
        fore_pid_step(&fine, &g, 2, 2, 0.1, 0, 100, &b);
    }
    NEAR(a.i, b.i);
}

static void test_d_acts_on_the_measurement(void)
{
    ForePid pid = {0};
    ForePidTerms t;
    ForePidGains g = unit;

    g.kp = 0;
    g.kd = 2;
    fore_pid_step(&pid, &g, 1, 10, 1, 0, 100, &t);
    NEAR(t.d, 0); /* nothing to compare with yet */
    fore_pid_step(&pid, &g, 50, 10, 1, 0, 100, &t);
    NEAR(t.d, 0); /* the reference jumped, the measurement did not */
    fore_pid_step(&pid, &g, 50, 13, 0.5, 0, 100, &t);
    NEAR(t.d, 2 * 3 / 0.5);
}

static void test_deadband(void)
{
    ForePid pid = {0};
    ForePidTerms t;
    ForePidGains g = unit;

    g.ki = 1;
    fore_pid_step(&pid, &g, 0.149, 1, 1, 0.15, 100, &t);
    NEAR(t.output, 0);
    NEAR(pid.integral, 0);
    fore_pid_step(&pid, &g, 0.15, 1, 1, 0.15, 100, &t);
    NEAR(t.p, 0.15);
}

static void test_gain_by_sign(void)
{
    ForePid pid = {0};
    ForePidTerms t;
    ForePidGains g = unit;

    g.gain_up = 2;
    g.gain_down = 0.5;
    fore_pid_step(&pid, &g, 1, 1, 1, 0, 100, &t);
    NEAR(t.output, 2);
    fore_pid_step(&pid, &g, -1, 1, 1, 0, 100, &t);
    NEAR(t.output, -0.5);
}

static void test_output_is_limited(void)
{
    ForePid pid = {0};
    ForePidTerms t;

    fore_pid_step(&pid, &unit, 1e9, 1, 1, 0, 3, &t);
    NEAR(t.output, 3);
    fore_pid_step(&pid, &unit, -1e9, 1, 1, 0, 3, &t);
    NEAR(t.output, -3);
}

/*
 * Back-calculation: with e constant and the limit L reached, the integral tends to the fixed point
 * of I + ki e dt + (ki dt / kp)(L - kp e - I - ki e dt) = I, that is I + ki e dt = L - kp e + kp e
 * = L.
 */
static void test_integral_stops_at_the_limit(void)
{
    ForePid pid = {0};
    ForePidTerms t;
    ForePidGains g = unit;

    g.ki = 0.2;
    for (int n = 0; n < 1000; n++) {
        fore_pid_step(&pid, &g, 1, 1, 1, 0, 4, &t);
        g_assert_cmpfloat(t.output, <=, 4);
    }
    NEAR(t.i, 4);
    /* Once the error is gone, the output leaves the limit at once: no unwinding of 1000 steps. */
    fore_pid_step(&pid, &g, -1, 1, 1, 0, 4, &t);
    g_assert_cmpfloat(t.output, <, 3);
}

static void test_reset(void)
{
    ForePid pid = {.integral = 7, .measurement = 3, .primed = true};
    ForePidTerms t;

    fore_pid_reset(&pid);
    fore_pid_step(&pid, &unit, 0, 9, 1, 0, 3, &t);
    NEAR(t.output, 0);
    NEAR(t.d, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/control/pid/proportional-term-is-kp-e", test_p);
    g_test_add_func("/control/pid/integral-of-a-constant-is-a-line", test_i);
    g_test_add_func("/control/pid/integral-does-not-depend-on-the-step",
                    test_i_is_independent_of_the_step);
    g_test_add_func("/control/pid/derivative-acts-on-the-measurement",
                    test_d_acts_on_the_measurement);
    g_test_add_func("/control/pid/small-errors-are-none", test_deadband);
    g_test_add_func("/control/pid/gain-follows-the-sign", test_gain_by_sign);
    g_test_add_func("/control/pid/output-stays-within-limits", test_output_is_limited);
    g_test_add_func("/control/pid/integral-stops-where-the-limit-does",
                    test_integral_stops_at_the_limit);
    g_test_add_func("/control/pid/reset-forgets", test_reset);
    return g_test_run();
}
