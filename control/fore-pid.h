/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * A PID controller for one resource: how far demand runs ahead of (or behind) what was predicted,
 * turned into a correction.  Pure; time comes as an argument.
 */
#include "control/fore-policy.h"

typedef struct {
    double integral;    /* the I term, in the output's unit */
    double measurement; /* of the last step, for the D term */
    bool primed;        /* @measurement is real */
} ForePid;

typedef struct {
    double p, i, d; /* terms of this step, before gain and limits */
    double output;  /* after gain by sign and limits */
} ForePidTerms;

void fore_pid_reset(ForePid *pid);

/**
 * fore_pid_step: one step
 * @gains: kp unit-free, ki per second, kd seconds
 * @error: actual - predicted, in the resource's unit    @measurement: actual, same unit
 * @dt_s: seconds since the last step, > 0               @deadband: |error| below it counts as 0
 * @limit: the output stays in [-@limit, @limit], >= 0
 * Source: parallel form with back-calculation (Astrom and Hagglund, "PID Controllers",
 * section 3.5), derivative on the measurement; here error = measurement - reference, so both act
 * with a plus.
 */
void fore_pid_step(ForePid *pid, const ForePidGains *gains, double error, double measurement,
                   double dt_s, double deadband, double limit, ForePidTerms *ret);
