/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it works.  u = kp e + I + kd dy/dt, times gain_up or gain_down by the sign of the error, held
 * in
 * +-limit.  I grows by ki e dt plus (what the limit cut off) dt / Tt with the tracking time Tt = kp
 * / ki (one step when kp is 0): the integral stops where the limit does, so it does not have to
 * unwind a burst that could not be served.  The D term acts on the measurement, so a new forecast
 * gives no kick.
 */
#include "control/fore-pid.h"

#include <math.h>

void fore_pid_reset(ForePid *pid)
{
    *pid = (ForePid){0};
}

void fore_pid_step(ForePid *pid, const ForePidGains *gains, double error, double measurement,
                   double dt_s, double deadband, double limit, ForePidTerms *ret)
{
    double e = fabs(error) < deadband ? 0 : error;
    double gain = e < 0 ? gains->gain_down : gains->gain_up;
    double raw, tracking;

    ret->p = gains->kp * e;
    pid->integral += gains->ki * e * dt_s;
    ret->i = pid->integral;
    ret->d = pid->primed ? gains->kd * (measurement - pid->measurement) / dt_s : 0;
    pid->measurement = measurement;
    pid->primed = true;

    raw = gain * (ret->p + ret->i + ret->d);
    ret->output = CLAMP(raw, -limit, limit);
    if (raw != ret->output && gain > 0) {
        tracking = gains->kp > 0 ? MIN(1, dt_s * gains->ki / gains->kp) : 1;
        pid->integral += tracking * (ret->output - raw) / gain;
    }
}
