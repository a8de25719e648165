/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * How much one key may ask for, over all of its connections: two token buckets a pin, one for every
 * command and one for enrolments, which cost certificate checks.  Pure; the caller brings the
 * clock.
 */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum { FORE_PAM_COMMAND, FORE_PAM_ENROLMENT, FORE_PAM_COST_N } ForePamCost;

typedef struct ForePamLimit ForePamLimit;

/**
 * fore_pam_limit_new
 * @per_second: commands, burst one second's worth
 * @per_minute: enrolments, burst one minute's worth
 */
ForePamLimit *fore_pam_limit_new(unsigned per_second, unsigned per_minute);
void fore_pam_limit_free(ForePamLimit *limit); /* NULL allowed */

/** fore_pam_limit_take: one token of @pin; false: it has none left at @now_us (monotonic)
 *  @pin: one of the pinned keys, so that the table stays small */
bool fore_pam_limit_take(ForePamLimit *limit, const char *pin, ForePamCost cost, int64_t now_us);
