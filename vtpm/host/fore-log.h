/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/*
 * One message, one line.  Messages quote what peers sent (names, addresses, their own errors); a
 * newline in there must not let a peer write lines of the log.
 */

/** fore_log_one_line: from now on control characters in this program's messages become '?' */
void fore_log_one_line(void);
